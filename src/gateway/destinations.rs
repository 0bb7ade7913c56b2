//! Where each merchant is, and whether it honours keys, as the configuration that runs says.
//!
//! A claim is begun only where that holds, and it is changed only while no claim is begun: so that nothing
//! is begun at a merchant that has moved or gone since its open claims were looked for.

use std::collections::HashMap;

use http::Uri;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::refusal::Refusal;
use crate::domain::id::MerchantId;
use crate::records::StoreError;
use crate::registry::{Merchant, MerchantIdempotency, Registry};

/// Every merchant's.
#[derive(Default)]
pub(crate) struct Destinations(RwLock<Places>);

/// By merchant.
type Places = HashMap<MerchantId, (Vec<Uri>, MerchantIdempotency)>;

/// Nothing moves while it is held.
#[must_use = "a claim is begun while it is held"]
pub(super) struct Settled<'a> {
    _places: RwLockReadGuard<'a, Places>,
}

/// No claim is begun while it is held.
#[must_use = "what runs is replaced while it is held"]
pub(crate) struct Moving<'a>(RwLockWriteGuard<'a, Places>);

impl Destinations {
    /// Before a claim is begun at a merchant, as the request's own configuration knows it. Where its record
    /// says at which base URL it is, it may be one that the merchant has just left.
    ///
    /// # Errors
    /// It has moved or gone since: the request is to be repeated, under what runs now.
    pub(super) async fn settled(
        &self,
        merchant: &Merchant,
        says_place: bool,
    ) -> Result<Settled<'_>, Refusal> {
        let places = self.0.read().await;
        let stands = places.get(&merchant.id).is_some_and(|(urls, idempotency)| {
            (says_place || merchant.endpoint.base_urls().eq(urls)) && *idempotency == merchant.idempotency
        });
        if stands { Ok(Settled { _places: places }) } else { Err(Refusal::Store(StoreError::Unavailable)) }
    }

    /// Before anything moves: waits for the claims that are being begun.
    pub(crate) async fn moving(&self) -> Moving<'_> {
        Moving(self.0.write().await)
    }
}

impl Moving<'_> {
    /// From now on as this says.
    pub(crate) fn arrive(mut self, registry: &Registry) {
        *self.0 = registry
            .merchants()
            .map(|merchant| {
                let urls = merchant.endpoint.base_urls().cloned().collect();
                (merchant.id.clone(), (urls, merchant.idempotency))
            })
            .collect();
    }
}
