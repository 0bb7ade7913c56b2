//! What has happened to sessions, claims and tokens, told in one place once it is recorded.
//!
//! Metrics, alarms, and what counts as live no longer.

use std::sync::Arc;

use super::parts::{Books, Desk};
use super::session_reads::SessionReads;
use crate::acp::wire::session::SessionView;
use crate::domain::allowance::Allowance;
use crate::domain::id::{ClaimId, MerchantId, SessionId, TokenId};
use crate::domain::session::{Evidence, Fruitless, Outcome, Settlement};
use crate::merchant::Exchange;
use crate::records::RecordKey;
use crate::telemetry::log::{Identifier, Level, Value};

/// Tells events.
pub(super) struct Events {
    pub books: Arc<Books>,
    pub reads: SessionReads,
    pub desk: Arc<Desk>,
}

/// Whose event it is.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub merchant: &'a MerchantId,
    pub session: &'a SessionId,
}

/// What an answer says against those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Contradiction {
    /// It shows another order of the session.
    pub order: bool,
    /// It denies the charge of its own claim.
    pub answer: bool,
}

/// What an observation did.
pub(super) struct Observed {
    /// To the claim.
    pub settlement: Settlement,
    /// The claim that was open before, and its token.
    pub claim: Option<(ClaimId, Option<TokenId>)>,
    /// It shows another order than was shown before.
    pub second_order: bool,
}

/// What the end of an attempt did.
pub(super) struct Attempted {
    pub settlement: Settlement,
    pub outcome: Outcome,
    pub contradiction: Contradiction,
    /// The claim held a token.
    pub has_token: bool,
    /// More is shown than was checked: the order exists, so it is relayed, counted and alarmed.
    pub is_overcharge: bool,
}

/// What an operator has said of a claim, and what that did.
pub(super) struct Resolution<'a> {
    pub outcome: &'static str,
    /// Whether a token was spent with it.
    pub consumes: bool,
    pub evidence: Evidence,
    pub operator: &'a str,
}

impl Events {
    /// An observation of a session was recorded.
    pub(super) fn observed(
        &self,
        about: About<'_>,
        record: &RecordKey,
        observed: &Observed,
        ended: Option<Allowance>,
    ) -> Settlement {
        self.token_ended(ended);
        self.contradicted(about, Contradiction { order: observed.second_order, answer: false });
        let outcome = match observed.settlement {
            Settlement::Charged => "charged",
            Settlement::Released => "released",
            Settlement::ChargedLate => {
                self.reads.forget_pace(record);
                self.charged_late(about);
                return observed.settlement;
            }
            Settlement::Held | Settlement::Stale => return observed.settlement,
        };
        self.reads.forget_pace(record);
        let metrics = self.desk.observer.metrics();
        metrics.claim(outcome);
        if let Some((claim, token)) = &observed.claim {
            if observed.settlement == Settlement::Charged && token.is_some() {
                metrics.token_event("consumed");
            }
            self.settled_by_session(about, outcome, claim, token.as_ref());
        }
        observed.settlement
    }

    /// A claim was ended by what its session shows, and not by the answer to a complete.
    fn settled_by_session(
        &self,
        about: About<'_>,
        outcome: &'static str,
        claim: &ClaimId,
        token: Option<&TokenId>,
    ) {
        let mut fields = vec![
            ("merchant", Value::from(about.merchant)),
            ("session", Value::from(about.session)),
            ("claim", Value::from(claim)),
            ("outcome", Value::Text(outcome)),
        ];
        fields.extend(token.map(|token| ("token", Value::from(token))));
        self.desk.observer.log().event(Level::Info, "claim_settled", &fields);
    }

