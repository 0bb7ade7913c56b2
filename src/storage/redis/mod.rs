//! The shared engine: records in Redis, standalone or Cluster, for several replicas of the gateway.
//!
//! A batch is one script on the primary of its bucket, named by revisions that this process drew:
//! sent again after a lost answer it finds itself and answers the same. What Redis can and cannot
//! promise (replication is asynchronous) is handled where it shows: [`group`] waits for replicas,
//! [`identity`] notices a store that is not the one it was, [`primaries`] mistrusts after a failover.
//!
//! Reads are of the primary. They may show what has not reached a replica yet: an answer given
//! twice rests on it, never a charge, because whatever moves money commits first.

mod batch;
mod call;
mod connector;
mod encoding;
mod failure;
mod group;
mod identity;
mod indexes;
mod link;
mod usable_connection;
mod portion;
mod primaries;
mod probe;
mod rate;
mod read;
mod script;
mod server;
mod settings;
mod shared;
#[cfg(test)]
mod tests;
mod topology;
mod volatile;
mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use futures_util::future::Either;
use redis::Value;

pub use self::probe::{Said, probe, probe_volatile};
pub use self::settings::{NodeAddress, Settings};
pub(crate) use self::volatile::{Answering, VolatileError, VolatileServer};

use self::call::{Answered, Request, commit_error};
use self::connector::Connector;
pub(super) use self::identity::IdentityError;
use self::link::LinkError;
use self::primaries::Primaries;
use self::script::{Revisions, Scripts};
use self::server::Unfit;
use self::shared::{Known, Shared};
use self::topology::{Topology, TopologyError};
use super::Notify;
use crate::crypto::random::RandomUnavailable;
use crate::domain::clock::{KeptClock, Timestamp};
use crate::records::{
    Batch, BoxFuture, Committed, Durability, Identity, Kind, Purpose, Reading, Record, RecordKey,
    RecordStore, StoreError,
};

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

impl RedisStore {
    /// Reaches the store, or makes one where there is none.
    ///
    /// # Errors
    /// When no server answers, one of them may not keep money, or the store cannot be known: see
    /// [`OpenError`], which says what to do.
    pub async fn open(settings: Settings, clock: Arc<KeptClock>, notify: Notify) -> Result<Self, OpenError> {
        let connector = Arc::new(Connector::new(settings.clone()));
        let primaries =
            Arc::new(Primaries::new(Arc::clone(&clock), settings.failover_caution, Arc::clone(&notify)));
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
        let (known, whole) = match (shared.identify().await, shared.settings.known_tag_key) {
            (Ok(identity), _) => {
                let whole = shared.is_whole(&identity.generation).await?;
                let generation = identity.generation.into_bytes();
                (Known { tag_key: identity.tag_key, generation }, whole)
            }
            // It was lost, in part or all of it: an operator restores it, or accepts what is there.
            (Err(IdentityError::Gone | IdentityError::Lost), Some(tag_key)) => {
                (Known { tag_key, generation: Vec::new() }, false)
            }
            (Err(error), _) => return Err(error.into()),
        };
        shared.identity.store(Arc::new(known));
        if !whole {
            shared.lose_generation();
        }
        tokio::spawn(watch::watch(Arc::downgrade(&shared)));
        Ok(Self { shared })
    }

    /// The processes that serve it now, by their `run_id`: none of them is for what must not be kept.
    pub fn served_by(&self) -> Vec<String> {
        self.shared.run_ids()
    }
}

impl Shared {
    /// The processes that serve it now, by their `run_id`.
    fn run_ids(&self) -> Vec<String> {
        let links = &self.topology.map().links;
        links.iter().filter_map(|link| Some(link.live()?.server.run_id.clone())).collect()
    }

    async fn refuse_unfit_servers(&self) -> Result<(), OpenError> {
        for link in &self.topology.map().links {
            link.connected().await.map_err(|error| match error {
                LinkError::Unfit { address, why } => OpenError::Unfit { node: address, why },
                _ => OpenError::Unreachable(link.address.clone()),
            })?;
        }
        Ok(())
    }

    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        if self.has_lost_generation() {
            return Err(StoreError::Changed);
        }
        let revision = self.revisions.next();
        let Some((bucket, input)) = self.prepare(&batch, revision, &*self.clock) else {
            return Err(StoreError::Unavailable);
        };
        let waits = batch.durability == Durability::Synced && self.settings.wait_replicas > 0;
        let script = match batch.purpose {
            Purpose::Admit => &self.scripts.admit,
            Purpose::Finish => &self.scripts.finish,
        };
        let request = Request::Script { script, input, waits };
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
}

impl RecordStore for RedisStore {
    fn engine(&self) -> &'static str {
        "redis"
    }

    fn identity(&self) -> Identity {
        // Replicas come and go and share one store: a lease ends with its time alone.
        Identity { incarnation: 1, tag_key: self.shared.tag_key() }
    }

    fn read<'a>(&'a self, keys: &'a [RecordKey]) -> Reading<'a> {
        Either::Right(Box::pin(self.shared.read(keys)))
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

    fn may_have_forgotten(&self) -> bool {
        self.shared.primaries.may_have_forgotten()
    }

    fn reads_are_acknowledged(&self) -> bool {
        self.shared.settings.wait_replicas == 0
    }

    fn refuse_older_releases(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if self.shared.has_lost_generation() {
                return Err(StoreError::Changed);
            }
            self.shared.keep_out_older_releases().await.map_err(|_| StoreError::Unavailable)
        })
    }

    fn accept(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let begun = self.shared.begin_generation(self.shared.tag_key()).await;
            let identity = begun.map_err(|_| StoreError::Unavailable)?;
            let whole = self.shared.is_whole(&identity.generation).await.unwrap_or(false);
            // Somebody else accepted it at the same time: one of the two follows the other.
            if !whole {
                return Err(StoreError::Unacknowledged);
            }
            self.shared.adopt(&identity.generation);
            Ok(())
        })
    }
}
