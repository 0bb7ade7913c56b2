//! The embedded engine: records in this process's own directory, on fjall. One thread writes, with
//! one sync for all who wait; everyone reads.
//!
//! Reads happen on the caller's thread: they are answered from memory but for what was not read for
//! long, and then cost one disk read, less than handing them to another thread would.
//!
//! A [`RecordStore::commit`] that is dropped before it answers may still be applied: the writer does
//! not know that nobody listens.

mod closed;
mod copy;
mod disk;
mod encoding;
mod expired;
mod low_water_mark;
mod group;
pub(super) mod store_directory;
mod identity;
mod journal;
mod open_database;
mod queue;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::{Either, ready};
use parking_lot::RwLock;
use smallvec::SmallVec;
use tokio::sync::{oneshot, watch};

pub use self::closed::{ClosedStore, StoredRecord};
pub use self::store_directory::OpenError;

use self::disk::{Disk, SystemDisk};
use self::encoding::StoreKey;
use self::group::{Prepared, Slots, may_use_last_space};
use self::identity::Opening;
use self::open_database::{Attempt, FEW_KEYS, OpenDatabase};
use self::queue::Queue;
use self::store_directory::StoreDirectory;
use self::writer::{Request, Writer};
use super::backup::{Backup, BackupError, Copied};
use super::{Notify, Settings, Synced};
use crate::domain::clock::{Clock, Timestamp};
use crate::records::{
    Batch, BoxFuture, Committed, Found, Identity, Kind, Reading, Record, RecordKey, RecordStore, StoreError,
};

/// A write that takes longer is a disk that hangs. Nobody waits longer for an answer, and nothing
/// new is taken in.
const HANGING: Duration = Duration::from_secs(10);

/// Expired records deleted in one group: few, because a commit that comes along waits for them.
const SWEPT_AT_ONCE: usize = 128;

/// A store in a directory of this process. Dropping it writes what waits and closes it.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    identity: Identity,
    writer: Option<JoinHandle<()>>,
    /// The store's own directory and that of the epoch keys: no copy goes there.
    kept: [PathBuf; 2],
    /// [`HANGING`], or less where a test cannot wait that long.
    patience: Duration,
}

/// What callers and the writer share.
struct Shared {
    queue: Queue<Request>,
    /// The database; `None` while it is closed.
    live: RwLock<Option<Arc<OpenDatabase>>>,
    short_of_space: AtomicBool,
    clock: Arc<dyn Clock>,
}

impl EmbeddedStore {
    /// Opens the store in `settings.directory`, or makes one there, and starts its writer. Blocks
    /// for as long as recovery takes.
    ///
    /// # Errors
    /// When another process has it open, a newer program wrote it, it is damaged, or the operating
    /// system refuses: see [`OpenError`], which names the file and what to do.
    pub fn open(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        notify: Notify,
        synced: Synced,
    ) -> Result<Self, OpenError> {
        Self::open_on(Box::new(SystemDisk { synced }), settings, clock, notify)
    }

    fn open_on(
        disk: Box<dyn Disk>,
        settings: &Settings,
        clock: Arc<dyn Clock>,
        notify: Notify,
    ) -> Result<Self, OpenError> {
        let directory = StoreDirectory::take(&settings.directory)?;
        let (live, identity, revisions) =
            writer::open(&directory, settings.cache_bytes, Opening::ByProcess, &notify)?;
        let shared = Arc::new(Shared {
            queue: Queue::new(settings.queue_bound, settings.gather_window),
            live: RwLock::new(Some(Arc::new(live))),
            short_of_space: AtomicBool::new(false),
            clock,
        });
        let mut writer = Writer {
            shared: shared.clone(),
            directory,
            disk,
            revisions,
            slots: Slots::default(),
            min_free_bytes: settings.min_free_bytes,
            cache_bytes: settings.cache_bytes,
            notify,
            space_looked_at: None,
        };
        // Before the first commit, not a second after it.
        writer.look_at_space();
        let thread = std::thread::Builder::new().name("store-writer".into());
        let writer = thread.spawn(move || writer.run()).map_err(OpenError::Thread)?;
        let kept = [settings.directory.clone(), settings.epoch_directory.clone()];
        Ok(Self { shared, identity, writer: Some(writer), kept, patience: HANGING })
    }

    fn live(&self) -> Result<Arc<OpenDatabase>, StoreError> {
        self.shared.live.read().clone().ok_or(StoreError::Unavailable)
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        if !self.shared.queue.push(request(answer)) {
            return Err(StoreError::Unavailable);
        }
        // No answer at all: the writer died over it, or the disk hangs.
        match tokio::time::timeout(self.patience, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(StoreError::Unacknowledged),
        }
    }

