//! The only place where card bytes meet the cipher.
//!
//! A card is two sealed values: what is kept as long as the token (number, expiry, name, address)
//! under the sealing ring, and what must be able to die (CVC, cryptogram) under an hourly key that
//! lives outside the store and its backups. Both name the token as associated data: a sealed card
//! moved to another token does not open.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::PaymentToken;
use crate::crypto::aead::{SealError, Sealed, SealingKey};
use crate::crypto::rings::KeyRings;
use crate::domain::clock::Timestamp;
use crate::domain::id::{KeyId, TokenId};
use crate::domain::secret::SecretBytes;
use crate::domain::token::Instrument;
use crate::records::BoxFuture;

/// Keys that are destroyed when the last token of their hour is done. Where they are kept may stall:
/// whoever waits for one is answered within seconds all the same.
pub trait PerishableKeys: Send + Sync {
    /// The key of the present hour, for a value that expires at `expires_at`. It is on stable storage
    /// when this returns.
    ///
    /// # Errors
    /// When the key cannot be made or kept now.
    fn current(&self, expires_at: Timestamp) -> BoxFuture<'_, Result<(KeyId, Arc<SealingKey>), NoKey>>;

    /// What is known of a key without waiting for anything.
    fn at_hand(&self, id: &KeyId) -> AtHand;

    /// Whether a key was lost before anybody destroyed it, as far as is known at once.
    fn is_lost(&self, id: &KeyId) -> bool;

    /// A key wherever it is; `None` once it was destroyed.
    ///
    /// # Errors
    /// When that cannot be told now.
    fn find<'a>(&'a self, id: &'a KeyId) -> BoxFuture<'a, Result<Option<Arc<SealingKey>>, NoKey>>;

    /// Has the keys of this hour and the next made. To be called every second or so; waits for nothing.
    fn prepare(&self);

    /// Looks what other processes have made and destroyed. Waits for nothing.
    fn refresh(&self);

    /// From now on these rings are those of the configuration: keys that are kept wrapped are wrapped under
    /// its sealing ring.
    fn follow(&self, rings: &Arc<KeyRings>);

    /// The keys whose hour is over.
    fn over(&self) -> BoxFuture<'_, Vec<KeyId>>;

    /// Destroys those of [`Self::over`] that nothing live depends on.
    fn destroy_unneeded(&self, unneeded: BTreeSet<KeyId>) -> BoxFuture<'_, ()>;
}

/// A perishable key cannot be had now: nothing was sealed, opened or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    /// The directory that keeps them stalls or refuses.
    #[error("the directory of the hourly keys cannot be used now")]
    Unavailable,
    /// The servers that hold them do not answer, or may not be used.
    #[error("the servers of the hourly keys cannot be used now")]
    ServersUnusable,
}

/// What is known of a key at once.
pub enum AtHand {
    /// Here it is.
    Key(Arc<SealingKey>),
    /// It is no more.
    Destroyed,
    /// It has to be looked for: [`PerishableKeys::find`].
    Elsewhere,
}

/// A key that was looked for, or nothing yet.
#[derive(Default)]
pub struct Fetched(Option<(KeyId, Option<Arc<SealingKey>>)>);

/// A card does not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The token has no card here: another rail.
    #[error("the token's card is not held here")]
    NotHeld,
    /// The key of its perishable values is to be fetched first.
    #[error("the key {0} has to be looked for")]
    NotAtHand(KeyId),
    /// The cipher refused.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// A card cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsealedError {
    /// The hour's key cannot be made or kept now.
    #[error(transparent)]
    Key(#[from] NoKey),
    /// The cipher refused.
    #[error(transparent)]
    Cipher(#[from] SealError),
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
    pub async fn seal(
        &self,
        token: &TokenId,
        card: &SecretBytes,
        perishable: Option<&SecretBytes>,
        expires_at: Timestamp,
    ) -> Result<Instrument<Sealed>, UnsealedError> {
        let associated = token.as_str().as_bytes();
        let card = self.rings.sealing.seal(associated, card.expose())?;
        let perishable = match perishable {
            None => None,
            Some(values) => {
                let (id, key) = self.perishable.current(expires_at).await?;
                Some(Sealed { key: id, bytes: key.seal(associated, values.expose())?.into() })
            }
        };
        Ok(Instrument::Sealed { card, perishable })
    }

    /// The keys of CVCs and cryptograms.
    pub fn perishable_keys(&self) -> &dyn PerishableKeys {
        &*self.perishable
    }

    /// Looks for a key that [`Self::open`] misses.
    ///
    /// # Errors
    /// When it cannot be told now whether there is one.
    pub async fn fetch(&self, id: KeyId) -> Result<Fetched, NoKey> {
        let key = self.perishable.find(&id).await?;
        Ok(Fetched(Some((id, key))))
    }

    /// Opens a token's card without waiting for anything. CVC and cryptogram whose key was destroyed are
    /// simply no longer there.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::NotAtHand`] names what is to be fetched.
    pub fn open(&self, token: &PaymentToken, fetched: &Fetched) -> Result<OpenedCard, OpenError> {
        let Instrument::Sealed { card, perishable } = &token.instrument else {
            return Err(OpenError::NotHeld);
        };
        let associated = token.id.as_str().as_bytes();
        let card = self.rings.sealing.open(associated, card)?;
        let Some(sealed) = perishable else { return Ok(OpenedCard { card, perishable: None }) };
        let key = self.key_at_hand(&sealed.key, fetched)?;
        let perishable = key.map(|key| key.open(associated, &sealed.bytes)).transpose()?;
        Ok(OpenedCard { card, perishable })
    }

    fn key_at_hand(&self, id: &KeyId, fetched: &Fetched) -> Result<Option<Arc<SealingKey>>, OpenError> {
        if let Some((found, key)) = &fetched.0
            && found == id
        {
            return Ok(key.clone());
        }
        match self.perishable.at_hand(id) {
            AtHand::Key(key) => Ok(Some(key)),
            AtHand::Destroyed => Ok(None),
            AtHand::Elsewhere => Err(OpenError::NotAtHand(id.clone())),
        }
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
