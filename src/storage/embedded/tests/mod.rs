//! The embedded engine: the contract of every engine, then what is its own.

mod crash;
mod faults;
mod model;

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::domain::clock::ManualClock;
use crate::records::Revision;
use crate::storage::contract::{self, Fixture, batch, put, read, token};

storage_contract!(new_store);

async fn new_store() -> Fixture<tempfile::TempDir> {
    let directory = scratch();
    let clock = Arc::new(ManualClock::new(contract::START));
    let store = open(directory.path(), &clock);
    Fixture { store: Arc::new(store), clock, _guard: directory }
}

/// A directory in memory where there is one: what is tested is not the speed of a disk.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn settings(directory: &Path) -> Settings {
    Settings { directory: directory.join("store"), min_free_bytes: 0, ..Settings::default() }
}

fn open(directory: &Path, clock: &Arc<ManualClock>) -> EmbeddedStore {
    EmbeddedStore::open(&settings(directory), clock.clone(), Arc::new(|_| {})).unwrap()
}

#[test]
fn a_store_opens_once_and_says_who_has_it() {
    let directory = scratch();
    let clock = Arc::new(ManualClock::new(contract::START));
    let held = open(directory.path(), &clock);
    let again = EmbeddedStore::open(&settings(directory.path()), clock.clone(), Arc::new(|_| {}));
    let Err(error) = again else { panic!("opened twice") };
    assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
    drop(held);
    open(directory.path(), &clock);
}

#[test]
fn the_tag_key_stays_and_the_incarnation_grows_with_each_opening() {
    let directory = scratch();
    let clock = Arc::new(ManualClock::new(contract::START));
    let [first, second] = [(); 2].map(|()| open(directory.path(), &clock).identity());
    assert_eq!((first.incarnation, second.incarnation), (1, 2));
    assert!(first.tag_key == second.tag_key && first.tag_key != [0; 32]);
}

#[tokio::test]
async fn records_survive_a_restart_and_revisions_keep_growing() {
    let directory = scratch();
    let clock = Arc::new(ManualClock::new(contract::START));
    let key = token("a");
    let mut last = Revision::ABSENT;
    for turn in 0..3 {
        let store: Arc<dyn RecordStore> = Arc::new(open(directory.path(), &clock));
        assert_eq!(read(&store, &key).await.map_or(Revision::ABSENT, |record| record.revision), last);
        let next = batch(&[(&key, last)], vec![put(&key, &turn.to_string())]);
        assert!(store.commit(next).await.unwrap().is_applied());
        let record = read(&store, &key).await.unwrap();
        assert!(record.revision > last);
        last = record.revision;
    }
}

#[tokio::test]
async fn a_key_out_of_bounds_is_refused_and_changes_nothing() {
    let fixture = new_store().await;
    let wrong = token(&"n".repeat(513));
    let refused = batch(&[], vec![put(&token("a"), "1"), put(&wrong, "1")]);
    assert_eq!(fixture.store.commit(refused).await, Err(StoreError::Unavailable));
    assert_eq!(read(&fixture.store, &token("a")).await, None);
}
