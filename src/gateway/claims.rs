//! What operators see of open claims and do about them: the list, and ending one by hand. Here and
//! not with the operator's API, because a claim ends the same way whoever ends it.

use std::time::Duration;

use super::Gateway;
use crate::domain::clock::Timestamp;
use crate::domain::id::{ClaimId, MerchantId, SessionId};
use crate::domain::session::{
    Claim, ClaimStanding, Evidence, Present, ResolveRefusal, Session, SessionKind, Settlement, resolve,
};
use crate::domain::token::Standing;
use crate::records::codec::Loaded;
use crate::records::{Durability, Kind, Purpose, RecordKey, StoreError};
use crate::telemetry::log::{Identifier, Level, Value};

/// Claims looked at for one list.
const LOOKED_AT: usize = 20_000;
/// Longer than any claim is put off: every open one is due within it.
const EVERY_CLAIM: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// How often a resolution is decided again because the claim's token was not the one read.
const MAX_ROUNDS: usize = 8;

/// Which claims are wanted.
#[derive(Clone, Debug)]
pub struct ClaimQuery {
    /// Of this merchant only.
    pub merchant: Option<MerchantId>,
    /// Also those that only wait for the answer to their first attempt.
    pub under_way: bool,
    /// At most so many.
    pub limit: usize,
}

/// An open claim and the session it holds.
#[derive(Clone, Debug)]
pub struct OpenClaim {
    /// The session, `claim` in it.
    pub session: Session,
    /// The claim.
    pub claim: Claim,
    /// What it waits for.
    pub standing: ClaimStanding,
    /// Until when the answer to an attempt is waited for, if one is.
    pub awaited_until: Option<Timestamp>,
    /// When the session is read next.
    pub next_check: Timestamp,
    /// Whether the merchant is configured; otherwise nobody can read the session.
    pub merchant_known: bool,
}

/// What a look at the open claims found.
#[derive(Clone, Debug)]
pub struct OpenClaims {
    /// The longest open first.
    pub claims: Vec<OpenClaim>,
    /// Whether there are more than were asked for.
    pub more: bool,
    /// When it was.
    pub at: Timestamp,
}

/// A claim that an operator ended, or had ended before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// False when it had ended so before.
    pub now: bool,
    /// How its token stands; `None` where there is none.
    pub token: Option<Standing>,
}

