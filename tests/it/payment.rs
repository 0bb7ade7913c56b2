//! Minting and spending tokens.

mod attempts;
mod certificates;
mod deletion;
mod epoch_servers;
mod epoch_stalls;
mod epochs;
mod handlers;
mod keys;
mod limits;
mod redeeming;
mod risk;
mod spending;
mod views;

use std::sync::Arc;
use std::time::Duration;

use countersign::acp::version::Version;
use countersign::domain::clock::{Clock, ManualClock, SystemClock, Timestamp};
use countersign::quickstart::agent::{Agent, Prepared};
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::{CallKind, Redeem};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::schema::official::{ask, ask_prepared};
use crate::world::*;

const MINT: &str = "/agentic_commerce/delegate_payment";
const HOUR: Duration = Duration::from_secs(3600);

fn told(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.code().unwrap_or_default())
}

/// A status and a code, as [`told`] gives them.
fn refusal(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// A world whose time moves when it is told to. It begins with a whole second, because a grant ends
/// with one.
async fn at_rest(options: Options) -> (World, Arc<ManualClock>) {
    let now = Timestamp::from_unix_seconds(SystemClock.now().unix_seconds());
    let clock = Arc::new(ManualClock::new(now));
    (World::with(Options { clock: Some(clock.clone()), ..options }).await, clock)
}

async fn session(agent: &Agent) -> (String, u64) {
    create(agent, "lamps").await
}

/// A session, its total and a token that covers it.
async fn ready(agent: &Agent, card: &str) -> (String, u64, String) {
    let (session, total) = session(agent).await;
    let token = mint(agent, "lamps", &session, card, total).await;
    (session, total, token)
}

/// A complete at the first shop.
fn complete_call(agent: &Agent, session: &str, token: &str, key: &str) -> Prepared {
    let path = format!("/m/lamps/checkout_sessions/{session}/complete");
    agent.post(path, &payment(token)).key(key).prepare().unwrap()
}

/// Completes at the first shop under a fresh key.
async fn pay(agent: &Agent, session: &str, token: &str) -> Answer {
    ask(agent, agent.post(format!("/m/lamps/checkout_sessions/{session}/complete"), &payment(token))).await
}

/// Sends a complete that the shop was told to hold; returns when the shop has it, with its claim.
async fn under_way(world: &World, agent: &Agent, call: Prepared) -> (JoinHandle<Answer>, String) {
    let before = world.lamps.calls_of(CallKind::Complete).len();
    let agent = agent.clone();
    let waiting = tokio::spawn(async move { ask_prepared(&agent, &call).await });
    world.lamps.received(CallKind::Complete, before + 1).await;
    let received = world.lamps.calls_of(CallKind::Complete).pop().unwrap();
    (waiting, received.idempotency_key.unwrap())
}

async fn redeem(world: &World, redeem: &Redeem) -> Answer {
    world.lamps.redeem(redeem).await.unwrap().unwrap()
}

async fn issued(agent: &Agent, token: &str) -> Value {
    let answer = ask(agent, agent.get(format!("/agentic_commerce/issued_tokens/{token}"))).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

async fn revoke(agent: &Agent, token: &str) -> Answer {
    ask(agent, agent.post(format!("/agentic_commerce/issued_tokens/{token}/revoke"), &json!({}))).await
}

/// Mints for a session of its own with one change to a request that would pass.
async fn mint_changed(agent: &Agent, change: impl FnOnce(&mut Value)) -> Answer {
    let (session, total) = session(agent).await;
    let mut request = mint_request(GOOD_CARD, "lamps", &session, total);
    change(&mut request);
    ask(agent, agent.post(MINT, &request)).await
}

/// Sets the member at a JSON pointer, or takes it out.
fn set(pointer: &'static str, value: Option<Value>) -> impl FnOnce(&mut Value) {
    move |request| {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = request.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Some(value) => _ = parent.insert(name.to_owned(), value),
            None => assert!(parent.remove(name).is_some(), "{pointer} was not there"),
        }
    }
}

fn json_path(pointer: &str) -> String {
    format!("${}", pointer.replace('/', "."))
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_a_mint_answers_with_id_created_and_metadata_in_every_version() {
    let (world, clock) = at_rest(Options::default()).await;
    let (session, total) = session(&world.alpha()).await;
    for version in Version::NEWEST_FIRST {
        let agent = world.agent(0, |settings| settings.version = version);
        let answer = ask(&agent, agent.post(MINT, &mint_request(GOOD_CARD, "lamps", &session, total))).await;
        assert_eq!(answer.status, 201, "{version}: {}", answer.json());
        let body = answer.json();
        let names: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["created", "id", "metadata"]);
        let id = body["id"].as_str().unwrap();
        assert!(id.starts_with("vt_") && id.len() >= 25, "{id}");
        assert!(id[3..].bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
        assert_eq!(body["created"], clock.now().to_rfc3339());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_the_metadata_comes_back_with_merchant_and_key() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total) = session(&alpha).await;
    let mut request = mint_request(GOOD_CARD, "acct_lamps", &session, total);
    request["metadata"] = json!({"campaign": "q4", "é": "ü\u{1F600}", "merchant_id": "somebody else"});
    let answer = ask(&alpha, alpha.post(MINT, &request).key("key-7")).await;
    assert_eq!(answer.status, 201, "{}", answer.json());
    let expected = json!({
        "campaign": "q4", "é": "ü\u{1F600}", "merchant_id": "acct_lamps", "idempotency_key": "key-7"
    });
    assert_eq!(answer.json()["metadata"], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_every_required_member_is_required_and_named() {
    let world = World::start().await;
    let alpha = world.alpha();
    for pointer in [
        "/payment_method",
        "/payment_method/type",
        "/payment_method/card_number_type",
        "/payment_method/number",
        "/payment_method/display_card_funding_type",
        "/payment_method/metadata",
        "/allowance",
        "/allowance/reason",
        "/allowance/max_amount",
        "/allowance/currency",
        "/allowance/checkout_session_id",
        "/allowance/merchant_id",
        "/allowance/expires_at",
        "/risk_signals",
        "/metadata",
    ] {
        let answer = mint_changed(&alpha, set(pointer, None)).await;
        assert_eq!(told(&answer), refusal(400, "invalid_card"), "{pointer}: {}", answer.json());
        assert_eq!(answer.text("/param"), Some(json_path(pointer)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_p7_p8_a_wrong_shape_is_400_and_a_wrong_meaning_422() {
    let world = World::start().await;
    let alpha = world.alpha();
    for (status, pointer, value) in [
        (400, "/payment_method/type", json!("bank")),
        (400, "/payment_method/type", json!("seller_backed_saved_card")),
        (400, "/payment_method/card_number_type", json!("pan")),
        (400, "/payment_method/display_card_funding_type", json!("charge")),
        (400, "/payment_method/cvc", json!("12345")),
        (400, "/payment_method/iin", json!("424242424")),
        (400, "/payment_method/checks_performed", json!(["psd2"])),
        (400, "/payment_method/unknown", json!(1)),
        (400, "/payment_method/number", json!(4_242_424_242_424_242_u64)),
        (422, "/payment_method/number", json!("4242424242424241")),
        (422, "/payment_method/number", json!("")),
        (422, "/payment_method/exp_month", json!("13")),
        (422, "/payment_method/exp_year", json!("2020")),
        (422, "/payment_method/cvc", json!("12a")),
        (400, "/allowance/reason", json!("recurring")),
        (400, "/allowance/currency", json!("USD")),
        (400, "/allowance/currency", json!("us")),
        (400, "/allowance/max_amount", json!(10.5)),
        (400, "/allowance/max_amount", json!("100")),
        (422, "/allowance/max_amount", json!(0)),
        (422, "/allowance/max_amount", json!(-1)),
        (400, "/allowance/merchant_id", json!("m".repeat(257))),
        (400, "/allowance/expires_at", json!("tomorrow")),
        (422, "/allowance/expires_at", json!("2020-01-01T00:00:00Z")),
        (400, "/risk_signals", json!({})),
        (400, "/metadata", json!({"a": 1})),
        (400, "/metadata", json!(null)),
    ] {
        let answer = mint_changed(&alpha, set(pointer, Some(value.clone()))).await;
        assert_eq!(told(&answer), refusal(status, "invalid_card"), "{pointer} {value}: {}", answer.json());
        let param = answer.text("/param").unwrap();
        assert!(json_path(pointer).starts_with(&param), "{param} for {pointer}");
    }
    for (pointer, value) in [
        ("/allowance/max_amount", json!(1)),
        ("/allowance/max_amount", json!(9_007_199_254_740_991_u64)),
        ("/payment_method/iin", json!("42424242")),
        ("/payment_method/cvc", json!("1234")),
    ] {
        let answer = mint_changed(&alpha, set(pointer, Some(value.clone()))).await;
        assert_eq!(answer.status, 201, "{pointer} {value}: {}", answer.json());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_virtual_may_be_absent_unless_the_operator_is_strict() {
    let world = World::start().await;
    let absent = mint_changed(&world.alpha(), set("/payment_method/virtual", None)).await;
    assert_eq!(absent.status, 201, "{}", absent.json());

    let server = "[protocol]\nrequire_virtual = true".to_owned();
    let strict = World::with(Options { server, ..Options::default() }).await;
    let absent = mint_changed(&strict.alpha(), set("/payment_method/virtual", None)).await;
    assert_eq!(told(&absent), refusal(400, "invalid_card"));
    assert_eq!(absent.text("/param").as_deref(), Some("$.payment_method.virtual"));
    assert_eq!(mint_changed(&strict.alpha(), |_| {}).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_no_risk_signal_is_fine_from_2026_04_17_on() {
    let world = World::start().await;
    let (session, total) = session(&world.alpha()).await;
    for version in Version::NEWEST_FIRST {
        let agent = world.agent(0, |settings| settings.version = version);
        let mut request = mint_request(GOOD_CARD, "lamps", &session, total);
        request["risk_signals"] = json!([]);
        let answer = ask(&agent, agent.post(MINT, &request)).await;
        if version >= Version::V2026_04_17 {
            assert_eq!(answer.status, 201, "{}", answer.json());
        } else {
            assert_eq!(told(&answer), refusal(400, "invalid_card"), "{version}");
            assert_eq!(answer.text("/param").as_deref(), Some("$.risk_signals"));
        }
    }
}

/// The whole sweep is in `secrets`.
#[tokio::test(flavor = "multi_thread")]
async fn p13_card_and_cvc_are_in_no_answer_log_or_metric() {
    let world = World::start().await;
    let alpha = world.alpha();
    let number = "5555555555554444";
    let (session, total) = session(&alpha).await;
    let mut request = mint_request(number, "lamps", &session, total);
    request["payment_method"]["cvc"] = json!("9137");
    request["payment_method"]["cryptogram"] = json!("AgAAAAAAAIR8CQrXcIhbQAAAAAA=");
    let minted = ask(&alpha, alpha.post(MINT, &request)).await;
    assert_eq!(minted.status, 201, "{}", minted.json());
    let token = minted.text("/id").unwrap();
    let mut answers = vec![minted, pay(&alpha, &session, &token).await];
    answers.push(ask(&alpha, alpha.get(format!("/agentic_commerce/issued_tokens/{token}"))).await);
    for pointer in ["/payment_method/cvc", "/payment_method/exp_month", "/payment_method/number"] {
        let mut wrong = request.clone();
        wrong["payment_method"]["number"] = json!(number);
        *wrong.pointer_mut(pointer).unwrap() = json!("555555555555444491371");
        answers.push(ask(&alpha, alpha.post(MINT, &wrong)).await);
        assert!(answers.last().unwrap().status.is_client_error());
    }
    let mut seen: Vec<String> =
        answers.iter().map(|answer| format!("{:?} {}", answer.headers, answer.json())).collect();
    seen.push(world.app().metrics_text());
    seen.push(world.log.text());
    for secret in ["555555555555444", "9137", "AgAAAAAAAIR8CQrXcIhbQAAAAAA"] {
        for text in &seen {
            // Four digits may stand in a random id or a time; elsewhere they must not.
            let alone = text.match_indices(secret).find(|(at, _)| {
                let around = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '.');
                around(text[..*at].chars().next_back()) && around(text[at + secret.len()..].chars().next())
            });
            let hit = if secret.len() > 4 { text.find(secret) } else { alone.map(|(at, _)| at) };
            assert_eq!(hit, None, "{secret} in {text}");
        }
    }
}
