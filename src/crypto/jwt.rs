//! Compact JWS (RFC 7515) through `jsonwebtoken`, signed and verified by the keys of `crypto/sign.rs`.
//!
//! `jsonwebtoken` brings the wire format and its checks, a [`CryptoProvider`] of ours the signatures, so
//! that tokens and messages are signed by the same code. Time is the caller's business: claims such as
//! `exp` are not judged here, because `jsonwebtoken` would judge them by a clock that is not ours.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, new_error};
use jsonwebtoken::signature::{Error as SignatureError, Signer, Verifier};
use jsonwebtoken::{
    Algorithm as JoseAlgorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header, Validation,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::sign::{Algorithm, SigningKey, VerifyingKey};

/// A token could not be made or is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Claims that are not JSON, or no randomness for ECDSA.
    #[error("the token could not be signed")]
    NotSigned,
    /// Not three base64url parts, another algorithm, a signature that does not verify, or claims of
    /// another shape.
    #[error("the token is not one this key signed")]
    Invalid,
    /// Signed, but a token of another kind (RFC 8725 §3.11).
    #[error("the token is of another type")]
    WrongType,
    /// It names header parameters that must be understood and are not (RFC 7515 §4.1.11).
    #[error("the token has critical header parameters that are not understood")]
    CriticalHeader,
}

/// Signs claims under the header `{"typ", "alg", "kid"}`.
///
/// # Errors
/// [`JwtError::NotSigned`].
pub fn sign(key: &SigningKey, kid: &str, typ: &str, claims: &impl Serialize) -> Result<String, JwtError> {
    install_provider();
    let algorithm = key.public().algorithm();
    let mut header = Header::new(jose(algorithm));
    header.typ = Some(typ.to_owned());
    header.kid = Some(kid.to_owned());
    let key = match algorithm {
        Algorithm::Ed25519 => EncodingKey::from_ed_der(key.pkcs8()),
        Algorithm::EcdsaP256Sha256 => EncodingKey::from_ec_der(key.pkcs8()),
    };
    jsonwebtoken::encode(&header, claims, &key).map_err(|_| JwtError::NotSigned)
}

/// Checks signature, algorithm and `typ`, and reads the claims. Whether they are in force (`exp`,
/// `nbf`, `aud`) is for the caller to judge.
///
/// # Errors
/// [`JwtError`], without saying which byte was wrong.
pub fn verify<T: DeserializeOwned>(key: &VerifyingKey, token: &str, typ: &str) -> Result<T, JwtError> {
    install_provider();
    let algorithm = key.algorithm();
    let mut validation = Validation::new(jose(algorithm));
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let key = match algorithm {
        Algorithm::Ed25519 => DecodingKey::from_ed_der(key.as_bytes()),
        Algorithm::EcdsaP256Sha256 => DecodingKey::from_ec_der(key.as_bytes()),
    };
    let token = jsonwebtoken::decode::<T>(token, &key, &validation).map_err(|_| JwtError::Invalid)?;
    if token.header.crit.is_some() {
        return Err(JwtError::CriticalHeader);
    }
    if token.header.typ.as_deref() != Some(typ) {
        return Err(JwtError::WrongType);
    }
    Ok(token.claims)
}

const fn jose(algorithm: Algorithm) -> JoseAlgorithm {
    match algorithm {
        Algorithm::Ed25519 => JoseAlgorithm::EdDSA,
        Algorithm::EcdsaP256Sha256 => JoseAlgorithm::ES256,
    }
}