/// Why a claim was not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotResolved {
    /// No such session.
    #[error("there is no such checkout session")]
    SessionUnknown,
    /// The claim does not permit it.
    #[error(transparent)]
    Refused(#[from] ResolveRefusal),
    /// The store cannot say.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Gateway {
    /// The claims that are open. Exactly the sessions with one have a due instant, so nothing else is
    /// read.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_claims(&self, query: &ClaimQuery) -> Result<OpenClaims, StoreError> {
        let present = self.ledger.present();
        let due = self.ledger.store().due(present.now.plus(EVERY_CLAIM), LOOKED_AT).await?;
        let mut more = due.len() == LOOKED_AT;
        let mut claims = Vec::new();
        for (next_check, key) in due.into_iter().filter(|(_, key)| key.kind == Kind::Session) {
            if let Some(open) = self.open_claim(key, next_check, present).await?
                && query.merchant.as_ref().is_none_or(|merchant| *merchant == open.session.merchant)
                && (query.under_way || open.standing != ClaimStanding::UnderWay)
            {
                claims.push(open);
            }
            if claims.len() > query.limit.saturating_mul(2) {
                more |= keep_oldest(&mut claims, query.limit);
            }
        }
        more |= keep_oldest(&mut claims, query.limit);
        Ok(OpenClaims { claims, more, at: present.now })
    }

    async fn open_claim(
        &self,
        key: RecordKey,
        next_check: Timestamp,
        present: Present,
    ) -> Result<Option<OpenClaim>, StoreError> {
        let record = self.ledger.store().read(std::slice::from_ref(&key)).await?.pop().flatten();
        let Ok(loaded) = Loaded::<Session>::decode(key, record) else {
            // One that cannot be read must not hide the rest.
            self.unreadable_record("session");
            return Ok(None);
        };
        // It may have ended since it was found.
        let Some(session) = loaded.value else { return Ok(None) };
        let Some(claim) = session.claim.clone() else { return Ok(None) };
        Ok(Some(OpenClaim {
            standing: claim.standing(present),
            awaited_until: claim.awaited_until(present),
            next_check,
            merchant_known: self.registry.merchant(&session.merchant).is_some(),
            session,
            claim,
        }))
    }

    /// Ends a claim by the word of `operator`, who has asked the merchant.
    ///
    /// # Errors
    /// [`NotResolved`]; nothing has changed then.
    pub async fn resolve_claim(
        &self,
        merchant: &MerchantId,
        session: &SessionId,
        claim: &ClaimId,
        evidence: Evidence,
        operator: &str,
    ) -> Result<Resolved, NotResolved> {
        let _guard = self.drain.work();
        for _ in 0..MAX_ROUNDS {
            let bare = self.ledger.address(SessionKind::Checkout, merchant, session);
            let read = self.ledger.read(&bare).await?.session.ok_or(NotResolved::SessionUnknown)?;
            let held = read.token_at_stake();
            let address = held.map_or_else(|| bare.clone(), |token| bare.clone().with_token(token));
            let decided = self
                .ledger
                .transact(&address, Purpose::Finish, Durability::Synced, |view, present| {
                    let was_live = view.has_live_token(present.latest);
                    let current = view.session.as_mut().ok_or(Undecided::No(NotResolved::SessionUnknown))?;
                    // Session and token change together: the token read must be the claim's.
                    if current.token_at_stake() != held {
                        return Err(Undecided::Again);
                    }
                    let settlement = resolve(current, view.token.as_mut(), claim, evidence, present)
                        .map_err(|refusal| Undecided::No(refusal.into()))?;
                    let token = view.token.as_ref().map(|token| token.standing(present.latest));
                    Ok((settlement, token, view.ended(was_live, present.latest)))
                })
                .await?;
            let (settlement, token, ended) = match decided {
                Ok(decided) => decided,
                Err(Undecided::Again) => continue,
                Err(Undecided::No(why)) => return Err(why),
            };
            self.give_back(ended);
            let now = match settlement {
                Settlement::Charged => Some("charged"),
                Settlement::Released => Some("released"),
                Settlement::Held | Settlement::ChargedLate | Settlement::Stale => None,
            };
            if let Some(outcome) = now {
                self.reads.forget_pace(address.session_key());
                self.observer.metrics().claim(outcome);
                self.note_resolution(merchant, session, claim, evidence, operator);
            }
            return Ok(Resolved { now: now.is_some(), token });
        }
        Err(NotResolved::Store(StoreError::Unavailable))
    }

    fn note_resolution(
        &self,
        merchant: &MerchantId,
        session: &SessionId,
        claim: &ClaimId,
        evidence: Evidence,
        operator: &str,
    ) {
        let mut fields = vec![
            ("merchant", Value::from(merchant)),
            ("session", Value::from(session)),
            ("claim", Value::from(claim)),
            ("evidence", Value::Text(evidence.as_str())),
        ];
        fields.extend(Identifier::parse(operator).map(|name| ("operator", Value::Id(name))));
        self.observer.log().event(Level::Warn, "claim_resolved", &fields);
    }
}

/// Keeps so many, the longest open first; whether there were more.
fn keep_oldest(claims: &mut Vec<OpenClaim>, limit: usize) -> bool {
    claims.sort_by_key(|open| open.claim.opened_at);
    let more = claims.len() > limit;
    claims.truncate(limit);
    more
}

/// Why a transaction decided nothing.
enum Undecided {
    /// Another token is at stake than was read.
    Again,
    /// It is refused.
    No(NotResolved),
}
