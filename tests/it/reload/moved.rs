//! A merchant that gets another base URL, or goes, while replicas on one Redis work for it.

use std::sync::Arc;

use countersign::domain::clock::{Clock, ManualClock, SystemClock};
use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::Answer;

use super::keys::{Replica, shared_store};
use super::*;
use crate::redis_server::{self, Server};

/// Longer than any grace.
const PAST_GRACE: Duration = Duration::from_secs(300);

async fn pay(agent: &Agent, session: &str, token: &str) -> Answer {
    let path = format!("/m/lamps/checkout_sessions/{session}/complete");
    agent.post(path, &payment(token)).key("once").send().await.unwrap()
}

/// What one door leads to lags behind what the other does.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_in_doubt_is_ended_where_it_was_sent_although_its_merchant_has_moved() {
    let server = Server::start(redis_server::Options::default());
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let options = Options {
        store: Some(shared_store(&server)),
        clock: Some(Arc::clone(&clock) as Arc<dyn Clock>),
        merchant: "doubt_grace = \"1m\"".to_owned(),
        keyless_shops: true,
        careless_shops: true,
        ..Options::default()
    };
    let mut world = World::closed(options).await;
    let (before, after) = (Door::before(&world.lamps).await, Door::before(&world.lamps).await);
    let moved = after.put_before(&world.lamps, &world.text);
    world.text = before.put_before(&world.lamps, &world.text);
    let first = Replica::start(&world, "first").await;
    let second = Replica::start(&world, "second").await;
    world.meet(first.app.public_address());
    let (alpha, lamps) = (world.alpha(), &world.lamps);
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    lamps.behave_once(CallKind::Complete, Behaviour::ResetAfter);
    assert_eq!(pay(&alpha, &session, &token).await.status, 502);
    before.shut();

    first.until_live(2).await;
    // Just started, the other may not have said yet what it writes.
    let until = Instant::now() + PATIENCE;
    loop {
        let (status, said) = first.reload_with(&moved).await;
        if status == 200 {
            break;
        }
        assert!(said.contains("until every replica notes") && Instant::now() < until, "{said}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    assert_eq!(status(&alpha).await, 201, "at the new one");
    lamps.behave(CallKind::Read, Behaviour::Instead(canned(200, shown_session(&session).to_string())));
    for _ in 0..4 {
        clock.advance(PAST_GRACE);
        let answer = pay(&alpha, &session, &token).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_deref()), (503, Some("outcome_unknown")));
    }
    let claims = first.ask("GET /claims").await;
    assert_eq!(claims.body["claims"].as_array().unwrap().len(), 1, "{}", claims.body);

    lamps.behave(CallKind::Read, Behaviour::Good);
    before.open();
    after.shut();
    let until = Instant::now() + PATIENCE;
    let mut answer = pay(&alpha, &session, &token).await;
    while answer.status != 200 {
        assert!(Instant::now() < until, "{}", answer.json());
        clock.advance(PAST_GRACE);
        answer = pay(&alpha, &session, &token).await;
    }
    assert_eq!(answer.text("/status").as_deref(), Some("completed"));
    assert_eq!((lamps.charges().len(), lamps.calls_of(CallKind::Complete).len()), (1, 1));

    first.until_live(2).await;
    let other = moved.replacen("idempotency = \"none\"", "idempotency = \"keys\"", 1);
    let (status, said) = first.reload_with(&other).await;
    assert!(status == 409 && said.contains("cannot have another `idempotency` while other"), "{said}");
    first.app.shutdown().await;
    second.app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_goes_once_it_is_retired_at_every_replica_and_no_claim_is_open() {
    let server = Server::start(redis_server::Options::default());
    let mut world = World::closed(Options { store: Some(shared_store(&server)), ..Options::default() }).await;
    let first = Replica::start(&world, "first").await;
    let second = Replica::start(&world, "second").await;
    world.meet(second.app.public_address());
    world.lamps.connect(second.app.public_address(), GATEWAY).unwrap();
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let buying = tokio::spawn({
        let (alpha, session, token) = (alpha.clone(), session.clone(), token.clone());
        async move { complete(&alpha, "lamps", &session, &token).await }
    });
    received(&world.lamps, CallKind::Complete, 1).await;
    let good = world.text.clone();
    let retired = good.replacen("id = \"lamps\"\n", "id = \"lamps\"\nretired = true\n", 1);
    let entry = good[good.find("\n[[merchants]]").unwrap()..].to_owned();
    let without = good.replace(&entry[..1 + entry[1..].find("\n[[merchants]]\n").unwrap()], "");

    first.until_live(2).await;
    assert_eq!(first.reload_with(&retired).await, (200, "applied".to_owned()));
    let (status, said) = first.reload_with(&without).await;
    assert!(
        status == 409 && said.contains("\"lamps\" cannot go until every replica has it `retired"),
        "{said}"
    );
    assert_eq!(second.reload_with(&retired).await, (200, "applied".to_owned()));
    // What another says is read where it is written, a moment later.
    let until = Instant::now() + PATIENCE;
    loop {
        let (status, said) = first.reload_with(&without).await;
        assert_eq!(status, 409, "{said}");
        if said.contains("\"lamps\" cannot go while claims are open there: 1 now") {
            break;
        }
        assert!(Instant::now() < until, "{said}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    world.lamps.release();
    assert_eq!(buying.await.unwrap().text("/status").as_deref(), Some("completed"));
    assert_eq!(first.reload_with(&without).await, (200, "applied".to_owned()));
    assert_eq!(second.reload_with(&without).await, (200, "applied".to_owned()));
    assert_eq!(super::status(&alpha).await, 404);
    first.app.shutdown().await;
    second.app.shutdown().await;
}
