//! The ledger: session, token and key record of one partition, read together, decided on by a pure
//! function, and written together or not at all.

use std::sync::Arc;

use super::{PaymentToken, record_key, times};
use crate::domain::allowance::Allowance;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::id::{MerchantId, SessionId, TokenId};
pub use crate::domain::session::Present;
use crate::domain::session::{Session, SessionKind};
use crate::idempotency::{KeyRecord, KeyState, RETENTION, Scope, UNFINISHED_RETENTION};
use crate::records::codec::{Loaded, Times};
use crate::records::{Batch, Durability, Purpose, RecordKey, RecordStore, StoreError};
use crate::session::{self, Partitions};

/// How often a decision is taken again because another writer was first. 64 racers on one session
/// lose at most 63 times; twice that is a store in trouble.
const MAX_DECISIONS: usize = 128;

/// Which records a decision is about. They share the session's partition.
#[derive(Clone, Debug)]
pub struct Address {
    session: RecordKey,
    token: Option<RecordKey>,
    key: Option<RecordKey>,
}

/// The records of an [`Address`] as read, to be changed by a decision.
pub struct View {
    /// The session or cart.
    pub session: Option<Session>,
    /// The token, where one is named.
    pub token: Option<PaymentToken>,
    /// The record of the idempotency key, where one is used.
    pub key: Option<KeyRecord>,
}

impl View {
    /// Whether the token can still lead to a charge.
    pub fn has_live_token(&self, now: Timestamp) -> bool {
        self.token.as_ref().is_some_and(|token| token.is_live(now))
    }

    /// The allowance of the token, if it was live before a decision and is not any more: what is to
    /// be given back, once.
    pub fn ended(&self, was_live: bool, now: Timestamp) -> Option<Allowance> {
        self.token
            .as_ref()
            .filter(|token| was_live && !token.is_live(now))
            .map(|token| token.allowance.clone())
    }
}

struct Held {
    session: Loaded<Session>,
    token: Option<Loaded<PaymentToken>>,
    key: Option<Loaded<KeyRecord>>,
}

/// Reads and changes the records of sessions, tokens and keys.
pub struct Ledger {
    store: Arc<dyn RecordStore>,
    clock: Arc<dyn Clock>,
    partitions: Partitions,
    incarnation: u64,
}

impl Ledger {
    /// A ledger in this store.
    pub fn new(store: Arc<dyn RecordStore>, clock: Arc<dyn Clock>) -> Self {
        let identity = store.identity();
        Self { store, clock, partitions: Partitions::new(&identity), incarnation: identity.incarnation }
    }

    /// The store beneath.
    pub fn store(&self) -> &Arc<dyn RecordStore> {
        &self.store
    }

    /// The partitions of its sessions.
    pub fn partitions(&self) -> &Partitions {
        &self.partitions
    }

    /// Who is running now.
    pub fn present(&self) -> Present {
        Present { now: self.clock.now(), incarnation: self.incarnation }
    }

    /// Addresses a session.
    pub fn address(&self, kind: SessionKind, merchant: &MerchantId, id: &SessionId) -> Address {
        Address { session: self.partitions.session_key(kind, merchant, id), token: None, key: None }
    }

