//! The latest instant that a store's clocks had agreed on, kept in it.
//!
//! A process that starts with a wrong clock neither deletes by it nor revives what had expired.

use serde::{Deserialize, Serialize};

use super::codec::{Loaded, Stored, Times};
use super::{Batch, Durability, Kind, Purpose, RecordKey, RecordStore, StoreError};
use crate::domain::clock::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Agreed {
    at: Timestamp,
}

impl Stored for Agreed {
    const KIND: Kind = Kind::Registry;
    const FORMAT: u8 = 1;
}

/// Whether this is the content of a record of ours.
pub fn is_readable(bytes: &[u8]) -> bool {
    super::codec::decode::<Agreed>(bytes).is_ok()
}

async fn look(store: &dyn RecordStore) -> Result<Loaded<Agreed>, StoreError> {
    let key = RecordKey::new(Kind::Registry, "clock", "agreed");
    let record = store.read(std::slice::from_ref(&key)).await?.pop().flatten();
    Loaded::decode(key, record)
}

/// What the store knows; `None` when nothing yet.
///
/// # Errors
/// [`StoreError`].
pub async fn known(store: &dyn RecordStore) -> Result<Option<Timestamp>, StoreError> {
    Ok(look(store).await?.value.map(|agreed| agreed.at))
}

/// Has the store remember `at`, unless it knows of a later instant.
///
/// # Errors
/// [`StoreError`]; it is to be told again later.
pub async fn keep(store: &dyn RecordStore, at: Timestamp) -> Result<(), StoreError> {
    let mut loaded = look(store).await?;
    if loaded.value.as_ref().is_some_and(|known| known.at >= at) {
        return Ok(());
    }
    loaded.value = Some(Agreed { at });
    let Some(write) = loaded.change(|_| Times::default())? else { return Ok(()) };
    let batch = Batch {
        expect: vec![loaded.expectation()],
        writes: vec![write],
        durability: Durability::Applied,
        purpose: Purpose::Finish,
    };
    // Another replica that was first told it as well.
    store.commit(batch).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::clock::ManualClock;
    use crate::records::memory::MemoryStore;

    #[tokio::test]
    async fn the_latest_instant_that_was_told_is_remembered() {
        let at = Timestamp::from_unix_seconds;
        let store = MemoryStore::new(Arc::new(ManualClock::new(at(1_000))));
        assert_eq!(known(&store).await, Ok(None));
        keep(&store, at(1_000)).await.unwrap();
        keep(&store, at(900)).await.unwrap();
        assert_eq!(known(&store).await, Ok(Some(at(1_000))));
        keep(&store, at(1_001)).await.unwrap();
        assert_eq!(known(&store).await, Ok(Some(at(1_001))));
    }
}
