//! Which addresses count as one peer. Apart because both sizes are policy: the narrow network is
//! what one customer gets for nothing, the wide one what one operator announces.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use ipnet::IpNet;

use crate::domain::id::AgentId;

/// One peer: an IPv4 address, or an IPv6 /64 (RFC 4291 §2.5.4: the smallest network handed out, so
/// one host owns all its addresses). An IPv4 address written as IPv6 is the IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum AddressKey {
    V4([u8; 4]),
    V6([u8; 8]),
}

/// An agent's credential as used from one address.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct AgentAtAddress {
    pub(super) agent: AgentId,
    pub(super) address: AddressKey,
}

/// A redeemer's credential as used from one address.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct RedeemerAtAddress {
    pub(super) redeemer: Arc<str>,
    pub(super) address: AddressKey,
}

/// The wider network a peer is in: an IPv4 /16 or an IPv6 /32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum WideNetwork {
    V4([u8; 2]),
    V6([u8; 4]),
}

impl AgentAtAddress {
    pub(super) fn new(agent: &AgentId, address: IpAddr) -> Self {
        Self { agent: agent.clone(), address: AddressKey::of(address) }
    }
}

impl RedeemerAtAddress {
    pub(super) fn new(redeemer: &str, address: IpAddr) -> Self {
        Self { redeemer: redeemer.into(), address: AddressKey::of(address) }
    }
}

impl AddressKey {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.octets()),
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }

    pub(super) const fn wide(self) -> WideNetwork {
        match self {
            Self::V4([a, b, ..]) => WideNetwork::V4([a, b]),
            Self::V6([a, b, c, d, ..]) => WideNetwork::V6([a, b, c, d]),
        }
    }
}

/// How much of what one client may have the networks around it have: as it is, twice, four times.
pub(super) const SHARES: [NonZeroU32; 3] = [NonZeroU32::MIN, share(2), share(4)];

const fn share(times: u32) -> NonZeroU32 {
    match NonZeroU32::new(times) {
        Some(times) => times,
        None => NonZeroU32::MIN,
    }
}

/// The networks an address is in, narrow to wide, each with its share. An IPv4 address or an IPv6 /64
/// is one client, though many may be behind it. A /24 or /56 is what one site is given, a /48 what an
/// organisation gets for the asking: they count more than one client, and far less than all they could
/// be.
pub fn networks(address: IpAddr) -> impl Iterator<Item = (IpNet, NonZeroU32)> {
    let address = address.to_canonical();
    let lengths: &[u8] = match address {
        IpAddr::V4(_) => &[32, 24],
        IpAddr::V6(_) => &[64, 56, 48],
    };
    let of_length = move |length: &u8| IpNet::new(address, *length).ok().map(|network| network.trunc());
    lengths.iter().filter_map(of_length).zip(SHARES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> AddressKey {
        AddressKey::of(text.parse().unwrap())
    }

    #[test]
    fn a_host_is_one_peer_under_all_its_addresses() {
        assert_eq!(address("2001:db8:1:2::1"), address("2001:db8:1:2:ffff::9"));
        assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
    }

    #[test]
    fn neighbours_share_a_wide_network() {
        assert_eq!(address("2001:db8:1::1").wide(), address("2001:db8:ffff::1").wide());
        assert_eq!(address("192.0.2.1").wide(), address("192.0.255.1").wide());
        assert_ne!(address("192.0.2.1").wide(), address("192.1.2.1").wide());
    }
}
