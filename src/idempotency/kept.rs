//! How much is kept for whom off the money routes, in all and for each agent.
//!
//! There a credential alone is enough to have requests and answers kept: what an agent signed is counted
//! apart from what it did not, by the hour in which it ends, in records that every replica shares and
//! that outlive a restart.
//!
//! Counts are written a moment later and together: nobody waits for them. So long may other replicas
//! count too little, and so much may a crash forget.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::record::{HOUR_SECONDS, Kept, Recharge, hour};
use crate::crypto::digest::{hexadecimal, sha256_framed};
use crate::domain::clock::Timestamp;
use crate::domain::id::AgentId;
use crate::limit::{LimitScope, Limited};
use crate::records::codec::{Loaded, Stored, Times};
use crate::records::{Batch, Durability, Kind, Purpose, RecordKey, RecordStore, StoreError};

const NAME: &str = "kept-bytes";
/// How long counts wait for more.
const GATHER: Duration = Duration::from_secs(1);
/// Nobody is refused for counts that were read longer ago.
const FRESH: Duration = Duration::from_secs(1);
/// How often a count is tried again because another writer was first.
const MAX_ROUNDS: usize = 128;
/// Counts that are written at once.
const WRITTEN_AT_ONCE: usize = 64;

/// Whose count it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Account {
    All,
    Of { agent: AgentId, signed: bool },
}

impl Account {
    fn record_key(&self) -> RecordKey {
        let digest = match self {
            Self::All => sha256_framed(&[NAME.as_bytes()]),
            Self::Of { agent, signed } => {
                let proof: &[u8] = if *signed { b"signed" } else { b"bearer" };
                sha256_framed(&[NAME.as_bytes(), agent.as_str().as_bytes(), proof])
            }
        };
        RecordKey::new(Kind::Velocity, &hexadecimal(&digest), NAME)
    }
}

/// A count as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Charged {
    /// Hour in which it ends (since the epoch) to bytes that end in it.
    by_hour: BTreeMap<i64, u64>,
}

impl Stored for Charged {
    const KIND: Kind = Kind::Velocity;
    const FORMAT: u8 = 1;
}

impl Charged {
    fn add(&mut self, changes: &BTreeMap<i64, i64>, now: Timestamp) {
        for (hour, change) in changes {
            let bytes = self.by_hour.entry(*hour).or_default();
            *bytes = bytes.saturating_add_signed(*change);
        }
        self.by_hour.retain(|ends, bytes| *ends >= hour(now) && *bytes > 0);
    }

    fn times(&self, now: Timestamp) -> Times {
        let last = self.by_hour.keys().next_back().copied().unwrap_or_else(|| hour(now));
        Times { expires_at: Some(end_of(last)), due: None }
    }
}

fn end_of(hour: i64) -> Timestamp {
    Timestamp::from_unix_seconds(hour.saturating_add(1).saturating_mul(HOUR_SECONDS))
}

/// A count as this process knows it.
#[derive(Default)]
struct View {
    /// As the store had it when it was read or written last.
    stored: Charged,
    read_at: Option<Instant>,
    /// What is not written yet.
    changes: BTreeMap<i64, i64>,
}

impl View {
    fn is_fresh(&self) -> bool {
        self.read_at.is_some_and(|at| at.elapsed() < FRESH)
    }

    /// What counts now, by the hour in which it ends.
    fn present(&self, now: Timestamp) -> Charged {
        let mut moment = self.stored.clone();
        moment.add(&self.changes, now);
        moment
    }

    fn total(&self, now: Timestamp) -> u64 {
        self.present(now).by_hour.values().fold(0, |all, bytes| all.saturating_add(*bytes))
    }

    fn change(&mut self, hour: i64, change: i64) {
        let changed = self.changes.entry(hour).or_default();
        *changed = changed.saturating_add(change);
        if *changed == 0 {
            self.changes.remove(&hour);
        }
    }

