//! How many live tokens an agent holds: a count an hour of expiry, so that the record stays small
//! however many there are. A token counts until it is given back or its hour is over.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::RwLock;

use crate::crypto::digest::{hexadecimal, sha256_framed};
use crate::domain::clock::Timestamp;
use crate::domain::id::AgentId;
use crate::records::codec::{Loaded, Stored, Times};
use crate::records::{Batch, Durability, Kind, Purpose, RecordKey, RecordStore, StoreError};

const NAME: &str = "live-tokens";
const HOUR_SECONDS: i64 = 3600;
/// How often a count is tried again because another writer was first.
const MAX_ROUNDS: usize = 128;
/// How long what is given back waits for more of the same agent, or for its next mint, which takes it
/// along. So long may other replicas count too many; and so much a crash may forget.
const GATHER: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct LiveTokens {
    /// Hour of expiry (since the epoch) to tokens that expire in it.
    by_hour: BTreeMap<i64, u32>,
}

impl Stored for LiveTokens {
    const KIND: Kind = Kind::Velocity;
    const FORMAT: u8 = 1;
}

/// The allotments of one store.
pub struct Allotments(Arc<Shared>);

struct Shared {
    store: Arc<dyn RecordStore>,
    /// What was given back and is not written yet: for each agent, by hour of expiry.
    given_back: Mutex<HashMap<AgentId, BTreeMap<i64, u32>>>,
    /// Held for reading by whoever writes it later, so that the end can wait for them.
    writing: RwLock<()>,
}

impl Allotments {
    /// The allotments in this store.
    pub fn new(store: Arc<dyn RecordStore>) -> Self {
        Self(Arc::new(Shared { store, given_back: Mutex::default(), writing: RwLock::default() }))
    }

    /// Writes at once what was given back, and waits for whoever is writing it: nothing follows.
    pub async fn finish(&self, now: Timestamp) {
        let _all = self.0.writing.write().await;
        let given_back = std::mem::take(&mut *self.0.given_back.lock());
        for (agent, returned) in given_back {
            // A store that does not take one takes none: the rest ends with its hour.
            if self.0.change(&agent, now, &returned, |_| true).await.is_err() {
                return;
            }
        }
    }

    /// Counts one more live token; false, and nothing counted, when `limit` are live. What was given
    /// back here counts no more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take(
        &self,
        agent: &AgentId,
        expires_at: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let returned = self.0.given_back.lock().remove(agent).unwrap_or_default();
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
        if fits == Ok(false) {
            self.return_later(agent, &returned, now);
        }
        fits
    }

    /// Counts one token less, a moment later and together with others of the agent: nobody waits for
    /// it. What the store does not take then, or a crash forgets, ends with the token's hour.
    pub fn give_back(&self, agent: &AgentId, expires_at: Timestamp, now: Timestamp) {
        self.return_later(agent, &BTreeMap::from([(hour(expires_at), 1)]), now);
    }

    fn return_later(&self, agent: &AgentId, returned: &BTreeMap<i64, u32>, now: Timestamp) {
        if returned.is_empty() {
            return;
        }
        let mut given_back = self.0.given_back.lock();
        let is_first = !given_back.contains_key(agent);
        let waiting = given_back.entry(agent.clone()).or_default();
        for (hour, count) in returned {
            *waiting.entry(*hour).or_default() += count;
        }
        if is_first {
            // A store that is to be closed meanwhile is not held open for this.
            let (shared, agent) = (Arc::downgrade(&self.0), agent.clone());
            tokio::spawn(async move {
                tokio::time::sleep(GATHER).await;
                let Some(shared) = shared.upgrade() else { return };
                let _writing = shared.writing.read().await;
                let Some(returned) = shared.given_back.lock().remove(&agent) else { return };
                let _: Result<bool, StoreError> = shared.change(&agent, now, &returned, |_| true).await;
            });
        }
    }
}

impl Shared {
    /// Takes off what was given back, lets `apply` look at what is left, and writes it unless that
    /// says no.
    async fn change(
        &self,
        agent: &AgentId,
        now: Timestamp,
        returned: &BTreeMap<i64, u32>,
        mut apply: impl FnMut(&mut LiveTokens) -> bool,
    ) -> Result<bool, StoreError> {
        let key = record_key(agent);
        for _ in 0..MAX_ROUNDS {
            let record = self.store.read(std::slice::from_ref(&key)).await?.pop().flatten();
            let mut loaded: Loaded<LiveTokens> = Loaded::decode(key.clone(), record)?;
            let tokens = loaded.value.get_or_insert_default();
            for (hour, returned) in returned {
                if let Some(count) = tokens.by_hour.get_mut(hour) {
                    *count = count.saturating_sub(*returned);
                }
            }
            tokens.by_hour.retain(|expiry, count| *expiry >= hour(now) && *count > 0);
            if !apply(tokens) {
                return Ok(false);
            }
            let last = tokens.by_hour.keys().next_back().copied().unwrap_or_else(|| hour(now));
            let end = Timestamp::from_unix_seconds(last.saturating_add(1).saturating_mul(HOUR_SECONDS));
            let Some(write) = loaded.change(|_| Times { expires_at: Some(end), due: None })? else {
                return Ok(true);
            };
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

/// Whether an allotment is readable; `None` for a record of another use.
pub fn is_readable(key: &RecordKey, bytes: &[u8]) -> Option<bool> {
    (key.name == NAME).then(|| crate::records::codec::decode::<LiveTokens>(bytes).is_ok())
}

fn hour(at: Timestamp) -> i64 {
    at.unix_seconds().div_euclid(HOUR_SECONDS)
}

fn record_key(agent: &AgentId) -> RecordKey {
    let digest = sha256_framed(&[NAME.as_bytes(), agent.as_str().as_bytes()]);
    let partition = hexadecimal(&digest);
    RecordKey { kind: Kind::Velocity, partition, name: NAME.to_owned() }
}
