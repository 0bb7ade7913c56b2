//! The clock that limits run by: monotonic, or moved by hand in tests. Apart from the wall clock,
//! because a limit must not jump when the system's time is corrected.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::nanos::Nanos;

/// A monotonic clock, counted from an instant of its own.
#[derive(Clone, Debug)]
pub struct LimitClock(Source);

#[derive(Clone, Debug)]
enum Source {
    System(Instant),
    Manual(Arc<AtomicU64>),
}

impl LimitClock {
    /// The system's monotonic clock.
    pub fn system() -> Self {
        Self(Source::System(Instant::now()))
    }

    /// A clock that moves only when told to, and what moves it.
    pub fn manual() -> (Self, ManualLimitClock) {
        let nanos = Arc::new(AtomicU64::new(0));
        (Self(Source::Manual(Arc::clone(&nanos))), ManualLimitClock(nanos))
    }
}

impl Clock for LimitClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        match &self.0 {
            Source::System(start) => Nanos::new(nanos(start.elapsed())),
            Source::Manual(now) => Nanos::new(now.load(Ordering::SeqCst)),
        }
    }
}

/// Moves a manual [`LimitClock`] and its clones.
#[derive(Debug)]
pub struct ManualLimitClock(Arc<AtomicU64>);

impl ManualLimitClock {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(nanos(by), Ordering::SeqCst);
    }
}

/// Whole nanoseconds; saturates after 584 years.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
