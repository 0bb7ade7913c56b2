//! Since when each key has been in the rings of every replica.
//!
//! Here and in those of the others that live: before it has been for long enough it must not become the
//! current one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::crypto::rings::KeyRings;
use crate::domain::clock::Timestamp;
use crate::domain::id::KeyId;
use crate::gateway::KEY_SET_MAX_AGE;
use crate::records::key_use::{self, Held};
use crate::records::replicas::{self, Membership, Replica};
use crate::records::{RecordStore, StoreError};

/// How long a key stands behind the current one before it becomes that.
const KEY_KNOWN_FOR: Duration = Duration::from_secs(60);
/// A key that signs: for as long as merchants may keep a key set they have asked for.
const SIGNING_KEY_KNOWN_FOR: Duration = KEY_SET_MAX_AGE;

/// Every key of our rings.
pub(super) struct KeysHeld {
    since: HashMap<(&'static str, KeyId), Timestamp>,
    membership: Arc<Membership>,
}

impl KeysHeld {
    /// All of them from now on.
    pub(super) fn new(rings: &KeyRings, membership: Arc<Membership>, now: Timestamp) -> Self {
        let mut held = Self { since: HashMap::new(), membership };
        held.replace_by(rings, now);
        held
    }

    /// Others are in use: who stays is held since when it was. The other replicas are told.
    pub(super) fn replace_by(&mut self, rings: &KeyRings, now: Timestamp) {
        let since = |key: &(&'static str, KeyId)| self.since.get(key).copied().unwrap_or(now);
        let keys = key_use::ids(rings).map(|(ring, id)| (ring, id.clone()));
        self.since = keys.map(|key| (key.clone(), since(&key))).collect();
        let mut told: Vec<String> =
            self.since.iter().map(|((ring, id), since)| key_use::held(ring, id, *since)).collect();
        told.sort();
        self.membership.say(key_use::FACT, told);
    }

    /// Why keys must not become current that were not, one reason a line.
    pub(super) async fn too_new(
        &self,
        before: &KeyRings,
        after: &KeyRings,
        store: &dyn RecordStore,
        is_shared: bool,
        now: Timestamp,
    ) -> Vec<String> {
        let before = key_use::currents(before);
        let mut changed: Vec<_> = key_use::currents(after).into_iter().collect();
        changed.retain(|current| !before.contains(current));
        if changed.is_empty() {
            return Vec::new();
        }
        let others = match self.others(store, is_shared, now).await {
            Ok(others) => others,
            Err(reason) => return vec![reason],
        };
        changed.into_iter().flat_map(|(ring, id)| self.reasons_against(ring, id, &others, now)).collect()
    }

    fn reasons_against(
        &self,
        ring: &'static str,
        id: &KeyId,
        others: &[Replica],
        now: Timestamp,
    ) -> Vec<String> {
        let wanted = if ring == "signing" { SIGNING_KEY_KNOWN_FOR } else { KEY_KNOWN_FOR };
        let seconds = wanted.as_secs();
        let mut reasons = Vec::new();
        let known = self.since.get(&(ring, id.clone())).map_or(Duration::ZERO, |since| now.since(*since));
        if known < wanted {
            let left = (wanted - known).as_secs() + 1;
            reasons.push(format!(
                "keys.{ring}: \"{id}\" is to stand behind the current key for {seconds} s first; {left} s are left"
            ));
        }
        for replica in others {
            let lacks = match key_use::held_by(replica, ring, id) {
                Held::Since(since) if now.since(since) >= wanted => continue,
                Held::Since(_) => "has not had it in its rings for",
                Held::Never => {
                    "does not have it in its rings, where it is to stand behind the current key for"
                }
                Held::Unknown => "does not say which keys it has: upgrade it, and have it hold this one for",
            };
            reasons.push(format!("keys.{ring}: \"{id}\": replica {:016x} {lacks} {seconds} s", replica.id));
        }
        reasons
    }

    /// The other replicas that live.
    async fn others(
        &self,
        store: &dyn RecordStore,
        is_shared: bool,
        now: Timestamp,
    ) -> Result<Vec<Replica>, String> {
        if !is_shared {
            return Ok(Vec::new());
        }
        let unknown = |error: StoreError| format!("nobody knows which keys the other replicas have: {error}");
        let registry = replicas::look(store, now).await.map_err(unknown)?;
        let Some(registry) = registry else {
            return Err("nobody knows which keys the other replicas have: none is registered".to_owned());
        };
        if registry.awaits_operator {
            return Err(
                "replicas of releases that do not say which keys they have may live: once none does, \
                 `countersign store convert`"
                    .to_owned(),
            );
        }
        let mut others = registry.replicas;
        others.retain(|replica| replica.id != self.membership.id());
        Ok(others)
    }
}
