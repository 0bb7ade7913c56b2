//! What one party does costs no other.
//!
//! Merchants that hang, drip or are gone, agents that flood them and reset, clients that are slow on
//! purpose, thieves with half of what they need.

mod kept;
mod limits;
mod merchants;
mod shares;
mod slow_clients;
mod slow_merchants;
mod totals;
mod unfinished;

use std::time::{Duration, Instant};

use countersign::quickstart::agent::Agent;

use crate::world::*;

/// How often it is looked whether something has happened.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How long requests to a healthy merchant took, and that they all succeeded: creates, each with a
/// read behind it.
async fn latencies(agent: &Agent, merchant: &str, pairs: usize) -> Latencies {
    let mut taken = Vec::new();
    for _ in 0..pairs {
        let started = Instant::now();
        let (session, _) = create(agent, merchant).await;
        taken.push(started.elapsed());
        let started = Instant::now();
        let read = agent.get(format!("/m/{merchant}/checkout_sessions/{session}")).send().await.unwrap();
        assert_eq!(read.status, 200, "{}", read.json());
        taken.push(started.elapsed());
    }
    taken.sort();
    Latencies { median: taken[taken.len() / 2], p90: taken[taken.len() * 9 / 10] }
}

#[derive(Clone, Copy, Debug)]
struct Latencies {
    median: Duration,
    p90: Duration,
}

impl Latencies {
    /// Ten times as long and half a second is a busy machine; what waits for somebody who hangs
    /// waits for seconds, and not now and then.
    fn is_kept(self, before: Self) -> bool {
        let half = Duration::from_millis(500);
        self.median < before.median * 10 + half && self.p90 < before.p90 * 10 + 2 * half
    }
}

/// Latencies at a healthy merchant are as they were before. Measured up to three times: what hangs does
/// so every time, what else the machine does comes and goes.
async fn assert_kept(agent: &Agent, merchant: &str, pairs: usize, before: Latencies) {
    let mut seen = Vec::new();
    for _ in 0..3 {
        let now = latencies(agent, merchant, pairs).await;
        if now.is_kept(before) {
            return;
        }
        seen.push(now);
    }
    panic!("{seen:?}, before {before:?}");
}

/// Waits until something is so.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    assert!(tokio::time::timeout(crate::wire::PATIENCE, waiting).await.is_ok(), "never: {what}");
}

/// A metric without labels.
fn metric(text: &str, name: &str) -> Option<i64> {
    let line = text.lines().find(|line| line.split(' ').next() == Some(name))?;
    line.split(' ').nth(1)?.parse().ok()
}
