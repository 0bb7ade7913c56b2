//! `delegate_payment`: a card in, a token out.
//!
//! The key's record holds the token id before the token exists, and the token is inserted only if
//! that id is absent: every point at which the process can die may be run again and leads to the
//! same token (rfc.delegate_payment §5.3).

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use super::call::Call;
use super::parts::{Books, Desk, Identities, owned, owned_mut, refuse_retired};
use super::refusal::{Internal, Refusal};
use super::replays::Replays;
use super::reply::Reply;
use super::risk::Risk;
use super::suspended::Movement;
use crate::acp::problem::Problem;
use crate::acp::wire::delegate_payment::{self, DelegatePayment};
use crate::crypto::random;
use crate::domain::allowance::Allowance;
use crate::domain::clock::Timestamp;
use crate::domain::id::{MerchantId, SessionId, TOKEN_RANDOM_CHARS, TokenId};
use crate::domain::money::Money;
use crate::domain::session::{Moment, SessionKind, TooManyTokens};
use crate::domain::token::{Token, TokenState};
use crate::fraud::{self, CardFingerprint, MintAttempt};
use crate::idempotency::{KeyRecord, KeyState, LeaseMark, Operation, Taken};
use crate::ledger::{Done, Records, lease};
use crate::merchant::{Countersigner, grant};
use crate::records::codec::Loaded;
use crate::records::{Durability, Purpose, StoreError};
use crate::registry::Merchant;
use crate::telemetry::spans::Stage;
use crate::token::{LONGEST_LIFE, PaymentToken, UnsealedError, Vault};

/// The flow of mints.
pub(super) struct Mints {
    pub identities: Arc<Identities>,
    pub books: Arc<Books>,
    pub replays: Arc<Replays>,
    pub risk: Arc<Risk>,
    pub vault: Arc<Vault>,
    pub countersigner: Arc<Countersigner>,
    /// How requests are read.
    pub settings: crate::acp::Settings,
    pub desk: Arc<Desk>,
}

/// A mint on its way.
struct Mint<'m> {
    call: &'m Call,
    request: &'m DelegatePayment,
    merchant: &'m Arc<Merchant>,
    session: &'m SessionId,
    operation: &'m Operation,
    card: &'m CardFingerprint,
}

/// A token's id, drawn before anything else happens.
struct Drawn {
    id: TokenId,
    /// An earlier try with the key drew it, and may have got further.
    earlier: bool,
}

impl Mints {
    pub(super) async fn delegate_payment(
        &self,
        call: Call,
        named: Option<MerchantId>,
    ) -> Result<Reply, Refusal> {
        let ledger = &self.books.ledger;
        let now = self.desk.clock.now();
        let scope = named.as_ref().map(|id| self.identities.merchant(id)).transpose()?;
        let operation = call.operation(&self.identities.rings, scope.as_deref())?;
        let conflict = call.version.delegate_conflict_status();
        // The key first: an answer that was given stays given, though the allowance has expired since or
        // the repeat names another version (rfc.delegate_payment §5).
        let looking = call.trail.span(Stage::Look);
        let mut key = ledger.load_key(&operation.scope.record_key(None)).await?;
        drop(looking);
        if let Some(reply) = self.replays.kept_answer(&operation, Some(&key), conflict).await? {
            return Ok(reply);
        }
        // What the request says, before anything is asked of the store: a wrong one costs no more.
        let request =
            DelegatePayment::read(call.body(), call.version, self.desk.clock.latest(), &self.settings)
                .map_err(|mistakes| Refusal::Malformed(Box::new(Problem::of_mistakes(mistakes))))?;
        let merchant = self.merchant_of_allowance(&call, named.as_ref(), &request)?;
        refuse_retired(&merchant)?;
        self.desk.suspended.refuse_stopped(call.movement(&merchant.id)).await?;
        let session = SessionId::parse(&request.allowance.checkout_session_id).ok_or_else(no_such_session)?;
        call.trail.session(&session);
        call.trail.amount(cap(&request));
        refuse_beyond_policy(&call, &request, now)?;
        self.replays.refuse_replayed_signature(&call, &operation, scope.as_deref(), Purpose::Admit).await?;
        // The session must be there and the agent's: a token for one that is not could never be spent.
        let record_set = ledger.record_set(SessionKind::Checkout, &merchant.id, &session);
        let looking = call.trail.span(Stage::Look);
        owned(ledger.read(&record_set).await?.session.as_ref(), &call).map_err(|_| no_such_session())?;
        drop(looking);
        // The rules before anything is drawn; what they counted is released when nothing is minted.
        let card = CardFingerprint::of(&self.identities.rings.card_fingerprint, &request.card.number);
        let signals: Vec<_> = request.risk_signals.iter().map(|signal| risk_action(signal.action)).collect();
        let attempt =
            MintAttempt { agent: &call.agent, amount: cap(&request), card: &card, signals: &signals };
        let judging = call.trail.span(Stage::Rules);
        let reservation = self.risk.clear_mint(attempt).await?;
        drop(judging);
        let mint = Mint {
            call: &call,
            request: &request,
            merchant: &merchant,
            session: &session,
            operation: &operation,
            card: &card,
        };
        match self.mint(&mint, &mut key, now).await {
            Ok(reply) => {
                reservation.commit();
                self.desk.observer.metrics().token_event("minted");
                Ok(reply)
            }
            Err(refusal) => {
                reservation.release().await;
                Err(refusal)
            }
        }
    }

