//! What the readers of agents and merchants share.
//!
//! Where secrets come from, which names exist, and what is already taken. Apart from both because most
//! rules here span the two lists.

use std::collections::HashMap;

use rustls::pki_types::CertificateDer;

use super::document::{Value, ids_in};
use super::keys::first_use;
use super::report::Problem;
use super::secrets::Sources;
use super::values::credential_digest;
use crate::crypto::digest::Sha256;
use crate::domain::id::{AgentId, MerchantId};

/// The context in which agents and merchants are read.
pub(super) struct Parties<'a> {
    /// Where secrets come from.
    pub sources: &'a Sources<'a>,
    /// Shared authorities, which no merchant can own.
    pub shared_hosts: &'a [String],
    /// Whether the listener asks for client certificates.
    pub client_certificates: bool,
    /// The listener's own.
    pub certificate: Option<CertificateDer<'static>>,
    /// Whether a merchant was found to need authorities that the system does not have.
    pub authorities_missed: bool,
    agents: Vec<String>,
    merchants: Vec<&'a str>,
    taken_ids: HashMap<(&'static str, String), usize>,
    taken_names: HashMap<String, usize>,
    taken_hosts: HashMap<String, usize>,
    agent_credentials: HashMap<Sha256, usize>,
}

impl<'a> Parties<'a> {
    /// The parties of a document.
    pub(super) fn of(
        document: &'a toml::de::DeTable<'a>,
        sources: &'a Sources<'a>,
        shared_hosts: &'a [String],
        client_certificates: bool,
        certificate: Option<CertificateDer<'static>>,
    ) -> Self {
        Self {
            sources,
            shared_hosts,
            client_certificates,
            certificate,
            authorities_missed: false,
            agents: Vec::new(),
            merchants: ids_in(document, "merchants"),
            taken_ids: HashMap::new(),
            taken_names: HashMap::new(),
            taken_hosts: HashMap::new(),
            agent_credentials: HashMap::new(),
        }
    }

    /// Notes what an agent calls itself, whether or not that will do. Agents are read before who names
    /// them.
    pub(super) fn note_agent(&mut self, value: &Value<'_>) {
        self.agents.extend(value.text().ok().map(str::to_owned));
    }

    /// The name of a configured agent.
    pub(super) fn agent(&self, value: &Value<'_>) -> Result<AgentId, Problem> {
        known(value, &self.agents, "no agent has this id")
            .map(AgentId::parse)?
            .ok_or_else(|| "not an id".into())
    }

    /// The name of a configured merchant.
    pub(super) fn merchant(&self, value: &Value<'_>) -> Result<MerchantId, Problem> {
        known(value, &self.merchants, "no merchant has this id")
            .map(MerchantId::parse)?
            .ok_or_else(|| "not an id".into())
    }

    /// Takes an id within a list; refused when it is taken.
    pub(super) fn take_id(&mut self, list: &'static str, id: &str, line: usize) -> Result<(), Problem> {
        first_use(&mut self.taken_ids, (list, id.to_owned()), line)
            .map_err(|line| format!("the id is already used on line {line}").into())
    }

    /// Notes what `allowance.merchant_id` may call a merchant; the line where another merchant was
    /// first called that.
    pub(super) fn note_allowance_id(&mut self, name: &str, line: usize) -> Option<usize> {
        first_use(&mut self.taken_names, name.to_owned(), line).err()
    }

    /// Takes an authority for one merchant; refused when it is taken or shared.
    pub(super) fn take_host(&mut self, host: &str, line: usize) -> Result<(), Problem> {
        if self.shared_hosts.iter().any(|shared| shared == host) {
            return Err("this host is one of `server.hosts`, which serve every merchant".into());
        }
        first_use(&mut self.taken_hosts, host.to_owned(), line)
            .map_err(|line| format!("this host already belongs to the merchant on line {line}").into())
    }

    /// The digest of an agent's credential; no two agents share one.
    pub(super) fn agent_credential(&mut self, value: &Value<'_>) -> Result<Sha256, Problem> {
        let digest = credential_digest(value)?;
        first_use(&mut self.agent_credentials, digest, value.line)
            .map_err(|line| Problem::from(format!("this credential is already used on line {line}")))?;
        Ok(digest)
    }

    /// The digest of a redeemer's credential. A provider may use one at many merchants, but it is no
    /// agent's, and names one redeemer of a merchant.
    pub(super) fn redeemer_credential(
        &self,
        value: &Value<'_>,
        of_merchant: &mut HashMap<Sha256, usize>,
    ) -> Result<Sha256, Problem> {
        let digest = credential_digest(value)?;
        if let Some(line) = self.agent_credentials.get(&digest) {
            return Err(format!(
                "this is the credential of the agent on line {line}: redeemers need their own"
            )
            .into());
        }
        first_use(of_merchant, digest, value.line)
            .map_err(|line| Problem::from(format!("this credential is already used on line {line}")))?;
        Ok(digest)
    }
}

fn known<'v>(value: &Value<'v>, names: &[impl AsRef<str>], otherwise: &str) -> Result<&'v str, Problem> {
    let name = value.text()?;
    if names.iter().any(|known| known.as_ref() == name) {
        Ok(name)
    } else {
        Err(Problem::from(otherwise).near(name, names.iter().map(AsRef::as_ref)))
    }
}
