//! A total of zero: with a token, and with nothing to pay with.

use countersign::quickstart::agent::Agent;
use countersign::quickstart::shop::{Behaviour, CallKind, Redeem};
use serde_json::{Value, json};

use super::{path_of, post, standing};
use crate::world::*;

const USD: &str = "usd";

/// A world whose shops take free orders.
async fn giving_away() -> World {
    World::with(Options { merchant: "free_orders = true".to_owned(), ..Options::default() }).await
}

/// A session as the shop shows it, with this total.
fn shown(session: &str, total: u64, status: &str) -> Value {
    let mut shown = shown_session(session);
    shown["totals"][0]["amount"] = json!(total);
    shown["status"] = json!(status);
    shown
}

/// A session whose total became this with an update.
async fn session_of(world: &World, agent: &Agent, total: u64) -> String {
    let (session, _) = create(agent, "lamps").await;
    let told = canned(200, shown(&session, total, "ready_for_payment").to_string());
    world.lamps.behave_once(CallKind::Update, Behaviour::Instead(told));
    assert_eq!(post(agent, path_of(&session), &json!({})).await.status, 200);
    session
}

/// What the shop answers to the complete of a free order.
fn ordered(session: &str) -> Value {
    let mut ordered = shown(session, 0, "completed");
    ordered["order"] =
        json!({"id": "ord_1", "checkout_session_id": session, "permalink_url": "https://lamps.test/ord_1"});
    ordered
}

#[tokio::test(flavor = "multi_thread")]
async fn a_total_of_zero_completes_with_a_token_of_which_nothing_can_be_redeemed() {
    let world = World::start().await;
    let alpha = world.alpha();
    let session = session_of(&world, &alpha, 0).await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, 1).await;
    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let (agent, paying, of_session) = (alpha.clone(), token.clone(), session.clone());
    let waiting = tokio::spawn(async move { complete(&agent, "lamps", &of_session, &paying).await });
    world.lamps.received(CallKind::Complete, 1).await;
    let call = world.lamps.calls_of(CallKind::Complete).pop().unwrap();
    let context = call.headers["countersign-context"].to_str().unwrap();
    assert!(context.contains("amount=0") && context.contains(&token), "{context}");
    let claim = call.idempotency_key.clone().unwrap();
    let asked = |amount| Redeem {
        token: token.clone(),
        claim: claim.clone(),
        session: session.clone(),
        amount,
        currency: USD.to_owned(),
    };
    let one = world.lamps.redeem(&asked(1)).await.unwrap().unwrap();
    assert_eq!((one.status.as_u16(), one.code().as_deref()), (422, Some("amount_exceeds_claim")));
    let zero = world.lamps.redeem(&asked(0)).await.unwrap().unwrap();
    assert_eq!(zero.text("/payment_method/number").as_deref(), Some(GOOD_CARD), "{}", zero.json());
    // The shop asks for its own total, which is not what it said.
    world.lamps.release();
    waiting.await.unwrap();
    assert!(world.lamps.charges().is_empty());

    let session = session_of(&world, &alpha, 0).await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, 1).await;
    let order = ordered(&session);
    world.lamps.behave_once(CallKind::Complete, Behaviour::Instead(canned(200, order.to_string())));
    let answer = complete(&alpha, "lamps", &session, &token).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, order));
    assert_eq!(standing(&alpha, &token).await, "consumed");
    // A cap of nothing stands for nothing.
    let refused = try_mint(&alpha, "lamps", &session, GOOD_CARD, 0).await;
    assert_eq!(
        (refused.status.as_u16(), refused.text("/param").as_deref()),
        (422, Some("$.allowance.max_amount"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_payment_data_a_total_of_zero_claims_nothing_but_its_session() {
    let world = giving_away().await;
    let alpha = world.alpha();
    let session = session_of(&world, &alpha, 0).await;
    let unused = mint(&alpha, "lamps", &session, GOOD_CARD, 100).await;
    let order = ordered(&session);
    world.lamps.behave_once(CallKind::Complete, Behaviour::Instead(canned(200, order.to_string())));
    let path = format!("{}/complete", path_of(&session));
    let body = json!({"buyer": {"first_name": "Ada"}});
    let answer = post(&alpha, &path, &body).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, order));
    let call = world.lamps.calls_of(CallKind::Complete).pop().unwrap();
    assert_eq!((call.distrust, call.body), (None, body.to_string().into()));
    assert!(!call.headers.contains_key("countersign-grant"), "no token, no grant");
    let context = call.headers["countersign-context"].to_str().unwrap();
    assert!(context.contains("amount=0") && !context.contains("token="), "{context}");
    assert_eq!(standing(&alpha, &unused).await, "active");
    // The session is paid, whatever comes for it now.
    for again in [body, payment(&unused)] {
        let answer = post(&alpha, &path, &again).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_deref()),
            (409, Some("checkout_session_completed"))
        );
    }
    assert_eq!(world.lamps.calls_of(CallKind::Complete).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_costs_something_or_is_not_given_away_needs_a_token() {
    let refused = (422, Some("token_required".to_owned()));
    for (world, total, body, why) in [
        (World::start().await, 0, json!({}), "the merchant's entry says nothing"),
        (giving_away().await, 1, json!({}), "there is something to pay"),
        (
            giving_away().await,
            0,
            json!({"payment_data": {"handler_id": "card_tokenized"}}),
            "payment data without a token",
        ),
    ] {
        let alpha = world.alpha();
        let session = session_of(&world, &alpha, total).await;
        let answer = post(&alpha, format!("{}/complete", path_of(&session)), &body).await;
        assert_eq!((answer.status.as_u16(), answer.code()), refused, "{why}");
        assert!(world.lamps.calls_of(CallKind::Complete).is_empty(), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_order_in_doubt_is_read_before_anything_else_is_sent() {
    let world = giving_away().await;
    let alpha = world.alpha();
    let session = session_of(&world, &alpha, 0).await;
    world.lamps.behave_once(CallKind::Complete, Behaviour::ResetBefore);
    let path = format!("{}/complete", path_of(&session));
    let call = alpha.post(&path, &json!({})).key("k").prepare().unwrap();
    let lost = alpha.send(&call).await.unwrap();
    assert_eq!((lost.status.as_u16(), lost.code().as_deref()), (502, Some("merchant_answer_lost")));
    let read = canned(200, ordered(&session).to_string());
    world.lamps.behave_once(CallKind::Read, Behaviour::Instead(read));
    let found = alpha.send(&alpha.post(&path, &json!({})).key("k").prepare().unwrap()).await.unwrap();
    assert_eq!((found.status.as_u16(), found.json()["status"].clone()), (200, json!("completed")));
    assert_eq!(world.lamps.calls_of(CallKind::Complete).len(), 1);
}
