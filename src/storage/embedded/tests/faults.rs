//! When the disk fails or fills up.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::*;
use crate::records::{Purpose, Write};
use crate::storage::Notice;
use crate::storage::contract::START;

const WORKING: u8 = 0;
const FAILS_BEFORE_WRITING: u8 = 1;
const FAILS_AFTER_WRITING: u8 = 2;
const PANICS: u8 = 3;

/// A disk that does as it is told.
#[derive(Default)]
struct Faults {
    mode: AtomicU8,
    free: AtomicU64,
    held: Mutex<bool>,
    released: Condvar,
}

struct FaultyDisk(Arc<Faults>);

impl Disk for FaultyDisk {
    fn commit(&mut self, batch: fjall::OwnedWriteBatch) -> fjall::Result<()> {
        let mut held = self.0.held.lock();
        self.0.released.wait_while(&mut held, |held| *held);
        let broken = || Err(fjall::Error::Io(std::io::Error::other("broken")));
        match self.0.mode.load(Ordering::SeqCst) {
            WORKING => batch.commit(),
            FAILS_BEFORE_WRITING => broken(),
            PANICS => panic!("as it was told"),
            _ => batch.commit().and_then(|()| broken()),
        }
    }

    fn free_bytes(&mut self, _: &Path) -> std::io::Result<u64> {
        Ok(self.0.free.load(Ordering::SeqCst))
    }
}

impl Faults {
    fn hold(&self, hold: bool) {
        *self.held.lock() = hold;
        self.released.notify_all();
    }
}

struct Bench {
    store: Arc<EmbeddedStore>,
    faults: Arc<Faults>,
    notices: Receiver<Notice>,
    _directory: tempfile::TempDir,
}

impl Drop for Bench {
    fn drop(&mut self) {
        // So that a test that fails does not leave the writer waiting.
        self.faults.hold(false);
    }
}

impl Bench {
    fn new() -> Self {
        let directory = scratch();
        let faults = Arc::new(Faults { free: AtomicU64::new(1000), ..Faults::default() });
        let (told, notices) = sync_channel(64);
        let store = EmbeddedStore::open_on(
            Box::new(FaultyDisk(faults.clone())),
            &Settings { min_free_bytes: 100, ..settings(directory.path()) },
            Arc::new(ManualClock::new(START)),
            Arc::new(move |notice| told.send(notice).unwrap()),
        );
        Self { store: Arc::new(store.unwrap()), faults, notices, _directory: directory }
    }

