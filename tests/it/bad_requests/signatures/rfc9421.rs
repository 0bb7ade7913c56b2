//! The `rfc9421` profile on complete, a money route.

use countersign::crypto::sign::{Algorithm, SigningKey};
use countersign::http_signature::content_digest;

use super::super::bench::{Base, Bench, Row, row};
use super::{COVERED, Forged, changed, refusal, with_stray_bit};
use crate::wire::Raw;

const BASE: Base = Base::Complete;

/// A row whose signature is as good as can be, but for one thing.
fn forged(name: &'static str, change: fn(&mut Forged<'_>), code: &'static str) -> Row {
    let spoil = move |raw: Raw, bench: &Bench| {
        let mut forged = Forged::good();
        change(&mut forged);
        forged.by_alpha(raw, bench)
    };
    row(name, BASE, spoil, refusal(code))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_must_cover_name_and_date_what_it_should() {
    let mut rows: Vec<Row> = COVERED
        .into_iter()
        .filter(|name| *name != "content-type")
        .map(|left_out| {
            let spoil = move |raw: Raw, bench: &Bench| {
                let covered: Vec<_> = COVERED.into_iter().filter(|name| *name != left_out).collect();
                Forged { covered: &covered, ..Forged::good() }.by_alpha(raw, bench)
            };
            row(format!("{left_out} left out"), BASE, spoil, refusal("signature_coverage_insufficient"))
        })
        .collect();
    rows.extend([
        forged("nothing covered", |f| f.covered = &[], "signature_coverage_insufficient"),
        forged(
            "made 6 minutes ago",
            |f| (f.created, f.expires) = (Some(-360), Some(-60)),
            "signature_outside_window",
        ),
        forged(
            "made 6 minutes ahead",
            |f| (f.created, f.expires) = (Some(360), Some(400)),
            "signature_outside_window",
        ),
        forged(
            "made in the year 292277026596",
            |f| f.created = Some(i64::from(i32::MAX) * 1000),
            "signature_outside_window",
        ),
        forged("expired", |f| (f.created, f.expires) = (Some(-100), Some(-1)), "signature_expired"),
        forged("expired at once", |f| (f.created, f.expires) = (Some(0), Some(0)), "signature_expired"),
        forged("expires before it was made", |f| f.expires = Some(-1), "signature_lifetime_not_accepted"),
        forged("lives for too long", |f| f.expires = Some(301), "signature_lifetime_not_accepted"),
        forged("never made", |f| f.created = None, "signature_parameter_missing"),
        forged("never expires", |f| f.expires = None, "signature_parameter_missing"),
        forged("by no key", |f| f.more.clear(), "signature_parameter_missing"),
        forged("by a key nobody has", |f| f.more = ";keyid=\"key-2\"".into(), "signature_key_unknown"),
        forged("by a key in another case", |f| f.more = ";keyid=\"KEY-1\"".into(), "signature_key_unknown"),
        forged(
            "by another algorithm",
            |f| f.more.push_str(";alg=\"ecdsa-p256-sha256\""),
            "signature_algorithm_mismatch",
        ),
        forged(
            "by the HMAC algorithm",
            |f| f.more.push_str(";alg=\"hmac-sha256\""),
            "signature_algorithm_mismatch",
        ),
        forged("by no algorithm", |f| f.more.push_str(";alg=\"none\""), "signature_algorithm_mismatch"),
        forged(
            "a date that is text",
            |f| {
                f.created = None;
                f.more.push_str(";created=\"1\"");
            },
            "signature_malformed",
        ),
        forged("a key that is a number", |f| f.more = ";keyid=1".into(), "signature_malformed"),
        forged("an unknown part covered", |f| f.more = "x".into(), "signature_malformed"),
    ]);
    Bench::start("").await.run(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_request_has_no_signature() {
    let rows = vec![
        changed("another key", |raw| raw.set("idempotency-key", "another"), "signature_invalid"),
        changed(
            "another media type",
            |raw| raw.set("content-type", "application/json; charset=utf-8"),
            "signature_invalid",
        ),
        changed(
            "another body",
            |mut raw| {
                *raw.body.last_mut().unwrap() = b' ';
                raw.body.push(b'}');
                let length = raw.body.len().to_string();
                raw.set("content-length", length)
            },
            "content_digest_mismatch",
        ),
        changed(
            "another body of the same meaning and its digest",
            |mut raw| {
                raw.body.push(b' ');
                let (length, digest) = (raw.body.len().to_string(), content_digest::make(&raw.body));
                raw.set("content-length", length).set("content-digest", digest.as_bytes())
            },
            "signature_invalid",
        ),
        changed("no digest", |raw| raw.without("content-digest"), "content_digest_unusable"),
        changed("a digest twice", |raw| raw.twice("content-digest"), "content_digest_unusable"),
        changed(
            "another session",
            |mut raw| {
                let last = raw.target.len() - "/complete".len() - 1;
                raw.target[last] = if raw.target[last] == b'0' { b'1' } else { b'0' };
                raw
            },
            "signature_invalid",
        ),
        changed(
            "another merchant",
            |raw| {
                let target = String::from_utf8(raw.target.clone()).unwrap().replace("lamps", "books");
                raw.target(target)
            },
            "signature_invalid",
        ),
        changed(
            "another nonce",
            |raw| {
                let other = raw.text("signature-input").replace("nonce=\"", "nonce=\"x");
                raw.set("signature-input", other)
            },
            "signature_invalid",
        ),
        row(
            "the merchant's own host",
            BASE,
            |raw, _| {
                let path = String::from_utf8(raw.target.clone()).unwrap().replace("/m/lamps", "");
                raw.target(path).set("host", crate::world::SHOP_HOST)
            },
            refusal("signature_invalid"),
        ),
    ];
    Bench::start("").await.run(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_of_the_body_must_be_there_and_right() {
    let digest = |name: &'static str, value: fn(&Raw) -> String, code: &'static str| {
        let spoil = move |raw: Raw, bench: &Bench| {
            let value = value(&raw);
            Forged::good().by_alpha(raw.set("content-digest", value), bench)
        };
        row(name, BASE, spoil, refusal(code))
    };
    let rows = vec![
        digest(
            "a digest nobody trusts",
            |_| "md5=:1B2M2Y8AsgTpgAmY7PhCfg==:".into(),
            "content_digest_unusable",
        ),
        digest("an empty digest", |_| String::new(), "content_digest_unusable"),
        digest("a digest that is text", |_| "sha-256=\"x\"".into(), "content_digest_unusable"),
        digest("a digest too short", |_| "sha-256=:AAAA:".into(), "content_digest_mismatch"),
        digest(
            "a right and a wrong digest",
            |raw| format!("{}, sha-512=:AAAA:", raw.text("content-digest")),
            "content_digest_mismatch",
        ),
        digest(
            "a digest with a stray bit",
            |raw| {
                let text = raw.text("content-digest");
                let digits = text.strip_prefix("sha-256=:").unwrap().strip_suffix(':').unwrap();
                format!("sha-256=:{}:", with_stray_bit(digits))
            },
            "content_digest_unusable",
        ),
    ];
    Bench::start("").await.run(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_by_the_agent_whose_credential_it_stands_beside() {
    let shared = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(shared.path(), "shared-secret-of-32-bytes-or-more-0123456789").unwrap();
    let options = crate::world::Options {
        agent: format!("[[agents.keys]]\nid = \"shared\"\nsecret = \"file:{}\"\n", shared.path().display()),
        ..Default::default()
    };
    let rows = vec![
        row(
            "beta's key under alpha's id",
            BASE,
            |raw, b| Forged::good().on(raw, &b.beta.settings().key, b),
            refusal("signature_invalid"),
        ),
        row(
            "beta's key by its thumbprint",
            BASE,
            |raw, b| {
                let key = &b.beta.settings().key;
                let more = format!(";keyid=\"{}\"", key.public().thumbprint());
                Forged { more, ..Forged::good() }.on(raw, key, b)
            },
            refusal("signature_key_unknown"),
        ),
        row(
            "beta's credential on alpha's signature",
            BASE,
            |raw, b| raw.set("authorization", format!("Bearer {}", b.beta.settings().credential.expose())),
            refusal("signature_invalid"),
        ),
        row(
            "a key of the sender's own making",
            BASE,
            |raw, b| Forged::good().on(raw, &SigningKey::generate(Algorithm::Ed25519).unwrap().0, b),
            refusal("signature_invalid"),
        ),
        row(
            "a key of another algorithm",
            BASE,
            |raw, b| Forged::good().on(raw, &SigningKey::generate(Algorithm::EcdsaP256Sha256).unwrap().0, b),
            refusal("signature_invalid"),
        ),
        row(
            "a shared key",
            BASE,
            |raw, b| Forged { more: ";keyid=\"shared\"".into(), ..Forged::good() }.by_alpha(raw, b),
            refusal("signature_algorithm_mismatch"),
        ),
        row(
            "a shared key and its algorithm",
            BASE,
            |raw, b| {
                Forged { more: ";keyid=\"shared\";alg=\"hmac-sha256\"".into(), ..Forged::good() }
                    .by_alpha(raw, b)
            },
            refusal("signature_algorithm_mismatch"),
        ),
        // Each signature by a key of the sender's must verify, whatever the others do.
        row(
            "a good signature beside a bad one",
            BASE,
            |raw, b| beside(raw, b, ":AA==:", "key-1"),
            refusal("signature_invalid"),
        ),
        row(
            "a good signature beside a shared key's",
            BASE,
            |raw, b| beside(raw, b, ":AA==:", "shared"),
            refusal("signature_algorithm_mismatch"),
        ),
        row(
            "a bad signature beside a stranger's",
            BASE,
            |raw, b| {
                let raw = beside(raw, b, ":AA==:", "stranger");
                raw.set("idempotency-key", "another")
            },
            refusal("signature_invalid"),
        ),
    ];
    Bench::with(options).await.run(rows).await;
}

/// A good signature, and a second one behind it.
fn beside(raw: Raw, bench: &Bench, signature: &str, keyid: &str) -> Raw {
    let raw = Forged::good().by_alpha(raw, bench);
    let input = format!("{}, sig2=(\"@authority\");created=1;keyid=\"{keyid}\"", raw.text("signature-input"));
    let both = format!("{}, sig2={signature}", raw.text("signature"));
    raw.set("signature-input", input).set("signature", both)
}

#[tokio::test(flavor = "multi_thread")]
async fn where_every_request_must_be_signed_a_signature_over_nothing_opens_changes_and_cancels_nothing() {
    let policy = "[agents.signature]\nrequired = \"always\"\n".to_owned();
    let bench = Bench::with(crate::world::Options { agent: policy, ..Default::default() }).await;
    let too_little = || refusal("signature_coverage_insufficient");
    let over = |covered: &'static [&'static str]| {
        move |raw: Raw, b: &Bench| Forged { covered, ..Forged::good() }.by_alpha(raw, b)
    };
    let session = format!("/m/lamps/checkout_sessions/{}", bench.session);
    let cancel = format!("{session}/cancel");
    let nothing = over(&[]);
    bench
        .run(vec![
            row("a create over nothing", Base::Create, over(&[]), too_little()),
            row("a create over who", Base::Create, over(&["@authority"]), too_little()),
            row(
                "a create but for its body",
                Base::Create,
                over(&["@method", "@authority", "@path"]),
                too_little(),
            ),
            row(
                "a create but for its method",
                Base::Create,
                over(&["@target-uri", "content-digest"]),
                too_little(),
            ),
            row("a read over nothing", Base::Read, over(&[]), too_little()),
            row("a read but for its path", Base::Read, over(&["@method", "@authority"]), too_little()),
            row("an update", Base::Create, move |raw, b| nothing(raw.target(&session), b), too_little()),
            row("a cancel", Base::Create, move |raw, b| nothing(raw.target(&cancel), b), too_little()),
        ])
        .await;
}
