//! A card that keeps being declined through one agent.

use super::{Facts, Finding, Settings, by_count};

pub(super) fn judge(facts: &Facts<'_>, settings: &Settings) -> Option<Finding> {
    let rule = &settings.declines;
    by_count(facts.declines, rule.review_above, rule.deny_above, "repeated_declines")
}
