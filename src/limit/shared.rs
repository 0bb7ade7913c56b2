//! Rates that hold across replicas of the gateway: the same GCRA, kept where all of them can ask.
//! The local bucket stays in front as the cheap first gate, and stands alone where the shared one
//! cannot answer: a rate is worth less than an outage. Money is never decided here.

use std::time::Duration;

use super::bucket::{Rate, seconds_up};
use super::{Limited, Quota, Scope};
use crate::records::BoxFuture;

/// A rate as the shared store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedLimit {
    /// Whose: one record each.
    pub name: String,
    /// The time in which one request is earned.
    pub interval: Duration,
    /// Requests in a full bucket.
    pub burst: u32,
}

/// What the shared store decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whether the request was admitted, and charged.
    pub allowed: bool,
    /// Requests that would be admitted now.
    pub remaining: u32,
    /// How long until one would be, when none is.
    pub retry_after: Duration,
}

/// Where shared rates are kept.
pub trait SharedLimits: Send + Sync {
    /// Charges one request; `None` when the store cannot say.
    fn take<'a>(&'a self, limit: &'a SharedLimit) -> BoxFuture<'a, Option<Taken>>;
}

impl SharedLimit {
    pub(super) fn new(scope: Scope, id: &str, rate: Rate) -> Self {
        Self { name: format!("{}/{id}", scope.as_str()), interval: rate.interval(), burst: rate.burst.get() }
    }
}

/// Charges one request of `rate` in the shared store, where there is one.
pub(super) async fn take(
    store: Option<&dyn SharedLimits>,
    scope: Scope,
    id: &str,
    rate: Rate,
) -> Result<Option<Quota>, Limited> {
    let Some(store) = store else { return Ok(None) };
    let Some(taken) = store.take(&SharedLimit::new(scope, id, rate)).await else { return Ok(None) };
    if taken.allowed {
        return Ok(Some(rate.says(scope, taken.remaining, seconds_up(rate.interval()))));
    }
    let wait = seconds_up(taken.retry_after);
    Err(Limited { scope, retry_after_seconds: wait, quota: Some(rate.says(scope, 0, wait)) })
}
