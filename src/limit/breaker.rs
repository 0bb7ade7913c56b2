//! Whether a merchant can be asked for anything new: a breaker for each of its base URLs.
//!
//! Learnt from what comes of requests. Open while what is sent there is lost anyway, so that agents are told at
//! once and nothing is begun whose end nobody would hear. It closes by what a read shows, its agent's or ours,
//! and by nothing that moves money: a connection of our own proves only that somebody is there, so that
//! completes go on to wait for a read.
//! Failures of one agent alone open nothing, and what a merchant refuses is no failure.

mod all;
mod window;

use std::collections::HashMap;
use std::time::Duration;

pub use self::all::Breakers;
use self::window::{Came, Window};
use crate::domain::clock::Timestamp;
use crate::domain::id::AgentId;
use crate::registry::BreakerSettings;

/// After so long without a read that reaches an open merchant, or not, it is connected to.
const LOOK_AFTER: Duration = Duration::from_secs(5);
/// How long an agent that was told to slow down does, whatever it was told.
const SLOWED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What an exchange says of its merchant, as far as anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It answered, whatever it said.
    Answered,
    /// It asks for fewer requests.
    Busy(Asking),
    /// It failed, of itself.
    Failing,
    /// It did not answer in time.
    Late,
    /// It cannot be connected to.
    Unreachable,
}

/// How a merchant asks for fewer requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    /// For so long.
    pub wait: Duration,
    /// So long after it was asked.
    pub took: Duration,
    /// Requests of that agent under way there, that are signed as this was or are not.
    pub under_way: u32,
    /// Whether it was signed.
    pub is_signed: bool,
}

/// What was asked of a merchant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To change something.
    Change,
    /// To charge.
    Complete,
    /// To show something.
    Read,
}

/// What came of one request.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// For whom it was made, where that was an agent.
    pub agent: Option<&'a AgentId>,
    /// What was asked.
    pub asked: Asked,
    /// What came of it.
    pub sign: Sign,
}

/// Why a breaker has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Too large a share of what was asked failed.
    Failing,
    /// Too many in a row reached nobody, or were not answered in time.
    Unanswered,
}

impl Cause {
    /// The word in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Unanswered => "unanswered",
        }
    }
}

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// All may be asked.
    Closed,
    /// Somebody is there: all may be asked, a complete once its session was read.
    HalfOpen,
    /// Only reads; more may be known then.
    Open(Timestamp),
}

/// What has become of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has opened.
    Opened(Cause),
    /// Somebody is there.
    HalfOpened,
    /// Nobody was there after all.
    Reopened,
    /// It has closed, after so long.
    Closed(Duration),
}

/// By how much an agent is to slow down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slowed {
    /// Its requests under way, at most.
    pub at_most: u32,
    /// For how long.
    pub wait: Duration,
}

struct Breaker {
    settings: BreakerSettings,
    /// Agents without whom nothing is judged.
    agents: usize,
    state: State,
    /// By whose credential and whether it signs: who has stolen the one slows down none that do.
    slowed: HashMap<(AgentId, bool), Slowing>,
}

enum State {
    /// Nothing is counted before a first failure.
    Closed(Option<Window>),
    HalfOpen {
        since: Timestamp,
        window: Option<Window>,
    },
    Open {
        since: Timestamp,
        /// When it was last tried to reach.
        looked: Timestamp,
    },
}

struct Slowing {
    since: Timestamp,
    until: Timestamp,
    at_most: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            settings: BreakerSettings::default(),
            // Until it is known who there is, nothing is judged.
            agents: usize::MAX,
            state: State::Closed(None),
            slowed: HashMap::new(),
        }
    }
}

impl Breaker {
    fn standing(&self) -> Standing {
        match &self.state {
            State::Closed(_) => Standing::Closed,
            State::HalfOpen { .. } => Standing::HalfOpen,
            State::Open { looked, .. } => Standing::Open(looked.plus(LOOK_AFTER)),
        }
    }

    fn note(&mut self, report: &Report<'_>, now: Timestamp) -> Option<Change> {
        if let (Sign::Busy(asking), Some(agent)) = (report.sign, report.agent) {
            self.slow(agent, asking, now);
        }
        let came = match report.sign {
            Sign::Answered | Sign::Busy(_) => Came::Answered,
            Sign::Failing => Came::Failed,
            Sign::Late | Sign::Unreachable => Came::Unanswered,
        };
        let (settings, agents) = (self.settings, self.agents);
        match &mut self.state {
            State::Closed(window) => {
                let cause = judge(window, &settings, agents, report.agent, came, now)?;
                self.state = State::Open { since: now, looked: now };
                Some(Change::Opened(cause))
            }
            // Of a complete nothing is learnt: none is sent to find out.
            State::HalfOpen { .. } | State::Open { .. } if report.asked == Asked::Complete => None,
            State::HalfOpen { since, .. } if came == Came::Answered => {
                let open_for = now.since(*since);
                self.state = State::Closed(None);
                Some(Change::Closed(open_for))
            }
            State::HalfOpen { since, window } => {
                // That nobody is there is no agent's doing.
                let is_gone = report.sign == Sign::Unreachable
                    || judge(window, &settings, agents, report.agent, came, now).is_some();
                let since = *since;
                is_gone.then(|| {
                    self.state = State::Open { since, looked: now };
                    Change::Reopened
                })
            }
            State::Open { since, .. } if report.asked == Asked::Read && came == Came::Answered => {
                let open_for = now.since(*since);
                self.state = State::Closed(None);
                Some(Change::Closed(open_for))
            }
            State::Open { looked, .. } => {
                // Reads that fail otherwise may be one agent's, which must not keep us from looking.
                if report.asked == Asked::Read && report.sign == Sign::Unreachable {
                    *looked = now;
                }
                None
            }
        }
    }

    /// An agent has been told to slow down: half as much as it had under way. Requests that were under way
    /// when it was told the last time say nothing new.
    fn slow(&mut self, agent: &AgentId, asking: Asking, now: Timestamp) {
        let (shortest, longest) = SLOWED;
        let until = now.plus(asking.wait.clamp(shortest, longest));
        self.slowed.retain(|_, slowing| now < slowing.until);
        let whose = (agent.clone(), asking.is_signed);
        match self.slowed.get_mut(&whose) {
            Some(slowing) if now.minus(asking.took) < slowing.since => {
                slowing.until = slowing.until.max(until)
            }
            before => {
                let at_most =
                    before.map_or(asking.under_way, |slowing| slowing.at_most.min(asking.under_way));
                let slowing = Slowing { since: now, until, at_most: (at_most / 2).max(1) };
                self.slowed.insert(whose, slowing);
            }
        }
    }
}

/// Counts what came of a request, and judges.
fn judge(
    window: &mut Option<Window>,
    settings: &BreakerSettings,
    agents: usize,
    agent: Option<&AgentId>,
    came: Came,
    now: Timestamp,
) -> Option<Cause> {
    if window.as_ref().is_some_and(|window| window.is_over(settings, now)) {
        *window = None;
    }
    let Some(agent) = agent else {
        if let (Some(window), Came::Answered) = (window, came) {
            window.answered();
        }
        return None;
    };
    if window.is_none() && came == Came::Answered {
        return None;
    }
    let window = window.get_or_insert_with(|| Window::new(now));
    window.count(agent, came);
    window.verdict(settings, agents)
}

#[cfg(test)]
mod tests;