    /// Draws the id, inserts the token, records the answer: after each of them the next try goes on from
    /// there, so that a key leads to one token.
    async fn mint(
        &self,
        mint: &Mint<'_>,
        key: &mut Loaded<KeyRecord>,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let _minting = mint.call.trail.span(Stage::Mint);
        let lease = self.books.ledger.lease(lease::MINT)?;
        let Drawn { id, earlier } = self.draw(mint, key, lease).await?;
        mint.call.trail.token(&id);
        if earlier && let Some(token) = self.books.ledger.acknowledged_token(&id).await? {
            // That try died after its token was written: nothing is left to refuse.
            return self.record_minted(mint, &id, token.created_at, lease, key).await;
        }
        match self.insert(mint, &id, now).await {
            Ok(()) => self.record_minted(mint, &id, now, lease, key).await,
            // The token may exist: the key keeps its id, so that a repeat makes no second one.
            Err(refusal @ Refusal::Store(StoreError::Unacknowledged)) => Err(refusal),
            Err(refusal) => {
                // A refusal of ours binds no key: a corrected request may use it.
                self.books.ledger.forget_lease(&mint.operation.scope.record_key(None), lease).await;
                Err(refusal)
            }
        }
    }

    /// Takes the key's lease with a token id drawn in advance, or the id of an earlier try.
    async fn draw(
        &self,
        mint: &Mint<'_>,
        key: &mut Loaded<KeyRecord>,
        lease: LeaseMark,
    ) -> Result<Drawn, Refusal> {
        let tag = self.books.ledger.partitions().tag(&mint.merchant.id, mint.session);
        let drawn = TokenId::assemble(&tag, &random::base62(TOKEN_RANDOM_CHARS)?)
            .ok_or(Refusal::Internal(Internal::IdUnusable))?;
        let conflict = mint.call.version.delegate_conflict_status();
        let decide = |record: &mut Option<KeyRecord>, moment: Moment| {
            let taken = mint.operation.take(record, lease, None, moment);
            let Taken { record, .. } = taken.map_err(|refusal| Refusal::of_key(refusal, conflict))?;
            let earlier = record.token.is_some();
            let id = record.token.get_or_insert_with(|| drawn.clone()).clone();
            Ok(Drawn { id, earlier })
        };
        // Synced: the id must outlive whoever drew it, since a repeat that drew another would mint twice.
        self.books.ledger.transact_key(key, Purpose::Admit, Durability::Synced, decide).await?
    }

