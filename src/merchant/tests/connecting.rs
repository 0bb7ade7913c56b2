//! Whom we connect to, and whom we believe.

use std::path::PathBuf;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use tokio::net::TcpListener;

use super::server::{Authority, COMPLETED, Seen, answering, json, serve_completed, tcp, tls};
use super::*;

fn not_sent(exchange: &Exchange) -> Option<NotSent> {
    if let Exchange::NotSent(reason) = exchange { Some(*reason) } else { None }
}

/// PEM files that live as long as the test.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

#[tokio::test]
async fn a_private_address_is_refused_however_it_is_spelt() {
    let (address, seen) = answering(json("200 OK", COMPLETED)).await;
    let port = address.port();
    for host in
        ["127.0.0.1", "localhost", "127.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0"]
    {
        let shop = Shop::with(&format!("http://{host}:{port}"), |merchant| {
            merchant.endpoint.allow_private_addresses = false;
        });
        assert_eq!(not_sent(&shop.complete().await), Some(NotSent::AddressForbidden), "{host}");
    }
    assert_eq!(seen.connections(), 0);
}

#[tokio::test]
async fn a_private_address_is_reached_where_the_entry_allows_it() {
    let (address, _) = answering(json("200 OK", COMPLETED)).await;
    let shop = Shop::at(&format!("http://localhost:{}", address.port()));
    assert!(shop.complete().await.answer().is_some());
}

#[tokio::test]
async fn a_request_goes_straight_to_the_merchant() {
    let (address, _) = answering(json("200 OK", COMPLETED)).await;
    assert!(Shop::at(&format!("http://{address}")).complete().await.answer().is_some());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn no_proxy_is_taken_from_the_environment() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let run = tokio::task::spawn_blocking(move || {
        let mut command = std::process::Command::new("/proc/self/exe");
        command.args(["--exact", "merchant::tests::connecting::a_request_goes_straight_to_the_merchant"]);
        for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            command.env(name, &proxy);
        }
        command.output().unwrap()
    });
    tokio::select! {
        connected = listener.accept() => panic!("the proxy was connected to: {connected:?}"),
        finished = run => {
            let output = String::from_utf8_lossy(&finished.unwrap().stdout).into_owned();
            assert!(output.contains("1 passed"), "{output}");
        }
    }
}

#[tokio::test]
async fn a_trusted_certificate_for_the_name_is_needed() {
    let files = Files::new();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let trusted = files.write("ca.pem", &ours.pem());
    for (authority, name, failure) in [
        (&ours, "localhost", None),
        (&ours, "shop.example", Some(TlsFailure::WrongName)),
        (&theirs, "localhost", Some(TlsFailure::UnknownIssuer)),
    ] {
        let (address, seen) =
            tls(authority.server(name, &["http/1.1"], &[&TLS13], None), |stream, _, seen| {
                serve_completed(stream, seen)
            })
            .await;
        let shop = Shop::with(&format!("https://localhost:{}", address.port()), |merchant| {
            merchant.endpoint.ca_file = Some(trusted.clone());
        });
        let exchange = shop.complete().await;
        if let Some(failure) = failure {
            assert_eq!(not_sent(&exchange), Some(NotSent::Tls(failure)));
            assert!(seen.requests().is_empty());
        } else {
            assert!(exchange.answer().is_some(), "{exchange:?}");
        }
    }
}

#[tokio::test]
async fn an_address_can_have_a_certificate_too() {
    let files = Files::new();
    let authority = Authority::new();
    let trusted = files.write("ca.pem", &authority.pem());
    let server = authority.server("127.0.0.1", &[], &[&TLS13], None);
    let (address, _) = tls(server, |stream, _, seen| serve_completed(stream, seen)).await;
    let shop = Shop::with(&format!("https://{address}"), |merchant| {
        merchant.endpoint.ca_file = Some(trusted);
    });
    assert!(shop.complete().await.answer().is_some());
}

#[tokio::test]
async fn tls_1_2_is_spoken_only_where_the_entry_allows_it() {
    let files = Files::new();
    let authority = Authority::new();
    let trusted = files.write("ca.pem", &authority.pem());
    let server = authority.server("localhost", &[], &[&TLS12], None);
    let (address, _) = tls(server, |stream, _, seen| serve_completed(stream, seen)).await;
    for allowed in [false, true] {
        let shop = Shop::with(&format!("https://localhost:{}", address.port()), |merchant| {
            merchant.endpoint.ca_file = Some(trusted.clone());
            merchant.endpoint.allow_tls12 = allowed;
        });
        let exchange = shop.complete().await;
        let expected = if allowed { None } else { Some(NotSent::Tls(TlsFailure::Incompatible)) };
        assert_eq!(not_sent(&exchange), expected, "{exchange:?}");
        assert_eq!(exchange.answer().is_some(), allowed);
    }
}

