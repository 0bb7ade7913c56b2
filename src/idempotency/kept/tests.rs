//! How much is kept, as several processes count it.

use super::*;
use crate::domain::clock::{Clock, ManualClock};
use crate::idempotency::RETENTION;
use crate::records::memory::MemoryStore;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

fn agent() -> AgentId {
    AgentId::parse("agent").unwrap()
}

fn kept(bytes: u64, from: Timestamp) -> Kept {
    Kept { hour: hour(from.plus(RETENTION)), bytes, signed: false }
}

fn added(bytes: u64) -> Recharge {
    Recharge { before: None, after: kept(bytes, NOW) }
}

async fn admits(bytes: &KeptBytes, more: u64, now: Timestamp) -> Result<(), (LimitScope, u32)> {
    let admitted = bytes.admit(&agent(), false, 100, more, now).await.unwrap();
    admitted.map_err(|limited| (limited.scope, limited.retry_after_seconds))
}

#[tokio::test]
async fn so_much_is_kept_and_no_more_until_it_ends() {
    let clock = Arc::new(ManualClock::new(NOW));
    let store = Arc::new(MemoryStore::new(clock.clone()));
    let bytes = KeptBytes::new(store, 150);
    bytes.changed(&agent(), added(60), NOW);
    bytes.changed(&agent(), added(40), NOW);
    // 1,800,000,000 is a full hour: what ends 25 hours later is counted to the end of its hour.
    assert_eq!(admits(&bytes, 1, NOW).await, Err((LimitScope::AgentKeptBytes, 26 * 3600)));
    // A record that shrinks, as when a request gives way to its answer, is charged what it is.
    bytes.changed(&agent(), Recharge { before: Some(kept(60, NOW)), after: kept(10, NOW) }, NOW);
    assert_eq!((admits(&bytes, 50, NOW).await, admits(&bytes, 51, NOW).await.is_err()), (Ok(()), true));
    let signed = bytes.admit(&agent(), true, 100, 100, NOW).await.unwrap();
    assert_eq!(signed, Ok(()), "what it signs is counted apart");
    let signed = bytes.admit(&agent(), true, 1000, 101, NOW).await.unwrap();
    assert_eq!(signed.unwrap_err().scope, LimitScope::KeptBytes, "but not in all");
    clock.advance(Duration::from_secs(26 * 3600));
    assert_eq!(admits(&bytes, 100, clock.now()).await, Ok(()));
}

#[tokio::test]
async fn counts_are_shared_and_outlive_the_process() {
    let store: Arc<dyn RecordStore> = Arc::new(MemoryStore::new(Arc::new(ManualClock::new(NOW))));
    let [one, other] = [(); 2].map(|()| KeptBytes::new(Arc::clone(&store), 1000));
    for replica in [&one, &other] {
        replica.changed(&agent(), added(50), NOW);
    }
    assert_eq!(admits(&other, 50, NOW).await, Ok(()), "not told yet");
    one.finish(NOW).await;
    other.finish(NOW).await;
    assert!(admits(&other, 1, NOW).await.is_err());
    let next = KeptBytes::new(Arc::clone(&store), 1000);
    assert!(admits(&next, 1, NOW).await.is_err());
    assert_eq!(next.in_all(NOW).await, 100);
    // What another takes off is seen before anybody is refused for it.
    other.changed(&agent(), Recharge { before: Some(kept(50, NOW)), after: kept(1, NOW) }, NOW);
    other.finish(NOW).await;
    next.0.views.lock().values_mut().for_each(|view| view.read_at = view.read_at.map(|at| at - FRESH));
    assert_eq!(admits(&next, 49, NOW).await, Ok(()));
}

#[tokio::test]
async fn what_a_store_refuses_waits_and_counts_meanwhile() {
    let store = Arc::new(MemoryStore::new(Arc::new(ManualClock::new(NOW))));
    let bytes = KeptBytes::new(store.clone(), 1000);
    assert_eq!(admits(&bytes, 100, NOW).await, Ok(()));
    bytes.changed(&agent(), added(100), NOW);
    store.fail(Some(StoreError::Unavailable));
    bytes.finish(NOW).await;
    assert!(bytes.admit(&agent(), false, 100, 1, NOW).await.unwrap().is_err());
    store.fail(None);
    bytes.finish(NOW).await;
    let commits = store.commits();
    bytes.finish(NOW).await;
    assert_eq!(store.commits(), commits, "written once");
    assert_eq!(KeptBytes::new(store, 1000).in_all(NOW).await, 100);
}
