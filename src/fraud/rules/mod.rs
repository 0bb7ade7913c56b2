//! The rules. Each is a file with one pure function; this list is all that knows of them.

mod agent_ceiling;
mod card_testing;
mod declines;
mod risk_signals;
mod shared_card;
mod small_amounts;

use super::{Decision, Facts, Settings, Threshold};

/// A rule: its name in metrics, its shadow switch, and its judgement with a stable code.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) in_shadow: fn(&Settings) -> bool,
    pub(super) judge: fn(&Facts<'_>, &Settings) -> Option<Finding>,
}

/// What a rule asks for, and why. `None` instead of a finding when it has nothing to say.
type Finding = (Decision, &'static str);

/// Every rule, in the order in which refusals are named.
pub(super) const RULES: &[Rule] = &[
    Rule { name: "risk_signals", in_shadow: |s| s.risk_signals.shadow, judge: risk_signals::judge },
    Rule { name: "agent_ceiling", in_shadow: |s| s.agent_ceiling.shadow, judge: agent_ceiling::judge },
    Rule { name: "card_testing", in_shadow: |s| s.card_testing.shadow, judge: card_testing::judge },
    Rule { name: "declines", in_shadow: |s| s.declines.shadow, judge: declines::judge },
    Rule { name: "small_amounts", in_shadow: |s| s.small_amounts.shadow, judge: small_amounts::judge },
    Rule { name: "shared_card", in_shadow: |s| s.shared_card.shadow, judge: shared_card::judge },
];

/// Whether a count is above a threshold that is set.
fn above(count: u32, threshold: Option<Threshold>) -> bool {
    threshold.is_some_and(|threshold| count > threshold.get())
}

/// Judges a count by two thresholds.
fn by_count(
    count: u32,
    review_above: Option<Threshold>,
    deny_above: Option<Threshold>,
    code: &'static str,
) -> Option<Finding> {
    if above(count, deny_above) {
        Some((Decision::Deny, code))
    } else if above(count, review_above) {
        Some((Decision::Review, code))
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
