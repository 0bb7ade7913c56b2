//! A merchant's answer to a complete: what the agent is told of it, and what is kept against the key.

use http::StatusCode;

use super::refusal::Refusal;
use super::reply::Reply;
use crate::domain::id::SessionId;
use crate::domain::session::{Outcome, Settlement};
use crate::idempotency::{KeyRecord, KeyState, LeaseMark, StoredAnswer};
use crate::merchant::{Answer, Exchange, InvalidAnswer, is_in_flight, names_decline};

/// What is kept against the key once its attempt has ended.
pub(super) fn keep_answer(
    record: &mut KeyRecord,
    lease: LeaseMark,
    settlement: Settlement,
    outcome: Outcome,
    kept: Option<&StoredAnswer>,
) {
    let ours = matches!(record.state, KeyState::Leased(mark) if mark == lease);
    let unanswered = !matches!(record.state, KeyState::Recorded(_));
    let conclusive = match settlement {
        Settlement::Charged => unanswered,
        Settlement::Released => ours,
        Settlement::Held => ours && outcome == Outcome::Pending,
        // A read that showed the order was first to settle, or the claim had been given up: the
        // answer is the key's all the same.
        Settlement::ChargedLate | Settlement::Stale => ours && outcome == Outcome::Charged,
    };
    match kept.filter(|_| conclusive) {
        Some(answer) => {
            record.state = KeyState::Recorded(answer.clone());
            record.request = None;
        }
        None if ours => record.state = KeyState::Open,
        None => {}
    }
}

/// What the agent is told about an exchange, apart from what became of the claim.
pub(super) fn complete_reply(
    exchange: &Exchange,
    outcome: Outcome,
    session: &SessionId,
) -> Result<Reply, Refusal> {
    match exchange.answer() {
        Some(answer) if answer.status.is_success() && outcome == Outcome::InDoubt => {
            Err(Refusal::MerchantAnswer(InvalidAnswer::of_session(answer, Some(session))))
        }
        _ => Ok(Reply::relayed(exchange)?.decided(decision(outcome))),
    }
}

const fn decision(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Charged => "charged",
        Outcome::Pending => "pending",
        Outcome::NotCharged { .. } | Outcome::Refused => "not_charged",
        Outcome::InDoubt => "in_doubt",
    }
}

/// The merchant is at work on an earlier sending of the same request.
pub(super) fn says_in_flight(answer: &Answer) -> bool {
    answer.status == StatusCode::CONFLICT && is_in_flight(answer)
}

/// Whether the card was out and the merchant says that it was declined.
pub(super) fn is_declined(exchange: &Exchange, outcome: Outcome) -> bool {
    match (outcome, exchange) {
        (Outcome::NotCharged { recorded: true }, Exchange::Answered(answer)) => {
            answer.status == StatusCode::PAYMENT_REQUIRED || names_decline(&answer.body)
        }
        _ => false,
    }
}
