//! The one number that may be charged: the merchant's own total of the session, or none.

use countersign::quickstart::shop::{Behaviour, CallKind, Change};
use serde_json::{Value, json};

use super::{path_of, post};
use crate::world::*;

/// A session as created, then shown like this from now on: what a complete is answered.
async fn complete_at_totals(world: &World, totals: Value, currency: Option<&str>) -> (u16, Option<String>) {
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    let mut shown = shown_session(&session);
    shown["totals"] = totals;
    shown["currency"] = json!(currency);
    let told = Behaviour::Instead(canned(200, shown.to_string()));
    world.lamps.behave_once(CallKind::Update, told.clone());
    assert_eq!(post(&alpha, path_of(&session), &json!({})).await.json(), shown);
    world.lamps.behave_once(CallKind::Read, told);
    let answer = complete(&alpha, "lamps", &session, &token).await;
    world.lamps.behave_well();
    (answer.status.as_u16(), answer.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn k6_without_one_total_nothing_is_completed() {
    let world = World::start().await;
    let total = |amount: Value| json!({"type": "total", "display_text": "Total", "amount": amount});
    let (one, other) = (total(json!(9032)), total(json!(9033)));
    let refused = (422, Some("total_unavailable".to_owned()));
    for (totals, why) in [
        (json!([]), "none"),
        (json!(null), "null"),
        (json!([{"type": "subtotal", "display_text": "Subtotal", "amount": 9032}]), "only a subtotal"),
        (json!([one, other]), "two that differ"),
        (json!([one, total(json!("9032"))]), "one of them no number"),
        (json!([total(json!(90.32))]), "a fraction"),
        (json!([total(json!(-1))]), "negative"),
        (json!([total(json!(9007199254740993u64))]), "no exact double"),
        (json!("9032"), "a string"),
    ] {
        assert_eq!(complete_at_totals(&world, totals, Some("usd")).await, refused, "{why}");
    }
    assert_eq!(complete_at_totals(&world, json!([one]), None).await, refused, "no currency");
    let elsewhere = complete_at_totals(&world, json!([one]), Some("eur")).await;
    assert_eq!(elsewhere, (422, Some("currency_mismatch".to_owned())));
    assert!(world.lamps.calls_of(CallKind::Complete).is_empty(), "the merchant was never asked");
    assert!(world.lamps.charges().is_empty());

    // Two that agree are one, and `USD` is the dollar; the shop's own total is the same.
    let agreed = complete_at_totals(&world, json!([one, one]), Some("USD")).await;
    assert_eq!(agreed, (200, None));
    assert_eq!(world.lamps.charges().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agents_own_query_makes_of_a_session_is_not_its_total() {
    let merchant = "query_on_get = true".to_owned();
    let world = World::with(Options { merchant, ..Options::default() }).await;
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total - 1).await;
    let mut shown = shown_session(&session);
    shown["totals"] = json!([{"type": "total", "display_text": "Total", "amount": total - 1}]);
    shown["currency"] = json!("usd");
    world.lamps.behave_once(CallKind::Read, Behaviour::Instead(canned(200, shown.to_string())));
    let read = alpha.get(format!("{}?coupon=penny", path_of(&session))).send().await.unwrap();
    assert_eq!((read.status.as_u16(), read.json()), (200, shown));
    let answer = complete(&alpha, "lamps", &session, &token).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_deref()), (422, Some("amount_exceeds_allowance")));
    assert!(world.lamps.calls_of(CallKind::Complete).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn k6_a_shop_that_shows_two_totals_is_paid_neither() {
    let world = World::start().await;
    for kind in [CallKind::Create, CallKind::Read] {
        world.lamps.behave(kind, Behaviour::Changed(Change::ConflictingTotals));
    }
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total + 100).await;
    let answer = complete(&alpha, "lamps", &session, &token).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_deref()), (422, Some("total_unavailable")));
    assert!(world.lamps.calls_of(CallKind::Complete).is_empty());
    // The token is unharmed: when the shop shows one total again, it is taken.
    world.lamps.behave_well();
    assert_eq!(complete(&alpha, "lamps", &session, &token).await.json()["status"], "completed");
}
