//! The shared engine: records in Redis, standalone or Cluster, for several replicas of the gateway.
//!
//! A batch is one script on the primary of its bucket, named by revisions that this process drew:
//! sent again after a lost answer it finds itself and answers the same. What Redis can and cannot
//! promise (replication is asynchronous) is handled where it shows: [`group`] waits for replicas,
//! [`identity`] notices a store that is not the one it was, [`primaries`] mistrusts after a failover.
//!
//! Reads are of the primary. They may show what has not reached a replica yet: an answer given
//! twice rests on it, never a charge, because whatever moves money commits first.

mod call;
mod clock;
mod encoding;
mod failure;
mod group;
mod identity;
mod link;
mod primaries;
mod rate;
mod script;
mod server;
mod settings;
#[cfg(test)]
mod tests;
mod topology;
mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use redis::Value;

pub use self::settings::{NodeAddress, Settings};

use self::call::{Answered, CallError, Request};
use self::clock::ServerClock;
use self::encoding::{Bucket, Place, Stored, encode, name_of};
use self::identity::IdentityError;
use self::link::Connector;
use self::primaries::Primaries;
use self::script::{Revisions, Scripts};
use self::server::Unfit;
use self::topology::{Topology, TopologyError};
use super::{Notice, Notify};
use crate::crypto::random::RandomUnavailable;
use crate::domain::clock::{Clock, Timestamp};
use crate::records::{
    Batch, BoxFuture, Committed, Durability, Identity, Kind, Purpose, Record, RecordKey, RecordStore,
    Revision, StoreError, Write,
};

/// Buckets whose indexes are read in one go.
const MOST_BUCKETS: usize = 64;
/// Entries of one index read in one go.
const MOST_ENTRIES: usize = 10_000;

/// The shared store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its servers.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// One of them may not keep money.
    #[error("{node}: {why}")]
    Unfit {
        /// Which.
        node: NodeAddress,
        /// Why, and what to do.
        why: Unfit,
    },
    /// One of them does not answer.
    #[error("{0} does not answer")]
    Unreachable(NodeAddress),
    /// What it is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The operating system gave no random bytes.
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
}

/// A store shared by several replicas of the gateway.
pub struct RedisStore {
    shared: Arc<Shared>,
}

/// What the store and its watch share.
struct Shared {
    settings: Settings,
    topology: Topology,
    primaries: Arc<Primaries>,
    scripts: Scripts,
    revisions: Revisions,
    clock: Arc<ServerClock>,
    notify: Notify,
    identity: ArcSwap<Known>,
    generation_lost: AtomicBool,
    down: AtomicBool,
}

/// Which store it is.
struct Known {
    tag_key: [u8; 32],
    generation: Vec<u8>,
}

impl RedisStore {
    /// Reaches the store, or makes one where there is none.
    ///
    /// # Errors
    /// When no server answers, one of them may not keep money, or the store cannot be known: see
    /// [`OpenError`], which says what to do.
    pub async fn open(settings: Settings, clock: Arc<dyn Clock>, notify: Notify) -> Result<Self, OpenError> {
        let clock = Arc::new(ServerClock::new(clock));
        let connector = Arc::new(Connector::new(settings.clone()));
        let primaries = Arc::new(Primaries::new(
            Arc::clone(&clock) as Arc<dyn Clock>,
            settings.failover_caution,
            Arc::clone(&notify),
        ));
        let topology = Topology::new(connector, Arc::clone(&primaries));
        topology.refresh().await?;
        let shared = Arc::new(Shared {
            settings,
            topology,
            primaries,
            scripts: Scripts::new(),
            revisions: Revisions::new()?,
            clock,
            notify,
            identity: ArcSwap::from_pointee(Known { tag_key: [0; 32], generation: Vec::new() }),
            generation_lost: AtomicBool::new(false),
            down: AtomicBool::new(false),
        });
        shared.refuse_unfit_servers().await?;
        if shared.settings.follow_server_clock {
            shared.set_clock().await;
        }
        let identity = shared.identify().await?;
        let whole = shared.is_whole(&identity.generation).await?;
        shared.identity.store(Arc::new(Known {
            tag_key: identity.tag_key,
            generation: identity.generation.into_bytes(),
        }));
        if !whole {
            shared.lose_generation();
        }
        tokio::spawn(watch::watch(Arc::downgrade(&shared)));
        Ok(Self { shared })
    }

    /// The clock that all replicas of this store go by.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.shared.clock) as Arc<dyn Clock>
    }
}

