//! Hourly keys in a Redis of their own, for replicas that share no file system.

use std::time::Instant;

use countersign::config::Config;
use countersign::domain::clock::KeptClock;
use countersign::quickstart::shop::Behaviour;
use countersign::storage::open_engine;

use super::epochs::{card_of, lasting, until};
use super::*;
use crate::redis_server::{self, Persistence, Reply, Server};

/// How long what happens by itself may take.
const PATIENCE: Duration = Duration::from_secs(30);
const CODE: &str = "security_codes_unavailable";

fn server(options: redis_server::Options) -> Server {
    Server::start(options)
}

/// The lines of `[store]`: records in one server, hourly keys in others.
fn lines(store: &Server, epochs: &[&str]) -> Options {
    let lines = format!(
        "engine = \"redis\"\nnodes = [\"{}\"]\nepoch_nodes = {epochs:?}\naccept_loss = true\nserver_clock = false",
        store.url()
    );
    Options { store: Some(lines), ..Options::default() }
}

/// The servers of a world, and the world.
async fn apart() -> (Server, Server, World, Arc<ManualClock>) {
    let (store, epochs) = (server(Default::default()), server(Default::default()));
    let (world, clock) = at_rest(lines(&store, &[&epochs.url()])).await;
    (store, epochs, world, clock)
}

/// What a server holds under the hour of an instant.
fn key_of_hour(epochs: &Server, instant: Timestamp) -> Option<String> {
    let name = format!("countersign:epoch:{}", instant.unix_seconds() / 3600);
    match epochs.command(&["GET", &name]) {
        Reply::Nil => None,
        held => Some(held.text()),
    }
}

