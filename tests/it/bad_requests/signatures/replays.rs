//! A signature that was seen, sent again: the same request is a retry, any other is refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::quickstart::shop::{Behaviour, CallKind};
use http::Method;

use super::super::bench::{Base, Bench, fresh_key};
use super::Forged;
use crate::wire::{Raw, Received, exchange};
use crate::world::{Options, create, lamp_order, mint};

/// Agents that sign `Timestamp . JCS(body)`: neither path nor key.
async fn loose() -> Bench {
    let agent = "[agents.signature]\nprofiles = [\"rfc9421\", \"acp\"]\n".to_owned();
    Bench::with(Options { agent, ..Options::default() }).await
}

fn loosely(raw: Raw, bench: &Bench) -> Raw {
    let raw = raw.without("signature-input").without("content-digest").without("signature");
    let raw = raw.set("timestamp", bench.world.clock.now().to_rfc3339());
    let base = format!("{}.{}", raw.text("timestamp"), String::from_utf8_lossy(&raw.body));
    let signature = bench.alpha.settings().key.sign(base.as_bytes()).unwrap();
    raw.set("signature", URL_SAFE_NO_PAD.encode(signature))
}

async fn send(bench: &Bench, raw: &Raw) -> Received {
    exchange(&bench.world, &raw.bytes()).await
}

async fn prepared(bench: &Bench, base: Base) -> Raw {
    Raw::of(&bench.target(base).await.call(bench, &fresh_key()).prepare().unwrap())
}

fn is_replay(received: &Received) -> bool {
    received.status == Some(401) && received.json()["code"] == "signature_replayed"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mint_s_signature_mints_once() {
    let bench = loose().await;
    let raw = loosely(prepared(&bench, Base::Mint).await, &bench);
    let first = send(&bench, &raw).await;
    assert_eq!(first.status, Some(201), "{}", first.json());

    let retried = send(&bench, &raw).await;
    assert_eq!((retried.status, retried.header("idempotent-replayed")), (Some(201), Some("true")));
    assert_eq!(retried.body, first.body);

    let elsewhere = raw.clone().target("/m/lamps/agentic_commerce/delegate_payment");
    for other in [raw.clone().set("idempotency-key", "another"), elsewhere] {
        let received = send(&bench, &other).await;
        assert_eq!(received.status, Some(401), "{}", received.json());
        assert_eq!(received.json()["message"], "This signature was already used for another request.");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_s_signature_completes_once() {
    let bench = loose().await;
    let raw = loosely(prepared(&bench, Base::Complete).await, &bench);
    // Declined, so that only the signature stands against a second attempt.
    bench.world.lamps.behave(CallKind::Complete, Behaviour::DeclineUnseen);
    assert_eq!(send(&bench, &raw).await.status, Some(200));
    bench.world.lamps.behave_well();
    let before = bench.calls();
    let again = send(&bench, &raw.clone().set("idempotency-key", "another")).await;
    assert!(is_replay(&again), "{}", again.json());
    assert_eq!(bench.calls(), before);
    assert!(bench.world.lamps.charges().is_empty());
    let signed_again = loosely(raw.set("idempotency-key", "another"), &bench);
    assert_eq!(send(&bench, &signed_again).await.json()["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_over_next_to_nothing_counts_for_one_request() {
    let bench = Bench::start("").await;
    let identity =
        Forged { covered: &["@authority"], more: ";keyid=\"key-1\";nonce=\"n1\"".into(), ..Forged::good() };
    let raw = identity.by_alpha(prepared(&bench, Base::Create).await, &bench);
    assert_eq!(send(&bench, &raw).await.status, Some(201));
    assert_eq!(send(&bench, &raw).await.header("idempotent-replayed"), Some("true"));

    let mut other_body = lamp_order();
    other_body["currency"] = "eur".into();
    let other_body = other_body.to_string();
    let before = bench.calls();
    for other in [
        raw.clone().set("idempotency-key", "another"),
        raw.clone().target("/m/books/checkout_sessions"),
        raw.clone().target(format!("/m/lamps/checkout_sessions/{}", bench.session)),
        raw.clone()
            .set("idempotency-key", "a-third")
            .set("content-length", other_body.len().to_string())
            .framed(&other_body),
    ] {
        let received = send(&bench, &other).await;
        assert!(is_replay(&received), "{:?} {}", received.status, received.json());
    }
    assert_eq!(bench.calls(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_without_a_body_proves_nothing_where_it_covers_nothing_else() {
    let bench = loose().await;
    let (session, total) = create(&bench.alpha, "lamps").await;
    let token = mint(&bench.alpha, "lamps", &session, crate::world::GOOD_CARD, total).await;
    let path = format!("/agentic_commerce/issued_tokens/{token}/revoke");
    let call = bench.alpha.call(Method::POST, path);
    let received = send(&bench, &loosely(Raw::of(&call.prepare().unwrap()), &bench)).await;
    assert_eq!((received.status, &received.json()["code"]), (Some(401), &"signature_required".into()));
}
