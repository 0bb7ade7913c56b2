//! Complete: where a token is spent. Peek, gather, begin, forward, settle.
//!
//! Between begin and settle nothing returns early: whatever the merchant does becomes an
//! [`Outcome`], and every outcome is settled.

use std::sync::Arc;

use http::StatusCode;

use super::Gateway;
use super::bracket::{held, owned, owned_mut, refuse_unless_free, unrecorded};
use super::call::Call;
use super::notes::{Contradiction, keep_answer};
use super::operation::Operation;
use super::reading::Doubtful;
use super::refusal::{Internal, Refusal};
use super::reply::Reply;
use crate::acp::wire::complete::CompleteView;
use crate::acp::wire::session::SessionView;
use crate::crypto::aead::Sealed;
use crate::crypto::random;
use crate::domain::clock::Timestamp;
use crate::domain::id::{ClaimId, SessionId, TokenId};
use crate::domain::money::Money;
use crate::domain::session::{
    BeginClaim, BegunClaim, Ending, Outcome, Present, Session, SessionKind, Settlement, begin_claim,
    note_life, settle,
};
use crate::fraud::Cleared;
use crate::idempotency::{KeyState, LeaseMark};
use crate::ledger::{Address, Seen, View};
use crate::limit::Permit;
use crate::merchant::{
    Answer, CompleteContext, CompleteReading, Exchange, InvalidAnswer, NotSent, fruitless, is_in_flight,
    read_complete,
};
use crate::records::{Durability, Purpose, StoreError};
use crate::registry::{Merchant, MerchantIdempotency, PurchaseOrders};

/// Length of a claim's id that is drawn and not derived: 190 bits in base62.
const CLAIM_CHARS: usize = 32;

/// One complete on its way: everything its steps share.
pub(super) struct Completion {
    pub call: Call,
    pub merchant: Arc<Merchant>,
    pub session: SessionId,
    pub token: Option<TokenId>,
    pub operation: Operation,
    pub address: Address,
    /// The claim: its id is the key the merchant receives.
    pub claim: ClaimId,
}

impl Completion {
    /// What is asked of the session and token.
    pub fn begin_claim(&self, session: &Session, until: Timestamp) -> BeginClaim {
        BeginClaim {
            claim: self.claim.clone(),
            agent: self.call.agent.id.clone(),
            total_max_age: self.merchant.total_max_age,
            purchase_order_limit: purchase_order_limit(&self.merchant, &self.call, session),
            until,
        }
    }
}

/// A claim that was begun or re-entered, before it is forwarded.
pub(super) struct Started {
    pub begun: BegunClaim,
    pub lease: LeaseMark,
    /// When the lease was taken: what the attempt is signed with, however late it is written.
    pub at: Timestamp,
    /// The request of the key's first use, where that was another one.
    pub stored: Option<Sealed>,
    /// Whether the key was never used before.
    pub is_first_use: bool,
    pub grant: Option<String>,
    pub review: bool,
}

impl Gateway {
    pub(super) async fn complete(
        self: Arc<Self>,
        call: Call,
        merchant: Arc<Merchant>,
        session: SessionId,
    ) -> Result<Reply, Refusal> {
        let request = CompleteView::read(&call.body).map_err(|error| Refusal::of_body(&error))?;
        // Judged below, after the session: what is paid, or nobody's, needs no token.
        let token = spent_token(&request);
        let operation = call.operation(&self.rings, Some(&merchant))?;
        let mut address =
            self.ledger.address(SessionKind::Checkout, &merchant.id, &session).with_key(&operation.scope);
        if let Ok(Some(token)) = &token {
            call.trail.token(token);
            address = address.with_token(token);
        }
        let mut seen = self.ledger.look(&address).await?;
        if seen.session().is_none() {
            Box::pin(self.adopt(&call, &merchant, &session)).await?;
            seen = self.ledger.look(&address).await?;
        }
        owned(seen.session(), &call)?;
        if let Some(reply) =
            self.replay(&operation, seen.key_record(), StatusCode::UNPROCESSABLE_ENTITY).await?
        {
            return Ok(reply);
        }
        let claim = ClaimId::parse(&operation.upstream_key(seen.key()))
            .ok_or(Refusal::Internal(Internal::IdUnusable))?;
        if let Some(session) = seen.session()
            && !is_charged_by(session, &claim)
        {
            session.refuse_ended()?;
        }
        let token = token?;
        // What was begun under this key may be finished by it.
        let purpose = if seen.key().is_some() { Purpose::Finish } else { Purpose::Admit };
        self.refuse_replayed_signature(&call, &operation, Some(&merchant), purpose).await?;
        call.trail.claim(&claim);
        let completion = Completion { call, merchant, session, token, operation, address, claim };
        match seen.session() {
            Some(session) if session.claim.as_ref().is_some_and(|open| open.id == completion.claim) => {
                let present = self.ledger.present();
                let doubtful = Doubtful::of(session, &completion.claim, &completion.merchant, present);
                Box::pin(self.reenter(completion, doubtful)).await
            }
            Some(session) if is_charged_by(session, &completion.claim) => {
                Box::pin(self.synthesise(&completion)).await
            }
            _ if seen.key().is_some() => Box::pin(self.attempt_again(completion, None)).await,
            _ => Box::pin(self.attempt(&completion, seen, None)).await,
        }
    }

