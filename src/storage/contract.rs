//! What every storage engine must do, as tests: [`storage_contract!`] runs them against one. Apart
//! because the promises are [`crate::records`]'s, not an engine's.

use std::sync::Arc;
use std::time::Duration;

use byteview::ByteView;
use tokio::task::JoinSet;

use crate::domain::clock::{Clock, ManualClock, Timestamp};
use crate::domain::id::AgentId;
use crate::records::{
    Batch, Committed, Durability, Kind, Purpose, Record, RecordKey, RecordStore, Revision, Write,
};
use crate::token::Allotments;

mod replicas;
mod scans;

pub(super) use self::replicas::*;
pub(super) use self::scans::*;

/// A new, empty store and the clock it goes by.
pub(super) struct Fixture<Guard> {
    pub(super) store: Arc<dyn RecordStore>,
    pub(super) clock: Arc<ManualClock>,
    /// Dropped after the store: its directory, its server.
    pub(super) _guard: Guard,
}

/// Hands every rule of the contract to a macro, behind what is given.
macro_rules! every_rule {
    ($then:ident! $($given:tt)*) => {
        $then!($($given)*;
            a_record_reads_back_as_written,
            reads_answer_in_the_order_asked,
            a_batch_whose_expectation_fails_changes_nothing,
            an_expectation_without_a_write_guards_the_batch,
            a_revision_is_never_used_twice_deletion_included,
            the_last_write_of_a_key_in_a_batch_wins,
            an_expired_record_is_absent_to_reads_scans_and_expectations,
            expired_records_go_and_no_others,
            due_names_records_oldest_first_until_they_are_changed,
            a_record_that_expired_is_not_due,
            scans_go_through_a_kind_in_pages,
            a_page_of_a_scan_is_bounded_by_bytes_as_well_as_by_number,
            of_many_racers_for_one_revision_one_wins,
            no_increment_of_many_is_lost,
            a_reader_never_sees_half_a_batch,
            an_applied_batch_is_read_back,
            tokens_that_are_given_back_count_no_more_however_many_agents_have_them,
            a_replica_is_known_with_what_it_says_until_it_leaves_or_is_silent,
            of_many_replicas_that_register_at_once_none_is_lost,
            a_replica_whose_clock_is_ahead_lives_no_longer_by_that,
            newer_formats_are_written_once_every_replica_has_read_them_for_long_enough,
            a_replica_that_cannot_read_what_is_written_is_not_registered,
            where_releases_without_a_registry_may_live_an_operator_says_that_none_does,
            who_has_written_newer_formats_writes_them_in_a_store_that_was_lost
        );
    };
}

/// Makes a test of every rule of the contract; takes the path of an async function that answers a
/// [`Fixture`].
macro_rules! storage_contract {
    ($open:path) => {
        every_rule!(storage_contract! $open);
    };
    ($open:path; $($rule:ident),*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $rule() {
            let fixture = $open().await;
            $crate::storage::contract::$rule(&fixture.store, &fixture.clock).await;
        }
    )* };
}

/// Checks every rule one after the other, for an engine whose servers are slow to start; takes an
/// async closure that answers a [`Fixture`] of an empty store.
macro_rules! check_storage_contract {
    ($open:expr) => {
        every_rule!(check_storage_contract! $open)
    };
    ($open:expr; $($rule:ident),*) => { $({
        let fixture = $open().await;
        println!("{}", stringify!($rule));
        $crate::storage::contract::$rule(&fixture.store, &fixture.clock).await;
    })* };
}

/// Where the contract's clocks start.
pub(super) const START: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

pub(super) fn key(kind: Kind, partition: &str, name: &str) -> RecordKey {
    RecordKey::new(kind, partition, name)
}

pub(super) fn token(name: &str) -> RecordKey {
    key(Kind::Token, "p", name)
}

pub(super) fn put(key: &RecordKey, bytes: &str) -> Write {
    Write::Put { key: key.clone(), bytes: ByteView::from(bytes), expires_at: None, due: None }
}

fn put_until(key: &RecordKey, expires_at: Timestamp) -> Write {
    Write::Put { key: key.clone(), bytes: ByteView::default(), expires_at: Some(expires_at), due: None }
}

fn put_due(key: &RecordKey, due: Timestamp) -> Write {
    Write::Put { key: key.clone(), bytes: ByteView::default(), expires_at: None, due: Some(due) }
}

