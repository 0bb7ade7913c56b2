//! Clocks that are set while money moves.
//!
//! What is held stays held, what is live stays, what has expired stays expired, and nothing needs a
//! restart.

/// Several replicas on Redis.
mod replicas;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use countersign::domain::clock::{Clock, ManualClock, SystemClock, Timestamp};
use countersign::http_signature::SIGNATURE_INPUT;
use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::{Behaviour, CallKind};
use serde_json::json;

use crate::world::*;

const MINUTE: Duration = Duration::from_secs(60);
/// How long a claim in doubt is held: the shortest there is.
const GRACE: Duration = MINUTE;
/// More than that, in milliseconds.
const AHEAD: i64 = 110_000;
/// How long a clock that was set has to stand before it is believed, and a second.
const STANDS: Duration = Duration::from_secs(11);
/// How long something may take that happens by itself.
const PATIENCE: Duration = Duration::from_secs(30);

const MERCHANT: &str = "doubt_grace = \"60s\"\n[merchants.deadlines]\nfirst_byte = \"2s\"\ntotal = \"2s\"";

/// A gateway whose clock can be set, between shops and agents whose clocks are right.
struct Setting {
    world: World,
    gateway: Arc<ManualClock>,
    others: Arc<ManualClock>,
}

impl Setting {
    async fn start(options: Options) -> Self {
        let [gateway, others] = [(); 2].map(|()| Arc::new(ManualClock::new(SystemClock.now())));
        let options = Options {
            clock: Some(others.clone()),
            gateway_clock: Some(gateway.clone()),
            merchant: MERCHANT.to_owned(),
            ..options
        };
        Self { world: World::with(options).await, gateway, others }
    }

    /// At shops that ignore keys and charge whatever they are sent. Their clock and the agents' is
    /// half of [`AHEAD`] ahead, so that they believe a gateway that is right and one that is ahead.
    async fn keyless() -> Self {
        let options = Options { keyless_shops: true, careless_shops: true, ..Options::default() };
        let setting = Self::start(options).await;
        setting.others.step(AHEAD / 2);
        setting
    }

    /// Lets time pass for everybody.
    fn advance(&self, by: Duration) {
        self.gateway.advance(by);
        self.others.advance(by);
    }

    /// Sets the gateway's wall clock and waits until it says so.
    async fn set(&self, millis: i64) {
        let direction = if millis < 0 { "back" } else { "forward" };
        let so = |line: &str| ["clock_set", "\"ours\"", direction].iter().all(|word| line.contains(word));
        let told = || self.world.log.text().lines().filter(|line| so(line)).count();
        let before = told();
        self.gateway.step(millis);
        self.until("the event", async || told() > before).await;
    }

