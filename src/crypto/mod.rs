//! The only doorway to the cryptographic libraries: stages call verbs here and never see a cipher.

pub mod aead;
pub mod certificate;
pub mod digest;
pub mod ed25519;
pub mod jwks;
pub mod jwt;
pub mod keyset;
pub mod mac;
pub mod random;
pub mod rings;
pub mod sign;
