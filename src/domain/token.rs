//! A payment token: what it may be spent on, where its card is, and the states of its life.
//!
//! The transitions that involve a claim are in [`super::session`], because token and session change
//! together. Expiry is decided whenever a token is looked at; no state stands for it.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use super::allowance::Allowance;
use super::clock::Timestamp;
use super::id::{ClaimId, TokenId};

/// Claims a token survives in which its card was tried, or may have been: after this many it is spent
/// without a charge.
pub const MAX_ATTEMPTS: u8 = 3;

/// Claims a token survives that were answered, whatever the answers.
pub const MAX_ANSWERS: u8 = 20;

/// A token. `S` is how its instrument is sealed: the domain does not know ciphers.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token<S> {
    /// Its id.
    pub id: TokenId,
    /// What it may be spent on.
    pub allowance: Allowance,
    /// When it was minted.
    pub created_at: Timestamp,
    /// Where the card is.
    pub instrument: Instrument<S>,
    /// The signed JWT that states the allowance to the merchant.
    pub grant: String,
    /// Keyed digest of the card number, for velocity counters.
    pub card_fingerprint: [u8; 32],
    /// What may happen next. That a claim holds it is kept in its session alone, with the claim.
    #[serde(serialize_with = "without_claim")]
    pub state: TokenState,
    /// Attempts at the card: declines, answers that show no order, doubt, and whatever came once the card
    /// had left.
    pub attempts: u8,
    /// The card has left in an earlier claim.
    pub exposed: bool,
    /// Those, and the attempts that the merchant refused without the card.
    pub answered: u8,
}

/// A claimed token is stored as an active one, so that to begin a claim writes no token.
fn without_claim<S: Serializer>(state: &TokenState, serializer: S) -> Result<S::Ok, S::Error> {
    match state {
        TokenState::Claimed { .. } => TokenState::Active.serialize(serializer),
        TokenState::Active | TokenState::Consumed { .. } | TokenState::Revoked { .. } => {
            state.serialize(serializer)
        }
    }
}

/// What stands behind a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Instrument<S> {
    /// Vault rail: the card, sealed here, redeemed by the merchant.
    Sealed {
        /// Number, expiry, name and billing address.
        card: S,
        /// CVC and cryptogram, under a key that is destroyed; gone after redemption.
        perishable: Option<S>,
    },
    /// Provider rail: the provider's own token for the card, spliced into the outgoing body.
    Provider {
        /// The provider's token.
        token: S,
    },
    /// Record rail: the agent's own provider token, forwarded unchanged under our allowance.
    External {
        /// The provider's token.
        token: S,
    },
    /// Vault rail: the card was sealed here, and is not any more, because nothing may fetch it again.
    Deleted,
}

/// The states of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenState {
    /// May be claimed.
    Active,
    /// Held by an open claim.
    Claimed {
        /// Which one.
        claim: ClaimId,
    },
    /// Charged, or taken to be.
    Consumed {
        /// By which claim.
        claim: ClaimId,
        /// When that was learned.
        at: Timestamp,
    },
    /// Withdrawn by the agent, or worn out by [`MAX_ATTEMPTS`] or [`MAX_ANSWERS`].
    Revoked {
        /// Since when.
        at: Timestamp,
        /// Why.
        reason: RevokeReason,
    },
}

/// Why a token was withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RevokeReason {
    /// The agent asked.
    Agent,
    /// Its attempts are used up.
    Attempts,
}

/// A token's state as the world sees it at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// May be spent.
    Active,
    /// Held by a complete.
    Claimed,
    /// Spent.
    Consumed,
    /// Expired before it was spent.
    Expired,
    /// Withdrawn.
    Revoked,
}

impl Standing {
    /// The name in answers, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Claimed => "claimed",
            Self::Consumed => "consumed",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// Every standing.
    pub const ALL: [Self; 5] = [Self::Active, Self::Claimed, Self::Consumed, Self::Expired, Self::Revoked];
}

/// Neither the card's fingerprint nor the sealed instrument: nothing of a card is ever printed.
impl<S> fmt::Debug for Token<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("id", &self.id)
            .field("allowance", &self.allowance)
            .field("state", &self.state)
            .field("attempts", &self.attempts)
            .field("exposed", &self.exposed)
            .finish_non_exhaustive()
    }
}

impl<S> Token<S> {
    /// Whether the allowance is over: at and after `expires_at` (rfc.delegate_payment §2.5).
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.allowance.expires_at
    }

    /// Whether its attempts are used up.
    pub const fn is_worn_out(&self) -> bool {
        self.attempts_left() == 0
    }

    /// The attempts at its card that it has left.
    pub const fn attempts_left(&self) -> u8 {
        let of_all = MAX_ANSWERS.saturating_sub(self.answered);
        let of_cards = MAX_ATTEMPTS.saturating_sub(self.attempts);
        if of_all < of_cards { of_all } else { of_cards }
    }

    /// How it stands now. A claimed token never expires: only evidence ends its claim.
    pub fn standing(&self, now: Timestamp) -> Standing {
        match &self.state {
            TokenState::Active if self.is_expired(now) => Standing::Expired,
            TokenState::Active => Standing::Active,
            TokenState::Claimed { .. } => Standing::Claimed,
            TokenState::Consumed { .. } => Standing::Consumed,
            TokenState::Revoked { .. } => Standing::Revoked,
        }
    }

    /// Whether it has ended: spent, withdrawn, or expired without a claim that holds it.
    pub fn has_ended(&self, now: Timestamp) -> bool {
        match self.standing(now) {
            Standing::Active | Standing::Claimed => false,
            Standing::Consumed | Standing::Expired | Standing::Revoked => true,
        }
    }

    /// Ends it, spent or withdrawn: nobody is shown its grant any more, nor given its card.
    pub(super) fn end(&mut self, state: TokenState) {
        self.state = state;
        self.grant = String::new();
        self.delete_card();
    }

    /// Deletes the sealed card, security code and cryptogram with it: for a token that no redeem may
    /// fetch a card by any more. Whether there was one.
    pub fn delete_card(&mut self) -> bool {
        let is_here = matches!(self.instrument, Instrument::Sealed { .. });
        if is_here {
            self.instrument = Instrument::Deleted;
        }
        is_here
    }

    /// Whether it can still lead to a charge.
    pub fn is_live(&self, now: Timestamp) -> bool {
        matches!(self.standing(now), Standing::Active | Standing::Claimed)
    }
}
