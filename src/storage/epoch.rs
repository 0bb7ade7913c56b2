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

use super::directory::{DirectoryError, PrivateDirectory};
use crate::crypto::aead::{SealError, Sealed, SealingKey};
use crate::crypto::random;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::id::KeyId;
use crate::domain::secret::SecretBytes;

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

    /// Reads what other processes have made, forgets what they have destroyed, and erases what they
    /// left unfinished.
    fn look_again(&self) -> Result<(), EpochError> {
        let path = self.directory.path();
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(path).map_err(DirectoryError::at(path))? {
            let file = entry.map_err(DirectoryError::at(path))?.path();
            match file.extension().and_then(|extension| extension.to_str()) {
                // Somebody may be writing it right now.
                Some("new") if is_older_than(&file, HOUR) => {
                    file::erase(&file).map_err(DirectoryError::at(&file))?;
                }
                Some("key") => match file::read(&file) {
                    Ok(Some((id, epoch))) => drop(found.insert(id, epoch)),
                    Ok(None) => file::erase(&file).map_err(DirectoryError::at(&file))?,
                    Err(EpochError::Directory(error)) if error.is_absence() => {}
                    Err(error) => return Err(error),
                },
                _ => {}
            }
        }
        let mut epochs = self.epochs.write();
        for (id, epoch) in &mut found {
            epoch.ours = epochs.get(id).is_some_and(|known| known.ours);
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
        Ok(Sealed { key: id, bytes: key.seal(associated, plaintext)? })
    }

    /// Opens what [`Self::seal_perishable`] sealed for the same `associated`.
    ///
    /// # Errors
    /// [`SealError::UnknownKey`] once the key was destroyed, [`SealError::DoesNotOpen`] when the
    /// value or its record's name was changed.
    pub fn open_perishable(&self, associated: &[u8], sealed: &Sealed) -> Result<SecretBytes, SealError> {
        let known = || self.epochs.read().get(&sealed.key).map(|epoch| epoch.key.clone());
        let mut key = known();
        if key.is_none() && self.is_shared && self.look_again().is_ok() {
            key = known();
        }
        key.ok_or(SealError::UnknownKey)?.open(associated, &sealed.bytes)
    }

    /// The keys whose hour is over (by five minutes, for values on their way into a record): those
    /// to look for in live records before [`Self::destroy_due`].
    pub fn epochs(&self) -> Vec<KeyId> {
        let now = self.clock.now();
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
        if !epoch.is_over(self.clock.now()) {
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

fn is_older_than(file: &Path, age: Duration) -> bool {
    let modified = fs::metadata(file).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|elapsed| elapsed > age))
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
mod tests {
    use std::fs::OpenOptions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::domain::clock::ManualClock;

    struct Fixture {
        directory: tempfile::TempDir,
        clock: Arc<ManualClock>,
    }

    impl Fixture {
        fn new() -> Self {
            let clock = ManualClock::new(Timestamp::from_unix_seconds(1_800_000_000));
            Self { directory: tempfile::tempdir().unwrap(), clock: Arc::new(clock) }
        }

        fn open(&self) -> EpochKeys {
            EpochKeys::open(self.directory.path(), self.clock.clone()).unwrap()
        }
        fn files(&self) -> Vec<PathBuf> {
            let entries = fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path());
            entries.filter(|path| path.file_name().unwrap() != "LOCK").collect()
        }
        fn in_hours(&self, hours: u32) -> Timestamp {
            self.clock.now().plus(HOUR * hours)
        }
    }

    #[test]
    fn a_value_opens_for_its_record_also_after_a_restart() {
        let fixture = Fixture::new();
        let sealed = fixture.open().seal_perishable(b"vt_1", b"123", fixture.in_hours(1)).unwrap();
        let keys = fixture.open();
        assert_eq!(keys.open_perishable(b"vt_1", &sealed).unwrap().expose(), b"123");
        assert_eq!(keys.open_perishable(b"vt_2", &sealed).err(), Some(SealError::DoesNotOpen));
        let again = keys.seal_perishable(b"vt_2", b"456", fixture.in_hours(1)).unwrap();
        assert_eq!(again.key, sealed.key, "one key an hour");
    }

    #[test]
    fn replicas_that_share_a_directory_open_what_any_of_them_sealed_and_forget_together() {
        let fixture = Fixture::new();
        let open = || EpochKeys::open_shared(fixture.directory.path(), fixture.clock.clone()).unwrap();
        let [one, other] = [(); 2].map(|()| open());
        let mine = one.seal_perishable(b"vt_1", b"123", fixture.in_hours(1)).unwrap();
        let theirs = other.seal_perishable(b"vt_2", b"456", fixture.in_hours(40)).unwrap();
        assert_ne!(mine.key, theirs.key, "each extends the life of its own keys only");
        assert_eq!(other.open_perishable(b"vt_1", &mine).unwrap().expose(), b"123");
        assert_eq!(one.open_perishable(b"vt_2", &theirs).unwrap().expose(), b"456");
        // A later expiry that only its owner knows of is read before anything is destroyed.
        other.seal_perishable(b"vt_3", b"789", fixture.in_hours(60)).unwrap();
        fixture.clock.advance(HOUR * 41);
        let destroyed = one.destroy_due(fixture.clock.now(), |key| *key == theirs.key).unwrap();
        assert_eq!(destroyed, vec![mine.key.clone()]);
        assert_eq!(other.epochs(), vec![theirs.key]);
        assert_eq!(other.open_perishable(b"vt_1", &mine).err(), Some(SealError::UnknownKey));
    }

    #[test]
    fn key_files_are_their_owners_alone_and_each_hour_has_its_own() {
        let fixture = Fixture::new();
        let keys = fixture.open();
        let first = keys.seal_perishable(b"a", b"1", fixture.in_hours(1)).unwrap();
        fixture.clock.advance(HOUR);
        let second = keys.seal_perishable(b"a", b"1", fixture.in_hours(1)).unwrap();
        assert_ne!(first.key, second.key);
        assert_eq!(fixture.files().len(), 2);
        for file in fixture.files() {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_key_dies_with_the_last_value_in_use_but_not_before_its_hour_is_over() {
        let fixture = Fixture::new();
        let keys = fixture.open();
        let sealed = keys.seal_perishable(b"a", b"1", fixture.in_hours(48)).unwrap();
        assert!(keys.destroy_due(fixture.clock.now(), |_| false).unwrap().is_empty());
        assert!(matches!(keys.destroy(&sealed.key), Err(EpochError::NotOver(_))));
        assert!(keys.epochs().is_empty());

        fixture.clock.advance(HOUR + GRACE);
        assert_eq!(keys.epochs(), vec![sealed.key.clone()]);
        assert!(keys.destroy_due(fixture.clock.now(), |_| true).unwrap().is_empty());
        assert!(keys.open_perishable(b"a", &sealed).is_ok());

        assert_eq!(keys.destroy_due(fixture.clock.now(), |_| false).unwrap(), vec![sealed.key.clone()]);
        assert_eq!(keys.open_perishable(b"a", &sealed).err(), Some(SealError::UnknownKey));
        assert!(fixture.files().is_empty());
        drop(keys);
        assert_eq!(fixture.open().open_perishable(b"a", &sealed).err(), Some(SealError::UnknownKey));
    }

    #[test]
    fn a_key_dies_when_its_last_value_has_expired_even_if_a_record_still_names_it() {
        let fixture = Fixture::new();
        let keys = fixture.open();
        keys.seal_perishable(b"a", b"1", fixture.in_hours(1)).unwrap();
        let last = keys.seal_perishable(b"a", b"1", fixture.in_hours(10)).unwrap();
        drop(keys);
        let keys = fixture.open();
        fixture.clock.advance(HOUR * 10 - Duration::from_millis(1));
        assert!(keys.destroy_due(fixture.clock.now(), |_| true).unwrap().is_empty());
        fixture.clock.advance(HOUR);
        assert_eq!(keys.destroy_due(fixture.clock.now(), |_| true).unwrap(), vec![last.key]);
    }

    #[test]
    fn a_destruction_or_creation_cut_short_is_tidied_at_the_next_start() {
        let fixture = Fixture::new();
        let sealed = fixture.open().seal_perishable(b"a", b"1", fixture.in_hours(1)).unwrap();
        fs::write(&fixture.files()[0], [0; file::FILE_BYTES]).unwrap();
        fs::write(fixture.directory.path().join("e1-abc.new"), b"half").unwrap();
        let keys = fixture.open();
        assert_eq!(keys.open_perishable(b"a", &sealed).err(), Some(SealError::UnknownKey));
        assert!(fixture.files().is_empty());
    }

    #[test]
    fn a_damaged_key_file_is_named() {
        let fixture = Fixture::new();
        fixture.open().seal_perishable(b"a", b"1", fixture.in_hours(1)).unwrap();
        let file = fixture.files().remove(0);
        let length = fs::metadata(&file).unwrap().len();
        OpenOptions::new().write(true).open(&file).unwrap().set_len(length - 1).unwrap();
        let opened = EpochKeys::open(fixture.directory.path(), fixture.clock.clone());
        let Err(error @ EpochError::Corrupt { .. }) = opened else { panic!("opened") };
        assert!(error.to_string().contains(file.to_str().unwrap()));
    }
}
