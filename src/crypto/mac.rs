//! HMAC-SHA256.

use ring::hmac;

/// A symmetric key for HMAC-SHA256. Cannot be printed.
#[derive(Clone)]
pub struct MacKey(hmac::Key);

impl MacKey {
    /// Takes key bytes of any length (RFC 2104 hashes long keys).
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The tag over the parts, one after the other.
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        parts.iter().for_each(|part| context.update(part));
        context.sign().as_ref().try_into().unwrap_or_default()
    }

    /// The tag over parts with each part's length before it, so that no two lists of parts collide.
    pub fn tag_framed(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        context.sign().as_ref().try_into().unwrap_or_default()
    }

    /// Whether `tag` is the tag over `message`; compared in constant time.
    pub fn verifies(&self, message: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.0, message, tag).is_ok()
    }
}
