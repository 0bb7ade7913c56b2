//! Why a signature is refused, as stable codes: senders' developers and dashboards rely on them. Beside
//! the rule that was broken stands what broke it, for people.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::domain::clock::Timestamp;
use crate::http_signature::HttpSignatureError;
use crate::http_signature::content_digest::ContentDigestError;

/// What became of a signature, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerificationOutcome {
    /// It is there and right.
    Verified,
    /// It is there and refused.
    Invalid,
    /// There is none.
    Absent,
}

impl VerificationOutcome {
    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Invalid => "invalid",
            Self::Absent => "absent",
        }
    }
}

/// The rule a request's signature breaks. Holds no byte of the request.
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
    pub const fn outcome(self) -> VerificationOutcome {
        match self {
            Self::Required => VerificationOutcome::Absent,
            _ => VerificationOutcome::Invalid,
        }
    }
}

/// Why a request's signature is refused: the rule, and what of the signature broke it. Holds no byte of
/// the request but names of components that may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureRefusal {
    /// The rule.
    pub rule: SignatureError,
    culprit: Option<Cow<'static, str>>,
}

impl SignatureRefusal {
    /// The rule was broken by this.
    pub(super) fn by(rule: SignatureError, culprit: impl Into<Cow<'static, str>>) -> Self {
        Self { rule, culprit: Some(culprit.into()) }
    }

    /// The signature was made at another time than is accepted. Both clocks are told: only one of them
    /// is wrong, and its owner must see which.
    pub(super) fn outside_window(made: Timestamp, now: Timestamp, window: Duration) -> Self {
        let side = if made > now { "ahead of" } else { "behind" };
        let (apart, accepted) = (told_seconds(now.distance(made)), window.as_secs());
        let culprit = format!(
            "its time is {apart} s {side} ours, which is {}; at most {accepted} s are accepted",
            now.to_rfc3339()
        );
        Self::by(SignatureError::OutsideWindow, culprit)
    }

    /// It has expired.
    pub(super) fn expired(expires: Timestamp, now: Timestamp) -> Self {
        let ago = told_seconds(now.since(expires));
        let culprit = format!("expires is {ago} s behind our time, which is {}", now.to_rfc3339());
        Self::by(SignatureError::Expired, culprit)
    }

    /// It lives for another time than is accepted; `longest` where that is bounded.
    pub(super) fn lifetime(created: Timestamp, expires: Timestamp, longest: Duration) -> Self {
        let longest = longest.as_secs();
        let lives = if expires < created {
            format!("expires is {} s before created", told_seconds(created.since(expires)))
        } else {
            format!("expires is {} s after created", told_seconds(expires.since(created)))
        };
        let culprit = format!("{lives}; where money moves at most {longest} s after it are accepted");
        Self::by(SignatureError::LifetimeNotAccepted, culprit)
    }

    /// The stable code.
    pub const fn code(&self) -> &'static str {
        self.rule.code()
    }

    /// The outcome, for metrics.
    pub const fn outcome(&self) -> VerificationOutcome {
        self.rule.outcome()
    }
}

/// Whole seconds, rounded up: 300.2 s must not read as the 300 that are accepted.
fn told_seconds(span: Duration) -> u128 {
    span.as_millis().div_ceil(1000)
}

impl fmt::Display for SignatureRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rule.fmt(f)?;
        match &self.culprit {
            Some(culprit) => write!(f, ": {culprit}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SignatureRefusal {}

impl From<SignatureError> for SignatureRefusal {
    fn from(rule: SignatureError) -> Self {
        Self { rule, culprit: None }
    }
}

impl From<HttpSignatureError> for SignatureRefusal {
    fn from(error: HttpSignatureError) -> Self {
        let culprit = match error {
            HttpSignatureError::UnsupportedComponent(name) => Cow::Borrowed(name),
            other => other.to_string().into(),
        };
        Self::by(error.into(), culprit)
    }
}

impl From<ContentDigestError> for SignatureRefusal {
    fn from(error: ContentDigestError) -> Self {
        match error {
            ContentDigestError::Mismatch => SignatureError::DigestMismatch.into(),
            ContentDigestError::Missing | ContentDigestError::Malformed | ContentDigestError::Unsupported => {
                Self::by(SignatureError::DigestUnusable, error.to_string())
            }
        }
    }
}

impl From<HttpSignatureError> for SignatureError {
    fn from(error: HttpSignatureError) -> Self {
        match error {
            HttpSignatureError::UnsupportedComponent(_) => Self::UnsupportedComponent,
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
