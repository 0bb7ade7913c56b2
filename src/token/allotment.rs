//! How many live tokens an agent holds.
//!
//! A count an hour of expiry, so that the record stays small however many there are. A token counts until
//! it is given back or its hour is over.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::RwLock;

use crate::crypto::digest::{hexadecimal, sha256_framed};
use crate::domain::clock::Timestamp;
use crate::domain::id::AgentId;
use crate::records::codec::{Loaded, Stored, Times};
use crate::records::{Batch, Committed, Durability, Kind, Purpose, RecordKey, RecordStore, StoreError};

const NAME: &str = "live-tokens";
const HOUR_SECONDS: i64 = 3600;
/// How often a count is tried again because another writer was first.
const MAX_ROUNDS: usize = 128;
/// How long what is given back waits for more, or for the agent's next mint, which takes it along. So
/// long may other replicas count too many; and so much a crash may forget.
const GATHER: Duration = Duration::from_secs(1);
/// Agents whose counts are written together: few, because who commits meanwhile waits for them.
const WRITTEN_AT_ONCE: usize = 64;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct LiveTokens {
    /// Hour of expiry (since the epoch) to tokens that expire in it.
    by_hour: BTreeMap<i64, u32>,
}

impl LiveTokens {
    fn take_off(&mut self, returned: &Returned, now: Timestamp) {
        for (hour, returned) in returned {
            if let Some(count) = self.by_hour.get_mut(hour) {
                *count = count.saturating_sub(*returned);
            }
        }
        self.by_hour.retain(|expiry, count| *expiry >= hour(now) && *count > 0);
    }

    fn times(&self, now: Timestamp) -> Times {
        let last = self.by_hour.keys().next_back().copied().unwrap_or_else(|| hour(now));
        let end = Timestamp::from_unix_seconds(last.saturating_add(1).saturating_mul(HOUR_SECONDS));
        Times { expires_at: Some(end), due: None }
    }
}

impl Stored for LiveTokens {
    const KIND: Kind = Kind::Velocity;
    const FORMAT: u8 = 1;
}

/// Tokens of one agent that are live no more, by hour of expiry.
type Returned = BTreeMap<i64, u32>;

/// The allotments of one store.
pub struct Allotments(Arc<Shared>);

struct Shared {
    store: Arc<dyn RecordStore>,
    given_back: Mutex<GivenBack>,
    /// Held for reading by whoever writes it later, so that the end can wait for them.
    writing: RwLock<()>,
}

/// What was given back and is not written yet.
#[derive(Default)]
struct GivenBack {
    by_agent: HashMap<AgentId, Returned>,
    /// When that was, the last of it.
    now: Timestamp,
    /// Whether a task will write it.
    is_awaited: bool,
}

impl GivenBack {
    fn add(&mut self, agent: AgentId, returned: Returned) {
        let waiting = self.by_agent.entry(agent).or_default();
        returned.into_iter().for_each(|(hour, count)| *waiting.entry(hour).or_default() += count);
    }
}

impl Allotments {
    /// The allotments in this store.
    pub fn new(store: Arc<dyn RecordStore>) -> Self {
        Self(Arc::new(Shared { store, given_back: Mutex::default(), writing: RwLock::default() }))
    }

    /// Writes at once what was given back, and waits for whoever is writing it: nothing follows. What
    /// the store does not take now ends with its hour.
    pub async fn finish(&self, now: Timestamp) {
        let _all = self.0.writing.write().await;
        self.0.write_returned(now).await;
    }

