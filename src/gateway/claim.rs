//! A claim that is held: begun or begun again, forwarded, and ended by value, once.

use std::sync::Arc;
use std::time::Duration;

use super::base_urls::is_lack;
use super::complete_answer::{complete_reply, is_declined, keep_answer, says_in_flight};
use super::completion::{Completion, Ready};
use super::events::{Attempted, Contradiction};
use super::evidence::is_charged_by;
use super::parts::{Books, Desk, owned_mut};
use super::refusal::{Internal, Refusal};
use super::reply::Reply;
use super::session_reads::Doubtful;
use super::upstreams::Upstreams;
use crate::acp::wire::session::SessionView;
use crate::crypto::aead::Sealed;
use crate::domain::allowance::Allowance;
use crate::domain::base_url::BaseUrl;
use crate::domain::clock::Timestamp;
use crate::domain::session::{
    BegunClaim, ClaimRefusal, Moment, Observation, Outcome, Settlement, begin_claim, note_life, reenter,
    settle,
};
use crate::fraud::Cleared;
use crate::idempotency::{KeyState, LeaseMark, Taken, held};
use crate::ledger::{Done, Records, Snapshot, lease::awaited};
use crate::limit::Permit;
use crate::merchant::{CompleteReading, Exchange, fruitless, read_complete};
use crate::records::{Durability, Purpose, StoreError};
use crate::telemetry::log::{Level, Value};
use crate::telemetry::spans::Stage;

/// When to come again where a complete's own base URL is not asked.
const COMES_BACK: Duration = Duration::from_secs(5);

/// Begins claims.
pub(super) struct Claims {
    pub books: Arc<Books>,
    pub upstreams: Arc<Upstreams>,
    pub desk: Arc<Desk>,
}

/// What an attempt was begun with.
pub(super) struct Begun {
    pub(super) claim: BegunClaim,
    pub(super) lease: LeaseMark,
    /// Where it is sent, as its record says.
    pub(super) url: BaseUrl,
    /// When the lease was taken: what the attempt is signed with, however late it is written.
    pub(super) at: Timestamp,
    /// The request of the key's first use, where that was another one.
    pub(super) stored: Option<Sealed>,
    /// Whether the key was never used before.
    is_first_use: bool,
    pub(super) grant: Option<String>,
    pub(super) review: bool,
}

/// An open claim with an attempt of ours. While it exists the session and the token are held by it, and
/// it ends by value: settled with what became of the request, or withdrawn before that was sent.
///
/// ```
/// # use countersign::HeldClaim;
/// # use countersign::merchant::Exchange;
/// async fn once(claim: HeldClaim, exchange: Exchange) {
///     let _settled = claim.settle(&exchange).await;
/// }
/// ```
///
/// It cannot end twice:
///
/// ```compile_fail,E0382
/// # use countersign::HeldClaim;
/// # use countersign::merchant::Exchange;
/// async fn twice(claim: HeldClaim, exchange: Exchange) {
///     let _settled = claim.settle(&exchange).await;
///     claim.withdraw().await;
/// }
/// ```
///
/// nor be had twice:
///
/// ```compile_fail,E0599
/// # use countersign::HeldClaim;
/// fn copy(claim: &HeldClaim) -> HeldClaim {
///     HeldClaim::clone(claim)
/// }
/// ```
///
/// nor be left lying:
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// # use countersign::HeldClaim;
/// async fn forgotten(begun: impl Future<Output = HeldClaim>) {
///     begun.await;
/// }
/// ```
#[must_use = "a claim holds its session and token until it is settled or withdrawn"]
pub struct HeldClaim {
    pub(super) keeper: Arc<Claims>,
    pub(super) completion: Box<Completion>,
    pub(super) begun: Begun,
    pub(super) snapshot: Box<Snapshot>,
    place: Permit,
}

/// A claim's attempt that has ended.
#[must_use = "what happened is to be told, and the agent to be answered"]
pub struct Settled {
    pub(super) completion: Box<Completion>,
    /// What the agent is told.
    pub(super) reply: Result<Reply, Refusal>,
    /// What was recorded; `None` when the store did not take it: the claim stays held, and the worker or
    /// a retry with the same key finds out.
    pub(super) recorded: Option<Recorded>,
}

