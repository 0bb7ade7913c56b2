//! Epoch keys: what a token must not outlive is sealed under the key of its hour.
//!
//! What a token must not outlive (the CVC, a cryptogram, 3-D Secure values) is sealed under the key of
//! the hour it came in. The keys live outside the store and its backups, so that destroying one deletes
//! everything sealed under it, wherever copies of the records went.
//!
//! A key dies once its hour is over and either no live record holds a value sealed under it (the
//! background sweep looks, and asks [`EpochKeys::destroy_due`]) or every such value has expired.
//! Both survive a crash: the records are in the store, and an instant by which everything sealed has
//! expired is in the key's file before [`EpochKeys::current_key`] answers. Counting values instead
//! would lose count.
//!
//! They are kept in a directory, which may be on a network file system and stall for minutes, or in
//! servers that keep nothing on disk. So nobody but a thread of its own touches files or asks
//! servers once the keys are open: what is in memory is answered at once, everything else within two
//! seconds, and each hour's key is made an hour ahead.

mod errand;
mod file;
mod files;
mod node;
mod nodes;
mod perishable;
mod standing;
mod table;
mod wrapped;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use self::errand::{Errand, Errands, Found, PATIENCE};
use self::files::Files;
use self::node::{Common, StoreOfKeys};
use self::nodes::Nodes;
use self::standing::Standings;
use self::table::{Table, end_of, hour_of, whole_hour_after};
use self::wrapped::Wraps;
use super::directory::{DirectoryError, PrivateDirectory, replace_file_through};
use super::{Notice, Notify, RedisSettings};
use crate::crypto::aead::{SealError, SealingKey};
use crate::crypto::random;
use crate::crypto::rings::KeyRings;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::id::KeyId;
use crate::token::LONGEST_LIFE;

/// Names the store that the keys belong to.
const STORE_MARK: &str = "STORE";
/// An epoch key could not be made, used or destroyed.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    /// The directory or a file in it.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A key file is not one of ours, or not whole.
    #[error(
        "{} is not an epoch key: restore it, or move it away and lose what was sealed under it",
        file.display()
    )]
    Corrupt {
        /// The file.
        file: PathBuf,
    },
    /// The directory or the servers do not answer.
    #[error("what keeps hourly keys does not answer within {} s", PATIENCE.as_secs())]
    Late,
    /// A server does not answer, or may not be used.
    #[error("{0}")]
    Node(Arc<str>),
    /// What several waited for.
    #[error(transparent)]
    Failed(Arc<EpochError>),
    /// The thread that reads and writes the files does not start.
    #[error("the thread of the epoch keys does not start: {0}")]
    Thread(std::io::Error),
    /// The cipher.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl EpochError {
    /// Whether it is told with how a server stands.
    fn is_of_a_server(&self) -> bool {
        match self {
            Self::Node(_) | Self::Late => true,
            Self::Failed(error) => error.is_of_a_server(),
            Self::Directory(_) | Self::Corrupt { .. } | Self::Thread(_) | Self::Seal(_) => false,
        }
    }
}

impl From<random::RandomUnavailable> for EpochError {
    fn from(error: random::RandomUnavailable) -> Self {
        Self::Seal(SealError::Random(error))
    }
}

/// The store that servers of epoch keys were used with before.
pub struct KnownStore {
    /// The key of its tags, where one of them says it.
    pub tag_key: Option<[u8; 32]>,
    /// Why it cannot be told whether there was one.
    pub unknown: Option<String>,
}

/// Where epoch keys are kept.
enum Place {
    Directory(PrivateDirectory),
    Servers(Arc<Common>),
}

/// The epoch keys of one directory or of some servers. Several processes may share them: each then seals
/// under keys of its own, or of servers under those of all, opens under everybody's, and forgets what any
/// of them has destroyed.
pub struct EpochKeys {
    place: Place,
    table: Arc<Table>,
    errands: Errands,
    notify: Notify,
    /// Why the place cannot be used, as it was told last.
    told: Mutex<Option<String>>,
}

impl EpochKeys {
    /// Takes the directory and reads the keys in it; finishes what a crash left half destroyed. Blocks
    /// for as long as the file system takes.
    ///
    /// # Errors
    /// When the directory is held by another process, or a file in it is not a whole key.
    pub fn open(directory: &Path, clock: Arc<dyn Clock>) -> Result<Self, EpochError> {
        Self::over(PrivateDirectory::take(directory)?, Table::new(clock, false), Files::read_all)
    }

    /// As [`Self::open`], for a directory that replicas of the gateway share.
    ///
    /// # Errors
    /// When a file in it is not a whole key.
    pub fn open_shared(directory: &Path, clock: Arc<dyn Clock>) -> Result<Self, EpochError> {
        Self::over(PrivateDirectory::share(directory)?, Table::new(clock, true), Files::look_again)
    }

