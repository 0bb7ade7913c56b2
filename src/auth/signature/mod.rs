//! Which signatures are demanded, which are believed, and what they prove.
//!
//! The only maker of [`Verified`]: a request without one has not been through here.
//!
//! A `Signature-Input` header means RFC 9421; a `Signature` alone means ACP's own header. What is
//! presented must verify: a bad signature never counts as none.

mod acp_header;
mod company;
mod conditional;
mod error;
mod rfc9421;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use acp_header::Scheme;
pub(crate) use acp_header::{decode as decode_acp, encode as encode_acp, examine as examine_acp};
pub(crate) use company::{Company, Sender};
pub use conditional::Conditional;
pub use error::{SignatureError, SignatureRefusal, VerificationOutcome};
pub(crate) use rfc9421::{Coverage, examine as examine_rfc9421};

use super::replay::ReplayCheck;
use crate::domain::clock::Timestamp;
use crate::domain::id::KeyId;
use crate::http_signature::{MessageView, SIGNATURE, SIGNATURE_INPUT};
use crate::registry::{Agent, Profile, SignatureRequired};

/// How far a signature's time may be from ours, either way.
pub const WINDOW: Duration = Duration::from_secs(300);

/// A request as its signature is checked.
#[derive(Clone, Copy)]
pub struct SignedRequest<'a> {
    /// The head: authority normalised, path as received, scheme `https`.
    pub message: MessageView<'a>,
    /// The body as received.
    pub body: &'a Bytes,
    /// The caller's `Idempotency-Key`.
    pub idempotency_key: Option<&'a str>,
    /// Whether the route moves money or cards: delegate_payment, complete, revoke, redeem.
    pub money_route: bool,
}

/// Proof that a request's signature was looked at and is as the agent's policy demands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Verified {
    proof: Proof,
    body: VerifiedBody,
}

/// A body that was looked at with its request's signature: no other is forwarded. Cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiedBody(Bytes);

impl fmt::Debug for VerifiedBody {
    /// Its length: a mint's holds a card.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

#[cfg(test)]
impl<T: Into<Bytes>> From<T> for VerifiedBody {
    fn from(body: T) -> Self {
        Self(body.into())
    }
}

impl VerifiedBody {
    /// None.
    pub const fn none() -> Self {
        Self(Bytes::new())
    }

    /// The bytes as received.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same, to be sent.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Verified {
    /// What was proven.
    pub const fn proof(&self) -> &Proof {
        &self.proof
    }

    /// The body it was looked at with.
    pub const fn body(&self) -> &VerifiedBody {
        &self.body
    }

    /// Whether the request is signed.
    pub const fn is_signed(&self) -> bool {
        matches!(self.proof, Proof::Signed { .. })
    }

    /// The outcome, for metrics.
    pub const fn outcome(&self) -> VerificationOutcome {
        match self.proof {
            Proof::Signed { .. } => VerificationOutcome::Verified,
            Proof::BearerOnly { .. } => VerificationOutcome::Absent,
        }
    }
}

/// Kept sealed, so that what is read back was verified when it was kept.
impl Serialize for VerifiedBody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for VerifiedBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_bytes::ByteBuf::deserialize(deserializer).map(|bytes| Self(bytes.into_vec().into()))
    }
}

/// What a request's sender has proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It signed with this key.
    Signed {
        /// The key, as configured.
        key: KeyId,
        /// What its signature covers.
        profile: Profile,
        /// What must be recorded before the request may go on.
        replay: Option<ReplayCheck>,
    },
    /// It only presented its credential, perhaps beside a signature over less than the request.
    BearerOnly {
        /// What must be recorded of such a signature before the request may go on.
        replay: Option<ReplayCheck>,
    },
}

/// Which kind of signature a request presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented {
    /// `Signature-Input`: RFC 9421.
    Rfc9421,
    /// `Signature` alone: ACP's.
    AcpHeader,
    /// None.
    Nothing,
}

impl Presented {
    /// What these headers present.
    pub fn by(headers: &HeaderMap) -> Self {
        if headers.contains_key(SIGNATURE_INPUT) {
            Self::Rfc9421
        } else if headers.contains_key(SIGNATURE) {
            Self::AcpHeader
        } else {
            Self::Nothing
        }
    }

    /// The name in metrics, where it stands for the profile of a signature that did not verify.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rfc9421 => "rfc9421",
            Self::AcpHeader => "acp",
            Self::Nothing => "none",
        }
    }
}

/// Checks a request against the signature policy of the agent whose credential it carries.
///
/// # Errors
/// [`SignatureRefusal`]: the request must be answered 401.
pub fn verify(
    agent: &Agent,
    request: &SignedRequest<'_>,
    now: Timestamp,
) -> Result<Verified, SignatureRefusal> {
    examine(agent, request, now)?.alone()
}

/// The same, as far as it goes without the curve of Ed25519.
pub(crate) fn examine(
    agent: &Agent,
    request: &SignedRequest<'_>,
    now: Timestamp,
) -> Result<Conditional<Verified>, SignatureRefusal> {
    let is_demanded = demands(agent.signature.required, request.money_route);
    let proof = match Presented::by(request.message.headers) {
        Presented::Rfc9421 => {
            if !agent.signature.profiles.contains(&Profile::Rfc9421) {
                return Err(acp_header::not_allowed(agent));
            }
            let examine = |coverage| examine_rfc9421(agent.id.as_str(), &agent.keys, request, coverage, now);
            let proof = match request.money_route {
                true => examine(Coverage::Money),
                false => match examine(Coverage::Request) {
                    // Such as one that identifies a crawler: it must verify and proves no request.
                    Err(refusal) if refusal.rule == SignatureError::CoverageInsufficient && !is_demanded => {
                        examine(Coverage::Any)
                    }
                    proof => proof,
                },
            };
            proof?.map(Some)
        }
        Presented::AcpHeader => acp_header::examine_allowed(agent, request, now)?,
        Presented::Nothing => Conditional::on(None, None),
    };
    // What counts as no signature must verify even so, before it is told that one is demanded.
    let proof = match proof.counts() {
        false if is_demanded => {
            proof.alone()?;
            return Err(SignatureError::Required.into());
        }
        _ => proof,
    };
    let body = VerifiedBody(request.body.clone());
    Ok(proof.map(|proof| Verified { proof: proof.unwrap_or(Proof::BearerOnly { replay: None }), body }))
}

const fn demands(required: SignatureRequired, money_route: bool) -> bool {
    match required {
        SignatureRequired::Always => true,
        SignatureRequired::MoneyRoutes => money_route,
        SignatureRequired::Never => false,
    }
}
