//! Local servers that follow a script and can break every rule.
//!
//! A script a connection, over TCP or TLS, written in bytes so that they can break every rule.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What a server saw.
#[derive(Default)]
pub(super) struct Seen {
    pub connections: AtomicUsize,
    requests: Mutex<Vec<Vec<u8>>>,
}

impl Seen {
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The whole requests, head and body, in order.
    pub(super) fn requests(&self) -> Vec<Vec<u8>> {
        self.requests.lock().clone()
    }

    /// Reads one whole request with a `Content-Length`; false when the client hung up.
    pub(super) async fn read_request(&self, stream: &mut (impl AsyncRead + Unpin)) -> bool {
        let mut bytes = vec![];
        loop {
            if let Some(head_end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .map_or(0, |n| n.parse().unwrap());
                if bytes.len() >= head_end + 4 + length {
                    self.requests.lock().push(bytes);
                    return true;
                }
            }
            match stream.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return false,
                Ok(_) => {}
            }
        }
    }
}

/// A TCP server that runs `script` on each connection, with the connection's number from 0.
pub(super) async fn tcp<F, Fut>(script: F) -> (SocketAddr, Arc<Seen>)
where
    F: Fn(TcpStream, usize, Arc<Seen>) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    let counted = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let number = counted.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(script(stream, number, Arc::clone(&counted)));
        }
    });
    (address, seen)
}

/// Answers every request of every connection with these bytes.
pub(super) async fn answering(answer: impl Into<Vec<u8>>) -> (SocketAddr, Arc<Seen>) {
    let answer: Arc<[u8]> = answer.into().into();
    tcp(move |mut stream, _, seen| {
        let answer = Arc::clone(&answer);
        async move {
            while seen.read_request(&mut stream).await {
                let _ = stream.write_all(&answer).await;
            }
        }
    })
    .await
}

/// Answers once with these bytes, then closes.
pub(super) async fn answering_once(answer: &'static [u8]) -> (SocketAddr, Arc<Seen>) {
    tcp(move |mut stream, _, seen| async move {
        seen.read_request(&mut stream).await;
        let _ = stream.write_all(answer).await;
    })
    .await
}

/// An HTTP/1.1 answer with a JSON body.
pub(super) fn json(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

pub(super) const COMPLETED: &str = r#"{"id":"cs_1","status":"completed","order":{"id":"o_1"}}"#;

/// A certificate authority and what it issues.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    pub(super) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a name or address, and its key, as PEM.
    pub(super) fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// Server side of TLS for a name.
    pub(super) fn server(
        &self,
        name: &str,
        alpn: &[&str],
        versions: &[&'static rustls::SupportedProtocolVersion],
        client_authority: Option<&Self>,
    ) -> ServerConfig {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::server::WebPkiClientVerifier;

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap();
        let builder = match client_authority {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(authority.issuer.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let (certificate, key) = self.issue(name);
        let chain = vec![rustls::pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

/// A TLS server that runs `script` on each connection whose handshake succeeds.
pub(super) async fn tls<F, Fut>(config: ServerConfig, script: F) -> (SocketAddr, Arc<Seen>)
where
    F: Fn(TlsStream<TcpStream>, usize, Arc<Seen>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let script = Arc::new(script);
    tcp(move |stream, number, seen| {
        let (acceptor, script) = (acceptor.clone(), Arc::clone(&script));
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                script(stream, number, seen).await;
            }
        }
    })
    .await
}

/// Answers every HTTP/1.1 request of one connection with a completed session.
pub(super) async fn serve_completed(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: Arc<Seen>) {
    while seen.read_request(&mut stream).await {
        let _ = stream.write_all(&json("200 OK", COMPLETED)).await;
    }
}
