//! The open database and how it is read. Apart because a database that failed is thrown away as a
//! whole and a new one takes its place.
//!
//! Nothing is visible here before it is on stable storage: the database syncs its journal before a
//! batch reaches what readers see. What it does not promise is that a batch appears at once, so a
//! read of several keys checks that none of them was being written meanwhile.

use std::collections::HashSet;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use byteview::ByteView;
use fjall::compaction::Leveled;
use fjall::config::BlockSizePolicy;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Slice, Snapshot};
use parking_lot::Mutex;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{UnitWeighter, Weighter};
use smallvec::SmallVec;
use tokio::sync::watch;

use super::encoding::{ByBroughtHash, Header, IndexEntry, StoreKey, position, time};
use super::expired::Walks;
use super::low_water_mark::LowWaterMark;
use super::store_directory::OpenError;
use crate::domain::clock::Timestamp;
use crate::records::{Kind, PAGE_BYTES, Record, RecordKey, StoreError};

/// In memory before it is written out: of sessions, tokens and idempotency keys each, and of each of
/// the rest, whose records are few or small. At most 34 MiB in all, what is being written out aside,
/// and the journal to be read at a start stays as short.
const MEMTABLE_BYTES: u64 = 8 << 20;
const SMALL_MEMTABLE_BYTES: u64 = 2 << 20;
/// Written out in blocks of this size: several records each, so that what a block costs is shared.
const BLOCK_BYTES: u32 = 16 << 10;
/// Tables are split at this size. Four of them are the first level, all of which is merged with the
/// memtables written out since: as long as that takes, no other memtable is written out, and the
/// writer stands still when four of a kind wait.
const TABLE_BYTES: u64 = 16 << 20;
/// Records kept beside the database: about a thousand checkouts.
const WRITTEN_BYTES: u64 = 8 << 20;
const WRITTEN_RECORDS: usize = 4_096;
/// Keys kept beside it of records that are not there.
const ABSENT_RECORDS: usize = 8_192;
/// Larger ones are read from the database: they would push out hundreds of others.
pub(super) const LARGEST_WRITTEN: usize = 64 * 1024;
/// What a request reads at once, at most.
pub(super) const FEW_KEYS: usize = 3;
/// Flushing and compaction in the background. Of several threads the first takes no compaction but
/// passes it on, and does nothing else for as long as another is at work on one: a whole core.
const DATABASE_THREADS: usize = 1;

/// An open database.
pub(super) struct OpenDatabase {
    database: Database,
    records: [Keyspace; Kind::ALL.len()],
    due: Keyspace,
    meta: Keyspace,
    due_floor: LowWaterMark,
    walks: Walks,
    in_flight: Mutex<InFlight>,
    finished: watch::Sender<u64>,
    written: Written,
    absent: Absent,
}

/// Records that were written or read last, as they stand: what a session's next request reads, and the
/// writer once more. The writer puts records in after their sync and in the order of writing; a reader
/// as it puts in an [`Absent`] key. So what is here is never older than the database.
type Written = Cache<StoreKey, Slice, Weight, ByBroughtHash>;

/// Keys under which there is no record: what a request that begins something reads, and the writer
/// once more. A key is put in under the lock of [`InFlight`] while no group that writes it has begun,
/// and taken out under the same lock when one begins.
type Absent = Cache<StoreKey, (), UnitWeighter, ByBroughtHash>;

/// A record's bytes, and what holding it costs.
#[derive(Clone)]
struct Weight;

impl Weighter<StoreKey, Slice> for Weight {
    fn weight(&self, key: &StoreKey, value: &Slice) -> u64 {
        const HELD: usize = 96;
        u64::try_from(key.within_keyspace().len() + value.len() + HELD).unwrap_or(u64::MAX)
    }
}

fn cache<V: Clone, W: Weighter<StoreKey, V> + Clone>(
    records: usize,
    weight: u64,
    weighter: W,
) -> Cache<StoreKey, V, W, ByBroughtHash> {
    Cache::with(records, weight, weighter, ByBroughtHash::default(), DefaultLifecycle::default())
}

/// The group being written, or the last one that was.
struct InFlight {
    number: u64,
    since: Option<Instant>,
    keys: HashSet<StoreKey, ByBroughtHash>,
}

/// A read that may have met a write.
pub(super) enum Attempt {
    /// What was read.
    Done(Vec<Option<Record>>),
    /// To be tried again once this group is finished.
    Again { finished: watch::Receiver<u64>, group: u64 },
}

/// A record as stored, expired or not.
pub(super) struct Stored {
    pub(super) header: Header,
    value: Slice,
}

