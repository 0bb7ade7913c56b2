//! What of a TLS handshake with a merchant failed, as one of few words.
//!
//! Whose certificate has to be looked at, and for what.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// What of a TLS handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    /// The merchant's certificate has expired.
    Expired,
    /// The merchant's certificate is not valid yet.
    NotYetValid,
    /// No authority that is trusted has signed the merchant's certificate.
    UnknownIssuer,
    /// The merchant's certificate is for another name.
    WrongName,
    /// Something else about the merchant's certificate.
    Certificate,
    /// The merchant does not accept our certificate, or wants one.
    ClientCertificate,
    /// There is no version or cipher that both speak.
    Incompatible,
    /// The merchant ended it with another alert.
    Alert,
    /// What answers does not speak TLS.
    NotSpoken,
    /// The connection ended in it.
    Ended,
    /// None of these.
    Other,
}

impl TlsFailure {
    /// What an error of a handshake says, however deep it is wrapped.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        match find::<rustls::Error>(error) {
            Some(rustls::Error::InvalidCertificate(error)) => Self::of_certificate(error),
            Some(rustls::Error::AlertReceived(alert)) => Self::of_alert(*alert),
            Some(rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol) => {
                Self::Incompatible
            }
            Some(rustls::Error::NoCertificatesPresented) => Self::Certificate,
            Some(rustls::Error::InvalidMessage(_)) => Self::NotSpoken,
            Some(_) => Self::Other,
            None if find::<io::Error>(error).is_some() => Self::Ended,
            None => Self::Other,
        }
    }

    /// The alert with which a connection was ended; `None` where it ended otherwise.
    pub fn of_ending(error: &(dyn Error + 'static)) -> Option<Self> {
        match find::<rustls::Error>(error)? {
            rustls::Error::AlertReceived(alert) => Some(Self::of_alert(*alert)),
            _ => None,
        }
    }

    const fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            // The signature is bad where another authority has the name of a trusted one, as a private one has
            // that was made anew.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::WrongName
            }
            _ => Self::Certificate,
        }
    }

    const fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired => Self::ClientCertificate,
            AlertDescription::ProtocolVersion
            | AlertDescription::HandshakeFailure
            | AlertDescription::InsufficientSecurity
            | AlertDescription::NoApplicationProtocol => Self::Incompatible,
            _ => Self::Alert,
        }
    }

    /// The word in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "tls_certificate_expired",
            Self::NotYetValid => "tls_certificate_not_yet_valid",
            Self::UnknownIssuer => "tls_unknown_issuer",
            Self::WrongName => "tls_wrong_name",
            Self::Certificate => "tls_certificate_invalid",
            Self::ClientCertificate => "tls_client_certificate",
            Self::Incompatible => "tls_incompatible",
            Self::Alert => "tls_alert",
            Self::NotSpoken => "tls_not_spoken",
            Self::Ended => "tls_ended",
            Self::Other => "tls_failed",
        }
    }
}

/// The outermost error of this type. An `io::Error` is looked into, because its source is not what it
/// wraps but the source of that.
fn find<'e, T: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_found_however_deep_it_is_wrapped() {
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, alert));
        assert_eq!(TlsFailure::of(&wrapped), TlsFailure::ClientCertificate);
        assert_eq!(TlsFailure::of_ending(&wrapped), Some(TlsFailure::ClientCertificate));
        let ended = io::Error::other(io::Error::from(io::ErrorKind::UnexpectedEof));
        assert_eq!((TlsFailure::of(&ended), TlsFailure::of_ending(&ended)), (TlsFailure::Ended, None));
    }
}