    /// These changes are written, or will never be.
    fn settle(&mut self, changes: &BTreeMap<i64, i64>, are_settled: impl Fn(i64) -> bool) {
        for (hour, change) in changes.iter().filter(|(_, change)| are_settled(**change)) {
            self.change(*hour, change.saturating_neg());
        }
    }
}

/// The counts of one store.
pub struct KeptBytes(Arc<Shared>);

struct Shared {
    store: Arc<dyn RecordStore>,
    /// The most in all.
    most: AtomicU64,
    views: Mutex<HashMap<Account, View>>,
    /// Whether a task will write what changed.
    is_awaited: Mutex<bool>,
    /// Held by whoever reads or writes counts: what was read never replaces what was written since.
    turn: tokio::sync::Mutex<()>,
}

impl KeptBytes {
    /// The counts in this store, of which all together may be `most`.
    pub fn new(store: Arc<dyn RecordStore>, most: u64) -> Self {
        Self(Arc::new(Shared {
            store,
            most: AtomicU64::new(most),
            views: Mutex::default(),
            is_awaited: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }))
    }

    /// From now on all together may be `most`. What is kept stays.
    pub fn limit_to(&self, most: u64) {
        self.0.most.store(most, Ordering::Relaxed);
    }

    /// Whether so many bytes more may be kept for an agent that may have `most`, of what it signs or of
    /// what it does not. Counts nothing: see [`Self::changed`]. What is under way meanwhile may come on
    /// top.
    ///
    /// # Errors
    /// [`StoreError`] when nobody knows.
    pub async fn admit(
        &self,
        agent: &AgentId,
        signed: bool,
        most: u64,
        bytes: u64,
        now: Timestamp,
    ) -> Result<Result<(), Limited>, StoreError> {
        let own = Account::Of { agent: agent.clone(), signed };
        for (account, most, scope) in [
            (own, most, LimitScope::AgentKeptBytes),
            (Account::All, self.0.most.load(Ordering::Relaxed), LimitScope::KeptBytes),
        ] {
            let exceeds = |view: &View| view.total(now).saturating_add(bytes) > most;
            let wants_a_look = |view: &View| view.read_at.is_none() || (exceeds(view) && !view.is_fresh());
            if self.0.with(&account, |view| wants_a_look(view)) {
                self.0.look(&account, wants_a_look).await?;
            }
            if self.0.with(&account, |view| exceeds(view)) {
                let retry_after_seconds = self.0.with(&account, |view| wait(view, now));
                return Ok(Err(Limited { scope, retry_after_seconds, quota: None }));
            }
        }
        Ok(Ok(()))
    }

    /// Counts what became of an agent's record.
    pub fn changed(&self, agent: &AgentId, change: Recharge, now: Timestamp) {
        if change.before == Some(change.after) {
            return;
        }
        let mut views = self.0.views.lock();
        let mut add = |kept: Kept, sign: i64| {
            let bytes = i64::try_from(kept.bytes).unwrap_or(i64::MAX).saturating_mul(sign);
            for account in [Account::All, Account::Of { agent: agent.clone(), signed: kept.signed }] {
                views.entry(account).or_default().change(kept.hour, bytes);
            }
        };
        if let Some(before) = change.before {
            add(before, -1);
        }
        add(change.after, 1);
        drop(views);
        self.write_later(now);
    }

    /// All that is kept off the money routes, as last counted.
    pub async fn in_all(&self, now: Timestamp) -> u64 {
        // What cannot be read now is as it was.
        let _ = self.0.look(&Account::All, |view| !view.is_fresh()).await;
        self.0.with(&Account::All, |view| view.total(now))
    }

    /// Writes at once what changed: nothing follows. What the store does not take is forgotten.
    pub async fn finish(&self, now: Timestamp) {
        self.0.write(now).await;
    }

