//! The agent's own verdict on a mint: we never let through what its platform blocked.

use super::{Decision, Facts, Finding, Settings};
use crate::fraud::RiskAction;

pub(super) fn judge(facts: &Facts<'_>, _: &Settings) -> Option<Finding> {
    if facts.signals.contains(&RiskAction::Blocked) {
        Some((Decision::Deny, "risk_signal_blocked"))
    } else if facts.signals.contains(&RiskAction::ManualReview) {
        Some((Decision::Review, "risk_signal_manual_review"))
    } else {
        None
    }
}
