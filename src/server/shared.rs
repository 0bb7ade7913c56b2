//! What every connection of the public listener needs, and none changes.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;

use super::Settings;
use super::connection_counts::{ConnectionCounts, CountedConnection, Full};
use super::seats::{Kind, Seats};
use super::tls::Tls;
use crate::auth::client_certificate::ClientAuthorities;
use crate::limit::Arrivals;
use crate::telemetry::metrics::Metrics;

/// What every connection needs.
pub(super) struct Shared {
    pub(super) settings: Settings,
    /// What a new configuration replaces.
    pub(super) entrance: ArcSwap<Entrance>,
    /// What client certificates are judged by after the handshake.
    pub(super) clients: Arc<ClientAuthorities>,
    pub(super) counts: ConnectionCounts,
    pub(super) seats: Arc<Seats>,
    pub(super) metrics: Arc<Metrics>,
}

/// What of the listener a new configuration changes while it listens.
#[derive(Clone)]
pub struct Entrance {
    /// For handshakes from now on; who is connected stays so.
    pub tls: Tls,
    /// How often who may connect.
    pub arrivals: Arc<Arrivals>,
    /// The networks that redeemers are proven by.
    pub redeemers: Vec<IpNet>,
}

impl Shared {
    /// From now on by this entrance.
    pub(super) fn replace(&self, entrance: Entrance) {
        self.clients.replace(Arc::clone(&entrance.tls.clients));
        self.seats.reserve(self.settings.reserved_for(&entrance.redeemers));
        self.entrance.store(Arc::new(entrance));
    }

    /// Whether this address may say who the client is.
    pub(super) fn is_proxy(&self, address: IpAddr) -> bool {
        self.settings.proxy.networks.iter().any(|network| network.contains(&address))
    }

    /// For whom a place is that this client takes.
    pub(super) fn kind(&self, client: IpAddr) -> Kind {
        let redeems = self.entrance.load().redeemers.iter().any(|network| network.contains(&client));
        if redeems { Kind::Guest } else { Kind::Common }
    }

    /// Charges a client one connection, and counts it while it is open; reports why not.
    pub(super) fn enter(&self, client: IpAddr) -> Option<CountedConnection> {
        let entered = if self.entrance.load().arrivals.admit(client) {
            self.counts.enter(client).map_err(Full::reason)
        } else {
            Err("rate")
        };
        entered.map_err(|reason| self.metrics.connection_refused(reason)).ok()
    }

    /// Reports what came of asking for a place; whether there is one.
    pub(super) fn seated<T>(&self, seat: Option<(T, bool)>) -> Option<T> {
        match &seat {
            None => self.metrics.connection_refused("all"),
            Some((_, true)) => self.metrics.connection_evicted("quiet"),
            Some((_, false)) => {}
        }
        seat.map(|(seat, _)| seat)
    }
}