    fn write_later(&self, now: Timestamp) {
        if std::mem::replace(&mut *self.0.is_awaited.lock(), true) {
            return;
        }
        // A store that is to be closed meanwhile is not held open for this.
        let shared = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(GATHER).await;
                let Some(shared) = shared.upgrade() else { return };
                shared.write(now).await;
                let mut is_awaited = shared.is_awaited.lock();
                *is_awaited = shared.views.lock().values().any(|view| !view.changes.is_empty());
                if !*is_awaited {
                    return;
                }
            }
        });
    }
}

impl Shared {
    fn with<T>(&self, account: &Account, of: impl FnOnce(&mut View) -> T) -> T {
        of(self.views.lock().entry(account.clone()).or_default())
    }

    /// Reads a count where that is still wanted once it is our turn.
    async fn look(&self, account: &Account, wanted: impl Fn(&View) -> bool) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        if self.with(account, |view| wanted(view)) {
            let loaded = self.read(account).await?;
            self.with(account, |view| view.take(loaded.value.unwrap_or_default()));
        }
        Ok(())
    }

    async fn read(&self, account: &Account) -> Result<Loaded<Charged>, StoreError> {
        let key = account.record_key();
        let record = self.store.read(std::slice::from_ref(&key)).await?.pop().flatten();
        Loaded::decode(key, record)
    }

    /// Writes what changed since it was last written. What certainly was not written waits.
    async fn write(&self, now: Timestamp) {
        let _turn = self.turn.lock().await;
        let changed: Vec<(Account, BTreeMap<i64, i64>)> = {
            let views = self.views.lock();
            let changed = views.iter().filter(|(_, view)| !view.changes.is_empty());
            changed.map(|(account, view)| (account.clone(), view.changes.clone())).collect()
        };
        for portion in changed.chunks(WRITTEN_AT_ONCE) {
            join_all(portion.iter().map(async |(account, changes)| {
                let written = self.write_one(account, changes, now).await;
                self.with(account, |view| match written {
                    Ok(stored) => {
                        view.take(stored);
                        view.settle(changes, |_| true);
                    }
                    // Perhaps they were written: then what was added is counted twice, for a day, and
                    // what was taken off not taken off again.
                    Err(StoreError::Unacknowledged) => view.settle(changes, |change| change < 0),
                    Err(StoreError::Unavailable | StoreError::NoSpace | StoreError::Changed) => {}
                    Err(StoreError::Corrupt) => view.settle(changes, |_| true),
                });
            }))
            .await;
        }
    }

    async fn write_one(
        &self,
        account: &Account,
        changes: &BTreeMap<i64, i64>,
        now: Timestamp,
    ) -> Result<Charged, StoreError> {
        for _ in 0..MAX_ROUNDS {
            let mut loaded = self.read(account).await?;
            let charged = loaded.value.get_or_insert_default();
            charged.add(changes, now);
            let stored = charged.clone();
            let Some(write) = loaded.change(|charged| charged.times(now))? else { return Ok(stored) };
            let batch = Batch {
                expect: vec![loaded.expectation()],
                writes: vec![write],
                durability: Durability::Applied,
                purpose: Purpose::Finish,
            };
            if self.store.commit(batch).await?.is_applied() {
                return Ok(stored);
            }
        }
        Err(StoreError::Unavailable)
    }
}

impl View {
    fn take(&mut self, stored: Charged) {
        self.stored = stored;
        self.read_at = Some(Instant::now());
    }
}

/// Seconds until some of it ends.
fn wait(view: &View, now: Timestamp) -> u32 {
    let first = view.present(now).by_hour.keys().next().copied();
    let end = first.map_or(now, end_of);
    u32::try_from(end.since(now).as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}

/// Whether a count is readable; `None` for a record of another use.
pub fn is_readable(key: &RecordKey, bytes: &[u8]) -> Option<bool> {
    (key.name() == NAME).then(|| crate::records::codec::decode::<Charged>(bytes).is_ok())
}

#[cfg(test)]
mod tests;
