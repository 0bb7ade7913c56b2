//! A sliding-window set: who was seen within the last while. Pure; stored by `velocity`.
//!
//! Each member remembers when it was last seen and how many operations rest on it, so that handing
//! one operation back never forgets another's.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Threshold;
use crate::domain::clock::Timestamp;
use crate::records::Kind;
use crate::records::codec::Stored;

/// Members a set remembers: any threshold can be exceeded, and a record stays below 20 kB. Beyond
/// it the longest unseen is forgotten, so the count saturates and recovers as the window slides.
const CAPACITY: usize = 1_024;
const _: () = assert!(CAPACITY > 1_000 && Threshold::MAX == 1_000);

/// A member: eight bytes of a digest.
pub(super) type Member = [u8; 8];

/// Who was seen. Its stored form holds no member outside the window at the time of writing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WindowSet {
    sightings: Vec<Sighting>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sighting {
    member: Member,
    seen_at: Timestamp,
    /// Operations that added the member and were not released; at the maximum it stays there.
    operations: u16,
}

/// What adding a member found, and what handing it back needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Added {
    /// Members now, this one included.
    pub(super) count: u32,
    seen_at: Timestamp,
    seen_before: Option<Timestamp>,
}

impl Stored for WindowSet {
    const KIND: Kind = Kind::Velocity;
    const FORMAT: u8 = 1;
}

impl WindowSet {
    /// Members seen within `window` before `now`.
    pub(super) fn count(&mut self, now: Timestamp, window: Duration) -> u32 {
        self.sightings.retain(|sighting| now.since(sighting.seen_at) < window);
        u32::try_from(self.sightings.len()).unwrap_or(u32::MAX)
    }

    /// Sees a member.
    pub(super) fn add(&mut self, member: Member, now: Timestamp, window: Duration) -> Added {
        self.count(now, window);
        let seen_before = match self.find(member) {
            Some(sighting) => {
                let before = sighting.seen_at;
                sighting.seen_at = before.max(now);
                sighting.operations = sighting.operations.saturating_add(1);
                Some(before)
            }
            None => {
                self.make_room();
                self.sightings.push(Sighting { member, seen_at: now, operations: 1 });
                None
            }
        };
        let seen_at = seen_before.map_or(now, |before| before.max(now));
        Added { count: self.count(now, window), seen_at, seen_before }
    }

    /// Takes back one [`Self::add`]. The member goes when no other operation rests on it.
    pub(super) fn release(&mut self, member: Member, added: &Added) {
        let Some(sighting) = self.find(member) else { return };
        match sighting.operations {
            u16::MAX => {}
            0 | 1 => self.sightings.retain(|sighting| sighting.member != member),
            _ => {
                sighting.operations -= 1;
                // Only if nobody has seen it since is the former sighting the last one again.
                if let (true, Some(before)) = (sighting.seen_at == added.seen_at, added.seen_before) {
                    sighting.seen_at = before;
                }
            }
        }
    }

