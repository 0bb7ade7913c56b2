//! Requests that only raw HTTP/2 can say.
//!
//! Heads that RFC 9113 §8 calls malformed are answered with a reset or a refusal, and never forwarded.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::bench::{Base, Bench, fresh_key};
use crate::wire::{PATIENCE, Raw, connect};
use crate::world::{GATEWAY, SHOP_HOST};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a server made of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    Answered(u16),
    /// The stream, or the connection, was given up.
    Reset,
}

/// A request in fields, pseudo-headers first.
#[derive(Clone)]
struct Fields {
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

impl Fields {
    fn of(raw: Raw) -> Self {
        let mut fields = vec![
            (b":method".to_vec(), raw.method),
            (b":scheme".to_vec(), b"https".to_vec()),
            (b":authority".to_vec(), GATEWAY.into()),
            (b":path".to_vec(), raw.target),
        ];
        fields.extend(raw.headers.into_iter().filter(|(name, _)| name != b"host"));
        Self { fields, body: raw.body }
    }

    fn add(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.into(), value.as_ref().to_vec()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(known, _)| known != name.as_bytes());
        self
    }

    /// With this value where the old one stood.
    fn set(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        for (known, old) in &mut self.fields {
            if known == name.as_bytes() {
                *old = value.as_ref().to_vec();
            }
        }
        self
    }

    /// With one more pseudo-header, among its kind.
    fn pseudo(mut self, name: &str, value: &str) -> Self {
        self.fields.insert(0, (name.into(), value.into()));
        self
    }

    /// The frames of stream 1.
    fn frames(&self) -> Vec<u8> {
        let mut frames = frame(HEADERS, END_HEADERS, &block(&self.fields));
        frames.extend(frame(DATA, END_STREAM, &self.body));
        frames
    }

    /// The same, ending in fields behind the body.
    fn frames_and(&self, trailers: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut frames = frame(HEADERS, END_HEADERS, &block(&self.fields));
        frames.extend(frame(DATA, 0, &self.body));
        frames.extend(frame(HEADERS, END_HEADERS | END_STREAM, &block(trailers)));
        frames
    }
}

/// Every field is an HPACK literal that nothing remembers (RFC 7541 §6.2.2), so that the bytes are what
/// they seem.
fn block(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(text.len(), &mut block);
            block.extend(text);
        }
    }
    block
}

/// An integer with a prefix of 7 bits (RFC 7541 §5.1).
fn length(mut value: usize, out: &mut Vec<u8>) {
    if value < 127 {
        return out.push(value as u8);
    }
    out.push(127);
    value -= 127;
    while value >= 128 {
        out.push((value % 128) as u8 | 128);
        value /= 128;
    }
    out.push(value as u8);
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let stream = u32::from(kind != 4).to_be_bytes();
    [&length[1..], &[kind, flags], &stream, payload].concat()
}

