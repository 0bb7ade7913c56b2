//! Changes of primary. Replication is asynchronous: a replica that takes over may lack the last
//! writes that its predecessor acknowledged, and a primary that restarts may have lost its last
//! seconds. So each bucket remembers which process served it last, every new connection compares
//! before anybody uses it, and for a while after a change nobody believes the store about what a
//! session was charged ([`crate::records::RecordStore::may_have_forgotten`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::{Pipeline, RedisResult};

use super::encoding::Bucket;
use super::usable_connection::UsableConnection;
use crate::domain::clock::{Clock, KeptClock, Timestamp};
use crate::storage::{Notice, Notify};

/// Remembers when a primary changed last.
pub(super) struct Primaries {
    clock: Arc<KeptClock>,
    caution: Duration,
    notify: Notify,
    /// Until when the store is not believed: by a clock that nobody sets.
    mistrusted_until: Mutex<Option<Instant>>,
}

impl Primaries {
    pub(super) fn new(clock: Arc<KeptClock>, caution: Duration, notify: Notify) -> Self {
        Self { clock, caution, notify, mistrusted_until: Mutex::default() }
    }

    /// Whether a change is so recent that the store is not believed.
    pub(super) fn may_have_forgotten(&self) -> bool {
        self.mistrusted_until.lock().is_some_and(|until| Instant::now() < until)
    }

    /// A change that was learned of otherwise.
    pub(super) fn changed(&self) {
        self.mistrust_from(self.clock.steady());
    }

    fn mistrust_from(&self, changed_at: Timestamp) {
        // What it says of when an attempt ended may be lost as well.
        self.clock.break_at(changed_at.min(self.clock.steady()));
        let left = changed_at.plus(self.caution).since(self.clock.steady()).min(self.caution);
        let until = Instant::now().checked_add(left).filter(|_| !left.is_zero());
        let mut may_have_forgotten = self.mistrusted_until.lock();
        *may_have_forgotten = (*may_have_forgotten).max(until);
    }

    /// Compares the process at the other end with the one that served each bucket last, and
    /// remembers it.
    pub(super) async fn inspect(&self, live: &UsableConnection, buckets: &[Bucket]) -> RedisResult<()> {
        if buckets.is_empty() {
            return Ok(());
        }
        let mut connection = live.connection.clone();
        let mut reads = Pipeline::with_capacity(buckets.len());
        for bucket in buckets {
            reads.cmd("GET").arg(bucket.primary());
        }
        let known: Vec<Option<String>> = reads.query_async(&mut connection).await?;
        let run_id = live.server.run_id.as_str();
        let mut writes = Pipeline::new();
        let mut change = None;
        for (bucket, known) in buckets.iter().zip(known) {
            let known = known.as_deref().and_then(|text| text.split_once(' '));
            match known {
                Some((known, since)) if known == run_id => {
                    let since = since.parse().map_or(Timestamp::default(), Timestamp::from_unix_millis);
                    self.mistrust_from(since);
                }
                // A new store: it has lost nothing.
                None => {
                    writes.cmd("SET").arg(bucket.primary()).arg(format!("{run_id} 0")).ignore();
                }
                Some(_) => {
                    let at = *change.get_or_insert_with(|| self.clock.steady());
                    let value = format!("{run_id} {}", at.unix_millis());
                    writes.cmd("SET").arg(bucket.primary()).arg(value).ignore();
                }
            }
        }
        if let Some(at) = change {
            self.mistrust_from(at);
            (self.notify)(Notice::PrimaryChanged);
        }
        if writes.is_empty() {
            return Ok(());
        }
        // Without memory it is not noted now, and found again: that errs to caution.
        match writes.query_async(&mut connection).await {
            Err(error) if error.code() == Some("OOM") => Ok(()),
            noted => noted,
        }
    }
}
