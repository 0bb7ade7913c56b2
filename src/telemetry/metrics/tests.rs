//! What a scrape shows.

use super::*;
use crate::domain::clock::Timestamp;

const SECOND: Duration = Duration::from_secs(1);

fn merchant(name: &str) -> MerchantId {
    MerchantId::parse(name).unwrap()
}

/// Makes every metric have a sample.
fn touch_everything(metrics: &Metrics) {
    metrics.request("checkout_complete", Some(200), SECOND, Some(SECOND));
    metrics.merchant_request(&merchant("m1"), Some(200), Some(SECOND));
    metrics.upstream_failed("reset");
    metrics.breakers_stand([(&merchant("m1"), 2)]);
    metrics.refused("unauthorized");
    metrics.signature("rfc9421", "verified");
    metrics.signature_computed("alone", 1);
    metrics.token_event("minted");
    metrics.set_tokens("active", 3);
    metrics.idempotency("fresh");
    metrics.limited("agent");
    metrics.fraud("declines", "deny", "enforced");
    metrics.store_operation("embedded", "commit", "applied", SECOND);
    metrics.claim("charged");
    metrics.set_unresolved("in_doubt", 2, SECOND);
    metrics.second_answer("order");
    metrics.session_fault("option_not_offered");
    metrics.connection_ready("h2");
    metrics.connection_refused("all");
    metrics.connection_evicted("quiet");
    metrics.handshake_failed("timeout");
    metrics.proxy_error("missing");
    metrics.set_disk_free("store", Some(2));
    metrics.set_disk_min_free("store", 1);
    metrics.certificate_ends(&Shown::Listener, Timestamp::from_unix_seconds(1));
    metrics.reloaded("applied");
    metrics.suspensions_read(1, Timestamp::from_unix_seconds(1));
    metrics.key_current_since("sealing", Timestamp::from_unix_seconds(1));
    metrics.config_in_place("digest", Timestamp::from_unix_seconds(1));
}

#[test]
fn every_metric_of_the_table_is_scraped_with_its_kind_and_nothing_else_is() {
    let metrics = Metrics::new().unwrap();
    touch_everything(&metrics);
    let text = metrics.encode();
    let (process, mut scraped): (Vec<String>, Vec<String>) = text
        .lines()
        .filter(|line| line.starts_with("# TYPE"))
        .map(str::to_owned)
        .partition(|line| line.starts_with("# TYPE process_"));
    assert!(process.contains(&"# TYPE process_resident_memory_bytes gauge".to_owned()), "{process:?}");
    let mut documented: Vec<String> = table()
        .unwrap()
        .iter()
        .map(|metric| format!("# TYPE {} {}", metric.name, format!("{:?}", metric.kind).to_lowercase()))
        .collect();
    scraped.sort();
    documented.sort();
    assert_eq!(scraped, documented);
    for metric in table().unwrap() {
        assert!(metric.name.starts_with("countersign_"), "{}", metric.name);
        assert!(
            metric.help.ends_with('.') && text.contains(&format!("# HELP {} {}\n", metric.name, metric.help))
        );
        let labels_shown =
            |line: &str| metric.labels.iter().all(|label| line.contains(&format!("{label}=\"")));
        assert!(
            text.lines().any(|line| line.starts_with(&metric.name) && labels_shown(line)),
            "{}",
            metric.name
        );
    }
}

#[test]
fn requests_are_told_by_route_and_class_and_a_hangup_is_one() {
    let metrics = Metrics::new().unwrap();
    for status in [Some(200), Some(204), Some(503), None, Some(999)] {
        metrics.request("delegate_payment", status, Duration::from_micros(70), None);
    }
    let text = metrics.encode();
    for line in [
        "countersign_requests_total{route=\"delegate_payment\",status=\"2xx\"} 2",
        "countersign_requests_total{route=\"delegate_payment\",status=\"5xx\"} 1",
        "countersign_requests_total{route=\"delegate_payment\",status=\"hangup\"} 1",
        "countersign_gateway_seconds_bucket{route=\"delegate_payment\",le=\"0.00005\"} 0",
        "countersign_gateway_seconds_bucket{route=\"delegate_payment\",le=\"0.0001\"} 5",
        "countersign_upstream_seconds_count{route=\"delegate_payment\"} 0",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
    }
}

