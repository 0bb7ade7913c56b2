//! Readers of PEM files: certificates and private keys, opened and parsed now.
//!
//! So that `check` finds what would otherwise fail at start. Messages name the key of the configuration,
//! never a byte of a file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::document::{Section, Value};
use super::report::Problem;
use super::secrets::{READABLE_BY_ALL, is_readable_by_all};
use super::values::{file, unreadable};
use crate::crypto::certificate::{Term, of_pem_file, term};
use crate::domain::clock::{Clock, SystemClock};
use crate::server::TlsFiles;
use crate::server::tls::{Door, TlsError, load};

const NO_CERTIFICATE: &str = "no certificate found: expected PEM with \"BEGIN CERTIFICATE\"";
const NO_KEY: &str = "no private key found: expected unencrypted PEM with \"BEGIN PRIVATE KEY\" (PKCS#8), \
                      \"BEGIN EC PRIVATE KEY\" (SEC1) or \"BEGIN RSA PRIVATE KEY\" (PKCS#1)";

/// From this long before its end on a certificate is warned of: authorities that renew by themselves do so
/// earlier.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Whose certificates stand in a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The listener's.
    Listener,
    /// Ours towards a merchant.
    Client,
    /// Of those whose signature is believed.
    Authorities,
}

/// Says which certificates of a file are not good now, or not for long; answers them. A listener with one
/// that has expired serves nobody who verifies it; any other costs less than a gateway that does not start.
pub(super) fn judge_terms(
    section: &Section<'_>,
    key: &str,
    path: &Path,
    whose: Whose,
) -> Vec<CertificateDer<'static>> {
    let now = SystemClock.now();
    let found = of_pem_file(path);
    for (position, certificate) in found.iter().enumerate() {
        let Some(Term { begins, ends }) = term(certificate) else { continue };
        let is_own = position == 0 && whose != Whose::Authorities;
        let which = match whose {
            Whose::Authorities => "an authority of this file",
            Whose::Listener | Whose::Client if is_own => "this certificate",
            Whose::Listener | Whose::Client => "a certificate behind the first",
        };
        if now > ends {
            let message = format!("{which} has expired: it was good until {}", ends.to_rfc3339());
            match whose {
                Whose::Listener if is_own => section.wrong(key, message),
                Whose::Listener | Whose::Client | Whose::Authorities => section.warn(key, message),
            }
        } else if now < begins {
            section.warn(key, format!("{which} is not good before {}", begins.to_rfc3339()));
        } else if ends.since(now) < SOON && whose != Whose::Authorities {
            let days = ends.since(now).as_secs() / (24 * 3600);
            let end = ends.to_rfc3339();
            section.warn(key, format!("{which} expires in {days} days, on {end}: renew it"));
        }
    }
    found
}

/// A file of one or more certificates.
pub(super) fn certificates(base: &Path) -> impl Fn(&Value<'_>) -> Result<PathBuf, Problem> {
    move |value| {
        let path = file(base)(value)?;
        let found = CertificateDer::pem_file_iter(&path).map(|all| all.collect::<Result<Vec<_>, _>>());
        match found {
            Ok(Ok(certificates)) if !certificates.is_empty() => Ok(path),
            Ok(_) | Err(_) => Err(NO_CERTIFICATE.into()),
        }
    }
}

/// What stands in a file of one or more certificates.
pub(super) fn authorities(base: &Path) -> impl Fn(&Value<'_>) -> Result<Vec<u8>, Problem> {
    move |value| {
        let path = certificates(base)(value)?;
        std::fs::read(&path).map_err(|error| unreadable(&path, &error))
    }
}

/// A file of a private key; warns when everybody can read it.
pub(super) fn private_key(section: &mut Section<'_>, key: &'static str, base: &Path) -> Option<PathBuf> {
    let path = section.optional(key, |value| {
        let path = file(base)(value)?;
        PrivateKeyDer::from_pem_file(&path).map_err(|_| NO_KEY)?;
        Ok(path)
    })?;
    if is_readable_by_all(&path) {
        section.warn(key, READABLE_BY_ALL);
    }
    Some(path)
}

/// What `[server.tls]` or `[admin.tls]` says.
pub(super) struct Listener {
    pub files: TlsFiles,
    pub certificate: Option<CertificateDer<'static>>,
}

/// Reads `[server.tls]` or `[admin.tls]`; sets TLS up once to see whether the files fit together.
pub(super) fn listener_files(section: &mut Section<'_>, base: &Path, door: Door) -> Option<Listener> {
    let certificate = section.required("certificate_file", certificates(base));
    let key = private_key(section, "key_file", base);
    if !section.has("key_file") {
        section.wrong("key_file", "missing");
    }
    let client_ca = section.optional("client_ca_file", certificates(base));
    let files = TlsFiles { certificate: certificate?, key: key?, client_ca };
    if let Err(error) = load(&files, door) {
        let (path, problem) = in_other_words(error);
        let key = if path == files.key {
            "key_file"
        } else if files.client_ca == Some(path) {
            "client_ca_file"
        } else {
            "certificate_file"
        };
        section.wrong(key, problem);
    }
    let own =
        judge_terms(section, "certificate_file", &files.certificate, Whose::Listener).into_iter().next();
    if let Some(path) = &files.client_ca {
        judge_terms(section, "client_ca_file", path, Whose::Authorities);
    }
    Some(Listener { files, certificate: own })
}

fn in_other_words(error: TlsError) -> (PathBuf, Problem) {
    match error {
        TlsError::Unreadable { path, reason } => {
            let problem = unreadable(&path, &reason);
            (path, problem)
        }
        TlsError::NoCertificate(path) => (path, NO_CERTIFICATE.into()),
        TlsError::NoKey(path) => (path, NO_KEY.into()),
        TlsError::Malformed(path) => (path, "the file is not well-formed PEM".into()),
        TlsError::Mismatch { key, .. } => (key, "this key does not belong to the certificate".into()),
        TlsError::Unusable { path, .. } => (path, "TLS cannot use this certificate or key".into()),
    }
}
