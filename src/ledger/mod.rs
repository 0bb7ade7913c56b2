//! The ledger: session, token and key record of one partition, changed together.
//!
//! Session, token and key record of one partition, read together, decided on by a pure function, and
//! written together or not at all.

pub mod session;

use std::sync::Arc;
use std::time::Duration;

pub use self::session::Partitions;
use crate::domain::allowance::Allowance;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::id::{MerchantId, SessionId, TokenId};
pub use crate::domain::session::Present;
use crate::domain::session::{Session, SessionKind};
use crate::idempotency::{self, KeyRecord, Scope};
use crate::records::codec::{Loaded, Stored};
use crate::records::{
    Batch, Committed, Durability, Purpose, RecordKey, RecordStore, Revision, StoreError, Write,
};
use crate::token::{PaymentToken, record_key, times};

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

/// The records of an [`Address`] as this process last read or wrote them. A decision may start from
/// it without reading again: whether it still holds, the commit finds out.
pub struct Seen {
    session: Loaded<Session>,
    token: Option<Loaded<PaymentToken>>,
    key: Option<Loaded<KeyRecord>>,
}

impl Seen {
    /// The session or cart.
    pub fn session(&self) -> Option<&Session> {
        self.session.value.as_ref()
    }

    /// The token, where one is named.
    pub fn token(&self) -> Option<&PaymentToken> {
        self.token.as_ref()?.value.as_ref()
    }

    /// The record of the idempotency key, where one is used.
    pub fn key(&self) -> Option<&KeyRecord> {
        self.key_record()?.value.as_ref()
    }

    /// The same as it was read, absent or not.
    pub fn key_record(&self) -> Option<&Loaded<KeyRecord>> {
        self.key.as_ref()
    }

    fn take(&mut self) -> View {
        View {
            session: self.session.value.take(),
            token: self.token.as_mut().and_then(|loaded| loaded.value.take()),
            key: self.key.as_mut().and_then(|loaded| loaded.value.take()),
        }
    }

    /// Lets `decide` change the records; what it leaves behind when it refuses is thrown away.
    fn decide<T, E>(&mut self, decide: impl FnOnce(&mut View) -> Result<T, E>) -> Result<T, E> {
        let mut view = self.take();
        let decided = decide(&mut view)?;
        self.session.value = view.session;
        if let Some(loaded) = self.token.as_mut() {
            loaded.value = view.token;
        }
        if let Some(loaded) = self.key.as_mut() {
            loaded.value = view.key;
        }
        Ok(decided)
    }
}

/// Reads and changes the records of sessions, tokens and keys.
pub struct Ledger {
    store: Arc<dyn RecordStore>,
    clock: Arc<dyn Clock>,
    partitions: Partitions,
    incarnation: u64,
    longest_lease: Duration,
}

impl Ledger {
    /// A ledger in this store.
    pub fn new(store: Arc<dyn RecordStore>, clock: Arc<dyn Clock>) -> Self {
        let identity = store.identity();
        let partitions = Partitions::new(&identity);
        Self { store, clock, partitions, incarnation: identity.incarnation, longest_lease: Duration::ZERO }
    }

    /// With leases that last at most so long.
    #[must_use]
    pub const fn with_leases_of(mut self, longest: Duration) -> Self {
        self.longest_lease = longest;
        self
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
        Present::of(&*self.clock, self.longest_lease, self.incarnation)
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
        self.look(address).await.map(|mut seen| seen.take())
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
        decide: impl FnMut(&mut View, Present) -> Result<T, E>,
    ) -> Result<Result<T, E>, StoreError> {
        let mut seen = self.look(address).await?;
        self.transact_on(&mut seen, true, address, purpose, durability, decide).await
    }

    /// As [`Self::transact`], beginning with what was seen before: one round trip when nobody else
    /// has changed it. A refusal is decided on what is there now. Where a change was made, `seen` is
    /// what is there after it; otherwise there is nothing in it any more.
    ///
    /// # Errors
    /// As [`Self::transact`].
    pub async fn transact_seen<T, E>(
        &self,
        seen: &mut Seen,
        address: &Address,
        purpose: Purpose,
        durability: Durability,
        decide: impl FnMut(&mut View, Present) -> Result<T, E>,
    ) -> Result<Result<T, E>, StoreError> {
        self.transact_on(seen, false, address, purpose, durability, decide).await
    }

    async fn transact_on<T, E>(
        &self,
        seen: &mut Seen,
        mut is_fresh: bool,
        address: &Address,
        purpose: Purpose,
        durability: Durability,
        mut decide: impl FnMut(&mut View, Present) -> Result<T, E>,
    ) -> Result<Result<T, E>, StoreError> {
        for _ in 0..MAX_DECISIONS {
            let present = self.present();
            match seen.decide(|view| decide(view, present)) {
                Ok(decided) => {
                    if self.write(seen, present, purpose, durability).await? {
                        return Ok(Ok(decided));
                    }
                }
                Err(refused) if is_fresh => return Ok(Err(refused)),
                Err(_) => {}
            }
            *seen = self.look(address).await?;
            is_fresh = true;
        }
        Err(StoreError::Unavailable)
    }

