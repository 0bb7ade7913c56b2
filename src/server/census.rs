//! Counts open connections by client address, so that one client cannot take them all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// Open connections by address.
#[derive(Clone)]
pub(super) struct Census {
    max: usize,
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Census {
    /// Admits at most `max` connections from one address.
    pub(super) fn new(max: usize) -> Self {
        Self { max, counts: Arc::default() }
    }

    /// Counts one more connection; `None` when the address has its fill.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Presence> {
        let address = neighbourhood(address);
        let mut counts = self.counts.lock();
        let count = counts.entry(address).or_default();
        if *count >= self.max {
            if *count == 0 {
                counts.remove(&address);
            }
            return None;
        }
        *count += 1;
        Some(Presence { census: self.clone(), address })
    }
}

/// What counts as one client: an IPv4 address, or the /64 that an IPv6 subscriber gets.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

/// One counted connection, until dropped.
pub(super) struct Presence {
    census: Census,
    address: IpAddr,
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut counts = self.census.counts.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                // Addresses that left must not pile up.
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_fill_until_one_leaves_and_is_then_forgotten() {
        let census = Census::new(2);
        let address = IpAddr::from([192, 0, 2, 1]);
        let first = census.enter(address).unwrap();
        let second = census.enter("::ffff:192.0.2.1".parse().unwrap()).unwrap();
        assert!(census.enter(address).is_none());
        assert!(census.enter(IpAddr::from([192, 0, 2, 2])).is_some(), "another address is not affected");
        drop(first);
        let third = census.enter(address).unwrap();
        drop((second, third));
        assert!(census.counts.lock().is_empty());
    }

    #[test]
    fn an_ipv6_subscriber_is_one_client() {
        let census = Census::new(1);
        let _held = census.enter("2001:db8:1:2::1".parse().unwrap()).unwrap();
        assert!(census.enter("2001:db8:1:2:ffff::9".parse().unwrap()).is_none());
        assert!(census.enter("2001:db8:1:3::1".parse().unwrap()).is_some());
    }

    #[test]
    fn a_bound_of_zero_admits_nobody_and_remembers_nobody() {
        let census = Census::new(0);
        assert!(census.enter(IpAddr::from([192, 0, 2, 1])).is_none());
        assert!(census.counts.lock().is_empty());
    }
}
