//! `delegate_payment`: a card in, a token out.
//!
//! The key's record holds the token id before the token exists, and the token is inserted only if
//! that id is absent: every point at which the process can die may be run again and leads to the
//! same token (rfc.delegate_payment §5.3).

use std::borrow::Cow;
use std::sync::Arc;

use http::StatusCode;

use super::Gateway;
use super::bracket::{owned, unrecorded};
use super::call::Call;
use super::operation::Operation;
use super::refusal::{Internal, Refusal};
use super::reply::Reply;
use crate::acp::problem::Problem;
use crate::acp::wire::delegate_payment::{self, DelegatePayment};
use crate::crypto::random;
use crate::domain::allowance::Allowance;
use crate::domain::clock::Timestamp;
use crate::domain::id::{MerchantId, SessionId, TOKEN_RANDOM_CHARS, TokenId};
use crate::domain::money::Money;
use crate::domain::session::{SessionKind, TooManyTokens};
use crate::domain::token::{Token, TokenState};
use crate::fraud::{self, CardFingerprint, MintAttempt};
use crate::idempotency::{KeyRecord, KeyState, LeaseMark};
use crate::merchant::grant;
use crate::records::codec::Loaded;
use crate::records::{Durability, Purpose, RecordKey, StoreError};
use crate::registry::Merchant;
use crate::token::{LONGEST_LIFE, UnsealedError};

/// A lease of a mint: it calls nobody, so anything longer is a process that died.
pub(super) const MINT_LEASE: std::time::Duration = std::time::Duration::from_secs(15);

/// A mint on its way.
struct Mint {
    call: Call,
    request: DelegatePayment,
    merchant: Arc<Merchant>,
    session: SessionId,
    operation: Operation,
    key: RecordKey,
    created: Timestamp,
}

/// A token's id, drawn before anything else happens.
struct Drawn {
    id: TokenId,
    lease: LeaseMark,
    /// An earlier try with the key drew it, and may have got further.
    earlier: bool,
}

impl Gateway {
    pub(super) async fn delegate_payment(
        self: Arc<Self>,
        call: Call,
        named: Option<MerchantId>,
    ) -> Result<Reply, Refusal> {
        let now = self.clock.now();
        let scope = named.as_ref().map(|id| self.merchant(id)).transpose()?;
        let operation = call.operation(&self.rings, scope.as_deref())?;
        let key = operation.scope.record_key(None);
        let conflict = call.version.delegate_conflict_status();
        let mut seen = self.ledger.look_key(&key).await?;
        // An answer that was given stays given, though the allowance has expired since or the repeat
        // names another version (rfc.delegate_payment §5).
        if let Some(reply) = self.replay(&operation, Some(&seen), conflict).await? {
            return Ok(reply);
        }
        let request = DelegatePayment::read(&call.body, call.version, self.clock.latest(), &self.delegate)
            .map_err(|mistakes| Refusal::Malformed(Box::new(Problem::of_mistakes(mistakes))))?;
        let merchant = self.merchant_of_allowance(&call, named.as_ref(), &request).await?;
        let session = SessionId::parse(&request.allowance.checkout_session_id).ok_or_else(no_such_session)?;
        call.trail.session(&session);
        call.trail.amount(cap(&request));
        refuse_beyond_policy(&call, &request, now)?;
        self.refuse_replayed_signature(&call, &operation, scope.as_deref(), Purpose::Admit).await?;
        let address = self.ledger.address(SessionKind::Checkout, &merchant.id, &session);
        owned(self.ledger.read(&address).await?.session.as_ref(), &call).map_err(|_| no_such_session())?;
        self.mint(Mint { call, request, merchant, session, operation, key, created: now }, &mut seen).await
    }

    async fn mint(&self, mint: Mint, seen: &mut Loaded<KeyRecord>) -> Result<Reply, Refusal> {
        let fingerprint = CardFingerprint::of(&self.rings.card_fingerprint, &mint.request.card.number);
        let signals: Vec<_> =
            mint.request.risk_signals.iter().map(|signal| risk_action(signal.action)).collect();
        let attempt = MintAttempt {
            agent: &mint.call.agent,
            amount: cap(&mint.request),
            card: &fingerprint,
            signals: &signals,
        };
        let (facts, tally) =
            fraud::gather_mint(&self.velocity, &self.fraud, attempt, self.clock.steady()).await?;
        let minted = match self.judge(&facts) {
            Ok(_cleared) => self.insert(&mint, seen, &fingerprint).await,
            Err(refusal) => Err(refusal),
        };
        match minted {
            Ok(reply) => {
                tally.keep();
                self.observer.metrics().token_event("minted");
                Ok(reply)
            }
            Err(refusal) => {
                tally.hand_back().await;
                Err(refusal)
            }
        }
    }

