//! Where reading a time index starts. Apart because it is a shortcut that must never skip an entry.
//!
//! What was deleted at the head of an index leaves tombstones there until the database compacts
//! them away; a scan from the beginning of time would walk over all of them each time.

use parking_lot::Mutex;

use crate::domain::clock::Timestamp;

/// No entry of an index stands before this instant, as far as anyone can see.
pub(super) struct LowWaterMark {
    state: Mutex<State>,
    // One scan at a time: each forgets what was added before it began.
    scanning: Mutex<()>,
}

struct State {
    floor: Timestamp,
    /// The earliest entry added since the scan under way began.
    added: Timestamp,
}

const BEGINNING: Timestamp = Timestamp::from_unix_millis(i64::MIN);
const END: Timestamp = Timestamp::from_unix_millis(i64::MAX);

impl LowWaterMark {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        let state = State { floor: BEGINNING, added: END };
        Self { state: Mutex::new(state), scanning: Mutex::new(()) }
    }

    /// An entry at `at` is visible now. To be called after it became so: a scan that begins later
    /// sees it, and one that began earlier does not raise the floor above it.
    pub(super) fn added(&self, at: Timestamp) {
        let mut state = self.state.lock();
        state.floor = state.floor.min(at);
        state.added = state.added.min(at);
    }

    /// Runs a scan, which gets where to start and answers its result and the instant before which
    /// it saw no entry.
    pub(super) fn scan<R, E>(
        &self,
        scan: impl FnOnce(Timestamp) -> Result<(R, Timestamp), E>,
    ) -> Result<R, E> {
        let _one_at_a_time = self.scanning.lock();
        let from = {
            let mut state = self.state.lock();
            state.added = END;
            state.floor
        };
        let (result, clear_until) = scan(from)?;
        let mut state = self.state.lock();
        state.floor = clear_until.min(state.added);
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_unix_millis(millis)
    }

    fn start(floor: &LowWaterMark) -> Timestamp {
        floor.scan(|from| Ok::<_, ()>((from, from))).unwrap()
    }

    #[test]
    fn the_floor_rises_to_what_a_scan_found_empty() {
        let floor = LowWaterMark::new();
        assert_eq!(start(&floor), BEGINNING);
        floor.scan(|_| Ok::<_, ()>(((), at(10)))).unwrap();
        assert_eq!(start(&floor), at(10));
    }

    #[test]
    fn an_entry_added_before_or_during_a_scan_is_never_skipped() {
        let floor = LowWaterMark::new();
        floor.scan(|_| Ok::<_, ()>(((), at(10)))).unwrap();
        floor.added(at(5));
        assert_eq!(start(&floor), at(5));
        floor
            .scan(|_| {
                floor.added(at(7));
                Ok::<_, ()>(((), at(20)))
            })
            .unwrap();
        assert_eq!(start(&floor), at(7));
    }
}
