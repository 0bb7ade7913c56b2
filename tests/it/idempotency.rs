//! Idempotency, every operation that changes anything alike (rfc.agentic_checkout §6).

mod bodies;
mod outcomes;
mod scope;

use countersign::acp::version::Version;
use countersign::quickstart::agent::{Agent, Call};
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::CallKind;
use http::Method;
use serde_json::{Value, json};

use crate::schema::official::{ask, ask_prepared};
use crate::world::*;

const MINT: &str = "/agentic_commerce/delegate_payment";

/// An operation that changes something, ready to be done.
struct Operation {
    name: &'static str,
    /// What the shop sees of it; nothing of a mint.
    kind: Option<CallKind>,
    method: Method,
    path: String,
    body: Value,
}

impl Operation {
    fn call<'a>(&self, agent: &'a Agent) -> Call<'a> {
        agent.call(self.method.clone(), self.path.clone()).json(&self.body)
    }

    /// How often the shop was asked for it.
    fn upstream(&self, world: &World) -> usize {
        self.kind.map_or(0, |kind| world.lamps.calls_of(kind).len())
    }
}

/// Every operation at the first shop, each with a session or cart of its own.
async fn operations(agent: &Agent) -> Vec<Operation> {
    let create = operation("create", CallKind::Create, "checkout_sessions", lamp_order());
    let express = json!({"selected_fulfillment_options": [{"type": "shipping", "option_id": "ship_express", "item_ids": ["item_lamp"]}]});
    let (session, _) = session(agent).await;
    let update = operation("update", CallKind::Update, &format!("checkout_sessions/{session}"), express);
    let complete = ready_complete(agent).await;
    let (session, _) = self::session(agent).await;
    let cancel =
        operation("cancel", CallKind::Cancel, &format!("checkout_sessions/{session}/cancel"), json!({}));
    let items = json!({"line_items": [{"id": "item_lamp", "quantity": 2}]});
    let cart_create = operation("cart create", CallKind::CartCreate, "carts", items.clone());
    let cart = cart(agent).await;
    let mut cart_update = operation("cart update", CallKind::CartUpdate, &format!("carts/{cart}"), items);
    cart_update.method = Method::PUT;
    let cart = self::cart(agent).await;
    let cart_cancel =
        operation("cart cancel", CallKind::CartCancel, &format!("carts/{cart}/cancel"), json!({}));
    let (session, total) = self::session(agent).await;
    let mint = Operation {
        name: "mint",
        kind: None,
        method: Method::POST,
        path: MINT.to_owned(),
        body: mint_request(GOOD_CARD, "lamps", &session, total),
    };
    vec![create, update, complete, cancel, cart_create, cart_update, cart_cancel, mint]
}

fn operation(name: &'static str, kind: CallKind, path: &str, body: Value) -> Operation {
    Operation { name, kind: Some(kind), method: Method::POST, path: format!("/m/lamps/{path}"), body }
}

/// A complete of a session of its own that would charge.
async fn ready_complete(agent: &Agent) -> Operation {
    let (session, total) = session(agent).await;
    let token = mint(agent, "lamps", &session, GOOD_CARD, total).await;
    let path = format!("checkout_sessions/{session}/complete");
    operation("complete", CallKind::Complete, &path, payment(&token))
}

async fn session(agent: &Agent) -> (String, u64) {
    create(agent, "lamps").await
}

async fn cart(agent: &Agent) -> String {
    let items = json!({"line_items": [{"id": "item_lamp", "quantity": 1}]});
    let answer = ask(agent, agent.post("/m/lamps/carts", &items)).await;
    assert_eq!(answer.status, 201, "{}", answer.json());
    answer.text("/id").unwrap()
}

fn replayed(answer: &Answer) -> bool {
    answer.header("idempotent-replayed") == Some("true")
}

