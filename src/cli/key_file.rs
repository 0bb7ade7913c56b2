//! Keys in files, as users have them.

use std::path::Path;

use clap::ValueEnum;
use serde_json::Value;
use zeroize::Zeroizing;

use super::error::CommandError;
use super::given_request::read_file;
use crate::auth::signature::decode_acp;
use crate::crypto::mac::MacKey;
use crate::crypto::sign::{SigningKey, VerifyingKey};
use crate::domain::id::KeyId;
use crate::registry::{Encoding, KeyMaterial};

/// How a shared secret is written in its file; a line end after it is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SecretEncoding {
    /// Its characters are its bytes.
    Text,
    /// base64 with padding.
    Base64,
    /// Lower-case hexadecimal.
    Hex,
}

/// A key that makes signatures.
pub(super) enum PrivateKey {
    Signing(Box<SigningKey>),
    Shared(MacKey),
}

impl PrivateKey {
    /// Reads a PKCS#8 PEM file, or a shared secret from any other.
    pub(super) fn read(path: &Path, encoding: SecretEncoding) -> Result<Self, CommandError> {
        let text = read_text(path)?;
        if !text.contains("-----BEGIN") {
            return shared(path, &text, encoding).map(Self::Shared);
        }
        let expected = "expected a private key: PKCS#8 PEM, Ed25519 or P-256";
        let key = SigningKey::from_pkcs8_pem(&text);
        key.map(|key| Self::Signing(Box::new(key)))
            .map_err(|_| CommandError::Key { path: path.to_owned(), expected })
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CommandError> {
        match self {
            Self::Signing(key) => Ok(key.sign(message)?),
            Self::Shared(key) => Ok(key.tag(&[message]).into()),
        }
    }
}

/// Reads a public key as PEM or JWK, the public half of a private key in PEM, a set of JWKs (RFC 7517
/// §5) as the gateway publishes it, or a shared secret from any other file. Keys of a set come with
/// their names.
pub(super) fn read_checking_keys(
    path: &Path,
    encoding: SecretEncoding,
) -> Result<Vec<(Option<KeyId>, KeyMaterial)>, CommandError> {
    let text = read_text(path)?;
    let public = if text.contains("-----BEGIN PUBLIC KEY-----") {
        VerifyingKey::from_spki_pem(&text)
    } else if text.contains("-----BEGIN PRIVATE KEY-----") {
        SigningKey::from_pkcs8_pem(&text).map(|key| key.public().clone())
    } else if text.trim_start().starts_with('{') {
        if let Some(keys) = key_set(&text) {
            return Ok(keys);
        }
        VerifyingKey::from_jwk(&text)
    } else {
        return shared(path, &text, encoding).map(|key| vec![(None, KeyMaterial::Shared(key))]);
    };
    let expected = "expected an Ed25519 or P-256 key: public PEM, JWK, JWK set or PKCS#8 PEM";
    public
        .map(|key| vec![(None, KeyMaterial::Public(key))])
        .map_err(|_| CommandError::Key { path: path.to_owned(), expected })
}

/// The keys of a set that can be used; `None` when it is no set, or holds none.
fn key_set(text: &str) -> Option<Vec<(Option<KeyId>, KeyMaterial)>> {
    let set: Value = serde_json::from_str(text).ok()?;
    let read = |jwk: &Value| {
        let key = VerifyingKey::from_jwk(&jwk.to_string()).ok()?;
        Some((jwk.get("kid").and_then(Value::as_str).and_then(KeyId::parse), KeyMaterial::Public(key)))
    };
    let keys: Vec<_> = set.get("keys")?.as_array()?.iter().filter_map(read).collect();
    (!keys.is_empty()).then_some(keys)
}

fn shared(path: &Path, text: &str, encoding: SecretEncoding) -> Result<MacKey, CommandError> {
    let line = text.trim_end_matches(['\r', '\n']);
    let secret = Zeroizing::new(match encoding {
        SecretEncoding::Text => line.as_bytes().to_vec(),
        SecretEncoding::Base64 => decode_acp(Encoding::Base64, line).unwrap_or_default(),
        SecretEncoding::Hex => decode_acp(Encoding::Hex, line).unwrap_or_default(),
    });
    if secret.is_empty() {
        let expected = "expected a shared secret in the encoding that is named";
        return Err(CommandError::Key { path: path.to_owned(), expected });
    }
    Ok(MacKey::new(&secret))
}

fn read_text(path: &Path) -> Result<Zeroizing<String>, CommandError> {
    let expected = "expected text";
    let bytes = read_file(path)?;
    let text = String::from_utf8(bytes);
    text.map(Zeroizing::new).map_err(|_| CommandError::Key { path: path.to_owned(), expected })
}
