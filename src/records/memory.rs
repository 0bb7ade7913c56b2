//! A store in memory, for tests.
//!
//! Keeps the contract of [`super::RecordStore`] to the letter, yields inside every call so that
//! concurrent callers interleave, and fails when told to.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use byteview::ByteView;
use futures_util::future::Either;
use parking_lot::Mutex;

use super::{
    Batch, BoxFuture, Committed, Identity, Kind, PAGE_BYTES, Reading, Record, RecordKey, RecordStore,
    Revision, StoreError, Write,
};
use crate::domain::clock::{Clock, Timestamp};

/// A store that is gone when dropped. Expiry follows the clock it was given.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    records: BTreeMap<RecordKey, Entry>,
    last_revision: u64,
    failure: Option<StoreError>,
    commits: u64,
    /// Reopenings so far.
    reopened: u64,
}

struct Entry {
    record: Record,
    expires_at: Option<Timestamp>,
    due: Option<Timestamp>,
}

impl Entry {
    fn lives(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// From now on every call answers this error; `None` heals the store.
    pub fn fail(&self, failure: Option<StoreError>) {
        self.state.lock().failure = failure;
    }

    /// The store is another process's now: the next incarnation.
    pub fn reopen(&self) {
        self.state.lock().reopened += 1;
    }

    /// Batches applied so far.
    pub fn commits(&self) -> u64 {
        self.state.lock().commits
    }

    /// Everything that is stored, keys and values, for tests that search it.
    pub fn dump(&self) -> Vec<(RecordKey, ByteView)> {
        let state = self.state.lock();
        state.records.iter().map(|(key, entry)| (key.clone(), entry.record.bytes.clone())).collect()
    }

    fn apply(&self, batch: Batch) -> Result<Committed, StoreError> {
        let now = self.clock.earliest();
        let mut state = self.state.lock();
        if let Some(failure) = state.failure {
            return Err(failure);
        }
        check_shape(&batch);
        for (key, expected) in &batch.expect {
            let entry = state.records.get(key).filter(|entry| entry.lives(now));
            if entry.map_or(Revision::ABSENT, |entry| entry.record.revision) != *expected {
                return Ok(Committed::Conflict);
            }
        }
        state.last_revision += 1;
        let revision = Revision(state.last_revision);
        for write in batch.writes {
            match write {
                Write::Put { key, bytes, expires_at, due } => {
                    let record = Record { revision, bytes };
                    state.records.insert(key, Entry { record, expires_at, due });
                }
                Write::Delete { key } => {
                    state.records.remove(&key);
                }
            }
        }
        state.commits += 1;
        Ok(Committed::Applied(revision))
    }
}

/// What the contract asks of callers.
fn check_shape(batch: &Batch) {
    let written = batch.writes.iter().map(|write| match write {
        Write::Put { key, .. } | Write::Delete { key } => key,
    });
    let mut shared = None;
    for key in batch.expect.iter().map(|(key, _)| key).chain(written) {
        let (partition, name) = (key.partition(), key.name());
        assert!(!partition.is_empty() && partition.len() <= 64, "partition of {key:?}");
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-');
        assert!(partition.bytes().all(good), "partition of {key:?}");
        assert!(name.len() <= 512 && name.bytes().all(|b| b.is_ascii_graphic()), "name of {key:?}");
        assert_eq!(shared.get_or_insert(partition), &partition, "one partition a batch");
    }
}

impl RecordStore for MemoryStore {
    fn engine(&self) -> &'static str {
        "memory"
    }

    fn identity(&self) -> Identity {
        Identity { incarnation: 1 + self.state.lock().reopened, tag_key: [7; 32] }
    }

    fn read<'a>(&'a self, keys: &'a [RecordKey]) -> Reading<'a> {
        Either::Right(Box::pin(async move {
            tokio::task::yield_now().await;
            let now = self.clock.earliest();
            let state = self.state.lock();
            if let Some(failure) = state.failure {
                return Err(failure);
            }
            let live = |key| state.records.get(key).filter(|entry| entry.lives(now));
            Ok(keys.iter().map(|key| live(key).map(|entry| entry.record.clone())).collect())
        }))
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, StoreError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let committed = self.apply(batch);
            tokio::task::yield_now().await;
            committed
        })
    }

    fn due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Timestamp, RecordKey)>, StoreError>> {
        Box::pin(async move {
            let state = self.state.lock();
            let mut due: Vec<_> = state
                .records
                .iter()
                .filter(|(_, entry)| entry.lives(self.clock.earliest()))
                .filter_map(|(key, entry)| Some((entry.due.filter(|due| *due <= now)?, key.clone())))
                .collect();
            due.sort();
            due.truncate(limit);
            state.failure.map_or(Ok(due), Err)
        })
    }

    fn scan<'a>(
        &'a self,
        kind: Kind,
        after: Option<&'a RecordKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(RecordKey, Record)>, StoreError>> {
        Box::pin(async move {
            let now = self.clock.earliest();
            let state = self.state.lock();
            let start = after.map_or(Bound::Unbounded, Bound::Excluded);
            let mut bytes = 0;
            let found = state
                .records
                .range::<RecordKey, _>((start, Bound::Unbounded))
                .filter(|(key, entry)| key.kind == kind && entry.lives(now))
                .take(limit)
                .take_while(|(_, entry)| {
                    let is_full = bytes >= PAGE_BYTES;
                    bytes += entry.record.bytes.len();
                    !is_full
                })
                .map(|(key, entry)| (key.clone(), entry.record.clone()))
                .collect();
            state.failure.map_or(Ok(found), Err)
        })
    }

    fn sweep(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move {
            let mut state = self.state.lock();
            let expired: Vec<_> = state
                .records
                .iter()
                .filter(|(_, entry)| !entry.lives(now))
                .map(|(key, _)| key.clone())
                .take(limit)
                .collect();
            expired.iter().for_each(|key| drop(state.records.remove(key)));
            state.failure.map_or(Ok(expired.len()), Err)
        })
    }

    fn health(&self) -> Result<(), StoreError> {
        self.state.lock().failure.map_or(Ok(()), Err)
    }
}
