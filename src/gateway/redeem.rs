//! Redeem and the granted view: what merchants and their providers may ask about tokens. Redeem is
//! the only way a card leaves.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, StatusCode};

use super::Caller;
use super::admit::{Admission, message, named_trace, note_names};
use super::parts::{Books, Desk, Identities};
use super::refusal::{Internal, Refusal};
use super::replays::Replays;
use super::reply::Reply;
use super::suspended::Movement;
use super::token_view::Tokens;
use super::upstreams::Upstreams;
use crate::acp::authority::Authority;
use crate::acp::header::{self, IdempotencyKey};
use crate::acp::route::Route;
use crate::acp::wire::delegate_payment::merge_vault_json;
use crate::acp::wire::redeem::RedeemRequest;
use crate::auth::bearer::{self, AuthenticatedRedeemer, RedeemerCandidates, RedeemerError, RedeemerEvidence};
use crate::auth::replay::Use;
use crate::auth::signature::SignedRequest;
use crate::body::Content;
use crate::domain::id::{ClaimId, KeyId, SessionId, TokenId};
use crate::domain::session::{Redeem, RedeemRefusal, Redeemed, Session, Viewed, note_view, redeem};
use crate::domain::wiping::wiping_stack;
use crate::ledger::{Done, RecordSet};
use crate::records::{Durability, Purpose, StoreError};
use crate::registry::Merchant;
use crate::telemetry::access::RequestLog;
use crate::telemetry::spans::Stage;
use crate::telemetry::trail::Trail;
use crate::token::{Fetched, OpenError, PaymentToken, REDEEM_REPLAY, Vault};

/// The flow of redeems.
pub(super) struct Redemptions {
    pub identities: Arc<Identities>,
    pub books: Arc<Books>,
    pub upstreams: Arc<Upstreams>,
    pub replays: Arc<Replays>,
    pub admission: Arc<Admission>,
    pub tokens: Arc<Tokens>,
    pub vault: Arc<Vault>,
    pub desk: Arc<Desk>,
}

impl Redemptions {
    /// Serves a merchant or provider. Goes on while the gateway shuts down: completes under way
    /// wait for it.
    #[allow(clippy::too_many_arguments, reason = "the parts of one request, each owned by another stage")]
    pub(super) async fn serve_redeemer(
        self: &Arc<Self>,
        head: &Parts,
        body: &mut Content,
        caller: Caller,
        authority: &Authority,
        route: &Route,
        id: &TokenId,
        request_log: &mut RequestLog,
    ) -> Result<Reply, Refusal> {
        let _work = self.desk.drain.work();
        header::refuse_repeats(&head.headers).map_err(Refusal::Header)?;
        header::refuse_encoding(&head.headers).map_err(Refusal::Header)?;
        // Nobody without a credential has a body read.
        let candidates = bearer::redeemer_candidates(&self.identities.registry, &head.headers)
            .map_err(|_| self.admission.unauthenticated(&head.headers, &caller))?;
        self.admission.limits.proof(candidates.name(), caller.address).map_err(Refusal::Limited)?;
        // So short that nothing else bounds what is held of it.
        let body = self.admission.read_body(body, route, |_| Ok(()), request_log).await?;
        let (standing, credential) = (caller.standing.clone(), candidates.digest());
        let verifying = request_log.trail().span(Stage::Verify);
        let redeemer = self.prove_redeemer(candidates, head, &body, caller, authority, route.is_money())?;
        drop(verifying);
        // A merchant was told which request of ours this is for.
        request_log.trace(named_trace(&head.headers), true);
        standing.recognise(&credential);
        self.refuse_replayed_redeem(&redeemer, head, route, &body).await?;
        let token = self.books.ledger.stored_token(id).await?.ok_or(Refusal::NotFound)?;
        redeemer.at(&token.allowance.merchant).ok_or(Refusal::NotFound)?;
        let merchant = &self.identities.merchant(&token.allowance.merchant)?;
        request_log.merchant(&merchant.id);
        note_names(route, request_log.trail());
        request_log.trail().session(&token.allowance.session);
        self.admission.limits.redeem(merchant).map_err(Refusal::Limited)?;
        let permit = self.upstreams.concurrency.redeem(merchant).map_err(Refusal::Limited)?;
        if let Route::GrantedToken { .. } = route {
            return self.show_granted(id, merchant).await;
        }
        let (redemptions, merchant, id) = (Arc::clone(self), Arc::clone(merchant), id.clone());
        let (trail, own) = (request_log.trail().clone(), request_log.trail().clone());
        let redeeming = async move {
            let _permit = permit;
            let _redeeming = own.span(Stage::Redeem);
            redemptions.redeem(&id, &body, &merchant, &own).await
        };
        self.desk.detach(trail, wiping_stack(redeeming)).await
    }

