//! The one writer: a thread that decides what waits and writes it as one group.
//!
//! A thread that takes what waits, decides it in order, writes it as one group with one sync, and
//! answers. Apart because it alone changes the store.
//!
//! When a write or sync fails nobody can say what is on the disk. The writer then closes the store
//! to everyone, throws the database away, opens it again from what recovery finds, and only then
//! lets anyone in.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Shared;
use super::disk::Disk;
use super::encoding::StoreKey;
use super::group::{Group, Prepared, Revisions, Slots};
use super::identity::{Opening, remember};
use super::journal;
use super::open_database::OpenDatabase;
use super::queue::Taken;
use super::store_directory::{OpenError, StoreDirectory};
use super::tables;
use crate::domain::clock::Timestamp;
use crate::records::{Committed, Identity, StoreError};
use crate::storage::{Notice, Notify};

/// How often free space is looked at.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);
/// Between attempts to reopen a store that failed; doubles from the first to the second.
const REOPEN_PAUSE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

/// What the writer is asked for.
#[allow(clippy::large_enum_variant, reason = "nearly all are commits: a box for each would be memory more")]
pub(super) enum Request {
    Commit { batch: Prepared, answer: Answer<Committed> },
    Sweep { candidates: Vec<StoreKey>, now: Timestamp, answer: Answer<usize> },
}

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// An answer that is ready but for the sync.
enum Decided {
    Commit(Answer<Committed>, Result<Committed, StoreError>),
    Sweep(Answer<usize>, Result<usize, StoreError>),
}

/// The writer's own things.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) directory: StoreDirectory,
    pub(super) disk: Box<dyn Disk>,
    pub(super) revisions: Revisions,
    pub(super) slots: Slots,
    pub(super) min_free_bytes: u64,
    pub(super) cache_bytes: u64,
    pub(super) notify: Notify,
    pub(super) space_looked_at: Option<Instant>,
}

/// Opens what is in the store's directory, mending what a crash left, and counts the opening.
pub(super) fn open(
    directory: &StoreDirectory,
    cache_bytes: u64,
    opening: Opening,
    notify: &Notify,
) -> Result<(OpenDatabase, Identity, Revisions), OpenError> {
    let live = recover(directory, cache_bytes, opening, &**notify)?;
    let (identity, revisions) = remember(&live, &directory.data(), opening)?;
    directory.mark()?;
    Ok((live, identity, revisions))
}

/// Opens the database, mending what a crash left.
pub(super) fn recover(
    directory: &StoreDirectory,
    cache_bytes: u64,
    opening: Opening,
    notify: &(dyn Fn(Notice) + Send + Sync),
) -> Result<OpenDatabase, OpenError> {
    let data = directory.data();
    let complete = directory.is_marked();
    // After a failure of this process they have been looked through already.
    if complete && opening == Opening::ByProcess {
        tables::verify(&data)?;
    }
    if let Some(bytes) = journal::mend(&data)? {
        notify(Notice::TornWriteDropped { bytes });
    }
    if opening == Opening::AfterFailure {
        journal::rewrite(&data)?;
    }
    OpenDatabase::open(&data, cache_bytes, complete)
}

impl Writer {
    /// Runs until the queue is closed and drained.
    pub(super) fn run(mut self) {
        // Whatever ends this thread, a panic of the database included, ends the store.
        let _closing = Closing { shared: self.shared.clone(), notify: self.notify.clone() };
        loop {
            self.look_at_space();
            let Taken::Some(requests) = self.shared.queue.take(SPACE_INTERVAL) else { return };
            if requests.is_empty() {
                continue;
            }
            let Some(live) = self.shared.live.read().clone() else { return };
            if let Err(cause) = self.write(&live, requests) {
                (self.notify)(Notice::Closed { cause: format!("{cause:?}") });
                // Who already waits is refused now rather than after recovery.
                if !self.pause(Duration::ZERO) || !self.recover(live) {
                    return;
                }
            }
        }
    }

