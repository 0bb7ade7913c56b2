//! Payment tokens in the store: how long they are kept, what seals their cards, how many an agent may have.
//!
//! The rules are in [`crate::domain::session`].

pub mod allotment;
mod vault;

use std::time::Duration;

use bytes::Bytes;

pub use allotment::Allotments;
pub use vault::{AtHand, Fetched, NoKey, OpenError, OpenedCard, PerishableKeys, UnsealedError, Vault};

use crate::crypto::aead::Sealed;
use crate::domain::clock::Timestamp;
use crate::domain::id::{KeyId, TokenId};
use crate::domain::token::{Instrument, Token, TokenState};
use crate::records::codec::{FIRST_BYTES, OLDEST, Rolling, Stored, Times, append_plain};
use crate::records::formats::Formats;
use crate::records::{Kind, RecordKey, StoreError};

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
    const FORMAT: u8 = 3;

    fn room(&self) -> usize {
        let sealed = match &self.instrument {
            Instrument::Sealed { card, perishable } => {
                card.bytes.len() + perishable.as_ref().map_or(0, |perishable| perishable.bytes.len())
            }
            Instrument::Provider { token } | Instrument::External { token } => token.bytes.len(),
            Instrument::Deleted => 0,
        };
        FIRST_BYTES + self.grant.len() + sealed
    }

    fn lacking(format: u8) -> Option<&'static [u8]> {
        // Format 2 has one more kind of instrument, which no record of format 1 names; up to it every answer
        // was an attempt.
        matches!(format, 1 | 2).then_some(&[0])
    }

    fn modernised(mut self) -> Self {
        self.answered = self.attempts;
        if matches!(&self.instrument, Instrument::Sealed { card, .. } if card.bytes.is_empty()) {
            self.instrument = Instrument::Deleted;
        }
        self
    }
}

/// Its format while session records are of the first format that says which token a claim holds.
const JOINED: u8 = 2;

/// In the place of the key of a card that is not there.
const NO_KEY: &str = "deleted";

impl Rolling for PaymentToken {
    fn format_in(formats: Formats) -> u8 {
        match formats {
            Formats::OLDER => OLDEST,
            formats if formats.are_newest() => Self::FORMAT,
            _ => JOINED,
        }
    }

    /// With its claim, which its session's record of an older format does not spare it.
    fn append_older(&self, format: u8, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let empty;
        let instrument = match &self.instrument {
            // Format 1 knew no card that was deleted before its token's record: there it is an empty one,
            // which nothing opens.
            Instrument::Deleted if format == 1 => {
                let key = KeyId::parse(NO_KEY).ok_or(StoreError::Corrupt)?;
                let card = Sealed { key, bytes: Bytes::new() };
                empty = Instrument::Sealed { card, perishable: None };
                &empty
            }
            own => own,
        };
        let Self { id, allowance, created_at, grant, card_fingerprint, state, exposed, answered, .. } = self;
        // There every answer is an attempt, so that no release takes one for the other.
        let attempts = if format >= Self::FORMAT { &self.attempts } else { answered };
        let body = (id, allowance, created_at, instrument, grant, card_fingerprint, state, attempts, exposed);
        append_plain(&body, out)?;
        if format >= Self::FORMAT { append_plain(answered, out) } else { Ok(()) }
    }
}

/// The key of a token's record: the id alone finds it.
pub fn record_key(id: &TokenId) -> RecordKey {
    RecordKey::new(Kind::Token, id.tag(), id.as_str())
}

/// When a token's record of an older format ends. A claimed one's never does: nobody puts its end off.
pub fn older_times(token: &PaymentToken, now: Timestamp) -> Times {
    match token.state {
        TokenState::Claimed { .. } => Times::default(),
        TokenState::Active | TokenState::Consumed { .. } | TokenState::Revoked { .. } => times(token, now),
    }
}

/// When a token's record ends. While a claim holds it, every look at the claim puts that off in time.
pub fn times(token: &PaymentToken, now: Timestamp) -> Times {
    Times { expires_at: Some(token.allowance.expires_at.max(now).plus(RETENTION)), due: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::allowance::Allowance;
    use crate::domain::id::{AgentId, ClaimId, MerchantId, SessionId};
    use crate::domain::money::{Currency, MinorUnits, Money};
    use crate::records::codec::{decode, encode, encode_older};

    fn token() -> PaymentToken {
        let card = Sealed { key: KeyId::parse("seal-1").unwrap(), bytes: Bytes::from_static(b"card") };
        let now = Timestamp::from_unix_seconds(1_000);
        PaymentToken {
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
            answered: 0,
        }
    }

    #[test]
    fn a_token_written_before_cards_were_deleted_is_read_with_its_card() {
        let token = token();
        let mut bytes = encode(&token).unwrap().to_vec();
        assert_eq!((bytes[0], bytes.pop()), (3, Some(0)), "nobody counted what was answered");
        bytes[0] = 1;
        assert_eq!(decode::<PaymentToken>(&bytes), Ok(token.clone()));
        let claim = ClaimId::parse("claim").unwrap();
        let claimed = PaymentToken { state: TokenState::Claimed { claim }, ..token.clone() };
        assert_eq!(encode(&claimed), encode(&token), "its session says so");
        bytes[0] = 4;
        assert_eq!(decode::<PaymentToken>(&bytes), Err(StoreError::Corrupt), "of a later release");
    }

    #[test]
    fn a_token_that_the_release_before_is_to_read_names_its_claim_and_has_an_empty_card_in_place_of_none() {
        let mut token = token();
        let same = encode(&token).unwrap();
        let same = &same[..same.len() - 1];
        let older = encode_older(&token, 1).unwrap();
        assert_eq!((older[0], &older[1..]), (1, &same[1..]), "where there is neither");
        let claim = ClaimId::parse("claim").unwrap();
        token.state = TokenState::Claimed { claim };
        for format in [1, 2] {
            let older = encode_older(&token, format).unwrap();
            // The state stands before the attempts and whether the card has left.
            assert_eq!(older[older.len() - 9..], *b"\x01\x05claim\0\0", "{format}");
            assert_eq!(decode(&older), Ok(token.clone()), "{format}");
        }
        token.delete_card();
        let older = encode_older(&token, 1).unwrap();
        // As that release reads it: a sealed card, of no bytes.
        let as_before: Result<Instrument<Sealed>, _> =
            decode(&older).map(|token: PaymentToken| token.instrument);
        assert_eq!(as_before, Ok(Instrument::Deleted));
        let card = Sealed { key: KeyId::parse(NO_KEY).unwrap(), bytes: Bytes::new() };
        let empty =
            PaymentToken { instrument: Instrument::Sealed { card, perishable: None }, ..token.clone() };
        assert_eq!(encode_older(&empty, 2).unwrap()[1..], older[1..]);
        assert_eq!(decode(&encode_older(&token, 2).unwrap()), Ok(token));
    }

    #[test]
    fn in_an_older_format_every_answer_is_an_attempt() {
        let token = PaymentToken { attempts: 1, answered: 3, ..token() };
        assert_eq!(decode(&encode(&token).unwrap()), Ok(token.clone()));
        for format in [1, 2] {
            let read: PaymentToken = decode(&encode_older(&token, format).unwrap()).unwrap();
            assert_eq!((read.attempts, read.answered, read.is_worn_out()), (3, 3, true), "{format}");
        }
    }
}
