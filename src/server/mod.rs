//! The sockets: accepts connections within bounds and hands requests to a [`Service`].
//!
//! Speaks TLS 1.3, HTTP/2 and HTTP/1.1. Knows nothing of payments, so that what is slow, oversized or
//! hostile on the wire is dealt with before the gateway is involved.

mod activity;
pub mod admin;
mod admin_tls;
mod answer;
mod connection_counts;
mod connection;
mod linger;
mod listener;
pub mod process;
#[cfg(not(fuzzing))]
mod proxy;
#[cfg(fuzzing)]
pub mod proxy;
mod seats;
mod shared;
pub mod signals;
#[cfg(test)]
mod tests;
pub mod tls;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use ipnet::IpNet;

pub use admin_tls::AdminTls;
pub use listener::{EntranceInUse, Server};
pub use shared::Entrance;

use crate::auth::Standing;
use crate::auth::client_certificate::ClientCertificate;
use crate::records::BoxFuture;

/// What answers requests.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. The future is dropped when the client leaves (on HTTP/1.1 that is seen when
    /// it is written to: closing its half alone, it may wait for the answer), so what must not be
    /// abandoned half way runs in a task of its own.
    fn call(
        self: Arc<Self>,
        request: http::Request<Incoming>,
        peer: Peer,
    ) -> BoxFuture<'static, http::Response<Full<Bytes>>>;
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client's address, as told by a trusted proxy if there is one.
    pub address: SocketAddr,
    /// Its client certificate, when it presented one that verified against [`TlsFiles::client_ca`] in
    /// the handshake.
    pub certificate: Option<ClientCertificate>,
    /// Whether anybody has shown a credential that is known on this connection.
    pub standing: Standing,
}

impl Peer {
    /// The client's address without its port.
    pub const fn ip(&self) -> IpAddr {
        self.address.ip()
    }
}

/// Where the sockets are and every bound on what a connection may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where agents, merchants and providers connect. Default `0.0.0.0:8443`.
    pub listen: SocketAddr,
    /// Where operators connect. Default `127.0.0.1:9464`.
    pub admin_listen: SocketAddr,
    /// The certificate shown to operators; those who show none that [`TlsFiles::client_ca`] vouches for
    /// are not let in. Without it they are served in plain HTTP: keep that on loopback or a private
    /// network. Default none.
    pub admin_tls: Option<TlsFiles>,
    /// Where probes are answered without the rest, in plain HTTP; the operators' listener answers them too.
    /// Default none.
    pub health_listen: Option<SocketAddr>,
    /// The certificate and its key.
    pub tls: TlsFiles,
    /// Connections open at once, handshakes included. For one more, that one gives way which has been
    /// quiet the longest of those on which nobody has shown a credential that is known; without such
    /// the newcomer is closed. An idle TLS connection costs about 31 KB. Default 8,192.
    pub connections: usize,
    /// Connections open at once from one address (IPv6: one /64), so that a single client cannot
    /// take them all; from an IPv4 /24 or an IPv6 /56 twice as many, from an IPv6 /48 four times. A
    /// proxy that speaks the PROXY protocol is not counted, its clients are. An agent platform
    /// behind one address keeps a few connections for each of its machines. Default 1,024.
    pub connections_per_address: usize,
    /// Of `connections` so many, at most half, are kept for the networks that redeemers are proven by:
    /// without their cards what agents have begun cannot end. Default 256.
    pub connections_reserved: usize,
    /// Time for the PROXY header and the TLS handshake together. Default 5 s.
    pub handshake_timeout: Duration,
    /// Size of a request's head: request line and headers, in bytes. Signed requests stay below
    /// 8 KiB. Default 32 KiB; at least 8 KiB.
    pub header_bytes: usize,
    /// Header fields in a request. Default 100.
    pub header_count: usize,
    /// Time from a request's first byte (or, for the first request, from the handshake) to the end
    /// of its head. Default 10 s.
    pub header_timeout: Duration,
    /// Size of a request's body, in bytes. The largest ACP bodies are tens of kilobytes. Default
    /// 1 MiB.
    pub body_bytes: usize,
    /// Time for a request's whole body. Default 15 s.
    pub body_timeout: Duration,
    /// Time for a client to take an answer whole, from when it is ready. Twice a body's: answers on one
    /// connection wait for one another. Default 30 s.
    pub answer_timeout: Duration,
    /// Bytes of ready answers that one connection may leave unread before it is closed, though never
    /// fewer than one answer. That is 128 KiB for each HTTP/2 stream; usual answers have ten. Default
    /// 16 MiB.
    pub unread_bytes_per_connection: usize,
    /// Bytes of ready answers that all connections together may leave unread; beyond, the one with the
    /// most is closed. Default 256 MiB.
    pub unread_bytes: usize,
    /// HTTP/2 requests under way at once on one connection. Default 128.
    pub streams: u32,
    /// HTTP/2 streams that a client opened and reset before they were looked at; one more closes
    /// the connection (CVE-2023-44487, rapid reset). Default 20.
    pub pending_resets: usize,
    /// HTTP/2 streams that we had to reset for a client's errors; one more closes the connection
    /// (CVE-2025-8671). Default 100.
    pub local_resets: usize,
    /// A connection without a request under way is closed after this long. Longer than agents keep
    /// idle connections, so that theirs end first. Default 75 s.
    pub idle_timeout: Duration,
    /// Whose word about the client's address is taken.
    pub proxy: ProxySettings,
    /// From SIGTERM to the end, whatever is still open. Below the 30 s that orchestrators wait
    /// before they kill. Default 25 s.
    pub drain_timeout: Duration,
    /// How long all work is still taken after a signal to drain, while readiness is off.
    pub drain_delay: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8443)),
            admin_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9464)),
            admin_tls: None,
            health_listen: None,
            tls: TlsFiles::default(),
            connections: 8_192,
            connections_per_address: 1_024,
            connections_reserved: 256,
            handshake_timeout: Duration::from_secs(5),
            header_bytes: 32 * 1024,
            header_count: 100,
            header_timeout: Duration::from_secs(10),
            body_bytes: 1024 * 1024,
            body_timeout: Duration::from_secs(15),
            answer_timeout: Duration::from_secs(30),
            unread_bytes_per_connection: 16 * 1024 * 1024,
            unread_bytes: 256 * 1024 * 1024,
            streams: 128,
            pending_resets: 20,
            local_resets: 100,
            idle_timeout: Duration::from_secs(75),
            proxy: ProxySettings::default(),
            drain_timeout: Duration::from_secs(25),
            drain_delay: Duration::ZERO,
        }
    }
}

