//! What comes back beside the body: echoes, and of the merchant's headers those that are allowed.

use std::collections::BTreeSet;

use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::{Behaviour, CallKind, Canned};
use http::Method;
use serde_json::json;

use super::names;
use crate::world::*;

const SESSIONS: &str = "/m/lamps/checkout_sessions";

/// Headers of the gateway's own on every answer to an agent that was admitted.
const OURS: [&str; 8] = [
    "cache-control",
    "content-length",
    "content-type",
    "date",
    "idempotency-key",
    "ratelimit",
    "ratelimit-policy",
    "request-id",
];

/// What a merchant might add.
fn with_everything(canned: Canned) -> Canned {
    let headers = [
        ("set-cookie", "session=1"),
        ("location", "https://lamps.test/checkout"),
        ("signature", "sig1=:AAAA:"),
        ("signature-input", "sig1=();created=1"),
        ("merchant-signature", "t=1,v1=00"),
        ("idempotency-key", "the-derived-key"),
        ("idempotent-replayed", "true"),
        ("request-id", "req-of-the-merchant"),
        ("authorization", "Bearer of-the-merchant"),
        ("www-authenticate", "Bearer"),
        ("server", "nginx"),
        ("via", "1.1 cache"),
        ("x-powered-by", "PHP"),
        ("etag", "\"1\""),
        ("access-control-allow-origin", "*"),
        ("alt-svc", "h3=\":443\""),
        ("ratelimit", "\"theirs\";r=1"),
        ("countersign-context", "agent=\"alpha\""),
        ("content-language", "de"),
    ];
    headers.into_iter().fold(canned, |canned, (name, value)| canned.with_header(name, value))
}

