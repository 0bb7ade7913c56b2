//! The operations of the gateway, one transaction each, with everything they rest on.
//!
//! What is decided is what `crate::gateway` decides, and depends on nothing but the records and the
//! present.

use std::time::Duration;

use super::names::{Agent, KeyName, Slot};
use super::step::By;
use crate::crypto::aead::Sealed;
use crate::domain::base_url::BaseUrl;
use crate::domain::id::{ClaimId, KeyId, TokenId};
use crate::domain::money::Money;
use crate::domain::session::{
    BeginClaim, BegunClaim, ClaimRefusal, Evidence, Handlers, Lifecycle, Observation, Outcome, Redeem,
    RedeemRefusal, Redeemed, RevokeRefusal, Revoked, Session, SessionTotal, Settlement, ShownAt, begin_claim,
    observe, redeem, reenter, resolve, revoke, settle,
};
use crate::idempotency::{self, KeyRecord, KeyState, LeaseMark, Peek, StoredAnswer};
use crate::ledger::{Ledger, Moment, Records};
use crate::records::{Durability, Purpose, StoreError};
use crate::token::{PaymentToken, REDEEM_REPLAY};

/// At which base URL something was shown.
pub(super) fn shown_by(by: By) -> ShownAt {
    let url = match by {
        By::Same => "https://shop.example",
        By::Standby => "https://standby.example",
    };
    ShownAt { url: BaseUrl::new(url), is_only: false, is_first: matches!(by, By::Same) }
}

/// A total older than this does not count.
const TOTAL_MAX_AGE: Duration = Duration::from_secs(600);
/// How long a claim in doubt is held although the session shows no order.
const GRACE: Duration = Duration::from_secs(60);
/// How long the merchant may be at work on what it was sent.
const AWAITED: Duration = Duration::from_secs(40);
/// Spendable tokens a session may have.
pub(super) const LIVE_TOKENS: u32 = 3;

/// One transaction.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// The session it is about; `None` when it is about the record of a key alone.
    pub(super) slot: Option<Slot>,
    /// The token it names.
    pub(super) token: Option<TokenId>,
    /// The key it is done under.
    pub(super) key: Option<KeyName>,
    pub(super) what: What,
}

/// What a transaction does.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// A create was answered, or a session adopted.
    Own { agent: Agent, total: Option<SessionTotal> },
    /// A create begins.
    Lease { lease: LeaseMark, body: u8 },
    /// A create ends, or a mint with its answer.
    Finish { lease: LeaseMark, kept: Option<StoredAnswer> },
    /// A mint begins.
    Draw { id: TokenId, lease: LeaseMark, body: u8 },
    /// A mint puts its token in.
    Insert { agent: Agent, minted: Box<PaymentToken> },
    /// A mint is refused.
    Forget { lease: LeaseMark },
    /// An update or cancel begins.
    Mutate { agent: Agent, lease: LeaseMark, body: u8 },
    /// It ends.
    EndMutation { lease: LeaseMark, sequence: u64, shown: Option<Observation>, kept: Option<StoredAnswer> },
    /// A read ends: with the sequence it started at when its total counts.
    Observe { sequence: Option<u64>, shown: Observation },
    /// A complete begins.
    Begin { agent: Agent, claim: ClaimId, lease: LeaseMark, body: u8, limit: Option<Money> },
    /// A complete in doubt is sent again.
    Reenter { agent: Agent, claim: ClaimId, lease: LeaseMark, body: u8, shown: Option<SessionTotal> },
    /// A complete was answered, or was not.
    Settle {
        claim: ClaimId,
        attempt: u32,
        lease: LeaseMark,
        outcome: Outcome,
        total: Option<SessionTotal>,
        kept: Option<StoredAnswer>,
    },
    /// A charge whose answer was lost gets another.
    Synthesise { kept: StoredAnswer },
    /// A merchant asks for the card.
    Redeem { claim: ClaimId, amount: Money, every_claim: bool },
    /// An agent withdraws a token.
    Revoke { agent: Agent },
    /// An operator ends doubt.
    Resolve(Evidence),
    /// The worker looks at a claim.
    Postpone,
}

