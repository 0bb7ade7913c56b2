//! Two ways in, two versions of HTTP, one behaviour.

use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::{Answer, Http};
use countersign::quickstart::shop::{Behaviour, CallKind, Canned};
use serde_json::{Value, json};

use crate::world::*;

/// The agent behind the merchant's own host, where paths have no prefix.
fn at_the_merchants_host(world: &World) -> Agent {
    world.agent(0, |settings| settings.authority = SHOP_HOST.to_owned())
}

async fn post(agent: &Agent, path: &str, body: &Value, key: &str) -> Answer {
    agent.post(path, body).key(key).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_http_carry_the_whole_purchase() {
    let world = World::start().await;
    for (http, name) in [(Http::One, "http/1.1"), (Http::Two, "h2")] {
        let agent = world.agent(0, |settings| settings.http = http);
        let (session, _) = create(&agent, "lamps").await;
        let path = format!("/m/lamps/checkout_sessions/{session}");
        let express = json!({"selected_fulfillment_options": [
            {"type": "shipping", "option_id": "ship_express", "item_ids": ["item_lamp"]}]});
        let updated = agent.post(&path, &express).send().await.unwrap();
        assert_eq!(updated.status, 200, "{}", updated.json());
        let read = agent.get(&path).send().await.unwrap();
        assert_eq!((read.status.as_u16(), read.json()), (200, updated.json()));
        let token = mint(&agent, "lamps", &session, GOOD_CARD, total_of(&read.json())).await;
        let completed = complete(&agent, "lamps", &session, &token).await;
        assert_eq!(completed.text("/status").as_deref(), Some("completed"), "{}", completed.json());
        assert_eq!(charges_of(&world.lamps, &session)[0].amount, total_of(&read.json()));
        let sample = format!("countersign_connections_total{{protocol=\"{name}\"}}");
        assert!(world.app().metrics_text().contains(&sample), "{name} was spoken");
    }
    assert_eq!(world.lamps.charges().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_used_at_the_host_is_used_at_the_prefix() {
    let world = World::start().await;
    let (host, prefix) = (at_the_merchants_host(&world), world.alpha());

    let created = post(&host, "/checkout_sessions", &lamp_order(), "create-1").await;
    let again = post(&prefix, "/m/lamps/checkout_sessions", &lamp_order(), "create-1").await;
    assert_eq!((created.status.as_u16(), again.status.as_u16()), (201, 201), "{}", created.json());
    assert_eq!((&created.body, again.header("idempotent-replayed")), (&again.body, Some("true")));
    let mut other = lamp_order();
    other["line_items"][0]["quantity"] = json!(2);
    let conflict = post(&prefix, "/m/lamps/checkout_sessions", &other, "create-1").await;
    assert_eq!((conflict.status.as_u16(), conflict.code().as_deref()), (422, Some("idempotency_conflict")));

    let session = created.text("/id").unwrap();
    let total = total_of(&created.json());
    let request = mint_request(GOOD_CARD, "acct_lamps", &session, total);
    let minted = post(&prefix, "/m/lamps/agentic_commerce/delegate_payment", &request, "mint-1").await;
    let again = post(&host, "/agentic_commerce/delegate_payment", &request, "mint-1").await;
    assert_eq!((minted.status.as_u16(), &minted.body), (201, &again.body), "{}", minted.json());
    assert_eq!(again.header("idempotent-replayed"), Some("true"));

    let request = payment(&minted.text("/id").unwrap());
    let path = format!("/checkout_sessions/{session}/complete");
    let completed = post(&host, &path, &request, "complete-1").await;
    let again = post(&prefix, &format!("/m/lamps{path}"), &request, "complete-1").await;
    assert_eq!(completed.text("/status").as_deref(), Some("completed"), "{}", completed.json());
    assert_eq!((&completed.body, again.header("idempotent-replayed")), (&again.body, Some("true")));

    for kind in [CallKind::Create, CallKind::Complete] {
        assert_eq!(world.lamps.calls_of(kind).len(), 1, "{kind:?}");
    }
    assert_eq!(charges_of(&world.lamps, &session).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_merchant_sees_one_path_and_one_key_whichever_way_a_request_came() {
    let world = World::start().await;
    world.lamps.behave(CallKind::Create, Behaviour::Instead(Canned::status(500)));
    let host = at_the_merchants_host(&world);
    assert_eq!(post(&host, "/checkout_sessions", &lamp_order(), "key").await.status, 500);
    assert_eq!(post(&world.alpha(), "/m/lamps/checkout_sessions", &lamp_order(), "key").await.status, 500);
    let calls = world.lamps.calls_of(CallKind::Create);
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].path, "/checkout_sessions");
    assert_eq!(calls[0].path, calls[1].path);
    assert_eq!(calls[0].idempotency_key, calls[1].idempotency_key);
    assert_eq!(calls[0].body, calls[1].body);
    let forwarded = |index: usize| calls[index].headers["forwarded"].to_str().unwrap().to_owned();
    assert_eq!(forwarded(0), format!("for=127.0.0.1;host=\"{SHOP_HOST}\";proto=https"));
    assert_eq!(forwarded(1), format!("for=127.0.0.1;host=\"{GATEWAY}\";proto=https"));
    assert!(calls.iter().all(|call| call.distrust.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchants_host_reaches_no_other_merchant() {
    let world = World::start().await;
    let host = at_the_merchants_host(&world);
    for path in ["/m/books/checkout_sessions", "/m/lamps/checkout_sessions"] {
        let answer = post(&host, path, &lamp_order(), "key").await;
        assert_eq!((answer.status.as_u16(), answer.code().as_deref()), (404, Some("not_found")), "{path}");
    }
    let without_prefix = post(&world.alpha(), "/checkout_sessions", &lamp_order(), "key").await;
    assert_eq!(without_prefix.status, 404);
    // A token's merchant must be the host's.
    let (session, total) = create(&world.alpha(), "books").await;
    let request = mint_request(GOOD_CARD, "books", &session, total);
    let minted = post(&host, "/agentic_commerce/delegate_payment", &request, "mint").await;
    assert_eq!(minted.status, 422, "{}", minted.json());
    assert!(world.lamps.calls().is_empty());
}