pub(super) fn batch(expect: &[(&RecordKey, Revision)], writes: Vec<Write>) -> Batch {
    Batch {
        expect: expect.iter().map(|(key, revision)| ((*key).clone(), *revision)).collect(),
        writes,
        durability: Durability::Synced,
        purpose: Purpose::Admit,
    }
}

pub(super) async fn write(store: &Arc<dyn RecordStore>, writes: Vec<Write>) {
    assert!(store.commit(batch(&[], writes)).await.unwrap().is_applied());
}

pub(super) async fn read(store: &Arc<dyn RecordStore>, key: &RecordKey) -> Option<Record> {
    store.read(std::slice::from_ref(key)).await.unwrap().remove(0)
}

pub(super) async fn a_record_reads_back_as_written(store: &Arc<dyn RecordStore>, _: &Arc<ManualClock>) {
    let key = token("a");
    assert_eq!(read(store, &key).await, None);
    let committed = store.commit(batch(&[(&key, Revision::ABSENT)], vec![put(&key, "one")])).await;
    let first = read(store, &key).await.unwrap();
    assert_eq!(committed, Ok(Committed::Applied(first.revision)), "the batch knows the revision it made");
    assert_eq!(first.bytes, "one".into());
    assert_ne!(first.revision, Revision::ABSENT);
    write(store, vec![put(&key, "")]).await;
    let second = read(store, &key).await.unwrap();
    assert_eq!(second.bytes, "".into());
    assert_ne!(second.revision, first.revision);
}

pub(super) async fn reads_answer_in_the_order_asked(store: &Arc<dyn RecordStore>, _: &Arc<ManualClock>) {
    let [a, b, c] = [token("a"), token("b"), token("c")];
    write(store, vec![put(&a, "A"), put(&c, "C")]).await;
    let read = store.read(&[c, b, a]).await.unwrap();
    let contents: Vec<Option<&[u8]>> =
        read.iter().map(|record| record.as_ref().map(|record| &record.bytes[..])).collect();
    assert_eq!(contents, [Some(&b"C"[..]), None, Some(b"A")]);
}

pub(super) async fn a_batch_whose_expectation_fails_changes_nothing(
    store: &Arc<dyn RecordStore>,
    _: &Arc<ManualClock>,
) {
    let [a, b] = [token("a"), token("b")];
    write(store, vec![put(&a, "old")]).await;
    let before = read(store, &a).await;
    let wrong = batch(
        &[(&a, before.as_ref().unwrap().revision), (&b, Revision(77))],
        vec![put(&a, "new"), put(&b, "new")],
    );
    assert_eq!(store.commit(wrong).await, Ok(Committed::Conflict));
    let exists = batch(&[(&a, Revision::ABSENT)], vec![Write::Delete { key: a.clone() }]);
    assert_eq!(store.commit(exists).await, Ok(Committed::Conflict));
    assert_eq!(read(store, &a).await, before);
    assert_eq!(read(store, &b).await, None);
}

pub(super) async fn an_expectation_without_a_write_guards_the_batch(
    store: &Arc<dyn RecordStore>,
    _: &Arc<ManualClock>,
) {
    let [a, b] = [token("a"), token("b")];
    write(store, vec![put(&a, "1")]).await;
    let revision = read(store, &a).await.unwrap().revision;
    assert!(store.commit(batch(&[(&a, revision)], vec![])).await.unwrap().is_applied());
    write(store, vec![put(&a, "2")]).await;
    let stale = batch(&[(&a, revision)], vec![put(&b, "1")]);
    assert_eq!(store.commit(stale).await, Ok(Committed::Conflict));
    assert_eq!(read(store, &b).await, None);
}

pub(super) async fn a_revision_is_never_used_twice_deletion_included(
    store: &Arc<dyn RecordStore>,
    _: &Arc<ManualClock>,
) {
    let a = token("a");
    let mut seen = std::collections::HashSet::new();
    for _ in 0..5 {
        write(store, vec![put(&a, "same")]).await;
        assert!(seen.insert(read(store, &a).await.unwrap().revision));
        write(store, vec![put(&a, "same")]).await;
        assert!(seen.insert(read(store, &a).await.unwrap().revision));
        write(store, vec![Write::Delete { key: a.clone() }]).await;
        assert_eq!(read(store, &a).await, None);
    }
}

