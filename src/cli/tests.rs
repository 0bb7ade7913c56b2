//! What a developer sees who makes a key, signs with it and verifies.
//!
//! A key is made, a request is signed with it, and both ends agree on why it verifies or not.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use clap::{Args as _, Command, FromArgMatches, Parser as _};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::error::CommandError;
use super::given_request::GivenRequest;
use super::keygen::{KeygenArgs, keygen};
use super::sign::{SignArgs, sign};
use super::verify::{VerifyArgs, verify};
use super::{Arguments, VERSION, version_of};
use crate::acp::header::IDEMPOTENCY_KEY;
use crate::crypto::sign::{Algorithm, SigningKey};
use crate::domain::clock::Timestamp;
use crate::http_signature::{
    CONTENT_DIGEST, Component, MessageView, SIGNATURE, SIGNATURE_INPUT, Signing, content_digest,
};

const NOW: Timestamp = Timestamp::from_unix_millis(1_780_000_000_900);
const URL: &str = "https://pay.example/m/shop/checkout_sessions/cs_1/complete";

fn parse<T: clap::Args + FromArgMatches>(arguments: &[&str]) -> Result<T, clap::Error> {
    let command = T::augment_args(Command::new("verb").no_binary_name(true));
    command.try_get_matches_from(arguments).and_then(|matches| T::from_arg_matches(&matches))
}

fn make_key(directory: &Path, algorithm: &str) -> (String, String) {
    let path = directory.join(algorithm).display().to_string();
    let mut out = Vec::new();
    keygen(&parse(&["--algorithm", algorithm, "--out", &path]).unwrap(), &mut out).unwrap();
    (path, String::from_utf8(out).unwrap())
}