    /// Draws the id, inserts the token, records the answer.
    async fn insert(
        &self,
        mint: &Mint,
        seen: &mut Loaded<KeyRecord>,
        fingerprint: &CardFingerprint,
    ) -> Result<Reply, Refusal> {
        let Drawn { id, lease, earlier } = self.draw(mint, seen).await?;
        mint.call.trail.token(&id);
        if earlier && let Some(token) = self.ledger.acknowledged_token(&id).await? {
            // That try died after its token was written: nothing is left to refuse.
            return self.record_minted(mint, &id, token.created_at, lease, seen).await;
        }
        match self.insert_drawn(mint, &id, fingerprint).await {
            Ok(()) => self.record_minted(mint, &id, mint.created, lease, seen).await,
            // The token may exist: the key keeps its id, so that a repeat makes no second one.
            Err(refusal @ Refusal::Store(StoreError::Unacknowledged)) => Err(refusal),
            Err(refusal) => {
                // A refusal of ours binds no key: a corrected request may use it.
                self.forget_lease(&mint.key, lease).await;
                Err(refusal)
            }
        }
    }

    /// Takes the key's lease with a token id drawn in advance, or the id of an earlier try.
    async fn draw(&self, mint: &Mint, seen: &mut Loaded<KeyRecord>) -> Result<Drawn, Refusal> {
        let lease = self.lease(MINT_LEASE)?;
        let tag = self.ledger.partitions().tag(&mint.merchant.id, &mint.session);
        let random =
            random::base62(TOKEN_RANDOM_CHARS).map_err(|_| Refusal::Internal(Internal::NoRandomness))?;
        let drawn = TokenId::assemble(&tag, &random).ok_or(Refusal::Internal(Internal::IdUnusable))?;
        let conflict = mint.call.version.delegate_conflict_status();
        self.ledger
            // The id must outlive whoever drew it: a repeat that drew another would mint twice.
            .transact_key(seen, Purpose::Admit, Durability::Synced, |record, present| {
                super::bracket::refuse_unless_free(&mint.operation, record.as_ref(), present).map_err(
                    |refusal| match refusal {
                        Refusal::KeyConflict { .. } => Refusal::KeyConflict { status: conflict },
                        other => other,
                    },
                )?;
                let record = record.get_or_insert_with(|| mint.operation.new_record(lease, None));
                record.state = KeyState::Leased(lease);
                let earlier = record.token.is_some();
                let id = record.token.get_or_insert_with(|| drawn.clone()).clone();
                Ok(Drawn { id, lease, earlier })
            })
            .await?
    }

    async fn insert_drawn(
        &self,
        mint: &Mint,
        id: &TokenId,
        fingerprint: &CardFingerprint,
    ) -> Result<(), Refusal> {
        let token = self.sealed_token(mint, id, fingerprint).await?;
        let agent = &mint.call.agent;
        let limit = agent.live_tokens_per_session;
        let allotted = self
            .allotments
            .take(&agent.id, token.allowance.expires_at, agent.live_tokens, self.clock.earliest())
            .await?;
        if !allotted {
            return Err(Refusal::TooManyTokens);
        }
        let address =
            self.ledger.address(SessionKind::Checkout, &mint.merchant.id, &mint.session).with_token(id);
        let inserted = self
            .ledger
            .transact(&address, Purpose::Admit, Durability::Synced, |view, present| {
                // An earlier try with this key got this far.
                if view.token.is_some() {
                    return Ok(false);
                }
                let session = super::bracket::owned_mut(view.session.as_mut(), &mint.call)
                    .map_err(|_| no_such_session())?;
                if session.ending.is_some() {
                    return Err(no_such_session());
                }
                session
                    .add_token(id.clone(), token.allowance.expires_at, limit, present.now)
                    .map_err(|TooManyTokens| Refusal::TooManyTokens)?;
                view.token = Some(token.clone());
                Ok(true)
            })
            .await;
        if !matches!(inserted, Ok(Ok(true))) {
            self.allotments.give_back(&agent.id, token.allowance.expires_at, self.clock.earliest());
        }
        inserted?.map(drop)
    }

