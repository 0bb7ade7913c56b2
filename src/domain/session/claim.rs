//! Claims: the hold a complete has on its session and token, and how it begins.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Ending, HandlerMark, MAX_SESSION_ANSWERS, Moment, Observation, Session, SessionTotal, Signs, Troubles,
    is_alive,
};
use crate::domain::base_url::BaseUrl;
use crate::domain::clock::Timestamp;
use crate::domain::id::{AgentId, ClaimId, TokenId};
use crate::domain::money::{DoesNotFit, Money};
use crate::domain::token::{RevokeReason, Token, TokenState};

/// A hold on a session, and on a token where there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Its id: the `Idempotency-Key` the merchant receives.
    pub id: ClaimId,
    /// The token it holds; `None` for a purchase order.
    pub token: Option<TokenId>,
    /// What was checked against the cap, in minor units: the most the merchant may charge.
    pub checked: Money,
    /// Attempts whose answers have not arrived.
    pub attempts: Vec<Attempt>,
    /// Number of the last attempt: what fences settles.
    pub last_attempt: u32,
    /// An attempt was in doubt, or attempts overlapped: now only evidence ends the claim.
    pub contested: bool,
    /// The merchant answered that it is still working on it.
    pub pending: bool,
    /// When the card left, in this claim.
    pub redeemed_at: Option<Timestamp>,
    /// When the agent asked to revoke the token.
    pub revoke_requested: Option<Timestamp>,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When the last attempt without a conclusive answer ended.
    pub quiet_since: Option<Timestamp>,
    /// How often the worker has looked at it.
    pub checks: u32,
}

/// One sending of the complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its fencing number.
    pub number: u32,
    /// The incarnation of the store under which it began.
    pub incarnation: u64,
    /// Its answer is not waited for beyond this.
    pub until: Timestamp,
}

/// What an open claim waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimStanding {
    /// The answer to its first attempt.
    UnderWay,
    /// Evidence: an answer was lost, or attempts overlapped.
    InDoubt,
    /// The merchant, who said that it is still working on it.
    Pending,
}

impl ClaimStanding {
    /// The name in answers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnderWay => "under_way",
            Self::InDoubt => "in_doubt",
            Self::Pending => "pending",
        }
    }
}

/// What a complete asks for.
#[derive(Clone, Debug)]
pub struct BeginClaim {
    /// The claim's id.
    pub claim: ClaimId,
    /// Who asks.
    pub agent: AgentId,
    /// A total older than this does not count.
    pub total_max_age: Duration,
    /// The limit of a complete without a token; `None` where purchase orders are refused.
    pub purchase_order_limit: Option<Money>,
    /// Nothing is given to pay with: only what costs nothing may be completed.
    pub pays_nothing: bool,
    /// The handler it names.
    pub handler: Option<HandlerMark>,
    /// When the attempt's answer is no longer waited for.
    pub until: Timestamp,
    /// Where it is sent.
    pub place: Option<BaseUrl>,
}

/// A claim that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BegunClaim {
    /// The attempt's fencing number.
    pub attempt: u32,
    /// What the merchant may charge at most.
    pub checked: Money,
}

/// Why a claim cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimRefusal {
    /// A claim, an update or a cancel is under way.
    #[error("another operation on this checkout session is under way")]
    SessionBusy,
    /// The session has its order.
    #[error("this checkout session is already completed")]
    AlreadyCharged,
    /// The session was canceled or has expired.
    #[error("this checkout session is closed")]
    SessionClosed,
    /// The merchant's total is not known or too old: read the session, then try again.
    #[error("the total of this checkout session is not known")]
    TotalUnknown,
    /// The token is for another session, merchant or agent.
    #[error("the token is not for this checkout session")]
    TokenElsewhere,
    /// At or after its expiry.
    #[error("the token has expired")]
    TokenExpired,
    /// Withdrawn.
    #[error("the token was revoked")]
    TokenRevoked,
    /// Its attempts are used up.
    #[error("the token has no attempts left")]
    TokenWornOut,
    /// The session's attempts are used up.
    #[error("the checkout session has no attempts left")]
    SessionWornOut,
    /// Spent.
    #[error("the token was already used")]
    TokenConsumed,
    /// Held by another claim.
    #[error("the token is held by another operation")]
    TokenClaimed,
    /// It names a payment handler that the session does not list.
    #[error("the session lists no payment handler of this id")]
    HandlerUnlisted,
    /// The total is above the cap.
    #[error("the total is above the token's maximum amount")]
    OverCap,
    /// The total is in no currency the cap is in.
    #[error("the total is in another currency than the token")]
    CurrencyMismatch,
    /// There is no token and purchase orders are not allowed, or not in this currency.
    #[error("a purchase order without a token is not allowed here")]
    PurchaseOrderRefused,
    /// Nothing was given to pay with, and the total is not zero.
    #[error("there is something to be paid for this checkout session")]
    PaymentDue,
    /// The merchant may be at work on what it was sent: it must not be sent again yet.
    #[error("the merchant may still be at work on this checkout session")]
    AtWork {
        /// For how long, if nothing more shows.
        wait: Duration,
    },
}