    /// Counts one more live token; false, and nothing counted, when `limit` are live. What was given
    /// back here counts no more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reserve(
        &self,
        agent: &AgentId,
        expires_at: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let returned = self.0.given_back.lock().by_agent.remove(agent).unwrap_or_default();
        let fits = self.0.change(agent, now, &returned, |tokens| {
            let live: u64 = tokens.by_hour.values().map(|count| u64::from(*count)).sum();
            let fits = live < u64::from(limit);
            if fits {
                *tokens.by_hour.entry(hour(expires_at)).or_default() += 1;
            }
            fits
        });
        let fits = fits.await;
        // After an error it is not known whether they are off.
        if fits == Ok(false) && !returned.is_empty() {
            self.return_later(agent, returned, now);
        }
        fits
    }

    /// Counts one token less, a moment later and together with others: nobody waits for it. What the
    /// store does not take then, or a crash forgets, ends with the token's hour.
    pub fn release(&self, agent: &AgentId, expires_at: Timestamp, now: Timestamp) {
        self.return_later(agent, BTreeMap::from([(hour(expires_at), 1)]), now);
    }

    fn return_later(&self, agent: &AgentId, returned: Returned, now: Timestamp) {
        let mut given_back = self.0.given_back.lock();
        given_back.add(agent.clone(), returned);
        given_back.now = now;
        if std::mem::replace(&mut given_back.is_awaited, true) {
            return;
        }
        // A store that is to be closed meanwhile is not held open for this.
        let shared = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(GATHER).await;
                let Some(shared) = shared.upgrade() else { return };
                let _writing = shared.writing.read().await;
                let now = shared.given_back.lock().now;
                shared.write_returned(now).await;
                let mut given_back = shared.given_back.lock();
                given_back.is_awaited = !given_back.by_agent.is_empty();
                if !given_back.is_awaited {
                    return;
                }
            }
        });
    }
}

impl Shared {
    /// Takes off what was given back, of every agent once. Stops where the store takes nothing; what
    /// certainly was not taken off still waits after that.
    async fn write_returned(&self, now: Timestamp) {
        let agents: Vec<AgentId> = self.given_back.lock().by_agent.keys().cloned().collect();
        for agents in agents.chunks(WRITTEN_AT_ONCE) {
            // No sooner than they are written: a mint meanwhile takes along what waits here.
            let portion: Vec<(AgentId, Returned)> = {
                let mut given_back = self.given_back.lock();
                agents.iter().filter_map(|agent| given_back.by_agent.remove_entry(agent)).collect()
            };
            if portion.is_empty() {
                continue;
            }
            let written = self.write_portion(&portion, now).await;
            let takes_some = written.iter().any(|written| !is_refusal(*written));
            let mut given_back = self.given_back.lock();
            for ((agent, returned), written) in portion.into_iter().zip(written) {
                if is_refusal(written) {
                    given_back.add(agent, returned);
                }
            }
            drop(given_back);
            if !takes_some {
                return;
            }
        }
    }

    /// Takes off what was given back of these agents, at once where the store can.
    async fn write_portion(
        &self,
        portion: &[(AgentId, Returned)],
        now: Timestamp,
    ) -> Vec<Result<(), StoreError>> {
        if self.store.joins_partitions() {
            match self.change_together(portion, now).await {
                Ok(Committed::Applied(_)) => return vec![Ok(()); portion.len()],
                // What is wrong with one of them is no reason not to write the others.
                Ok(Committed::Conflict) | Err(StoreError::Corrupt) => {}
                Err(error) => return vec![Err(error); portion.len()],
            }
        }
        let each = portion
            .iter()
            .map(async |(agent, returned)| self.change(agent, now, returned, |_| true).await.map(drop));
        join_all(each).await
    }

    /// Takes off what was given back of several agents at once.
    async fn change_together(
        &self,
        portion: &[(AgentId, Returned)],
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let keys: Vec<RecordKey> = portion.iter().map(|(agent, _)| record_key(agent)).collect();
        let records = self.store.read(&keys).await?;
        let (mut expect, mut writes) = (Vec::with_capacity(keys.len()), Vec::with_capacity(keys.len()));
        for ((key, record), (_, returned)) in keys.into_iter().zip(records).zip(portion) {
            let mut loaded: Loaded<LiveTokens> = Loaded::decode(key, record)?;
            loaded.value.get_or_insert_default().take_off(returned, now);
            expect.push(loaded.expectation());
            writes.extend(loaded.change(|tokens| tokens.times(now))?);
        }
        let durability = Durability::Applied;
        self.store.commit(Batch { expect, writes, durability, purpose: Purpose::Finish }).await
    }

