//! What came of the requests that were to settle an open claim, for the people who look at it. Nothing is
//! decided by it.

use serde::{Deserialize, Serialize};

use super::Session;

/// Why a request brought no evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fruitless {
    /// It certainly never reached the merchant.
    NotSent,
    /// No whole answer came.
    Lost,
    /// The answer was about another session.
    Misplaced,
    /// The answer, with this status, cannot be read or is not the merchant's own.
    Unreadable(u16),
    /// It was answered with this status, which says nothing certain.
    Refused(u16),
}

/// The last complete and the last read of an open claim's session that brought no evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Troubles {
    /// The last complete that is in doubt.
    pub complete: Option<Fruitless>,
    /// The last read, if it was one.
    pub read: Option<Fruitless>,
}

impl Session {
    /// Takes note of a read that brought nothing; whether that is another trouble than before.
    pub fn note_unread(&mut self, came: Fruitless) -> bool {
        self.troubles.read.replace(came) != Some(came)
    }
}
