//! The contract every storage engine keeps: versioned records, changed by compare-and-set.
//!
//! Versioned records in partitions, changed by compare-and-set batches.
//!
//! State machines live in the domain as pure functions. A stage reads the records it needs, applies
//! the function, and commits the result together with the revisions it read. When another writer
//! was first, nothing is written, the stage reads again and decides again. So each engine
//! implements one atomic verb, and every rule about money exists once.
//!
//! What an engine promises:
//! 1. [`RecordStore::commit`] is atomic and isolated: all writes or none, and only if every
//!    expected revision still holds. A revision is never used twice for one key, deletion included.
//! 2. When `commit` answers [`Committed::Applied`] to a [`Durability::Synced`] batch, the batch and
//!    everything it read has reached stable storage.
//! 3. [`RecordStore::read`] answers only what has reached stable storage, or waits until it has:
//!    no refusal, answer or forward depends on a write that a crash can undo.
//! 4. When it cannot keep a promise it answers [`StoreError`] and changes nothing, except
//!    [`StoreError::Unacknowledged`], after which the batch may or may not have been applied.

pub mod agreed;
pub mod codec;
pub mod formats;
pub mod key_use;
#[cfg(test)]
pub mod memory;
pub mod replicas;
pub mod suspensions;
pub mod worker;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use byteview::{ByteView, StrView};
use futures_util::future::{Either, Ready};
use smallvec::SmallVec;

use crate::domain::clock::Timestamp;

/// What a record is. Each kind is scanned apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A checkout session or cart: owner, total, the open claim.
    Session,
    /// A payment token with its sealed card.
    Token,
    /// An idempotency key's record.
    Idempotency,
    /// A signature seen on a money route.
    Replay,
    /// A fraud counter.
    Velocity,
    /// What the store must remember about itself: key ids in use, replicas that live.
    Registry,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Session, Self::Token, Self::Idempotency, Self::Replay, Self::Velocity, Self::Registry];

    /// Its word, which stores on disk are laid out by: it never changes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Token => "token",
            Self::Idempotency => "idempotency",
            Self::Replay => "replay",
            Self::Velocity => "velocity",
            Self::Registry => "registry",
        }
    }
}

/// Names a record. Records that share a partition can change in one batch. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// What it is.
    pub kind: Kind,
    /// Partition, 0x00, name: shared by all copies, also by the embedded store's database.
    text: StrView,
    partition_bytes: usize,
}

impl RecordKey {
    /// Between partition and name: below every byte of a name, so that keys sort by partition first.
    const SEPARATOR: u8 = 0;
    /// Of most keys.
    const ROOM: usize = 192;

    /// The key of what is called `name` in `partition`.
    pub fn new(kind: Kind, partition: &str, name: &str) -> Self {
        Self::joined(kind, partition, [name])
    }

    /// The same, of a name in parts. A key within its bounds is put together on the stack: it is memory of
    /// its own only once.
    pub fn joined<const N: usize>(kind: Kind, partition: &str, name: [&str; N]) -> Self {
        let mut text: SmallVec<[u8; Self::ROOM]> = SmallVec::new();
        text.extend_from_slice(partition.as_bytes());
        text.push(Self::SEPARATOR);
        for part in name {
            text.extend_from_slice(part.as_bytes());
        }
        // Of texts, so that it is one.
        let text = StrView::new(&String::from_utf8_lossy(&text));
        Self { kind, text, partition_bytes: partition.len() }
    }

    /// Reads [`Self::as_str`]; `None` when there is no name in it.
    pub fn parse(kind: Kind, text: &str) -> Option<Self> {
        let partition_bytes = text.find(char::from(Self::SEPARATOR))?;
        Some(Self { kind, text: text.into(), partition_bytes })
    }

    /// The unit of atomicity: at most 64 bytes of `[A-Za-z0-9._~-]`.
    pub fn partition(&self) -> &str {
        self.text.get(..self.partition_bytes).unwrap_or_default()
    }

    /// Its name within kind and partition: at most 512 bytes of visible ASCII.
    pub fn name(&self) -> &str {
        self.text.get(self.partition_bytes + 1..).unwrap_or_default()
    }

    /// Partition, 0x00, name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same, without a copy.
    pub const fn text(&self) -> &StrView {
        &self.text
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.as_str(), self.partition(), self.name())
    }
}

/// A record's revision; 0 is "absent".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision of a record that does not exist.
    pub const ABSENT: Self = Self(0);
}

/// A stored record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which version this is.
    pub revision: Revision,
    /// Its content.
    pub bytes: ByteView,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Create or replace.
    Put {
        /// Which record.
        key: RecordKey,
        /// Its new content.
        bytes: ByteView,
        /// From this instant reads answer "absent" and the sweeper may delete it.
        expires_at: Option<Timestamp>,
        /// When the background worker should look at it next ([`RecordStore::due`]); replaces what
        /// an earlier write of this key asked for.
        due: Option<Timestamp>,
    },
    /// Remove; fine when absent.
    Delete {
        /// Which record.
        key: RecordKey,
    },
}

impl Write {
    /// The length of its content, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put { bytes, .. } => bytes.len(),
            Self::Delete { .. } => 0,
        }
    }
}

