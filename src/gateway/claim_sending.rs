//! The sending of a held claim's complete.
//!
//! To the base URL its record names, and to no other before the record names that.

use smallvec::SmallVec;

use super::base_urls::reached_nobody;
use super::claim::HeldClaim;
use super::completion::Completion;
use super::refusal::Refusal;
use super::upstreams::Upstreams;
use super::way::{Reached, Way};
use crate::domain::base_url::BaseUrl;
use crate::domain::clock::Deadline;
use crate::domain::session::{Lifecycle, Moment};
use crate::idempotency::held;
use crate::ledger::Records;
use crate::merchant::{CompleteContext, Exchange};
use crate::records::{Durability, Purpose};

impl HeldClaim {
    /// Sends the complete, unless it is stopped meanwhile: then with the refusal. Infallible: whatever
    /// happens is an exchange.
    ///
    /// Of a first attempt of which nothing was sent the next of the merchant's base URLs may be tried.
    pub(super) async fn forward_claimed(&mut self) -> (Exchange, Option<Refusal>) {
        let Completion { call, token, operation, claim, .. } = &*self.completion;
        call.trail.amount(self.begun.claim.checked);
        call.trail.attempt(self.begun.claim.attempt);
        // The bytes of the first use, so that a merchant that compares bytes sees the same request.
        let Ok(stored) = operation.open_request(self.begun.stored.as_ref()) else {
            return (self.keeper.upstreams.not_built(call), None);
        };
        let context = CompleteContext {
            token: token.clone(),
            claim: claim.clone(),
            checked: self.begun.claim.checked,
            attempt: self.begun.claim.attempt,
            review: self.begun.review,
        };
        let key = Some(claim.text().clone());
        let mut outbound = call.outbound(stored, key, Some(context), self.begun.grant.clone(), self.begun.at);
        // Never after the lease: another attempt may be under way then.
        let deadline = self.keeper.books.ledger.end_of(self.begun.lease);
        let mut tried: SmallVec<[BaseUrl; 1]> = std::iter::once(self.begun.url.clone()).collect();
        loop {
            let Completion { call, merchant, .. } = &*self.completion;
            let upstreams = &self.keeper.upstreams;
            // What was sent before, under an earlier claim of this key too, may have arrived, whatever
            // becomes of this attempt.
            let is_first = self.begun.claim.attempt == 1 && self.begun.stored.is_none();
            let next = is_first.then(|| upstreams.next_for(merchant, &tried)).flatten();
            let again = next.map(|next| (next, outbound.clone()));
            let movement = self.completion.card_movement(self.snapshot.token());
            let way = Way::Only(self.begun.url.clone());
            let sent =
                upstreams.send_unless_stopped(call, merchant, &way, outbound, deadline, movement).await;
            let (Reached { exchange, .. }, stopped) = sent;
            match again {
                Some((next, again)) if reached_nobody(&exchange) && self.moves_to(&next, deadline).await => {
                    outbound = again;
                    tried.push(next);
                }
                Some(_) | None => return (exchange, stopped),
            }
        }
    }

    /// Makes the claim another base URL's, of which nothing was sent so far: before anything is. Only where
    /// the session is shown there as it was claimed: one that lags behind is not asked to charge it.
    async fn moves_to(&mut self, next: &BaseUrl, deadline: Deadline) -> bool {
        let Completion { call, merchant, session, record_set, claim, .. } = &*self.completion;
        let (keeper, begun) = (&self.keeper, &self.begun);
        let upstreams: &Upstreams = &keeper.upstreams;
        let read = upstreams.read_within(call, merchant, &Way::Only(next.clone()), session, deadline).await;
        let shown = read.observation().filter(|shown| shown.lifecycle == Lifecycle::Open);
        let due = shown.and_then(|shown| shown.total?.in_currency(begun.claim.checked.currency));
        if deadline.has_passed() || due.is_none_or(|due| due.fits_within(&begun.claim.checked).is_err()) {
            return false;
        }
        // What is to go on there is there still: nothing moves to a base URL that was left meanwhile.
        let Ok(_unmoved) = keeper.desk.destinations.settled(merchant, false).await else { return false };
        let decide = |records: &mut Records, moment: Moment| {
            held(&mut records.key, begun.lease).ok_or(())?;
            if records.token.as_ref().is_some_and(|token| token.is_expired(moment.latest)) {
                return Err(());
            }
            let session = records.session.as_mut().filter(|session| session.ending.is_none()).ok_or(())?;
            let open = session.claim.as_ref().filter(|open| open.id == *claim).ok_or(())?;
            let is_revoked = open.revoke_requested.is_some();
            if open.last_attempt != begun.claim.attempt || open.contested || open.pending || is_revoked {
                return Err(());
            }
            session.move_claim(next);
            Ok(())
        };
        let (purpose, durability) = (Purpose::Admit, Durability::Synced);
        let ledger = &keeper.books.ledger;
        let moved = ledger.transact_from(&mut self.snapshot, record_set, purpose, durability, decide).await;
        let is_moved = matches!(moved, Ok(Ok(_)));
        if is_moved {
            self.begun.url = next.clone();
        }
        is_moved
    }
}
