//! Sessions in the store: which partition they live in and how long they are kept. The rules are in
//! [`crate::domain::session`].

use std::time::Duration;

use byteview::StrView;

use crate::crypto::mac::MacKey;
use crate::crypto::random::base62_of;
use crate::domain::clock::Timestamp;
use crate::domain::id::{MerchantId, SessionId, TOKEN_TAG_CHARS};
use crate::domain::session::{Session, SessionKind};
use crate::records::codec::Times;
use crate::records::{Identity, Kind, RecordKey};

/// How long a session is remembered after its last change: ownership, and that it was charged.
pub const RETENTION: Duration = Duration::from_secs(90 * 24 * 3600);

/// How soon the worker looks at a claim after it was opened or last looked at: doubled each time.
pub const FIRST_CHECK: Duration = Duration::from_secs(5);

/// The longest wait between two looks at an open claim.
pub const LAST_CHECK: Duration = Duration::from_secs(600);

/// How the keys of checkout sessions begin.
const CHECKOUT: &str = "checkout";

/// Names the partitions of sessions: a keyed tag, so that nobody outside can choose where records
/// fall.
pub struct Partitions(MacKey);

impl Partitions {
    /// The partitions of a store.
    pub fn new(identity: &Identity) -> Self {
        Self(MacKey::new(&identity.tag_key))
    }

    /// The tag of a session: 10 base62 characters, which its tokens' ids carry.
    pub fn tag(&self, merchant: &MerchantId, session: &SessionId) -> StrView {
        let tag = self.0.tag_framed(&[merchant.as_str().as_bytes(), session.as_str().as_bytes()]);
        StrView::new(str::from_utf8(&base62_of::<TOKEN_TAG_CHARS>(&tag)).unwrap_or_default())
    }

    /// The key of a session's record.
    pub fn session_key(&self, kind: SessionKind, merchant: &MerchantId, session: &SessionId) -> RecordKey {
        let prefix = match kind {
            SessionKind::Cart => "cart",
            SessionKind::Checkout => CHECKOUT,
        };
        let name = [prefix, "/", merchant.as_str(), "/", session.as_str()];
        RecordKey::joined(Kind::Session, &self.tag(merchant, session), name)
    }
}

/// Whether a key is of a checkout session of this merchant: only those have claims.
pub fn is_checkout_of(key: &RecordKey, merchant: &MerchantId) -> bool {
    let name = key.name().strip_prefix(CHECKOUT).and_then(|rest| rest.strip_prefix('/'));
    name.and_then(|name| name.split_once('/')).is_some_and(|(of, _)| of == merchant.as_str())
}

/// When a session's record ends and is looked at. While a claim is open it never ends.
pub fn times(session: &Session, now: Timestamp) -> Times {
    match &session.claim {
        None => Times { expires_at: Some(now.plus(RETENTION)), due: None },
        Some(claim) => {
            let doublings = claim.checks.min(16);
            let wait = FIRST_CHECK.saturating_mul(1 << doublings).min(LAST_CHECK);
            let answered_by = claim.attempts.iter().map(|attempt| attempt.until).max().unwrap_or(now);
            Times { expires_at: None, due: Some(answered_by.max(now).plus(wait)) }
        }
    }
}
