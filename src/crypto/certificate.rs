//! What an X.509 certificate says of itself: from when until when it is good, and whom it names.

use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::domain::clock::Timestamp;

/// The time in which a certificate is good, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// From when.
    pub begins: Timestamp,
    /// Until when.
    pub ends: Timestamp,
}

/// When a certificate is good; `None` for what is none.
pub fn term(certificate: &CertificateDer<'_>) -> Option<Term> {
    let (_, read) = X509Certificate::from_der(certificate).ok()?;
    let validity = read.validity();
    Some(Term {
        begins: Timestamp::from_unix_seconds(validity.not_before.timestamp()),
        ends: Timestamp::from_unix_seconds(validity.not_after.timestamp()),
    })
}

/// Whether a TLS client that calls this authority, a host with or without a port, takes the certificate
/// for its own. `None` for what is no host or no certificate.
pub fn names(certificate: &CertificateDer<'_>, authority: &str) -> Option<bool> {
    let after_host = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let end = authority.get(after_host..)?.find(':').map_or(authority.len(), |colon| after_host + colon);
    let host = authority.get(..end)?.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    Some(rustls::client::verify_server_name(&parsed, &name).is_ok())
}

/// Every certificate of a PEM file, the holder's own first; none where it does not read.
pub fn of_pem_file(path: &Path) -> Vec<CertificateDer<'static>> {
    let found = CertificateDer::pem_file_iter(path).and_then(|all| all.collect::<Result<Vec<_>, _>>());
    found.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_when_it_is_good_and_whom_it_names() {
        let names_of = ["pay.example.com", "*.shops.example", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(names_of).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2026, 1, 2);
        parameters.not_after = rcgen::date_time_ymd(2026, 4, 2);
        let certificate = parameters.self_signed(&key).unwrap().der().clone();
        let found = term(&certificate).unwrap();
        assert_eq!(found.begins.to_rfc3339(), "2026-01-02T00:00:00Z");
        assert_eq!(found.ends.to_rfc3339(), "2026-04-02T00:00:00Z");
        for (authority, named) in [
            ("pay.example.com", Some(true)),
            ("pay.example.com:8443", Some(true)),
            ("a.shops.example", Some(true)),
            ("a.b.shops.example", Some(false)),
            ("shops.example", Some(false)),
            ("127.0.0.1:8443", Some(true)),
            ("127.0.0.2", Some(false)),
            ("[::1]:8443", Some(true)),
            ("[::2]", Some(false)),
            ("", None),
        ] {
            assert_eq!(names(&certificate, authority), named, "{authority}");
        }
        assert_eq!(
            (term(&CertificateDer::from(vec![1])), names(&CertificateDer::from(vec![1]), "a")),
            (None, None)
        );
    }
}
