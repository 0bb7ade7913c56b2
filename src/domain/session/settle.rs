//! How claims end: settles, charges and releases.

use super::{Doubted, Ending, Moment, Session};
use crate::domain::clock::Timestamp;
use crate::domain::id::ClaimId;
use crate::domain::token::{Instrument, RevokeReason, Token, TokenState};

/// How the merchant's answer to one attempt is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An order exists.
    Charged,
    /// The merchant is still working on it.
    Pending,
    /// It certainly did not charge.
    NotCharged {
        /// The merchant's own answer, kept against the key; it counts as an attempt of the token.
        recorded: bool,
    },
    /// It certainly did not charge and does not say that the card is why: its own answer, kept against the
    /// key, which is an attempt of the token only if the card was out.
    Refused,
    /// Nobody can say.
    InDoubt,
}

/// What a settle, an observation or an operator's word did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The claim ended with a charge.
    Charged,
    /// The claim ended without one; the token may be spent again, or is due to end.
    Released,
    /// The claim stays open and waits for evidence.
    Held,
    /// A charge was learned after its claim had ended: somebody must look.
    ChargedLate,
    /// Nothing changed: the claim had ended already.
    Stale,
}

/// Ends attempt `attempt` of `claim` with `outcome`. Never refuses: what no longer applies is
/// [`Settlement::Stale`].
pub fn settle<S>(
    session: &mut Session,
    token: Option<&mut Token<S>>,
    claim: &ClaimId,
    attempt: u32,
    outcome: Outcome,
    moment: Moment,
) -> Settlement {
    let Some(open) = session.claim.as_mut().filter(|open| open.id == *claim) else {
        return settle_late(session, token, claim, outcome, moment.latest);
    };
    let until = open.attempts.iter().find(|own| own.number == attempt).map(|own| own.until);
    let overlapped = open.attempts.iter().any(|other| other.number != attempt);
    let was_waited_for = open.attempts.iter().any(|own| own.number == attempt);
    open.attempts.retain(|own| own.number != attempt);
    // An answer nobody waited for any more, or one of several, cannot release by itself.
    open.contested |= overlapped || !was_waited_for;
    match outcome {
        Outcome::Charged => charge(session, token, moment.latest),
        Outcome::Pending => {
            open.pending = true;
            open.quiet_since = Some(moment.steady);
            session.signs.note(moment.steady);
            Settlement::Held
        }
        Outcome::InDoubt => {
            open.contested = true;
            open.quiet_since = Some(moment.steady);
            if let Some(until) = until {
                session.signs.note_doubt(until);
            }
            // Whatever the merchant did may have changed the session.
            session.total = None;
            Settlement::Held
        }
        Outcome::NotCharged { recorded: false } if !open.contested && !open.pending => {
            release(session, token, Answered::Nothing, moment.latest)
        }
        Outcome::NotCharged { recorded: true } if !open.contested && !open.pending => {
            session.forget_total();
            release(session, token, Answered::Attempt, moment.latest)
        }
        Outcome::Refused if !open.contested && !open.pending => {
            session.forget_total();
            release(session, token, Answered::Refusal, moment.latest)
        }
        Outcome::NotCharged { .. } | Outcome::Refused => {
            // This attempt is over for certain: the grace of those in doubt runs on, so that who keeps
            // asking does not put it off for ever.
            open.quiet_since.get_or_insert(moment.steady);
            Settlement::Held
        }
    }
}

pub(super) fn settle_late<S>(
    session: &mut Session,
    token: Option<&mut Token<S>>,
    claim: &ClaimId,
    outcome: Outcome,
    now: Timestamp,
) -> Settlement {
    let known = matches!(&session.ending, Some(Ending::Charged { claim: Some(by) }) if by == claim);
    if outcome != Outcome::Charged || known {
        return Settlement::Stale;
    }
    session.ending = Some(Ending::Charged { claim: Some(claim.clone()) });
    if let Some(token) = token
        && !matches!(token.state, TokenState::Consumed { .. })
    {
        session.forget_token(&token.id);
        token.end(TokenState::Consumed { claim: claim.clone(), at: now });
    }
    Settlement::ChargedLate
}

/// Ends the open claim with a charge.
pub(super) fn charge<S>(session: &mut Session, token: Option<&mut Token<S>>, now: Timestamp) -> Settlement {
    // Where it was stays known: there its order is shown first.
    let Some(claim) = session.claim.take() else { return Settlement::Stale };
    if let Some(token) = token {
        session.forget_token(&token.id);
        token.exposed |= claim.redeemed_at.is_some();
        token.end(TokenState::Consumed { claim: claim.id.clone(), at: now });
    }
    session.ending = Some(Ending::Charged { claim: Some(claim.id) });
    Settlement::Charged
}

/// What the merchant's answer that ends a claim without a charge says of the attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// There is none.
    Nothing,
    /// It refused, and the card is not said to be why.
    Refusal,
    /// The card was tried, or may have been.
    Attempt,
}

/// Ends the open claim without a charge. The token goes back to Active, or to where it is due.
pub(super) fn release<S>(
    session: &mut Session,
    token: Option<&mut Token<S>>,
    answered: Answered,
    now: Timestamp,
) -> Settlement {
    let Some(claim) = session.claim.take() else { return Settlement::Stale };
    let place = session.places.claim.take();
    let redeemed = claim.redeemed_at.is_some();
    // What was in doubt may have been an attempt at the card.
    let doubted = claim.contested || claim.pending;
    let is_attempt = redeemed || doubted || answered == Answered::Attempt;
    let counts = is_attempt || answered == Answered::Refusal;
    if counts {
        session.answered = session.answered.saturating_add(1);
    }
    if doubted {
        session.places.doubted = place;
        session.doubted = Some(Doubted { claim: claim.id.clone(), token: claim.token.clone() });
    }
    // A late charge may have consumed the token under this claim: that stays.
    let Some(token) = token.filter(|token| !matches!(token.state, TokenState::Consumed { .. })) else {
        return Settlement::Released;
    };
    if redeemed {
        token.exposed = true;
        drop_perishable(token);
        // The merchant has it, and is not given it a second time.
        if session.signs.card_kept {
            token.delete_card();
        }
    }
    token.attempts = token.attempts.saturating_add(u8::from(is_attempt));
    token.answered = token.answered.saturating_add(u8::from(counts));
    let revoked = if claim.revoke_requested.is_some() {
        Some(RevokeReason::Agent)
    } else {
        token.is_worn_out().then_some(RevokeReason::Attempts)
    };
    match revoked {
        Some(reason) => token.end(TokenState::Revoked { at: now, reason }),
        // One that has only expired is the scan's, which goes by a clock that destroys nothing too early.
        None => token.state = TokenState::Active,
    }
    if !token.is_live(now) {
        session.forget_token(&token.id);
    }
    Settlement::Released
}

/// Forgets CVC and cryptogram: once redeemed they must not exist (PCI DSS 3.3).
fn drop_perishable<S>(token: &mut Token<S>) {
    if let Instrument::Sealed { perishable, .. } = &mut token.instrument {
        *perishable = None;
    }
}
