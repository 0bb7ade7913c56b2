//! The admin listener: metrics after a purchase, liveness, readiness.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wire::PATIENCE;
use crate::world::child::LOOK_AGAIN;
use crate::world::*;

/// A plain GET: status, and everything behind the head.
async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The samples of a scrape by name and labels.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_is_seen_in_the_metrics() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    let key = "complete-1";
    let complete =
        || alpha.post(format!("/m/lamps/checkout_sessions/{session}/complete"), &payment(&token)).key(key);
    assert_eq!(complete().send().await.unwrap().status, 200);
    assert_eq!(complete().send().await.unwrap().status, 200);
    assert_eq!(
        alpha.get("/m/lamps/checkout_sessions/cs_unknown").unsigned().send().await.unwrap().status,
        404
    );

    let admin = world.app().admin_address();
    let (status, text) = get(admin, "/metrics").await;
    assert_eq!(status, 200);
    let samples = samples(&text);
    for (name, value) in [
        ("requests_total{route=\"checkout_create\",status=\"2xx\"}", 1.0),
        ("requests_total{route=\"delegate_payment\",status=\"2xx\"}", 1.0),
        ("requests_total{route=\"checkout_complete\",status=\"2xx\"}", 2.0),
        ("requests_total{route=\"checkout_get\",status=\"4xx\"}", 1.0),
        ("requests_total{route=\"redeem_token\",status=\"2xx\"}", 1.0),
        ("gateway_seconds_count{route=\"checkout_complete\"}", 2.0),
        ("upstream_seconds_count{route=\"checkout_complete\"}", 1.0),
        ("merchant_requests_total{merchant=\"lamps\",status=\"2xx\"}", 4.0),
        ("refusals_total{reason=\"checkout_session_not_found\"}", 1.0),
        ("signatures_total{outcome=\"verified\",profile=\"rfc9421\"}", 4.0),
        ("signatures_total{outcome=\"absent\",profile=\"none\"}", 1.0),
        ("token_events_total{event=\"minted\"}", 1.0),
        ("token_events_total{event=\"redeemed\"}", 1.0),
        ("token_events_total{event=\"consumed\"}", 1.0),
        ("idempotency_total{result=\"fresh\"}", 3.0),
        ("idempotency_total{result=\"replayed\"}", 1.0),
        ("claims_total{outcome=\"charged\"}", 1.0),
        ("overcharges_total", 0.0),
        ("ownership_conflicts_total", 0.0),
        ("requests_under_way", 0.0),
        (concat!("build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ] {
        let found = samples.get(format!("countersign_{name}").as_str());
        assert_eq!(found, Some(&value), "{name} in\n{text}");
    }
    let commits = samples.iter().filter(|(name, _)| name.starts_with("countersign_store_operations_total{"));
    assert!(commits.map(|(_, count)| count).sum::<f64>() > 0.0, "{text}");
    // By route, not by path: nothing of a session, token, key or agent is a label.
    for secret in [session.as_str(), &token, key, "alpha", "gateway.test", "4242"] {
        assert!(!text.contains(secret), "{secret} in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_scrape_of_a_fresh_gateway_shows_every_counter_of_a_closed_set_at_nothing() {
    let world = World::start().await;
    let text = world.app().metrics_text();
    let samples = samples(&text);
    // The store was opened: of it something was asked, and nothing failed.
    let engine = if text.contains("engine=\"redis\"") { "redis" } else { "embedded" };
    let failed = |outcome: &str| {
        let labels = format!("{{engine=\"{engine}\",operation=\"commit\",outcome=\"{outcome}\"}}");
        samples.get(format!("countersign_store_operations_total{labels}").as_str())
    };
    for outcome in ["conflict", "unavailable", "no_space", "unacknowledged", "corrupt", "changed"] {
        assert_eq!(failed(outcome), Some(&0.0), "{outcome} in\n{text}");
    }
    let zero = |name: &str| {
        let found = samples.get(format!("countersign_{name}").as_str());
        assert_eq!(found, Some(&0.0), "{name} in\n{text}");
    };
    for name in [
        "requests_total{route=\"checkout_complete\",status=\"5xx\"}",
        "requests_total{route=\"unknown\",status=\"hangup\"}",
        "merchant_requests_total{merchant=\"lamps\",status=\"5xx\"}",
        "breaker_openings_total{cause=\"unanswered\",merchant=\"lamps\"}",
        "refusals_total{reason=\"signature_outside_window\"}",
        "refusals_total{reason=\"operator_role\"}",
        "signatures_total{outcome=\"absent\",profile=\"none\"}",
        "signatures_total{outcome=\"verified\",profile=\"acp-bound\"}",
        "signatures_computed_total{how=\"split\"}",
        "fraud_total{mode=\"shadow\",rule=\"shared_card\",verdict=\"review\"}",
        "fraud_total{mode=\"enforced\",rule=\"card_testing\",verdict=\"deny\"}",
        "overcharges_total",
        "ownership_conflicts_total",
        "log_lines_dropped_total",
        "suspensions",
    ] {
        zero(name);
    }
    for (family, label, words) in [
        (
            "claims_total",
            "outcome",
            &["charged", "charged_late", "in_doubt", "pending", "released", "stale"][..],
        ),
        ("token_events_total", "event", &["consumed", "minted", "redeemed", "redeemed_again", "revoked"]),
        ("idempotency_total", "result", &["conflict", "fresh", "in_flight", "replayed", "resumed"]),
        ("second_answers_total", "what", &["answer", "order"]),
        ("session_faults_total", "fault", &["authentication_metadata_missing", "option_not_offered"]),
        ("connections_total", "protocol", &["h2", "http/1.1"]),
        ("connections_refused_total", "reason", &["address", "all", "network", "rate", "resources"]),
        ("connections_evicted_total", "reason", &["quiet", "unread"]),
        ("handshake_failures_total", "reason", &["alert", "alpn", "certificate", "timeout"]),
        ("proxy_errors_total", "reason", &["closed", "malformed", "missing"]),
        ("spans_total", "outcome", &["exported", "lost", "not_taken"]),
        ("config_reloads_total", "outcome", &["applied", "config_invalid", "reload_refused"]),
        (
            "upstream_failures_total",
            "reason",
            &["credential_refused", "reset", "tls_wrong_name", "unresolved"],
        ),
    ] {
        words.iter().for_each(|word| zero(&format!("{family}{{{label}=\"{word}\"}}")));
    }
    for scope in countersign::limit::LimitScope::ALL {
        zero(&format!("limited_total{{scope=\"{}\"}}", scope.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_shows_how_much_room_is_left_for_the_store_and_for_hourly_keys_and_how_much_must_be() {
    let world = World::with(Options { store: Some(EMBEDDED.to_owned()), ..Options::default() }).await;
    let until = Instant::now() + PATIENCE;
    loop {
        let text = world.app().metrics_text();
        let samples = samples(&text);
        let bytes = |which: &str, directory: &str| {
            samples
                .get(format!("countersign_disk_{which}bytes{{directory=\"{directory}\"}}").as_str())
                .copied()
        };
        assert_eq!(bytes("min_free_", "store"), Some(f64::from(16 << 20)), "as configured");
        assert!(bytes("min_free_", "epochs") > Some(0.0));
        // Told by a thread of its own, which need not have been first.
        if let (Some(store), Some(epochs)) = (bytes("free_", "store"), bytes("free_", "epochs")) {
            let stat = rustix::fs::statvfs(world.directory.path()).unwrap();
            let size = (stat.f_blocks * stat.f_frsize) as f64;
            assert!(store > 0.0 && store <= size && epochs > 0.0 && epochs <= size, "{text}");
            return;
        }
        assert!(Instant::now() < until, "{text}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn liveness_and_readiness_are_told_to_operators_alone() {
    let world = World::start().await;
    let admin = world.app().admin_address();
    assert_eq!(get(admin, "/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(get(admin, "/readyz").await, (200, "ok\n".to_owned()));
    assert_eq!(get(admin, "/m/lamps/checkout_sessions").await.0, 404);
    for path in ["/metrics", "/livez", "/readyz"] {
        assert_eq!(world.alpha().get(path).send().await.unwrap().status, 404, "{path} is not for agents");
    }
}
