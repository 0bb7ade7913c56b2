//! Epoch keys: what a token must not outlive (the CVC, a cryptogram, 3-D Secure values) is sealed
//! under the key of the hour it came in. The keys live outside the store and its backups, so that
//! destroying one deletes everything sealed under it, wherever copies of the records went.
//!
//! A key dies once its hour is over and either no live record holds a value sealed under it (the
//! background sweep looks, and asks [`EpochKeys::destroy_due`]) or every such value has expired.
//! Both survive a crash: the records are in the store, and the latest expiry is in the key's file
//! before [`EpochKeys::seal_perishable`] answers. Counting values instead would lose count.

mod file;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use zeroize::Zeroizing;

use super::directory::{DirectoryError, PrivateDirectory, replace_file_through};
use crate::crypto::aead::{SealError, Sealed, SealingKey};
use crate::crypto::random;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::id::KeyId;
use crate::domain::secret::SecretBytes;

/// Names the store that the keys belong to.
const STORE_MARK: &str = "STORE";
const HOUR: Duration = Duration::from_secs(3600);
/// How long after its hour a key is left alone: a value sealed in the hour's last moment may still
/// be on its way into its record, where a scan does not see it yet.
const GRACE: Duration = Duration::from_secs(300);

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
    /// The hour of the key is not over yet.
    #[error("the epoch {0} is not over yet")]
    NotOver(KeyId),
    /// The cipher.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl From<random::RandomUnavailable> for EpochError {
    fn from(error: random::RandomUnavailable) -> Self {
        Self::Seal(SealError::Random(error))
    }
}

struct Epoch {
    /// Hours since the Unix epoch.
    hour: i64,
    key: Arc<SealingKey>,
    /// Nothing sealed under the key expires later.
    until: Timestamp,
    /// Whether this process seals under it.
    ours: bool,
}

impl Epoch {
    fn is_over(&self, now: Timestamp) -> bool {
        now >= start_of(self.hour.saturating_add(1)).plus(GRACE)
    }
}

/// The epoch keys of one directory. Several processes may share it: each then seals under keys of its
/// own, opens under everybody's, and forgets what any of them has destroyed.
pub struct EpochKeys {
    directory: PrivateDirectory,
    is_shared: bool,
    clock: Arc<dyn Clock>,
    epochs: RwLock<BTreeMap<KeyId, Epoch>>,
}

impl EpochKeys {
    /// Takes the directory and reads the keys in it; finishes what a crash left half destroyed.
    ///
    /// # Errors
    /// When the directory is held by another process, or a file in it is not a whole key.
    pub fn open(directory: &Path, clock: Arc<dyn Clock>) -> Result<Self, EpochError> {
        let directory = PrivateDirectory::take(directory)?;
        let mut epochs = BTreeMap::new();
        let path = directory.path();
        for entry in fs::read_dir(path).map_err(DirectoryError::at(path))? {
            let file = entry.map_err(DirectoryError::at(path))?.path();
            match file.extension().and_then(|extension| extension.to_str()) {
                // Never used: a key seals only once it has its final name.
                Some("new") => file::erase(&file).map_err(DirectoryError::at(&file))?,
                Some("key") => {
                    if let Some((id, epoch)) = file::read(&file)? {
                        epochs.insert(id, epoch);
                    } else {
                        file::erase(&file).map_err(DirectoryError::at(&file))?;
                    }
                }
                _ => {}
            }
        }
        Ok(Self { directory, is_shared: false, clock, epochs: RwLock::new(epochs) })
    }

    /// As [`Self::open`], for a directory that replicas of the gateway share.
    ///
    /// # Errors
    /// When a file in it is not a whole key.
    pub fn open_shared(directory: &Path, clock: Arc<dyn Clock>) -> Result<Self, EpochError> {
        let directory = PrivateDirectory::share(directory)?;
        let keys = Self { directory, is_shared: true, clock, epochs: RwLock::default() };
        keys.look_again()?;
        Ok(keys)
    }

    /// Which shared store these keys belong to, where that was noted: the key of its tags.
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

    /// Notes which shared store these keys belong to.
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

