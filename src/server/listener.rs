//! Accepts connections and, at the end, sees them off. The loop does nothing that a client could
//! make slow: bounds are checked without waiting, all else happens in the connection's own task.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout_at};
use tokio_util::task::TaskTracker;

use super::connection::{self, Ending};
use super::connection_counts::ConnectionCounts;
use super::seats::{Kind, Seat, Seats, Unread};
use super::shared::{Entrance, Shared};
use super::{Service, Settings};
use crate::auth::Known;
use crate::auth::client_certificate::ClientAuthorities;
use crate::drain::Drain;
use crate::telemetry::log::{Level, Log, Value};
use crate::telemetry::metrics::Metrics;

/// How long to leave the listener alone when the process is out of file descriptors or memory.
const OUT_OF_RESOURCES: Duration = Duration::from_millis(50);

/// What of a listener can be changed while it listens.
pub struct EntranceInUse(Arc<Shared>);

impl EntranceInUse {
    /// As it is.
    pub fn now(&self) -> Entrance {
        Entrance::clone(&self.0.entrance.load())
    }

    /// From now on as it is here. No connection is closed.
    pub fn replace(&self, entrance: Entrance) {
        self.0.replace(entrance);
    }

    /// Who has shown a credential that is none of these any more is a stranger, and gives way as one.
    pub fn forget_strangers(&self, known: &Known) {
        self.0.seats.forget_strangers(known);
    }
}

/// The public listener.
pub struct Server {
    shared: Arc<Shared>,
    log: Log,
}

impl Server {
    /// A server with these bounds.
    pub fn new(settings: Settings, entrance: Entrance, metrics: Arc<Metrics>, log: Log) -> Self {
        let reserved = settings.reserved_for(&entrance.redeemers);
        let unread = Unread { each: settings.unread_bytes_per_connection, all: settings.unread_bytes };
        let seats = Arc::new(Seats::new(settings.connections, reserved, unread));
        let counts = ConnectionCounts::new(settings.connections_per_address);
        Self {
            shared: Arc::new(Shared {
                settings,
                clients: Arc::new(ClientAuthorities::new(Arc::clone(&entrance.tls.clients))),
                entrance: ArcSwap::from_pointee(entrance),
                counts,
                seats,
                metrics,
            }),
            log,
        }
    }

    /// What of it can be changed while it listens.
    pub fn entrance(&self) -> EntranceInUse {
        EntranceInUse(Arc::clone(&self.shared))
    }

    /// Serves until the drain has settled (or its deadline passed), then closes what is open:
    /// gently until the deadline, at once after it. Completes when every connection is closed.
    pub async fn run<S: Service>(self, listener: TcpListener, service: Arc<S>, drain: Drain) {
        let connections = TaskTracker::new();
        let ending = Ending::default();
        let mut over = std::pin::pin!(over(&drain));
        loop {
            tokio::select! {
                biased;
                () = &mut over => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, address)) => self.admit(stream, address, &service, &connections, &ending),
                    Err(error) => self.accept_failed(&error).await,
                },
            }
        }
        // The port is free from here on: another process may already be waiting for it.
        drop(listener);
        ending.gently.cancel();
        connections.close();
        let Some(deadline) = drain.deadline() else { return };
        if timeout_at(deadline.instant().into(), connections.wait()).await.is_err() {
            let left = u64::try_from(connections.len()).unwrap_or(u64::MAX);
            self.log.event(Level::Warn, "connections_cut", &[("connections", Value::Number(left))]);
            ending.now.cancel();
            connections.wait().await;
        }
    }

    fn admit<S: Service>(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        service: &Arc<S>,
        connections: &TaskTracker,
        ending: &Ending,
    ) {
        let shared = Arc::clone(&self.shared);
        let ip = address.ip().to_canonical();
        // A proxy's connection is its client's, once that is known.
        let (counted, kind) = if shared.is_proxy(ip) {
            (None, Kind::Guest)
        } else {
            let Some(counted) = shared.enter(ip) else { return };
            (Some(counted), shared.kind(ip))
        };
        let Some(seat) = shared.seated(shared.seats.take(kind)) else { return };
        let (service, ending) = (Arc::clone(service), ending.clone());
        connections.spawn(async move {
            let _open = shared.metrics.connection_open();
            let serving = Arc::clone(&shared);
            // However it ends, a panic included, its place is free again.
            let taken = Taken { seat: &seat, shared: &shared };
            connection::serve(stream, address, counted, &seat, serving, service, ending).await;
            drop(taken);
        });
    }

    async fn accept_failed(&self, error: &std::io::Error) {
        use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            return;
        }
        self.shared.metrics.connection_refused("resources");
        self.log.event(Level::Error, "accept_failed", &[("reason", Value::error(error))]);
        sleep(OUT_OF_RESOURCES).await;
    }
}

/// A place, given back when dropped.
struct Taken<'a> {
    seat: &'a Arc<Seat>,
    shared: &'a Shared,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.shared.seats.leave(self.seat);
    }
}

/// Completes when the drain has settled, or its deadline has passed.
async fn over(drain: &Drain) {
    drain.begun().await;
    let Some(deadline) = drain.deadline() else { return };
    let _ = timeout_at(deadline.instant().into(), drain.settled()).await;
}