    async fn sealed_token(
        &self,
        mint: &Mint,
        id: &TokenId,
        fingerprint: &CardFingerprint,
    ) -> Result<crate::token::PaymentToken, Refusal> {
        let allowance = Allowance {
            agent: mint.call.agent.id.clone(),
            merchant: mint.merchant.id.clone(),
            session: mint.session.clone(),
            cap: cap(&mint.request),
            expires_at: mint.request.allowance.expires_at,
        };
        let vault_json = mint.request.to_vault_json();
        let instrument = self
            .vault
            .seal(id, &vault_json.card, vault_json.perishable.as_ref(), allowance.expires_at)
            .await
            .map_err(|error| match error {
                UnsealedError::Key(error) => Refusal::Store(error),
                UnsealedError::Cipher(error) => Refusal::Internal(Internal::CardNotSealed(error)),
            })?;
        let grant = grant::mint(&self.countersigner, id, &allowance, self.clock.now())
            .map_err(|_| Refusal::Internal(Internal::GrantNotSigned))?;
        Ok(Token {
            id: id.clone(),
            allowance,
            created_at: mint.created,
            instrument,
            grant,
            card_fingerprint: *fingerprint.as_bytes(),
            state: TokenState::Active,
            attempts: 0,
            exposed: false,
        })
    }

    async fn record_minted(
        &self,
        mint: &Mint,
        id: &TokenId,
        created: Timestamp,
        lease: LeaseMark,
        seen: &mut Loaded<KeyRecord>,
    ) -> Result<Reply, Refusal> {
        let key = mint.call.key.as_ref().map_or("", |key| key.as_str());
        let body = delegate_payment::minted(
            id,
            created,
            &mint.request.metadata,
            &mint.request.allowance.merchant_id,
            key,
        );
        let json = http::HeaderValue::from_static("application/json");
        let reply = Reply::bytes(StatusCode::CREATED, json, body, "minted");
        let kept = mint.operation.seal_answer(&reply)?;
        self.ledger
            .transact_key(seen, Purpose::Finish, Durability::Synced, |record, _| {
                // What a store has forgotten in a failover is written again. Where another try has drawn
                // another id meanwhile, its answer is the key's.
                let record = record.get_or_insert_with(|| KeyRecord {
                    token: Some(id.clone()),
                    ..mint.operation.new_record(lease, None)
                });
                if record.token.as_ref() != Some(id) {
                    return Err(Refusal::KeyInFlight);
                }
                if let (KeyState::Leased(mark), Some(answer)) = (&record.state, kept.as_ref())
                    && *mark == lease
                {
                    record.state = KeyState::Recorded(answer.clone());
                }
                Ok(())
            })
            .await
            .map_err(unrecorded)??;
        Ok(reply)
    }

    /// The merchant a mint is for: the one of the path or host, or the one its allowance names.
    async fn merchant_of_allowance(
        &self,
        call: &Call,
        named: Option<&MerchantId>,
        request: &DelegatePayment,
    ) -> Result<Arc<Merchant>, Refusal> {
        let candidates = self.registry.merchants_by_allowance_id(&request.allowance.merchant_id);
        let mut usable = candidates
            .iter()
            .filter(|id| named.is_none_or(|named| named == *id) && call.agent.may_use(id))
            .filter_map(|id| self.registry.merchant(id));
        match (usable.next(), usable.next()) {
            (Some(only), None) => Ok(Arc::clone(only)),
            (None, _) => Err(unprocessable(
                "merchant_not_found",
                "There is no such merchant for this agent.",
                "$.allowance.merchant_id",
            )),
            (Some(_), Some(_)) => Err(unprocessable(
                "merchant_ambiguous",
                "More than one merchant has this id: mint under the merchant's own path.",
                "$.allowance.merchant_id",
            )),
        }
    }
}

fn cap(request: &DelegatePayment) -> Money {
    Money { amount: request.allowance.max_amount, currency: request.allowance.currency }
}

fn refuse_beyond_policy(call: &Call, request: &DelegatePayment, now: Timestamp) -> Result<(), Refusal> {
    let longest = call.agent.token_life.min(LONGEST_LIFE);
    if request.allowance.expires_at > now.plus(longest) {
        let message = format!(
            "The allowance lives longer than this agent's tokens may, which is {} s: until {} now.",
            longest.as_secs(),
            now.plus(longest).to_rfc3339()
        );
        return Err(unprocessable("expiry_too_late", message, "$.allowance.expires_at"));
    }
    Ok(())
}

fn no_such_session() -> Refusal {
    unprocessable(
        "checkout_session_not_found",
        "There is no such open checkout session for this agent at this merchant.",
        "$.allowance.checkout_session_id",
    )
}

fn unprocessable(code: &'static str, message: impl Into<Cow<'static, str>>, param: &'static str) -> Refusal {
    let problem = Problem::invalid_request(StatusCode::UNPROCESSABLE_ENTITY, code, message).with_param(param);
    Refusal::Malformed(Box::new(problem))
}

const fn risk_action(action: delegate_payment::RiskAction) -> fraud::RiskAction {
    match action {
        delegate_payment::RiskAction::Authorized => fraud::RiskAction::Authorized,
        delegate_payment::RiskAction::Blocked => fraud::RiskAction::Blocked,
        delegate_payment::RiskAction::ManualReview => fraud::RiskAction::ManualReview,
    }
}
