//! Storage engines: where records live, and the keys that must die apart from them.
//!
//! [`embedded`] keeps records in this process's own directory, [`RedisStore`] in servers that several
//! replicas share; `epoch` keeps the hourly keys of
//! what a token may not outlive, in a directory or servers of their own, so that neither a store's files
//! nor their backups can open it once the key is gone. Stages know [`crate::records::RecordStore`];
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
mod notice;
mod redis;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::directory::DirectoryError;
use self::embedded::EmbeddedStore;
use self::epoch::{EpochError, EpochKeys};
pub use self::notice::{Notice, Notify};
use self::redis::IdentityError;
pub(crate) use self::redis::{Answering, VolatileError, VolatileServer};
pub use self::redis::{
    NodeAddress, OpenError as RedisOpenError, RedisStore, Said, Settings as RedisSettings, probe,
    probe_volatile,
};
use crate::crypto::random::RandomUnavailable;
use crate::crypto::rings::KeyRings;
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
        /// Where epoch keys live.
        epochs: EpochPlace,
    },
}

/// Where the epoch keys of replicas that share a store live.
#[derive(Clone)]
pub enum EpochPlace {
    /// One directory for all of them, outside Redis and its backups.
    Directory(PathBuf),
    /// Servers of their own, which keep nothing on disk.
    Servers(Box<RedisSettings>),
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

    /// Where epoch keys live, if it is a directory.
    pub fn epoch_directory(&self) -> Option<&Path> {
        match self {
            Self::Embedded(settings) => Some(&settings.epoch_directory),
            Self::Redis { epochs: EpochPlace::Directory(directory), .. } => Some(directory),
            Self::Redis { epochs: EpochPlace::Servers(_), .. } => None,
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
        "this is another store than the one that the epoch keys belong to: point `store.nodes` at that one, or \
         remove the file STORE from epoch_directory, of epoch_nodes the key countersign:epoch:store"
    )]
    AnotherStore,
    /// There are no records, and nobody says whether there were any.
    #[error("the store is empty, and whether one was lost cannot be told: {why}")]
    NothingKnown {
        /// Why the servers of the epoch keys do not say it.
        why: String,
    },
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

/// Opens the records and the epoch keys of any engine. `rings` wrap keys that servers hold.
///
/// # Errors
/// When either does not open; see [`OpenError`].
pub async fn open_engine(
    engine: Engine,
    clock: Arc<KeptClock>,
    notify: Notify,
    synced: Synced,
    rings: &Arc<KeyRings>,
) -> Result<Opened, OpenError> {
    match engine {
        Engine::Embedded(settings) => blocking(move || open(&settings, clock, notify, synced)).await,
        Engine::Redis { settings, epochs: EpochPlace::Directory(directory) } => {
            open_beside_directory(settings, directory, clock, notify).await
        }
        Engine::Redis { settings, epochs: EpochPlace::Servers(servers) } => {
            open_beside_servers(settings, &servers, rings, clock, notify).await
        }
    }
}

async fn open_beside_directory(
    mut settings: RedisSettings,
    directory: PathBuf,
    clock: Arc<KeptClock>,
    notify: Notify,
) -> Result<Opened, OpenError> {
    let (keys_clock, keys_notify) = (clock.clone(), notify.clone());
    let (mut epochs, known) = blocking(move || {
        let epochs = EpochKeys::open_shared(&directory, keys_clock)?.telling(keys_notify);
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

async fn open_beside_servers(
    mut settings: RedisSettings,
    servers: &RedisSettings,
    rings: &Arc<KeyRings>,
    clock: Arc<KeptClock>,
    notify: Notify,
) -> Result<Opened, OpenError> {
    let epochs = EpochKeys::open_servers(servers, Arc::clone(rings), clock.clone(), notify.clone()).await?;
    let known = epochs.servers_store();
    settings.known_tag_key = known.tag_key;
    settings.may_begin = known.unknown.is_none();
    let opened = RedisStore::open(settings, clock, notify).await;
    let store = Arc::new(opened.map_err(|error| match (error, known.unknown) {
        (RedisOpenError::Identity(IdentityError::Gone), Some(why)) => OpenError::NothingKnown { why },
        (error, _) => error.into(),
    })?);
    let tag_key = store.identity().tag_key;
    if known.tag_key.is_some_and(|known| known != tag_key) {
        return Err(OpenError::AnotherStore);
    }
    let serves = Arc::downgrade(&store);
    let served_by = move || serves.upgrade().map(|store| store.served_by()).unwrap_or_default();
    epochs.belong_to(tag_key, served_by).await;
    Ok(Opened { records: store.clone(), backup: None, epochs, limits: Some(store) })
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