    /// Whether the store takes requests at all.
    fn serves(&self) -> Result<(), StoreError> {
        if self.live()?.writing_for() >= self.patience { Err(StoreError::Unavailable) } else { Ok(()) }
    }

    fn attempt(&self, keys: &[StoreKey]) -> Result<Attempt, StoreError> {
        self.live()?.read(keys, self.shared.clock.earliest())
    }

    /// Reads once the group that the first attempt met is written. The database is not held while waiting:
    /// a failed one must be free to go.
    async fn read_after(
        &self,
        keys: SmallVec<[StoreKey; FEW_KEYS]>,
        mut finished: watch::Receiver<u64>,
        mut group: u64,
    ) -> Found {
        loop {
            let over = finished.wait_for(|number| *number >= group);
            match tokio::time::timeout(self.patience, over).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return Err(StoreError::Unavailable),
            }
            match self.attempt(&keys)? {
                Attempt::Done(records) => return Ok(records),
                Attempt::Again { finished: next, group: number } => (finished, group) = (next, number),
            }
        }
    }

    /// Reads that walk the database, on a thread where blocking is fine.
    async fn walk<T: Send + 'static>(
        &self,
        walk: impl FnOnce(&OpenDatabase, Timestamp) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let live = self.live()?;
        let now = self.shared.clock.earliest();
        let walked = tokio::task::spawn_blocking(move || walk(&live, now));
        walked.await.unwrap_or(Err(StoreError::Unavailable))
    }
}

impl RecordStore for EmbeddedStore {
    fn engine(&self) -> &'static str {
        "embedded"
    }

    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    fn read<'a>(&'a self, keys: &'a [RecordKey]) -> Reading<'a> {
        let keys: SmallVec<[StoreKey; FEW_KEYS]> = match keys.iter().map(encode).collect() {
            Ok(keys) => keys,
            Err(error) => return Either::Left(ready(Err(error))),
        };
        match self.attempt(&keys) {
            Ok(Attempt::Done(records)) => Either::Left(ready(Ok(records))),
            Ok(Attempt::Again { finished, group }) => {
                Either::Right(Box::pin(self.read_after(keys, finished, group)))
            }
            Err(error) => Either::Left(ready(Err(error))),
        }
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, StoreError>> {
        Box::pin(async move {
            self.serves()?;
            if self.shared.short_of_space.load(Ordering::Relaxed) && !may_use_last_space(&batch) {
                return Err(StoreError::NoSpace);
            }
            let batch = Prepared::of(batch).ok_or(StoreError::Unavailable)?;
            self.ask(|answer| Request::Commit { batch, answer }).await
        })
    }

    fn due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Timestamp, RecordKey)>, StoreError>> {
        Box::pin(self.walk(move |live, _| {
            let entries = live.entries_due(now, limit)?;
            Ok(entries.into_iter().map(|entry| (entry.at, entry.key.into_record_key())).collect())
        }))
    }

    fn scan<'a>(
        &'a self,
        kind: Kind,
        after: Option<&'a RecordKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(RecordKey, Record)>, StoreError>> {
        Box::pin(async move {
            let after = after.map(encode).transpose()?;
            self.walk(move |live, now| live.scan(kind, after, limit, now)).await
        })
    }

    fn sweep(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move {
            let mut candidates = self.walk(move |live, _| Ok(live.expired(now, limit))).await?;
            let mut swept = 0;
            while !candidates.is_empty() {
                let rest = candidates.split_off(candidates.len().min(SWEPT_AT_ONCE));
                let portion = std::mem::replace(&mut candidates, rest);
                swept += self.ask(|answer| Request::Sweep { candidates: portion, now, answer }).await?;
            }
            Ok(swept)
        })
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    fn joins_partitions(&self) -> bool {
        true
    }

    fn health(&self) -> Result<(), StoreError> {
        self.serves()?;
        if self.shared.short_of_space.load(Ordering::Relaxed) { Err(StoreError::NoSpace) } else { Ok(()) }
    }
}

impl Backup for EmbeddedStore {
    fn copy_to(&self, directory: &Path, going_on: &dyn Fn() -> bool) -> Result<Copied, BackupError> {
        let live = self.live()?;
        let [store, epochs] = &self.kept;
        let going_on = || {
            // A database that failed must be free to go: nobody may hold it for long.
            self.live()?;
            going_on().then_some(()).ok_or(BackupError::Interrupted)
        };
        copy::copy(&live, directory, &[store, epochs], &going_on)
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has closed the store already.
            drop(writer.join());
        }
    }
}

/// A key out of bounds is a mistake of the caller; nothing was changed.
fn encode(key: &RecordKey) -> Result<StoreKey, StoreError> {
    StoreKey::of(key).ok_or(StoreError::Unavailable)
}
