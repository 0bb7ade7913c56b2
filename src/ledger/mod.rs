//! The ledger: session, token and key record of one partition, changed together.
//!
//! Session, token and key record of one partition, read together, decided on by a pure function, and
//! written together or not at all.

pub mod lease;
pub mod session;
mod session_record;
mod snapshot;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use smallvec::SmallVec;

pub use self::session::Partitions;
pub use self::session_record::SessionRecord;
#[cfg(test)]
pub(crate) use self::session_record::is_held;
pub use self::snapshot::{RecordSet, Records, Snapshot};
use crate::domain::allowance::Allowance;
use crate::domain::clock::Clock;
use crate::domain::id::{MerchantId, SessionId, TokenId};
pub use crate::domain::session::Moment;
use crate::domain::session::{Session, SessionKind};
use crate::idempotency::{self, KeyRecord};
use crate::records::codec::{Loaded, Stored};
use crate::records::formats::{Formats, Written};
use crate::records::{Batch, Committed, Durability, Purpose, RecordKey, RecordStore, StoreError, Write};
use crate::token::{PaymentToken, record_key};

/// How often a decision is taken again because another writer was first. 64 racers on one session
/// lose at most 63 times; twice that is a store in trouble.
const MAX_DECISIONS: usize = 128;

/// What a transaction decided, now that it is written.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done<T> {
    /// The decision.
    pub decided: T,
    /// The allowance of a token that could lead to a charge before and cannot any more: it counts as
    /// live no longer, and is told so once.
    pub ended: Option<Allowance>,
}

/// Reads and changes the records of sessions, tokens and keys.
pub struct Ledger {
    store: Arc<dyn RecordStore>,
    clock: Arc<dyn Clock>,
    partitions: Partitions,
    incarnation: u64,
    /// In milliseconds.
    longest_lease: AtomicU64,
    written: Written,
}

impl Ledger {
    /// A ledger in this store, which writes the newest formats.
    pub fn new(store: Arc<dyn RecordStore>, clock: Arc<dyn Clock>) -> Self {
        let identity = store.identity();
        let partitions = Partitions::new(&identity);
        Self {
            store,
            clock,
            partitions,
            incarnation: identity.incarnation,
            longest_lease: AtomicU64::new(0),
            written: Written::new(Formats::NEWEST),
        }
    }

    /// Writing in formats that somebody else decides.
    #[must_use]
    pub fn writing(mut self, written: Written) -> Self {
        self.written = written;
        self
    }

    /// Whether what is written says at which base URL a claim is.
    pub fn says_places(&self) -> bool {
        self.written.now().are_newest()
    }

    /// With leases that last at most so long, or as long as was said before: some of those may run yet.
    pub fn allow_leases_of(&self, longest: Duration) {
        let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        self.longest_lease.fetch_max(longest, Ordering::Relaxed);
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
    pub fn moment(&self) -> Moment {
        let longest_lease = Duration::from_millis(self.longest_lease.load(Ordering::Relaxed));
        Moment::of(&*self.clock, longest_lease, self.incarnation)
    }

    /// The records of a session.
    pub fn record_set(&self, kind: SessionKind, merchant: &MerchantId, id: &SessionId) -> RecordSet {
        RecordSet { session: self.partitions.session_key(kind, merchant, id), token: None, key: None }
    }

    /// Reads without changing anything.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read(&self, record_set: &RecordSet) -> Result<Records, StoreError> {
        self.load(record_set).await.map(|mut snapshot| snapshot.take())
    }

    /// Reads the records, lets `decide` change them, and writes what it changed if nobody else
    /// did meanwhile; otherwise reads and decides again. When `decide` refuses, nothing is written.
    /// What it answers is acknowledged: on stable storage before this returns.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Unacknowledged`] leaves open whether the change was made.
    pub async fn transact<T, E>(
        &self,
        record_set: &RecordSet,
        purpose: Purpose,
        durability: Durability,
        decide: impl FnMut(&mut Records, Moment) -> Result<T, E>,
    ) -> Result<Result<Done<T>, E>, StoreError> {
        let mut snapshot = self.load(record_set).await?;
        self.transact_on(&mut snapshot, true, record_set, purpose, durability, decide).await
    }

