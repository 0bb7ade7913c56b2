//! The request rates of one configuration: which bucket each verb looks at and which it charges.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::bucket::{Bucket, KeyedBucket, Rate};
use super::clock::LimitClock;
use super::network::{AddressKey, AgentAtAddress, RedeemerAtAddress, WideNetwork};
use super::shared::{SharedLimits, SharedRates};
use super::states::Grouped;
use super::unfinished::{Held, Unfinished};
use super::{LimitScope, Limited, Quota, Settings};
use crate::domain::id::{AgentId, MerchantId};
use crate::registry::{Agent, Merchant, Registry};

/// Every request rate. Cheap to ask, never waits.
pub struct Limits {
    settings: Settings,
    clock: LimitClock,
    address_limits: Arc<AddressLimits>,
    unfinished: Arc<Unfinished>,
    agents: HashMap<AgentId, Arc<Bucket>>,
    unsigned: HashMap<AgentId, Arc<Bucket>>,
    merchants: HashMap<MerchantId, Arc<Bucket>>,
    redeemers: HashMap<MerchantId, Arc<Bucket>>,
    shared: Option<Arc<SharedRates>>,
}

/// The limits by address: of whoever comes, known or not.
struct AddressLimits {
    requests: KeyedBucket<AddressKey>,
    failed_authentications: KeyedBucket<AddressKey>,
    failed_signatures: KeyedBucket<AgentAtAddress>,
    failed_proofs: KeyedBucket<RedeemerAtAddress>,
}

impl Grouped for AddressKey {
    type Group = WideNetwork;

    fn group(&self) -> WideNetwork {
        self.wide()
    }
}

impl Grouped for AgentAtAddress {
    type Group = (AgentId, WideNetwork);

    fn group(&self) -> Self::Group {
        (self.agent.clone(), self.address.wide())
    }
}

impl Grouped for RedeemerAtAddress {
    type Group = (Arc<str>, WideNetwork);

    fn group(&self) -> Self::Group {
        (self.redeemer.clone(), self.address.wide())
    }
}

impl Limits {
    /// Limits for these agents and merchants, by the system's monotonic clock.
    pub fn new(settings: Settings, registry: &Registry) -> Self {
        Self::with_clock(settings, registry, LimitClock::system())
    }

    /// Limits by a clock of the caller's.
    pub fn with_clock(settings: Settings, registry: &Registry, clock: LimitClock) -> Self {
        let address_limits = Arc::new(AddressLimits::new(&settings, &clock));
        let empty = Self {
            settings,
            clock,
            address_limits,
            unfinished: Arc::default(),
            agents: HashMap::new(),
            unsigned: HashMap::new(),
            merchants: HashMap::new(),
            redeemers: HashMap::new(),
            shared: None,
        };
        empty.with_registry(registry)
    }

    /// The same limits, those of agents and merchants shared with every other replica.
    #[must_use]
    pub fn shared_through(mut self, shared: Option<Arc<dyn SharedLimits>>) -> Self {
        self.shared = shared.map(|shared| Arc::new(SharedRates::new(shared)));
        self
    }

    /// Limits for a new configuration. Whoever's rate is unchanged keeps what it has used, so that
    /// a reload refills nobody's bucket.
    #[must_use]
    pub fn reloaded(&self, settings: Settings, registry: &Registry) -> Self {
        let address_limits = if by_address(&settings) == by_address(&self.settings) {
            Arc::clone(&self.address_limits)
        } else {
            Arc::new(AddressLimits::new(&settings, &self.clock))
        };
        let changed = Self {
            settings,
            clock: self.clock.clone(),
            address_limits,
            unfinished: Arc::clone(&self.unfinished),
            agents: self.agents.clone(),
            unsigned: self.unsigned.clone(),
            merchants: self.merchants.clone(),
            redeemers: self.redeemers.clone(),
            shared: self.shared.clone(),
        };
        changed.with_registry(registry)
    }