/// Opens a claim on the session and, where there is one, the token.
///
/// # Errors
/// [`ClaimRefusal`]; nothing has changed then.
pub fn begin_claim<S>(
    session: &mut Session,
    token: Option<&mut Token<S>>,
    request: &BeginClaim,
    moment: Moment,
) -> Result<BegunClaim, ClaimRefusal> {
    let checked = may_claim(session, token.as_deref(), request, moment)?;
    // From here on nothing is refused.
    let token_id = token.map(|token| {
        token.state = TokenState::Claimed { claim: request.claim.clone() };
        token.id.clone()
    });
    let attempt = Attempt { number: 1, incarnation: moment.incarnation, until: request.until };
    session.claim = Some(Claim {
        id: request.claim.clone(),
        token: token_id,
        checked,
        attempts: vec![attempt],
        last_attempt: attempt.number,
        contested: false,
        pending: false,
        redeemed_at: None,
        revoke_requested: None,
        opened_at: moment.steady,
        quiet_since: None,
        checks: 0,
    });
    session.places.claim.clone_from(&request.place);
    session.signs = Signs::default();
    session.troubles = Troubles::default();
    Ok(BegunClaim { attempt: attempt.number, checked })
}

/// The amount that [`begin_claim`] would check, if it may begin.
///
/// # Errors
/// Its [`ClaimRefusal`].
pub fn may_claim<S>(
    session: &Session,
    token: Option<&Token<S>>,
    request: &BeginClaim,
    moment: Moment,
) -> Result<Money, ClaimRefusal> {
    // What has ended has ended, whatever token is sent for it: advice to mint another would only fail.
    session.refuse_ended()?;
    if let Some(token) = token {
        refuse_token(token, session, &request.agent, moment.latest)?;
    }
    if session.claim.is_some() || session.has_open_mutation(moment) {
        return Err(ClaimRefusal::SessionBusy);
    }
    if session.answered >= MAX_SESSION_ANSWERS {
        return Err(ClaimRefusal::SessionWornOut);
    }
    let total =
        session.fresh_total(moment.steady, request.total_max_age).ok_or(ClaimRefusal::TotalUnknown)?;
    if request.handler.is_some_and(|handler| !session.handlers.permits(handler)) {
        return Err(ClaimRefusal::HandlerUnlisted);
    }
    let limit = match token {
        Some(token) => token.allowance.cap,
        None if request.pays_nothing => return total.nothing_due().ok_or(ClaimRefusal::PaymentDue),
        None => request.purchase_order_limit.ok_or(ClaimRefusal::PurchaseOrderRefused)?,
    };
    checked_amount(&total, &limit)
}

/// The longest that anybody is told to wait for a session.
const LONGEST_BUSY: Duration = Duration::from_secs(30);

impl Session {
    /// How long it will be busy, as far as is known. An answer that is waited for may come at any moment;
    /// a claim in doubt, or one that people decide about, will be so for a while, the longer the longer it
    /// has been: then nobody need ask every second, and many who do would only keep its merchant from being asked.
    pub fn busy_for(&self, moment: Moment) -> Duration {
        let waits = self.claim.as_ref().filter(|claim| claim.standing(moment) != ClaimStanding::UnderWay);
        waits.map_or(Duration::ZERO, |claim| (moment.steady.since(claim.opened_at) / 2).min(LONGEST_BUSY))
    }

    /// Refuses what has ended.
    ///
    /// # Errors
    /// [`ClaimRefusal::AlreadyCharged`] or [`ClaimRefusal::SessionClosed`].
    pub const fn refuse_ended(&self) -> Result<(), ClaimRefusal> {
        match self.ending {
            Some(Ending::Charged { .. }) => Err(ClaimRefusal::AlreadyCharged),
            Some(Ending::Closed) => Err(ClaimRefusal::SessionClosed),
            None => Ok(()),
        }
    }
}

fn refuse_token<S>(
    token: &Token<S>,
    session: &Session,
    agent: &AgentId,
    now: Timestamp,
) -> Result<(), ClaimRefusal> {
    let allowance = &token.allowance;
    if allowance.agent != *agent || allowance.merchant != session.merchant || allowance.session != session.id
    {
        return Err(ClaimRefusal::TokenElsewhere);
    }
    match &token.state {
        TokenState::Consumed { .. } => Err(ClaimRefusal::TokenConsumed),
        TokenState::Revoked { reason: RevokeReason::Agent, .. } => Err(ClaimRefusal::TokenRevoked),
        TokenState::Revoked { reason: RevokeReason::Attempts, .. } => Err(ClaimRefusal::TokenWornOut),
        TokenState::Claimed { .. } => Err(ClaimRefusal::TokenClaimed),
        TokenState::Active if token.is_expired(now) => Err(ClaimRefusal::TokenExpired),
        // As a release that counts otherwise left it.
        TokenState::Active if token.is_worn_out() => Err(ClaimRefusal::TokenWornOut),
        TokenState::Active => Ok(()),
    }
}

