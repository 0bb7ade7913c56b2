//! Merchants that break every rule: a script a connection, written in bytes.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

/// Runs `script` on each connection.
pub async fn tcp<F, Fut>(script: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    taking(TcpListener::bind("127.0.0.1:0").await.unwrap(), script)
}

/// The same, with room for a few kilobytes that were not read.
pub async fn narrow_tcp<F, Fut>(script: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    taking(socket.listen(64).unwrap(), script)
}

fn taking<F, Fut>(listener: TcpListener, script: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(script(stream));
        }
    });
    address
}

/// Reads one request, answers it with these bytes and closes.
pub async fn answering(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer: Arc<[u8]> = answer.into().into();
    tcp(move |mut stream| {
        let answer = Arc::clone(&answer);
        async move {
            read_request(&mut stream).await;
            let _ = stream.write_all(&answer).await;
        }
    })
    .await
}

/// As [`answering`], and says nothing more for as long as anybody waits.
pub async fn answering_and_silent(answer: &'static [u8]) -> SocketAddr {
    tcp(move |mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(answer).await;
        silent(&mut stream).await;
    })
    .await
}

/// Says these bytes to whatever begins to speak, and closes.
pub async fn saying(bytes: &'static [u8]) -> SocketAddr {
    tcp(move |mut stream| async move {
        let _ = stream.read_u8().await;
        let _ = stream.write_all(bytes).await;
    })
    .await
}

/// Takes connections and says nothing.
pub async fn mute() -> SocketAddr {
    tcp(|mut stream| async move { silent(&mut stream).await }).await
}

async fn silent(stream: &mut TcpStream) {
    let mut bytes = [0; 1024];
    while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) {
    let mut bytes = vec![];
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if bytes.len() >= end + 4 + length.map_or(0, |length| length.parse::<usize>().unwrap()) {
                return;
            }
        }
        if stream.read_buf(&mut bytes).await.map_or(true, |read| read == 0) {
            return;
        }
    }
}

/// A port nobody listens at.
pub async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A port at which as many wait to be taken as may: who comes later is not answered.
pub struct Crowded {
    pub address: SocketAddr,
    _listener: rustix::fd::OwnedFd,
    _waiting: Vec<tokio::task::JoinHandle<Option<TcpStream>>>,
}

impl Crowded {
    pub async fn new() -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

        let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        listen(&listener, 0).unwrap();
        let address = SocketAddr::try_from(getsockname(&listener).unwrap()).unwrap();
        let mut waiting = Vec::new();
        // The first that is not answered shows that there is no room.
        loop {
            let mut one = tokio::spawn(async move { TcpStream::connect(address).await.ok() });
            let is_full = tokio::time::timeout(Duration::from_millis(300), &mut one).await;
            match is_full {
                Ok(connected) => waiting.push(tokio::spawn(async move { connected.unwrap() })),
                Err(_) => {
                    waiting.push(one);
                    return Self { address, _listener: listener, _waiting: waiting };
                }
            }
        }
    }
}