async fn create_with_key(agent: &Agent, key: &str) -> Answer {
    agent.post(SESSIONS, &lamp_order()).key(key).header("request-id", "req-1").send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_carry_allowed_headers_and_no_others() {
    let world = World::start().await;
    let alpha = world.alpha();
    let success = with_everything(canned(201, shown_session("cs_1").to_string()));
    world.lamps.behave_once(CallKind::Create, Behaviour::Instead(success));
    let answer = create_with_key(&alpha, "key-1").await;
    let mut expected: BTreeSet<&str> = OURS.into();
    expected.insert("content-language");
    assert_eq!((answer.status.as_u16(), names(&answer.headers)), (201, expected));
    assert_eq!(answer.header("idempotency-key"), Some("key-1"));
    assert_eq!(answer.header("request-id"), Some("req-1"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.header("ratelimit").unwrap().starts_with("\"agent\";"));

    // An error is the gateway's own in the merchant's words: not even a language is left.
    let refusal = with_everything(Canned::status(422)).with_header("retry-after", "7");
    world.lamps.behave_once(CallKind::Create, Behaviour::Instead(refusal));
    let answer = create_with_key(&alpha, "key-2").await;
    let mut expected: BTreeSet<&str> = OURS.into();
    expected.insert("retry-after");
    assert_eq!((answer.status.as_u16(), names(&answer.headers)), (422, expected));
    assert_eq!((answer.header("request-id"), answer.header("retry-after")), (Some("req-1"), Some("7")));

    let replayed = create_with_key(&alpha, "key-1").await;
    let mut expected: BTreeSet<&str> = OURS.into();
    expected.insert("idempotent-replayed");
    assert_eq!((replayed.status.as_u16(), names(&replayed.headers)), (201, expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn h5_a_request_id_is_echoed_or_made_up() {
    let world = World::start().await;
    let alpha = world.alpha();
    let calls = || {
        let unknown = alpha.get(format!("{SESSIONS}/cs_unknown"));
        [
            alpha.post(SESSIONS, &lamp_order()),
            unknown,
            alpha.get("/nowhere"),
            alpha.get("/.well-known/acp.json"),
        ]
    };
    for call in calls() {
        let answer = call.header("request-id", "my:request/1").send().await.unwrap();
        assert_eq!(answer.header("request-id"), Some("my:request/1"), "{}", answer.status);
    }
    let mut made_up = BTreeSet::new();
    for call in calls() {
        let answer = call.send().await.unwrap();
        let id = answer.header("request-id").unwrap().to_owned();
        assert!(id.len() > 20, "{id}");
        assert!(made_up.insert(id), "each request has its own");
    }
    // Unusable ones are as good as absent.
    let twice = alpha.get("/nowhere").header("request-id", "a").header("request-id", "b");
    for call in [
        twice,
        alpha.get("/nowhere").header("request-id", "a b"),
        alpha.get("/nowhere").header("request-id", "x".repeat(129)),
    ] {
        let answer = call.send().await.unwrap();
        assert!(answer.header("request-id").unwrap().starts_with("req_"), "{:?}", answer.headers);
    }
    // The merchant is told the same one.
    assert_eq!(world.lamps.calls_of(CallKind::Create)[0].headers["request-id"], "my:request/1");
    let told = world.lamps.calls_of(CallKind::Create)[1].headers["request-id"].to_str().unwrap().to_owned();
    assert!(made_up.contains(&told));
}

#[tokio::test(flavor = "multi_thread")]
async fn h6_the_agents_own_key_is_echoed_whatever_the_answer() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let path = format!("{SESSIONS}/{session}");
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    let mandate = mint_request(GOOD_CARD, "lamps", &session, total);
    let order = lamp_order();
    let pay = payment(&token);
    let mut other = lamp_order();
    other["line_items"][0]["quantity"] = json!(3);
    world.lamps.behave_once(CallKind::Cancel, Behaviour::Instead(Canned::status(500)));
    let complete = format!("{path}/complete");
    let cancel = format!("{path}/cancel");
    let cart = json!({"line_items": [{"id": "item_lamp"}]});
    for (path, body, status, note) in [
        (SESSIONS, &order, 201, "first"),
        (SESSIONS, &order, 201, "replayed"),
        (SESSIONS, &other, 422, "conflict"),
        (path.as_str(), &order, 200, "update"),
        (complete.as_str(), &payment("vt_unknown"), 422, "token unknown"),
        (cancel.as_str(), &json!({}), 500, "the merchant failed"),
        (complete.as_str(), &pay, 200, "complete"),
        (complete.as_str(), &pay, 200, "complete replayed"),
        ("/agentic_commerce/delegate_payment", &json!({}), 400, "malformed mint"),
        ("/agentic_commerce/delegate_payment", &mandate, 422, "the session has ended"),
        ("/m/lamps/carts", &cart, 201, "cart"),
        ("/m/nobody/checkout_sessions", &order, 404, "no such merchant"),
        ("/nowhere", &order, 404, "no such path"),
    ] {
        let answer = alpha.post(path, body).key("my-key").send().await.unwrap();
        assert_eq!(answer.status, status, "{note}: {}", answer.json());
        assert_eq!(answer.header("idempotency-key"), Some("my-key"), "{note}");
    }
    let stranger = alpha.post(SESSIONS, &order).key("my-key").without("authorization").send().await.unwrap();
    assert_eq!((stranger.status.as_u16(), stranger.header("idempotency-key")), (401, Some("my-key")));
    let put = alpha
        .call(Method::PUT, "/m/lamps/carts/cart_unknown")
        .json(&cart)
        .key("my-key")
        .send()
        .await
        .unwrap();
    assert_eq!((put.status.as_u16(), put.header("idempotency-key")), (404, Some("my-key")));
    let calls = world.lamps.calls();
    assert!(calls.iter().all(|call| call.idempotency_key.as_deref() != Some("my-key")));
}

#[tokio::test(flavor = "multi_thread")]
async fn h7_accept_language_reaches_the_merchant_unchanged() {
    let world = World::start().await;
    let alpha = world.alpha();
    for (index, language) in ["en-us", "de-CH, de;q=0.9, *;q=0.1", "tlh"].into_iter().enumerate() {
        let call = alpha.post(SESSIONS, &lamp_order()).header("accept-language", language);
        assert_eq!(call.send().await.unwrap().status, 201);
        assert_eq!(world.lamps.calls_of(CallKind::Create)[index].headers["accept-language"], language);
    }
}
