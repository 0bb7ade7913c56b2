//! Which replica does the background work: one at a time holds a lease in the store. When it dies,
//! another takes over once the lease has run out.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::codec::{Loaded, Stored, Times};
use super::{Batch, Durability, Kind, Purpose, RecordKey, RecordStore, StoreError};
use crate::domain::clock::Timestamp;

/// How long a lease lasts.
const LASTS: Duration = Duration::from_secs(15);
/// Less than this left, and it is taken anew.
const RENEWED_BELOW: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    holder: u64,
    incarnation: u64,
    until: Timestamp,
}

impl Stored for Held {
    const KIND: Kind = Kind::Registry;
    const FORMAT: u8 = 1;
}

/// Whether this is the content of a record of ours.
pub fn is_readable(bytes: &[u8]) -> bool {
    super::codec::decode::<Held>(bytes).is_ok()
}

/// The lease as one replica sees it.
pub struct WorkerLease {
    store: Arc<dyn RecordStore>,
    holder: u64,
}

impl WorkerLease {
    /// The lease of this store; `holder` is a number nobody else draws.
    pub fn new(store: Arc<dyn RecordStore>, holder: u64) -> Self {
        Self { store, holder }
    }

    /// Takes the lease if it is free or ours; whether it is ours now.
    ///
    /// # Errors
    /// [`StoreError`]; the work is then left alone.
    pub async fn hold(&self, now: Timestamp) -> Result<bool, StoreError> {
        let incarnation = self.store.identity().incarnation;
        let key = RecordKey::new(Kind::Registry, "worker", "lease");
        let record = self.store.read(std::slice::from_ref(&key)).await?.pop().flatten();
        let mut loaded: Loaded<Held> = Loaded::decode(key, record)?;
        match &loaded.value {
            Some(held) if held.holder == self.holder && now.plus(RENEWED_BELOW) < held.until => {
                return Ok(true);
            }
            // A holder of an earlier incarnation is gone.
            // So is one whose lease ends later than any can: its clock was ahead.
            Some(held)
                if held.holder != self.holder
                    && held.incarnation == incarnation
                    && now < held.until
                    && held.until <= now.plus(LASTS + RENEWED_BELOW) =>
            {
                return Ok(false);
            }
            Some(_) | None => {}
        }
        loaded.value = Some(Held { holder: self.holder, incarnation, until: now.plus(LASTS) });
        let times = Times { expires_at: Some(now.plus(LASTS)), due: None };
        let Some(write) = loaded.change(|_| times)? else { return Ok(true) };
        let batch = Batch {
            expect: vec![loaded.expectation()],
            writes: vec![write],
            durability: Durability::Applied,
            purpose: Purpose::Finish,
        };
        Ok(self.store.commit(batch).await?.is_applied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::{Clock, ManualClock};
    use crate::records::memory::MemoryStore;

    #[tokio::test]
    async fn one_replica_works_until_it_stops_asking_and_then_another_does() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_seconds(1_000)));
        let store: Arc<dyn RecordStore> = Arc::new(MemoryStore::new(clock.clone()));
        let [one, other] = [1, 2].map(|holder| WorkerLease::new(Arc::clone(&store), holder));
        for _ in 0..40 {
            assert_eq!(one.hold(clock.now()).await, Ok(true));
            assert_eq!(other.hold(clock.now()).await, Ok(false));
            clock.advance(Duration::from_secs(1));
        }
        clock.advance(LASTS);
        assert_eq!(other.hold(clock.now()).await, Ok(true));
        assert_eq!(one.hold(clock.now()).await, Ok(false));
    }
}
