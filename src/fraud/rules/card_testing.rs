//! Many distinct cards through one agent in a short time.

use super::{Facts, Finding, Settings, by_count};

pub(super) fn judge(facts: &Facts<'_>, settings: &Settings) -> Option<Finding> {
    let rule = &settings.card_testing;
    by_count(facts.cards_of_agent, rule.review_above, rule.deny_above, "card_testing")
}
