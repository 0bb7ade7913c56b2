//! Payment tokens in the store: how long they are kept, what seals their cards, how many an agent may have.
//!
//! The rules are in [`crate::domain::session`].

pub mod allotment;
mod vault;

use std::time::Duration;

pub use allotment::Allotments;
pub use vault::{AtHand, Fetched, OpenError, OpenedCard, PerishableKeys, UnsealedError, Vault};

use crate::crypto::aead::Sealed;
use crate::domain::clock::Timestamp;
use crate::domain::id::TokenId;
use crate::domain::token::Token;
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
    const FORMAT: u8 = 2;

    fn lacking(format: u8) -> Option<&'static [u8]> {
        // Format 2 has one more kind of instrument, which no record of format 1 names.
        (format == 1).then_some(&[])
    }
}

/// The key of a token's record: the id alone finds it.
pub fn record_key(id: &TokenId) -> RecordKey {
    RecordKey::new(Kind::Token, id.tag(), id.as_str())
}

/// When a token's record ends. While a claim holds it, every look at the claim puts that off in time.
pub fn times(token: &PaymentToken, now: Timestamp) -> Times {
    Times { expires_at: Some(token.allowance.expires_at.max(now).plus(RETENTION)), due: None }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::allowance::Allowance;
    use crate::domain::id::{AgentId, ClaimId, KeyId, MerchantId, SessionId};
    use crate::domain::money::{Currency, MinorUnits, Money};
    use crate::domain::token::{Instrument, TokenState};
    use crate::records::StoreError;
    use crate::records::codec::{decode, encode};

    #[test]
    fn a_token_written_before_cards_were_deleted_is_read_with_its_card() {
        let card = Sealed { key: KeyId::parse("seal-1").unwrap(), bytes: Bytes::from_static(b"card") };
        let now = Timestamp::from_unix_seconds(1_000);
        let token = PaymentToken {
            id: TokenId::assemble("abcdefghij", "0123456789012345678901").unwrap(),
            allowance: Allowance {
                agent: AgentId::parse("agent").unwrap(),
                merchant: MerchantId::parse("shop").unwrap(),
                session: SessionId::parse("cs_1").unwrap(),
                cap: Money {
                    amount: MinorUnits::new(1_000).unwrap(),
                    currency: Currency::parse("usd").unwrap(),
                },
                expires_at: now,
            },
            created_at: now,
            instrument: Instrument::Sealed { card, perishable: None },
            grant: String::new(),
            card_fingerprint: [0; 32],
            state: TokenState::Active,
            attempts: 0,
            exposed: false,
        };
        let mut bytes = encode(&token).unwrap().to_vec();
        assert_eq!(bytes[0], 2);
        bytes[0] = 1;
        assert_eq!(decode::<PaymentToken>(&bytes), Ok(token.clone()));
        let claim = ClaimId::parse("claim").unwrap();
        let claimed = PaymentToken { state: TokenState::Claimed { claim }, ..token.clone() };
        assert_eq!(encode(&claimed), encode(&token), "its session says so");
        bytes[0] = 3;
        assert_eq!(decode::<PaymentToken>(&bytes), Err(StoreError::Corrupt), "of a later release");
    }
}
