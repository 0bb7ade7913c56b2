//! What a request must not be: a replayed signature, or an operation the risk rules deny.

use http::StatusCode;

use super::Gateway;
use super::bracket::{owned_mut, refuse_unless_free};
use super::call::Call;
use super::complete::Completion;
use super::operation::Operation;
use super::refusal::Refusal;
use crate::auth::replay::{self, Replay, ReplayCheck, Use};
use crate::auth::signature::Proof;
use crate::domain::session::{Outcome, SessionKind, begin_claim};
use crate::fraud::{self, CardFingerprint, Cleared, CompleteAttempt, Denied, Facts, Hit, Tally, evaluate};
use crate::ledger::Seen;
use crate::merchant::Exchange;
use crate::records::Purpose;
use crate::registry::Merchant;

impl Gateway {
    /// Records the call's signature where that is needed; the same signature for another request is
    /// a replay.
    pub(super) async fn refuse_replayed_signature(
        &self,
        call: &Call,
        operation: &Operation,
        merchant: Option<&Merchant>,
        purpose: Purpose,
    ) -> Result<(), Refusal> {
        self.refuse_replay(call, merchant, || operation.body_digest().to_vec(), purpose).await
    }

    /// As [`Self::refuse_replayed_signature`], for a request without a body, which begins nothing.
    pub(super) async fn refuse_replayed_read(
        &self,
        call: &Call,
        merchant: Option<&Merchant>,
    ) -> Result<(), Refusal> {
        self.refuse_replay(call, merchant, Vec::new, Purpose::Finish).await
    }

    async fn refuse_replay(
        &self,
        call: &Call,
        merchant: Option<&Merchant>,
        body: impl FnOnce() -> Vec<u8>,
        purpose: Purpose,
    ) -> Result<(), Refusal> {
        let (Proof::Signed { replay: Some(check), .. } | Proof::BearerOnly { replay: Some(check) }) =
            call.verified.proof()
        else {
            return Ok(());
        };
        let body = body();
        let method = call.route.method();
        let used = Use {
            method: method.as_str(),
            merchant: merchant.map_or("", |merchant| merchant.id.as_str()),
            path: &call.path,
            idempotency_key: call.key.as_ref().map_or("", |key| key.as_str()),
            body: &body,
        };
        self.record_use(check, &used, purpose).await
    }

    /// As [`Self::refuse_replayed_signature`], for any signature.
    pub(super) async fn record_use(
        &self,
        check: &ReplayCheck,
        used: &Use<'_>,
        purpose: Purpose,
    ) -> Result<(), Refusal> {
        let store = &**self.ledger.store();
        replay::check_and_record(store, check, &used.digest(), purpose).await.map_err(|error| match error {
            Replay::Replayed => Refusal::Replayed,
            Replay::Store(error) => Refusal::Store(error),
        })
    }

    /// Asks the rules, and counts what they say.
    pub(super) fn judge(&self, facts: &Facts<'_>) -> Result<Cleared, Refusal> {
        let verdict = evaluate(facts, &self.fraud);
        let hits = match &verdict {
            Ok(cleared) => cleared.hits(),
            Err(Denied { hits, .. }) => hits,
        };
        for Hit { rule, mode, decision, .. } in hits {
            self.observer.metrics().fraud(rule, decision.as_str(), mode.as_str());
        }
        verdict.map_err(Refusal::Fraud)
    }

    /// Counts a complete and asks the rules. The tally is handed back when the complete does not
    /// begin.
    pub(super) async fn clear_complete(
        &self,
        completion: &Completion,
        seen: &Seen,
    ) -> Result<(Cleared, Tally<'_>), Refusal> {
        let Completion { call, operation, token, .. } = completion;
        let (mut session, mut held) = (seen.session().cloned(), seen.token().cloned());
        let card = held.as_ref().map(|token| CardFingerprint::from_bytes(token.card_fingerprint));
        if token.is_some() && held.is_none() {
            return Err(Refusal::TokenUnknown);
        }
        // A rehearsal on copies: what would be refused anyway is refused before it counts, and what
        // would be checked is the amount the rules see.
        let present = self.ledger.present();
        let session = owned_mut(session.as_mut(), call)?;
        // The key speaks before the token it holds: a racer with the same key is told so.
        refuse_unless_free(operation, seen.key(), present)?;
        let request = completion.begin_claim(session, present.now);
        let amount = begin_claim(session, held.as_mut(), &request, present)?.checked;
        let attempt =
            CompleteAttempt { agent: &call.agent, amount, card: card.as_ref(), operation: &operation.scope };
        let (facts, tally) =
            fraud::gather_complete(&self.velocity, &self.fraud, attempt, self.clock.steady()).await?;
        match self.judge(&facts) {
            Ok(cleared) => Ok((cleared, tally)),
            Err(refusal) => {
                tally.hand_back().await;
                Err(refusal)
            }
        }
    }

    /// Counts a decline of the token's card: the card was out and the merchant refused.
    pub(super) async fn note_decline(&self, completion: &Completion, exchange: &Exchange, outcome: Outcome) {
        let Completion { call, merchant, session, token: Some(token), operation, .. } = completion else {
            return;
        };
        let declined = match (outcome, exchange) {
            (Outcome::NotCharged { recorded: true }, Exchange::Answered(answer)) => {
                answer.status == StatusCode::PAYMENT_REQUIRED || names_decline(&answer.body)
            }
            _ => false,
        };
        if !declined {
            return;
        }
        let address = self.ledger.address(SessionKind::Checkout, &merchant.id, session).with_token(token);
        let Ok(view) = self.ledger.read(&address).await else { return };
        let Some(token) = view.token else { return };
        let card = CardFingerprint::from_bytes(token.card_fingerprint);
        // A decline that cannot be counted changes nothing about the complete.
        let _ = fraud::record_decline(
            &self.velocity,
            &self.fraud,
            &call.agent.id,
            &card,
            &operation.scope,
            self.clock.steady(),
        )
        .await;
    }
}

/// Whether an answer says that the card was declined: ACP's `payment_declined`, or a provider's
/// `card_declined`, as a code anywhere in it.
fn names_decline(body: &[u8]) -> bool {
    let mut windows = std::str::from_utf8(body).unwrap_or("").match_indices("_declined\"");
    windows.any(|(at, _)| {
        body.get(..at).is_some_and(|before| before.ends_with(b"\"payment") || before.ends_with(b"\"card"))
    })
}
