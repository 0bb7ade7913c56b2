//! Which of our key ids the store may still depend on.
//!
//! So that a configuration that has lost one is refused at start instead of failing payments later.
//!
//! A key counts as in use for as long as anything made with it can matter after it was last
//! current: the longest life of a token, the retention of an unfinished key, and a margin for how
//! often this is noted.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::codec::{Loaded, Stored, Times};
use super::replicas::Replica;
use super::{Batch, Durability, Kind, Purpose, RecordKey, RecordStore, StoreError};
use crate::crypto::keyset::Ring;
use crate::crypto::rings::KeyRings;
use crate::domain::clock::Timestamp;
use crate::domain::id::KeyId;

/// How long after it was last current a key may still be needed: 8 days and 3 hours.
pub const IN_USE: Duration = Duration::from_secs((8 * 24 + 3) * 3600);

/// What a replica says of the keys it holds: [`held`] of each.
pub const FACT: &str = "keys";
const PARTITION: &str = "key-use";
const AGES: &str = "key-age";
const ROUNDS: usize = 8;
/// Records looked at in one go.
const PAGE: usize = 500;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeyUse {
    ring: String,
    id: KeyId,
    last_current: Timestamp,
}

impl Stored for KeyUse {
    const KIND: Kind = Kind::Registry;
    const FORMAT: u8 = 1;
}

/// Since when a key is, or was first, the current one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeyAge {
    ring: String,
    id: KeyId,
    first_current: Timestamp,
}

impl Stored for KeyAge {
    const KIND: Kind = Kind::Registry;
    const FORMAT: u8 = 1;
}

/// A key id that the store may still depend on and no ring has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the store still depends on {ring} key \"{id}\", which the configuration no longer has: put it back as a previous key until {until}"
)]
pub struct MissingKey {
    /// Which ring.
    pub ring: String,
    /// Which key.
    pub id: KeyId,
    /// When it is no longer needed, RFC 3339.
    pub until: String,
}

/// Every key that is still in use and missing from the rings.
///
/// # Errors
/// [`StoreError`].
pub async fn missing(
    store: &dyn RecordStore,
    rings: &KeyRings,
    now: Timestamp,
) -> Result<Vec<MissingKey>, StoreError> {
    let mut missing = Vec::new();
    let mut after = None;
    loop {
        let page = store.scan(Kind::Registry, after.as_ref(), PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(missing) };
        after = Some(last.clone());
        for (_, record) in page.iter().filter(|(key, _)| key.partition() == PARTITION) {
            let KeyUse { ring, id, last_current } = super::codec::decode(&record.bytes)?;
            let until = last_current.plus(IN_USE);
            if now < until && !ids(rings).any(|(known, known_id)| known == ring && *known_id == id) {
                missing.push(MissingKey { ring, id, until: until.to_rfc3339() });
            }
        }
    }
}

/// Notes which keys are current now. To be repeated at least hourly.
///
/// # Errors
/// [`StoreError`].
pub async fn note(store: &dyn RecordStore, rings: &KeyRings, now: Timestamp) -> Result<(), StoreError> {
    for (ring, id) in currents(rings) {
        let key = RecordKey::new(Kind::Registry, PARTITION, &format!("{ring}/{id}"));
        for _ in 0..ROUNDS {
            let record = store.read(std::slice::from_ref(&key)).await?.pop().flatten();
            let mut loaded: Loaded<KeyUse> = Loaded::decode(key.clone(), record)?;
            loaded.value = Some(KeyUse { ring: ring.to_owned(), id: id.clone(), last_current: now });
            let times = Times { expires_at: Some(now.plus(IN_USE)), due: None };
            let Some(write) = loaded.change(|_| times)? else { break };
            let batch = Batch {
                expect: vec![loaded.expectation()],
                writes: vec![write],
                durability: Durability::Synced,
                purpose: Purpose::Finish,
            };
            if store.commit(batch).await?.is_applied() {
                break;
            }
        }
    }
    Ok(())
}

/// Since when the current key of each ring is that; noted with the first look.
///
/// # Errors
/// [`StoreError`].
pub async fn ages(
    store: &dyn RecordStore,
    rings: &KeyRings,
    now: Timestamp,
) -> Result<Vec<(&'static str, Timestamp)>, StoreError> {
    let mut ages = Vec::new();
    for (ring, id) in currents(rings) {
        let key = RecordKey::new(Kind::Registry, AGES, &format!("{ring}/{id}"));
        let record = store.read(std::slice::from_ref(&key)).await?.pop().flatten();
        let mut loaded: Loaded<KeyAge> = Loaded::decode(key, record)?;
        if let Some(known) = &loaded.value {
            ages.push((ring, known.first_current));
            continue;
        }
        ages.push((ring, now));
        let age = KeyAge { ring: ring.to_owned(), id: id.clone(), first_current: now };
        loaded.value = Some(age);
        let Some(write) = loaded.change(|_| Times::default())? else { continue };
        let batch = Batch {
            expect: vec![loaded.expectation()],
            writes: vec![write],
            durability: Durability::Applied,
            purpose: Purpose::Finish,
        };
        // Another replica that was first has noted the same.
        store.commit(batch).await?;
    }
    Ok(ages)
}

/// Whether a replica holds a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Since then.
    Since(Timestamp),
    /// It does not.
    Never,
    /// It does not say.
    Unknown,
}

/// What a replica says of a key that it has held since then.
pub fn held(ring: &str, id: &KeyId, since: Timestamp) -> String {
    format!("{ring}/{id} {}", since.unix_millis())
}

/// What another says of it.
pub fn held_by(replica: &Replica, ring: &str, id: &KeyId) -> Held {
    let Some(told) = replica.facts.get(FACT) else { return Held::Unknown };
    let name = format!("{ring}/{id}");
    let since = told.iter().find_map(|key| key.split_once(' ').filter(|(key, _)| *key == name));
    let since = since.map(|(_, since)| since.parse().ok().map(Timestamp::from_unix_millis));
    since.map_or(Held::Never, |since| since.map_or(Held::Unknown, Held::Since))
}

/// Whether this is the content of a record of ours.
pub fn is_readable(bytes: &[u8]) -> bool {
    super::codec::decode::<KeyUse>(bytes).is_ok()
}

/// The current key of each ring.
pub fn currents(rings: &KeyRings) -> [(&'static str, &KeyId); 5] {
    [
        ("signing", rings.signing.current().0),
        ("sealing", rings.sealing.current().0),
        ("fingerprint", rings.fingerprint.current().0),
        ("card_fingerprint", rings.card_fingerprint.current().0),
        ("derivation", rings.derivation.current().0),
    ]
}

/// Every key of every ring.
pub fn ids(rings: &KeyRings) -> impl Iterator<Item = (&'static str, &KeyId)> {
    fn of<'r, K>(ring: &'static str, keys: &'r Ring<K>) -> impl Iterator<Item = (&'static str, &'r KeyId)> {
        keys.iter().map(move |(id, _)| (ring, id))
    }
    of("signing", &rings.signing)
        .chain(of("sealing", &rings.sealing))
        .chain(of("fingerprint", &rings.fingerprint))
        .chain(of("card_fingerprint", &rings.card_fingerprint))
        .chain(of("derivation", &rings.derivation))
}
