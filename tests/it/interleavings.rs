//! Two things at once, in the order that is least convenient, and repeats long after.

use std::sync::Arc;
use std::time::Duration;

use countersign::domain::clock::{Clock, ManualClock, SystemClock};
use countersign::quickstart::shop::{Behaviour, CallKind};

use crate::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_whose_order_a_read_shows_first_keeps_its_own_answer() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    let path = format!("/m/lamps/checkout_sessions/{session}");
    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldAfter);
    let call = alpha.post(format!("{path}/complete"), &payment(&token)).key("once").prepare().unwrap();
    let (caller, sent) = (alpha.clone(), call.clone());
    let completing = tokio::spawn(async move { caller.send(&sent).await.unwrap() });
    world.lamps.received(CallKind::Complete, 1).await;
    while charges_of(&world.lamps, &session).is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let read = alpha.get(path).send().await.unwrap();
    assert_eq!(read.text("/status").as_deref(), Some("completed"), "{}", read.json());
    world.lamps.release();
    let first = completing.await.unwrap();
    assert_eq!(first.status, 200, "{}", first.json());

    let reads = world.lamps.calls_of(CallKind::Read).len();
    let again = alpha.send(&call).await.unwrap();
    assert_eq!((again.status, again.header("idempotent-replayed")), (first.status, Some("true")));
    assert_eq!(again.body, first.body, "the answer itself, not one made up from the session");
    assert_eq!(world.lamps.calls_of(CallKind::Read).len(), reads);
    assert_eq!(world.lamps.calls_of(CallKind::Complete).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mint_is_repeated_from_its_record_after_its_token_has_expired() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let world = World::with(Options { clock: Some(clock.clone()), ..Options::default() }).await;
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let request = mint_request(GOOD_CARD, "lamps", &session, total);
    let mint = || alpha.post("/agentic_commerce/delegate_payment", &request).key("once").send();
    let first = mint().await.unwrap();
    assert_eq!(first.status, 201, "{}", first.json());
    clock.advance(Duration::from_secs(2 * 3600));
    let again = mint().await.unwrap();
    assert_eq!((again.status, again.header("idempotent-replayed")), (first.status, Some("true")));
    assert_eq!(again.body, first.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_of_a_shop_that_does_not_answer_keep_no_other_shops_claim_in_doubt() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let world = World::with(Options { clock: Some(clock.clone()), ..Options::default() }).await;
    let alpha = world.alpha();
    world.lamps.behave(CallKind::Complete, Behaviour::ResetBefore);
    world.books.behave(CallKind::Complete, Behaviour::ResetAfter);
    // More claims in doubt than are looked at in one step, all older than the one that matters.
    for _ in 0..70 {
        let (session, total) = create(&alpha, "lamps").await;
        let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
        assert_eq!(complete(&alpha, "lamps", &session, &token).await.status, 502);
    }
    clock.advance(Duration::from_secs(1));
    let (session, total) = create(&alpha, "books").await;
    let token = mint(&alpha, "books", &session, GOOD_CARD, total).await;
    assert_eq!(complete(&alpha, "books", &session, &token).await.status, 502);
    world.lamps.behave(CallKind::Read, Behaviour::HoldBefore);
    clock.advance(Duration::from_secs(6));
    let settled = async {
        let path = format!("/agentic_commerce/issued_tokens/{token}");
        while alpha.get(path.clone()).send().await.unwrap().text("/status").as_deref() != Some("consumed") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), settled).await.expect("held up by another shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_spent_in_doubt_is_given_back_once_when_a_read_shows_the_order() {
    let agent = "live_tokens = 1\nlive_tokens_per_session = 1".to_owned();
    let world = World::with(Options { agent, ..Options::default() }).await;
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    world.lamps.behave_once(CallKind::Complete, Behaviour::ResetAfter);
    assert_eq!(complete(&alpha, "lamps", &session, &token).await.status, 502);
    for _ in 0..2 {
        let read = alpha.get(format!("/m/lamps/checkout_sessions/{session}")).send().await.unwrap();
        assert_eq!(read.text("/status").as_deref(), Some("completed"), "{}", read.json());
    }
    let mut minted = Vec::new();
    for _ in 0..2 {
        let (session, total) = create(&alpha, "lamps").await;
        minted.push(try_mint(&alpha, "lamps", &session, GOOD_CARD, total).await.status.as_u16());
    }
    assert_eq!(minted, [201, 429]);
}
