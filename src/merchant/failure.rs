//! Why what was asked of a merchant came to nothing, in one word for logs and metrics.

use super::exchange::{Exchange, Lost, NotSent};
use super::outcome::is_not_the_merchants;

/// Why an exchange came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFailure {
    /// Nothing of the request left.
    NotSent(NotSent),
    /// There is no whole answer.
    Lost(Lost),
    /// The answer is none of a merchant's, or shows nothing that can be read.
    Unreadable,
    /// The merchant refused our credential, not the agent's request.
    CredentialRefused,
    /// The answer has a status that is not passed on.
    StatusUnusable,
}

impl UpstreamFailure {
    /// What of an exchange tells by itself; `None` where it is for who asked to say. A merchant's refusal
    /// of the request is no failure.
    pub fn of(exchange: &Exchange) -> Option<Self> {
        let answer = match exchange {
            Exchange::NotSent(reason) => return Some(Self::NotSent(*reason)),
            Exchange::Lost(reason) => return Some(Self::Lost(*reason)),
            Exchange::Answered(answer) => answer,
        };
        match answer.status.as_u16() {
            200..=299 => answer.json().is_none().then_some(Self::Unreadable),
            401 | 403 | 407 => Some(Self::CredentialRefused),
            400..=599 => is_not_the_merchants(answer).then_some(Self::Unreadable),
            _ => Some(Self::StatusUnusable),
        }
    }

    /// The word in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSent(reason) => reason.as_str(),
            Self::Lost(reason) => reason.as_str(),
            Self::Unreadable => "unreadable",
            Self::CredentialRefused => "credential_refused",
            Self::StatusUnusable => "status_unusable",
        }
    }
}
