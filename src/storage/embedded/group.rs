//! A group of batches decided one after the other and written as one. Apart because it is the
//! compare-and-set rule itself: no thread, no waiting, no error of the disk but on reading.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use byteview::ByteView;
use fjall::{Keyspace, OwnedWriteBatch, Slice};
use smallvec::SmallVec;

use super::encoding::{ByBroughtHash, Header, IndexEntry, StoreKey};
use super::open_database::{FEW_KEYS, OpenDatabase};
use crate::domain::clock::Timestamp;
use crate::records::{Batch, Committed, Purpose, Revision, StoreError, Write};

/// A batch with its keys encoded and what it says of each record in one place, so that the writer's thread
/// need not.
pub(super) struct Prepared(SmallVec<[About; FEW_KEYS]>);

/// What a batch expects of a record, or makes of it, or both.
struct About {
    key: StoreKey,
    expected: Option<Revision>,
    change: Option<Change>,
}

enum Change {
    Put { bytes: ByteView, expires_at: Option<Timestamp>, due: Option<Timestamp> },
    Delete,
}

impl Prepared {
    /// Encodes a batch; `None` when one of its keys is out of bounds.
    pub(super) fn of(batch: Batch) -> Option<Self> {
        let Batch { expect, writes, .. } = batch;
        let mut all: SmallVec<[About; FEW_KEYS]> = SmallVec::new();
        for (key, revision) in &expect {
            all.push(About { key: StoreKey::of(key)?, expected: Some(*revision), change: None });
        }
        for write in writes {
            let (key, change) = match write {
                Write::Put { key, bytes, expires_at, due } => (key, Change::Put { bytes, expires_at, due }),
                Write::Delete { key } => (key, Change::Delete),
            };
            let key = StoreKey::of(&key)?;
            match all.iter_mut().find(|about| about.key == key) {
                Some(about) => about.change = Some(change),
                None => all.push(About { key, expected: None, change: Some(change) }),
            }
        }
        Some(Self(all))
    }
}

/// Whether a batch may take space on a disk that has little left.
pub(super) fn may_use_last_space(batch: &Batch) -> bool {
    batch.purpose == Purpose::Finish || batch.writes.iter().all(|write| matches!(write, Write::Delete { .. }))
}

/// Numbers for revisions: the opening in the high bits, a count in the low ones. Each opening is on
/// disk before its first number is given out, so that none is ever given out twice.
pub(super) struct Revisions {
    next: u64,
    end: u64,
}

/// Of a revision, for the count: 17 million million writes until the store must be reopened.
const COUNT_BITS: u32 = 44;

impl Revisions {
    /// The numbers of an opening (1, 2, …); `None` when there are no more.
    pub(super) fn of_opening(opening: u64) -> Option<Self> {
        let next = opening.checked_mul(1 << COUNT_BITS)?;
        Some(Self { next, end: next.checked_add(1 << COUNT_BITS)? })
    }

    fn next(&mut self) -> Result<Revision, StoreError> {
        let revision = Revision(self.next);
        // Unavailable until a restart begins a new opening: years away at any rate of writing.
        self.next =
            self.next.checked_add(1).filter(|next| *next < self.end).ok_or(StoreError::Unavailable)?;
        Ok(revision)
    }
}

/// The batches accepted so far, as what they make of the records they touch.
pub(super) struct Group<'a> {
    live: &'a OpenDatabase,
    now: Timestamp,
    revisions: &'a mut Revisions,
    slots: &'a mut Slots,
}

/// The records that a group touches or looks at: between groups there is nothing in it but room.
pub(super) type Slots = HashMap<StoreKey, Slot, ByBroughtHash>;

/// A record touched or looked at.
pub(super) struct Slot {
    /// As the database has it, expired or not: its index entries are there too.
    before: Option<Header>,
    after: After,
}

enum After {
    Same,
    Put { header: Header, value: Slice },
    Gone,
}

/// Room kept for the next group, in records: what a busy group touches.
const ROOM: usize = 1_024;

impl<'a> Group<'a> {
    /// An empty group, deciding what is expired as of `now`.
    pub(super) fn new(
        live: &'a OpenDatabase,
        now: Timestamp,
        revisions: &'a mut Revisions,
        slots: &'a mut Slots,
    ) -> Self {
        slots.clear();
        slots.shrink_to(ROOM);
        Self { live, now, revisions, slots }
    }

