//! What a gateway can only see and say: too much taken, or a session handed to another.
//!
//! A merchant that takes more than was approved, or hands one agent's session to another.

use countersign::quickstart::shop::{Behaviour, CallKind, Canned, Change};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_shows_more_than_was_checked_is_passed_on_counted_and_alarmed() {
    let doubt = Doubt::start().await;
    let honest = doubt.purchase().await;
    assert_completed(&honest.complete().await);
    assert_eq!(doubt.metric("countersign_overcharges_total"), 0.0);
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::Changed(Change::HigherTotal(1)));
    let answer = purchase.complete().await;
    assert_completed(&answer);
    assert_eq!(total_of(&answer.json()), purchase.total + 1);
    assert_eq!(doubt.metric("countersign_overcharges_total"), 1.0);
    doubt.until_logged(&["overcharge", &purchase.session]).await;
    assert_eq!(purchase.token_status().await, "consumed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_handed_to_a_second_agent_stays_the_firsts() {
    let doubt = Doubt::start().await;
    let purchase = doubt.purchase().await;
    let mut stolen = Canned::status(201);
    stolen.body = purchase.read().await.json().to_string();
    doubt.shop().behave_once(CallKind::Create, Behaviour::Instead(stolen));
    let beta = doubt.world.beta();
    let answer = beta.post("/m/lamps/checkout_sessions", &lamp_order()).send().await.unwrap();
    assert_told(&answer, 502, "merchant_answer_invalid");
    assert_eq!(doubt.metric("countersign_ownership_conflicts_total"), 1.0);
    doubt.until_logged(&["ownership_conflict", &purchase.session]).await;
    let seen = beta.get(purchase.path("")).send().await.unwrap();
    assert_told(&seen, 404, "checkout_session_not_found");
    assert_completed(&purchase.complete().await);
    purchase.assert_charged_once().await;
}
