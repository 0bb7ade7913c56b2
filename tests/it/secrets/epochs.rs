//! Deletion of security codes: with the hour's key destroyed, no earlier copy of the store gives one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign::config::Config;
use countersign::crypto::aead::Sealed;
use countersign::domain::clock::{Clock, ManualClock, SystemClock};
use countersign::domain::id::KeyId;
use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::{Behaviour, CallKind, Redeem};
use countersign::storage::epoch::EpochKeys;
use http::Method;
use serde_json::json;

use super::drive::network_mint;
use super::needles::{CRYPTOGRAM, CVC, NETWORK_TOKEN, Needles};
use crate::redis_server::{self, Reply, Server};
use crate::world::*;

/// After an hour and the time for values on their way, the hour's key may go.
const HOUR_AND_GRACE: Duration = Duration::from_secs(3600 + 301);

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// A mint that lives for three hours.
async fn mint_for_hours(agent: &Agent, clock: &ManualClock) -> (String, u64, String) {
    let (session, total) = create(agent, "lamps").await;
    let mut mint = network_mint(&session, total);
    mint["allowance"]["expires_at"] = json!(clock.now().plus(Duration::from_secs(3 * 3600)).to_rfc3339());
    let minted = agent.post("/agentic_commerce/delegate_payment", &mint).send().await.unwrap();
    assert_eq!(minted.status, 201, "{}", minted.json());
    (session, total, minted.text("/id").unwrap())
}