    fn with_registry(mut self, registry: &Registry) -> Self {
        let bucket = |known: Option<&Arc<Bucket>>, scope, rate| match known {
            Some(bucket) if bucket.rate() == rate => Arc::clone(bucket),
            _ => Arc::new(Bucket::new(scope, rate, self.clock.clone())),
        };
        let of_agents = |known: &HashMap<AgentId, Arc<Bucket>>, scope| {
            registry
                .agents()
                .map(|agent| {
                    let rate = per_second(agent.requests_per_second, agent.request_burst);
                    (agent.id.clone(), bucket(known.get(&agent.id), scope, rate))
                })
                .collect()
        };
        self.unsigned = of_agents(&self.unsigned, LimitScope::AgentUnsigned);
        self.agents = of_agents(&self.agents, LimitScope::Agent);
        let of_merchants = |known: &HashMap<MerchantId, Arc<Bucket>>, scope| {
            registry
                .merchants()
                .map(|merchant| {
                    let rate = per_second(merchant.requests_per_second, merchant.request_burst);
                    (merchant.id.clone(), bucket(known.get(&merchant.id), scope, rate))
                })
                .collect()
        };
        self.redeemers = of_merchants(&self.redeemers, LimitScope::Redeem);
        self.merchants = of_merchants(&self.merchants, LimitScope::Merchant);
        self
    }

    /// Before anything is known about a request: charges its address one request.
    ///
    /// # Errors
    /// The address sends too much.
    pub fn address(&self, address: IpAddr) -> Result<(), Limited> {
        self.address_limits.requests.take(AddressKey::of(address)).map(drop)
    }

    /// Charges an address for a failed authentication. Who presents a credential that is known is
    /// never asked, so that a neighbour's guesses cost it nothing.
    ///
    /// # Errors
    /// The address has failed too often.
    pub fn failed_authentication(&self, address: IpAddr) -> Result<(), Limited> {
        self.address_limits.failed_authentications.take(AddressKey::of(address)).map(drop)
    }

    /// Before the proof of a redeemer whose credential is known is looked at: whether that credential
    /// has failures left at this address. Charges nothing.
    ///
    /// # Errors
    /// Too many proofs have failed for this redeemer from this address.
    pub fn proof(&self, redeemer: &str, address: IpAddr) -> Result<(), Limited> {
        self.address_limits.failed_proofs.peek(RedeemerAtAddress::new(redeemer, address)).map(drop)
    }

    /// Charges a redeemer's credential at an address for a proof that is missing or wrong.
    pub fn failed_proof(&self, redeemer: &str, address: IpAddr) {
        let _ = self.address_limits.failed_proofs.take(RedeemerAtAddress::new(redeemer, address));
    }

    /// Before a body is read and a signature verified: whether this agent's credential has failed
    /// signatures left at this address. Charges nothing.
    ///
    /// # Errors
    /// Too many signatures have failed for this agent from this address.
    pub fn signature(&self, agent: &AgentId, address: IpAddr) -> Result<(), Limited> {
        self.address_limits.failed_signatures.peek(AgentAtAddress::new(agent, address)).map(drop)
    }

    /// Charges an agent's credential at an address for a signature that is wrong, or missing where
    /// one is demanded. The agent's own bucket is untouched.
    pub fn failed_signature(&self, agent: &AgentId, address: IpAddr) {
        let _ = self.address_limits.failed_signatures.take(AgentAtAddress::new(agent, address));
    }

    /// A body about to be read, for what is held of it while it is not whole; the largest allowed has
    /// `largest` bytes.
    pub fn unfinished_body(&self, agent: &AgentId, address: IpAddr, largest: usize) -> Held {
        self.unfinished.body(agent, address, largest)
    }

    /// Charges an agent one signed request, here alone.
    #[cfg(test)]
    pub(super) fn agent(&self, agent: &Agent) -> Result<Quota, Limited> {
        take(&self.agents, &agent.id, LimitScope::Agent)
    }

    /// Charges a merchant one request from an agent, here alone.
    #[cfg(test)]
    pub(super) fn merchant(&self, merchant: &Merchant) -> Result<Quota, Limited> {
        take(&self.merchants, &merchant.id, LimitScope::Merchant)
    }

