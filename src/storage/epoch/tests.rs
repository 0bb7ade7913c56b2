//! The lives and deaths of epoch keys.

use std::fs::OpenOptions;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode};

use super::table::{GRACE, HOUR};
use super::*;
use crate::crypto::aead::Sealed;
use crate::domain::clock::ManualClock;
use crate::token::PerishableKeys;

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
    fn open_shared(&self) -> EpochKeys {
        EpochKeys::open_shared(self.directory.path(), self.clock.clone()).unwrap()
    }
    fn file(&self, id: &KeyId) -> PathBuf {
        self.directory.path().join(format!("{id}.key"))
    }
    fn in_hours(&self, hours: u32) -> Timestamp {
        self.clock.now().plus(HOUR * hours)
    }
}

async fn seal(keys: &EpochKeys, associated: &[u8], value: &[u8], expires_at: Timestamp) -> Sealed {
    let (id, key) = keys.current_key(expires_at).await.unwrap();
    Sealed { key: id, bytes: key.seal(associated, value).unwrap().into() }
}

/// As the vault opens; [`SealError::UnknownKey`] once the key was destroyed.
async fn open(keys: &EpochKeys, associated: &[u8], sealed: &Sealed) -> Result<Vec<u8>, SealError> {
    let key = keys.find_key(&sealed.key).await.unwrap().ok_or(SealError::UnknownKey)?;
    key.open(associated, &sealed.bytes).map(|opened| opened.expose().to_vec())
}

/// Destroys what is due when nothing, or all, is in use.
async fn destroy(keys: &EpochKeys, in_use: bool) -> Vec<KeyId> {
    let over = if in_use { Vec::new() } else { keys.epochs().await };
    keys.destroy_due(over.into_iter().collect()).await.unwrap()
}

/// Waits for what the thread does by itself.
async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Makes the keys of this hour and the next ready.
async fn prepare(keys: &EpochKeys) {
    let hour = hour_of(keys.table.clock.now());
    eventually("both keys", || {
        keys.make_ahead();
        [hour, hour + 1].iter().all(|hour| keys.table.has(*hour, end_of(*hour).plus(LONGEST_LIFE)))
    })
    .await;
}

#[tokio::test]
async fn a_value_opens_for_its_record_also_after_a_restart() {
    let fixture = Fixture::new();
    let sealed = seal(&fixture.open(), b"vt_1", b"123", fixture.in_hours(1)).await;
    let keys = fixture.open();
    assert_eq!(open(&keys, b"vt_1", &sealed).await.unwrap(), b"123");
    assert_eq!(open(&keys, b"vt_2", &sealed).await.err(), Some(SealError::DoesNotOpen));
    let again = seal(&keys, b"vt_2", b"456", fixture.in_hours(1)).await;
    assert_eq!(again.key, sealed.key, "one key an hour");
}

