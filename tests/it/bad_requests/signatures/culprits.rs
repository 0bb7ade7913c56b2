//! What a refused signature is told beside the rule it broke: what of it broke it, and our time.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign::crypto::sign::{Algorithm, SigningKey};
use countersign::domain::clock::Timestamp;

use super::super::bench::{Base, Bench};
use super::{COVERED, Forged};
use crate::wire::{Raw, exchange};
use crate::world::Options;

/// The message a good complete gets once it is spoiled.
async fn message(bench: &Bench, spoil: impl FnOnce(Raw) -> Raw) -> String {
    let target = bench.target(Base::Complete).await;
    let raw = Raw::of(&target.call(bench, &super::super::bench::fresh_key()).prepare().unwrap());
    let received = exchange(&bench.world, &spoil(raw).bytes()).await;
    assert_eq!(received.status, Some(401), "{}", received.json());
    received.json()["message"].as_str().unwrap().to_owned()
}

/// The message of a signature that is as good as can be, but for one thing.
async fn forged(bench: &Bench, change: impl FnOnce(&mut Forged<'_>)) -> String {
    message(bench, |raw| {
        let mut forged = Forged::good();
        change(&mut forged);
        forged.by_alpha(raw, bench)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_signature_is_told_what_it_lacks() {
    let bench = Bench::start("").await;
    const LITTLE: [&str; 3] = ["@method", "@authority", "content-type"];
    let said = forged(&bench, |f| f.covered = &LITTLE).await;
    assert!(said.ends_with("demands: @path, content-digest, idempotency-key."), "{said}");
    let said = forged(&bench, |f| f.created = None).await;
    assert!(said.ends_with("parameter is missing: created."), "{said}");
    let said = forged(&bench, |f| f.expires = None).await;
    assert!(said.ends_with("parameter is missing: expires."), "{said}");
    let said = forged(&bench, |f| f.more.clear()).await;
    assert!(said.ends_with("parameter is missing: keyid."), "{said}");
    let said = message(&bench, |raw| raw.without("content-digest")).await;
    assert!(said.ends_with("Content-Digest is missing."), "{said}");
    let said = message(&bench, |raw| {
        let input = raw.text("signature-input").replacen("(", "(\"accept-language\" ", 1);
        raw.set("signature-input", input)
    })
    .await;
    assert!(said.ends_with("the covered header accept-language is not in the request."), "{said}");
    let said = message(&bench, |raw| {
        let input = raw.text("signature-input").replacen("(", "(\"@query-param\";name=\"a\" ", 1);
        raw.set("signature-input", input)
    })
    .await;
    assert!(said.ends_with("not supported: @query-param."), "{said}");
    let said = message(&bench, |raw| raw.without("signature-input").without("timestamp")).await;
    assert!(said.ends_with("parameter is missing: the Timestamp header."), "{said}");
    let said = forged(&bench, |f| f.more.push_str(";alg=\"ecdsa-p256-sha256\"")).await;
    assert!(said.ends_with("alg must be ed25519, or absent."), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_header_that_may_be_a_card_is_not_named() {
    let bench = Bench::start("").await;
    let said = message(&bench, |raw| {
        let input = raw.text("signature-input").replacen("(", "(\"4242424242424242\" ", 1);
        raw.set("signature-input", input)
    })
    .await;
    assert!(!said.contains("4242"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_time_is_told_beside_ours_with_the_difference_and_what_is_accepted() {
    let bench = Bench::start("").await;
    // Whole seconds of a clock that runs: one more may have passed.
    let says = |said: &str, parts: [&str; 2], seconds: std::ops::RangeInclusive<i64>| {
        let apart = seconds.clone().any(|apart| said.contains(&format!("{}{apart} s{}", parts[0], parts[1])));
        let ours = said.split("which is ").nth(1).and_then(|rest| rest.split(['.', ';']).next());
        let ours = ours.map(|text| format!("{}Z", text.trim_end_matches('Z')));
        let ours = ours.and_then(|text| Timestamp::parse_rfc3339(&text));
        let near = ours.is_some_and(|ours| ours.distance(bench.world.clock.now()).as_secs() < 60);
        assert!(apart && near, "{said}");
    };
    let said = forged(&bench, |f| (f.created, f.expires) = (Some(-360), Some(-60))).await;
    says(&said, ["its time is ", " behind ours, which is "], 360..=370);
    assert!(said.ends_with("at most 300 s are accepted."), "{said}");
    let said = forged(&bench, |f| (f.created, f.expires) = (Some(400), Some(500))).await;
    says(&said, ["its time is ", " ahead of ours, which is "], 390..=400);
    let said = forged(&bench, |f| (f.created, f.expires) = (Some(-100), Some(-20))).await;
    says(&said, ["expires is ", " behind our time, which is "], 20..=30);
    let said = forged(&bench, |f| f.expires = Some(480)).await;
    assert!(said.contains("expires is 480 s after created; "), "{said}");
    assert!(said.ends_with("at most 300 s after it are accepted."), "{said}");
    let said = forged(&bench, |f| f.expires = Some(-5)).await;
    assert!(said.contains("expires is 5 s before created"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_in_der_is_told_which_form_is_wanted() {
    let (key, _) = SigningKey::generate(Algorithm::EcdsaP256Sha256).unwrap();
    let jwk = key.public().to_jwk();
    let text = |name: &str| jwk[name].as_str().unwrap().to_owned();
    let agent = format!(
        "[[agents.keys]]\nid = \"p256\"\njwk = {{ kty = \"EC\", crv = \"P-256\", x = \"{}\", y = \"{}\" }}\n",
        text("x"),
        text("y")
    );
    let bench = Bench::with(Options { agent, ..Options::default() }).await;
    let der = |raw: &[u8]| {
        let (r, s) = raw.split_at(32);
        let integer = |bytes: &[u8]| {
            let first = bytes.iter().position(|byte| *byte != 0).unwrap();
            let sign = if bytes[first] >= 0x80 { vec![0] } else { vec![] };
            let value = [sign.as_slice(), &bytes[first..]].concat();
            [&[2, u8::try_from(value.len()).unwrap()], value.as_slice()].concat()
        };
        let both = [integer(r), integer(s)].concat();
        [&[0x30, u8::try_from(both.len()).unwrap()], both.as_slice()].concat()
    };
    let said = message(&bench, |raw| {
        let forged = Forged { more: ";keyid=\"p256\"".to_owned(), covered: &COVERED, ..Forged::good() };
        let signed = forged.on(raw, &key, &bench);
        let fixed = super::signature_of(&signed);
        let value = format!("sig1=:{}:", STANDARD.encode(der(&fixed)));
        signed.set("signature", value)
    })
    .await;
    assert!(said.contains("looks like DER") && said.contains("64 bytes of r and s"), "{said}");
    let said = message(&bench, |raw| {
        let raw = raw.without("signature-input").set("timestamp", bench.world.clock.now().to_rfc3339());
        raw.set("signature", URL_SAFE_NO_PAD.encode(der(&[0x77; 64])))
    })
    .await;
    assert!(said.contains("looks like DER"), "{said}");
}
