//! The server through real sockets, with certificates made on the spot.
//!
//! A certificate made on the spot, port 0, short timeouts, and waiting for what can be observed.

mod admin;
mod bounds;
mod floods;
mod drain;
mod protocols;
mod proxied;
mod unread;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ipnet::IpNet;
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Entrance, EntranceInUse, Peer, Server, Service, Settings, TlsFiles, tls};
use crate::domain::clock::Clock as _;
use crate::domain::clock::SystemClock;
use crate::drain::Drain;
use crate::limit::{self, Arrivals};
use crate::records::BoxFuture;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::Metrics;

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The digest of the credential that is known.
const KNOWN: [u8; 32] = [7; 32];

/// Answers with what it knows of the peer; `/wait` answers when allowed to, `/known` knows the client,
/// `/large` and `/huge` have much to say.
struct Mirror {
    arrived: Semaphore,
    allowed: Semaphore,
}

impl Service for Mirror {
    fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> BoxFuture<'static, Response<Full<Bytes>>> {
        Box::pin(async move {
            if request.uri().path() == "/wait" {
                self.arrived.add_permits(1);
                self.allowed.acquire().await.unwrap().forget();
            }
            let large = match request.uri().path() {
                "/large" => 1 << 20,
                "/huge" => 32 << 20,
                _ => 0,
            };
            if large > 0 {
                return Response::new(Full::from(vec![b'x'; large]));
            }
            if request.uri().path() == "/known" {
                peer.standing.recognise(&KNOWN);
            }
            let certificate = peer
                .certificate
                .and_then(|one| one.fingerprint_at(SystemClock.now()))
                .map(|digest| format!("{digest:?}"))
                .unwrap_or_default();
            Response::new(Full::from(format!("{} {certificate}", peer.address)))
        })
    }
}

/// An authority and the files of a server it vouches for.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, directory: tempfile::tempdir().unwrap() }
    }

    fn leaf(&self, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.extended_key_usages = vec![usage];
        (parameters.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn write(&self, name: &str, pem: &str) -> std::path::PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    }

    /// Server certificate and key, with this authority for clients too.
    fn files(&self) -> TlsFiles {
        let (certificate, key) = self.leaf(ExtendedKeyUsagePurpose::ServerAuth);
        TlsFiles {
            certificate: self.write("server.pem", &certificate.pem()),
            key: self.write("server.key", &key.serialize_pem()),
            client_ca: Some(self.write("ca.pem", &self.issuer.pem())),
        }
    }

    fn client(&self, alpn: &[&[u8]]) -> ClientConfig {
        let mut config = self.builder(rustls::ALL_VERSIONS).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config
    }

    fn client_with(&self, certificate: &rcgen::Certificate, key: &KeyPair) -> ClientConfig {
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        self.builder(rustls::ALL_VERSIONS)
            .with_client_auth_cert(vec![certificate.der().clone()], key)
            .unwrap()
    }

    fn builder(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.issuer.der().to_vec())).unwrap();
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
    }
}

/// A running server.
struct Running {
    authority: Authority,
    address: SocketAddr,
    metrics: Arc<Metrics>,
    drain: Drain,
    mirror: Arc<Mirror>,
    entrance: EntranceInUse,
    files: TlsFiles,
    done: JoinHandle<()>,
}

/// Starts a server with the default bounds, changed by `change`.
async fn start(change: impl FnOnce(&mut Settings)) -> Running {
    start_with(Vec::new(), Arrivals::new(&limit::Settings::default()), change).await
}

/// As [`start`], with networks of redeemers and a measure for how often others may connect.
async fn start_with(
    redeemers: Vec<IpNet>,
    arrivals: Arrivals,
    change: impl FnOnce(&mut Settings),
) -> Running {
    let authority = Authority::new();
    let mut settings = Settings { tls: authority.files(), ..Settings::default() };
    change(&mut settings);
    let metrics = Arc::new(Metrics::new().unwrap());
    let log = Log::start(std::io::sink(), Arc::clone(&metrics), Arc::new(SystemClock)).unwrap();
    let drain = Drain::new(settings.drain_timeout);
    let mirror = Arc::new(Mirror { arrived: Semaphore::new(0), allowed: Semaphore::new(0) });
    let tls = tls::load(&settings.tls, tls::Door::Public).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let entrance = Entrance { tls, arrivals: Arc::new(arrivals), redeemers };
    let files = settings.tls.clone();
    let server = Server::new(settings, entrance, Arc::clone(&metrics), log);
    let entrance = server.entrance();
    let done = tokio::spawn(server.run(listener, Arc::clone(&mirror), drain.clone()));
    Running { authority, address, metrics, drain, mirror, entrance, files, done }
}

impl Running {
    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn tls(&self, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
        handshake(self.tcp().await, config).await
    }

    /// A raw TLS connection that negotiates this protocol.
    async fn raw(&self, alpn: &[u8]) -> TlsStream<TcpStream> {
        self.tls(self.authority.client(&[alpn])).await.unwrap()
    }

    /// One request over a connection of its own.
    async fn get(&self) -> Result<String, Box<dyn std::error::Error>> {
        let stream = self.tls(self.authority.client(&[b"http/1.1"])).await?;
        let mut client = client1(stream).await?;
        Ok(text(client.send_request(request("/")).await?).await)
    }

    /// Waits until a metric's line shows.
    async fn sees(&self, line: &str) {
        eventually(line, || self.metrics.encode().lines().any(|shown| shown == line)).await;
    }
}

async fn handshake(stream: TcpStream, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    tokio::time::timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await?
}

/// Waits for a condition that nothing announces.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn client1<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: T,
) -> hyper::Result<http1::SendRequest<Full<Bytes>>> {
    let (client, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn client2<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: T,
) -> hyper::Result<http2::SendRequest<Full<Bytes>>> {
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn request(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("https://localhost{path}"))
        .header("host", "localhost")
        .body(Full::default())
        .unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Reads until the other side closes, politely or not.
async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut read = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await;
    assert!(ended.is_ok(), "the connection stayed open");
    read
}
