//! A burst of small completes through one agent.

use super::{Facts, Finding, Settings, by_count};

pub(super) fn judge(facts: &Facts<'_>, settings: &Settings) -> Option<Finding> {
    let rule = &settings.small_amounts;
    by_count(facts.small_amounts, rule.review_above, rule.deny_above, "small_amount_burst")
}
