//! HTTP/2: which resets prove that nothing was processed. The servers write frames by hand
//! (RFC 9113 §6), because no library lets them lie.

use rustls::version::TLS13;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::server::{Authority, Seen, tls};
use super::*;

type Stream = TlsStream<TcpStream>;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;

async fn write(stream: &mut Stream, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &id.to_be_bytes()].concat();
    let _ = stream.write_all(&[&head, payload].concat()).await;
    let _ = stream.flush().await;
}

/// Reads the next frame: its type, flags and stream.
async fn next(stream: &mut Stream) -> Option<(u8, u8, u32)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.ok()?;
    Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]])))
}

/// Greets the client and reads until a whole request has come; gives its stream.
async fn request(stream: &mut Stream) -> Option<u32> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.ok()?;
    write(stream, SETTINGS, 0, 0, &[]).await;
    loop {
        let (kind, flags, id) = next(stream).await?;
        match kind {
            SETTINGS if flags & ACK == 0 => write(stream, SETTINGS, ACK, 0, &[]).await,
            HEADERS | DATA if flags & END_STREAM != 0 => return Some(id),
            _ => {}
        }
    }
}

async fn answer(stream: &mut Stream, id: u32) {
    // `:status: 200` is entry 8 of the static table (RFC 7541 appendix A).
    write(stream, HEADERS, END_HEADERS, id, &[0x88]).await;
    write(stream, DATA, END_STREAM, id, super::server::COMPLETED.as_bytes()).await;
}

async fn reset(stream: &mut Stream, id: u32, code: u32) {
    write(stream, RST_STREAM, 0, id, &code.to_be_bytes()).await;
}

async fn go_away(stream: &mut Stream, last: u32, code: u32) {
    write(stream, GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat()).await;
}

/// Keeps reading until the client leaves.
async fn linger(stream: &mut Stream) {
    while next(stream).await.is_some() {}
}

/// What the server does with a connection once a request has come in whole.
#[derive(Clone, Copy)]
enum Deed {
    Answer,
    Reset(u32),
    GoAway { last: u32 },
    GoAwayThenClose { last: u32 },
}

/// Sends one complete to a server that does one deed a connection, the last one ever after.
async fn exchange(deeds: &'static [Deed]) -> (Exchange, usize) {
    exchange_at(MerchantIdempotency::Keys, deeds).await
}

async fn exchange_at(idempotency: MerchantIdempotency, deeds: &'static [Deed]) -> (Exchange, usize) {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let trusted = directory.path().join("ca.pem");
    std::fs::write(&trusted, authority.pem()).unwrap();
    let config = authority.server("localhost", &["h2"], &[&TLS13], None);
    let (address, seen) = tls(config, move |mut stream, number, _: Arc<Seen>| async move {
        let Some(id) = request(&mut stream).await else { return };
        match *deeds.get(number).or(deeds.last()).unwrap() {
            Deed::Answer => answer(&mut stream, id).await,
            Deed::Reset(code) => reset(&mut stream, id, code).await,
            Deed::GoAway { last } => go_away(&mut stream, last, NO_ERROR).await,
            Deed::GoAwayThenClose { last } => {
                go_away(&mut stream, last, NO_ERROR).await;
                let _ = stream.shutdown().await;
                return;
            }
        }
        linger(&mut stream).await;
    })
    .await;
    let shop = Shop::with(&format!("https://localhost:{}", address.port()), |merchant| {
        merchant.endpoint.ca_file = Some(trusted);
        merchant.deadlines.total = std::time::Duration::from_secs(3);
        merchant.idempotency = idempotency;
    });
    let exchange = shop.complete().await;
    (exchange, seen.connections())
}

#[tokio::test]
async fn http2_is_spoken_where_the_merchant_offers_it() {
    let (exchange, _) = exchange(&[Deed::Answer]).await;
    assert_eq!(
        read_complete(&exchange, &session(), MerchantIdempotency::None).outcome,
        Outcome::Charged,
        "{exchange:?}"
    );
}

#[tokio::test]
async fn a_refused_stream_was_not_processed_and_is_not_repeated() {
    let (exchange, connections) = exchange(&[Deed::Reset(REFUSED_STREAM)]).await;
    assert!(matches!(exchange, Exchange::NotSent(NotSent::StreamRefused)), "{exchange:?}");
    assert_eq!(connections, 1);
}

#[tokio::test]
async fn another_reset_is_in_doubt() {
    for deeds in [&[Deed::Reset(INTERNAL_ERROR)], &[Deed::Reset(NO_ERROR)]] {
        let (exchange, connections) = exchange(deeds).await;
        assert!(matches!(exchange, Exchange::Lost(Lost::Reset)), "{exchange:?}");
        assert_eq!(connections, 1);
    }
}

#[tokio::test]
async fn a_stream_above_a_goaways_last_is_tried_once_more() {
    let (answered, connections) = exchange(&[Deed::GoAway { last: 0 }, Deed::Answer]).await;
    assert_eq!(
        read_complete(&answered, &session(), MerchantIdempotency::None).outcome,
        Outcome::Charged,
        "{answered:?}"
    );
    assert_eq!(connections, 2);

    let (refused, connections) = exchange(&[Deed::GoAway { last: 0 }]).await;
    assert!(matches!(refused, Exchange::NotSent(NotSent::StreamRefused)), "{refused:?}");
    assert_eq!(connections, 2);
}

#[tokio::test]
async fn a_stream_within_a_goaways_last_is_in_doubt() {
    let (exchange, connections) = exchange(&[Deed::GoAwayThenClose { last: 1 }]).await;
    assert!(matches!(exchange, Exchange::Lost(Lost::Reset)), "{exchange:?}");
    assert_eq!(connections, 1);
}

#[tokio::test]
async fn a_merchant_without_keys_is_not_believed_that_it_did_not_process_a_complete() {
    for deeds in [&[Deed::GoAway { last: 0 }, Deed::Answer], &[Deed::Reset(REFUSED_STREAM), Deed::Answer]] {
        let (exchange, connections) = exchange_at(MerchantIdempotency::None, deeds).await;
        assert!(matches!(exchange, Exchange::Lost(Lost::Reset)), "{exchange:?}");
        let reading = read_complete(&exchange, &session(), MerchantIdempotency::None);
        assert_eq!(reading.outcome, Outcome::InDoubt);
        assert_eq!(connections, 1, "it was tried again");
    }
}