impl OpenDatabase {
    /// Opens or makes the database. One that was complete once must have all its keyspaces.
    pub(super) fn open(directory: &Path, cache_bytes: u64, complete: bool) -> Result<Self, OpenError> {
        let failed = OpenError::of_database(directory);
        let database = Database::builder(directory)
            .cache_size(cache_bytes)
            .worker_threads(DATABASE_THREADS)
            .open()
            .map_err(&failed)?;
        let keyspace = |name: &str, memtable_bytes| {
            if complete && !database.keyspace_exists(name) {
                let cause = format!("its keyspace `{name}` is missing");
                return Err(OpenError::Corrupt { file: directory.to_owned(), cause });
            }
            let options = || {
                KeyspaceCreateOptions::default()
                    .max_memtable_size(memtable_bytes)
                    .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
                    .compaction_strategy(Arc::new(Leveled::default().with_table_target_size(TABLE_BYTES)))
            };
            database.keyspace(name, options).map_err(&failed)
        };
        let [a, b, c, d, e, f] = Kind::ALL.map(|kind| {
            let memtable_bytes = match kind {
                Kind::Session | Kind::Token | Kind::Idempotency => MEMTABLE_BYTES,
                Kind::Replay | Kind::Velocity | Kind::Registry => SMALL_MEMTABLE_BYTES,
            };
            keyspace(kind.as_str(), memtable_bytes)
        });
        Ok(Self {
            records: [a?, b?, c?, d?, e?, f?],
            due: keyspace("due", SMALL_MEMTABLE_BYTES)?,
            meta: keyspace("meta", SMALL_MEMTABLE_BYTES)?,
            database,
            due_floor: LowWaterMark::new(),
            walks: Walks::new(),
            in_flight: Mutex::new(InFlight { number: 0, since: None, keys: HashSet::default() }),
            finished: watch::Sender::new(0),
            written: cache(WRITTEN_RECORDS, WRITTEN_BYTES, Weight),
            absent: cache(ABSENT_RECORDS, u64::try_from(ABSENT_RECORDS).unwrap_or(u64::MAX), UnitWeighter),
        })
    }

    /// What the store remembers about itself.
    pub(super) fn meta(&self) -> &Keyspace {
        &self.meta
    }

    /// An empty batch with room for so many, which is synced before it becomes visible.
    pub(super) fn batch(&self, items: usize) -> OwnedWriteBatch {
        let batch = OwnedWriteBatch::with_capacity(self.database.clone(), items);
        batch.durability(Some(PersistMode::SyncData))
    }

    /// An empty batch that is on stable storage only after [`Self::persist`].
    pub(super) fn unsynced_batch(&self) -> OwnedWriteBatch {
        self.database.batch()
    }

    /// Puts all that was written on stable storage.
    pub(super) fn persist(&self, mode: PersistMode) -> fjall::Result<()> {
        self.database.persist(mode)
    }