/// What the end of an attempt left in the records.
pub(super) struct Recorded {
    pub attempted: Attempted,
    pub ended: Option<Allowance>,
    /// What the merchant's answer shows of the session.
    pub shown: Option<SessionView>,
    /// The card that the merchant declined.
    pub declined_card: Option<[u8; 32]>,
}

impl Claims {
    /// Opens the claim: key, session and token change in one transaction, or nothing does.
    pub(super) async fn begin(
        self: &Arc<Self>,
        ready: Ready,
        cleared: &Cleared,
    ) -> Result<HeldClaim, Refusal> {
        let Ready { completion, mut snapshot, place } = ready;
        let _beginning = completion.call.trail.span(Stage::Claim);
        let says_place = self.upstreams.uses_every_url();
        let _unmoved = self.desk.destinations.settled(&completion.merchant, says_place).await?;
        let lease = self.books.ledger.lease(completion.merchant.deadlines.total)?;
        let at = self.desk.clock.now();
        let Completion { call, token, operation, record_set, .. } = &*completion;
        let sealed = completion.kept_request()?;
        let decide = |records: &mut Records, moment: Moment| {
            let session = owned_mut(records.session.as_mut(), call)?;
            let Taken { record, is_first_use, earlier_request: stored } =
                operation.take(&mut records.key, lease, sealed.as_ref(), moment)?;
            if token.is_some() && records.token.is_none() {
                return Err(Refusal::TokenUnknown);
            }
            self.desk.suspended.refuse_known(completion.card_movement(records.token.as_ref()))?;
            // What was given up in doubt may wake up where it was: this id goes there and nowhere else.
            let url = self
                .upstreams
                .begins_at(session, &completion.merchant)
                .filter(|url| session.was_doubted_at(&completion.claim).is_none_or(|at| at == url));
            let request = completion.begin_claim(session, lease.until, url.clone());
            let claim = begin_claim(session, records.token.as_mut(), &request, moment)
                .map_err(|refusal| Refusal::of_claim(refusal, session, moment))?;
            // Last: what is refused whoever can be asked says more.
            let url = url.ok_or(Refusal::MerchantUnavailable(COMES_BACK))?;
            record.upstream_key = completion.claim.text().clone();
            let grant = records.token.as_ref().map(|token| token.grant.clone());
            Ok::<_, Refusal>(Begun {
                claim,
                lease,
                url,
                at,
                stored,
                is_first_use,
                grant,
                review: cleared.review(),
            })
        };
        let (purpose, durability) = (Purpose::Admit, Durability::Synced);
        let begun = self.books.ledger.transact_from(&mut snapshot, record_set, purpose, durability, decide);
        match begun.await {
            Ok(begun) => {
                let begun = begun?.decided;
                Ok(HeldClaim { keeper: Arc::clone(self), completion, begun, snapshot, place })
            }
            Err(error) => {
                // Nothing will be sent: others may use the place while the store is waited for.
                drop(place);
                if error == StoreError::Unacknowledged {
                    // It may be open all the same, and nobody will send anything for it.
                    Box::pin(self.take_back(&completion, lease)).await;
                }
                Err(error.into())
            }
        }
    }

