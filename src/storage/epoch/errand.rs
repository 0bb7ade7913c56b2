//! The thread that does what is to be done with epoch keys where they are kept, one errand at a time.
//!
//! A file system or a server that does not answer holds it up, and nobody else for longer than [`PATIENCE`].

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use super::EpochError;
use crate::crypto::aead::SealingKey;
use crate::domain::clock::Timestamp;
use crate::domain::id::KeyId;

/// How long anybody waits for an errand, counted from when it was first asked for: who asks while the
/// directory stalls is not kept waiting.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// Errands under way or waiting. Equal ones are one, so that only a stall makes many.
pub(super) const MOST: usize = 256;

/// What the thread is sent for. What it finds or makes is in the table of keys before anybody hears of
/// it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Errand {
    /// The key of an hour, made if need be, fit for values that expire by `until`.
    Fit {
        /// Hours since the Unix epoch.
        hour: i64,
        /// When the last value expires.
        until: Timestamp,
    },
    /// A key that another process made.
    Find(KeyId),
    /// What other processes have made and destroyed.
    Look,
    /// How the servers stand that hold the keys.
    Watch,
    /// The end of keys that are due.
    Destroy,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Fit,
    Look,
    Destroy,
}

impl Errand {
    /// `None` where a failure says nothing of the directory: a key may not be seen there yet.
    const fn kind(&self) -> Option<Kind> {
        match self {
            Self::Fit { .. } => Some(Kind::Fit),
            Self::Find(_) | Self::Watch => None,
            Self::Look => Some(Kind::Look),
            Self::Destroy => Some(Kind::Destroy),
        }
    }
}

/// What an errand led to.
#[derive(Clone)]
pub(super) enum Found {
    /// Nothing, or what is now in the table.
    Nothing,
    /// The key asked for.
    Key(Arc<SealingKey>),
    /// These keys are no more.
    Destroyed(Vec<KeyId>),
}

type ErrandResult = Result<Found, Arc<EpochError>>;

#[derive(Clone)]
struct Waiting {
    since: Instant,
    outcome: watch::Receiver<Option<ErrandResult>>,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<Errand, Waiting>,
    /// Why the last errand of a kind failed.
    failures: BTreeMap<Kind, Arc<EpochError>>,
}

struct Task {
    errand: Errand,
    outcome: watch::Sender<Option<ErrandResult>>,
}

/// A handle on the thread, which ends with it: at once, or when the file system lets go of it.
pub(super) struct Errands {
    queue: Sender<Task>,
    state: Arc<Mutex<State>>,
}

impl Errands {
    /// Starts the thread.
    pub(super) fn start(
        work: impl Fn(&Errand) -> Result<Found, EpochError> + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, tasks) = channel();
        let state = Arc::<Mutex<State>>::default();
        let theirs = Arc::downgrade(&state);
        let thread = std::thread::Builder::new().name("epoch-keys".to_owned());
        thread.spawn(move || run_errands(&tasks, &theirs, work))?;
        Ok(Self { queue, state })
    }

    /// Has it done, without waiting for it.
    pub(super) fn begin(&self, errand: Errand) {
        let _waiting = self.join(errand);
    }

    /// Has it done; whoever asks for the same meanwhile waits for the same.
    ///
    /// # Errors
    /// As the errand fails; [`EpochError::Late`] when nothing is known in time.
    pub(super) async fn run(&self, errand: Errand) -> Result<Found, EpochError> {
        let Waiting { since, mut outcome } = self.join(errand).ok_or(EpochError::Late)?;
        let done = timeout(PATIENCE.saturating_sub(since.elapsed()), outcome.wait_for(Option::is_some));
        match done.await {
            Ok(Ok(outcome)) => match &*outcome {
                Some(Ok(found)) => Ok(found.clone()),
                Some(Err(error)) => Err(EpochError::Failed(Arc::clone(error))),
                None => Err(EpochError::Late),
            },
            Ok(Err(_)) | Err(_) => Err(EpochError::Late),
        }
    }

    fn join(&self, errand: Errand) -> Option<Waiting> {
        let mut state = self.state.lock();
        if let Some(waiting) = state.waiting.get(&errand) {
            return Some(waiting.clone());
        }
        if state.waiting.len() >= MOST {
            return None;
        }
        let (outcome, receiver) = watch::channel(None);
        self.queue.send(Task { errand: errand.clone(), outcome }).ok()?;
        let waiting = Waiting { since: Instant::now(), outcome: receiver };
        state.waiting.insert(errand, waiting.clone());
        Some(waiting)
    }

    /// How many are under way or waiting.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Why something of this sort was not done.
    pub(super) fn failure_of(&self, is_meant: impl Fn(&EpochError) -> bool) -> Option<String> {
        let state = self.state.lock();
        state.failures.values().find(|error| is_meant(error)).map(ToString::to_string)
    }

    /// Why the directory cannot be used now, if it cannot.
    pub(super) fn trouble(&self) -> Option<String> {
        let state = self.state.lock();
        let is_late = state.waiting.values().any(|waiting| waiting.since.elapsed() >= PATIENCE);
        let failure = || state.failures.values().next().map(ToString::to_string);
        if is_late { Some(EpochError::Late.to_string()) } else { failure() }
    }
}

fn run_errands(
    tasks: &Receiver<Task>,
    state: &Weak<Mutex<State>>,
    work: impl Fn(&Errand) -> Result<Found, EpochError>,
) {
    for Task { errand, outcome } in tasks {
        // Whoever had the directory has let go of it: what is left in the queue is not done.
        if state.strong_count() == 0 {
            return;
        }
        let done = work(&errand).map_err(Arc::new);
        let Some(state) = state.upgrade() else { return };
        {
            let mut state = state.lock();
            state.waiting.remove(&errand);
            if let Some(kind) = errand.kind() {
                state.failures.remove(&kind);
                state.failures.extend(done.as_ref().err().map(|error| (kind, Arc::clone(error))));
            }
        }
        let _ = outcome.send(Some(done));
    }
}