    /// Reads without changing anything.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read(&self, address: &Address) -> Result<View, StoreError> {
        self.load(address).await.map(|held| View {
            session: held.session.value,
            token: held.token.and_then(|loaded| loaded.value),
            key: held.key.and_then(|loaded| loaded.value),
        })
    }

    /// Reads the records, lets `decide` change them, and writes what it changed if nobody else
    /// did meanwhile; otherwise reads and decides again. When `decide` refuses, nothing is written.
    /// What it answers is acknowledged: on stable storage before this returns.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Unacknowledged`] leaves open whether the change was made.
    pub async fn transact<T, E>(
        &self,
        address: &Address,
        purpose: Purpose,
        durability: Durability,
        mut decide: impl FnMut(&mut View, Present) -> Result<T, E>,
    ) -> Result<Result<T, E>, StoreError> {
        for _ in 0..MAX_DECISIONS {
            let mut held = self.load(address).await?;
            let present = self.present();
            let mut view = View {
                session: held.session.value.take(),
                token: held.token.as_mut().and_then(|loaded| loaded.value.take()),
                key: held.key.as_mut().and_then(|loaded| loaded.value.take()),
            };
            let decided = match decide(&mut view, present) {
                Ok(decided) => decided,
                Err(refused) => return Ok(Err(refused)),
            };
            held.session.value = view.session;
            if let Some(loaded) = held.token.as_mut() {
                loaded.value = view.token;
            }
            if let Some(loaded) = held.key.as_mut() {
                loaded.value = view.key;
            }
            let batch = held.batch(present, purpose, durability)?;
            if batch.writes.is_empty() || self.store.commit(batch).await?.is_applied() {
                return Ok(Ok(decided));
            }
        }
        Err(StoreError::Unavailable)
    }

    /// Reads a token by its id alone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read_token(&self, id: &TokenId) -> Result<Option<PaymentToken>, StoreError> {
        let key = record_key(id);
        let record = self.store.read(std::slice::from_ref(&key)).await?.pop().flatten();
        Ok(Loaded::decode(key, record)?.value)
    }

    /// Reads the record of a key that is not in a session's partition.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read_key(&self, key: &RecordKey) -> Result<Option<KeyRecord>, StoreError> {
        Ok(self.load_key(key).await?.value)
    }

    /// As [`Self::transact`], for the record of a key alone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn transact_key<T, E>(
        &self,
        key: &RecordKey,
        purpose: Purpose,
        durability: Durability,
        mut decide: impl FnMut(&mut Option<KeyRecord>, Present) -> Result<T, E>,
    ) -> Result<Result<T, E>, StoreError> {
        for _ in 0..MAX_DECISIONS {
            let mut loaded = self.load_key(key).await?;
            let present = self.present();
            let decided = match decide(&mut loaded.value, present) {
                Ok(decided) => decided,
                Err(refused) => return Ok(Err(refused)),
            };
            let Some(write) = loaded.change(|record| key_times(record, present))? else {
                return Ok(Ok(decided));
            };
            let batch =
                Batch { expect: vec![loaded.expectation()], writes: vec![write], durability, purpose };
            if self.store.commit(batch).await?.is_applied() {
                return Ok(Ok(decided));
            }
        }
        Err(StoreError::Unavailable)
    }

    async fn load_key(&self, key: &RecordKey) -> Result<Loaded<KeyRecord>, StoreError> {
        let record = self.store.read(std::slice::from_ref(key)).await?.pop().flatten();
        Loaded::decode(key.clone(), record)
    }

    async fn load(&self, address: &Address) -> Result<Held, StoreError> {
        let keys: Vec<RecordKey> =
            std::iter::once(&address.session).chain(&address.token).chain(&address.key).cloned().collect();
        let mut records = self.store.read(&keys).await?.into_iter();
        let mut next = || records.next().flatten();
        let session = Loaded::decode(address.session.clone(), next())?;
        let token = address.token.clone().map(|key| Loaded::decode(key, next())).transpose()?;
        let key = address.key.clone().map(|key| Loaded::decode(key, next())).transpose()?;
        Ok(Held { session, token, key })
    }
}

impl Address {
    /// With a token of the session. A token whose tag is another partition's is not of this session
    /// and is left out: to the decision it does not exist.
    #[must_use]
    pub fn with_token(mut self, token: &TokenId) -> Self {
        self.token = Some(record_key(token)).filter(|key| key.partition == self.session.partition);
        self
    }

    /// With the record of an idempotency key used on a route of the session.
    #[must_use]
    pub fn with_key(mut self, scope: &Scope) -> Self {
        self.key = Some(scope.record_key(Some(&self.session.partition)));
        self
    }

    /// The session's record.
    pub fn session_key(&self) -> &RecordKey {
        &self.session
    }
}

impl Held {
    fn batch(&self, present: Present, purpose: Purpose, durability: Durability) -> Result<Batch, StoreError> {
        let now = present.now;
        let expect = std::iter::once(self.session.expectation())
            .chain(self.token.as_ref().map(Loaded::expectation))
            .chain(self.key.as_ref().map(Loaded::expectation))
            .collect();
        let session = self.session.change(|value| session::times(value, now))?;
        let token =
            self.token.as_ref().map(|loaded| loaded.change(|value| times(value, now))).transpose()?.flatten();
        let key = self
            .key
            .as_ref()
            .map(|loaded| loaded.change(|value| key_times(value, present)))
            .transpose()?
            .flatten();
        let writes = session.into_iter().chain(token).chain(key).collect();
        Ok(Batch { expect, writes, durability, purpose })
    }
}

/// When a key's record ends: a day and a margin after its answer, later while it has none.
pub fn key_times(record: &KeyRecord, present: Present) -> Times {
    let kept = match &record.state {
        KeyState::Recorded(_) => RETENTION,
        KeyState::Leased(_) | KeyState::Open => UNFINISHED_RETENTION,
    };
    Times { expires_at: Some(present.now.plus(kept)), due: None }
}
