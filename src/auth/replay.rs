//! Replays: which signatures were used, and for what. Apart from `signature` because it is the only
//! part of authentication that waits for a store.
//!
//! A record is named by who signed and what was signed, never by the signature's own bytes: ECDSA
//! signatures have a second valid form (`n - s`), and base64 may come padded or not.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use byteview::ByteView;

use crate::crypto::digest::{Sha256, sha256, sha256_framed};
use crate::domain::clock::Timestamp;
use crate::domain::id::KeyId;
use crate::records::{Batch, Durability, Kind, Purpose, RecordKey, RecordStore, Revision, StoreError, Write};

/// Attempts at a record that another writer keeps changing or that expires meanwhile.
const ATTEMPTS: usize = 3;

/// A signature that must be recorded before the request may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayCheck {
    /// Who signed what.
    id: Sha256,
    /// Until when the record must live.
    keep_until: Timestamp,
}

/// What a request asks for: a signature seen again with the same use is a retry.
#[derive(Clone, Copy)]
pub struct Use<'a> {
    /// The method.
    pub method: &'a str,
    /// The merchant, empty where none is named.
    pub merchant: &'a str,
    /// The canonical path.
    pub path: &'a str,
    /// The caller's idempotency key, empty where there is none.
    pub idempotency_key: &'a str,
    /// The fingerprint of the body.
    pub body: &'a [u8],
}

impl Use<'_> {
    /// One digest for all of it.
    pub fn digest(&self) -> Sha256 {
        sha256_framed(&[
            self.method.as_bytes(),
            self.merchant.as_bytes(),
            self.path.as_bytes(),
            self.idempotency_key.as_bytes(),
            self.body,
        ])
    }
}

/// Why a request must not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Replay {
    /// The signature was used for something else.
    #[error("the signature was used for another request")]
    Replayed,
    /// It cannot be known whether it was.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ReplayCheck {
    /// The check of a signature by `owner`'s key over `base`. Owners have keys of their own, so the
    /// same key id names different keys. It is kept until `created` plus twice the window: until no
    /// clock within the window accepts it any more.
    pub(super) fn new(owner: &str, key: &KeyId, base: &[u8], created: Timestamp, window: Duration) -> Self {
        Self {
            id: sha256_framed(&[owner.as_bytes(), key.as_str().as_bytes(), &sha256(&[base])]),
            keep_until: created.plus(window.saturating_mul(2)),
        }
    }

    /// The record that remembers it.
    fn record(&self) -> RecordKey {
        RecordKey::new(Kind::Replay, &URL_SAFE_NO_PAD.encode(self.id), "use")
    }
}

/// Records the use of a signature, or compares it with the use that is recorded.
///
/// The write is [`Durability::Applied`]: it is on disk no later than the claim that follows it, and a
/// request that is lost with it has moved no money. `purpose` is that of the request: what must always
/// be tried does not fail for want of space for this.
///
/// # Errors
/// [`Replay::Replayed`] when it was used otherwise; [`Replay::Store`] when the store cannot say.
pub async fn check_and_record(
    store: &dyn RecordStore,
    check: &ReplayCheck,
    use_digest: &Sha256,
    purpose: Purpose,
) -> Result<(), Replay> {
    let key = check.record();
    for _ in 0..ATTEMPTS {
        // Writing first: nearly every signature is new, and then this is the only round trip.
        let batch = Batch {
            expect: vec![(key.clone(), Revision::ABSENT)],
            writes: vec![Write::Put {
                key: key.clone(),
                bytes: ByteView::new(use_digest),
                expires_at: Some(check.keep_until),
                due: None,
            }],
            durability: Durability::Applied,
            purpose,
        };
        if store.commit(batch).await?.is_applied() {
            return Ok(());
        }
        let mut records = store.read(std::slice::from_ref(&key)).await?;
        match records.pop().flatten() {
            Some(record) if *record.bytes == *use_digest => return Ok(()),
            Some(_) => return Err(Replay::Replayed),
            // It expired between the two calls.
            None => {}
        }
    }
    Err(Replay::Store(StoreError::Unavailable))
}