    /// Takes off what was given back, lets `apply` look at what is left, and writes it unless that
    /// says no.
    async fn change(
        &self,
        agent: &AgentId,
        now: Timestamp,
        returned: &Returned,
        mut apply: impl FnMut(&mut LiveTokens) -> bool,
    ) -> Result<bool, StoreError> {
        let key = record_key(agent);
        for _ in 0..MAX_ROUNDS {
            let record = self.store.read(std::slice::from_ref(&key)).await?.pop().flatten();
            let mut loaded: Loaded<LiveTokens> = Loaded::decode(key.clone(), record)?;
            let tokens = loaded.value.get_or_insert_default();
            tokens.take_off(returned, now);
            if !apply(tokens) {
                return Ok(false);
            }
            let Some(write) = loaded.change(|tokens| tokens.times(now))? else { return Ok(true) };
            let batch = Batch {
                expect: vec![loaded.expectation()],
                writes: vec![write],
                durability: Durability::Applied,
                purpose: Purpose::Finish,
            };
            if self.store.commit(batch).await?.is_applied() {
                return Ok(true);
            }
        }
        Err(StoreError::Unavailable)
    }
}

/// Whether a store that could do so another time has certainly not written something.
fn is_refusal(written: Result<(), StoreError>) -> bool {
    match written {
        Err(StoreError::Unavailable | StoreError::NoSpace | StoreError::Changed) => true,
        Ok(()) | Err(StoreError::Unacknowledged | StoreError::Corrupt) => false,
    }
}

/// Whether an allotment is readable; `None` for a record of another use.
pub fn is_readable(key: &RecordKey, bytes: &[u8]) -> Option<bool> {
    (key.name() == NAME).then(|| crate::records::codec::decode::<LiveTokens>(bytes).is_ok())
}

fn hour(at: Timestamp) -> i64 {
    at.unix_seconds().div_euclid(HOUR_SECONDS)
}

fn record_key(agent: &AgentId) -> RecordKey {
    let digest = sha256_framed(&[NAME.as_bytes(), agent.as_str().as_bytes()]);
    RecordKey::new(Kind::Velocity, &hexadecimal(&digest), NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::ManualClock;
    use crate::records::memory::MemoryStore;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

    #[tokio::test]
    async fn what_a_store_refuses_waits_and_is_written_once_it_takes_it() {
        let store = Arc::new(MemoryStore::new(Arc::new(ManualClock::new(NOW))));
        let allotments = Allotments::new(store.clone());
        let agents: Vec<AgentId> = (0..200).map(|n| AgentId::parse(&format!("agent-{n}")).unwrap()).collect();
        let end = NOW.plus(Duration::from_secs(600));
        for agent in &agents {
            assert_eq!(allotments.reserve(agent, end, 1, NOW).await, Ok(true));
        }
        let taken = store.commits();
        agents.iter().for_each(|agent| allotments.release(agent, end, NOW));
        store.fail(Some(StoreError::Unavailable));
        allotments.finish(NOW).await;
        assert_eq!(allotments.0.given_back.lock().by_agent.len(), agents.len());
        store.fail(None);
        allotments.finish(NOW).await;
        assert_eq!(usize::try_from(store.commits() - taken).unwrap(), agents.len());
        for agent in &agents {
            assert_eq!(allotments.reserve(agent, end, 1, NOW).await, Ok(true), "{agent}");
        }
    }

    #[tokio::test]
    async fn nothing_is_taken_off_twice_after_a_commit_that_was_not_acknowledged() {
        let store = Arc::new(MemoryStore::new(Arc::new(ManualClock::new(NOW))));
        let allotments = Allotments::new(store.clone());
        let agent = AgentId::parse("agent").unwrap();
        let end = NOW.plus(Duration::from_secs(600));
        assert_eq!(allotments.reserve(&agent, end, 1, NOW).await, Ok(true));
        allotments.release(&agent, end, NOW);
        store.fail(Some(StoreError::Unacknowledged));
        allotments.finish(NOW).await;
        assert!(allotments.0.given_back.lock().by_agent.is_empty());
    }
}
