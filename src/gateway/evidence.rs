//! Evidence about a session, applied in one place whoever brings it.
//!
//! Reads for agents, reads for claims in doubt, the worker's, and an operator's word.

use std::sync::Arc;

use super::call::Call;
use super::events::{About, Contradiction, Events, Observed, Resolution};
use super::parts::{Books, owned_mut};
use super::refusal::Refusal;
use super::session_reads::Doubtful;
use crate::domain::id::{ClaimId, MerchantId, SessionId};
use crate::domain::session::{
    Ending, Evidence as Word, Moment, Observation, OrderMark, ResolveRefusal, Session, SessionKind,
    Settlement, observe, resolve,
};
use crate::domain::token::Standing;
use crate::idempotency::{KeyState, StoredAnswer};
use crate::ledger::{Done, RecordSet, Records};
use crate::merchant::{Exchange, fruitless};
use crate::records::{Durability, Purpose, StoreError};
use crate::registry::Merchant;

/// How often a resolution is decided again because the claim's token was not the one read.
const MAX_ROUNDS: usize = 8;

/// Applies evidence to sessions and to the claims it may end, and tells what it did.
pub(super) struct Evidence {
    pub books: Arc<Books>,
    pub events: Arc<Events>,
}

/// What a read of its session says of a claim in doubt.
pub(super) enum Weighed {
    /// The claim had charged before.
    HadCharged,
    /// What became of it now, and what there is to know of it.
    Settled(Settlement, Doubtful),
}

/// A claim that an operator ended, or had ended before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// False when it had ended so before.
    pub now: bool,
    /// How its token stands; `None` where there is none.
    pub token: Option<Standing>,
}