fn logged(world: &World, event: &str) -> bool {
    world.log.text().contains(&format!(r#""event":"{event}""#))
}

async fn readiness(world: &World) -> (u16, String) {
    let told = ask_admin(world.app().admin_address(), None, "GET /readyz", None).await;
    (told.status, told.body.to_string())
}

async fn until_ready(world: &World, ready: bool) -> String {
    let begun = Instant::now();
    loop {
        let (status, told) = readiness(world).await;
        if (status == 200) == ready {
            return told;
        }
        assert!(begun.elapsed() < PATIENCE, "{status} {told}: {}", world.log.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A mint of a card with its code.
async fn mint_with_code(world: &World) -> Answer {
    let alpha = world.alpha();
    let (session, total) = session(&alpha).await;
    ask(&alpha, alpha.post(MINT, &mint_request(GOOD_CARD, "lamps", &session, total))).await
}

/// A mint's codes are ACP's; the log has our own.
fn is_refused_for_its_code(refused: &Answer) -> bool {
    let message = refused.text("/message").unwrap_or_default();
    told(refused) == refusal(503, "service_unavailable") && message.contains("security codes")
}

async fn refuses_codes(world: &World) {
    let refused = mint_with_code(world).await;
    assert!(is_refused_for_its_code(&refused), "{} {}", refused.status, refused.json());
    assert!(refused.header("retry-after").is_some());
    until("the line in the log", || world.log.text().contains(&format!(r#""decision":"{CODE}""#))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_share_no_directory_open_what_any_of_them_sealed() {
    let (_store, epochs, mut world, clock) = apart().await;
    let alpha = world.alpha();
    let (first, total, one) = lasting(&world, &clock).await;
    let home = world.app().public_address();
    let replica = world.open_replica().await;
    world.meet(replica);
    let there = world.alpha();
    let card = card_of(&world, &there, &first, total, &one).await;
    assert_eq!(card["payment_method"]["cvc"], "737");
    let held = key_of_hour(&epochs, clock.now()).unwrap();
    // And the other way round, under the same key: all agree on one.
    let (second, total, other) = lasting(&world, &clock).await;
    world.meet(home);
    let card = card_of(&world, &alpha, &second, total, &other).await;
    assert_eq!(card["payment_method"]["cvc"], "737");
    assert_eq!(key_of_hour(&epochs, clock.now()), Some(held));
    assert!(!world.directory.path().join("epochs").exists());
    // The key is in memory: mints ask the server nothing. (It is looked at once a minute all the same.)
    let asked = || {
        let calls = |command| {
            let stat = epochs.info(&format!("cmdstat_{command}")).unwrap_or_default();
            stat.trim_start_matches("calls=").split(',').next().unwrap().parse().unwrap_or(0)
        };
        ["get", "mget", "set", "eval"].into_iter().map(calls).sum::<u64>()
    };
    let before = asked();
    for _ in 0..50 {
        assert_eq!(mint_with_code(&world).await.status, 201);
    }
    assert!(asked() < before + 25, "{} commands for 50 mints", asked() - before);
    // It goes by itself when the last token that it can be of has ended, were nobody there to delete it.
    let name = format!("countersign:epoch:{}", clock.now().unix_seconds() / 3600);
    let life = epochs.command(&["PTTL", &name]).integer().unwrap();
    assert!((1..=(7 * 24 + 1) * 3_600_000 + 300_000).contains(&life), "{life}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_keys_that_is_started_again_costs_the_codes_and_no_card() {
    let (_store, mut epochs, mut world, clock) = apart().await;
    let alpha = world.alpha();
    let (lost, total, token) = lasting(&world, &clock).await;
    let (also_lost, _, other) = lasting(&world, &clock).await;
    // Nor does a dump that somebody made of it bring them back.
    epochs.command(&["SAVE"]);
    epochs.kill();
    epochs.restart();
    until("the news", || world.app().metrics_text().contains("\ncountersign_epoch_node_restarts_total 1\n"))
        .await;
    until("the event", || logged(&world, "epoch_node_restarted")).await;
    let begun = Instant::now();
    let (fresh, sum, minted) = loop {
        // It may be met again a moment after the news.
        let answer = mint_with_code(&world).await;
        if answer.status == 201 {
            break lasting(&world, &clock).await;
        }
        assert!(is_refused_for_its_code(&answer), "{} {}", answer.status, answer.json());
        assert!(begun.elapsed() < PATIENCE, "{}", world.log.text());
    };
    let card = card_of(&world, &alpha, &fresh, sum, &minted).await;
    assert_eq!(card["payment_method"]["cvc"], "737");
    let card = card_of(&world, &alpha, &lost, total, &token).await;
    assert_eq!(card["payment_method"]["number"], GOOD_CARD);
    assert_eq!(card["payment_method"].get("cvc"), None, "{}", card["payment_method"]);
    // It is counted how many are left without.
    clock.advance(Duration::from_secs(61));
    let counted = || world.app().metrics_text().contains("\ncountersign_codes_lost 1\n");
    until("the count of lost codes", counted).await;
    // A replica that has never met the process that is gone knows no better.
    let replica = world.open_replica().await;
    world.meet(replica);
    let card = card_of(&world, &world.alpha(), &also_lost, total, &other).await;
    assert_eq!(card["payment_method"]["number"], GOOD_CARD);
    assert_eq!(card["payment_method"].get("cvc"), None, "{}", card["payment_method"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_of_keys_does_not_answer_codes_are_refused_and_come_again() {
    let (_store, epochs, world, clock) = apart().await;
    let alpha = world.alpha();
    let (session, total, token) = lasting(&world, &clock).await;
    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let (waiting, claim) = under_way(&world, &alpha, complete_call(&alpha, &session, &token, "k")).await;
    let asked = Redeem { token, claim, session: session.clone(), amount: total, currency: "usd".to_owned() };
    epochs.pause();
    let why = until_ready(&world, false).await;
    assert!(why.contains(&format!("127.0.0.1:{}: ", epochs.port)), "{why}");
    for _ in 0..3 {
        let refused = redeem(&world, &asked).await;
        assert_eq!(told(&refused), refusal(503, CODE), "{}", refused.json());
        refuses_codes(&world).await;
    }
    // Everything else goes on.
    let path = format!("/m/lamps/checkout_sessions/{session}");
    assert_eq!(ask(&alpha, alpha.get(path)).await.status, 200);
    epochs.resume();
    until_ready(&world, true).await;
    let given = redeem(&world, &asked).await;
    assert_eq!(given.status, 200, "{}", given.json());
    assert_eq!(given.json()["payment_method"]["cvc"], "737");
    // The shop's answer may come too late for its own deadline by now.
    world.lamps.release();
    waiting.await.unwrap();
    assert_eq!(mint_with_code(&world).await.status, 201);
    for event in ["epoch_nodes_unusable", "epoch_nodes_usable"] {
        until(event, || logged(&world, event)).await;
    }
    assert!(world.app().metrics_text().contains("\ncountersign_epoch_node_restarts_total 0\n"));
}

/// No server is at fault: what is wrong is told all the same.
#[tokio::test(flavor = "multi_thread")]
async fn where_a_key_does_not_open_codes_are_refused_and_the_log_says_so() {
    let (_store, epochs, mut world, clock) = apart().await;
    assert_eq!(mint_with_code(&world).await.status, 201);
    world.close().await;
    let this_hour = clock.now().unix_seconds() / 3600;
    let names = [this_hour, this_hour + 1].map(|hour| format!("countersign:epoch:{hour}"));
    let mut damaged = 0;
    for name in names {
        let size = epochs.command(&["STRLEN", &name]).integer().unwrap();
        if size > 2 {
            // Its end; the name of who made it stays.
            epochs.command(&["SETRANGE", &name, &(size - 2).to_string(), "~~"]);
            damaged += 1;
        }
    }
    assert!(damaged > 0, "the key of this hour is there");
    world.open().await;
    let refused = mint_with_code(&world).await;
    assert!(is_refused_for_its_code(&refused), "{}", refused.json());
    until("the event", || logged(&world, "epoch_nodes_unusable")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_keeps_what_it_is_told_is_used_for_no_code_and_readiness_says_why() {
    let keeping = redis_server::Options { persistence: Persistence::EverySecond, ..Default::default() };
    let (store, epochs) = (server(Default::default()), server(keeping));
    let (mut world, _clock) = {
        let sound = server(Default::default());
        let mut begun = at_rest(lines(&store, &[&sound.url()])).await;
        begun.0.close().await;
        begun
    };
    let own = world.text.lines().find(|line| line.starts_with("epoch_nodes")).unwrap().to_owned();
    world.text = world.text.replace(&own, &format!("epoch_nodes = [\"{}\"]", epochs.url()));
    world.open().await;
    let why = until_ready(&world, false).await;
    assert!(why.contains("append-only file"), "{why}");
    refuses_codes(&world).await;
    epochs.command(&["CONFIG", "SET", "appendonly", "no"]);
    until_ready(&world, true).await;
    assert_eq!(mint_with_code(&world).await.status, 201);
    for (name, wrong, right, words) in [
        ("save", "60 1000", "", "snapshots"),
        ("maxmemory-policy", "allkeys-lru", "noeviction", "allkeys-lru"),
    ] {
        epochs.command(&["CONFIG", "SET", name, wrong]);
        // Looked at every minute, and with every connection.
        epochs.command(&["CLIENT", "KILL", "TYPE", "normal"]);
        let why = until_ready(&world, false).await;
        assert!(why.contains(words), "{why}");
        refuses_codes(&world).await;
        epochs.command(&["CONFIG", "SET", name, right]);
        until_ready(&world, true).await;
        assert_eq!(mint_with_code(&world).await.status, 201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_is_begun_only_where_it_is_known_that_there_was_none() {
    let (store, mut epochs, mut world, clock) = apart().await;
    let (_, _, _) = lasting(&world, &clock).await;
    world.close().await;
    let opened = async |world: &World| {
        let config = Config::parse(&world.text, world.directory.path());
        let config = config.map_err(|errors| errors.to_string()).unwrap();
        let clock = Arc::new(KeptClock::new(Arc::clone(&world.clock)));
        let opened = open_engine(config.store, clock, Arc::new(|_| {}), Arc::new(|_| {}), &config.keys).await;
        opened.map(|opened| opened.records.health().is_ok()).map_err(|error| error.to_string())
    };
    assert_eq!(opened(&world).await, Ok(true));
    store.command(&["FLUSHALL"]);
    // The server of the keys knows that there was one: an operator is to look.
    assert_eq!(opened(&world).await, Ok(false));
    epochs.kill();
    let refused = opened(&world).await.unwrap_err();
    assert!(refused.contains("whether one was lost cannot be told"), "{refused}");
    epochs.restart_empty();
    assert_eq!(opened(&world).await, Ok(true));
    // Of another store it is refused.
    let (_other_store, _, other, _) = apart().await;
    let own = other.text.lines().find(|line| line.starts_with("epoch_nodes")).unwrap();
    world.text = other.text.replace(own, &format!("epoch_nodes = [\"{}\"]", epochs.url()));
    let refused = opened(&world).await.unwrap_err();
    assert!(refused.contains("another store"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_the_store_holds_no_key_of_a_code_whatever_it_is_called() {
    let store = server(Default::default());
    let other_name = format!("redis://localhost:{}", store.port);
    let (world, _clock) = at_rest(lines(&store, &[&other_name])).await;
    let why = until_ready(&world, false).await;
    assert!(why.contains("it serves the store"), "{why}");
    refuses_codes(&world).await;
    assert!(store.command(&["KEYS", "countersign:epoch:*"]).parts().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_takes_over_for_new_codes_and_the_first_keeps_its_own() {
    let (store, first, second) =
        (server(Default::default()), server(Default::default()), server(Default::default()));
    let (world, clock) = at_rest(lines(&store, &[&first.url(), &second.url()])).await;
    let alpha = world.alpha();
    let (session, total, token) = lasting(&world, &clock).await;
    assert_eq!(key_of_hour(&second, clock.now()), None);
    first.pause();
    let begun = Instant::now();
    while key_of_hour(&second, clock.now()).is_none() {
        assert!(begun.elapsed() < PATIENCE, "{}", world.log.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (later, sum, minted) = lasting(&world, &clock).await;
    assert_eq!(readiness(&world).await.0, 200);
    let card = card_of(&world, &alpha, &later, sum, &minted).await;
    assert_eq!(card["payment_method"]["cvc"], "737");
    first.resume();
    until("the news that both can be used", || logged(&world, "epoch_nodes_usable")).await;
    let card = card_of(&world, &alpha, &session, total, &token).await;
    assert_eq!(card["payment_method"]["cvc"], "737");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_a_server_holds_dies_with_the_last_token_of_its_hour_on_every_replica() {
    let (_store, epochs, mut world, clock) = apart().await;
    let alpha = world.alpha();
    let begun = clock.now();
    let (kept, total, last) = lasting(&world, &clock).await;
    let (_, _, early) = lasting(&world, &clock).await;
    assert_eq!(revoke(&alpha, &early).await.status, 200);
    clock.advance(2 * HOUR);
    let scanned = r#"countersign_tokens{state="active"} 1"#;
    until("a scan", || world.app().metrics_text().contains(scanned)).await;
    assert!(key_of_hour(&epochs, begun).is_some(), "one token still needs it");
    let replica = world.open_replica().await;
    world.meet(replica);
    let card = card_of(&world, &world.alpha(), &kept, total, &last).await;
    assert_eq!(card["payment_method"]["cvc"], "737");
    clock.advance(Duration::from_secs(120));
    until("the end of the key", || key_of_hour(&epochs, begun).is_none()).await;
    // The server says of itself that it was destroyed: nothing was lost.
    assert!(world.app().metrics_text().contains("\ncountersign_epoch_node_restarts_total 0\n"));
}
