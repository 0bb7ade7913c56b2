//! Digital signatures: Ed25519 (RFC 8032) and ECDSA P-256 with SHA-256 as raw `r‖s` (RFC 9421 §3.3.4).
//!
//! One signature is verified and one made for every request, so for Ed25519 each is done by what does
//! it cheapest: AWS-LC signs, [`super::ed25519`] verifies under keys that were decompressed once.
//! Ed25519 signatures are deterministic, so who makes them cannot be told. Public keys of small order,
//! under which anybody can sign, are refused when they are read.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use curve25519_dalek::edwards::EdwardsPoint;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde::Deserialize;

use super::digest::sha256;
use super::ed25519::{Equation, point_of};

/// A signature algorithm, by its name in RFC 9421 §6.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// `ecdsa-p256-sha256`
    EcdsaP256Sha256,
    /// `ed25519`
    Ed25519,
}

impl Algorithm {
    /// The name in the HTTP Signature Algorithms registry.
    pub const fn http_name(self) -> &'static str {
        match self {
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
            Self::Ed25519 => "ed25519",
        }
    }

    /// The name in JOSE (RFC 7518, RFC 8037).
    pub const fn jose_name(self) -> &'static str {
        match self {
            Self::EcdsaP256Sha256 => "ES256",
            Self::Ed25519 => "EdDSA",
        }
    }
}

/// What stands before the 32 bytes of an Ed25519 key in PKCS#8 (RFC 8410, section 7), version 1.
/// ring writes version 2, with the public key as well, which OpenSSL 3 and all that is built on it
/// cannot read.
const ED25519_PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A private key. Cannot be printed.
pub struct SigningKey {
    pair: Pair,
    public: VerifyingKey,
    /// Kept for `jwt` alone: `jsonwebtoken` passes keys to its provider as bytes.
    pkcs8: zeroize::Zeroizing<Vec<u8>>,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

/// A key that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 or P-256 key in PKCS#8 PEM, JWK or raw form")]
pub struct KeyRejected;

impl SigningKey {
    /// Reads a PKCS#8 PEM file's text: Ed25519 or P-256.
    ///
    /// # Errors
    /// [`KeyRejected`], which never carries a byte of the key.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, KeyRejected> {
        let body: String = pem
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("-----"))
            .collect();
        let der = zeroize::Zeroizing::new(STANDARD.decode(body).map_err(|_| KeyRejected)?);
        Self::from_pkcs8_der(&der)
    }

    /// Reads PKCS#8 DER.
    ///
    /// # Errors
    /// [`KeyRejected`].
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyRejected> {
        let pkcs8 = zeroize::Zeroizing::new(der.to_vec());
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            let public = VerifyingKey::from_raw(Algorithm::Ed25519, pair.public_key().as_ref())?;
            return Ok(Self { pair: Pair::Ed25519(pair), public, pkcs8 });
        }
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new())
            .map_err(|_| KeyRejected)?;
        let public = VerifyingKey::from_raw(Algorithm::EcdsaP256Sha256, pair.public_key().as_ref())?;
        Ok(Self { pair: Pair::P256(pair), public, pkcs8 })
    }

    /// Makes a new key and its PKCS#8 PEM text.
    ///
    /// # Errors
    /// [`KeyRejected`] when the operating system gives no randomness.
    pub fn generate(algorithm: Algorithm) -> Result<(Self, zeroize::Zeroizing<String>), KeyRejected> {
        let der = match algorithm {
            Algorithm::Ed25519 => {
                let seed = zeroize::Zeroizing::new(super::random::bytes::<32>().map_err(|_| KeyRejected)?);
                zeroize::Zeroizing::new([ED25519_PKCS8.as_slice(), seed.as_slice()].concat())
            }
            Algorithm::EcdsaP256Sha256 => {
                let random = SystemRandom::new();
                let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
                    .map_err(|_| KeyRejected)?;
                zeroize::Zeroizing::new(der.as_ref().to_vec())
            }
        };
        let key = Self::from_pkcs8_der(&der)?;
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der.as_slice())
        );
        Ok((key, zeroize::Zeroizing::new(pem)))
    }

    /// The PKCS#8 DER it was read from.
    pub(super) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public half.
    pub const fn public(&self) -> &VerifyingKey {
        &self.public
    }

    /// Signs; 64 bytes for both algorithms.
    ///
    /// # Errors
    /// [`super::random::RandomUnavailable`]: ECDSA needs randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, super::random::RandomUnavailable> {
        match &self.pair {
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::P256(pair) => pair
                .sign(&SystemRandom::new(), message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| super::random::RandomUnavailable),
        }
    }
}

// SubjectPublicKeyInfo of both algorithms is a fixed DER prefix followed by the raw key.
const SPKI_ED25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
const SPKI_P256: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";

/// A public key.
#[derive(Clone)]
pub struct VerifyingKey {
    algorithm: Algorithm,
    /// Ed25519: 32 bytes. P-256: the uncompressed point, 65 bytes.
    bytes: Vec<u8>,
    /// The point of an Ed25519 key.
    point: Option<EdwardsPoint>,
}

/// What became of checking a signature.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "one a request, taken apart at once: not worth an allocation")]
pub enum Checked {
    /// It verifies, or does not.
    Decided(bool),
    /// It verifies where this holds, which may be computed with others'.
    If(Equation),
}

impl Checked {
    /// Whether it verifies; what is left is computed alone.
    pub fn verifies_alone(&self) -> bool {
        match self {
            Self::Decided(verifies) => *verifies,
            Self::If(equation) => equation.holds(),
        }
    }
}

