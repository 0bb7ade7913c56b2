//! How a connection goes on behind a refusal.
//!
//! Over a body that was not asked for, over leave to send one that was never given, and over a client
//! that has closed its half.

use std::time::Duration;

use countersign::quickstart::shop::{Behaviour, CallKind};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::bench::{Base, Bench, fresh_key};
use crate::wire::{PATIENCE, Raw, Received, Socket, connect, receive, rest};
use crate::world::*;

/// More than is read of a body that nobody asked for while its sender waits.
const LARGE: usize = 300 << 10;

type Spoil = fn(Raw) -> Raw;

/// What is refused before its body is read, at each of the stages that can.
const EARLY: [(&str, Spoil, u16); 10] = [
    ("another host", |raw| raw.set("host", "evil.test"), 421),
    ("two hosts", |raw| raw.add("host", SHOP_HOST), 400),
    ("no such path", |raw| raw.target("/m/lamps/nothing"), 404),
    ("no such method", |raw| raw.method("PATCH"), 405),
    ("a credential nobody has", |raw| raw.set("authorization", "Bearer nobody"), 401),
    ("no credential at a redeem", |raw| raw.without("authorization").target(REDEEM), 401),
    ("no such merchant", |raw| raw.target("/m/nobody/checkout_sessions"), 404),
    ("no version", |raw| raw.without("api-version"), 400),
    ("no key", |raw| raw.without("idempotency-key"), 400),
    ("a public document", |raw| raw.method("GET").target("/.well-known/jwks.json"), 200),
];

const REDEEM: &str = "/agentic_commerce/granted_tokens/vt_00000000000000000000000000000000/redeem";

async fn create(bench: &Bench) -> Raw {
    Raw::of(&bench.target(Base::Create).await.call(bench, &fresh_key()).prepare().unwrap())
}

async fn read(bench: &Bench) -> Raw {
    Raw::of(&bench.target(Base::Read).await.call(bench, "").prepare().unwrap())
}

async fn send(socket: &mut Socket, bytes: &[u8]) {
    socket.write_all(bytes).await.unwrap();
    socket.flush().await.unwrap();
}