    fn notice(&self) -> Notice {
        self.notices.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    async fn put(&self, name: &str) -> Result<Committed, StoreError> {
        self.store.commit(batch(&[], vec![put(&token(name), name)])).await
    }

    async fn has(&self, name: &str) -> bool {
        self.store.read(&[token(name)]).await.unwrap().remove(0).is_some()
    }
}

async fn assert_closed(store: &EmbeddedStore) {
    let closed = StoreError::Unavailable;
    assert_eq!(store.health(), Err(closed));
    assert_eq!(store.read(&[token("before")]).await.err(), Some(closed));
    assert_eq!(store.commit(batch(&[], vec![])).await.err(), Some(closed));
    assert_eq!(store.scan(Kind::Token, None, 1).await.err(), Some(closed));
    assert_eq!(store.due(START, 1).await.err(), Some(closed));
    assert_eq!(store.sweep(START, 1).await.err(), Some(closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_write_closes_the_store_until_it_is_recovered() {
    for (mode, is_there) in [(FAILS_BEFORE_WRITING, false), (FAILS_AFTER_WRITING, true)] {
        let bench = Bench::new();
        bench.put("before").await.unwrap();
        let first = bench.store.read(&[token("before")]).await.unwrap().remove(0).unwrap().revision;
        // A reader that holds the database puts recovery off, so that the closed store can be seen.
        let reader = bench.store.live().unwrap();
        bench.faults.mode.store(mode, Ordering::SeqCst);
        assert_eq!(bench.put("during").await, Err(StoreError::Unacknowledged));
        assert!(matches!(bench.notice(), Notice::Closed { cause } if cause.contains("broken")));
        assert_closed(&bench.store).await;

        bench.faults.mode.store(WORKING, Ordering::SeqCst);
        drop(reader);
        assert!(matches!(bench.notice(), Notice::Reopened { .. }));
        assert_eq!(bench.store.health(), Ok(()));
        assert!(bench.has("before").await);
        assert_eq!(bench.has("during").await, is_there);
        assert!(bench.put("after").await.unwrap().is_applied());
        let after = bench.store.read(&[token("after")]).await.unwrap().remove(0).unwrap().revision;
        assert!(after > first);
        assert_eq!(bench.store.identity().incarnation, 1, "leases of this process stay its own");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_commit_that_waited_on_a_failed_write_is_told_so() {
    let bench = Bench::new();
    bench.faults.hold(true);
    bench.faults.mode.store(FAILS_BEFORE_WRITING, Ordering::SeqCst);
    let waiting: Vec<_> = (0..16)
        .map(|n| {
            let store = bench.store.clone();
            tokio::spawn(async move {
                let key = token(&n.to_string());
                store.commit(batch(&[], vec![put(&key, "1")])).await
            })
        })
        .collect();
    while bench.store.live().unwrap().writing_for().is_zero() {
        tokio::task::yield_now().await;
    }
    let reader = bench.store.live().unwrap();
    bench.faults.hold(false);
    for commit in waiting {
        let refused = commit.await.unwrap().unwrap_err();
        assert!(matches!(refused, StoreError::Unacknowledged | StoreError::Unavailable));
    }
    bench.faults.mode.store(WORKING, Ordering::SeqCst);
    drop(reader);
    assert!(matches!(bench.notice(), Notice::Closed { .. }));
    assert!(matches!(bench.notice(), Notice::Reopened { .. }));
    assert_eq!(bench.store.scan(Kind::Token, None, 99).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_of_keys_that_are_being_written_waits_and_others_do_not() {
    let bench = Bench::new();
    bench.put("other").await.unwrap();
    bench.faults.hold(true);
    let [a, b] = [token("a"), token("b")];
    let writing = {
        let (store, a, b) = (bench.store.clone(), a.clone(), b.clone());
        tokio::spawn(async move { store.commit(batch(&[], vec![put(&a, "1"), put(&b, "1")])).await })
    };
    while bench.store.live().unwrap().writing_for().is_zero() {
        tokio::task::yield_now().await;
    }
    // What is not on the disk is not there yet.
    assert!(!bench.has("a").await);
    assert_eq!(bench.store.read(&[token("other"), token("none")]).await.unwrap().len(), 2);
    let both = [a, b];
    let mut reading = bench.store.read(&both);
    tokio::select! {
        biased;
        _ = &mut reading => panic!("read what was being written"),
        () = tokio::task::yield_now() => {}
    }
    bench.faults.hold(false);
    assert!(reading.await.unwrap().iter().all(Option::is_some));
    assert!(writing.await.unwrap().unwrap().is_applied());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_reopened_stays_closed_and_keeps_trying() {
    let bench = Bench::new();
    bench.put("before").await.unwrap();
    let data = bench._directory.path().join("store/data");
    let away = bench._directory.path().join("away");
    let reader = bench.store.live().unwrap();
    bench.faults.mode.store(FAILS_BEFORE_WRITING, Ordering::SeqCst);
    assert_eq!(bench.put("during").await, Err(StoreError::Unacknowledged));
    assert!(matches!(bench.notice(), Notice::Closed { .. }));
    // In the way of the database: a file where its directory was.
    std::fs::rename(&data, &away).unwrap();
    std::fs::write(&data, b"").unwrap();
    drop(reader);
    assert!(matches!(bench.notice(), Notice::NotReopened { .. }));
    assert_closed(&bench.store).await;
    std::fs::remove_file(&data).unwrap();
    std::fs::rename(&away, &data).unwrap();
    bench.faults.mode.store(WORKING, Ordering::SeqCst);
    while !matches!(bench.notice(), Notice::Reopened { .. }) {}
    assert!(bench.has("before").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_little_space_only_finishing_and_deleting_go_on() {
    let bench = Bench::new();
    bench.put("a").await.unwrap();
    bench.faults.free.store(99, Ordering::SeqCst);
    assert_eq!(bench.notice(), Notice::SpaceShort { free: 99 });

    assert_eq!(bench.store.health(), Err(StoreError::NoSpace));
    assert_eq!(bench.put("b").await, Err(StoreError::NoSpace));
    assert!(!bench.has("b").await && bench.has("a").await);
    let finish =
        crate::records::Batch { purpose: Purpose::Finish, ..batch(&[], vec![put(&token("c"), "settled")]) };
    assert!(bench.store.commit(finish).await.unwrap().is_applied());
    let delete = batch(&[], vec![Write::Delete { key: token("a") }]);
    assert!(bench.store.commit(delete).await.unwrap().is_applied());

    bench.faults.free.store(100, Ordering::SeqCst);
    assert_eq!(bench.notice(), Notice::SpaceBack { free: 100 });
    assert_eq!(bench.store.health(), Ok(()));
    assert!(bench.put("b").await.unwrap().is_applied());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_dies_leaves_a_closed_store_and_says_so() {
    let bench = Bench::new();
    bench.put("before").await.unwrap();
    bench.faults.mode.store(PANICS, Ordering::SeqCst);
    assert_eq!(bench.put("during").await, Err(StoreError::Unacknowledged));
    assert!(matches!(bench.notice(), Notice::Closed { .. }));
    assert_closed(&bench.store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_hanging_disk_for_ever() {
    let mut bench = Bench::new();
    Arc::get_mut(&mut bench.store).unwrap().patience = Duration::from_millis(20);
    bench.faults.hold(true);
    assert_eq!(bench.put("during").await, Err(StoreError::Unacknowledged));
    // The commit began to wait a little before the disk began to hang.
    while bench.store.health().is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.put("after").await, Err(StoreError::Unavailable));
    bench.faults.hold(false);
    while bench.store.health().is_err() {
        tokio::task::yield_now().await;
    }
    assert!(bench.has("during").await, "it was written after all");
}
