//! HTTP/2 merchants that take few requests at once, against a real server.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use rustls::version::TLS13;

use super::server::{Authority, COMPLETED, tls};
use super::*;

/// What a server saw.
#[derive(Default)]
struct Load {
    now: HashMap<usize, usize>,
    most_at_once: usize,
    requests: usize,
    connections: usize,
}

/// A shop that takes so many streams a connection, each answered after `takes`; a connection goes away
/// after so many requests, without a word.
async fn shop(
    streams: u32,
    takes: Duration,
    change: impl FnOnce(&mut Merchant),
) -> (Shop, Arc<Mutex<Load>>, tempfile::TempDir) {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let trusted = directory.path().join("ca.pem");
    std::fs::write(&trusted, authority.pem()).unwrap();
    let load = Arc::new(Mutex::new(Load::default()));
    let counted = Arc::clone(&load);
    let config = authority.server("localhost", &["h2"], &[&TLS13], None);
    let (address, _) = tls(config, move |stream, number, _| {
        let load = Arc::clone(&counted);
        async move {
            load.lock().connections += 1;
            let mut builder = h2::server::Builder::new();
            builder.max_concurrent_streams(streams);
            let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                {
                    let mut load = load.lock();
                    load.requests += 1;
                    let now = load.now.entry(number).or_default();
                    *now += 1;
                    load.most_at_once = load.most_at_once.max(load.now[&number]);
                }
                let load = Arc::clone(&load);
                tokio::spawn(async move {
                    let mut body = request.into_body();
                    while let Some(Ok(data)) = body.data().await {
                        let _ = body.flow_control().release_capacity(data.len());
                    }
                    tokio::time::sleep(takes).await;
                    *load.lock().now.get_mut(&number).unwrap() -= 1;
                    let answer = http::Response::builder().header("content-type", "application/json");
                    if let Ok(mut sending) = respond.send_response(answer.body(()).unwrap(), false) {
                        let _ = sending.send_data(Bytes::from_static(COMPLETED.as_bytes()), true);
                    }
                });
            }
        }
    })
    .await;
    let shop = Shop::with(&format!("https://localhost:{}", address.port()), |merchant| {
        merchant.endpoint.ca_file = Some(trusted);
        merchant.deadlines.first_byte = Duration::from_secs(4);
        change(merchant);
    });
    (shop, load, directory)
}

/// Sends so many completes at once: how many were charged, and how many refused, each how soon.
async fn complete_at_once(shop: Shop, number: usize) -> (usize, Vec<(NotSent, Duration)>) {
    let shop = Arc::new(shop);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..number {
        let shop = Arc::clone(&shop);
        all.spawn(async move {
            let began = Instant::now();
            (shop.complete().await, began.elapsed())
        });
    }
    let (mut charged, mut refused) = (0, vec![]);
    while let Some(done) = all.join_next().await {
        match done.unwrap() {
            (Exchange::NotSent(reason), took) => refused.push((reason, took)),
            (exchange, _) => {
                let reading = read_complete(&exchange, &session(), MerchantIdempotency::None);
                assert_eq!(reading.outcome, Outcome::Charged, "{exchange:?}");
                charged += 1;
            }
        }
    }
    (charged, refused)
}

#[tokio::test]
async fn completes_beyond_a_connections_streams_get_another_connection() {
    for idempotency in [MerchantIdempotency::Keys, MerchantIdempotency::None] {
        let (shop, load, _files) =
            shop(8, Duration::from_millis(1_500), |merchant| merchant.idempotency = idempotency).await;
        let (charged, refused) = complete_at_once(shop, 40).await;
        assert_eq!((charged, refused.len()), (40, 0), "{refused:?}");
        let load = load.lock();
        assert_eq!((load.requests, load.most_at_once, load.connections), (40, 8, 5));
    }
}

#[tokio::test]
async fn a_complete_without_a_stream_is_refused_at_once_and_never_written() {
    let (shop, load, _files) = shop(4, Duration::from_millis(1_500), |_| {}).await;
    let (charged, refused) = complete_at_once(shop, 40).await;
    assert_eq!((charged, refused.len()), (32, 8), "{refused:?}");
    for (reason, took) in refused {
        assert_eq!(reason, NotSent::NoStream);
        assert!(took < Duration::from_millis(1_400), "{took:?}");
    }
    // Longer than an answer takes: what would still be written is.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let load = load.lock();
    assert_eq!((load.requests, load.most_at_once, load.connections), (32, 4, 8));
}

#[tokio::test]
async fn a_read_does_not_stand_behind_completes() {
    let (shop, load, _files) = shop(1, Duration::from_millis(1_500), |_| {}).await;
    let shop = Arc::new(shop);
    let completes: Vec<_> = (0..20)
        .map(|_| {
            let shop = Arc::clone(&shop);
            tokio::spawn(async move { shop.complete().await })
        })
        .collect();
    let end = Instant::now() + Duration::from_secs(10);
    while load.lock().requests < 8 {
        assert!(Instant::now() < end, "the completes did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let began = Instant::now();
    assert!(shop.send(read()).await.answer().is_some());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    for complete in completes {
        complete.await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_that_was_given_up_counts_until_the_merchant_knows() {
    let (shop, load, _files) = shop(1, Duration::from_millis(700), |merchant| {
        merchant.deadlines.first_byte = Duration::from_millis(150);
    })
    .await;
    for _ in 0..4 {
        let exchange = shop.complete().await;
        assert!(matches!(exchange, Exchange::Lost(Lost::Timeout)), "{exchange:?}");
    }
    assert_eq!(load.lock().requests, 4);
}
