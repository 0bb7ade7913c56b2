//! The official vectors: RFC 9421 appendix B.2 and those of Web Bot Auth. They lie outside the
//! repository, at `ACP_SPEC_DIR/../vectors`. RSA signatures cannot be verified here, but their
//! bases are rebuilt; the response of B.2.4 is no request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::{MessageView, ReceivedSignature, content_digest, received};
use crate::crypto::mac::MacKey;
use crate::crypto::sign::VerifyingKey;

fn load(file: &str) -> Option<Value> {
    let Some(spec) = std::env::var_os("ACP_SPEC_DIR") else {
        println!("skipped: ACP_SPEC_DIR is not set, so {file} cannot be found");
        return None;
    };
    let path = std::path::Path::new(&spec).join("../vectors").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Some(serde_json::from_str(&text).unwrap())
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) {
    let name: HeaderName = name.to_ascii_lowercase().parse().unwrap();
    headers.append(name, HeaderValue::from_str(value).unwrap());
}

fn rebuild(message: &MessageView<'_>) -> (ReceivedSignature, Vec<u8>) {
    let mut signatures = received(message.headers).unwrap();
    assert_eq!(signatures.len(), 1);
    let signature = signatures.remove(0);
    let base = signature.base(message).unwrap();
    (signature, base)
}

#[test]
fn the_request_signatures_of_rfc9421_appendix_b2_verify() {
    let Some(document) = load("rfc9421.json") else { return };
    let (head, body) = document["request"].as_str().unwrap().split_once("\n\n").unwrap();
    let mut original = HeaderMap::new();
    for line in head.lines().skip(1) {
        let (name, value) = line.split_once(": ").unwrap();
        insert(&mut original, name, value);
    }
    content_digest::verify(&original, body.as_bytes()).unwrap();
    let ed25519 = document["keys"]["test-key-ed25519.pem"].as_str().unwrap();
    let ed25519 = VerifyingKey::from_spki_pem(ed25519).unwrap();
    let secret = STANDARD.decode(document["shared_secret_b64"].as_str().unwrap());
    let shared = MacKey::new(&secret.unwrap());
    for (id, input) in [
        (
            "B25",
            r#"sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
        ),
        (
            "B26",
            r#"sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#,
        ),
        (
            "B27",
            r#"sig-b27=("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519";tag="tag-b27""#,
        ),
    ] {
        let case = document["cases"].as_array().unwrap().iter().find(|case| case["id"] == id).unwrap();
        let label = format!("sig-{}", id.to_ascii_lowercase());
        let (_, rest) = case["source_lines"].as_str().unwrap().split_once(&format!("\"{label}=:")).unwrap();
        let (signature, _) = rest.split_once('"').unwrap();
        let mut headers = original.clone();
        insert(&mut headers, "signature-input", input);
        insert(&mut headers, "signature", &format!("{label}=:{signature}"));
        let (method, authority) = ("POST", "example.com");
        let query = Some("param=Value&Pet=dog");
        let message =
            MessageView { method, scheme: "https", authority, path: "/foo", query, headers: &headers };
        let (signature, base) = rebuild(&message);
        let holds = |base: &[u8]| match id {
            "B25" => shared.verifies(base, &signature.signature),
            _ => ed25519.verifies(base, &signature.signature),
        };
        assert!(holds(&base), "{id}");
        let elsewhere = MessageView { authority: "example.org", ..message };
        assert!(!holds(&signature.base(&elsewhere).unwrap()), "{id}");
    }
}

#[test]
fn the_web_bot_auth_signatures_verify_and_their_bases_are_rebuilt() {
    let Some(document) = load("webbotauth.json") else { return };
    let cases = document.as_array().unwrap();
    let mut verified = 0;
    for case in cases {
        let mut headers = HeaderMap::new();
        for name in ["signature-agent", "signature-input", "signature"] {
            if let Some(value) = case[name.replace('-', "_")].as_str() {
                insert(&mut headers, name, value);
            }
        }
        assert_eq!(case["target_url"], "https://example.com/path/to/resource");
        let (method, authority) = ("GET", "example.com");
        let path = "/path/to/resource";
        let message =
            MessageView { method, scheme: "https", authority, path, query: None, headers: &headers };
        let (signature, base) = rebuild(&message);
        assert_eq!(String::from_utf8(base.clone()).unwrap(), case["signature_base"].as_str().unwrap());
        assert_eq!(signature.parameters.tag.as_deref(), Some("web-bot-auth"));
        if case["key"]["kty"] == "OKP" {
            let key = VerifyingKey::from_jwk(&case["key"].to_string()).unwrap();
            assert_eq!(signature.parameters.keyid.as_deref(), Some(&*key.thumbprint()));
            assert!(key.verifies(&base, &signature.signature));
            verified += 1;
        }
    }
    assert_eq!((cases.len(), verified), (8, 4));
}
