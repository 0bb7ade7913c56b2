//! The amount against the ceiling in the agent's entry. Asked on complete too: the ceiling may have
//! been lowered since the token was minted.

use super::{Decision, Facts, Finding, Settings};
use crate::domain::money::DoesNotFit;

pub(super) fn judge(facts: &Facts<'_>, _: &Settings) -> Option<Finding> {
    let ceiling = match facts.ceilings {
        [] => return None,
        ceilings => ceilings.iter().find(|ceiling| ceiling.currency == facts.amount.currency),
    };
    match ceiling.map_or(Err(DoesNotFit::CurrencyMismatch), |ceiling| facts.amount.fits_within(ceiling)) {
        Ok(()) => None,
        Err(DoesNotFit::OverLimit) => Some((Decision::Deny, "over_agent_ceiling")),
        Err(DoesNotFit::CurrencyMismatch) => Some((Decision::Deny, "currency_not_allowed")),
    }
}
