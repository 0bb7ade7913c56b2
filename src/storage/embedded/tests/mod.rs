//! The embedded engine: the contract of every engine, then what is its own.

mod crash;
mod damage;
mod faults;
mod model;
mod pace;

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::domain::clock::ManualClock;
use crate::domain::id::AgentId;
use crate::records::Revision;
use crate::storage::contract::{self, Fixture, batch, put, read, token};
use crate::token::Allotments;

storage_contract!(new_store);
ledger_model!(new_store, reopened);

async fn new_store() -> Fixture<tempfile::TempDir> {
    let directory = scratch();
    let clock = Arc::new(ManualClock::new(contract::START));
    let store = open(directory.path(), &clock);
    Fixture { store: Arc::new(store), clock, _guard: directory }
}

async fn reopened(fixture: Fixture<tempfile::TempDir>) -> Fixture<tempfile::TempDir> {
    let Fixture { store, clock, _guard: directory } = fixture;
    assert_eq!(Arc::strong_count(&store), 1, "the store is held open");
    drop(store);
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
    EmbeddedStore::open(&settings(directory), clock.clone(), Arc::new(|_| {}), Arc::new(|_| {})).unwrap()
}

#[test]
fn a_store_opens_once_and_says_who_has_it() {
    let directory = scratch();
    let clock = Arc::new(ManualClock::new(contract::START));
    let held = open(directory.path(), &clock);
    let again =
        EmbeddedStore::open(&settings(directory.path()), clock.clone(), Arc::new(|_| {}), Arc::new(|_| {}));
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

fn ends(name: &str, at: Timestamp) -> crate::records::Write {
    match put(&token(name), "1") {
        crate::records::Write::Put { key, bytes, due, .. } => {
            crate::records::Write::Put { key, bytes, due, expires_at: Some(at) }
        }
        delete => delete,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expired_is_found_in_portions_wherever_it_stands() {
    const KEPT: usize = 9_000;
    let fixture = new_store().await;
    let now = contract::START;
    let later = now.plus(Duration::from_secs(60));
    contract::write(&fixture.store, (0..KEPT).map(|n| ends(&format!("k{n:05}"), later)).collect()).await;
    contract::write(&fixture.store, vec![ends("a", now), ends("k04500.", now), ends("z", now)]).await;
    let mut swept = Vec::new();
    while swept.iter().sum::<usize>() < 3 {
        swept.push(fixture.store.sweep(now, 100).await.unwrap());
        assert!(swept.len() <= 3, "{swept:?}");
    }
    assert_eq!(swept, [1, 1, 1], "a portion is a part of the store");
    // Behind the walk, which is at the end now, and then in the middle of a round that finds nothing.
    contract::write(&fixture.store, vec![ends("a", now)]).await;
    let again = async || {
        let mut found = 0;
        for _ in 0..6 {
            found += fixture.store.sweep(now, 100).await.unwrap();
        }
        found
    };
    assert_eq!(again().await, 1);
    fixture.clock.advance(Duration::from_secs(60));
    let mut left = KEPT;
    while left > 0 {
        let found = fixture.store.sweep(later, 4_000).await.unwrap();
        assert!((1..=4_000).contains(&found), "{found} with {left} left");
        left -= found;
    }
}

#[tokio::test]
async fn a_store_of_the_first_format_is_taken_over_and_its_index_of_ends_not_used() {
    let directory = scratch();
    let clock = Arc::new(ManualClock::new(contract::START));
    let store: Arc<dyn RecordStore> = Arc::new(open(directory.path(), &clock));
    contract::write(&store, vec![ends("ended", contract::START), put(&token("kept"), "1")]).await;
    drop(store);
    let home = directory.path().join("store");
    let database = fjall::Database::builder(home.join("data")).open().unwrap();
    let index = database.keyspace("expiry", fjall::KeyspaceCreateOptions::default).unwrap();
    index.insert("entry", "").unwrap();
    index.rotate_memtable_and_wait().unwrap();
    index.insert("another", "").unwrap();
    database.persist(fjall::PersistMode::SyncAll).unwrap();
    drop((index, database));
    std::fs::write(home.join(store_directory::FORMAT_FILE), "countersign store 1\n").unwrap();

    for opening in 0..3 {
        let store: Arc<dyn RecordStore> = Arc::new(open(directory.path(), &clock));
        assert_eq!(std::fs::read(home.join(store_directory::FORMAT_FILE)).unwrap(), b"countersign store 2\n");
        assert_eq!(store.sweep(clock.now(), 10).await, Ok(usize::from(opening == 0)));
        assert!(read(&store, &token("kept")).await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_as_absent_while_it_was_being_written_is_seen_once_it_is() {
    let fixture = new_store().await;
    // Too large to be kept beside the database, which would hide what else is kept there.
    let large = "1".repeat(open_database::LARGEST_WRITTEN);
    let reading = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let reader = {
        let (store, reading) = (fixture.store.clone(), reading.clone());
        tokio::spawn(async move {
            loop {
                let turn = reading.load(Ordering::Acquire);
                if turn == usize::MAX {
                    return;
                }
                read(&store, &token(&turn.to_string())).await;
                store.read(&[token("other"), token(&turn.to_string())]).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
    };
    for turn in 0..150 {
        reading.store(turn, Ordering::Release);
        let key = token(&turn.to_string());
        assert_eq!(read(&fixture.store, &key).await, None);
        contract::write(&fixture.store, vec![put(&key, &large)]).await;
        assert!(read(&fixture.store, &key).await.is_some(), "{turn}");
        let again = batch(&[(&key, Revision::ABSENT)], vec![put(&key, "2")]);
        assert_eq!(fixture.store.commit(again).await, Ok(Committed::Conflict));
        contract::write(&fixture.store, vec![crate::records::Write::Delete { key: key.clone() }]).await;
        assert_eq!(read(&fixture.store, &key).await, None);
        contract::write(&fixture.store, vec![put(&key, &large)]).await;
        assert!(read(&fixture.store, &key).await.is_some(), "{turn}");
    }
    reading.store(usize::MAX, Ordering::Release);
    reader.await.unwrap();
}

#[tokio::test]
async fn a_record_that_cannot_be_decoded_keeps_no_other_from_being_swept() {
    let directory = scratch();
    let clock = Arc::new(ManualClock::new(contract::START));
    let store = Arc::new(open(directory.path(), &clock));
    let shared: Arc<dyn RecordStore> = store.clone();
    contract::write(&shared, vec![ends("a", contract::START), ends("z", contract::START)]).await;
    let live = store.live().unwrap();
    live.keyspace(Kind::Token).unwrap().insert(b"p\0m", b"not a record").unwrap();
    assert_eq!(shared.sweep(contract::START, 10).await, Ok(2));
    assert!(read(&shared, &token("a")).await.is_none() && read(&shared, &token("z")).await.is_none());
}

#[tokio::test]
async fn a_count_of_live_tokens_that_cannot_be_read_keeps_no_other_from_being_written() {
    let Fixture { store, clock, _guard } = new_store().await;
    let allotments = Allotments::new(store.clone());
    let agents: Vec<AgentId> = (0..150).map(|n| AgentId::parse(&format!("agent-{n}")).unwrap()).collect();
    let (now, end) = (clock.now(), clock.now().plus(Duration::from_secs(600)));
    assert_eq!(allotments.reserve(&agents[0], end, 1, now).await, Ok(true));
    let (key, _) = store.scan(Kind::Velocity, None, 1).await.unwrap().remove(0);
    for agent in &agents[1..] {
        assert_eq!(allotments.reserve(agent, end, 1, now).await, Ok(true));
    }
    contract::write(&store, vec![put(&key, "no count")]).await;
    agents.iter().for_each(|agent| allotments.release(agent, end, now));
    allotments.finish(now).await;
    for agent in &agents[1..] {
        assert_eq!(allotments.reserve(agent, end, 1, now).await, Ok(true), "{agent}");
    }
}
