//! What is done when nobody knows whether a complete charged.
//!
//! The session is read first, and only evidence ends the claim.

use std::sync::Arc;

use http::StatusCode;

use super::Gateway;
use super::bracket::{awaited, deadline, owned_mut, refuse_unless_free};
use super::complete::{Completion, Started, is_charged_by};
use super::notes::{Contradiction, note};
use super::read::SessionRead;
use super::reading::{Doubtful, Turn};
use super::refusal::Refusal;
use super::reply::Reply;
use crate::domain::session::{ClaimRefusal, Lifecycle, Observation, Present, Settlement, reenter};
use crate::idempotency::KeyState;
use crate::ledger::{Address, View};
use crate::limit::Permit;
use crate::merchant::read_complete;
use crate::records::{Durability, Purpose};
use crate::registry::MerchantIdempotency;

impl Gateway {
    /// A retry with the key of the open claim.
    pub(super) async fn reenter(
        self: &Arc<Self>,
        completion: Completion,
        doubtful: Doubtful,
    ) -> Result<Reply, Refusal> {
        let Completion { call, merchant, session, address, .. } = &completion;
        let (read, place) = self.read_in_doubt(&completion, &doubtful).await?;
        let Some(observation) = read.observation() else {
            // Who shared it has nothing to add.
            if place.is_some() {
                self.note_unread(&completion.claim, &read.exchange, &merchant.id, session).await?;
            }
            return Err(self.still_unknown(address, &doubtful));
        };
        let noted = self
            .ledger
            .transact(address, Purpose::Finish, Durability::Synced, |view, present| {
                let session = owned_mut(view.session.as_mut(), call)?;
                if is_charged_by(session, &completion.claim) {
                    return Ok::<_, Refusal>(None);
                }
                let noted = note(view, &observation, merchant, present);
                let doubtful = view
                    .session
                    .as_ref()
                    .map(|session| Doubtful::of(session, &completion.claim, merchant, present));
                Ok(noted.zip(doubtful))
            })
            .await??;
        let Some((noted, doubtful)) = noted else {
            return self.answer_as_charged(&completion, &read).await;
        };
        match self.tell(noted, &merchant.id, session) {
            Settlement::Charged => self.answer_as_charged(&completion, &read).await,
            Settlement::Released | Settlement::Stale | Settlement::ChargedLate => {
                self.attempt_again(completion, place).await
            }
            // The operator says that the merchant honours keys: the same request is charged once, once
            // it has answered the first.
            Settlement::Held
                if observation.lifecycle == Lifecycle::Open
                    && merchant.idempotency == MerchantIdempotency::Keys =>
            {
                let _place = self.place_again(call, merchant, place)?;
                self.resend(&completion, &observation, &doubtful).await
            }
            Settlement::Held => Err(self.still_unknown(address, &doubtful)),
        }
    }

    /// Reads the session of a claim in doubt, or shares the read of it that is under way: then no place
    /// is held meanwhile. When it is too soon to read it again, the agent is told how much.
    async fn read_in_doubt(
        &self,
        completion: &Completion,
        doubtful: &Doubtful,
    ) -> Result<(Arc<SessionRead>, Option<Permit>), Refusal> {
        let Completion { call, merchant, session, address, .. } = completion;
        let until = deadline(merchant);
        loop {
            match self.reads.turn(address.session_key(), Some(doubtful), self.clock.steady()) {
                Turn::Ours(reader) => {
                    let place = self.place(call, merchant)?;
                    let read = self.read_session(call, merchant, session).await;
                    return Ok((reader.done(read), Some(place)));
                }
                Turn::Theirs(under_way) => match under_way.result(until).await {
                    Some(read) => return Ok((read, None)),
                    None if until.has_passed() => return Err(self.still_unknown(address, doubtful)),
                    None => {}
                },
                Turn::TooSoon => return Err(self.still_unknown(address, doubtful)),
            }
        }
    }

    /// The outcome is not known, with how long it will not be: until the session may be read again, and
    /// where the request may be sent again, until then.
    pub(super) fn still_unknown(&self, address: &Address, doubtful: &Doubtful) -> Refusal {
        let now = self.clock.steady();
        let next = self.reads.next(address.session_key(), doubtful, now);
        Refusal::OutcomeUnknown(
            doubtful.milestones.silent_from.map_or(next, |from| from.max(next)).since(now),
        )
    }

    /// Sends the stored bytes with the stored key again, at the total that the session has just
    /// shown.
    async fn resend(
        &self,
        completion: &Completion,
        shown: &Observation,
        doubtful: &Doubtful,
    ) -> Result<Reply, Refusal> {
        let Completion { call, merchant, session, operation, address, claim, .. } = completion;
        let unknown = || self.still_unknown(address, doubtful);
        let (lease, at) = (self.lease(merchant.deadlines.total)?, self.clock.now());
        let mut seen = self.ledger.look(address).await?;
        let decide = |view: &mut View, present: Present| {
            let session = owned_mut(view.session.as_mut(), call)?;
            refuse_unless_free(operation, view.key.as_ref(), present)?;
            let record = view.key.as_mut().ok_or_else(unknown)?;
            let token = view.token.as_ref();
            let begun = reenter(session, token, claim, shown, awaited(merchant), lease.until, present)
                .map_err(|refusal| match refusal {
                    ClaimRefusal::SessionBusy => Refusal::Claim(refusal),
                    // It must not be sent again, or not yet; what became of it is still to be learned.
                    _ => unknown(),
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

    /// The claim is known to have charged. What was read for somebody else, in another version or
    /// language, is no answer to this agent.
    async fn answer_as_charged(&self, completion: &Completion, read: &SessionRead) -> Result<Reply, Refusal> {
        if read.speaks_to(&completion.call) {
            self.record_session_as_answer(completion, read).await
        } else {
            self.synthesise(completion).await
        }
    }

    /// The claim is known to have charged, its answer was lost: the session as it stands now is the
    /// answer, and is kept.
    pub(super) async fn synthesise(&self, completion: &Completion) -> Result<Reply, Refusal> {
        let doubtful = Doubtful::charged(&completion.claim);
        let (read, _place) = self.read_in_doubt(completion, &doubtful).await?;
        match read.observation() {
            Some(shown) if shown.lifecycle == Lifecycle::Completed && read.speaks_to(&completion.call) => {
                self.record_session_as_answer(completion, &read).await
            }
            _ => Err(self.still_unknown(&completion.address, &doubtful)),
        }
    }

    async fn record_session_as_answer(
        &self,
        completion: &Completion,
        read: &SessionRead,
    ) -> Result<Reply, Refusal> {
        let mut reply = Reply::relayed(&read.exchange)?.decided("charged");
        reply.status = StatusCode::OK;
        let kept = completion.operation.seal_answer(&reply)?;
        let second_order = self
            .ledger
            .transact(&completion.address, Purpose::Finish, Durability::Synced, |view, _| {
                let shown = read.observation().and_then(|shown| shown.order);
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
