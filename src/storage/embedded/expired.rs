//! Finds what has expired by walking through the records, a portion at a time. Apart because it
//! decides what a record's end costs: an index of ends would have to be moved twice by every
//! complete, while a walk costs some reading now and then, of which requests know nothing.

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::atomic::{AtomicI64, Ordering};

use fjall::Slice;
use parking_lot::Mutex;

use super::encoding::{Header, StoreKey};
use super::live::{Live, unreadable};
use crate::domain::clock::Timestamp;
use crate::records::{Kind, StoreError};

/// Records looked at in one portion: some milliseconds. At a portion a second ten million records
/// are gone through in forty minutes.
const PORTION: usize = 4_096;

const BEGINNING: i64 = i64::MIN;
const END: i64 = i64::MAX;

/// Where the walk is, and from when on the next round is worth while.
pub(super) struct Walk {
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

impl Walk {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        let place = Place { next: None, earliest: BEGINNING };
        Self { place: Mutex::new(place), written: AtomicI64::new(END) }
    }

    /// A record that ends at `at` is visible now. To be called after it became so: a round that
    /// begins later sees it, and one that began earlier is followed by another.
    pub(super) fn written(&self, at: Timestamp) {
        self.written.fetch_min(at.unix_millis(), Ordering::AcqRel);
    }

    /// At most `limit` records that have expired. Goes on where it stopped, round after round, but
    /// begins none before anything can have expired.
    pub(super) fn expired(
        &self,
        live: &Live,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<StoreKey>, StoreError> {
        let mut place = self.place.lock();
        let mut portion = Portion { now, limit, left: PORTION.max(limit), found: HashSet::new() };
        // A portion that begins within a round goes on into another: what expired behind it since is
        // found too.
        let begins_within = place.next.is_some();
        for _ in 0..=usize::from(begins_within) {
            if place.next.is_none() {
                if place.earliest.min(self.written.load(Ordering::Acquire)) > now.unix_millis() {
                    break;
                }
                self.written.store(END, Ordering::Release);
                *place = Place { next: Some((0, Bound::Unbounded)), earliest: END };
            }
            if let Err(error) = portion.walk(live, &mut place) {
                *place = Place { next: None, earliest: BEGINNING };
                return Err(error);
            }
            if place.next.is_some() {
                break;
            }
        }
        Ok(portion.found.into_iter().collect())
    }
}

struct Portion {
    now: Timestamp,
    limit: usize,
    left: usize,
    found: HashSet<StoreKey>,
}

impl Portion {
    /// Walks on until the round or the portion ends.
    fn walk(&mut self, live: &Live, place: &mut Place) -> Result<(), StoreError> {
        while let Some((kind, after)) = place.next.take() {
            let Some(named) = Kind::ALL.get(kind).copied() else { return Ok(()) };
            let keyspace = live.keyspace(named).ok_or(StoreError::Corrupt)?;
            let mut reached = None;
            for entry in keyspace.range::<Vec<u8>, _>((after.clone(), Bound::Unbounded)) {
                if self.found.len() >= self.limit || self.left == 0 {
                    let reached = reached.map_or(after, |key: Slice| Bound::Excluded(key.to_vec()));
                    place.next = Some((kind, reached));
                    return Ok(());
                }
                self.left -= 1;
                let (key, value) = entry.into_inner().map_err(unreadable)?;
                let (header, _) = Header::decode(&value).ok_or(StoreError::Corrupt)?;
                if let Some(at) = header.expires_at {
                    place.earliest = place.earliest.min(at.unix_millis());
                }
                if header.is_expired(self.now) {
                    self.found.insert(StoreKey::from_keyspace(named, &key));
                }
                reached = Some(key);
            }
            place.next = Some((kind + 1, Bound::Unbounded));
        }
        Ok(())
    }
}
