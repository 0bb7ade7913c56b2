//! Whether the audit of the torture program finds every kind of lie, and none in a true story.
#![cfg(test)]
#![allow(unreachable_pub, reason = "a program of its own: nothing outside reaches anything")]
#![allow(clippy::as_conversions, reason = "tests")]

#[path = "torture/audit.rs"]
mod audit;
#[path = "torture/facts.rs"]
mod facts;

use audit::{Violation, audit};
use facts::{Charge, Facts, Operation, Session, Token, Told, Verb};

fn told(status: u16, order: Option<&str>) -> Told {
    let (code, order) = ((status >= 300).then(|| "refused".to_owned()), order.map(str::to_owned));
    Told { status, body: u64::from(status), code, order, waits: false, binds: status < 300 }
}

/// One purchase from end to end, each answer given twice.
fn story() -> Facts {
    let operation = |verb, session: Option<&str>, token: Option<&str>, told: Told| Operation {
        verb,
        session: session.map(str::to_owned),
        token: token.map(str::to_owned),
        answers: vec![told.clone(), told],
        doubted: verb == Verb::Complete,
        settled: true,
    };
    let (merchant, currency) = ("shop".to_owned(), "usd".to_owned());
    Facts {
        may_lose: false,
        charges: vec![Charge {
            merchant: merchant.clone(),
            session: "cs_1".to_owned(),
            token: "vt_1".to_owned(),
            amount: 100,
            currency: currency.clone(),
            order: "ord_1".to_owned(),
        }],
        tokens: [(
            "vt_1".to_owned(),
            Token {
                agent: 0,
                merchant: merchant.clone(),
                session: "cs_1".to_owned(),
                cap: 100,
                currency,
                standing: Some("consumed".to_owned()),
            },
        )]
        .into(),
        sessions: [("cs_1".to_owned(), Session { agent: 0, merchant, status: Some("completed".to_owned()) })]
            .into(),
        operations: [
            ("create".to_owned(), operation(Verb::Create, None, None, told(201, None))),
            ("update".to_owned(), operation(Verb::Update, Some("cs_1"), None, told(200, None))),
            ("cancel".to_owned(), operation(Verb::Cancel, Some("cs_1"), None, told(405, None))),
            ("revoke".to_owned(), operation(Verb::Revoke, None, Some("vt_1"), told(409, None))),
            ("mint".to_owned(), operation(Verb::Mint, Some("cs_1"), None, told(202, None))),
            (
                "complete".to_owned(),
                operation(Verb::Complete, Some("cs_1"), Some("vt_1"), told(200, Some("ord_1"))),
            ),
        ]
        .into(),
        oddities: Vec::new(),
    }
}

/// What the audit says of the story with one lie in it.
fn violations(lie: impl FnOnce(&mut Facts)) -> Vec<Violation> {
    let mut facts = story();
    lie(&mut facts);
    audit(&facts).violations
}

/// The names of what it says.
fn names(found: &[Violation]) -> Vec<String> {
    found.iter().map(|one| one.to_string().split('(').next().unwrap().to_owned()).collect()
}

fn token(facts: &mut Facts) -> &mut Token {
    facts.tokens.get_mut("vt_1").unwrap()
}

fn complete(facts: &mut Facts) -> &mut Operation {
    facts.operations.get_mut("complete").unwrap()
}

#[test]
fn a_true_story_is_believed() {
    let found = audit(&story());
    assert_eq!((found.violations, found.lost), (vec![], vec![]));
    assert_eq!((found.charges, found.resolved), (1, 1));
}

#[test]
fn what_is_declined_refused_or_revoked_is_a_true_story_too() {
    let found = violations(|facts| {
        facts.charges.clear();
        token(facts).standing = Some("revoked".to_owned());
        complete(facts).answers = vec![told(409, None), told(422, None)];
    });
    assert_eq!(found, vec![]);
}