/// Completes, and answers what the shop is given for the token meanwhile.
async fn redeemed(world: &World, session: &str, total: u64, token: &str) -> Answer {
    let before = world.lamps.calls_of(CallKind::Complete).len();
    world.lamps.behave(CallKind::Complete, Behaviour::HoldBefore);
    let completing = {
        let (agent, session, token) = (world.alpha(), session.to_owned(), token.to_owned());
        tokio::spawn(async move { complete(&agent, "lamps", &session, &token).await })
    };
    world.lamps.received(CallKind::Complete, before + 1).await;
    let claim = world.lamps.calls_of(CallKind::Complete)[before].idempotency_key.clone().unwrap();
    let redeem = Redeem {
        token: token.to_owned(),
        claim,
        session: session.to_owned(),
        amount: total,
        currency: "usd".to_owned(),
    };
    let answer = world.lamps.redeem(&redeem).await.unwrap().unwrap();
    world.lamps.behave_well();
    world.lamps.release();
    completing.await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_store_gives_no_code_once_its_hour_s_key_is_destroyed() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let options = Options { clock: Some(Arc::clone(&clock) as Arc<dyn Clock>), ..Options::default() };
    let mut world = World::with(options).await;
    let alpha = world.alpha();

    // While the key lives, the code is there: from the store itself, and from a copy.
    let (session, total, token) = mint_for_hours(&alpha, &clock).await;
    let (other_session, other_total, other_token) = mint_for_hours(&alpha, &clock).await;
    let given = redeemed(&world, &session, total, &token).await;
    assert_eq!(given.text("/payment_method/cryptogram").as_deref(), Some(CRYPTOGRAM), "{}", given.status);
    assert_eq!(given.text("/payment_method/cvc").as_deref(), Some(CVC));
    world.close().await;
    let [store, backup, epochs] = ["store", "backup", "epochs"].map(|name| world.directory.path().join(name));
    copy(&store, &backup);
    world.open().await;

    // The last token of the hour is done, the hour is over, and its key goes.
    let alpha = world.alpha();
    for token in [&token, &other_token] {
        let revoke = format!("/agentic_commerce/issued_tokens/{token}/revoke");
        let status = alpha.call(Method::POST, revoke).send().await.unwrap().status;
        assert!(status == 200 || status == 409, "{status}");
    }
    world.close().await;
    clock.advance(HOUR_AND_GRACE);
    let keys = EpochKeys::open(&epochs, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let over = keys.epochs().await;
    assert!(!over.is_empty());
    assert_eq!(keys.destroy_due(over.iter().cloned().collect()).await.unwrap(), over);
    drop(keys);

    // In the copy the other token lives on, and so does its card; its code does not.
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::rename(&backup, &store).unwrap();
    world.open().await;
    let given = redeemed(&world, &other_session, other_total, &other_token).await;
    assert_eq!(given.text("/payment_method/number").as_deref(), Some(NETWORK_TOKEN), "{}", given.json());
    for gone in ["cvc", "cryptogram", "eci_value"] {
        assert_eq!(given.json()["payment_method"].get(gone), None, "{gone}");
    }
}

/// The gateway itself destroys it, in the course of its work.
#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_destroys_the_key_of_an_hour_whose_tokens_are_done() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let options = Options { clock: Some(Arc::clone(&clock) as Arc<dyn Clock>), ..Options::default() };
    let mut world = World::with(options).await;
    let (_, _, token) = mint_for_hours(&world.alpha(), &clock).await;
    let epochs = world.directory.path().join("epochs");
    // Those of later hours are made ahead.
    let of_this_hour = format!("e{}-", clock.now().unix_seconds() / 3600);
    let keys = || {
        let names = std::fs::read_dir(&epochs).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().starts_with(&of_this_hour)).count()
    };
    assert_eq!(keys(), 1);
    clock.advance(HOUR_AND_GRACE);
    let expires = clock.now().plus(Duration::from_secs(3600));
    // Started again, the worker scans at once: while the token lives, so does the key.
    world.close().await;
    world.open().await;
    let scanned = async {
        while !world.app().metrics_text().contains("countersign_tokens{state=\"active\"} 1") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::wire::PATIENCE, scanned).await.expect("nothing is scanned");
    assert_eq!(keys(), 1);
    let revoke = format!("/agentic_commerce/issued_tokens/{token}/revoke");
    assert_eq!(world.alpha().call(Method::POST, revoke).send().await.unwrap().status, 200);
    world.close().await;
    world.open().await;
    let gone = async {
        while keys() > 0 {
            clock.advance(Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::wire::PATIENCE, gone).await.expect("the key outlives its hour");
    assert!(clock.now() < expires, "gone because the token had expired");
}

/// What a server of hourly keys holds, told by its own dump and by everybody who can read it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_hourly_keys_holds_none_in_clear() {
    let [store, epochs] = [(); 2].map(|()| Server::start(redis_server::Options::default()));
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let lines = format!(
        "engine = \"redis\"\nnodes = [\"{}\"]\nepoch_nodes = [\"{}\"]\naccept_loss = true\nserver_clock = false",
        store.url(),
        epochs.url()
    );
    let given = Arc::clone(&clock) as Arc<dyn Clock>;
    let world = World::with(Options { clock: Some(given), store: Some(lines), ..Options::default() }).await;
    let (session, total, token) = mint_for_hours(&world.alpha(), &clock).await;
    let given = redeemed(&world, &session, total, &token).await;
    assert_eq!(given.text("/payment_method/cvc").as_deref(), Some(CVC), "{}", given.status);

    // With the sealing ring, and only with it, each value opens under its own name.
    let config = Config::parse(&world.text, world.directory.path());
    let rings = config.map_err(|errors| errors.to_string()).unwrap().keys;
    let mut needles = Needles::of(&world);
    let (mut held, mut mark) = (Vec::new(), None);
    for name in epochs.command(&["KEYS", "*"]).parts() {
        let Reply::Bulk(value) = epochs.command(&["GET", &name.text()]) else { panic!("{name:?}") };
        let parts: Vec<&[u8]> = value.splitn(4, |byte| *byte == b' ').collect();
        let id = |part: &[u8]| KeyId::parse(std::str::from_utf8(part).unwrap()).unwrap();
        let sealed = Sealed { key: id(parts[2]), bytes: parts[3].to_vec().into() };
        let secret = rings.sealing.open(parts[1], &sealed).unwrap();
        assert_eq!(secret.expose().len(), 32, "{name:?}");
        assert!(rings.sealing.open(b"another", &sealed).is_err());
        if parts[1] == b"store" {
            mark = Some(secret);
        } else {
            needles.bytes(&name.text(), secret.expose());
        }
        held.push((name.text(), value));
    }
    // Those of this hour and the next, and which store they belong to.
    assert!(held.len() >= 2, "{}", held.len());
    store.command(&["SAVE"]);
    let dump = std::fs::read(store.directory().join("dump.rdb")).unwrap();
    let mut found = needles.find_in("the store", &dump);
    // What names the store is the store's own.
    needles.bytes("the store's tags", mark.unwrap().expose());
    found.extend(held.iter().flat_map(|(name, value)| needles.find_in(name, value)));
    epochs.command(&["SAVE"]);
    let dump = std::fs::read(epochs.directory().join("dump.rdb")).unwrap();
    assert!(dump.windows(7).any(|bytes| bytes == b"CSWRAP1"));
    found.extend(needles.find_in("the dump", &dump));
    assert!(found.is_empty(), "{}", found.join("\n"));
}
