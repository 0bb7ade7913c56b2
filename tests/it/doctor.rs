//! What `countersign doctor` sees of a gateway's surroundings.

use std::process::Command;

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;

use crate::redis_server::{Options as RedisOptions, Server};
use crate::world::child::free_port;
use crate::world::*;

/// Whether it is content with a configuration, and all it saw.
async fn seen(world: &World, text: &str) -> (bool, Vec<Value>) {
    let config = world.directory.path().join("doctor.toml");
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(["doctor", "--json", "--config"]).arg(&config);
    // The shops are in this process.
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{:?}", told(&output)));
    assert_eq!(report["healthy"], output.status.success());
    (output.status.success(), report["findings"].as_array().unwrap().clone())
}

/// What was seen of a subject: `health: told`.
fn of(findings: &[Value], subject: &str, check: &str) -> String {
    let is_it = |one: &&Value| one["subject"] == subject && one["check"] == check;
    let found = findings.iter().find(is_it).unwrap_or_else(|| panic!("{subject} {check}: {findings:#?}"));
    format!("{}: {}", found["health"].as_str().unwrap(), found["told"].as_str().unwrap())
}

fn changed(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} in\n{text}");
    text.replacen(from, to, 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_finds_all_it_needs_is_well_and_nothing_was_made_anywhere() {
    // Its keys are published, by which the shops judge who asks.
    let world = World::start().await;
    let (content, findings) = seen(&world, &world.text).await;
    assert!(content, "{findings:#?}");
    for merchant in ["merchant lamps", "merchant books"] {
        assert_eq!(of(&findings, merchant, "dns"), "good: 127.0.0.1");
        let tls = of(&findings, merchant, "tls");
        assert!(tls.starts_with("good: TLSv1.3, its certificates are good until 20"), "{tls}");
        let credential = of(&findings, merchant, "credential");
        assert_eq!(credential, "good: accepted: 404 to a session that nobody created");
        assert!(of(&findings, merchant, "discovery").starts_with("good: none is published"));
        assert!(of(&findings, merchant, "clock").starts_with("good: "));
    }
    assert!(of(&findings, "process", "open files").contains("may be open"));
    assert!(of(&findings, "hourly keys", "directory").ends_with("epochs can be used"));
    let calls = world.lamps.calls();
    assert!(!calls.is_empty() && calls.iter().all(|call| call.method == "GET"), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_does_not_work_is_a_fault_of_its_own() {
    let world = World::start().await;
    let [lamps, books] = [&world.lamps, &world.books].map(|shop| shop.base_url().to_owned());
    let fault = async |text: String, subject: &str, check: &str| {
        let (content, findings) = seen(&world, &text).await;
        assert!(!content, "{subject} {check}: {findings:#?}");
        of(&findings, subject, check)
    };
    // Another credential than the shop knows.
    std::fs::write(world.directory.path().join("other.credential"), "another").unwrap();
    let text = changed(&world.text, "file:lamps.credential", "file:other.credential");
    let said = fault(text, "merchant lamps", "credential").await;
    assert!(said.starts_with("fault: refused: 401 unauthorized"), "{said}");
    // Nobody there, and a name that nobody has.
    let text = changed(&world.text, &books, &format!("https://{}", free_port()));
    let said = fault(text, "merchant books", "tls").await;
    assert!(said.contains("refused"), "{said}");
    let text = changed(&world.text, &books, "https://nobody.invalid");
    let said = fault(text, "merchant books", "dns").await;
    assert!(said.contains("nobody.invalid does not resolve"), "{said}");
    // An authority that signed nothing of theirs.
    let other = CertificateParams::new(vec![]).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap();
    let other_file = world.directory.path().join("other.pem");
    std::fs::write(&other_file, other.pem()).unwrap();
    let from = format!("ca_file = \"{}\"", world.certificates.authority_file.display());
    let text = changed(&world.text, &from, &format!("ca_file = \"{}\"", other_file.display()));
    let said = fault(text, "merchant lamps", "tls").await;
    assert!(said.contains("tls unknown issuer"), "{said}");
    // A mistake: what `check` says, and nothing further.
    let text = changed(&world.text, &lamps, "nowhere");
    let said = fault(text, "configuration", "check").await;
    assert!(said.contains("base_url"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_room_or_directory_is_a_fault() {
    let options = Options { store: Some(EMBEDDED.to_owned()), ..Options::default() };
    let world = World::closed(options).await;
    let text = changed(&world.text, "\"16MiB\"", "\"1024GiB\"");
    let (content, findings) = seen(&world, &text).await;
    let said = of(&findings, "store", "free space");
    assert!(!content && said.starts_with("fault: ") && said.contains("min_free_bytes"), "{said}");
    assert!(of(&findings, "store", "directory").ends_with("store is made by the first start"));
    std::fs::write(world.directory.path().join("store"), "").unwrap();
    let (content, findings) = seen(&world, &world.text).await;
    let said = of(&findings, "store", "directory");
    assert!(!content && said.starts_with("fault: ") && said.ends_with("store is a file"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_store_is_judged_by_what_its_server_says() {
    let server = Server::start(RedisOptions::default());
    let lines = |more: &str| {
        format!("engine = \"redis\"\nnodes = [\"{}\"]\nepoch_directory = \"epochs\"\n{more}", server.url())
    };
    let world = World::closed(Options { store: Some(lines("")), ..Options::default() }).await;
    let subject = format!("store 127.0.0.1:{}", server.port);
    server.command(&["CONFIG", "SET", "appendonly", "no"]);
    let (content, findings) = seen(&world, &world.text).await;
    let said = of(&findings, &subject, "fitness");
    assert!(!content && said.starts_with("fault: it has no append-only file"), "{said}");
    assert!(of(&findings, &subject, "clock").starts_with("good: "));
    assert!(of(&findings, "hourly keys", "shared").starts_with("warning: "), "{findings:#?}");
    // Where that is accepted, and memory is short.
    let text = changed(&world.text, "[limits]", "accept_loss = true\n[limits]");
    server.command(&["CONFIG", "SET", "maxmemory", "2097152"]);
    let (_, findings) = seen(&world, &text).await;
    assert!(of(&findings, &subject, "fitness").ends_with("a primary"), "{findings:#?}");
    let said = of(&findings, &subject, "memory");
    assert!(said.ends_with("2 MiB may be"), "{said}");
    // And where nobody answers.
    let url = server.url();
    drop(server);
    let (content, findings) = seen(&world, &text).await;
    let said = of(&findings, &subject, "answers");
    assert!(!content && said.starts_with("fault: "), "{url}: {said}");
    assert!(of(&findings, "store", "primary").starts_with("fault: "));
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_hourly_keys_must_forget_and_stand_apart_from_the_store() {
    let [store, epochs] = [(); 2].map(|()| Server::start(RedisOptions::default()));
    let lines = |epochs: &str| {
        format!(
            "engine = \"redis\"\nnodes = [\"{}\"]\nepoch_nodes = [\"{epochs}\"]\naccept_loss = true",
            store.url()
        )
    };
    let options = Options { store: Some(lines(&epochs.url())), ..Options::default() };
    let world = World::closed(options).await;
    let subject = format!("hourly keys 127.0.0.1:{}", epochs.port);
    let (_, findings) = seen(&world, &world.text).await;
    assert!(of(&findings, &subject, "fitness").starts_with("good: "), "{findings:#?}");
    epochs.command(&["CONFIG", "SET", "save", "60 1"]);
    let judged = async |text: &str, subject: &str| {
        let (content, findings) = seen(&world, text).await;
        let said = of(&findings, subject, "fitness");
        assert!(!content && said.starts_with("fault: "), "{said}");
        said
    };
    let said = judged(&world.text, &subject).await;
    assert!(said.contains("set `save"), "{said}");
    let other_name = format!("localhost:{}", store.port);
    let text = changed(&world.text, &format!("127.0.0.1:{}", epochs.port), &other_name);
    let said = judged(&text, &format!("hourly keys {other_name}")).await;
    assert!(said.contains("serves the store"), "{said}");
    drop(epochs);
    judged(&world.text, &subject).await;
}
