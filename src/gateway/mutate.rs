//! Create, update and cancel, of checkout sessions and carts.
//!
//! Forwarded once under a lease, re-sent with the stored key and bytes after doubt.

use std::sync::Arc;

use byteview::StrView;
use http::StatusCode;

use super::call::Call;
use super::events::{About, Contradiction, Events};
use super::parts::{Books, Desk, Identities, owned, owned_mut, refuse_retired};
use super::refusal::Refusal;
use super::replays::Replays;
use super::reply::Reply;
use super::session_read::observation;
use super::sessions::{Sessions, unknown};
use super::suspended::Movement;
use super::upstreams::Upstreams;
use super::way::Reached;
use crate::acp::route::{CartCall, CheckoutCall, Route};
use crate::acp::wire::session::SessionView;
use crate::crypto::aead::Sealed;
use crate::domain::clock::Timestamp;
use crate::domain::id::SessionId;
use crate::domain::session::{Moment, Observation, Session, SessionKind, Settlement, ShownAt, observe};
use crate::idempotency::{
    self, KeyRecord, KeyState, LeaseMark, Operation, Recharge, StoredAnswer, Taken, held,
};
use crate::ledger::{Done, Records};
use crate::merchant::{Exchange, InvalidAnswer, session_view};
use crate::records::codec::Loaded;
use crate::records::{Durability, Purpose};
use crate::registry::Merchant;
use crate::telemetry::spans::Stage;

/// The flow of creates, updates and cancels.
pub(super) struct Mutations {
    pub identities: Arc<Identities>,
    pub books: Arc<Books>,
    pub upstreams: Arc<Upstreams>,
    pub replays: Arc<Replays>,
    pub sessions: Arc<Sessions>,
    pub events: Arc<Events>,
    pub desk: Arc<Desk>,
}

impl Mutations {
    /// Creates a session or cart. What the merchant creates belongs to the agent.
    pub(super) async fn create(
        &self,
        call: Call,
        merchant: Arc<Merchant>,
        kind: SessionKind,
    ) -> Result<Reply, Refusal> {
        let operation = call.operation(&self.identities.rings, Some(&merchant))?;
        let key = operation.scope.record_key(None);
        // What nobody can repeat is not kept.
        let mut snapshot = match &call.key {
            Some(_) => Some(self.books.ledger.load_key(&key).await?),
            None => None,
        };
        let conflict = StatusCode::UNPROCESSABLE_ENTITY;
        if let Some(reply) = self.replays.kept_answer(&operation, snapshot.as_ref(), conflict).await? {
            return Ok(reply);
        }
        self.replays.refuse_replayed_signature(&call, &operation, Some(&merchant), Purpose::Admit).await?;
        // Behind the kept answer, which stays given.
        refuse_retired(&merchant)?;
        let movement = call.movement(&merchant.id);
        self.desk.suspended.refuse_stopped(movement).await?;
        self.upstreams.availability.refuse_unavailable(&merchant)?;
        let _place = self.upstreams.new_place(&call, &merchant)?;
        let lease = self.books.ledger.lease(merchant.deadlines.total)?;
        let (upstream_key, stored) = match snapshot.as_mut() {
            Some(snapshot) => self.begin_create(&call, &operation, snapshot, lease).await?,
            None => (operation.upstream_key(None).clone(), None),
        };
        let sending =
            Sending { operation: &operation, upstream_key, stored: stored.as_ref(), session: None, lease };
        let Forwarded { reached, stopped, asked_at } =
            self.forward_under(&call, &merchant, sending, movement).await;
        let reply = self.own_created(&call, &merchant, kind, &reached, asked_at).await;
        let end = End::of(&operation, &reached.exchange, reply.as_ref().ok(), stored.is_some());
        if let Some(snapshot) = snapshot.as_mut() {
            let recharge = self
                .books
                .ledger
                .transact_key(snapshot, Purpose::Finish, Durability::Synced, |record, moment| {
                    Ok::<_, Refusal>(
                        held(record, lease).map(|record| end.apply(record, call.is_signed(), moment)),
                    )
                })
                .await
                .map_err(Refusal::unrecorded)??;
            self.note_kept(&call, recharge);
        }
        stopped.map_or(reply, Err)
    }