#[tokio::test]
async fn replicas_that_share_a_directory_open_what_any_of_them_sealed_and_forget_together() {
    let fixture = Fixture::new();
    let [one, other] = [(); 2].map(|()| fixture.open_shared());
    let mine = seal(&one, b"vt_1", b"123", fixture.in_hours(1)).await;
    let theirs = seal(&other, b"vt_2", b"456", fixture.in_hours(40)).await;
    assert_ne!(mine.key, theirs.key, "each extends the life of its own keys only");
    assert_eq!(open(&other, b"vt_1", &mine).await.unwrap(), b"123");
    assert_eq!(open(&one, b"vt_2", &theirs).await.unwrap(), b"456");
    // A later expiry that only its owner knows of is read before anything is destroyed.
    seal(&other, b"vt_3", b"789", fixture.in_hours(60)).await;
    fixture.clock.advance(HOUR * 41);
    let unneeded = BTreeSet::from([mine.key.clone()]);
    assert_eq!(one.destroy_due(unneeded).await.unwrap(), vec![mine.key.clone()]);
    assert_eq!(other.epochs().await, vec![theirs.key]);
    assert_eq!(open(&other, b"vt_1", &mine).await.err(), Some(SealError::UnknownKey));
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

#[tokio::test]
async fn key_files_are_their_owners_alone_and_each_hour_has_its_own() {
    let fixture = Fixture::new();
    let keys = fixture.open();
    let first = seal(&keys, b"a", b"1", fixture.in_hours(1)).await;
    fixture.clock.advance(HOUR);
    let second = seal(&keys, b"a", b"1", fixture.in_hours(1)).await;
    assert_ne!(first.key, second.key);
    assert_eq!(fixture.files().len(), 2);
    for file in fixture.files() {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn a_key_dies_with_the_last_value_in_use_but_not_before_its_hour_is_over() {
    let fixture = Fixture::new();
    let keys = fixture.open();
    let sealed = seal(&keys, b"a", b"1", fixture.in_hours(48)).await;
    let unneeded = BTreeSet::from([sealed.key.clone()]);
    assert!(keys.destroy_due(unneeded).await.unwrap().is_empty());
    assert!(keys.epochs().await.is_empty());
    assert_eq!(fixture.files().len(), 1);

    fixture.clock.advance(HOUR + GRACE);
    assert_eq!(keys.epochs().await, vec![sealed.key.clone()]);
    assert!(destroy(&keys, true).await.is_empty());
    assert!(open(&keys, b"a", &sealed).await.is_ok());

    assert_eq!(destroy(&keys, false).await, vec![sealed.key.clone()]);
    assert_eq!(open(&keys, b"a", &sealed).await.err(), Some(SealError::UnknownKey));
    assert!(fixture.files().is_empty());
    drop(keys);
    assert_eq!(open(&fixture.open(), b"a", &sealed).await.err(), Some(SealError::UnknownKey));
}

#[tokio::test]
async fn a_key_dies_when_its_last_value_has_expired_even_if_a_record_still_names_it() {
    let fixture = Fixture::new();
    let keys = fixture.open();
    seal(&keys, b"a", b"1", fixture.in_hours(1)).await;
    let last = seal(&keys, b"a", b"1", fixture.in_hours(10)).await;
    drop(keys);
    let keys = fixture.open();
    fixture.clock.advance(HOUR * 10 - Duration::from_millis(1));
    assert!(destroy(&keys, true).await.is_empty());
    fixture.clock.advance(HOUR);
    assert_eq!(destroy(&keys, true).await, vec![last.key]);
}

#[tokio::test]
async fn a_destruction_or_creation_cut_short_is_tidied_at_the_next_start() {
    let fixture = Fixture::new();
    let sealed = seal(&fixture.open(), b"a", b"1", fixture.in_hours(1)).await;
    fs::write(&fixture.files()[0], [0; file::FILE_BYTES]).unwrap();
    fs::write(fixture.directory.path().join("e1-abc.new"), b"half").unwrap();
    let keys = fixture.open();
    assert_eq!(open(&keys, b"a", &sealed).await.err(), Some(SealError::UnknownKey));
    assert!(fixture.files().is_empty());
}

#[tokio::test]
async fn a_damaged_key_file_is_named() {
    let fixture = Fixture::new();
    seal(&fixture.open(), b"a", b"1", fixture.in_hours(1)).await;
    let file = fixture.files().remove(0);
    let length = fs::metadata(&file).unwrap().len();
    OpenOptions::new().write(true).open(&file).unwrap().set_len(length - 1).unwrap();
    let opened = EpochKeys::open(fixture.directory.path(), fixture.clock.clone());
    let Err(error @ EpochError::Corrupt { .. }) = opened else { panic!("opened") };
    assert!(error.to_string().contains(file.to_str().unwrap()));
}

#[tokio::test]
async fn keys_made_ahead_seal_for_two_hours_without_their_directory() {
    let fixture = Fixture::new();
    let keys = fixture.open();
    prepare(&keys).await;
    assert_eq!(fixture.files().len(), 2);
    let elsewhere = fixture.directory.path().with_extension("elsewhere");
    fs::rename(fixture.directory.path(), &elsewhere).unwrap();
    let longest = || fixture.clock.now().plus(LONGEST_LIFE);
    let first = seal(&keys, b"a", b"1", longest()).await;
    fixture.clock.advance(HOUR);
    let second = seal(&keys, b"a", b"1", longest()).await;
    assert_ne!(first.key, second.key);
    fixture.clock.advance(HOUR);
    assert!(matches!(keys.current_key(longest()).await, Err(EpochError::Failed(_))));
    // Both were on stable storage before anything was sealed under them.
    fs::rename(&elsewhere, fixture.directory.path()).unwrap();
    drop(keys);
    let keys = fixture.open();
    for sealed in [first, second] {
        assert_eq!(open(&keys, b"a", &sealed).await.unwrap(), b"1");
    }
}

#[tokio::test]
async fn a_key_made_ahead_outlives_its_last_value_no_longer_than_another() {
    let fixture = Fixture::new();
    let keys = fixture.open_shared();
    prepare(&keys).await;
    let last = seal(&keys, b"a", b"1", fixture.in_hours(3)).await;
    fixture.clock.advance(HOUR + GRACE);
    assert!(destroy(&keys, true).await.is_empty());
    // Also for a process that knows only its file.
    drop(keys);
    let keys = fixture.open_shared();
    fixture.clock.advance(HOUR * 3);
    let destroyed = destroy(&keys, true).await;
    assert!(destroyed.contains(&last.key), "{destroyed:?}");
}

#[tokio::test]
async fn a_value_that_lives_longer_than_its_hour_s_key_has_it_noted_first_also_when_the_clock_went_back() {
    let fixture = Fixture::new();
    let keys = fixture.open();
    prepare(&keys).await;
    let sealed = seal(&keys, b"a", b"1", fixture.in_hours(3)).await;
    fixture.clock.advance(HOUR + GRACE);
    assert!(destroy(&keys, true).await.is_empty());
    fixture.clock.step(-3_900_000);
    let later = seal(&keys, b"b", b"2", fixture.in_hours(9)).await;
    assert_eq!(later.key, sealed.key);
    drop(keys);
    let keys = fixture.open();
    fixture.clock.set(fixture.in_hours(8));
    assert!(destroy(&keys, true).await.iter().all(|id| *id != later.key));
    assert_eq!(open(&keys, b"b", &later).await.unwrap(), b"2");
}

#[tokio::test]
async fn a_file_that_does_not_answer_holds_up_nobody_for_long_and_is_told_of() {
    let fixture = Fixture::new();
    let notices = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&notices);
    let [one, other] = [(); 2].map(|()| fixture.open_shared());
    let other = other.telling(Arc::new(move |notice| heard.lock().push(notice)));
    let own = seal(&other, b"a", b"0", fixture.in_hours(1)).await;
    let theirs = seal(&one, b"a", b"1", fixture.in_hours(1)).await;
    let (file, aside) = (fixture.file(&theirs.key), fixture.directory.path().join("aside"));
    fs::rename(&file, &aside).unwrap();
    rustix::fs::mkfifoat(CWD, &file, Mode::RUSR | Mode::WUSR).unwrap();

    let began = Instant::now();
    assert!(matches!(other.find_key(&theirs.key).await, Err(EpochError::Late)));
    assert!(began.elapsed() >= PATIENCE, "{:?}", began.elapsed());
    // Whoever asks now is not kept waiting again; whoever needs no file is not kept waiting at all.
    let began = Instant::now();
    for _ in 0..1_000 {
        assert!(matches!(other.find_key(&theirs.key).await, Err(EpochError::Late)));
        assert_eq!(open(&other, b"a", &own).await.unwrap(), b"0");
    }
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    other.make_ahead();
    let late = Notice::EpochsUnusable { cause: EpochError::Late.to_string() };
    assert_eq!(*notices.lock(), vec![late.clone()]);

    fs::rename(&file, fixture.directory.path().join("pipe")).unwrap();
    fs::rename(&aside, &file).unwrap();
    let pipe = fixture.directory.path().join("pipe");
    drop(OpenOptions::new().read(true).write(true).open(pipe).unwrap());
    eventually("the news that it answers", || {
        other.make_ahead();
        *notices.lock() == vec![late.clone(), Notice::EpochsUsable]
    })
    .await;
    assert_eq!(open(&other, b"a", &theirs).await.unwrap(), b"1");
}

#[tokio::test]
async fn a_stall_has_no_more_than_so_much_waiting_for_its_end() {
    let fixture = Fixture::new();
    let pipe = fixture.directory.path().join("e500000-stall.key");
    let keys = fixture.open_shared();
    rustix::fs::mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    for number in 0..1_000 {
        keys.errands.begin(Errand::Find(KeyId::parse(&format!("e500000-{number}")).unwrap()));
        keys.refresh();
        keys.make_ahead();
    }
    assert!(keys.errands.waiting() <= errand::MOST);
    eventually("an empty queue", || {
        // The thread may come to the pipe only now.
        drop(OpenOptions::new().read(true).write(true).open(&pipe).unwrap());
        keys.errands.waiting() == 0
    })
    .await;
    keys.current_key(fixture.in_hours(1)).await.unwrap();
}
