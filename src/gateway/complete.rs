//! Complete: where a token is spent, from the admitted call to its answer, top to bottom.

use std::sync::Arc;

use http::StatusCode;

use super::call::Call;
use super::claim::{Claims, HeldClaim, Recorded, Settled};
use super::completion::{Completion, Ready};
use super::doubt::{Doubts, InDoubt, Resumed, renewed};
use super::events::{About, Events};
use super::evidence::is_charged_by;
use super::parts::{Books, Identities, owned, refuse_retired};
use super::refusal::{Internal, Refusal};
use super::replays::Replays;
use super::reply::Reply;
use super::risk::Risk;
use super::session_reads::Doubtful;
use super::sessions::Sessions;
use super::upstreams::Upstreams;
use super::way::Way;
use crate::acp::wire::complete::CompleteView;
use crate::acp::wire::session::handler_mark;
use crate::domain::id::{ClaimId, SessionId, TokenId};
use crate::domain::session::{HandlerMark, Moment, SessionKind, Settlement};
use crate::fraud::CardFingerprint;
use crate::idempotency::Operation;
use crate::ledger::{Ledger, RecordSet, Snapshot};
use crate::limit::Permit;
use crate::records::{Purpose, StoreError};
use crate::registry::Merchant;
use crate::telemetry::spans::Stage;

/// The flow of completes.
pub(super) struct Completes {
    pub identities: Arc<Identities>,
    pub books: Arc<Books>,
    pub upstreams: Arc<Upstreams>,
    pub replays: Arc<Replays>,
    pub sessions: Arc<Sessions>,
    pub doubts: Doubts,
    pub risk: Arc<Risk>,
    pub claims: Arc<Claims>,
    pub events: Arc<Events>,
}

/// What is asked, as far as the request itself says.
struct Asked {
    call: Call,
    merchant: Arc<Merchant>,
    session: SessionId,
    /// Judged after the session: what is paid, or nobody's, needs no token.
    token: Result<Option<TokenId>, Refusal>,
    pays_nothing: bool,
    handler: Option<HandlerMark>,
    operation: Operation,
    record_set: RecordSet,
}

/// How what is asked stands to what is known.
enum Standing {
    /// It was begun under its key, and no answer is kept. It may not begin anew where it is refused.
    InDoubt(InDoubt, Option<Refusal>),
    /// No claim is open for it.
    Fresh { earlier_claim: bool },
}

