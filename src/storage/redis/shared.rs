//! What the store, its calls and its watch share: settings, servers, and which store it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;

use super::primaries::Primaries;
use super::script::{Revisions, Scripts};
use super::settings::Settings;
use super::topology::Topology;
use crate::domain::clock::KeptClock;
use crate::records::StoreError;
use crate::storage::{Notice, Notify};

/// What the store and its watch share.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) topology: Topology,
    pub(super) primaries: Arc<Primaries>,
    pub(super) scripts: Scripts,
    pub(super) revisions: Revisions,
    pub(super) clock: Arc<KeptClock>,
    pub(super) notify: Notify,
    pub(super) identity: ArcSwap<Known>,
    pub(super) generation_lost: AtomicBool,
    pub(super) down: AtomicBool,
}

/// Which store it is.
pub(super) struct Known {
    pub(super) tag_key: [u8; 32],
    pub(super) generation: Vec<u8>,
}

impl Shared {
    pub(super) fn tag_key(&self) -> [u8; 32] {
        self.identity.load().tag_key
    }

    pub(super) fn has_lost_generation(&self) -> bool {
        self.generation_lost.load(Ordering::Relaxed)
    }

    /// The store is not the one it was: money stops.
    pub(super) fn lose_generation(&self) {
        if !self.generation_lost.swap(true, Ordering::Relaxed) {
            (self.notify)(Notice::Changed);
        }
    }

    /// An operator took the store as it is.
    pub(super) fn adopt(&self, generation: &str) {
        let known = Known { tag_key: self.tag_key(), generation: generation.as_bytes().to_vec() };
        self.identity.store(Arc::new(known));
        self.primaries.changed();
        self.generation_lost.store(false, Ordering::Relaxed);
    }

    pub(super) fn note_down(&self) {
        if !self.down.swap(true, Ordering::Relaxed) {
            (self.notify)(Notice::Unreachable);
        }
    }

    pub(super) fn note_up(&self) {
        if self.down.swap(false, Ordering::Relaxed) {
            (self.notify)(Notice::ReachableAgain);
        }
    }

    pub(super) fn health(&self) -> Result<(), StoreError> {
        if self.has_lost_generation() {
            return Err(StoreError::Changed);
        }
        if self.down.load(Ordering::Relaxed) { Err(StoreError::Unavailable) } else { Ok(()) }
    }
}
