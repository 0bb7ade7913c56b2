//! The record of a key.

use serde::{Deserialize, Serialize};

use crate::crypto::aead::Sealed;
use crate::domain::clock::Timestamp;
use crate::domain::id::{KeyId, TokenId};
use crate::records::Kind;
use crate::records::codec::Stored;

/// What is kept of a key from its first use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// HMAC of the body's exact form.
    pub fingerprint: [u8; 32],
    /// Under which key.
    pub fingerprint_key: KeyId,
    /// The `Idempotency-Key` the merchant receives.
    pub upstream_key: String,
    /// The key it was derived with.
    pub derivation_key: KeyId,
    /// How far the operation is.
    pub state: KeyState,
    /// The request to re-send, for forwarded routes, until the answer is recorded. Never a body
    /// with card data in it.
    pub request: Option<Sealed>,
    /// For a mint: the id drawn before anything else happened.
    pub token: Option<TokenId>,
}

/// How far an operation is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyState {
    /// Somebody is working on it.
    Leased(LeaseMark),
    /// It was tried and its outcome was not kept.
    Open,
    /// It has its answer.
    Recorded(StoredAnswer),
}

/// Who holds a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseMark {
    /// Fences: a holder that lost its lease records nothing.
    pub number: u64,
    /// The incarnation of the store under which it was taken.
    pub incarnation: u64,
    /// Void from then on.
    pub until: Timestamp,
}

/// A kept answer: below 500 by construction (ACP §6.5: a 5xx is never stored).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Its media type.
    pub content_type: Option<String>,
    /// Its bytes, sealed.
    pub body: Sealed,
}

/// What a re-send repeats; sealed inside [`KeyRecord::request`].
#[derive(Serialize, Deserialize)]
pub struct StoredRequest {
    /// `API-Version`.
    pub version: String,
    /// `Accept-Language`.
    pub accept_language: Option<String>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// The body, byte for byte.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
}

impl Stored for KeyRecord {
    const KIND: Kind = Kind::Idempotency;
    const FORMAT: u8 = 1;
}
