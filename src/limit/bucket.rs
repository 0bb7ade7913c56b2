//! One rate limit and what it says.
//!
//! A GCRA decision turned into [`Quota`] or [`Limited`], so that admission and headers can never
//! disagree.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, RateLimiter};

use super::clock::{LimitClock, nanos};
use super::states::{Access, BoundedStates, Grouped};
use super::{LimitScope, Limited, Quota};

/// So many requests in a time, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) requests: NonZeroU32,
    pub(super) per: Duration,
    pub(super) burst: NonZeroU32,
}

impl Rate {
    /// The time in which one request is earned: at least a nanosecond.
    pub(super) fn interval(self) -> Duration {
        (self.per / self.requests.get()).max(Duration::from_nanos(1))
    }

    fn quota(self) -> governor::Quota {
        governor::Quota::with_period(self.interval())
            .unwrap_or(governor::Quota::per_second(self.requests))
            .allow_burst(self.burst)
    }

    fn admitted(self, scope: LimitScope, state: &StateSnapshot) -> Quota {
        self.says(scope, state.remaining_burst_capacity(), seconds_up(self.interval()))
    }

    fn refused(self, scope: LimitScope, until: &NotUntil<Nanos>, now: Nanos) -> Limited {
        let wait = seconds_up(until.wait_time_from(now));
        Limited { scope, retry_after_seconds: wait, quota: Some(self.says(scope, 0, wait)) }
    }

    pub(super) fn says(self, scope: LimitScope, remaining: u32, reset_seconds: u32) -> Quota {
        let window = self.interval().saturating_mul(self.burst.get());
        Quota { scope, limit: self.burst.get(), window_seconds: seconds_up(window), remaining, reset_seconds }
    }
}

/// Whole seconds, rounded up, at least one.
pub(super) fn seconds_up(duration: Duration) -> u32 {
    let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)
}

/// A limit of one known party.
pub(super) struct Bucket {
    scope: LimitScope,
    rate: Rate,
    limiter: RateLimiter<NotKeyed, InMemoryState, LimitClock, StateInformationMiddleware>,
}

impl Bucket {
    pub(super) fn new(scope: LimitScope, rate: Rate, clock: LimitClock) -> Self {
        let limiter = RateLimiter::direct_with_clock(rate.quota(), clock).with_middleware();
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
pub(super) struct KeyedBucket<K: Grouped> {
    scope: LimitScope,
    rate: Rate,
    limiter: RateLimiter<Access<K>, BoundedStates<K>, LimitClock, StateInformationMiddleware>,
}

impl<K: Grouped> KeyedBucket<K> {
    pub(super) fn new(scope: LimitScope, rate: Rate, tracked: NonZeroU32, clock: LimitClock) -> Self {
        let states = BoundedStates::new(tracked, nanos(rate.interval()));
        Self { scope, rate, limiter: RateLimiter::new(rate.quota(), states, clock) }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// GCRA as the textbook has it, in nanoseconds.
    struct Model {
        interval: u128,
        burst: u128,
        arrival: u128,
    }

    impl Model {
        /// Requests left after one more, or the nanoseconds until one is admitted.
        fn take(&mut self, now: u128) -> Result<u128, u128> {
            let arrival = self.arrival.max(now);
            let tolerance = self.interval * (self.burst - 1);
            if arrival - now > tolerance {
                return Err(arrival - tolerance - now);
            }
            self.arrival = arrival + self.interval;
            Ok((now + self.interval * self.burst - self.arrival) / self.interval)
        }
    }

    fn rate(requests: u32, per_seconds: u64, burst: u32) -> Rate {
        let positive = |value| NonZeroU32::new(value).unwrap();
        Rate { requests: positive(requests), per: Duration::from_secs(per_seconds), burst: positive(burst) }
    }

    proptest! {
        #[test]
        fn decision_headers_and_retry_after_are_one(
            requests in 1..500u32,
            per_seconds in 1..120u64,
            burst in 1..200u32,
            waits in prop::collection::vec(prop_oneof![3 => Just(0), 2 => 0..5_000u64], 1..300),
        ) {
            let rate = rate(requests, per_seconds, burst);
            let (clock, hand) = LimitClock::manual();
            hand.advance(Duration::from_secs(100));
            let bucket = Bucket::new(LimitScope::Agent, rate, clock);
            let interval = rate.interval().as_nanos();
            let mut model = Model { interval, burst: u128::from(burst), arrival: 0 };
            let mut now = Duration::from_secs(100);
            for wait in waits {
                hand.advance(Duration::from_millis(wait));
                now += Duration::from_millis(wait);
                match (bucket.take(), model.take(now.as_nanos())) {
                    (Ok(quota), Ok(left)) => {
                        prop_assert_eq!(u128::from(quota.remaining), left);
                        prop_assert_eq!(quota.limit, burst);
                        prop_assert!(quota.remaining < quota.limit);
                        // After `t` seconds there is at least one more.
                        prop_assert!(u128::from(quota.reset_seconds) * 1_000_000_000 >= interval);
                        let fills = u128::from(quota.window_seconds) * 1_000_000_000;
                        prop_assert!(fills >= interval * u128::from(burst));
                    }
                    (Err(limited), Err(wait)) => {
                        let quota = limited.quota.unwrap();
                        prop_assert_eq!(quota.remaining, 0);
                        prop_assert_eq!(limited.retry_after_seconds, quota.reset_seconds);
                        let told = u128::from(limited.retry_after_seconds) * 1_000_000_000;
                        prop_assert!(told >= wait && told < wait + 1_000_000_000);
                    }
                    (ours, theirs) => prop_assert!(false, "{ours:?} but the model says {theirs:?}"),
                }
            }
        }

        #[test]
        fn as_many_as_remaining_says_are_admitted_at_once(requests in 1..50u32, burst in 1..50u32) {
            let (clock, _hand) = LimitClock::manual();
            let bucket = Bucket::new(LimitScope::Agent, rate(requests, 1, burst), clock);
            let remaining = bucket.take().unwrap().remaining;
            for left in (0..remaining).rev() {
                prop_assert_eq!(bucket.take().unwrap().remaining, left);
            }
            prop_assert!(bucket.take().is_err());
        }
    }

    #[test]
    fn a_limit_faster_than_the_clock_still_works() {
        let (clock, _hand) = LimitClock::manual();
        let bucket = Bucket::new(LimitScope::Agent, rate(u32::MAX, 1, u32::MAX), clock);
        assert!(bucket.take().is_ok());
    }
}
