//! Every official example of a checkout or `delegate_payment` request, sent through the gateway.
//!
//! It reaches the merchant byte for byte and the official answer comes back byte for byte, or it is
//! refused for a reason that is named here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign::acp::version::Version;
use countersign::domain::clock::{ManualClock, Timestamp};
use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::{Behaviour, CallKind, Redeem};
use http::Method;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::official::{ask, ask_prepared, directory_or_say, load};
use super::{MINT, paying};
use crate::world::*;

/// Examples that are no requests of the two families, and why they are not sent.
const ELSEWHERE: [(&str, &str); 5] = [
    ("delegate_authentication", "an authentication provider's, which this gateway is none of"),
    ("feed", "served by agents, called by merchants"),
    ("mcp.agentic_checkout", "envelopes of the MCP binding, whose payloads are the checkout's"),
    ("delegate_payment", "sent by the test of mints"),
    ("orders/", "orders, which no request carries"),
];

/// Why an example does not pass as it stands: status and code, and what is put in its place.
const REFUSED: [(&str, u16, &str, &str); 1] =
    [("complete", 422, "token_unknown", "its token was minted by nobody here: one that was takes its place")];

/// The file that stands for the names of a version: examples of what is not released are sent as
/// the newest.
fn version_of(path: &str) -> Version {
    path.split('/').next().and_then(Version::parse).unwrap_or(Version::LATEST)
}

/// One example as the file has it.
struct Example {
    what: String,
    version: Version,
    kind: CallKind,
    body: String,
}

/// Every example file below the directory, by its path there.
fn files(directory: &Path) -> Vec<String> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                found.push(path);
            }
        }
    }
    let root = directory.join("examples");
    let mut found = Vec::new();
    walk(&root, &mut found);
    let name = |path: &PathBuf| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<String> = found.iter().map(name).collect();
    names.sort();
    names
}

/// The requests in one file, byte for byte.
fn requests(directory: &Path, file: &str) -> Vec<Example> {
    let text = std::fs::read_to_string(directory.join("examples").join(file)).unwrap();
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&text).unwrap();
    let is_request =
        |name: &str| name == "request" || name.ends_with("_request") || name.contains("_request_");
    let requests = members.into_iter().filter(|(name, _)| is_request(name));
    let example = |(name, body): (String, Box<RawValue>)| Example {
        what: format!("{file} {name}"),
        version: version_of(file),
        kind: kind_of(&name),
        body: body.get().to_owned(),
    };
    requests.map(example).collect()
}

/// Which call a request is, by its name. What names none opens a checkout.
fn kind_of(name: &str) -> CallKind {
    let kinds =
        [("update_", CallKind::Update), ("complete_", CallKind::Complete), ("cancel_", CallKind::Cancel)];
    kinds.into_iter().find(|(prefix, _)| name.starts_with(prefix)).map_or(CallKind::Create, |(_, kind)| kind)
}

/// The official answer of a version to a kind of call, for another session.
fn official_answer(directory: &Path, version: Version, kind: CallKind, session: &str) -> String {
    let name = match kind {
        CallKind::Update => "update_checkout_session_response",
        CallKind::Complete => "complete_checkout_session_response",
        CallKind::Cancel => "cancel_checkout_session_response",
        _ => "create_checkout_session_response",
    };
    let path = directory.join(format!("examples/{version}/examples.agentic_checkout.json"));
    let members: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let answer = members[name].get();
    let id = serde_json::from_str::<Value>(answer).unwrap()["id"].as_str().unwrap().to_owned();
    answer.replace(&format!("\"{id}\""), &format!("\"{session}\""))
}

/// Lets the shop answer the next call of a kind with the official example.
fn answer_with(world: &World, directory: &Path, version: Version, kind: CallKind, session: &str) -> String {
    let body = official_answer(directory, version, kind, session);
    let status = if kind == CallKind::Create { 201 } else { 200 };
    world.lamps.behave_once(kind, Behaviour::Instead(canned(status, body.clone())));
    body
}