#[test]
fn a_session_charged_twice_is_found() {
    let found = violations(|facts| {
        let (mut second, mut other) = (facts.charges[0].clone(), token(facts).clone());
        (second.token, second.order) = ("vt_2".to_owned(), "ord_2".to_owned());
        other.standing = Some("consumed".to_owned());
        facts.tokens.insert("vt_2".to_owned(), other);
        facts.charges.push(second);
        let mut again = complete(facts).clone();
        (again.token, again.answers) = (Some("vt_2".to_owned()), vec![told(200, Some("ord_2"))]);
        facts.operations.insert("complete again".to_owned(), again);
    });
    assert_eq!(names(&found), ["SessionChargedTwice"]);
}

#[test]
fn a_token_charged_twice_is_found() {
    let found = violations(|facts| {
        let second = facts.charges[0].clone();
        facts.charges.push(second);
    });
    assert_eq!(names(&found), ["SessionChargedTwice", "TokenChargedTwice"]);
}

#[test]
fn a_charge_that_its_token_does_not_allow_is_found() {
    for (lie, name) in [
        ((|facts| facts.charges[0].amount = 101) as fn(&mut Facts), "AboveCap"),
        (|facts| facts.charges[0].currency = "eur".to_owned(), "OtherCurrency"),
        (|facts| facts.charges[0].merchant = "other".to_owned(), "TokenElsewhere"),
        (|facts| token(facts).session = "cs_2".to_owned(), "TokenElsewhere"),
        (|facts| facts.tokens.clear(), "TokenUnknown"),
    ] {
        assert_eq!(names(&violations(lie)), [name]);
    }
}

#[test]
fn a_charge_nobody_was_told_of_is_found() {
    let found = violations(|facts| complete(facts).answers = vec![told(409, None)]);
    assert_eq!(names(&found), ["ChargeUntold"]);
}

#[test]
fn an_order_that_is_in_no_ledger_or_another_sessions_is_found() {
    let found = violations(|facts| {
        facts.charges.clear();
        token(facts).standing = Some("active".to_owned());
    });
    assert_eq!(names(&found), ["OrderNotInLedger"; 2]);
    let found = violations(|facts| complete(facts).session = Some("cs_2".to_owned()));
    assert_eq!(names(&found), ["OrderNotInLedger"; 2]);
}

#[test]
fn a_token_whose_state_is_not_what_became_of_it_is_found() {
    let found = violations(|facts| token(facts).standing = Some("active".to_owned()));
    assert_eq!(names(&found), ["ChargedAndSpendable"]);
    let found = violations(|facts| token(facts).standing = Some("claimed".to_owned()));
    assert_eq!(names(&found), ["ClaimStuck"]);
    let found = violations(|facts| {
        facts.charges.clear();
        complete(facts).answers = vec![told(409, None)];
    });
    assert_eq!(names(&found), ["SpentUncharged"]);
}

#[test]
fn a_key_that_is_never_answered_is_found() {
    let found = violations(|facts| complete(facts).settled = false);
    assert_eq!(names(&found), ["KeyStuck"]);
}

#[test]
fn a_key_with_two_answers_is_found() {
    let found = violations(|facts| complete(facts).answers[1].body = 1);
    assert_eq!(names(&found), ["UnequalAnswers"]);
}

#[test]
fn what_was_acknowledged_and_is_gone_is_found_and_forgiven_only_where_it_may_be() {
    let lose = |facts: &mut Facts| {
        complete(facts).answers.push(told(404, None));
        token(facts).standing = None;
        facts.sessions.get_mut("cs_1").unwrap().status = None;
    };
    let lost = ["TokenLost", "AnswerLost", "SessionLost"];
    assert_eq!(names(&violations(lose)), lost);
    let mut facts = story();
    lose(&mut facts);
    facts.may_lose = true;
    let found = audit(&facts);
    assert_eq!(
        (names(&found.lost).as_slice(), found.violations),
        (lost.map(str::to_owned).as_slice(), vec![])
    );
}

#[test]
fn a_second_charge_is_forgiven_nowhere() {
    let found = violations(|facts| {
        facts.may_lose = true;
        let second = facts.charges[0].clone();
        facts.charges.push(second);
        facts.oddities.push("a gateway ended by itself".to_owned());
    });
    assert_eq!(names(&found), ["SessionChargedTwice", "TokenChargedTwice", "Odd"]);
}
