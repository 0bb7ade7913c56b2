//! Payment tokens in the store: minting, sealing, and the one place where session, token and key
//! records change together. The rules are in [`crate::domain::session`].

pub mod allotment;
mod ledger;
mod vault;

use std::time::Duration;

pub use allotment::Allotments;
pub use ledger::{Address, Ledger, Present, Seen, View};
pub use vault::{OpenError, OpenedCard, PerishableKeys, Vault};

use crate::crypto::aead::Sealed;
use crate::domain::clock::Timestamp;
use crate::domain::id::TokenId;
use crate::domain::token::{Token, TokenState};
use crate::records::codec::{Stored, Times};
use crate::records::{Kind, RecordKey};

/// The longest life any token may have.
pub const LONGEST_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long an ended token can still be asked about.
pub const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

/// A repeat of a redeem within this of the first is answered again.
pub const REDEEM_REPLAY: Duration = Duration::from_secs(60);

/// A token whose instrument is sealed with AES-256-GCM.
pub type PaymentToken = Token<Sealed>;

impl Stored for PaymentToken {
    const KIND: Kind = Kind::Token;
    const FORMAT: u8 = 1;
}

/// The key of a token's record: the id alone finds it.
pub fn record_key(id: &TokenId) -> RecordKey {
    RecordKey::new(Kind::Token, id.tag(), id.as_str())
}

/// When a token's record ends. A claimed token's never does.
pub fn times(token: &PaymentToken, now: Timestamp) -> Times {
    let expires_at = match &token.state {
        TokenState::Claimed { .. } => None,
        TokenState::Active | TokenState::Consumed { .. } | TokenState::Revoked { .. } => {
            Some(token.allowance.expires_at.max(now).plus(RETENTION))
        }
    };
    Times { expires_at, due: None }
}