/// Whether the answer says that the connection ends, and it did, without another word.
fn ended(received: &Received) -> bool {
    received.closed && received.more.is_empty() && received.header("connection") == Some("close")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_a_body_not_read_says_that_the_connection_ends() {
    let bench = &Bench::start("").await;
    let bodies = ["announced", "begun", "in chunks", "awaiting leave"];
    let rows = EARLY.iter().flat_map(|row| bodies.map(|body| (row, body)));
    let failures = join_all(rows.map(|((name, spoil, status), body)| async move {
        let raw = spoil(create(bench).await).set("content-length", LARGE.to_string());
        let chunked = |raw: Raw| raw.without("content-length").add("transfer-encoding", "chunked");
        let raw = match body {
            "announced" => raw.framed(""),
            "begun" => raw.framed("{"),
            "in chunks" => chunked(raw).framed("1\r\n{\r\n"),
            _ => raw.add("expect", "100-continue").framed(""),
        };
        let mut socket = connect(&bench.world, b"http/1.1").await;
        send(&mut socket, &raw.bytes()).await;
        let received = receive(&mut socket).await;
        let right = received.status == Some(*status) && ended(&received);
        (!right).then(|| format!("{name}, {body}: {:?} {:?}", received.status, received.headers))
    }))
    .await;
    let failures: Vec<_> = failures.into_iter().flatten().collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_listener_says_so_too() {
    let bench = Bench::start("").await;
    for target in ["/livez", "/nothing", "/claims/resolve"] {
        let mut stream = TcpStream::connect(bench.world.app().admin_address()).await.unwrap();
        let head = format!("POST {target} HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 4") && answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_body_that_comes_whole_costs_no_connection() {
    let bench = Bench::start("").await;
    let good = read(&bench).await.bytes();
    for (name, spoil, status) in EARLY {
        let raw = spoil(create(&bench).await);
        let chunk =
            [format!("{:x}\r\n", raw.body.len()).into_bytes(), raw.body.clone(), b"\r\n0\r\n\r\n".to_vec()];
        let chunked =
            raw.clone().without("content-length").add("transfer-encoding", "chunked").framed(chunk.concat());
        let mut socket = connect(&bench.world, b"http/1.1").await;
        for refused in [raw, chunked] {
            send(&mut socket, &refused.head()).await;
            send(&mut socket, &refused.body).await;
            let received = receive(&mut socket).await;
            assert_eq!((received.status, received.closed), (Some(status), false), "{name}: {received:?}");
            send(&mut socket, &good).await;
            let received = receive(&mut socket).await;
            assert_eq!((received.status, received.closed), (Some(200), false), "behind {name}: {received:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leave_to_send_that_was_not_given_eats_no_request() {
    let bench = Bench::start("").await;
    let create = create(&bench).await.add("expect", "100-continue");
    let refused = create.clone().set("authorization", "Bearer nobody");
    let before = bench.calls();
    let mut socket = connect(&bench.world, b"http/1.1").await;
    // Whoever has not heard the refusal yet sends on: a request behind it is not its body.
    send(&mut socket, &[refused.head(), read(&bench).await.bytes()].concat()).await;
    let received = receive(&mut socket).await;
    assert_eq!(received.status, Some(401));
    assert!(ended(&received), "{received:?}");
    assert_eq!(bench.calls(), before);

    let mut socket = connect(&bench.world, b"http/1.1").await;
    send(&mut socket, &create.head()).await;
    let leave = receive(&mut socket).await;
    assert_eq!(leave.status, Some(100));
    send(&mut socket, &create.body).await;
    let received = receive(&mut socket).await;
    assert_eq!((received.status, received.closed), (Some(201), false), "{received:?}");
    send(&mut socket, &read(&bench).await.bytes()).await;
    assert_eq!(receive(&mut socket).await.status, Some(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_all_of_a_large_body_still_reads_its_refusal() {
    let bench = Bench::start("").await;
    let raw = create(&bench).await.set("content-length", (6 << 20).to_string());
    for raw in [raw.clone(), raw.set("authorization", "Bearer nobody")] {
        let mut socket = connect(&bench.world, b"http/1.1").await;
        // First all of it, as simple clients do: a connection reset on the way would be all they see.
        send(&mut socket, &raw.framed(vec![b' '; 6 << 20]).bytes()).await;
        let received = receive(&mut socket).await;
        assert!(matches!(received.status, Some(401 | 413)), "{received:?}");
        assert!(ended(&received), "{received:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_too_many_fields_ends_its_connection_when_its_body_is_not_there() {
    let bench = Bench::start("header_count = 20").await;
    let mut raw = create(&bench).await.set("content-length", LARGE.to_string()).framed("");
    for n in 0..20 {
        raw = raw.add(&format!("x-{n}"), "1");
    }
    let mut socket = connect(&bench.world, b"http/1.1").await;
    send(&mut socket, &raw.bytes()).await;
    let received = receive(&mut socket).await;
    assert_eq!(received.status, Some(431));
    assert!(ended(&received), "{received:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_closes_its_half_behind_a_whole_request_is_answered_and_then_left() {
    let bench = Bench::start("").await;
    bench.world.lamps.behave(CallKind::Complete, Behaviour::HoldAfter);
    for with_an_alert in [true, false] {
        let charges = bench.world.lamps.charges().len();
        let target = bench.target(Base::Complete).await;
        let key = fresh_key();
        let raw = Raw::of(&target.call(&bench, &key).prepare().unwrap());
        let mut socket = connect(&bench.world, b"http/1.1").await;
        send(&mut socket, &raw.bytes()).await;
        if with_an_alert {
            socket.shutdown().await.unwrap();
        } else {
            socket.get_mut().0.shutdown().await.unwrap();
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while bench.world.lamps.charges().len() == charges {
            assert!(tokio::time::Instant::now() < deadline, "nothing was charged");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bench.world.lamps.release();
        let received = receive(&mut socket).await;
        assert_eq!(received.status, Some(200), "{received:?}");
        assert_eq!(received.json()["status"], "completed");
        assert_eq!(rest(&mut socket).await, b"", "and then the connection ends");
    }
}
