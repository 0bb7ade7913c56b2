//! The queue before the writer: bounded, and woken once for many. Apart because how long a commit
//! waits to share a sync is decided here and nowhere else.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// A group of so many is a large one: the store is near what it can do, and to share a sync matters
/// more than to begin it early.
const LARGE: usize = 8;
/// Of the gathering window, how long nothing must arrive before the writer stops waiting: after a
/// group of several, and after a large one.
const QUIET_PARTS: [u32; 2] = [32, 4];
/// An idle spell this many windows long ends a busy spell: whoever comes next does not wait.
const IDLE_WINDOWS: u32 = 2;

/// Requests for the writer, oldest first.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
    bound: usize,
    window: Duration,
}

struct State<T> {
    items: Vec<T>,
    /// The writer sleeps until something arrives. While it gathers it sleeps by the clock, so that
    /// each arrival does not cost a wake-up.
    idle: bool,
    open: bool,
    /// How many the last group held: after more than one it is worth waiting for more.
    last: usize,
}

/// What the writer got.
pub(super) enum Taken<T> {
    /// Everything that waited; empty when nothing came in time.
    Some(Vec<T>),
    /// Nothing, and nothing will come: the queue is closed and drained.
    Closed,
}

impl<T> Queue<T> {
    /// A queue for at most `bound` requests, gathered for at most `window`.
    pub(super) fn new(bound: usize, window: Duration) -> Self {
        let state = State { items: Vec::new(), idle: false, open: true, last: 0 };
        Self { state: Mutex::new(state), arrived: Condvar::new(), bound, window }
    }

    /// Adds a request, or drops it and answers `false` when the queue is full or closed.
    pub(super) fn push(&self, item: T) -> bool {
        let mut state = self.state.lock();
        if !state.open || state.items.len() >= self.bound {
            return false;
        }
        state.items.push(item);
        let wake = std::mem::take(&mut state.idle);
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
        true
    }

    /// Takes all that waits, after waiting at most `patience` for the first. One request alone is
    /// taken at once; where the last group held several, more is waited for while more arrives.
    pub(super) fn take(&self, patience: Duration) -> Taken<T> {
        let began = Instant::now();
        let mut state = self.state.lock();
        let deadline = began + patience;
        while state.items.is_empty() && state.open {
            state.idle = true;
            let timed_out = self.arrived.wait_until(&mut state, deadline).timed_out();
            state.idle = false;
            if timed_out {
                break;
            }
        }
        if state.items.is_empty() {
            return if state.open { Taken::Some(Vec::new()) } else { Taken::Closed };
        }
        if began.elapsed() > self.window * IDLE_WINDOWS {
            state.last = 0;
        }
        if state.last > 1 {
            let [several, large] = QUIET_PARTS;
            let quiet = self.window / if state.last < LARGE { several } else { large };
            let until = Instant::now() + self.window;
            while state.open {
                let before = state.items.len();
                self.arrived.wait_until(&mut state, until.min(Instant::now() + quiet));
                if state.items.len() == before || Instant::now() >= until {
                    break;
                }
            }
        }
        state.last = state.items.len();
        Taken::Some(std::mem::take(&mut state.items))
    }

    /// Takes nothing more; what waits is still handed out.
    pub(super) fn close(&self) {
        self.state.lock().open = false;
        self.arrived.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(queue: &Queue<u8>) -> Vec<u8> {
        match queue.take(Duration::ZERO) {
            Taken::Some(items) => items,
            Taken::Closed => panic!("closed"),
        }
    }

    #[test]
    fn requests_come_out_in_order_and_no_more_than_the_bound_wait() {
        let queue = Queue::new(2, Duration::ZERO);
        assert!(queue.push(1) && queue.push(2) && !queue.push(3));
        assert_eq!(taken(&queue), [1, 2]);
        assert!(taken(&queue).is_empty());
    }

    #[test]
    fn a_closed_queue_hands_out_what_waits_and_takes_no_more() {
        let queue = Queue::new(2, Duration::ZERO);
        queue.push(1);
        queue.close();
        assert!(!queue.push(2));
        assert_eq!(taken(&queue), [1]);
        assert!(matches!(queue.take(Duration::from_secs(60)), Taken::Closed));
    }

    #[test]
    fn a_request_alone_never_waits_for_others() {
        let queue = Queue::new(2, Duration::from_secs(3600));
        queue.push(1);
        assert_eq!(taken(&queue), [1]);
        queue.push(2);
        assert_eq!(taken(&queue), [2]);
    }

    #[test]
    fn after_a_group_of_several_the_writer_waits_only_until_nothing_more_arrives() {
        let queue = Queue::new(8, Duration::from_millis(32));
        queue.push(1);
        queue.push(2);
        assert_eq!(taken(&queue), [1, 2]);
        queue.push(3);
        let began = Instant::now();
        assert_eq!(taken(&queue), [3]);
        assert!(began.elapsed() >= Duration::from_millis(1));
    }

    #[test]
    fn after_a_large_group_it_waits_longer() {
        let queue = Queue::new(LARGE, Duration::from_millis(16));
        (0..8).for_each(|item| assert!(queue.push(item)));
        assert_eq!(taken(&queue).len(), LARGE);
        queue.push(8);
        let began = Instant::now();
        assert_eq!(taken(&queue), [8]);
        assert!(began.elapsed() >= Duration::from_millis(4));
    }
}
