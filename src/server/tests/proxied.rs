//! Behind a load balancer that speaks the PROXY protocol, and behind one that pretends to.

use tokio::io::AsyncWriteExt;

use super::*;

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x27\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x08\x12\x67\x01\xbb\x04\x00\x00";

async fn behind_proxy(change: impl FnOnce(&mut Settings)) -> Running {
    start(|settings| {
        settings.proxy.networks = vec!["127.0.0.0/8".parse().unwrap()];
        change(settings);
    })
    .await
}

impl Running {
    /// One request after these bytes.
    async fn get_after(&self, header: &[u8]) -> Result<String, Box<dyn std::error::Error>> {
        let mut stream = self.tcp().await;
        stream.write_all(header).await?;
        let mut client = client1(handshake(stream, self.authority.client(&[])).await?).await?;
        Ok(text(client.send_request(request("/")).await?).await)
    }
}

#[tokio::test]
async fn the_client_is_who_the_proxy_says() {
    let server = behind_proxy(|_| {}).await;
    assert_eq!(server.get_after(V1).await.unwrap(), "192.0.2.7:4711 ");
    assert_eq!(server.get_after(V2).await.unwrap(), "[2001:db8::7]:4711 ");
    for own in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", b""] {
        assert!(server.get_after(own).await.unwrap().starts_with("127.0.0.1:"), "{own:?}");
    }
}

#[tokio::test]
async fn a_malformed_header_ends_the_connection() {
    let server = behind_proxy(|_| {}).await;
    assert!(server.get_after(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n").await.is_err());
    assert!(server.get_after(&[b'P'; 200]).await.is_err());
    assert!(server.get_after(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff").await.is_err());
    server.sees("countersign_proxy_errors_total{reason=\"malformed\"} 3").await;
    let mut cut = server.tcp().await;
    cut.write_all(b"PROXY TCP4").await.unwrap();
    cut.shutdown().await.unwrap();
    server.sees("countersign_proxy_errors_total{reason=\"closed\"} 1").await;
}

#[tokio::test]
async fn a_required_header_that_is_missing_ends_the_connection() {
    let server = behind_proxy(|settings| settings.proxy.required = true).await;
    assert!(server.get_after(b"").await.is_err());
    server.sees("countersign_proxy_errors_total{reason=\"missing\"} 1").await;
    assert!(server.get_after(V1).await.is_ok());
}

#[tokio::test]
async fn a_header_that_does_not_end_is_given_up() {
    let server = behind_proxy(|settings| settings.handshake_timeout = Duration::from_millis(150)).await;
    let mut slow = server.tcp().await;
    slow.write_all(b"PROXY TCP4 192.0.2.7").await.unwrap();
    until_closed(&mut slow).await;
    server.sees("countersign_handshake_failures_total{reason=\"timeout\"} 1").await;
}

#[tokio::test]
async fn nobody_else_is_listened_to() {
    let server = start(|settings| settings.proxy.networks = vec!["10.0.0.0/8".parse().unwrap()]).await;
    assert!(server.get_after(V1).await.is_err());
    assert!(server.get_after(V2).await.is_err());
    server.sees("countersign_handshake_failures_total{reason=\"malformed\"} 2").await;
    assert!(server.get().await.unwrap().starts_with("127.0.0.1:"));
}

#[tokio::test]
async fn behind_a_proxy_each_client_has_a_fill_of_its_own() {
    let server = behind_proxy(|settings| settings.connections_per_address = 1).await;
    let mut held = server.tcp().await;
    held.write_all(V1).await.unwrap();
    let _held = handshake(held, server.authority.client(&[])).await.unwrap();
    assert!(server.get_after(V1).await.is_err());
    server.sees("countersign_connections_refused_total{reason=\"address\"} 1").await;
    assert!(server.get_after(V2).await.is_ok());
}