/// Whether this is the content of a record of ours.
pub fn is_readable(bytes: &[u8]) -> bool {
    bytes.len() == size_of::<Sha256>()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::clock::{Clock, ManualClock};
    use crate::records::memory::MemoryStore;

    const WINDOW: Duration = Duration::from_secs(300);
    const USE: Use<'_> =
        Use { method: "POST", merchant: "m", path: "/a/complete", idempotency_key: "k", body: b"b" };

    fn check(owner: &str, base: &[u8]) -> ReplayCheck {
        let created = Timestamp::from_unix_seconds(1_000);
        ReplayCheck::new(owner, &KeyId::parse("k1").unwrap(), base, created, WINDOW)
    }

    fn store() -> (Arc<ManualClock>, MemoryStore) {
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_seconds(1_000)));
        (clock.clone(), MemoryStore::new(clock))
    }

    #[tokio::test]
    async fn the_same_use_is_a_retry_and_any_other_is_a_replay() {
        let (_, store) = store();
        let first = check("agent", b"base");
        assert_eq!(check_and_record(&store, &first, &USE.digest(), Purpose::Admit).await, Ok(()));
        assert_eq!(check_and_record(&store, &first, &USE.digest(), Purpose::Admit).await, Ok(()));
        for other in [
            Use { method: "PUT", ..USE },
            Use { merchant: "n", ..USE },
            Use { path: "/b/complete", ..USE },
            Use { idempotency_key: "l", ..USE },
            Use { body: b"c", ..USE },
        ] {
            let replayed = check_and_record(&store, &first, &other.digest(), Purpose::Admit).await;
            assert_eq!(replayed, Err(Replay::Replayed));
        }
    }

    #[tokio::test]
    async fn another_signature_or_another_owner_has_a_record_of_its_own() {
        let (_, store) = store();
        let other_use = Use { path: "/b/complete", ..USE }.digest();
        check_and_record(&store, &check("agent", b"base"), &USE.digest(), Purpose::Admit).await.unwrap();
        check_and_record(&store, &check("agent", b"other"), &other_use, Purpose::Admit).await.unwrap();
        check_and_record(&store, &check("other", b"base"), &other_use, Purpose::Admit).await.unwrap();
    }

    #[tokio::test]
    async fn it_is_remembered_for_twice_the_window_and_then_forgotten() {
        let (clock, store) = store();
        let check = check("agent", b"base");
        let other_use = Use { path: "/b/complete", ..USE }.digest();
        check_and_record(&store, &check, &USE.digest(), Purpose::Admit).await.unwrap();
        clock.set(Timestamp::from_unix_millis(1_599_999));
        assert_eq!(check_and_record(&store, &check, &other_use, Purpose::Admit).await, Err(Replay::Replayed));
        clock.set(Timestamp::from_unix_seconds(1_600));
        assert_eq!(clock.now().unix_seconds(), 1_600);
        assert_eq!(check_and_record(&store, &check, &other_use, Purpose::Admit).await, Ok(()));
    }

    #[tokio::test]
    async fn of_two_uses_at_once_one_wins() {
        let (_, store) = store();
        let check = check("agent", b"base");
        let (one, two) = (USE.digest(), Use { path: "/b/complete", ..USE }.digest());
        let (one, two) = tokio::join!(
            check_and_record(&store, &check, &one, Purpose::Admit),
            check_and_record(&store, &check, &two, Purpose::Admit)
        );
        assert!(one.is_ok() != two.is_ok());
    }

    #[tokio::test]
    async fn a_store_that_cannot_answer_refuses() {
        let (_, store) = store();
        store.fail(Some(StoreError::Unavailable));
        let refused = check_and_record(&store, &check("agent", b"base"), &USE.digest(), Purpose::Admit).await;
        assert_eq!(refused, Err(Replay::Store(StoreError::Unavailable)));
    }
}
