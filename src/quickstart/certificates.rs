//! Development certificates: an authority and one server certificate for this machine.
//!
//! 's own names, made on first use and kept while they are good. The authority's private key is never
//! written: whoever trusts `ca.pem` trusts these names on this machine and nothing that is made later.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::crypto::random;
use crate::domain::clock::Timestamp;

/// The names every development certificate is for.
pub const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// How long new certificates are good for: short enough that a forgotten one harms nobody.
const LIFE: Duration = Duration::from_secs(90 * 86_400);
/// Certificates with less than this left are made again.
const RESERVE: Duration = Duration::from_secs(7 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);

/// Development certificates in files, and ready for use.
#[derive(Clone)]
pub struct Certificates {
    /// PEM: the authority to trust.
    pub authority_file: PathBuf,
    /// PEM: the server's certificate.
    pub certificate_file: PathBuf,
    /// PEM: the server's private key, readable by its owner alone.
    pub key_file: PathBuf,
    roots: Arc<RootCertStore>,
    certificate: CertificateDer<'static>,
    key: Arc<PrivateKeyDer<'static>>,
}

/// Why development certificates cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The directory or a file in it.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// Certificates could not be made: a name that cannot stand in one, or no randomness.
    #[error("development certificates cannot be made: {0}")]
    NotMade(#[from] rcgen::Error),
    /// What was just made cannot be used.
    #[error("development certificates cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// No randomness for a file's temporary name.
    #[error(transparent)]
    Random(#[from] random::RandomUnavailable),
    /// What was written is not what is read back: somebody else writes to the directory.
    #[error("the certificates in {0} changed while they were written")]
    Changed(PathBuf),
}

impl Certificates {
    /// The certificates in `directory` for [`NAMES`] and `names`, made if they are absent, for other
    /// names, or have less than a week left.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn ensure(directory: &Path, names: &[&str], now: Timestamp) -> Result<Self, CertificateError> {
        let wanted: Vec<&str> = NAMES.iter().chain(names).copied().collect();
        if let Some(kept) = Self::read(directory).filter(|kept| kept.are_good(&wanted, now)) {
            return Ok(kept);
        }
        make(directory, &wanted, now)?;
        Self::read(directory).ok_or_else(|| CertificateError::Changed(directory.to_owned()))
    }

    fn read(directory: &Path) -> Option<Self> {
        let [authority_file, certificate_file, key_file] =
            ["ca.pem", "server.pem", "server.key"].map(|name| directory.join(name));
        let authority = CertificateDer::from_pem_file(&authority_file).ok()?;
        let certificate = CertificateDer::from_pem_file(&certificate_file).ok()?;
        let key = PrivateKeyDer::from_pem_file(&key_file).ok()?;
        let mut roots = RootCertStore::empty();
        roots.add(authority).ok()?;
        let (roots, key) = (Arc::new(roots), Arc::new(key));
        Some(Self { authority_file, certificate_file, key_file, roots, certificate, key })
    }

    fn are_good(&self, names: &[&str], now: Timestamp) -> bool {
        let provider = Arc::new(default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.roots), provider).build();
        let Ok(verifier) = verifier else { return false };
        let valid_at = |when: Timestamp, name: &str| {
            let when = u64::try_from(when.unix_seconds()).map(Duration::from_secs).unwrap_or_default();
            ServerName::try_from(name.to_owned()).is_ok_and(|name| {
                let when = UnixTime::since_unix_epoch(when);
                verifier.verify_server_cert(&self.certificate, &[], &name, &[], when).is_ok()
            })
        };
        let good = names.iter().all(|name| valid_at(now, name) && valid_at(now.plus(RESERVE), name));
        good && self.certified_key().is_ok_and(|certified| certified.keys_match().is_ok())
    }

    fn certified_key(&self) -> Result<CertifiedKey, rustls::Error> {
        let chain = vec![self.certificate.clone()];
        CertifiedKey::from_der(chain, self.key.clone_key(), &default_provider())
    }

    /// TLS for a server with this certificate: 1.3 only, as ACP asks.
    ///
    /// # Errors
    /// [`CertificateError::Unusable`].
    pub fn server(&self, protocols: &[&[u8]]) -> Result<ServerConfig, CertificateError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())?;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }

    /// TLS for a client that trusts this authority and no other.
    ///
    /// # Errors
    /// [`CertificateError::Unusable`].
    pub fn client(&self) -> Result<ClientConfig, CertificateError> {
        Ok(ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth())
    }
}