/// What a batch waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Acknowledged once on stable storage: everything that an answer, a forward or a redeem
    /// depends on.
    Synced,
    /// Acknowledged once applied. It is on stable storage no later than any batch committed after
    /// it on the same engine. For counters.
    Applied,
}

/// Which batches still go through when the disk is nearly full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Starts something: refused when space is short.
    Admit,
    /// Finishes something (settle, redeem, revoke, deletion): always tried.
    Finish,
}

/// A compare-and-set batch within one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Revisions that must still hold, [`Revision::ABSENT`] included. Reads that the decision
    /// rests on belong here even if not written.
    pub expect: Vec<(RecordKey, Revision)>,
    /// The changes. All keys of a batch share one partition, save on engines whose partitions do
    /// not matter.
    pub writes: Vec<Write>,
    /// What to wait for.
    pub durability: Durability,
    /// Whether it may be refused for want of space.
    pub purpose: Purpose,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// All of it was written. What the batch put has this revision now.
    Applied(Revision),
    /// Another writer was first; none of it was written.
    Conflict,
}

impl Committed {
    /// Whether the batch was written.
    pub const fn is_applied(self) -> bool {
        matches!(self, Self::Applied(_))
    }
}

/// The store cannot answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing was changed: closed, recovering, or not reachable.
    #[error("the store is unavailable")]
    Unavailable,
    /// Nothing was changed: free space is below the configured floor.
    #[error("the store is short of space")]
    NoSpace,
    /// The batch may or may not have been applied.
    #[error("the store did not acknowledge")]
    Unacknowledged,
    /// A record cannot be read back.
    #[error("a stored record is corrupt")]
    Corrupt,
    /// Nothing was changed: the store is not the one it was, and an operator has not accepted it yet.
    #[error("the store has lost records or is another one: an operator must accept it as it is")]
    Changed,
}

/// What a store is: made once, when it is created.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Counts openings; a lease of an earlier incarnation belongs to a process that is gone.
    pub incarnation: u64,
    /// Key of the tags that name session partitions: fixed for the life of the store, so that key
    /// rotation never moves a session. Not secret from whoever can read the store.
    pub tag_key: [u8; 32],
}

/// A boxed future, so that engines can stand behind one pointer.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What [`RecordStore::read`] answers: at once where nothing is waited for.
pub type Reading<'a> = Either<Ready<Found>, BoxFuture<'a, Found>>;

/// Records as they were found, in the order of what was asked for.
pub type Found = Result<Vec<Option<Record>>, StoreError>;

/// The most bytes of content in one page of [`RecordStore::scan`], but for the record that reaches it:
/// what a pass over a store holds in memory, whatever was written into it.
pub const PAGE_BYTES: usize = 4 << 20;

/// A storage engine. See the module for what it promises.
pub trait RecordStore: Send + Sync {
    /// The engine's name, for metrics: `embedded`, `redis`.
    fn engine(&self) -> &'static str;

    /// What this store is.
    fn identity(&self) -> Identity;

    /// Reads records, in the order of `keys`; `None` for absent or expired ones.
    fn read<'a>(&'a self, keys: &'a [RecordKey]) -> Reading<'a>;

    /// Applies a batch if every expected revision still holds.
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, StoreError>>;

    /// Keys whose `due` instant is at or before `now`, oldest first, at most `limit`.
    fn due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Timestamp, RecordKey)>, StoreError>>;

    /// Records of a kind, each once, in an order of the engine's own, starting after `after`, at most
    /// `limit`, and no more once their content has reached [`PAGE_BYTES`]; expired ones are left out.
    /// Empty only at the end. Tokens and the registry can be walked through this way on every engine.
    fn scan<'a>(
        &'a self,
        kind: Kind,
        after: Option<&'a RecordKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(RecordKey, Record)>, StoreError>>;

    /// Deletes at most `limit` expired records; answers how many. Fewer does not mean that none are left:
    /// a call looks at a part of a large store. An engine whose server lets them go
    /// by itself answers 0.
    fn sweep(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>>;

    /// Whether money may move now; the error says why not.
    fn health(&self) -> Result<(), StoreError>;

    /// Whether the last writes it acknowledged may have been lost a short while ago: what it says of
    /// an open claim, or of none, is then to be compared with the merchant's session before money
    /// moves. An engine that waits for its own disk has never forgotten anything.
    fn may_have_forgotten(&self) -> bool {
        false
    }

    /// Whether what reads show has been acknowledged like a commit. Where not, a decision that writes
    /// nothing commits what it rests on, before anybody hears of it.
    fn reads_are_acknowledged(&self) -> bool {
        true
    }

    /// Whether no other process can have it open: none of an older release either.
    fn is_exclusive(&self) -> bool {
        false
    }

    /// Makes sure that releases which cannot read the newest records do not open the store, as far as they
    /// look before they read any.
    fn refuse_older_releases(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Whether the records of one batch may be of several partitions.
    fn joins_partitions(&self) -> bool {
        false
    }

    /// Takes the store as it is after [`StoreError::Changed`]: an operator has looked. Fine when
    /// nothing has changed.
    fn accept(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