impl VerifyingKey {
    /// Reads raw bytes: 32 for Ed25519, the 65 of an uncompressed point for P-256.
    ///
    /// # Errors
    /// [`KeyRejected`] for any other length or form.
    pub fn from_raw(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, KeyRejected> {
        let fits = match algorithm {
            Algorithm::Ed25519 => bytes.len() == 32,
            Algorithm::EcdsaP256Sha256 => bytes.len() == 65 && bytes.first() == Some(&4),
        };
        fits.then_some(()).ok_or(KeyRejected)?;
        let point = match algorithm {
            Algorithm::Ed25519 => Some(point_of(bytes).ok_or(KeyRejected)?),
            Algorithm::EcdsaP256Sha256 => None,
        };
        Ok(Self { algorithm, bytes: bytes.to_vec(), point })
    }

    /// Reads a public JWK (RFC 7517): `OKP`/`Ed25519` or `EC`/`P-256`.
    ///
    /// # Errors
    /// [`KeyRejected`].
    pub fn from_jwk(json: &str) -> Result<Self, KeyRejected> {
        #[derive(Deserialize)]
        struct Jwk<'a> {
            kty: &'a str,
            crv: &'a str,
            x: &'a str,
            y: Option<&'a str>,
        }
        let jwk: Jwk<'_> = serde_json::from_str(json).map_err(|_| KeyRejected)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyRejected);
        match (jwk.kty, jwk.crv, jwk.y) {
            ("OKP", "Ed25519", None) => Self::from_raw(Algorithm::Ed25519, &decode(jwk.x)?),
            ("EC", "P-256", Some(y)) => {
                let point = [&[4], decode(jwk.x)?.as_slice(), decode(y)?.as_slice()].concat();
                Self::from_raw(Algorithm::EcdsaP256Sha256, &point)
            }
            _ => Err(KeyRejected),
        }
    }

    /// Reads a `PUBLIC KEY` PEM file's text (SubjectPublicKeyInfo, RFC 5280 §4.1): Ed25519
    /// (RFC 8410) or an uncompressed P-256 point (RFC 5480).
    ///
    /// # Errors
    /// [`KeyRejected`].
    pub fn from_spki_pem(pem: &str) -> Result<Self, KeyRejected> {
        let body: String = pem
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("-----"))
            .collect();
        let der = STANDARD.decode(body).map_err(|_| KeyRejected)?;
        if let Some(raw) = der.strip_prefix(SPKI_ED25519) {
            Self::from_raw(Algorithm::Ed25519, raw)
        } else {
            Self::from_raw(Algorithm::EcdsaP256Sha256, der.strip_prefix(SPKI_P256).ok_or(KeyRejected)?)
        }
    }

    /// The key as [`Self::from_spki_pem`] reads it.
    pub fn to_spki_pem(&self) -> String {
        let prefix = match self.algorithm {
            Algorithm::Ed25519 => SPKI_ED25519,
            Algorithm::EcdsaP256Sha256 => SPKI_P256,
        };
        let der = STANDARD.encode([prefix, &self.bytes].concat());
        // RFC 7468 §3: lines of 64 characters.
        let (first, second) = der.split_at_checked(64).unwrap_or((&der, ""));
        let lines = if second.is_empty() { first.to_owned() } else { format!("{first}\n{second}") };
        format!("-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n")
    }

    /// The raw key: 32 bytes of Ed25519, or the 65 of an uncompressed P-256 point.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Which algorithm it verifies.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The members a JWK thumbprint covers, in its order and form (RFC 7638 §3.2, RFC 8037 §2).
    fn thumbprint_form(&self) -> String {
        match self.algorithm {
            Algorithm::Ed25519 => {
                format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, URL_SAFE_NO_PAD.encode(&self.bytes))
            }
            Algorithm::EcdsaP256Sha256 => {
                let (x, y) = self.bytes.get(1..).unwrap_or(&[]).split_at_checked(32).unwrap_or((&[], &[]));
                let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
        }
    }

    /// The base64url SHA-256 JWK thumbprint (RFC 7638).
    pub fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(sha256(&[self.thumbprint_form().as_bytes()]))
    }

    /// The public JWK as a JSON object, with `kid` (the thumbprint), `alg` and `use`.
    pub fn to_jwk(&self) -> serde_json::Value {
        let mut jwk: serde_json::Value = serde_json::from_str(&self.thumbprint_form()).unwrap_or_default();
        if let Some(members) = jwk.as_object_mut() {
            members.insert("kid".to_owned(), self.thumbprint().into());
            members.insert("alg".to_owned(), self.algorithm.jose_name().into());
            members.insert("use".to_owned(), "sig".into());
        }
        jwk
    }

    /// Checks `signature` (64 raw bytes) as far as it goes without the curve of Ed25519.
    pub fn check(&self, message: &[u8], signature: &[u8]) -> Checked {
        match (&self.point, self.bytes.first_chunk::<32>()) {
            (Some(point), Some(encoding)) => Equation::of(point, *encoding, message, signature)
                .map_or(Checked::Decided(false), Checked::If),
            _ => Checked::Decided(
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.bytes)
                    .verify(message, signature)
                    .is_ok(),
            ),
        }
    }

    /// Whether `signature` (64 raw bytes) is this key's over `message`. Non-canonical Ed25519 scalars
    /// and out-of-range ECDSA ones are refused.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.check(message, signature).verifies_alone()
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.bytes == other.bytes
    }
}

impl Eq for VerifyingKey {}

#[cfg(test)]
mod tests;
