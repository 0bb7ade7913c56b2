//! What is known of a session as JSON, as the listener writes it and `claims show` reads it.

use serde::{Deserialize, Serialize};

use super::wire::{ClaimItem, of_complete, of_read};
use crate::domain::clock::Timestamp;
use crate::domain::session::{Ending, Session};
use crate::gateway::claims::{KnownSession, KnownToken};

/// Answer to `GET /claims/show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionList {
    /// One a merchant that has a session of that id.
    pub sessions: Vec<SessionItem>,
}

/// A session. Nothing of a card is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionItem {
    /// The merchant, as in `/m/{merchant}/`.
    pub merchant: String,
    /// The merchant's id of the session.
    pub checkout_session_id: String,
    /// Whose session it is.
    pub agent: String,
    /// `charged`, `closed`, or `open`; where a claim is open, what that waits for.
    pub state: String,
    /// When the gateway first saw it.
    pub created_at: String,
    /// The merchant's total, while nothing has overtaken it.
    pub total: Option<TotalItem>,
    /// The claim that led to the order; null where there is none, or it was learned otherwise.
    pub charged_by: Option<String>,
    /// The last claim that was in doubt and ended without an order.
    pub given_up: Option<GivenUpItem>,
    /// Different orders that the merchant has shown: more than one is an alarm.
    pub orders: usize,
    /// The open claim.
    pub claim: Option<ClaimItem>,
    /// Its tokens that may still be spent, and the one at stake.
    pub tokens: Vec<TokenItem>,
    /// Updates and cancels whose answers have not arrived.
    pub mutations_under_way: usize,
    /// What came of the last complete that was in doubt, for people.
    pub last_complete: Option<String>,
    /// What came of the last read that brought nothing, for people.
    pub last_read: Option<String>,
}

/// A total.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TotalItem {
    /// In minor units.
    pub amount: u64,
    /// Of what.
    pub currency: String,
    /// When the merchant said so.
    pub at: String,
}

/// A claim that was given up in doubt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GivenUpItem {
    /// The claim.
    pub claim: String,
    /// The token it held; null for a purchase order.
    pub token: Option<String>,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenItem {
    /// Its id.
    pub token: String,
    /// `active`, `claimed`, `consumed`, …
    pub status: String,
    /// When it expires.
    pub expires_at: String,
    /// Attempts that were answered, or in which the card left.
    pub attempts: u8,
}

impl From<Vec<KnownSession>> for SessionList {
    fn from(known: Vec<KnownSession>) -> Self {
        Self { sessions: known.iter().map(SessionItem::of).collect() }
    }
}

impl SessionItem {
    fn of(known: &KnownSession) -> Self {
        let KnownSession { session, open, tokens, at } = known;
        let charged_by = match &session.ending {
            Some(Ending::Charged { claim }) => claim.as_ref(),
            Some(Ending::Closed) | None => None,
        };
        let state = match (open, &session.ending) {
            (Some(open), _) => open.standing.as_str(),
            (None, Some(Ending::Charged { .. })) => "charged",
            (None, Some(Ending::Closed)) => "closed",
            (None, None) => "open",
        };
        Self {
            merchant: session.merchant.to_string(),
            checkout_session_id: session.id.to_string(),
            agent: session.owner.to_string(),
            state: state.to_owned(),
            created_at: session.created_at.to_rfc3339(),
            total: total(session),
            charged_by: charged_by.map(ToString::to_string),
            given_up: session.doubted.as_ref().map(|doubted| GivenUpItem {
                claim: doubted.claim.to_string(),
                token: doubted.token.as_ref().map(ToString::to_string),
            }),
            orders: session.orders.len(),
            claim: open.as_ref().map(|open| ClaimItem::of(open, *at)),
            tokens: tokens.iter().map(TokenItem::of).collect(),
            mutations_under_way: session.mutations.len(),
            last_complete: session.troubles.complete.map(|came| of_complete(Some(came))),
            last_read: session.troubles.read.map(|came| of_read(Some(came))),
        }
    }
}

impl TokenItem {
    fn of(known: &KnownToken) -> Self {
        Self {
            token: known.id.to_string(),
            status: known.standing.as_str().to_owned(),
            expires_at: Timestamp::to_rfc3339(known.expires_at),
            attempts: known.attempts,
        }
    }
}

fn total(session: &Session) -> Option<TotalItem> {
    let observed = session.total?;
    let money = observed.total.settlement;
    Some(TotalItem {
        amount: money.amount.get(),
        currency: money.currency.as_str().to_owned(),
        at: observed.at.to_rfc3339(),
    })
}
