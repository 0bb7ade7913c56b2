//! Our clock, set by the server's, so that all replicas agree when a token expires or a lease runs
//! out, whatever their own clocks say.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::domain::clock::{Clock, Timestamp};

/// A clock and how far the server's is ahead of it.
pub(super) struct ServerClock {
    ours: Arc<dyn Clock>,
    ahead_millis: AtomicI64,
}

impl ServerClock {
    pub(super) fn new(ours: Arc<dyn Clock>) -> Self {
        Self { ours, ahead_millis: AtomicI64::new(0) }
    }

    /// The server said `theirs` (ms) in an answer that took `round_trip`.
    pub(super) fn set_by(&self, theirs: i64, round_trip: Duration) {
        let half = i64::try_from(round_trip.as_millis() / 2).unwrap_or_default();
        let ahead = theirs.saturating_add(half).saturating_sub(self.ours.now().unix_millis());
        self.ahead_millis.store(ahead, Ordering::Relaxed);
    }
}

impl Clock for ServerClock {
    fn now(&self) -> Timestamp {
        let ours = self.ours.now().unix_millis();
        Timestamp::from_unix_millis(ours.saturating_add(self.ahead_millis.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::ManualClock;

    #[test]
    fn it_goes_by_the_server_whatever_our_own_clock_says() {
        let ours = Arc::new(ManualClock::new(Timestamp::from_unix_seconds(1_000)));
        let clock = ServerClock::new(ours.clone());
        assert_eq!(clock.now().unix_seconds(), 1_000);
        clock.set_by(1_060_000, Duration::from_millis(10));
        assert_eq!(clock.now().unix_millis(), 1_060_005);
        ours.advance(Duration::from_secs(1));
        assert_eq!(clock.now().unix_millis(), 1_061_005);
    }
}
