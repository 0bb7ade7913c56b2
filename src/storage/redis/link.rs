//! The connection to one server: made when needed, thrown away when it breaks.
//!
//! Made when needed, looked at before its first use, thrown away when it breaks, made again with growing
//! pauses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::RedisError;

use super::connector::Connector;
use super::encoding::Bucket;
use super::group::Groups;
use super::primaries::Primaries;
use super::server::{self, Unfit};
use super::settings::NodeAddress;
use super::usable_connection::UsableConnection;

/// Between attempts to connect: the first pause and the longest; it doubles, and a random half of it
/// is added so that replicas do not come back all at once.
const PAUSE: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];

/// One server and the connection to it, if there is one.
pub(super) struct Link {
    pub(super) address: NodeAddress,
    connector: Arc<Connector>,
    primaries: Arc<Primaries>,
    buckets: Mutex<Vec<Bucket>>,
    state: Mutex<State>,
    connecting: tokio::sync::Mutex<()>,
}

struct State {
    live: Option<Arc<UsableConnection>>,
    connections: u64,
    failures: u32,
    not_before: Instant,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// It was tried a moment ago.
    #[error("not reachable a moment ago")]
    TooSoon,
    /// The server is not the primary.
    #[error("{0} is not a primary")]
    NotPrimary(NodeAddress),
    /// It may not keep money.
    #[error("{address}: {why}")]
    Unfit { address: NodeAddress, why: Unfit },
    /// It was refused.
    #[error("{address}: {error}")]
    Refused { address: NodeAddress, error: RedisError },
}

impl Link {
    pub(super) fn new(address: NodeAddress, connector: Arc<Connector>, primaries: Arc<Primaries>) -> Self {
        let state = State { live: None, connections: 0, failures: 0, not_before: Instant::now() };
        Self {
            address,
            connector,
            primaries,
            buckets: Mutex::default(),
            state: Mutex::new(state),
            connecting: tokio::sync::Mutex::new(()),
        }
    }

    /// The connection, if there is one now.
    pub(super) fn live(&self) -> Option<Arc<UsableConnection>> {
        let gone = |live: &Arc<UsableConnection>| live.groups.as_ref().is_some_and(Groups::are_gone);
        self.state.lock().live.clone().filter(|live| !gone(live))
    }

    /// Which buckets this server is the primary of from now on. New ones are looked at before anybody
    /// uses them here.
    pub(super) async fn take_over(&self, buckets: Vec<Bucket>) {
        let news: Vec<Bucket> = {
            let mut known = self.buckets.lock();
            let news = buckets.iter().filter(|bucket| !known.contains(bucket)).copied().collect();
            *known = buckets;
            news
        };
        if let Some(live) = self.live()
            && self.primaries.inspect(&live, &news).await.is_err()
        {
            self.lost(&live);
        }
    }

    /// A key of one of its buckets that is never there.
    pub(super) fn probe(&self) -> Option<String> {
        self.buckets.lock().first().map(|bucket| bucket.probe())
    }

    /// The connection, made if need be.
    pub(super) async fn connected(&self) -> Result<Arc<UsableConnection>, LinkError> {
        match self.live() {
            Some(live) => Ok(live),
            // In a box of its own: every call's future would be as large.
            None => Box::pin(self.connect_alone()).await,
        }
    }

    async fn connect_alone(&self) -> Result<Arc<UsableConnection>, LinkError> {
        let _alone = self.connecting.lock().await;
        if let Some(live) = self.live() {
            return Ok(live);
        }
        if self.state.lock().not_before > Instant::now() {
            return Err(LinkError::TooSoon);
        }
        let connected = self.establish().await;
        let mut state = self.state.lock();
        match &connected {
            Ok(live) => {
                state.failures = 0;
                state.live = Some(Arc::clone(live));
            }
            Err(_) => {
                let [shortest, longest] = PAUSE;
                let pause = shortest.saturating_mul(1 << state.failures.min(8)).min(longest);
                state.failures = state.failures.saturating_add(1);
                state.not_before = Instant::now() + pause + jitter(pause);
            }
        }
        connected
    }

    async fn establish(&self) -> Result<Arc<UsableConnection>, LinkError> {
        let refused = |error| LinkError::Refused { address: self.address.clone(), error };
        let settings = self.connector.settings();
        let mut connection =
            self.connector.connect(&self.address, settings.call_timeout).await.map_err(refused)?;
        let server = server::ask(&mut connection).await.map_err(refused)?;
        if !server.is_primary {
            return Err(LinkError::NotPrimary(self.address.clone()));
        }
        server
            .fitness(settings.accept_loss)
            .map_err(|why| LinkError::Unfit { address: self.address.clone(), why })?;
        let groups = match settings.wait_replicas {
            0 => None,
            _ => Some(Groups::connect(&self.connector, &self.address, &server).await.map_err(refused)?),
        };
        let number = {
            let mut state = self.state.lock();
            state.connections += 1;
            state.connections
        };
        let live = Arc::new(UsableConnection { number, connection, groups, server });
        let buckets = self.buckets.lock().clone();
        self.primaries.inspect(&live, &buckets).await.map_err(refused)?;
        Ok(live)
    }

    /// Throws a connection away that broke or hangs; another that has replaced it meanwhile stays.
    pub(super) fn lost(&self, live: &UsableConnection) {
        let mut state = self.state.lock();
        if state.live.as_ref().is_some_and(|current| current.number == live.number) {
            state.live = None;
        }
    }
}

/// Up to half of `pause`, at random.
pub(super) fn jitter(pause: Duration) -> Duration {
    let [byte] = crate::crypto::random::bytes::<1>().unwrap_or_default();
    pause.mul_f64(f64::from(byte) / 510.0)
}
