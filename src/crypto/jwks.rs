//! The key set we publish: every signing key of a ring, current and previous.
//!
//! Every signing key of a ring as a public JWK, current and previous, so that a merchant can check
//! signatures made on either side of a rotation.

use serde_json::{Value, json};

use super::keyset::Ring;
use super::sign::SigningKey;

/// The media type of `/.well-known/jwks.json` (RFC 7517 §8.5.2).
pub const JWKS_MEDIA_TYPE: &str = "application/jwk-set+json";
/// The media type of `/.well-known/http-message-signatures-directory`
/// (draft-ietf-webbotauth-httpsig-protocol).
pub const DIRECTORY_MEDIA_TYPE: &str = "application/http-message-signatures-directory+json";

/// The JWK set (RFC 7517 §5) of a ring, current key first. `kid` is the key's thumbprint, which is
/// also the `keyid` of our signatures.
pub fn document(ring: &Ring<SigningKey>) -> Value {
    json!({ "keys": ring.iter().map(|(_, key)| key.public().to_jwk()).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sign::{Algorithm, VerifyingKey};
    use crate::domain::id::KeyId;

    #[test]
    fn every_key_of_the_ring_is_published_by_its_thumbprint_and_no_private_part_is() {
        let make =
            |id: &str, algorithm| (KeyId::parse(id).unwrap(), SigningKey::generate(algorithm).unwrap().0);
        let ring = Ring::new(vec![make("new", Algorithm::Ed25519), make("old", Algorithm::EcdsaP256Sha256)])
            .unwrap();
        let document = document(&ring);
        let keys = document["keys"].as_array().unwrap();
        assert_eq!(keys.len(), 2);
        for (published, (_, key)) in keys.iter().zip(ring.iter()) {
            assert_eq!(published["kid"], key.public().thumbprint());
            assert!(VerifyingKey::from_jwk(&published.to_string()).unwrap() == *key.public());
            assert!(published.get("d").is_none());
        }
    }
}
