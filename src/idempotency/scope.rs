//! What a key belongs to, and what is derived from it.

use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use byteview::StrView;
use serde::{Deserialize, Serialize};

use crate::crypto::digest::{Sha256, sha256_framed};
use crate::crypto::mac::MacKey;
use crate::domain::id::{AgentId, MerchantId};
use crate::records::{Kind, RecordKey};

/// The parts of a scope. The path is the canonical one, the same through host and prefix.
#[derive(Clone, Copy, Debug)]
pub struct ScopeParts<'a> {
    /// Who uses the key.
    pub agent: &'a AgentId,
    /// At which merchant; `None` on routes without one.
    pub merchant: Option<&'a MerchantId>,
    /// The HTTP method.
    pub method: &'a str,
    /// The canonical path, ids included.
    pub path: &'a str,
    /// The agent's `Idempotency-Key`.
    pub key: &'a str,
}

impl ScopeParts<'_> {
    fn framed(&self) -> [&[u8]; 5] {
        [
            self.agent.as_str().as_bytes(),
            self.merchant.map_or("", MerchantId::as_str).as_bytes(),
            self.method.as_bytes(),
            self.path.as_bytes(),
            self.key.as_bytes(),
        ]
    }

    /// The digest that names the record.
    pub fn scope(&self) -> Scope {
        Scope(sha256_framed(&self.framed()))
    }

    /// The key the merchant receives: one an agent, merchant, method, path and key, told apart from
    /// every other (`src/acp/README.md`, "Idempotency"). 43 characters of base64url.
    pub fn upstream_key(&self, derivation: &MacKey) -> StrView {
        StrView::new(&Name::of(&derivation.tag_framed(&self.framed())))
    }
}

/// 32 bytes as text: 43 characters of base64url.
pub struct Name([u8; 43]);

impl Name {
    fn of(bytes: &[u8; 32]) -> Self {
        let mut name = Self([0; 43]);
        // There is room for exactly that.
        let _ = URL_SAFE_NO_PAD.encode_slice(bytes, &mut name.0);
        name
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Names the record of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scope(Sha256);

impl Scope {
    /// The digest, for counters that count an operation once.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The record's name.
    pub fn name(&self) -> Name {
        Name::of(&self.0)
    }

    /// The record's key, in a session's partition where the route has a session, else in its own.
    pub fn record_key(&self, partition: Option<&str>) -> RecordKey {
        let name = self.name();
        RecordKey::new(Kind::Idempotency, partition.unwrap_or(&name), &name)
    }
}
