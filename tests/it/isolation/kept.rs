//! What is kept for whom off the money routes, where the bearer alone is enough to have something kept.
//!
//! Never a request that nobody needs again, for a day, and only so much.

use std::sync::Arc;
use std::time::Duration;

use countersign::acp::version::Version;
use countersign::config::Config;
use countersign::domain::clock::{Clock, KeptClock, ManualClock, SystemClock};
use countersign::idempotency::KeyRecord;
use countersign::quickstart::agent::{Agent, Call};
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::{Behaviour, CallKind, Canned};
use countersign::records::Kind;
use countersign::records::codec::decode;
use countersign::storage;
use serde_json::{Value, json};

use crate::world::*;

const HOUR: Duration = Duration::from_secs(3600);
const CREATE: &str = "/m/lamps/checkout_sessions";

/// A world whose records can be read when it is closed.
fn embedded() -> Options {
    Options { store: Some(EMBEDDED.to_owned()), ..Options::default() }
}

/// A body with so many bytes that nobody asked for.
fn fat(mut body: Value, bytes: usize) -> Value {
    body["note"] = json!("x".repeat(bytes));
    body
}

/// A create of a thief: the bearer, and no key.
fn unsigned<'a>(agent: &'a Agent, key: &str, body: &Value) -> Call<'a> {
    agent.post(CREATE, body).key(key).unsigned()
}

fn told(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.code().unwrap_or_default())
}

