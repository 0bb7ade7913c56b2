//! The listeners' TLS: 1.3 only, HTTP/2 or HTTP/1.1, client certificates if configured.
//!
//! 1.3 only, ring's ciphers, HTTP/2 or HTTP/1.1 by ALPN, client certificates when an authority for them
//! is configured. Errors name the file and never its content.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use zeroize::Zeroizing;

use super::TlsFiles;
use crate::crypto::digest::{Sha256, sha256_framed};

/// Application protocols, preferred first (RFC 7301).
pub(super) const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path}: {reason}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// A certificate file without certificates.
    #[error("{0}: no certificate found; expected PEM with \"BEGIN CERTIFICATE\", the server's own first")]
    NoCertificate(PathBuf),
    /// A key file without a key that can be read.
    #[error(
        "{0}: no private key found; expected unencrypted PEM with \"BEGIN PRIVATE KEY\" (PKCS#8), \
         \"BEGIN EC PRIVATE KEY\" (SEC1) or \"BEGIN RSA PRIVATE KEY\" (PKCS#1)"
    )]
    NoKey(PathBuf),
    /// PEM that is malformed.
    #[error("{0}: malformed PEM")]
    Malformed(PathBuf),
    /// A key that does not belong to the certificate.
    #[error("{key}: this key does not belong to the certificate in {certificate}")]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// A certificate or key that TLS cannot use.
    #[error("{path}: cannot be used: {reason}")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What the TLS library says.
        reason: String,
    },
}

/// Whose listener it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Agents', merchants' and providers': HTTP/2 or HTTP/1.1, and a client certificate is a wish.
    Public,
    /// Operators': HTTP/1.1, and where there is an authority of client certificates nobody comes in
    /// without one.
    Admin,
}

/// A listener's TLS.
#[derive(Clone)]
pub struct Tls {
    /// How handshakes are made.
    pub config: Arc<ServerConfig>,
    /// What client certificates are judged by, in a handshake and after it.
    pub clients: Arc<dyn ClientCertVerifier>,
    /// The files it was made from.
    made_from: Sha256,
}

/// Reads the files and sets TLS up.
///
/// # Errors
/// [`TlsError`] names the file.
pub fn load(files: &TlsFiles, door: Door) -> Result<Tls, TlsError> {
    load_again(files, door, None)
}

/// As [`load`]; what was set up `before` stays where the files hold what they held, so that whoever has a
/// ticket of it resumes.
///
/// # Errors
/// [`TlsError`] names the file.
pub fn load_again(files: &TlsFiles, door: Door, before: Option<&Tls>) -> Result<Tls, TlsError> {
    let (chain, key) = (read(&files.certificate)?, Zeroizing::new(read(&files.key)?));
    let authorities = files.client_ca.as_deref().map(read).transpose()?;
    let has_authorities = [u8::from(authorities.is_some())];
    let parts = [
        chain.as_slice(),
        key.as_slice(),
        has_authorities.as_slice(),
        authorities.as_deref().unwrap_or_default(),
    ];
    let made_from = sha256_framed(&parts);
    if let Some(same) = before.filter(|before| before.made_from == made_from) {
        return Ok(same.clone());
    }
    let chain = certificates(&files.certificate, &chain)?;
    let key = private_key(&files.key, &key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable = |path: &Path, reason: &dyn std::fmt::Display| TlsError::Unusable {
        path: path.to_owned(),
        reason: reason.to_string(),
    };
    let verifier = match files.client_ca.as_ref().zip(authorities.as_deref()) {
        None => WebPkiClientVerifier::no_client_auth(),
        Some((path, pem)) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(path, pem)? {
                roots.add(authority).map_err(|error| unusable(path, &error))?;
            }
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            let builder = match door {
                Door::Public => builder.allow_unauthenticated(),
                Door::Admin => builder,
            };
            builder.build().map_err(|error| unusable(path, &error))?
        }
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(&files.certificate, &error))?
        .with_client_cert_verifier(Arc::clone(&verifier))
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { key: files.key.clone(), certificate: files.certificate.clone() }
            }
            rustls::Error::InvalidCertificate(_) => unusable(&files.certificate, &error),
            _ => unusable(&files.key, &error),
        })?;
    config.alpn_protocols = match door {
        Door::Public => vec![H2.to_vec(), HTTP1.to_vec()],
        Door::Admin => vec![HTTP1.to_vec()],
    };
    // Stateless tickets under a key that rotates and dies with the process: a resumed handshake
    // costs no signature, and needs no cache that strangers could fill. No early data: it can be
    // replayed.
    config.ticketer =
        rustls::crypto::ring::Ticketer::new().map_err(|error| unusable(&files.certificate, &error))?;
    Ok(Tls { config: Arc::new(config), clients: verifier, made_from })
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| TlsError::Malformed(path.to_owned()))?;
    if found.is_empty() { Err(TlsError::NoCertificate(path.to_owned())) } else { Ok(found) }
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        PemError::NoItemsFound => TlsError::NoKey(path.to_owned()),
        _ => TlsError::Malformed(path.to_owned()),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|reason| TlsError::Unreadable { path: path.to_owned(), reason })
}

/// The metric's label for a handshake that failed.
pub(super) fn failure(error: &std::io::Error) -> &'static str {
    let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return "closed";
    };
    match inner {
        // TLS 1.2 at most, or no cipher in common.
        rustls::Error::PeerIncompatible(_) => "incompatible",
        rustls::Error::NoApplicationProtocol => "alpn",
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => "certificate",
        rustls::Error::InvalidMessage(_) => "malformed",
        rustls::Error::AlertReceived(_) => "alert",
        _ => "other",
    }
}
