//! Who is who: agents, merchants and operators, valid by construction, and how they are looked up.
//!
//! Never changed: a new configuration makes another.

mod agent;
mod merchant;
mod operator;

use std::collections::HashMap;
use std::sync::Arc;

pub use agent::{
    AcpVariant, Agent, AgentKey, BodyForm, Encoding, KeyMaterial, Profile, SignaturePolicy,
    SignatureRequired, SignedParts, TimestampForm,
};
use ipnet::IpNet;
pub use merchant::{
    BreakerSettings, Deadlines, Merchant, MerchantEndpoint, MerchantIdempotency, OutwardSignature,
    PurchaseOrders, Redeemer, RedeemerProof, SHORTEST_SIGNATURE_LIFE, SessionAdoption, base_url_text,
};
pub use operator::{Operator, Operators, Role};

use crate::crypto::digest::{Sha256, sha256};
use crate::domain::id::{AgentId, MerchantId};

fn digests_with_line_end(credential: &str) -> [Sha256; 2] {
    ["\n", "\r\n"].map(|end| sha256(&[credential.as_bytes(), end.as_bytes()]))
}

/// The agents and merchants of one configuration.
pub struct Registry {
    agents: HashMap<AgentId, Arc<Agent>>,
    agent_of_credential: HashMap<Sha256, AgentId>,
    merchants: HashMap<MerchantId, Arc<Merchant>>,
    merchant_of_host: HashMap<String, MerchantId>,
    merchants_of_allowance_id: HashMap<String, Vec<MerchantId>>,
    redeemer_of_credential: HashMap<Sha256, Vec<(MerchantId, usize)>>,
    shared_hosts: Vec<String>,
}

impl Registry {
    /// Indexes agents and merchants. `shared_hosts` are the authorities (lower-case, without a
    /// default port) that serve every merchant by path prefix.
    pub fn new(agents: Vec<Agent>, merchants: Vec<Merchant>, shared_hosts: Vec<String>) -> Self {
        let mut registry = Self {
            agents: HashMap::new(),
            agent_of_credential: HashMap::new(),
            merchants: HashMap::new(),
            merchant_of_host: HashMap::new(),
            merchants_of_allowance_id: HashMap::new(),
            redeemer_of_credential: HashMap::new(),
            shared_hosts,
        };
        for agent in agents {
            for digest in &agent.credentials {
                registry.agent_of_credential.insert(*digest, agent.id.clone());
            }
            registry.agents.insert(agent.id.clone(), Arc::new(agent));
        }
        for merchant in merchants {
            for host in &merchant.hosts {
                registry.merchant_of_host.insert(host.clone(), merchant.id.clone());
            }
            for id in &merchant.allowance_ids {
                registry.merchants_of_allowance_id.entry(id.clone()).or_default().push(merchant.id.clone());
            }
            for (index, redeemer) in merchant.redeemers.iter().enumerate() {
                for digest in &redeemer.credentials {
                    registry
                        .redeemer_of_credential
                        .entry(*digest)
                        .or_default()
                        .push((merchant.id.clone(), index));
                }
            }
            registry.merchants.insert(merchant.id.clone(), Arc::new(merchant));
        }
        registry
    }

    /// The agent of that id.
    pub fn agent(&self, id: &AgentId) -> Option<&Arc<Agent>> {
        self.agents.get(id)
    }

    /// The agent that presents this bearer credential. The credential is hashed first and only
    /// digests are compared, so the time taken tells nothing about any stored credential.
    pub fn agent_by_credential(&self, credential: &str) -> Option<&Arc<Agent>> {
        self.agent_by_digest(&sha256(&[credential.as_bytes()]))
    }

    /// The same, of a credential's digest.
    pub fn agent_by_digest(&self, credential: &Sha256) -> Option<&Arc<Agent>> {
        self.agents.get(self.agent_of_credential.get(credential)?)
    }

    /// The digest of every bearer credential that agents and redeemers present.
    pub fn credentials(&self) -> impl Iterator<Item = &Sha256> {
        self.agent_of_credential.keys().chain(self.redeemer_of_credential.keys())
    }

    /// Whether this is the digest of a bearer credential that an agent presents.
    pub fn has_agent_credential(&self, digest: &Sha256) -> bool {
        self.agent_of_credential.contains_key(digest)
    }

    /// The merchant of that id.
    pub fn merchant(&self, id: &MerchantId) -> Option<&Arc<Merchant>> {
        self.merchants.get(id)
    }

    /// The merchant that owns this authority (lower-case, no default port).
    pub fn merchant_by_host(&self, authority: &str) -> Option<&Arc<Merchant>> {
        self.merchants.get(self.merchant_of_host.get(authority)?)
    }

    /// The merchants known by `allowance.merchant_id`, our own ids included. More than one means the
    /// id is ambiguous unless the request names the merchant otherwise.
    pub fn merchants_by_allowance_id(&self, id: &str) -> &[MerchantId] {
        self.merchants_of_allowance_id.get(id).map_or(&[], Vec::as_slice)
    }

    /// The redeemers that present the bearer credential of this digest: a provider may serve many merchants.
    pub fn redeemers_by_digest(&self, credential: &Sha256) -> Vec<(&Arc<Merchant>, &Redeemer)> {
        self.redeemer_of_credential
            .get(credential)
            .into_iter()
            .flatten()
            .filter_map(|(id, index)| {
                let merchant = self.merchants.get(id)?;
                Some((merchant, merchant.redeemers.get(*index)?))
            })
            .collect()
    }

    /// The networks that redeemers are proven by.
    pub fn redeemer_networks(&self) -> impl Iterator<Item = IpNet> {
        self.merchants().flat_map(|merchant| &merchant.redeemers).flat_map(|redeemer| match &redeemer.proof {
            RedeemerProof::Networks(networks) => networks.clone(),
            RedeemerProof::Keys(_) | RedeemerProof::Certificates(_) => Vec::new(),
        })
    }

    /// Whose configured digest is that of this credential and a line end, as `echo` makes it: what nobody can
    /// present.
    pub fn with_line_end(&self, credential: &str) -> Option<&str> {
        digests_with_line_end(credential).into_iter().find_map(|digest| {
            let agent = self.agent_of_credential.get(&digest).map(AgentId::as_str);
            let redeemer = || self.redeemer_of_credential.get(&digest)?.first().map(|(id, _)| id.as_str());
            agent.or_else(redeemer)
        })
    }

    /// Whether this authority serves every merchant by path prefix.
    pub fn is_shared_host(&self, authority: &str) -> bool {
        self.shared_hosts.iter().any(|host| host == authority)
    }

    /// The first shared authority: the gateway's own name.
    pub fn primary_host(&self) -> &str {
        self.shared_hosts.first().map_or("", String::as_str)
    }

    /// Every agent.
    pub fn agents(&self) -> impl Iterator<Item = &Arc<Agent>> {
        self.agents.values()
    }

    /// Every merchant.
    pub fn merchants(&self) -> impl Iterator<Item = &Arc<Merchant>> {
        self.merchants.values()
    }
}