fn signed(arguments: &[&str]) -> Result<String, CommandError> {
    let mut out = Vec::new();
    sign(&parse(arguments).unwrap(), NOW, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn verified(arguments: &[&str]) -> (bool, String) {
    let mut out = Vec::new();
    let verdict = verify(&parse(arguments).unwrap(), NOW, &mut out).unwrap();
    (verdict, String::from_utf8(out).unwrap())
}

#[test]
fn the_version_names_the_revision_where_the_build_was_told() {
    let version = env!("CARGO_PKG_VERSION");
    for untold in [None, Some(""), Some("unknown")] {
        assert_eq!(version_of(untold), version);
    }
    assert_eq!(version_of(Some("4e7341b")), format!("{version} (4e7341b)"));
    let shown = Arguments::try_parse_from(["countersign", "--version"]).err().unwrap().to_string();
    assert_eq!(shown, format!("countersign {}\n", *VERSION));
}

#[test]
fn the_arguments_are_consistent() {
    for augment in [KeygenArgs::augment_args, SignArgs::augment_args, VerifyArgs::augment_args] {
        augment(Command::new("verb")).debug_assert();
    }
    assert!(parse::<VerifyArgs>(&["--key", "k"]).is_err(), "neither a request nor a URL");
}

#[test]
fn a_key_is_made_once_and_is_its_owners_alone() {
    let directory = tempfile::tempdir().unwrap();
    for algorithm in ["ed25519", "p256", "hmac", "sealing"] {
        let (path, shown) = make_key(directory.path(), algorithm);
        let private = std::fs::read_to_string(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for line in private.lines().filter(|line| !line.starts_with("-----")) {
            assert!(!shown.contains(line), "{algorithm}");
        }
        let again = keygen(&parse(&["--out", &path]).unwrap(), &mut Vec::new());
        assert!(matches!(again, Err(CommandError::File { .. })), "{algorithm}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), private);
    }
}

#[test]
fn what_is_signed_verifies_with_the_public_half_and_shows_its_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let body = file("body.json", r#"{"b": 1.0, "a": "x"}"#);
    for algorithm in ["ed25519", "p256"] {
        let (private, shown) = make_key(directory.path(), algorithm);
        let jwk = shown.lines().find(|line| line.starts_with('{')).unwrap();
        let pem = shown.split_once("as PEM:\n").unwrap().1;
        let headers = signed(&["--url", URL, "--body", &body, "--idempotency-key", "k-1", "--key", &private]);
        let headers = headers.unwrap();
        for public in [file("public.jwk", jwk), file("public.pem", pem), private] {
            let mut arguments = vec!["--url", URL, "--body", &body, "--key", &public];
            headers.lines().for_each(|line| arguments.extend(["-H", line]));
            let (verdict, text) = verified(&arguments);
            assert!(verdict, "{text}");
            assert!(text.contains("--------\n\"@method\": POST\n\"@authority\": pay.example\n"), "{text}");
            assert!(text.ends_with("\n--------\nverified: rfc9421\n"), "{text}");
            arguments.extend(["--at", "2030-01-01T00:00:00Z"]);
            let (verdict, text) = verified(&arguments);
            assert!(!verdict && text.contains("refused: signature_outside_window: "), "{text}");
        }
    }
}

#[test]
fn acp_headers_are_made_and_judged_in_every_variant() {
    let directory = tempfile::tempdir().unwrap();
    let body = directory.path().join("body.json");
    std::fs::write(&body, r#"{"b": 1.0, "a": "x"}"#).unwrap();
    let body = body.to_str().unwrap();
    let (secret, _) = make_key(directory.path(), "hmac");
    let raw = r#"{"b": 1.0, "a": "x"}"#;
    let bound = "2026-05-28T20:26:40Z.POST./m/shop/checkout_sessions/cs_1/complete.k-1.{\"a\":\"x\",\"b\":1}";
    for (options, bytes) in [
        (vec!["--profile", "acp-bound"], bound.to_owned()),
        (vec!["--profile", "acp"], "2026-05-28T20:26:40Z.{\"a\":\"x\",\"b\":1}".to_owned()),
        (
            vec![
                "--profile",
                "acp",
                "--acp-body",
                "raw",
                "--acp-encoding",
                "hex",
                "--acp-timestamp",
                "unix-seconds",
            ],
            format!("1780000000.{raw}"),
        ),
        (vec!["--profile", "acp", "--acp-signed", "body", "--acp-body", "raw"], raw.to_owned()),
    ] {
        for encoding in ["text", "base64"] {
            let key = ["--key", &secret, "--secret-encoding", encoding];
            let mut arguments = vec!["--url", URL, "--body", body, "--idempotency-key", "k-1"];
            arguments.extend(key.iter().chain(&options));
            let headers = signed(&arguments).unwrap();
            let mut arguments = vec!["--url", URL, "--body", body];
            headers.lines().for_each(|line| arguments.extend(["-H", line]));
            arguments.extend(key.iter().chain(&options));
            let (verdict, text) = verified(&arguments);
            assert!(
                verdict && text.contains(&format!("--------\n{bytes}\n--------\n")),
                "{options:?} {text}"
            );
        }
    }
}

#[test]
fn a_request_as_it_went_over_the_wire_is_judged_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (private, _) = make_key(directory.path(), "ed25519");
    let body = directory.path().join("body.json");
    std::fs::write(&body, "{}").unwrap();
    let headers = signed(&[
        "--url",
        URL,
        "--body",
        body.to_str().unwrap(),
        "--idempotency-key",
        "k-1",
        "--key",
        &private,
    ]);
    let head = format!(
        "POST /m/shop/checkout_sessions/cs_1/complete HTTP/1.1\nHost: pay.example\nContent-Length: 2\n{}\n",
        headers.unwrap()
    );
    let request = directory.path().join("request.http");
    for (body, passes) in [("{}", true), ("{}\n", true), ("[]", false)] {
        for head in [head.clone(), head.replace('\n', "\r\n")] {
            std::fs::write(&request, head + body).unwrap();
            let (verdict, text) = verified(&["--request", request.to_str().unwrap(), "--key", &private]);
            assert_eq!(verdict, passes, "{text}");
            assert!(passes || text.contains("refused: content_digest_mismatch: "), "{text}");
        }
    }
}

/// A request as the gateway sends it, at a shop that is reached by http and perhaps through a proxy.
#[test]
fn a_shop_without_tls_judges_what_it_received_at_its_own_url_with_the_published_keys() {
    let directory = tempfile::tempdir().unwrap();
    let (key, _) = SigningKey::generate(Algorithm::Ed25519).unwrap();
    let (older, _) = SigningKey::generate(Algorithm::EcdsaP256Sha256).unwrap();
    let named = |key: &SigningKey| {
        let mut jwk = key.public().to_jwk();
        jwk["kid"] = key.public().thumbprint().into();
        jwk
    };
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let set = serde_json::json!({ "keys": [named(&older), { "kty": "other" }, named(&key)] });
    let set = file("jwks.json", set.to_string());
    let only_older = serde_json::json!({ "keys": [named(&older)] }).to_string();
    let only_older = file("older.json", only_older);

    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_DIGEST, content_digest::make(b"{}"));
    headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static("claim"));
    let covered = ["@method", "@target-uri", "content-digest", "idempotency-key"];
    let signing = Signing {
        label: "countersign",
        components: &covered.map(|name| Component::parse(name).unwrap()),
        created: NOW,
        expires: Some(NOW.plus(Duration::from_secs(300))),
        keyid: &key.public().thumbprint(),
        nonce: None,
        tag: Some("countersign"),
    };
    let message = MessageView {
        method: "POST",
        scheme: "http",
        authority: "shop.example",
        path: "/acp/checkout_sessions/cs_1/complete",
        query: None,
        headers: &headers,
    };
    let signed = signing.sign(&message, &key).unwrap();
    headers.insert(SIGNATURE_INPUT, signed.input);
    headers.insert(SIGNATURE, signed.signature);
    let lines = headers.iter().map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap()));
    let lines: String = lines.collect();
    let at_the_socket = "POST /checkout_sessions/cs_1/complete HTTP/1.1\r\nHost: 10.0.0.7:8080\r\n";
    let request = file("request.http", format!("{at_the_socket}{lines}\r\n{{}}"));

    let url = "http://shop.example:80/acp/checkout_sessions/cs_1/complete";
    let given = ["--request", &request, "--url", url, "--key", &set];
    let (verdict, text) = verified(&given);
    assert!(
        verdict && text.contains("\"@target-uri\": http://shop.example/acp/checkout_sessions/"),
        "{text}"
    );
    for (place, keys, code) in [
        ("https://shop.example/acp/checkout_sessions/cs_1/complete", &set, "signature_invalid"),
        ("http://shop.example/acp/checkout_sessions/cs_2/complete", &set, "signature_invalid"),
        (url, &only_older, "signature_key_unknown"),
    ] {
        let (verdict, text) = verified(&["--request", &request, "--url", place, "--key", keys]);
        assert!(!verdict && text.contains(&format!("refused: {code}: ")), "{place}: {text}");
    }
    let other: VerifyArgs =
        parse(&["--request", &request, "--url", "ftp://shop.example/", "--key", &set]).unwrap();
    assert!(matches!(verify(&other, NOW, &mut Vec::new()), Err(CommandError::Request(_))));
    let none = file("none.json", r#"{"keys": []}"#.to_owned());
    let other: VerifyArgs = parse(&["--request", &request, "--url", url, "--key", &none]).unwrap();
    assert!(matches!(verify(&other, NOW, &mut Vec::new()), Err(CommandError::Key { .. })));
}

#[test]
fn mistakes_are_named_and_no_key_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let (secret, _) = make_key(directory.path(), "hmac");
    let (private, _) = make_key(directory.path(), "ed25519");
    let broken = directory.path().join("broken.pem");
    let text = std::fs::read_to_string(&private).unwrap();
    std::fs::write(&broken, text.replacen("-----\nM", "-----\nA", 1)).unwrap();
    let contents = std::fs::read_to_string(&secret).unwrap();
    for (url, key, expected) in [
        (URL, secret.as_str(), "rfc9421 needs a private key"),
        (URL, broken.to_str().unwrap(), "expected a private key"),
        (URL, "/does/not/exist", "/does/not/exist: "),
        ("http://pay.example/", &private, "must start with https://"),
        ("https://", &private, "the URL cannot be read"),
    ] {
        let message = signed(&["--url", url, "--key", key]).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert!(!message.contains(contents.trim()), "{message}");
    }
    let (verdict, text) = verified(&["--url", URL, "--key", &private]);
    assert!(!verdict && text.starts_with("refused: signature_required: "), "{text}");
}

proptest! {
    #[test]
    fn any_bytes_are_a_request_or_refused(bytes: Vec<u8>, near in "(GET|POST) /[a-z%]{0,9} HTTP/1\\.1\r?\n([A-Za-z-]{1,9}: ?[ -~]{0,9}\r?\n){0,4}\r?\n?.{0,9}") {
        let _ = GivenRequest::from_wire(&bytes);
        if let Ok(request) = GivenRequest::from_wire(near.as_bytes()) {
            prop_assert!(request.path.starts_with('/'));
        }
    }
}
