//! What every engine's registry of replicas must do, and when formats turn.

use std::sync::Arc;
use std::time::Duration;

use byteview::ByteView;
use tokio::task::JoinSet;

use crate::domain::clock::{Clock, ManualClock, Timestamp};
use crate::records::formats::{Formats, Written};
use crate::records::replicas::{
    LIVES, Membership, NotConverted, NotRegistered, RENEW_EVERY, Registered, SETTLES, look,
};
use crate::records::{Batch, Durability, Kind, Purpose, RecordKey, RecordStore, Write};

const NEWEST: Registered = Registered { written: Formats::NEWEST, turned: false };
const OLDER: Registered = Registered { written: Formats::OLDER, turned: false };
const TURNED: Registered = Registered { written: Formats::NEWEST, turned: true };

fn member(store: &Arc<dyn RecordStore>, id: u64) -> (Membership, Written) {
    let written = Written::new(Formats::OLDER);
    (Membership::new(Arc::clone(store), id, written.clone()), written)
}

async fn known(store: &Arc<dyn RecordStore>, now: Timestamp) -> Vec<u64> {
    let registry = look(&**store, now).await.unwrap();
    registry.into_iter().flat_map(|registry| registry.replicas).map(|replica| replica.id).collect()
}

/// Leaves what every release wrote before there was a registry.
async fn as_used_before(store: &Arc<dyn RecordStore>) {
    let key = RecordKey::new(Kind::Registry, "key-use", "signing/k1");
    let write = Write::Put { key, bytes: ByteView::from(b"any"), expires_at: None, due: None };
    let (durability, purpose) = (Durability::Synced, Purpose::Finish);
    let batch = Batch { expect: vec![], writes: vec![write], durability, purpose };
    assert!(store.commit(batch).await.unwrap().is_applied());
}

pub(in crate::storage) async fn a_replica_is_known_with_what_it_says_until_it_leaves_or_is_silent(
    store: &Arc<dyn RecordStore>,
    clock: &Arc<ManualClock>,
) {
    assert_eq!(look(&**store, clock.steady()).await, Ok(None));
    let (one, _) = member(store, 1);
    let (other, _) = member(store, 2);
    one.say("keys", vec!["seal-1".to_owned()]);
    assert_eq!(one.renew(clock.steady()).await, Ok(NEWEST));
    assert_eq!(other.renew(clock.steady()).await, Ok(NEWEST));
    let registry = look(&**store, clock.steady()).await.unwrap().unwrap();
    assert_eq!((registry.written, registry.awaits_operator), (Formats::NEWEST, false));
    let [first, second] = &registry.replicas[..] else { panic!("{registry:?}") };
    assert_eq!((first.id, second.id, first.reads), (1, 2, Formats::NEWEST));
    assert_eq!(first.facts["keys"], ["seal-1"]);

    // One goes on, the other falls silent.
    for _ in 0..4 {
        clock.advance(RENEW_EVERY);
        one.renew(clock.steady()).await.unwrap();
    }
    assert_eq!(known(store, clock.steady()).await, [1]);
    one.leave(clock.steady()).await.unwrap();
    assert_eq!(known(store, clock.steady()).await, [0; 0]);
}

pub(in crate::storage) async fn of_many_replicas_that_register_at_once_none_is_lost(
    store: &Arc<dyn RecordStore>,
    clock: &Arc<ManualClock>,
) {
    let now = clock.steady();
    let mut racers = JoinSet::new();
    for id in 0..12 {
        let (member, _) = member(store, id);
        racers.spawn(async move { member.renew(now).await });
    }
    while let Some(registered) = racers.join_next().await {
        assert_eq!(registered.unwrap(), Ok(NEWEST));
    }
    let mut ids = known(store, now).await;
    ids.sort_unstable();
    assert_eq!(ids, (0..12).collect::<Vec<_>>());
}

pub(in crate::storage) async fn a_replica_whose_clock_is_ahead_lives_no_longer_by_that(
    store: &Arc<dyn RecordStore>,
    clock: &Arc<ManualClock>,
) {
    let (ahead, _) = member(store, 1);
    let (other, _) = member(store, 2);
    ahead.renew(clock.steady().plus(Duration::from_secs(3600))).await.unwrap();
    other.renew(clock.steady()).await.unwrap();
    clock.advance(LIVES);
    assert_eq!(known(store, clock.steady()).await, [0; 0]);
}