    fn over(
        directory: PrivateDirectory,
        table: Arc<Table>,
        first: fn(&Files) -> Result<(), EpochError>,
    ) -> Result<Self, EpochError> {
        let files = Files::new(directory.path().to_owned(), Arc::clone(&table));
        first(&files)?;
        let errands = Errands::start(move |errand| files.run(errand)).map_err(EpochError::Thread)?;
        let place = Place::Directory(directory);
        Ok(Self { place, table, errands, notify: Arc::new(|_| {}), told: Mutex::default() })
    }

    /// The keys that these servers hold, wrapped under the sealing ring. Asks each of them what it is, and
    /// waits no longer for that than anybody would for a key: [`Self::outage`] says what came of it.
    ///
    /// # Errors
    /// When the thread that asks them does not start.
    pub async fn open_servers(
        servers: &RedisSettings,
        rings: Arc<KeyRings>,
        clock: Arc<dyn Clock>,
        notify: Notify,
    ) -> Result<Self, EpochError> {
        let standings = Arc::new(Standings::of_unknown(servers.nodes.len()));
        let table = Table::of_servers(clock, Arc::clone(&standings));
        let common = Arc::new(Common {
            table: Arc::clone(&table),
            standings,
            wraps: Wraps::under(rings),
            store: OnceLock::new(),
            marked: OnceLock::new(),
            notify: Arc::clone(&notify),
        });
        // Of the thread's own: it may wait, and nobody else does.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(EpochError::Thread)?;
        let nodes = Mutex::new(Nodes::of(servers, &common));
        let errands = Errands::start(move |errand| {
            let mut nodes = nodes.lock();
            runtime.block_on(nodes.serve(errand))
        });
        let errands = errands.map_err(EpochError::Thread)?;
        let place = Place::Servers(common);
        let keys = Self { place, table, errands, notify, told: Mutex::default() };
        // What is wrong with one of them is noted.
        let _ = keys.errands.run(Errand::Watch).await;
        Ok(keys)
    }

    /// Says which store the keys of servers belong to: the key of its tags, and which processes serve it
    /// now. None of those may hold keys. Has the servers asked with that in mind.
    pub async fn belong_to(
        &self,
        tag_key: [u8; 32],
        served_by: impl Fn() -> Vec<String> + Send + Sync + 'static,
    ) {
        let Place::Servers(common) = &self.place else { return };
        let _ = common.store.set(StoreOfKeys { tag_key, served_by: Box::new(served_by) });
        let _ = self.errands.run(Errand::Look).await;
    }

    /// The store that the servers were used with before.
    pub fn servers_store(&self) -> KnownStore {
        match &self.place {
            Place::Directory(_) => KnownStore { tag_key: None, unknown: None },
            Place::Servers(common) => {
                let tag_key = common.marked.get().copied();
                let troubles = common.standings.troubles().join("; ");
                KnownStore {
                    tag_key,
                    unknown: Some(troubles).filter(|why| tag_key.is_none() && !why.is_empty()),
                }
            }
        }
    }

    /// Why no security code can be sealed or opened now; nothing while one can. Of a directory that is
    /// not known before one is to be.
    pub fn outage(&self) -> Option<String> {
        match &self.place {
            Place::Directory(_) => None,
            Place::Servers(common) => common.standings.outage(),
        }
    }

    /// Tells of a directory that cannot be used.
    #[must_use]
    pub fn telling(mut self, notify: Notify) -> Self {
        self.notify = notify;
        self
    }

    /// Which shared store the keys of a directory belong to, where that was noted: the key of its tags. Blocks.
    ///
    /// # Errors
    /// When the note cannot be read, or is not one.
    pub fn store_mark(&self) -> Result<Option<[u8; 32]>, EpochError> {
        let Place::Directory(directory) = &self.place else { return Ok(None) };
        let file = directory.path().join(STORE_MARK);
        match fs::read(&file) {
            Ok(mark) => mark.try_into().map(Some).map_err(|_| EpochError::Corrupt { file }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DirectoryError::at(&file)(error).into()),
        }
    }

    /// Notes which shared store the keys of a directory belong to. Blocks.
    ///
    /// # Errors
    /// When the note cannot be put on stable storage, or there is no randomness.
    pub fn mark_store(&self, tag_key: &[u8; 32]) -> Result<(), EpochError> {
        let Place::Directory(directory) = &self.place else { return Ok(()) };
        let path = directory.path();
        // Replicas that start at once all write it.
        let unfinished = format!("{STORE_MARK}-{}.new", random::base62(8)?);
        replace_file_through(path, &unfinished, STORE_MARK, tag_key).map_err(DirectoryError::at(path))?;
        Ok(())
    }

