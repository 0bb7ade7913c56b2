//! Connecting to a merchant: resolve, check every address, connect to a checked one, TLS. What is
//! checked is what is connected to, so a name that changes its mind in between (DNS rebinding)
//! gains nothing.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address::is_public;
use super::exchange::{NotSent, Stage};
use super::gate::Stream;
use super::handshake::TlsFailure;
use super::resolve::{LookUp, Resolver};
use crate::domain::clock::Deadline;

/// How far connecting has come. Shared, because who waits for it may give up before it ends.
#[derive(Clone, Default)]
pub(super) struct Progress(Arc<Mutex<Stage>>);

impl Progress {
    /// Where it is.
    pub(super) fn stage(&self) -> Stage {
        *self.0.lock()
    }

    fn at(&self, stage: Stage) {
        *self.0.lock() = stage;
    }
}

/// Connects over TCP and, for `https`, TLS; HTTP/2 by ALPN. Reads no proxy from the environment.
#[derive(Clone)]
pub(super) struct Connector {
    tls: Arc<ClientConfig>,
    allow_private: bool,
    within: Duration,
    resolver: Resolver,
}

impl Connector {
    /// A connector that gives up after `within`, for everything up to a usable connection.
    pub(super) fn new(mut tls: ClientConfig, allow_private: bool, within: Duration, look_up: LookUp) -> Self {
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self { tls: Arc::new(tls), allow_private, within, resolver: Resolver::new(look_up) }
    }

    /// Connects to the host of `uri`.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn connect(&self, uri: &Uri, progress: &Progress) -> Result<Stream, NotSent> {
        // The timeout lives here and not with the request: a connection that a request no longer
        // waits for may be finished in the background, and must end too.
        match tokio::time::timeout(self.within, self.open(uri, progress)).await {
            Ok(opened) => opened,
            Err(_) => Err(NotSent::Timeout(progress.stage())),
        }
    }

    async fn open(&self, uri: &Uri, progress: &Progress) -> Result<Stream, NotSent> {
        let deadline = Deadline::after(self.within);
        progress.at(Stage::Dns);
        let resolved = resolve(&self.resolver, uri).await?;
        let allowed: Vec<_> =
            resolved.into_iter().filter(|a| self.allow_private || is_public(a.ip())).collect();
        if allowed.is_empty() {
            return Err(NotSent::AddressForbidden);
        }
        progress.at(Stage::Connect);
        let tcp = TokioIo::new(connect(&allowed, deadline).await?);
        if uri.scheme() == Some(&Scheme::HTTP) {
            return Ok(Stream::Http(tcp));
        }
        progress.at(Stage::Tls);
        let name = ServerName::try_from(host(uri)?.to_owned());
        let name = name.map_err(|_| NotSent::Tls(TlsFailure::WrongName))?;
        let shaken = TlsConnector::from(Arc::clone(&self.tls)).connect(name, TokioIo::new(tcp)).await;
        let tls = shaken.map_err(|error| NotSent::Tls(TlsFailure::of(&error)))?;
        Ok(Stream::Https(TokioIo::new(tls)))
    }
}

/// The host of a URI, an IPv6 address without its brackets.
fn host(uri: &Uri) -> Result<&str, NotSent> {
    let host = uri.host().ok_or(NotSent::Unresolved)?;
    Ok(host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host))
}

/// The addresses of a URI's host; an address literal is its own.
async fn resolve(resolver: &Resolver, uri: &Uri) -> Result<Vec<SocketAddr>, NotSent> {
    let host = host(uri)?;
    let default_port = if uri.scheme() == Some(&Scheme::HTTP) { 80 } else { 443 };
    let port = uri.port_u16().unwrap_or(default_port);
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    // Numeric spellings such as `0x7f.1` or `127.1` are resolved here too, and checked after.
    resolver.addresses(host, port).await
}

/// The first connection that succeeds, one address after the other, each with an even share of the
/// time that is left: one black hole does not hide the addresses after it.
async fn connect(addresses: &[SocketAddr], deadline: Deadline) -> Result<TcpStream, NotSent> {
    let mut failure = NotSent::Connect;
    for (tried, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = deadline.remaining().checked_div(left).unwrap_or_default();
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Small requests leave at once; that it cannot be set harms nothing.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => failure = refused(&error),
            Err(_) => failure = NotSent::Timeout(Stage::Connect),
        }
    }
    Err(failure)
}

/// Why there is no connection to an address.
fn refused(error: &io::Error) -> NotSent {
    match error.kind() {
        ErrorKind::ConnectionRefused => NotSent::Refused,
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => NotSent::Unreachable,
        _ => NotSent::Connect,
    }
}
