//! The watch over the servers: who is gone, who has taken over, and what time they have.
//!
//! Connects before anybody needs it, notices who is gone and who has taken over, sets our clock by
//! theirs, and follows an operator who accepted a changed store.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use redis::{ErrorKind, RedisError, ServerErrorKind, Value};

use super::encoding::Bucket;
use super::failure::Failure;
use super::server;
use super::shared::Shared;
use super::usable_connection::UsableConnection;
use crate::domain::clock::Timestamp;
use crate::storage::Notice;

/// Between two looks.
const TICK: Duration = Duration::from_millis(500);
/// A Cluster is asked who owns what even when nobody complains.
const TOPOLOGY_EVERY: Duration = Duration::from_secs(10);
/// A measurement of the clock that took longer is worth nothing.
const CLOCK_PATIENCE: Duration = Duration::from_millis(50);

/// Watches until the store is gone.
pub(super) async fn watch(store: Weak<Shared>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looked = Instant::now();
    loop {
        tick.tick().await;
        let Some(shared) = store.upgrade() else { return };
        if looked.elapsed() >= TOPOLOGY_EVERY {
            looked = Instant::now();
            let _ = shared.topology.refresh().await;
        }
        shared.look().await;
    }
}

/// What is wrong with a server that is connected.
enum Fault {
    /// One of the connections does not answer.
    Silent,
    /// It takes no writes.
    RefusesWrites,
}

/// Asks on every connection, and for a write that changes nothing: a server whose disk or replicas
/// fail, or that is no primary any more, answers everything else.
async fn look_at(live: &UsableConnection, probe: Option<String>) -> Result<(), Fault> {
    let mut connection = live.connection.clone();
    let command = match probe {
        Some(key) => redis::cmd("DEL").arg(key).take(),
        None => redis::cmd("PING"),
    };
    let grouped = async {
        match &live.groups {
            Some(groups) => groups.answer().await,
            None => true,
        }
    };
    let (answered, grouped) = tokio::join!(connection.send_packed_command(&command), grouped);
    let answered = answered.map_err(|_| Fault::Silent).map(Value::extract_error)?;
    if !grouped {
        return Err(Fault::Silent);
    }
    match answered {
        Err(error) if is_no_more_written_to(&error) => Err(Fault::RefusesWrites),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn is_no_more_written_to(error: &RedisError) -> bool {
    Failure::of(error) == Failure::WritesRefused
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

impl Shared {
    async fn look(self: &Arc<Self>) {
        let map = self.topology.map();
        let looks = map.links.iter().map(|link| async move {
            let Ok(live) = link.connected().await else { return Err(link.address.to_string()) };
            // A server that hangs is found here rather than by everybody at once.
            match tokio::time::timeout(self.settings.call_timeout, look_at(&live, link.probe())).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(Fault::RefusesWrites)) => Err(link.address.to_string()),
                Ok(Err(Fault::Silent)) | Err(_) => {
                    link.lost(&live);
                    Err(link.address.to_string())
                }
            }
        });
        let down: Vec<String> =
            futures_util::future::join_all(looks).await.into_iter().filter_map(Result::err).collect();
        if down.is_empty() && !map.links.is_empty() {
            self.note_up();
        } else {
            self.note_down();
            let _ = self.topology.refresh().await;
            return;
        }
        if self.settings.follow_server_clock {
            self.set_clock().await;
        }
        if self.has_lost_generation() {
            self.follow().await;
        }
    }

    /// Sets our clock by that of the server that keeps the first bucket.
    pub(super) async fn set_clock(&self) {
        let map = self.topology.map();
        let Some(live) = map.owner(Bucket::FIRST).and_then(|link| link.live()) else { return };
        let mut connection = live.connection.clone();
        // By a clock that goes on while the machine sleeps: an answer from before is worth nothing.
        let asked = self.clock.asking();
        let Ok(theirs) = server::time(&mut connection).await else { return };
        if self.clock.asking().since(asked) <= CLOCK_PATIENCE && theirs > 0 {
            self.clock.set_by_server(Timestamp::from_unix_millis(theirs), asked);
        }
    }

    /// Whether an operator has accepted the store through another replica.
    async fn follow(&self) {
        let Ok(Some(identity)) = self.read_identity().await else { return };
        if identity.complete
            && identity.tag_key == self.tag_key()
            && self.is_whole(&identity.generation).await.is_ok_and(|whole| whole)
        {
            self.adopt(&identity.generation);
            (self.notify)(Notice::Accepted);
        }
    }
}
