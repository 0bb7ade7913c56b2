//! What is spoken, and with whom.

use super::*;
use crate::crypto::digest::sha256;
use crate::server::tls::Door;

#[tokio::test]
async fn http_2_and_http_1_are_served_as_alpn_settles() {
    let server = start(|_| {}).await;
    let stream = server.tls(server.authority.client(&[b"h2", b"http/1.1"])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let mut client = client2(stream).await.unwrap();
    let response = client.send_request(request("/")).await.unwrap();
    assert_eq!(response.version(), http::Version::HTTP_2);
    assert!(text(response).await.starts_with("127.0.0.1:"));

    for alpn in [&[&b"http/1.1"[..]][..], &[]] {
        let stream = server.tls(server.authority.client(alpn)).await.unwrap();
        let mut client = client1(stream).await.unwrap();
        for _ in 0..2 {
            assert_eq!(client.send_request(request("/")).await.unwrap().version(), http::Version::HTTP_11);
            client.ready().await.unwrap();
        }
    }
    server.sees("countersign_connections_total{protocol=\"h2\"} 1").await;
    server.sees("countersign_connections_total{protocol=\"http/1.1\"} 2").await;
}

#[tokio::test]
async fn head_over_http_2_has_no_content_and_breaks_nothing_else() {
    let server = start(|_| {}).await;
    let mut client = client2(server.raw(b"h2").await).await.unwrap();
    let length = text(client.send_request(request("/")).await.unwrap()).await.len();
    // A neighbour that is under way on the same connection while HEAD is answered.
    let waiting = tokio::spawn(client.send_request(request("/wait")));
    server.mirror.arrived.acquire().await.unwrap().forget();
    let mut head = request("/");
    *head.method_mut() = http::Method::HEAD;
    let response = client.send_request(head).await.unwrap();
    assert_eq!(response.headers()["content-length"], length.to_string());
    assert_eq!(text(response).await, "");
    server.mirror.allowed.add_permits(1);
    assert_eq!(text(waiting.await.unwrap().unwrap()).await.len(), length);
}

#[tokio::test]
async fn a_client_without_tls_1_3_is_refused() {
    let server = start(|_| {}).await;
    let config = server.authority.builder(&[&rustls::version::TLS12]).with_no_client_auth();
    assert!(server.tls(config).await.is_err());
    server.sees("countersign_handshake_failures_total{reason=\"incompatible\"} 1").await;
    assert!(server.tls(server.authority.client(&[b"spdy/3"])).await.is_err());
    server.sees("countersign_handshake_failures_total{reason=\"alpn\"} 1").await;
}

#[tokio::test]
async fn a_client_certificate_is_optional_and_told_by_its_digest() {
    let server = start(|_| {}).await;
    assert!(server.get().await.unwrap().ends_with(' '), "none presented, none told");

    let (certificate, key) = server.authority.leaf(ExtendedKeyUsagePurpose::ClientAuth);
    let config = server.authority.client_with(&certificate, &key);
    for resumed in [false, true] {
        let stream = server.tls(config.clone()).await.unwrap();
        let kind = stream.get_ref().1.handshake_kind();
        assert_eq!(kind == Some(rustls::HandshakeKind::Resumed), resumed, "{kind:?}");
        let mut client = client1(stream).await.unwrap();
        let told = text(client.send_request(request("/")).await.unwrap()).await;
        assert!(told.ends_with(&format!("{:?}", sha256(&[certificate.der()]))), "{told}");
    }
}

#[tokio::test]
async fn who_has_a_ticket_resumes_after_the_files_were_read_again_and_held_the_same() {
    let server = start(|_| {}).await;
    let config = server.authority.client(&[b"http/1.1"]);
    let resumes = async || {
        let stream = server.tls(config.clone()).await.unwrap();
        let resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        // Its tickets come with the first answer.
        let mut client = client1(stream).await.unwrap();
        text(client.send_request(request("/")).await.unwrap()).await;
        resumed
    };
    let read_again = || {
        let entrance = server.entrance.now();
        let tls = tls::load_again(&server.files, Door::Public, Some(&entrance.tls)).unwrap();
        server.entrance.replace(Entrance { tls, ..entrance });
    };
    assert!(!resumes().await && resumes().await);
    read_again();
    assert!(resumes().await, "the files are as they were");
    // Another certificate of the same authority: whoever shows a ticket of before sees it.
    server.authority.files();
    read_again();
    assert!(!resumes().await && resumes().await);
}

#[tokio::test]
async fn a_client_certificate_of_another_authority_ends_the_handshake() {
    let server = start(|_| {}).await;
    let stranger = Authority::new();
    let (certificate, key) = stranger.leaf(ExtendedKeyUsagePurpose::ClientAuth);
    // In TLS 1.3 the client learns of it only when it reads.
    if let Ok(mut stream) = server.tls(server.authority.client_with(&certificate, &key)).await {
        assert!(stream.read_u8().await.is_err());
    }
    server.sees("countersign_handshake_failures_total{reason=\"certificate\"} 1").await;
}

#[test]
fn each_mistake_in_the_tls_files_is_named_with_its_file() {
    let authority = Authority::new();
    let good = authority.files();
    let expect = |files: &TlsFiles, words: &[&str]| {
        let message = tls::load(files, Door::Public).err().unwrap().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    };
    let absent = TlsFiles { certificate: "absent.pem".into(), ..good.clone() };
    expect(&absent, &["absent.pem", "No such file"]);
    let swapped = TlsFiles { certificate: good.key.clone(), key: good.certificate.clone(), ..good.clone() };
    expect(&swapped, &["server.key", "no certificate found"]);
    expect(
        &TlsFiles { key: good.certificate.clone(), ..good.clone() },
        &["server.pem", "no private key found"],
    );
    let (_, other) = authority.leaf(ExtendedKeyUsagePurpose::ServerAuth);
    let other = authority.write("other.key", &other.serialize_pem());
    expect(&TlsFiles { key: other, ..good.clone() }, &["other.key", "server.pem", "does not belong"]);
    let broken =
        authority.write("broken.pem", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
    expect(&TlsFiles { client_ca: Some(broken), ..good.clone() }, &["broken.pem", "malformed"]);
    assert!(tls::load(&TlsFiles { client_ca: None, ..good }, Door::Public).is_ok());
}
