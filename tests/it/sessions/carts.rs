//! Carts: forwarded, owned, never charged.

use countersign::acp::version::Version;
use countersign::quickstart::shop::{Behaviour, CallKind, Canned};
use http::Method;
use serde_json::{Value, json};

use super::post;
use crate::world::*;

const CARTS: &str = "/m/lamps/carts";

fn cart_of(items: &[(&str, u64)]) -> Value {
    let items: Vec<Value> =
        items.iter().map(|(id, quantity)| json!({"id": id, "quantity": quantity})).collect();
    json!({"line_items": items, "currency": "usd"})
}

#[tokio::test(flavor = "multi_thread")]
async fn k15_put_replaces_the_whole_cart_and_needs_a_key() {
    let world = World::start().await;
    let alpha = world.alpha();
    let mut first = cart_of(&[("item_lamp", 1), ("item_notebook", 2)]);
    first["buyer"] = json!({"email": "ada@example.com"});
    let created = post(&alpha, CARTS, &first).await;
    assert_eq!(created.status, 201);
    assert_eq!(created.json()["buyer"]["email"], "ada@example.com");
    let path = format!("{CARTS}/{}", created.text("/id").unwrap());

    let second = cart_of(&[("item_print", 1)]);
    let keyless = alpha.call(Method::PUT, &path).json(&second).without_key().send().await.unwrap();
    assert_eq!((keyless.status.as_u16(), keyless.code().as_deref()), (400, Some("idempotency_key_required")));
    assert!(world.lamps.calls_of(CallKind::CartUpdate).is_empty());
    let older = world.agent(0, |settings| settings.version = Version::V2026_01_30);
    let put = |key: &'static str, body: &Value| alpha.call(Method::PUT, &path).json(body).key(key);
    let replaced = put("put-1", &second).send().await.unwrap();
    assert_eq!(replaced.status, 200);
    assert_eq!(replaced.json()["line_items"].as_array().unwrap().len(), 1);
    assert_eq!(replaced.json()["buyer"], Value::Null, "what is left out is gone");
    let call = world.lamps.calls_of(CallKind::CartUpdate).pop().unwrap();
    assert_eq!((call.method, call.body), (Method::PUT, second.to_string().into()));

    let again = put("put-1", &second).send().await.unwrap();
    assert_eq!((&again.body, again.header("idempotent-replayed")), (&replaced.body, Some("true")));
    assert_eq!(put("put-1", &first).send().await.unwrap().code().as_deref(), Some("idempotency_conflict"));
    assert_eq!(world.lamps.calls_of(CallKind::CartUpdate).len(), 1);
    assert_eq!(alpha.get(&path).send().await.unwrap().body, replaced.body);
    let unkeyed = older.call(Method::PUT, &path).json(&first).without_key().send().await.unwrap();
    assert_eq!(unkeyed.status, 200, "before 2026-04-17 a key is optional");
}

#[tokio::test(flavor = "multi_thread")]
async fn k15_a_cart_that_is_gone_is_404_in_the_merchants_words() {
    let world = World::start().await;
    let alpha = world.alpha();
    let created = post(&alpha, CARTS, &cart_of(&[("item_lamp", 1)])).await;
    let path = format!("{CARTS}/{}", created.text("/id").unwrap());
    let canceled = post(&alpha, format!("{path}/cancel"), &json!({})).await;
    assert_eq!((canceled.status.as_u16(), &canceled.json()["id"]), (200, &created.json()["id"]));
    for call in [
        alpha.get(&path),
        alpha.call(Method::PUT, &path).json(&cart_of(&[("item_lamp", 1)])),
        alpha.post(format!("{path}/cancel"), &json!({})),
    ] {
        let answer = call.send().await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.code().as_deref()), (404, Some("not_found")));
    }
    world.lamps.behave_once(CallKind::CartRead, Behaviour::Instead(Canned::status(404)));
    let expired = alpha.get(&path).send().await.unwrap();
    assert_eq!((expired.status.as_u16(), expired.code().as_deref()), (404, Some("told_to")));
}

#[tokio::test(flavor = "multi_thread")]
async fn k15_messages_of_a_cart_are_kept() {
    let world = World::start().await;
    let alpha = world.alpha();
    let created = post(&alpha, CARTS, &cart_of(&[("item_lamp", 1), ("item_teapot", 1)])).await;
    assert_eq!(created.status, 201);
    let messages = created.json()["messages"].clone();
    assert_eq!(
        (&messages[0]["code"], &messages[0]["param"]),
        (&json!("out_of_stock"), &json!("$.line_items[1]"))
    );
    let path = format!("{CARTS}/{}", created.text("/id").unwrap());
    assert_eq!(alpha.get(&path).send().await.unwrap().json()["messages"], messages);
    let put = alpha.call(Method::PUT, &path).json(&cart_of(&[("item_print", 2)])).send().await.unwrap();
    assert_eq!(put.json()["messages"][0]["code"], "out_of_stock");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cart_belongs_to_the_agent_that_made_it() {
    let world = World::start().await;
    let created = post(&world.alpha(), CARTS, &cart_of(&[("item_lamp", 1)])).await;
    let path = format!("{CARTS}/{}", created.text("/id").unwrap());
    let beta = world.beta();
    let before = world.lamps.calls().len();
    for call in [
        beta.get(&path),
        beta.call(Method::PUT, &path).json(&cart_of(&[("item_lamp", 9)])),
        beta.post(format!("{path}/cancel"), &json!({})),
    ] {
        let answer = call.send().await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.code().as_deref()), (404, Some("cart_not_found")));
    }
    // Nor is a cart a session, for its own agent.
    let as_session = path.replace("carts", "checkout_sessions");
    assert_eq!(world.alpha().get(as_session).send().await.unwrap().status, 404);
    assert_eq!(world.lamps.calls().len(), before);
}