fn install_provider() {
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: |algorithm, key| {
            let key = SigningKey::from_pkcs8_der(key.as_bytes())
                .map_err(|_| new_error(ErrorKind::InvalidKeyFormat))?;
            if jose(key.public().algorithm()) == *algorithm {
                Ok(Box::new(RingSigner(key)))
            } else {
                Err(new_error(ErrorKind::InvalidAlgorithm))
            }
        },
        verifier_factory: |algorithm, key| {
            let kind = match (algorithm, key.family()) {
                (JoseAlgorithm::EdDSA, AlgorithmFamily::Ed) => Algorithm::Ed25519,
                (JoseAlgorithm::ES256, AlgorithmFamily::Ec) => Algorithm::EcdsaP256Sha256,
                _ => return Err(new_error(ErrorKind::InvalidAlgorithm)),
            };
            VerifyingKey::from_raw(kind, key.try_get_as_bytes()?)
                .map(|key| -> Box<dyn JwtVerifier> { Box::new(RingVerifier(key)) })
                .map_err(|_| new_error(ErrorKind::InvalidKeyFormat))
        },
        // Only for its own JWK handling, which is not used here: JWKs are made in `sign`.
        key_utils: KeyUtils {
            rsa_pub_components_from_private_key: |_| Err(new_error(ErrorKind::UnsupportedAlgorithm)),
            rsa_pub_components_from_public_key: |_| Err(new_error(ErrorKind::UnsupportedAlgorithm)),
            ec_pub_components_from_private_key: |_, _| Err(new_error(ErrorKind::UnsupportedAlgorithm)),
            ed_pub_components_from_private_key: |_, _| Err(new_error(ErrorKind::UnsupportedAlgorithm)),
            compute_digest: |_, _| Err(new_error(ErrorKind::UnsupportedAlgorithm)),
        },
    };
    // Fails when it is installed already, which is what is wanted.
    let _installed = PROVIDER.install_default();
}

struct RingSigner(SigningKey);

impl Signer<Vec<u8>> for RingSigner {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        self.0.sign(message).map_err(|_| SignatureError::new())
    }
}

impl JwtSigner for RingSigner {
    fn algorithm(&self) -> JoseAlgorithm {
        jose(self.0.public().algorithm())
    }
}

struct RingVerifier(VerifyingKey);

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        if self.0.verifies(message, signature) { Ok(()) } else { Err(SignatureError::new()) }
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> JoseAlgorithm {
        jose(self.0.algorithm())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    const TYP: &str = "payment-grant+jwt";

    #[test]
    fn a_token_verifies_under_its_own_key_type_and_nothing_else() {
        for algorithm in [Algorithm::Ed25519, Algorithm::EcdsaP256Sha256] {
            let (key, _) = SigningKey::generate(algorithm).unwrap();
            let (other, _) = SigningKey::generate(algorithm).unwrap();
            let token = sign(&key, "k1", TYP, &json!({"sub": "agent", "exp": 1})).unwrap();
            let claims: Value = verify(key.public(), &token, TYP).unwrap();
            assert_eq!(claims, json!({"sub": "agent", "exp": 1}), "an old `exp` is the caller's to judge");
            assert_eq!(verify::<Value>(other.public(), &token, TYP), Err(JwtError::Invalid));
            assert_eq!(verify::<Value>(key.public(), &token, "JWT"), Err(JwtError::WrongType));
        }
    }

    #[test]
    fn the_header_names_type_algorithm_and_key_and_nothing_else() {
        let (key, _) = SigningKey::generate(Algorithm::Ed25519).unwrap();
        let token = sign(&key, "k1", TYP, &json!({})).unwrap();
        let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        assert_eq!(header, json!({"typ": TYP, "alg": "EdDSA", "kid": "k1"}));
    }

    #[test]
    fn another_algorithm_no_algorithm_and_changed_claims_are_refused() {
        let (key, _) = SigningKey::generate(Algorithm::Ed25519).unwrap();
        let token = sign(&key, "k1", TYP, &json!({"amount": 1})).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        for alg in ["none", "HS256", "ES256"] {
            let forged = format!("{}.{}.{}", encode(json!({"typ": TYP, "alg": alg})), parts[1], parts[2]);
            assert_eq!(verify::<Value>(key.public(), &forged, TYP), Err(JwtError::Invalid), "{alg}");
        }
        let raised = format!("{}.{}.{}", parts[0], encode(json!({"amount": 2})), parts[2]);
        assert_eq!(verify::<Value>(key.public(), &raised, TYP), Err(JwtError::Invalid));
    }

    #[test]
    fn critical_header_parameters_are_refused() {
        let (key, _) = SigningKey::generate(Algorithm::Ed25519).unwrap();
        let header = json!({"typ": TYP, "alg": "EdDSA", "crit": ["b64"], "b64": true});
        let message = [header, json!({})].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()).unwrap());
        let token = format!("{message}.{signature}");
        assert_eq!(verify::<Value>(key.public(), &token, TYP), Err(JwtError::CriticalHeader));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(token in ".{0,200}") {
            let (key, _) = SigningKey::generate(Algorithm::Ed25519).unwrap();
            proptest::prop_assert!(verify::<Value>(key.public(), &token, TYP).is_err());
        }
    }
}