impl Settings {
    /// How many connections are kept for redeemers: without their networks nobody could have them.
    fn reserved_for(&self, redeemers: &[IpNet]) -> usize {
        if redeemers.is_empty() { 0 } else { self.connections_reserved }
    }

    /// Accepts no more connections than `open_files` leave room for: half of them are kept for merchants'
    /// connections, the store and operators. An address's share shrinks with the whole, or one could
    /// take it all. Whether that changed anything.
    pub fn bound_by(&mut self, open_files: u64) -> bool {
        let room = usize::try_from(open_files / 2).unwrap_or(usize::MAX).max(1);
        if room >= self.connections {
            return false;
        }
        let share = self.connections_per_address.saturating_mul(room).div_ceil(self.connections);
        self.connections_per_address = share.max(1);
        self.connections = room;
        self.connections_reserved = self.connections_reserved.min(room / 2);
        true
    }
}

/// The PEM files of a listener's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, then its intermediates. Default `certs/server.pem`.
    pub certificate: PathBuf,
    /// The certificate's private key: PKCS#8, SEC1 or PKCS#1. Default `certs/server.key`.
    pub key: PathBuf,
    /// Authorities of client certificates. With it a certificate is asked for, and by the operators'
    /// listener demanded; one that does not verify ends the handshake. Default none.
    pub client_ca: Option<PathBuf>,
}

impl Default for TlsFiles {
    fn default() -> Self {
        Self {
            certificate: PathBuf::from("certs/server.pem"),
            key: PathBuf::from("certs/server.key"),
            client_ca: None,
        }
    }
}

/// The PROXY protocol, versions 1 and 2.
/// <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// Networks of proxies that may name the client's address. Nobody else is listened to: from
    /// other addresses a PROXY header is a malformed TLS handshake. Default none.
    pub networks: Vec<IpNet>,
    /// Whether a connection from these networks must begin with a PROXY header. Default false.
    pub required: bool,
}
