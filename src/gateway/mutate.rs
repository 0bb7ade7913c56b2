//! Create, update and cancel, of checkout sessions and carts.
//!
//! Forwarded once under a lease, re-sent with the stored key and bytes after doubt.

use std::sync::Arc;

use http::StatusCode;

use super::Gateway;
use super::bracket::{held, owned, owned_mut, refuse_unless_free, unrecorded};
use super::call::Call;
use super::notes::Contradiction;
use super::operation::Operation;
use super::read::{observation, unknown};
use super::refusal::Refusal;
use super::reply::Reply;
use crate::acp::wire::session::SessionView;
use crate::crypto::aead::Sealed;
use crate::domain::id::SessionId;
use crate::domain::session::{Present, SessionKind, Settlement, observe};
use crate::idempotency::{self, KeyRecord, KeyState, LeaseMark, Recharge, StoredAnswer};
use crate::merchant::{Exchange, InvalidAnswer};
use crate::records::codec::Loaded;
use crate::records::{Durability, Purpose};
use crate::registry::Merchant;

impl Gateway {
    /// Creates a session or cart. What the merchant creates belongs to the agent.
    pub(super) async fn create(
        self: Arc<Self>,
        call: Call,
        merchant: Arc<Merchant>,
        kind: SessionKind,
    ) -> Result<Reply, Refusal> {
        let operation = call.operation(&self.rings, Some(&merchant))?;
        let key = operation.scope.record_key(None);
        // What nobody can repeat is not kept.
        let mut seen = match &call.key {
            Some(_) => Some(self.ledger.look_key(&key).await?),
            None => None,
        };
        if let Some(reply) = self.replay(&operation, seen.as_ref(), StatusCode::UNPROCESSABLE_ENTITY).await? {
            return Ok(reply);
        }
        self.refuse_replayed_signature(&call, &operation, Some(&merchant), Purpose::Admit).await?;
        let _permit = self.place(&call, &merchant)?;
        let lease = self.lease(merchant.deadlines.total)?;
        let (upstream_key, stored) = match seen.as_mut() {
            Some(seen) => self.begin_create(&call, &operation, seen, lease).await?,
            None => (operation.upstream_key(None), None),
        };
        let (exchange, asked_at) =
            self.forward(&call, &merchant, &operation, upstream_key, stored.as_ref(), lease).await;
        let reply = self.own_created(&call, &merchant, kind, &exchange, asked_at).await;
        let end = End::of(&operation, &exchange, reply.as_ref().ok(), stored.is_some());
        if let Some(seen) = seen.as_mut() {
            let recharge = self
                .ledger
                .transact_key(seen, Purpose::Finish, Durability::Synced, |record, present| {
                    Ok::<_, Refusal>(
                        held(record, lease).map(|record| end.apply(record, call.is_signed(), present)),
                    )
                })
                .await
                .map_err(unrecorded)??;
            self.note_kept(&call, recharge);
        }
        reply
    }