    fn prove_redeemer<'a>(
        &self,
        candidates: RedeemerCandidates<'a>,
        head: &Parts,
        body: &Bytes,
        caller: Caller,
        authority: &Authority,
        money: bool,
    ) -> Result<AuthenticatedRedeemer<'a>, Refusal> {
        let key = header::idempotency_key(&head.headers).map_err(Refusal::Header)?;
        let request = SignedRequest {
            message: message(head, authority),
            body,
            idempotency_key: key.as_ref().map(IdempotencyKey::as_str),
            money_route: money,
        };
        let now = self.desk.clock.now();
        // Not what the handshake found, which may have been days ago: what is true now.
        let certificate = caller.certificate.as_ref().and_then(|certificate| certificate.fingerprint_at(now));
        let evidence = RedeemerEvidence { peer: caller.address, certificate, request };
        let name = candidates.name().to_owned();
        candidates.prove(&evidence, now).map_err(|error| {
            self.admission.limits.failed_proof(&name, caller.address);
            match error {
                RedeemerError::NotProven => Refusal::RedeemerNotProven,
                RedeemerError::Signature(error) => Refusal::Signature(error),
            }
        })
    }

    async fn refuse_replayed_redeem(
        &self,
        redeemer: &AuthenticatedRedeemer<'_>,
        head: &Parts,
        route: &Route,
        body: &Bytes,
    ) -> Result<(), Refusal> {
        let Some(check) = &redeemer.replay else { return Ok(()) };
        let key = header::idempotency_key(&head.headers).map_err(Refusal::Header)?;
        let path = route.canonical_path();
        let used = Use {
            method: head.method.as_str(),
            merchant: "",
            path: &path,
            idempotency_key: key.as_ref().map_or("", IdempotencyKey::as_str),
            body,
        };
        self.replays.record_use(check, &used, Purpose::Finish).await
    }

    /// The merchant's view of its token. Who asks while a claim holds it is at work on that claim.
    async fn show_granted(&self, id: &TokenId, merchant: &Merchant) -> Result<Reply, Refusal> {
        let record_set = self.tokens.record_set_of(id).await?;
        let mut view = self.books.ledger.read(&record_set).await?;
        if view.session.as_ref().is_some_and(|session| session.claim.is_some()) {
            let noted = self.books.ledger.transact(
                &record_set,
                Purpose::Finish,
                Durability::Synced,
                |view, moment| {
                    let session = view.session.as_mut().ok_or(Refusal::NotFound)?;
                    let viewed = note_view(session, id, merchant.doubt_grace, moment.steady);
                    Ok::<_, Refusal>((session.clone(), viewed))
                },
            );
            let (session, viewed) = noted.await??.decided;
            self.note_viewed(viewed, &session);
            view.session = Some(session);
        }
        let (Some(token), Some(session)) = (&view.token, &view.session) else {
            return Err(Refusal::NotFound);
        };
        self.tokens.granted_view(token, session)
    }

    fn note_viewed(&self, viewed: Viewed, session: &Session) {
        if viewed == Viewed::HeldLongEnough {
            self.desk.alarm("pending_too_long", &session.merchant, &session.id);
        }
    }

    async fn redeem(
        &self,
        id: &TokenId,
        body: &Bytes,
        merchant: &Merchant,
        trail: &Trail,
    ) -> Result<Reply, Refusal> {
        let request = RedeemRequest::read(body).map_err(|error| Refusal::of_body(&error))?;
        trail.claim(&request.claim);
        trail.amount(request.amount);
        let record_set = self.tokens.record_set_of(id).await?;
        let asked = Redeem {
            claim: request.claim.clone(),
            amount: request.amount,
            replay_window: REDEEM_REPLAY,
            every_claim: merchant.redeem_every_claim,
        };
        // A card leaves only where it is known what is stopped: asked in the decision, which notes also who
        // is refused.
        self.desk.suspended.make_known().await;
        // A key that is not at hand is looked for once, with nothing held meanwhile.
        let mut fetched = Fetched::default();
        let mut decided =
            self.decide_redeem(id, &request.session, &asked, merchant, &record_set, &fetched).await?;
        if let Decided::NeedsKey(key) = decided {
            fetched = self.vault.fetch(key).await?;
            decided =
                self.decide_redeem(id, &request.session, &asked, merchant, &record_set, &fetched).await?;
        }
        let (reply, redeemed) = match decided {
            Decided::Redeemed(reply, redeemed) => (reply, redeemed),
            Decided::Refused(refusal, viewed, session) => {
                self.note_viewed(viewed, &session);
                return Err(refusal);
            }
            Decided::NeedsKey(_) => return Err(Refusal::Store(StoreError::Unavailable)),
        };
        let metrics = self.desk.observer.metrics();
        metrics.token_event(match redeemed {
            Redeemed::First => "redeemed",
            Redeemed::Again => "redeemed_again",
        });
        Ok(reply)
    }

    async fn decide_redeem(
        &self,
        id: &TokenId,
        named: &SessionId,
        asked: &Redeem,
        merchant: &Merchant,
        record_set: &RecordSet,
        fetched: &Fetched,
    ) -> Result<Decided, Refusal> {
        let decided =
            self.books.ledger.transact(record_set, Purpose::Finish, Durability::Synced, |view, moment| {
                let (Some(session), Some(token)) = (view.session.as_mut(), view.token.as_ref()) else {
                    return Err(Undone::Refused(Refusal::NotFound));
                };
                if session.id != *named {
                    return Err(Undone::Refused(Refusal::Redeem(RedeemRefusal::NoSuchClaim)));
                }
                let allowed = self.desk.suspended.refuse_unless_known(movement_of(token));
                let redeemed =
                    allowed.and_then(|()| redeem(session, token, asked, moment).map_err(Refusal::Redeem));
                match redeemed {
                    // Opened before anything is written: a card that does not open was not handed out.
                    Ok(redeemed) => Ok(Decided::Redeemed(self.card_of(token, fetched)?, redeemed)),
                    // Who is refused may have kept the card, and charge it: it is at work all the same.
                    Err(refusal) if is_open(session, &asked.claim) => {
                        let viewed = note_view(session, id, merchant.doubt_grace, moment.steady);
                        Ok(Decided::Refused(refusal, viewed, Box::new(session.clone())))
                    }
                    Err(refusal) => Err(Undone::Refused(refusal)),
                }
            });
        decided.await?.map(|Done { decided, .. }| decided).or_else(|undone| match undone {
            Undone::Refused(refusal) => Err(refusal),
            Undone::NeedsKey(key) => Ok(Decided::NeedsKey(key)),
        })
    }

    /// The card in clear, for one answer that is never stored.
    fn card_of(&self, token: &PaymentToken, fetched: &Fetched) -> Result<Reply, Undone> {
        let opened = self.vault.open(token, fetched).map_err(|error| match error {
            OpenError::NotAtHand(key) => Undone::NeedsKey(key),
            OpenError::NotHeld => Undone::Refused(Refusal::Internal(Internal::CardNotHeld)),
            OpenError::Seal(error) => Undone::Refused(Refusal::Internal(Internal::CardUnopened(error))),
        })?;
        let perishable = opened.perishable.as_ref().map(|values| values.expose());
        let merged = merge_vault_json(opened.card.expose(), perishable)
            .map_err(|_| Undone::Refused(Refusal::Internal(Internal::CardUnreadable)))?;
        let json = HeaderValue::from_static("application/json");
        Ok(Reply::bytes(StatusCode::OK, json, Bytes::from_owner(WipedBody(merged)), "redeemed"))
    }
}

/// What a redeem led to.
enum Decided {
    /// The card goes out.
    Redeemed(Reply, Redeemed),
    /// It does not, but who asked is at work on the claim.
    Refused(Refusal, Viewed, Box<Session>),
    /// Nothing was decided: this key is to be fetched first.
    NeedsKey(KeyId),
}

/// Why nothing is written.
enum Undone {
    Refused(Refusal),
    NeedsKey(KeyId),
}

fn is_open(session: &Session, claim: &ClaimId) -> bool {
    session.claim.as_ref().is_some_and(|open| open.id == *claim)
}

/// A body that is wiped once it has been written.
struct WipedBody(crate::domain::secret::SecretBytes);

impl AsRef<[u8]> for WipedBody {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

/// What a card would move that leaves for this token.
fn movement_of(token: &PaymentToken) -> Movement<'_> {
    Movement {
        agent: Some(&token.allowance.agent),
        merchant: Some(&token.allowance.merchant),
        card: Some(&token.card_fingerprint),
        ..Movement::default()
    }
}
