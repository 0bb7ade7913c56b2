//! Every ring the gateway works with. Apart from `keyset`, which knows no kind of key.

use super::aead::SealingKey;
use super::keyset::Ring;
use super::mac::MacKey;
use super::sign::SigningKey;

/// Every ring the gateway works with, one per purpose: no key serves two.
pub struct KeyRings {
    /// Signs countersignatures and grants; its public halves are published.
    pub signing: Ring<SigningKey>,
    /// Seals cards at rest.
    pub sealing: Ring<SealingKey>,
    /// Fingerprints of request bodies, for idempotency and replay records.
    pub fingerprint: Ring<MacKey>,
    /// Fingerprints of cards, for fraud counters. Apart from the others because a counter outlives
    /// their rotation.
    pub card_fingerprint: Ring<MacKey>,
    /// Derives the idempotency keys sent to merchants.
    pub derivation: Ring<MacKey>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::crypto::sign::Algorithm;
    use crate::domain::id::KeyId;

    /// Rings whose sealing keys have these ids, the first of them current; another id is another key.
    pub(crate) fn rings_of(sealing: &[&str]) -> KeyRings {
        let id = |name: &str| KeyId::parse(name).unwrap();
        let byte = |name: &str| name.bytes().fold(1, u8::wrapping_add);
        let keys = sealing.iter().map(|name| (id(name), SealingKey::new(&[byte(name); 32]).unwrap()));
        let mac = || Ring::new(vec![(id("mac"), MacKey::new(b"any"))]).unwrap();
        let (signing, _) = SigningKey::generate(Algorithm::Ed25519).unwrap();
        KeyRings {
            signing: Ring::new(vec![(id("signing"), signing)]).unwrap(),
            sealing: Ring::new(keys.collect()).unwrap(),
            fingerprint: mac(),
            card_fingerprint: mac(),
            derivation: mac(),
        }
    }

    /// Rings of one key each.
    pub(crate) fn rings() -> KeyRings {
        rings_of(&["sealing"])
    }
}
