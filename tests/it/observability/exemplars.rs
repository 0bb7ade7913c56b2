//! A slow bucket leads to a trace: a Prometheus that keeps exemplars finds one beside the sample.

use std::time::Instant;

use super::panels::{PATIENCE, Prometheus, SOON};
use crate::world::child::{Gateway, free_port};
use crate::world::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_finds_the_trace_of_a_request_beside_the_bucket_that_counts_it() {
    let mut world = World::closed(Options { agent: "traces = true".to_owned(), ..Options::default() }).await;
    // What matters here is the gateway's own word: nobody need collect.
    let nobody = free_port();
    let script = format!("exec env OTEL_EXPORTER_OTLP_ENDPOINT=http://{nobody} \"$0\" \"$@\"");
    let gateway = Gateway::start_through(&mut world, script).await;
    let directory = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(directory.path(), gateway.admin).await;
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let agent = world.agent(0, |settings| settings.address = gateway.public);
    let sent = agent.post("/m/lamps/checkout_sessions", &lamp_order()).header("traceparent", parent);
    assert_eq!(sent.send().await.unwrap().status, 201);
    for (family, label, value) in [
        ("countersign_gateway_seconds", "route", "checkout_create"),
        ("countersign_upstream_seconds", "route", "checkout_create"),
        ("countersign_merchant_upstream_seconds", "merchant", "lamps"),
    ] {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("query", &format!("{family}_bucket{{{label}=\"{value}\"}}"))
            .append_pair("start", "0")
            .append_pair("end", "99999999999")
            .finish();
        let until = Instant::now() + PATIENCE;
        let found = loop {
            let data = prometheus.ask(&format!("/api/v1/query_exemplars?{query}")).await;
            if data.as_array().is_some_and(|series| !series.is_empty()) {
                break data;
            }
            assert!(Instant::now() < until, "{family}: {}", gateway.metrics().await);
            tokio::time::sleep(SOON).await;
        };
        assert_eq!(found[0]["seriesLabels"][label], value, "{found}");
        let exemplar = &found[0]["exemplars"][0];
        assert_eq!(exemplar["labels"]["trace_id"], TRACE, "{found}");
        let bound = found[0]["seriesLabels"]["le"].as_str().unwrap();
        let seconds: f64 = exemplar["value"].as_str().unwrap().parse().unwrap();
        assert!(bound == "+Inf" || seconds <= bound.parse().unwrap(), "{found}");
    }
}
