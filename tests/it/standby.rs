//! A merchant behind two base URLs.
//!
//! What cannot be sent to the first goes to the next, and of an open claim nothing does.

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
/// What a merchant says of a session it does not know.
const UNKNOWN: &str = r#"{"type":"invalid_request","code":"not_found","message":"No such session."}"#;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A world whose first shop is behind two doors, and whose clock moves only when told to.
struct Street {
    world: World,
    first: Door,
    second: Door,
    clock: Arc<ManualClock>,
}

impl Street {
    /// At a shop that ignores keys, and charges whatever is sent.
    async fn keyless() -> Self {
        Self::with(Options { keyless_shops: true, careless_shops: true, ..Options::default() }).await
    }

    async fn with(options: Options) -> Self {
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let clocked = Some(Arc::clone(&clock) as Arc<dyn Clock>);
        let merchant = "doubt_grace = \"1m\"".to_owned();
        let mut world = World::closed(Options { clock: clocked, merchant, ..options }).await;
        let (first, second) = (Door::before(&world.lamps).await, Door::before(&world.lamps).await);
        world.text = Door::put_all_before(&[&first, &second], &world.lamps, &world.text);
        world.open().await;
        Self { world, first, second, clock }
    }

    /// A session with a token, its total shown at the first.
    async fn ready(&self, agent: &Agent) -> Purchase {
        let (session, total) = create(agent, "lamps").await;
        let token = mint(agent, "lamps", &session, GOOD_CARD, total).await;
        Purchase { agent: agent.clone(), session, token }
    }

    async fn open_claims(&self) -> usize {
        self.world.operate("GET /claims", None).await.body["claims"].as_array().unwrap().len()
    }

    /// So long that any grace is over, and what waits for a look is looked at.
    fn pass(&self) {
        self.clock.advance(Duration::from_secs(300));
    }

    fn completes(&self) -> usize {
        self.world.lamps.calls_of(CallKind::Complete).len()
    }
}

/// What an agent is about to buy.
struct Purchase {
    agent: Agent,
    session: String,
    token: String,
}

impl Purchase {
    /// Always with the same key.
    async fn pay(&self) -> Answer {
        let path = format!("/m/lamps/checkout_sessions/{}/complete", self.session);
        self.agent.post(path, &payment(&self.token)).key(&*self.session).send().await.unwrap()
    }

    async fn read(&self) -> Answer {
        self.agent.get(format!("/m/lamps/checkout_sessions/{}", self.session)).send().await.unwrap()
    }

    /// The session, as somebody shows it who has not heard of its complete.
    fn stale(&self) -> Canned {
        canned(200, shown_session(&self.session).to_string())
    }
}

fn status(answer: &Answer) -> Option<String> {
    answer.text("/status")
}