    /// Writes what was changed; false when somebody else was first.
    async fn write(
        &self,
        seen: &mut Seen,
        present: Present,
        purpose: Purpose,
        durability: Durability,
    ) -> Result<bool, StoreError> {
        let [session, token, key] = seen.changes(present)?;
        let writes: Vec<Write> = [&session, &token, &key].into_iter().flatten().cloned().collect();
        let rests_on_reads = durability == Durability::Synced && !self.store.reads_are_acknowledged();
        if writes.is_empty() && !rests_on_reads {
            return Ok(true);
        }
        let batch = Batch { expect: seen.expectations(), writes, durability, purpose };
        let Committed::Applied(revision) = self.store.commit(batch).await? else { return Ok(false) };
        if let Some(write) = &session {
            seen.session.written(write, revision);
        }
        if let (Some(write), Some(loaded)) = (&token, seen.token.as_mut()) {
            loaded.written(write, revision);
        }
        if let (Some(write), Some(loaded)) = (&key, seen.key.as_mut()) {
            loaded.written(write, revision);
        }
        Ok(true)
    }

    /// Reads a token by its id alone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read_token(&self, id: &TokenId) -> Result<Option<PaymentToken>, StoreError> {
        Ok(self.look_at(record_key(id)).await?.value)
    }

    /// As [`Self::read_token`], for who will tell others of it: then no failover may forget it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn acknowledged_token(&self, id: &TokenId) -> Result<Option<PaymentToken>, StoreError> {
        let seen = self.look_at(record_key(id)).await?;
        self.acknowledge(&seen).await?;
        Ok(seen.value)
    }

    /// As [`Self::transact_seen`], for the record of a key that is not in a session's partition.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn transact_key<T, E>(
        &self,
        seen: &mut Loaded<KeyRecord>,
        purpose: Purpose,
        durability: Durability,
        mut decide: impl FnMut(&mut Option<KeyRecord>, Present) -> Result<T, E>,
    ) -> Result<Result<T, E>, StoreError> {
        let mut is_fresh = false;
        for _ in 0..MAX_DECISIONS {
            let present = self.present();
            match decide(&mut seen.value, present) {
                Ok(decided) => {
                    let Some(write) = seen.change(|record| idempotency::times(record, present))? else {
                        return Ok(Ok(decided));
                    };
                    let expect = vec![seen.expectation()];
                    let batch = Batch { expect, writes: vec![write.clone()], durability, purpose };
                    if let Committed::Applied(revision) = self.store.commit(batch).await? {
                        seen.written(&write, revision);
                        return Ok(Ok(decided));
                    }
                }
                Err(refused) if is_fresh => return Ok(Err(refused)),
                Err(_) => {}
            }
            *seen = self.look_key(&seen.key).await?;
            is_fresh = true;
        }
        Err(StoreError::Unavailable)
    }

    /// Makes sure that a record is on replicas as it was read, where the store waits for them.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Unavailable`] also when it has changed since.
    pub async fn acknowledge<T: Stored>(&self, seen: &Loaded<T>) -> Result<(), StoreError> {
        if self.store.reads_are_acknowledged() {
            return Ok(());
        }
        let batch = Batch {
            expect: vec![seen.expectation()],
            writes: vec![],
            durability: Durability::Synced,
            purpose: Purpose::Finish,
        };
        match self.store.commit(batch).await? {
            Committed::Applied(_) => Ok(()),
            Committed::Conflict => Err(StoreError::Unavailable),
        }
    }

    /// Reads the record of a key that is not in a session's partition.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn look_key(&self, key: &RecordKey) -> Result<Loaded<KeyRecord>, StoreError> {
        self.look_at(key.clone()).await
    }

    async fn look_at<T: Stored>(&self, key: RecordKey) -> Result<Loaded<T>, StoreError> {
        let record = self.store.read(std::slice::from_ref(&key)).await?.pop().flatten();
        Loaded::decode(key, record)
    }

    /// Reads the records of an address, to decide on them later.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn look(&self, address: &Address) -> Result<Seen, StoreError> {
        let keys: Vec<RecordKey> =
            std::iter::once(&address.session).chain(&address.token).chain(&address.key).cloned().collect();
        let mut records = self.store.read(&keys).await?.into_iter();
        let mut next = || records.next().flatten();
        let session = Loaded::decode(address.session.clone(), next())?;
        let token = address.token.clone().map(|key| Loaded::decode(key, next())).transpose()?;
        let key = address.key.clone().map(|key| Loaded::decode(key, next())).transpose()?;
        Ok(Seen { session, token, key })
    }
}

impl Address {
    /// With a token of the session. A token whose tag is another partition's is not of this session
    /// and is left out: to the decision it does not exist.
    #[must_use]
    pub fn with_token(mut self, token: &TokenId) -> Self {
        self.token = Some(record_key(token)).filter(|key| key.partition() == self.session.partition());
        self
    }

    /// With the record of an idempotency key used on a route of the session.
    #[must_use]
    pub fn with_key(mut self, scope: &Scope) -> Self {
        self.key = Some(scope.record_key(Some(self.session.partition())));
        self
    }

    /// The session's record.
    pub fn session_key(&self) -> &RecordKey {
        &self.session
    }
}

impl Seen {
    fn expectations(&self) -> Vec<(RecordKey, Revision)> {
        std::iter::once(self.session.expectation())
            .chain(self.token.as_ref().map(Loaded::expectation))
            .chain(self.key.as_ref().map(Loaded::expectation))
            .collect()
    }

    /// What a decision changed: of the session, of the token and of the key.
    fn changes(&self, present: Present) -> Result<[Option<Write>; 3], StoreError> {
        let now = present.now;
        let session = self.session.change(|value| session::times(value, now))?;
        let token =
            self.token.as_ref().map(|loaded| loaded.change(|value| times(value, now))).transpose()?.flatten();
        let key = self
            .key
            .as_ref()
            .map(|loaded| loaded.change(|value| idempotency::times(value, present)))
            .transpose()?
            .flatten();
        Ok([session, token, key])
    }
}