    /// As [`Self::transact`], beginning with what was read before: one round trip when nobody else
    /// has changed it. A refusal is decided on what is there now. Where a change was made, `snapshot` is
    /// what is there after it; otherwise there is nothing in it any more.
    ///
    /// # Errors
    /// As [`Self::transact`].
    pub async fn transact_from<T, E>(
        &self,
        snapshot: &mut Snapshot,
        record_set: &RecordSet,
        purpose: Purpose,
        durability: Durability,
        decide: impl FnMut(&mut Records, Moment) -> Result<T, E>,
    ) -> Result<Result<Done<T>, E>, StoreError> {
        self.transact_on(snapshot, false, record_set, purpose, durability, decide).await
    }

    async fn transact_on<T, E>(
        &self,
        snapshot: &mut Snapshot,
        mut is_fresh: bool,
        record_set: &RecordSet,
        purpose: Purpose,
        durability: Durability,
        mut decide: impl FnMut(&mut Records, Moment) -> Result<T, E>,
    ) -> Result<Result<Done<T>, E>, StoreError> {
        for _ in 0..MAX_DECISIONS {
            let moment = self.moment();
            let decided = snapshot.decide(|records| {
                let was_live = records.has_live_token(moment.latest);
                let decided = decide(records, moment)?;
                Ok(Done { decided, ended: records.ended(was_live, moment.latest) })
            });
            match decided {
                Ok(done) => {
                    if self.write(snapshot, moment, purpose, durability).await? {
                        return Ok(Ok(done));
                    }
                }
                Err(refused) if is_fresh => return Ok(Err(refused)),
                Err(_) => {}
            }
            *snapshot = self.load(record_set).await?;
            is_fresh = true;
        }
        Err(StoreError::Unavailable)
    }

    /// Writes what was changed; false when somebody else was first.
    async fn write(
        &self,
        snapshot: &mut Snapshot,
        moment: Moment,
        purpose: Purpose,
        durability: Durability,
    ) -> Result<bool, StoreError> {
        let changes = snapshot.changes(moment, self.written.now())?;
        let writes: Vec<Write> = changes.iter().flatten().cloned().collect();
        let rests_on_reads = durability == Durability::Synced && !self.store.reads_are_acknowledged();
        if writes.is_empty() && !rests_on_reads {
            return Ok(true);
        }
        let batch = Batch { expect: snapshot.expectations(), writes, durability, purpose };
        let Committed::Applied(revision) = self.store.commit(batch).await? else { return Ok(false) };
        snapshot.written(&changes, revision);
        Ok(true)
    }

