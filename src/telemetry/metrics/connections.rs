//! What is told of connections: how many there are, and why some are not.

use super::Metrics;
use crate::telemetry::instrument::Gauged;

impl Metrics {
    /// A socket was accepted: it is open until the guard is dropped.
    pub fn connection_open(&self) -> Gauged {
        Gauged::rise(&self.connections_open)
    }

    /// A connection finished its handshake: `h2` or `http/1.1`.
    pub fn connection_ready(&self, protocol: &'static str) {
        self.connections.add_one([protocol]);
    }

    /// A connection was closed so that another has room: it was `quiet`, or left
    /// answers `unread`.
    pub fn connection_evicted(&self, reason: &'static str) {
        self.connections_evicted.add_one([reason]);
    }

    /// A connection met a bound.
    pub fn connection_refused(&self, reason: &'static str) {
        self.connections_refused.add_one([reason]);
    }

    /// A TLS handshake failed.
    pub fn handshake_failed(&self, reason: &'static str) {
        self.handshake_failures.add_one([reason]);
    }

    /// A PROXY header was missing or malformed.
    pub fn proxy_error(&self, reason: &'static str) {
        self.proxy_errors.add_one([reason]);
    }
}
