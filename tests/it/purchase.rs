//! One purchase from end to end, and what may not happen on the way.

use countersign::quickstart::shop::{Behaviour, CallKind};
use serde_json::json;

use crate::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_buys_a_lamp_with_a_token() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    let answer = complete(&alpha, "lamps", &session, &token).await;
    assert_eq!(answer.status, 200, "{} {}", answer.json(), world.log.text());
    assert_eq!(answer.text("/status").as_deref(), Some("completed"), "{}", answer.json());
    let charges = world.lamps.charges();
    assert_eq!(charges.len(), 1);
    assert_eq!((charges[0].amount, charges[0].last4.as_str()), (total, "4242"));
}

/// Calls of the store so far, by what they asked for.
fn store_calls(world: &World, operation: &str) -> u64 {
    let text = world.app().metrics_text();
    let of_it = |line: &&str| {
        line.starts_with("countersign_store_operations_total{")
            && line.contains(&format!("operation=\"{operation}\""))
    };
    let counts = text.lines().filter(of_it).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    counts.sum::<f64>() as u64
}

/// What a complete costs wherever the store is: on Redis each call is a round trip. What is done behind
/// answers, now and then, only adds calls: of several completes the cheapest tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_complete_reads_twice_claims_once_and_settles_once() {
    let world = World::start().await;
    let alpha = world.alpha();
    for (nonce, writes) in [(false, 2), (true, 3)] {
        let mut cheapest = [u64::MAX; 2];
        for _ in 0..5 {
            let (session, total) = create(&alpha, "lamps").await;
            let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
            // Without a redeem, which would ask the store for itself.
            let mut shown = shown_session(&session);
            shown["status"] = json!("completed");
            world.lamps.behave_once(CallKind::Complete, Behaviour::Instead(canned(200, shown.to_string())));
            let calls = || ["read", "commit"].map(|operation| store_calls(&world, operation));
            let before = calls();
            let path = format!("/m/lamps/checkout_sessions/{session}/complete");
            let request = alpha.post(path, &payment(&token)).key(&token);
            let request = if nonce { request } else { request.without_nonce() };
            assert_eq!(request.send().await.unwrap().status, 200);
            for (least, (after, before)) in cheapest.iter_mut().zip(calls().into_iter().zip(before)) {
                *least = (*least).min(after - before);
            }
        }
        assert_eq!(cheapest, [2, writes], "with a nonce: {nonce}");
    }
}

/// A write of the embedded engine holds every batch that waited for it; Redis syncs by itself.
#[tokio::test(flavor = "multi_thread")]
async fn each_sync_of_the_embedded_store_is_timed() {
    let world = World::start().await;
    create(&world.alpha(), "lamps").await;
    let text = world.app().metrics_text();
    let count = text.lines().find_map(|line| line.strip_prefix("countersign_store_sync_seconds_count "));
    let count: u64 = count.expect("the metric").parse().unwrap();
    let is_embedded = text.contains("countersign_store_operations_total{engine=\"embedded\"");
    assert_eq!(count > 0, is_embedded, "{count}");
}
