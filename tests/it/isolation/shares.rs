//! One agent gets a quarter of a merchant's concurrency, whatever it does with its streams.
//!
//! What it began and gave up stays counted for as long as the merchant works on it.

use std::time::Duration;

use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::{Behaviour, CallKind, Redeem};
use tokio::task::JoinHandle;

use super::eventually;
use crate::world::*;

/// A world whose merchants take 8 requests at once: 2 of one agent, 6 reads.
async fn small() -> World {
    let mut world = World::start().await;
    world.reopen(&[], |text| text.replace("concurrency = 4000", "concurrency = 8")).await;
    world
}

fn creating(agent: &Agent) -> JoinHandle<Answer> {
    let agent = agent.clone();
    tokio::spawn(async move { agent.post("/m/lamps/checkout_sessions", &lamp_order()).send().await.unwrap() })
}

fn assert_too_many(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), answer.code().as_deref()), (429, Some("rate_limited")));
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_gets_a_quarter_and_the_others_are_served() {
    let world = small().await;
    let (alpha, beta) = (world.alpha(), world.beta());
    world.lamps.behave(CallKind::Create, Behaviour::HoldBefore);
    let mut held = vec![creating(&alpha), creating(&alpha)];
    world.lamps.received(CallKind::Create, 2).await;
    assert_too_many(&creating(&alpha).await.unwrap());
    assert_eq!(world.lamps.calls_of(CallKind::Create).len(), 2, "nothing of it was forwarded");
    held.extend([creating(&beta), creating(&beta)]);
    world.lamps.received(CallKind::Create, 4).await;
    assert_too_many(&creating(&beta).await.unwrap());
    // Elsewhere both are free.
    create(&alpha, "books").await;
    world.lamps.behave_well();
    world.lamps.release();
    for create in held {
        assert_eq!(create.await.unwrap().status, 201);
    }
    create(&alpha, "lamps").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutation_given_up_is_counted_until_the_merchant_is_done() {
    let world = small().await;
    let alpha = world.alpha();
    world.lamps.behave(CallKind::Create, Behaviour::HoldBefore);
    let held = [creating(&alpha), creating(&alpha)];
    world.lamps.received(CallKind::Create, 2).await;
    for create in held {
        create.abort();
        assert!(create.await.unwrap_err().is_cancelled());
    }
    // Both streams were reset before this request, on the same connection.
    assert_too_many(&creating(&alpha).await.unwrap());
    world.lamps.behave_well();
    world.lamps.release();
    eventually("the merchant is done", async || creating(&alpha).await.unwrap().status == 201).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_given_up_gives_its_place_back_at_once() {
    let world = small().await;
    let alpha = world.alpha();
    let (session, _) = create(&alpha, "lamps").await;
    let reading = || {
        let (alpha, path) = (alpha.clone(), format!("/m/lamps/checkout_sessions/{session}"));
        tokio::spawn(async move { alpha.get(path).send().await.unwrap() })
    };
    world.lamps.behave(CallKind::Read, Behaviour::HoldBefore);
    let held = [reading(), reading()];
    world.lamps.received(CallKind::Read, 2).await;
    assert_too_many(&reading().await.unwrap());
    held.iter().for_each(JoinHandle::abort);
    // The shop still holds both and answers a third: nobody released it.
    world.lamps.behave(CallKind::Read, Behaviour::Good);
    eventually("a place is free", async || reading().await.unwrap().status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_use_up_a_merchant_do_not_keep_it_from_its_cards() {
    let world = small().await;
    let (alpha, beta) = (world.alpha(), world.beta());
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    world.lamps.behave(CallKind::Complete, Behaviour::HoldBefore);
    world.lamps.behave(CallKind::Create, Behaviour::HoldBefore);
    let completing = {
        let (alpha, session, token) = (alpha.clone(), session.clone(), token.clone());
        tokio::spawn(async move { complete(&alpha, "lamps", &session, &token).await })
    };
    world.lamps.received(CallKind::Complete, 1).await;
    let held = [creating(&alpha), creating(&beta), creating(&beta)];
    world.lamps.received(CallKind::Create, 4).await;
    assert_too_many(&creating(&alpha).await.unwrap());
    let claim = world.lamps.calls_of(CallKind::Complete)[0].idempotency_key.clone().unwrap();
    let redeem = Redeem { token, claim, session, amount: total, currency: "usd".to_owned() };
    let redeemed = tokio::time::timeout(Duration::from_secs(10), world.lamps.redeem(&redeem)).await.unwrap();
    assert_eq!(redeemed.unwrap().unwrap().status, 200);
    world.lamps.behave_well();
    world.lamps.release();
    assert_eq!(completing.await.unwrap().text("/status").as_deref(), Some("completed"));
    for create in held {
        assert_eq!(create.await.unwrap().status, 201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unsigned_requests_that_hang_leave_the_agents_signed_ones_their_places() {
    let world = small().await;
    let alpha = world.alpha();
    let unsigned = || {
        let alpha = alpha.clone();
        tokio::spawn(async move {
            alpha.post("/m/lamps/checkout_sessions", &lamp_order()).unsigned().send().await.unwrap()
        })
    };
    world.lamps.behave(CallKind::Create, Behaviour::HoldBefore);
    let mut held = vec![unsigned(), unsigned()];
    world.lamps.received(CallKind::Create, 2).await;
    assert_too_many(&unsigned().await.unwrap());
    held.extend([creating(&alpha), creating(&alpha)]);
    world.lamps.received(CallKind::Create, 4).await;
    assert_too_many(&creating(&alpha).await.unwrap());
    world.lamps.behave_well();
    world.lamps.release();
    for create in held {
        assert_eq!(create.await.unwrap().status, 201);
    }
}