/// What an operation says.
pub(super) type Answer = Result<Done, Refused>;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Done {
    Noted,
    Leased,
    Drawn {
        id: TokenId,
        earlier: bool,
    },
    Inserted,
    InsertedBefore,
    Mutating(u64),
    Begun(BegunClaim),
    /// `ended`: the token was live and is not any more.
    Settled {
        settlement: Settlement,
        ended: bool,
    },
    Redeemed(Redeemed),
    Revoked(Revoked),
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    SessionUnknown,
    SessionBusy,
    Ended,
    OwnedByAnother,
    TokenUnknown,
    TooManyTokens,
    KeyUnknown,
    KeyInFlight,
    KeyAnswered,
    KeyConflict,
    NoClaim,
    Claim(ClaimRefusal),
    Redeem(RedeemRefusal),
    Revoke(RevokeRefusal),
}

impl Operation {
    /// Through the ledger, on its store.
    pub(super) async fn execute(&self, ledger: &Ledger) -> Result<Answer, StoreError> {
        let (purpose, durability) = self.terms();
        let Some(slot) = self.slot else {
            let key = self.key.as_ref().unwrap().record_key(ledger);
            let decide = |record: &mut Option<KeyRecord>, moment| {
                let mut view = Records { session: None, token: None, key: record.take() };
                let decided = self.decide(&mut view, moment);
                *record = view.key;
                decided
            };
            let mut seen = ledger.load_key(&key).await?;
            return ledger.transact_key(&mut seen, purpose, durability, decide).await;
        };
        let mut address = slot.address(ledger);
        if let Some(token) = &self.token {
            address = address.with_token(token);
        }
        if let Some(key) = &self.key {
            address = address.with_key(&key.scope());
        }
        let decide = |view: &mut Records, moment| self.decide(view, moment);
        let done = ledger.transact(&address, purpose, durability, decide).await?;
        Ok(done.map(|done| done.decided))
    }

    fn terms(&self) -> (Purpose, Durability) {
        let purpose = match &self.what {
            What::Lease { .. }
            | What::Draw { .. }
            | What::Insert { .. }
            | What::Mutate { .. }
            | What::Begin { .. }
            | What::Reenter { .. } => Purpose::Admit,
            _ => Purpose::Finish,
        };
        let durability = match &self.what {
            What::Draw { .. } | What::Forget { .. } | What::Postpone => Durability::Applied,
            _ => Durability::Synced,
        };
        (purpose, durability)
    }