    /// Reads what other processes have made, forgets what they have destroyed, and erases what they
    /// left unfinished.
    fn look_again(&self) -> Result<(), EpochError> {
        let path = self.directory.path();
        let now = self.clock.earliest();
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(path).map_err(DirectoryError::at(path))? {
            let file = entry.map_err(DirectoryError::at(path))?.path();
            match file.extension().and_then(|extension| extension.to_str()) {
                // Somebody may be writing it right now.
                Some("new") if is_older_than(&file, HOUR, now) => {
                    file::erase(&file).map_err(DirectoryError::at(&file))?;
                }
                Some("key") => match file::read(&file) {
                    Ok(Some((id, epoch))) => drop(found.insert(id, epoch)),
                    Ok(None) => file::erase(&file).map_err(DirectoryError::at(&file))?,
                    Err(EpochError::Directory(error)) if error.is_absence() => {}
                    // Somebody is destroying it right now.
                    Err(EpochError::Corrupt { .. }) => {}
                    Err(error) => return Err(error),
                },
                _ => {}
            }
        }
        let mut epochs = self.epochs.write();
        for (id, epoch) in &mut found {
            let known = epochs.get(id);
            epoch.ours = known.is_some_and(|known| known.ours);
            epoch.until = known.map_or(epoch.until, |known| known.until.max(epoch.until));
        }
        // One of ours may have been made since the directory was listed.
        let made: Vec<KeyId> = epochs
            .iter()
            .filter(|(id, epoch)| epoch.ours && !epoch.is_over(now) && !found.contains_key(*id))
            .map(|(id, _)| id.clone())
            .collect();
        for id in made {
            if let Some(epoch) = epochs.remove(&id) {
                found.insert(id, epoch);
            }
        }
        *epochs = found;
        Ok(())
    }

    /// Seals `plaintext` for the record named by `associated` under the key of the current hour.
    /// The value is of no use after `expires_at`, nor is it promised to open after that.
    ///
    /// Waits for the disk when it is the first of its hour, or expires in a later hour than
    /// everything before it.
    ///
    /// # Errors
    /// When a new key or a later expiry cannot be put on stable storage, or there is no randomness.
    pub fn seal_perishable(
        &self,
        associated: &[u8],
        plaintext: &[u8],
        expires_at: Timestamp,
    ) -> Result<Sealed, EpochError> {
        let (id, key) = self.current(whole_hour_after(expires_at))?;
        Ok(Sealed { key: id, bytes: key.seal(associated, plaintext)?.into() })
    }

    /// Opens what [`Self::seal_perishable`] sealed for the same `associated`.
    ///
    /// # Errors
    /// [`SealError::UnknownKey`] once the key was destroyed, [`SealError::DoesNotOpen`] when the
    /// value or its record's name was changed.
    pub fn open_perishable(&self, associated: &[u8], sealed: &Sealed) -> Result<SecretBytes, SealError> {
        let known = self.epochs.read().get(&sealed.key).map(|epoch| epoch.key.clone());
        let key = match known {
            None if self.is_shared => self.of_another(&sealed.key)?,
            known => known.ok_or(SealError::UnknownKey)?,
        };
        key.open(associated, &sealed.bytes)
    }

    /// A key that another process made. That it is gone is believed only once its hour is over: a
    /// directory that cannot be read, or does not show it yet, is no reason to do without it.
    fn of_another(&self, id: &KeyId) -> Result<Arc<SealingKey>, SealError> {
        match file::read(&self.file(id)) {
            Ok(Some((id, epoch))) => {
                let epoch = Epoch { ours: false, ..epoch };
                let key = epoch.key.clone();
                self.epochs.write().entry(id).or_insert(epoch);
                Ok(key)
            }
            Ok(None) => Err(SealError::UnknownKey),
            Err(EpochError::Directory(error)) if error.is_absence() && self.hour_is_over(id) => {
                Err(SealError::UnknownKey)
            }
            Err(_) => Err(SealError::DoesNotOpen),
        }
    }

    fn hour_is_over(&self, id: &KeyId) -> bool {
        let hour = file::hour_of_id(id).unwrap_or(i64::MIN);
        self.clock.earliest() >= start_of(hour.saturating_add(1)).plus(GRACE)
    }

    /// The keys whose hour is over (by five minutes, for values on their way into a record): those
    /// to look for in live records before [`Self::destroy_due`].
    pub fn epochs(&self) -> Vec<KeyId> {
        let now = self.clock.earliest();
        if self.is_shared {
            // What cannot be read now is read next time; until then nothing new is destroyed.
            let _ = self.look_again();
        }
        let epochs = self.epochs.read();
        epochs.iter().filter(|(_, epoch)| epoch.is_over(now)).map(|(id, _)| id.clone()).collect()
    }

