//! Epoch keys as a server holds them: sealed under the sealing ring, and so of no use to whoever reads it.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::EpochError;
use crate::crypto::aead::{SealError, Sealed};
use crate::crypto::rings::KeyRings;
use crate::domain::id::KeyId;
use crate::domain::secret::SecretBytes;

/// The first word of everything wrapped.
const FORMAT: &[u8] = b"CSWRAP1";

/// Wraps and unwraps under the rings of the configuration that runs.
pub(super) struct Wraps(ArcSwap<KeyRings>);

/// What is wrapped, and what it is called.
pub(super) struct Unwrapped {
    pub(super) id: KeyId,
    pub(super) secret: SecretBytes,
    /// Sealed under the key that is current now.
    pub(super) is_current: bool,
}

impl Wraps {
    pub(super) fn under(rings: Arc<KeyRings>) -> Self {
        Self(ArcSwap::new(rings))
    }

    /// From now on under these.
    pub(super) fn rewrap_under(&self, rings: &Arc<KeyRings>) {
        self.0.store(Arc::clone(rings));
    }

    /// The format, the id, the ring's key, and the sealed bytes, which open for this id alone.
    pub(super) fn wrap(&self, id: &KeyId, secret: &[u8]) -> Result<Vec<u8>, EpochError> {
        let sealed = self.0.load().sealing.seal(id.as_str().as_bytes(), secret)?;
        Ok([FORMAT, id.as_str().as_bytes(), sealed.key.as_str().as_bytes(), &sealed.bytes].join(&b' '))
    }

    /// What [`Self::wrap`] has wrapped.
    pub(super) fn unwrap(&self, wrapped: &[u8]) -> Result<Unwrapped, EpochError> {
        let parts = || {
            let mut parts = wrapped.splitn(4, |byte| *byte == b' ');
            (parts.next()? == FORMAT).then_some(())?;
            let mut id = || KeyId::parse(std::str::from_utf8(parts.next()?).ok()?);
            let (id, key) = (id()?, id()?);
            Some((id, Sealed { key, bytes: parts.next()?.to_vec().into() }))
        };
        let (id, sealed) = parts().ok_or(SealError::DoesNotOpen)?;
        let rings = self.0.load();
        let secret = rings.sealing.open(id.as_str().as_bytes(), &sealed)?;
        Ok(Unwrapped { secret, is_current: sealed.key == *rings.sealing.current().0, id })
    }
}

/// The id of what is wrapped, read without a key.
pub(super) fn id_of(wrapped: &[u8]) -> Option<KeyId> {
    let mut parts = wrapped.splitn(3, |byte| *byte == b' ');
    (parts.next()? == FORMAT).then_some(())?;
    KeyId::parse(std::str::from_utf8(parts.next()?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::rings::tests::{rings, rings_of};

    #[test]
    fn a_wrapped_key_opens_under_its_own_name_alone_and_shows_nothing() {
        let wraps = Wraps::under(Arc::new(rings()));
        let (id, other) = (KeyId::parse("e1-a-b").unwrap(), KeyId::parse("e1-b-b").unwrap());
        let secret = [7; 32];
        let wrapped = wraps.wrap(&id, &secret).unwrap();
        let opened = wraps.unwrap(&wrapped).unwrap();
        assert!(opened.id == id && opened.secret.expose() == secret && opened.is_current);
        assert_eq!(id_of(&wrapped), Some(id.clone()));
        assert!(!wrapped.windows(8).any(|bytes| bytes == &secret[..8]));
        let renamed = String::from_utf8_lossy(&wrapped[..16]).replace("e1-a-b", other.as_str());
        let renamed = [renamed.as_bytes(), &wrapped[16..]].concat();
        assert!(wraps.unwrap(&renamed).is_err());
        assert!(wraps.unwrap(b"CSWRAP2 e1-a-b k x").is_err());
        assert!(wraps.unwrap(b"").is_err());
    }

    #[test]
    fn what_an_earlier_key_wrapped_opens_while_that_key_is_in_the_ring() {
        let wraps = Wraps::under(Arc::new(rings_of(&["old"])));
        let id = KeyId::parse("e1-a-b").unwrap();
        let wrapped = wraps.wrap(&id, &[7; 32]).unwrap();
        wraps.rewrap_under(&Arc::new(rings_of(&["new", "old"])));
        assert!(!wraps.unwrap(&wrapped).unwrap().is_current);
        wraps.rewrap_under(&Arc::new(rings_of(&["new"])));
        assert!(wraps.unwrap(&wrapped).is_err());
    }
}
