//! The watch over the servers: connects before anybody needs it, notices who is gone and who has
//! taken over, sets our clock by theirs, and follows an operator who accepted a changed store.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::encoding::Bucket;
use super::{Shared, server};
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

impl Shared {
    async fn look(self: &Arc<Self>) {
        let map = self.topology.map();
        let looks = map.links.iter().map(|link| async move {
            let Ok(live) = link.connected().await else { return Err(link.address.to_string()) };
            // A server that hangs is found here rather than by everybody at once.
            let mut connection = live.connection.clone();
            let ping = redis::cmd("PING");
            let answered = connection.send_packed_command(&ping);
            match tokio::time::timeout(self.settings.call_timeout, answered).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) | Err(_) => {
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
