//! What every connection of the public listener needs, and none changes.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::server::danger::ClientCertVerifier;
use tokio_rustls::TlsAcceptor;

use super::Settings;
use super::census::Census;
use crate::telemetry::metrics::Metrics;

/// What every connection needs.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) tls: TlsAcceptor,
    /// What client certificates are judged by after the handshake.
    pub(super) clients: Arc<dyn ClientCertVerifier>,
    pub(super) census: Census,
    pub(super) metrics: Arc<Metrics>,
}

impl Shared {
    /// Whether this address may say who the client is.
    pub(super) fn is_proxy(&self, address: IpAddr) -> bool {
        self.settings.proxy.networks.iter().any(|network| network.contains(&address))
    }
}
