//! Work on cards that leaves nothing of them on the stack it ran on.
//!
//! Freed memory is wiped by the allocator; the stack is not. A hash keeps the last block it was given,
//! a moved value its old place, a spilled register its bytes, until something else happens to run as
//! deep on the same thread.

use std::future::poll_fn;
use std::hint::black_box;

use futures_util::future::BoxFuture;

/// More than any step of a request uses, with no optimisation at all.
const DEEPEST: usize = 64 << 10;

/// The same work, but after each of its steps the part of the stack it ran on is overwritten.
pub(crate) fn wiping_stack<'a, T: 'a>(work: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
    let mut work = Box::pin(work);
    Box::pin(poll_fn(move |context| {
        let polled = work.as_mut().poll(context);
        // Called from where the step was, so that it begins no deeper than the step did.
        overwrite_below();
        polled
    }))
}

/// Its own frame is what it overwrites, so it may not become part of its caller's.
#[inline(never)]
fn overwrite_below() {
    black_box(&mut [0_u8; DEEPEST]);
}