    /// A claim under a key whose earlier claim was given up. A merchant that ignores keys may still
    /// wake up to the earlier request: under an id of its own the new claim's card is not for it.
    pub(super) async fn attempt_again(
        self: &Arc<Self>,
        mut completion: Completion,
        place: Option<Permit>,
    ) -> Result<Reply, Refusal> {
        if completion.merchant.idempotency == MerchantIdempotency::None {
            let drawn = random::base62(CLAIM_CHARS).map_err(|_| Refusal::Internal(Internal::NoRandomness))?;
            completion.claim = ClaimId::parse(&drawn).ok_or(Refusal::Internal(Internal::IdUnusable))?;
            completion.call.trail.claim(&completion.claim);
        }
        let seen = self.ledger.look(&completion.address).await?;
        self.attempt(&completion, seen, place).await
    }

    /// A first attempt: total, risk, begin, forward, settle.
    async fn attempt(
        self: &Arc<Self>,
        completion: &Completion,
        mut seen: Seen,
        place: Option<Permit>,
    ) -> Result<Reply, Refusal> {
        let Completion { call, merchant, session, address, .. } = completion;
        let mut place = Some(self.place_again(call, merchant, place)?);
        let trusted = !self.ledger.store().mistrusted();
        if !self.knows_enough(owned(seen.session(), call)?, merchant) {
            Box::pin(self.ensure_total(call, merchant, session, &mut place)).await?;
            seen = self.ledger.look(address).await?;
        }
        let _place = self.place_again(call, merchant, place)?;
        let (cleared, tally) = self.clear_complete(completion, &seen).await?;
        let lease = self.lease(merchant.deadlines.total)?;
        let started = match self.begin(completion, &mut seen, &cleared, lease).await {
            Ok(begun) => begun,
            Err(refusal) => {
                tally.hand_back().await;
                if matches!(refusal, Refusal::Store(StoreError::Unacknowledged)) {
                    self.withdraw(completion, lease);
                }
                return Err(refusal);
            }
        };
        // What was read before a change of primary decides nothing after it.
        if trusted && self.ledger.store().mistrusted() {
            tally.hand_back().await;
            self.withdraw(completion, lease);
            return Err(Refusal::Store(StoreError::Unavailable));
        }
        tally.keep();
        let exchange = self.forward_complete(completion, &started).await;
        let reading = read_complete(&exchange, session, merchant.idempotency);
        self.conclude(completion, &started, &mut seen, &exchange, &reading).await
    }

