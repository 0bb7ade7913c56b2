//! How much of us anyone may use: rates, failures, and requests under way.
//!
//! Request rates per peer address, per agent and per merchant, failures per address, and requests under
//! way per merchant. The only doorway to `governor`.
//!
//! Who is charged for what is a security property:
//! - A connection is charged to its address, and to the networks around it, before its handshake
//!   ([`Arrivals::admit`]).
//! - Before any cryptography, and before it is known whether there is such a path or host, a peer
//!   address is charged ([`Limits::address`]). Failed authentication
//!   charges it once more ([`Limits::failed_authentication`]); a known credential never does, and is
//!   never refused for the failures of others behind its address.
//! - A failed signature charges a bucket of agent *and* address ([`Limits::failed_signature`]), so
//!   a stolen credential without its key exhausts itself and never the agent; a redeemer's without
//!   its proof likewise ([`Limits::failed_proof`]).
//! - What is held of bodies that are not whole yet is bounded for agent *and* address too
//!   ([`Limits::unfinished_body`]): only a whole body can prove a signature.
//! - An agent and a merchant are charged ([`Limits::admit`]) once the signature is verified, in that
//!   order; what an agent did not sign is counted apart from what it did.
//! - What is under way at a merchant is counted apart ([`Concurrency`]), and so is what comes of it
//!   ([`breaker::Breakers`]).

mod arrivals;
pub mod breaker;
mod bucket;
mod concurrency;
#[cfg(test)]
pub(crate) mod fixture;
mod limits;
mod network;
mod clock;
pub mod shared;
mod states;
mod unfinished;

use std::num::NonZeroU32;

use crate::structured_fields::{NotSerializable, write};

pub use arrivals::Arrivals;
pub use clock::{LimitClock, ManualLimitClock};
pub use concurrency::{Concurrency, Permit};
pub use limits::Limits;
pub use network::networks;
pub use unfinished::Held;

/// Limits that belong to no agent or merchant; theirs stand in their own entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Requests a second from one peer address (IPv6: one /64), whoever they come from. Generous,
    /// because one address may be the exit of a large agent platform: it bounds what a stranger
    /// costs before a credential is looked at, and is not meant to shape traffic.
    pub address_requests_per_second: NonZeroU32,
    /// Requests in one burst from one peer address. Two seconds' worth by default.
    pub address_request_burst: NonZeroU32,
    /// Connections a second from one peer address (an IPv4 /24 and an IPv6 /56 may twice as many, an
    /// IPv6 /48 four times). Generous too: agents that keep no connections need one a request, and
    /// many may share an address; five hundred handshakes are a tenth of a processor.
    pub address_connections_per_second: NonZeroU32,
    /// Connections in one burst from one peer address: twice as many as it may have open by default,
    /// because all of them come back at once after a restart, and some try again.
    pub address_connection_burst: NonZeroU32,
    /// Failed authentications a minute from one peer address. One a second leaves a misconfigured
    /// client able to recover and a guesser nowhere.
    pub failed_authentications_per_minute: NonZeroU32,
    /// Failed authentications in one burst from one peer address: room for a deployment that
    /// starts many instances with an old credential.
    pub failed_authentication_burst: NonZeroU32,
    /// Failed signatures a minute per agent and peer address. Each one costs a body and a
    /// verification, so fewer than failed authentications.
    pub failed_signatures_per_minute: NonZeroU32,
    /// Failed signatures in one burst per agent and peer address.
    pub failed_signature_burst: NonZeroU32,
    /// Peer addresses whose state is kept apart, in each of seven tables; about 50 bytes each.
    /// Beyond it, newcomers share the state of their wider network and nobody's state is lost.
    pub tracked_addresses: NonZeroU32,
    /// Bytes kept of requests and answers off the money routes, of all agents together: a part of
    /// the disk, or of the memory of Redis, that money routes can do without.
    pub kept_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address_requests_per_second: positive(2_000),
            address_request_burst: positive(4_000),
            address_connections_per_second: positive(500),
            address_connection_burst: positive(2_048),
            failed_authentications_per_minute: positive(60),
            failed_authentication_burst: positive(30),
            failed_signatures_per_minute: positive(30),
            failed_signature_burst: positive(20),
            tracked_addresses: positive(65_536),
            kept_bytes: 8 << 30,
        }
    }
}

/// `value`, or one when it is zero.
fn positive(value: u32) -> NonZeroU32 {
    NonZeroU32::new(value).unwrap_or(NonZeroU32::MIN)
}

