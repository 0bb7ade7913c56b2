//! How long connections are used: while they are young, their peer keeps them and a name leads there.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use rustls::version::TLS13;

use super::server::{Authority, COMPLETED, Seen, answering, json, tls};
use super::*;

const LONG: Duration = Duration::from_secs(3_600);

fn aged(pool_max_age: Duration) -> Settings {
    Settings { pool_max_age, ..Settings::default() }
}

/// A server that says how long it keeps connections; a shop there.
async fn saying(header: &str, settings: Settings, idle_for: Duration) -> (Shop, Arc<Seen>) {
    let answer = String::from_utf8(json("200 OK", COMPLETED)).unwrap();
    let answer = answer.replacen("\r\n", &format!("\r\n{header}"), 1);
    let (address, seen) = answering(answer).await;
    let shop = Shop::set_up(&format!("http://{address}"), settings, |merchant| {
        merchant.endpoint.pool_idle = idle_for;
    });
    (shop.unwrap_or_else(|errors| panic!("{errors:?}")), seen)
}

async fn three_completes(shop: &Shop) {
    for _ in 0..3 {
        assert_eq!(shop.complete().await.answer().unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_connection_that_is_too_old_takes_no_other_request() {
    for (age, connections) in [(Duration::ZERO, 3), (LONG, 1)] {
        let (shop, seen) = saying("", aged(age), LONG).await;
        three_completes(&shop).await;
        assert_eq!((seen.connections(), seen.requests().len()), (connections, 3), "{age:?}");
    }
}

#[tokio::test]
async fn a_connection_is_used_as_long_as_its_peer_says_and_no_longer_than_we_would() {
    for (header, idle_for, connections) in [
        ("keep-alive: timeout=1\r\n", LONG, 3),
        ("keep-alive: timeout=3600, max=100\r\n", LONG, 1),
        ("keep-alive: timeout=3600\r\n", Duration::ZERO, 3),
        ("", LONG, 1),
    ] {
        let (shop, seen) = saying(header, aged(LONG), idle_for).await;
        three_completes(&shop).await;
        assert_eq!(seen.connections(), connections, "{header:?} {idle_for:?}");
    }
}

#[tokio::test]
async fn a_merchant_whose_name_leads_elsewhere_is_followed_once_its_connections_are_too_old() {
    for (age, moves) in [(Duration::ZERO, true), (LONG, false)] {
        let (here, seen_here) = answering(json("200 OK", COMPLETED)).await;
        let (there, seen_there) = answering(json("200 OK", COMPLETED)).await;
        let port = Arc::new(AtomicU16::new(here.port()));
        let leads = Arc::clone(&port);
        let settings = Settings {
            look_up: LookUp::new(move |_, _| {
                Ok(vec![SocketAddr::from(([127, 0, 0, 1], leads.load(Ordering::SeqCst)))])
            }),
            ..aged(age)
        };
        let shop = Shop::set_up("http://shop.example", settings, |_| {})
            .unwrap_or_else(|errors| panic!("{errors:?}"));
        three_completes(&shop).await;
        port.store(there.port(), Ordering::SeqCst);
        three_completes(&shop).await;
        let expected = if moves { (3, 3) } else { (6, 0) };
        assert_eq!((seen_here.requests().len(), seen_there.requests().len()), expected);
    }
}

#[tokio::test]
async fn an_http2_connection_that_is_too_old_takes_no_other_request_and_ends_with_those_it_has() {
    for (age, connections) in [(Duration::ZERO, 3), (LONG, 1)] {
        let authority = Authority::new();
        let directory = tempfile::tempdir().unwrap();
        let trusted = directory.path().join("ca.pem");
        std::fs::write(&trusted, authority.pem()).unwrap();
        let config = authority.server("localhost", &["h2"], &[&TLS13], None);
        let (address, seen) = tls(config, |stream, _, _: Arc<Seen>| async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let mut body = respond.send_response(http::Response::new(()), false).unwrap();
                body.send_data(bytes::Bytes::from_static(COMPLETED.as_bytes()), true).unwrap();
            }
        })
        .await;
        let url = format!("https://localhost:{}", address.port());
        let shop = Shop::set_up(&url, aged(age), |merchant| merchant.endpoint.ca_file = Some(trusted));
        three_completes(&shop.unwrap_or_else(|errors| panic!("{errors:?}"))).await;
        assert_eq!(seen.connections(), connections, "{age:?}");
    }
}
