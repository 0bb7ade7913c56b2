//! Work on cards that leaves nothing of them on the stack it ran on.
//!
//! Freed memory is wiped by the allocator; the stack is not. A hash keeps the last block it was given,
//! a moved value its old place, a spilled register its bytes, until something else happens to run as
//! deep on the same thread.

use std::future::poll_fn;
use std::hint::black_box;
use std::ops::{Deref, DerefMut};

use futures_util::future::BoxFuture;

/// More than any step of a request uses: without optimisation its frames are several times as large.
const DEEPEST: usize = if cfg!(debug_assertions) { 64 << 10 } else { 32 << 10 };

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

/// Bytes that are wiped before they are freed, whatever the allocator does: all at once, where `zeroize`
/// writes each by itself. A buffer that grows leaves a copy behind, so it is made large enough.
pub(crate) struct WipedBytes(Vec<u8>);

impl WipedBytes {
    /// Nothing yet, with room for so many.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    fn wipe(&mut self) {
        let all = self.0.capacity();
        self.0.clear();
        self.0.resize(all, 0);
        // Whoever might look sees the zeros: they are written.
        black_box(self.0.as_mut_slice());
    }
}

impl Deref for WipedBytes {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for WipedBytes {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Drop for WipedBytes {
    fn drop(&mut self) {
        self.wipe();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wiped_is_zero_up_to_its_capacity() {
        let mut bytes = WipedBytes::with_capacity(64);
        bytes.extend_from_slice(b"4242424242424242");
        bytes.truncate(4);
        bytes.wipe();
        assert!(bytes.len() >= 64 && bytes.iter().all(|byte| *byte == 0));
    }
}
