//! What of ours failed, in words for the log: the agent is told only that it was us.

use crate::crypto::aead::SealError;

/// What of ours failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Internal {
    /// The operating system gave no randomness.
    NoRandomness,
    /// An id of ours came out as none.
    IdUnusable,
    /// A request or answer to be kept cannot be sealed.
    NotSealed(SealError),
    /// A card cannot be sealed.
    CardNotSealed(SealError),
    /// A kept request does not open.
    RequestUnopened(SealError),
    /// A kept answer does not open.
    AnswerUnopened(SealError),
    /// A card does not open.
    CardUnopened(SealError),
    /// A token has no card here.
    CardNotHeld,
    /// A card opens and is not what was sealed.
    CardUnreadable,
    /// A kept answer has no status of HTTP.
    AnswerUnusable,
    /// A grant cannot be signed.
    GrantNotSigned,
    /// An answer of ours cannot be written as JSON.
    NotWritten,
    /// The session of a complete under way is gone from the store.
    SessionGone,
    /// The work on the request ended without an answer.
    Unfinished,
}

impl Internal {
    /// The word in the log.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NoRandomness
            | Self::NotSealed(SealError::Random(_))
            | Self::CardNotSealed(SealError::Random(_))
            | Self::RequestUnopened(SealError::Random(_))
            | Self::AnswerUnopened(SealError::Random(_))
            | Self::CardUnopened(SealError::Random(_)) => "no_randomness",
            Self::IdUnusable => "id_unusable",
            Self::NotSealed(SealError::UnknownKey | SealError::DoesNotOpen) => "not_sealed",
            Self::CardNotSealed(SealError::UnknownKey | SealError::DoesNotOpen) => "card_not_sealed",
            Self::RequestUnopened(SealError::UnknownKey) => "request_key_unknown",
            Self::RequestUnopened(SealError::DoesNotOpen) => "request_unopened",
            Self::AnswerUnopened(SealError::UnknownKey) => "answer_key_unknown",
            Self::AnswerUnopened(SealError::DoesNotOpen) => "answer_unopened",
            Self::CardUnopened(SealError::UnknownKey) => "card_key_unknown",
            Self::CardUnopened(SealError::DoesNotOpen) => "card_unopened",
            Self::CardNotHeld => "card_not_held",
            Self::CardUnreadable => "card_unreadable",
            Self::AnswerUnusable => "answer_unusable",
            Self::GrantNotSigned => "grant_not_signed",
            Self::NotWritten => "not_written",
            Self::SessionGone => "session_gone",
            Self::Unfinished => "unfinished",
        }
    }
}
