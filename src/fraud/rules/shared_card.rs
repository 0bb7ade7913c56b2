//! One card through many agents. Other agents feed this count, so it has no way to deny.

use super::{Decision, Facts, Finding, Settings, above};

pub(super) fn judge(facts: &Facts<'_>, settings: &Settings) -> Option<Finding> {
    above(facts.agents_of_card, settings.shared_card.review_above)
        .then_some((Decision::Review, "card_used_by_many_agents"))
}
