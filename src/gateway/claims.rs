//! What operators see of open claims and do about them: the list, and ending one by hand. Here and
//! not with the operator's API, because a claim ends the same way whoever ends it.

use std::sync::Arc;
use std::time::Duration;

use super::events::About;
use super::evidence::Evidence;
pub(crate) use super::evidence::{NotResolved, Resolved};
use super::parts::{Books, Desk, Identities};
use crate::crypto::digest::Sha256;
use crate::domain::clock::Timestamp;
use crate::domain::id::{ClaimId, MerchantId, SessionId, TokenId};
use crate::domain::session::{Claim, ClaimStanding, Evidence as Word, Moment, Session, SessionKind};
use crate::domain::token::{Standing, TokenState};
use crate::ledger::{SessionRecord, session};
use crate::records::codec::{Loaded, decode};
use crate::records::suspensions::Subject;
use crate::records::{Kind, RecordKey, StoreError};
use crate::token::PaymentToken;

/// Claims looked at for one list.
const LOOKED_AT: usize = 20_000;
/// Tokens looked at in one go.
const PAGE: usize = 500;
/// Longer than any claim is put off: every open one is due within it.
const EVERY_CLAIM: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Which claims are wanted.
#[derive(Clone, Debug)]
pub(crate) struct ClaimQuery {
    /// Of this merchant only.
    pub merchant: Option<MerchantId>,
    /// Also those that only wait for the answer to their first attempt.
    pub under_way: bool,
    /// At most so many.
    pub limit: usize,
}

/// An open claim and the session it holds.
#[derive(Clone, Debug)]
pub(crate) struct OpenClaim {
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

/// A session as its record has it, whether or not a claim is open.
#[derive(Clone, Debug)]
pub(crate) struct KnownSession {
    /// The session.
    pub session: Session,
    /// The claim that is open.
    pub open: Option<OpenClaim>,
    /// Its tokens that may still be spent, and the one that a claim holds or held in doubt.
    pub tokens: Vec<KnownToken>,
    /// When it was looked at.
    pub at: Timestamp,
}

/// A token of a session.
#[derive(Clone, Debug)]
pub(crate) struct KnownToken {
    /// Its id.
    pub id: TokenId,
    /// How it stands.
    pub standing: Standing,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Attempts that were answered, or in which the card left.
    pub attempts: u8,
}

/// What a look at the open claims found.
#[derive(Clone, Debug)]
pub(crate) struct OpenClaims {
    /// The longest open first.
    pub claims: Vec<OpenClaim>,
    /// Whether there are more than were asked for.
    pub more: bool,
    /// When it was.
    pub at: Timestamp,
}

/// The open claims, for operators.
pub(crate) struct OpenClaimsDesk {
    pub(super) identities: Arc<Identities>,
    pub(super) books: Arc<Books>,
    pub(super) evidence: Arc<Evidence>,
    pub(super) desk: Arc<Desk>,
}

impl OpenClaimsDesk {
    /// The claims that are open. Exactly the sessions with one have a due instant, so nothing else is
    /// read.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn open_claims(&self, query: &ClaimQuery) -> Result<OpenClaims, StoreError> {
        let moment = self.books.ledger.moment();
        let due = self.books.ledger.store().due(moment.steady.plus(EVERY_CLAIM), LOOKED_AT).await?;
        let mut more = due.len() == LOOKED_AT;
        let mut claims = Vec::new();
        let is_asked_for = |key: &RecordKey| {
            let is_its =
                query.merchant.as_ref().is_none_or(|merchant| session::is_checkout_of(key, merchant));
            key.kind == Kind::Session && is_its
        };
        for (next_check, key) in due.into_iter().filter(|(_, key)| is_asked_for(key)) {
            if let Some(open) = self.open_claim(key, next_check, moment).await?
                && (query.under_way || open.standing != ClaimStanding::UnderWay)
            {
                claims.push(open);
            }
            if claims.len() > query.limit.saturating_mul(2) {
                more |= keep_oldest(&mut claims, query.limit);
            }
        }
        more |= keep_oldest(&mut claims, query.limit);
        Ok(OpenClaims { claims, more, at: moment.steady })
    }