    /// Destroys every key whose hour is over and that either nothing live holds a value of, as
    /// `in_use` says of the keys that [`Self::epochs`] named, or whose last value has expired at
    /// `now`. Answers which.
    ///
    /// # Errors
    /// When a key's file cannot be destroyed; it is then tried again next time.
    pub fn destroy_due(
        &self,
        now: Timestamp,
        in_use: impl Fn(&KeyId) -> bool,
    ) -> Result<Vec<KeyId>, EpochError> {
        if self.is_shared {
            self.look_again()?;
        }
        let due: Vec<KeyId> = {
            let epochs = self.epochs.read();
            let over = epochs.iter().filter(|(_, epoch)| epoch.is_over(now));
            over.filter(|(id, epoch)| now >= epoch.until || !in_use(id)).map(|(id, _)| id.clone()).collect()
        };
        due.iter().try_for_each(|id| self.destroy(id))?;
        Ok(due)
    }

    /// Destroys a key: overwrites its file, removes it, and forgets it. Fine when it is gone.
    ///
    /// A file system or disk that writes elsewhere than in place may keep the old bytes for a
    /// while; nothing that a program can ask of it changes that.
    ///
    /// # Errors
    /// [`EpochError::NotOver`] while its hour lasts.
    pub fn destroy(&self, id: &KeyId) -> Result<(), EpochError> {
        let mut epochs = self.epochs.write();
        let Some(epoch) = epochs.get(id) else { return Ok(()) };
        if !epoch.is_over(self.clock.earliest()) {
            return Err(EpochError::NotOver(id.clone()));
        }
        let file = self.file(id);
        file::erase(&file).map_err(DirectoryError::at(&file))?;
        epochs.remove(id);
        Ok(())
    }

    /// The current hour's key, made if need be, fit for values that expire by `until`.
    fn current(&self, until: Timestamp) -> Result<(KeyId, Arc<SealingKey>), EpochError> {
        let hour = hour_of(self.clock.now());
        let of_this_hour = |(_, epoch): &(&KeyId, &Epoch)| epoch.ours && epoch.hour == hour;
        if let Some((id, epoch)) = self.epochs.read().iter().find(of_this_hour)
            && epoch.until >= until
        {
            return Ok((id.clone(), epoch.key.clone()));
        }
        let mut epochs = self.epochs.write();
        if let Some((id, epoch)) = epochs.iter_mut().find(|(_, epoch)| epoch.ours && epoch.hour == hour) {
            if epoch.until < until {
                let file = self.file(id);
                file::extend(&file, until).map_err(DirectoryError::at(&file))?;
                epoch.until = until;
            }
            return Ok((id.clone(), epoch.key.clone()));
        }
        let (id, epoch) = self.create(hour, until)?;
        let key = epoch.key.clone();
        epochs.insert(id.clone(), epoch);
        Ok((id, key))
    }

    fn create(&self, hour: i64, until: Timestamp) -> Result<(KeyId, Epoch), EpochError> {
        // Random too: should the clock step back into an hour whose key is gone, no id means two keys.
        let name = format!("e{hour}-{}", random::base62(8)?);
        let id = KeyId::parse(&name).ok_or(SealError::UnknownKey)?;
        let secret = Zeroizing::new(random::bytes::<{ file::KEY_BYTES }>()?);
        let key = SealingKey::new(&*secret).ok_or(SealError::UnknownKey)?;
        let path = self.file(&id);
        file::create(&path, &secret, until).map_err(DirectoryError::at(&path))?;
        Ok((id, Epoch { hour, key: Arc::new(key), until, ours: true }))
    }

    fn file(&self, id: &KeyId) -> PathBuf {
        self.directory.path().join(format!("{id}.key"))
    }
}

fn is_older_than(file: &Path, age: Duration, now: Timestamp) -> bool {
    let modified = fs::metadata(file).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| now.since(Timestamp::of_system(at)) > age)
}

fn hour_of(instant: Timestamp) -> i64 {
    instant.unix_seconds().div_euclid(3600)
}

fn start_of(hour: i64) -> Timestamp {
    Timestamp::from_unix_seconds(hour.saturating_mul(3600))
}

/// Rounded up so that one write serves most values of an hour.
fn whole_hour_after(instant: Timestamp) -> Timestamp {
    start_of(hour_of(instant.plus(HOUR.saturating_sub(Duration::from_millis(1)))))
}

#[cfg(test)]
mod tests;
