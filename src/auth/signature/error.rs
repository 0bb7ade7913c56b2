//! Why a signature is refused, as stable codes: senders' developers and dashboards rely on them.

use crate::auth::http_signature::HttpSignatureError;
use crate::auth::http_signature::content_digest::ContentDigestError;

/// What became of a signature, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is there and right.
    Verified,
    /// It is there and refused.
    Invalid,
    /// There is none.
    Absent,
}

impl Outcome {
    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Invalid => "invalid",
            Self::Absent => "absent",
        }
    }
}

/// Why a request's signature is refused. Holds no byte of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is none, or none that counts, where one is demanded.
    #[error("this request must be signed")]
    Required,
    /// It is of a profile this sender may not use.
    #[error("this kind of signature is not accepted from this sender")]
    ProfileNotAllowed,
    /// Its headers cannot be read.
    #[error("the signature headers are malformed")]
    Malformed,
    /// It covers something that is not supported.
    #[error("a covered component is not supported")]
    UnsupportedComponent,
    /// It names none of the sender's keys.
    #[error("keyid names no key of this sender")]
    UnknownKey,
    /// The key is of another algorithm, or shared where it must not be.
    #[error("the algorithm is not that of the key")]
    WrongAlgorithm,
    /// `created`, `keyid`, where money moves `expires`, or the `Timestamp` header is missing.
    #[error("a required signature parameter is missing")]
    ParameterMissing,
    /// It does not cover what it must on this route.
    #[error("the signature does not cover what this route demands")]
    CoverageInsufficient,
    /// Made too long ago, or in the future.
    #[error("the signature was made outside the accepted window")]
    OutsideWindow,
    /// `expires` has passed.
    #[error("the signature has expired")]
    Expired,
    /// `expires` is further from `created` than is accepted, or before it.
    #[error("the signature's lifetime is not accepted")]
    LifetimeNotAccepted,
    /// `Content-Digest` is missing, malformed, or has no usable algorithm.
    #[error("Content-Digest cannot be used")]
    DigestUnusable,
    /// `Content-Digest` is not that of the body.
    #[error("Content-Digest is not that of the body")]
    DigestMismatch,
    /// The signature is over canonical JSON and the body has no canonical form.
    #[error("the body has no canonical form")]
    BodyNotCanonical,
    /// An idempotency key with a full stop could be read as part of the path (`acp-bound`).
    #[error("the idempotency key cannot stand in this kind of signature")]
    Ambiguous,
    /// It is not a signature of this request by the key.
    #[error("the signature does not verify")]
    Invalid,
}

impl SignatureError {
    /// The stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Required => "signature_required",
            Self::ProfileNotAllowed => "signature_profile_not_allowed",
            Self::Malformed => "signature_malformed",
            Self::UnsupportedComponent => "signature_component_unsupported",
            Self::UnknownKey => "signature_key_unknown",
            Self::WrongAlgorithm => "signature_algorithm_mismatch",
            Self::ParameterMissing => "signature_parameter_missing",
            Self::CoverageInsufficient => "signature_coverage_insufficient",
            Self::OutsideWindow => "signature_outside_window",
            Self::Expired => "signature_expired",
            Self::LifetimeNotAccepted => "signature_lifetime_not_accepted",
            Self::DigestUnusable => "content_digest_unusable",
            Self::DigestMismatch => "content_digest_mismatch",
            Self::BodyNotCanonical => "signature_body_not_canonical",
            Self::Ambiguous => "signature_ambiguous",
            Self::Invalid => "signature_invalid",
        }
    }

    /// The outcome, for metrics.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Required => Outcome::Absent,
            _ => Outcome::Invalid,
        }
    }
}

impl From<HttpSignatureError> for SignatureError {
    fn from(error: HttpSignatureError) -> Self {
        match error {
            HttpSignatureError::UnsupportedComponent => Self::UnsupportedComponent,
            // A covered header that is gone is a changed request.
            HttpSignatureError::MissingComponent
            | HttpSignatureError::NotAscii
            | HttpSignatureError::NotSigned => Self::Invalid,
            HttpSignatureError::Malformed
            | HttpSignatureError::LabelsDiffer
            | HttpSignatureError::TooLarge
            | HttpSignatureError::Repeated => Self::Malformed,
        }
    }
}

impl From<ContentDigestError> for SignatureError {
    fn from(error: ContentDigestError) -> Self {
        match error {
            ContentDigestError::Mismatch => Self::DigestMismatch,
            ContentDigestError::Missing | ContentDigestError::Malformed | ContentDigestError::Unsupported => {
                Self::DigestUnusable
            }
        }
    }
}
