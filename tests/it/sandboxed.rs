//! What `countersign conformance agent` finds of agents, good and bad.

use std::io::{BufRead, BufReader, Lines, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::acp::version::Version;
use countersign::crypto::sign::SigningKey;
use countersign::domain::clock::{Clock, SystemClock};
use countersign::domain::secret::SecretString;
use countersign::quickstart::agent::{Agent, AgentSettings};
use countersign::quickstart::certificates::Certificates;
use countersign::quickstart::client::{Answer, Http};
use serde_json::Value;

use crate::world::child::free_port;
use crate::world::*;

/// How long a purchase may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// A sandbox that waits for an agent.
struct Sandbox {
    child: Child,
    agent: Agent,
    /// What it says aside: it ends when nobody hears it.
    _aside: Lines<BufReader<ChildStderr>>,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn variable(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("export {name}='")));
    line.unwrap_or_else(|| panic!("{name} in {text}")).trim_end_matches('\'').to_owned()
}

impl Sandbox {
    fn open(directory: &Path, patience: &str) -> Self {
        let listen: SocketAddr = free_port();
        let certificates = directory.join("dev");
        let mut child = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(["conformance", "agent", "--json", "--patience", patience, "--listen", &listen.to_string()])
            .arg("--certificates")
            .arg(&certificates)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let told = lines
            .by_ref()
            .find_map(|line| line.unwrap().split_once(" your agent is there: . '").map(|it| it.1.to_owned()));
        let variables = std::fs::read_to_string(told.unwrap().trim_end_matches('\'')).unwrap();
        let tls = Certificates::ensure(&certificates, &[], SystemClock.now()).unwrap().client().unwrap();
        let key = std::fs::read_to_string(variable(&variables, "AGENT_KEY")).unwrap();
        let agent = Agent::new(AgentSettings {
            address: listen,
            authority: variable(&variables, "GATEWAY").trim_start_matches("https://").to_owned(),
            tls,
            http: Http::Two,
            credential: Arc::new(SecretString::new(variable(&variables, "AGENT_CREDENTIAL"))),
            key: Arc::new(SigningKey::from_pkcs8_pem(&key).unwrap()),
            key_id: variable(&variables, "AGENT_KEY_ID"),
            version: Version::LATEST,
            clock: Arc::new(SystemClock),
        });
        Self { child, agent, _aside: lines }
    }

    /// What it found, and whether nothing failed.
    fn found(mut self) -> (bool, Value) {
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let passed = self.child.wait().unwrap().success();
        (passed, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}")))
    }
}

fn verdicts(report: &Value) -> Vec<(String, String)> {
    let word = |case: &Value, name: &str| case[name].as_str().unwrap().to_owned();
    report["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| (word(case, "case"), word(case, "verdict")))
        .collect()
}

/// Buys, with a key for each time that `key` says; the last answer.
async fn buy(agent: &Agent, key: impl Fn(usize) -> String) -> Answer {
    let (session, total) = create(agent, "sandbox").await;
    let token = mint(agent, "sandbox", &session, GOOD_CARD, total).await;
    let (path, body) = (format!("/m/sandbox/checkout_sessions/{session}/complete"), payment(&token));
    let began = Instant::now();
    let mut time = 0;
    loop {
        let answer = agent.post(&path, &body).key(format!("{session}-{}", key(time))).send().await.unwrap();
        let code = answer.code().unwrap_or_default();
        let is_told_to_wait = answer.status.as_u16() >= 500 || code == "idempotency_in_flight";
        if !is_told_to_wait || began.elapsed() > PATIENCE {
            return answer;
        }
        let pause = answer.header("retry-after").map_or(1, |seconds| seconds.parse().unwrap());
        tokio::time::sleep(Duration::from_secs(pause)).await;
        time += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_repeats_with_its_key_passes_and_one_that_takes_new_keys_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let good = Sandbox::open(directory.path(), "60");
    for _ in 0..4 {
        let paid = buy(&good.agent, |_| "one".to_owned()).await;
        assert_eq!(paid.text("/status").as_deref(), Some("completed"), "{}", paid.json());
    }
    // Declined; then it pays, with a new key.
    let (session, total) = create(&good.agent, "sandbox").await;
    let token = mint(&good.agent, "sandbox", &session, GOOD_CARD, total).await;
    let declined = complete(&good.agent, "sandbox", &session, &token).await;
    assert_eq!(declined.text("/status").as_deref(), Some("ready_for_payment"));
    let paid = complete(&good.agent, "sandbox", &session, &token).await;
    assert_eq!(paid.text("/status").as_deref(), Some("completed"));
    let (passed, report) = tokio::task::spawn_blocking(|| good.found()).await.unwrap();
    assert!(passed && report["passed"] == true, "{report:#}");
    assert!(verdicts(&report).iter().all(|(_, verdict)| verdict == "passed"), "{report:#}");
    assert_eq!(verdicts(&report).len(), 8);

    let bad = Sandbox::open(directory.path(), "15");
    buy(&bad.agent, |_| "one".to_owned()).await;
    let refused = buy(&bad.agent, |time| time.to_string()).await;
    assert_eq!(refused.status, 409, "{}", refused.json());
    let (path, body) = ("/m/sandbox/checkout_sessions", lamp_order());
    assert_eq!(bad.agent.post(path, &body).unsigned().without_key().send().await.unwrap().status, 400);
    let (session, _) = create(&bad.agent, "sandbox").await;
    let path = format!("{path}/{session}/complete");
    let unsigned = bad.agent.post(&path, &payment("vt_any")).unsigned().send().await.unwrap();
    assert_eq!(unsigned.status, 401);
    let (passed, report) = tokio::task::spawn_blocking(|| bad.found()).await.unwrap();
    assert!(!passed && report["passed"] == false, "{report:#}");
    let found = verdicts(&report);
    let verdict = |case: &str| found.iter().find(|(name, _)| name == case).unwrap().1.as_str();
    assert_eq!((verdict("purchase"), verdict("lost_answer")), ("passed", "failed"), "{report:#}");
    assert_eq!((verdict("signatures"), verdict("requests")), ("failed", "failed"), "{report:#}");
    // It did not buy five times.
    assert_eq!(verdict("decline"), "failed", "{report:#}");
}
