//! Connections a second of an address and of the networks around it.
//!
//! Of an address, and of the networks around it, so that whoever owns a whole network is not as many
//! strangers as it has addresses. Apart from the other limits, because it is asked before a byte of a
//! connection is read, a TLS handshake being the dearest thing a stranger can ask for.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;

use super::bucket::{KeyedBucket, Rate};
use super::clock::LimitClock;
use super::network::{SHARES, networks};
use super::states::Grouped;
use super::{LimitScope, Settings};

/// Connections a second, by address and network.
pub struct Arrivals {
    by_share: [(NonZeroU32, KeyedBucket<IpNet>); SHARES.len()],
}

impl Grouped for IpNet {
    type Group = IpNet;

    /// What one operator announces: an IPv4 /16 or an IPv6 /32.
    fn group(&self) -> Self {
        let length = if self.max_prefix_len() == 32 { 16 } else { 32 };
        Self::new(self.addr(), length.min(self.prefix_len())).map_or(*self, |network| network.trunc())
    }
}

impl Arrivals {
    /// By the system's monotonic clock.
    pub fn new(settings: &Settings) -> Self {
        Self::with_clock(settings, &LimitClock::system())
    }

    /// By a clock of the caller's.
    pub fn with_clock(settings: &Settings, clock: &LimitClock) -> Self {
        let by_share = SHARES.map(|share| {
            let rate = Rate {
                requests: settings.address_connections_per_second.saturating_mul(share),
                per: Duration::from_secs(1),
                burst: settings.address_connection_burst.saturating_mul(share),
            };
            // Whoever it turns away learns no more than that.
            (share, KeyedBucket::new(LimitScope::Address, rate, settings.tracked_addresses, clock.clone()))
        });
        Self { by_share }
    }

    /// Charges an address and the networks around it one connection, narrow to wide up to the first
    /// that has nothing left; whether none was.
    pub fn admit(&self, address: IpAddr) -> bool {
        networks(address).all(|(network, share)| {
            let bucket = self.by_share.iter().find(|(of, _)| *of == share);
            bucket.is_none_or(|(_, bucket)| bucket.take(network).is_ok())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::ManualLimitClock;

    fn arrivals() -> (Arrivals, ManualLimitClock) {
        let (clock, hand) = LimitClock::manual();
        let settings = Settings {
            address_connections_per_second: NonZeroU32::MIN,
            address_connection_burst: NonZeroU32::new(4).unwrap(),
            ..Settings::default()
        };
        (Arrivals::with_clock(&settings, &clock), hand)
    }

    /// How many of the addresses in turn are let in before the first that is not.
    fn admitted(arrivals: &Arrivals, address: impl Fn(u16) -> String) -> u16 {
        (0..100).find(|n| !arrivals.admit(address(*n).parse().unwrap())).unwrap()
    }

    #[test]
    fn an_address_uses_up_its_own_and_gets_it_back() {
        let (arrivals, hand) = arrivals();
        assert_eq!(admitted(&arrivals, |_| "192.0.2.1".to_owned()), 4);
        assert!(arrivals.admit("192.0.2.2".parse().unwrap()), "its neighbour has its own");
        assert!(!arrivals.admit("::ffff:192.0.2.1".parse().unwrap()));
        hand.advance(Duration::from_secs(1));
        assert!(arrivals.admit("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn a_network_of_many_addresses_has_a_few_shares_and_others_are_not_hurt() {
        let (arrivals, _) = arrivals();
        assert_eq!(admitted(&arrivals, |n| format!("192.0.2.{n}")), 8);
        assert!(arrivals.admit("192.0.3.1".parse().unwrap()));
        assert_eq!(admitted(&arrivals, |n| format!("2001:db8::{n:x}")), 4, "a /64 is one client");
        assert_eq!(admitted(&arrivals, |n| format!("2001:db8:1:{n:x}::1")), 8, "a /56 is one site");
        assert_eq!(
            admitted(&arrivals, |n| format!("2001:db8:2:{n:x}00::1")),
            16,
            "a /48 is one organisation"
        );
        assert!(arrivals.admit("2001:db8:3::1".parse().unwrap()));
    }
}
