//! Places for connections to the operator's listener. When all are taken, the connection that has
//! been quiet the longest gives way: whoever says nothing must not keep a probe from being answered.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// So many places, and who sits there.
pub(super) struct Seats {
    most: usize,
    taken: Mutex<Vec<Arc<Seat>>>,
}

/// One connection's place.
pub(super) struct Seat {
    state: Mutex<State>,
    leave: CancellationToken,
}

enum State {
    /// Waits for a request, or for its answer to be taken.
    Quiet(Instant),
    /// Its request is being answered.
    Busy,
    /// Its place is another's.
    Gone,
}

impl Seats {
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: Mutex::new(Vec::new()) }
    }

    /// A place for a fresh connection; `None` when everybody is being answered.
    pub(super) fn take(&self) -> Option<Arc<Seat>> {
        let mut taken = self.taken.lock();
        if taken.len() >= self.most {
            let oldest = taken
                .iter()
                .enumerate()
                .filter_map(|(at, seat)| Some((seat.quiet_since()?, at)))
                .min_by_key(|(since, _)| *since)
                .map(|(_, at)| at)?;
            // It may have become busy since it was looked at.
            if !taken.get(oldest)?.give_way() {
                return None;
            }
            taken.remove(oldest);
        }
        let state = Mutex::new(State::Quiet(Instant::now()));
        let seat = Arc::new(Seat { state, leave: CancellationToken::new() });
        taken.push(Arc::clone(&seat));
        Some(seat)
    }

    /// The connection has ended.
    pub(super) fn leave(&self, seat: &Arc<Seat>) {
        self.taken.lock().retain(|other| !Arc::ptr_eq(other, seat));
    }
}

impl Seat {
    /// A request has arrived; false when it came too late and nothing may begin.
    pub(super) fn begin(&self) -> bool {
        let mut state = self.state.lock();
        match *state {
            State::Quiet(_) | State::Busy => {
                *state = State::Busy;
                true
            }
            State::Gone => false,
        }
    }

    /// The answer is there.
    pub(super) fn end(&self) {
        *self.state.lock() = State::Quiet(Instant::now());
    }

    /// Completes when the place has been given to another.
    pub(super) async fn lost(&self) {
        self.leave.cancelled().await;
    }

    fn quiet_since(&self) -> Option<Instant> {
        match *self.state.lock() {
            State::Quiet(since) => Some(since),
            State::Busy | State::Gone => None,
        }
    }

    fn give_way(&self) -> bool {
        let mut state = self.state.lock();
        match *state {
            State::Quiet(_) => {
                *state = State::Gone;
                self.leave.cancel();
                true
            }
            State::Busy | State::Gone => false,
        }
    }
}
