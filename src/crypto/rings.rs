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
