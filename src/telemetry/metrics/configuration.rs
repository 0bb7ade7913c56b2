//! What is told of the configuration that runs: its merchants, its certificates, how often it changed.

use std::collections::HashMap;
use std::sync::Arc;

use super::{ANY_MERCHANT, MERCHANT_LABELS, Metrics, STATUS_CLASSES, merchant_handles};
use crate::domain::clock::Timestamp;
use crate::domain::id::MerchantId;

/// A certificate of ours, by who is shown it.
pub enum Shown {
    /// Whoever connects to the public listener.
    Listener,
    /// Who connects to the admin listener.
    Admin,
    /// A merchant that asks for one.
    Client(MerchantId),
}

impl Metrics {
    /// Names the configured merchants. Each gets a label of its own unless there are more than
    /// [`MERCHANT_LABELS`]. Call at start and whenever the configuration changes: who stays goes on where
    /// it was.
    pub fn set_merchants<'a>(&self, merchants: impl IntoIterator<Item = &'a MerchantId>) {
        let ids: Vec<&MerchantId> = merchants.into_iter().take(MERCHANT_LABELS + 1).collect();
        let told_apart = if ids.len() > MERCHANT_LABELS { &[][..] } else { &ids[..] };
        let before = self.merchants.load_full();
        // Series of merchants that are gone must not stay for ever.
        for gone in before.keys().filter(|id| !told_apart.contains(id)) {
            for status in STATUS_CLASSES {
                self.merchant_requests.forget([gone.as_str(), status]);
            }
            self.merchant_upstream_seconds.forget([gone.as_str()]);
            self.forget_exemplars(gone.as_str());
            self.forget_breaker(gone.as_str());
        }
        if !told_apart.is_empty() {
            self.forget_breaker(ANY_MERCHANT);
        }
        let handles = |id: &MerchantId| {
            let fresh =
                || merchant_handles(&self.merchant_requests, &self.merchant_upstream_seconds, id.as_str());
            before.get(id).map_or_else(|| Arc::new(fresh()), Arc::clone)
        };
        let map: HashMap<_, _> = told_apart.iter().map(|id| ((*id).clone(), handles(id))).collect();
        self.merchants.store(Arc::new(map));
    }

    /// Until when a certificate of ours is good.
    pub fn certificate_ends(&self, shown: &Shown, ends: Timestamp) {
        let told_apart = |id: &&MerchantId| self.merchants.load().contains_key(*id);
        let labels = match shown {
            Shown::Listener => ["listener", ""],
            Shown::Admin => ["admin", ""],
            Shown::Client(id) => {
                ["client", Some(id).filter(told_apart).map_or(ANY_MERCHANT, MerchantId::as_str)]
            }
        };
        let gauge = self.certificate_expiry.at(labels);
        let ends = ends.unix_seconds();
        let first = if gauge.get() == 0 { ends } else { gauge.get().min(ends) };
        gauge.set(first);
    }

    /// Forgets when certificates end: others are in use.
    pub fn forget_certificates(&self) {
        self.certificate_expiry.clear();
    }

    /// The configuration was read again: `applied`, `unchanged`, or why it was not taken.
    pub fn reloaded(&self, outcome: &'static str) {
        self.config_reloads.add_one([outcome]);
    }

    /// Since when the current key of a ring is that.
    pub fn key_current_since(&self, ring: &str, since: Timestamp) {
        self.key_current_since.at([ring]).set(since.unix_seconds());
    }

    /// What operators have stopped was read: so many.
    pub fn suspensions_read(&self, standing: usize, at: Timestamp) {
        self.suspensions.set(i64::try_from(standing).unwrap_or(i64::MAX));
        self.suspensions_read.set(at.unix_seconds());
    }

    /// Which configuration was put in place, and when.
    pub fn config_in_place(&self, digest: &str, at: Timestamp) {
        self.config_info.clear();
        self.config_info.set([digest], 1);
        self.config_read.set(at.unix_seconds());
    }
}
