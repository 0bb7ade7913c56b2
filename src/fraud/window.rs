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
    /// Operations that added the member and were not handed back; at the maximum it stays there.
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
    pub(super) fn hand_back(&mut self, member: Member, added: &Added) {
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
