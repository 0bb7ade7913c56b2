//! Counts open connections by client address and by the networks around it.
//!
//! So that no client, and nobody with a network of its own, can take them all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::Mutex;

use crate::limit::networks;

/// Open connections by network.
#[derive(Clone)]
pub(super) struct ConnectionCounts {
    /// From one client.
    max: usize,
    counts: Arc<Mutex<HashMap<IpNet, usize>>>,
}

/// What has its fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Address,
    /// A network around it.
    Network,
}

impl Full {
    /// The metric's label.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Network => "network",
        }
    }
}

impl ConnectionCounts {
    /// Admits at most `max` connections from one client.
    pub(super) fn new(max: usize) -> Self {
        Self { max, counts: Arc::default() }
    }

    /// Counts one more connection.
    ///
    /// # Errors
    /// The address, or a network it is in, has its fill.
    pub(super) fn enter(&self, address: IpAddr) -> Result<CountedConnection, Full> {
        let mut counts = self.counts.lock();
        let has_room = |(network, share): &(IpNet, NonZeroU32)| {
            let most = self.max.saturating_mul(usize::try_from(share.get()).unwrap_or(usize::MAX));
            counts.get(network).copied().unwrap_or(0) < most
        };
        if let Some(full) = networks(address).position(|network| !has_room(&network)) {
            return Err(if full == 0 { Full::Address } else { Full::Network });
        }
        for (network, _) in networks(address) {
            *counts.entry(network).or_default() += 1;
        }
        Ok(CountedConnection { counts: self.clone(), address })
    }
}

/// One counted connection, until dropped.
pub(super) struct CountedConnection {
    counts: ConnectionCounts,
    address: IpAddr,
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        let mut counts = self.counts.counts.lock();
        for (network, _) in networks(self.address) {
            if let Some(count) = counts.get_mut(&network) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    // Addresses that left must not pile up.
                    counts.remove(&network);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(counts: &ConnectionCounts, address: &str) -> Result<CountedConnection, Full> {
        counts.enter(address.parse().unwrap())
    }

    #[test]
    fn an_address_has_its_fill_until_one_leaves_and_is_then_forgotten() {
        let counts = ConnectionCounts::new(2);
        let first = enter(&counts, "192.0.2.1").unwrap();
        let second = enter(&counts, "::ffff:192.0.2.1").unwrap();
        assert_eq!(enter(&counts, "192.0.2.1").err(), Some(Full::Address));
        assert!(enter(&counts, "192.0.2.2").is_ok(), "another address is not affected");
        drop(first);
        let third = enter(&counts, "192.0.2.1").unwrap();
        drop((second, third));
        assert!(counts.counts.lock().is_empty());
    }

    #[test]
    fn an_ipv6_subscriber_is_one_client() {
        let counts = ConnectionCounts::new(1);
        let _held = enter(&counts, "2001:db8:1:2::1").unwrap();
        assert_eq!(enter(&counts, "2001:db8:1:2:ffff::9").err(), Some(Full::Address));
        assert!(enter(&counts, "2001:db8:1:3::1").is_ok());
    }

    #[test]
    fn a_network_has_its_fill_however_many_addresses_it_has() {
        let counts = ConnectionCounts::new(3);
        let fill = |address: &dyn Fn(u16) -> String| {
            let held: Vec<_> = (0..100).map_while(|n| enter(&counts, &address(n)).ok()).collect();
            let next = u16::try_from(held.len()).unwrap();
            (held.len(), enter(&counts, &address(next)).err())
        };
        assert_eq!(fill(&|n| format!("192.0.2.{n}")), (6, Some(Full::Network)));
        assert_eq!(fill(&|n| format!("2001:db8:1:{n:x}::1")), (6, Some(Full::Network)));
        assert_eq!(fill(&|n| format!("2001:db8:2:{n:x}00::1")), (12, Some(Full::Network)));
        assert!(counts.counts.lock().is_empty());
    }

    #[test]
    fn a_bound_of_zero_admits_nobody_and_remembers_nobody() {
        let counts = ConnectionCounts::new(0);
        assert_eq!(enter(&counts, "192.0.2.1").err(), Some(Full::Address));
        assert!(counts.counts.lock().is_empty());
    }
}