    /// Decides, writes and answers a group. An error is one of writing: the answers are given, the
    /// database is no longer to be used.
    fn write(&mut self, live: &OpenDatabase, requests: Vec<Request>) -> fjall::Result<()> {
        let mut group = Group::new(live, self.shared.clock.earliest(), &mut self.revisions, &mut self.slots);
        let decided: Vec<Decided> = requests
            .into_iter()
            .map(|request| match request {
                Request::Commit { batch, answer } => Decided::Commit(answer, group.consider(batch)),
                Request::Sweep { candidates, now, answer } => {
                    Decided::Sweep(answer, group.sweep(&candidates, now))
                }
            })
            .collect();
        let written = match group.finish() {
            None => Ok(()),
            Some(plan) => {
                live.begin(&plan.records);
                let written = self.disk.commit(plan.batch);
                if written.is_ok() {
                    live.end(plan.records);
                } else {
                    // Before anyone hears of it: whoever asks next must be refused.
                    *self.shared.live.write() = None;
                }
                written
            }
        };
        // A conflict may rest on a batch of this very group, so that it too waits for the sync.
        decided.into_iter().for_each(|decided| decided.answer(written.is_ok()));
        written
    }

    /// Throws the failed database away and opens it again, for as long as it takes. `false` when
    /// the store is to be closed instead.
    fn recover(&mut self, failed: Arc<OpenDatabase>) -> bool {
        let began = Instant::now();
        // Readers under way hold it for the length of a read.
        let mut failed = Some(failed);
        while let Some(live) = failed.take() {
            failed = Arc::try_unwrap(live).err();
            if failed.is_some() && !self.pause(Duration::from_millis(1)) {
                return false;
            }
        }
        let [mut pause, longest] = REOPEN_PAUSE;
        loop {
            match open(&self.directory, self.cache_bytes, Opening::AfterFailure, &self.notify) {
                Ok((live, _, revisions)) => {
                    self.revisions = revisions;
                    *self.shared.live.write() = Some(Arc::new(live));
                    (self.notify)(Notice::Reopened { after: began.elapsed() });
                    return true;
                }
                Err(error) => (self.notify)(Notice::NotReopened { cause: error.to_string() }),
            }
            if !self.pause(pause) {
                return false;
            }
            pause = longest.min(pause * 2);
        }
    }

    /// Waits, refusing what arrives; `false` when the queue was closed meanwhile.
    fn pause(&mut self, duration: Duration) -> bool {
        let until = Instant::now() + duration;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.shared.queue.take(left) {
                Taken::Closed => return false,
                Taken::Some(requests) => requests.into_iter().for_each(Request::refuse),
            }
            if left.is_zero() {
                return true;
            }
        }
    }

    pub(super) fn look_at_space(&mut self) {
        if self.space_looked_at.is_some_and(|at| at.elapsed() < SPACE_INTERVAL) {
            return;
        }
        self.space_looked_at = Some(Instant::now());
        // When the system cannot tell, what it said last stands.
        let Ok(free) = self.disk.free_bytes(self.directory.path()) else { return };
        let short = free < self.min_free_bytes;
        if self.shared.short_of_space.swap(short, Ordering::Relaxed) != short {
            (self.notify)(if short { Notice::SpaceShort { free } } else { Notice::SpaceBack { free } });
        }
    }
}

impl Request {
    /// Nothing was changed: the store is closed.
    fn refuse(self) {
        match self {
            Self::Commit { answer, .. } => send(answer, Err(StoreError::Unavailable)),
            Self::Sweep { answer, .. } => send(answer, Err(StoreError::Unavailable)),
        }
    }
}

impl Decided {
    /// Answers, now that it is known whether the group was written.
    fn answer(self, written: bool) {
        match self {
            Self::Commit(answer, decision) if written => send(answer, decision),
            Self::Sweep(answer, swept) if written => send(answer, swept),
            // What was not to be written anyway changed nothing.
            Self::Commit(answer, Ok(Committed::Conflict)) => send(answer, Err(StoreError::Unavailable)),
            Self::Commit(answer, decision) => {
                send(answer, decision.and(Err(StoreError::Unacknowledged)));
            }
            Self::Sweep(answer, swept) => send(answer, swept.and(Err(StoreError::Unacknowledged))),
        }
    }
}

/// Answers. Who no longer listens has given up waiting; what was decided stands all the same.
fn send<T>(answer: Answer<T>, what: Result<T, StoreError>) {
    let _nobody_listens = answer.send(what);
}

/// Closes the store when the writer ends.
struct Closing {
    shared: Arc<Shared>,
    notify: Notify,
}

impl Drop for Closing {
    fn drop(&mut self) {
        let live = self.shared.live.write().take();
        self.shared.queue.close();
        while let Taken::Some(requests) = self.shared.queue.take(Duration::ZERO) {
            requests.into_iter().for_each(Request::refuse);
        }
        drop(live);
        if std::thread::panicking() {
            (self.notify)(Notice::Closed { cause: "the writer failed; restart the program".into() });
        }
    }
}