pub(super) async fn the_last_write_of_a_key_in_a_batch_wins(
    store: &Arc<dyn RecordStore>,
    _: &Arc<ManualClock>,
) {
    let [a, b] = [token("a"), token("b")];
    let delete = |key: &RecordKey| Write::Delete { key: key.clone() };
    // Deleting what is absent is fine.
    write(store, vec![delete(&a)]).await;
    write(store, vec![put(&a, "1"), delete(&a), put(&a, "2"), put(&b, "1"), delete(&b)]).await;
    assert_eq!(read(store, &a).await.unwrap().bytes, "2".into());
    assert_eq!(read(store, &b).await, None);
}

pub(super) async fn an_expired_record_is_absent_to_reads_scans_and_expectations(
    store: &Arc<dyn RecordStore>,
    clock: &Arc<ManualClock>,
) {
    let a = token("a");
    write(store, vec![put_until(&a, clock.now().plus(Duration::from_millis(5)))]).await;
    let revision = read(store, &a).await.unwrap().revision;
    clock.advance(Duration::from_millis(4));
    assert!(read(store, &a).await.is_some());
    clock.advance(Duration::from_millis(1));
    assert_eq!(read(store, &a).await, None);
    assert_eq!(store.scan(Kind::Token, None, 10).await.unwrap(), []);
    let stale = batch(&[(&a, revision)], vec![put(&a, "stale")]);
    assert_eq!(store.commit(stale).await, Ok(Committed::Conflict));
    let fresh = batch(&[(&a, Revision::ABSENT)], vec![put(&a, "fresh")]);
    assert!(store.commit(fresh).await.unwrap().is_applied());
    assert_ne!(read(store, &a).await.unwrap().revision, revision);
    assert_swept(store, clock, 10, 0).await;
    assert_eq!(read(store, &a).await.unwrap().bytes, "fresh".into());
}

/// A sweep deletes so many; where the server lets records go by itself, none.
async fn assert_swept(store: &Arc<dyn RecordStore>, clock: &ManualClock, limit: usize, expected: usize) {
    let expected = if store.engine() == "redis" { 0 } else { expected };
    assert_eq!(store.sweep(clock.now(), limit).await, Ok(expected));
}

pub(super) async fn expired_records_go_and_no_others(store: &Arc<dyn RecordStore>, clock: &Arc<ManualClock>) {
    let names = ["a", "b", "c", "d"].map(token);
    let after = |seconds| clock.now().plus(Duration::from_secs(seconds));
    write(store, (1..).zip(&names).map(|(n, key)| put_until(key, after(n))).collect()).await;
    assert_swept(store, clock, 10, 0).await;
    clock.advance(Duration::from_secs(3));
    assert_swept(store, clock, 2, 2).await;
    assert_swept(store, clock, 2, 1).await;
    assert_swept(store, clock, 2, 0).await;
    let left = store.read(&names).await.unwrap();
    assert_eq!(left.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, false, true]);
    // Also what was added behind the sweeper's back, earlier than where it last looked.
    write(store, vec![put_until(&names[0], clock.now())]).await;
    assert_swept(store, clock, 2, 1).await;
}

pub(super) async fn due_names_records_oldest_first_until_they_are_changed(
    store: &Arc<dyn RecordStore>,
    clock: &Arc<ManualClock>,
) {
    let [a, b, c] = [token("a"), key(Kind::Session, "q", "b"), token("c")];
    let now = clock.now();
    let at = |seconds| now.plus(Duration::from_secs(seconds));
    write(store, vec![put_due(&a, at(3)), put_due(&c, at(9))]).await;
    write(store, vec![put_due(&b, at(1))]).await;
    assert_eq!(store.due(now, 10).await.unwrap(), []);
    assert_eq!(store.due(at(3), 10).await.unwrap(), [(at(1), b.clone()), (at(3), a.clone())]);
    assert_eq!(store.due(at(3), 1).await.unwrap(), [(at(1), b.clone())]);
    write(store, vec![put_due(&b, at(4))]).await;
    assert_eq!(store.due(at(4), 10).await.unwrap(), [(at(3), a.clone()), (at(4), b.clone())]);
    write(store, vec![put(&a, "asks for nothing")]).await;
    write(store, vec![Write::Delete { key: b.clone() }]).await;
    assert_eq!(store.due(at(8), 10).await.unwrap(), []);
    write(store, vec![put_due(&b, at(2))]).await;
    assert_eq!(store.due(at(9), 10).await.unwrap(), [(at(2), b), (at(9), c)]);
}