#[test]
fn merchants_are_told_apart_only_while_configured_and_few() {
    let metrics = Metrics::new().unwrap();
    let counted = |name: &str, count: u64| {
        let line =
            format!("countersign_merchant_requests_total{{merchant=\"{name}\",status=\"2xx\"}} {count}\n");
        metrics.encode().contains(&line)
    };
    let few: Vec<MerchantId> = (0..MERCHANT_LABELS).map(|n| merchant(&format!("m{n}"))).collect();
    metrics.set_merchants(&few);
    metrics.merchant_request(&few[7], Some(200), None);
    metrics.merchant_request(&merchant("stranger"), Some(200), None);
    assert!(counted("m7", 1) && counted("any", 1) && !metrics.encode().contains("stranger"));
    // Who stays goes on where it was, and who is gone leaves no series.
    metrics.set_merchants(&few[7..9]);
    metrics.merchant_request(&few[7], Some(200), None);
    assert!(counted("m7", 2) && counted("m8", 0) && !metrics.encode().contains("\"m6\""));

    let many: Vec<MerchantId> = (0..=MERCHANT_LABELS).map(|n| merchant(&format!("n{n}"))).collect();
    metrics.set_merchants(&many);
    metrics.merchant_request(&many[7], Some(200), None);
    assert!(counted("any", 2) && !counted("n7", 1) && !metrics.encode().contains("\"m7\""));
}

#[test]
fn the_breaker_of_a_merchant_that_is_gone_leaves_no_series_and_the_worst_speaks_for_many() {
    let metrics = Metrics::new().unwrap();
    let two = [merchant("m1"), merchant("m2")];
    metrics.set_merchants(&two);
    metrics.breakers_stand([(&two[0], 2), (&two[1], 0)]);
    metrics.breaker_opened(&two[0], "failing");
    let shows = |line: &str| metrics.encode().lines().any(|shown| shown == line);
    assert!(shows("countersign_breaker_state{merchant=\"m1\"} 2"));
    assert!(shows("countersign_breaker_openings_total{cause=\"failing\",merchant=\"m1\"} 1"));
    assert!(shows("countersign_breaker_openings_total{cause=\"unanswered\",merchant=\"m2\"} 0"));
    metrics.set_merchants(&two[1..]);
    metrics.breakers_stand([(&two[1], 1)]);
    // What was under way there ends late.
    metrics.breaker_opened(&two[0], "failing");
    assert!(shows("countersign_breaker_state{merchant=\"m2\"} 1"));
    let text = metrics.encode();
    let breakers: Vec<&str> = text.lines().filter(|line| line.starts_with("countersign_breaker")).collect();
    assert!(breakers.iter().all(|line| line.contains("\"m2\"")), "{breakers:?}");

    let many: Vec<MerchantId> = (0..=MERCHANT_LABELS).map(|n| merchant(&format!("n{n}"))).collect();
    metrics.set_merchants(&many);
    metrics.breakers_stand(many.iter().map(|id| (id, u64::from(*id == many[3]))));
    metrics.breaker_opened(&many[3], "unanswered");
    assert!(shows("countersign_breaker_state{merchant=\"any\"} 1"));
    assert!(shows("countersign_breaker_openings_total{cause=\"unanswered\",merchant=\"any\"} 1"));
    assert!(!metrics.encode().contains("m2"));
}

#[test]
fn a_gauge_falls_when_its_guard_is_dropped() {
    let metrics = Metrics::new().unwrap();
    let open = metrics.connection_open();
    assert!(metrics.encode().contains("countersign_connections_open 1\n"));
    drop(open);
    assert!(metrics.encode().contains("countersign_connections_open 0\n"));
}