fn assert_unknown(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), answer.code().as_deref()), (503, Some("outcome_unknown")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_to_the_first_goes_to_the_next_and_is_bought_there_once() {
    let street = Street::keyless().await;
    street.first.shut();
    let purchase = street.ready(&street.world.alpha()).await;
    let path = format!("/m/lamps/checkout_sessions/{}", purchase.session);
    let update = json!({"line_items": [{"id": "item_lamp", "quantity": 1}]});
    assert_eq!(purchase.agent.post(path, &update).send().await.unwrap().status, 200);
    assert_eq!(status(&purchase.pay().await).as_deref(), Some("completed"));
    assert_eq!((street.world.lamps.charges().len(), street.completes()), (1, 1));
    assert_eq!(street.world.lamps.calls_of(CallKind::Create).len(), 1);
    street.first.open();
    street.second.shut();
    assert_eq!(status(&purchase.read().await).as_deref(), Some("completed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_of_which_nothing_was_sent_goes_to_the_next_where_its_session_is_shown() {
    let street = Street::keyless().await;
    let lamps = &street.world.lamps;
    let purchase = street.ready(&street.world.alpha()).await;
    street.first.shut();
    // Where it is not known yet it is not charged.
    lamps.behave_once(CallKind::Read, Behaviour::Instead(canned(404, UNKNOWN)));
    let answer = purchase.pay().await;
    assert_eq!((answer.status.as_u16(), answer.code().as_deref()), (502, Some("merchant_unreachable")));
    assert_eq!((street.completes(), street.open_claims().await), (0, 0));
    // Nor for more than was checked.
    let dearer = shown_session(&purchase.session).to_string().replace("9032", "99999");
    lamps.behave_once(CallKind::Read, Behaviour::Instead(canned(200, dearer)));
    assert_eq!(purchase.pay().await.status, 502);
    assert_eq!((street.completes(), street.open_claims().await), (0, 0));
    assert_eq!(status(&purchase.pay().await).as_deref(), Some("completed"));
    assert_eq!((lamps.charges().len(), street.completes()), (1, 1));
}

/// What was written to the second counts there from then on.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_moved_before_anything_was_sent_is_let_go_by_its_new_base_url_alone() {
    let street = Street::keyless().await;
    let lamps = &street.world.lamps;
    let purchase = street.ready(&street.world.alpha()).await;
    street.first.shut();
    lamps.behave_once(CallKind::Complete, Behaviour::ResetBefore);
    assert_eq!(purchase.pay().await.status, 502);
    assert_eq!((street.completes(), street.open_claims().await), (1, 1));
    street.second.shut();
    street.first.open();
    for _ in 0..4 {
        street.pass();
        assert_unknown(&purchase.pay().await);
        assert_eq!(status(&purchase.read().await).as_deref(), Some("ready_for_payment"));
    }
    assert_eq!(street.open_claims().await, 1, "the first cannot say that there is no order");
    street.second.open();
    let until = Instant::now() + PATIENCE;
    while street.open_claims().await == 1 {
        assert!(Instant::now() < until, "{}", street.world.log.text());
        street.pass();
        let _ = purchase.read().await;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    assert_eq!((lamps.charges().len(), street.completes()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_lags_lets_no_claim_go_and_the_order_it_shows_at_last_ends_it() {
    let street = Street::keyless().await;
    let lamps = &street.world.lamps;
    let purchase = street.ready(&street.world.alpha()).await;
    lamps.behave_once(CallKind::Complete, Behaviour::ResetAfter);
    assert_eq!(purchase.pay().await.status, 502);
    assert_eq!((lamps.charges().len(), street.open_claims().await), (1, 1));
    street.first.shut();
    lamps.behave(CallKind::Read, Behaviour::Instead(purchase.stale()));
    let reads = lamps.calls_of(CallKind::Read).len();
    for _ in 0..5 {
        street.pass();
        assert_unknown(&purchase.pay().await);
        assert_eq!(status(&purchase.read().await).as_deref(), Some("ready_for_payment"));
    }
    assert!(lamps.calls_of(CallKind::Read).len() >= reads + 5);
    assert_eq!(street.open_claims().await, 1);
    lamps.behave(CallKind::Read, Behaviour::Instead(canned(200, canceled(&purchase))));
    street.pass();
    assert_unknown(&purchase.pay().await);
    assert_eq!(street.open_claims().await, 1);
    lamps.behave(CallKind::Read, Behaviour::Good);
    let until = Instant::now() + PATIENCE;
    let mut answer = purchase.pay().await;
    while answer.status != 200 {
        assert!(Instant::now() < until, "{}", answer.json());
        street.pass();
        answer = purchase.pay().await;
    }
    assert_eq!(status(&answer).as_deref(), Some("completed"));
    assert_eq!((lamps.charges().len(), street.completes(), street.open_claims().await), (1, 1, 0));
    // Whoever's read has ended it, it is counted.
    let metrics = street.world.app().metrics_text();
    for counted in ["claims_total{outcome=\"charged\"} 1\n", "token_events_total{event=\"consumed\"} 1\n"] {
        assert!(metrics.contains(counted), "{metrics}");
    }
}

fn canceled(purchase: &Purchase) -> String {
    shown_session(&purchase.session).to_string().replace("ready_for_payment", "canceled")
}

/// At one that honours keys a repeat is sent again, and only where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_complete_in_doubt_is_sent_again_where_it_was_and_nowhere_else() {
    let street = Street::with(Options::default()).await;
    let lamps = &street.world.lamps;
    let purchase = street.ready(&street.world.alpha()).await;
    lamps.behave_once(CallKind::Complete, Behaviour::ResetBefore);
    assert_eq!(purchase.pay().await.status, 502);
    street.first.shut();
    for _ in 0..3 {
        street.pass();
        assert_unknown(&purchase.pay().await);
    }
    assert_eq!((street.completes(), street.open_claims().await), (1, 1));
    street.first.open();
    let until = Instant::now() + PATIENCE;
    let mut answer = purchase.pay().await;
    while answer.status != 200 && street.open_claims().await == 1 {
        assert!(Instant::now() < until, "{}", answer.json());
        street.pass();
        answer = purchase.pay().await;
    }
    assert!(lamps.charges().len() <= 1);
}

/// A merchant that honours keys may wake up to what it was sent, and knows the key only there.
#[tokio::test(flavor = "multi_thread")]
async fn a_complete_that_was_given_up_in_doubt_begins_anew_where_it_was_and_nowhere_else() {
    let street = Street::with(Options::default()).await;
    let lamps = &street.world.lamps;
    let purchase = street.ready(&street.world.alpha()).await;
    lamps.behave_once(CallKind::Complete, Behaviour::ResetBefore);
    assert_eq!(purchase.pay().await.status, 502);
    let until = Instant::now() + PATIENCE;
    while street.open_claims().await == 1 {
        assert!(Instant::now() < until, "it is not given up");
        street.pass();
        let _ = purchase.read().await;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    street.first.shut();
    for _ in 0..3 {
        street.pass();
        let answer = purchase.pay().await;
        assert!(answer.status.is_server_error() || answer.status == 409, "{}", answer.json());
    }
    assert_eq!((lamps.charges().len(), street.completes()), (0, 1));
    street.first.open();
    let until = Instant::now() + PATIENCE;
    let mut answer = purchase.pay().await;
    while answer.status != 200 {
        assert!(Instant::now() < until, "{}", answer.json());
        street.pass();
        let _ = purchase.read().await;
        answer = purchase.pay().await;
    }
    assert_eq!((status(&answer).as_deref(), lamps.charges().len()), (Some("completed"), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_may_have_been_sent_is_repeated_where_it_was() {
    let street = Street::with(Options::default()).await;
    let lamps = &street.world.lamps;
    let alpha = street.world.alpha();
    let creating = alpha.post("/m/lamps/checkout_sessions", &lamp_order()).prepare().unwrap();
    lamps.behave_once(CallKind::Create, Behaviour::ResetAfter);
    assert_eq!(alpha.send(&creating).await.unwrap().status, 502);
    street.first.shut();
    assert_eq!(alpha.send(&creating).await.unwrap().status, 502);
    assert_eq!(lamps.calls_of(CallKind::Create).len(), 1);
    street.first.open();
    assert_eq!(alpha.send(&creating).await.unwrap().status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_one_does_not_know_is_read_from_the_other() {
    let street = Street::keyless().await;
    let lamps = &street.world.lamps;
    let purchase = street.ready(&street.world.alpha()).await;
    lamps.behave_once(CallKind::Read, Behaviour::Instead(canned(404, UNKNOWN)));
    assert_eq!(status(&purchase.read().await).as_deref(), Some("ready_for_payment"));
    assert_eq!(lamps.calls_of(CallKind::Read).len(), 2);
    // Where no other can be asked it is what the first says, and no word of the second.
    lamps.behave_once(CallKind::Read, Behaviour::Instead(canned(404, UNKNOWN)));
    street.second.shut();
    let answer = purchase.read().await;
    assert_eq!(answer.status, 404, "{}", answer.json());
    lamps.behave_once(CallKind::Read, Behaviour::Instead(canned(404, UNKNOWN)));
    street.second.open();
    street.first.shut();
    let answer = purchase.read().await;
    assert_eq!((answer.status.as_u16(), answer.code().as_deref()), (502, Some("merchant_unreachable")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_url_where_nobody_answers_is_asked_last_until_it_is_connected_to_and_asked() {
    let street = Street::keyless().await;
    let (alpha, beta) = (street.world.alpha(), street.world.beta());
    street.first.shut();
    let opened = |world: &World| world.log.text().matches(r#""event":"merchant_unavailable""#).count();
    let until = Instant::now() + PATIENCE;
    while opened(&street.world) == 0 {
        for agent in [&alpha, &beta] {
            assert_eq!(
                agent.post("/m/lamps/checkout_sessions", &lamp_order()).send().await.unwrap().status,
                201
            );
        }
        assert!(Instant::now() < until, "{}", street.world.log.text());
    }
    // As a whole the merchant is there.
    let metrics = street.world.app().metrics_text();
    assert!(metrics.contains("countersign_breaker_state{merchant=\"lamps\"} 0"), "{metrics}");
    // The first is connected to now and then, by nobody's request.
    street.first.open();
    let until = Instant::now() + PATIENCE;
    while !street.world.log.text().contains(r#""event":"merchant_available""#) {
        assert!(Instant::now() < until, "{}", street.world.log.text());
        street.clock.advance(Duration::from_secs(5));
        create(&alpha, "lamps").await;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
