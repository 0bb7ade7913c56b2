//! Finds what has expired by walking through the records, a portion at a time. Apart because it
//! decides what a record's end costs: an index of ends would have to be moved twice by every
//! complete, while a walk costs some reading now and then, of which requests know nothing.
//!
//! A record that cannot be read is passed over: `store check` names it, and it must not keep those
//! behind it.

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::atomic::{AtomicI64, Ordering};

use fjall::{Keyspace, Slice};
use parking_lot::Mutex;

use super::encoding::{Header, StoreKey, position};
use crate::domain::clock::Timestamp;
use crate::records::Kind;

/// Records a walk looks at in one portion: some milliseconds. At a portion a second ten million
/// records are gone through in forty minutes.
const PORTION: usize = 4_096;
/// The most bytes of them: a portion of large ones ends sooner.
const PORTION_BYTES: usize = 32 << 20;

const BEGINNING: i64 = i64::MIN;
const END: i64 = i64::MAX;

/// Kinds that live for minutes are gone through apart: they would wait for a round through all that
/// lives for months.
const SHORT_LIVED: &[Kind] = &[Kind::Replay, Kind::Velocity, Kind::Registry];
const LONG_LIVED: &[Kind] = &[Kind::Session, Kind::Token, Kind::Idempotency];

/// The walks through all records.
pub(super) struct Walks([Walk; 2]);

/// Where a walk is, and from when on its next round is worth while.
struct Walk {
    kinds: &'static [Kind],
    place: Mutex<Place>,
    /// The earliest end, in milliseconds, of a record written since the last round began.
    written: AtomicI64,
}

struct Place {
    /// Which kind is next, and after which record; `None` between rounds.
    next: Option<(usize, Bound<Vec<u8>>)>,
    /// The earliest end, in milliseconds, that the last round has seen.
    earliest: i64,
}

impl Walks {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        Self([SHORT_LIVED, LONG_LIVED].map(Walk::new))
    }

    /// A record that ends at `at` is visible now: see [`Walk::written`].
    pub(super) fn written(&self, kind: Kind, at: Timestamp) {
        self.0.iter().filter(|walk| walk.kinds.contains(&kind)).for_each(|walk| walk.written(at));
    }

    /// At most `limit` of the records, which stand in one keyspace for each kind, that have expired.
    pub(super) fn expired(&self, records: &[Keyspace], now: Timestamp, limit: usize) -> Vec<StoreKey> {
        let mut found = Vec::new();
        for walk in &self.0 {
            found.extend(walk.expired(records, now, limit - found.len()));
        }
        found
    }
}

impl Walk {
    fn new(kinds: &'static [Kind]) -> Self {
        let place = Place { next: None, earliest: BEGINNING };
        Self { kinds, place: Mutex::new(place), written: AtomicI64::new(END) }
    }

    /// A record that ends at `at` is visible now. To be called after it became so: a round that
    /// begins later sees it, and one that began earlier is followed by another.
    fn written(&self, at: Timestamp) {
        self.written.fetch_min(at.unix_millis(), Ordering::AcqRel);
    }

    /// At most `limit` records that have expired. Goes on where it stopped, round after round, but
    /// begins none before anything can have expired.
    fn expired(&self, records: &[Keyspace], now: Timestamp, limit: usize) -> HashSet<StoreKey> {
        let mut place = self.place.lock();
        let mut portion = Portion {
            now,
            limit,
            left: PORTION.max(limit),
            left_bytes: PORTION_BYTES,
            found: HashSet::new(),
        };
        // A portion that begins within a round goes on into another: what expired behind it since is
        // found too.
        let begins_within = place.next.is_some();
        for _ in 0..=usize::from(begins_within) {
            if place.next.is_none() {
                if place.earliest.min(self.written.load(Ordering::Acquire)) > now.unix_millis() {
                    break;
                }
                self.written.swap(END, Ordering::AcqRel);
                *place = Place { next: Some((0, Bound::Unbounded)), earliest: END };
            }
            portion.walk(records, self.kinds, &mut place);
            if place.next.is_some() {
                break;
            }
        }
        portion.found
    }
}

struct Portion {
    now: Timestamp,
    limit: usize,
    left: usize,
    left_bytes: usize,
    found: HashSet<StoreKey>,
}

impl Portion {
    /// Walks on until the round or the portion ends.
    fn walk(&mut self, records: &[Keyspace], kinds: &[Kind], place: &mut Place) {
        while let Some((number, after)) = place.next.take() {
            let Some(kind) = kinds.get(number).copied() else { return };
            let mut reached = None;
            let of_kind = records.get(position(kind)).into_iter();
            for entry in
                of_kind.flat_map(|records| records.range::<Vec<u8>, _>((after.clone(), Bound::Unbounded)))
            {
                if self.found.len() >= self.limit || self.left == 0 || self.left_bytes == 0 {
                    let reached = reached.map_or(after, |key: Slice| Bound::Excluded(key.to_vec()));
                    place.next = Some((number, reached));
                    return;
                }
                self.left -= 1;
                // Behind a block that cannot be read nothing of the kind can be.
                let Ok((key, value)) = entry.into_inner() else { break };
                self.left_bytes = self.left_bytes.saturating_sub(value.len());
                if let Some((header, _)) = Header::decode(&value) {
                    if let Some(at) = header.expires_at {
                        place.earliest = place.earliest.min(at.unix_millis());
                    }
                    if header.is_expired(self.now) {
                        self.found.extend(StoreKey::from_keyspace(kind, &key));
                    }
                }
                reached = Some(key);
            }
            place.next = Some((number + 1, Bound::Unbounded));
        }
    }
}
