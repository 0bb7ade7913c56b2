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
//! The directory may be on a network file system, which can stall for minutes. So nobody but a thread
//! of its own touches files once the keys are open: what is in memory is answered at once, everything
//! else within two seconds, and each hour's key is made an hour ahead.

mod errand;
mod file;
mod files;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use self::errand::{Errand, Errands, Found, PATIENCE};
use self::files::Files;
use self::table::{Table, end_of, hour_of, whole_hour_after};
use super::directory::{DirectoryError, PrivateDirectory, replace_file_through};
use super::{Notice, Notify};
use crate::crypto::aead::{SealError, SealingKey};
use crate::crypto::random;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::id::KeyId;
use crate::records::{BoxFuture, StoreError};
use crate::token::{AtHand, LONGEST_LIFE, PerishableKeys};

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
    /// The directory does not answer.
    #[error("epoch_directory does not answer within {} s", PATIENCE.as_secs())]
    Late,
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

impl From<random::RandomUnavailable> for EpochError {
    fn from(error: random::RandomUnavailable) -> Self {
        Self::Seal(SealError::Random(error))
    }
}

impl From<EpochError> for StoreError {
    /// Nothing was sealed or opened, and nothing was changed.
    fn from(_: EpochError) -> Self {
        Self::Unavailable
    }
}

/// The epoch keys of one directory. Several processes may share it: each then seals under keys of its
/// own, opens under everybody's, and forgets what any of them has destroyed.
pub struct EpochKeys {
    directory: PrivateDirectory,
    table: Arc<Table>,
    errands: Errands,
    notify: Notify,
    /// Whether it was told that the directory cannot be used.
    told: Mutex<bool>,
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
        Ok(Self { directory, table, errands, notify: Arc::new(|_| {}), told: Mutex::new(false) })
    }

    /// Tells of a directory that cannot be used.
    #[must_use]
    pub fn telling(mut self, notify: Notify) -> Self {
        self.notify = notify;
        self
    }

    /// Which shared store these keys belong to, where that was noted: the key of its tags. Blocks.
    ///
    /// # Errors
    /// When the note cannot be read, or is not one.
    pub fn store_mark(&self) -> Result<Option<[u8; 32]>, EpochError> {
        let file = self.directory.path().join(STORE_MARK);
        match fs::read(&file) {
            Ok(mark) => mark.try_into().map(Some).map_err(|_| EpochError::Corrupt { file }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DirectoryError::at(&file)(error).into()),
        }
    }

    /// Notes which shared store these keys belong to. Blocks.
    ///
    /// # Errors
    /// When the note cannot be put on stable storage, or there is no randomness.
    pub fn mark_store(&self, tag_key: &[u8; 32]) -> Result<(), EpochError> {
        let path = self.directory.path();
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
        match self.at_hand(id) {
            AtHand::Key(key) => Ok(Some(key)),
            AtHand::Destroyed => Ok(None),
            AtHand::Elsewhere => match self.errands.run(Errand::Find(id.clone())).await? {
                Found::Key(key) => Ok(Some(key)),
                Found::Nothing | Found::Destroyed(_) => Ok(None),
            },
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
        let hour = hour_of(self.table.clock.now());
        for hour in [hour, hour.saturating_add(1)] {
            let until = end_of(hour).plus(LONGEST_LIFE);
            if !self.table.has(hour, until) {
                self.errands.begin(Errand::Fit { hour, until });
            }
        }
        let trouble = self.errands.trouble();
        let mut told = self.told.lock();
        if *told == trouble.is_some() {
            return;
        }
        *told = trouble.is_some();
        (self.notify)(trouble.map_or(Notice::EpochsUsable, |cause| Notice::EpochsUnusable { cause }));
    }
}

impl PerishableKeys for EpochKeys {
    fn current(&self, expires_at: Timestamp) -> BoxFuture<'_, Result<(KeyId, Arc<SealingKey>), StoreError>> {
        Box::pin(async move { Ok(self.current_key(expires_at).await?) })
    }

    fn at_hand(&self, id: &KeyId) -> AtHand {
        match self.table.epochs.lock().get(id) {
            Some(epoch) => AtHand::Key(Arc::clone(&epoch.key)),
            None if self.table.is_shared => AtHand::Elsewhere,
            None => AtHand::Destroyed,
        }
    }

    fn find<'a>(&'a self, id: &'a KeyId) -> BoxFuture<'a, Result<Option<Arc<SealingKey>>, StoreError>> {
        Box::pin(async move { Ok(self.find_key(id).await?) })
    }

    fn prepare(&self) {
        self.make_ahead();
    }

    fn refresh(&self) {
        if self.table.is_shared {
            self.errands.begin(Errand::Look);
        }
    }

    fn over(&self) -> BoxFuture<'_, Vec<KeyId>> {
        Box::pin(self.epochs())
    }

    fn destroy_unneeded(&self, unneeded: BTreeSet<KeyId>) -> BoxFuture<'_, ()> {
        // A key that cannot be destroyed now is tried again by the next scan.
        Box::pin(async move { drop(self.destroy_due(unneeded).await) })
    }
}

#[cfg(test)]
mod tests;
