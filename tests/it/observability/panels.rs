//! Every query of every panel shows something of a gateway that buys, refuses and is let down.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use countersign::domain::secret::SecretString;
use countersign::quickstart::agent::Agent;
use countersign::quickstart::shop::{Behaviour, CallKind};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::{promtool, shipped};
use crate::world::child::{Gateway, free_port};
use crate::world::collector::{Collector, Mood};
use crate::world::*;

/// How long until a Prometheus has begun, and until every panel shows something.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// Before something is looked at again.
pub(super) const SOON: Duration = Duration::from_millis(200);

/// What is 0 while all is well, or was counted before anything happened. Some takes what nobody does here:
/// a full house, a balancer that does not name its clients, a merchant that charges twice.
const MAY_BE_ZERO: [&str; 19] = [
    "countersign_connections_evicted_total",
    "countersign_proxy_errors_total",
    "countersign_second_answers_total",
    "countersign_session_faults_total",
    "countersign_breaker_openings_total",
    "countersign_breaker_state",
    "countersign_suspensions",
    "countersign_codes_lost",
    "countersign_config_reloads_total",
    "countersign_epoch_node_restarts_total",
    "countersign_kept_bytes",
    "countersign_log_lines_dropped_total",
    "countersign_overcharges_total",
    "countersign_ownership_conflicts_total",
    "countersign_requests_under_way",
    "countersign_tokens{",
    "countersign_unresolved_claims",
    "countersign_unresolved_oldest_seconds",
    "countersign:completes_failed:ratio",
];

/// A Prometheus that scrapes each second. Dropping it kills it.
pub(super) struct Prometheus {
    child: Child,
    address: SocketAddr,
    log: std::path::PathBuf,
}

impl Prometheus {
    pub(super) async fn start(directory: &Path, gateway: SocketAddr) -> Self {
        let config = directory.join("prometheus.yaml");
        let rules = shipped("rules.yaml");
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:\n  \
             - {{job_name: countersign, static_configs: [{{targets: ['{gateway}']}}]}}\n",
            rules.display()
        );
        std::fs::write(&config, text).unwrap();
        promtool(&["check", "config", config.to_str().unwrap()]);
        let (address, log) = (free_port(), directory.join("prometheus.log"));
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("series").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--enable-feature=exemplar-storage")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .expect("Debian's prometheus");
        let mut prometheus = Self { child, address, log };
        let until = Instant::now() + PATIENCE;
        while prometheus.get("/-/ready").await.is_none() {
            let exited = prometheus.child.try_wait().unwrap();
            assert!(exited.is_none() && Instant::now() < until, "{exited:?}\n{}", prometheus.log());
            tokio::time::sleep(SOON).await;
        }
        prometheus
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The body of an answer with 200. HTTP/1.0, so that it comes in one piece.
    async fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.0 200").then(|| body.to_owned())
    }

    /// The data of the API's answer, which must be one.
    pub(super) async fn ask(&self, path: &str) -> Value {
        let answer = self.get(path).await.unwrap_or_else(|| panic!("{path}\n{}", self.log()));
        let answer: Value = serde_json::from_str(&answer).expect(path);
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    /// The values of the series that a query gives now.
    async fn values(&self, query: &str) -> Vec<f64> {
        let query: String =
            form_urlencoded::Serializer::new(String::new()).append_pair("query", query).finish();
        let data = self.ask(&format!("/api/v1/query?{query}")).await;
        let series = data["result"].as_array().unwrap();
        series.iter().map(|one| one["value"][1].as_str().unwrap().parse().unwrap()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything once that a panel is about; what it comes to is for other tests.
async fn a_round(agent: &Agent, stranger: &Agent, world: &World, number: usize) {
    let (session, total) = create(agent, "lamps").await;
    let blocked = json!([{"type": "card_testing", "score": 99, "action": "blocked"}]);
    let mut request = mint_request(GOOD_CARD, "lamps", &session, total);
    request["risk_signals"] = blocked;
    let denied = agent.post("/agentic_commerce/delegate_payment", &request).send().await.unwrap();
    assert_eq!(denied.status, 403);
    let token = mint(agent, "lamps", &session, GOOD_CARD, total).await;
    assert_eq!(complete(agent, "lamps", &session, &token).await.status, 200);
    let path = format!("/m/lamps/checkout_sessions/{session}");
    if number.is_multiple_of(3) {
        world.lamps.behave_once(CallKind::Read, Behaviour::ResetBefore);
        assert_eq!(agent.get(path).send().await.unwrap().status, 502);
    }
    let refused = stranger.post("/m/lamps/checkout_sessions", &lamp_order()).send().await.unwrap();
    assert!([401, 429].contains(&refused.status.as_u16()), "{}", refused.status);
}

/// Opens more connections than one address may have; none of them speaks TLS.
async fn knock(gateway: SocketAddr) {
    let mut open = Vec::new();
    for _ in 0..20 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        open.push(socket.connect(gateway).await.unwrap());
    }
    for stream in &mut open {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
    }
}

/// The queries of every panel, with what Grafana would put for their variables.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().unwrap();
    let of_panel = |panel: &Value| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(move |target| (title.clone(), target["expr"].as_str().unwrap().to_owned()))
    };
    let filled = |query: String| {
        let query = [("$__rate_interval", "15s"), ("$job", ".*"), ("$merchant", ".*")]
            .iter()
            .fold(query, |query, (variable, value)| query.replace(variable, value));
        assert!(!query.contains('$'), "a variable that this test does not know: {query}");
        query
    };
    panels.iter().flat_map(of_panel).map(|(title, query)| (title, filled(query))).collect()
}