    /// The decision. Pure.
    pub(super) fn decide(&self, view: &mut Records, moment: Moment) -> Answer {
        let now = moment.steady;
        let was_live = view.has_live_token(now);
        let settlement = match &self.what {
            What::Own { agent, total } => {
                let slot = self.slot.unwrap();
                let new = || Session::new(slot.kind(), slot.merchant(), slot.id(), agent.id(), now);
                let session = view.session.get_or_insert_with(new);
                if session.owner != agent.id() {
                    return Err(Refused::OwnedByAnother);
                }
                session.note_total(0, *total, None, moment);
                return Ok(Done::Noted);
            }
            What::Lease { lease, body } => {
                take_key(&mut view.key, *lease, *body, moment)?;
                return Ok(Done::Leased);
            }
            What::Finish { lease, kept } => {
                finish(&mut view.key, *lease, kept.as_ref());
                return Ok(Done::Noted);
            }
            What::Draw { id, lease, body } => {
                let record = take_key(&mut view.key, *lease, *body, moment)?;
                let earlier = record.token.is_some();
                let id = record.token.get_or_insert_with(|| id.clone()).clone();
                return Ok(Done::Drawn { id, earlier });
            }
            What::Insert { agent, minted } => {
                if view.token.is_some() {
                    return Ok(Done::InsertedBefore);
                }
                let session = owned(view.session.as_mut(), *agent)?;
                if session.ending.is_some() {
                    return Err(Refused::Ended);
                }
                session
                    .add_token(minted.id.clone(), minted.allowance.expires_at, LIVE_TOKENS, now)
                    .map_err(|_| Refused::TooManyTokens)?;
                view.token = Some(PaymentToken::clone(minted));
                return Ok(Done::Inserted);
            }
            What::Forget { lease } => {
                view.key.take_if(|record| record.state == KeyState::Leased(*lease));
                return Ok(Done::Noted);
            }
            What::Mutate { agent, lease, body } => {
                let session = owned(view.session.as_mut(), *agent)?;
                refuse_unless_free(view.key.as_ref(), *body, moment)?;
                let sequence =
                    session.begin_mutation(moment, lease.until).map_err(|_| Refused::SessionBusy)?;
                take_key(&mut view.key, *lease, *body, moment)?;
                return Ok(Done::Mutating(sequence));
            }
            What::EndMutation { lease, sequence, shown, kept } => {
                finish(&mut view.key, *lease, kept.as_ref());
                match view.session.as_mut() {
                    None => Settlement::Stale,
                    Some(session) => {
                        let total = shown.as_ref().and_then(|shown| shown.total);
                        session.end_mutation(*sequence, total, None, now);
                        shown.as_ref().map_or(Settlement::Stale, |shown| {
                            observe::<()>(session, None, shown, GRACE, moment)
                        })
                    }
                }
            }
            What::Observe { sequence, shown } => {
                let session = view.session.as_mut().ok_or(Refused::SessionUnknown)?;
                if let Some(sequence) = sequence {
                    session.note_total(*sequence, shown.total, Some(&shown.shown_at.url), moment);
                }
                observe(session, view.token.as_mut(), shown, GRACE, moment)
            }
            What::Begin { agent, claim, lease, body, limit } => {
                let session = owned(view.session.as_mut(), *agent)?;
                refuse_unless_free(view.key.as_ref(), *body, moment)?;
                if self.token.is_some() && view.token.is_none() {
                    return Err(Refused::TokenUnknown);
                }
                let request = BeginClaim {
                    claim: claim.clone(),
                    agent: agent.id(),
                    total_max_age: TOTAL_MAX_AGE,
                    purchase_order_limit: *limit,
                    pays_nothing: false,
                    handler: None,
                    until: lease.until,
                    place: Some(shown_by(By::Same).url),
                };
                let begun =
                    begin_claim(session, view.token.as_mut(), &request, moment).map_err(Refused::Claim)?;
                let record = take_key(&mut view.key, *lease, *body, moment)?;
                record.upstream_key = claim.text().clone();
                record.request.get_or_insert_with(|| sealed(&[*body]));
                return Ok(Done::Begun(begun));
            }
            What::Reenter { agent, claim, lease, body, shown } => {
                let session = owned(view.session.as_mut(), *agent)?;
                refuse_unless_free(view.key.as_ref(), *body, moment)?;
                let record = view.key.as_mut().ok_or(Refused::KeyUnknown)?;
                let (lifecycle, asked_at) = (Lifecycle::Open, moment.steady);
                let shown = Observation {
                    lifecycle,
                    total: *shown,
                    asked_at,
                    order: None,
                    shown_at: shown_by(By::Same),
                    handlers: Handlers::default(),
                };
                let token = view.token.as_ref();
                let begun = reenter(session, token, claim, &shown, AWAITED, lease.until, moment)
                    .map_err(Refused::Claim)?;
                record.state = KeyState::Leased(*lease);
                return Ok(Done::Begun(begun));
            }
            What::Settle { claim, attempt, lease, outcome: read, total, kept } => {
                let session = view.session.as_mut().ok_or(Refused::SessionUnknown)?;
                let holds = view.key.as_ref().is_some_and(|record| record.state == KeyState::Leased(*lease));
                let outcome = match read {
                    Outcome::NotCharged { .. } | Outcome::Refused if !holds => Outcome::InDoubt,
                    outcome => *outcome,
                };
                let settlement = settle(session, view.token.as_mut(), claim, *attempt, outcome, moment);
                if total.is_some() {
                    session.note_total(session.sequence, *total, None, moment);
                }
                if let Some(record) = view.key.as_mut() {
                    keep_answer(record, *lease, settlement, *read, kept.as_ref());
                }
                settlement
            }
            What::Synthesise { kept } => {
                if let Some(record) = view.key.as_mut()
                    && !matches!(record.state, KeyState::Recorded(_))
                {
                    record.state = KeyState::Recorded(kept.clone());
                    record.request = None;
                }
                return Ok(Done::Noted);
            }
            What::Redeem { claim, amount, every_claim } => {
                let session = view.session.as_mut().ok_or(Refused::SessionUnknown)?;
                let token = view.token.as_ref().ok_or(Refused::TokenUnknown)?;
                let request = Redeem {
                    claim: claim.clone(),
                    amount: *amount,
                    replay_window: REDEEM_REPLAY,
                    every_claim: *every_claim,
                };
                return redeem(session, token, &request, moment).map(Done::Redeemed).map_err(Refused::Redeem);
            }
            What::Revoke { agent } => {
                let session = view.session.as_mut().ok_or(Refused::SessionUnknown)?;
                let token = view.token.as_mut().filter(|token| token.allowance.agent == agent.id());
                let token = token.ok_or(Refused::TokenUnknown)?;
                return revoke(session, token, moment).map(Done::Revoked).map_err(Refused::Revoke);
            }
            What::Resolve(evidence) => {
                let session = view.session.as_mut().ok_or(Refused::SessionUnknown)?;
                // As an observation: beside another token than the open claim's nothing is decided.
                let held = session.claim.as_ref().and_then(|claim| claim.token.as_ref());
                if held != view.token.as_ref().map(|token| &token.id) {
                    return Err(Refused::NoClaim);
                }
                let Some(claim) = session.claim.as_ref().map(|open| open.id.clone()) else {
                    return Err(Refused::NoClaim);
                };
                resolve(session, view.token.as_mut(), &claim, *evidence, moment)
                    .map_err(|_| Refused::NoClaim)?
            }
            What::Postpone => {
                let session = view.session.as_mut().ok_or(Refused::SessionUnknown)?;
                let claim = session.claim.as_mut().ok_or(Refused::NoClaim)?;
                claim.checks = claim.checks.saturating_add(1);
                return Ok(Done::Noted);
            }
        };
        Ok(Done::Settled { settlement, ended: view.ended(was_live, now).is_some() })
    }
}