/// What was limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitScope {
    /// Requests of a peer address.
    Address,
    /// Failed authentications of a peer address.
    FailedAuthentication,
    /// Failed signatures of an agent's credential, or failed proofs of a redeemer's, from a peer
    /// address.
    FailedSignature,
    /// What is held of an agent's unfinished bodies from a peer address.
    UnfinishedBodies,
    /// Signed requests of an agent.
    Agent,
    /// Requests of an agent that it did not sign.
    AgentUnsigned,
    /// Requests to a merchant.
    Merchant,
    /// Redemptions of a merchant's tokens.
    Redeem,
    /// An agent's requests under way at a merchant.
    AgentConcurrency,
    /// All requests under way at a merchant.
    MerchantConcurrency,
    /// Redemptions under way for a merchant.
    RedeemConcurrency,
    /// What is kept for an agent off the money routes.
    AgentKeptBytes,
    /// What is kept off the money routes in all.
    KeptBytes,
}

impl LimitScope {
    /// Every scope, for metrics.
    pub const ALL: [Self; 13] = [
        Self::Address,
        Self::FailedAuthentication,
        Self::FailedSignature,
        Self::UnfinishedBodies,
        Self::Agent,
        Self::AgentUnsigned,
        Self::Merchant,
        Self::Redeem,
        Self::AgentConcurrency,
        Self::MerchantConcurrency,
        Self::RedeemConcurrency,
        Self::AgentKeptBytes,
        Self::KeptBytes,
    ];

    /// The name in metrics, logs and `RateLimit` headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::FailedAuthentication => "failed-authentication",
            Self::FailedSignature => "failed-signature",
            Self::UnfinishedBodies => "unfinished-bodies",
            Self::Agent => "agent",
            Self::AgentUnsigned => "agent-unsigned",
            Self::Merchant => "merchant",
            Self::Redeem => "redeem",
            Self::AgentConcurrency => "agent-concurrency",
            Self::MerchantConcurrency => "merchant-concurrency",
            Self::RedeemConcurrency => "redeem-concurrency",
            Self::AgentKeptBytes => "agent-kept-bytes",
            Self::KeptBytes => "kept-bytes",
        }
    }

    /// Whether the caller asked for too much (429) or we or the merchant have too little to give
    /// at the moment (503).
    pub const fn is_callers_doing(self) -> bool {
        match self {
            Self::Address
            | Self::FailedAuthentication
            | Self::FailedSignature
            | Self::UnfinishedBodies
            | Self::Agent
            | Self::AgentUnsigned
            | Self::Merchant
            | Self::Redeem
            | Self::AgentConcurrency
            | Self::AgentKeptBytes => true,
            Self::MerchantConcurrency | Self::RedeemConcurrency | Self::KeptBytes => false,
        }
    }
}

impl LimitScope {
    /// Whether the request itself was welcome, and only what would have to be kept of it is too much.
    pub const fn is_about_what_is_kept(self) -> bool {
        matches!(self, Self::AgentKeptBytes | Self::KeptBytes)
    }
}

/// What a rate limit has left to give after one decision, and the headers that say so
/// (draft-ietf-httpapi-ratelimit-headers-10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Which limit.
    pub scope: LimitScope,
    /// `q`: requests in a full bucket.
    pub limit: u32,
    /// `w`: seconds in which an empty bucket fills, rounded up.
    pub window_seconds: u32,
    /// `r`: requests that would be admitted now.
    pub remaining: u32,
    /// `t`: seconds until `remaining` is larger, rounded up.
    pub reset_seconds: u32,
}

impl Quota {
    /// Appends the value of `RateLimit`, such as `"agent";r=50;t=1`.
    pub(crate) fn append_rate_limit(&self, out: &mut String) -> Result<(), NotSerializable> {
        self.append([("r", self.remaining), ("t", self.reset_seconds)], out)
    }

    /// Appends the value of `RateLimit-Policy`, such as `"agent";q=100;w=60`.
    pub(crate) fn append_policy(&self, out: &mut String) -> Result<(), NotSerializable> {
        self.append([("q", self.limit), ("w", self.window_seconds)], out)
    }

    fn append(&self, parameters: [(&'static str, u32); 2], out: &mut String) -> Result<(), NotSerializable> {
        write::string(self.scope.as_str(), out)?;
        for (key, value) in parameters {
            write::parameter(key, out);
            write::integer(value.into(), out)?;
        }
        Ok(())
    }
}

/// Refused: the limit named by `scope` has nothing left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the limit of {} has nothing left", scope.as_str())]
pub struct Limited {
    /// Which limit.
    pub scope: LimitScope,
    /// `Retry-After`: at least one second, and never earlier than the quota's `reset_seconds`.
    pub retry_after_seconds: u32,
    /// The same decision as `RateLimit` headers say it; none for requests under way.
    pub quota: Option<Quota>,
}

#[cfg(test)]
mod tests;