async fn send(bench: &Bench, frames: &[u8]) -> Made {
    let mut socket = connect(&bench.world, b"h2").await;
    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, &[])].concat();
    let _ = socket.write_all(&[&preface, frames].concat()).await;
    let _ = socket.flush().await;
    let reading = async {
        loop {
            let mut head = [0; 9];
            if socket.read_exact(&mut head).await.is_err() {
                return Made::Reset;
            }
            let size = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; size as usize];
            if socket.read_exact(&mut payload).await.is_err() {
                return Made::Reset;
            }
            match (head[3], head[8]) {
                (HEADERS, 1) => return Made::Answered(status(&payload)),
                (RST_STREAM, 1) | (GOAWAY, _) => return Made::Reset,
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("neither an answer nor a reset")
}

/// `:status`, the first field of an answer: of the static table, or a literal.
fn status(block: &[u8]) -> u16 {
    const STATIC: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    if block[0] & 0x80 != 0 {
        return STATIC[usize::from(block[0] & 0x7f) - 8];
    }
    let text = &block[2..2 + usize::from(block[1] & 0x7f)];
    if block[1] & 0x80 == 0 {
        return std::str::from_utf8(text).unwrap().parse().unwrap();
    }
    // Digits in the Huffman code of RFC 7541 appendix B: 0 to 2 in five bits, the others in six.
    let bits: Vec<u16> =
        text.iter().flat_map(|byte| (0..8).rev().map(move |n| u16::from(byte >> n & 1))).collect();
    let number = |bits: &[u16]| bits.iter().fold(0, |number, bit| number * 2 + bit);
    let (mut at, mut status) = (0, 0);
    for _ in 0..3 {
        let short = number(&bits[at..at + 5]);
        let (digit, width) = if short < 3 { (short, 5) } else { (number(&bits[at..at + 6]) - 22, 6) };
        status = status * 10 + digit;
        at += width;
    }
    status
}

type Row = (&'static str, fn(Fields) -> Fields, Made);

const TABLE: [Row; 33] = [
    ("a name in upper case", |f| f.add("X-A", "1"), Made::Reset),
    ("a connection header", |f| f.add("connection", "close"), Made::Reset),
    ("a keep-alive header", |f| f.add("keep-alive", "1"), Made::Reset),
    ("a proxy's connection header", |f| f.add("proxy-connection", "close"), Made::Reset),
    ("chunks", |f| f.add("transfer-encoding", "chunked"), Made::Reset),
    ("an upgrade", |f| f.add("upgrade", "websocket"), Made::Reset),
    ("a transfer coding wished for", |f| f.add("te", "gzip"), Made::Reset),
    ("a line end in a value", |f| f.add("x-a", "a\r\nauthorization: Bearer x"), Made::Reset),
    ("a NUL in a value", |f| f.add("x-a", "a\0"), Made::Reset),
    ("a space in a name", |f| f.add("x a", "1"), Made::Reset),
    ("a colon in a name", |f| f.add("x:a", "1"), Made::Reset),
    ("a line end in a name", |f| f.add("x\r\na", "1"), Made::Reset),
    ("an empty name", |f| f.add("", "1"), Made::Reset),
    ("no path", |f| f.without(":path"), Made::Reset),
    ("an empty path", |f| f.set(":path", ""), Made::Reset),
    ("a path without its slash", |f| f.set(":path", "m/lamps/checkout_sessions"), Made::Reset),
    ("no method", |f| f.without(":method"), Made::Reset),
    ("an empty method", |f| f.set(":method", ""), Made::Reset),
    ("no scheme", |f| f.without(":scheme"), Made::Reset),
    ("two paths", |f| f.pseudo(":path", "/m/books/checkout_sessions"), Made::Reset),
    ("two methods", |f| f.pseudo(":method", "GET"), Made::Reset),
    ("two authorities", |f| f.pseudo(":authority", SHOP_HOST), Made::Reset),
    ("an unknown pseudo-header", |f| f.pseudo(":secret", "1"), Made::Reset),
    ("an answer's pseudo-header", |f| f.pseudo(":status", "200"), Made::Reset),
    ("a pseudo-header behind the others", |f| f.add(":authority", GATEWAY), Made::Reset),
    ("a body longer than its length", |f| f.set("content-length", "1"), Made::Reset),
    ("user information", |f| f.set(":authority", "agent@gateway.test"), Made::Answered(400)),
    ("an authority that is none", |f| f.set(":authority", "gateway test"), Made::Reset),
    ("another host than authority", |f| f.add("host", SHOP_HOST), Made::Answered(400)),
    ("no authority and no host", |f| f.without(":authority"), Made::Answered(400)),
    ("an authority nobody knows", |f| f.set(":authority", "evil.test"), Made::Answered(421)),
    ("dots", |f| f.set(":path", "/m/lamps/../books/checkout_sessions"), Made::Answered(404)),
    ("a frame larger than agreed", |f| f.add("x-a", "x".repeat(40 << 10)), Made::Reset),
];

#[tokio::test(flavor = "multi_thread")]
async fn malformed_http_2_never_reaches_a_merchant() {
    let bench = Bench::start("").await;
    let target = bench.target(Base::Create).await;
    let prepared = |key: &str| Fields::of(Raw::of(&target.call(&bench, key).prepare().unwrap()));
    assert_eq!(send(&bench, &prepared(&fresh_key()).frames()).await, Made::Answered(201));
    let mut failures = Vec::new();
    for (name, spoil, expected) in TABLE {
        let (key, before) = (fresh_key(), bench.calls());
        let made = send(&bench, &spoil(prepared(&key)).frames()).await;
        if made != expected {
            failures.push(format!("{name}: {made:?}"));
        }
        failures
            .extend(bench.unharmed(&target, &key, before).await.err().map(|why| format!("{name}: {why}")));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What a library hides from us: pseudo-headers among them make a request malformed (RFC 9113 §8.1).
#[tokio::test(flavor = "multi_thread")]
async fn fields_behind_a_body_are_refused() {
    let bench = Bench::start("").await;
    let target = bench.target(Base::Create).await;
    let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    for trailers in [
        vec![field("x-a", "1")],
        vec![field(":path", "/m/books/checkout_sessions")],
        vec![field(":method", "DELETE"), field("x-a", "1")],
        (0..1_500).map(|n| field(&format!("x-{n}"), "1")).collect(),
    ] {
        let (key, before) = (fresh_key(), bench.calls());
        let fields = Fields::of(Raw::of(&target.call(&bench, &key).prepare().unwrap()));
        let made = send(&bench, &fields.frames_and(&trailers)).await;
        assert_eq!(made, Made::Answered(400), "{} of {:?}", trailers.len(), trailers[0]);
        bench.unharmed(&target, &key, before).await.unwrap();
    }
}

/// A body that ends early, and is taken for a whole one, would be another order.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_shorter_than_its_length_never_reaches_a_merchant() {
    let bench = Bench::start("").await;
    let target = bench.target(Base::Create).await;
    let (key, before) = (fresh_key(), bench.calls());
    let fields = Fields::of(Raw::of(&target.call(&bench, &key).prepare().unwrap()));
    let longer = (fields.body.len() + 1).to_string();
    let made = send(&bench, &fields.set("content-length", longer).frames()).await;
    assert!(matches!(made, Made::Reset | Made::Answered(400)), "{made:?}");
    bench.unharmed(&target, &key, before).await.unwrap();
}

/// One large field remembered, and named again and again (RFC 7541 §7.1): a few bytes that would
/// be megabytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_unpacks_to_more_than_it_may_is_refused() {
    let bench = Bench::start("").await;
    let mut block = vec![0x82, 0x87, 0x84, 0x40];
    length(3, &mut block);
    block.extend(b"x-a");
    length(3900, &mut block);
    block.extend([b'x'; 3900]);
    block.extend([0xbe; 10_000]);
    let made = send(&bench, &frame(HEADERS, END_HEADERS | END_STREAM, &block)).await;
    assert!(matches!(made, Made::Reset | Made::Answered(431)), "{made:?}");
    assert_eq!(
        bench.alpha.get(format!("/m/lamps/checkout_sessions/{}", bench.session)).send().await.unwrap().status,
        200
    );
}

/// A head in pieces without end (CVE-2024-27316).
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_never_ends_is_given_up() {
    let bench = Bench::start("header_timeout = \"500ms\"").await;
    let mut frames = frame(HEADERS, 0, b"\x82");
    for _ in 0..2_000 {
        frames.extend(frame(
            9,
            0,
            b"\0\x01a\x40aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ));
    }
    let started = std::time::Instant::now();
    assert_eq!(send(&bench, &frames).await, Made::Reset);
    assert!(started.elapsed() < Duration::from_secs(10));
}

/// Many a client throws an answer away with the reset that follows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_needs_no_body_is_not_followed_by_a_reset() {
    const PING: u8 = 6;
    let bench = Bench::start("").await;
    let target = bench.target(Base::Create).await;
    let raw = Raw::of(&target.call(&bench, &fresh_key()).prepare().unwrap());
    let frames = Fields::of(raw).without("api-version").frames();
    let size = 9 + u32::from_be_bytes([0, frames[0], frames[1], frames[2]]) as usize;
    let (head, body) = frames.split_at(size);
    let mut socket = connect(&bench.world, b"h2").await;
    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, &[])].concat();
    socket.write_all(&[&preface, head].concat()).await.unwrap();
    socket.flush().await.unwrap();
    let (mut answered, mut asked) = (false, false);
    let reading = async {
        loop {
            let mut head = [0; 9];
            socket.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            socket.read_exact(&mut payload).await.unwrap();
            assert_ne!(head[3], RST_STREAM);
            if (head[3], head[8]) == (HEADERS, 1) {
                assert_eq!(status(&payload), 400);
                answered = true;
            }
            if head[3] == PING {
                return;
            }
            if answered && !asked {
                // The pong comes behind whatever the server has to say of the stream.
                let mut ping = frame(PING, 0, &[0; 8]);
                ping[8] = 0;
                socket.write_all(&[body, ping.as_slice()].concat()).await.unwrap();
                socket.flush().await.unwrap();
                asked = true;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("no pong");
    assert!(answered);
}
