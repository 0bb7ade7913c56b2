//! The audit: whether ledgers, tokens and answers tell one story. A pure function over what was
//! seen, so that `tests/audit.rs` can show it every kind of lie.

use std::collections::BTreeMap;
use std::fmt;

use super::facts::{Charge, Facts, Told, Verb};

/// What must never be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A session was charged more than once.
    SessionChargedTwice(String),
    /// A token was charged more than once.
    TokenChargedTwice(String),
    /// A charge above the token's cap.
    AboveCap(String),
    /// A charge in another currency than the token's.
    OtherCurrency(String),
    /// A charge for another session or merchant than the token is for.
    TokenElsewhere(String),
    /// A charge with a token nobody was given.
    TokenUnknown(String),
    /// An agent was told of an order that is in no ledger.
    OrderNotInLedger(String),
    /// A charge of which no agent was told, although all have asked.
    ChargeUntold(String),
    /// A token that was charged and could be spent again.
    ChargedAndSpendable(String),
    /// A token that is spent and was not charged.
    SpentUncharged(String),
    /// A token that is still held when all is over.
    ClaimStuck(String),
    /// A key that is not answered when all is over.
    KeyStuck(String),
    /// A key with two different answers.
    UnequalAnswers(String),
    /// A key whose answer was acknowledged and is gone.
    AnswerLost(String),
    /// A token whose mint was acknowledged and which is gone.
    TokenLost(String),
    /// A session whose creation was acknowledged and which is gone.
    SessionLost(String),
    /// Something else that should not be.
    Odd(String),
}

/// What the audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What must never be.
    pub violations: Vec<Violation>,
    /// Acknowledged writes that are gone, where that may be.
    pub lost: Vec<Violation>,
    /// Sessions charged more than once.
    pub twice: usize,
    /// Charges in the ledgers.
    pub charges: usize,
    /// Operations whose outcome was in doubt and is known now.
    pub resolved: usize,
}

impl Violation {
    /// Whether it is a loss of something acknowledged, and not a wrong.
    const fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::AnswerLost(_)
                | Self::TokenLost(_)
                | Self::SessionLost(_)
                | Self::UnequalAnswers(_)
                | Self::ChargeUntold(_)
                | Self::ChargedAndSpendable(_)
        )
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Findings {
    fn note(&mut self, facts: &Facts, violation: Violation) {
        let list = if facts.may_lose && violation.is_loss() { &mut self.lost } else { &mut self.violations };
        list.push(violation);
    }
}

/// Compares everything with everything.
pub fn audit(facts: &Facts) -> Findings {
    let mut found = Findings { charges: facts.charges.len(), ..Findings::default() };
    let note = &mut |violation| found.note(facts, violation);
    ledgers(facts, note);
    tokens(facts, note);
    answers(facts, note);
    for (id, session) in &facts.sessions {
        if session.status.is_none() {
            note(Violation::SessionLost(format!("{id} at {}", session.merchant)));
        }
    }
    facts.oddities.iter().for_each(|oddity| note(Violation::Odd(oddity.clone())));
    let is_twice = |one: &&Violation| matches!(one, Violation::SessionChargedTwice(_));
    found.twice = found.violations.iter().filter(is_twice).count();
    found.resolved = facts.operations.values().filter(|one| one.doubted && one.settled).count();
    found
}

/// Each charge against the others, and against its token.
fn ledgers(facts: &Facts, note: &mut impl FnMut(Violation)) {
    for (session, charges) in grouped(facts, |charge| &charge.session) {
        if charges.len() > 1 {
            note(Violation::SessionChargedTwice(format!("{session}: {charges:?}")));
        }
    }
    for (token, charges) in grouped(facts, |charge| &charge.token) {
        if charges.len() > 1 {
            note(Violation::TokenChargedTwice(format!("{token}: {charges:?}")));
        }
    }
    let told_of = told_of(facts);
    for charge in &facts.charges {
        let told = format!("{charge:?}");
        let Some(token) = facts.tokens.get(&charge.token) else {
            note(Violation::TokenUnknown(told));
            continue;
        };
        if (&token.merchant, &token.session) != (&charge.merchant, &charge.session) {
            note(Violation::TokenElsewhere(told.clone()));
        }
        if token.currency != charge.currency {
            note(Violation::OtherCurrency(told.clone()));
        }
        if charge.amount > token.cap {
            note(Violation::AboveCap(format!("{} < {told}", token.cap)));
        }
        // Or was told before that the merchant's people would decide: that answer is the key's.
        let is_told = |told: &&Told| told.order.as_ref() == Some(&charge.order) || told.waits;
        if !told_of.get(&charge.token).is_some_and(|told| told.iter().any(is_told)) {
            note(Violation::ChargeUntold(told));
        }
    }
}

fn grouped(facts: &Facts, by: impl Fn(&Charge) -> &String) -> BTreeMap<&String, Vec<&Charge>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for charge in &facts.charges {
        groups.entry(by(charge)).or_default().push(charge);
    }
    groups
}

/// What agents were told about what each token paid for.
fn told_of(facts: &Facts) -> BTreeMap<&String, Vec<&Told>> {
    let mut told: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for operation in facts.operations.values().filter(|one| one.verb == Verb::Complete) {
        if let Some(token) = &operation.token {
            told.entry(token).or_default().extend(&operation.answers);
        }
    }
    told
}

/// What each token says of itself against the ledgers.
fn tokens(facts: &Facts, note: &mut impl FnMut(Violation)) {
    let charged = grouped(facts, |charge| &charge.token);
    for (id, token) in &facts.tokens {
        let Some(standing) = token.standing.as_deref() else {
            note(Violation::TokenLost(id.clone()));
            continue;
        };
        match (standing, charged.contains_key(id)) {
            ("claimed", _) => {
                let shown = facts.sessions.get(&token.session);
                note(Violation::ClaimStuck(format!("{id} of {}: {shown:?}", token.session)));
            }
            ("consumed", false) => note(Violation::SpentUncharged(format!("{id} of {}", token.session))),
            ("consumed", true) | (_, false) => {}
            (standing, true) => note(Violation::ChargedAndSpendable(format!("{id} is {standing}"))),
        }
    }
}

/// The answers of each key against each other and against the ledgers.
fn answers(facts: &Facts, note: &mut impl FnMut(Violation)) {
    let orders: BTreeMap<_, _> =
        facts.charges.iter().map(|charge| (&charge.order, (&charge.session, &charge.token))).collect();
    for (key, operation) in &facts.operations {
        if !operation.settled {
            note(Violation::KeyStuck(format!("{key}: {operation:?}")));
        }
        let bound: Vec<&Told> = operation.answers.iter().filter(|told| told.binds).collect();
        let same = |told: &&&Told| (told.status, told.body) == (bound[0].status, bound[0].body);
        if let Some(other) = bound.iter().find(|told| !same(told)) {
            note(Violation::UnequalAnswers(format!("{key}: {:?}, then {other:?}", bound[0])));
        }
        if let (Some(first), Some(last)) = (bound.first(), operation.answers.last())
            && !last.binds
        {
            note(Violation::AnswerLost(format!("{key}: {first:?}, then {last:?}")));
        }
        for order in operation.answers.iter().filter_map(|told| told.order.as_ref()) {
            let session = orders.get(order).map(|(session, _)| *session);
            if session.is_none() || session != operation.session.as_ref() {
                note(Violation::OrderNotInLedger(format!("{key}: {order}")));
            }
        }
    }
}