    /// Reads a token by its id alone, as it stands.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read_token(&self, id: &TokenId) -> Result<Option<PaymentToken>, StoreError> {
        let Some(token) = self.stored_token(id).await? else { return Ok(None) };
        Ok(self.read(&self.record_set_of(&token)).await?.token)
    }

    /// Reads the record of a token: all of it but whether a claim holds it, which its session's record says.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn stored_token(&self, id: &TokenId) -> Result<Option<PaymentToken>, StoreError> {
        Ok(self.load_record(record_key(id)).await?.value)
    }

    /// A token and its session.
    pub fn record_set_of(&self, token: &PaymentToken) -> RecordSet {
        let Allowance { merchant, session, .. } = &token.allowance;
        self.record_set(SessionKind::Checkout, merchant, session).with_token(&token.id)
    }

    /// As [`Self::stored_token`], for who will tell others of it: then no failover may forget it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn acknowledged_token(&self, id: &TokenId) -> Result<Option<PaymentToken>, StoreError> {
        let snapshot = self.load_record(record_key(id)).await?;
        self.acknowledge(&snapshot).await?;
        Ok(snapshot.value)
    }

    /// As [`Self::transact_from`], for the record of a key that is not in a session's partition.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn transact_key<T, E>(
        &self,
        snapshot: &mut Loaded<KeyRecord>,
        purpose: Purpose,
        durability: Durability,
        mut decide: impl FnMut(&mut Option<KeyRecord>, Moment) -> Result<T, E>,
    ) -> Result<Result<T, E>, StoreError> {
        let mut is_fresh = false;
        for _ in 0..MAX_DECISIONS {
            let moment = self.moment();
            match decide(&mut snapshot.value, moment) {
                Ok(decided) => {
                    let written = self.written.now();
                    let times = |record: &_| idempotency::times(record, moment);
                    let Some(write) = snapshot.change_in(written, times)? else {
                        return Ok(Ok(decided));
                    };
                    let expect = vec![snapshot.expectation()];
                    let batch = Batch { expect, writes: vec![write.clone()], durability, purpose };
                    if let Committed::Applied(revision) = self.store.commit(batch).await? {
                        snapshot.written(&write, revision);
                        return Ok(Ok(decided));
                    }
                }
                Err(refused) if is_fresh => return Ok(Err(refused)),
                Err(_) => {}
            }
            *snapshot = self.load_key(&snapshot.key).await?;
            is_fresh = true;
        }
        Err(StoreError::Unavailable)
    }

    /// Counts a look at an open claim, which also moves its due instant; the session, if there is
    /// still a claim.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn postpone(&self, key: RecordKey) -> Result<Option<Session>, StoreError> {
        let Some(session) = self.load_record::<SessionRecord>(key).await?.value else { return Ok(None) };
        let SessionRecord { session, .. } = &session;
        let mut record_set = self.record_set(session.kind, &session.merchant, &session.id);
        // The end of its record is put off with the claim.
        if let Some(token) = session.claim.as_ref().and_then(|claim| claim.token.as_ref()) {
            record_set = record_set.with_token(token);
        }
        let decide = |records: &mut Records, _| {
            let session = records.session.as_mut().ok_or(())?;
            let claim = session.claim.as_mut().ok_or(())?;
            claim.checks = claim.checks.saturating_add(1);
            Ok::<_, ()>(session.clone())
        };
        let postponed = self.transact(&record_set, Purpose::Finish, Durability::Applied, decide).await?;
        Ok(postponed.ok().map(|done| done.decided))
    }

    /// Makes sure that a record is on replicas as it was read, where the store waits for them.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Unavailable`] also when it has changed since.
    pub async fn acknowledge<T: Stored>(&self, snapshot: &Loaded<T>) -> Result<(), StoreError> {
        if self.store.reads_are_acknowledged() {
            return Ok(());
        }
        let batch = Batch {
            expect: vec![snapshot.expectation()],
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
    pub async fn load_key(&self, key: &RecordKey) -> Result<Loaded<KeyRecord>, StoreError> {
        self.load_record(key.clone()).await
    }

    async fn load_record<T: Stored>(&self, key: RecordKey) -> Result<Loaded<T>, StoreError> {
        let record = self.store.read(std::slice::from_ref(&key)).await?.pop().flatten();
        Loaded::decode(key, record)
    }

    /// Reads the records of a set, to decide on them later.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn load(&self, record_set: &RecordSet) -> Result<Snapshot, StoreError> {
        let keys: SmallVec<[RecordKey; 3]> = std::iter::once(&record_set.session)
            .chain(&record_set.token)
            .chain(record_set.key.as_ref().map(|(_, key)| key))
            .cloned()
            .collect();
        let mut records = self.store.read(&keys).await?.into_iter();
        let mut next = || records.next().flatten();
        let session = Loaded::decode(record_set.session.clone(), next())?;
        let token = record_set.token.clone().map(|key| Loaded::decode(key, next())).transpose()?;
        let key = match &record_set.key {
            Some((scope, key)) => Some((*scope, Loaded::decode(key.clone(), next())?)),
            None => None,
        };
        Snapshot::compose(session, token, key, self.clock.earliest())
    }
}
