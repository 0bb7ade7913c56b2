//! Every way an answer can fail to come, and what each says about the money.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::server::{COMPLETED, answering, answering_once, json, tcp};
use super::*;

fn lost(exchange: &Exchange) -> Option<Lost> {
    if let Exchange::Lost(reason) = exchange { Some(*reason) } else { None }
}

fn not_sent(exchange: &Exchange) -> Option<NotSent> {
    if let Exchange::NotSent(reason) = exchange { Some(*reason) } else { None }
}

fn outcome(exchange: &Exchange) -> Outcome {
    read_complete(exchange, &session(), MerchantIdempotency::None).outcome
}

#[tokio::test]
async fn an_answer_is_charged_and_its_connection_is_used_again() {
    let (address, seen) = answering(json("200 OK", COMPLETED)).await;
    let shop = Shop::at(&format!("http://{address}/base"));
    for _ in 0..3 {
        let exchange = shop.complete().await;
        assert_eq!(outcome(&exchange), Outcome::Charged);
        let answer = exchange.answer().unwrap();
        assert_eq!(answer.media_type.as_deref(), Some("application/json"));
        assert_eq!(answer.body, COMPLETED.as_bytes());
    }
    assert_eq!((seen.connections(), seen.requests().len()), (1, 3));
}

#[tokio::test]
async fn a_refused_connection_is_never_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let exchange = Shop::at(&format!("http://{address}")).complete().await;
    assert_eq!(not_sent(&exchange), Some(NotSent::Refused));
    assert_eq!(outcome(&exchange), Outcome::NotCharged { recorded: false });
}