fn told(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.code().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_without_a_key_nothing_that_changes_anything_is_done() {
    let world = World::start().await;
    let alpha = world.alpha();
    for operation in operations(&alpha).await {
        let before = operation.upstream(&world);
        let answer = ask(&alpha, operation.call(&alpha).without_key()).await;
        assert_eq!(told(&answer), (400, "idempotency_key_required".to_owned()), "{}", operation.name);
        assert_eq!(operation.upstream(&world), before, "{}", operation.name);
    }
    let (session, total) = session(&alpha).await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    let revoke = alpha.post(format!("/agentic_commerce/issued_tokens/{token}/revoke"), &json!({}));
    let answer = ask(&alpha, revoke.without_key()).await;
    assert_eq!(told(&answer), (400, "idempotency_key_required".to_owned()));
    assert_eq!(complete(&alpha, "lamps", &session, &token).await.status, 200, "it was not withdrawn");
}

/// Before 2026-04-17 a key was a choice; where money moves it is none (`src/acp/README.md`, "Idempotency").
#[tokio::test(flavor = "multi_thread")]
async fn i1_before_2026_04_17_only_money_routes_demand_a_key() {
    let world = World::start().await;
    let alpha = world.alpha();
    let old = world.agent(0, |settings| settings.version = Version::V2026_01_30);
    for operation in operations(&alpha).await {
        let before = operation.upstream(&world);
        let answer = ask(&old, operation.call(&old).without_key()).await;
        if matches!(operation.name, "complete" | "mint") {
            assert_eq!(told(&answer), (400, "idempotency_key_required".to_owned()), "{}", operation.name);
            assert_eq!(operation.upstream(&world), before, "{}", operation.name);
        } else {
            assert!(answer.status.is_success(), "{}: {}", operation.name, answer.json());
            let call = world.lamps.calls_of(operation.kind.unwrap()).pop().unwrap();
            assert_eq!(call.idempotency_key.unwrap().len(), 43, "the merchant still gets one, of ours");
            assert_eq!(answer.header("idempotency-key"), None, "the agent sent none");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_key_has_1_to_255_visible_characters_and_stands_once() {
    let world = World::start().await;
    let alpha = world.alpha();
    let order = lamp_order();
    let create = |key: &str| alpha.post("/m/lamps/checkout_sessions", &order).key(key);
    for length in [1, 255] {
        let answer = ask(&alpha, create(&"k".repeat(length))).await;
        assert_eq!(answer.status, 201, "{length}: {}", answer.json());
        assert_eq!(answer.header("idempotency-key").unwrap().len(), length);
    }
    for key in ["k".repeat(256), String::new(), "a b".to_owned()] {
        let answer = ask(&alpha, create(&key)).await;
        assert_eq!(told(&answer), (400, "idempotency_key_required".to_owned()), "{key:?}");
    }
    let mut twice = create("one").unsigned().prepare().unwrap();
    twice.headers.append("idempotency-key", "two".parse().unwrap());
    let answer = ask_prepared(&alpha, &twice).await;
    assert_eq!(told(&answer), (400, "idempotency_key_required".to_owned()));
    assert_eq!(world.lamps.calls_of(CallKind::Create).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_a_repeat_gets_the_same_answer_and_the_merchant_hears_of_one() {
    let world = World::start().await;
    let alpha = world.alpha();
    for operation in operations(&alpha).await {
        let before = operation.upstream(&world);
        let first = ask(&alpha, operation.call(&alpha).key("once")).await;
        assert!(first.status.is_success(), "{}: {}", operation.name, first.json());
        assert!(first.header("idempotent-replayed").is_none(), "{}", operation.name);
        for _ in 0..2 {
            let again = ask(&alpha, operation.call(&alpha).key("once")).await;
            assert!(replayed(&again), "{}: {:?}", operation.name, again.headers);
            assert_eq!((again.status, &again.body), (first.status, &first.body), "{}", operation.name);
            assert_eq!(again.header("idempotency-key"), Some("once"), "{}", operation.name);
            assert_eq!(again.header("content-type"), first.header("content-type"));
        }
        let calls = usize::from(operation.kind.is_some());
        assert_eq!(operation.upstream(&world), before + calls, "{}", operation.name);
    }
}

/// A repeat whose signature is the same bytes as before is a retry, not a replay attack.
#[tokio::test(flavor = "multi_thread")]
async fn i3_the_very_same_bytes_may_be_sent_again() {
    let world = World::start().await;
    let alpha = world.alpha();
    for operation in operations(&alpha).await {
        let call = operation.call(&alpha).prepare().unwrap();
        let first = ask_prepared(&alpha, &call).await;
        let again = ask_prepared(&alpha, &call).await;
        assert!(first.status.is_success() && replayed(&again), "{}: {}", operation.name, again.json());
        assert_eq!(again.body, first.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i16_a_repeated_mint_is_one_token() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total) = session(&alpha).await;
    let request = mint_request(GOOD_CARD, "lamps", &session, total);
    let mint = |path: &str| ask(&alpha, alpha.post(path, &request).key("one"));
    let first = mint(MINT).await;
    assert_eq!(mint(MINT).await.text("/id"), first.text("/id"));
    let token = first.text("/id").unwrap();
    assert_eq!(complete(&alpha, "lamps", &session, &token).await.status, 200);
    let spent = mint(MINT).await;
    assert!(replayed(&spent), "{}", spent.json());
    assert_eq!(spent.text("/id"), Some(token), "the same token, though it is spent");
}
