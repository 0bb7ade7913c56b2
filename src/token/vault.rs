//! The only place where card bytes meet the cipher.
//!
//! A card is two sealed values: what is kept as long as the token (number, expiry, name, address)
//! under the sealing ring, and what must be able to die (CVC, cryptogram) under an hourly key that
//! lives outside the store and its backups. Both name the token as associated data: a sealed card
//! moved to another token does not open.

use std::sync::Arc;

use super::PaymentToken;
use crate::crypto::aead::{SealError, Sealed};
use crate::crypto::rings::KeyRings;
use crate::domain::clock::Timestamp;
use crate::domain::id::{KeyId, TokenId};
use crate::domain::secret::SecretBytes;
use crate::domain::token::Instrument;

/// Keys that are destroyed when the last token of their hour is done.
pub trait PerishableKeys: Send + Sync {
    /// Seals under the key of the present hour. The key is on stable storage when this returns.
    ///
    /// # Errors
    /// When the key cannot be made or kept.
    fn seal(&self, associated: &[u8], plaintext: &[u8], expires_at: Timestamp) -> Result<Sealed, SealError>;

    /// Opens under the key the value names.
    ///
    /// # Errors
    /// [`SealError::UnknownKey`] once that key was destroyed.
    fn open(&self, associated: &[u8], sealed: &Sealed) -> Result<SecretBytes, SealError>;

    /// The keys whose hour is over.
    fn over(&self) -> Vec<KeyId>;

    /// Destroys the keys of [`Self::over`] that nothing live depends on, as `in_use` says; how many.
    fn destroy_unused(&self, now: Timestamp, in_use: &dyn Fn(&KeyId) -> bool) -> usize;
}

/// A card does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The token has no card here: another rail.
    #[error("the token's card is not held here")]
    NotHeld,
    /// The cipher refused.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Seals cards and opens them again.
pub struct Vault {
    rings: Arc<KeyRings>,
    perishable: Arc<dyn PerishableKeys>,
}

/// A card in clear, on its way out.
pub struct OpenedCard {
    /// Number, expiry, name, billing address, as JSON.
    pub card: SecretBytes,
    /// CVC and cryptogram, as JSON, while they exist.
    pub perishable: Option<SecretBytes>,
}

impl Vault {
    /// A vault over these keys.
    pub fn new(rings: Arc<KeyRings>, perishable: Arc<dyn PerishableKeys>) -> Self {
        Self { rings, perishable }
    }

    /// Seals a card for a token.
    ///
    /// # Errors
    /// When a key or randomness is missing.
    pub fn seal(
        &self,
        token: &TokenId,
        card: &SecretBytes,
        perishable: Option<&SecretBytes>,
        expires_at: Timestamp,
    ) -> Result<Instrument<Sealed>, SealError> {
        let associated = token.as_str().as_bytes();
        let card = self.rings.sealing.seal(associated, card.expose())?;
        let perishable = perishable
            .map(|values| self.perishable.seal(associated, values.expose(), expires_at))
            .transpose()?;
        Ok(Instrument::Sealed { card, perishable })
    }

    /// The keys of CVCs and cryptograms.
    pub fn perishable_keys(&self) -> &dyn PerishableKeys {
        &*self.perishable
    }

    /// Opens a token's card. CVC and cryptogram whose key was destroyed are simply no longer there.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, token: &PaymentToken) -> Result<OpenedCard, OpenError> {
        let Instrument::Sealed { card, perishable } = &token.instrument else {
            return Err(OpenError::NotHeld);
        };
        let associated = token.id.as_str().as_bytes();
        let card = self.rings.sealing.open(associated, card)?;
        let perishable = match perishable.as_ref().map(|sealed| self.perishable.open(associated, sealed)) {
            None | Some(Err(SealError::UnknownKey)) => None,
            Some(opened) => Some(opened?),
        };
        Ok(OpenedCard { card, perishable })
    }

    /// Seals the card again under the current key; `None` when it already is, or is not held here.
    ///
    /// # Errors
    /// [`SealError`] when the old value does not open.
    pub fn reseal(&self, token: &PaymentToken) -> Result<Option<Instrument<Sealed>>, SealError> {
        let Instrument::Sealed { card, perishable } = &token.instrument else { return Ok(None) };
        if card.key == *self.rings.sealing.current().0 {
            return Ok(None);
        }
        let associated = token.id.as_str().as_bytes();
        let card =
            self.rings.sealing.seal(associated, self.rings.sealing.open(associated, card)?.expose())?;
        Ok(Some(Instrument::Sealed { card, perishable: perishable.clone() }))
    }
}
