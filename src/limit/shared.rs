//! Rates that hold across replicas of the gateway: the same GCRA, kept where all of them can ask.
//! The local bucket stays in front as the cheap first gate, and stands alone where the shared one
//! cannot answer: a rate is worth less than an outage. Money is never decided here.
//!
//! Who may send hundreds of requests a second is charged for a few of them at once, so that the rest
//! need not ask. What is charged ahead and not used is lost: the rate is never exceeded.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::bucket::{Rate, seconds_up};
use super::{LimitScope, Limited, Quota};
use crate::records::BoxFuture;

/// Of a rate, what is charged at once: what is earned in this time, and no more than a part of the
/// burst.
const AHEAD: Duration = Duration::from_millis(10);
const AHEAD_OF_BURST: u32 = 16;
/// How long what was charged ahead may be used.
const KEPT: Duration = Duration::from_secs(1);

/// A rate as the shared store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedLimit {
    /// Whose: one record each.
    pub name: String,
    /// The time in which one request is earned.
    pub interval: Duration,
    /// Requests in a full bucket.
    pub burst: u32,
}

/// What the shared store decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Requests admitted and charged: as many as were asked for, or those that were left.
    pub granted: u32,
    /// Requests that would be admitted now.
    pub remaining: u32,
    /// How long until one would be, when none is.
    pub retry_after: Duration,
}

/// Where shared rates are kept.
pub trait SharedLimits: Send + Sync {
    /// Charges up to `wanted` requests; `None` when the store cannot say.
    fn take<'a>(&'a self, limit: &'a SharedLimit, wanted: u32) -> BoxFuture<'a, Option<Taken>>;
}

impl SharedLimit {
    fn new(scope: LimitScope, id: &str, rate: Rate) -> Self {
        Self { name: format!("{}/{id}", scope.as_str()), interval: rate.interval(), burst: rate.burst.get() }
    }

    fn at_once(&self) -> u32 {
        let earned = AHEAD.as_nanos() / self.interval.as_nanos().max(1);
        u32::try_from(earned).unwrap_or(u32::MAX).min(self.burst / AHEAD_OF_BURST).max(1)
    }
}

/// The shared rates as this process uses them.
pub(super) struct SharedRates {
    store: Arc<dyn SharedLimits>,
    /// One for each agent and merchant that was charged ahead.
    ahead: Mutex<HashMap<String, Ahead>>,
}

/// Requests that are charged and not yet made.
struct Ahead {
    requests: u32,
    remaining: u32,
    until: Instant,
}

impl SharedRates {
    pub(super) fn new(store: Arc<dyn SharedLimits>) -> Self {
        Self { store, ahead: Mutex::default() }
    }

    /// Charges one request of `rate` in the shared store; `None` when that cannot say.
    pub(super) async fn take(
        &self,
        scope: LimitScope,
        id: &str,
        rate: Rate,
    ) -> Result<Option<Quota>, Limited> {
        let limit = SharedLimit::new(scope, id, rate);
        let says = |remaining| rate.says(scope, remaining, seconds_up(rate.interval()));
        if let Some(remaining) = self.use_one(&limit) {
            return Ok(Some(says(remaining)));
        }
        let Some(taken) = self.store.take(&limit, limit.at_once()).await else { return Ok(None) };
        if taken.granted == 0 {
            let wait = seconds_up(taken.retry_after);
            return Err(Limited { scope, retry_after_seconds: wait, quota: Some(rate.says(scope, 0, wait)) });
        }
        let others = taken.granted - 1;
        if others > 0 {
            self.keep(limit, others, taken.remaining);
        }
        Ok(Some(says(taken.remaining.saturating_add(others))))
    }

    /// Uses a request that was charged ahead; how many more there would be.
    fn use_one(&self, limit: &SharedLimit) -> Option<u32> {
        let mut ahead = self.ahead.lock();
        let held = ahead.get_mut(&limit.name).filter(|held| Instant::now() < held.until)?;
        held.requests = held.requests.checked_sub(1)?;
        Some(held.remaining.saturating_add(held.requests))
    }

    fn keep(&self, limit: SharedLimit, requests: u32, remaining: u32) {
        let until = Instant::now() + KEPT;
        let mut ahead = self.ahead.lock();
        let held = ahead.entry(limit.name).or_insert(Ahead { requests: 0, remaining, until });
        // Several that found none left may have asked at the same time.
        held.requests =
            if Instant::now() < held.until { held.requests.saturating_add(requests) } else { requests };
        held.remaining = remaining;
        held.until = until;
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A store with so many requests left, which counts how often it is asked.
    struct Left {
        left: AtomicU32,
        asked: AtomicU32,
    }

    impl SharedLimits for Left {
        fn take<'a>(&'a self, _: &'a SharedLimit, wanted: u32) -> BoxFuture<'a, Option<Taken>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let left = self.left.load(Ordering::Relaxed);
            let granted = wanted.min(left);
            self.left.fetch_sub(granted, Ordering::Relaxed);
            let retry_after = Duration::from_secs(1);
            Box::pin(std::future::ready(Some(Taken { granted, remaining: left - granted, retry_after })))
        }
    }

    async fn admitted(a_second: u32, burst: u32, left: u32) -> (u32, u32) {
        let store = Arc::new(Left { left: left.into(), asked: 0.into() });
        let rates = SharedRates::new(store.clone());
        let positive = |number| NonZeroU32::new(number).unwrap();
        let rate = Rate { requests: positive(a_second), per: Duration::from_secs(1), burst: positive(burst) };
        let mut admitted = 0;
        while rates.take(LimitScope::Agent, "alpha", rate).await.is_ok() {
            admitted += 1;
        }
        (admitted, store.asked.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn a_low_rate_is_asked_for_each_request_and_a_high_one_for_many_at_once() {
        assert_eq!(admitted(50, 100, 100).await, (100, 101));
        assert_eq!(admitted(2_000, 4_000, 4_000).await, (4_000, 4_000 / 20 + 1));
        // No more than a part of the burst.
        assert_eq!(admitted(2_000, 32, 32).await, (32, 32 / 2 + 1));
        // What is left is all that is granted.
        assert_eq!(admitted(2_000, 4_000, 30).await, (30, 3));
    }
}
