//! TLS towards merchants, from the files their entries name. The one place of this stage that reads
//! files, once, at start.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::registry::MerchantEndpoint;

const TLS13_ONLY: &[&SupportedProtocolVersion] = &[&TLS13];
const TLS12_TOO: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// Why no TLS configuration could be made. Never carries a byte of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsSetupError {
    /// The file of certificate authorities cannot be read or has no certificate.
    #[error("the file of certificate authorities cannot be used")]
    Authorities,
    /// The system has no certificate authorities.
    #[error("the system has no certificate authorities")]
    SystemAuthorities,
    /// The client certificate or its key cannot be read, or they do not belong together.
    #[error("the client certificate or its key cannot be used")]
    ClientCertificate,
    /// The protocol versions were refused.
    #[error("TLS cannot be set up")]
    Protocol,
}

/// The system's authorities: read once, and only when needed.
static SYSTEM: OnceLock<Option<Arc<RootCertStore>>> = OnceLock::new();

/// The configuration of one merchant: certificates verified, TLS 1.3, 1.2 only where its entry
/// allows it.
///
/// # Errors
/// [`TlsSetupError`] names which file.
pub(super) fn client_config(endpoint: &MerchantEndpoint) -> Result<ClientConfig, TlsSetupError> {
    let roots = match &endpoint.ca_file {
        Some(path) => Arc::new(read_authorities(path)?),
        // A plain http endpoint never meets a certificate.
        None if endpoint.base_url.scheme() == Some(&http::uri::Scheme::HTTP) => {
            Arc::new(RootCertStore::empty())
        }
        None => system_authorities()?,
    };
    let versions = if endpoint.allow_tls12 { TLS12_TOO } else { TLS13_ONLY };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|_| TlsSetupError::Protocol)?
        .with_root_certificates(roots);
    let Some((chain, key)) = &endpoint.client_certificate else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = read_certificates(chain).ok_or(TlsSetupError::ClientCertificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|_| TlsSetupError::ClientCertificate)?;
    builder.with_client_auth_cert(chain, key).map_err(|_| TlsSetupError::ClientCertificate)
}

fn system_authorities() -> Result<Arc<RootCertStore>, TlsSetupError> {
    let read = || {
        let mut roots = RootCertStore::empty();
        // One unreadable certificate among the system's does not spoil the others.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        (!roots.is_empty()).then(|| Arc::new(roots))
    };
    SYSTEM.get_or_init(read).clone().ok_or(TlsSetupError::SystemAuthorities)
}

fn read_authorities(path: &Path) -> Result<RootCertStore, TlsSetupError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path).ok_or(TlsSetupError::Authorities)? {
        roots.add(certificate).map_err(|_| TlsSetupError::Authorities)?;
    }
    Ok(roots)
}

/// Every certificate of a PEM file; `None` when one does not read or there is none.
fn read_certificates(path: &Path) -> Option<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path).ok()?.collect::<Result<_, _>>().ok()?;
    (!certificates.is_empty()).then_some(certificates)
}
