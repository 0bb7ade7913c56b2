//! When the process is killed, and what it was writing is torn.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::*;
use crate::storage::contract::START;

const COUNTERS: usize = 8;
const ACKNOWLEDGED: usize = 300;

/// Not a test by itself: the process that is killed. Reads the store's directory from its input.
#[ignore = "started by the test below"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_increments_until_killed() {
    let mut directory = String::new();
    std::io::stdin().read_line(&mut directory).unwrap();
    if directory.is_empty() {
        return;
    }
    let store = Arc::new(open(Path::new(directory.trim()), &Arc::new(ManualClock::new(START))));
    let mut tasks = tokio::task::JoinSet::new();
    for counter in 0..COUNTERS {
        let store = store.clone();
        tasks.spawn(async move {
            let key = token(&counter.to_string());
            let mut revision = Revision::ABSENT;
            for count in 1_u64.. {
                let next = batch(&[(&key, revision)], vec![put(&key, &count.to_string())]);
                assert!(store.commit(next).await.unwrap().is_applied());
                println!("acknowledged {counter} {count}");
                revision = store.read(std::slice::from_ref(&key)).await.unwrap().remove(0).unwrap().revision;
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn every_acknowledged_write_survives_kill_9() {
    let directory = scratch();
    let me = "storage::embedded::tests::crash::a_process_that_increments_until_killed";
    let mut child = Command::new("/proc/self/exe")
        .args(["--ignored", "--exact", "--nocapture", me])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{}", directory.path().display()).unwrap();
    let mut acknowledged: HashMap<String, u64> = HashMap::new();
    let mut count = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some((counter, value)) = line.strip_prefix("acknowledged ").and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        acknowledged.insert(counter.to_owned(), value.parse().unwrap());
        count += 1;
        if count == ACKNOWLEDGED {
            // SIGKILL; what it said until it died is still read to the end.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(count >= ACKNOWLEDGED, "the child died early");

    let clock = Arc::new(ManualClock::new(START));
    let store: Arc<dyn RecordStore> = Arc::new(open(directory.path(), &clock));
    for (counter, value) in acknowledged {
        let stored = read(&store, &token(&counter)).await.unwrap();
        let stored: u64 = std::str::from_utf8(&stored.bytes).unwrap().parse().unwrap();
        assert!(stored == value || stored == value + 1, "{counter}: {stored} after {value}");
    }
}

/// A closed store with three records, each a write of its own, and its journal.
async fn three_records() -> (tempfile::TempDir, Arc<ManualClock>, PathBuf) {
    let directory = scratch();
    let clock = Arc::new(ManualClock::new(START));
    let store: Arc<dyn RecordStore> = Arc::new(open(directory.path(), &clock));
    for name in ["a", "b", "c"] {
        contract::write(&store, vec![put(&token(name), "a content long enough to be torn")]).await;
    }
    drop(store);
    let data = directory.path().join("store/data");
    let mut files = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let journal = files.find(|path| path.extension().is_some_and(|e| e == "jnl")).unwrap();
    (directory, clock, journal)
}

async fn names(directory: &Path, clock: &Arc<ManualClock>) -> Vec<String> {
    let store = open(directory, clock);
    let found = store.scan(Kind::Token, None, 99).await.unwrap();
    found.into_iter().map(|(key, _)| key.name().to_owned()).collect()
}

/// Where the last written byte of a journal stands; behind it are preallocated zeros.
fn end_of(journal: &Path) -> usize {
    fs::read(journal).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1
}

#[tokio::test]
async fn a_torn_last_write_is_dropped_and_the_rest_is_there() {
    for torn in ["cut", "garbled", "half written"] {
        let (directory, clock, journal) = three_records().await;
        let end = end_of(&journal);
        let mut bytes = fs::read(&journal).unwrap();
        match torn {
            "cut" => bytes.truncate(end - 5),
            "garbled" => bytes[end - 40] ^= 0xff,
            _ => bytes[end - 40..end].fill(0),
        }
        fs::write(&journal, &bytes).unwrap();
        assert_eq!(names(directory.path(), &clock).await, ["a", "b"], "{torn}");
        assert_eq!(names(directory.path(), &clock).await, ["a", "b"], "{torn}, opened again");
    }
}

#[tokio::test]
async fn rubbish_behind_the_last_write_costs_nothing() {
    let (directory, clock, journal) = three_records().await;
    let end = u64::try_from(end_of(&journal)).unwrap();
    let mut file = OpenOptions::new().write(true).open(&journal).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(end)).unwrap();
    file.write_all(b"\x01\x02\x00\x00\x00rubbish").unwrap();
    drop(file);
    assert_eq!(names(directory.path(), &clock).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn damage_before_acknowledged_writes_is_reported_with_the_files_name() {
    let (directory, clock, journal) = three_records().await;
    let mut bytes = fs::read(&journal).unwrap();
    let middle = end_of(&journal) / 2;
    bytes[middle] ^= 0xff;
    fs::write(&journal, &bytes).unwrap();
    let opened = EmbeddedStore::open(&settings(directory.path()), clock, Arc::new(|_| {}), Arc::new(|_| {}));
    let Err(error @ OpenError::Corrupt { .. }) = opened else { panic!("opened") };
    assert!(error.to_string().contains(journal.to_str().unwrap()), "{error}");
}
