//! Merchants that go away and come back: nothing new is begun meanwhile, and no complete finds out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::domain::clock::{Clock, ManualClock, SystemClock};
use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::{Behaviour, CallKind, Canned};
use serde_json::json;

use crate::world::*;

/// For what happens by itself.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A world whose first shop is behind a door, and whose clock moves only when told to.
struct Street {
    world: World,
    door: Door,
    clock: Arc<ManualClock>,
}

impl Street {
    async fn start() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let mut world =
            World::closed(Options { clock: Some(Arc::clone(&clock) as Arc<dyn Clock>), ..options }).await;
        let door = Door::before(&world.lamps).await;
        world.text = door.put_before(&world.lamps, &world.text);
        world.open().await;
        Self { world, door, clock }
    }

    /// Shuts the door, and has both agents find out.
    async fn go_away(&self) {
        self.door.shut();
        let agents = [self.world.alpha(), self.world.beta()];
        for number in 0..20 {
            let answer = ask(&agents[number % 2]).await;
            assert_eq!((answer.status.as_u16(), code(&answer)), (502, "merchant_unreachable".to_owned()));
        }
        self.until_state(2).await;
    }

    fn shows(&self, line: &str) -> bool {
        self.world.app().metrics_text().lines().any(|shown| shown == line)
    }

    /// The log is written behind the answers it tells of.
    async fn until_logged(&self, words: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.world.log.text().contains(words) {
            assert!(Instant::now() < until, "no {words} in {}", self.world.log.text());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn until_state(&self, state: u8) {
        let line = format!("countersign_breaker_state{{merchant=\"lamps\"}} {state}");
        let until = Instant::now() + PATIENCE;
        while !self.shows(&line) {
            assert!(Instant::now() < until, "no {line}");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

async fn ask(agent: &Agent) -> Answer {
    agent.post("/m/lamps/checkout_sessions", &lamp_order()).send().await.unwrap()
}

/// An update that the shop is told to break at.
async fn broken_update(agent: &Agent, session: &str) -> Answer {
    let path = format!("/m/lamps/checkout_sessions/{session}");
    agent.post(path, &json!({"line_items": []})).send().await.unwrap()
}

/// A complete, always with the same key.
async fn pay(agent: Agent, session: String, token: String) -> Answer {
    pay_as(agent, session, token, "once".to_owned()).await
}

async fn pay_as(agent: Agent, session: String, token: String, key: String) -> Answer {
    let path = format!("/m/lamps/checkout_sessions/{session}/complete");
    agent.post(path, &payment(&token)).key(&*key).send().await.unwrap()
}

fn code(answer: &Answer) -> String {
    answer.code().unwrap_or_default()
}

fn assert_unavailable(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), code(answer)), (503, "merchant_unavailable".to_owned()));
    let wait: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=5).contains(&wait), "{wait}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_begun_where_nobody_answers_and_a_lost_complete_still_ends_once() {
    let street = Street::start().await;
    let world = &street.world;
    let (alpha, lamps) = (world.alpha(), &world.lamps);
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    let (waiting, price) = create(&alpha, "lamps").await;
    let other = mint(&alpha, "lamps", &waiting, GOOD_CARD, price).await;
    // One complete is at the shop when it is cut off.
    lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let paying = tokio::spawn(pay(alpha.clone(), session.clone(), token.clone()));
    received(lamps, CallKind::Complete, 1).await;
    street.go_away().await;
    assert_eq!(paying.await.unwrap().status, 502);
    // What is new is refused before anything begins, at this merchant alone.
    assert_unavailable(&ask(&alpha).await);
    assert_unavailable(&broken_update(&alpha, &waiting).await);
    assert_unavailable(&complete(&alpha, "lamps", &waiting, &other).await);
    assert_eq!(
        world.beta().post("/m/books/checkout_sessions", &lamp_order()).send().await.unwrap().status,
        201
    );
    let claims = world.operate("GET /claims", None).await;
    assert_eq!(claims.body["claims"].as_array().unwrap().len(), 1, "{}", claims.body);
    // To mint asks no merchant, and the card of the claim in doubt is still redeemed.
    mint(&alpha, "lamps", &waiting, GOOD_CARD, price).await;
    lamps.release();
    let until = Instant::now() + PATIENCE;
    while charges_of(lamps, &session).is_empty() {
        assert!(Instant::now() < until, "it was not redeemed");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    assert_unavailable(&complete(&alpha, "lamps", &waiting, &other).await);
    // Whose read is answered first, an agent's or the worker's, finds out.
    street.door.open();
    let mut shown = alpha.get(format!("/m/lamps/checkout_sessions/{waiting}")).send().await.unwrap();
    let until = Instant::now() + PATIENCE;
    while shown.status != 200 {
        assert!(Instant::now() < until, "{}", shown.json());
        shown = alpha.get(format!("/m/lamps/checkout_sessions/{waiting}")).send().await.unwrap();
    }
    street.until_state(0).await;
    assert_eq!(
        complete(&alpha, "lamps", &waiting, &other).await.text("/status").as_deref(),
        Some("completed")
    );
    street.clock.advance(Duration::from_secs(60));
    let paid = pay(alpha.clone(), session.clone(), token.clone()).await;
    assert_eq!(paid.text("/status").as_deref(), Some("completed"), "{}", paid.json());
    assert_eq!((charges_of(lamps, &session).len(), charges_of(lamps, &waiting).len()), (1, 1));
    assert!(street.shows("countersign_breaker_openings_total{cause=\"unanswered\",merchant=\"lamps\"} 1"));
    assert!(street.shows("countersign_breaker_state{merchant=\"books\"} 0"));
    street.until_logged(r#""event":"merchant_unavailable","merchant":"lamps","cause":"unanswered""#).await;
    street.until_logged(r#""event":"merchant_available","merchant":"lamps""#).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_that_nobody_reads_from_is_connected_to_and_a_complete_waits_for_a_read() {
    let street = Street::start().await;
    let (alpha, lamps) = (street.world.alpha(), &street.world.lamps);
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    let sold = |kind| lamps.calls_of(kind).len();
    street.go_away().await;
    street.door.open();
    assert_unavailable(&complete(&alpha, "lamps", &session, &token).await);
    let (reads, completes) = (sold(CallKind::Read), sold(CallKind::Complete));
    street.clock.advance(Duration::from_secs(5));
    street.until_state(1).await;
    assert_eq!((sold(CallKind::Read), sold(CallKind::Complete)), (reads, completes), "nothing was sent");
    // Its total is known well enough otherwise.
    lamps.behave_once(CallKind::Read, Behaviour::Instead(Canned::status(503)));
    assert_eq!(complete(&alpha, "lamps", &session, &token).await.status, 502);
    assert_eq!((sold(CallKind::Read), sold(CallKind::Complete)), (reads + 1, completes));
    let paid = complete(&alpha, "lamps", &session, &token).await;
    assert_eq!(paid.text("/status").as_deref(), Some("completed"), "{}", paid.json());
    assert_eq!((sold(CallKind::Read), sold(CallKind::Complete)), (reads + 2, completes + 1));
    street.until_state(0).await;
    assert_eq!(charges_of(lamps, &session).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_agent_breaks_stops_nobody_else_and_what_both_do_stops_both() {
    let street = Street::start().await;
    let (alpha, beta, lamps) = (street.world.alpha(), street.world.beta(), &street.world.lamps);
    let (session, _) = create(&alpha, "lamps").await;
    let (theirs, _) = create(&beta, "lamps").await;
    lamps.behave(CallKind::Update, Behaviour::Instead(Canned::status(500)));
    for _ in 0..60 {
        assert_eq!(broken_update(&alpha, &session).await.status, 500);
    }
    for _ in 0..20 {
        assert_eq!(ask(&beta).await.status, 201);
    }
    assert_eq!(broken_update(&alpha, &session).await.status, 500, "nor it itself");
    // What a merchant refuses is no failure of its.
    lamps.behave(CallKind::Create, Behaviour::Instead(Canned::status(422)));
    for _ in 0..40 {
        assert_eq!(ask(&beta).await.status, 422);
    }
    street.until_state(0).await;
    lamps.behave(CallKind::Create, Behaviour::Instead(Canned::status(503)));
    street.clock.advance(Duration::from_secs(31));
    for _ in 0..10 {
        assert_eq!(broken_update(&alpha, &session).await.status, 500);
        assert_eq!(ask(&beta).await.status, 503);
    }
    assert_unavailable(&broken_update(&beta, &theirs).await);
    assert_unavailable(&ask(&alpha).await);
    assert!(street.shows("countersign_breaker_openings_total{cause=\"failing\",merchant=\"lamps\"} 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_a_merchant_tells_to_slow_down_does_and_no_other_agent_is_slowed() {
    let street = Street::start().await;
    let (alpha, beta, lamps) = (street.world.alpha(), street.world.beta(), &street.world.lamps);
    lamps.behave_once(CallKind::Create, Behaviour::Instead(Canned::too_many_requests(7)));
    assert_eq!(ask(&alpha).await.status, 429);
    lamps.behave_once(CallKind::Create, Behaviour::HoldBefore);
    let before = lamps.calls_of(CallKind::Create).len();
    let one = alpha.clone();
    let held = tokio::spawn(async move { ask(&one).await });
    received(lamps, CallKind::Create, before + 1).await;
    let refused = ask(&alpha).await;
    assert_eq!((refused.status.as_u16(), code(&refused)), (429, "rate_limited".to_owned()));
    assert_eq!(refused.header("retry-after"), Some("7"));
    assert_eq!(ask(&beta).await.status, 201);
    street.clock.advance(Duration::from_secs(7));
    assert_eq!(ask(&alpha).await.status, 201);
    lamps.release();
    assert_eq!(held.await.unwrap().status, 201);
    street.until_state(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyless_merchant_that_comes_and_goes_gets_each_complete_once_and_no_claim_is_let_go() {
    let merchant = "doubt_grace = \"1m\"".to_owned();
    let options = Options { keyless_shops: true, careless_shops: true, merchant, ..Options::default() };
    let street = Street::with(options).await;
    let (alpha, lamps) = (street.world.alpha(), &street.world.lamps);
    let ways = [Behaviour::HoldBefore, Behaviour::HoldAfter, Behaviour::HoldBefore];
    for (round, held) in ways.into_iter().enumerate() {
        let (session, total) = create(&alpha, "lamps").await;
        let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
        let pay = || tokio::spawn(pay_as(alpha.clone(), session.clone(), token.clone(), round.to_string()));
        lamps.behave_once(CallKind::Complete, held);
        let paying = pay();
        received(lamps, CallKind::Complete, round + 1).await;
        street.go_away().await;
        assert_eq!(paying.await.unwrap().status, 502);
        // Who asks again hears that nobody knows, also long after every grace.
        street.clock.advance(Duration::from_secs(300));
        let repeated = pay().await.unwrap();
        assert_eq!((repeated.status.as_u16(), code(&repeated)), (503, "outcome_unknown".to_owned()));
        lamps.release();
        let until = Instant::now() + PATIENCE;
        while charges_of(lamps, &session).is_empty() {
            assert!(Instant::now() < until, "it was not charged");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        street.door.open();
        let mut known = pay().await.unwrap();
        while known.status != 200 {
            assert!(Instant::now() < until, "{}", known.json());
            street.clock.advance(Duration::from_secs(60));
            tokio::time::sleep(LOOK_AGAIN).await;
            known = pay().await.unwrap();
        }
        assert_eq!(known.text("/status").as_deref(), Some("completed"));
        assert_eq!(charges_of(lamps, &session).len(), 1);
        assert_eq!(lamps.calls_of(CallKind::Complete).len(), round + 1, "none was sent again");
        street.until_state(0).await;
    }
    assert!(street.shows("countersign_breaker_openings_total{cause=\"unanswered\",merchant=\"lamps\"} 3"));
    assert!(!street.world.log.text().contains(r#""outcome":"released""#));
}
