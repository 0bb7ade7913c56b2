//! Storage engines: where records live, and the keys that must die apart from them.
//!
//! [`embedded`] keeps records in this process's own directory, [`RedisStore`] in servers that several
//! replicas share; `epoch` keeps the hourly keys of
//! what a token may not outlive, in a directory of their own, so that neither a store's files nor
//! their backups can open it once the key is gone. Stages know [`crate::records::RecordStore`];
//! only the composition root names an engine.

#[cfg(test)]
#[macro_use]
mod contract;
#[cfg(test)]
#[macro_use]
mod model;
pub mod backup;
pub mod directory;
pub mod embedded;
pub mod epoch;
pub mod measured;
mod redis;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::directory::DirectoryError;
use self::embedded::EmbeddedStore;
use self::epoch::{EpochError, EpochKeys};
pub use self::redis::{
    NodeAddress, OpenError as RedisOpenError, RedisStore, Said, Settings as RedisSettings, probe,
};
use crate::crypto::random::RandomUnavailable;
use crate::domain::clock::{Clock, KeptClock};
use crate::limit::shared::SharedLimits;
use crate::records::RecordStore;

/// How records are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The store's own directory; made (mode 0700) when absent. One process opens it at a time.
    pub directory: PathBuf,
    /// Where epoch keys live: outside `directory` and outside what backs it up.
    pub epoch_directory: PathBuf,
    /// Below this many free bytes on the store's file system nothing new is admitted; what is under
    /// way is still finished. 512 MiB is room for the largest journal and a compaction of it.
    pub min_free_bytes: u64,
    /// The longest a commit waits for others to share its sync, and only while others keep
    /// arriving; zero never waits. A sync costs about 60 µs of CPU however many records share it.
    pub gather_window: Duration,
    /// Commits that may wait for the writer; one more is refused as unavailable. 4096 is half a
    /// second of a slow disk.
    pub queue_bound: usize,
    /// Memory for blocks read from disk, in bytes.
    pub cache_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("data/store"),
            epoch_directory: PathBuf::from("data/epochs"),
            min_free_bytes: 512 << 20,
            gather_window: Duration::from_millis(2),
            queue_bound: 4096,
            cache_bytes: 16 << 20,
        }
    }
}

/// Which engine keeps the records.
#[derive(Clone)]
pub enum Engine {
    /// This process, in a directory of its own.
    Embedded(Settings),
    /// Redis, for several replicas of the gateway.
    Redis {
        /// How it is reached.
        settings: RedisSettings,
        /// Where epoch keys live: one directory for all replicas, outside Redis and its backups.
        epoch_directory: PathBuf,
    },
}

impl Engine {
    /// By when a commit that was asked for is done, or never will be.
    pub const fn commits_within(&self) -> Duration {
        match self {
            Self::Embedded(_) => Duration::from_secs(1),
            // One that waits for its turn has begun by then, and one that has begun ends by then.
            Self::Redis { settings, .. } => settings.call_timeout.saturating_mul(2),
        }
    }

    /// Where epoch keys live.
    pub fn epoch_directory(&self) -> &Path {
        match self {
            Self::Embedded(settings) => &settings.epoch_directory,
            Self::Redis { epoch_directory, .. } => epoch_directory,
        }
    }
}

/// What opening gives: the records, and the keys that live apart from them.
pub struct Opened {
    /// The records.
    pub records: Arc<dyn RecordStore>,
    /// Copies them, where the engine can.
    pub backup: Option<Arc<dyn backup::Backup>>,
    /// The epoch keys.
    pub epochs: EpochKeys,
    /// Rates that hold for everybody who uses them, where several do.
    pub limits: Option<Arc<dyn SharedLimits>>,
}

/// Storage could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The records.
    #[error("the store does not open: {0}")]
    Records(#[from] embedded::OpenError),
    /// The records in Redis.
    #[error("the store does not open: {0}")]
    Redis(#[from] RedisOpenError),
    /// The records are not those that the epoch keys belong to.
    #[error(
        "this is another store than the one that epoch_directory belongs to: point `store.nodes` at that one, \
         or remove the file STORE from epoch_directory"
    )]
    AnotherStore,
    /// The epoch keys.
    #[error("the epoch keys do not open: {0}")]
    Epochs(#[from] EpochError),
    /// The keys would be where the records are.
    #[error(
        "epoch_directory {} lies inside the store's directory {}: put it elsewhere, outside its backups",
        epochs.display(),
        records.display()
    )]
    EpochsInsideStore {
        /// The store's directory.
        records: PathBuf,
        /// The keys' directory.
        epochs: PathBuf,
    },
}

/// Opens the records and the epoch keys of any engine.
///
/// # Errors
/// When either does not open; see [`OpenError`].
pub async fn open_engine(
    engine: Engine,
    clock: Arc<KeptClock>,
    notify: Notify,
    synced: Synced,
) -> Result<Opened, OpenError> {
    match engine {
        Engine::Embedded(settings) => blocking(move || open(&settings, clock, notify, synced)).await,
        Engine::Redis { mut settings, epoch_directory } => {
            let (keys_clock, keys_notify) = (clock.clone(), notify.clone());
            let (mut epochs, known) = blocking(move || {
                let epochs = EpochKeys::open_shared(&epoch_directory, keys_clock)?.telling(keys_notify);
                let known = epochs.store_mark()?;
                Ok((epochs, known))
            })
            .await?;
            settings.known_tag_key = known;
            let store = Arc::new(RedisStore::open(settings, clock, notify).await?);
            let tag_key = store.identity().tag_key;
            match known {
                None => {
                    epochs = blocking(move || {
                        epochs.mark_store(&tag_key)?;
                        Ok(epochs)
                    })
                    .await?;
                }
                Some(known) if known == tag_key => {}
                Some(_) => return Err(OpenError::AnotherStore),
            }
            Ok(Opened { records: store.clone(), backup: None, epochs, limits: Some(store) })
        }
    }
}

