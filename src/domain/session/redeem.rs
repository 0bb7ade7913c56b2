//! Redeem, the only way a card leaves, and revoke.

use std::time::Duration;

use super::{Ending, Moment, Session, note_life};
use crate::domain::id::ClaimId;
use crate::domain::money::Money;
use crate::domain::token::{Instrument, RevokeReason, Token, TokenState};

/// What a merchant or its provider asks for.
#[derive(Clone, Debug)]
pub struct Redeem {
    /// The `Idempotency-Key` it received on complete.
    pub claim: ClaimId,
    /// What it is about to charge.
    pub amount: Money,
    /// A repeat within this of the first is answered again.
    pub replay_window: Duration,
    /// The card of an exposed token goes out again on a new claim.
    pub every_claim: bool,
}

/// The card may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redeemed {
    /// For the first time in this claim: record it before answering.
    First,
    /// Again, within the replay window.
    Again,
}

/// Why the card does not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedeemRefusal {
    /// No complete holds the token, or another one does.
    #[error("no complete with this claim is under way for the token")]
    NoSuchClaim,
    /// The claim has ended, or its replay window is over.
    #[error("the token was already redeemed for this claim")]
    Gone,
    /// The merchant has had the card in an earlier claim and keeps it.
    #[error("the card was handed out in an earlier claim")]
    AlreadyExposed,
    /// A revoke was requested.
    #[error("the token is being revoked")]
    Revoking,
    /// At or after its expiry.
    #[error("the token has expired")]
    Expired,
    /// More than was checked for this claim.
    #[error("the amount is above what was approved for this claim")]
    OverChecked,
    /// Another currency than was checked.
    #[error("the currency differs from what was approved for this claim")]
    CurrencyMismatch,
}

/// Lets the card out for the open claim, once, or again within the replay window.
///
/// # Errors
/// [`RedeemRefusal`]; nothing has changed then.
pub fn redeem<S>(
    session: &mut Session,
    token: &Token<S>,
    request: &Redeem,
    moment: Moment,
) -> Result<Redeemed, RedeemRefusal> {
    let ended = match (&token.state, &session.ending) {
        (TokenState::Consumed { claim, .. }, _) => *claim == request.claim,
        (_, Some(Ending::Charged { claim: Some(claim) })) => *claim == request.claim,
        _ => false,
    };
    if ended {
        return Err(RedeemRefusal::Gone);
    }
    // A late charge under another claim ends the session while this claim is still open.
    let holds = session.ending.is_none()
        && matches!(&token.state, TokenState::Claimed { claim } if *claim == request.claim);
    let open = session
        .claim
        .as_mut()
        .filter(|open| holds && open.id == request.claim)
        .ok_or(RedeemRefusal::NoSuchClaim)?;
    if open.revoke_requested.is_some() {
        return Err(RedeemRefusal::Revoking);
    }
    if token.is_expired(moment.latest) {
        return Err(RedeemRefusal::Expired);
    }
    if request.amount.currency != open.checked.currency {
        return Err(RedeemRefusal::CurrencyMismatch);
    }
    if request.amount.amount > open.checked.amount {
        return Err(RedeemRefusal::OverChecked);
    }
    let redeemed = match open.redeemed_at {
        Some(first) if moment.is_within(first, request.replay_window) => Redeemed::Again,
        Some(_) => return Err(RedeemRefusal::Gone),
        None if token.exposed && !request.every_claim => return Err(RedeemRefusal::AlreadyExposed),
        // Deleted with an earlier claim, when the merchant was not yet given it every claim.
        None if matches!(token.instrument, Instrument::Deleted) => return Err(RedeemRefusal::AlreadyExposed),
        None => Redeemed::First,
    };
    // From here on nothing is refused.
    open.redeemed_at.get_or_insert(moment.steady);
    session.signs.card_kept |= !request.every_claim;
    // Who has just fetched the card is about to charge it.
    note_life(session, moment.steady);
    Ok(redeemed)
}

/// What a revoke did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The token is withdrawn.
    Now,
    /// It is held by a claim: no redeem from now on, and it is withdrawn when the claim ends.
    Requested,
    /// It was withdrawn or had expired before.
    Already,
}

/// Why a token cannot be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevokeRefusal {
    /// It was charged.
    #[error("the token was already used")]
    Consumed,
    /// Its card has left for the claim under way.
    #[error("the token is in use")]
    InUse,
}

/// Withdraws a token. Repeating it changes nothing.
///
/// # Errors
/// [`RevokeRefusal`]; nothing has changed then.
pub fn revoke<S>(
    session: &mut Session,
    token: &mut Token<S>,
    moment: Moment,
) -> Result<Revoked, RevokeRefusal> {
    let now = moment.latest;
    match &token.state {
        TokenState::Consumed { .. } => Err(RevokeRefusal::Consumed),
        TokenState::Revoked { .. } => Ok(Revoked::Already),
        TokenState::Active if token.is_expired(now) => Ok(Revoked::Already),
        TokenState::Active => {
            token.end(TokenState::Revoked { at: now, reason: RevokeReason::Agent });
            session.forget_token(&token.id);
            Ok(Revoked::Now)
        }
        TokenState::Claimed { claim } => {
            let open = session.claim.as_mut().filter(|open| open.id == *claim).ok_or(RevokeRefusal::InUse)?;
            if open.redeemed_at.is_some() {
                return Err(RevokeRefusal::InUse);
            }
            open.revoke_requested.get_or_insert(now);
            Ok(Revoked::Requested)
        }
    }
}
