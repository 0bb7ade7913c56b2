//! Leases: how long a key and an attempt belong to who took them.
//!
//! And how long what runs under them may be sent.

use std::time::Duration;

use super::Ledger;
use crate::crypto::random::{self, RandomUnavailable};
use crate::domain::clock::Deadline;
use crate::idempotency::{KeyRecord, LeaseMark, held};
use crate::records::{Durability, Purpose, RecordKey};
use crate::registry::{Merchant, Registry};

/// How long after its merchant's total deadline a lease or attempt is void.
const MARGIN: Duration = Duration::from_secs(10);

/// A lease of a mint: it calls nobody, so anything longer is a process that died.
pub const MINT: Duration = Duration::from_secs(15);

/// The longest any lease or attempt of these merchants lasts.
pub fn longest(registry: &Registry) -> Duration {
    let totals = registry.merchants().map(|merchant| merchant.deadlines.total);
    totals.max().unwrap_or_default().max(MINT) + MARGIN
}

/// How long a merchant may be at work on what it was sent.
pub fn awaited(merchant: &Merchant) -> Duration {
    merchant.deadlines.total.saturating_add(MARGIN)
}

impl Ledger {
    /// A lease for work that is over within `total`.
    ///
    /// # Errors
    /// [`RandomUnavailable`]: two leases must never be taken for one.
    pub fn lease(&self, total: Duration) -> Result<LeaseMark, RandomUnavailable> {
        let number = u64::from_be_bytes(random::bytes()?);
        let moment = self.moment();
        let until = moment.steady.plus(total.saturating_add(MARGIN));
        Ok(LeaseMark { number, incarnation: moment.incarnation, until })
    }

    /// Gives up a lease whose operation was refused before it did anything.
    pub async fn forget_lease(&self, key: &RecordKey, lease: LeaseMark) {
        // A lease that cannot be given up now runs out by itself.
        let Ok(mut snapshot) = self.load_key(key).await else { return };
        let decide = |record: &mut Option<KeyRecord>, _| {
            if held(record, lease).is_some() {
                *record = None;
            }
            Ok::<_, ()>(())
        };
        let _ = self.transact_key(&mut snapshot, Purpose::Finish, Durability::Applied, decide).await;
    }

    /// By when what runs under a lease is over, and after when nothing of it may be sent: what is left
    /// of the lease, however long ago it was taken.
    pub fn end_of(&self, lease: LeaseMark) -> Deadline {
        Deadline::after(lease.until.minus(MARGIN).since(self.moment().steady))
    }
}