    /// Inserts the token, if its id is absent.
    async fn insert(&self, mint: &Mint<'_>, id: &TokenId, now: Timestamp) -> Result<(), Refusal> {
        let token = self.sealed_token(mint, id, now).await?;
        let (agent, expires_at) = (&mint.call.agent, token.allowance.expires_at);
        // Counted before it exists, so that mints in parallel cannot all pass under one limit.
        let allotments = &self.books.allotments;
        let now = self.desk.clock.earliest();
        if !allotments.reserve(&agent.id, expires_at, agent.live_tokens, now).await? {
            return Err(Refusal::TooManyTokens);
        }
        let ledger = &self.books.ledger;
        let record_set =
            ledger.record_set(SessionKind::Checkout, &mint.merchant.id, mint.session).with_token(id);
        let decide = |records: &mut Records, moment: Moment| {
            // An earlier try with this key got this far.
            if records.token.is_some() {
                return Ok(false);
            }
            let movement =
                Movement { card: Some(&token.card_fingerprint), ..mint.call.movement(&mint.merchant.id) };
            self.desk.suspended.refuse_known(movement)?;
            let session = owned_mut(records.session.as_mut(), mint.call).map_err(|_| no_such_session())?;
            if session.ending.is_some() {
                return Err(no_such_session());
            }
            session
                .add_token(id.clone(), expires_at, agent.live_tokens_per_session, moment.steady)
                .map_err(|TooManyTokens| Refusal::TooManyTokens)?;
            records.token = Some(token.clone());
            Ok(true)
        };
        let inserted = ledger.transact(&record_set, Purpose::Admit, Durability::Synced, decide).await;
        if !matches!(inserted, Ok(Ok(Done { decided: true, .. }))) {
            allotments.release(&agent.id, expires_at, self.desk.clock.earliest());
        }
        inserted?.map(drop)
    }

    async fn sealed_token(
        &self,
        mint: &Mint<'_>,
        id: &TokenId,
        now: Timestamp,
    ) -> Result<PaymentToken, Refusal> {
        let allowance = Allowance {
            agent: mint.call.agent.id.clone(),
            merchant: mint.merchant.id.clone(),
            session: mint.session.clone(),
            cap: cap(mint.request),
            expires_at: mint.request.allowance.expires_at,
        };
        let vault_json = mint.request.to_vault_json();
        let instrument = self
            .vault
            .seal(id, &vault_json.card, vault_json.perishable.as_ref(), allowance.expires_at)
            .await
            .map_err(|error| match error {
                UnsealedError::Key(error) => error.into(),
                UnsealedError::Cipher(error) => Refusal::Internal(Internal::CardNotSealed(error)),
            })?;
        let grant = grant::mint(&self.countersigner, id, &allowance, self.desk.clock.now())
            .map_err(|_| Refusal::Internal(Internal::GrantNotSigned))?;
        Ok(Token {
            id: id.clone(),
            allowance,
            created_at: now,
            instrument,
            grant,
            card_fingerprint: *mint.card.as_bytes(),
            state: TokenState::Active,
            attempts: 0,
            exposed: false,
            answered: 0,
        })
    }

    async fn record_minted(
        &self,
        mint: &Mint<'_>,
        id: &TokenId,
        created: Timestamp,
        lease: LeaseMark,
        key: &mut Loaded<KeyRecord>,
    ) -> Result<Reply, Refusal> {
        let sent_key = mint.call.key.as_ref().map_or("", |key| key.as_str());
        let DelegatePayment { metadata, allowance, .. } = mint.request;
        let body = delegate_payment::minted(id, created, metadata, &allowance.merchant_id, sent_key);
        let json = HeaderValue::from_static("application/json");
        let reply = Reply::bytes(StatusCode::CREATED, json, body, "minted");
        let kept = reply.seal(mint.operation)?;
        let decide = |record: &mut Option<KeyRecord>, _| {
            // What a store has forgotten in a failover is written again. Where another try has drawn
            // another id meanwhile, its answer is the key's.
            let record = record.get_or_insert_with(|| KeyRecord {
                token: Some(id.clone()),
                ..mint.operation.new_record(lease)
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
        };
        let recorded = self.books.ledger.transact_key(key, Purpose::Finish, Durability::Synced, decide).await;
        recorded.map_err(Refusal::unrecorded)??;
        Ok(reply)
    }

    /// The merchant a mint is for: the one of the path or host, or the one its allowance names.
    fn merchant_of_allowance(
        &self,
        call: &Call,
        named: Option<&MerchantId>,
        request: &DelegatePayment,
    ) -> Result<Arc<Merchant>, Refusal> {
        let candidates = self.identities.registry.merchants_by_allowance_id(&request.allowance.merchant_id);
        let mut usable = candidates
            .iter()
            .filter(|id| named.is_none_or(|named| named == *id) && call.agent.may_use(id))
            .filter_map(|id| self.identities.registry.merchant(id));
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
