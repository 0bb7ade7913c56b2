//! The lives and deaths of epoch keys.

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
fn replicas_that_start_at_once_all_note_the_store() {
    const REPLICAS: usize = 8;
    for _ in 0..50 {
        let fixture = Fixture::new();
        let together = std::sync::Barrier::new(REPLICAS);
        std::thread::scope(|scope| {
            for _ in 0..REPLICAS {
                scope.spawn(|| {
                    let keys = EpochKeys::open_shared(fixture.directory.path(), fixture.clock.clone());
                    together.wait();
                    keys.unwrap().mark_store(&[7; 32]).unwrap();
                });
            }
        });
        assert_eq!(fixture.open().store_mark().unwrap(), Some([7; 32]));
        assert_eq!(fixture.files().len(), 1, "nothing unfinished stays");
    }
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