    /// Takes a batch in if everything it expects holds, after the batches taken in before it.
    ///
    /// # Errors
    /// When a record it names cannot be read; the group is then as it was.
    pub(super) fn consider(&mut self, Prepared(batch): Prepared) -> Result<Committed, StoreError> {
        for About { key, expected, .. } in &batch {
            if expected.is_some_and(|expected| self.revision(key) != Ok(expected)) {
                return self.revision(key).map(|_| Committed::Conflict);
            }
        }
        // All reading comes before the first change.
        for About { key, .. } in batch.iter().filter(|about| about.expected.is_none()) {
            self.slot(key)?;
        }
        let revision = self.revisions.next()?;
        for About { key, change, .. } in batch {
            let Some(change) = change else { continue };
            self.slot(&key)?.after = match change {
                Change::Put { bytes, expires_at, due } => {
                    let header = Header { revision, expires_at, due };
                    After::Put { header, value: header.encode_with(&bytes) }
                }
                Change::Delete => After::Gone,
            };
        }
        Ok(Committed::Applied(revision))
    }

    /// Deletes those of the records that have expired at `now`; answers how many.
    pub(super) fn sweep(&mut self, candidates: &[StoreKey], now: Timestamp) -> Result<usize, StoreError> {
        let now = now.min(self.now);
        let mut swept = 0;
        for key in candidates {
            let slot = self.slot(key)?;
            // A record this group has put anew is another one.
            let expired = slot.before.is_some_and(|header| header.is_expired(now));
            if matches!(slot.after, After::Same) && expired {
                slot.after = After::Gone;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// What to write, and the records it changes; `None` when nothing changes.
    pub(super) fn finish(self) -> Option<Plan> {
        // With their entries in the index.
        let batch = self.live.batch(2 * self.slots.len());
        let mut plan = Plan { batch, records: Vec::with_capacity(self.slots.len()) };
        for (key, slot) in self.slots.drain() {
            let after = match slot.after {
                After::Same => continue,
                After::Put { header, value } => {
                    let keyspace = self.live.keyspace(key.kind())?;
                    plan.batch.insert(keyspace, key.to_slice(), value.clone());
                    Some((header, value))
                }
                After::Gone if slot.before.is_none() => continue,
                After::Gone => {
                    plan.batch.remove(self.live.keyspace(key.kind())?, key.to_slice());
                    None
                }
            };
            let before = slot.before.and_then(|header| header.due);
            let due = after.as_ref().and_then(|(header, _)| header.due);
            plan.index(self.live.due_index(), &key, before, due);
            plan.records.push((key, after));
        }
        (!plan.records.is_empty()).then_some(plan)
    }

    fn revision(&mut self, key: &StoreKey) -> Result<Revision, StoreError> {
        let now = self.now;
        let slot = self.slot(key)?;
        let header = match &slot.after {
            After::Same => slot.before,
            After::Put { header, .. } => Some(*header),
            After::Gone => None,
        };
        Ok(header.filter(|header| !header.is_expired(now)).map_or(Revision::ABSENT, |header| header.revision))
    }

    fn slot(&mut self, key: &StoreKey) -> Result<&mut Slot, StoreError> {
        match self.slots.entry(key.clone()) {
            Entry::Occupied(slot) => Ok(slot.into_mut()),
            Entry::Vacant(slot) => {
                let before = self.live.get(key)?.map(|stored| stored.header);
                Ok(slot.insert(Slot { before, after: After::Same }))
            }
        }
    }
}

/// A group ready to be written.
pub(super) struct Plan {
    /// The records, and their entries in the index of what is due.
    pub(super) batch: OwnedWriteBatch,
    /// The records as they will stand; `None` for those that go.
    pub(super) records: Vec<(StoreKey, Option<(Header, Slice)>)>,
}

impl Plan {
    fn index(
        &mut self,
        index: &Keyspace,
        key: &StoreKey,
        before: Option<Timestamp>,
        after: Option<Timestamp>,
    ) {
        if before == after {
            return;
        }
        if let Some(at) = before {
            self.batch.remove(index, IndexEntry::encode(at, key));
        }
        if let Some(at) = after {
            self.batch.insert(index, IndexEntry::encode(at, key), []);
        }
    }
}
