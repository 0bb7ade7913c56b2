//! A server that keeps nothing on disk, for keys that must be able to vanish for good.
//!
//! Whoever runs it has one process: what it held is gone when that ends, and no copy of it is anywhere.
//! A connection leads to one process for as long as it lasts, so that what is asked on it is asked of that
//! process.

use std::collections::HashMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, RedisError};

use super::connector::Connector;
use super::server::{self, Server};
use super::settings::{NodeAddress, Settings};

/// Deletes a value, if it is what it was.
const DELETE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end";

/// Why a server may not hold keys that are to vanish, with what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotVolatile {
    /// Too old.
    #[error("Redis {0} is too old: 7.0 or newer is needed")]
    Version(String),
    /// Its place in a Cluster may be taken by another.
    #[error("it is a node of a Cluster: use one that stands alone")]
    Clustered,
    /// Somebody else has what it has.
    #[error("it is a replica of another server: use one that stands alone")]
    Follows,
    /// Somebody else has what it has.
    #[error("it has {0} replica(s), which hold what it forgets: take them away")]
    Followed(u64),
    /// It would keep copies.
    #[error("it writes snapshots to its disk: set `save \"\"`")]
    Snapshots,
    /// It would keep copies.
    #[error("it has an append-only file: set `appendonly no`")]
    Appends,
    /// It may throw keys away that are needed.
    #[error("its eviction policy is {0}: set `maxmemory-policy noeviction`")]
    EvictsKeys(String),
}

/// A server cannot be asked, or may not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VolatileError {
    /// It does not answer, or refuses what it is asked.
    #[error("{0}")]
    Refused(String),
    /// The connection broke, which tells nothing of the server: it may be asked again at once.
    #[error("{0}")]
    Broken(String),
    /// It answers, and may not be used.
    #[error("{0}")]
    Unfit(#[from] NotVolatile),
}

impl From<RedisError> for VolatileError {
    fn from(error: RedisError) -> Self {
        // Such an error names no value that was sent.
        let told = error.to_string();
        if error.is_io_error() && !error.is_timeout() { Self::Broken(told) } else { Self::Refused(told) }
    }
}

/// One server, and the connection to it if there is one.
pub(crate) struct VolatileServer {
    address: NodeAddress,
    connector: Connector,
    met: Option<Met>,
}

/// A process that answers.
#[derive(Clone, Debug)]
pub(crate) struct Answering {
    /// Which it is: another with every start.
    pub(crate) run_id: String,
    /// Whether it was connected to only now.
    pub(crate) is_new: bool,
}

/// A process that was connected to.
struct Met {
    connection: MultiplexedConnection,
    run_id: String,
}

impl VolatileServer {
    /// Connects to nothing yet.
    pub(crate) fn at(address: NodeAddress, settings: &Settings) -> Self {
        Self { address, connector: Connector::new(settings.clone()), met: None }
    }

    /// Where it is.
    pub(crate) const fn address(&self) -> &NodeAddress {
        &self.address
    }

    /// Makes sure that it answers, connecting again if need be.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn meet(&mut self) -> Result<Answering, VolatileError> {
        if let Some(run_id) = self.met.as_ref().map(|met| met.run_id.clone())
            && self.told::<String>(&redis::cmd("PING")).await.is_ok()
        {
            return Ok(Answering { run_id, is_new: false });
        }
        self.met = None;
        let patience = self.connector.settings().call_timeout;
        let mut connection = self.connector.connect(&self.address, patience).await?;
        let run_id = server::ask(&mut connection).await?.run_id;
        self.met = Some(Met { connection, run_id: run_id.clone() });
        Ok(Answering { run_id, is_new: true })
    }

    /// Whether it is one that forgets, as it says now.
    ///
    /// # Errors
    /// When it may not be used, or does not say what it is.
    pub(crate) async fn examine(&mut self) -> Result<(), VolatileError> {
        let Some(met) = &mut self.met else { return Err(not_met()) };
        let server = server::ask(&mut met.connection).await?;
        if server.run_id != met.run_id {
            // Something between us leads here and there.
            self.met = None;
            return Err(VolatileError::Refused("several servers answer in its name".to_owned()));
        }
        let kept: HashMap<String, String> =
            self.told(redis::cmd("CONFIG").arg("GET").arg("save").arg("appendonly")).await?;
        let said = |name: &str| {
            let missing = || VolatileError::Refused(format!("`CONFIG GET {name}` says nothing"));
            kept.get(name).map(String::as_str).ok_or_else(missing)
        };
        Ok(server.volatility(said("save")?, said("appendonly")?)?)
    }

    /// Values by their names, in one round trip.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn values(&mut self, names: &[String]) -> Result<Vec<Option<Vec<u8>>>, VolatileError> {
        self.told(redis::cmd("MGET").arg(names)).await
    }

    /// Puts a value where none is; whether it did. It goes by itself after `life`, if one is given.
    ///
    /// # Errors
    /// When it does not answer: it may be there all the same.
    pub(crate) async fn put_new(
        &mut self,
        name: &str,
        value: &[u8],
        life: Option<Duration>,
    ) -> Result<bool, VolatileError> {
        let mut command = redis::cmd("SET");
        command.arg(name).arg(value).arg("NX");
        if let Some(life) = life {
            command.arg("PX").arg(u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1));
        }
        Ok(self.told::<Option<String>>(&command).await?.is_some())
    }

    /// Deletes a value, unless another stands in its place.
    ///
    /// # Errors
    /// When it does not answer: it may be gone all the same.
    pub(crate) async fn delete(&mut self, name: &str, value: &[u8]) -> Result<(), VolatileError> {
        let mut command = redis::cmd("EVAL");
        command.arg(DELETE).arg(1).arg(name).arg(value);
        self.told::<Option<i64>>(&command).await.map(drop)
    }

    /// Has the next call connect anew.
    pub(crate) fn leave(&mut self) {
        self.met = None;
    }

    async fn told<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, VolatileError> {
        let Some(met) = &mut self.met else { return Err(not_met()) };
        let told = command.query_async(&mut met.connection).await.map_err(VolatileError::from);
        if matches!(told, Err(VolatileError::Broken(_))) {
            self.met = None;
        }
        told
    }
}

impl Server {
    /// Whether it forgets all it held when it ends, and nothing before.
    pub(super) fn volatility(&self, save: &str, append_only: &str) -> Result<(), NotVolatile> {
        if self.is_too_old() {
            return Err(NotVolatile::Version(self.version_text.clone()));
        }
        if self.is_cluster {
            return Err(NotVolatile::Clustered);
        }
        if !self.is_primary {
            return Err(NotVolatile::Follows);
        }
        if self.replicas > 0 {
            return Err(NotVolatile::Followed(self.replicas));
        }
        if !save.is_empty() {
            return Err(NotVolatile::Snapshots);
        }
        if append_only != "no" {
            return Err(NotVolatile::Appends);
        }
        if self.eviction != "noeviction" {
            return Err(NotVolatile::EvictsKeys(self.eviction.clone()));
        }
        Ok(())
    }
}

fn not_met() -> VolatileError {
    VolatileError::Refused("it does not answer".to_owned())
}