    /// Begins another attempt of an open claim, after its session was read as `shown`: the stored bytes,
    /// and no others, under the stored key.
    ///
    /// # Errors
    /// The attempt must not be made, or not yet.
    pub(super) async fn begin_again(
        self: &Arc<Self>,
        completion: Box<Completion>,
        shown: &Observation,
        doubtful: &Doubtful,
        place: Permit,
    ) -> Result<HeldClaim, Refusal> {
        let Completion { call, merchant, operation, record_set, claim, .. } = &*completion;
        let unknown = || self.upstreams.still_unknown(record_set, doubtful);
        let _unmoved = self.desk.destinations.settled(merchant, self.upstreams.uses_every_url()).await?;
        let (lease, at) = (self.books.ledger.lease(merchant.deadlines.total)?, self.desk.clock.now());
        let mut snapshot = Box::new(self.books.ledger.load(record_set).await?);
        let decide = |records: &mut Records, moment: Moment| {
            let session = owned_mut(records.session.as_mut(), call)?;
            operation.refuse_unless_free(records.key.as_ref(), moment)?;
            if records.key.is_none() {
                return Err(unknown());
            }
            let url = self.upstreams.claim_at(session, merchant).ok_or_else(unknown)?;
            let token = records.token.as_ref();
            let begun = reenter(session, token, claim, shown, awaited(merchant), lease.until, moment)
                .map_err(|refusal| match refusal {
                    ClaimRefusal::SessionBusy => Refusal::SessionBusy(Duration::ZERO),
                    // It must not be sent again, or not yet; what became of it is still to be learned.
                    _ => unknown(),
                })?;
            let Taken { earlier_request, .. } = operation.take(&mut records.key, lease, None, moment)?;
            let stored = Some(earlier_request.ok_or_else(unknown)?);
            let grant = records.token.as_ref().map(|token| token.grant.clone());
            Ok::<_, Refusal>(Begun {
                claim: begun,
                lease,
                url,
                at,
                stored,
                is_first_use: false,
                grant,
                review: false,
            })
        };
        let (purpose, durability) = (Purpose::Admit, Durability::Synced);
        let begun = self.books.ledger.transact_from(&mut snapshot, record_set, purpose, durability, decide);
        let begun = begun.await??.decided;
        Ok(HeldClaim { keeper: Arc::clone(self), completion, begun, snapshot, place })
    }

    /// Takes a claim back that was begun, or perhaps was, and of which nothing was sent. What the store
    /// does not take now ends with the lease, by reading the session.
    async fn take_back(&self, completion: &Completion, lease: LeaseMark) {
        let Completion { merchant, session, claim, record_set, .. } = completion;
        let decide = |records: &mut Records, moment: Moment| {
            let record = held(&mut records.key, lease).ok_or(())?;
            record.state = KeyState::Open;
            let session = records.session.as_mut().ok_or(())?;
            let attempt = session.claim.as_ref().ok_or(())?.last_attempt;
            let nothing = Outcome::NotCharged { recorded: false };
            Ok::<_, ()>(settle(session, records.token.as_mut(), claim, attempt, nothing, moment))
        };
        let taken = self.books.ledger.transact(record_set, Purpose::Finish, Durability::Synced, decide).await;
        match taken {
            Ok(Ok(Done { ended: Some(allowance), .. })) => {
                let earliest = self.desk.clock.earliest();
                self.books.allotments.release(&allowance.agent, allowance.expires_at, earliest);
            }
            // Taken back, or never begun; or taken back on a primary whose replicas have not said so.
            Ok(Ok(Done { ended: None, .. }) | Err(())) | Err(StoreError::Unacknowledged) => {}
            Err(
                StoreError::Unavailable | StoreError::NoSpace | StoreError::Corrupt | StoreError::Changed,
            ) => {
                let fields = [
                    ("merchant", Value::from(&merchant.id)),
                    ("session", Value::from(session)),
                    ("claim", Value::from(claim)),
                ];
                self.desk.observer.log().event(Level::Warn, "claim_not_withdrawn", &fields);
            }
        }
    }
}

impl HeldClaim {
    /// Ends the claim without anything having been sent under it.
    pub async fn withdraw(self) {
        let Self { keeper, completion, begun, snapshot: _, place } = self;
        drop(place);
        keeper.take_back(&completion, begun.lease).await;
    }

    /// Ends the attempt with what became of its request.
    pub async fn settle(mut self, exchange: &Exchange) -> Settled {
        let merchant = &self.completion.merchant;
        let mut reading = read_complete(exchange, &self.completion.session, merchant.idempotency);
        if is_lack(exchange) && self.keeper.upstreams.is_standby(merchant, &self.begun.url) {
            // It may not have heard of the session yet.
            reading.outcome = Outcome::InDoubt;
        }
        let reply = complete_reply(exchange, reading.outcome, &self.completion.session);
        let recorded = self.record(exchange, &reading, reply.as_ref().ok()).await;
        let Self { keeper, completion, begun, snapshot, .. } = self;
        let (Ended { settlement, contradiction, doubtful }, ended) = match recorded {
            Ok(Done { decided, ended }) => (decided, ended),
            Err(refusal) => return Settled { completion, reply: Err(refusal), recorded: None },
        };
        let reply = match (settlement, reading.outcome) {
            // What the merchant says does not hold while another attempt may still charge.
            (Settlement::Held, Outcome::Charged | Outcome::NotCharged { .. } | Outcome::Refused) => {
                Err(keeper.upstreams.still_unknown(&completion.record_set, &doubtful))
            }
            _ => reply,
        };
        let total_in_answer =
            reading.session.as_ref().and_then(|shown| shown.total_in(begun.claim.checked.currency));
        let attempted = Attempted {
            settlement,
            outcome: reading.outcome,
            contradiction,
            has_token: completion.token.is_some(),
            is_overcharge: reading.outcome == Outcome::Charged
                && total_in_answer.is_some_and(|shown| shown.amount > begun.claim.checked.amount),
        };
        let card = snapshot.token().map(|token| token.card_fingerprint);
        let declined_card = card.filter(|_| is_declined(exchange, reading.outcome));
        let recorded = Some(Recorded { attempted, ended, shown: reading.session, declined_card });
        Settled { completion, reply, recorded }
    }

