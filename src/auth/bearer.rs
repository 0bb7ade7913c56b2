//! Who presents a credential: an agent, or a redeemer, who must prove itself beyond it.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;

use super::replay::ReplayCheck;
use super::signature::{Coverage, Proof, SignatureRefusal, SignedRequest, examine_rfc9421};
use crate::acp::header::credential;
use crate::crypto::digest::{Sha256, sha256};
use crate::domain::clock::Timestamp;
use crate::domain::id::MerchantId;
use crate::registry::{Agent, AgentKey, KeyMaterial, Merchant, Redeemer, RedeemerProof, Registry};

/// Why nobody is behind a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BearerError {
    /// No `Authorization`.
    #[error("a bearer credential is required")]
    Missing,
    /// `Authorization` is repeated or not `Bearer`.
    #[error("the Authorization header is not a bearer credential")]
    Malformed,
    /// Nobody's credential.
    #[error("the credential is not known")]
    Unknown,
}

impl BearerError {
    /// The stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Missing => "credential_missing",
            Self::Malformed => "credential_malformed",
            Self::Unknown => "credential_unknown",
        }
    }
}

/// The agent that presents its credential, and that credential's digest. The body need not have been read.
///
/// # Errors
/// [`BearerError`].
pub fn agent<'a>(
    registry: &'a Registry,
    headers: &HeaderMap,
) -> Result<(&'a Arc<Agent>, Sha256), BearerError> {
    let credential = presented(headers)?;
    let agent = registry.agent_by_digest(&credential).ok_or(BearerError::Unknown)?;
    Ok((agent, credential))
}

/// The digest of what is presented: whoever it is, it is made once.
fn presented(headers: &HeaderMap) -> Result<Sha256, BearerError> {
    let credential = credential(headers).map_err(|_| BearerError::Malformed)?;
    let credential = credential.ok_or(BearerError::Missing)?;
    Ok(sha256(&[credential.expose().as_bytes()]))
}

/// Redeemers that share a presented credential: one provider serves many merchants. Nothing beyond
/// the credential is proven yet.
pub struct RedeemerCandidates<'a> {
    found: Vec<(&'a Arc<Merchant>, &'a Redeemer)>,
    credential: Sha256,
}

/// Who may redeem, as far as the credential tells. The body need not have been read.
///
/// # Errors
/// [`BearerError`].
pub fn redeemer_candidates<'a>(
    registry: &'a Registry,
    headers: &HeaderMap,
) -> Result<RedeemerCandidates<'a>, BearerError> {
    let credential = presented(headers)?;
    let found = registry.redeemers_by_digest(&credential);
    if found.is_empty() { Err(BearerError::Unknown) } else { Ok(RedeemerCandidates { found, credential }) }
}

/// What a redeemer can prove itself with beyond its credential.
#[derive(Clone, Copy)]
pub struct RedeemerEvidence<'a> {
    /// The address it calls from.
    pub peer: IpAddr,
    /// The SHA-256 fingerprint of its TLS client certificate, if that is good now.
    pub certificate: Option<Sha256>,
    /// The request, for a signature.
    pub request: SignedRequest<'a>,
}

/// A redeemer and what it may redeem.
pub struct AuthenticatedRedeemer<'a> {
    merchants: Vec<(&'a Arc<Merchant>, &'a str)>,
    /// What must be recorded before the request may go on.
    pub replay: Option<ReplayCheck>,
}

impl<'a> AuthenticatedRedeemer<'a> {
    /// The redeemer's name at this merchant, if it may redeem its tokens.
    pub fn at(&self, merchant: &MerchantId) -> Option<&'a str> {
        self.merchants.iter().find(|(known, _)| known.id == *merchant).map(|(_, name)| *name)
    }

    /// The merchants whose tokens it may redeem; never empty.
    pub fn merchants(&self) -> impl Iterator<Item = &'a Arc<Merchant>> {
        self.merchants.iter().map(|(merchant, _)| *merchant)
    }
}

