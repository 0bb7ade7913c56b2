//! The bracket around every mutation: who holds a key, and whose the session is.
//!
//! What a key already stands for, who holds it, and whose the session is. Peek before the work, lease
//! inside its first transaction, record in its last.

use std::time::Duration;

use http::StatusCode;

use super::Gateway;
use super::call::Call;
use super::operation::Operation;
use super::refusal::{Internal, Refusal};
use super::reply::Reply;
use crate::crypto::random;
use crate::domain::clock::Deadline;
use crate::domain::session::{Present, Session};
use crate::idempotency::{self, KeyRecord, KeyState, LeaseMark, Peek};
use crate::limit::Permit;
use crate::records::codec::Loaded;
use crate::records::{Durability, Purpose, RecordKey, StoreError};
use crate::registry::{Merchant, Registry};

/// How long after its merchant's total deadline a lease or attempt is void.
const LEASE_MARGIN: Duration = Duration::from_secs(10);

/// The longest any lease or attempt of these merchants lasts.
pub fn longest_lease(registry: &Registry) -> Duration {
    let totals = registry.merchants().map(|merchant| merchant.deadlines.total);
    totals.max().unwrap_or_default().max(super::delegate::MINT_LEASE) + LEASE_MARGIN
}

impl Gateway {
    /// The answer to a key that already has one, or why it has none yet; `None` when the operation
    /// is to be done. An answer is given again only once it is as safe as one given first.
    pub(super) async fn replay(
        &self,
        operation: &Operation,
        seen: Option<&Loaded<KeyRecord>>,
        conflict: StatusCode,
    ) -> Result<Option<Reply>, Refusal> {
        let metrics = self.observer.metrics();
        let record = seen.and_then(|seen| seen.value.as_ref());
        match (idempotency::peek(record, |record| operation.same_body(record), self.ledger.present()), record)
        {
            (Peek::Fresh, _) => metrics.idempotency("fresh"),
            (Peek::Resume, _) => metrics.idempotency("resumed"),
            (Peek::InFlight, _) => {
                metrics.idempotency("in_flight");
                return Err(Refusal::KeyInFlight);
            }
            (Peek::Conflict, _) => {
                metrics.idempotency("conflict");
                return Err(Refusal::KeyConflict { status: conflict });
            }
            (Peek::Replay, Some(KeyRecord { state: KeyState::Recorded(answer), .. })) => {
                metrics.idempotency("replayed");
                let reply = operation.open_answer(answer)?;
                if let Some(seen) = seen {
                    self.ledger.acknowledge(seen).await?;
                }
                return Ok(Some(reply));
            }
            (Peek::Replay, _) => return Err(Refusal::Internal(Internal::AnswerMissing)),
        }
        Ok(None)
    }

    /// Leave to forward a request that changes something.
    pub(super) fn place(&self, call: &Call, merchant: &Merchant) -> Result<Permit, Refusal> {
        self.concurrency.forward(merchant, &call.agent.id, call.is_signed()).map_err(Refusal::Limited)
    }

    /// The place that is held, or one where it was given up meanwhile.
    pub(super) fn place_again(
        &self,
        call: &Call,
        merchant: &Merchant,
        held: Option<Permit>,
    ) -> Result<Permit, Refusal> {
        held.map_or_else(|| self.place(call, merchant), Ok)
    }

    /// A lease for work that is over by the merchant's total deadline.
    pub(super) fn lease(&self, total: Duration) -> Result<LeaseMark, Refusal> {
        let number =
            u64::from_be_bytes(random::bytes().map_err(|_| Refusal::Internal(Internal::NoRandomness))?);
        let present = self.ledger.present();
        let until = present.now.plus(total.saturating_add(LEASE_MARGIN));
        Ok(LeaseMark { number, incarnation: present.incarnation, until })
    }

    /// By when what runs under a lease is over, and after when nothing of it may be sent: what is left
    /// of the lease, however long ago it was taken.
    pub(super) fn within(&self, lease: LeaseMark) -> Deadline {
        Deadline::after(lease.until.minus(LEASE_MARGIN).since(self.ledger.present().now))
    }

    /// Gives up a lease whose operation was refused before it did anything.
    pub(super) async fn forget_lease(&self, key: &RecordKey, lease: LeaseMark) {
        // A lease that cannot be given up now runs out by itself.
        let Ok(mut seen) = self.ledger.look_key(key).await else { return };
        let _ = self
            .ledger
            .transact_key(&mut seen, Purpose::Finish, Durability::Applied, |record, _| {
                if held(record, lease).is_some() {
                    *record = None;
                }
                Ok::<_, Refusal>(())
            })
            .await;
    }
}

/// The record, if `lease` still holds it.
pub(super) fn held(record: &mut Option<KeyRecord>, lease: LeaseMark) -> Option<&mut KeyRecord> {
    record.as_mut().filter(|record| matches!(record.state, KeyState::Leased(mark) if mark == lease))
}

/// The session, if it belongs to the calling agent. To every other agent it does not exist.
pub(super) fn owned<'a>(session: Option<&'a Session>, call: &Call) -> Result<&'a Session, Refusal> {
    session.filter(|session| session.owner == call.agent.id).ok_or(Refusal::SessionUnknown)
}

/// As [`owned`], to change it.
pub(super) fn owned_mut<'a>(
    session: Option<&'a mut Session>,
    call: &Call,
) -> Result<&'a mut Session, Refusal> {
    session.filter(|session| session.owner == call.agent.id).ok_or(Refusal::SessionUnknown)
}

/// Inside a transaction: the key must still be free to work on.
pub(super) fn refuse_unless_free(
    operation: &Operation,
    record: Option<&KeyRecord>,
    present: Present,
) -> Result<(), Refusal> {
    match idempotency::peek(record, |record| operation.same_body(record), present) {
        Peek::Fresh | Peek::Resume => Ok(()),
        // A winner that has finished meanwhile is found by the next try.
        Peek::InFlight | Peek::Replay => Err(Refusal::KeyInFlight),
        Peek::Conflict => Err(Refusal::KeyConflict { status: StatusCode::UNPROCESSABLE_ENTITY }),
    }
}

/// How long a merchant may be at work on what it was sent.
pub(super) fn awaited(merchant: &Merchant) -> Duration {
    merchant.deadlines.total.saturating_add(LEASE_MARGIN)
}

/// By when an exchange that starts now is over.
pub(super) fn deadline(merchant: &Merchant) -> Deadline {
    Deadline::after(merchant.deadlines.total)
}

/// The store failed after the merchant had answered: something was done, and a retry finds it.
pub(super) const fn unrecorded(_: StoreError) -> Refusal {
    Refusal::Store(StoreError::Unacknowledged)
}
