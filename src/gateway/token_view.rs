//! Tokens as seen from outside: the issuing agent's view, the merchant's view, and revoke. Never
//! card data.

use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;

use super::call::Call;
use super::events::Events;
use super::parts::{Books, Desk};
use super::refusal::Refusal;
use super::replays::Replays;
use super::reply::Reply;
use crate::domain::clock::Timestamp;
use crate::domain::id::TokenId;
use crate::domain::session::{Moment, Revoked, Session, revoke};
use crate::domain::token::{RevokeReason, Standing, TokenState};
use crate::idempotency::Operation;
use crate::ledger::{Done, RecordSet, Records};
use crate::records::{Durability, Purpose};
use crate::token::PaymentToken;

/// A token as its agent sees it.
#[derive(Serialize)]
struct IssuedToken<'a> {
    id: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    merchant_id: &'a str,
    checkout_session_id: &'a str,
    max_amount: u64,
    currency: &'a str,
    created: String,
    expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
    /// The merchant has received the card.
    exposed: bool,
    attempts_remaining: u8,
    /// A revoke waits for the complete under way.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    revoking: bool,
}

/// A token as the merchant it was granted to sees it.
#[derive(Serialize)]
struct GrantedToken<'a> {
    id: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    agent: &'a str,
    merchant_id: &'a str,
    checkout_session_id: &'a str,
    max_amount: u64,
    currency: &'a str,
    expires_at: String,
    /// The claim that holds it, and what may be charged under it.
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<GrantedClaim<'a>>,
}

#[derive(Serialize)]
struct GrantedClaim<'a> {
    id: &'a str,
    amount: u64,
    currency: &'a str,
    redeemed: bool,
}

/// The flow of views and revokes.
pub(super) struct Tokens {
    pub books: Arc<Books>,
    pub replays: Arc<Replays>,
    pub events: Arc<Events>,
    pub desk: Arc<Desk>,
}

impl Tokens {
    /// State, reason and times of a token, for the agent that minted it.
    pub(super) async fn issued_token(&self, call: &Call, id: &TokenId) -> Result<Reply, Refusal> {
        self.replays.refuse_replayed_read(call, None).await?;
        let record_set = self.record_set_of(id).await?;
        let view = self.books.ledger.read(&record_set).await?;
        let token = view.token.filter(|token| token.allowance.agent == call.agent.id);
        let token = token.ok_or(Refusal::NotFound)?;
        self.issued_view(&token, view.session.as_ref())
    }

    /// Withdraws a token. Repeating it gives the same answer.
    pub(super) async fn revoke_token(
        &self,
        call: &Call,
        operation: &Operation,
        id: &TokenId,
    ) -> Result<Reply, Refusal> {
        self.replays.refuse_replayed_signature(call, operation, None, Purpose::Finish).await?;
        let record_set = self.record_set_of(id).await?;
        let decide = |view: &mut Records, moment: Moment| {
            let (Some(session), Some(token)) = (view.session.as_mut(), view.token.as_mut()) else {
                return Err(Refusal::NotFound);
            };
            if token.allowance.agent != call.agent.id {
                return Err(Refusal::NotFound);
            }
            let revoked = revoke(session, token, moment).map_err(Refusal::Revoke)?;
            Ok((token.clone(), session.clone(), revoked))
        };
        let Done { decided: (token, session, revoked), ended } =
            self.books.ledger.transact(&record_set, Purpose::Finish, Durability::Synced, decide).await??;
        if revoked == Revoked::Now {
            self.desk.observer.metrics().token_event("revoked");
        }
        self.events.token_ended(ended);
        self.issued_view(&token, Some(&session))
    }

    /// A token and its session, found by the token's id alone.
    pub(super) async fn record_set_of(&self, id: &TokenId) -> Result<RecordSet, Refusal> {
        let token = self.books.ledger.stored_token(id).await?.ok_or(Refusal::NotFound)?;
        Ok(self.books.ledger.record_set_of(&token))
    }

    fn issued_view(&self, token: &PaymentToken, session: Option<&Session>) -> Result<Reply, Refusal> {
        let now = self.desk.clock.latest();
        let claim = session
            .and_then(|session| session.claim.as_ref())
            .filter(|claim| claim.token.as_ref() == Some(&token.id));
        let allowance = &token.allowance;
        let view = IssuedToken {
            id: token.id.as_str(),
            status: token.standing(now).as_str(),
            reason: reason(token, now),
            merchant_id: allowance.merchant.as_str(),
            checkout_session_id: allowance.session.as_str(),
            max_amount: allowance.cap.amount.get(),
            currency: allowance.cap.currency.as_str(),
            created: token.created_at.to_rfc3339(),
            expires_at: allowance.expires_at.to_rfc3339(),
            ended_at: ended_at(token, now).map(Timestamp::to_rfc3339),
            exposed: token.exposed || claim.is_some_and(|claim| claim.redeemed_at.is_some()),
            attempts_remaining: token.attempts_left(),
            revoking: claim.is_some_and(|claim| claim.revoke_requested.is_some()),
        };
        Reply::json(StatusCode::OK, &view, "shown")
    }

    /// The merchant's view of a token granted to it.
    pub(super) fn granted_view(&self, token: &PaymentToken, session: &Session) -> Result<Reply, Refusal> {
        let now = self.desk.clock.latest();
        let allowance = &token.allowance;
        let claim = session.claim.as_ref().filter(|claim| claim.token.as_ref() == Some(&token.id));
        let view = GrantedToken {
            id: token.id.as_str(),
            status: token.standing(now).as_str(),
            reason: reason(token, now),
            agent: allowance.agent.as_str(),
            merchant_id: allowance.merchant.as_str(),
            checkout_session_id: allowance.session.as_str(),
            max_amount: allowance.cap.amount.get(),
            currency: allowance.cap.currency.as_str(),
            expires_at: allowance.expires_at.to_rfc3339(),
            claim: claim.map(|claim| GrantedClaim {
                id: claim.id.as_str(),
                amount: claim.checked.amount.get(),
                currency: claim.checked.currency.as_str(),
                redeemed: claim.redeemed_at.is_some(),
            }),
        };
        Reply::json(StatusCode::OK, &view, "shown")
    }
}

fn reason(token: &PaymentToken, now: Timestamp) -> Option<&'static str> {
    match (&token.state, token.standing(now)) {
        (_, Standing::Expired) => Some("expired"),
        (TokenState::Consumed { .. }, _) => Some("consumed"),
        (TokenState::Revoked { reason: RevokeReason::Agent, .. }, _) => Some("revoked"),
        (TokenState::Revoked { reason: RevokeReason::Attempts, .. }, _) => Some("attempts_exceeded"),
        (TokenState::Active | TokenState::Claimed { .. }, _) => None,
    }
}

fn ended_at(token: &PaymentToken, now: Timestamp) -> Option<Timestamp> {
    match &token.state {
        TokenState::Consumed { at, .. } | TokenState::Revoked { at, .. } => Some(*at),
        TokenState::Active if token.is_expired(now) => Some(token.allowance.expires_at),
        TokenState::Active | TokenState::Claimed { .. } => None,
    }
}