    /// Nobody is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.sightings.is_empty()
    }

    /// From when on nobody is in it, if nobody is added.
    pub(super) fn ends_at(&self, window: Duration) -> Timestamp {
        self.sightings.iter().map(|sighting| sighting.seen_at).max().unwrap_or_default().plus(window)
    }

    fn find(&mut self, member: Member) -> Option<&mut Sighting> {
        self.sightings.iter_mut().find(|sighting| sighting.member == member)
    }

    fn make_room(&mut self) {
        while self.sightings.len() >= CAPACITY {
            let oldest = self.sightings.iter().enumerate().min_by_key(|(_, sighting)| sighting.seen_at);
            let Some((index, _)) = oldest else { return };
            self.sightings.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::records::codec::encode;

    const WINDOW: Duration = Duration::from_secs(60);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_unix_millis(1_000_000).plus(Duration::from_millis(millis))
    }

    fn member(n: u64) -> Member {
        n.to_be_bytes()
    }

    #[test]
    fn a_member_counts_once_until_the_window_has_passed() {
        let mut set = WindowSet::default();
        assert_eq!(set.add(member(1), at(0), WINDOW).count, 1);
        assert_eq!(set.add(member(1), at(10_000), WINDOW).count, 1);
        assert_eq!(set.add(member(2), at(20_000), WINDOW).count, 2);
        assert_eq!(set.count(at(69_999), WINDOW), 2);
        assert_eq!(set.count(at(70_000), WINDOW), 1);
        assert_eq!(set.ends_at(WINDOW), at(80_000));
        assert_eq!(set.count(at(80_000), WINDOW), 0);
        assert!(set.is_empty());
    }

    #[test]
    fn handing_back_restores_what_was() {
        let mut set = WindowSet::default();
        set.add(member(1), at(0), WINDOW);
        let before = set.clone();
        let again = set.add(member(1), at(30_000), WINDOW);
        let other = set.add(member(2), at(30_000), WINDOW);
        set.release(member(2), &other);
        set.release(member(1), &again);
        assert_eq!(set, before);
    }

    #[test]
    fn handing_back_never_forgets_what_another_operation_rests_on() {
        let mut set = WindowSet::default();
        let first = set.add(member(1), at(0), WINDOW);
        let second = set.add(member(1), at(1), WINDOW);
        set.release(member(1), &first);
        assert_eq!(set.count(at(2), WINDOW), 1);
        set.release(member(1), &second);
        assert!(set.is_empty());
    }

    #[test]
    fn the_count_saturates_above_every_threshold_and_the_record_stays_small() {
        let mut set = WindowSet::default();
        for n in 0..3_000 {
            let added = set.add(member(n), at(n), WINDOW);
            assert_eq!(u64::from(added.count), (n + 1).min(1_024));
        }
        assert!(encode(&set).unwrap().len() < 20_000);
        // The most recent are kept, so what the window lets go of is known exactly again.
        assert_eq!(set.count(at(2_900 + 60_000), WINDOW), 99);
    }

    #[test]
    fn a_clock_set_back_forgets_nobody() {
        let mut set = WindowSet::default();
        set.add(member(1), at(50_000), WINDOW);
        assert_eq!(set.add(member(1), at(0), WINDOW).count, 1);
        assert_eq!(set.ends_at(WINDOW), at(110_000));
    }

    proptest! {
        /// Operations one after another, each committed or released, against a list of those committed.
        #[test]
        fn the_count_is_exactly_the_members_kept_within_the_window(
            steps in prop::collection::vec((0..12u64, 0..9_000u64, any::<bool>()), 1..200),
        ) {
            let (mut set, mut kept, mut now) = (WindowSet::default(), BTreeMap::new(), 0);
            for (n, wait, keep) in steps {
                now += wait;
                let added = set.add(member(n), at(now), WINDOW);
                if keep {
                    kept.insert(n, now);
                } else {
                    set.release(member(n), &added);
                }
                let expected = kept.values().filter(|seen| now - **seen < 60_000).count();
                prop_assert_eq!(usize::try_from(set.count(at(now), WINDOW)).unwrap(), expected);
            }
        }

        /// Operations that overlap in any order, within one window.
        #[test]
        fn however_operations_overlap_only_those_not_handed_back_count(
            steps in prop::collection::vec((0..6u64, any::<prop::sample::Index>(), 0..3u8), 1..200),
        ) {
            let (mut set, mut open, mut kept) = (WindowSet::default(), vec![], BTreeSet::new());
            for (now, (n, index, step)) in (0..).zip(steps) {
                match step {
                    0 => open.push((n, set.add(member(n), at(now), WINDOW))),
                    _ if open.is_empty() => {}
                    1 => {
                        kept.insert(open.swap_remove(index.index(open.len())).0);
                    }
                    _ => {
                        let (n, added) = open.swap_remove(index.index(open.len()));
                        set.release(member(n), &added);
                    }
                }
                let expected: BTreeSet<_> = open.iter().map(|(n, _)| *n).chain(kept.iter().copied()).collect();
                prop_assert_eq!(usize::try_from(set.count(at(now), WINDOW)).unwrap(), expected.len());
            }
        }
    }
}
