//! Copies of the store in use and at rest, what `store check` finds in them, and damage.
//!
//! And what a gateway says of a damaged one.

/// Stores that an earlier release left.
mod older_formats;
/// Replicas that are replaced one by one.
mod rolling;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use countersign::quickstart::shop::{Behaviour, CallKind, Canned};
use serde_json::{Value, json};

use crate::redis_server::{self, Server};
use crate::world::child::{Gateway, LOOK_AGAIN};
use crate::world::*;

async fn check(world: &World, directory: &Path) -> (bool, String, String) {
    told(&world.run(&["store", "check", "--directory", directory.to_str().unwrap()]).await)
}

/// Buys once; the token.
async fn buy(world: &World) -> String {
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    assert_eq!(complete(&alpha, "lamps", &session, &token).await.status, 200);
    token
}

async fn status_of(world: &World, token: &str) -> String {
    let path = format!("/agentic_commerce/issued_tokens/{token}");
    world.alpha().get(path).send().await.unwrap().text("/status").unwrap()
}

/// Leaves a claim in doubt behind, which a copy must hold too.
async fn doubt(world: &World) -> String {
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    world.lamps.behave_once(CallKind::Complete, Behaviour::ResetAfter);
    // Nobody is to find out.
    world.lamps.behave(CallKind::Read, Behaviour::Instead(Canned::status(500)));
    assert_eq!(complete(&alpha, "lamps", &session, &token).await.status, 502);
    token
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_made_under_load_is_whole_and_a_gateway_opens_it() {
    const BUYERS: usize = 8;
    let mut world = World::start().await;
    let before = buy(&world).await;
    let in_doubt = doubt(&world).await;
    let root = tempfile::tempdir().unwrap();
    let copies: Vec<PathBuf> = (0..4).map(|number| root.path().join(format!("copy-{number}"))).collect();
    {
        let world = &world;
        let (stop, bought) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let buyers = (0..BUYERS).map(|_| {
            let (stop, bought) = (Arc::clone(&stop), Arc::clone(&bought));
            async move {
                while !stop.load(Ordering::Relaxed) {
                    buy(world).await;
                    bought.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let copying = async {
            for copy in &copies {
                let begun = bought.load(Ordering::Relaxed);
                while bought.load(Ordering::Relaxed) < begun + BUYERS {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                let told = world.operate("POST /store/backup", Some(json!({"directory": copy}))).await;
                assert_eq!(told.status, 201, "{told:?}");
                assert!(told.body["records"].as_u64().unwrap() > 10, "{told:?}");
            }
            stop.store(true, Ordering::Relaxed);
        };
        tokio::join!(copying, all(buyers));
    }
    assert_eq!(names_in(root.path()), ["copy-0", "copy-1", "copy-2", "copy-3"], "nothing unfinished is left");
    for copy in &copies {
        let (whole, out, error) = check(&world, copy).await;
        assert!(whole && out.contains("the store is whole"), "{out}{error}");
        assert!(out.lines().any(|line| line.starts_with("open claims")), "{out}");
        assert_eq!(names_in(copy), ["FORMAT", "LOCK", "data"]);
    }
    assert!(world.log.text().contains("store_backed_up"));

    let copy = copies[0].to_str().unwrap().to_owned();
    world.reopen(&[], |text| text.replace("directory = \"store\"", &format!("directory = \"{copy}\""))).await;
    assert_eq!(status_of(&world, &before).await, "consumed");
    assert_eq!(status_of(&world, &in_doubt).await, "claimed");
    // Beside what was under way when the copy was made: nobody waits for that any more.
    let listed = world.operate("GET /claims", None).await.body;
    let held = |claim: &Value| claim["token"] == in_doubt.as_str() && claim["state"] == "in_doubt";
    assert!(listed["claims"].as_array().unwrap().iter().any(held), "{listed}");
    buy(&world).await;
    world.close().await;
    let (whole, out, _) = check(&world, &copies[0]).await;
    assert!(whole, "{out}");
}

/// Runs futures side by side.
async fn all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_goes_nowhere_it_must_not() {
    let world = World::start().await;
    buy(&world).await;
    let there = world.directory.path();
    std::os::unix::fs::symlink(there.join("epochs"), there.join("elsewhere")).unwrap();
    for (directory, status, code) in [
        (there.join("store"), 409, "directory_exists"),
        (there.join("store/copy"), 422, "directory_refused"),
        (there.join("store/data/copy"), 422, "directory_refused"),
        (there.join("epochs"), 409, "directory_exists"),
        (there.join("epochs/copy"), 422, "directory_refused"),
        (there.join("elsewhere/copy"), 422, "directory_refused"),
        (there.join("store/../epochs/copy"), 422, "directory_refused"),
        (there.join("absent/copy"), 500, "backup_failed"),
        (PathBuf::from("copy"), 422, "invalid_body"),
        (PathBuf::from("/"), 409, "directory_exists"),
    ] {
        let told = world.operate("POST /store/backup", Some(json!({"directory": directory}))).await;
        assert_eq!((told.status, told.code()), (status, code), "{} {told:?}", directory.display());
    }
    assert_eq!(names_in(&there.join("epochs")).iter().filter(|name| name.contains("unfinished")).count(), 0);
    let copy = there.join("copy");
    let body = || Some(json!({"directory": copy}));
    assert_eq!(world.operate("POST /store/backup", body()).await.status, 201);
    assert_eq!(world.operate("POST /store/backup", body()).await.code(), "directory_exists");
    // No epoch key is in it, under whatever name.
    let keys: Vec<Vec<u8>> = names_in(&there.join("epochs"))
        .iter()
        .filter(|name| name.ends_with(".key"))
        .map(|name| std::fs::read(there.join("epochs").join(name)).unwrap())
        .collect();
    assert!(!keys.is_empty());
    let parts: HashSet<&[u8]> = keys.iter().flat_map(|key| key.windows(32)).collect();
    for file in files(&copy) {
        let bytes = std::fs::read(&file).unwrap();
        // Behind what is written are zeros, by the megabyte.
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let found = bytes[..written].windows(32).any(|window| parts.contains(window));
        assert!(!found, "an epoch key in {}", file.display());
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_copy_and_check_a_store_in_use_and_at_rest() {
    let mut world = World::start().await;
    buy(&world).await;
    let there = world.directory.path().to_owned();
    let backup = |to: &str| {
        let to = there.join(to).to_str().unwrap().to_owned();
        ["store", "backup", "--config", "{config}", "--admin", "{admin}", "--to", &to].map(str::to_owned)
    };
    let run = async |world: &World, words: &[String]| {
        told(
            &world
                .run(&words.iter().map(String::as_str).filter(|word| !word.is_empty()).collect::<Vec<_>>())
                .await,
        )
    };
    let (content, out, error) = run(&world, &backup("in-use")).await;
    assert!(content && out.contains("records"), "{out}{error}");
    let (content, _, error) = run(&world, &backup("in-use")).await;
    assert!(!content && error.contains("is there already"), "{error}");

    let checking = ["store", "check", "--config", "{config}"];
    let (content, _, error) = told(&world.run(&checking).await);
    assert!(!content && error.contains("in use by another process") && error.contains("pid"), "{error}");

    world.close().await;
    let (content, out, error) = told(&world.run(&checking).await);
    assert!(content, "{out}{error}");
    for word in ["session records", "token records", "tokens consumed", "the store is whole"] {
        assert!(out.contains(word), "{word} in {out}");
    }
    let mut at_rest = backup("at-rest").to_vec();
    at_rest.retain(|word| word != "--admin" && word != "{admin}");
    let (content, out, error) = run(&world, &at_rest).await;
    assert!(content, "{out}{error}");
    for copy in ["in-use", "at-rest"] {
        let (whole, out, error) = check(&world, &there.join(copy)).await;
        assert!(whole, "{copy}: {out}{error}");
    }
    let (content, _, error) = check(&world, &there.join("nowhere")).await;
    assert!(!content && error.contains("holds no store"), "{error}");
    assert!(!there.join("nowhere").exists(), "looking makes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kill_9_leaves_is_whole_and_damage_is_refused_by_name() {
    let mut world = World::closed(Options::default()).await;
    let mut gateway = Gateway::start(&mut world).await;
    for _ in 0..3 {
        buy(&world).await;
    }
    let in_doubt = doubt(&world).await;
    // The file alone says where the gateway is.
    let file = world.directory.path().join("countersign.toml");
    let (content, out, error) =
        told(&world.run(&["claims", "list", "--config", file.to_str().unwrap()]).await);
    assert!(content && out.contains("in_doubt") && out.contains(&in_doubt), "{out}{error}");
    gateway.kill();
    let store = world.directory.path().join("store");
    let (whole, out, error) = check(&world, &store).await;
    assert!(whole, "{out}{error}");

    let current = store.join("data/keyspaces/1/current");
    let mut bytes = std::fs::read(&current).unwrap();
    bytes[9] ^= 1;
    std::fs::write(&current, &bytes).unwrap();
    let (whole, _, error) = check(&world, &store).await;
    assert!(!whole && error.contains("keyspaces/1/v") && error.contains("restore a backup"), "{error}");
    let (content, _, error) = told(&world.run(&["serve", "--config", "{config}"]).await);
    assert!(!content && error.contains("keyspaces/1/v") && !error.contains("panicked"), "{error}");
    bytes[9] ^= 1;
    std::fs::write(&current, &bytes).unwrap();
    gateway.restart().await;
    buy(&world).await;
}

/// With less free space than is asked for, from its start on.
fn short_of_space(text: String) -> String {
    text.replace("min_free_bytes = \"16MiB\"", "min_free_bytes = \"1024GiB\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_revoke_redeem_and_read_are_served_when_space_is_short() {
    let mut world = World::with(Options { store: Some(EMBEDDED.to_owned()), ..Options::default() }).await;
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let [spent, spare] = [(); 2].map(|()| mint(&alpha, "lamps", &session, GOOD_CARD, total));
    let (spent, spare) = (spent.await, spare.await);
    world.lamps.behave_once(CallKind::Complete, Behaviour::Instead(Canned::status(500)));
    assert_eq!(complete(&alpha, "lamps", &session, &spent).await.status, 500);
    let claim = world.lamps.calls_of(CallKind::Complete)[0].idempotency_key.clone().unwrap();

    // The shop redeems under a key of its own, whose signatures are recorded.
    let public = alpha.settings().key.public().to_jwk();
    let keys = format!(
        "[[merchants.redeemers.keys]]\nid = \"key-1\"\njwk = {{ kty = \"OKP\", crv = \"Ed25519\", x = {} }}",
        public["x"]
    );
    world.reopen(&[], |text| short_of_space(text).replacen("networks = [\"127.0.0.0/8\"]", &keys, 1)).await;
    let alpha = world.alpha();
    assert!(world.text.contains("merchants.redeemers.keys") && world.text.contains("1024GiB"));

    let refused = alpha.post("/m/lamps/checkout_sessions", &lamp_order()).send().await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.code().as_deref()), (503, Some("service_unavailable")));
    let shop = world.agent(0, |settings| settings.credential = Arc::clone(&world.redeemer));
    let body = json!({
        "claim": claim, "checkout_session_id": session, "amount": total, "currency": "usd",
    });
    let path = format!("/agentic_commerce/granted_tokens/{spent}/redeem");
    let redeemed = shop.post(path, &body).send().await.unwrap();
    assert_eq!(redeemed.status, 200, "{:?}", redeemed.text("/message"));
    assert_eq!(redeemed.text("/payment_method/number").as_deref(), Some(GOOD_CARD));
    let path = format!("/agentic_commerce/issued_tokens/{spare}/revoke");
    let revoked = alpha.post(path, &json!({})).send().await.unwrap();
    assert_eq!((revoked.status.as_u16(), revoked.text("/status").as_deref()), (200, Some("revoked")));
    let path = format!("/agentic_commerce/issued_tokens/{spare}");
    let read = alpha.get(path).send().await.unwrap();
    assert_eq!((read.status.as_u16(), read.text("/status").as_deref()), (200, Some("revoked")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_a_replica_that_still_synchronises() {
    let [primary, replica] = [(); 2].map(|()| Server::start(redis_server::Options::default()));
    let store = format!(
        "engine = \"redis\"\nnodes = [\"{}\"]\nepoch_directory = \"epochs\"\naccept_loss = true\n\
         wait_replicas = 1\nwait_timeout = \"400ms\"\ncall_timeout = \"2s\"",
        primary.url()
    );
    // It has what was written only when a start has asked for it in vain for a while.
    let port = primary.port.to_string();
    let synchronised = tokio::task::spawn_blocking(move || {
        let end = Instant::now() + Duration::from_secs(20);
        // A start that gives up asks twice: once by the script's digest, once with the whole script.
        let waits = || {
            let stats = primary.command(&["INFO", "commandstats"]).text();
            let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_wait:calls="));
            calls.and_then(|calls| calls.split(',').next()?.parse().ok()).is_some_and(|calls: u32| calls > 3)
        };
        while !waits() {
            assert!(Instant::now() < end, "nobody waits for replicas");
            std::thread::sleep(Duration::from_millis(20));
        }
        replica.command(&["REPLICAOF", "127.0.0.1", &port]);
        (primary, replica)
    });
    let world = World::with(Options { store: Some(store), ..Options::default() }).await;
    let _servers = synchronised.await.unwrap();
    buy(&world).await;
}