    /// Takes the lease of a create's key; the key the merchant receives, and the request of the key's
    /// first use.
    async fn begin_create(
        &self,
        call: &Call,
        operation: &Operation,
        snapshot: &mut Loaded<KeyRecord>,
        lease: LeaseMark,
    ) -> Result<(StrView, Option<Sealed>), Refusal> {
        let sealed = operation.seal_request(&call.stored_request())?;
        if snapshot.value.is_none() {
            self.admit_kept(call, &sealed).await?;
        }
        let (upstream_key, stored, recharge) = self
            .books
            .ledger
            .transact_key(snapshot, Purpose::Admit, Durability::Synced, |record, moment| {
                let Taken { record, earlier_request: stored, .. } =
                    operation.take(record, lease, Some(&sealed), moment)?;
                let recharge = record.recharge(call.is_signed(), moment);
                Ok::<_, Refusal>((record.upstream_key.clone(), stored, recharge))
            })
            .await??;
        self.note_kept(call, Some(recharge));
        Ok((upstream_key, stored))
    }

    /// Whether a request off the money routes may be kept under a key of its agent's, so that a repeat is
    /// the same.
    async fn admit_kept(&self, call: &Call, sealed: &Sealed) -> Result<(), Refusal> {
        let (agent, bytes) = (&call.agent, idempotency::weight(sealed.bytes.len()));
        let now = self.desk.clock.earliest();
        let admitted =
            self.books.kept.admit(&agent.id, call.is_signed(), agent.kept_bytes, bytes, now).await?;
        admitted.map_err(Refusal::Limited)
    }

    fn note_kept(&self, call: &Call, recharge: Option<Recharge>) {
        if let Some(recharge) = recharge {
            self.books.kept.changed(&call.agent.id, recharge, self.desk.clock.earliest());
        }
    }

    async fn own_created(
        &self,
        call: &Call,
        merchant: &Arc<Merchant>,
        kind: SessionKind,
        Reached { exchange, shown_at }: &Reached,
        asked_at: Timestamp,
    ) -> Result<Reply, Refusal> {
        let reply = Reply::relayed(exchange)?;
        if reply.status.is_success() {
            let shown = exchange.answer().and_then(|answer| SessionView::of(answer.json()?).ok());
            let invalid = || Refusal::MerchantAnswer(InvalidAnswer::of_exchange(exchange, None));
            let (id, shown) = shown.and_then(|shown| Some((shown.id.clone()?, shown))).ok_or_else(invalid)?;
            if kind == SessionKind::Checkout {
                call.trail.session(&id);
            }
            self.events.faulty(About { merchant: &merchant.id, session: &id }, &shown);
            let observation = observation(&shown, asked_at, shown_at.clone());
            self.sessions.own(call, merchant, kind, &id, &observation).await.map_err(
                |refusal| match refusal {
                    Refusal::Store(error) => Refusal::unrecorded(error),
                    other => other,
                },
            )?;
        }
        Ok(reply)
    }

