//! Towards merchants: one pooled client each, requests countersigned, answers bounded, read by the
//! outcome table and cleaned before an agent sees them.

mod envelope;
mod exchange;
mod outbound;
mod outcome;

use std::time::Duration;

pub use exchange::{Answer, Exchange, Lost, NotSent};
pub use outbound::{CompleteContext, Context, Outbound, Passing, Proof};
pub use outcome::{
    CompleteReading, Outcome, SessionReading, SessionView, Standing, read_complete, read_session,
    read_session_body,
};

/// What is the same for every merchant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The largest answer, in bytes, as sent and decoded alike. Default 1 MiB: the largest session
    /// of the official examples is below 40 kB.
    pub max_answer_bytes: usize,
    /// Idle connections kept a merchant. Default 64: as many as one merchant's usual concurrency.
    pub pool_max_idle: usize,
    /// HTTP/2: a ping is sent on a connection in use after this long without a frame, and the
    /// connection is given up when it is not answered in time. Default 20 s: below the usual total
    /// deadline, so that one dead connection does not fail request after request.
    pub http2_ping: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_answer_bytes: 1 << 20, pool_max_idle: 64, http2_ping: Duration::from_secs(20) }
    }
}
