//! Readers of PEM files: certificates and private keys, opened and parsed now, so that `check` finds
//! what would otherwise fail at start. Messages name the key of the configuration, never a byte of
//! a file.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::document::{Section, Value};
use super::report::Problem;
use super::secrets::{READABLE_BY_ALL, is_readable_by_all};
use super::values::{file, unreadable};
use crate::server::TlsFiles;
use crate::server::tls::{TlsError, load};

const NO_CERTIFICATE: &str = "no certificate found: expected PEM with \"BEGIN CERTIFICATE\"";
const NO_KEY: &str = "no private key found: expected unencrypted PEM with \"BEGIN PRIVATE KEY\" (PKCS#8), \
                      \"BEGIN EC PRIVATE KEY\" (SEC1) or \"BEGIN RSA PRIVATE KEY\" (PKCS#1)";

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

/// Reads `[server.tls]`; sets TLS up once to see whether the files fit together.
pub(super) fn listener_files(section: &mut Section<'_>, base: &Path) -> Option<TlsFiles> {
    let certificate = section.required("certificate_file", certificates(base));
    let key = private_key(section, "key_file", base);
    if !section.has("key_file") {
        section.wrong("key_file", "missing");
    }
    let client_ca = section.optional("client_ca_file", certificates(base));
    let files = TlsFiles { certificate: certificate?, key: key?, client_ca };
    if let Err(error) = load(&files) {
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
    Some(files)
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
