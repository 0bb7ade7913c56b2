//! Answers to a complete that never came, came late or were wrong.
//!
//! What they do to the token and the key, and that only evidence ends the claim.

/// More charged than was checked, and ids that belong to somebody else.
mod alarms;
/// Merchants that are at work while nobody waits for their answer.
mod at_work;
/// Answers of others, or about something else.
mod elsewhere;
/// What is told of answers that are no use.
mod faults;
/// At a merchant that ignores keys and charges whatever is sent.
mod keyless;
/// At a merchant that honours keys.
mod keys;
/// Attempts that overlap, and answers that come when the claim has moved on.
mod late;
/// Calls that charge nothing.
mod mutations;
/// What operators see of claims and end by hand.
mod operators;
/// What operators see of a session, whether or not a claim is open.
mod shown;
/// Purchases that wait for a person.
mod pending;
/// Many repeats at once.
mod storm;
/// What the log tells of a session.
mod story;
/// The outcome table, row by row.
mod table;
/// Claims that the store did not acknowledge.
mod unacknowledged;
/// The background worker, when no agent asks again.
mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::domain::clock::{Clock, ManualClock, SystemClock};
use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::{CallKind, Charge, RecordedCall, Shop};
use serde_json::json;

use crate::world::*;

/// How long a claim in doubt is held although its session shows no order: the shortest there is.
const GRACE: Duration = Duration::from_secs(60);
/// Longer than any attempt is waited for by the wall clock: its deadline and a margin.
const PAST_ATTEMPT: Duration = Duration::from_secs(31);
/// How long an attempt is waited for where the deadline is two seconds.
const AWAITED: Duration = Duration::from_secs(12);
/// The longest that the session of a claim in doubt is not read because it was a moment ago.
const BETWEEN_READS: Duration = Duration::from_secs(30);
/// How long something may take that happens by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// A world whose wall clock moves only when told to, so that a grace period costs no time.
struct Doubt {
    world: World,
    clock: Arc<ManualClock>,
}

/// One session with a token and a key to complete it with.
struct Purchase<'w> {
    world: &'w World,
    agent: Agent,
    session: String,
    total: u64,
    token: String,
    key: String,
}

impl Doubt {
    /// Shops that honour keys.
    async fn start() -> Self {
        Self::with(Options::default()).await
    }

    /// Shops that ignore keys, and charge whatever they are sent.
    async fn keyless() -> Self {
        Self::with(Options { keyless_shops: true, careless_shops: true, ..Options::default() }).await
    }

    /// A gateway that waits for an answer for as long as a test needs to do something meanwhile.
    async fn patient() -> Self {
        Self::waiting("20s", Options::default()).await
    }

    async fn with(options: Options) -> Self {
        // An answer takes milliseconds unless it is held back: the rest is for a busy machine.
        Self::waiting("2s", options).await
    }

    async fn waiting(total: &str, mut options: Options) -> Self {
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        // Tests ask with many tokens.
        options.agent.push_str("live_tokens_per_session = 1000");
        options.clock = Some(Arc::clone(&clock) as Arc<dyn Clock>);
        options.merchant = format!(
            "doubt_grace = \"{}s\"\n{}\n[merchants.deadlines]\nfirst_byte = \"{total}\"\ntotal = \"{total}\"",
            GRACE.as_secs(),
            options.merchant
        );
        Self { world: World::with(options).await, clock }
    }

