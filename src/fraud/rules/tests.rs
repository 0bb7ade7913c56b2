//! The rules one by one, and how they make a verdict together.

use proptest::prelude::*;

use super::*;
use crate::domain::money::{Currency, MinorUnits, Money};
use crate::fraud::verdict::Mode;
use crate::fraud::{Denied, RiskAction, SharedCard, evaluate};

fn money(amount: u64, currency: &str) -> Money {
    Money { amount: MinorUnits::new(amount).unwrap(), currency: Currency::parse(currency).unwrap() }
}

fn harmless() -> Facts<'static> {
    Facts {
        amount: money(5_000, "usd"),
        ceilings: &[],
        signals: &[RiskAction::Authorized],
        cards_of_agent: 1,
        agents_of_card: 1,
        declines: 0,
        small_amounts: 0,
    }
}

/// The verdict on facts: the decision and, unless nothing spoke, the gravest code.
fn verdict(facts: &Facts<'_>, settings: &Settings) -> (Option<Decision>, Option<&'static str>) {
    match evaluate(facts, settings) {
        Err(Denied { by, .. }) => (Some(Decision::Deny), Some(by.code)),
        Ok(cleared) => {
            let code = cleared.hits().first().map(|hit| hit.code);
            (cleared.review().then_some(Decision::Review), code)
        }
    }
}

fn by_default(facts: &Facts<'_>) -> (Option<Decision>, Option<&'static str>) {
    verdict(facts, &Settings::default())
}

#[test]
fn what_is_harmless_passes_without_a_word() {
    assert_eq!(by_default(&harmless()), (None, None));
    assert_eq!(by_default(&Facts { signals: &[], ..harmless() }), (None, None));
}

#[test]
fn the_agents_own_signals_are_heeded_and_the_gravest_wins() {
    let judged = |signals| by_default(&Facts { signals, ..harmless() });
    assert_eq!(judged(&[RiskAction::Blocked]), (Some(Decision::Deny), Some("risk_signal_blocked")));
    assert_eq!(
        judged(&[RiskAction::ManualReview]),
        (Some(Decision::Review), Some("risk_signal_manual_review"))
    );
    let both = judged(&[RiskAction::Authorized, RiskAction::ManualReview, RiskAction::Blocked]);
    assert_eq!(both, (Some(Decision::Deny), Some("risk_signal_blocked")));
    assert_eq!(judged(&[]), (None, None));
}

#[test]
fn the_ceiling_itself_fits_and_another_currency_never_does() {
    let ceilings = [money(5_000, "usd"), money(100, "eur")];
    let judged = |amount| by_default(&Facts { amount, ceilings: &ceilings, ..harmless() });
    assert_eq!(judged(money(5_000, "usd")), (None, None));
    assert_eq!(judged(money(5_001, "usd")), (Some(Decision::Deny), Some("over_agent_ceiling")));
    assert_eq!(judged(money(101, "eur")), (Some(Decision::Deny), Some("over_agent_ceiling")));
    assert_eq!(judged(money(1, "gbp")), (Some(Decision::Deny), Some("currency_not_allowed")));
}

#[test]
fn each_count_speaks_above_its_thresholds_and_not_at_them() {
    let settings = Settings::default();
    let at = |threshold: Option<Threshold>| threshold.unwrap().get();

    let cards = |cards_of_agent| by_default(&Facts { cards_of_agent, ..harmless() });
    let (review, deny) = (at(settings.card_testing.review_above), at(settings.card_testing.deny_above));
    assert_eq!(cards(review), (None, None));
    assert_eq!(cards(review + 1), (Some(Decision::Review), Some("card_testing")));
    assert_eq!(cards(deny), (Some(Decision::Review), Some("card_testing")));
    assert_eq!(cards(deny + 1), (Some(Decision::Deny), Some("card_testing")));

    let declines = |declines| by_default(&Facts { declines, ..harmless() });
    let (review, deny) = (at(settings.declines.review_above), at(settings.declines.deny_above));
    assert_eq!(declines(review), (None, None));
    assert_eq!(declines(review + 1), (Some(Decision::Review), Some("repeated_declines")));
    assert_eq!(declines(deny + 1), (Some(Decision::Deny), Some("repeated_declines")));

    let small = |small_amounts| by_default(&Facts { small_amounts, ..harmless() });
    let review = at(settings.small_amounts.review_above);
    assert_eq!(small(review), (None, None));
    assert_eq!(small(review + 1), (Some(Decision::Review), Some("small_amount_burst")));
}

#[test]
fn a_threshold_that_is_not_set_never_speaks() {
    let mut settings = Settings::default();
    settings.card_testing.review_above = None;
    settings.card_testing.deny_above = None;
    let facts = Facts { cards_of_agent: u32::MAX, ..harmless() };
    assert_eq!(verdict(&facts, &settings), (None, None));
}

#[test]
fn in_shadow_a_rule_reports_and_decides_nothing() {
    let mut settings = Settings::default();
    settings.risk_signals.shadow = true;
    let cleared = evaluate(&Facts { signals: &[RiskAction::Blocked], ..harmless() }, &settings).unwrap();
    assert!(!cleared.review());
    let [hit] = cleared.hits() else { panic!("one hit") };
    assert_eq!((hit.rule, hit.mode, hit.decision), ("risk_signals", Mode::Shadow, Decision::Deny));
}

#[test]
fn a_refusal_names_the_enforced_rule_and_reports_the_shadow_ones() {
    let mut settings = Settings::default();
    settings.risk_signals.shadow = true;
    let facts = Facts { signals: &[RiskAction::Blocked], declines: 1_000, ..harmless() };
    let denied = evaluate(&facts, &settings).unwrap_err();
    assert_eq!((denied.by.rule, denied.by.mode), ("declines", Mode::Enforced));
    assert_eq!(denied.hits.len(), 2);
}

#[test]
fn rules_have_names_of_their_own() {
    let names: std::collections::BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(names.len(), RULES.len());
}

proptest! {
    #[test]
    fn other_agents_alone_can_never_have_an_operation_denied(
        agents_of_card in any::<u32>(),
        review_above in 1..=Threshold::MAX,
    ) {
        let shared_card = SharedCard { review_above: Threshold::new(review_above), ..SharedCard::default() };
        let settings = Settings { shared_card, ..Settings::default() };
        let cleared = evaluate(&Facts { agents_of_card, ..harmless() }, &settings).unwrap();
        prop_assert_eq!(cleared.review(), agents_of_card > review_above);
    }
}