#[tokio::test]
async fn our_client_certificate_is_presented() {
    let files = Files::new();
    let (servers, clients) = (Authority::new(), Authority::new());
    let trusted = files.write("ca.pem", &servers.pem());
    let (certificate, key) = clients.issue("gateway.example");
    let ours = (files.write("client.pem", &certificate), files.write("client.key", &key));
    let server = servers.server("localhost", &[], &[&TLS13], Some(&clients));
    let (address, seen) = tls(server, |stream, _, seen: Arc<Seen>| async move {
        assert!(stream.get_ref().1.peer_certificates().is_some_and(|chain| chain.len() == 1));
        serve_completed(stream, seen).await;
    })
    .await;
    for presented in [None, Some(ours)] {
        let expected = presented.is_some();
        let shop = Shop::with(&format!("https://localhost:{}", address.port()), |merchant| {
            merchant.endpoint.ca_file = Some(trusted.clone());
            merchant.endpoint.client_certificate = presented;
        });
        assert_eq!(shop.complete().await.answer().is_some(), expected);
    }
    assert_eq!(seen.requests().len(), 1);
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_never_sent() {
    let files = Files::new();
    let trusted = files.write("ca.pem", &Authority::new().pem());
    let (address, _) = tcp(|stream, _, _| async move {
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop(stream);
    })
    .await;
    // By its own deadline, and by the request's.
    for (connect, total) in [(150, 10_000), (10_000, 150)] {
        let shop = Shop::with(&format!("https://{address}"), |merchant| {
            merchant.endpoint.ca_file = Some(trusted.clone());
            merchant.deadlines.connect = Duration::from_millis(connect);
            merchant.deadlines.total = Duration::from_millis(total);
        });
        assert_eq!(not_sent(&shop.complete().await), Some(NotSent::Timeout(Stage::Tls)));
    }
}

#[tokio::test]
async fn a_connection_that_comes_too_late_for_its_request_is_kept_for_the_next() {
    let files = Files::new();
    let authority = Authority::new();
    let trusted = files.write("ca.pem", &authority.pem());
    let acceptor =
        tokio_rustls::TlsAcceptor::from(Arc::new(authority.server("localhost", &[], &[&TLS13], None)));
    // Taking a connection takes it longer than a request is waited for.
    let (address, seen) = tcp(move |stream, _, seen| {
        let acceptor = acceptor.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(600)).await;
            if let Ok(stream) = acceptor.accept(stream).await {
                serve_completed(stream, seen).await;
            }
        }
    })
    .await;
    let shop = Shop::with(&format!("https://localhost:{}", address.port()), |merchant| {
        merchant.endpoint.ca_file = Some(trusted);
        merchant.deadlines.connect = Duration::from_secs(20);
        merchant.deadlines.total = Duration::from_millis(250);
    });
    assert_eq!(not_sent(&shop.complete().await), Some(NotSent::Timeout(Stage::Tls)));
    let mut tries = 0;
    while shop.complete().await.answer().is_none() {
        tries += 1;
        assert!(tries < 40, "none ever came in time");
    }
    assert_eq!(seen.requests().len(), 1);
}

#[test]
fn an_entry_that_cannot_be_used_is_named_at_start() {
    let files = Files::new();
    let (certificate, _) = Authority::new().issue("localhost");
    let (_, foreign_key) = Authority::new().issue("localhost");
    let certificate = files.write("c.pem", &certificate);
    let key = files.write("k.pem", &foreign_key);
    let empty = files.write("empty.pem", "");
    let reason = |change: &dyn Fn(&mut Merchant)| {
        Shop::try_with("https://localhost", change).err().map(|errors| errors[0].reason)
    };
    let authorities = Some(SetupReason::Tls(TlsSetupError::Authorities));
    let missing = empty.with_file_name("missing.pem");
    for path in [&empty, &missing] {
        assert_eq!(reason(&|merchant| merchant.endpoint.ca_file = Some(path.clone())), authorities);
    }
    let client = |merchant: &mut Merchant| {
        merchant.endpoint.ca_file = Some(certificate.clone());
        merchant.endpoint.client_certificate = Some((certificate.clone(), key.clone()));
    };
    assert_eq!(reason(&client), Some(SetupReason::Tls(TlsSetupError::ClientCertificate)));
    let relative = |merchant: &mut Merchant| merchant.endpoint.base_url = "/relative".parse().unwrap();
    assert_eq!(reason(&relative), Some(SetupReason::Destination(DestinationError::BaseUrl)));
    let credential = |merchant: &mut Merchant| merchant.credential = SecretString::new("a\nb".to_owned());
    assert_eq!(reason(&credential), Some(SetupReason::Destination(DestinationError::Credential)));
}