    /// An attempt of a claim has ended, and that is recorded.
    pub(super) fn attempted(
        &self,
        about: About<'_>,
        record: &RecordKey,
        attempted: &Attempted,
        ended: Option<Allowance>,
    ) {
        let metrics = self.desk.observer.metrics();
        if attempted.settlement != Settlement::Held {
            self.reads.forget_pace(record);
        }
        match (attempted.settlement, attempted.outcome) {
            (Settlement::Charged, _) => {
                metrics.claim("charged");
                if attempted.has_token {
                    metrics.token_event("consumed");
                }
            }
            (Settlement::ChargedLate, _) => self.charged_late(about),
            (Settlement::Released, _) => metrics.claim("released"),
            (Settlement::Held, Outcome::Pending) => metrics.claim("pending"),
            (
                Settlement::Held,
                Outcome::Charged | Outcome::NotCharged { .. } | Outcome::Refused | Outcome::InDoubt,
            ) => metrics.claim("in_doubt"),
            (Settlement::Stale, _) => metrics.claim("stale"),
        }
        self.token_ended(ended);
        self.contradicted(about, attempted.contradiction);
        if attempted.is_overcharge {
            metrics.overcharge();
            self.desk.alarm("overcharge", about.merchant, about.session);
        }
    }

    /// An operator has ended a claim.
    pub(super) fn resolved(
        &self,
        about: About<'_>,
        record: &RecordKey,
        claim: &ClaimId,
        Resolution { outcome, consumes, evidence, operator }: Resolution<'_>,
    ) {
        self.reads.forget_pace(record);
        let metrics = self.desk.observer.metrics();
        metrics.claim(outcome);
        if consumes {
            metrics.token_event("consumed");
        }
        let mut fields = vec![
            ("merchant", Value::from(about.merchant)),
            ("session", Value::from(about.session)),
            ("claim", Value::from(claim)),
            ("evidence", Value::Text(evidence.as_str())),
        ];
        fields.extend(Identifier::parse(operator).map(|name| ("operator", Value::Id(name))));
        self.desk.observer.log().event(Level::Warn, "claim_resolved", &fields);
    }

    /// A token can lead to a charge no longer: it counts as live no longer.
    pub(super) fn token_ended(&self, ended: Option<Allowance>) {
        if let Some(Allowance { agent, expires_at, .. }) = ended {
            self.books.allotments.release(&agent, expires_at, self.desk.clock.earliest());
        }
    }

    /// There is an order that no open claim accounts for.
    pub(super) fn charged_late(&self, about: About<'_>) {
        self.desk.observer.metrics().claim("charged_late");
        self.desk.alarm("charged_late", about.merchant, about.session);
    }

    /// A merchant has answered one claim twice and differently, or made a second order of a session:
    /// money may have been taken twice.
    pub(super) fn contradicted(&self, about: About<'_>, contradiction: Contradiction) {
        if contradiction.order {
            self.desk.observer.metrics().second_answer("order");
            self.desk.alarm("second_order", about.merchant, about.session);
        }
        if contradiction.answer {
            self.desk.observer.metrics().second_answer("answer");
            self.desk.alarm("second_answer", about.merchant, about.session);
        }
    }

    /// The session of an open claim could not be read, for another reason than the last time.
    pub(super) fn unread(&self, about: About<'_>, claim: &ClaimId, came: Fruitless, exchange: &Exchange) {
        let status = exchange.answer().map(|answer| answer.status.as_u16());
        let cause = match came {
            Fruitless::Refused(_) => "refused",
            Fruitless::Unreadable(_) => "unreadable",
            Fruitless::NotSent | Fruitless::Lost | Fruitless::Misplaced => exchange.cause().unwrap_or("none"),
        };
        let mut fields = vec![
            ("merchant", Value::from(about.merchant)),
            ("session", Value::from(about.session)),
            ("claim", Value::from(claim)),
            ("cause", Value::Text(cause)),
        ];
        fields.extend(status.map(|status| ("merchant_status", Value::Number(status.into()))));
        self.desk.observer.log().event(Level::Warn, "session_unread", &fields);
    }

    /// What a session says against ACP, before it is relayed all the same.
    pub(super) fn faulty(&self, about: About<'_>, shown: &SessionView) {
        for fault in &shown.faults {
            self.desk.observer.metrics().session_fault(fault.as_str());
            let fields = [
                ("fault", Value::Text(fault.as_str())),
                ("merchant", Value::from(about.merchant)),
                ("session", Value::from(about.session)),
            ];
            self.desk.observer.log().event(Level::Warn, "session_fault", &fields);
        }
    }

    /// A merchant answered with the id of another agent's session.
    pub(super) fn ownership_conflict(&self, about: About<'_>) {
        self.desk.observer.metrics().ownership_conflict();
        self.desk.alarm("ownership_conflict", about.merchant, about.session);
    }
}