/// Why a claim was not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotResolved {
    /// No such session.
    #[error("there is no such checkout session")]
    SessionUnknown,
    /// The claim does not permit it.
    #[error(transparent)]
    Refused(#[from] ResolveRefusal),
    /// The store cannot say.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a transaction decided nothing.
enum Undecided {
    /// Another token is at stake than was read.
    Again,
    /// It is refused.
    No(NotResolved),
}

impl Evidence {
    /// A read of the session of a claim that a repeat with its key asks about.
    pub(super) async fn of_doubt(
        &self,
        call: &Call,
        merchant: &Merchant,
        id: &SessionId,
        record_set: &RecordSet,
        claim: &ClaimId,
        observation: &Observation,
    ) -> Result<Weighed, Refusal> {
        let decide = |records: &mut Records, moment: Moment| {
            if is_charged_by(owned_mut(records.session.as_mut(), call)?, claim) {
                return Ok::<_, Refusal>(None);
            }
            let observed = apply(records, observation, merchant, moment);
            let session = records.session.as_ref();
            let doubtful = session.map(|session| Doubtful::of(session, claim, merchant, moment));
            Ok(observed.zip(doubtful))
        };
        let done =
            self.books.ledger.transact(record_set, Purpose::Finish, Durability::Synced, decide).await??;
        let Done { decided: Some((observed, doubtful)), ended } = done else {
            return Ok(Weighed::HadCharged);
        };
        let about = About { merchant: &merchant.id, session: id };
        let settlement = self.events.observed(about, record_set.session_key(), &observed, ended);
        Ok(Weighed::Settled(settlement, doubtful))
    }

    /// A read of a session that no doubt asked for, made when it had come to `sequence`.
    pub(super) async fn of_read(
        &self,
        record_set: &RecordSet,
        sequence: u64,
        observation: &Observation,
        merchant: &Merchant,
        id: &SessionId,
    ) -> Result<(), Refusal> {
        // Session and token change together: the open claim's token is needed to end it.
        let session = self.books.ledger.read(record_set).await?.session;
        let token = session.as_ref().and_then(Session::token_at_stake);
        let record_set =
            token.map_or_else(|| record_set.clone(), |token| record_set.clone().with_token(token));
        let decide = |records: &mut Records, moment: Moment| {
            let Some(session) = records.session.as_mut() else { return Err(Refusal::SessionUnknown) };
            if session.note_total(sequence, observation.total, Some(&observation.shown_at.url), moment) {
                session.handlers = observation.handlers.clone();
            }
            apply(records, observation, merchant, moment).ok_or(Refusal::SessionUnknown)
        };
        let Done { decided, ended } =
            self.books.ledger.transact(&record_set, Purpose::Finish, Durability::Synced, decide).await??;
        let about = About { merchant: &merchant.id, session: id };
        self.events.observed(about, record_set.session_key(), &decided, ended);
        Ok(())
    }

    /// The worker's read of a session with an open claim: whether that has ended.
    pub(super) async fn of_check(
        &self,
        record_set: &RecordSet,
        observation: &Observation,
        merchant: &Merchant,
        id: &SessionId,
    ) -> Result<bool, StoreError> {
        let decide =
            |records: &mut Records, moment: Moment| apply(records, observation, merchant, moment).ok_or(());
        let done =
            self.books.ledger.transact(record_set, Purpose::Finish, Durability::Synced, decide).await?;
        let Ok(Done { decided, ended }) = done else { return Ok(true) };
        let about = About { merchant: &merchant.id, session: id };
        let settlement = self.events.observed(about, record_set.session_key(), &decided, ended);
        Ok(settlement != Settlement::Held)
    }

    /// A session that was read as the answer to the complete that charged it: kept against its key, unless
    /// that has an answer.
    pub(super) async fn of_answer(
        &self,
        record_set: &RecordSet,
        merchant: &Merchant,
        id: &SessionId,
        order: Option<OrderMark>,
        kept: Option<&StoredAnswer>,
    ) -> Result<(), Refusal> {
        let decide = |records: &mut Records, _| {
            let second = records.session.as_mut().is_some_and(|session| session.note_order(order));
            if let (Some(record), Some(answer)) = (records.key.as_mut(), kept)
                && !matches!(record.state, KeyState::Recorded(_))
            {
                record.state = KeyState::Recorded(answer.clone());
                record.request = None;
            }
            Ok::<_, Refusal>(second)
        };
        let Done { decided: order, .. } =
            self.books.ledger.transact(record_set, Purpose::Finish, Durability::Synced, decide).await??;
        let about = About { merchant: &merchant.id, session: id };
        self.events.contradicted(about, Contradiction { order, answer: false });
        Ok(())
    }

    /// The session of an open claim was read and brought nothing: kept for who looks at the claim, and
    /// told once a change.
    pub(super) async fn of_nothing(
        &self,
        claim: &ClaimId,
        exchange: &Exchange,
        merchant: &MerchantId,
        id: &SessionId,
    ) -> Result<(), StoreError> {
        let record_set = self.books.ledger.record_set(SessionKind::Checkout, merchant, id);
        let came = fruitless(exchange);
        let decide = |records: &mut Records, _| {
            let session = records.session.as_mut().ok_or(())?;
            session.claim.as_ref().filter(|open| open.id == *claim).ok_or(())?;
            Ok::<_, ()>(session.note_unread(came))
        };
        let noted =
            self.books.ledger.transact(&record_set, Purpose::Finish, Durability::Applied, decide).await?;
        if matches!(noted, Ok(Done { decided: true, .. })) {
            self.events.unread(About { merchant, session: id }, claim, came, exchange);
        }
        Ok(())
    }

    /// The word of `operator`, who has asked the merchant: it ends the claim.
    ///
    /// # Errors
    /// [`NotResolved`]; nothing has changed then.
    pub(super) async fn of_operator(
        &self,
        about: About<'_>,
        claim: &ClaimId,
        word: Word,
        operator: &str,
    ) -> Result<Resolved, NotResolved> {
        let ledger = &self.books.ledger;
        for _ in 0..MAX_ROUNDS {
            let bare = ledger.record_set(SessionKind::Checkout, about.merchant, about.session);
            let read = ledger.read(&bare).await?.session.ok_or(NotResolved::SessionUnknown)?;
            let held = read.token_at_stake();
            let record_set = held.map_or_else(|| bare.clone(), |token| bare.clone().with_token(token));
            let decide = |records: &mut Records, moment: Moment| {
                let current = records.session.as_mut().ok_or(Undecided::No(NotResolved::SessionUnknown))?;
                // Session and token change together: the token read must be the claim's.
                if current.token_at_stake() != held {
                    return Err(Undecided::Again);
                }
                let settlement = resolve(current, records.token.as_mut(), claim, word, moment)
                    .map_err(|refusal| Undecided::No(refusal.into()))?;
                Ok((settlement, records.token.as_ref().map(|token| token.standing(moment.latest))))
            };
            let decided = ledger.transact(&record_set, Purpose::Finish, Durability::Synced, decide).await?;
            let Done { decided: (settlement, token), ended } = match decided {
                Ok(done) => done,
                Err(Undecided::Again) => continue,
                Err(Undecided::No(why)) => return Err(why),
            };
            self.events.token_ended(ended);
            let outcome = match settlement {
                Settlement::Charged => Some("charged"),
                Settlement::Released => Some("released"),
                Settlement::Held | Settlement::ChargedLate | Settlement::Stale => None,
            };
            if let Some(outcome) = outcome {
                let consumes = settlement == Settlement::Charged && token.is_some();
                let resolution = Resolution { outcome, consumes, evidence: word, operator };
                self.events.resolved(about, record_set.session_key(), claim, resolution);
            }
            return Ok(Resolved { now: outcome.is_some(), token });
        }
        Err(NotResolved::Store(StoreError::Unavailable))
    }
}

/// Applies an observation to a session and to the claim it may end; `None` without a session.
fn apply(
    records: &mut Records,
    observation: &Observation,
    merchant: &Merchant,
    moment: Moment,
) -> Option<Observed> {
    let session = records.session.as_mut()?;
    let second_order = session.note_order(observation.order);
    session.troubles.read = None;
    let claim = session.claim.as_ref().map(|open| (open.id.clone(), open.token.clone()));
    let settlement = observe(session, records.token.as_mut(), observation, merchant.doubt_grace, moment);
    Some(Observed { settlement, claim, second_order })
}

/// Whether the session's order is this claim's.
pub(super) fn is_charged_by(session: &Session, claim: &ClaimId) -> bool {
    matches!(&session.ending, Some(Ending::Charged { claim: Some(by) }) if by == claim)
}