    /// Updates or cancels a session or cart.
    pub(super) async fn mutate(
        &self,
        call: Call,
        merchant: Arc<Merchant>,
        kind: SessionKind,
        id: SessionId,
    ) -> Result<Reply, Refusal> {
        let operation = call.operation(&self.identities.rings, Some(&merchant))?;
        let mut record_set = self.books.ledger.record_set(kind, &merchant.id, &id);
        // What nobody can repeat is not kept.
        let is_kept = call.key.is_some();
        if is_kept {
            record_set = record_set.with_key(&operation.scope);
        }
        let looking = call.trail.span(Stage::Look);
        let mut snapshot = self.books.ledger.load(&record_set).await?;
        drop(looking);
        if snapshot.session().is_none() && kind == SessionKind::Checkout {
            self.sessions.adopt(&call, &merchant, &id).await?;
            snapshot = self.books.ledger.load(&record_set).await?;
        }
        owned(snapshot.session(), &call).map_err(|_| unknown(kind))?;
        let conflict = StatusCode::UNPROCESSABLE_ENTITY;
        if let Some(reply) = self.replays.kept_answer(&operation, snapshot.key_record(), conflict).await? {
            return Ok(reply);
        }
        self.replays.refuse_replayed_signature(&call, &operation, Some(&merchant), Purpose::Admit).await?;
        let movement = Movement { ends: is_cancel(&call.route), ..call.movement(&merchant.id) };
        self.desk.suspended.refuse_stopped(movement).await?;
        self.upstreams.availability.refuse_unavailable(&merchant)?;
        let _place = self.upstreams.new_place(&call, &merchant)?;
        let lease = self.books.ledger.lease(merchant.deadlines.total)?;
        let sealed = is_kept.then(|| operation.seal_request(&call.stored_request())).transpose()?;
        if let (Some(sealed), None) = (&sealed, snapshot.key()) {
            self.admit_kept(&call, sealed).await?;
        }
        let begin = |records: &mut Records, moment: Moment| {
            let session = owned_mut(records.session.as_mut(), &call)?;
            let Taken { record, is_first_use, earlier_request: stored } =
                operation.take(&mut records.key, lease, sealed.as_ref(), moment)?;
            let sequence = session
                .begin_mutation(moment, lease.until)
                .map_err(|_| Refusal::SessionBusy(session.busy_for(moment)))?;
            let recharge = record.recharge(call.is_signed(), moment);
            Ok::<_, Refusal>((record.upstream_key.clone(), stored, sequence, is_first_use, recharge))
        };
        let begun = self
            .books
            .ledger
            .transact_from(&mut snapshot, &record_set, Purpose::Admit, Durability::Synced, begin)
            .await??;
        let (upstream_key, stored, sequence, is_first_use, recharge) = begun.decided;
        self.note_kept(&call, Some(recharge).filter(|_| is_kept));
        let (stored, session) = (stored.as_ref(), snapshot.session());
        let sending = Sending { operation: &operation, upstream_key, stored, session, lease };
        let Forwarded { reached: Reached { exchange, shown_at }, stopped, asked_at } =
            self.forward_under(&call, &merchant, sending, movement).await;
        // Where something of it went: what reached nobody leaves the session where it was.
        let went = Some(&shown_at.url).filter(|_| !matches!(exchange, Exchange::NotSent(_)));
        let reply = Reply::relayed(&exchange);
        let end = End::of(&operation, &exchange, reply.as_ref().ok(), stored.is_some());
        let observation = self.observation_of(&merchant, &exchange, &id, asked_at, &shown_at);
        let total = observation.as_ref().and_then(|observation| observation.total);
        let total = total.filter(|_| exchange.shows_the_present(is_first_use));
        let finish = |records: &mut Records, moment: Moment| {
            let recharge =
                held(&mut records.key, lease).map(|record| end.apply(record, call.is_signed(), moment));
            let Some(session) = records.session.as_mut() else {
                return Ok((Settlement::Stale, false, recharge));
            };
            let is_present = session.end_mutation(sequence, total, went, moment.steady);
            let second = session.note_order(observation.as_ref().and_then(|observation| observation.order));
            if let Some(shown) = observation.as_ref().filter(|_| is_present) {
                session.handlers = shown.handlers.clone();
            }
            // A claim can only be open if this mutation was given up before it ended; then the
            // claim's token is not at hand and nothing is settled here.
            let settlement = observation.as_ref().map_or(Settlement::Stale, |observation| {
                observe::<()>(session, None, observation, merchant.doubt_grace, moment)
            });
            Ok::<_, Refusal>((settlement, second, recharge))
        };
        let Done { decided: (settlement, second_order, recharge), .. } = self
            .books
            .ledger
            .transact_from(&mut snapshot, &record_set, Purpose::Finish, Durability::Synced, finish)
            .await
            .map_err(Refusal::unrecorded)??;
        self.note_kept(&call, recharge);
        let about = About { merchant: &merchant.id, session: &id };
        self.events.contradicted(about, Contradiction { order: second_order, answer: false });
        if settlement == Settlement::ChargedLate {
            self.events.charged_late(about);
        }
        stopped.map_or(reply, Err)
    }