    /// The key of the current hour, for a value that is of no use after `expires_at`, nor promised to
    /// open after that. It is on stable storage.
    ///
    /// Waits for the disk when it is not there yet, or was not made for values that live so long.
    ///
    /// # Errors
    /// When a new key or a later expiry cannot be put on stable storage, or there is no randomness.
    pub async fn current_key(&self, expires_at: Timestamp) -> Result<(KeyId, Arc<SealingKey>), EpochError> {
        let until = whole_hour_after(expires_at);
        loop {
            let hour = hour_of(self.table.clock.now());
            if let Some(found) = self.table.take(hour, until) {
                return Ok(found);
            }
            // The hour may be another afterwards.
            self.errands.run(Errand::Fit { hour, until }).await?;
        }
    }

    /// The key that a value was sealed under; `None` once it was destroyed. Waits for the disk when
    /// another process made it and it was not seen here before.
    ///
    /// # Errors
    /// When it cannot be told.
    pub async fn find_key(&self, id: &KeyId) -> Result<Option<Arc<SealingKey>>, EpochError> {
        if let Some(key) = self.table.known(id) {
            return Ok(Some(key));
        }
        if !self.table.is_shared {
            return Ok(None);
        }
        match self.errands.run(Errand::Find(id.clone())).await? {
            Found::Key(key) => Ok(Some(key)),
            Found::Nothing | Found::Destroyed(_) => Ok(None),
        }
    }

    /// The keys whose hour is over (by five minutes, for values on their way into a record): those
    /// to look for in live records before [`Self::destroy_due`].
    pub async fn epochs(&self) -> Vec<KeyId> {
        if self.table.is_shared {
            // What cannot be read now is read next time; until then nothing new is destroyed.
            let _ = self.errands.run(Errand::Look).await;
        }
        let now = self.table.clock.earliest();
        let epochs = self.table.epochs.lock();
        epochs.iter().filter(|(_, epoch)| epoch.is_over(now)).map(|(id, _)| id.clone()).collect()
    }

    /// Destroys every key whose hour is over and that either nothing live holds a value of, as
    /// `unneeded` says of the keys that [`Self::epochs`] named, or whose last value has expired.
    /// Answers which.
    ///
    /// A file system or disk that writes elsewhere than in place may keep the old bytes for a
    /// while; nothing that a program can ask of it changes that.
    ///
    /// # Errors
    /// When a key's file cannot be destroyed; it is then tried again next time.
    pub async fn destroy_due(&self, unneeded: BTreeSet<KeyId>) -> Result<Vec<KeyId>, EpochError> {
        *self.table.unneeded.lock() = unneeded;
        match self.errands.run(Errand::Destroy).await? {
            Found::Destroyed(keys) => Ok(keys),
            Found::Nothing | Found::Key(_) => Ok(Vec::new()),
        }
    }

    /// Has the keys of this hour and the next made, fit for whatever may be sealed, and tells when that
    /// does not go well. Waits for nothing.
    fn make_ahead(&self) {
        if let Place::Servers(_) = &self.place {
            self.errands.begin(Errand::Watch);
        }
        let hour = hour_of(self.table.clock.now());
        for hour in [hour, hour.saturating_add(1)] {
            let until = end_of(hour).plus(LONGEST_LIFE);
            if !self.table.has(hour, until) {
                self.errands.begin(Errand::Fit { hour, until });
            }
        }
        let trouble = match &self.place {
            Place::Directory(_) => self.errands.trouble(),
            Place::Servers(common) => {
                // What is wrong with a key, no server says.
                let troubles = common.standings.troubles();
                let of_servers = Some(troubles.join("; ")).filter(|all| !all.is_empty());
                of_servers.or_else(|| self.errands.failure_of(|error| !error.is_of_a_server()))
            }
        };
        let mut told = self.told.lock();
        let is_known = match &self.place {
            Place::Directory(_) => told.is_some() == trouble.is_some(),
            // Another server, or for another reason, is another trouble.
            Place::Servers(_) => *told == trouble,
        };
        if is_known {
            return;
        }
        told.clone_from(&trouble);
        (self.notify)(match (&self.place, trouble) {
            (Place::Directory(_), Some(cause)) => Notice::EpochsUnusable { cause },
            (Place::Directory(_), None) => Notice::EpochsUsable,
            (Place::Servers(_), Some(cause)) => Notice::EpochNodeUnusable { cause },
            (Place::Servers(_), None) => Notice::EpochNodesUsable,
        });
    }
}

#[cfg(test)]
mod tests;
