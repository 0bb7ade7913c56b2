//! The bounded memory of a keyed rate limit.
//!
//! One number for each known key, and a small fixed table that newcomers share while there is no room.
//!
//! Apart because what happens when memory is full decides who suffers from a flood. Here nobody's
//! state is thrown away while it still means something: keys that are as good as new make room, and
//! when none are, a newcomer is counted together with its wider network. Keys of one wide network
//! also share a shard, so a flood from one network fills that shard alone.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU32;

use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use parking_lot::Mutex;

const SHARDS: u64 = 16;
const SHARED_CELLS: u64 = 256;
/// How often a full shard looks for keys that are as good as new. A look takes tens of
/// microseconds, so a flood must not cause one for each of its requests.
const SWEEP_EVERY_NANOS: u64 = 250_000_000;

/// A key that can be counted together with others of its network.
pub(super) trait Grouped: Clone + Eq + Hash {
    type Group: Hash;
    fn group(&self) -> Self::Group;
}

/// A key, and whether this look at it may change its state.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Access<K> {
    pub(super) key: K,
    pub(super) charge: bool,
}

/// Theoretical arrival times by key (0: as good as new), in nanoseconds on the limiter's clock.
pub(super) struct BoundedStates<K> {
    shards: Vec<Mutex<Shard<K>>>,
    hasher: RandomState,
    shard_capacity: usize,
    /// What one request adds to a key's arrival time.
    interval: u64,
}

struct Shard<K> {
    known: HashMap<K, u64>,
    shared: Vec<u64>,
    next_sweep: u64,
}

impl<K: Grouped> BoundedStates<K> {
    /// Room for about `capacity` keys.
    pub(super) fn new(capacity: NonZeroU32, interval: u64) -> Self {
        let shared = usize::try_from(SHARED_CELLS).unwrap_or(1);
        let shards = (0..SHARDS)
            .map(|_| Mutex::new(Shard { known: HashMap::new(), shared: vec![0; shared], next_sweep: 0 }))
            .collect();
        let shard_capacity = usize::try_from(u64::from(capacity.get()).div_ceil(SHARDS)).unwrap_or(1);
        Self { shards, hasher: RandomState::new(), shard_capacity, interval }
    }
}

impl<K> Shard<K> {
    /// Forgets keys whose state says no more than absence would.
    fn sweep(&mut self, now: u64) {
        self.known.retain(|_, arrival| *arrival > now);
        self.next_sweep = now.saturating_add(SWEEP_EVERY_NANOS);
    }
}

impl<K: Grouped> StateStore for BoundedStates<K> {
    type Key = Access<K>;

    fn measure_and_replace<T, F, E>(&self, access: &Access<K>, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let hash = self.hasher.hash_one(access.key.group());
        let index = |value: u64| usize::try_from(value).unwrap_or(0);
        // Both indices are below the length of what they index; `get` keeps that from being a panic.
        let Some(shard) = self.shards.get(index(hash % SHARDS)) else {
            return decide(None).map(|(outcome, _)| outcome);
        };
        let cell = index(hash / SHARDS % SHARED_CELLS);
        let mut shard = shard.lock();
        let shard = &mut *shard;

        let full = shard.known.len() >= self.shard_capacity;
        let slot = match shard.known.get_mut(&access.key) {
            Some(known) => Some(known),
            None if full => {
                // For a new key the decision's arrival time is now plus one interval.
                let now = decide(None).map_or(0, |(_, next)| next.as_u64().saturating_sub(self.interval));
                if access.charge && now >= shard.next_sweep {
                    shard.sweep(now);
                }
                if shard.known.len() >= self.shard_capacity { shard.shared.get_mut(cell) } else { None }
            }
            None => None,
        };
        let before = slot.as_ref().map(|arrival| **arrival).filter(|arrival| *arrival > 0);
        let (outcome, after) = decide(before.map(Nanos::new))?;
        match slot {
            _ if !access.charge => {}
            Some(arrival) => *arrival = after.as_u64(),
            None => {
                shard.known.insert(access.key.clone(), after.as_u64());
            }
        }
        Ok(outcome)
    }
}

impl<K: Grouped> ShrinkableKeyedStateStore<Access<K>> for BoundedStates<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        for shard in &self.shards {
            shard.lock().known.retain(|_, arrival| *arrival > drop_below.as_u64());
        }
    }

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().known.len()).sum()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
