//! What is done with the directory of epoch keys. All of it may block for as long as a file system
//! can: at the start, and then only the thread of [`super::errand`] calls it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::errand::{Errand, Found};
use super::table::{Epoch, GRACE, HOUR, Table, end_of};
use super::{EpochError, file};
use crate::crypto::aead::{SealError, SealingKey};
use crate::crypto::random;
use crate::domain::clock::Timestamp;
use crate::domain::id::KeyId;
use crate::storage::directory::DirectoryError;

/// The files of the keys in a table.
pub(super) struct Files {
    path: PathBuf,
    table: Arc<Table>,
}

impl Files {
    pub(super) const fn new(path: PathBuf, table: Arc<Table>) -> Self {
        Self { path, table }
    }

    /// Does one thing.
    pub(super) fn run(&self, errand: &Errand) -> Result<Found, EpochError> {
        match errand {
            Errand::Fit { hour, until } => self.fit(*hour, *until).map(|()| Found::Nothing),
            Errand::Find(id) => self.find(id),
            Errand::Look | Errand::Watch => self.look_again().map(|()| Found::Nothing),
            Errand::Destroy => self.destroy_due().map(Found::Destroyed),
        }
    }

    /// Reads a directory that is this process's alone.
    pub(super) fn read_all(&self) -> Result<(), EpochError> {
        let mut found = BTreeMap::new();
        for file in self.list()? {
            match extension_of(&file) {
                // Never used: a key seals only once it has its final name.
                "new" => file::erase(&file).map_err(DirectoryError::at(&file))?,
                "key" => {
                    if let Some((id, epoch)) = file::read(&file)? {
                        found.insert(id, epoch);
                    } else {
                        file::erase(&file).map_err(DirectoryError::at(&file))?;
                    }
                }
                _ => {}
            }
        }
        *self.table.epochs.lock() = found;
        Ok(())
    }

    /// Reads what other processes have made, forgets what they have destroyed, and erases what they
    /// left unfinished.
    pub(super) fn look_again(&self) -> Result<(), EpochError> {
        let now = self.table.clock.earliest();
        let mut found = BTreeMap::new();
        for file in self.list()? {
            match extension_of(&file) {
                // Somebody may be writing it right now.
                "new" if is_older_than(&file, HOUR, now) => {
                    file::erase(&file).map_err(DirectoryError::at(&file))?;
                }
                "key" => match file::read(&file) {
                    Ok(Some((id, epoch))) => drop(found.insert(id, Epoch { ours: false, ..epoch })),
                    Ok(None) => file::erase(&file).map_err(DirectoryError::at(&file))?,
                    Err(EpochError::Directory(error)) if error.is_absence() => {}
                    // Somebody is destroying it right now.
                    Err(EpochError::Corrupt { .. }) => {}
                    Err(error) => return Err(error),
                },
                _ => {}
            }
        }
        let mut epochs = self.table.epochs.lock();
        let known = std::mem::take(&mut *epochs);
        // Of ours nobody knows more than we do; and a directory may be slow to show what was just made.
        let ours = known
            .into_iter()
            .filter(|(id, epoch)| epoch.ours && (found.contains_key(id) || !epoch.is_over(now)));
        let ours: Vec<(KeyId, Epoch)> = ours.collect();
        found.extend(ours);
        *epochs = found;
        Ok(())
    }

    /// The key of an hour, made if need be, fit for values that expire by `until`.
    fn fit(&self, hour: i64, until: Timestamp) -> Result<(), EpochError> {
        let known = {
            let epochs = self.table.epochs.lock();
            let mut ours = epochs.iter().filter(|(_, epoch)| epoch.ours && epoch.hour == hour);
            ours.next().map(|(id, epoch)| (id.clone(), epoch.until))
        };
        match known {
            Some((_, known)) if known >= until => {}
            Some((id, _)) => {
                self.note_until(&id, until)?;
                if let Some(epoch) = self.table.epochs.lock().get_mut(&id) {
                    epoch.until = until;
                }
            }
            None => {
                let (id, epoch) = self.create(hour, until)?;
                self.table.epochs.lock().insert(id, epoch);
            }
        }
        Ok(())
    }