    /// Opens the claim: key, session and token change in one transaction, or nothing does.
    async fn begin(
        &self,
        completion: &Completion,
        seen: &mut Seen,
        cleared: &Cleared,
        lease: LeaseMark,
    ) -> Result<Started, Refusal> {
        let Completion { call, token, operation, address, .. } = completion;
        let (at, sealed) = (self.clock.now(), operation.seal_request(&call.stored_request())?);
        let decide = |view: &mut View, present: Present| {
            let session = owned_mut(view.session.as_mut(), call)?;
            refuse_unless_free(operation, view.key.as_ref(), present)?;
            if token.is_some() && view.token.is_none() {
                return Err(Refusal::TokenUnknown);
            }
            let request = completion.begin_claim(session, lease.until);
            let begun = begin_claim(session, view.token.as_mut(), &request, present)?;
            let is_first_use = view.key.is_none();
            let stored = view.key.as_ref().and_then(|record| record.request.clone());
            let record = view.key.get_or_insert_with(|| operation.new_record(lease, None));
            record.state = KeyState::Leased(lease);
            record.upstream_key = completion.claim.as_str().to_owned();
            record.request.get_or_insert_with(|| sealed.clone());
            let grant = view.token.as_ref().map(|token| token.grant.clone());
            Ok(Started { begun, lease, at, stored, is_first_use, grant, review: cleared.review() })
        };
        self.ledger.transact_seen(seen, address, Purpose::Admit, Durability::Synced, decide).await?
    }

    /// Takes a claim back that was begun, or perhaps was, and of which nothing was sent. What the store
    /// does not take now ends with the lease, by reading the session.
    fn withdraw(self: &Arc<Self>, completion: &Completion, lease: LeaseMark) {
        let (gateway, work) = (Arc::clone(self), self.drain.work());
        let (address, claim) = (completion.address.clone(), completion.claim.clone());
        tokio::spawn(async move {
            let _work = work;
            let _ = gateway
                .ledger
                .transact(&address, Purpose::Finish, Durability::Synced, |view, present| {
                    let record = held(&mut view.key, lease).ok_or(())?;
                    record.state = KeyState::Open;
                    let session = view.session.as_mut().ok_or(())?;
                    let attempt = session.claim.as_ref().ok_or(())?.last_attempt;
                    let nothing = Outcome::NotCharged { recorded: false };
                    Ok::<_, ()>(settle(session, view.token.as_mut(), &claim, attempt, nothing, present))
                })
                .await;
        });
    }

    /// Sends the complete. Infallible: whatever happens is an exchange.
    pub(super) async fn forward_complete(&self, completion: &Completion, started: &Started) -> Exchange {
        let Completion { call, merchant, token, operation, claim, .. } = completion;
        call.trail.amount(started.begun.checked);
        call.trail.attempt(started.begun.attempt);
        // The bytes of the first use, so that a merchant that compares bytes sees the same request.
        let Ok(stored) = operation.open_request(started.stored.as_ref()) else {
            return Exchange::NotSent(NotSent::Unwritable);
        };
        let context = CompleteContext {
            token: token.clone(),
            claim: claim.clone(),
            checked: started.begun.checked,
            attempt: started.begun.attempt,
            review: started.review,
        };
        let key = Some(claim.as_str().to_owned());
        let outbound = call.outbound(stored, key, Some(context), started.grant.clone(), started.at);
        self.send_by(call, merchant, outbound, self.within(started.lease)).await
    }

