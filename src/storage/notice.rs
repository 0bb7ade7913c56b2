//! What an operator is told of the store and of the epoch keys.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Something an operator should know of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A write or sync failed; money does not move until the store is open again.
    Closed {
        /// What the disk said.
        cause: String,
    },
    /// It did not open yet; it is tried again.
    NotReopened {
        /// Why.
        cause: String,
    },
    /// It is open again, recovered.
    Reopened {
        /// How long it was closed.
        after: Duration,
    },
    /// A crash had cut a write short, which nobody was told of as done; it was dropped.
    TornWriteDropped {
        /// Its length.
        bytes: u64,
    },
    /// Free space fell below the floor: nothing new is admitted.
    SpaceShort {
        /// What is left, in bytes.
        free: u64,
    },
    /// Free space is above the floor again.
    SpaceBack {
        /// What there is, in bytes.
        free: u64,
    },
    /// A shared store's server does not answer; money routes refuse.
    Unreachable,
    /// Every server of the shared store answers again.
    ReachableAgain,
    /// Another process serves a part of the shared store: its last writes may be lost.
    PrimaryChanged,
    /// The shared store is not the one it was: no money moves until an operator accepts it.
    Changed,
    /// An operator has accepted it.
    Accepted,
    /// The directory of the epoch keys does not answer or refuses: from the end of the next hour on no
    /// security code can be sealed.
    EpochsUnusable {
        /// What it said.
        cause: String,
    },
    /// It can be used again.
    EpochsUsable,
    /// A server of the epoch keys does not answer, or may not be used: without another no security code
    /// can be sealed or opened.
    EpochNodeUnusable {
        /// Which, and why.
        cause: String,
    },
    /// Every server of the epoch keys can be used.
    EpochNodesUsable,
    /// A server of the epoch keys is another process than it was: the codes of all live tokens that were
    /// sealed under its keys are lost.
    EpochNodeRestarted {
        /// Which.
        node: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { cause } => write!(f, "the store was closed: {cause}"),
            Self::NotReopened { cause } => write!(f, "the store is still closed: {cause}"),
            Self::Reopened { after } => write!(f, "the store is open again after {} ms", after.as_millis()),
            Self::TornWriteDropped { bytes } => {
                write!(f, "a write cut short by a crash was dropped ({bytes} bytes, never acknowledged)")
            }
            Self::SpaceShort { free } => write!(f, "{free} bytes free: nothing new is admitted"),
            Self::SpaceBack { free } => write!(f, "{free} bytes free: the store admits again"),
            Self::Unreachable => f.write_str("a server of the store does not answer"),
            Self::ReachableAgain => f.write_str("every server of the store answers again"),
            Self::PrimaryChanged => f.write_str("another process serves a part of the store"),
            Self::Changed => f.write_str("the store is not the one it was"),
            Self::Accepted => f.write_str("the store was accepted as it is"),
            Self::EpochsUnusable { cause } => write!(f, "the epoch keys' directory cannot be used: {cause}"),
            Self::EpochsUsable => f.write_str("the epoch keys' directory can be used again"),
            Self::EpochNodeUnusable { cause } => {
                write!(f, "a server of the epoch keys cannot be used: {cause}")
            }
            Self::EpochNodesUsable => f.write_str("every server of the epoch keys can be used"),
            Self::EpochNodeRestarted { node } => {
                write!(f, "{node} was started again: the security codes sealed under its keys are lost")
            }
        }
    }
}

/// Who is told. Called from the thread that opens and from the writer, so it must not block.
pub type Notify = Arc<dyn Fn(Notice) + Send + Sync>;