#[tokio::test]
async fn a_connection_that_ends_after_the_request_is_in_doubt_and_the_request_is_not_repeated() {
    for answer in [&b""[..], b"HTTP/1.1 200 O"] {
        let (address, seen) = answering_once(answer).await;
        let exchange = Shop::at(&format!("http://{address}")).complete().await;
        assert_eq!(lost(&exchange), Some(Lost::Reset));
        assert_eq!(outcome(&exchange), Outcome::InDoubt);
        assert_eq!(seen.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_kept_connection_that_ends_under_a_request_is_in_doubt_and_the_request_is_not_repeated() {
    let (address, seen) = tcp(|mut stream, _, seen| async move {
        seen.read_request(&mut stream).await;
        let _ = stream.write_all(&json("200 OK", COMPLETED)).await;
        seen.read_request(&mut stream).await;
    })
    .await;
    let shop = Shop::at(&format!("http://{address}"));
    assert_eq!(outcome(&shop.complete().await), Outcome::Charged);
    let exchange = shop.complete().await;
    assert_eq!(lost(&exchange), Some(Lost::Reset));
    assert_eq!((seen.connections(), seen.requests().len()), (1, 2));
}

#[tokio::test]
async fn a_connection_that_was_not_kept_costs_no_request_its_chance() {
    let (address, _) = tcp(|mut stream, _, seen| async move {
        seen.read_request(&mut stream).await;
        // Keep-alive is promised and not kept.
        let _ = stream.write_all(&json("200 OK", COMPLETED)).await;
    })
    .await;
    let shop = Shop::at(&format!("http://{address}"));
    for _ in 0..30 {
        // Whether the end is noticed first is chance: answered on a new connection, or in doubt.
        let exchange = shop.complete().await;
        assert_eq!(not_sent(&exchange), None);
    }
}

#[tokio::test]
async fn a_truncated_answer_is_in_doubt() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\":"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"id\"\r\n",
    ] {
        let (address, _) = answering_once(answer).await;
        let exchange = Shop::at(&format!("http://{address}")).complete().await;
        assert_eq!(lost(&exchange), Some(Lost::Truncated));
        assert_eq!(outcome(&exchange), Outcome::InDoubt);
    }
}

#[tokio::test]
async fn what_is_not_http_is_in_doubt() {
    for answer in [&b"SSH-2.0-OpenSSH_9\r\n\r\n"[..], b"HTTP/1.1 abc\r\n\r\n"] {
        let (address, _) = answering_once(answer).await;
        let exchange = Shop::at(&format!("http://{address}")).complete().await;
        assert_eq!(lost(&exchange), Some(Lost::Malformed));
    }
}

#[tokio::test]
async fn silence_ends_at_the_first_byte_deadline_and_is_in_doubt() {
    let (address, _) =
        tcp(|mut stream, _, seen| async move { while seen.read_request(&mut stream).await {} }).await;
    let shop = Shop::with(&format!("http://{address}"), |merchant| {
        merchant.deadlines.first_byte = Duration::from_millis(150);
    });
    let exchange = shop.complete().await;
    assert_eq!(lost(&exchange), Some(Lost::Timeout));
    assert_eq!(outcome(&exchange), Outcome::InDoubt);
}

#[tokio::test]
async fn a_dripping_answer_ends_at_the_total_deadline() {
    let (address, _) = tcp(|mut stream, _, seen| async move {
        seen.read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n").await;
        while stream.write_all(b"{").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let shop = Shop::with(&format!("http://{address}"), |merchant| {
        merchant.deadlines.total = Duration::from_millis(700);
    });
    assert_eq!(lost(&shop.complete().await), Some(Lost::SlowBody));
}

#[tokio::test]
async fn nothing_is_sent_after_the_deadline() {
    let (address, seen) = answering(json("200 OK", COMPLETED)).await;
    let shop = Shop::at(&format!("http://{address}"));
    let exchange = shop.merchants.send(&shop.merchant, complete(), Deadline::after(Duration::ZERO)).await;
    assert_eq!(not_sent(&exchange), Some(NotSent::Timeout(Stage::Pool)));
    assert_eq!(seen.connections(), 0);
}

#[tokio::test]
async fn an_answer_above_the_bound_is_in_doubt_declared_or_not() {
    let mut endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..100 {
        endless.extend_from_slice(b"400\r\n");
        endless.extend_from_slice(&[b' '; 1024]);
        endless.extend_from_slice(b"\r\n");
    }
    for answer in [b"HTTP/1.1 200 OK\r\ncontent-length: 70000\r\n\r\n".to_vec(), endless] {
        let (address, _) = answering(answer).await;
        let exchange = Shop::at(&format!("http://{address}")).complete().await;
        assert_eq!(lost(&exchange), Some(Lost::TooLarge));
    }
}

fn gzipped(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    let body = encoder.finish().unwrap();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), &body].concat()
}

#[tokio::test]
async fn a_gzip_answer_is_decoded_and_a_bomb_is_not() {
    let (address, _) = answering(gzipped(COMPLETED.as_bytes())).await;
    let exchange = Shop::at(&format!("http://{address}")).complete().await;
    assert_eq!(outcome(&exchange), Outcome::Charged);

    let bomb = gzipped(&vec![b' '; 10 << 20]);
    assert!(bomb.len() < 64 * 1024);
    let (address, _) = answering(bomb).await;
    let exchange = Shop::at(&format!("http://{address}")).complete().await;
    assert_eq!(lost(&exchange), Some(Lost::TooLarge));
}

#[tokio::test]
async fn a_redirect_is_answered_and_not_followed() {
    let (elsewhere, visited) = answering(json("200 OK", COMPLETED)).await;
    for (status, expected) in [
        ("301 Moved Permanently", Outcome::InDoubt),
        ("302 Found", Outcome::InDoubt),
        ("303 See Other", Outcome::InDoubt),
        ("307 Temporary Redirect", Outcome::NotCharged { recorded: false }),
        ("308 Permanent Redirect", Outcome::NotCharged { recorded: false }),
    ] {
        let answer =
            format!("HTTP/1.1 {status}\r\nlocation: http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n");
        let (address, _) = answering(answer).await;
        let exchange = Shop::at(&format!("http://{address}")).complete().await;
        assert_eq!(outcome(&exchange), expected, "{status}");
        assert!(exchange.answer().unwrap().headers.is_empty());
    }
    assert_eq!(visited.connections(), 0);
}

#[tokio::test]
async fn interim_answers_are_passed_over_and_a_switch_of_protocols_is_in_doubt() {
    let early = [b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec(), json("200 OK", COMPLETED)].concat();
    let (address, _) = answering(early).await;
    assert_eq!(outcome(&Shop::at(&format!("http://{address}")).complete().await), Outcome::Charged);

    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    let (address, _) = answering(switch).await;
    assert_eq!(outcome(&Shop::at(&format!("http://{address}")).complete().await), Outcome::InDoubt);
}

#[tokio::test]
async fn what_cannot_be_written_is_not_sent() {
    let (address, seen) = answering(json("200 OK", COMPLETED)).await;
    let shop = Shop::at(&format!("http://{address}"));
    let changes: [fn(&mut Outbound); 5] = [
        |outbound| outbound.headers.request_id = "a\r\nx-injected: 1".into(),
        |outbound| outbound.idempotency_key = Some("ключ\n".into()),
        |outbound| outbound.headers.host = "a\"; secret".into(),
        |outbound| outbound.path = "/a b".into(),
        |outbound| {
            let most = MinorUnits::new(crate::domain::money::MAX_MINOR_UNITS).unwrap();
            outbound.context.complete.as_mut().unwrap().checked.amount = most;
        },
    ];
    for change in changes {
        let mut outbound = complete();
        change(&mut outbound);
        assert_eq!(not_sent(&shop.send(outbound).await), Some(NotSent::NotBuilt));
    }
    assert_eq!(seen.connections(), 0);
}

#[tokio::test]
async fn a_merchant_without_a_pool_is_not_sent_to() {
    let shop = Shop::at("http://127.0.0.1:1");
    let mut other = entry("http://127.0.0.1:1");
    other.id = MerchantId::parse("other").unwrap();
    let exchange = shop.merchants.send(&other, read(), Deadline::after(Duration::from_secs(1))).await;
    assert_eq!(not_sent(&exchange), Some(NotSent::NotBuilt));
}

#[tokio::test]
async fn a_process_that_stood_still_while_it_connected_sends_nothing_when_it_wakes() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::task::spawn_blocking(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut received);
        received
    });
    let shop = Shop::at(&format!("http://{address}"));
    let deadline = Deadline::after(Duration::from_millis(300));
    let exchange = shop.merchants.send(&shop.merchant, complete(), deadline);
    // Connecting has begun when this is polled; nothing else runs meanwhile.
    let stall = async { std::thread::sleep(Duration::from_millis(600)) };
    let (exchange, ()) = tokio::join!(biased; exchange, stall);
    assert_eq!(not_sent(&exchange), Some(NotSent::Timeout(Stage::Connect)), "{exchange:?}");
    assert_eq!(String::from_utf8_lossy(&server.await.unwrap()), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_behind_an_answer_end_the_connection_and_are_no_answer() {
    let ours = json("200 OK", r#"{"id":"cs_1","status":"ready_for_payment"}"#);
    let anothers = json("200 OK", r#"{"id":"cs_2","status":"ready_for_payment"}"#);
    let (address, seen) = answering([ours, anothers].concat()).await;
    let shop = Shop::at(&format!("http://{address}"));
    for number in 0..2_000 {
        let exchange = shop.send(read()).await;
        let answer = exchange.answer().unwrap_or_else(|| panic!("{number}: {exchange:?}"));
        let body = String::from_utf8_lossy(&answer.body);
        assert!(body.contains("cs_1"), "{number}: {body}");
    }
    assert_eq!((seen.connections(), seen.requests().len()), (2_000, 2_000));
}