pub(in crate::storage) async fn newer_formats_are_written_once_every_replica_has_read_them_for_long_enough(
    store: &Arc<dyn RecordStore>,
    clock: &Arc<ManualClock>,
) {
    let (before, _) = member(store, 1);
    let before = before.reading(Formats::OLDER);
    assert_eq!(before.renew(clock.steady()).await, Ok(OLDER));
    let (one, one_writes) = member(store, 2);
    let (other, other_writes) = member(store, 3);
    let renew_for = async |span: Duration, old_lives: bool| {
        let end = clock.steady().plus(span);
        let mut last = [OLDER; 2];
        while clock.steady() < end {
            clock.advance(RENEW_EVERY);
            if old_lives {
                assert_eq!(before.renew(clock.steady()).await, Ok(OLDER));
            }
            last = [one.renew(clock.steady()).await.unwrap(), other.renew(clock.steady()).await.unwrap()];
        }
        last
    };
    assert_eq!(renew_for(SETTLES * 2, true).await, [OLDER; 2], "one lives that reads older ones only");
    assert!(matches!(one.convert(clock.steady()).await, Err(NotConverted::StillRead(who)) if who[0].id == 1));
    before.leave(clock.steady()).await.unwrap();
    if store.is_exclusive() {
        // Nobody else can have it open.
        assert_eq!(one.renew(clock.steady()).await, Ok(TURNED));
        return;
    }
    assert_eq!(renew_for(SETTLES / 2, false).await, [OLDER; 2]);
    assert_eq!(before.renew(clock.steady()).await, Ok(OLDER), "it may come back");
    assert_eq!(renew_for(RENEW_EVERY, true).await, [OLDER; 2]);
    before.leave(clock.steady()).await.unwrap();
    assert_eq!(renew_for(SETTLES, false).await, [OLDER; 2], "then all begins anew");
    assert_eq!([one_writes.now(), other_writes.now()], [Formats::OLDER; 2]);
    clock.advance(RENEW_EVERY);
    assert_eq!(one.renew(clock.steady()).await, Ok(TURNED));
    assert_eq!((one_writes.now(), other_writes.now()), (Formats::NEWEST, Formats::OLDER));
    assert_eq!(other.renew(clock.steady()).await, Ok(NEWEST));
    assert_eq!(other_writes.now(), Formats::NEWEST);
    assert_eq!(one.renew(clock.steady()).await, Ok(NEWEST), "once");
}

pub(in crate::storage) async fn a_replica_that_cannot_read_what_is_written_is_not_registered(
    store: &Arc<dyn RecordStore>,
    clock: &Arc<ManualClock>,
) {
    let (new, _) = member(store, 1);
    assert_eq!(new.renew(clock.steady()).await, Ok(NEWEST));
    let (old, written) = member(store, 2);
    let old = old.reading(Formats::OLDER);
    let too_old = NotRegistered::TooOld { written: Formats::NEWEST, reads: Formats::OLDER };
    assert_eq!(old.renew(clock.steady()).await, Err(too_old));
    assert_eq!((known(store, clock.steady()).await, written.now()), (vec![1], Formats::OLDER));
    let told = too_old.to_string();
    let written = format!("written in formats {}", Formats::NEWEST);
    assert!(told.contains(&written) && told.contains("reads formats up to 1"), "{told}");
}

pub(in crate::storage) async fn where_releases_without_a_registry_may_live_an_operator_says_that_none_does(
    store: &Arc<dyn RecordStore>,
    clock: &Arc<ManualClock>,
) {
    as_used_before(store).await;
    let (one, writes) = member(store, 1);
    let first = one.renew(clock.steady()).await;
    if store.is_exclusive() {
        assert_eq!((first, writes.now()), (Ok(NEWEST), Formats::NEWEST), "none can live");
        return;
    }
    assert_eq!(first, Ok(OLDER));
    let end = clock.steady().plus(SETTLES * 2);
    while clock.steady() < end {
        clock.advance(RENEW_EVERY);
        assert_eq!(one.renew(clock.steady()).await, Ok(OLDER), "not by itself");
    }
    assert!(look(&**store, clock.steady()).await.unwrap().unwrap().awaits_operator);
    assert_eq!(one.convert(clock.steady()).await, Ok(TURNED));
    assert_eq!(writes.now(), Formats::NEWEST);
    assert_eq!(one.convert(clock.steady()).await, Ok(NEWEST), "again is harmless");
    assert!(!look(&**store, clock.steady()).await.unwrap().unwrap().awaits_operator);
}

pub(in crate::storage) async fn who_has_written_newer_formats_writes_them_in_a_store_that_was_lost(
    store: &Arc<dyn RecordStore>,
    clock: &Arc<ManualClock>,
) {
    let (one, writes) = member(store, 1);
    assert_eq!(one.renew(clock.steady()).await, Ok(NEWEST));
    let key = RecordKey::new(Kind::Registry, "replicas", "roll");
    let (durability, purpose) = (Durability::Synced, Purpose::Finish);
    let batch = Batch { expect: vec![], writes: vec![Write::Delete { key }], durability, purpose };
    assert!(store.commit(batch).await.unwrap().is_applied());
    as_used_before(store).await;
    assert_eq!(one.renew(clock.steady()).await, Ok(NEWEST));
    assert_eq!((known(store, clock.steady()).await, writes.now()), (vec![1], Formats::NEWEST));
}
