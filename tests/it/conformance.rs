//! What `countersign conformance merchant` finds of shops, and what it refuses to order at.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::world::child::{Gateway, free_port};
use crate::world::*;

/// What a shop written in an evening does with a key, and what it does once it is mended.
pub const LATE: &str = "        if key not in ANSWERS:
            ANSWERS[key] = self.work(";
pub const MENDED: &str = "        with LOCK:
            is_new = key not in ANSWERS
            ANSWERS.setdefault(key, (409, {\"type\": \"invalid_request\", \"code\": \"idempotency_in_flight\", \"message\": \"Wait.\"}))
        if is_new:
            ANSWERS[key] = self.work(";
/// What the shop of the tests presents to fetch a card.
pub const REDEEMER: &str = "the-shop-fetches-cards-with-this";

/// A shop in Python, ended with the test.
pub struct PythonShop {
    child: Child,
    pub url: String,
}

impl Drop for PythonShop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl PythonShop {
    /// Runs a shop whose charges go to `ledger`; it fetches cards at a URL, and trusts who is there by a file.
    pub fn start(text: &str, gateway: &str, trusted: Option<&Path>, ledger: &Path) -> Self {
        let program = ledger.with_extension("py");
        std::fs::write(&program, text).unwrap();
        let mut command = Command::new("python3");
        command.arg(program).arg(gateway).arg(REDEEMER).arg(ledger);
        if let Some(trusted) = trusted {
            command.env("SSL_CERT_FILE", trusted);
        }
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { child, url: format!("http://127.0.0.1:{}", port.trim()) }
    }
}

fn countersign(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(["conformance", "merchant"]).args(arguments).env("REDEEMER", REDEEMER).stdin(Stdio::null());
    command
}

/// What was found of a case: the verdict, and what was met.
fn found(report: &Value, case: &str) -> (String, String) {
    let cases = report["cases"].as_array().unwrap();
    let case = cases.iter().find(|found| found["case"] == case).unwrap_or_else(|| panic!("{report}"));
    (case["verdict"].as_str().unwrap().to_owned(), case["met"].as_str().unwrap().to_owned())
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{:?}", told(output)))
}

/// Tries a shop in Python; what was found, and its charges, by session.
fn tried(text: &str) -> (Value, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let ledger = directory.path().join("ledger");
    let counter = free_port().to_string();
    let shop = PythonShop::start(text, &format!("http://{counter}"), None, &ledger);
    let told = ["--this-is-a-test-shop", "--yes", "--json", "--first-byte-seconds", "1"];
    let output = countersign(&[&shop.url, "--listen", &counter, "--redeemer-credential", "env:REDEEMER"])
        .args(told)
        .output()
        .unwrap();
    // It has faults enough either way: it reads no version, and accepts every card.
    assert!(!output.status.success());
    let charges = std::fs::read_to_string(&ledger).unwrap();
    let sessions = charges.lines().map(|line| line.split(' ').next().unwrap().to_owned());
    (report(&output), sessions.collect())
}

/// How many sessions were charged more than once.
fn charged_twice(sessions: &[String]) -> usize {
    let counted = |session: &&String| sessions.iter().filter(|other| other == session).count() > 1;
    sessions.iter().filter(counted).collect::<BTreeSet<_>>().len()
}

#[test]
fn a_shop_of_twenty_lines_is_found_to_charge_one_key_twice_and_not_once_it_is_mended() {
    let text = std::fs::read_to_string("tests/merchant/first_shop.py").unwrap();
    let (found_first, charges) = tried(&text);
    let (verdict, met) = found(&found_first, "concurrent_completes");
    assert_eq!(verdict, "failed", "{met}");
    assert!(met.contains("charge") && met.contains("twice"), "{met}");
    assert_eq!(found_first["idempotency"], "none");
    // And did so: there, and where it was paid again under another key.
    assert_eq!(charged_twice(&charges), 2, "{charges:?}");
    // What it does well is found too: only two at once show it.
    for case in ["create", "complete", "redeem", "complete_replay"] {
        assert_eq!(found(&found_first, case).0, "passed", "{case}: {found_first}");
    }

    assert_eq!(text.matches(LATE).count(), 1);
    let (found_mended, charges) = tried(&text.replacen(LATE, MENDED, 1));
    let (verdict, met) = found(&found_mended, "concurrent_completes");
    assert_eq!(verdict, "passed", "{met}");
    assert!(met.contains("409 idempotency_in_flight"), "{met}");
    assert_eq!(found_mended["idempotency"], "keys");
    // Paid again under another key it is charged again: no key helps against that, and it is told.
    let again = found(&found_mended, "second_payment");
    assert_eq!((again.0.as_str(), charged_twice(&charges)), ("failed", 1), "{again:?}, {charges:?}");
}

/// A gateway's configuration with test shops, and where it would listen.
async fn configured() -> (World, String) {
    let options = Options { merchant: "test = true\n".to_owned(), ..Options::default() };
    let mut world = World::closed(options).await;
    let counter = free_port();
    world.meet(counter);
    let config = world.directory.path().join("conformance.toml");
    let text = world.text.replacen("listen = \"127.0.0.1:0\"", &format!("listen = \"{counter}\""), 1);
    std::fs::write(&config, text).unwrap();
    (world, config.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_that_does_what_the_guide_says_passes_every_case_by_its_entry() {
    let (world, config) = configured().await;
    let mut command = countersign(&[world.lamps.base_url(), "--config", &config, "--yes", "--json"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let report = report(&output);
    let cases = report["cases"].as_array().unwrap();
    let others: Vec<&Value> = cases.iter().filter(|case| case["verdict"] != "passed").collect();
    assert!(others.is_empty() && cases.len() == 27, "{} of {}: {others:#?}", others.len(), cases.len());
    assert!(output.status.success());
    assert_eq!((&report["passed"], &report["idempotency"]), (&true.into(), &"keys".into()));
    // Every order was for a session of its own.
    let mut sessions: Vec<String> = world.lamps.charges().into_iter().map(|charge| charge.session).collect();
    let charges = sessions.len();
    sessions.sort();
    sessions.dedup();
    assert_eq!(sessions.len(), charges);
    assert!((6..=9).contains(&charges), "{charges}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_ordered_where_it_might_be_meant() {
    let (mut world, config) = configured().await;
    let shop = world.lamps.base_url().to_owned();
    let refused = |arguments: &[&str]| {
        let (content, out, err) = told(&countersign(arguments).output().unwrap());
        assert!(!content, "{arguments:?}: {out}");
        out + &err
    };
    let live = world.directory.path().join("live.toml");
    std::fs::write(&live, world.text.replace("test = true\n", "")).unwrap();
    let live = live.display().to_string();
    assert!(refused(&[&shop, "--config", &live, "--yes"]).contains("`test = true`"));
    assert!(refused(&[&shop, "--yes"]).contains("--this-is-a-test-shop"));
    assert!(refused(&[&shop, "--config", &config, "--yes", "--card", "4929000000006"]).contains("--card"));
    assert!(refused(&["https://nobody.test", "--config", &config, "--yes"]).contains("base_url"));
    // Nobody says yes, or somebody says no.
    let said = refused(&[&shop, "--config", &config]);
    assert!(said.contains("nothing was ordered"), "{said}");
    let first = said.lines().next().unwrap();
    assert!(first.starts_with("This orders item_lamp") && first.contains(&shop), "{first}");
    let mut asked = countersign(&[&shop, "--config", &config])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    asked.stdin.take().unwrap().write_all(b"no\n").unwrap();
    assert!(!asked.wait().unwrap().success());
    assert!(world.lamps.calls().is_empty(), "it was called");

    // A gateway that serves agents is not a merchant, and keeps its place.
    // It knows itself by its address, which it has only once it starts.
    world.text = world.text.replacen("hosts = [\"gateway.test\"]", "hosts = [\"gateway.test\", \"SELF\"]", 1);
    let as_itself =
        r#"sed -i "s/SELF/$(sed -n 's/^listen = "\(.*\)"/\1/p' "$3" | head -n 1)/" "$3" && exec "$0" "$@""#;
    let gateway = Gateway::start_through(&mut world, as_itself.to_owned()).await;
    let authority = world.certificates.authority_file.display().to_string();
    let url = format!("https://{}", gateway.public);
    let counter = free_port().to_string();
    let said =
        refused(&[&url, "--this-is-a-test-shop", "--yes", "--ca-file", &authority, "--listen", &counter]);
    assert!(said.contains("a gateway answers there"), "{said}");
    let taken = gateway.public.to_string();
    let said = refused(&[&shop, "--config", &config, "--yes", "--listen", &taken]);
    assert!(said.contains("must be stopped first"), "{said}");
    assert!(world.lamps.calls().is_empty(), "it was called");
}