    /// All of it as it is now: each group of writes is in it whole or not at all.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.database.snapshot()
    }

    /// The keyspace of a kind's records.
    pub(super) fn keyspace(&self, kind: Kind) -> Option<&Keyspace> {
        self.records.get(position(kind))
    }

    /// The index of what is due.
    pub(super) fn due_index(&self) -> &Keyspace {
        &self.due
    }

    /// At most `limit` records that have expired.
    pub(super) fn expired(&self, now: Timestamp, limit: usize) -> Vec<StoreKey> {
        self.walks.expired(&self.records, now, limit)
    }

    /// One record, expired or not.
    pub(super) fn get(&self, key: &StoreKey) -> Result<Option<Stored>, StoreError> {
        self.look(key).map(|(stored, _)| stored)
    }

    /// The same, and whether it was known beside the database.
    fn look(&self, key: &StoreKey) -> Result<(Option<Stored>, bool), StoreError> {
        if let Some(value) = self.written.get(key) {
            return Ok((Some(Stored::parse(value)?), true));
        }
        if self.absent.get(key).is_some() {
            return Ok((None, true));
        }
        let keyspace = self.keyspace(key.kind()).ok_or(StoreError::Corrupt)?;
        let value = keyspace.get(key.within_keyspace()).map_err(unreadable)?;
        Ok((value.map(Stored::parse).transpose()?, false))
    }

    /// Records as they stand together at one moment, or the word that it was not one moment.
    pub(super) fn read(&self, keys: &[StoreKey], now: Timestamp) -> Result<Attempt, StoreError> {
        // The first group whose writes could appear while this reads.
        let first = {
            let in_flight = self.in_flight.lock();
            in_flight.number + u64::from(in_flight.since.is_none())
        };
        let found: SmallVec<[_; FEW_KEYS]> =
            keys.iter().map(|key| self.look(key)).collect::<Result<_, _>>()?;
        let in_flight = self.in_flight.lock();
        // Of several groups only the last one's keys are still known.
        let is_met =
            |key| in_flight.number > first || (in_flight.number == first && in_flight.keys.contains(key));
        // One record alone is always whole.
        if keys.len() > 1 && keys.iter().any(is_met) {
            let group = in_flight.number;
            return Ok(Attempt::Again { finished: self.finished.subscribe(), group });
        }
        for (key, (stored, is_known)) in keys.iter().zip(&found) {
            match stored {
                _ if *is_known || is_met(key) => {}
                Some(stored) if stored.value.len() <= LARGEST_WRITTEN => {
                    // A copy: it would hold the whole block it was read in.
                    self.written.insert(key.clone(), Slice::new(&stored.value));
                }
                Some(_) => {}
                None => self.absent.insert(key.clone(), ()),
            }
        }
        drop(in_flight);
        let unexpired = |stored: Stored| (!stored.header.is_expired(now)).then(|| stored.record());
        Ok(Attempt::Done(found.into_iter().map(|(stored, _)| stored.and_then(unexpired)).collect()))
    }

    /// Unexpired records of a kind in key order, after `after`, at most `limit`, and no more once they
    /// have reached [`PAGE_BYTES`].
    pub(super) fn scan(
        &self,
        kind: Kind,
        after: Option<StoreKey>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<(RecordKey, Record)>, StoreError> {
        let keyspace = self.keyspace(kind).ok_or(StoreError::Corrupt)?;
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.within_keyspace().to_vec()));
        let (mut found, mut bytes) = (Vec::new(), 0);
        for entry in keyspace.range::<Vec<u8>, _>((from, Bound::Unbounded)) {
            if found.len() >= limit || bytes >= PAGE_BYTES {
                break;
            }
            let (key, value) = entry.into_inner().map_err(unreadable)?;
            let stored = Stored::parse(value)?;
            if !stored.header.is_expired(now) {
                let key = StoreKey::from_keyspace(kind, &key).ok_or(StoreError::Corrupt)?;
                let record = stored.record();
                bytes += record.bytes.len();
                found.push((key.into_record_key(), record));
            }
        }
        Ok(found)
    }

    /// Entries of the index of what is due at or before `now`, oldest first, at most `limit` of those
    /// whose record has not expired.
    pub(super) fn entries_due(&self, now: Timestamp, limit: usize) -> Result<Vec<IndexEntry>, StoreError> {
        self.due_floor.scan(|floor| {
            let from = Bound::Included(time(floor).to_vec());
            let until = match now.unix_millis().checked_add(1) {
                Some(next) => Bound::Excluded(time(Timestamp::from_unix_millis(next)).to_vec()),
                None => Bound::Unbounded,
            };
            let mut found = Vec::new();
            let mut first = None;
            if floor > now {
                return Ok((found, floor));
            }
            for entry in self.due.range::<Vec<u8>, _>((from, until)) {
                let entry = entry.key().map_err(unreadable)?;
                let entry = IndexEntry::decode(&entry).ok_or(StoreError::Corrupt)?;
                first.get_or_insert(entry.at);
                if found.len() >= limit {
                    break;
                }
                let record = self.get(&entry.key)?;
                if record.is_some_and(|stored| !stored.header.is_expired(now)) {
                    found.push(entry);
                }
            }
            Ok((found, first.unwrap_or(now)))
        })
    }

    /// Says which records are about to be written.
    pub(super) fn begin(&self, records: &[(StoreKey, Option<(Header, Slice)>)]) {
        let mut in_flight = self.in_flight.lock();
        in_flight.number += 1;
        in_flight.since = Some(Instant::now());
        in_flight.keys.clear();
        for (key, _) in records {
            self.absent.remove(key);
            in_flight.keys.insert(key.clone());
        }
    }

    /// Says that all of the group is visible: these records, or that they are gone.
    pub(super) fn end(&self, records: Vec<(StoreKey, Option<(Header, Slice)>)>) {
        for (key, put) in records {
            if let Some((header, _)) = &put {
                header.due.into_iter().for_each(|at| self.due_floor.added(at));
                header.expires_at.into_iter().for_each(|at| self.walks.written(key.kind(), at));
            }
            match put.map(|(_, value)| value).filter(|value| value.len() <= LARGEST_WRITTEN) {
                Some(value) => self.written.insert(key, value),
                None => drop(self.written.remove(&key)),
            }
        }
        let mut in_flight = self.in_flight.lock();
        in_flight.since = None;
        let number = in_flight.number;
        drop(in_flight);
        self.finished.send_replace(number);
    }

    /// How long the group being written has been so.
    pub(super) fn writing_for(&self) -> Duration {
        self.in_flight.lock().since.map(|since| since.elapsed()).unwrap_or_default()
    }
}

impl Stored {
    fn parse(value: Slice) -> Result<Self, StoreError> {
        let (header, _) = Header::decode(&value).ok_or(StoreError::Corrupt)?;
        Ok(Self { header, value })
    }

    fn record(self) -> Record {
        let header_bytes = Header::decode(&self.value)
            .map_or(self.value.len(), |(_, content)| self.value.len() - content.len());
        Record { revision: self.header.revision, bytes: ByteView::from(self.value).slice(header_bytes..) }
    }
}

/// An error of reading.
pub(super) fn unreadable(error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Io(_) | fjall::Error::Storage(fjall::LsmError::Io(_)) => StoreError::Unavailable,
        _ => StoreError::Corrupt,
    }
}
