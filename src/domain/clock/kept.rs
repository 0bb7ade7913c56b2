//! The clock the gateway goes by: the system's, or a store's server's, doubted. A wall clock that was
//! just set is believed only once it has stood for a while; meanwhile, and for spans always, the clock
//! that nobody can set goes on.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Clock, Reading, Timestamp, millis};

/// A clock that is further from what it was than this has been set; less is a correction.
const MOST_DRIFT: i64 = 2_000;
/// A clock that was set is believed when it has stood for so long.
const STANDS: i64 = 10_000;
/// Something is deleted by a clock only when it has stood for so long.
const STANDS_LONG: i64 = 3_600_000;
/// Moves remembered until somebody tells of them.
const MOST_UNTOLD: usize = 8;

/// Whose clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This machine's.
    Ours,
    /// That of the store's server.
    Store,
}

impl Whose {
    /// The name in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Store => "store",
        }
    }
}

/// A clock that was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Whose.
    pub whose: Whose,
    /// How far, in milliseconds: negative for back.
    pub by: i64,
}

/// The three clocks of [`Clock`] in one, over the system's and, where the store has a server, over its.
pub struct KeptClock {
    ours: Arc<dyn Clock>,
    state: Mutex<State>,
}

/// All in milliseconds; offsets are against the system's steady clock.
struct State {
    /// Of the wall clock that is believed.
    believed: i64,
    /// Since when it stands there.
    stood_since: i64,
    /// Of a wall clock that was set, and since when.
    doubted: Option<(i64, i64)>,
    /// Of our own wall clock, when it was looked at last.
    ours: i64,
    /// Of the server's clock; spans go by it too, so that replicas agree about them.
    server: Option<i64>,
    /// What the store has agreed on, when `agreed_at`: later than no clock that stood for long.
    agreed: Option<i64>,
    agreed_at: i64,
    /// See [`Clock::unbroken_since`].
    unbroken_since: Timestamp,
    jumped_at: Option<Timestamp>,
    untold: Vec<Moved>,
}

/// What the clocks beneath say at one moment.
struct Beneath {
    /// The wall clock that counts, as it is.
    wall: i64,
    believed: i64,
    steady: i64,
    agreed: Option<i64>,
}

impl Beneath {
    fn latest(&self) -> Timestamp {
        let Self { wall, believed, agreed, .. } = self;
        Timestamp(*wall.max(believed).max(&agreed.unwrap_or(i64::MIN)))
    }

    fn earliest(&self) -> Timestamp {
        let Self { wall, believed, agreed, .. } = self;
        // Zero rather than the least there is: spans are reckoned from it.
        Timestamp(agreed.map_or(0, |agreed| *wall.min(believed).min(&agreed)))
    }
}

impl KeptClock {
    /// Over these clocks. Nothing is past for [`Clock::earliest`] before [`Self::agree`].
    pub fn new(ours: Arc<dyn Clock>) -> Self {
        let steady = ours.steady();
        let offset = ours.now().0.saturating_sub(steady.0);
        let state = State {
            believed: offset,
            stood_since: steady.0,
            doubted: None,
            ours: offset,
            server: None,
            agreed: None,
            agreed_at: steady.0,
            unbroken_since: steady,
            jumped_at: None,
            untold: Vec::new(),
        };
        Self { ours, state: Mutex::new(state) }
    }

    /// Takes up the latest instant that the store had agreed on; a store without one begins with now.
    pub fn agree(&self, known: Option<Timestamp>) {
        let believed = self.read().believed;
        let mut state = self.state.lock();
        state.agreed = Some(known.map_or(believed, |known| known.0));
        state.agreed_at = self.ours.steady().0;
    }

    /// The store's server said `theirs` in an answer to a question sent when [`Clock::steady`] of our
    /// own clocks was `asked`. From now on all replicas go by the server's clock.
    pub fn set_by_server(&self, theirs: Timestamp, asked: Timestamp) {
        let answered = self.ours.steady();
        let half = millis(answered.since(asked)) / 2;
        let offset = theirs.0.saturating_add(half).saturating_sub(answered.0);
        let mut state = self.state.lock();
        let before = state.server.replace(offset);
        let now = Timestamp(answered.0.saturating_add(offset));
        match before {
            // What the server says first is taken from the start, as our own clock is.
            None => {
                (state.believed, state.doubted, state.stood_since) = (offset, None, answered.0);
                state.unbroken_since = now;
            }
            Some(before) if offset.abs_diff(before) > MOST_DRIFT.unsigned_abs() => {
                state.jumped_at = Some(now);
                state.unbroken_since = now;
                state.tell(Whose::Store, offset.saturating_sub(before));
            }
            Some(_) => {}
        }
    }

