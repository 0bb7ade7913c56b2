//! Time: instants, clocks and deadlines; the only place that reads the system's clocks.
//!
//! Instants are values, a [`Clock`] is injected, the [`KeptClock`] doubts it, and [`Deadline`]s are
//! absolute.

mod kept;
mod rfc3339;

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

pub use kept::{KeptClock, Moved, Whose};

/// An instant of wall-clock time, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant `millis` milliseconds after the Unix epoch.
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The instant `seconds` after the Unix epoch; saturates at the ends of the range.
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// What a file system says.
    pub fn of_system(time: SystemTime) -> Self {
        Self(millis(time.duration_since(UNIX_EPOCH).unwrap_or_default()))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn unix_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This instant moved later; saturates.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by)))
    }

    /// This instant moved earlier; saturates.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(millis(by)))
    }

    /// How long after `earlier` this instant is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The distance between two instants, whichever is later.
    pub fn distance(self, other: Self) -> Duration {
        self.since(other).max(other.since(self))
    }

    /// Reads an RFC 3339 date-time; `None` when it is not one.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        rfc3339::read(text).map(Self)
    }

    /// Writes RFC 3339 in UTC, to the second when the instant is a whole second; the nearest that can be
    /// written for an instant beyond them.
    pub fn to_rfc3339(self) -> String {
        // As long as one of this age is, to the millisecond.
        let mut out = String::with_capacity(24);
        self.append_rfc3339(&mut out);
        out
    }

    /// The same behind other text.
    pub fn append_rfc3339(self, out: &mut String) {
        let nearest = if self.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        let instant = jiff::Timestamp::from_millisecond(self.0).unwrap_or(nearest);
        // To write to memory does not fail.
        let _ = write!(out, "{instant}");
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What clocks say at one moment: see [`Clock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// [`Clock::steady`].
    pub steady: Timestamp,
    /// [`Clock::latest`].
    pub latest: Timestamp,
    /// [`Clock::earliest`].
    pub earliest: Timestamp,
    /// [`Clock::unbroken_since`].
    pub unbroken_since: Timestamp,
    /// [`Clock::jumped_at`].
    pub jumped_at: Option<Timestamp>,
}

/// What time it is, for three uses that must not be mixed up.
///
/// What is compared with others' clocks goes by [`Clock::now`]. A span goes by [`Clock::steady`]: set
/// back or forward, a wall clock would end a grace period early, and that is a second charge. Whether a
/// stored instant is past is asked of [`Clock::latest`] by who refuses and of [`Clock::earliest`] by who
/// deletes, so that no single clock that is wrong revives or destroys anything.
pub trait Clock: Send + Sync {
    /// The time as others know it: signature windows, certificates, JWTs, instants that are told.
    fn now(&self) -> Timestamp;

    /// Elapsed time, sleep included, as an instant: grace, leases, caution, and marks they begin at. No
    /// clock that is set moves it.
    fn steady(&self) -> Timestamp;

    /// What is past for any of our clocks is refused.
    fn latest(&self) -> Timestamp {
        self.now().max(self.steady())
    }

    /// Only what is past for all of our clocks is deleted.
    fn earliest(&self) -> Timestamp {
        self.now().min(self.steady())
    }

    /// Since when spans of [`Clock::steady`] are known to have elapsed. What began before then begins
    /// anew then.
    fn unbroken_since(&self) -> Timestamp {
        Timestamp::from_unix_millis(i64::MIN)
    }

    /// When [`Clock::steady`] jumped last: the server it goes by was set. Leases from before end at an
    /// instant that means nothing now.
    fn jumped_at(&self) -> Option<Timestamp> {
        None
    }

    /// What they say at one moment, of what a decision goes by.
    fn reading(&self) -> Reading {
        let (steady, latest, earliest) = (self.steady(), self.latest(), self.earliest());
        let (unbroken_since, jumped_at) = (self.unbroken_since(), self.jumped_at());
        Reading { steady, latest, earliest, unbroken_since, jumped_at }
    }

    /// The latest instant our clocks have agreed on, for the store to keep.
    fn agreed(&self) -> Option<Timestamp> {
        None
    }

    /// The clocks that were set since this was last asked.
    fn moved(&self) -> Vec<Moved> {
        Vec::new()
    }
}

/// The system's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::of_system(SystemTime::now())
    }

    fn steady(&self) -> Timestamp {
        /// The wall clock at the start of the boot-time clock, as it stood when first asked.
        static START: OnceLock<i64> = OnceLock::new();
        let elapsed = millis(since_boot());
        let start = START.get_or_init(|| self.now().0.saturating_sub(elapsed));
        Timestamp(start.saturating_add(elapsed))
    }
}

/// Time since the machine started, sleep and suspension included.
fn since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Monotonic;
    let time = clock_gettime(CLOCK);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanos)
}

/// Clocks that move only when told to.
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicI64,
    steady: AtomicI64,
}

impl ManualClock {
    /// Clocks standing at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self { wall: AtomicI64::new(now.0), steady: AtomicI64::new(now.0) }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.steady.fetch_add(millis(by), Ordering::SeqCst);
        self.wall.fetch_add(millis(by), Ordering::SeqCst);
    }

    /// Lets time pass until the wall clock says `now`.
    pub fn set(&self, now: Timestamp) {
        let by = now.0.saturating_sub(self.wall.swap(now.0, Ordering::SeqCst));
        self.steady.fetch_add(by, Ordering::SeqCst);
    }

    /// Sets the wall clock forward, or back, while no time passes.
    pub fn step(&self, millis: i64) {
        self.wall.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.wall.load(Ordering::SeqCst))
    }

    fn steady(&self) -> Timestamp {
        Timestamp(self.steady.load(Ordering::SeqCst))
    }
}

/// An absolute point of elapsed time by which something must have happened. Sleep counts: a machine that
/// was suspended wakes up late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// As timers take it; they stand still while the machine sleeps.
    instant: Instant,
    /// As time since the machine started.
    boot: Duration,
}

impl Deadline {
    /// The deadline `duration` from now.
    pub fn after(duration: Duration) -> Self {
        let now = Instant::now();
        // An absurd duration overflows the monotonic clock: a day is then as good as never.
        let instant = now.checked_add(duration).unwrap_or_else(|| now + Duration::from_secs(86_400));
        Self { instant, boot: since_boot().saturating_add(duration) }
    }

    /// The earlier of this deadline and `duration` from now.
    #[must_use]
    pub fn at_most(self, duration: Duration) -> Self {
        let other = Self::after(duration);
        Self { instant: self.instant.min(other.instant), boot: self.boot.min(other.boot) }
    }

    /// Time left; zero when it has passed.
    pub fn remaining(self) -> Duration {
        let by_timer = self.instant.saturating_duration_since(Instant::now());
        by_timer.min(self.boot.saturating_sub(since_boot()))
    }

    /// Whether it has passed.
    pub fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }

    /// The point as tokio's timer takes it.
    pub fn instant(self) -> Instant {
        self.instant
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_is_read_to_the_millisecond_and_written_in_utc() {
        let instant = Timestamp::parse_rfc3339("2026-01-02T03:04:05.678+01:00").unwrap();
        assert_eq!(instant.to_rfc3339(), "2026-01-02T02:04:05.678Z");
        assert_eq!(
            Timestamp::parse_rfc3339("2026-01-02T03:04:05Z").unwrap().to_rfc3339(),
            "2026-01-02T03:04:05Z"
        );
    }

    #[test]
    fn what_is_not_rfc3339_is_refused() {
        for text in [
            "",
            "2026-01-02",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04Z",
            "1767322800",
            "2026-13-02T03:04:05Z",
            "2026-01-02T03:04:05Z[UTC]",
        ] {
            assert_eq!(Timestamp::parse_rfc3339(text), None, "{text}");
        }
    }
}
