//! Sealing: AES-256-GCM with a random nonce, under keys that have ids.
//!
//! The key's id stands beside the bytes, and associated data names the record, so that a sealed value
//! moved to another record does not open.

use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

use super::keyset::Ring;
use super::random;
use crate::domain::id::KeyId;
use crate::domain::secret::SecretBytes;

/// AES-GCM's tag (NIST SP 800-38D §5.2.1.2).
const TAG_BYTES: usize = 16;

/// A key for AES-256-GCM. Cannot be printed.
pub struct SealingKey(LessSafeKey);

/// A sealed value: ciphertext under the named key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The key it was sealed under.
    pub key: KeyId,
    /// Nonce, ciphertext and tag.
    pub bytes: Bytes,
}

/// A value could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key it names is not in the ring.
    #[error("the sealing key is not in the ring")]
    UnknownKey,
    /// The bytes or the record they belong to were changed.
    #[error("the sealed value does not open")]
    DoesNotOpen,
    /// No randomness for a nonce.
    #[error(transparent)]
    Random(#[from] random::RandomUnavailable),
}

impl SealingKey {
    /// Takes 32 key bytes; `None` for any other length.
    pub fn new(secret: &[u8]) -> Option<Self> {
        UnboundKey::new(&AES_256_GCM, secret).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    /// Seals `plaintext` for the record named by `associated`.
    ///
    /// # Errors
    /// When there is no randomness for a nonce.
    pub fn seal(&self, associated: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        // Random 96-bit nonces: NIST SP 800-38D §8.3 allows 2^32 a key, and keys rotate well before.
        let nonce: [u8; NONCE_LEN] = random::bytes()?;
        let mut out = Vec::with_capacity(NONCE_LEN + plaintext.len() + TAG_BYTES);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plaintext);
        let text = out.get_mut(NONCE_LEN..).unwrap_or_default();
        let tag = self
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(associated), text)
            .map_err(|_| SealError::DoesNotOpen)?;
        out.extend_from_slice(tag.as_ref());
        Ok(out)
    }

    /// Opens what [`Self::seal`] made for the same `associated`.
    ///
    /// # Errors
    /// [`SealError::DoesNotOpen`] when anything was changed.
    pub fn open(&self, associated: &[u8], sealed: &[u8]) -> Result<SecretBytes, SealError> {
        let (nonce, ciphertext) = sealed.split_at_checked(NONCE_LEN).ok_or(SealError::DoesNotOpen)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::DoesNotOpen)?;
        let mut buffer = ciphertext.to_vec();
        let length = self
            .0
            .open_in_place(nonce, Aad::from(associated), &mut buffer)
            .map_err(|_| SealError::DoesNotOpen)?
            .len();
        buffer.truncate(length);
        Ok(SecretBytes::new(buffer))
    }
}

impl Ring<SealingKey> {
    /// Seals under the current key.
    ///
    /// # Errors
    /// As [`SealingKey::seal`].
    pub fn seal(&self, associated: &[u8], plaintext: &[u8]) -> Result<Sealed, SealError> {
        let (id, key) = self.current();
        Ok(Sealed { key: id.clone(), bytes: key.seal(associated, plaintext)?.into() })
    }

    /// Opens under the key the value names.
    ///
    /// # Errors
    /// [`SealError::UnknownKey`] when that key has left the ring; otherwise as [`SealingKey::open`].
    pub fn open(&self, associated: &[u8], sealed: &Sealed) -> Result<SecretBytes, SealError> {
        self.find(&sealed.key).ok_or(SealError::UnknownKey)?.open(associated, &sealed.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> Ring<SealingKey> {
        Ring::new(vec![(KeyId::parse("k1").unwrap(), SealingKey::new(&[7; 32]).unwrap())]).unwrap()
    }

    #[test]
    fn a_sealed_value_opens_for_its_own_record_only() {
        let sealed = ring().seal(b"vt_1", b"4242").unwrap();
        assert_eq!(ring().open(b"vt_1", &sealed).unwrap().expose(), b"4242");
        assert_eq!(ring().open(b"vt_2", &sealed).err(), Some(SealError::DoesNotOpen));
    }

    #[test]
    fn a_value_sealed_under_a_key_that_left_says_so() {
        let mut sealed = ring().seal(b"vt_1", b"4242").unwrap();
        sealed.key = KeyId::parse("k0").unwrap();
        assert_eq!(ring().open(b"vt_1", &sealed).err(), Some(SealError::UnknownKey));
    }

    #[test]
    fn the_same_value_never_seals_to_the_same_bytes() {
        assert_ne!(ring().seal(b"a", b"b").unwrap().bytes, ring().seal(b"a", b"b").unwrap().bytes);
    }
}
