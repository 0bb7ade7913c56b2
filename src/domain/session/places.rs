//! At which of a merchant's base URLs a session's claim is, and who may say that it has no order.

use serde::{Deserialize, Serialize};

use super::Session;
use crate::domain::base_url::BaseUrl;

/// What is known of a session by base URL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// Where the complete of the open claim was sent, or was to be; `None` where no claim is open, and of a
    /// claim that older formats keep.
    pub claim: Option<BaseUrl>,
    /// Which of several showed the total.
    pub total: Option<BaseUrl>,
}

/// By which base URL something was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownAt {
    /// This one.
    pub url: BaseUrl,
    /// Whether its merchant has no other.
    pub is_only: bool,
}

impl ShownAt {
    /// The same, where it tells anything: of several.
    pub fn of_several(&self) -> Option<&BaseUrl> {
        (!self.is_only).then_some(&self.url)
    }
}

impl Session {
    /// Whether what is shown there can show that the open claim has no order. Another of a merchant's URLs
    /// may lead to one that lags behind: it can show an order, never the lack of one.
    pub fn is_at(&self, shown_at: &ShownAt) -> bool {
        match &self.places.claim {
            Some(url) => *url == shown_at.url,
            // Older formats do not say where it is.
            None => shown_at.is_only,
        }
    }

    /// The open claim is there from now on: nothing of it was sent elsewhere.
    pub fn move_claim(&mut self, url: &BaseUrl) {
        self.places.claim = Some(url.clone());
    }
}
