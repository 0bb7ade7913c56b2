//! The fingerprint of a card: tells whether two cards are the same, and nothing else.

use crate::crypto::keyset::Ring;
use crate::crypto::mac::MacKey;
use crate::domain::card::Pan;

/// HMAC-SHA256 of a card number under a long-lived key of its own. With the key a number can be
/// found by trying them all, so it is never logged: it has no `Debug` and no `Display`.
///
/// ```compile_fail
/// fn printed(card: countersign::fraud::CardFingerprint) -> String { format!("{card:?}") }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct CardFingerprint([u8; 32]);

/// Keeps these tags apart from every other use of a key of the same bytes.
const PURPOSE: &[u8] = b"countersign card fingerprint";

impl CardFingerprint {
    /// The fingerprint of a card number or network token, under the ring's current key. After a
    /// rotation a card counts as a new one.
    pub(crate) fn of(ring: &Ring<MacKey>, pan: &Pan) -> Self {
        Self(ring.current().1.tag_framed(&[PURPOSE, pan.expose().as_bytes()]))
    }

    /// A fingerprint as it was stored with a token.
    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored with a token.
    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::KeyId;

    fn ring(secret: &[u8]) -> Ring<MacKey> {
        Ring::new(vec![(KeyId::parse("k1").unwrap(), MacKey::new(secret))]).unwrap()
    }

    #[test]
    fn the_same_card_has_the_same_fingerprint_under_the_same_key_only() {
        let of = |ring: &Ring<MacKey>, pan| CardFingerprint::of(ring, &Pan::parse_fpan(pan).unwrap());
        let first = of(&ring(b"one"), "4242424242424242");
        assert!(first == of(&ring(b"one"), "4242424242424242"));
        assert!(first != of(&ring(b"two"), "4242424242424242"));
        assert!(first != of(&ring(b"one"), "4000000000000002"));
        assert!(first == CardFingerprint::from_bytes(*first.as_bytes()));
    }
}
