//! At which of a merchant's base URLs a session's claim is, and who may say that it has no order.

use serde::{Deserialize, Serialize};

use super::Session;
use crate::domain::base_url::BaseUrl;
use crate::domain::id::ClaimId;

/// What is known of a session by base URL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// Where the complete of the open claim was sent, or was to be; `None` where no claim is open, and of a
    /// claim that older formats keep.
    pub claim: Option<BaseUrl>,
    /// Where the session was shown or asked to change last, and so its total, where that is known.
    pub total: Option<BaseUrl>,
    /// Where the complete of the claim was that was given up in doubt.
    pub doubted: Option<BaseUrl>,
}

/// By which base URL something was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownAt {
    /// This one.
    pub url: BaseUrl,
    /// Whether its merchant has no other.
    pub is_only: bool,
    /// Whether it is the merchant's first: the only one that is used while older formats are written.
    pub is_first: bool,
}

impl Session {
    /// Whether what is shown there can show that the open claim has no order. Another of a merchant's URLs
    /// may lead to one that lags behind: it can show an order, never the lack of one.
    pub fn is_at(&self, shown_at: &ShownAt) -> bool {
        match &self.places.claim {
            Some(url) => *url == shown_at.url,
            // Older formats do not say where it is: at the first, which does not change meanwhile.
            None => shown_at.is_first,
        }
    }

    /// Where the complete of this claim was when it was given up in doubt, if it was.
    pub fn was_doubted_at(&self, claim: &ClaimId) -> Option<&BaseUrl> {
        let doubted = self.doubted.as_ref().filter(|doubted| doubted.claim == *claim);
        doubted.and(self.places.doubted.as_ref())
    }

    /// The open claim is there from now on: nothing of it was sent elsewhere.
    pub fn move_claim(&mut self, url: &BaseUrl) {
        self.places.claim = Some(url.clone());
    }
}
