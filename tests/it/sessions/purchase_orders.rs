//! Paying without a token.
//!
//! No allowance stands behind a purchase order, so it is denied unless the merchant's entry allows it, to
//! whom, and up to how much.

use countersign::quickstart::shop::{Behaviour, CallKind};
use serde_json::{Value, json};

use super::{path_of, post};
use crate::world::*;

fn purchase_order() -> Value {
    json!({"payment_data": {"purchase_order_number": "PO-2026-17", "payment_terms": "net_30"}})
}

/// A world whose shops take purchase orders up to `limit`, from the first agent.
async fn allowing(limit: &str) -> World {
    let merchant = format!("purchase_orders = {{ agents = [\"alpha\"], limits = [{limit}] }}");
    World::with(Options { merchant, ..Options::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn k7_a_purchase_order_is_denied_by_default() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, _) = create(&alpha, "lamps").await;
    let answer = post(&alpha, format!("{}/complete", path_of(&session)), &purchase_order()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_deref()), (403, Some("purchase_order_not_allowed")));
    assert!(world.lamps.calls_of(CallKind::Complete).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn k7_a_purchase_order_is_allowed_by_policy_and_bounded_by_it() {
    let world = allowing("{ amount = 9032, currency = \"usd\" }").await;
    for (index, (agent, allowed)) in [(world.alpha(), true), (world.beta(), false)].into_iter().enumerate() {
        let (session, total) = create(&agent, "lamps").await;
        assert_eq!(total, 9032);
        let mut pending = shown_session(&session);
        pending["status"] = json!("pending_approval");
        world.lamps.behave(CallKind::Complete, Behaviour::Instead(canned(200, pending.to_string())));
        let answer = post(&agent, format!("{}/complete", path_of(&session)), &purchase_order()).await;
        if allowed {
            assert_eq!((answer.status.as_u16(), answer.json()), (200, pending));
            let call = world.lamps.calls_of(CallKind::Complete).pop().unwrap();
            assert_eq!((call.distrust, call.body), (None, purchase_order().to_string().into()));
            assert!(!call.headers.contains_key("countersign-grant"), "no token, no grant");
            let context = call.headers["countersign-context"].to_str().unwrap();
            assert!(context.contains("amount=9032") && !context.contains("token="), "{context}");
        } else {
            assert_eq!(answer.code().as_deref(), Some("purchase_order_not_allowed"));
        }
        assert_eq!(world.lamps.calls_of(CallKind::Complete).len(), 1, "{index}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn k7_a_purchase_order_above_its_limit_or_in_another_currency_is_denied() {
    for (limit, code) in [
        ("{ amount = 9031, currency = \"usd\" }", "amount_exceeds_allowance"),
        ("{ amount = 9000000, currency = \"eur\" }", "purchase_order_not_allowed"),
    ] {
        let world = allowing(limit).await;
        let alpha = world.alpha();
        let (session, _) = create(&alpha, "lamps").await;
        let answer = post(&alpha, format!("{}/complete", path_of(&session)), &purchase_order()).await;
        assert_eq!(answer.code().as_deref(), Some(code), "{limit}: {}", answer.json());
        assert!(world.lamps.calls_of(CallKind::Complete).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn k7_a_token_beside_a_purchase_order_is_what_counts() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let path = format!("{}/complete", path_of(&session));
    let with = |token: &str| {
        let mut request = payment(token);
        request["payment_data"]["purchase_order_number"] = json!("PO-1");
        request
    };
    let short = mint(&alpha, "lamps", &session, GOOD_CARD, total - 1).await;
    let denied = post(&alpha, &path, &with(&short)).await;
    assert_eq!(denied.code().as_deref(), Some("amount_exceeds_allowance"));
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    assert_eq!(post(&alpha, &path, &with(&token)).await.json()["status"], "completed");
}
