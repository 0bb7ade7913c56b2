//! HTTP Message Signatures (RFC 9421) of requests, and Content-Digest (RFC 9530). Apart from
//! `auth::signature` because it knows no policy: it reads what a message claims, rebuilds the bytes
//! that were signed, and signs messages of our own.
//!
//! Supported: plain fields, one member of a dictionary field (`;key`), and the derived components
//! of requests except `@query-param`. `;sf`, `;bs`, `;req`, `;tr` and `@status` are refused by name
//! rather than guessed at.

mod base;
mod component;
pub mod content_digest;
mod sign;
mod signature_input;

#[cfg(test)]
mod vectors;

pub use base::{MessageView, signature_base};
pub use component::Component;
pub use sign::{SignatureHeaders, Signing};
pub use signature_input::{Parameters, ReceivedSignature, received};

use crate::structured_fields::{FieldError, NotSerializable};

/// Signatures in one message.
pub const MAX_SIGNATURES: usize = 8;

/// `Signature-Input`.
pub const SIGNATURE_INPUT: http::HeaderName = http::HeaderName::from_static("signature-input");
/// `Signature`.
pub const SIGNATURE: http::HeaderName = http::HeaderName::from_static("signature");
/// `Content-Digest`.
pub const CONTENT_DIGEST: http::HeaderName = http::HeaderName::from_static("content-digest");

/// Why a message's signatures cannot be read, rebuilt or made. Holds no byte of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpSignatureError {
    /// Not a dictionary of RFC 8941 §3.2, or one whose members have other types.
    #[error("Signature-Input or Signature is malformed")]
    Malformed,
    /// A label in one of the two headers and not in the other (RFC 9421 §3.2).
    #[error("Signature-Input and Signature do not name the same signatures")]
    LabelsDiffer,
    /// More signatures, components, parameters or bytes than are read.
    #[error("the signature headers are larger than is accepted")]
    TooLarge,
    /// A label, component or parameter stands twice (RFC 9421 §2.5).
    #[error("a label, component or parameter is repeated")]
    Repeated,
    /// A component, or a parameter of one, that is not supported: which, in words of our own.
    #[error("{0} is not supported")]
    UnsupportedComponent(&'static str),
    /// A covered component that the message does not have (RFC 9421 §2.5).
    #[error("a covered component is not in the message")]
    MissingComponent,
    /// A covered value that is not visible ASCII.
    #[error("a covered component is not visible ASCII")]
    NotAscii,
    /// No randomness to sign with.
    #[error("no randomness to sign with")]
    NotSigned,
}

impl From<NotSerializable> for HttpSignatureError {
    fn from(NotSerializable: NotSerializable) -> Self {
        Self::NotAscii
    }
}

impl From<FieldError> for HttpSignatureError {
    fn from(error: FieldError) -> Self {
        match error {
            FieldError::Malformed => Self::Malformed,
            FieldError::TooLarge => Self::TooLarge,
            FieldError::Repeated => Self::Repeated,
        }
    }
}
