//! The epoch keys in memory, and the hours they are of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::standing::Standings;
use crate::crypto::aead::SealingKey;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::id::KeyId;

pub(super) const HOUR: Duration = Duration::from_secs(3600);
/// How long after its hour a key is left alone: a value sealed in the hour's last moment may still
/// be on its way into its record, where a scan does not see it yet.
pub(super) const GRACE: Duration = Duration::from_secs(300);

/// A key and the hour it is of.
pub(super) struct Epoch {
    /// Hours since the Unix epoch.
    pub(super) hour: i64,
    pub(super) key: Arc<SealingKey>,
    /// Nothing sealed under the key expires later: as its file says.
    pub(super) until: Timestamp,
    /// When the last value that was sealed under it does expire, as far as this process knows.
    pub(super) used: Timestamp,
    /// Whether this process seals under it.
    pub(super) ours: bool,
}

impl Epoch {
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        now >= end_of(self.hour).plus(GRACE)
    }
}

/// The keys in memory. Its locks are never held while a file is touched.
pub(super) struct Table {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) is_shared: bool,
    pub(super) epochs: Mutex<BTreeMap<KeyId, Epoch>>,
    /// Keys whose hour is over and that nothing live needs, as last told.
    pub(super) unneeded: Mutex<BTreeSet<KeyId>>,
    /// How the servers stand that hold the keys, where servers do.
    standings: Option<Arc<Standings>>,
}

impl Table {
    pub(super) fn new(clock: Arc<dyn Clock>, is_shared: bool) -> Arc<Self> {
        Arc::new(Self {
            clock,
            is_shared,
            epochs: Mutex::default(),
            unneeded: Mutex::default(),
            standings: None,
        })
    }

    /// Of keys that servers hold: one of a server that may not be used now is not used either.
    pub(super) fn of_servers(clock: Arc<dyn Clock>, standings: Arc<Standings>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            is_shared: true,
            epochs: Mutex::default(),
            unneeded: Mutex::default(),
            standings: Some(standings),
        })
    }

    fn may_use(&self, id: &KeyId) -> bool {
        self.standings.as_ref().is_none_or(|standings| standings.is_usable(id))
    }

    /// A key that is in memory and may be used.
    pub(super) fn known(&self, id: &KeyId) -> Option<Arc<SealingKey>> {
        let key = self.epochs.lock().get(id).map(|epoch| Arc::clone(&epoch.key))?;
        self.may_use(id).then_some(key)
    }

    /// Keys whose hour is over and that nobody needs, or whose last value has expired.
    pub(super) fn due(&self) -> Vec<KeyId> {
        let now = self.clock.earliest();
        let (epochs, unneeded) = (self.epochs.lock(), self.unneeded.lock());
        let over = epochs.iter().filter(|(_, epoch)| epoch.is_over(now));
        let due = over.filter(|(id, epoch)| now >= epoch.until || unneeded.contains(*id));
        due.map(|(id, _)| id.clone()).collect()
    }

    /// Takes the key of `hour` for a value that expires by `until`, if there is one fit for it.
    pub(super) fn take(&self, hour: i64, until: Timestamp) -> Option<(KeyId, Arc<SealingKey>)> {
        let mut epochs = self.epochs.lock();
        let mut of_hour = epochs.iter_mut().filter(|(_, epoch)| epoch.ours && epoch.hour == hour);
        let (id, epoch) = of_hour.find(|(id, _)| self.may_use(id))?;
        if epoch.until < until {
            return None;
        }
        epoch.used = epoch.used.max(until);
        Some((id.clone(), Arc::clone(&epoch.key)))
    }

    pub(super) fn has(&self, hour: i64, until: Timestamp) -> bool {
        let epochs = self.epochs.lock();
        let is_fit = |epoch: &Epoch| epoch.ours && epoch.hour == hour && epoch.until >= until;
        epochs.iter().any(|(id, epoch)| is_fit(epoch) && self.may_use(id))
    }
}

pub(super) fn hour_of(instant: Timestamp) -> i64 {
    instant.unix_seconds().div_euclid(3600)
}

pub(super) fn end_of(hour: i64) -> Timestamp {
    start_of(hour.saturating_add(1))
}

pub(super) fn start_of(hour: i64) -> Timestamp {
    Timestamp::from_unix_seconds(hour.saturating_mul(3600))
}

/// Rounded up so that one write serves most values of an hour.
pub(super) fn whole_hour_after(instant: Timestamp) -> Timestamp {
    start_of(hour_of(instant.plus(HOUR.saturating_sub(Duration::from_millis(1)))))
}
