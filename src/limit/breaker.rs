//! Whether a merchant can be asked for anything new: a breaker each, learnt from what comes of requests.
//!
//! Open while what is sent there is lost anyway, so that agents are told at once and nothing is begun whose
//! end nobody would hear. It closes by what a read shows, its agent's or ours, and by nothing that moves money: a
//! connection of our own proves only that somebody is there, so that completes go on to wait for a read.
//! Failures of one agent alone open nothing, and what a merchant refuses is no failure.

mod window;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use self::window::{Came, Window};
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::id::{AgentId, MerchantId};
use crate::registry::{BreakerSettings, Registry};

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

/// A breaker a merchant.
pub struct Breakers {
    merchants: HashMap<MerchantId, Arc<Mutex<Breaker>>>,
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

impl Breakers {
    /// All closed.
    pub fn new(registry: &Registry) -> Self {
        let breakers = Self { merchants: HashMap::new() }.reloaded(registry);
        breakers.judge_by(registry);
        breakers
    }

    /// Those under a new configuration: who stays stands where it stood. They judge as before until
    /// [`Self::judge_by`] says so.
    #[must_use]
    pub fn reloaded(&self, registry: &Registry) -> Self {
        let merchants = registry
            .merchants()
            .map(|merchant| {
                (merchant.id.clone(), self.merchants.get(&merchant.id).cloned().unwrap_or_default())
            })
            .collect();
        Self { merchants }
    }

    /// From now on as these entries say.
    pub fn judge_by(&self, registry: &Registry) {
        for merchant in registry.merchants() {
            if let Some(breaker) = self.merchants.get(&merchant.id) {
                let all = registry.agents().filter(|agent| agent.may_use(&merchant.id)).count();
                let breaker = &mut *breaker.lock();
                breaker.settings = merchant.breaker;
                breaker.agents = all.min(usize::try_from(merchant.breaker.agents).unwrap_or(usize::MAX));
            }
        }
    }

    /// How a merchant's stands.
    pub fn standing(&self, merchant: &MerchantId) -> Standing {
        self.merchants.get(merchant).map_or(Standing::Closed, |breaker| breaker.lock().standing())
    }

    /// How every merchant's stands.
    pub fn standings(&self) -> impl Iterator<Item = (&MerchantId, Standing)> {
        self.merchants.iter().map(|(id, breaker)| (id, breaker.lock().standing()))
    }

    /// By how much an agent's requests that are signed, or are not, are to slow down at a merchant.
    pub fn slowed(
        &self,
        merchant: &MerchantId,
        agent: &AgentId,
        is_signed: bool,
        clock: &dyn Clock,
    ) -> Option<Slowed> {
        let breaker = self.merchants.get(merchant)?.lock();
        let slowing = breaker.slowed.get(&(agent.clone(), is_signed))?;
        let wait = slowing.until.since(clock.steady());
        (!wait.is_zero()).then_some(Slowed { at_most: slowing.at_most, wait })
    }

    /// A request has ended.
    pub fn note(&self, merchant: &MerchantId, report: &Report<'_>, clock: &dyn Clock) -> Option<Change> {
        let breaker = &mut *self.merchants.get(merchant)?.lock();
        // What nearly every request comes to.
        if report.sign == Sign::Answered && matches!(breaker.state, State::Closed(None)) {
            return None;
        }
        breaker.note(report, clock.steady())
    }

    /// The merchants to connect to now: who asks does it, and says what came of it.
    pub fn to_look_at(&self, now: Timestamp) -> Vec<MerchantId> {
        let is_due = |breaker: &Mutex<Breaker>| match &mut breaker.lock().state {
            State::Open { looked, .. } if now.since(*looked) >= LOOK_AFTER => {
                *looked = now;
                true
            }
            State::Open { .. } | State::HalfOpen { .. } | State::Closed(_) => false,
        };
        let due = self.merchants.iter().filter(|(_, breaker)| is_due(breaker));
        due.map(|(id, _)| id.clone()).collect()
    }

    /// A connection to a merchant was made, or not.
    pub fn looked(&self, merchant: &MerchantId, is_reached: bool, now: Timestamp) -> Option<Change> {
        let breaker = &mut *self.merchants.get(merchant)?.lock();
        let State::Open { since, looked } = &mut breaker.state else { return None };
        if !is_reached {
            *looked = now;
            return None;
        }
        breaker.state = State::HalfOpen { since: *since, window: None };
        Some(Change::HalfOpened)
    }
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