    async fn purchase(&self) -> Purchase<'_> {
        self.purchase_with(GOOD_CARD).await
    }

    async fn purchase_with(&self, card: &str) -> Purchase<'_> {
        let agent = self.world.alpha();
        let (session, total) = create(&agent, "lamps").await;
        let token = mint(&agent, "lamps", &session, card, total).await;
        let key = format!("key-of-{session}");
        Purchase { world: &self.world, agent, session, total, token, key }
    }

    fn shop(&self) -> &Shop {
        &self.world.lamps
    }

    /// The value of a metric; 0 when it has not appeared.
    fn metric(&self, name: &str) -> f64 {
        let text = self.world.app().metrics_text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until the log, which is written behind the answers, holds a line with all of these.
    async fn until_logged(&self, words: &[&str]) {
        let so = |line: &str| words.iter().all(|word| line.contains(word));
        self.until("the log line", async || self.world.log.text().lines().any(so)).await;
    }

    /// Waits until it is so.
    async fn until(&self, what: &str, mut so: impl AsyncFnMut() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !so().await {
            assert!(Instant::now() < until, "{what} did not come about: {}", self.world.log.text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Purchase<'_> {
    fn path(&self, verb: &str) -> String {
        format!("/m/lamps/checkout_sessions/{}{verb}", self.session)
    }

    /// Completes, or repeats the complete, with the key of this purchase.
    async fn complete(&self) -> Answer {
        self.complete_with(&self.token, &self.key).await
    }

    async fn complete_with(&self, token: &str, key: &str) -> Answer {
        self.agent.post(self.path("/complete"), &payment(token)).key(key).send().await.unwrap()
    }

    /// A complete with the same token and a key of its own.
    async fn complete_anew(&self) -> Answer {
        complete(&self.agent, "lamps", &self.session, &self.token).await
    }

    /// A complete with a token and a key of its own; `None` when no token is given for the session
    /// any more.
    async fn complete_with_new_token(&self) -> Option<Answer> {
        let minted = try_mint(&self.agent, "lamps", &self.session, GOOD_CARD, self.total).await;
        let token = minted.text("/id").filter(|_| minted.status == 201)?;
        Some(complete(&self.agent, "lamps", &self.session, &token).await)
    }

    async fn update(&self) -> Answer {
        let body = json!({"line_items": [{"id": "item_lamp", "quantity": 2}]});
        self.agent.post(self.path(""), &body).send().await.unwrap()
    }

    async fn cancel(&self) -> Answer {
        self.agent.post(self.path("/cancel"), &json!({})).send().await.unwrap()
    }

    async fn read(&self) -> Answer {
        self.agent.get(self.path("")).send().await.unwrap()
    }

    /// The token's state. Asks the gateway only.
    async fn token_status(&self) -> String {
        let path = format!("/agentic_commerce/issued_tokens/{}", self.token);
        self.agent.get(path).send().await.unwrap().text("/status").unwrap()
    }

    /// The attempts at its card that the token has left. Asks the gateway only.
    async fn attempts_left(&self) -> u64 {
        let path = format!("/agentic_commerce/issued_tokens/{}", self.token);
        self.agent.get(path).send().await.unwrap().json()["attempts_remaining"].as_u64().unwrap()
    }

    fn charges(&self) -> Vec<Charge> {
        charges_of(&self.world.lamps, &self.session)
    }

    /// What the shop received for this session, in order.
    fn calls(&self) -> Vec<RecordedCall> {
        let calls = self.world.lamps.calls().into_iter();
        calls.filter(|call| call.path.contains(&self.session)).collect()
    }

    /// Completes that the shop received for this session.
    fn completes(&self) -> Vec<RecordedCall> {
        self.calls().into_iter().filter(|call| call.kind == CallKind::Complete).collect()
    }

    /// Everything but a repeat of the complete is refused while the claim is open.
    async fn assert_held(&self) {
        assert_eq!(self.token_status().await, "claimed");
        // The worker reads the session whenever it likes.
        let sent = || self.calls().iter().filter(|call| call.kind != CallKind::Read).count();
        let before = sent();
        assert_told(&self.complete_anew().await, 409, "token_in_use");
        assert_told(&self.complete_with_new_token().await.unwrap(), 409, "checkout_session_busy");
        for answer in [self.update().await, self.cancel().await] {
            assert_told(&answer, 409, "checkout_session_busy");
            assert!(answer.header("retry-after").is_some());
        }
        assert_eq!(sent(), before, "the merchant heard of none of it");
    }

    /// The purchase is over: charged once, its answer kept, nothing else possible.
    async fn assert_charged_once(&self) {
        let answer = self.complete().await;
        assert_eq!(answer.header("idempotent-replayed"), Some("true"), "{:?}", answer.json());
        assert_completed(&answer);
        let charges = self.charges();
        assert_eq!(charges.len(), 1, "{charges:?}");
        assert_eq!((charges[0].amount, &charges[0].token), (self.total, &self.token));
        assert_eq!(answer.text("/order/id").as_ref(), Some(&charges[0].order));
        assert_eq!(self.token_status().await, "consumed");
        assert_told(&self.complete_anew().await, 409, "checkout_session_completed");
    }
}

fn assert_completed(answer: &Answer) {
    let status = (answer.status.as_u16(), answer.text("/status"));
    assert_eq!(status, (200, Some("completed".to_owned())), "{}", answer.json());
}

/// An ACP error with this status and code.
fn assert_told(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status.as_u16(), answer.code().as_deref()), (status, Some(code)), "{}", answer.json());
}

/// Nobody knows yet: come back with the same key.
fn assert_unknown(answer: &Answer) {
    assert_told(answer, 503, "outcome_unknown");
    assert!(answer.header("retry-after").is_some());
}