/// Opens a session of that id, as the shop is told to call it.
async fn open(world: &World, directory: &Path, agent: &Agent, version: Version, session: &str) {
    answer_with(world, directory, version, CallKind::Create, session);
    let opened = ask(agent, agent.post("/m/lamps/checkout_sessions", &lamp_order())).await;
    assert_eq!(
        (opened.status.as_u16(), opened.text("/id").as_deref()),
        (201, Some(session)),
        "{}",
        opened.json()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_official_checkout_request_passes_byte_for_byte_or_is_refused_for_a_named_reason() {
    let Some(directory) = directory_or_say() else { return };
    let world = World::start().await;
    let mut sent = BTreeMap::new();
    for file in files(directory) {
        if ELSEWHERE.iter().any(|(part, _)| file.contains(part)) {
            continue;
        }
        let examples = requests(directory, &file);
        assert!(!examples.is_empty(), "{file} holds no request and is not listed as one without");
        for example in examples {
            let session = format!("cs_example_{}", sent.values().sum::<usize>());
            pass(&world, directory, example, &session).await;
            *sent.entry(version_of(&file)).or_default() += 1;
        }
    }
    println!("{sent:?}");
    assert!(Version::NEWEST_FIRST.iter().all(|version| sent[version] >= 3), "{sent:?}");
}

/// Sends one example, for a session of its own.
async fn pass(world: &World, directory: &Path, example: Example, session: &str) {
    let Example { what, version, kind, mut body } = example;
    let agent = world.agent(0, |settings| settings.version = version);
    let mut path = "/m/lamps/checkout_sessions".to_owned();
    if kind != CallKind::Create {
        open(world, directory, &agent, version, session).await;
        path.push_str(&format!("/{session}"));
    }
    match kind {
        CallKind::Complete => path.push_str("/complete"),
        CallKind::Cancel => path.push_str("/cancel"),
        _ => {}
    }
    let calls = world.lamps.calls_of(kind).len();
    let send = async |body: String| ask(&agent, agent.call(Method::POST, path.clone()).body(body)).await;
    if let Some((_, status, code, _)) = REFUSED.iter().find(|(name, ..)| path.ends_with(name)) {
        let refused = send(body.clone()).await;
        assert_eq!((refused.status.as_u16(), refused.code().as_deref()), (*status, Some(*code)), "{what}");
        assert_eq!(world.lamps.calls_of(kind).len(), calls, "{what}");
        let token = mint(&agent, "lamps", session, GOOD_CARD, 1_000_000).await;
        let parsed: Value = serde_json::from_str(&body).unwrap();
        let place = ["/payment_data/instrument/credential/token", "/payment_data/token"];
        let theirs = place.iter().find_map(|place| parsed.pointer(place)).unwrap().to_string();
        assert_eq!(body.matches(&theirs).count(), 1, "{what}");
        body = body.replace(&theirs, &format!("\"{token}\""));
    }
    let expected = answer_with(world, directory, version, kind, session);
    let answer = send(body.clone()).await;
    assert!(answer.status.is_success(), "{what}: {}", answer.json());
    assert_eq!(answer.body, expected, "{what}");
    let received = world.lamps.calls_of(kind);
    assert_eq!((received.len(), &received[calls].body), (calls + 1, &body.into()), "{what}");
    assert_eq!(received[calls].headers["api-version"], version.as_str(), "{what}");
}

/// A `delegate_payment` of the official files.
struct Mandate {
    what: String,
    version: Version,
    body: String,
    parsed: Value,
    until: Timestamp,
}

/// Those of the examples, and those that stand in the schemas.
fn mandates(directory: &Path) -> Vec<Mandate> {
    let mut found = Vec::new();
    for release in Version::NEWEST_FIRST.map(Version::as_str).into_iter().chain(["unreleased"]) {
        let version = Version::parse(release).unwrap_or(Version::LATEST);
        let file = format!("{release}/examples.delegate_payment.json");
        let examples = requests(directory, &file).into_iter().map(|example| (example.what, example.body));
        let schema = load(directory, &format!("spec/{release}/json-schema/schema.delegate_payment.json"));
        let inside = schema.pointer("/$defs/DelegatePaymentRequest/example");
        let inside = inside.map(|body| (format!("{release} schema"), body.to_string()));
        for (what, body) in examples.chain(inside) {
            let parsed: Value = serde_json::from_str(&body).unwrap();
            let until = parsed["allowance"]["expires_at"].as_str().unwrap();
            let until = Timestamp::parse_rfc3339(until).unwrap();
            found.push(Mandate { what, version, body, parsed, until });
        }
    }
    found.sort_by_key(|mandate| mandate.until);
    found
}

/// At the time they were written for, at merchants and in sessions of the names they use, all pass as
/// they stand; today they are refused, because their allowances have expired.
#[tokio::test(flavor = "multi_thread")]
async fn every_official_mint_passes_in_its_own_time_and_its_card_comes_back_whole() {
    let Some(directory) = directory_or_say() else { return };
    let mandates = mandates(directory);
    let clock = Arc::new(ManualClock::new(mandates[0].until.minus(Duration::from_secs(3600))));
    let agent = "live_tokens_per_session = 100".to_owned();
    let mut world = World::closed(Options { agent, clock: Some(clock.clone()), ..Options::default() }).await;
    world.text = world.text.replace("\"acct_lamps\"", "\"acme_store\", \"acme_corp\"");
    world.open().await;
    // What has expired once stays so, whatever the clock says: all are asked for in time first.
    let mut expiring = Vec::new();
    for (number, Mandate { what, version, body, parsed, until }) in mandates.into_iter().enumerate() {
        let agent = world.agent(0, |settings| settings.version = version);
        clock.set(until.minus(Duration::from_secs(600)));
        let session = parsed["allowance"]["checkout_session_id"].as_str().unwrap();
        open(&world, directory, &agent, version, session).await;
        let call = agent.call(Method::POST, MINT).body(body).key(format!("k{number}")).prepare().unwrap();
        let minted = ask_prepared(&agent, &call).await;
        assert_eq!(minted.status, 201, "{what}: {}", minted.json());
        let mut metadata = parsed["metadata"].clone();
        metadata["merchant_id"] = parsed["allowance"]["merchant_id"].clone();
        metadata["idempotency_key"] = json!(format!("k{number}"));
        assert_eq!(minted.json()["metadata"], metadata, "{what}");

        let token = minted.text("/id").unwrap();
        // Examples share sessions: one that was opened before is read anew.
        let shown = official_answer(directory, version, CallKind::Create, session);
        world.lamps.behave(CallKind::Read, Behaviour::Instead(canned(200, shown)));
        let card = redeem_under_way(&world, &agent, version, session, &token, 1).await;
        assert_eq!(card.json()["payment_method"], parsed["payment_method"], "{what}");
        assert_eq!(card.json().get("billing_address"), parsed.get("billing_address"), "{what}");

        expiring.push((what, agent, call.body.clone(), until));
    }
    for (what, agent, body, until) in expiring {
        clock.set(until);
        let late = ask(&agent, agent.call(Method::POST, MINT).body(body)).await;
        assert_eq!(late.status, 422, "{what}");
        assert_eq!(late.text("/param").as_deref(), Some("$.allowance.expires_at"), "{what}");
    }
}

/// Redeems a token while a complete with it is under way, which then ends as the shop likes.
pub async fn redeem_under_way(
    world: &World,
    agent: &Agent,
    version: Version,
    session: &str,
    token: &str,
    amount: u64,
) -> Answer {
    let before = world.lamps.calls_of(CallKind::Complete).len();
    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let path = format!("/m/lamps/checkout_sessions/{session}/complete");
    let mut body = paying(version, token);
    // The examples' sessions list handlers of their own.
    body["payment_data"].as_object_mut().unwrap().remove("handler_id");
    let call = agent.post(path, &body).prepare().unwrap();
    let caller = agent.clone();
    let completing = tokio::spawn(async move { caller.send(&call).await.unwrap() });
    world.lamps.received(CallKind::Complete, before + 1).await;
    let claim = world.lamps.calls_of(CallKind::Complete).pop().unwrap().idempotency_key.unwrap();
    let asked = Redeem {
        token: token.to_owned(),
        claim,
        session: session.to_owned(),
        amount,
        currency: "usd".to_owned(),
    };
    let card = world.lamps.redeem(&asked).await.unwrap().unwrap();
    assert_eq!(card.status, 200, "{}", card.json());
    world.lamps.release();
    completing.await.unwrap();
    card
}