impl Completes {
    pub(super) async fn complete(
        &self,
        call: Call,
        merchant: Arc<Merchant>,
        session: SessionId,
    ) -> Result<Reply, Refusal> {
        // First what needs nobody: a body that cannot be used costs no I/O.
        let asked = Asked::read(call, merchant, session, &self.identities, &self.books.ledger)?;
        // Session, token and key in one look, so that all of this is decided on one state of them.
        let snapshot = self.session_of(&asked).await?;
        // The key before the session: an answer that was given stays given, whatever has become of the
        // session since.
        let conflict = StatusCode::UNPROCESSABLE_ENTITY;
        if let Some(reply) =
            self.replays.kept_answer(&asked.operation, snapshot.key_record(), conflict).await?
        {
            return Ok(reply);
        }
        // The session before the token: to mint another for one that is paid would only fail again.
        let (completion, standing) = asked.against(&snapshot, self.books.ledger.moment())?;
        // What was begun under this key may be finished by it, also where nothing new is admitted.
        let purpose = if snapshot.key().is_some() { Purpose::Finish } else { Purpose::Admit };
        self.replays
            .refuse_replayed_signature(
                &completion.call,
                &completion.operation,
                Some(&completion.merchant),
                purpose,
            )
            .await?;
        completion.call.trail.claim(&completion.claim);
        // Doubt before a fresh attempt: as long as nobody knows whether it charged, nothing new is sent.
        let (completion, snapshot, place) = match standing {
            Standing::Fresh { earlier_claim: false } => (completion, snapshot, None),
            Standing::Fresh { earlier_claim: true } => {
                let doubted =
                    snapshot.session().and_then(|session| session.was_doubted_at(&completion.claim));
                let is_left = doubted.is_some_and(|url| !self.upstreams.is_one_of(&completion.merchant, url));
                (renewed(completion, is_left)?, snapshot, None)
            }
            Standing::InDoubt(doubt, refused) => match Box::pin(self.doubts.resume(completion, doubt)).await?
            {
                Resumed::Answered(reply) => return Ok(reply),
                Resumed::Again(claim) => return Box::pin(self.forward_and_settle(*claim)).await,
                Resumed::Anew(completion, place) => {
                    if let Some(refusal) = refused {
                        return Err(refusal);
                    }
                    let snapshot = Box::new(self.books.ledger.load(&completion.record_set).await?);
                    (completion, snapshot, place)
                }
            },
        };
        // Before anything new begins. Behind doubt: what was begun before is found out whoever is stopped.
        refuse_retired(&completion.merchant)?;
        self.claims.desk.suspended.refuse_stopped(completion.card_movement(snapshot.token())).await?;
        self.upstreams.availability.refuse_unavailable(&completion.merchant)?;
        // Before the total is read: what was read before a change of primary decides nothing after it.
        let trusted = !self.books.ledger.store().may_have_forgotten();
        // A place and the total before the rules, which judge the amount.
        let ready = self.ready(completion, snapshot, place).await?;
        // The rules last: what is refused anyway is counted nowhere.
        let judging = ready.completion.call.trail.span(Stage::Rules);
        let (cleared, reservation) = self.risk.clear_complete(&ready.completion, &ready.snapshot).await?;
        drop(judging);
        // The last step that may refuse: from here on whatever happens is settled.
        let claim = match Box::pin(self.claims.begin(ready, &cleared)).await {
            Ok(claim) => claim,
            Err(refusal) => {
                Box::pin(reservation.release()).await;
                return Err(refusal);
            }
        };
        if trusted && self.books.ledger.store().may_have_forgotten() {
            Box::pin(reservation.release()).await;
            Box::pin(claim.withdraw()).await;
            return Err(Refusal::Store(StoreError::Unavailable));
        }
        reservation.commit();
        // A box of its own, as what comes before it: the whole is moved into its task, and wiped after.
        Box::pin(self.forward_and_settle(claim)).await
    }

    /// One look at session, token and key. A session that nobody has seen created may be adopted first.
    async fn session_of(&self, asked: &Asked) -> Result<Box<Snapshot>, Refusal> {
        let _looking = asked.call.trail.span(Stage::Look);
        let mut snapshot = self.books.ledger.load(&asked.record_set).await?;
        if snapshot.session().is_none() {
            Box::pin(self.sessions.adopt(&asked.call, &asked.merchant, &asked.session)).await?;
            snapshot = self.books.ledger.load(&asked.record_set).await?;
        }
        owned(snapshot.session(), &asked.call)?;
        Ok(Box::new(snapshot))
    }

    /// Leave to send, and the total of the session.
    async fn ready(
        &self,
        completion: Box<Completion>,
        mut snapshot: Box<Snapshot>,
        place: Option<Permit>,
    ) -> Result<Ready, Refusal> {
        let Completion { call, merchant, session, record_set, .. } = &*completion;
        // Before the total, because to read it takes a place as well.
        let mut place = Some(self.upstreams.place_again(call, merchant, place)?);
        if !self.sessions.knows_enough(owned(snapshot.session(), call)?, merchant) {
            Box::pin(self.sessions.ensure_total(call, merchant, session, &mut place)).await?;
            *snapshot = self.books.ledger.load(record_set).await?;
        }
        let place = self.upstreams.place_again(call, merchant, place)?;
        Ok(Ready { completion, snapshot, place })
    }