    /// What a successful answer to a mutation of session `id` proves; `None` when it cannot be read.
    fn observation_of(
        &self,
        merchant: &Merchant,
        exchange: &Exchange,
        id: &SessionId,
        asked_at: Timestamp,
        shown_at: &ShownAt,
    ) -> Option<Observation> {
        let answer = exchange.answer().filter(|answer| answer.status.is_success())?;
        let shown = session_view(answer, id)?;
        self.events.faulty(About { merchant: &merchant.id, session: id }, &shown);
        Some(observation(&shown, asked_at, shown_at.clone()))
    }

    /// Sends a change, unless it is stopped meanwhile: where its session was last, and what may have been
    /// sent before only there.
    async fn forward_under(
        &self,
        call: &Call,
        merchant: &Arc<Merchant>,
        Sending { operation, upstream_key, stored, session, lease }: Sending<'_>,
        movement: Movement<'_>,
    ) -> Forwarded {
        let asked_at = self.desk.clock.steady();
        let way = self.upstreams.changes_at(session, merchant, stored.is_some());
        let Ok(stored) = operation.open_request(stored) else {
            let reached = Reached::nowhere(self.upstreams.not_built(call));
            return Forwarded { reached, stopped: None, asked_at };
        };
        let outbound = call.outbound(stored, Some(upstream_key), None, None, self.desk.clock.now());
        let deadline = self.books.ledger.end_of(lease);
        let (reached, stopped) =
            self.upstreams.send_unless_stopped(call, merchant, &way, outbound, deadline, movement).await;
        Forwarded { reached, stopped, asked_at }
    }
}

/// What is sent under a key.
struct Sending<'a> {
    operation: &'a Operation,
    upstream_key: StrView,
    /// The request of the key's first use, where it is not this one.
    stored: Option<&'a Sealed>,
    /// The session that is to change, where there is one.
    session: Option<&'a Session>,
    lease: LeaseMark,
}

/// What became of a request.
struct Forwarded {
    reached: Reached,
    /// Why nothing of it was sent, where that was not the merchant's doing.
    stopped: Option<Refusal>,
    asked_at: Timestamp,
}

const fn is_cancel(route: &Route) -> bool {
    matches!(
        route,
        Route::Checkout { call: CheckoutCall::Cancel { .. }, .. }
            | Route::Cart { call: CartCall::Cancel { .. }, .. }
    )
}

/// What is kept against a key once its request was tried.
enum End {
    /// The answer: what the merchant decided, not what was in its way
    /// (`src/acp/README.md`, "Idempotency").
    Decided(StoredAnswer),
    /// Nothing was sent, or the merchant did nothing: a repeat begins anew, so that its request need not
    /// be the same bytes.
    NothingDone,
    /// The request, to be sent again as it was.
    Unknown,
}

impl End {
    /// Of a request that was `sent_before`, by an earlier use of its key, nothing is known to be undone.
    fn of(operation: &Operation, exchange: &Exchange, reply: Option<&Reply>, sent_before: bool) -> Self {
        let undone = if sent_before { Self::Unknown } else { Self::NothingDone };
        let answer = match exchange {
            Exchange::NotSent(_) => return undone,
            _ => exchange.answer(),
        };
        let Some(answer) = answer else { return Self::Unknown };
        match answer.status.as_u16() {
            // Our own credential was refused, or the merchant asks to come back.
            401 | 403 | 407 | 425 | 429 => undone,
            408 => Self::Unknown,
            409 if crate::merchant::is_in_flight(answer) => Self::Unknown,
            200..=299 | 400..=499 => reply
                .and_then(|reply| reply.seal(operation).unwrap_or(None))
                .map_or(Self::Unknown, Self::Decided),
            _ => Self::Unknown,
        }
    }

    fn apply(&self, record: &mut KeyRecord, signed: bool, moment: Moment) -> Recharge {
        record.state = match self {
            Self::Decided(answer) => KeyState::Recorded(answer.clone()),
            Self::NothingDone | Self::Unknown => KeyState::Open,
        };
        if !matches!(self, Self::Unknown) {
            record.request = None;
        }
        record.recharge(signed, moment)
    }
}