    async fn record(
        &mut self,
        exchange: &Exchange,
        reading: &CompleteReading,
        reply: Option<&Reply>,
    ) -> Result<Done<Ended>, Refusal> {
        let Self { keeper, completion, begun, snapshot, .. } = self;
        let Completion { merchant, operation, claim, record_set, .. } = &**completion;
        let shown_at = keeper.upstreams.shown_at(merchant, begun.url.clone());
        let is_kept = matches!(
            reading.outcome,
            Outcome::Charged | Outcome::Pending | Outcome::NotCharged { recorded: true } | Outcome::Refused
        );
        let kept = reply.filter(|_| is_kept).and_then(|reply| reply.seal(operation).unwrap_or(None));
        let decide = |records: &mut Records, moment: Moment| {
            let Some(session) = records.session.as_mut() else {
                return Err(Refusal::Internal(Internal::SessionGone));
            };
            let holds =
                records.key.as_ref().is_some_and(|record| record.state == KeyState::Leased(begun.lease));
            let outcome = match reading.outcome {
                // Another attempt has taken the key over, perhaps in a claim begun anew under the
                // same id: what this one learned ends nothing of that.
                Outcome::NotCharged { .. } | Outcome::Refused if !holds => Outcome::InDoubt,
                outcome => outcome,
            };
            let contradiction = Contradiction {
                order: session.note_order(reading.session.as_ref().and_then(|shown| shown.order_mark)),
                answer: is_charged_by(session, claim)
                    && matches!(reading.outcome, Outcome::NotCharged { recorded: true } | Outcome::Refused),
            };
            let settlement =
                settle(session, records.token.as_mut(), claim, begun.claim.attempt, outcome, moment);
            if settlement == Settlement::Held && outcome == Outcome::InDoubt {
                session.troubles.complete = Some(fruitless(exchange));
            }
            if settlement == Settlement::Held && exchange.answer().is_some_and(says_in_flight) {
                note_life(session, moment.steady);
            }
            // Of an attempt that was given up meanwhile it is too old.
            if holds && let Some(total) = reading.session.as_ref().and_then(SessionView::known_total) {
                let sequence = session.sequence;
                let total = Some(total).filter(|_| exchange.shows_the_present(begun.is_first_use));
                if session.note_total(sequence, total, Some(&shown_at.url), moment)
                    && let Some(shown) = &reading.session
                {
                    session.handlers = shown.handlers.clone();
                }
            }
            let doubtful = Doubtful::of(session, claim, merchant, moment);
            if let Some(record) = records.key.as_mut() {
                keep_answer(record, begun.lease, settlement, reading.outcome, kept.as_ref());
                if holds && begun.stored.is_none() && matches!(exchange, Exchange::NotSent(_)) {
                    // Nothing was ever sent: a repeat need not be the same bytes.
                    record.request = None;
                }
            }
            Ok(Ended { settlement, contradiction, doubtful })
        };
        keeper
            .books
            .ledger
            .transact_from(snapshot, record_set, Purpose::Finish, Durability::Synced, decide)
            .await
            .map_err(Refusal::unrecorded)?
    }
}

/// What the transaction that ends an attempt decides.
struct Ended {
    settlement: Settlement,
    contradiction: Contradiction,
    doubtful: Doubtful,
}
