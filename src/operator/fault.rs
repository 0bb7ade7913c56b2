//! What a store that is not whole shows, in an operator's words.

use std::fmt;

use crate::records::RecordKey;

/// Something that no history of a gateway leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where; `None` when it cannot be told.
    pub key: Option<RecordKey>,
    /// What is wrong.
    pub what: FaultKind,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub(crate) enum FaultKind {
    #[error("it cannot be read from the disk")]
    Damaged,
    #[error("its content is not of a known format")]
    Unreadable,
    #[error("it stands under a key that is not its own")]
    Misplaced,
    #[error("it is missing from the index of what is due")]
    NotDue,
    #[error("the index of what is due has an entry that the record knows nothing of")]
    StrayDue,
    #[error("its claim is open, and it would expire or is never looked at")]
    ClaimNotKept,
    #[error("it has no open claim, and is to be looked at or never ends")]
    KeptWithoutClaim,
    #[error("its open claim names a token that is not there")]
    ClaimedTokenMissing,
    #[error("its open claim names a token that is not claimed by it")]
    ClaimedTokenElsewhere,
    #[error("it is claimed, and its session's open claim does not name it")]
    ClaimUnknown,
    #[error("it is consumed, and its session has no order")]
    ConsumedWithoutCharge,
    #[error("its session is not there")]
    SessionMissing,
    #[error("it is spendable, and its session does not list it")]
    NotListed,
    #[error("it has ended, and its security code is still there")]
    CodeOutlived,
    #[error("it is claimed and would expire, or is not and never does")]
    WrongExpiry,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => {
                write!(f, "{} {} in {}: {}", key.kind.as_str(), key.name(), key.partition(), self.what)
            }
            None => write!(f, "a record or an entry of an index: {}", self.what),
        }
    }
}