    /// Takes the lease of a create's key; the key the merchant receives, and the request of the key's
    /// first use.
    async fn begin_create(
        &self,
        call: &Call,
        operation: &Operation,
        seen: &mut Loaded<KeyRecord>,
        lease: LeaseMark,
    ) -> Result<(String, Option<Sealed>), Refusal> {
        let sealed = operation.seal_request(&call.stored_request())?;
        if seen.value.is_none() {
            self.admit_kept(call, &sealed).await?;
        }
        let (upstream_key, stored, recharge) = self
            .ledger
            .transact_key(seen, Purpose::Admit, Durability::Synced, |record, present| {
                refuse_unless_free(operation, record.as_ref(), present)?;
                let stored = record.as_ref().and_then(|record| record.request.clone());
                let record = record.get_or_insert_with(|| operation.new_record(lease, None));
                record.state = KeyState::Leased(lease);
                record.request.get_or_insert_with(|| sealed.clone());
                let recharge = record.recharge(call.is_signed(), present);
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
        let now = self.clock.earliest();
        let admitted = self.kept.admit(&agent.id, call.is_signed(), agent.kept_bytes, bytes, now).await?;
        admitted.map_err(Refusal::Limited)
    }

    fn note_kept(&self, call: &Call, recharge: Option<Recharge>) {
        if let Some(recharge) = recharge {
            self.kept.changed(&call.agent.id, recharge, self.clock.earliest());
        }
    }

    async fn own_created(
        &self,
        call: &Call,
        merchant: &Arc<Merchant>,
        kind: SessionKind,
        exchange: &Exchange,
        asked_at: crate::domain::clock::Timestamp,
    ) -> Result<Reply, Refusal> {
        let reply = Reply::relayed(exchange)?;
        if reply.status.is_success() {
            let shown = exchange.answer().and_then(|answer| SessionView::of(answer.json()?).ok());
            let invalid = || Refusal::MerchantAnswer(InvalidAnswer::of_exchange(exchange, None));
            let (id, shown) = shown.and_then(|shown| Some((shown.id.clone()?, shown))).ok_or_else(invalid)?;
            if kind == SessionKind::Checkout {
                call.trail.session(&id);
            }
            self.note_faults(&merchant.id, &id, &shown);
            let observation = observation(&shown, asked_at);
            self.own_session(call, merchant, kind, &id, &observation).await.map_err(
                |refusal| match refusal {
                    Refusal::Store(error) => unrecorded(error),
                    other => other,
                },
            )?;
        }
        Ok(reply)
    }

    /// Updates or cancels a session or cart.
    pub(super) async fn mutate(
        self: Arc<Self>,
        call: Call,
        merchant: Arc<Merchant>,
        kind: SessionKind,
        id: SessionId,
    ) -> Result<Reply, Refusal> {
        let operation = call.operation(&self.rings, Some(&merchant))?;
        let mut address = self.ledger.address(kind, &merchant.id, &id);
        // What nobody can repeat is not kept.
        let is_kept = call.key.is_some();
        if is_kept {
            address = address.with_key(&operation.scope);
        }
        let mut seen = self.ledger.look(&address).await?;
        if seen.session().is_none() && kind == SessionKind::Checkout {
            self.adopt(&call, &merchant, &id).await?;
            seen = self.ledger.look(&address).await?;
        }
        owned(seen.session(), &call).map_err(|_| unknown(kind))?;
        if let Some(reply) =
            self.replay(&operation, seen.key_record(), StatusCode::UNPROCESSABLE_ENTITY).await?
        {
            return Ok(reply);
        }
        self.refuse_replayed_signature(&call, &operation, Some(&merchant), Purpose::Admit).await?;
        let _permit = self.place(&call, &merchant)?;
        let lease = self.lease(merchant.deadlines.total)?;
        let sealed = is_kept.then(|| operation.seal_request(&call.stored_request())).transpose()?;
        if let (Some(sealed), None) = (&sealed, seen.key()) {
            self.admit_kept(&call, sealed).await?;
        }
        let (upstream_key, stored, sequence, is_first_use, recharge) = self
            .ledger
            .transact_seen(&mut seen, &address, Purpose::Admit, Durability::Synced, |view, present| {
                let session = owned_mut(view.session.as_mut(), &call)?;
                refuse_unless_free(&operation, view.key.as_ref(), present)?;
                let sequence =
                    session.begin_mutation(present, lease.until).map_err(|_| Refusal::SessionBusy)?;
                let is_first_use = view.key.is_none();
                let stored = view.key.as_ref().and_then(|record| record.request.clone());
                let record = view.key.get_or_insert_with(|| operation.new_record(lease, None));
                record.state = KeyState::Leased(lease);
                record.request = record.request.take().or_else(|| sealed.clone());
                let recharge = record.recharge(call.is_signed(), present);
                Ok::<_, Refusal>((record.upstream_key.clone(), stored, sequence, is_first_use, recharge))
            })
            .await??;
        self.note_kept(&call, Some(recharge).filter(|_| is_kept));
        let (exchange, asked_at) =
            self.forward(&call, &merchant, &operation, upstream_key, stored.as_ref(), lease).await;
        let reply = Reply::relayed(&exchange);
        let end = End::of(&operation, &exchange, reply.as_ref().ok(), stored.is_some());
        let observation = self.observation_of(&merchant.id, &exchange, &id, asked_at);
        let total = observation.as_ref().and_then(|observation| observation.total);
        let total = total.filter(|_| exchange.shows_the_present(is_first_use));
        let (settlement, second_order, recharge) = self
            .ledger
            .transact_seen(&mut seen, &address, Purpose::Finish, Durability::Synced, |view, present| {
                let recharge =
                    held(&mut view.key, lease).map(|record| end.apply(record, call.is_signed(), present));
                let Some(session) = view.session.as_mut() else {
                    return Ok((Settlement::Stale, false, recharge));
                };
                session.end_mutation(sequence, total, present.now);
                let second =
                    session.note_order(observation.as_ref().and_then(|observation| observation.order));
                // A claim can only be open if this mutation was given up before it ended; then the
                // claim's token is not at hand and nothing is settled here.
                let settlement = observation.as_ref().map_or(Settlement::Stale, |observation| {
                    observe::<()>(session, None, observation, merchant.doubt_grace, present)
                });
                Ok::<_, Refusal>((settlement, second, recharge))
            })
            .await
            .map_err(unrecorded)??;
        self.note_kept(&call, recharge);
        self.note_contradiction(Contradiction { order: second_order, answer: false }, &merchant.id, &id);
        if settlement == Settlement::ChargedLate {
            self.note_late_charge(&merchant.id, &id);
        }
        reply
    }

    /// Sends the request of the key's first use, `stored` where it is not this one, with the key of its
    /// first use.
    async fn forward(
        &self,
        call: &Call,
        merchant: &Arc<Merchant>,
        operation: &Operation,
        upstream_key: String,
        stored: Option<&Sealed>,
        lease: LeaseMark,
    ) -> (Exchange, crate::domain::clock::Timestamp) {
        let asked_at = self.clock.steady();
        let Ok(stored) = operation.open_request(stored) else {
            return (Exchange::NotSent(crate::merchant::NotSent::Unwritable), asked_at);
        };
        let outbound = call.outbound(stored, Some(upstream_key), None, None, self.clock.now());
        (self.send_by(call, merchant, outbound, self.within(lease)).await, asked_at)
    }
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
                .and_then(|reply| operation.seal_answer(reply).unwrap_or(None))
                .map_or(Self::Unknown, Self::Decided),
            _ => Self::Unknown,
        }
    }

    fn apply(&self, record: &mut KeyRecord, signed: bool, present: Present) -> Recharge {
        record.state = match self {
            Self::Decided(answer) => KeyState::Recorded(answer.clone()),
            Self::NothingDone | Self::Unknown => KeyState::Open,
        };
        if !matches!(self, Self::Unknown) {
            record.request = None;
        }
        record.recharge(signed, present)
    }
}
