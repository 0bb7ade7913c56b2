//! Our signature on every forwarded request: what a merchant checks instead of knowing every agent.
//! Keys are parsed at start, so that signing fails for want of randomness alone.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{CONTENT_TYPE, FORWARDED, HeaderName};
use http::{HeaderMap, HeaderValue, Method};

use super::exchange::NotSent;
use super::names;
use crate::acp::canonical::canonicalize;
use crate::crypto::digest::sha256;
use crate::crypto::keyset::Ring;
use crate::crypto::mac::MacKey;
use crate::crypto::sign::{SigningKey, VerifyingKey};
use crate::domain::clock::Timestamp;

/// The label of our signature (RFC 9421 §4.1), and its `tag` (§2.3).
pub const LABEL: &str = "countersign";
/// How long after `created` our signature expires, in seconds: the window agents have too.
pub const LIFE_SECONDS: i64 = 300;

/// The fields our signature covers where they are present, in the order it names them.
const FIELDS: [HeaderName; 7] = [
    names::CONTENT_DIGEST,
    CONTENT_TYPE,
    names::IDEMPOTENCY_KEY,
    names::API_VERSION,
    FORWARDED,
    names::COUNTERSIGN_CONTEXT,
    names::COUNTERSIGN_GRANT,
];

/// The gateway's own signing keys and name.
pub struct Countersigner {
    keys: Ring<SigningKey>,
    /// The current key's JWK thumbprint: `keyid`, and `kid` of a grant.
    pub(super) thumbprint: String,
    issuer: String,
}

impl Countersigner {
    /// `keys`: the current one signs; the others are still published. `issuer`: the gateway's public
    /// URL, the `iss` of its grants and where its key set is found.
    pub fn new(keys: Ring<SigningKey>, issuer: String) -> Self {
        let thumbprint = keys.current().1.public().thumbprint();
        Self { keys, thumbprint, issuer }
    }

    /// The gateway's public URL.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Every public key to publish, the current one first.
    pub fn public_keys(&self) -> impl Iterator<Item = &VerifyingKey> {
        self.keys.iter().map(|(_, key)| key.public())
    }

    /// The key that signs.
    pub(super) fn signing_key(&self) -> &SigningKey {
        self.keys.current().1
    }

    /// Adds `Signature-Input` and `Signature` over the method, the URI the merchant knows itself by,
    /// and those of [`FIELDS`] that are present.
    ///
    /// # Errors
    /// [`NotSent::Unwritable`] without randomness, or when a header is not ASCII text.
    pub(super) fn sign(
        &self,
        method: &Method,
        target_uri: &str,
        headers: &mut HeaderMap,
        now: Timestamp,
    ) -> Result<(), NotSent> {
        // The signature base of RFC 9421 §2.5: a line a component, then the parameters.
        let mut base = format!("\"@method\": {method}\n\"@target-uri\": {target_uri}\n");
        let mut parameters = String::from("(\"@method\" \"@target-uri\"");
        for name in &FIELDS {
            let Some(value) = headers.get(name) else { continue };
            let value = value.to_str().map_err(|_| NotSent::Unwritable)?.trim();
            base.extend(["\"", name.as_str(), "\": ", value, "\n"]);
            parameters.extend([" \"", name.as_str(), "\""]);
        }
        let created = now.unix_seconds();
        let expires = created.saturating_add(LIFE_SECONDS);
        parameters.push_str(&format!(
            ");created={created};expires={expires};keyid=\"{}\";tag=\"{LABEL}\"",
            self.thumbprint
        ));
        base.extend(["\"@signature-params\": ", &parameters]);
        let signature = self.signing_key().sign(base.as_bytes()).map_err(|_| NotSent::Unwritable)?;
        headers.insert(names::SIGNATURE_INPUT, value(&format!("{LABEL}={parameters}"))?);
        headers.insert(names::SIGNATURE, value(&format!("{LABEL}=:{}:", STANDARD.encode(signature)))?);
        Ok(())
    }
}

/// Adds ACP's own `Signature` for a merchant that knows no other: HMAC-SHA256 over
/// `Timestamp . JCS(body)`, base64url without padding. An empty body is signed as nothing.
///
/// # Errors
/// [`NotSent::Unwritable`] when the body has no canonical form.
pub(super) fn sign_acp(
    key: &MacKey,
    timestamp: &str,
    body: &[u8],
    headers: &mut HeaderMap,
) -> Result<(), NotSent> {
    let mut canonical = Vec::with_capacity(body.len());
    if !body.is_empty() {
        canonicalize(body, &mut canonical).map_err(|_| NotSent::Unwritable)?;
    }
    let tag = key.tag(&[timestamp.as_bytes(), b".", &canonical]);
    headers.insert(names::SIGNATURE, value(&URL_SAFE_NO_PAD.encode(tag))?);
    Ok(())
}

/// `Content-Digest` of a body (RFC 9530 §2).
pub(super) fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(sha256(&[body])))
}

/// A header's value; text that cannot be one is never sent.
pub(super) fn value(text: &str) -> Result<HeaderValue, NotSent> {
    HeaderValue::from_str(text).map_err(|_| NotSent::Unwritable)
}