    /// The keyed fingerprint of the card that a token was minted with.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn card_of_token(&self, id: &TokenId) -> Result<Option<Sha256>, StoreError> {
        Ok(self.books.ledger.stored_token(id).await?.map(|token| token.card_fingerprint))
    }

    /// The token that a claim holds, or was charged to. Of a claim that has ended the tokens are looked
    /// through, because nothing leads from it to its token.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn token_of_claim(&self, id: &ClaimId) -> Result<Option<TokenId>, StoreError> {
        let every = ClaimQuery { merchant: None, under_way: true, limit: LOOKED_AT };
        let open = self.open_claims(&every).await?.claims.into_iter().find(|open| open.claim.id == *id);
        if let Some(open) = open {
            return Ok(open.claim.token);
        }
        let mut after = None;
        loop {
            let page = self.books.ledger.store().scan(Kind::Token, after.as_ref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(None) };
            after = Some(last.clone());
            for (_, record) in &page {
                match decode::<PaymentToken>(&record.bytes) {
                    Ok(token) if is_charged_to(&token, id) => return Ok(Some(token.id)),
                    Ok(_) => {}
                    Err(_) => self.desk.unreadable_record("token"),
                }
            }
        }
    }

    /// Whether the configuration has what is named; a card is never in one.
    pub(crate) fn is_configured(&self, subject: &Subject) -> bool {
        let registry = &self.identities.registry;
        match subject {
            Subject::Agent { id } => registry.agent(id).is_some(),
            Subject::Merchant { id } => registry.merchant(id).is_some(),
            Subject::Key { agent, id } => {
                registry.agent(agent).is_some_and(|agent| agent.key(id.as_str()).is_some())
            }
            Subject::Credential { digest } => registry.has_agent_credential(digest),
            Subject::Card { .. } | Subject::All => true,
        }
    }

    /// What is known of a session, at this merchant or at whichever has one of that id. Its record is
    /// kept long after its last claim.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn known_sessions(
        &self,
        merchant: Option<&MerchantId>,
        id: &SessionId,
    ) -> Result<Vec<KnownSession>, StoreError> {
        let merchants: Vec<MerchantId> = match merchant {
            Some(merchant) => vec![merchant.clone()],
            None => self.identities.registry.merchants().map(|merchant| merchant.id.clone()).collect(),
        };
        let mut known = Vec::new();
        for merchant in merchants {
            let record_set = self.books.ledger.record_set(SessionKind::Checkout, &merchant, id);
            let Some(session) = self.books.ledger.read(&record_set).await?.session else { continue };
            known.push(self.known_session(session).await?);
        }
        known.sort_by(|a, b| a.session.merchant.cmp(&b.session.merchant));
        Ok(known)
    }

    async fn known_session(&self, session: Session) -> Result<KnownSession, StoreError> {
        let moment = self.books.ledger.moment();
        let at_stake = session.token_at_stake().cloned();
        let mut ids: Vec<TokenId> = session.tokens.iter().map(|(id, _)| id.clone()).collect();
        ids.extend(at_stake.filter(|id| session.tokens.iter().all(|(known, _)| known != id)));
        let mut tokens = Vec::new();
        for id in ids {
            // What was deleted meanwhile has nothing to tell.
            let Some(mut token) = self.books.ledger.stored_token(&id).await? else { continue };
            session.mark_claimed(&mut token);
            let (standing, attempts) = (token.standing(moment.latest), token.attempts);
            tokens.push(KnownToken { id, standing, expires_at: token.allowance.expires_at, attempts });
        }
        // The index has the instant that the worker goes by, which no record holds.
        let open = match &session.claim {
            None => None,
            Some(_) => {
                let record_set = self.books.ledger.record_set(session.kind, &session.merchant, &session.id);
                let due = self.books.ledger.store().due(moment.steady.plus(EVERY_CLAIM), LOOKED_AT).await?;
                let next_check = due.into_iter().find(|(_, key)| key == record_set.session_key());
                self.opened(session.clone(), next_check.map_or(moment.steady, |(at, _)| at), moment)
            }
        };
        Ok(KnownSession { session, open, tokens, at: moment.steady })
    }

    async fn open_claim(
        &self,
        key: RecordKey,
        next_check: Timestamp,
        moment: Moment,
    ) -> Result<Option<OpenClaim>, StoreError> {
        let record = self.books.ledger.store().read(std::slice::from_ref(&key)).await?.pop().flatten();
        let Ok(loaded) = Loaded::<SessionRecord>::decode(key, record) else {
            // One that cannot be read must not hide the rest.
            self.desk.unreadable_record("session");
            return Ok(None);
        };
        // It may have ended since it was found.
        Ok(loaded.value.and_then(|record| self.opened(record.session, next_check, moment)))
    }

    fn opened(&self, session: Session, next_check: Timestamp, moment: Moment) -> Option<OpenClaim> {
        let claim = session.claim.clone()?;
        Some(OpenClaim {
            standing: claim.standing(moment),
            awaited_until: claim.awaited_until(moment),
            next_check,
            merchant_known: self.identities.registry.merchant(&session.merchant).is_some(),
            session,
            claim,
        })
    }

    /// Ends a claim by the word of `operator`, who has asked the merchant.
    ///
    /// # Errors
    /// [`NotResolved`]; nothing has changed then.
    pub(crate) async fn resolve_claim(
        &self,
        merchant: &MerchantId,
        session: &SessionId,
        claim: &ClaimId,
        word: Word,
        operator: &str,
    ) -> Result<Resolved, NotResolved> {
        let _guard = self.desk.drain.work();
        self.evidence.of_operator(About { merchant, session }, claim, word, operator).await
    }
}

fn is_charged_to(token: &PaymentToken, claim: &ClaimId) -> bool {
    matches!(&token.state, TokenState::Consumed { claim: charged, .. } if charged == claim)
}

/// Keeps so many, the longest open first; whether there were more.
fn keep_oldest(claims: &mut Vec<OpenClaim>, limit: usize) -> bool {
    claims.sort_by_key(|open| open.claim.opened_at);
    let more = claims.len() > limit;
    claims.truncate(limit);
    more
}
