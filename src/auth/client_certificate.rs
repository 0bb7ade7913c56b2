//! A TLS client certificate as proof. The handshake verified it once; a connection is kept and a
//! session resumed for longer than that may be true, so whoever rests on it asks again, each time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

use crate::crypto::digest::{Sha256, sha256};
use crate::domain::clock::Timestamp;

/// The authorities that clients are trusted by. What rested on one that is replaced rests on nothing.
pub struct ClientAuthorities(ArcSwap<Arc<dyn ClientCertVerifier>>);

impl ClientAuthorities {
    /// Those that `verifier` knows.
    pub fn new(verifier: Arc<dyn ClientCertVerifier>) -> Self {
        Self(ArcSwap::from_pointee(verifier))
    }

    /// From now on those that `verifier` knows.
    pub fn replace(&self, verifier: Arc<dyn ClientCertVerifier>) {
        self.0.store(Arc::new(verifier));
    }
}

/// The certificate a client presented, on this connection or on the one whose session it resumes.
#[derive(Clone)]
pub struct ClientCertificate(Arc<Presented>);

struct Presented {
    fingerprint: Sha256,
    /// The client's own first.
    chain: Vec<CertificateDer<'static>>,
    authorities: Arc<ClientAuthorities>,
}

impl ClientCertificate {
    /// The chain that a client presented, the client's own certificate first; `None` when it is empty.
    pub fn new(chain: &[CertificateDer<'_>], authorities: Arc<ClientAuthorities>) -> Option<Self> {
        let fingerprint = sha256(&[chain.first()?.as_ref()]);
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Some(Self(Arc::new(Presented { fingerprint, chain, authorities })))
    }

    /// SHA-256 of its DER, if it is good at this instant: within its validity, and vouched for by an
    /// authority that is trusted then.
    pub fn fingerprint_at(&self, now: Timestamp) -> Option<Sha256> {
        let Presented { fingerprint, chain, authorities } = &*self.0;
        let (own, intermediates) = chain.split_first()?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.unix_seconds()).ok()?));
        let verifier = authorities.0.load();
        // Without an authority nobody is trusted, and there is nothing to be asked.
        if !verifier.offer_client_auth() {
            return None;
        }
        verifier.verify_client_cert(own, intermediates, now).ok()?;
        Some(*fingerprint)
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("fingerprint", &self.0.fingerprint).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rustls::server::WebPkiClientVerifier;

    use super::*;

    #[test]
    fn where_no_authority_is_left_no_certificate_is_good() {
        let authorities = Arc::new(ClientAuthorities::new(WebPkiClientVerifier::no_client_auth()));
        let chain = [CertificateDer::from(vec![1, 2, 3])];
        let certificate = ClientCertificate::new(&chain, authorities).unwrap();
        assert_eq!(certificate.fingerprint_at(Timestamp::from_unix_seconds(1)), None);
    }
}
