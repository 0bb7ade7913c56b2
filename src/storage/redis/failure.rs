//! What an error of a call means: whether anything was done, and whether it helps to ask again.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why a call got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing was done: the server does not know the script.
    ScriptUnknown,
    /// Nothing was done: another server may have the slot.
    Moved,
    /// Nothing was done, and it may be tried again: loading, electing, migrating.
    NotNow,
    /// Nothing was done: its disk or its replicas fail, and it takes no writes until they do not.
    WritesRefused,
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
                ServerErrorKind::Moved
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown => Self::Moved,
                // A slot on its way elsewhere: it is served again when it has arrived.
                ServerErrorKind::Ask | ServerErrorKind::TryAgain | ServerErrorKind::BusyLoading => {
                    Self::NotNow
                }
                _ => Self::Refused,
            },
            ErrorKind::Io | ErrorKind::Parse => Self::Lost,
            _ => match error.code() {
                Some("GENERATION") => Self::Generation,
                Some("OOM") => Self::OutOfMemory,
                Some("NOREPLICAS" | "MISCONF") => Self::WritesRefused,
                Some("BUSY" | "UNBLOCKED") => Self::NotNow,
                _ => Self::Refused,
            },
        }
    }
}