/// Opens on a thread that may block.
async fn blocking<T: Send + 'static>(
    open: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let opening = tokio::task::spawn_blocking(open);
    opening.await.unwrap_or_else(|_| Err(EpochError::from(RandomUnavailable).into()))
}

/// Opens the embedded records and the epoch keys; blocks for as long as recovery takes. Dropping the records
/// closes the store, also with the disk's help: do it where blocking is fine.
///
/// # Errors
/// When either does not open, or the keys' directory lies within the store's.
pub fn open(
    settings: &Settings,
    clock: Arc<dyn Clock>,
    notify: Notify,
    synced: Synced,
) -> Result<Opened, OpenError> {
    let records = EmbeddedStore::open(settings, clock.clone(), notify.clone(), synced)?;
    let epochs = EpochKeys::open(&settings.epoch_directory, clock.clone())?.telling(notify);
    // Compared once both exist, links followed.
    let whole = |path: &PathBuf| fs::canonicalize(path).map_err(DirectoryError::at(path));
    let (store, keys) = (
        whole(&settings.directory).map_err(EpochError::from)?,
        whole(&settings.epoch_directory).map_err(EpochError::from)?,
    );
    if keys.starts_with(&store) {
        return Err(OpenError::EpochsInsideStore { records: store, epochs: keys });
    }
    let records = Arc::new(records);
    Ok(Opened { backup: Some(records.clone()), records, epochs, limits: None })
}

/// Something an operator should know of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A write or sync failed; money does not move until the store is open again.
    Closed {
        /// What the disk said.
        cause: String,
    },
    /// It did not open yet; it is tried again.
    NotReopened {
        /// Why.
        cause: String,
    },
    /// It is open again, recovered.
    Reopened {
        /// How long it was closed.
        after: Duration,
    },
    /// A crash had cut a write short, which nobody was told of as done; it was dropped.
    TornWriteDropped {
        /// Its length.
        bytes: u64,
    },
    /// Free space fell below the floor: nothing new is admitted.
    SpaceShort {
        /// What is left, in bytes.
        free: u64,
    },
    /// Free space is above the floor again.
    SpaceBack {
        /// What there is, in bytes.
        free: u64,
    },
    /// A shared store's server does not answer; money routes refuse.
    Unreachable,
    /// Every server of the shared store answers again.
    ReachableAgain,
    /// Another process serves a part of the shared store: its last writes may be lost.
    PrimaryChanged,
    /// The shared store is not the one it was: no money moves until an operator accepts it.
    Changed,
    /// An operator has accepted it.
    Accepted,
    /// The directory of the epoch keys does not answer or refuses: from the end of the next hour on no
    /// security code can be sealed.
    EpochsUnusable {
        /// What it said.
        cause: String,
    },
    /// It can be used again.
    EpochsUsable,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { cause } => write!(f, "the store was closed: {cause}"),
            Self::NotReopened { cause } => write!(f, "the store is still closed: {cause}"),
            Self::Reopened { after } => write!(f, "the store is open again after {} ms", after.as_millis()),
            Self::TornWriteDropped { bytes } => {
                write!(f, "a write cut short by a crash was dropped ({bytes} bytes, never acknowledged)")
            }
            Self::SpaceShort { free } => write!(f, "{free} bytes free: nothing new is admitted"),
            Self::SpaceBack { free } => write!(f, "{free} bytes free: the store admits again"),
            Self::Unreachable => f.write_str("a server of the store does not answer"),
            Self::ReachableAgain => f.write_str("every server of the store answers again"),
            Self::PrimaryChanged => f.write_str("another process serves a part of the store"),
            Self::Changed => f.write_str("the store is not the one it was"),
            Self::Accepted => f.write_str("the store was accepted as it is"),
            Self::EpochsUnusable { cause } => write!(f, "the epoch keys' directory cannot be used: {cause}"),
            Self::EpochsUsable => f.write_str("the epoch keys' directory can be used again"),
        }
    }
}

/// Who is told. Called from the thread that opens and from the writer, so it must not block.
pub type Notify = Arc<dyn Fn(Notice) + Send + Sync>;

/// Hears how long each write of the embedded engine took, its sync included: one write holds every
/// batch that waited for it.
pub type Synced = Arc<dyn Fn(Duration) + Send + Sync>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::SystemClock;

    #[test]
    fn epoch_keys_open_beside_the_store_but_not_within_it() {
        let root = tempfile::tempdir().unwrap();
        let open_with = |epochs: &str| {
            let settings = Settings {
                directory: root.path().join("store"),
                epoch_directory: root.path().join(epochs),
                ..Settings::default()
            };
            open(&settings, Arc::new(SystemClock), Arc::new(|_| {}), Arc::new(|_| {}))
        };
        assert_eq!(open_with("epochs").unwrap().records.engine(), "embedded");
        let inside = open_with("store/epochs");
        assert!(matches!(inside, Err(OpenError::EpochsInsideStore { .. })));
    }
}
