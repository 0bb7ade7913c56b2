//! What was seen of a run from outside.
//!
//! What merchants took, what agents were told, and what the gateway says of its tokens and sessions when
//! all is over. Nothing here knows the gateway.

use std::collections::BTreeMap;

/// Everything that was seen.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Whether acknowledged writes may get lost: behind Redis, in a failover.
    pub may_lose: bool,
    /// The ledgers of all merchants.
    pub charges: Vec<Charge>,
    /// Tokens whose mint was acknowledged, by id.
    pub tokens: BTreeMap<String, Token>,
    /// Sessions whose creation was acknowledged, by id.
    pub sessions: BTreeMap<String, Session>,
    /// Operations, by idempotency key.
    pub operations: BTreeMap<String, Operation>,
    /// Answers that no agent should ever see, and processes that ended by themselves, in words.
    pub oddities: Vec<String>,
}

/// Money taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    pub merchant: String,
    pub session: String,
    pub token: String,
    pub amount: u64,
    pub currency: String,
    pub order: String,
}

/// A token, as its mint was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Whose it is.
    pub agent: usize,
    pub merchant: String,
    pub session: String,
    pub cap: u64,
    pub currency: String,
    /// Its status when all is over; `None` when the gateway does not know it.
    pub standing: Option<String>,
}

/// A session, as its creation was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whose it is.
    pub agent: usize,
    pub merchant: String,
    /// Its status when all is over, as the merchant shows it through the gateway; `None` when the
    /// gateway does not know it.
    pub status: Option<String>,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    Create,
    Mint,
    Update,
    Cancel,
    Revoke,
    Complete,
}

/// One idempotency key, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub verb: Verb,
    /// The session it is about, where there was one before.
    pub session: Option<String>,
    /// The token it spends.
    pub token: Option<String>,
    /// Answers that settled it, in the order in which they came.
    pub answers: Vec<Told>,
    /// Whether it was told, at least once, that nobody knows the outcome.
    pub doubted: bool,
    /// Whether it was answered when it was repeated after all was over.
    pub settled: bool,
}

/// An answer that settles an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub status: u16,
    /// A digest of the body.
    pub body: u64,
    /// The code of an error.
    pub code: Option<String>,
    /// The order that the answer shows.
    pub order: Option<String>,
    /// Whether it says that the merchant's people will decide.
    pub waits: bool,
    /// Whether it is kept for the key, so that every repeat has to give it again: the merchant
    /// decided, and not the gateway.
    pub binds: bool,
}
