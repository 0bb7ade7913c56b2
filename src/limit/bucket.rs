//! One rate limit and what it says: a GCRA decision turned into [`Quota`] or [`Limited`], so that
//! admission and headers can never disagree.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, RateLimiter};

use super::pace::{Pace, nanos};
use super::states::{Access, BoundedStates, Crowded};
use super::{Limited, Quota, Scope};

/// So many requests in a time, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) requests: NonZeroU32,
    pub(super) per: Duration,
    pub(super) burst: NonZeroU32,
}

impl Rate {
    /// The time in which one request is earned: at least a nanosecond.
    fn interval(self) -> Duration {
        (self.per / self.requests.get()).max(Duration::from_nanos(1))
    }

    fn quota(self) -> governor::Quota {
        governor::Quota::with_period(self.interval())
            .unwrap_or(governor::Quota::per_second(self.requests))
            .allow_burst(self.burst)
    }

    fn admitted(self, scope: Scope, state: &StateSnapshot) -> Quota {
        self.says(scope, state.remaining_burst_capacity(), seconds_up(self.interval()))
    }

    fn refused(self, scope: Scope, until: &NotUntil<Nanos>, now: Nanos) -> Limited {
        let wait = seconds_up(until.wait_time_from(now));
        Limited { scope, retry_after_seconds: wait, quota: Some(self.says(scope, 0, wait)) }
    }

    fn says(self, scope: Scope, remaining: u32, reset_seconds: u32) -> Quota {
        let window = self.interval().saturating_mul(self.burst.get());
        Quota { scope, limit: self.burst.get(), window_seconds: seconds_up(window), remaining, reset_seconds }
    }
}

/// Whole seconds, rounded up, at least one.
fn seconds_up(duration: Duration) -> u32 {
    let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)
}

/// A limit of one known party.
pub(super) struct Bucket {
    scope: Scope,
    rate: Rate,
    limiter: RateLimiter<NotKeyed, InMemoryState, Pace, StateInformationMiddleware>,
}

impl Bucket {
    pub(super) fn new(scope: Scope, rate: Rate, pace: Pace) -> Self {
        let limiter = RateLimiter::direct_with_clock(rate.quota(), pace).with_middleware();
        Self { scope, rate, limiter }
    }

    pub(super) const fn rate(&self) -> Rate {
        self.rate
    }

    /// Charges one request.
    pub(super) fn take(&self) -> Result<Quota, Limited> {
        match self.limiter.check() {
            Ok(state) => Ok(self.rate.admitted(self.scope, &state)),
            Err(until) => Err(self.rate.refused(self.scope, &until, self.limiter.clock().now())),
        }
    }
}

/// A limit of each of many strangers, in bounded memory.
pub(super) struct KeyedBucket<K: Crowded> {
    scope: Scope,
    rate: Rate,
    limiter: RateLimiter<Access<K>, BoundedStates<K>, Pace, StateInformationMiddleware>,
}

impl<K: Crowded> KeyedBucket<K> {
    pub(super) fn new(scope: Scope, rate: Rate, tracked: NonZeroU32, pace: Pace) -> Self {
        let states = BoundedStates::new(tracked, nanos(rate.interval()));
        Self { scope, rate, limiter: RateLimiter::new(rate.quota(), states, pace) }
    }

    /// Charges one request of `key`.
    pub(super) fn take(&self, key: K) -> Result<Quota, Limited> {
        self.check(&Access { key, charge: true })
    }

    /// Whether one request of `key` would be admitted; charges nothing.
    pub(super) fn peek(&self, key: K) -> Result<Quota, Limited> {
        self.check(&Access { key, charge: false })
    }

    /// Keys whose state is kept apart at the moment.
    pub(super) fn tracked(&self) -> usize {
        self.limiter.len()
    }

    fn check(&self, access: &Access<K>) -> Result<Quota, Limited> {
        match self.limiter.check_key(access) {
            Ok(state) => Ok(self.rate.admitted(self.scope, &state)),
            Err(until) => Err(self.rate.refused(self.scope, &until, self.limiter.clock().now())),
        }
    }
}
