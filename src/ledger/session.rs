//! Sessions in the store: which partition they live in and how long they are kept. The rules are in
//! [`crate::domain::session`].

use std::time::Duration;

use crate::crypto::mac::MacKey;
use crate::crypto::random::base62_of;
use crate::domain::clock::Timestamp;
use crate::domain::id::{MerchantId, SessionId, TOKEN_TAG_CHARS};
use crate::domain::session::{Session, SessionKind};
use crate::records::codec::{Stored, Times};
use crate::records::{Identity, Kind, RecordKey};

/// How long a session is remembered after its last change: ownership, and that it was charged.
pub const RETENTION: Duration = Duration::from_secs(90 * 24 * 3600);

/// How soon the worker looks at a claim after it was opened or last looked at: doubled each time.
pub const FIRST_CHECK: Duration = Duration::from_secs(5);

/// The longest wait between two looks at an open claim.
pub const LAST_CHECK: Duration = Duration::from_secs(600);

impl Stored for Session {
    const KIND: Kind = Kind::Session;
    const FORMAT: u8 = 3;

    /// Format 1 had no signs of work and no orders, neither it nor format 2 had troubles.
    fn lacking(format: u8) -> Option<&'static [u8]> {
        match format {
            1 => Some(&[0, 0, 0, 0, 0, 0]),
            2 => Some(&[0, 0]),
            _ => None,
        }
    }
}

/// Names the partitions of sessions: a keyed tag, so that nobody outside can choose where records
/// fall.
pub struct Partitions(MacKey);

impl Partitions {
    /// The partitions of a store.
    pub fn new(identity: &Identity) -> Self {
        Self(MacKey::new(&identity.tag_key))
    }

    /// The tag of a session: 10 base62 characters, which its tokens' ids carry.
    pub fn tag(&self, merchant: &MerchantId, session: &SessionId) -> String {
        base62_of(
            &self.0.tag_framed(&[merchant.as_str().as_bytes(), session.as_str().as_bytes()]),
            TOKEN_TAG_CHARS,
        )
    }

    /// The key of a session's record.
    pub fn session_key(&self, kind: SessionKind, merchant: &MerchantId, session: &SessionId) -> RecordKey {
        let prefix = match kind {
            SessionKind::Cart => "cart",
            SessionKind::Checkout => "checkout",
        };
        let name = [prefix, merchant.as_str(), session.as_str()].join("/");
        RecordKey::new(Kind::Session, &self.tag(merchant, session), &name)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::AgentId;
    use crate::domain::session::Fruitless;
    use crate::records::StoreError;
    use crate::records::codec::{decode, encode};

    #[test]
    fn a_session_written_before_signs_orders_and_troubles_were_kept_is_read_without_any() {
        let (merchant, id) = (MerchantId::parse("shop").unwrap(), SessionId::parse("cs_1").unwrap());
        let owner = AgentId::parse("agent").unwrap();
        let session =
            Session::new(SessionKind::Checkout, merchant, id, owner, Timestamp::from_unix_seconds(1_000));
        // One written by that release, byte for byte.
        let mut old = vec![1, 1];
        for text in ["shop", "cs_1", "agent"] {
            old.push(u8::try_from(text.len()).unwrap());
            old.extend(text.as_bytes());
        }
        old.extend([0, 0, 0, 0, 0, 0, 0, 0x80, 0x89, 0x7a]);
        assert_eq!(decode::<Session>(&old), Ok(session.clone()));
        let mut second = [&old[..], &[0, 0, 0, 0]].concat();
        second[0] = 2;
        assert_eq!(decode::<Session>(&second), Ok(session.clone()));
        let mut session = session;
        session.troubles.read = Some(Fruitless::Refused(400));
        let now = encode(&session).unwrap();
        assert_eq!(now.first(), Some(&3));
        assert_eq!(decode::<Session>(&now), Ok(session));
        old[0] = 4;
        assert_eq!(decode::<Session>(&old), Err(StoreError::Corrupt), "of a later release");
    }
}
