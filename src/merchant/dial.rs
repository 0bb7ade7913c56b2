//! Connecting to a merchant: resolve, check every address, connect to a checked one, TLS. What is
//! checked is what is connected to, so a name that changes its mind in between (DNS rebinding)
//! gains nothing.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower_service::Service;

use super::address::is_public;
use super::exchange::NotSent;
use super::resolve::Resolver;
use crate::domain::clock::Deadline;

type Pending<T> = Pin<Box<dyn Future<Output = Result<T, NotSent>> + Send>>;

/// Connects over TCP and, for `https`, TLS; HTTP/2 by ALPN. Reads no proxy from the environment.
#[derive(Clone)]
pub struct Connector {
    https: HttpsConnector<Dialer>,
    within: Duration,
}

impl Connector {
    /// A connector that gives up after `within`, for everything up to a usable connection.
    pub fn new(tls: ClientConfig, allow_private: bool, within: Duration) -> Self {
        let dialer = Dialer { allow_private, within, resolver: Resolver::of_the_system() };
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        Self { https: builder.enable_http1().enable_http2().wrap_connector(dialer), within }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = NotSent;
    type Future = Pending<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NotSent>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.https.call(uri);
        let within = self.within;
        // The timeout lives here and not with the request: a connection that a request no longer
        // waits for may be finished in the background, and must end too.
        Box::pin(async move {
            match tokio::time::timeout(within, connecting).await {
                Ok(Ok(stream)) => Ok(stream),
                // The dialer names its own reasons; the only other step is the handshake.
                Ok(Err(error)) => Err(error.downcast_ref().copied().unwrap_or(NotSent::Tls)),
                Err(_) => Err(NotSent::ConnectTimeout),
            }
        })
    }
}

/// Connects over TCP to addresses it has checked.
#[derive(Clone)]
struct Dialer {
    allow_private: bool,
    within: Duration,
    resolver: Resolver,
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = NotSent;
    type Future = Pending<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NotSent>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let allow_private = self.allow_private;
        let deadline = Deadline::after(self.within);
        let resolver = self.resolver.clone();
        Box::pin(async move {
            let resolved = resolve(&resolver, &uri).await?;
            let allowed: Vec<_> =
                resolved.into_iter().filter(|a| allow_private || is_public(a.ip())).collect();
            if allowed.is_empty() {
                return Err(NotSent::AddressForbidden);
            }
            connect(&allowed, deadline).await
        })
    }
}

/// The addresses of a URI's host; an address literal is its own.
async fn resolve(resolver: &Resolver, uri: &Uri) -> Result<Vec<SocketAddr>, NotSent> {
    let host = uri.host().ok_or(NotSent::Unresolved)?;
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
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
async fn connect(addresses: &[SocketAddr], deadline: Deadline) -> Result<TokioIo<TcpStream>, NotSent> {
    let mut failure = NotSent::Connect;
    for (tried, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = deadline.remaining().checked_div(left).unwrap_or_default();
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Small requests leave at once; that it cannot be set harms nothing.
                let _ = stream.set_nodelay(true);
                return Ok(TokioIo::new(stream));
            }
            Ok(Err(_)) => failure = NotSent::Connect,
            Err(_) => failure = NotSent::ConnectTimeout,
        }
    }
    Err(failure)
}