fn owned(session: Option<&mut Session>, agent: Agent) -> Result<&mut Session, Refused> {
    session.filter(|session| session.owner == agent.id()).ok_or(Refused::SessionUnknown)
}

fn refuse_unless_free(record: Option<&KeyRecord>, body: u8, moment: Moment) -> Result<(), Refused> {
    match idempotency::peek(record, |record| record.fingerprint == [body; 32], moment) {
        Peek::Fresh | Peek::Resume => Ok(()),
        Peek::InFlight => Err(Refused::KeyInFlight),
        Peek::Replay(_) => Err(Refused::KeyAnswered),
        Peek::Conflict => Err(Refused::KeyConflict),
    }
}

fn take_key(
    record: &mut Option<KeyRecord>,
    lease: LeaseMark,
    body: u8,
    moment: Moment,
) -> Result<&mut KeyRecord, Refused> {
    refuse_unless_free(record.as_ref(), body, moment)?;
    let record = record.get_or_insert_with(|| KeyRecord {
        fingerprint: [body; 32],
        fingerprint_key: key_id(),
        upstream_key: "".into(),
        derivation_key: key_id(),
        state: KeyState::Open,
        request: None,
        token: None,
        kept: None,
    });
    record.state = KeyState::Leased(lease);
    Ok(record)
}

fn finish(record: &mut Option<KeyRecord>, lease: LeaseMark, kept: Option<&StoredAnswer>) {
    let held = record.as_mut().filter(|record| record.state == KeyState::Leased(lease));
    if let Some(record) = held {
        match kept {
            Some(answer) => {
                record.state = KeyState::Recorded(answer.clone());
                record.request = None;
            }
            None => record.state = KeyState::Open,
        }
    }
}

/// As a complete keeps it: see `crate::gateway`.
fn keep_answer(
    record: &mut KeyRecord,
    lease: LeaseMark,
    settlement: Settlement,
    outcome: Outcome,
    kept: Option<&StoredAnswer>,
) {
    let ours = record.state == KeyState::Leased(lease);
    let conclusive = match settlement {
        Settlement::Charged => !matches!(record.state, KeyState::Recorded(_)),
        Settlement::Released => ours,
        Settlement::Held => ours && outcome == Outcome::Pending,
        Settlement::ChargedLate | Settlement::Stale => ours && outcome == Outcome::Charged,
    };
    match kept.filter(|_| conclusive) {
        Some(answer) => {
            record.state = KeyState::Recorded(answer.clone());
            record.request = None;
        }
        None if ours => record.state = KeyState::Open,
        None => {}
    }
}

pub(super) fn key_id() -> KeyId {
    KeyId::parse("k1").unwrap()
}

/// Stands for something sealed.
pub(super) fn sealed(bytes: &[u8]) -> Sealed {
    Sealed { key: key_id(), bytes: bytes.to_vec().into() }
}