impl Shared {
    async fn refuse_unfit_servers(&self) -> Result<(), OpenError> {
        for link in &self.topology.map().links {
            let unreachable = || OpenError::Unreachable(link.address.clone());
            let live = link.connected().await.map_err(|_| unreachable())?;
            let mut connection = live.connection.clone();
            let fitness = live.server.fitness(&mut connection, self.settings.accept_loss).await;
            let why = fitness.map_err(|_| unreachable())?.err();
            if let Some(why) = why {
                return Err(OpenError::Unfit { node: link.address.clone(), why });
            }
        }
        Ok(())
    }

    fn tag_key(&self) -> [u8; 32] {
        self.identity.load().tag_key
    }

    fn has_lost_generation(&self) -> bool {
        self.generation_lost.load(Ordering::Relaxed)
    }

    /// The store is not the one it was: money stops.
    fn lose_generation(&self) {
        if !self.generation_lost.swap(true, Ordering::Relaxed) {
            (self.notify)(Notice::Changed);
        }
    }

    /// An operator took the store as it is.
    fn adopt(&self, generation: &str) {
        let known = Known { tag_key: self.tag_key(), generation: generation.as_bytes().to_vec() };
        self.identity.store(Arc::new(known));
        self.primaries.changed();
        self.generation_lost.store(false, Ordering::Relaxed);
    }

    fn note_down(&self) {
        if !self.down.swap(true, Ordering::Relaxed) {
            (self.notify)(Notice::Unreachable);
        }
    }

    fn note_up(&self) {
        if self.down.swap(false, Ordering::Relaxed) {
            (self.notify)(Notice::ReachableAgain);
        }
    }

    fn health(&self) -> Result<(), StoreError> {
        if self.has_lost_generation() {
            return Err(StoreError::Changed);
        }
        if self.down.load(Ordering::Relaxed) { Err(StoreError::Unavailable) } else { Ok(()) }
    }

    /// Reads the values of places in one bucket, checking the generation with them.
    async fn values(&self, bucket: Bucket, places: &[&Place]) -> Result<Vec<Option<Stored>>, StoreError> {
        let mut command = redis::cmd("MGET");
        command.arg(bucket.generation());
        places.iter().for_each(|place| {
            command.arg(&place.key);
        });
        let answered = self.call(bucket, &Request::Plain(&command)).await.map_err(read_error)?;
        let Value::Array(values) = answered.value else { return Err(StoreError::Unavailable) };
        let mut values = values.into_iter();
        if !matches!(values.next(), Some(Value::BulkString(word)) if word == self.identity.load().generation)
        {
            self.lose_generation();
            return Err(StoreError::Changed);
        }
        let now = self.clock.now();
        values
            .map(|value| match value {
                Value::BulkString(bytes) => {
                    let stored = Stored::parse(bytes).ok_or(StoreError::Corrupt)?;
                    Ok(Some(stored).filter(|stored| !stored.is_expired(now)))
                }
                _ => Ok(None),
            })
            .collect()
    }

