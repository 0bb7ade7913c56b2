//! What an error of a call means: whether anything was done, and whether it helps to ask again.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why a call got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing was done: the server does not know the script.
    ScriptUnknown,
    /// Nothing was done: the slot lies elsewhere, for this call only or from now on.
    Moved,
    /// Nothing was done, and it may be tried again: loading, electing, migrating.
    NotNow,
    /// Nothing was done: no memory left.
    OutOfMemory,
    /// Nothing was done: the store is not the one it was.
    Generation,
    /// Nothing was done, and asking again does not help: refused by the server's configuration.
    Refused,
    /// Nobody knows: the connection broke or the answer did not come in time.
    Lost,
}

impl Failure {
    pub(super) fn of(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(kind) => match kind {
                ServerErrorKind::NoScript => Self::ScriptUnknown,
                ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::ReadOnly => Self::Moved,
                ServerErrorKind::BusyLoading
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown => Self::NotNow,
                _ => Self::Refused,
            },
            ErrorKind::Io | ErrorKind::Parse => Self::Lost,
            _ => match error.code() {
                Some("GENERATION") => Self::Generation,
                Some("OOM") => Self::OutOfMemory,
                Some("BUSY" | "NOREPLICAS" | "MISCONF" | "UNBLOCKED") => Self::NotNow,
                _ => Self::Refused,
            },
        }
    }
}
