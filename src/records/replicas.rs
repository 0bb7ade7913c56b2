//! The replicas that live, and the formats in which they write, in one record of the store.
//!
//! One record, so that the two change together: formats turn at an instant at which every replica that
//! lives has said that it reads the newer, and one that does not read what is written learns so before it
//! has registered. Each renews what it says of itself every few seconds; who has stopped is left out soon
//! after. Releases that know no registry cannot be seen: where one may live, an operator says that none does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::codec::{Loaded, Stored, Times};
use super::formats::{Formats, Written};
use super::{Batch, Durability, Kind, Purpose, RecordKey, RecordStore, Revision, StoreError};
use crate::domain::clock::Timestamp;

/// How long a replica is taken to live after it said so.
pub const LIVES: Duration = Duration::from_secs(15);
/// How often it says so.
pub const RENEW_EVERY: Duration = Duration::from_secs(4);
/// How long every replica has read newer formats before they are written by themselves: so long the release
/// before can take over again.
pub const SETTLES: Duration = Duration::from_secs(15 * 60);
/// How often it is tried again because another replica was first.
const ROUNDS: usize = 32;
/// In which formats a replica writes, as it says itself: what the roll says it may not have read yet.
const WRITTEN: &str = "written";
/// The release of this program.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// A replica, as it says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// A number nobody else draws.
    pub id: u64,
    /// Its release.
    pub release: String,
    /// The newest formats it reads.
    pub reads: Formats,
    /// Of an earlier incarnation of the store it is gone.
    incarnation: u64,
    /// From then on it does not live, unless it says so again.
    until: Timestamp,
    /// What else it says, by name: ids of keys that it holds, for one. Others hand on what they do not know.
    pub facts: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Roll {
    written: Formats,
    /// Whether replicas may live that know no registry.
    unseen: bool,
    /// Since when all replicas read newer formats than those that are written.
    readable_since: Option<Timestamp>,
    replicas: Vec<Replica>,
}

impl Replica {
    /// Whether it has said that it writes as this release would. One of an older release never has.
    pub fn writes_newest(&self) -> bool {
        let told = self.facts.get(WRITTEN).and_then(|told| told.first()).and_then(|told| told.parse().ok());
        told.is_some_and(|number| Formats::of(number).are_newest())
    }
}

impl Stored for Roll {
    const KIND: Kind = Kind::Registry;
    const FORMAT: u8 = 1;
}

/// Whether this is the content of a record of ours.
pub fn is_readable(bytes: &[u8]) -> bool {
    super::codec::decode::<Roll>(bytes).is_ok()
}

impl Roll {
    fn forget_dead(&mut self, now: Timestamp, incarnation: u64) {
        self.replicas.retain(|replica| replica.incarnation == incarnation && now < replica.until);
        for replica in &mut self.replicas {
            // Its clock is ahead of ours: nobody lives longer by that.
            replica.until = replica.until.min(now.plus(LIVES));
        }
    }

    /// The newest formats that all who live read.
    fn readable(&self) -> Formats {
        self.replicas.iter().map(|replica| replica.reads).min().unwrap_or(self.written)
    }

    fn turn(&mut self) {
        (self.written, self.unseen, self.readable_since) = (self.readable(), false, None);
    }
}

/// Why a replica is not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRegistered {
    /// The store.
    #[error("the store cannot be read: {0}")]
    Store(#[from] StoreError),
    /// It could not read the records.
    #[error(
        "the store's records are written in formats {written}, and this release reads formats up to {reads}: \
         start the release that wrote them, or a newer one"
    )]
    TooOld {
        /// The formats that are written.
        written: Formats,
        /// The newest that this release reads.
        reads: Formats,
    },
}

/// A replica is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The formats that are written from now on.
    pub written: Formats,
    /// They were older until now.
    pub turned: bool,
}

/// Why older formats go on being written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotConverted {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Replicas live that could not read what would be written.
    #[error("{} of the replicas that live read older formats only", .0.len())]
    StillRead(Vec<Replica>),
}

/// This replica in the store's registry.
pub struct Membership {
    store: Arc<dyn RecordStore>,
    id: u64,
    reads: Formats,
    written: Written,
    facts: Mutex<BTreeMap<String, Vec<String>>>,
    /// It has something else to say.
    news: Notify,
}

impl Membership {
    /// In the registry of this store, under a number nobody else draws. `written` follows what is decided.
    pub fn new(store: Arc<dyn RecordStore>, id: u64, written: Written) -> Self {
        let (facts, news) = (Mutex::default(), Notify::new());
        Self { store, id, reads: Formats::NEWEST, written, facts, news }
    }

    /// Its number.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Says this as well from now on.
    pub fn say(&self, name: &str, values: Vec<String>) {
        let mut facts = self.facts.lock();
        if facts.get(name) != Some(&values) {
            facts.insert(name.to_owned(), values);
            self.news.notify_one();
        }
    }

    /// Waits until it has something to say that it has not said: then it is to be renewed at once.
    pub async fn has_news(&self) {
        self.news.notified().await;
    }

    /// As a release would that reads nothing newer.
    #[cfg(test)]
    pub(crate) fn reading(mut self, newest: Formats) -> Self {
        self.reads = newest;
        self
    }

    /// Says that this replica lives, and learns what is written.
    ///
    /// # Errors
    /// [`NotRegistered`]; nothing was written then, or nobody knows.
    pub async fn renew(&self, now: Timestamp) -> Result<Registered, NotRegistered> {
        for _ in 0..ROUNDS {
            let (loaded, mut roll) = self.others(now).await?;
            if roll.written > self.reads {
                return Err(NotRegistered::TooOld { written: roll.written, reads: self.reads });
            }
            roll.replicas.push(self.entry(now));
            let turned = self.may_turn(&mut roll, now);
            if let Some(registered) = self.commit(loaded, roll, turned).await? {
                return Ok(registered);
            }
        }
        Err(StoreError::Unavailable.into())
    }

