//! What a server says of itself, and whether it may keep money.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};

/// The oldest version whose scripts can say that they may run when memory is short.
const OLDEST: (u32, u32) = (7, 0);
/// The first that can wait for disks too (`WAITAOF`).
const WAITS_FOR_DISKS: (u32, u32) = (7, 2);

/// What a server said of itself.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// Changes with every start of the process.
    pub(super) run_id: String,
    /// Whether it takes writes.
    pub(super) is_primary: bool,
    /// Whether it is a node of a Redis Cluster.
    pub(super) is_cluster: bool,
    version: (u32, u32),
    pub(super) version_text: String,
    /// Bytes in use, and the most that may be; 0 where nothing bounds it.
    pub(super) memory: (u64, u64),
    /// How many replicas follow it.
    pub(super) replicas: u64,
    appends_to_file: bool,
    pub(super) eviction: String,
}

/// Why a server may not keep money, with what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Too old.
    #[error("Redis {0} is too old: 7.0 or newer is needed")]
    Version(String),
    /// It may throw records away.
    #[error(
        "its eviction policy is {0}: it may forget a claim when memory is short; \
         set `maxmemory-policy noeviction`"
    )]
    Evicts(String),
    /// It forgets what it acknowledged when it restarts; snapshots are minutes old.
    #[error(
        "it has no append-only file: a restart forgets claims; set `appendonly yes`, \
         or `store.accept_loss = true` here"
    )]
    Forgets,
}

/// Asks a server what it is.
pub(super) async fn ask(connection: &mut MultiplexedConnection) -> RedisResult<Server> {
    let text: String = redis::cmd("INFO").query_async(connection).await?;
    let fields: HashMap<&str, &str> =
        text.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
    let field = |name: &str| fields.get(name).copied().unwrap_or_default();
    let number = |name: &str| field(name).parse().unwrap_or(0);
    let version_text = field("redis_version").to_owned();
    let mut parts = version_text.split('.').map(|part| part.parse().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    Ok(Server {
        run_id: field("run_id").to_owned(),
        is_primary: field("role") == "master",
        is_cluster: field("cluster_enabled") == "1",
        version,
        version_text,
        memory: (number("used_memory"), number("maxmemory")),
        replicas: number("connected_slaves"),
        appends_to_file: field("aof_enabled") == "1",
        eviction: field("maxmemory_policy").to_owned(),
    })
}

impl Server {
    /// Whether an acknowledgement can include the disks of primary and replicas. Where they are synced
    /// once a second, waiting for them would take as long.
    pub(super) async fn waits_for_disks(&self, connection: &mut MultiplexedConnection) -> bool {
        if self.version < WAITS_FOR_DISKS || !self.appends_to_file {
            return false;
        }
        let asked: RedisResult<Vec<String>> =
            redis::cmd("CONFIG").arg("GET").arg("appendfsync").query_async(connection).await;
        asked.is_ok_and(|pair| pair.get(1).is_some_and(|when| when == "always"))
    }

    /// Whether it is older than any that may be used.
    pub(super) fn is_too_old(&self) -> bool {
        self.version < OLDEST
    }

    /// Whether it may keep money.
    pub(super) fn fitness(&self, accept_loss: bool) -> Result<(), Unfit> {
        if self.is_too_old() {
            return Err(Unfit::Version(self.version_text.clone()));
        }
        if self.eviction != "noeviction" {
            return Err(Unfit::Evicts(self.eviction.clone()));
        }
        if !accept_loss && !self.appends_to_file {
            return Err(Unfit::Forgets);
        }
        Ok(())
    }
}

/// The server's clock, in milliseconds since the Unix epoch.
pub(super) async fn time(connection: &mut MultiplexedConnection) -> RedisResult<i64> {
    let [seconds, micros]: [String; 2] = match redis::cmd("TIME").query_async(connection).await? {
        Value::Array(parts) => {
            let texts: Vec<String> =
                parts.into_iter().map(redis::from_redis_value).collect::<Result<_, _>>()?;
            texts.try_into().unwrap_or_default()
        }
        _ => Default::default(),
    };
    let number = |text: &str| text.parse::<i64>().unwrap_or_default();
    Ok(number(&seconds).saturating_mul(1000).saturating_add(number(&micros) / 1000))
}