    fn create(&self, hour: i64, until: Timestamp) -> Result<(KeyId, Epoch), EpochError> {
        // Random too: should the clock step back into an hour whose key is gone, no id means two keys.
        let name = format!("e{hour}-{}", random::base62(8)?);
        let id = KeyId::parse(&name).ok_or(SealError::UnknownKey)?;
        let secret = Zeroizing::new(random::bytes::<{ file::KEY_BYTES }>()?);
        let key = SealingKey::new(&*secret).ok_or(SealError::UnknownKey)?;
        let path = self.file(&id);
        file::create(&path, &secret, until).map_err(DirectoryError::at(&path))?;
        let used = Timestamp::from_unix_millis(i64::MIN);
        Ok((id, Epoch { hour, key: Arc::new(key), until, used, ours: true }))
    }

    /// A key that another process made. That it is gone is believed only once its hour is over: a
    /// directory that cannot be read, or does not show it yet, is no reason to do without it.
    fn find(&self, id: &KeyId) -> Result<Found, EpochError> {
        match file::read(&self.file(id)) {
            Ok(Some((id, epoch))) => {
                let key = Arc::clone(&epoch.key);
                self.table.epochs.lock().entry(id).or_insert(Epoch { ours: false, ..epoch });
                Ok(Found::Key(key))
            }
            Ok(None) => Ok(Found::Nothing),
            Err(EpochError::Directory(error)) if error.is_absence() && self.hour_is_over(id) => {
                Ok(Found::Nothing)
            }
            Err(error) => Err(error),
        }
    }

    fn hour_is_over(&self, id: &KeyId) -> bool {
        let hour = file::hour_of_id(id).unwrap_or(i64::MIN);
        self.table.clock.earliest() >= end_of(hour).plus(GRACE)
    }

    fn destroy_due(&self) -> Result<Vec<KeyId>, EpochError> {
        if self.table.is_shared {
            self.look_again()?;
        }
        self.note_what_was_used()?;
        let due = self.table.due();
        for id in &due {
            let file = self.file(id);
            file::erase(&file).map_err(DirectoryError::at(&file))?;
            self.table.epochs.lock().remove(id);
        }
        Ok(due)
    }

    /// A key made ahead is fit for the longest life there is. Once its hour is over it need not outlive
    /// what was sealed under it, here or at any process that reads its file.
    fn note_what_was_used(&self) -> Result<(), EpochError> {
        let now = self.table.clock.earliest();
        let mut shorter = Vec::new();
        for (id, epoch) in self.table.epochs.lock().iter_mut() {
            if epoch.ours && epoch.is_over(now) && epoch.used < epoch.until {
                // From here on nothing is sealed under it without a later note first.
                epoch.until = epoch.used;
                shorter.push((id.clone(), epoch.used));
            }
        }
        shorter.iter().try_for_each(|(id, used)| self.note_until(id, *used))
    }

    fn note_until(&self, id: &KeyId, until: Timestamp) -> Result<(), EpochError> {
        let file = self.file(id);
        Ok(file::note_until(&file, until).map_err(DirectoryError::at(&file))?)
    }

    fn list(&self) -> Result<Vec<PathBuf>, EpochError> {
        let names = fs::read_dir(&self.path).map_err(DirectoryError::at(&self.path))?;
        let paths = names.map(|entry| entry.map(|entry| entry.path()));
        Ok(paths.collect::<Result<_, _>>().map_err(DirectoryError::at(&self.path))?)
    }

    fn file(&self, id: &KeyId) -> PathBuf {
        self.path.join(format!("{id}.key"))
    }
}

fn extension_of(file: &Path) -> &str {
    file.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

fn is_older_than(file: &Path, age: Duration, now: Timestamp) -> bool {
    let modified = fs::metadata(file).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| now.since(Timestamp::of_system(at)) > age)
}
