//! SIGTERM: what is under way is finished, and then the process ends.
//!
//! Whatever it needs for that is still served, and nothing new begins.

use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::{Answer, Client, Http};
use countersign::quickstart::shop::{Behaviour, CallKind, Redeem};
use http::Request;
use http_body_util::Full;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::redis_server::{self, Server};
use crate::world::child::{Gateway, LOOK_AGAIN};
use crate::world::*;

/// Completes under way when the signal comes.
const UNDER_WAY: usize = 50;
/// From the signal to the end.
const DEADLINE: Duration = Duration::from_secs(25);

async fn start() -> (World, Gateway) {
    let server = format!("drain_timeout = \"{}s\"", DEADLINE.as_secs());
    let mut world = World::closed(Options { server, ..Options::default() }).await;
    let gateway = Gateway::start(&mut world).await;
    (world, gateway)
}

/// A session and a token for it, at one shop or the other.
async fn ready_to_pay(agent: &Agent, merchant: &str) -> (String, u64, String) {
    let (session, total) = create(agent, merchant).await;
    let token = mint(agent, merchant, &session, GOOD_CARD, total).await;
    (session, total, token)
}

async fn until_draining(gateway: &Gateway) {
    while gateway.probe("/readyz").await != Some(503) {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn assert_sent_away(answer: &Answer) {
    // `delegate_payment` knows only its own enumeration of codes.
    let code = answer.code().unwrap();
    assert!(
        answer.status == 503 && ["shutting_down", "service_unavailable"].contains(&code.as_str()),
        "{code}"
    );
    assert!(answer.header("retry-after").is_some());
}

async fn status_of(agent: &Agent, token: &str) -> String {
    let answer = agent.get(format!("/agentic_commerce/issued_tokens/{token}")).send().await.unwrap();
    answer.text("/status").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_completes_that_wait_for_their_cards_settle_before_the_process_ends() {
    let (world, mut gateway) = start().await;
    let alpha = world.alpha();
    let shops = [("lamps", &world.lamps), ("books", &world.books)];
    let mut purchases = Vec::new();
    for (merchant, _) in shops.into_iter().cycle().take(UNDER_WAY) {
        purchases.push((merchant, ready_to_pay(&alpha, merchant).await));
    }
    let (spare_session, spare_total, spare) = ready_to_pay(&alpha, "lamps").await;
    for (_, shop) in shops {
        shop.behave(CallKind::Complete, Behaviour::HoldBefore);
    }
    let mut completes = JoinSet::new();
    for (merchant, (session, _, token)) in purchases.clone() {
        let alpha = alpha.clone();
        completes.spawn(async move { complete(&alpha, merchant, &session, &token).await });
    }
    for (_, shop) in shops {
        received(shop, CallKind::Complete, UNDER_WAY / 2).await;
    }

    gateway.terminate();
    let told = Instant::now();
    until_draining(&gateway).await;
    assert_eq!(gateway.probe("/livez").await, Some(200), "it lives until it has ended");

    // Nothing new begins, over an old connection or a new one.
    for agent in [&alpha, &world.alpha()] {
        let (session, token) = (&spare_session, &spare);
        assert_sent_away(&agent.post("/m/lamps/checkout_sessions", &lamp_order()).send().await.unwrap());
        assert_sent_away(&try_mint(agent, "lamps", session, GOOD_CARD, spare_total).await);
        assert_sent_away(&complete(agent, "lamps", session, token).await);
        let read = agent.get(format!("/m/lamps/checkout_sessions/{session}"));
        assert_sent_away(&read.send().await.unwrap());
    }

    // What completes under way need is served, over new connections too.
    let held = world.lamps.calls_of(CallKind::Complete).remove(0);
    let (_, (session, total, token)) =
        purchases.iter().find(|(_, (session, _, _))| held.path.contains(session.as_str())).unwrap();
    let merchant = Client::new(gateway.public, world.certificates.client().unwrap(), Http::Two);
    let granted = format!("https://{GATEWAY}/agentic_commerce/granted_tokens/{token}");
    let bearer = format!("Bearer {}", world.redeemer.expose());
    let granted = Request::get(granted).header("authorization", bearer).body(Full::<Bytes>::default());
    let granted = merchant.send(granted.unwrap()).await.unwrap();
    assert_eq!((granted.status.as_u16(), granted.text("/status").as_deref()), (200, Some("claimed")));
    let redeem = Redeem {
        token: token.clone(),
        claim: held.idempotency_key.unwrap(),
        session: session.clone(),
        amount: *total,
        currency: "usd".to_owned(),
    };
    let redeemed = world.lamps.redeem(&redeem).await.unwrap().unwrap();
    assert_eq!(redeemed.text("/payment_method/number").as_deref(), Some(GOOD_CARD));
    let revoke = format!("/agentic_commerce/issued_tokens/{spare}/revoke");
    let revoked = world.alpha().post(revoke, &serde_json::json!({})).send().await.unwrap();
    assert_eq!((revoked.status.as_u16(), revoked.text("/status").as_deref()), (200, Some("revoked")));

    for (_, shop) in shops {
        shop.release();
    }
    for answer in completes.join_all().await {
        assert_eq!((answer.status.as_u16(), answer.text("/status").as_deref()), (200, Some("completed")));
    }
    let status = gateway.exited(DEADLINE).await;
    println!("{UNDER_WAY} completes settled and the process ended {:?} after SIGTERM", told.elapsed());
    assert!(status.success(), "{status}");
    assert_eq!(world.lamps.charges().len() + world.books.charges().len(), UNDER_WAY);

    // Nothing was left in doubt: every token is spent on record, before any session is read.
    gateway.restart().await;
    let alpha = world.alpha();
    for (_, (_, _, token)) in &purchases {
        assert_eq!(status_of(&alpha, token).await, "consumed");
    }
    assert_eq!(status_of(&alpha, &spare).await, "revoked");
    for (_, shop) in shops {
        assert_eq!(shop.calls_of(CallKind::Read).len(), 0);
        assert_eq!(shop.not_redeemed(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_whose_body_is_still_arriving_is_under_way_too() {
    let (world, mut gateway) = start().await;
    let alpha = world.alpha();
    let (session, _, token) = ready_to_pay(&alpha, "lamps").await;
    let path = format!("/m/lamps/checkout_sessions/{session}/complete");
    let call = alpha.post(path, &payment(&token)).prepare().unwrap();
    let mut head = format!("{} {} HTTP/1.1\r\nhost: {GATEWAY}\r\n", call.method, call.path);
    for (name, value) in &call.headers {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    head.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n", call.body.len()));
    let (first, rest) = call.body.split_at(call.body.len() / 2);

    let tls = tokio_rustls::TlsConnector::from(std::sync::Arc::new(world.certificates.client().unwrap()));
    let socket = tokio::net::TcpStream::connect(gateway.public).await.unwrap();
    let mut stream = tls.connect(ServerName::try_from(GATEWAY).unwrap(), socket).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(first).await.unwrap();
    stream.flush().await.unwrap();
    while !gateway.metrics().await.contains("\ncountersign_requests_under_way 1\n") {
        tokio::time::sleep(LOOK_AGAIN).await;
    }

    gateway.terminate();
    until_draining(&gateway).await;
    stream.write_all(rest).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""status":"completed""#), "{answer}");
    assert!(gateway.exited(DEADLINE).await.success());
    assert_eq!(charges_of(&world.lamps, &session).len(), 1);
    assert_eq!(world.lamps.not_redeemed(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_that_never_answers_holds_the_process_no_longer_than_the_deadline() {
    let options = Options { server: "drain_timeout = \"2s\"".to_owned(), ..Options::default() };
    let mut world = World::closed(options).await;
    let mut gateway = Gateway::start(&mut world).await;
    let alpha = world.alpha();
    let (session, _, token) = ready_to_pay(&alpha, "lamps").await;
    world.lamps.behave(CallKind::Complete, Behaviour::HoldAfter);
    let path = format!("/m/lamps/checkout_sessions/{session}/complete");
    let call = alpha.post(path, &payment(&token)).prepare().unwrap();
    let sent = tokio::spawn({
        let (alpha, call) = (alpha.clone(), call.clone());
        async move { alpha.send(&call).await }
    });
    received(&world.lamps, CallKind::Complete, 1).await;
    gateway.terminate();
    let told = Instant::now();
    let status = gateway.exited(Duration::from_secs(8)).await;
    assert!(status.success() && told.elapsed() >= Duration::from_secs(2), "{status}: {:?}", told.elapsed());
    assert!(sent.await.unwrap().is_err(), "the connection was cut");

    // What it could not finish, the next process finds out.
    gateway.restart().await;
    let answer = world.alpha().send(&call).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.text("/status").as_deref()), (200, Some("completed")));
    assert_eq!(charges_of(&world.lamps, &session).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_signal_that_asks_to_end_drains_and_others_end_nothing_even_in_a_drain() {
    let (world, mut gateway) = start().await;
    for name in ["QUIT", "USR1", "INT", "TERM"] {
        let alpha = world.alpha();
        let (session, _, token) = ready_to_pay(&alpha, "lamps").await;
        world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
        let before = world.lamps.calls_of(CallKind::Complete).len();
        let buying = tokio::spawn({
            let (alpha, session) = (alpha.clone(), session.clone());
            async move { complete(&alpha, "lamps", &session, &token).await }
        });
        received(&world.lamps, CallKind::Complete, before + 1).await;
        gateway.signal("USR2");
        until_logged(&gateway, r#""event":"signal_ignored","signal":"SIGUSR2""#).await;
        // The configuration is read again, and says what it said.
        let before = gateway.log().matches("config_unchanged").count();
        gateway.signal("HUP");
        while gateway.log().matches("config_unchanged").count() == before {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        assert_eq!(gateway.probe("/readyz").await, Some(200), "HUP and USR2 end nothing");

        gateway.signal(name);
        until_draining(&gateway).await;
        let hangups = gateway.log().matches(r#""signal":"SIGHUP""#).count();
        gateway.signal("HUP");
        gateway.signal(name);
        until_logged(&gateway, &format!(r#""event":"signal_ignored","signal":"SIG{name}""#)).await;
        while gateway.log().matches(r#""signal":"SIGHUP""#).count() == hangups {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        world.lamps.release();
        let answer = buying.await.unwrap();
        assert_eq!(answer.text("/status").as_deref(), Some("completed"), "{name}");
        assert!(gateway.exited(DEADLINE).await.success(), "{name}");
        assert_eq!(charges_of(&world.lamps, &session).len(), 1);
        gateway.restart().await;
    }
}

async fn until_logged(gateway: &Gateway, words: &str) {
    while !gateway.log().contains(words) {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn until_an_announced_drain_begins_readiness_is_off_and_all_work_is_taken() {
    let options = Options { server: "drain_delay = \"5m\"".to_owned(), ..Options::default() };
    let mut world = World::closed(options).await;
    let gateway = Gateway::start(&mut world).await;
    gateway.terminate();
    until_draining(&gateway).await;
    let alpha = world.alpha();
    let (session, _, token) = ready_to_pay(&alpha, "lamps").await;
    let answer = complete(&alpha, "lamps", &session, &token).await;
    assert_eq!(answer.text("/status").as_deref(), Some("completed"), "{}", answer.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announced_drain_begins_by_itself_and_the_service_manager_is_told() {
    let options = Options { server: "drain_delay = \"1s\"".to_owned(), ..Options::default() };
    let mut world = World::closed(options).await;
    let socket = world.directory.path().join("notify");
    let manager = tokio::net::UnixDatagram::bind(&socket).unwrap();
    let told = async || {
        let mut message = [0; 64];
        let length = manager.recv(&mut message).await.unwrap();
        std::str::from_utf8(&message[..length]).unwrap().trim().to_owned()
    };
    let script = format!("NOTIFY_SOCKET={} exec \"$0\" \"$@\"", socket.display());
    let mut gateway = Gateway::start_through(&mut world, script).await;
    assert_eq!(told().await, "READY=1");
    gateway.terminate();
    assert_eq!(told().await, "STOPPING=1");
    assert!(gateway.exited(DEADLINE).await.success());
    let log = gateway.log();
    let at = |event: &str| log.find(&format!(r#""event":"{event}""#)).unwrap_or_else(|| panic!("{log}"));
    assert!(at("drain_announced") < at("draining") && at("draining") < at("stopped"), "{log}");
    assert!(log.contains(r#""event":"drain_announced","begins_in":1000"#), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_waits_for_its_store_ends_when_it_is_told_to() {
    let alone = Server::start(redis_server::Options::default());
    // It waits for a replica that there is not.
    let store = format!(
        "engine = \"redis\"\nnodes = [\"{}\"]\nepoch_directory = \"epochs\"\naccept_loss = true\n\
         wait_replicas = 1\nwait_timeout = \"100ms\"\ncall_timeout = \"1s\"",
        alone.url()
    );
    let world = World::closed(Options { store: Some(store), ..Options::default() }).await;
    let config = world.directory.path().join("waiting.toml");
    std::fs::write(&config, &world.text).unwrap();
    let starting = std::process::Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(["serve", "--config"])
        .arg(&config)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let waits = || {
        let stats = alone.command(&["INFO", "commandstats"]).text();
        stats.contains("cmdstat_wait:calls=")
    };
    while !tokio::task::block_in_place(waits) {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let id = starting.id().to_string();
    assert!(std::process::Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
    let ended = tokio::task::block_in_place(|| starting.wait_with_output().unwrap());
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success() && said.contains("SIGTERM while starting"), "{said}");
}