    /// How our steady clock stands: when a question to the server is asked.
    pub fn asking(&self) -> Timestamp {
        self.ours.steady()
    }

    /// Spans of before `at` are no longer known: what they rest on may be lost.
    pub fn break_at(&self, at: Timestamp) {
        let mut state = self.state.lock();
        state.unbroken_since = state.unbroken_since.max(at);
    }

    fn read(&self) -> Beneath {
        let mut state = self.state.lock();
        let (wall, steady) = (self.ours.now().0, self.ours.steady().0);
        state.look(wall, steady)
    }
}

impl State {
    fn look(&mut self, our_wall: i64, steady: i64) -> Beneath {
        let ours = our_wall.saturating_sub(steady);
        if ours.abs_diff(self.ours) > MOST_DRIFT.unsigned_abs() {
            self.tell(Whose::Ours, ours.saturating_sub(self.ours));
        }
        self.ours = ours;
        let offset = self.server.unwrap_or(ours);
        self.believe(offset, steady);
        let believed = steady.saturating_add(self.believed);
        self.move_agreed(believed, steady);
        Beneath {
            wall: steady.saturating_add(offset),
            believed,
            steady: steady.saturating_add(self.server.unwrap_or(0)),
            agreed: self.agreed,
        }
    }

    fn believe(&mut self, offset: i64, steady: i64) {
        let is_near = |other: i64| offset.abs_diff(other) <= MOST_DRIFT.unsigned_abs();
        if is_near(self.believed) {
            (self.believed, self.doubted) = (offset, None);
            return;
        }
        let since = self.doubted.filter(|(doubted, _)| is_near(*doubted)).map_or(steady, |(_, since)| since);
        self.doubted = Some((offset, since));
        if steady.saturating_sub(since) >= STANDS {
            (self.believed, self.stood_since, self.doubted) = (offset, since, None);
        }
    }

    /// It goes on with elapsed time until the wall clock has stood for long: then it follows one that
    /// is ahead, and waits for one that is behind.
    fn move_agreed(&mut self, believed: i64, steady: i64) {
        let elapsed = steady.saturating_sub(self.agreed_at).max(0);
        self.agreed_at = steady;
        let stands_long = self.doubted.is_none() && steady.saturating_sub(self.stood_since) >= STANDS_LONG;
        self.agreed = self
            .agreed
            .map(|agreed| if stands_long { agreed.max(believed) } else { agreed.saturating_add(elapsed) });
    }

    fn tell(&mut self, whose: Whose, by: i64) {
        if self.untold.len() < MOST_UNTOLD {
            self.untold.push(Moved { whose, by });
        }
    }
}

impl Clock for KeptClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.read().believed)
    }

    fn steady(&self) -> Timestamp {
        Timestamp(self.read().steady)
    }

    fn latest(&self) -> Timestamp {
        self.read().latest()
    }

    fn earliest(&self) -> Timestamp {
        self.read().earliest()
    }

    fn unbroken_since(&self) -> Timestamp {
        self.state.lock().unbroken_since
    }

    fn jumped_at(&self) -> Option<Timestamp> {
        self.state.lock().jumped_at
    }

    fn reading(&self) -> Reading {
        let mut state = self.state.lock();
        let (wall, steady) = (self.ours.now().0, self.ours.steady().0);
        let beneath = state.look(wall, steady);
        Reading {
            steady: Timestamp(beneath.steady),
            latest: beneath.latest(),
            earliest: beneath.earliest(),
            unbroken_since: state.unbroken_since,
            jumped_at: state.jumped_at,
        }
    }

    fn agreed(&self) -> Option<Timestamp> {
        self.read().agreed.map(Timestamp)
    }

    fn moved(&self) -> Vec<Moved> {
        let _ = self.read();
        std::mem::take(&mut self.state.lock().untold)
    }
}

#[cfg(test)]
mod tests;
