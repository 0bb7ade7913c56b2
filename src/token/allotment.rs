//! How many live tokens an agent holds: a count an hour of expiry, so that the record stays small
//! however many there are. A token counts until it is given back or its hour is over.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::crypto::digest::sha256_framed;
use crate::domain::clock::Timestamp;
use crate::domain::id::AgentId;
use crate::records::codec::{Loaded, Stored, Times};
use crate::records::{Batch, Durability, Kind, Purpose, RecordKey, RecordStore, StoreError};

const HOUR_SECONDS: i64 = 3600;
/// How often a count is tried again because another writer was first.
const MAX_ROUNDS: usize = 128;

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
pub struct Allotments(Arc<dyn RecordStore>);

impl Allotments {
    /// The allotments in this store.
    pub fn new(store: Arc<dyn RecordStore>) -> Self {
        Self(store)
    }

    /// Counts one more live token; false, and nothing counted, when `limit` are live.
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
        self.change(agent, now, |tokens| {
            let live: u64 = tokens.by_hour.values().map(|count| u64::from(*count)).sum();
            let fits = live < u64::from(limit);
            if fits {
                *tokens.by_hour.entry(hour(expires_at)).or_default() += 1;
            }
            fits
        })
        .await
    }

    /// Counts one token less. What the store does not take now ends with the token's hour.
    pub async fn give_back(&self, agent: &AgentId, expires_at: Timestamp, now: Timestamp) {
        let changed = self
            .change(agent, now, |tokens| {
                if let Some(count) = tokens.by_hour.get_mut(&hour(expires_at)) {
                    *count = count.saturating_sub(1);
                }
                true
            })
            .await;
        let _: Result<bool, StoreError> = changed;
    }

    async fn change(
        &self,
        agent: &AgentId,
        now: Timestamp,
        mut apply: impl FnMut(&mut LiveTokens) -> bool,
    ) -> Result<bool, StoreError> {
        let key = record_key(agent);
        for _ in 0..MAX_ROUNDS {
            let record = self.0.read(std::slice::from_ref(&key)).await?.pop().flatten();
            let mut loaded: Loaded<LiveTokens> = Loaded::decode(key.clone(), record)?;
            let tokens = loaded.value.get_or_insert_default();
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
            if self.0.commit(batch).await?.is_applied() {
                return Ok(true);
            }
        }
        Err(StoreError::Unavailable)
    }
}

fn hour(at: Timestamp) -> i64 {
    at.unix_seconds().div_euclid(HOUR_SECONDS)
}

fn record_key(agent: &AgentId) -> RecordKey {
    let digest = sha256_framed(&[b"live-tokens", agent.as_str().as_bytes()]);
    let partition = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    RecordKey { kind: Kind::Velocity, partition, name: "live-tokens".to_owned() }
}