pub(super) async fn a_record_that_expired_is_not_due(store: &Arc<dyn RecordStore>, clock: &Arc<ManualClock>) {
    let now = clock.now();
    let expires_at = Some(now.plus(Duration::from_secs(1)));
    write(
        store,
        vec![Write::Put { key: token("a"), bytes: ByteView::default(), expires_at, due: Some(now) }],
    )
    .await;
    assert_eq!(store.due(now, 10).await.unwrap().len(), 1);
    clock.advance(Duration::from_secs(1));
    assert_eq!(store.due(clock.now(), 10).await.unwrap(), []);
    assert_swept(store, clock, 10, 1).await;
}

const RACERS: usize = 64;

pub(super) async fn of_many_racers_for_one_revision_one_wins(
    store: &Arc<dyn RecordStore>,
    _: &Arc<ManualClock>,
) {
    let key = token("prize");
    for round in 0..4 {
        let revision = read(store, &key).await.map_or(Revision::ABSENT, |record| record.revision);
        let mut racers = JoinSet::new();
        for racer in 0..RACERS {
            let (store, key) = (store.clone(), key.clone());
            racers.spawn(async move {
                let content = format!("{round}/{racer}");
                let committed = store.commit(batch(&[(&key, revision)], vec![put(&key, &content)])).await;
                committed.unwrap().is_applied().then_some(content)
            });
        }
        let winners: Vec<String> = racers.join_all().await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(read(store, &key).await.unwrap().bytes, winners[0].as_str().into());
    }
}

pub(super) async fn no_increment_of_many_is_lost(store: &Arc<dyn RecordStore>, _: &Arc<ManualClock>) {
    let key = token("counter");
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (store, key) = (store.clone(), key.clone());
        tasks.spawn(async move {
            for _ in 0..10 {
                while !increment(&store, &key).await {}
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(read(store, &key).await.unwrap().bytes, "80".into());
}

async fn increment(store: &Arc<dyn RecordStore>, key: &RecordKey) -> bool {
    let (revision, count) = match read(store, key).await {
        Some(record) => (record.revision, std::str::from_utf8(&record.bytes).unwrap().parse().unwrap()),
        None => (Revision::ABSENT, 0_u32),
    };
    let next = batch(&[(key, revision)], vec![put(key, &(count + 1).to_string())]);
    store.commit(next).await.unwrap().is_applied()
}

pub(super) async fn a_reader_never_sees_half_a_batch(store: &Arc<dyn RecordStore>, _: &Arc<ManualClock>) {
    let keys = [token("left"), key(Kind::Session, "p", "right")];
    let writer = {
        let (store, keys) = (store.clone(), keys.clone());
        tokio::spawn(async move {
            for turn in 0..100 {
                write(&store, keys.iter().map(|key| put(key, &turn.to_string())).collect()).await;
            }
        })
    };
    while !writer.is_finished() {
        let pair = store.read(&keys).await.unwrap();
        let contents: Vec<_> = pair.iter().map(|record| record.as_ref().map(|r| &r.bytes)).collect();
        assert_eq!(contents[0], contents[1]);
    }
    writer.await.unwrap();
}

pub(super) async fn an_applied_batch_is_read_back(store: &Arc<dyn RecordStore>, _: &Arc<ManualClock>) {
    let a = key(Kind::Velocity, "p", "a");
    let applied = Batch { durability: Durability::Applied, ..batch(&[], vec![put(&a, "1")]) };
    assert!(store.commit(applied).await.unwrap().is_applied());
    assert_eq!(read(store, &a).await.unwrap().bytes, "1".into());
}

pub(super) async fn tokens_that_are_given_back_count_no_more_however_many_agents_have_them(
    store: &Arc<dyn RecordStore>,
    clock: &Arc<ManualClock>,
) {
    let allotments = Allotments::new(Arc::clone(store));
    let agents: Vec<AgentId> = (0..150).map(|n| AgentId::parse(&format!("agent-{n}")).unwrap()).collect();
    let (now, end) = (clock.now(), clock.now().plus(Duration::from_secs(600)));
    for agent in &agents {
        assert!(
            allotments.reserve(agent, end, 1, now).await.unwrap()
                && !allotments.reserve(agent, end, 1, now).await.unwrap()
        );
    }
    agents.iter().skip(1).for_each(|agent| allotments.release(agent, end, now));
    allotments.finish(now).await;
    let elsewhere = Allotments::new(Arc::clone(store));
    for (number, agent) in agents.iter().enumerate() {
        assert_eq!(elsewhere.reserve(agent, end, 1, now).await, Ok(number > 0), "{agent}");
    }
}
