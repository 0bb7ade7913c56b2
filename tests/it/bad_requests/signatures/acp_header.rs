//! ACP's own `Signature` header, `acp-bound`, on complete; and which profile an agent may use.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::crypto::sign::SigningKey;
use countersign::domain::clock::Timestamp;
use countersign::quickstart::agent::Agent;

use super::super::bench::{Base, Bench, Expected, Row, refused, row};
use super::{Forged, acp_signature_of, other_form, refusal, with_stray_bit};
use crate::wire::Raw;
use crate::world::Options;

const BASE: Base = Base::Complete;

/// The request with a signature over `Timestamp . METHOD . path . Idempotency-Key . JCS(body)`, as
/// this test reads it. The bodies here are canonical as they stand.
fn bound(raw: Raw, key: &SigningKey, at: Timestamp) -> Raw {
    let raw = raw.without("signature-input").without("content-digest").without("signature");
    let raw = raw.set("timestamp", at.to_rfc3339());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let base = [
        raw.text("timestamp"),
        text(&raw.method),
        text(&raw.target),
        raw.text("idempotency-key"),
        text(&raw.body),
    ]
    .join(".");
    raw.set("signature", URL_SAFE_NO_PAD.encode(key.sign(base.as_bytes()).unwrap()))
}

fn by(raw: Raw, bench: &Bench, agent: &Agent) -> Raw {
    bound(raw, &agent.settings().key, bench.world.clock.now())
}

/// A well-signed request, changed.
fn changed(name: &'static str, change: fn(Raw) -> Raw, code: &'static str) -> Row {
    row(name, BASE, move |raw, bench| change(by(raw, bench, &bench.alpha)), refusal(code))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acp_signature_binds_time_path_key_and_body() {
    let invalid = "signature_invalid";
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let rows = vec![
        changed("another key", |raw| raw.set("idempotency-key", "another"), invalid),
        changed(
            "another body",
            |mut raw| {
                *raw.body.last_mut().unwrap() = b',';
                raw.body.extend(b"\"a\":1}");
                let length = raw.body.len().to_string();
                raw.set("content-length", length)
            },
            invalid,
        ),
        changed(
            "another merchant",
            |raw| {
                let target = String::from_utf8(raw.target.clone()).unwrap().replace("lamps", "books");
                raw.target(target)
            },
            invalid,
        ),
        changed(
            "another time",
            |raw| {
                let at = raw.text("timestamp").replace('Z', "+00:00");
                raw.set("timestamp", at)
            },
            invalid,
        ),
        changed("no time", |raw| raw.without("timestamp"), "signature_parameter_missing"),
        changed("a time that is none", |raw| raw.set("timestamp", "now"), "signature_malformed"),
        changed("a time in seconds", |raw| raw.set("timestamp", "1790000000"), "signature_malformed"),
        changed(
            "S + L",
            |raw| {
                let bent = URL_SAFE_NO_PAD.encode(other_form(&acp_signature_of(&raw)));
                raw.set("signature", bent)
            },
            invalid,
        ),
        changed(
            "a stray bit",
            |raw| {
                let bent = with_stray_bit(&raw.text("signature"));
                raw.set("signature", bent)
            },
            "signature_malformed",
        ),
        changed(
            "RFC 9421's form",
            |raw| {
                let form = format!("sig1=:{}:", raw.text("signature"));
                raw.set("signature", form)
            },
            "signature_malformed",
        ),
        changed("an endless signature", |raw| raw.set("signature", "A".repeat(300)), "signature_malformed"),
        changed("an empty signature", |raw| raw.set("signature", ""), invalid),
        row(
            "6 minutes ago",
            BASE,
            move |raw, b| bound(raw, &b.alpha.settings().key, b.world.clock.now().minus(minutes(6))),
            refusal("signature_outside_window"),
        ),
        row(
            "6 minutes ahead",
            BASE,
            move |raw, b| bound(raw, &b.alpha.settings().key, b.world.clock.now().plus(minutes(6))),
            refusal("signature_outside_window"),
        ),
        row(
            "a key with a full stop",
            BASE,
            |raw, b| by(raw.set("idempotency-key", "a.b"), b, &b.alpha),
            refusal("signature_ambiguous"),
        ),
        row("beta's signature", BASE, |raw, b| by(raw, b, &b.beta), refusal(invalid)),
        row(
            "a signature over less",
            BASE,
            |raw, b| {
                let raw = by(raw, b, &b.alpha);
                let base = format!("{}.{}", raw.text("timestamp"), String::from_utf8_lossy(&raw.body));
                let less = URL_SAFE_NO_PAD.encode(b.alpha.settings().key.sign(base.as_bytes()).unwrap());
                raw.set("signature", less)
            },
            refusal(invalid),
        ),
    ];
    let bench = Bench::start("").await;
    // What the rows bend is good.
    let target = bench.target(BASE).await;
    let raw = Raw::of(&target.call(&bench, "a-key").prepare().unwrap());
    let received = crate::wire::exchange(&bench.world, &by(raw, &bench, &bench.alpha).bytes()).await;
    assert_eq!(received.status, Some(200), "{}", received.json());
    bench.run(rows).await;
}

/// One row against agents with a signature policy of their own.
async fn under(policy: &str, row: Row) {
    let agent = format!("[agents.signature]\n{policy}\n");
    Bench::with(Options { agent, ..Options::default() }).await.run(vec![row]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_signs_as_its_policy_says() {
    let unsigned = |raw: Raw| raw.without("signature").without("signature-input");
    let create = |name, spoil: fn(Raw) -> Raw, expected: Expected| {
        row(name, Base::Create, move |raw, _| spoil(raw), expected)
    };
    under("required = \"always\"", create("an unsigned create", unsigned, refusal("signature_required")))
        .await;
    let bound = row(
        "acp-bound where only rfc9421 is allowed",
        BASE,
        |raw, b| by(raw, b, &b.alpha),
        refusal("signature_profile_not_allowed"),
    );
    under("profiles = [\"rfc9421\"]", bound).await;
    // Nothing is demanded, and what is presented must verify all the same: here and off the money routes.
    let bad = row(
        "a bad signature where none is demanded",
        BASE,
        |raw, b| Forged::good().on(raw, &b.beta.settings().key, b),
        refusal("signature_invalid"),
    );
    under("required = \"never\"", bad).await;
    under(
        "",
        create(
            "a bad signature off the money routes",
            |raw| raw.set("content-type", "application/json;charset=utf-8"),
            refusal("signature_invalid"),
        ),
    )
    .await;
    under("", row("an unsigned mint", Base::Mint, move |raw, _| unsigned(raw), refused(401, "unauthorized")))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_acp_signature_on_a_read_is_invalid_and_not_taken_for_none() {
    for profiles in ["\"acp-bound\"", "\"acp\"", "\"acp-bound\", \"acp\""] {
        let row = row(
            "another agent's signature over no body",
            Base::Read,
            |raw, b| {
                let raw = raw.without("signature-input").without("signature");
                let at = b.world.clock.now().to_rfc3339();
                let base = format!("{at}.GET.{}..", String::from_utf8_lossy(&raw.target));
                let signature = b.beta.settings().key.sign(base.as_bytes()).unwrap();
                raw.set("timestamp", at).set("signature", URL_SAFE_NO_PAD.encode(signature))
            },
            refusal("signature_invalid"),
        );
        under(&format!("profiles = [\"rfc9421\", {profiles}]"), row).await;
    }
}
