//! A base URL of a merchant's, as text: by which of several an answer came, and where a claim's was sent.

use std::fmt;

use byteview::StrView;
use serde::{Deserialize, Serialize};

/// Scheme, authority and path prefix, as the configuration normalises them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BaseUrl(StrView);

impl BaseUrl {
    /// Of text that is one.
    pub fn new(text: &str) -> Self {
        Self(StrView::new(text))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