    async fn read(&self, keys: &[RecordKey]) -> Result<Vec<Option<Record>>, StoreError> {
        let places: Vec<Place> =
            keys.iter().map(Place::of).collect::<Option<_>>().ok_or(StoreError::Unavailable)?;
        let mut by_bucket: BTreeMap<Bucket, Vec<usize>> = BTreeMap::new();
        for (at, place) in places.iter().enumerate() {
            by_bucket.entry(place.bucket).or_default().push(at);
        }
        let mut records: Vec<Option<Record>> = vec![None; keys.len()];
        for (bucket, members) in by_bucket {
            let places: Vec<&Place> = members.iter().filter_map(|at| places.get(*at)).collect();
            let values = self.values(bucket, &places).await?;
            for (at, stored) in members.into_iter().zip(values) {
                if let Some(record) = records.get_mut(at) {
                    *record = stored.map(Stored::record);
                }
            }
        }
        Ok(records)
    }

    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        let revision = self.revisions.next();
        let now = self.clock.now();
        let Some((bucket, keys, arguments)) = self.prepare(&batch, revision, now) else {
            return Err(StoreError::Unavailable);
        };
        let waits = batch.durability == Durability::Synced && self.settings.wait_replicas > 0;
        let script = match batch.purpose {
            Purpose::Admit => &self.scripts.admit,
            Purpose::Finish => &self.scripts.finish,
        };
        let request = Request::Script { script, keys, arguments, waits };
        let Answered { value, acknowledged, sent_before } =
            self.call(bucket, &request).await.map_err(commit_error)?;
        match value {
            Value::Int(1 | 2) if acknowledged => Ok(Committed::Applied(revision)),
            Value::Int(1 | 2) => Err(StoreError::Unacknowledged),
            // It may have been applied, and changed again since.
            Value::Int(0) if sent_before => Err(StoreError::Unacknowledged),
            Value::Int(0) => Ok(Committed::Conflict),
            _ => Err(StoreError::Unacknowledged),
        }
    }

    /// The bucket, keys and arguments of a batch's script; `None` when a key is out of bounds or
    /// another bucket's.
    #[allow(clippy::type_complexity, reason = "what one script takes")]
    fn prepare(
        &self,
        batch: &Batch,
        revision: Revision,
        now: Timestamp,
    ) -> Option<(Bucket, Vec<Vec<u8>>, Vec<Vec<u8>>)> {
        let expected: Vec<(Place, Revision)> = batch
            .expect
            .iter()
            .map(|(key, revision)| Some((Place::of(key)?, *revision)))
            .collect::<Option<_>>()?;
        // The last write of a key is the one that counts.
        let mut writes: Vec<(Place, &Write)> = Vec::with_capacity(batch.writes.len());
        for write in &batch.writes {
            let (Write::Put { key, .. } | Write::Delete { key }) = write;
            let place = Place::of(key)?;
            writes.retain(|(known, _)| *known != place);
            writes.push((place, write));
        }
        let places = || expected.iter().map(|(place, _)| place).chain(writes.iter().map(|(place, _)| place));
        let bucket = places().next().map_or(Bucket::FIRST, |place| place.bucket);
        places().all(|place| place.bucket == bucket).then_some(())?;
        let own = [
            bucket.generation(),
            bucket.due(),
            bucket.index_of(Kind::Token),
            bucket.index_of(Kind::Registry),
        ];
        let keys = own.into_iter().chain(places().map(|place| place.key.clone()));
        let keys = keys.map(String::into_bytes).collect();
        let mut arguments = vec![
            self.identity.load().generation.clone(),
            now.unix_millis().to_string().into_bytes(),
            revision.0.to_be_bytes().to_vec(),
            expected.len().to_string().into_bytes(),
        ];
        arguments.extend(expected.iter().map(|(_, revision)| revision.0.to_be_bytes().to_vec()));
        for (place, write) in &writes {
            let (value, life) = match write {
                Write::Put { bytes, expires_at, due, .. } => {
                    (encode(revision, *expires_at, *due, bytes), life(*expires_at, now))
                }
                Write::Delete { .. } => (Vec::new(), 0),
            };
            arguments.extend([value, life.to_string().into_bytes(), place.name().as_bytes().to_vec()]);
        }
        Some((bucket, keys, arguments))
    }

    /// Entries of the same index of several buckets.
    async fn entries(
        &self,
        buckets: &[Bucket],
        command: impl Fn(Bucket) -> redis::Cmd,
    ) -> Result<Vec<Vec<Vec<u8>>>, StoreError> {
        let reads = buckets.iter().map(|bucket| {
            let command = command(*bucket);
            async move {
                let answered = self.call(*bucket, &Request::Plain(&command)).await.map_err(read_error)?;
                redis::from_redis_value(answered.value).map_err(|_| StoreError::Corrupt)
            }
        });
        futures_util::future::join_all(reads).await.into_iter().collect()
    }

    /// The records that an index of a bucket names, with what is wrong with those that are not there
    /// (any more, or not as the index says) tidied away.
    async fn indexed(
        &self,
        bucket: Bucket,
        index: &str,
        names: &[Vec<u8>],
        wants_due: bool,
    ) -> Result<Vec<(Place, Stored)>, StoreError> {
        let places: Vec<Place> =
            names.iter().map(|name| Place::indexed(bucket, &String::from_utf8_lossy(name))).collect();
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let values = self.values(bucket, &places.iter().collect::<Vec<_>>()).await?;
        let mut found = Vec::with_capacity(places.len());
        for (place, value) in places.into_iter().zip(values) {
            match value {
                Some(stored) if !wants_due || stored.due.is_some() => found.push((place, stored)),
                _ => self.forget(bucket, index, &place, wants_due).await?,
            }
        }
        Ok(found)
    }

    async fn forget(&self, bucket: Bucket, index: &str, place: &Place, due: bool) -> Result<(), StoreError> {
        let request = Request::Script {
            script: &self.scripts.forget,
            keys: vec![index.as_bytes().to_vec(), place.key.clone().into_bytes()],
            arguments: vec![
                place.name().as_bytes().to_vec(),
                if due { b"due".to_vec() } else { b"index".to_vec() },
            ],
            waits: false,
        };
        self.call(bucket, &request).await.map(drop).map_err(read_error)
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<(Timestamp, RecordKey)>, StoreError> {
        let buckets: Vec<Bucket> = Bucket::all().collect();
        let most = limit.min(MOST_ENTRIES);
        let names = self
            .entries(&buckets, |bucket| {
                let mut command = redis::cmd("ZRANGE");
                command.arg(bucket.due()).arg("-inf").arg(now.unix_millis()).arg("BYSCORE");
                command.arg("LIMIT").arg(0).arg(most);
                command
            })
            .await?;
        let mut due = Vec::new();
        for (bucket, names) in buckets.into_iter().zip(names) {
            for (place, stored) in self.indexed(bucket, &bucket.due(), &names, true).await? {
                if let Some(at) = stored.due.filter(|at| *at <= now) {
                    due.push((at, place.decode().ok_or(StoreError::Corrupt)?));
                }
            }
        }
        due.sort();
        due.truncate(limit);
        Ok(due)
    }

    async fn scan(
        &self,
        kind: Kind,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Record)>, StoreError> {
        if !matches!(kind, Kind::Token | Kind::Registry) {
            return Err(StoreError::Unavailable);
        }
        let most = limit.min(MOST_ENTRIES);
        let mut after = after.map(|key| (Bucket::of(&key.partition), name_of(key)));
        let first = after.as_ref().map_or(Bucket::FIRST, |(bucket, _)| *bucket);
        let mut buckets: VecDeque<Bucket> = first.and_later().collect();
        let mut found = Vec::new();
        // A large store fills a page from one bucket; a small one is looked through in a few strides.
        let mut stride = 1;
        while found.len() < limit && !buckets.is_empty() {
            let open: Vec<Bucket> = buckets.iter().take(stride).copied().collect();
            stride = MOST_BUCKETS.min(stride * 2);
            let names = self
                .entries(&open, |bucket| {
                    let from = after.as_ref().filter(|(at, _)| *at == bucket);
                    let from = from.map_or_else(|| "-".to_owned(), |(_, name)| format!("({name}"));
                    let mut command = redis::cmd("ZRANGE");
                    command.arg(bucket.index_of(kind)).arg(from).arg("+").arg("BYLEX");
                    command.arg("LIMIT").arg(0).arg(most);
                    command
                })
                .await?;
            for (bucket, names) in open.into_iter().zip(names) {
                for (place, stored) in self.indexed(bucket, &bucket.index_of(kind), &names, false).await? {
                    found.push((place.decode().ok_or(StoreError::Corrupt)?, stored.record()));
                }
                // A bucket is read until its index has no more: names without records end no page.
                if names.len() == most {
                    after = names.last().map(|name| (bucket, String::from_utf8_lossy(name).into_owned()));
                    break;
                }
                buckets.pop_front();
                if found.len() >= limit {
                    break;
                }
            }
        }
        found.truncate(limit);
        Ok(found)
    }
}

