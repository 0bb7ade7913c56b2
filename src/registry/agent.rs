//! What is configured about an agent.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::crypto::digest::Sha256;
use crate::crypto::mac::MacKey;
use crate::crypto::sign::VerifyingKey;
use crate::domain::id::{AgentId, KeyId, MerchantId};
use crate::domain::money::Money;

/// An agent, as configured.
pub struct Agent {
    /// Its name.
    pub id: AgentId,
    /// SHA-256 digests of the bearer credentials it may present.
    pub credentials: Vec<Sha256>,
    /// Keys it signs with.
    pub keys: Vec<AgentKey>,
    /// Which signatures it must and may make.
    pub signature: SignaturePolicy,
    /// The merchants it may use; `None` is every merchant.
    pub merchants: Option<BTreeSet<MerchantId>>,
    /// The largest token it may mint, one amount a currency; a currency that is not listed may not
    /// be minted, an empty list sets no ceiling.
    pub token_ceiling: Vec<Money>,
    /// The longest life of its tokens, at most 7 days.
    pub token_life: Duration,
    /// Live tokens it may hold at once.
    pub live_tokens: u32,
    /// Live tokens it may hold for one session.
    pub live_tokens_per_session: u32,
    /// Requests a second, sustained.
    pub requests_per_second: NonZeroU32,
    /// Requests in one burst.
    pub request_burst: NonZeroU32,
    /// Bytes kept for it off the money routes: of what it signs, and as many again of what it does not.
    pub kept_bytes: u64,
    /// Supply a missing `API-Version` with this one (`src/acp/README.md`, "Dialects").
    pub default_version: Option<String>,
    /// Whether its `traceparent` counts: its requests join that trace, and are kept where it says so.
    pub traces: bool,
}

impl Agent {
    /// Whether it may use this merchant.
    pub fn may_use(&self, merchant: &MerchantId) -> bool {
        self.merchants.as_ref().is_none_or(|allowed| allowed.contains(merchant))
    }

    /// Its key of that id. Keys are looked up only here: another agent's key is no key.
    pub fn key(&self, id: &str) -> Option<&AgentKey> {
        self.keys.iter().find(|key| key.id.as_str() == id)
    }
}

/// A key an agent, merchant or provider signs with.
#[derive(Clone)]
pub struct AgentKey {
    /// What signatures call it: `keyid`.
    pub id: KeyId,
    /// The key itself.
    pub material: KeyMaterial,
}

/// Key material of either kind. Cannot be printed.
#[derive(Clone)]
pub enum KeyMaterial {
    /// Verifies Ed25519 or ECDSA P-256 signatures.
    Public(VerifyingKey),
    /// Shared, for HMAC-SHA256.
    Shared(MacKey),
}

/// How requests are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// RFC 9421 with content-digest and idempotency-key covered.
    Rfc9421,
    /// ACP's header over `Timestamp . METHOD . path . Idempotency-Key . JCS(body)`.
    AcpBound,
    /// ACP's header over what its clients sign in practice.
    Acp,
}

impl Profile {
    /// The name in configuration, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rfc9421 => "rfc9421",
            Self::AcpBound => "acp-bound",
            Self::Acp => "acp",
        }
    }
}

/// Where a signature is demanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureRequired {
    /// On every request.
    Always,
    /// On money routes: the default.
    MoneyRoutes,
    /// Nowhere. One that is sent must still verify.
    Never,
}

/// Which signatures an agent must and may make.
#[derive(Clone, Debug)]
pub struct SignaturePolicy {
    /// Where one is demanded.
    pub required: SignatureRequired,
    /// Accepted profiles.
    pub profiles: BTreeSet<Profile>,
    /// What the `acp` profile signs, and how it is written.
    pub acp: AcpVariant,
}

/// One of the schemes met under ACP's `Signature` header (`src/acp/README.md`, "Signature").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcpVariant {
    /// What stands before the body in the signed bytes.
    pub signed: SignedParts,
    /// The body's form in the signed bytes.
    pub body: BodyForm,
    /// How the signature is written in the header.
    pub encoding: Encoding,
    /// How `Timestamp` is written.
    pub timestamp: TimestampForm,
}

impl Default for AcpVariant {
    fn default() -> Self {
        Self {
            signed: SignedParts::TimestampBody,
            body: BodyForm::Canonical,
            encoding: Encoding::Base64Url,
            timestamp: TimestampForm::Rfc3339,
        }
    }
}

/// What an `acp` signature covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedParts {
    /// `timestamp . body`
    TimestampBody,
    /// The body alone; the timestamp is only checked against the window.
    Body,
    /// `timestamp`, method, path and body, with nothing between them.
    TimestampMethodPathBody,
}

/// The body as an `acp` signature covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyForm {
    /// RFC 8785.
    Canonical,
    /// The bytes as sent.
    Raw,
}

/// How a signature is written in ACP's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// base64 with padding.
    Base64,
    /// base64url, padded or not.
    Base64Url,
    /// Lower-case hexadecimal.
    Hex,
}

/// How `Timestamp` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampForm {
    /// RFC 3339.
    Rfc3339,
    /// Seconds since the Unix epoch.
    UnixSeconds,
}