fn checked_amount(total: &SessionTotal, limit: &Money) -> Result<Money, ClaimRefusal> {
    let due = total.in_currency(limit.currency).ok_or(ClaimRefusal::CurrencyMismatch)?;
    match due.fits_within(limit) {
        Ok(()) => Ok(due),
        Err(DoesNotFit::OverLimit) => Err(ClaimRefusal::OverCap),
        Err(DoesNotFit::CurrencyMismatch) => Err(ClaimRefusal::CurrencyMismatch),
    }
}

impl Claim {
    /// Whether an attempt's answer may still arrive.
    pub fn has_live_attempt(&self, moment: Moment) -> bool {
        self.attempts.iter().any(|attempt| is_alive(attempt.incarnation, attempt.until, moment))
    }

    /// Until when the last of the answers that may still arrive is waited for; `None` when none is.
    pub fn awaited_until(&self, moment: Moment) -> Option<Timestamp> {
        let alive = |attempt: &&Attempt| is_alive(attempt.incarnation, attempt.until, moment);
        self.attempts.iter().filter(alive).map(|attempt| attempt.until).max()
    }

    /// What the claim waits for.
    pub fn standing(&self, moment: Moment) -> ClaimStanding {
        if self.pending {
            ClaimStanding::Pending
        } else if self.contested || self.is_unresolved(moment) {
            ClaimStanding::InDoubt
        } else {
            ClaimStanding::UnderWay
        }
    }

    /// Drops attempts that nobody waits for any more. Whatever became of them is in doubt.
    pub(super) fn abandon_dead_attempts(&mut self, signs: &mut Signs, moment: Moment) {
        let before = self.attempts.len();
        self.attempts.retain(|attempt| {
            let alive = is_alive(attempt.incarnation, attempt.until, moment);
            if !alive {
                // The merchant may be at work on it though the process that sent it is gone.
                signs.note_doubt(attempt.until);
            }
            alive
        });
        if self.attempts.len() < before {
            self.contested = true;
            self.quiet_since = Some(self.quiet_since.map_or(moment.steady, |since| since.max(moment.steady)));
        }
        self.quiet_since = self.quiet_since.map(|since| moment.reckoned(since));
    }

    /// Whether the claim waits for evidence: contested, or pending, and nobody is waiting for an
    /// answer.
    pub fn is_unresolved(&self, moment: Moment) -> bool {
        !self.has_live_attempt(moment)
    }
}

/// Starts another attempt of a claim that is open: only after the session was read as `shown`, only at
/// a merchant that honours keys, and only when everything sent before was over before that read was
/// asked: each is waited for `awaited`, and so long nothing may have shown of work on it. A merchant that
/// takes note of a key with its answer would charge twice. What a first attempt may not do, a later one
/// may not either.
///
/// # Errors
/// [`ClaimRefusal`]; nothing has changed then. [`ClaimRefusal::SessionBusy`] when the claim is no
/// longer the open one or an attempt is under way.
pub fn reenter<S>(
    session: &mut Session,
    token: Option<&Token<S>>,
    claim: &ClaimId,
    shown: &Observation,
    awaited: Duration,
    until: Timestamp,
    moment: Moment,
) -> Result<BegunClaim, ClaimRefusal> {
    let charged = session.ending.is_some();
    // Where the claim is not, nobody can say that nothing came of it.
    let is_shown = session.is_at(&shown.shown_at);
    let open = session.claim.as_mut().filter(|open| open.id == *claim).ok_or(ClaimRefusal::SessionBusy)?;
    if open.has_live_attempt(moment) {
        return Err(ClaimRefusal::SessionBusy);
    }
    if charged {
        return Err(ClaimRefusal::AlreadyCharged);
    }
    if open.revoke_requested.is_some() {
        return Err(ClaimRefusal::TokenRevoked);
    }
    if token.is_some_and(|token| token.is_expired(moment.latest)) {
        return Err(ClaimRefusal::TokenExpired);
    }
    if !is_shown {
        return Err(ClaimRefusal::AtWork { wait: Duration::ZERO });
    }
    checked_amount(shown.total.as_ref().ok_or(ClaimRefusal::TotalUnknown)?, &open.checked)?;
    let silent_from = session.signs.silent_from(open, awaited, moment);
    if let Some(from) = silent_from.filter(|from| shown.asked_at < *from) {
        return Err(ClaimRefusal::AtWork { wait: from.since(moment.steady) });
    }
    // From here on nothing is refused.
    open.abandon_dead_attempts(&mut session.signs, moment);
    open.last_attempt = open.last_attempt.saturating_add(1);
    open.attempts.push(Attempt { number: open.last_attempt, incarnation: moment.incarnation, until });
    Ok(BegunClaim { attempt: open.last_attempt, checked: open.checked })
}
