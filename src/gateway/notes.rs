//! What answers and observations do to a session's records, and what of it is counted and told to a person.

use super::Gateway;
use super::complete::Completion;
use crate::domain::allowance::Allowance;
use crate::domain::id::{ClaimId, MerchantId, SessionId, TokenId};
use crate::domain::money::Money;
use crate::domain::session::{Fruitless, Observation, Outcome, Present, SessionKind, Settlement, observe};
use crate::idempotency::{KeyRecord, KeyState, LeaseMark, StoredAnswer};
use crate::ledger::View;
use crate::merchant::{CompleteReading, Exchange, fruitless};
use crate::records::{Durability, Purpose, StoreError};
use crate::registry::Merchant;
use crate::telemetry::log::{Level, Value};

/// What an observation did.
pub(super) struct Noted {
    /// To the claim.
    pub settlement: Settlement,
    /// The claim that was open before.
    claim: Option<(ClaimId, Option<TokenId>)>,
    /// The allowance of a token that has ended.
    ended: Option<Allowance>,
    /// It shows another order than was shown before.
    second_order: bool,
}

/// Applies an observation to a session and to the claim it may end; `None` without a session.
pub(super) fn note(
    view: &mut View,
    observation: &Observation,
    merchant: &Merchant,
    present: Present,
) -> Option<Noted> {
    let was_live = view.has_live_token(present.latest);
    let session = view.session.as_mut()?;
    let second_order = session.note_order(observation.order);
    session.troubles.read = None;
    let claim = session.claim.as_ref().map(|open| (open.id.clone(), open.token.clone()));
    let settlement = observe(session, view.token.as_mut(), observation, merchant.doubt_grace, present);
    Some(Noted { settlement, claim, ended: view.ended(was_live, present.latest), second_order })
}

/// What is kept against the key after a settle.
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

/// What an answer to a complete says against those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Contradiction {
    /// It shows another order of the session.
    pub order: bool,
    /// It denies the charge of its own claim.
    pub answer: bool,
}

impl Gateway {
    /// Counts and tells what an observation did, once it is recorded.
    pub(super) fn tell(&self, noted: Noted, merchant: &MerchantId, session: &SessionId) -> Settlement {
        self.give_back(noted.ended);
        self.note_contradiction(
            Contradiction { order: noted.second_order, answer: false },
            merchant,
            session,
        );
        match noted.settlement {
            Settlement::Charged | Settlement::Released | Settlement::ChargedLate => {
                let address = self.ledger.address(SessionKind::Checkout, merchant, session);
                self.reads.forget_pace(address.session_key());
            }
            Settlement::Held | Settlement::Stale => {}
        }
        match (noted.settlement, &noted.claim) {
            (Settlement::Charged, Some(claim)) => self.note_settled("charged", claim, merchant, session),
            (Settlement::Released, Some(claim)) => self.note_settled("released", claim, merchant, session),
            (Settlement::ChargedLate, _) => self.note_late_charge(merchant, session),
            (Settlement::Charged | Settlement::Released | Settlement::Held | Settlement::Stale, _) => {}
        }
        noted.settlement
    }

    /// A claim was ended by what its session shows, and not by the answer to a complete.
    fn note_settled(
        &self,
        outcome: &'static str,
        (claim, token): &(ClaimId, Option<TokenId>),
        merchant: &MerchantId,
        session: &SessionId,
    ) {
        let mut fields = vec![
            ("merchant", Value::from(merchant)),
            ("session", Value::from(session)),
            ("claim", Value::from(claim)),
            ("outcome", Value::Text(outcome)),
        ];
        fields.extend(token.as_ref().map(|token| ("token", Value::from(token))));
        self.observer.log().event(Level::Info, "claim_settled", &fields);
    }

    /// The session of an open claim was read and brought nothing: kept for who looks at the claim, and
    /// told once a change.
    pub(super) async fn note_unread(
        &self,
        claim: &ClaimId,
        exchange: &Exchange,
        merchant: &MerchantId,
        id: &SessionId,
    ) -> Result<(), StoreError> {
        let address = self.ledger.address(SessionKind::Checkout, merchant, id);
        let came = fruitless(exchange);
        let noted = self
            .ledger
            .transact(&address, Purpose::Finish, Durability::Applied, |view, _| {
                let session = view.session.as_mut().ok_or(())?;
                session.claim.as_ref().filter(|open| open.id == *claim).ok_or(())?;
                Ok::<_, ()>(session.note_unread(came))
            })
            .await?;
        if noted != Ok(true) {
            return Ok(());
        }
        let status = exchange.answer().map(|answer| answer.status.as_u16());
        let cause = match came {
            Fruitless::Refused(_) => "refused",
            Fruitless::Unreadable(_) => "unreadable",
            Fruitless::NotSent | Fruitless::Lost | Fruitless::Misplaced => exchange.cause().unwrap_or("none"),
        };
        let mut fields = vec![
            ("merchant", Value::from(merchant)),
            ("session", Value::from(id)),
            ("claim", Value::from(claim)),
            ("cause", Value::Text(cause)),
        ];
        fields.extend(status.map(|status| ("merchant_status", Value::Number(status.into()))));
        self.observer.log().event(Level::Warn, "session_unread", &fields);
        Ok(())
    }

    /// A merchant has answered one claim twice and differently, or made a second order of a session:
    /// money may have been taken twice.
    pub(super) fn note_contradiction(
        &self,
        contradiction: Contradiction,
        merchant: &MerchantId,
        session: &SessionId,
    ) {
        if contradiction.order {
            self.observer.metrics().second_answer("order");
            self.alarm("second_order", merchant, session);
        }
        if contradiction.answer {
            self.observer.metrics().second_answer("answer");
            self.alarm("second_answer", merchant, session);
        }
    }

    pub(super) fn note_settlement(
        &self,
        settlement: Settlement,
        outcome: Outcome,
        merchant: &Merchant,
        completion: &Completion,
    ) {
        let metrics = self.observer.metrics();
        metrics.claim(match (settlement, outcome) {
            (Settlement::Charged, _) => "charged",
            (Settlement::ChargedLate, _) => "charged_late",
            (Settlement::Released, _) => "released",
            (Settlement::Held, Outcome::Pending) => "pending",
            (Settlement::Held, _) => "in_doubt",
            (Settlement::Stale, _) => "stale",
        });
        match settlement {
            Settlement::Charged if completion.token.is_some() => metrics.token_event("consumed"),
            Settlement::ChargedLate => self.alarm("charged_late", &merchant.id, &completion.session),
            _ => {}
        }
    }

    /// An answer that shows more than was checked: the order exists, so it is relayed, counted and
    /// alarmed.
    pub(super) fn note_overcharge(&self, reading: &CompleteReading, checked: Money, completion: &Completion) {
        let shown = reading.session.as_ref().and_then(|session| session.total_in(checked.currency));
        if reading.outcome == Outcome::Charged && shown.is_some_and(|shown| shown.amount > checked.amount) {
            self.observer.metrics().overcharge();
            self.alarm("overcharge", &completion.merchant.id, &completion.session);
        }
    }
}
