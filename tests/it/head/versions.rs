//! `API-Version`, and a purchase in each of them.

use countersign::acp::version::Version;
use countersign::quickstart::shop::CallKind;
use http::Method;
use serde_json::json;

use super::{agent_of, order_in, payment_in};
use crate::world::*;

const NEWEST_FIRST: [&str; 5] = ["2026-04-17", "2026-01-30", "2026-01-16", "2025-12-12", "2025-09-29"];

/// Paths of every family that has an `API-Version`.
const VERSIONED: [(Method, &str); 6] = [
    (Method::POST, "/m/lamps/checkout_sessions"),
    (Method::GET, "/m/lamps/checkout_sessions/cs_1"),
    (Method::POST, "/m/lamps/checkout_sessions/cs_1/complete"),
    (Method::POST, "/m/lamps/carts"),
    (Method::POST, "/agentic_commerce/delegate_payment"),
    (Method::GET, "/agentic_commerce/issued_tokens/vt_abcdefghij0123456789012345678901"),
];

#[tokio::test(flavor = "multi_thread")]
async fn h3_a_missing_api_version_is_400_and_lists_all_newest_first() {
    let world = World::start().await;
    let alpha = world.alpha();
    for (method, path) in VERSIONED {
        let call = alpha.call(method.clone(), path).without("api-version");
        let call = if method == Method::GET { call } else { call.json(&json!({})) };
        let answer = call.send().await.unwrap();
        assert_eq!(answer.status, 400, "{path}: {}", answer.json());
        assert_eq!(answer.json()["type"], "invalid_request", "{path}");
        assert_eq!(answer.json()["supported_versions"], json!(NEWEST_FIRST), "{path}");
        // delegate_payment's closed list of codes has one word for both.
        let code = if path.ends_with("payment") { "unsupported_api_version" } else { "missing_api_version" };
        assert_eq!(answer.code().as_deref(), Some(code), "{path}");
    }
    assert!(world.lamps.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_a_configured_version_stands_in_for_a_missing_header() {
    let agent = "default_version = \"2026-01-30\"".to_owned();
    let world = World::with(Options { agent, ..Options::default() }).await;
    let alpha = world.alpha();
    let call = alpha.post("/m/lamps/checkout_sessions", &lamp_order()).without("api-version");
    assert_eq!(call.send().await.unwrap().status, 201);
    create(&alpha, "lamps").await;
    let received = world.lamps.calls_of(CallKind::Create);
    assert_eq!(received[0].headers["api-version"], "2026-01-30");
    assert_eq!(received[1].headers["api-version"], "2026-04-17", "what is sent counts");
    assert!(received.iter().all(|call| call.distrust.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn h4_an_unsupported_api_version_is_400_and_lists_all() {
    let world = World::start().await;
    let alpha = world.alpha();
    for (method, path) in VERSIONED {
        for version in ["2024-01-01", "2026-04-18", "latest"] {
            let call = alpha.call(method.clone(), path).without("api-version").header("api-version", version);
            let call = if method == Method::GET { call } else { call.json(&json!({})) };
            let answer = call.send().await.unwrap();
            assert_eq!(answer.status, 400, "{path} {version}");
            assert_eq!(answer.code().as_deref(), Some("unsupported_api_version"), "{path} {version}");
            assert_eq!(answer.json()["supported_versions"], json!(NEWEST_FIRST), "{path} {version}");
        }
    }
    assert!(world.lamps.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn b3_a_version_the_merchant_does_not_speak_is_refused_with_those_it_does() {
    let versions =
        "versions = [\"2025-09-29\", \"2025-12-12\", \"2026-01-16\", \"2026-01-30\", \"2026-04-17\"]";
    let fewer = "versions = [\"2025-12-12\", \"2026-01-30\"]";
    let world = World::amended(Options::default(), &[("id = \"lamps\"", versions, fewer)]).await;
    for version in [Version::V2026_04_17, Version::V2025_09_29] {
        let call =
            agent_of(&world, version).post("/m/lamps/checkout_sessions", &order_in(version)).send().await;
        let answer = call.unwrap();
        assert_eq!(answer.status, 400, "{version}");
        assert_eq!(answer.code().as_deref(), Some("unsupported_api_version"), "{version}");
        assert_eq!(answer.json()["supported_versions"], json!(["2026-01-30", "2025-12-12"]), "{version}");
    }
    assert!(world.lamps.calls().is_empty());
    let (_, total) = create(&agent_of(&world, Version::V2026_01_30), "lamps").await;
    assert!(total > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn b3_a_missing_or_unknown_version_is_refused_with_those_the_merchant_takes() {
    let versions =
        "versions = [\"2025-09-29\", \"2025-12-12\", \"2026-01-16\", \"2026-01-30\", \"2026-04-17\"]";
    let fewer = "versions = [\"2025-12-12\", \"2026-01-30\"]";
    let world = World::amended(Options::default(), &[("id = \"lamps\"", versions, fewer)]).await;
    let alpha = world.alpha();
    for (version, code) in [
        (None, "missing_api_version"),
        (Some("2024-01-01"), "unsupported_api_version"),
        (Some("latest"), "unsupported_api_version"),
    ] {
        for (method, path) in VERSIONED {
            let call = alpha.call(method.clone(), path).without("api-version");
            let call = match version {
                Some(version) => call.header("api-version", version),
                None => call,
            };
            let call = if method == Method::GET { call } else { call.json(&json!({})) };
            let answer = call.send().await.unwrap();
            assert_eq!(answer.status, 400, "{path} {version:?}");
            let at_merchant = path.starts_with("/m/lamps/");
            let code = if path.ends_with("payment") { "unsupported_api_version" } else { code };
            assert_eq!(answer.code().as_deref(), Some(code), "{path} {version:?}");
            let taken = if at_merchant { json!(["2026-01-30", "2025-12-12"]) } else { json!(NEWEST_FIRST) };
            assert_eq!(answer.json()["supported_versions"], taken, "{path} {version:?}");
        }
    }
    assert!(world.lamps.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn k2_every_api_version_carries_the_whole_purchase_and_its_token_is_enforced() {
    let world = World::start().await;
    for version in Version::NEWEST_FIRST {
        let agent = agent_of(&world, version);
        let created = agent.post("/m/lamps/checkout_sessions", &order_in(version)).send().await.unwrap();
        assert_eq!(created.status, 201, "{version}: {}", created.json());
        let (session, total) = (created.text("/id").unwrap(), total_of(&created.json()));
        let path = format!("/m/lamps/checkout_sessions/{session}/complete");

        // A cap one minor unit too low, where this version has its token, stops it.
        let short = mint(&agent, "lamps", &session, GOOD_CARD, total - 1).await;
        let denied = agent.post(&path, &payment_in(version, &short)).send().await.unwrap();
        assert_eq!(denied.status, 422, "{version}: {}", denied.json());
        assert_eq!(denied.code().as_deref(), Some("amount_exceeds_allowance"), "{version}");

        let token = mint(&agent, "lamps", &session, GOOD_CARD, total).await;
        let completed = agent.post(&path, &payment_in(version, &token)).send().await.unwrap();
        assert_eq!(
            completed.text("/status").as_deref(),
            Some("completed"),
            "{version}: {}",
            completed.json()
        );
        let charges = charges_of(&world.lamps, &session);
        assert_eq!((charges.len(), charges[0].amount), (1, total), "{version}");
    }
    let asked: Vec<_> = world.lamps.calls().into_iter().map(|call| (call.path, call.headers)).collect();
    for version in NEWEST_FIRST {
        let completes = asked.iter().filter(|(path, _)| path.ends_with("/complete"));
        let of_version = completes.filter(|(_, headers)| headers["api-version"] == version).count();
        assert_eq!(of_version, 1, "{version}: the denied one never reached the merchant");
    }
}
