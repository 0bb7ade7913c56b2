//! Signatures in company: those that are to be verified at one moment are verified together.
//!
//! Nobody waits for company. Who is to verify joins those that are here, and lets every task that is
//! ready run once; whoever of them runs again first takes all that have joined. With no other request
//! under way nothing is given up.
//!
//! Who has lately signed badly is verified alone, so that it costs the others nothing more; a batch
//! with a bad signature in it is computed again one by one, and refuses that one only.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::yield_now;

use crate::crypto::ed25519::{Equation, MOST_TOGETHER, which_hold};
use crate::domain::clock::Timestamp;
use crate::domain::id::AgentId;
use crate::telemetry::metrics::Metrics;

/// How long a bad signature keeps its sender out of company.
const APART: Duration = Duration::from_secs(60);
/// Places for those who have lately signed badly: 8 KiB.
const PLACES: u64 = 1024;

/// Those whose signatures are to be verified.
pub(crate) struct Company {
    gathering: Mutex<Gathering>,
    apart: Apart,
    metrics: Arc<Metrics>,
}

/// Whose signature it is, and when.
#[derive(Clone, Copy)]
pub(crate) struct Sender<'a> {
    /// The agent.
    pub id: &'a AgentId,
    /// Now.
    pub now: Timestamp,
    /// Whether other requests are under way.
    pub has_company: bool,
}

/// Fewer than [`MOST_TOGETHER`].
#[derive(Default)]
struct Gathering {
    /// How many have been taken.
    turn: u64,
    joined: Vec<Joined>,
}

struct Joined {
    equation: Equation,
    tell: oneshot::Sender<bool>,
}

impl Company {
    /// Nobody is here yet.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { gathering: Mutex::default(), apart: Apart::new(), metrics }
    }

    /// Whether a sender's equation holds.
    pub(super) async fn judge(&self, equation: Equation, sender: Sender<'_>) -> bool {
        let together = sender.has_company && !self.apart.has(sender.id, sender.now);
        let holds = if together { self.join(equation).await } else { self.compute_alone(&equation) };
        if !holds {
            self.apart.put(sender.id, sender.now);
        }
        holds
    }

    fn compute_alone(&self, equation: &Equation) -> bool {
        self.metrics.signature_computed("alone", 1);
        equation.holds()
    }

    async fn join(&self, equation: Equation) -> bool {
        let (tell, told) = oneshot::channel();
        let (turn, full) = self.gathering.lock().join(Joined { equation: equation.clone(), tell });
        let taken = match full {
            Some(full) => full,
            None => {
                yield_now().await;
                self.gathering.lock().take(turn)
            }
        };
        self.answer(taken);
        // Who took it has been torn away in the middle: nobody knows.
        told.await.unwrap_or_else(|_| self.compute_alone(&equation))
    }

    /// Does not wait: what was taken is answered.
    fn answer(&self, mut taken: Vec<Joined>) {
        // Whose client has left.
        taken.retain(|joined| !joined.tell.is_closed());
        let (equations, tell): (Vec<_>, Vec<_>) =
            taken.into_iter().map(|joined| (joined.equation, joined.tell)).unzip();
        let verdicts = which_hold(&equations);
        let how = match verdicts.as_slice() {
            [] => return,
            [_] => "alone",
            several if several.iter().all(|holds| *holds) => "together",
            _ => "split",
        };
        self.metrics.signature_computed(how, verdicts.len());
        for (tell, holds) in tell.into_iter().zip(verdicts) {
            // It may leave even now.
            let _ = tell.send(holds);
        }
    }
}

impl Gathering {
    /// In which turn it will be taken; everybody of it, where nobody else may join.
    fn join(&mut self, joined: Joined) -> (u64, Option<Vec<Joined>>) {
        self.joined.push(joined);
        let (turn, is_full) = (self.turn, self.joined.len() >= MOST_TOGETHER);
        (turn, is_full.then(|| self.take(turn)))
    }

    /// Everybody of this turn; nobody where they have been taken. Who joined after them has its own.
    fn take(&mut self, turn: u64) -> Vec<Joined> {
        if turn != self.turn {
            return Vec::new();
        }
        self.turn = self.turn.wrapping_add(1);
        std::mem::take(&mut self.joined)
    }
}

/// Until when, in Unix seconds, whoever shares a place is verified alone. An agent that shares one
/// with another loses its company and nothing else.
struct Apart {
    places: Vec<AtomicI64>,
    hasher: RandomState,
}

impl Apart {
    fn new() -> Self {
        Self { places: (0..PLACES).map(|_| AtomicI64::new(i64::MIN)).collect(), hasher: RandomState::new() }
    }

    fn place(&self, agent: &AgentId) -> Option<&AtomicI64> {
        let number = self.hasher.hash_one(agent.as_str()) % PLACES;
        self.places.get(usize::try_from(number).ok()?)
    }

    fn has(&self, agent: &AgentId, now: Timestamp) -> bool {
        self.place(agent).is_some_and(|until| now.unix_seconds() < until.load(Ordering::Relaxed))
    }

    fn put(&self, agent: &AgentId, now: Timestamp) {
        if let Some(until) = self.place(agent) {
            until.store(now.plus(APART).unix_seconds(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
