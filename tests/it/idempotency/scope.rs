//! What a key belongs to: one agent, merchant, method and path; and what it does not depend on.

use std::collections::BTreeSet;

use countersign::acp::version::Version;
use countersign::quickstart::agent::Agent;
use countersign::quickstart::shop::{CallKind, Shop};
use serde_json::json;

use super::{MINT, operations, replayed, session, told};
use crate::schema::official::ask;
use crate::world::*;

/// The keys a shop received with calls that changed something.
fn keys(shop: &Shop) -> Vec<String> {
    shop.calls().into_iter().filter_map(|call| call.idempotency_key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn i10_one_key_on_every_path_session_cart_and_merchant_is_as_many_keys() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (first, second) = (operations(&alpha).await, operations(&alpha).await);
    let prepared = keys(&world.lamps).len();
    // Creates have no session in their path, and a mint has none either: there the key is one key.
    let second = second.into_iter().filter(|one| !matches!(one.name, "create" | "cart create" | "mint"));
    for operation in first.into_iter().chain(second) {
        let answer = ask(&alpha, operation.call(&alpha).key("k")).await;
        assert!(answer.status.is_success(), "{}: {}", operation.name, answer.json());
        assert!(!replayed(&answer), "{}", operation.name);
    }
    let (session, total) = session(&alpha).await;
    let elsewhere = mint_request(GOOD_CARD, "lamps", &session, total);
    let shared = ask(&alpha, alpha.post(MINT, &elsewhere).key("k")).await;
    assert_eq!(told(&shared), (422, "idempotency_conflict".to_owned()));
    let own = ask(&alpha, alpha.post(format!("/m/lamps{MINT}"), &elsewhere).key("k")).await;
    assert!(own.status == 201 && !replayed(&own), "under the merchant's path it is another: {}", own.json());
    let books = ask(&alpha, alpha.post("/m/books/checkout_sessions", &lamp_order()).key("k")).await;
    assert!(books.status == 201 && !replayed(&books), "{}", books.json());
    let upstream = [&keys(&world.lamps)[prepared..], &keys(&world.books)].concat();
    assert_eq!(upstream.len(), 14, "seven, five again, one of a session to mint for, one elsewhere");
    assert_eq!(upstream.iter().collect::<BTreeSet<_>>().len(), upstream.len(), "no two alike");
}

#[tokio::test(flavor = "multi_thread")]
async fn i11_two_agents_with_one_key_are_two_keys_to_the_merchant() {
    let world = World::start().await;
    let (alpha, beta) = (world.alpha(), world.beta());
    let create = async |agent: &Agent| {
        let answer = ask(agent, agent.post("/m/lamps/checkout_sessions", &lamp_order()).key("same")).await;
        assert_eq!((answer.status.as_u16(), replayed(&answer)), (201, false), "{}", answer.json());
        assert_eq!(answer.header("idempotency-key"), Some("same"));
        answer.text("/id").unwrap()
    };
    let (ours, theirs) = (create(&alpha).await, create(&beta).await);
    assert_ne!(ours, theirs);
    let keys = keys(&world.lamps);
    assert!(keys.len() == 2 && keys[0] != keys[1], "{keys:?}");
    assert!(keys.iter().all(|key| key.len() == 43 && !key.contains("same")));
    // Tokens too: the same key mints for each its own.
    let minted = async |agent: &Agent, session: &str| {
        let request = mint_request(GOOD_CARD, "lamps", session, 9_000);
        ask(agent, agent.post(MINT, &request).key("same")).await
    };
    let (first, second) = (minted(&alpha, &ours).await, minted(&beta, &theirs).await);
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (201, 201));
    assert_ne!(first.text("/id"), second.text("/id"));
}

/// The merchant named by path and by host is one merchant: a key is one key.
#[tokio::test(flavor = "multi_thread")]
async fn i10_the_same_merchant_by_host_and_by_path_is_one_scope() {
    let world = World::start().await;
    let (by_path, by_host) =
        (world.alpha(), world.agent(0, |settings| settings.authority = SHOP_HOST.to_owned()));
    let first = ask(&by_path, by_path.post("/m/lamps/checkout_sessions", &lamp_order()).key("k")).await;
    let again = ask(&by_host, by_host.post("/checkout_sessions", &lamp_order()).key("k")).await;
    assert!(replayed(&again) && again.body == first.body, "{}", again.json());
    assert_eq!(world.lamps.calls_of(CallKind::Create).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn i13_headers_are_not_part_of_a_request() {
    let world = World::start().await;
    let alpha = world.alpha();
    let older = world.agent(0, |settings| settings.version = Version::V2026_01_30);
    for operation in operations(&alpha).await {
        let first = ask(&alpha, operation.call(&alpha).key("k").header("accept-language", "en-US")).await;
        assert!(first.status.is_success(), "{}: {}", operation.name, first.json());
        let before = operation.upstream(&world);
        let calls = [
            operation.call(&alpha).key("k").header("accept-language", "de"),
            operation.call(&alpha).key("k").header("request-id", "another").header("user-agent", "other/2"),
            operation.call(&older).key("k"),
        ];
        for (agent, call) in [&alpha, &alpha, &older].into_iter().zip(calls) {
            let again = ask(agent, call).await;
            assert!(replayed(&again), "{}: {}", operation.name, again.json());
            assert_eq!(again.body, first.body, "{}", operation.name);
        }
        assert_eq!(operation.upstream(&world), before, "{}", operation.name);
    }
}

/// A retry after a lost answer is the request of the key's first use, headers and all.
#[tokio::test(flavor = "multi_thread")]
async fn i13_what_is_sent_again_has_the_headers_of_the_first_time() {
    use countersign::quickstart::shop::{Behaviour, Canned};
    let world = World::start().await;
    let alpha = world.alpha();
    let older = world.agent(0, |settings| settings.version = Version::V2026_01_30);
    let (session, _) = session(&alpha).await;
    world.lamps.behave_once(CallKind::Update, Behaviour::Instead(Canned::status(500)));
    let path = format!("/m/lamps/checkout_sessions/{session}");
    let body = json!({"buyer": {"first_name": "Grace"}});
    let first = ask(&alpha, alpha.post(&path, &body).key("k").header("accept-language", "en-GB")).await;
    assert_eq!(first.status, 500);
    let again = ask(&older, older.post(&path, &body).key("k").header("accept-language", "fr")).await;
    assert_eq!(again.status, 200, "{}", again.json());
    let calls = world.lamps.calls_of(CallKind::Update);
    for call in &calls {
        assert_eq!(call.headers["api-version"], "2026-04-17");
        assert_eq!(call.headers["accept-language"], "en-GB");
    }
    assert_eq!(calls.len(), 2);
}
