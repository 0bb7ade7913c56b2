//! In which formats records are written: the newest, or those that the release before can read.
//!
//! The formats of sessions, tokens and keys change together, because what one record says decides what
//! another need not: one number stands for all three. `.github/CHANGELOG.md` lists them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use serde::{Deserialize, Serialize};

/// The formats of all records that change together, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Formats(u8);

impl Formats {
    /// Session, token and key records of format 1, which every release reads: session, token and key each
    /// say that a claim holds them.
    pub const OLDER: Self = Self(1);
    /// Session records of format 4, token and key records of format 2: a claim is its session's record.
    pub const JOINED: Self = Self(2);
    /// Session records of format 5: a claim says at which base URL it is.
    pub const NEWEST: Self = Self(3);

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Those of this number, of a later release maybe.
    pub const fn of(number: u8) -> Self {
        Self(number)
    }

    /// Whether a claim is its session's record, and the key of its complete in it.
    pub fn are_joined(self) -> bool {
        self >= Self::JOINED
    }

    /// Whether records are written as this release would have them.
    pub fn are_newest(self) -> bool {
        self >= Self::NEWEST
    }
}

impl fmt::Display for Formats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The formats in which this process writes now. Whoever registers it in the store sets them.
#[derive(Clone, Debug)]
pub struct Written(Arc<AtomicU8>);

impl Written {
    /// These, to begin with.
    pub fn new(formats: Formats) -> Self {
        Self(Arc::new(AtomicU8::new(formats.number())))
    }

    /// What a record that is written now is written in.
    pub fn now(&self) -> Formats {
        // Who writes older ones a moment longer than others does no harm: all read both.
        Formats(self.0.load(Ordering::Relaxed))
    }

    /// From now on these.
    pub fn set(&self, formats: Formats) {
        self.0.store(formats.number(), Ordering::Relaxed);
    }
}
