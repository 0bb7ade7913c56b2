//! What a collector of traces is told, and that no request waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use countersign::quickstart::agent::Agent;
use countersign::quickstart::shop::{Behaviour, CallKind, Canned, Shop};
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::world::child::{Gateway, LOOK_AGAIN};
use crate::world::collector::{Collector, Mood};
use crate::world::*;

const PATIENCE: Duration = Duration::from_secs(60);
/// The first agent's own trace, which it keeps.
const KEPT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A world whose gateway, a process of its own, tells this collector.
struct Traced {
    world: World,
    gateway: Gateway,
}

impl Traced {
    async fn start(collector: &Collector, options: Options, more: &str, variables: &str) -> Self {
        let mut world = World::closed(options).await;
        world.text.push_str(more);
        let gateway = Gateway::start_through(&mut world, collector.script(variables)).await;
        Self { world, gateway }
    }

    fn agent(&self) -> Agent {
        self.world.agent(0, |settings| settings.address = self.gateway.public)
    }

    async fn ends(mut self) -> (World, String) {
        self.gateway.terminate();
        let status = self.gateway.exited(PATIENCE).await;
        assert!(status.success(), "{status:?}");
        (self.world, self.gateway.log())
    }
}

fn honoured() -> Options {
    Options { agent: "traces = true".to_owned(), ..Options::default() }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A span's attributes, as text.
fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text = |value: &AnyValue| match value.value.clone().unwrap() {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    span.attributes.iter().map(|one| (one.key.as_str(), text(one.value.as_ref().unwrap()))).collect()
}

fn names(trace: &[Span]) -> BTreeSet<&str> {
    trace.iter().map(|span| span.name.as_str()).collect()
}

/// The `traceparent` of the last call of a kind.
fn received(shop: &Shop, kind: CallKind) -> Option<String> {
    let call = shop.calls_of(kind).pop().unwrap();
    call.headers.get("traceparent").map(|value| value.to_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_joins_its_agents_trace_with_the_merchants_request_as_its_child_and_no_secret() {
    let collector = Collector::open(Mood::Takes).await;
    let traced = Traced::start(&collector, honoured(), "", "").await;
    let agent = traced.agent();
    let (session, total) = create(&agent, "lamps").await;
    let token = mint(&agent, "lamps", &session, GOOD_CARD, total).await;
    let path = format!("/m/lamps/checkout_sessions/{session}/complete");
    let paid = agent.post(path, &payment(&token)).header("traceparent", KEPT).send().await.unwrap();
    assert_eq!(paid.status, 200, "{:?}", paid.json());
    collector.until(|it| it.traces("POST /checkout_sessions/{id}/complete").len() == 1).await;
    let trace = collector.traces("POST /checkout_sessions/{id}/complete").pop().unwrap();
    let root = &trace[0];
    assert_eq!(hexadecimal(&root.trace_id), KEPT[3..35]);
    assert_eq!(hexadecimal(&root.parent_span_id), KEPT[36..52]);
    assert!(trace.iter().all(|span| span.trace_id == root.trace_id));
    let stages = ["admit", "verify", "limit", "look", "rules", "claim", "upstream", "settle"];
    assert!(stages.iter().all(|stage| names(&trace).contains(stage)), "{:?}", names(&trace));
    let upstream = trace.iter().find(|span| span.kind == SpanKind::Client as i32).unwrap();
    let told = format!("00-{}-{}-01", &KEPT[3..35], hexadecimal(&upstream.span_id));
    // In the words that every tool knows, with no id in a route.
    let (said, asked) = (attributes(root), attributes(upstream));
    assert_eq!((said["http.request.method"].as_str(), said["url.scheme"].as_str()), ("POST", "https"));
    assert_eq!(said["http.route"], "/checkout_sessions/{id}/complete");
    assert_eq!(
        (asked["http.request.method"].as_str(), asked["server.address"].as_str()),
        ("POST", "127.0.0.1")
    );
    assert_eq!(asked["server.port"], traced.world.lamps.address().port().to_string());
    assert_eq!(received(&traced.world.lamps, CallKind::Complete), Some(told));
    // Who named no trace has one of its own, of which the merchant hears too.
    collector.until(|it| it.traces("POST /checkout_sessions").len() == 1).await;
    let created = collector.traces("POST /checkout_sessions").pop().unwrap();
    assert!(created[0].parent_span_id.is_empty() && created[0].trace_id != root.trace_id);
    let told = received(&traced.world.lamps, CallKind::Create).unwrap();
    assert!(told.starts_with(&format!("00-{}-", hexadecimal(&created[0].trace_id))), "{told}");
    // A card is fetched under a trace too.
    collector.until(|it| it.traces("POST /agentic_commerce/granted_tokens/{id}/redeem").len() == 1).await;
    assert!(
        names(&collector.traces("POST /agentic_commerce/granted_tokens/{id}/redeem")[0]).contains("redeem")
    );
    let (_, log) = traced.ends().await;
    assert!(log.contains(&format!("\"trace_id\":\"{}\"", hexadecimal(&created[0].trace_id))), "{log}");
    let all = collector.bodies.lock().concat();
    for secret in [GOOD_CARD, &token, "Bearer", "Ada"] {
        assert!(!all.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_trace_is_passed_on_and_samples_nothing_and_a_failure_is_told_all_the_same() {
    let collector = Collector::open(Mood::Takes).await;
    let traced = Traced::start(&collector, Options::default(), "", "").await;
    let (agent, lamps) = (traced.agent(), &traced.world.lamps);
    let path = "/m/lamps/checkout_sessions";
    let created = agent.post(path, &lamp_order()).header("traceparent", KEPT).send().await.unwrap();
    assert_eq!(created.status, 201);
    assert_eq!(received(lamps, CallKind::Create).as_deref(), Some(KEPT));
    lamps.behave_once(CallKind::Create, Behaviour::Instead(Canned::status(500)));
    let failed = agent.post(path, &lamp_order()).header("traceparent", KEPT).send().await.unwrap();
    assert!(failed.status.is_server_error(), "{:?}", failed.json());
    assert_eq!(received(lamps, CallKind::Create).as_deref(), Some(KEPT));
    let (_, log) = traced.ends().await;
    // Its end has told everything: one trace, its own, with a link to the stranger's.
    let traces = collector.traces("POST /checkout_sessions");
    let [trace] = traces.as_slice() else { panic!("{traces:?}") };
    assert!(trace[0].parent_span_id.is_empty());
    let linked: Vec<String> = trace[0].links.iter().map(|link| hexadecimal(&link.trace_id)).collect();
    assert_eq!(linked, [&KEPT[3..35]]);
    assert_ne!(hexadecimal(&trace[0].trace_id), KEPT[3..35]);
    assert_eq!(trace[0].status.as_ref().unwrap().code, 2, "an error");
    assert_eq!(log.matches(&format!("\"trace_id\":\"{}\"", &KEPT[3..35])).count(), 2, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_so_many_are_told_a_second_and_a_request_that_is_not_to_be_kept_is_not() {
    let collector = Collector::open(Mood::Takes).await;
    let traced = Traced::start(&collector, honoured(), "\n[traces]\nper_second = 2\n", "").await;
    let agent = traced.agent();
    let not_kept = KEPT.replace("-01", "-00");
    let began = Instant::now();
    for _ in 0..5 {
        let path = "/m/lamps/checkout_sessions";
        let sent =
            agent.post(path, &lamp_order()).header("traceparent", not_kept.clone()).send().await.unwrap();
        assert_eq!(sent.status, 201);
    }
    for _ in 0..40 {
        let sent = agent.post("/m/lamps/checkout_sessions", &lamp_order()).send().await.unwrap();
        assert_eq!(sent.status, 201);
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    traced.ends().await;
    let told = collector.traces("POST /checkout_sessions");
    assert!((2..=2 + 2 * (seconds + 1)).contains(&told.len()), "{} in {seconds} s", told.len());
    assert!(told.iter().all(|trace| trace[0].parent_span_id.is_empty()), "{told:?}");
}

async fn lost(gateway: &Gateway, outcome: &str) -> u64 {
    let line = format!("countersign_spans_total{{outcome=\"{outcome}\"}} ");
    let metrics = gateway.metrics().await;
    metrics.lines().find_map(|shown| shown.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_holds_up_no_request_and_no_end_and_what_is_lost_is_counted() {
    let collector = Collector::open(Mood::NeverAnswers).await;
    let few = "OTEL_BSP_MAX_QUEUE_SIZE=20 OTEL_BSP_MAX_EXPORT_BATCH_SIZE=10";
    let traced = Traced::start(&collector, Options::default(), "\n[traces]\nper_second = 10000\n", few).await;
    let agent = traced.agent();
    for _ in 0..40 {
        let sent = agent.post("/m/lamps/checkout_sessions", &lamp_order()).send().await.unwrap();
        assert_eq!(sent.status, 201);
    }
    assert!(lost(&traced.gateway, "lost").await > 100);
    let began = Instant::now();
    traced.ends().await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(collector.spans().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_the_collector_rejects_of_a_message_it_takes_are_not_counted_as_exported() {
    let collector = Collector::open(Mood::Rejects(2)).await;
    let traced = Traced::start(&collector, Options::default(), "", "").await;
    create(&traced.agent(), "lamps").await;
    let until = Instant::now() + PATIENCE;
    while lost(&traced.gateway, "exported").await == 0 {
        assert!(Instant::now() < until);
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let counted = [lost(&traced.gateway, "exported").await, lost(&traced.gateway, "not_taken").await];
    assert_eq!(counted, [u64::try_from(collector.spans().len()).unwrap() - 2, 2]);
    traced.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_collector_has_no_room_for_is_sent_again_and_what_waits_is_told_at_the_end() {
    let collector = Collector::open(Mood::HasNoRoom).await;
    let traced = Traced::start(&collector, Options::default(), "", "").await;
    let agent = traced.agent();
    create(&agent, "lamps").await;
    *collector.mood.lock() = Mood::Takes;
    collector.until(|it| it.traces("POST /checkout_sessions").len() == 1).await;
    assert!(lost(&traced.gateway, "exported").await > 0);
    // One whose time has passed is given up, told of once, and the next is told.
    traced.ends().await;
    let give_up = "OTEL_BSP_EXPORT_TIMEOUT=50";
    *collector.mood.lock() = Mood::HasNoRoom;
    let traced = Traced::start(&collector, Options::default(), "", give_up).await;
    let agent = traced.agent();
    let until = Instant::now() + PATIENCE;
    while lost(&traced.gateway, "not_taken").await == 0 {
        assert!(Instant::now() < until);
        create(&agent, "lamps").await;
    }
    *collector.mood.lock() = Mood::Takes;
    let before = collector.traces("POST /checkout_sessions").len();
    create(&agent, "lamps").await;
    collector.until(|it| it.traces("POST /checkout_sessions").len() > before).await;
    let (_, log) = traced.ends().await;
    assert_eq!(log.matches("\"event\":\"traces_not_exported\"").count(), 1, "{log}");
    assert!(log.contains("\"event\":\"traces_exported_again\""), "{log}");
}

/// The end comes while what was noted waits for company, and more was noted meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_company_when_the_gateway_ends_is_told() {
    let collector = Collector::open(Mood::Takes).await;
    let traced = Traced::start(&collector, honoured(), "", "OTEL_BSP_SCHEDULE_DELAY=600000").await;
    let mut agent = traced.agent();
    for _ in 0..3 {
        create(&agent, "lamps").await;
        agent = traced.agent();
    }
    let (_, log) = traced.ends().await;
    assert!(!log.contains("panicked"), "{log}");
    collector.until(|it| it.traces("POST /checkout_sessions").len() == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_says_nothing_possible_is_told_with_the_other_mistakes() {
    let mut world = World::closed(Options::default()).await;
    world.text.push_str("\n[traces]\nper_secnd = 1\n");
    let file = world.directory.path().join("wrong.toml");
    std::fs::write(&file, &world.text).unwrap();
    let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_countersign"));
    check.args(["check", "--config"]).arg(&file).env("OTEL_EXPORTER_OTLP_ENDPOINT", "collector.example:4317");
    let (is_fine, out, error) = told(&check.env("OTEL_TRACES_SAMPLER", "sometimes").output().unwrap());
    let said = format!("{out}{error}");
    for expected in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER", "per_secnd", "`per_second`"] {
        assert!(!is_fine && said.contains(expected), "{expected}: {said}");
    }
    assert!(!said.contains("collector.example"), "{said}");
}
