//! When files of a store at rest are damaged, cut short or gone.
//!
//! It does not open, names the file, and loses nothing that was acknowledged.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::storage::contract::START;

/// Records before the last, which a cut in the journal may cost: a crash looks the same.
const RECORDS: usize = 40;
const LAST: &str = "last";

/// A closed store with tables in every keyspace, and more in its journal.
async fn filled() -> (tempfile::TempDir, Arc<ManualClock>) {
    let directory = scratch();
    let clock = Arc::new(ManualClock::new(START));
    let store = Arc::new(open(directory.path(), &clock));
    let shared: Arc<dyn RecordStore> = store.clone();
    for number in 0..RECORDS {
        if [10, 20].contains(&number) {
            let live = store.live().unwrap();
            for keyspace in Kind::ALL.map(|kind| live.keyspace(kind).unwrap()) {
                keyspace.rotate_memtable_and_wait().unwrap();
            }
            live.due_index().rotate_memtable_and_wait().unwrap();
            live.meta().rotate_memtable_and_wait().unwrap();
        }
        let kind = Kind::ALL[number % Kind::ALL.len()];
        let key = contract::key(kind, "p", &format!("record-{number}"));
        let write = crate::records::Write::Put {
            key,
            bytes: vec![7; 300].into(),
            expires_at: Some(START.plus(Duration::from_secs(1000))),
            due: (kind == Kind::Session).then_some(START),
        };
        contract::write(&shared, vec![write]).await;
    }
    contract::write(&shared, vec![put(&token(LAST), LAST)]).await;
    drop(shared);
    drop(Arc::into_inner(store).unwrap());
    (directory, clock)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !["LOCK", "lock"].contains(&path.file_name().unwrap().to_str().unwrap()) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, target) = {
            let path = entry.unwrap().path();
            (path.clone(), to.join(path.file_name().unwrap()))
        };
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// What is in a store, or why it does not open.
async fn contents(directory: &Path, clock: &Arc<ManualClock>) -> Result<BTreeSet<String>, OpenError> {
    let opened = catch_unwind(AssertUnwindSafe(|| {
        EmbeddedStore::open(&settings(directory), clock.clone(), Arc::new(|_| {}), Arc::new(|_| {}))
    }));
    let store = opened.unwrap_or_else(|_| panic!("it stopped with a panic"))?;
    let mut names = BTreeSet::new();
    for kind in Kind::ALL {
        let records = store.scan(kind, None, 99).await.unwrap();
        names.extend(records.into_iter().map(|(key, _)| key.name().to_owned()));
    }
    Ok(names)
}

fn all() -> BTreeSet<String> {
    (0..RECORDS).map(|number| format!("record-{number}")).chain([LAST.to_owned()]).collect()
}

fn is_journal(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jnl")
}

/// Where the last byte stands that is not zero.
fn written(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// Does something to one file of a store and opens it: refused by name, or nothing is lost.
async fn assert_noticed(template: &Path, clock: &Arc<ManualClock>, file: &Path, what: &str, change: &[u8]) {
    let work = scratch();
    copy(template, work.path());
    let target = work.path().join(file);
    if what == "gone" {
        fs::remove_file(&target).unwrap();
    } else {
        fs::write(&target, change).unwrap();
    }
    let is_journal = is_journal(file);
    match contents(work.path(), clock).await {
        Err(error) => {
            let told = error.to_string();
            let name = file.file_name().unwrap().to_str().unwrap();
            let names_it = told.contains(name) || (what == "gone" && is_journal && told.contains("*.jnl"));
            assert!(names_it, "{} {what}: {told}", file.display());
            assert!(told.contains("backup"), "no remedy: {told}");
        }
        Ok(found) => {
            let lost: Vec<_> = all().difference(&found).cloned().collect();
            let may_lose: &[&str] = if is_journal { &[LAST] } else { &[] };
            assert!(lost.is_empty() || lost == may_lose, "{} {what}: lost {lost:?}", file.display());
        }
    }
}

#[tokio::test]
async fn damage_to_any_file_is_noticed_before_anything_is_lost() {
    let (directory, clock) = filled().await;
    let template = scratch();
    copy(directory.path(), template.path());
    for journal in files(template.path()).into_iter().filter(|path| is_journal(path)) {
        // Behind what is written are zeros, by the megabyte: they cost time and nothing else.
        let whole = fs::read(&journal).unwrap();
        fs::write(&journal, &whole[..written(&whole) + 64]).unwrap();
    }
    assert_eq!(contents(directory.path(), &clock).await.unwrap(), all());
    let kinds: BTreeSet<String> = files(template.path())
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            let table = path.parent().unwrap().ends_with("tables");
            let named = |c: char| !c.is_ascii_digit();
            if table { "table".to_owned() } else { name.chars().filter(|c| named(*c)).collect() }
        })
        .collect();
    let expected = ["FORMAT", "version", ".jnl", "current", "v", "table"].map(str::to_owned);
    assert_eq!(kinds, BTreeSet::from(expected), "a kind of file nobody has thought of");

    let mut dice = 0x9E37_79B9_u64;
    let mut roll = |sides: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(dice >> 33).unwrap() % sides
    };
    for path in files(template.path()) {
        let file = path.strip_prefix(template.path()).unwrap().to_owned();
        let whole = fs::read(&path).unwrap();
        let written = written(&whole);
        assert_noticed(template.path(), &clock, &file, "gone", &[]).await;
        for _ in 0..8 {
            let (at, bit) = (roll(written.max(1)), roll(8));
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            let what = format!("bit {bit} of byte {at} of {written} flipped");
            assert_noticed(template.path(), &clock, &file, &what, &flipped).await;
        }
        // The journal's preallocated end is nothing; a cut within is what a crash may leave, and only
        // of the last write.
        let shortest = if is_journal(&file) { written - 40 } else { 0 };
        for length in [shortest, shortest + (written - shortest) / 2, written - 1] {
            let what = format!("cut to {length} of {written}");
            assert_noticed(template.path(), &clock, &file, &what, &whole[..length]).await;
        }
    }
}

#[tokio::test]
async fn a_folder_that_is_gone_or_holds_something_else_is_noticed() {
    let (directory, clock) = filled().await;
    let data = directory.path().join("store/data");
    let keyspaces: Vec<PathBuf> =
        fs::read_dir(data.join("keyspaces")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(keyspaces.len() > 8, "{keyspaces:?}");
    for keyspace in keyspaces {
        let away = directory.path().join("away");
        fs::rename(&keyspace, &away).unwrap();
        let error = contents(directory.path(), &clock).await.unwrap_err();
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
        let _ = fs::remove_dir_all(&keyspace);
        fs::rename(&away, &keyspace).unwrap();
    }
    for stray in ["keyspaces/lost+found", "keyspaces/1/tables/1.bak"] {
        let stray = data.join(stray);
        fs::create_dir(&stray).unwrap();
        let told = contents(directory.path(), &clock).await.unwrap_err().to_string();
        assert!(told.contains(stray.to_str().unwrap()), "{told}");
        fs::remove_dir(&stray).unwrap();
    }
    assert_eq!(contents(directory.path(), &clock).await.unwrap(), all());
}

#[tokio::test]
async fn a_file_that_may_not_be_read_is_refused_with_its_name() {
    let (directory, clock) = filled().await;
    let data = directory.path().join("store/data");
    let file = data.join("version");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    match contents(directory.path(), &clock).await {
        Err(error) => assert!(error.to_string().contains("version"), "{error}"),
        // Who may read everything reads this too.
        Ok(found) => assert_eq!(found, all()),
    }
}
