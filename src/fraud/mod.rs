//! Fraud: facts are gathered once, pure rules judge them, and only what is [`Cleared`] may begin.
//!
//! 1. [`gather_mint`] or [`gather_complete`] counts the operation and reads every counter. Counting
//!    comes before judging, so that operations in parallel cannot all pass under one limit.
//! 2. [`evaluate`] runs the rules over the [`Facts`]: no clock, no store, the same answer every
//!    time. A rule in shadow mode reports what it would have said and decides nothing.
//! 3. The [`Reservation`] is committed when the operation begins and released when anything refuses it, so
//!    that refused requests count nowhere. An operation counts once, however often it is retried.
//!
//! What one agent does never costs another: counters that several agents feed lead to review only.
//! To add a rule: copy the shortest file in `rules/` and add its line to the list there.

mod facts;
mod fingerprint;
mod gather;
mod rules;
mod verdict;
pub(crate) mod velocity;
mod window;

use std::time::Duration;

pub(crate) use facts::{Facts, RiskAction};
pub(crate) use fingerprint::CardFingerprint;
pub(crate) use gather::{
    CompleteAttempt, MintAttempt, Reservation, gather_complete, gather_mint, record_decline,
};
pub(crate) use velocity::Velocity;
pub(crate) use verdict::{Cleared, Decision, Denied, Hit, evaluate};

/// A count above which a rule speaks: 1 to 1000, because a counter remembers that many members and
/// a few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Threshold(u32);

impl Threshold {
    /// The largest threshold.
    pub const MAX: u32 = 1_000;

    /// The threshold, or `None` outside 1 to 1000.
    pub const fn new(count: u32) -> Option<Self> {
        if count >= 1 && count <= Self::MAX { Some(Self(count)) } else { None }
    }

    /// The count itself.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// What the rules go by. Every rule can be watched in shadow before it is enforced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The agent's own `risk_signals` on a mint: `blocked` is denied, `manual_review` reviewed.
    pub risk_signals: Switch,
    /// The amount against the ceiling in the agent's entry.
    pub agent_ceiling: Switch,
    /// Distinct cards an agent mints with.
    pub card_testing: CardTesting,
    /// Agents that mint with one card.
    pub shared_card: SharedCard,
    /// Declines of one card through one agent.
    pub declines: Declines,
    /// Small completes of one agent.
    pub small_amounts: SmallAmounts,
}

/// A rule without numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switch {
    /// Report what the rule would decide, and decide nothing. Off: what an agent itself signals or
    /// an operator wrote into its entry is meant.
    pub shadow: bool,
}

/// Distinct cards per agent: a thief who tries stolen numbers shows as many cards in a short time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardTesting {
    /// Cards counted within this long.
    pub window: Duration,
    /// Above this many the operation is marked for review; `None`: never.
    pub review_above: Option<Threshold>,
    /// Above this many it is denied; `None`: never.
    pub deny_above: Option<Threshold>,
    /// Report only.
    pub shadow: bool,
}

impl Default for CardTesting {
    /// An agent serves many buyers, so many cards are normal: within ten minutes one new card every
    /// six seconds is looked at, and one every 1.2 seconds is a machine.
    fn default() -> Self {
        Self {
            window: Duration::from_secs(600),
            review_above: Threshold::new(100),
            deny_above: Threshold::new(500),
            shadow: false,
        }
    }
}

/// Agents per card. Fed by several agents, so it can only ask for review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedCard {
    /// Agents counted within this long.
    pub window: Duration,
    /// Above this many agents the operation is marked for review; `None`: never.
    pub review_above: Option<Threshold>,
    /// Report only.
    pub shadow: bool,
}

impl Default for SharedCard {
    /// A buyer may well use two or three agents in a day; more is worth a look.
    fn default() -> Self {
        Self { window: Duration::from_secs(24 * 3600), review_above: Threshold::new(3), shadow: false }
    }
}

/// Declines per agent and card. Card networks charge for repeated attempts on a declined card and
/// allow about fifteen in thirty days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declines {
    /// Declines counted within this long.
    pub window: Duration,
    /// Above this many the operation is marked for review; `None`: never.
    pub review_above: Option<Threshold>,
    /// Above this many it is denied; `None`: never.
    pub deny_above: Option<Threshold>,
    /// Report only.
    pub shadow: bool,
}

impl Default for Declines {
    /// A mistyped code and an empty account explain a few declines a day, not ten.
    fn default() -> Self {
        Self {
            window: Duration::from_secs(24 * 3600),
            review_above: Threshold::new(4),
            deny_above: Threshold::new(9),
            shadow: false,
        }
    }
}

/// Small completes per agent: stolen cards are proved with amounts nobody notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmallAmounts {
    /// An amount of at most so many minor units is small. One number for every currency, coarse on
    /// purpose: nothing is ever converted.
    pub at_most: u64,
    /// Completes counted within this long.
    pub window: Duration,
    /// Above this many the operation is marked for review; `None`: never.
    pub review_above: Option<Threshold>,
    /// Above this many it is denied; `None`: never.
    pub deny_above: Option<Threshold>,
    /// Report only.
    pub shadow: bool,
}

impl Default for SmallAmounts {
    /// Two units of most currencies. Some agents sell small things for a living, so by default
    /// this asks for review and never denies.
    fn default() -> Self {
        Self {
            at_most: 200,
            window: Duration::from_secs(600),
            review_above: Threshold::new(50),
            deny_above: None,
            shadow: false,
        }
    }
}

#[cfg(test)]
mod tests;
