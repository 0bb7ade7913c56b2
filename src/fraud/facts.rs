//! What the rules judge: everything known about one operation, gathered once and never changed.

use crate::domain::money::Money;

/// One operation as the rules see it.
#[derive(Clone, Debug)]
pub(crate) struct Facts<'a> {
    /// A mint's largest amount, a complete's session total.
    pub amount: Money,
    /// The ceilings of the agent's entry, one a currency; an empty list sets none.
    pub ceilings: &'a [Money],
    /// What the agent itself signals; empty on complete.
    pub signals: &'a [RiskAction],
    /// Distinct cards this agent minted with within the window, this one included; 0 on complete.
    pub cards_of_agent: u32,
    /// Agents that minted with this card within the window, this one included; 0 on complete.
    pub agents_of_card: u32,
    /// Declines of this card through this agent within the window; 0 without a card.
    pub declines: u32,
    /// Small completes of this agent within the window, this one included if it is small; 0
    /// otherwise.
    pub small_amounts: u32,
}

/// The `action` of a risk signal (ACP `delegate_payment`, `RiskSignal`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RiskAction {
    /// The agent's own check refused.
    Blocked,
    /// The agent asks for a look.
    ManualReview,
    /// The agent's own check passed.
    Authorized,
}
