//! Where a request ends: lengths, chunks, limits of size and time, and what is smuggled behind.

use tokio::io::AsyncWriteExt;

use super::bench::{Base, Bench, Row, closing, fresh_key, row, unreadable};
use crate::wire::{Raw, connect, receive, rest};

/// A good request to hide behind another: a merchant would be called if it were read.
fn hidden(bench: &Bench) -> Vec<u8> {
    let call = bench.alpha.post("/m/books/checkout_sessions", &crate::world::lamp_order());
    Raw::of(&call.key(fresh_key()).prepare().unwrap()).bytes()
}

/// An empty chunked body, and a request behind it.
fn smuggled(raw: Raw, bench: &Bench) -> Raw {
    let body = [b"0\r\n\r\n".to_vec(), hidden(bench)].concat();
    raw.framed(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_end_is_disputed_is_the_last_of_its_connection() {
    let chunked = |raw: Raw| raw.without("content-length").add("transfer-encoding", "chunked");
    // Read by its chunks, as RFC 9112 §6.3 says; the connection ends all the same (§6.1).
    let by_chunks = || closing(401, "content_digest_mismatch");
    let mut rows = vec![
        row(
            "a length, then chunks",
            Base::Complete,
            |raw, b| smuggled(raw.add("transfer-encoding", "chunked"), b),
            by_chunks(),
        ),
        row(
            "chunks, then a length",
            Base::Complete,
            move |raw, b| {
                let length = raw.text("content-length");
                smuggled(chunked(raw).add("content-length", length), b)
            },
            by_chunks(),
        ),
        row(
            "two lengths",
            Base::Create,
            |raw, b| {
                let body = hidden(b);
                raw.add("content-length", "4").framed(body)
            },
            unreadable(400),
        ),
        row(
            "chunks in HTTP/1.0",
            Base::Create,
            move |mut raw, b| {
                raw.version = b"HTTP/1.0".to_vec();
                smuggled(chunked(raw), b)
            },
            unreadable(400),
        ),
    ];
    for value in
        ["identity", "chunked, identity", "gzip", "xchunked", "\u{b}chunked", "chunked, chunked;x", ""]
    {
        let spoil = move |raw: Raw, b: &Bench| {
            smuggled(raw.without("content-length").add("transfer-encoding", value), b)
        };
        rows.push(row(format!("the transfer encoding {value:?}"), Base::Create, spoil, unreadable(400)));
    }
    for name in ["transfer-encoding ", " transfer-encoding", "transfer-encoding\t"] {
        let spoil =
            move |raw: Raw, b: &Bench| smuggled(raw.without("content-length").add(name, "chunked"), b);
        rows.push(row(format!("the header {name:?}"), Base::Create, spoil, unreadable(400)));
    }
    for value in ["+5", "-1", "0x10", "5, 5", "5 5", "", "1e3", "18446744073709551616", "５"] {
        let spoil = move |raw: Raw, _: &Bench| raw.set("content-length", value);
        rows.push(row(format!("the length {value:?}"), Base::Create, spoil, unreadable(400)));
    }
    Bench::start("").await.run(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_none_are_refused() {
    let chunks = |name: &'static str, chunks: &'static [u8]| {
        let spoil = move |raw: Raw, b: &Bench| {
            let body = [chunks.to_vec(), hidden(b)].concat();
            raw.without("content-length").add("transfer-encoding", "chunked").framed(body)
        };
        row(name, Base::Create, spoil, closing(400, "body_incomplete"))
    };
    let rows = vec![
        chunks("a size that is none", b"zz\r\n{}\r\n0\r\n\r\n"),
        chunks("a size that overflows", b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        chunks("no size", b"\r\n{}\r\n0\r\n\r\n"),
        chunks("a chunk longer than it says", b"1\r\n{}\r\n0\r\n\r\n"),
        chunks("a size ended by a bare line feed", b"2\n{}\r\n0\r\n\r\n"),
        chunks("an extension ended by a bare line feed", b"2;a\n{}\r\n0\r\n\r\n"),
        chunks("a negative size", b"-2\r\n{}\r\n0\r\n\r\n"),
    ];
    Bench::start("").await.run(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_too_large_or_too_slow_is_refused_without_being_read() {
    const LIMIT: usize = 1 << 20;
    let chunked = |raw: Raw, body: Vec<u8>| {
        let chunk = [format!("{:x}\r\n", body.len()).into_bytes(), body, b"\r\n0\r\n\r\n".to_vec()].concat();
        raw.without("content-length").add("transfer-encoding", "chunked").framed(chunk)
    };
    let large = || closing(413, "body_too_large");
    let rows: Vec<Row> = vec![
        row(
            "a length of 1 MiB and a byte",
            Base::Create,
            |raw, _| raw.set("content-length", (LIMIT + 1).to_string()).framed(""),
            large(),
        ),
        row(
            "a length of 2^63",
            Base::Create,
            |raw, _| raw.set("content-length", (1_u64 << 63).to_string()).framed(""),
            large(),
        ),
        row(
            "chunks of 1 MiB and a byte",
            Base::Create,
            move |raw, _| chunked(raw, vec![b' '; LIMIT + 1]),
            large(),
        ),
        row(
            "a mint of 1 MiB and a byte",
            Base::Mint,
            |raw, _| raw.set("content-length", (LIMIT + 1).to_string()).framed(""),
            closing(413, "invalid_card"),
        ),
        row("a body that stops", Base::Create, |raw, _| raw.framed("{"), closing(408, "body_too_slow")),
        row(
            "chunks that stop",
            Base::Create,
            |raw, _| raw.without("content-length").add("transfer-encoding", "chunked").framed("1\r\n{\r\n"),
            closing(408, "body_too_slow"),
        ),
        row("a body that never begins", Base::Create, |raw, _| raw.framed(""), closing(408, "body_too_slow")),
        row(
            "a body that waits for leave",
            Base::Create,
            |raw, _| raw.add("expect", "200-ok").framed(""),
            closing(408, "body_too_slow"),
        ),
    ];
    Bench::start("body_timeout = \"250ms\"").await.run(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_a_mebibyte_is_read() {
    let bench = Bench::start("").await;
    let mut order = crate::world::lamp_order().to_string().into_bytes();
    order.resize(1 << 20, b' ');
    let answer = bench.alpha.post("/m/lamps/checkout_sessions", &serde_json::Value::Null).body(order);
    assert_eq!(answer.send().await.unwrap().status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_breaks_off_never_reaches_a_merchant() {
    let bench = Bench::start("").await;
    let before = bench.calls();
    let key = fresh_key();
    let target = bench.target(Base::Create).await;
    let raw = Raw::of(&target.call(&bench, &key).prepare().unwrap());
    let bytes = raw.bytes();
    for end in [10, raw.head().len() - 1, raw.head().len(), bytes.len() - 1] {
        let mut socket = connect(&bench.world, b"http/1.1").await;
        socket.write_all(&bytes[..end]).await.unwrap();
        socket.shutdown().await.unwrap();
        let received = receive(&mut socket).await;
        assert!(received.status.is_none_or(|status| status == 400), "{received:?}");
    }
    assert_eq!(bench.calls(), before);
    assert_eq!(target.call(&bench, &key).send().await.unwrap().status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_behind_one_another_are_answered_in_order_and_apart() {
    let bench = Bench::start("").await;
    let read = Raw::of(&bench.target(Base::Read).await.call(&bench, "").prepare().unwrap());
    let bad = read.clone().set("authorization", "Bearer nobody").bytes();
    let both = [bad, read.set("connection", "close").bytes()].concat();
    let mut socket = connect(&bench.world, b"http/1.1").await;
    socket.write_all(&both).await.unwrap();
    let answers = String::from_utf8(rest(&mut socket).await).unwrap();
    let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["401", "200"], "{answers}");
}