/// Closes the world; what it keeps under idempotency keys, and how many bytes that takes.
async fn at_rest(world: &mut World) -> (Vec<KeyRecord>, usize) {
    world.close().await;
    let config = Config::parse(&world.text, world.directory.path());
    let config = config.map_err(|errors| errors.to_string()).unwrap();
    let clock = Arc::new(KeptClock::new(Arc::clone(&world.clock)));
    let opened = storage::open_engine(config.store, clock, Arc::new(|_| {}), Arc::new(|_| {}), &config.keys)
        .await
        .unwrap();
    let (mut records, mut bytes, mut last) = (Vec::new(), 0, None);
    loop {
        let page = opened.records.scan(Kind::Idempotency, last.as_ref(), 500).await.unwrap();
        let Some((key, _)) = page.last() else { return (records, bytes) };
        last = Some(key.clone());
        for (_, record) in page {
            bytes += record.bytes.len();
            records.push(decode(&record.bytes).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_which_nothing_was_done_is_not_kept_and_its_key_is() {
    let mut world = World::closed(embedded()).await;
    let door = Door::before(&world.lamps).await;
    world.text = door.put_before(&world.lamps, &world.text);
    world.open().await;
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    let size = 200 << 10;
    for status in [401, 403, 429] {
        world.lamps.behave_once(CallKind::Create, Behaviour::Instead(Canned::status(status)));
        let refused = unsigned(&alpha, &format!("refused-{status}"), &fat(lamp_order(), size)).send().await;
        assert!(!refused.unwrap().status.is_success());
    }
    door.shut();
    let path = format!("{CREATE}/{session}");
    let calls = [
        // First: after an update its total would be read, and nothing begun.
        alpha.post(format!("{path}/complete"), &fat(payment(&token), size)).key("complete"),
        unsigned(&alpha, "create", &fat(lamp_order(), size)),
        alpha.post(path.as_str(), &fat(json!({}), size)).key("update").unsigned(),
        alpha.post(format!("{path}/cancel"), &fat(json!({}), size)).key("cancel").unsigned(),
    ];
    for call in calls {
        let answer = call.send().await.unwrap();
        assert_eq!(told(&answer), (502, "merchant_unreachable".to_owned()), "{}", answer.json());
    }
    let other = unsigned(&alpha, "create", &lamp_order()).send().await.unwrap();
    assert_eq!(told(&other), (422, "idempotency_conflict".to_owned()));
    let (records, bytes) = at_rest(&mut world).await;
    assert_eq!(records.iter().filter(|record| record.request.is_some()).count(), 0);
    assert!(records.len() >= 9 && bytes < size, "{} records of {bytes} bytes", records.len());

    door.open();
    world.open().await;
    let alpha = world.alpha();
    let call = unsigned(&alpha, "create", &fat(lamp_order(), size)).prepare().unwrap();
    let [first, again] = [alpha.send(&call).await.unwrap(), alpha.send(&call).await.unwrap()];
    assert_eq!((first.status.as_u16(), first.header("idempotent-replayed")), (201, None));
    assert_eq!((again.header("idempotent-replayed"), &again.body), (Some("true"), &first.body));
    let complete = alpha.post(format!("{path}/complete"), &fat(payment(&token), size)).key("complete");
    assert_eq!(complete.send().await.unwrap().status, 200);
    assert_eq!(charges_of(&world.lamps, &session).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_key_of_its_agent_leaves_nothing_under_one() {
    let mut world = World::with(embedded()).await;
    let old = world.agent(0, |settings| settings.version = Version::V2026_01_30);
    let (session, _) = create(&old, "lamps").await;
    let keyless = |path: &str| old.post(path, &fat(lamp_order(), 20 << 10)).without_key().unsigned();
    let path = format!("{CREATE}/{session}");
    assert_eq!(keyless(CREATE).send().await.unwrap().status, 201);
    for (kind, path) in [(CallKind::Create, CREATE), (CallKind::Update, path.as_str())] {
        world.lamps.behave_once(kind, Behaviour::ResetAfter);
        let lost = keyless(path).send().await.unwrap();
        assert_eq!(told(&lost), (502, "merchant_answer_lost".to_owned()));
    }
    let (records, _) = at_rest(&mut world).await;
    // The first create's, which had one.
    assert_eq!(records.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_holds_its_key_for_a_day_off_the_money_routes_and_for_a_tokens_life_on_them() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let world = World::with(Options { clock: Some(clock.clone()), ..Options::default() }).await;
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    let complete = format!("{CREATE}/{session}/complete");
    for (kind, path, body) in
        [(CallKind::Create, CREATE, lamp_order()), (CallKind::Complete, complete.as_str(), payment(&token))]
    {
        world.lamps.behave_once(kind, Behaviour::Instead(Canned::status(500)));
        let lost = alpha.post(path, &body).key("k").send().await.unwrap();
        assert_eq!(lost.status, 500, "{}", lost.json());
    }
    let again = async |path: &str, body: Value| {
        told(&alpha.post(path, &fat(body, 10)).key("k").send().await.unwrap())
    };
    let conflict = (422, "idempotency_conflict".to_owned());
    clock.advance(24 * HOUR);
    assert_eq!(again(CREATE, lamp_order()).await, conflict);
    clock.advance(HOUR);
    assert_eq!(again(CREATE, lamp_order()).await.0, 201, "the key is new");
    clock.advance(5 * 24 * HOUR);
    assert_eq!(again(&complete, payment(&token)).await, conflict);
}

#[tokio::test(flavor = "multi_thread")]
async fn so_much_is_kept_for_an_agent_unsigned_and_neither_it_nor_others_lose_what_they_sign() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let options = Options { clock: Some(clock.clone()), ..Options::default() };
    let burst = "request_burst = 1000000";
    let narrow = format!("{burst}\nkept_bytes = \"64KiB\"");
    let mut world = World::amended(options, &[("[[agents]]", burst, &narrow)]).await;
    let thief = world.alpha();
    let order = fat(lamp_order(), 18 << 10);
    world.lamps.behave(CallKind::Create, Behaviour::ResetBefore);
    let lost = (502, "merchant_answer_lost".to_owned());
    for key in ["1", "2", "3"] {
        assert_eq!(told(&unsigned(&thief, key, &order).send().await.unwrap()), lost, "{key}");
    }
    let refused = unsigned(&thief, "4", &order).send().await.unwrap();
    assert_eq!(told(&refused), (429, "too_much_kept".to_owned()));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((25 * 3600..=26 * 3600).contains(&wait), "{wait}");
    assert_eq!(told(&unsigned(&thief, "1", &order).send().await.unwrap()), lost, "what was begun goes on");
    let limited = "countersign_limited_total{scope=\"agent-kept-bytes\"}";
    assert_eq!(super::metric(&world.app().metrics_text(), limited), Some(1));

    world.lamps.behave_well();
    // Others, what the agent signs, money, and what needs nothing kept.
    for agent in [world.alpha(), world.beta()] {
        let (session, total) = create(&agent, "lamps").await;
        let token = mint(&agent, "lamps", &session, GOOD_CARD, total).await;
        assert_eq!(complete(&agent, "lamps", &session, &token).await.status, 200);
    }
    let old = world.agent(0, |settings| settings.version = Version::V2026_01_30);
    assert_eq!(old.post(CREATE, &order).without_key().unsigned().send().await.unwrap().status, 201);

    // It outlives a restart, and ends by itself.
    world.reopen(&[], |text| text).await;
    let thief = world.alpha();
    let refused = unsigned(&thief, "4", &order).send().await.unwrap();
    assert_eq!(told(&refused), (429, "too_much_kept".to_owned()));
    // What gives way to its answer takes no more than that.
    assert_eq!(unsigned(&thief, "1", &order).send().await.unwrap().status, 201);
    assert_eq!(unsigned(&thief, "4", &order).send().await.unwrap().status, 201);
    clock.advance(Duration::from_secs(26 * 3600));
    for key in ["5", "6", "7"] {
        assert_eq!(unsigned(&thief, key, &order).send().await.unwrap().status, 201, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn so_much_is_kept_in_all_and_no_more() {
    let world = World::amended(
        Options::default(),
        &[("[limits]", "address_request_burst", "kept_bytes = \"64KiB\"\naddress_request_burst")],
    )
    .await;
    let (alpha, beta) = (world.alpha(), world.beta());
    let order = fat(lamp_order(), 18 << 10);
    let (session, total) = create(&beta, "lamps").await;
    world.lamps.behave(CallKind::Create, Behaviour::ResetBefore);
    let mut answers = Vec::new();
    for key in ["1", "2", "3", "4"] {
        answers.push(told(&unsigned(&alpha, key, &order).send().await.unwrap()).0);
    }
    assert_eq!(answers, [502, 502, 502, 503]);
    let refused = beta.post(CREATE, &order).send().await.unwrap();
    assert_eq!(told(&refused), (503, "too_much_kept".to_owned()));
    assert!(refused.header("retry-after").is_some());
    let token = mint(&beta, "lamps", &session, GOOD_CARD, total).await;
    assert_eq!(complete(&beta, "lamps", &session, &token).await.status, 200, "money moves");
    let kept = "countersign_kept_bytes";
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while super::metric(&world.app().metrics_text(), kept).is_none_or(|bytes| bytes < 55_000) {
        assert!(std::time::Instant::now() < until, "{:?}", super::metric(&world.app().metrics_text(), kept));
        tokio::time::sleep(super::LOOK_AGAIN).await;
    }
}
