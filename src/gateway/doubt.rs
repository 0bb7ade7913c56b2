//! When nobody knows whether a complete charged: the session is read first, and only evidence ends
//! the claim.

use std::sync::Arc;

use http::StatusCode;

use super::Gateway;
use super::bracket::{awaited, owned_mut, refuse_unless_free};
use super::complete::{Completion, Started, is_charged_by};
use super::notes::{Contradiction, note};
use super::read::SessionRead;
use super::refusal::Refusal;
use super::reply::Reply;
use crate::domain::session::{ClaimRefusal, Lifecycle, Present, SessionTotal, Settlement, reenter};
use crate::idempotency::KeyState;
use crate::merchant::read_complete;
use crate::records::{Durability, Purpose};
use crate::registry::MerchantIdempotency;
use crate::token::View;

impl Gateway {
    /// A retry with the key of the open claim.
    pub(super) async fn reenter(self: &Arc<Self>, completion: Completion) -> Result<Reply, Refusal> {
        let Completion { call, merchant, session, address, .. } = &completion;
        let Some(read) = self.read_session(call, merchant, session).await else {
            return Err(Refusal::OutcomeUnknown);
        };
        let observation = read.observation;
        let noted = self
            .ledger
            .transact(address, Purpose::Finish, Durability::Synced, |view, present| {
                let session = owned_mut(view.session.as_mut(), call)?;
                if is_charged_by(session, &completion.claim) {
                    return Ok::<_, Refusal>(None);
                }
                Ok(note(view, &observation, merchant, present))
            })
            .await??;
        match noted.map_or(Settlement::Charged, |noted| self.tell(noted, &merchant.id, session)) {
            Settlement::Charged => self.record_session_as_answer(&completion, &read).await,
            Settlement::Released | Settlement::Stale | Settlement::ChargedLate => {
                self.attempt_again(completion).await
            }
            // The operator says that the merchant honours keys: the same request is charged once, once
            // it has answered the first.
            Settlement::Held
                if observation.lifecycle == Lifecycle::Open
                    && merchant.idempotency == MerchantIdempotency::Keys =>
            {
                self.resend(&completion, observation.total).await
            }
            Settlement::Held => Err(Refusal::OutcomeUnknown),
        }
    }

    /// Sends the stored bytes with the stored key again, at the total that the session has just
    /// shown.
    async fn resend(&self, completion: &Completion, shown: Option<SessionTotal>) -> Result<Reply, Refusal> {
        let Completion { call, merchant, session, operation, address, claim, .. } = completion;
        let (lease, at) = (self.lease(merchant.deadlines.total)?, self.clock.now());
        let mut seen = self.ledger.look(address).await?;
        let decide = |view: &mut View, present: Present| {
            let session = owned_mut(view.session.as_mut(), call)?;
            refuse_unless_free(operation, view.key.as_ref(), present)?;
            let record = view.key.as_mut().ok_or(Refusal::OutcomeUnknown)?;
            let token = view.token.as_ref();
            let begun =
                reenter(session, token, claim, shown.as_ref(), awaited(merchant), lease.until, present)
                    .map_err(|refusal| match refusal {
                        ClaimRefusal::SessionBusy | ClaimRefusal::AtWork { .. } => Refusal::Claim(refusal),
                        // It must not be sent again; what became of it is still to be learned.
                        _ => Refusal::OutcomeUnknown,
                    })?;
            record.state = KeyState::Leased(lease);
            let grant = view.token.as_ref().map(|token| token.grant.clone());
            let stored = record.request.clone();
            Ok::<_, Refusal>(Started { begun, lease, at, stored, is_first_use: false, grant, review: false })
        };
        let begun = self.ledger.transact_seen(&mut seen, address, Purpose::Admit, Durability::Synced, decide);
        let started = begun.await??;
        let exchange = self.forward_complete(completion, &started).await;
        let reading = read_complete(&exchange, session, merchant.idempotency);
        self.conclude(completion, &started, &mut seen, &exchange, &reading).await
    }

    /// The claim is known to have charged, its answer was lost: the session as it stands now is the
    /// answer, and is kept.
    pub(super) async fn synthesise(&self, completion: &Completion) -> Result<Reply, Refusal> {
        let Completion { call, merchant, session, .. } = completion;
        match self.read_session(call, merchant, session).await {
            Some(read) if read.observation.lifecycle == Lifecycle::Completed => {
                self.record_session_as_answer(completion, &read).await
            }
            _ => Err(Refusal::OutcomeUnknown),
        }
    }

    async fn record_session_as_answer(
        &self,
        completion: &Completion,
        read: &SessionRead,
    ) -> Result<Reply, Refusal> {
        let mut reply = Reply::relayed(&read.exchange, "charged")?;
        reply.status = StatusCode::OK;
        let kept = completion.operation.seal_answer(&reply)?;
        let second_order = self
            .ledger
            .transact(&completion.address, Purpose::Finish, Durability::Synced, |view, _| {
                let shown = read.observation.order;
                let second = view.session.as_mut().is_some_and(|session| session.note_order(shown));
                if let (Some(record), Some(answer)) = (view.key.as_mut(), kept.as_ref())
                    && !matches!(record.state, KeyState::Recorded(_))
                {
                    record.state = KeyState::Recorded(answer.clone());
                    record.request = None;
                }
                Ok::<_, Refusal>(second)
            })
            .await??;
        let contradiction = Contradiction { order: second_order, answer: false };
        self.note_contradiction(contradiction, &completion.merchant.id, &completion.session);
        Ok(reply)
    }
}
