//! Redeem and the granted view: what merchants and their providers may ask about tokens. Redeem is
//! the only way a card leaves.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use hyper::body::Incoming;

use super::admit::message;
use super::refusal::Refusal;
use super::reply::Reply;
use super::{Caller, Gateway};
use crate::acp::authority::Authority;
use crate::acp::header::{self, IdempotencyKey};
use crate::acp::route::Route;
use crate::acp::wire::delegate_payment::merge_vault_json;
use crate::acp::wire::redeem::RedeemRequest;
use crate::auth::bearer::{self, AuthenticatedRedeemer, RedeemerCandidates, RedeemerError, RedeemerEvidence};
use crate::auth::replay::Use;
use crate::auth::signature::SignedRequest;
use crate::domain::id::TokenId;
use crate::domain::session::{Redeem, Redeemed, redeem};
use crate::records::{Durability, Purpose};
use crate::telemetry::access::Observation;
use crate::token::{PaymentToken, REDEEM_REPLAY};

impl Gateway {
    /// Serves a merchant or provider. Goes on while the gateway shuts down: completes under way
    /// wait for it.
    #[allow(clippy::too_many_arguments, reason = "the parts of one request, each owned by another stage")]
    pub(super) async fn serve_redeemer(
        self: &std::sync::Arc<Self>,
        head: &Parts,
        body: &mut Incoming,
        caller: Caller,
        authority: &Authority,
        route: &Route,
        id: &TokenId,
        observation: &mut Observation,
    ) -> Result<Reply, Refusal> {
        let _work = self.drain.work();
        header::refuse_repeats(&head.headers).map_err(Refusal::Header)?;
        header::refuse_encoding(&head.headers).map_err(Refusal::Header)?;
        // Nobody without a credential has a body read.
        let candidates = bearer::redeemer_candidates(&self.registry, &head.headers).map_err(|_| {
            self.limits.failed_authentication(caller.address);
            Refusal::Unauthenticated
        })?;
        // So short that nothing else bounds what is held of it.
        let body = self.read_body(body, route, |_| Ok(()), observation).await?;
        let redeemer = self.prove_redeemer(candidates, head, &body, caller, authority, route.is_money())?;
        self.refuse_replayed_redeem(&redeemer, head, route, &body).await?;
        let token = self.ledger.read_token(id).await?.ok_or(Refusal::NotFound)?;
        redeemer.at(&token.allowance.merchant).ok_or(Refusal::NotFound)?;
        let merchant = &self.merchant(&token.allowance.merchant)?;
        observation.merchant(&merchant.id);
        self.limits.redeem(merchant).map_err(Refusal::Limited)?;
        let permit = self.concurrency.redeem(merchant).map_err(Refusal::Limited)?;
        if let Route::GrantedToken { .. } = route {
            let view = self.ledger.read(&self.address_of(id).await?).await?;
            let (Some(token), Some(session)) = (&view.token, &view.session) else {
                return Err(Refusal::NotFound);
            };
            return self.granted_view(token, session);
        }
        let every_claim = merchant.redeem_every_claim;
        let (gateway, id) = (std::sync::Arc::clone(self), id.clone());
        self.detach(Box::pin(async move {
            let _permit = permit;
            gateway.redeem(&id, &body, every_claim).await
        }))
        .await
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
        let now = self.clock.now();
        // Not what the handshake found, which may have been days ago: what is true now.
        let certificate = caller.certificate.as_ref().and_then(|certificate| certificate.fingerprint_at(now));
        let evidence = RedeemerEvidence { peer: caller.address, certificate, request };
        candidates.prove(&evidence, now).map_err(|error| {
            self.limits.failed_authentication(caller.address);
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
        self.record_use(check, &used, Purpose::Finish).await
    }

    async fn redeem(&self, id: &TokenId, body: &Bytes, every_claim: bool) -> Result<Reply, Refusal> {
        let request = RedeemRequest::read(body).map_err(|error| Refusal::of_body(&error))?;
        let address = self.address_of(id).await?;
        let asked = Redeem {
            claim: request.claim.clone(),
            amount: request.amount,
            replay_window: REDEEM_REPLAY,
            every_claim,
        };
        let (reply, redeemed) = self
            .ledger
            .transact(&address, Purpose::Finish, Durability::Synced, |view, present| {
                let (Some(session), Some(token)) = (view.session.as_mut(), view.token.as_ref()) else {
                    return Err(Refusal::NotFound);
                };
                if session.id != request.session {
                    return Err(Refusal::Redeem(crate::domain::session::RedeemRefusal::NoSuchClaim));
                }
                let redeemed = redeem(session, token, &asked, present).map_err(Refusal::Redeem)?;
                // Opened before anything is written: a card that does not open was not handed out.
                Ok((self.card_of(token)?, redeemed))
            })
            .await??;
        let metrics = self.observer.metrics();
        metrics.token_event(match redeemed {
            Redeemed::First => "redeemed",
            Redeemed::Again => "redeemed_again",
        });
        Ok(reply)
    }

    /// The card in clear, for one answer that is never stored.
    fn card_of(&self, token: &PaymentToken) -> Result<Reply, Refusal> {
        let opened = self.vault.open(token).map_err(|_| Refusal::Internal)?;
        let perishable = opened.perishable.as_ref().map(|values| values.expose());
        let merged = merge_vault_json(opened.card.expose(), perishable).map_err(|_| Refusal::Internal)?;
        let json = HeaderValue::from_static("application/json");
        Ok(Reply::bytes(StatusCode::OK, json, Bytes::from_owner(WipedBody(merged)), "redeemed"))
    }
}

/// A body that is wiped once it has been written.
struct WipedBody(crate::domain::secret::SecretBytes);

impl AsRef<[u8]> for WipedBody {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}
