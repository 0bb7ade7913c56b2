//! What came of requests to one merchant since a first failure, agent by agent.

use std::collections::HashMap;

use super::Cause;
use crate::domain::clock::Timestamp;
use crate::domain::id::AgentId;
use crate::registry::BreakerSettings;

/// What came of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// The merchant answered, whatever it said.
    Answered,
    /// It failed, of itself.
    Failed,
    /// It was not reached, or did not answer in time.
    Unanswered,
}

/// The requests of one agent.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    requests: u64,
    failures: u64,
}

/// What is counted.
pub(super) struct Window {
    since: Timestamp,
    agents: HashMap<AgentId, Tally>,
    /// By agent, the last that were not answered, since one was.
    in_a_row: HashMap<AgentId, u64>,
}

impl Window {
    /// Nothing has come yet.
    pub(super) fn new(since: Timestamp) -> Self {
        Self { since, agents: HashMap::new(), in_a_row: HashMap::new() }
    }

    /// Whether it has lasted for as long as one does.
    pub(super) fn is_over(&self, settings: &BreakerSettings, now: Timestamp) -> bool {
        now.since(self.since) >= settings.window
    }

    /// Another request has ended.
    pub(super) fn count(&mut self, agent: &AgentId, came: Came) {
        let tally = tally_of(&mut self.agents, agent);
        tally.requests += 1;
        tally.failures += u64::from(came != Came::Answered);
        match came {
            Came::Answered | Came::Failed => self.in_a_row.clear(),
            Came::Unanswered => *tally_of(&mut self.in_a_row, agent) += 1,
        }
    }

    /// The merchant has answered somebody who is counted nowhere.
    pub(super) fn answered(&mut self) {
        self.in_a_row.clear();
    }

    /// Why nothing new is to be begun; `agents` are needed to judge.
    pub(super) fn verdict(&self, settings: &BreakerSettings, agents: usize) -> Option<Cause> {
        if self.agents.len() < agents {
            return None;
        }
        // Who is alone is all there is to judge by.
        let counted = self.counted(agents <= 1);
        if counted.requests < u64::from(settings.requests) {
            return None;
        }
        if self.counted_in_a_row(agents <= 1) >= u64::from(settings.consecutive) {
            return Some(Cause::Unanswered);
        }
        let percent = u64::from(settings.failing_percent);
        (counted.failures * 100 >= percent * counted.requests).then_some(Cause::Failing)
    }

    /// All requests, of which those of the busiest agent are at most half.
    fn counted(&self, alone: bool) -> Tally {
        let all = self.agents.values().fold(Tally::default(), |sum, one| Tally {
            requests: sum.requests + one.requests,
            failures: sum.failures + one.failures,
        });
        let busiest = self.agents.values().max_by_key(|one| one.requests).copied().unwrap_or_default();
        let others = all.requests - busiest.requests;
        if alone || busiest.requests <= others {
            return all;
        }
        let its_failures = busiest.failures * others / busiest.requests;
        Tally { requests: others * 2, failures: all.failures - busiest.failures + its_failures }
    }

    /// Those in a row, of which one agent's are at most half.
    fn counted_in_a_row(&self, alone: bool) -> u64 {
        let all: u64 = self.in_a_row.values().sum();
        let most = self.in_a_row.values().max().copied().unwrap_or_default();
        if alone { all } else { all - most + most.min(all - most) }
    }
}

/// An agent's, made the first time.
fn tally_of<'a, T: Default>(of: &'a mut HashMap<AgentId, T>, agent: &AgentId) -> &'a mut T {
    of.entry(agent.clone()).or_default()
}