    /// Settles the attempt and answers.
    pub(super) async fn conclude(
        &self,
        completion: &Completion,
        started: &Started,
        seen: &mut Seen,
        exchange: &Exchange,
        reading: &CompleteReading,
    ) -> Result<Reply, Refusal> {
        let Completion { merchant, operation, claim, address, .. } = completion;
        let reply = complete_reply(exchange, reading.outcome, &completion.session);
        let kept = match (&reply, reading.outcome) {
            (Ok(reply), Outcome::Charged | Outcome::Pending | Outcome::NotCharged { recorded: true }) => {
                operation.seal_answer(reply).unwrap_or(None)
            }
            _ => None,
        };
        let decide = |view: &mut View, present: Present| {
            let Some(session) = view.session.as_mut() else {
                return Err(Refusal::Internal(Internal::SessionGone));
            };
            let holds =
                view.key.as_ref().is_some_and(|record| record.state == KeyState::Leased(started.lease));
            let outcome = match reading.outcome {
                // Another attempt has taken the key over, perhaps in a claim begun anew under the
                // same id: what this one learned ends nothing of that.
                Outcome::NotCharged { .. } if !holds => Outcome::InDoubt,
                outcome => outcome,
            };
            let was_live = view.token.as_ref().is_some_and(|token| token.is_live(present.latest));
            let contradiction = Contradiction {
                order: session.note_order(reading.session.as_ref().and_then(|shown| shown.order_mark)),
                answer: is_charged_by(session, claim)
                    && reading.outcome == Outcome::NotCharged { recorded: true },
            };
            let settlement =
                settle(session, view.token.as_mut(), claim, started.begun.attempt, outcome, present);
            if settlement == Settlement::Held && outcome == Outcome::InDoubt {
                session.troubles.complete = Some(fruitless(exchange));
            }
            if settlement == Settlement::Held && exchange.answer().is_some_and(says_in_flight) {
                note_life(session, present.now);
            }
            // Of an attempt that was given up meanwhile it is too old.
            if holds && let Some(total) = reading.session.as_ref().and_then(SessionView::known_total) {
                let sequence = session.sequence;
                let total = Some(total).filter(|_| exchange.shows_the_present(started.is_first_use));
                session.note_total(sequence, total, present);
            }
            let doubtful = Doubtful::of(session, claim, merchant, present);
            if let Some(record) = view.key.as_mut() {
                keep_answer(record, started.lease, settlement, reading.outcome, kept.as_ref());
                if holds && started.stored.is_none() && matches!(exchange, Exchange::NotSent(_)) {
                    // Nothing was ever sent: a repeat need not be the same bytes.
                    record.request = None;
                }
            }
            Ok((settlement, contradiction, view.ended(was_live, present.latest), doubtful))
        };
        let settled =
            self.ledger.transact_seen(seen, address, Purpose::Finish, Durability::Synced, decide).await;
        let (settlement, contradiction, ended, doubtful) = match settled {
            Ok(settled) => settled?,
            // The claim stays held; the worker or a retry with the same key finds out.
            Err(error) => return Err(unrecorded(error)),
        };
        if settlement != Settlement::Held {
            self.reads.forget_pace(address.session_key());
        }
        self.note_settlement(settlement, reading.outcome, merchant, completion);
        self.give_back(ended);
        self.note_contradiction(contradiction, &merchant.id, &completion.session);
        if let Some(shown) = &reading.session {
            self.note_faults(&merchant.id, &completion.session, shown);
        }
        self.note_overcharge(reading, started.begun.checked, completion);
        self.note_decline(completion, exchange, reading.outcome).await;
        match settlement {
            Settlement::Held if reading.outcome != Outcome::Pending => match reading.outcome {
                Outcome::InDoubt => reply,
                _ => Err(self.still_unknown(address, &doubtful)),
            },
            _ => reply,
        }
    }
}

/// What the agent is told about an exchange, apart from what became of the claim.
fn complete_reply(exchange: &Exchange, outcome: Outcome, session: &SessionId) -> Result<Reply, Refusal> {
    match exchange.answer() {
        Some(answer) if answer.status.is_success() && outcome == Outcome::InDoubt => {
            Err(Refusal::MerchantAnswer(InvalidAnswer::of_session(answer, Some(session))))
        }
        _ => Ok(Reply::relayed(exchange)?.decided(decision(outcome))),
    }
}

/// The merchant is at work on an earlier sending of the same request.
fn says_in_flight(answer: &Answer) -> bool {
    answer.status == StatusCode::CONFLICT && is_in_flight(answer)
}

const fn decision(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Charged => "charged",
        Outcome::Pending => "pending",
        Outcome::NotCharged { .. } => "not_charged",
        Outcome::InDoubt => "in_doubt",
    }
}

fn spent_token(request: &CompleteView) -> Result<Option<TokenId>, Refusal> {
    match (&request.token, request.is_purchase_order_only()) {
        // What is not of our shape was not minted here: no allowance stands behind it.
        (Some(_), _) => request.minted_token().map(Some).ok_or(Refusal::TokenUnknown),
        (None, true) => Ok(None),
        (None, false) => Err(Refusal::TokenMissing),
    }
}

fn purchase_order_limit(merchant: &Merchant, call: &Call, session: &Session) -> Option<Money> {
    let PurchaseOrders::Allowed { agents, limits } = &merchant.purchase_orders else { return None };
    let total = session.total?.total;
    limits
        .iter()
        .find(|limit| agents.contains(&call.agent.id) && total.in_currency(limit.currency).is_some())
        .copied()
}

pub(super) fn is_charged_by(session: &Session, claim: &ClaimId) -> bool {
    matches!(&session.ending, Some(Ending::Charged { claim: Some(by) }) if by == claim)
}
