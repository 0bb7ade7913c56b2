//! Evidence: what session reads, other answers and operators say about an open claim.

use std::time::Duration;

use super::settle::{Answered, Outcome, Settlement, charge, release, settle_late};
use super::{Doubted, Ending, Handlers, Moment, OrderMark, Session, SessionTotal, ShownAt, note_life};
use crate::domain::clock::Timestamp;
use crate::domain::id::ClaimId;
use crate::domain::token::Token;

/// Where a session stands at the merchant, as far as claims care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// `completed`, or an order exists.
    Completed,
    /// `canceled` or `expired`.
    Closed,
    /// `complete_in_progress`, `in_progress` or `pending_approval`.
    Working,
    /// Anything else that is known: not completed, and nothing under way.
    Open,
    /// A status this gateway does not know: proves nothing.
    Unknown,
}

/// A session answer that passed through: a read, an update, a cancel, a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Where the session stands.
    pub lifecycle: Lifecycle,
    /// Its total, when it could be read.
    pub total: Option<SessionTotal>,
    /// When the request it answers was sent: evidence about attempts that ended before.
    pub asked_at: Timestamp,
    /// The order it shows, where that can be told from others.
    pub order: Option<OrderMark>,
    /// Who shows it: only where the open claim is its lack of an order counts.
    pub shown_at: ShownAt,
    /// The payment handlers it lists.
    pub handlers: Handlers,
}

/// Applies what an observation proves about the session's claim and ending. `grace` is how long a
/// claim in doubt stays held although the session shows no order.
pub fn observe<S>(
    session: &mut Session,
    token: Option<&mut Token<S>>,
    observation: &Observation,
    grace: Duration,
    moment: Moment,
) -> Settlement {
    if let Some(open) = session.claim.as_mut() {
        open.abandon_dead_attempts(&mut session.signs, moment);
        // One that older formats keep is where its merchant is, as long as that has not moved.
        if session.places.claim.is_none() && observation.shown_at.is_first {
            session.places.claim = Some(observation.shown_at.url.clone());
        }
    }
    let is_its_word = session.is_at(&observation.shown_at);
    let Some(open) = session.claim.as_ref() else {
        return note_ending(session, token, observation.lifecycle, moment);
    };
    // Session and token change together: who read another token than the open claim holds, because
    // claims changed meanwhile, proves nothing now. The next look sees both.
    if open.token.as_ref() != token.as_deref().map(|token| &token.id) {
        return Settlement::Held;
    }
    let waiting = open.has_live_attempt(moment);
    let asked_after_grace =
        open.quiet_since.is_some_and(|quiet| observation.asked_at >= session.signs.grace_over(quiet, grace));
    match observation.lifecycle {
        Lifecycle::Completed => charge(session, token, moment.latest),
        // While an attempt is out, its own answer is still to come.
        Lifecycle::Closed if !waiting && is_its_word => {
            let settlement = release(session, token, Answered::Nothing, moment.latest);
            // An earlier claim's charge may have been learned meanwhile: that stays.
            session.ending.get_or_insert(Ending::Closed);
            settlement
        }
        Lifecycle::Open if !waiting && asked_after_grace && is_its_word => {
            release(session, token, Answered::Nothing, moment.latest)
        }
        Lifecycle::Working => {
            note_life(session, observation.asked_at);
            Settlement::Held
        }
        Lifecycle::Closed | Lifecycle::Open | Lifecycle::Unknown => Settlement::Held,
    }
}

fn note_ending<S>(
    session: &mut Session,
    token: Option<&mut Token<S>>,
    lifecycle: Lifecycle,
    moment: Moment,
) -> Settlement {
    match (&session.ending, lifecycle) {
        (Some(Ending::Charged { .. }), _) => Settlement::Stale,
        (_, Lifecycle::Completed) => match session.doubted.take() {
            // The claim that was given up charged after all.
            Some(Doubted { claim, token: held }) => {
                let token = token.filter(|token| Some(&token.id) == held.as_ref());
                settle_late(session, token, &claim, Outcome::Charged, moment.latest)
            }
            // An order that no claim accounts for: made past the gateway.
            None => {
                session.ending = Some(Ending::Charged { claim: None });
                Settlement::ChargedLate
            }
        },
        (None, Lifecycle::Closed) => {
            session.ending = Some(Ending::Closed);
            Settlement::Stale
        }
        (_, Lifecycle::Closed | Lifecycle::Open | Lifecycle::Working | Lifecycle::Unknown) => {
            Settlement::Stale
        }
    }
}

/// An operator's word about an open claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The merchant charged.
    Charged,
    /// It did not and will not.
    NotCharged,
}

impl Evidence {
    /// The name in requests and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Charged => "charged",
            Self::NotCharged => "not_charged",
        }
    }
}

/// Why an operator's word about a claim is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveRefusal {
    /// The claim is not the open one, and did not end as the operator says.
    #[error("the claim is not open")]
    NotOpen,
    /// An attempt's answer may still arrive, and is better evidence.
    #[error("the answer to an attempt is still awaited")]
    AttemptOutstanding {
        /// It is not waited for beyond this.
        until: Timestamp,
    },
}

/// Ends `claim` by an operator's word, if it is the open one and nobody waits for the merchant's own.
/// Repeating it changes nothing: [`Settlement::Stale`].
///
/// # Errors
/// [`ResolveRefusal`]; nothing has changed then.
pub fn resolve<S>(
    session: &mut Session,
    token: Option<&mut Token<S>>,
    claim: &ClaimId,
    evidence: Evidence,
    moment: Moment,
) -> Result<Settlement, ResolveRefusal> {
    let Some(open) = session.claim.as_mut().filter(|open| open.id == *claim) else {
        return if has_ended_so(session, claim, evidence) {
            Ok(Settlement::Stale)
        } else {
            Err(ResolveRefusal::NotOpen)
        };
    };
    if let Some(until) = open.awaited_until(moment) {
        return Err(ResolveRefusal::AttemptOutstanding { until });
    }
    // From here on nothing is refused.
    open.abandon_dead_attempts(&mut session.signs, moment);
    Ok(match evidence {
        Evidence::Charged => charge(session, token, moment.latest),
        Evidence::NotCharged => release(session, token, Answered::Nothing, moment.latest),
    })
}

/// Whether a claim that is not open is known to have ended as the evidence has it.
fn has_ended_so(session: &Session, claim: &ClaimId, evidence: Evidence) -> bool {
    let charged = matches!(&session.ending, Some(Ending::Charged { claim: Some(by) }) if by == claim);
    match evidence {
        Evidence::Charged => charged,
        Evidence::NotCharged => {
            !charged && session.doubted.as_ref().is_some_and(|doubted| doubted.claim == *claim)
        }
    }
}