/// How long the server keeps a record (ms), by its own clock: whoever reads it decides by ours, so a
/// little longer. 0 for ever.
fn life(expires_at: Option<Timestamp>, now: Timestamp) -> u64 {
    const LINGERS: u64 = 5_000;
    expires_at.map_or(0, |at| u64::try_from(at.since(now).as_millis()).unwrap_or(u64::MAX / 2) + LINGERS)
}

fn read_error(error: CallError) -> StoreError {
    match error {
        CallError::Changed => StoreError::Changed,
        CallError::Unavailable | CallError::NoSpace | CallError::Unknown => StoreError::Unavailable,
    }
}

fn commit_error(error: CallError) -> StoreError {
    match error {
        CallError::Changed => StoreError::Changed,
        CallError::Unavailable => StoreError::Unavailable,
        CallError::NoSpace => StoreError::NoSpace,
        CallError::Unknown => StoreError::Unacknowledged,
    }
}

impl RecordStore for RedisStore {
    fn engine(&self) -> &'static str {
        "redis"
    }

    fn identity(&self) -> Identity {
        // Replicas come and go and share one store: a lease ends with its time alone.
        Identity { incarnation: 1, tag_key: self.shared.tag_key() }
    }

    fn read<'a>(&'a self, keys: &'a [RecordKey]) -> BoxFuture<'a, Result<Vec<Option<Record>>, StoreError>> {
        Box::pin(self.shared.read(keys))
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, StoreError>> {
        Box::pin(self.shared.commit(batch))
    }

    fn due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Timestamp, RecordKey)>, StoreError>> {
        Box::pin(self.shared.due(now, limit))
    }

    fn scan<'a>(
        &'a self,
        kind: Kind,
        after: Option<&'a RecordKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(RecordKey, Record)>, StoreError>> {
        Box::pin(self.shared.scan(kind, after, limit))
    }

    fn sweep(&self, _: Timestamp, _: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        // The server lets expired records go by itself.
        Box::pin(std::future::ready(Ok(0)))
    }

    fn health(&self) -> Result<(), StoreError> {
        self.shared.health()
    }

    fn mistrusted(&self) -> bool {
        self.shared.primaries.mistrusted()
    }

    fn accept(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let begun = self.shared.begin_generation(self.shared.tag_key()).await;
            let identity = begun.map_err(|_| StoreError::Unavailable)?;
            self.shared.adopt(&identity.generation);
            Ok(())
        })
    }
}