    /// Charges an agent one request, and the merchant it is for; to be asked once its signature is
    /// verified. What was not signed has a bucket of its own: who stole the bearer alone uses up that.
    /// The merchant is charged last, for nothing that the agent's own limit refuses. Answers the
    /// agent's quota.
    ///
    /// # Errors
    /// The agent sends too much, or all agents together send the merchant too much.
    pub async fn admit(
        &self,
        agent: &Agent,
        is_signed: bool,
        merchant: Option<&Merchant>,
    ) -> Result<Quota, Limited> {
        let (buckets, scope) = match is_signed {
            true => (&self.agents, LimitScope::Agent),
            false => (&self.unsigned, LimitScope::AgentUnsigned),
        };
        let mut quota = take(buckets, &agent.id, scope)?;
        if let Some(shared) = &self.shared {
            let rate = per_second(agent.requests_per_second, agent.request_burst);
            quota = shared.take(scope, agent.id.as_str(), rate).await?.unwrap_or(quota);
        }
        let Some(merchant) = merchant else { return Ok(quota) };
        take(&self.merchants, &merchant.id, LimitScope::Merchant)?;
        if let Some(shared) = &self.shared {
            let rate = per_second(merchant.requests_per_second, merchant.request_burst);
            shared.take(LimitScope::Merchant, merchant.id.as_str(), rate).await?;
        }
        Ok(quota)
    }

    /// Charges a merchant's redeemers one request, at the merchant's rate but apart from it, so
    /// that agents cannot use up what redemption needs.
    ///
    /// # Errors
    /// The merchant's redeemers send too much.
    pub fn redeem(&self, merchant: &Merchant) -> Result<Quota, Limited> {
        take(&self.redeemers, &merchant.id, LimitScope::Redeem)
    }

    /// How many keys the largest of the tables by address holds, for metrics.
    pub fn tracked_addresses(&self) -> usize {
        let AddressLimits { requests, failed_authentications, failed_signatures, failed_proofs } =
            &*self.address_limits;
        let failures = failed_authentications.tracked().max(failed_signatures.tracked());
        requests.tracked().max(failures).max(failed_proofs.tracked())
    }
}

/// What of the settings the limits by address are made from.
const fn by_address(settings: &Settings) -> [NonZeroU32; 7] {
    [
        settings.address_requests_per_second,
        settings.address_request_burst,
        settings.failed_authentications_per_minute,
        settings.failed_authentication_burst,
        settings.failed_signatures_per_minute,
        settings.failed_signature_burst,
        settings.tracked_addresses,
    ]
}

impl AddressLimits {
    fn new(settings: &Settings, clock: &LimitClock) -> Self {
        let requests = per_second(settings.address_requests_per_second, settings.address_request_burst);
        let per_minute = |requests, burst| Rate { requests, per: Duration::from_secs(60), burst };
        let authentications =
            per_minute(settings.failed_authentications_per_minute, settings.failed_authentication_burst);
        let signatures = per_minute(settings.failed_signatures_per_minute, settings.failed_signature_burst);
        let tracked = settings.tracked_addresses;
        Self {
            requests: KeyedBucket::new(LimitScope::Address, requests, tracked, clock.clone()),
            failed_authentications: KeyedBucket::new(
                LimitScope::FailedAuthentication,
                authentications,
                tracked,
                clock.clone(),
            ),
            failed_signatures: KeyedBucket::new(
                LimitScope::FailedSignature,
                signatures,
                tracked,
                clock.clone(),
            ),
            failed_proofs: KeyedBucket::new(LimitScope::FailedSignature, signatures, tracked, clock.clone()),
        }
    }
}

const fn per_second(requests: NonZeroU32, burst: NonZeroU32) -> Rate {
    Rate { requests, per: Duration::from_secs(1), burst }
}

fn take<Id: std::hash::Hash + Eq>(
    buckets: &HashMap<Id, Arc<Bucket>>,
    id: &Id,
    scope: LimitScope,
) -> Result<Quota, Limited> {
    match buckets.get(id) {
        Some(bucket) => bucket.take(),
        // Of another configuration than these limits: it will have a bucket in a moment.
        None => Err(Limited { scope, retry_after_seconds: 1, quota: None }),
    }
}
