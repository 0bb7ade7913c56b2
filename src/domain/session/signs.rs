//! Signs that a merchant is at work on the open claim.
//!
//! While they are fresh the claim is neither given up nor sent again, because the charge may be about to
//! happen.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Claim, Moment, Session};
use crate::domain::clock::Timestamp;
use crate::domain::id::TokenId;

/// Graces for which a claim is held at most because somebody looks at its token: looking costs
/// nothing, so it must not hold a session for ever.
const MOST_GRACES: u32 = 4;

/// A sign this soon after the last tells nothing new, and costs no write.
const TELLS_NOTHING: Duration = Duration::from_secs(1);

/// What has shown of the merchant's work on the open claim, beyond its answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signs {
    /// Until when the merchant may be at work on an attempt whose answer was lost.
    pub sent_until: Option<Timestamp>,
    /// When the merchant, or who redeems for it, last showed that it is at work.
    pub seen_at: Option<Timestamp>,
    /// The card has left for this claim to a merchant that keeps it.
    pub card_kept: bool,
}

impl Signs {
    /// An attempt that was to be over by `until` ended without a conclusive answer.
    pub(super) fn note_doubt(&mut self, until: Timestamp) {
        self.sent_until = self.sent_until.max(Some(until));
    }

    pub(super) fn note(&mut self, now: Timestamp) {
        if self.seen_at.is_none_or(|seen| now >= seen.plus(TELLS_NOTHING)) {
            self.seen_at = Some(now);
        }
    }

    /// When a claim that has been quiet since `quiet` may be given up.
    pub(super) fn grace_over(&self, quiet: Timestamp, grace: Duration) -> Timestamp {
        let seen = self.seen_at.map_or(quiet, |seen| seen.max(quiet));
        seen.plus(grace).min(quiet.plus(grace.saturating_mul(MOST_GRACES)))
    }

    /// From when the request of `claim` may be sent again, at a merchant that is waited for as long as
    /// `awaited`: when whatever was sent is over, and nothing has shown for as long.
    pub(super) fn silent_from(&self, claim: &Claim, awaited: Duration, moment: Moment) -> Option<Timestamp> {
        let lost = self.sent_until.or_else(|| Some(claim.quiet_since?.plus(awaited)));
        // Also those of a process that is gone: the merchant does not know that.
        let sent = claim.attempts.iter().map(|attempt| attempt.until).max();
        let begun = lost.max(sent).map(|until| until.minus(awaited));
        begun.max(self.seen_at).max(claim.redeemed_at).map(|mark| moment.reckoned(mark).plus(awaited))
    }
}

/// Instants from which a read of its session can decide about an open claim what none before could.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Milestones {
    /// Its request may be sent again, where it may be at all.
    pub silent_from: Option<Timestamp>,
    /// It is given up unless an order shows.
    pub grace_over: Option<Timestamp>,
}

impl Session {
    /// What the open claim waits for, if nothing more shows of it.
    pub fn milestones(&self, awaited: Duration, grace: Duration, moment: Moment) -> Milestones {
        let Some(open) = &self.claim else { return Milestones::default() };
        let quiet = open.quiet_since.map(|quiet| moment.reckoned(quiet));
        Milestones {
            silent_from: self.signs.silent_from(open, awaited, moment),
            grace_over: quiet.map(|quiet| self.signs.grace_over(quiet, grace)),
        }
    }
}

/// What a look at a claimed token means for its claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Viewed {
    /// Nothing: no claim holds the token.
    Unclaimed,
    /// Somebody is at work on the claim.
    AtWork,
    /// The same, but the claim will be given up all the same unless an order shows: it has been held
    /// for long enough. Told once.
    HeldLongEnough,
}

/// Takes note that who may redeem `token` has looked at it.
pub fn note_view(session: &mut Session, token: &TokenId, grace: Duration, now: Timestamp) -> Viewed {
    let Some(open) = session.claim.as_ref().filter(|open| open.token.as_ref() == Some(token)) else {
        return Viewed::Unclaimed;
    };
    let capped = |signs: &Signs| {
        let most = open.quiet_since.map(|quiet| quiet.plus(grace.saturating_mul(MOST_GRACES)));
        signs.seen_at.zip(most).is_some_and(|(seen, most)| seen.plus(grace) > most)
    };
    let before = capped(&session.signs);
    session.signs.note(now);
    if capped(&session.signs) && !before { Viewed::HeldLongEnough } else { Viewed::AtWork }
}

/// Takes note that the merchant said or did what only somebody does who is at work on the open claim:
/// the grace begins anew.
pub fn note_life(session: &mut Session, now: Timestamp) {
    let Some(open) = session.claim.as_mut() else { return };
    session.signs.note(now);
    // While an attempt is out there is no grace yet.
    if let (Some(quiet), Some(seen)) = (open.quiet_since.as_mut(), session.signs.seen_at) {
        *quiet = seen.max(*quiet);
    }
}
