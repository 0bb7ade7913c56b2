//! What is told of merchants' breakers: how each stands, and how often it opened.

use super::{ANY_MERCHANT, Metrics};
use crate::domain::id::MerchantId;

/// Why a breaker can open: each is counted from the start, or its first time would not show as a rise.
const CAUSES: [&str; 2] = ["failing", "unanswered"];

/// A breaker that lets everything pass.
const CLOSED: u64 = 0;

impl Metrics {
    /// How every merchant's breaker stands: 0 closed, 1 half-open, 2 open.
    pub fn breakers_stand<'a>(&self, standings: impl IntoIterator<Item = (&'a MerchantId, u64)>) {
        let told_apart = self.merchants.load();
        let mut worst = None;
        for (merchant, state) in standings {
            if told_apart.contains_key(merchant) {
                self.set_breaker(merchant.as_str(), state);
            } else {
                worst = worst.max(Some(state));
            }
        }
        if told_apart.is_empty() {
            self.set_breaker(ANY_MERCHANT, worst.unwrap_or(CLOSED));
        }
    }

    /// A merchant's breaker has opened, for this cause. One that is configured no longer is told nowhere.
    pub fn breaker_opened(&self, merchant: &MerchantId, cause: &'static str) {
        let told_apart = self.merchants.load();
        if told_apart.contains_key(merchant) {
            self.breaker_openings.add_one([merchant.as_str(), cause]);
        } else if told_apart.is_empty() {
            self.breaker_openings.add_one([ANY_MERCHANT, cause]);
        }
    }

    /// Forgets a merchant that is gone.
    pub(super) fn forget_breaker(&self, label: &str) {
        self.breaker_state.forget([label]);
        for cause in CAUSES {
            self.breaker_openings.forget([label, cause]);
        }
    }

    fn set_breaker(&self, label: &str, state: u64) {
        self.breaker_state.set([label], state);
        for cause in CAUSES {
            drop(self.breaker_openings.at([label, cause]));
        }
    }
}
