//! TLS of the operator's listener: who is let in, by which certificate, and for how long.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::tls::{Tls, failure};
use crate::auth::client_certificate::{ClientAuthorities, ClientCertificate};
use crate::domain::clock::Clock;

/// TLS of the operator's listener.
pub struct AdminTls {
    /// For handshakes from now on; who is connected stays so while [`Self::lets_in`] agrees.
    tls: ArcSwap<Tls>,
    clients: Arc<ClientAuthorities>,
    clock: Arc<dyn Clock>,
}

impl AdminTls {
    /// As set up; whether a client's certificate is still good is told by `clock`.
    pub fn new(tls: Tls, clock: Arc<dyn Clock>) -> Self {
        let clients = Arc::new(ClientAuthorities::new(Arc::clone(&tls.clients)));
        Self { tls: ArcSwap::from_pointee(tls), clients, clock }
    }

    /// From now on as set up here. No connection is closed.
    pub fn renew(&self, tls: Tls) {
        self.clients.replace(Arc::clone(&tls.clients));
        self.tls.store(Arc::new(tls));
    }

    /// The handshake, and the certificate that the client showed in it.
    ///
    /// # Errors
    /// The metric's label for why it failed.
    pub(super) async fn welcome(
        &self,
        stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, Option<ClientCertificate>), &'static str> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.tls.load().config));
        let stream = acceptor.accept(stream).await.map_err(|error| failure(&error))?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let certificate = ClientCertificate::new(chain, Arc::clone(&self.clients));
        Ok((stream, certificate))
    }

    /// Whether who showed this certificate in the handshake is served now: where an authority is named,
    /// only while it vouches for it.
    pub(super) fn lets_in(&self, certificate: Option<&ClientCertificate>) -> bool {
        let is_good = |shown: &ClientCertificate| shown.fingerprint_at(self.clock.now()).is_some();
        !self.tls.load().clients.offer_client_auth() || certificate.is_some_and(is_good)
    }
}