/// A credential is known, and nothing proves that its owner presents it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedeemerError {
    /// Another address, or no or another client certificate.
    #[error("the credential is not accepted from here")]
    NotProven,
    /// The signature that proves it is missing or refused.
    #[error(transparent)]
    Signature(#[from] SignatureRefusal),
}

impl RedeemerError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotProven => "redeemer_not_proven",
            Self::Signature(refusal) => refusal.code(),
        }
    }
}

impl<'a> RedeemerCandidates<'a> {
    /// What the credential's owner is called, at the first merchant it may redeem for.
    pub fn name(&self) -> &'a str {
        self.found.first().map_or("", |(_, redeemer)| redeemer.name.as_str())
    }

    /// The digest of the credential.
    pub const fn digest(&self) -> Sha256 {
        self.credential
    }

    /// Keeps the merchants at which the evidence is proof.
    ///
    /// # Errors
    /// [`RedeemerError`] when that leaves none: a refused signature if one was demanded.
    pub fn prove(
        self,
        evidence: &RedeemerEvidence<'_>,
        now: Timestamp,
    ) -> Result<AuthenticatedRedeemer<'a>, RedeemerError> {
        let mut proven = AuthenticatedRedeemer { merchants: Vec::new(), replay: None };
        let mut refusal = RedeemerError::NotProven;
        // A provider's keys stand at each of its merchants: one verification serves them all.
        let mut judged: Vec<(&Redeemer, Judgement)> = Vec::new();
        for (merchant, redeemer) in self.found {
            let known = judged.iter().find(|(other, _)| same_keys(&other.proof, &redeemer.proof));
            let judgement = match known {
                Some((_, known)) => known.clone(),
                None => {
                    let judgement = judge(redeemer, evidence, now);
                    judged.push((redeemer, judgement.clone()));
                    judgement
                }
            };
            match judgement {
                Ok(replay) => {
                    proven.merchants.push((merchant, redeemer.name.as_str()));
                    proven.replay = proven.replay.or(replay);
                }
                Err(error) => refusal = error,
            }
        }
        if proven.merchants.is_empty() { Err(refusal) } else { Ok(proven) }
    }
}

/// Proven, with what must be recorded first, or not.
type Judgement = Result<Option<ReplayCheck>, RedeemerError>;

fn same_keys(one: &RedeemerProof, other: &RedeemerProof) -> bool {
    let (RedeemerProof::Keys(one), RedeemerProof::Keys(other)) = (one, other) else { return false };
    let same = |(one, other): (&AgentKey, &AgentKey)| match (&one.material, &other.material) {
        (KeyMaterial::Public(first), KeyMaterial::Public(second)) => one.id == other.id && first == second,
        _ => false,
    };
    one.len() == other.len() && one.iter().zip(other).all(same)
}

fn judge(redeemer: &Redeemer, evidence: &RedeemerEvidence<'_>, now: Timestamp) -> Judgement {
    // A dual-stack socket shows IPv4 callers as mapped addresses.
    let peer = evidence.peer.to_canonical();
    let proven = match &redeemer.proof {
        RedeemerProof::Networks(networks) => networks.iter().any(|network| network.contains(&peer)),
        RedeemerProof::Certificates(fingerprints) => {
            evidence.certificate.is_some_and(|certificate| fingerprints.contains(&certificate))
        }
        RedeemerProof::Keys(keys) => {
            let request = &evidence.request;
            let coverage = if request.money_route { Coverage::Money } else { Coverage::Request };
            // A space keeps it apart from every agent: no agent's id has one.
            let owner = format!("redeemer {}", redeemer.name);
            return match examine_rfc9421(&owner, keys, request, coverage, now)?.alone()? {
                Proof::Signed { replay, .. } => Ok(replay),
                Proof::BearerOnly { .. } => Err(RedeemerError::NotProven),
            };
        }
    };
    if proven { Ok(None) } else { Err(RedeemerError::NotProven) }
}

#[cfg(test)]
mod tests;
