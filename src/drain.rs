//! Leaving without leaving anything half done: what the whole process knows of its own shutdown.
//! Apart from the server, because the gateway decides what is still accepted while draining.
//!
//! Phases: [`Drain::announce`] turns readiness off, so that whoever sends requests here sends them
//! elsewhere, and all work is still taken; from [`Drain::begin`] on [`Drain::admit`] refuses new agents'
//! work while redeem, granted view and revoke are still served; when the last admitted piece of
//! work is done, [`Drain::settled`] completes and the server stops accepting and closes its
//! connections; everything ends by [`Drain::deadline`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::domain::clock::Deadline;

/// The process' shutdown; clones share it.
#[derive(Clone)]
pub struct Drain(Arc<State>);

struct State {
    within: Duration,
    deadline: OnceLock<Deadline>,
    announced: AtomicBool,
    begun: CancellationToken,
    work: TaskTracker,
}

/// A piece of work that a drain waits for, until it is dropped. Moves into the detached task.
#[must_use]
pub struct WorkGuard(#[allow(dead_code, reason = "held for its drop")] TaskTrackerToken);

impl Drain {
    /// A drain that, once begun, ends `within` this time.
    pub fn new(within: Duration) -> Self {
        Self(Arc::new(State {
            within,
            deadline: OnceLock::new(),
            announced: AtomicBool::new(false),
            begun: CancellationToken::new(),
            work: TaskTracker::new(),
        }))
    }

    /// It will begin: no new work should come here.
    pub fn announce(&self) {
        self.0.announced.store(true, Ordering::Relaxed);
    }

    /// Whether it will begin, or has begun.
    pub fn is_announced(&self) -> bool {
        self.0.announced.load(Ordering::Relaxed)
    }

    /// Begins; again is harmless.
    pub fn begin(&self) {
        self.announce();
        self.0.deadline.get_or_init(|| Deadline::after(self.0.within));
        self.0.begun.cancel();
        self.0.work.close();
    }

    /// Whether it has begun.
    pub fn is_draining(&self) -> bool {
        self.0.begun.is_cancelled()
    }

    /// Completes once it has begun.
    pub async fn begun(&self) {
        self.0.begun.cancelled().await;
    }

    /// New work of an agent: `None` when draining, and the agent is told to come back (503 with
    /// `Retry-After`). What is admitted is waited for, without a gap between asking and counting.
    pub fn admit(&self) -> Option<WorkGuard> {
        let guard = self.work();
        (!self.is_draining()).then_some(guard)
    }

    /// Work that is waited for whether or not it began while draining: redeem, revoke.
    pub fn work(&self) -> WorkGuard {
        WorkGuard(self.0.work.token())
    }

    /// Pieces of work under way.
    pub fn under_way(&self) -> usize {
        self.0.work.len()
    }

    /// Completes when it has begun and no work is under way.
    pub async fn settled(&self) {
        self.0.begun.cancelled().await;
        self.0.work.wait().await;
    }

    /// When everything must have ended; `None` before it has begun.
    pub fn deadline(&self) -> Option<Deadline> {
        self.0.deadline.get().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_settles_when_the_last_work_is_done_and_admits_none_meanwhile() {
        let drain = Drain::new(Duration::from_secs(60));
        let first = drain.admit().unwrap();
        assert!(!drain.is_draining() && drain.deadline().is_none());

        drain.announce();
        assert!(drain.is_announced() && !drain.is_draining());
        drop(drain.admit().unwrap());

        drain.begin();
        assert!(drain.is_draining() && drain.deadline().is_some());
        assert!(drain.admit().is_none(), "no new work");
        let redeem = drain.work();
        assert_eq!(drain.under_way(), 2);

        let settled = drain.settled();
        tokio::pin!(settled);
        assert!(futures_pending(&mut settled).await);
        drop(first);
        assert!(futures_pending(&mut settled).await, "the redeem is waited for too");
        drop(redeem);
        settled.await;
    }

    #[tokio::test]
    async fn nothing_settles_before_it_begins() {
        let drain = Drain::new(Duration::from_secs(60));
        let settled = drain.settled();
        tokio::pin!(settled);
        assert!(futures_pending(&mut settled).await);
        drain.begin();
        settled.await;
    }

    async fn futures_pending<F: Future<Output = ()>>(future: &mut std::pin::Pin<&mut F>) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }
}
