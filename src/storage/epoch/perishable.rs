//! The epoch keys as the vault uses them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::errand::Errand;
use super::{EpochError, EpochKeys, Place};
use crate::crypto::aead::SealingKey;
use crate::crypto::rings::KeyRings;
use crate::domain::clock::Timestamp;
use crate::domain::id::KeyId;
use crate::records::BoxFuture;
use crate::token::{AtHand, NoKey, PerishableKeys};

impl EpochKeys {
    /// What an error is to who needs a key: nothing was sealed or opened, and nothing was changed.
    fn no_key(&self, _: EpochError) -> NoKey {
        match &self.place {
            Place::Directory(_) => NoKey::Unavailable,
            Place::Servers(_) => NoKey::ServersUnusable,
        }
    }
}

impl PerishableKeys for EpochKeys {
    fn current(&self, expires_at: Timestamp) -> BoxFuture<'_, Result<(KeyId, Arc<SealingKey>), NoKey>> {
        Box::pin(async move { self.current_key(expires_at).await.map_err(|error| self.no_key(error)) })
    }

    fn at_hand(&self, id: &KeyId) -> AtHand {
        match self.table.known(id) {
            Some(key) => AtHand::Key(key),
            None if self.table.is_shared => AtHand::Elsewhere,
            None => AtHand::Destroyed,
        }
    }

    fn is_lost(&self, id: &KeyId) -> bool {
        match &self.place {
            Place::Directory(_) => false,
            Place::Servers(common) => common.standings.is_lost(id),
        }
    }

    fn find<'a>(&'a self, id: &'a KeyId) -> BoxFuture<'a, Result<Option<Arc<SealingKey>>, NoKey>> {
        Box::pin(async move { self.find_key(id).await.map_err(|error| self.no_key(error)) })
    }

    fn prepare(&self) {
        self.make_ahead();
    }

    fn refresh(&self) {
        if self.table.is_shared {
            self.errands.begin(Errand::Look);
        }
    }

    fn follow(&self, rings: &Arc<KeyRings>) {
        if let Place::Servers(common) = &self.place {
            common.wraps.rewrap_under(rings);
        }
    }

    fn over(&self) -> BoxFuture<'_, Vec<KeyId>> {
        Box::pin(self.epochs())
    }

    fn destroy_unneeded(&self, unneeded: BTreeSet<KeyId>) -> BoxFuture<'_, ()> {
        // A key that cannot be destroyed now is tried again by the next scan.
        Box::pin(async move { drop(self.destroy_due(unneeded).await) })
    }
}
