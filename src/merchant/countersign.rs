//! Our signature on every forwarded request: what a merchant checks instead of knowing every agent.
//! Keys are parsed at start, so that signing fails for want of randomness alone.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use http::header::{CONTENT_TYPE, FORWARDED, HeaderName};

use super::exchange::NotSent;
use super::names;
use crate::acp::canonical::canonicalize;
use crate::crypto::mac::MacKey;
use crate::crypto::rings::KeyRings;
use crate::crypto::sign::SigningKey;
use crate::domain::clock::Timestamp;
use crate::http_signature::{CONTENT_DIGEST, Component, MessageView, SignatureHeaders, Signing};

/// The label of our signature (RFC 9421 §4.1), and its `tag` (§2.3).
pub const LABEL: &str = "countersign";
/// The fields our signature covers where they are present, in the order it names them.
const FIELDS: [HeaderName; 7] = [
    CONTENT_DIGEST,
    CONTENT_TYPE,
    names::IDEMPOTENCY_KEY,
    names::API_VERSION,
    FORWARDED,
    names::COUNTERSIGN_CONTEXT,
    names::COUNTERSIGN_GRANT,
];

/// The gateway's own signing key and name.
pub struct Countersigner {
    rings: Arc<KeyRings>,
    /// The current key's JWK thumbprint: `keyid` of signatures, `kid` of grants.
    thumbprint: String,
    issuer: String,
}

impl Countersigner {
    /// Signs with the current key of `rings.signing`. `issuer`: the gateway's public URL, the `iss`
    /// of its grants, below which its key set is found.
    pub fn new(rings: Arc<KeyRings>, issuer: String) -> Self {
        let thumbprint = rings.signing.current().1.public().thumbprint();
        Self { rings, thumbprint, issuer }
    }

    /// The gateway's public URL.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The key that signs, and its name.
    pub(super) fn current(&self) -> (&str, &SigningKey) {
        (&self.thumbprint, self.rings.signing.current().1)
    }

    /// Signs the method, the URI the merchant knows itself by, and those of [`FIELDS`] that are
    /// present. One signing operation.
    ///
    /// # Errors
    /// [`NotSent::NotBuilt`] without randomness, or when a covered header is not visible ASCII.
    pub(super) fn sign(
        &self,
        message: &MessageView<'_>,
        now: Timestamp,
        life: Duration,
    ) -> Result<SignatureHeaders, NotSent> {
        let is_present = |name: &HeaderName| message.headers.contains_key(name);
        let present = FIELDS.into_iter().filter(is_present).map(Component::Field);
        let mut components = Vec::with_capacity(2 + FIELDS.len());
        components.extend([Component::Method, Component::TargetUri]);
        components.extend(present);
        let (keyid, key) = self.current();
        let signing = Signing {
            label: LABEL,
            components: &components,
            created: now,
            expires: Some(now.plus(life)),
            keyid,
            nonce: None,
            tag: Some(LABEL),
        };
        signing.sign(message, key).map_err(|_| NotSent::NotBuilt)
    }
}

/// ACP's own `Signature`, for a merchant that knows no other: HMAC-SHA256 over
/// `Timestamp . JCS(body)`, base64url without padding. An empty body is signed as nothing.
///
/// # Errors
/// [`NotSent::NotBuilt`] when the body has no canonical form.
pub(super) fn acp_signature(key: &MacKey, timestamp: &str, body: &[u8]) -> Result<HeaderValue, NotSent> {
    let mut canonical = Vec::with_capacity(body.len());
    if !body.is_empty() {
        canonicalize(body, &mut canonical).map_err(|_| NotSent::NotBuilt)?;
    }
    let tag = key.tag(&[timestamp.as_bytes(), b".", &canonical]);
    HeaderValue::from_str(&URL_SAFE_NO_PAD.encode(tag)).map_err(|_| NotSent::NotBuilt)
}