/// What a query should have shown and did not.
fn lacking(query: &str, values: &[f64]) -> Option<&'static str> {
    let is_about = |names: &[&str]| names.iter().any(|name| query.contains(name));
    if values.is_empty() {
        return Some("shows nothing");
    }
    // A quantile of nothing is no number.
    if values.iter().all(|value| value.is_nan()) {
        return Some("shows no number");
    }
    let is_zero = values.iter().all(|value| value.is_nan() || *value == 0.0);
    (is_zero && !is_about(&MAY_BE_ZERO)).then_some("shows only zeros")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_shows_something_of_a_gateway_that_buys() {
    let collector = Collector::open(Mood::Takes).await;
    let options = Options { store: Some(EMBEDDED.to_owned()), ..Options::default() };
    let mut world = World::closed(options).await;
    for (usual, small) in [
        ("[server]\n", "[server]\nconnections_per_address = 16\n"),
        ("failed_authentication_burst = 1000000", "failed_authentication_burst = 3"),
        ("failed_authentications_per_minute = 1000000", "failed_authentications_per_minute = 1"),
    ] {
        assert_eq!(world.text.matches(usual).count(), 1, "{usual}");
        world.text = world.text.replace(usual, small);
    }
    let gateway = Gateway::start_through(&mut world, collector.script("")).await;
    let directory = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(directory.path(), gateway.admin).await;

    let world = Arc::new(world);
    let over = Arc::new(AtomicBool::new(false));
    let buying = {
        let (world, over, public) = (Arc::clone(&world), Arc::clone(&over), gateway.public);
        tokio::spawn(async move {
            let stranger =
                world.agent(1, |agent| agent.credential = Arc::new(SecretString::new("nobody's".to_owned())));
            for number in 0.. {
                // Each round over a connection of its own.
                a_round(&world.alpha(), &stranger, &world, number).await;
                knock(public).await;
                if over.load(Ordering::Relaxed) {
                    break;
                }
                tokio::time::sleep(SOON).await;
            }
        })
    };

    let dashboard: Value =
        serde_json::from_str(&std::fs::read_to_string(shipped("dashboard.json")).unwrap()).unwrap();
    let queries = queries(&dashboard);
    assert!(queries.len() > 40, "{}", queries.len());
    let until = Instant::now() + PATIENCE;
    loop {
        let mut lack = Vec::new();
        for (title, query) in &queries {
            if let Some(what) = lacking(query, &prometheus.values(query).await) {
                lack.push(format!("{title}: {query}: {what}"));
            }
        }
        assert!(!buying.is_finished(), "it no longer buys: {:?}", buying.await);
        if lack.is_empty() {
            break;
        }
        assert!(Instant::now() < until, "{lack:#?}\n{}", gateway.metrics().await);
        tokio::time::sleep(SOON * 5).await;
    }

    // What the dashboard's choices are made of, and what marks alerts in time.
    for variable in [
        "group by (job) (countersign_build_info)",
        "group by (merchant) (countersign_merchant_requests_total)",
    ] {
        assert!(!prometheus.values(variable).await.is_empty(), "{variable}");
    }
    let annotation = dashboard["annotations"]["list"][0]["expr"].as_str().unwrap();
    prometheus.values(annotation).await;

    let rules = prometheus.ask("/api/v1/rules").await;
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules: Vec<&Value> = groups.flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(rules.len() > 30, "{rules:?}");
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    let woken: BTreeSet<&str> = rules
        .iter()
        .filter(|rule| rule["state"] == "firing" && rule["labels"]["severity"] == "page")
        .filter_map(|rule| rule["name"].as_str())
        .collect();
    assert!(woken.is_empty(), "nobody is woken by this: {woken:?}");

    over.store(true, Ordering::Relaxed);
    buying.await.unwrap();
}
