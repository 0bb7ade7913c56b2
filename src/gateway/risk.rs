//! What the risk rules say: of a complete before it begins, of a mint, and of what was declined.

use std::sync::Arc;

use super::completion::Completion;
use super::parts::{Books, Desk, owned};
use super::refusal::Refusal;
use crate::domain::session::may_claim;
use crate::fraud::{
    self, CardFingerprint, Cleared, CompleteAttempt, Denied, Facts, Hit, MintAttempt, Reservation, evaluate,
};
use crate::ledger::Snapshot;

/// Asks the rules, and counts what they count.
pub(super) struct Risk {
    pub settings: fraud::Settings,
    pub books: Arc<Books>,
    pub desk: Arc<Desk>,
}

impl Risk {
    /// Asks the rules, and counts what they say.
    fn judge(&self, facts: &Facts<'_>) -> Result<Cleared, Refusal> {
        let verdict = evaluate(facts, &self.settings);
        let hits = match &verdict {
            Ok(cleared) => cleared.hits(),
            Err(Denied { hits, .. }) => hits,
        };
        for Hit { rule, mode, decision, .. } in hits {
            self.desk.observer.metrics().fraud(rule, decision.as_str(), mode.as_str());
        }
        verdict.map_err(Refusal::Fraud)
    }

    /// Counts a complete and asks the rules. The reservation is released when the complete does not
    /// begin.
    pub(super) async fn clear_complete(
        &self,
        completion: &Completion,
        snapshot: &Snapshot,
    ) -> Result<(Cleared, Reservation<'_>), Refusal> {
        let Completion { call, operation, token, .. } = completion;
        let held = snapshot.token();
        let card = held.map(|token| CardFingerprint::from_bytes(token.card_fingerprint));
        if token.is_some() && held.is_none() {
            return Err(Refusal::TokenUnknown);
        }
        // What would be refused anyway is refused before it counts, and what would be checked is the
        // amount the rules see.
        let moment = self.books.ledger.moment();
        let session = owned(snapshot.session(), call)?;
        // The key speaks before the token it holds: a racer with the same key is told so.
        operation.refuse_unless_free(snapshot.key(), moment)?;
        let request = completion.begin_claim(session, moment.steady, None);
        let amount = may_claim(session, held, &request, moment)
            .map_err(|refusal| Refusal::of_claim(refusal, session, moment))?;
        let attempt =
            CompleteAttempt { agent: &call.agent, amount, card: card.as_ref(), operation: &operation.scope };
        let now = self.desk.clock.steady();
        let (facts, reservation) =
            fraud::gather_complete(&self.books.velocity, &self.settings, attempt, now).await?;
        match self.judge(&facts) {
            Ok(cleared) => Ok((cleared, reservation)),
            Err(refusal) => {
                reservation.release().await;
                Err(refusal)
            }
        }
    }

    /// Counts a mint and asks the rules. The reservation is released when nothing is minted.
    pub(super) async fn clear_mint(&self, attempt: MintAttempt<'_>) -> Result<Reservation<'_>, Refusal> {
        let now = self.desk.clock.steady();
        let (facts, reservation) =
            fraud::gather_mint(&self.books.velocity, &self.settings, attempt, now).await?;
        match self.judge(&facts) {
            Ok(_cleared) => Ok(reservation),
            Err(refusal) => {
                reservation.release().await;
                Err(refusal)
            }
        }
    }

    /// Counts a decline of a card: it was out and the merchant refused.
    pub(super) async fn note_decline(&self, completion: &Completion, card: &CardFingerprint) {
        let Completion { call, operation, .. } = completion;
        let now = self.desk.clock.steady();
        let (velocity, settings) = (&self.books.velocity, &self.settings);
        // A decline that cannot be counted changes nothing about the complete.
        let _ = fraud::record_decline(velocity, settings, &call.agent.id, card, &operation.scope, now).await;
    }
}