fn make(directory: &Path, names: &[&str], now: Timestamp) -> Result<(), CertificateError> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority.distinguished_name.push(DnType::CommonName, "Countersign development authority");
    dated(&mut authority, now);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut server = CertificateParams::new(names)?;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.distinguished_name.push(DnType::CommonName, "Countersign development server");
    server.use_authority_key_identifier_extension = true;
    dated(&mut server, now);
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &authority)?;

    std::fs::create_dir_all(directory)
        .map_err(|reason| CertificateError::File { path: directory.to_owned(), reason })?;
    write_file(directory, "ca.pem", authority.pem().as_bytes(), 0o644)?;
    write_file(directory, "server.pem", certificate.pem().as_bytes(), 0o644)?;
    let key = zeroize::Zeroizing::new(key.serialize_pem());
    write_file(directory, "server.key", key.as_bytes(), 0o600)
}

/// Certificates are dated in whole days here: from yesterday, for clocks that differ a little.
fn dated(parameters: &mut CertificateParams, now: Timestamp) {
    let day = |when: Timestamp| {
        let text = when.to_rfc3339();
        let mut parts = text.split(['-', 'T']);
        let year = parts.next().and_then(|year| year.parse().ok()).unwrap_or(1970);
        let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(1);
        let month = number();
        date_time_ymd(year, month, number())
    };
    parameters.not_before = day(now.minus(DAY));
    parameters.not_after = day(now.plus(LIFE));
}

/// Writes a file whole or not at all, with its mode from the first byte on.
fn write_file(directory: &Path, name: &str, content: &[u8], mode: u32) -> Result<(), CertificateError> {
    let path = directory.join(name);
    let temporary = directory.join(format!(".{name}.{}", random::base62(8)?));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| std::fs::rename(&temporary, &path));
    written.map_err(|reason| {
        let _ = std::fs::remove_file(&temporary);
        CertificateError::File { path, reason }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_790_000_000);

    fn ensure(directory: &Path, names: &[&str], now: Timestamp) -> Vec<u8> {
        let certificates = Certificates::ensure(directory, names, now).unwrap();
        certificates.server(&[b"h2"]).unwrap();
        certificates.client().unwrap();
        std::fs::read(certificates.certificate_file).unwrap()
    }

    #[test]
    fn certificates_are_kept_while_they_are_good() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("certs/dev");
        let made = ensure(&inner, &[], NOW);
        assert_eq!(ensure(&inner, &[], NOW.plus(80 * DAY)), made);
        let renewed = ensure(&inner, &[], NOW.plus(85 * DAY));
        assert_ne!(renewed, made, "less than a week is left");
        let named = ensure(&inner, &["shop.test"], NOW.plus(85 * DAY));
        assert_ne!(named, renewed, "a name was missing");
        assert_eq!(ensure(&inner, &[], NOW.plus(85 * DAY)), named, "more names do no harm");
    }

    #[test]
    fn a_key_of_another_certificate_is_replaced() {
        let [one, two] = [(), ()].map(|()| tempfile::tempdir().unwrap());
        let made = ensure(one.path(), &[], NOW);
        ensure(two.path(), &[], NOW);
        std::fs::copy(two.path().join("server.key"), one.path().join("server.key")).unwrap();
        assert_ne!(ensure(one.path(), &[], NOW), made);
    }

    #[test]
    fn only_the_owner_reads_the_key_and_the_authority_has_none() {
        let directory = tempfile::tempdir().unwrap();
        ensure(directory.path(), &[], NOW);
        let mode =
            |name| std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("server.key"), 0o600);
        let mut names: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["ca.pem", "server.key", "server.pem"]);
    }
}