    /// Waits until it is so.
    async fn until(&self, what: &str, mut so: impl AsyncFnMut() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !so().await {
            assert!(Instant::now() < until, "{what} did not come about: {}", self.world.log.text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How often the gauges were set, which happens between two sweeps.
    async fn until_swept(&self) {
        let end = Instant::now() + 3 * Duration::from_secs(1);
        self.until("three ticks of the worker", async || Instant::now() >= end).await;
    }
}

/// One session, a token and a key to complete it with.
struct Purchase {
    session: String,
    token: String,
}

impl Purchase {
    async fn ready(agent: &Agent) -> Self {
        let (session, total) = create(agent, "lamps").await;
        let token = mint(agent, "lamps", &session, GOOD_CARD, total).await;
        Self { session, token }
    }

    /// One whose complete the shop never saw, or has charged.
    async fn lost(world: &World, agent: &Agent, behaviour: Behaviour) -> Self {
        let purchase = Self::ready(agent).await;
        world.lamps.behave_once(CallKind::Complete, behaviour);
        assert_eq!(purchase.complete(agent).await.status, 502);
        purchase
    }

    /// Completes, or repeats the complete.
    async fn complete(&self, agent: &Agent) -> Answer {
        let path = format!("/m/lamps/checkout_sessions/{}/complete", self.session);
        agent.post(path, &payment(&self.token)).key(format!("key-of-{}", self.session)).send().await.unwrap()
    }

    async fn token_status(&self, agent: &Agent) -> String {
        let path = format!("/agentic_commerce/issued_tokens/{}", self.token);
        agent.get(path).send().await.unwrap().text("/status").unwrap()
    }

    fn sent(&self, world: &World) -> usize {
        let completes = world.lamps.calls_of(CallKind::Complete).into_iter();
        completes.filter(|call| call.path.contains(&self.session)).count()
    }
}

fn assert_unknown(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), answer.code().as_deref()), (503, Some("outcome_unknown")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_forward_by_more_than_the_grace_ends_none() {
    let setting = Setting::keyless().await;
    let alpha = setting.world.alpha();
    let purchase = Purchase::lost(&setting.world, &alpha, Behaviour::ResetBefore).await;
    setting.set(AHEAD).await;
    assert_unknown(&purchase.complete(&alpha).await);
    // When it is believed, spans still are not reckoned by it.
    setting.advance(STANDS);
    assert_unknown(&purchase.complete(&alpha).await);
    assert_eq!(purchase.sent(&setting.world), 1);
    setting.advance(GRACE);
    let answer = purchase.complete(&alpha).await;
    assert_eq!(answer.status, 200, "the minute has passed: {}", answer.json());
    assert_eq!(charges_of(&setting.world.lamps, &purchase.session).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_holds_no_claim_for_longer() {
    let setting = Setting::keyless().await;
    let alpha = setting.world.alpha();
    let purchase = Purchase::lost(&setting.world, &alpha, Behaviour::ResetBefore).await;
    setting.set(-7_200_000).await;
    setting.advance(GRACE + Duration::from_secs(1));
    // Agents' signatures are compared with the wall clock, which was put right meanwhile.
    setting.set(7_200_000).await;
    assert_eq!(purchase.complete(&alpha).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_starts_lets_the_grace_begin_anew() {
    let mut setting = Setting::keyless().await;
    let alpha = setting.world.alpha();
    let purchase = Purchase::lost(&setting.world, &alpha, Behaviour::ResetBefore).await;
    setting.advance(GRACE - Duration::from_secs(1));
    setting.world.close().await;
    // Set forward while it was down: nobody can say how long that was.
    setting.gateway.step(AHEAD);
    setting.world.open().await;
    let alpha = setting.world.alpha();
    assert_unknown(&purchase.complete(&alpha).await);
    setting.advance(GRACE - Duration::from_secs(1));
    assert_unknown(&purchase.complete(&alpha).await);
    assert_eq!(purchase.sent(&setting.world), 1);
    setting.advance(STANDS);
    assert_eq!(purchase.complete(&alpha).await.status, 200);
    assert_eq!(charges_of(&setting.world.lamps, &purchase.session).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_nine_days_sweeps_nothing_live_and_heals_when_it_is_undone() {
    let setting = Setting::start(Options::default()).await;
    let alpha = setting.world.alpha();
    let (paid, unpaid) = (Purchase::ready(&alpha).await, Purchase::ready(&alpha).await);
    let first = paid.complete(&alpha).await;
    assert_eq!(first.status, 200);
    // Beyond the end of every idempotency answer, unfinished key and token; nine hours of epoch keys.
    const STEP: i64 = 9 * 24 * 3_600_000;
    setting.set(STEP).await;
    assert_eq!(unpaid.token_status(&alpha).await, "expired", "refused as soon as any clock says so");
    assert_eq!(unpaid.complete(&alpha).await.code().as_deref(), Some("token_expired"));
    setting.until_swept().await;
    setting.advance(STANDS);
    setting.until_swept().await;
    setting.set(-STEP).await;
    setting.advance(STANDS);
    let again = paid.complete(&alpha).await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(unpaid.token_status(&alpha).await, "active");
    // Under another key, because the answer that it had expired is the first one's.
    let answer = complete(&alpha, "lamps", &unpaid.session, &unpaid.token).await;
    assert_eq!(answer.status, 200, "the card is whole: {}", answer.json());
    assert_eq!(charges_of(&setting.world.lamps, &paid.session).len(), 1);
    assert_eq!(charges_of(&setting.world.lamps, &unpaid.session).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_revives_no_token_nor_does_a_start_by_it() {
    let mut setting = Setting::start(Options::default()).await;
    let alpha = setting.world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let mut request = mint_request(GOOD_CARD, "lamps", &session, total);
    request["allowance"]["expires_at"] = json!(setting.others.now().plus(MINUTE).to_rfc3339());
    let minted = alpha.post("/agentic_commerce/delegate_payment", &request).send().await.unwrap();
    let purchase = Purchase { session, token: minted.text("/id").unwrap() };
    setting.advance(MINUTE + Duration::from_secs(1));
    assert_eq!(purchase.token_status(&alpha).await, "expired");
    setting.set(-600_000).await;
    assert_eq!(purchase.token_status(&alpha).await, "expired");
    setting.advance(STANDS);
    // From now on the gateway's wall clock is ten minutes behind.
    let late = |setting: &Setting| setting.world.agent(0, |agent| agent.clock = setting.gateway.clone());
    assert_eq!(purchase.token_status(&late(&setting)).await, "expired");
    setting.world.close().await;
    setting.world.open().await;
    assert_eq!(purchase.token_status(&late(&setting)).await, "expired");
    let path = format!("/m/lamps/checkout_sessions/{}/complete", purchase.session);
    let answer = late(&setting).post(path, &payment(&purchase.token)).send().await.unwrap();
    assert_eq!(answer.code().as_deref(), Some("token_expired"), "{}", answer.json());
    assert_eq!(purchase.sent(&setting.world), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_compared_with_a_clock_that_was_set_only_once_it_has_stood() {
    let setting = Setting::start(Options::default()).await;
    let right = Arc::new(ManualClock::new(setting.others.now()));
    setting.set(3_600_000).await;
    create(&setting.world.alpha(), "lamps").await;
    setting.advance(STANDS);
    // It was the others that were wrong.
    setting.others.step(3_600_000);
    let of = |agent: Agent| async move {
        agent.post("/m/lamps/checkout_sessions", &lamp_order()).send().await.unwrap().status.as_u16()
    };
    assert_eq!(of(setting.world.agent(0, |agent| agent.clock = right.clone())).await, 401);
    assert_eq!(of(setting.world.alpha()).await, 201);
}

/// A clock that goes on by a second whenever it is looked at, once that was begun.
struct Creeping {
    start: Timestamp,
    looks: AtomicI64,
    creeps: AtomicBool,
}

impl Creeping {
    fn look(&self) -> Timestamp {
        let looks = if self.creeps.load(Ordering::SeqCst) {
            self.looks.fetch_add(1, Ordering::SeqCst)
        } else {
            self.looks.load(Ordering::SeqCst)
        };
        self.start.plus(Duration::from_secs(looks.unsigned_abs()))
    }
}

impl Clock for Creeping {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.look().unix_millis())
    }

    fn steady(&self) -> Timestamp {
        self.start.plus(Duration::from_secs(self.looks.load(Ordering::SeqCst).unsigned_abs()))
    }
}

/// `created` and `expires` of our signature.
fn signed(input: &str) -> [i64; 2] {
    ["created", "expires"].map(|name| {
        let (_, rest) = input.split_once(&format!(";{name}=")).unwrap();
        rest.split(';').next().unwrap().parse().unwrap()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_is_signed_with_the_instant_of_its_lease_and_for_no_longer_than_the_grace() {
    let creeping = Arc::new(Creeping {
        start: SystemClock.now(),
        looks: AtomicI64::new(0),
        creeps: AtomicBool::new(false),
    });
    let clock: Arc<dyn Clock> = creeping.clone();
    let merchant = "doubt_grace = \"100s\"\ndeadlines = { total = \"20s\" }".to_owned();
    let options = Options { gateway_clock: Some(clock), merchant, ..Options::default() };
    let world = World::with(options).await;
    let alpha = world.alpha();
    let purchase = Purchase::ready(&alpha).await;
    world.lamps.behave_once(CallKind::Complete, Behaviour::ResetBefore);
    creeping.creeps.store(true, Ordering::SeqCst);
    let lost = purchase.complete(&alpha).await;
    creeping.creeps.store(false, Ordering::SeqCst);
    assert_eq!(lost.code().as_deref(), Some("merchant_answer_lost"), "{}", lost.json());
    let sent = &world.lamps.calls_of(CallKind::Complete)[0];
    let [created, expires] = signed(sent.headers[SIGNATURE_INPUT.as_str()].to_str().unwrap());
    let opened = world.operate("GET /claims", None).await.body["claims"][0]["opened_at"].clone();
    let opened = Timestamp::parse_rfc3339(opened.as_str().unwrap()).unwrap().unix_seconds();
    assert!(created <= opened, "signed at {created}, {} s after the claim was opened", created - opened);
    assert_eq!(expires - created, 80, "expired before the claim can be given up");
}