/// What a certificate is wrong in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    None,
    Expired,
    NotYetValid,
    Name,
    Purpose,
}

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, flaw: Flaw) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let name = if flaw == Flaw::Name { "elsewhere.example" } else { "localhost" };
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        match flaw {
            Flaw::Expired => params.not_after = rcgen::date_time_ymd(2020, 1, 1),
            Flaw::NotYetValid => params.not_before = rcgen::date_time_ymd(3000, 1, 1),
            Flaw::Purpose => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            Flaw::None | Flaw::Name => {}
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.der().clone(), PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap())
    }

    /// The server side of TLS.
    pub fn server(
        &self,
        flaw: Flaw,
        version: &'static SupportedProtocolVersion,
        alpn: &str,
        wants_certificate: bool,
    ) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap();
        let builder = if wants_certificate {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.0.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = self.issue(flaw);
        let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        config
    }

    /// Shakes hands over HTTP/1.1 with a certificate that has a flaw, and says nothing more.
    pub async fn flawed(&self, flaw: Flaw) -> SocketAddr {
        shaking_hands(self.server(flaw, &TLS13, "http/1.1", false)).await
    }

    /// Wants a certificate of whoever connects.
    pub async fn wanting(&self, version: &'static SupportedProtocolVersion, alpn: &str) -> SocketAddr {
        shaking_hands(self.server(Flaw::None, version, alpn, true)).await
    }

    /// Speaks TLS 1.2 only.
    pub async fn old(&self) -> SocketAddr {
        shaking_hands(self.server(Flaw::None, &TLS12, "http/1.1", false)).await
    }

    /// Shakes hands, and ends the connection before its peer can have sent anything over it.
    pub async fn leaving(&self) -> SocketAddr {
        let config = Arc::new(self.server(Flaw::None, &TLS13, "http/1.1", false));
        tcp(move |mut stream| {
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            async move {
                let mut bytes = [0; 4096];
                while tls.is_handshaking() && !tls.wants_write() {
                    let Ok(read @ 1..) = stream.read(&mut bytes).await else { return };
                    let _ = tls.read_tls(&mut &bytes[..read]);
                    let _ = tls.process_new_packets();
                }
                let mut flight = Vec::new();
                while tls.wants_write() {
                    tls.write_tls(&mut flight).unwrap();
                }
                // The end is in the segment that ends the handshake: nothing can be sent between the two.
                rustix::net::sockopt::set_tcp_cork(&stream, true).unwrap();
                let _ = stream.write_all(&flight).await;
                let _ = stream.shutdown().await;
                silent(&mut stream).await;
            }
        })
        .await
    }

    /// Speaks HTTP/2, takes so many requests at once on a connection, and answers none. Tells of each.
    pub async fn holding(&self, at_once: u32) -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
        let acceptor = TlsAcceptor::from(Arc::new(self.server(Flaw::None, &TLS13, "h2", false)));
        let (tell, told) = mpsc::unbounded_channel();
        let address = tcp(move |stream| {
            let (acceptor, tell) = (acceptor.clone(), tell.clone());
            async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let greeted =
                    h2::server::Builder::new().max_concurrent_streams(at_once).handshake::<_, Bytes>(stream);
                let Ok(mut connection) = greeted.await else { return };
                let mut held = Vec::new();
                while let Some(Ok(request)) = connection.accept().await {
                    held.push(request);
                    let _ = tell.send(());
                }
            }
        })
        .await;
        (address, told)
    }

    /// Speaks HTTP/2, wants a great deal, and reads nothing more once it has a first request: told of.
    pub async fn stopping(&self) -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
        let acceptor = TlsAcceptor::from(Arc::new(self.server(Flaw::None, &TLS13, "h2", false)));
        let (tell, told) = mpsc::unbounded_channel();
        let address = narrow_tcp(move |stream| {
            let (acceptor, tell) = (acceptor.clone(), tell.clone());
            async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let mut builder = h2::server::Builder::new();
                builder.initial_window_size(1 << 30).initial_connection_window_size(1 << 30);
                let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
                let held = connection.accept().await;
                let _ = tell.send(());
                std::future::pending::<()>().await;
                drop(held);
            }
        })
        .await;
        (address, told)
    }

    /// Shakes hands for HTTP/2 and never greets. Tells of each connection.
    pub async fn ungreeting(&self) -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
        let acceptor = TlsAcceptor::from(Arc::new(self.server(Flaw::None, &TLS13, "h2", false)));
        let (tell, told) = mpsc::unbounded_channel();
        let address = tcp(move |stream| {
            let (acceptor, tell) = (acceptor.clone(), tell.clone());
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let _ = stream.read_u8().await;
                let _ = tell.send(());
                drop(stream.read_to_end(&mut Vec::new()).await);
            }
        })
        .await;
        (address, told)
    }

    /// Ends every stream of HTTP/2 with this reason, behind half an answer where that is wanted.
    pub async fn resetting(&self, reason: h2::Reason, half: bool) -> SocketAddr {
        let acceptor = TlsAcceptor::from(Arc::new(self.server(Flaw::None, &TLS13, "h2", false)));
        tcp(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                reset_streams(stream, reason, half).await;
            }
        })
        .await
    }
}

async fn reset_streams(stream: impl AsyncRead + AsyncWrite + Unpin, reason: h2::Reason, half: bool) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut halves = Vec::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        drop(request);
        if half {
            let head = http::Response::builder().header("content-type", "application/json");
            let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
            let _ = body.send_data("{\"id\":".into(), false);
            // Behind what was said, or that would not be sent.
            halves.push(tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                body.send_reset(reason);
            }));
        } else {
            respond.send_reset(reason);
        }
    }
}

async fn shaking_hands(config: ServerConfig) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tcp(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            match acceptor.accept(stream).into_fallible().await {
                Ok(mut stream) => drop(stream.read_u8().await),
                // To close with bytes unread would reset the connection, and the alert be lost with it.
                Err((_, mut stream)) => {
                    let _ = stream.shutdown().await;
                    drop(stream.read_to_end(&mut Vec::new()).await);
                }
            }
        }
    })
    .await
}
