//! Create, update and cancel, of checkout sessions and carts: forwarded once under a lease, re-sent
//! with the stored key and bytes after doubt.

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
use crate::domain::session::{SessionKind, Settlement, observe};
use crate::idempotency::{KeyRecord, KeyState};
use crate::merchant::{Exchange, InvalidAnswer};
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
        let mut seen = self.ledger.look_key(&key).await?;
        if let Some(reply) = self.replay(&operation, Some(&seen), StatusCode::UNPROCESSABLE_ENTITY).await? {
            return Ok(reply);
        }
        self.refuse_replayed_signature(&call, &operation, Some(&merchant), Purpose::Admit).await?;
        let _permit = self.place(&call, &merchant)?;
        let lease = self.lease(merchant.deadlines.total)?;
        let sealed = operation.seal_request(&call.stored_request())?;
        let (upstream_key, stored) = self
            .ledger
            .transact_key(&mut seen, Purpose::Admit, Durability::Synced, |record, present| {
                refuse_unless_free(&operation, record.as_ref(), present)?;
                let stored = record.as_ref().and_then(|record| record.request.clone());
                let record = record.get_or_insert_with(|| operation.new_record(lease, None));
                record.state = KeyState::Leased(lease);
                record.request.get_or_insert_with(|| sealed.clone());
                Ok::<_, Refusal>((record.upstream_key.clone(), stored))
            })
            .await??;
        let (exchange, asked_at) =
            self.forward(&call, &merchant, &operation, upstream_key, stored.as_ref(), lease).await;
        let reply = self.own_created(&call, &merchant, kind, &exchange, asked_at).await;
        let kept = kept(&operation, &exchange, reply.as_ref().ok());
        self.ledger
            .transact_key(&mut seen, Purpose::Finish, Durability::Synced, |record, _| {
                if let Some(record) = held(record, lease) {
                    finish(record, kept.as_ref());
                }
                Ok::<_, Refusal>(())
            })
            .await
            .map_err(unrecorded)??;
        reply
    }

    async fn own_created(
        &self,
        call: &Call,
        merchant: &Arc<Merchant>,
        kind: SessionKind,
        exchange: &Exchange,
        asked_at: crate::domain::clock::Timestamp,
    ) -> Result<Reply, Refusal> {
        let reply = Reply::relayed(exchange, "relayed")?;
        if reply.status.is_success() {
            let shown = exchange.answer().and_then(|answer| SessionView::of(answer.json()?).ok());
            let (id, shown) = shown
                .and_then(|shown| Some((shown.id.clone()?, shown)))
                .ok_or(Refusal::MerchantAnswer(InvalidAnswer::NoSession))?;
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
        let address = self.ledger.address(kind, &merchant.id, &id).with_key(&operation.scope);
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
        let sealed = operation.seal_request(&call.stored_request())?;
        let (upstream_key, stored, sequence, is_first_use) = self
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
                record.request.get_or_insert_with(|| sealed.clone());
                Ok::<_, Refusal>((record.upstream_key.clone(), stored, sequence, is_first_use))
            })
            .await??;
        let (exchange, asked_at) =
            self.forward(&call, &merchant, &operation, upstream_key, stored.as_ref(), lease).await;
        let reply = Reply::relayed(&exchange, "relayed");
        let kept = kept(&operation, &exchange, reply.as_ref().ok());
        let observation = self.observation_of(&merchant.id, &exchange, &id, asked_at);
        let total = observation.as_ref().and_then(|observation| observation.total);
        let total = total.filter(|_| exchange.shows_the_present(is_first_use));
        let (settlement, second_order) = self
            .ledger
            .transact_seen(&mut seen, &address, Purpose::Finish, Durability::Synced, |view, present| {
                if let Some(record) = held(&mut view.key, lease) {
                    finish(record, kept.as_ref());
                }
                let Some(session) = view.session.as_mut() else { return Ok((Settlement::Stale, false)) };
                session.end_mutation(sequence, total, present.now);
                let second =
                    session.note_order(observation.as_ref().and_then(|observation| observation.order));
                // A claim can only be open if this mutation was given up before it ended; then the
                // claim's token is not at hand and nothing is settled here.
                let settlement = observation.as_ref().map_or(Settlement::Stale, |observation| {
                    observe::<()>(session, None, observation, merchant.doubt_grace, present)
                });
                Ok::<_, Refusal>((settlement, second))
            })
            .await
            .map_err(unrecorded)??;
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
        lease: crate::idempotency::LeaseMark,
    ) -> (Exchange, crate::domain::clock::Timestamp) {
        let asked_at = self.clock.steady();
        let Ok(stored) = operation.open_request(stored) else {
            return (Exchange::NotSent(crate::merchant::NotSent::Unwritable), asked_at);
        };
        let outbound = call.outbound(stored, Some(upstream_key), None, None, self.clock.now());
        (self.send_by(call, merchant, outbound, self.within(lease)).await, asked_at)
    }
}

/// The answer to keep against the key: what the merchant decided, not what was in its way
/// (`acp/protocol.md` §5).
fn kept(
    operation: &Operation,
    exchange: &Exchange,
    reply: Option<&Reply>,
) -> Option<crate::idempotency::StoredAnswer> {
    let answer = exchange.answer()?;
    let decided = match answer.status.as_u16() {
        200..=299 => true,
        // Our own credential was refused, or the merchant asks to come back.
        401 | 403 | 407 | 408 | 425 | 429 => false,
        409 => !crate::merchant::is_in_flight(answer),
        400..=499 => true,
        _ => false,
    };
    reply.filter(|_| decided).and_then(|reply| operation.seal_answer(reply).unwrap_or(None))
}

fn finish(record: &mut KeyRecord, kept: Option<&crate::idempotency::StoredAnswer>) {
    match kept {
        Some(answer) => {
            record.state = KeyState::Recorded(answer.clone());
            record.request = None;
        }
        None => record.state = KeyState::Open,
    }
}