    /// Sends what the claim was begun for, settles it, tells what happened, and answers.
    async fn forward_and_settle(&self, mut claim: HeldClaim) -> Result<Reply, Refusal> {
        // A claim that is stopped when its bytes are about to leave is given back: nothing of this attempt
        // was sent.
        let (exchange, stopped) = claim.forward_claimed().await;
        let settling = claim.completion.call.trail.span(Stage::Settle);
        let Settled { completion, reply, recorded } = claim.settle(&exchange).await;
        drop(settling);
        // Only where that ended the claim: of an earlier attempt nobody knows what came.
        let is_over = recorded.as_ref().is_some_and(|it| it.attempted.settlement == Settlement::Released);
        if let Some(Recorded { attempted, ended, shown, declined_card }) = recorded {
            let about = About { merchant: &completion.merchant.id, session: &completion.session };
            self.events.attempted(about, completion.record_set.session_key(), &attempted, ended);
            if let Some(shown) = &shown {
                self.events.faulty(about, shown);
            }
            if let Some(card) = declined_card {
                Box::pin(self.risk.note_decline(&completion, &CardFingerprint::from_bytes(card))).await;
            }
        }
        stopped.filter(|_| is_over).map_or(reply, Err)
    }
}

impl Asked {
    fn read(
        call: Call,
        merchant: Arc<Merchant>,
        session: SessionId,
        identities: &Identities,
        ledger: &Ledger,
    ) -> Result<Self, Refusal> {
        let request = CompleteView::read(call.body()).map_err(|error| Refusal::of_body(&error))?;
        let pays_nothing = request.pays_nothing && merchant.free_orders;
        let token = if pays_nothing { Ok(None) } else { spent_token(&request) };
        let handler = request.handler_id.as_deref().map(handler_mark);
        let operation = call.operation(&identities.rings, Some(&merchant))?;
        let mut record_set =
            ledger.record_set(SessionKind::Checkout, &merchant.id, &session).with_key(&operation.scope);
        if let Ok(Some(token)) = &token {
            call.trail.token(token);
            record_set = record_set.with_token(token);
        }
        Ok(Self { call, merchant, session, token, pays_nothing, handler, operation, record_set })
    }

    /// How it stands to what is known of its session and key.
    fn against(self, snapshot: &Snapshot, moment: Moment) -> Result<(Box<Completion>, Standing), Refusal> {
        let claim = ClaimId::parse_shared(self.operation.upstream_key(snapshot.key()))
            .ok_or(Refusal::Internal(Internal::IdUnusable))?;
        let session = owned(snapshot.session(), &self.call)?;
        let is_charged = is_charged_by(session, &claim);
        if !is_charged {
            session.refuse_ended()?;
        }
        let standing = if session.claim.as_ref().is_some_and(|open| open.id == claim) {
            let doubtful = Doubtful::of(session, &claim, &self.merchant, moment);
            Standing::InDoubt(InDoubt::Open(doubtful), None)
        } else if is_charged {
            Standing::InDoubt(InDoubt::Charged(Way::of(session)), None)
        } else {
            Standing::Fresh { earlier_claim: snapshot.key().is_some() }
        };
        let Self { call, merchant, session, token, pays_nothing, handler, operation, record_set } = self;
        // What was begun is ended as it was, whatever the entry says now of completes without a token; only
        // to begin anew it is refused.
        let (token, standing) = match (token, standing) {
            (Ok(token), standing) => (token, standing),
            (Err(refusal), Standing::InDoubt(doubt, _)) => (None, Standing::InDoubt(doubt, Some(refusal))),
            (Err(refusal), Standing::Fresh { .. }) => return Err(refusal),
        };
        let completion = Completion {
            call,
            merchant,
            session,
            token,
            pays_nothing,
            handler,
            operation,
            record_set,
            claim,
        };
        Ok((Box::new(completion), standing))
    }
}

fn spent_token(request: &CompleteView) -> Result<Option<TokenId>, Refusal> {
    match (&request.token, request.is_purchase_order_only()) {
        // What is not of our shape was not minted here: no allowance stands behind it.
        (Some(_), _) => request.minted_token().map(Some).ok_or(Refusal::TokenUnknown),
        (None, true) => Ok(None),
        (None, false) => Err(Refusal::TokenMissing),
    }
}