    /// Says that this replica lives no longer.
    ///
    /// # Errors
    /// [`StoreError`]; it is left out soon all the same.
    pub async fn leave(&self, now: Timestamp) -> Result<(), StoreError> {
        for _ in 0..ROUNDS {
            let (loaded, roll) = self.others(now).await?;
            if self.commit(loaded, roll, false).await?.is_some() {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable)
    }

    /// Has the newest formats written that all replicas read, on an operator's word that none lives which
    /// knows no registry.
    ///
    /// # Errors
    /// [`NotConverted`].
    pub async fn convert(&self, now: Timestamp) -> Result<Registered, NotConverted> {
        for _ in 0..ROUNDS {
            let (loaded, mut roll) = self.others(now).await?;
            roll.replicas.push(self.entry(now));
            let turned = roll.written < self.reads;
            if turned && roll.readable() <= roll.written {
                roll.replicas.retain(|replica| replica.reads < self.reads);
                return Err(NotConverted::StillRead(roll.replicas));
            }
            if let Some(registered) = self.commit(loaded, roll, turned).await? {
                return Ok(registered);
            }
        }
        Err(StoreError::Unavailable.into())
    }

    /// Whether newer formats are to be written from now on, by themselves.
    fn may_turn(&self, roll: &mut Roll, now: Timestamp) -> bool {
        if roll.readable() <= roll.written {
            roll.readable_since = None;
            return false;
        }
        if self.store.is_exclusive() {
            return true;
        }
        if roll.unseen {
            return false;
        }
        // A mark from a clock that was ahead begins anew.
        let since = roll.readable_since.filter(|since| *since <= now).unwrap_or(now);
        roll.readable_since = Some(since);
        now.since(since) >= SETTLES
    }

    fn entry(&self, now: Timestamp) -> Replica {
        Replica {
            id: self.id,
            release: RELEASE.to_owned(),
            reads: self.reads,
            incarnation: self.store.identity().incarnation,
            until: now.plus(LIVES),
            facts: self.told(),
        }
    }

    /// What it says, and in which formats it writes.
    fn told(&self) -> BTreeMap<String, Vec<String>> {
        let mut facts = self.facts.lock().clone();
        facts.insert(WRITTEN.to_owned(), vec![self.written.now().to_string()]);
        facts
    }

    /// The roll without this replica.
    async fn others(&self, now: Timestamp) -> Result<(Loaded<Roll>, Roll), StoreError> {
        let mut loaded = read_roll(&*self.store).await?;
        let mut roll = match loaded.value.take() {
            Some(roll) => roll,
            None => self.first_roll().await?,
        };
        roll.forget_dead(now, self.store.identity().incarnation);
        roll.replicas.retain(|replica| replica.id != self.id);
        Ok((loaded, roll))
    }

    /// The roll of a store that has none: it is new, or of a release that knew no registry. Each of those
    /// notes its keys in the store before it does anything.
    async fn first_roll(&self) -> Result<Roll, StoreError> {
        // Where the roll was lost with the store, whoever has written newer formats knows that it may.
        let is_ours = self.store.is_exclusive()
            || self.written.now() >= self.reads
            || self.store.scan(Kind::Registry, None, 1).await?.is_empty();
        // What this one writes was decided when the others were asked.
        let written = if is_ours { self.reads } else { self.written.now() };
        Ok(Roll { written, unseen: !is_ours, readable_since: None, replicas: Vec::new() })
    }

    /// Writes the roll, unless somebody else was first; where formats turn, no sooner than older releases
    /// are kept out.
    async fn commit(
        &self,
        mut loaded: Loaded<Roll>,
        mut roll: Roll,
        turned: bool,
    ) -> Result<Option<Registered>, StoreError> {
        if turned {
            roll.turn();
        }
        let written = roll.written;
        if written.are_joined() && (turned || loaded.revision == Revision::ABSENT) {
            self.store.refuse_older_releases().await?;
        }
        loaded.value = Some(roll);
        if let Some(write) = loaded.change(|_| Times::default())? {
            let batch = Batch {
                expect: vec![loaded.expectation()],
                writes: vec![write],
                durability: if turned { Durability::Synced } else { Durability::Applied },
                purpose: Purpose::Finish,
            };
            if !self.store.commit(batch).await?.is_applied() {
                return Ok(None);
            }
        }
        self.written.set(written);
        Ok(Some(Registered { written, turned }))
    }
}

/// The registry as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// The formats that are written.
    pub written: Formats,
    /// Whether older ones are written until an operator says that no replica lives which is not listed.
    pub awaits_operator: bool,
    /// The replicas that live.
    pub replicas: Vec<Replica>,
}

/// The registry of a store; `None` when nobody has registered yet.
///
/// # Errors
/// [`StoreError`].
pub async fn look(store: &dyn RecordStore, now: Timestamp) -> Result<Option<Registry>, StoreError> {
    let Some(mut roll) = read_roll(store).await?.value else { return Ok(None) };
    roll.forget_dead(now, store.identity().incarnation);
    let Roll { written, unseen, replicas, .. } = roll;
    Ok(Some(Registry { written, awaits_operator: unseen, replicas }))
}

async fn read_roll(store: &dyn RecordStore) -> Result<Loaded<Roll>, StoreError> {
    let key = RecordKey::new(Kind::Registry, "replicas", "roll");
    let record = store.read(std::slice::from_ref(&key)).await?.pop().flatten();
    Loaded::decode(key, record)
}
