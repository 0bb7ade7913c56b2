//! What those outside the store know and wait for.
//!
//! Attempts that were sent, mutations and mints under way, reads that have started. It outlives crashes:
//! an answer comes however late.

use std::time::Duration;

use super::names::{Agent, KeyName, Route, Slot, dollars};
use super::operation::{Answer, Done, Operation, What, key_id, sealed, shown_by};
use super::step::{Action, Back, By};
use super::world::World;
use crate::domain::allowance::Allowance;
use crate::domain::clock::Timestamp;
use crate::domain::id::{ClaimId, TokenId};
use crate::domain::money::Money;
use crate::domain::session::{Handlers, Observation, Session};
use crate::domain::token::{Instrument, Token, TokenState};
use crate::idempotency::{LeaseMark, StoredAnswer};
use crate::ledger::{Ledger, Moment};
use crate::token::PaymentToken;

/// How long a lease and an attempt last.
const LEASE: Duration = Duration::from_secs(40);

/// What is known outside.
pub(super) struct Outside {
    /// The partitions of the sessions that have tokens.
    tags: [(Slot, String); 2],
    drawn: u64,
    creates: Vec<(KeyName, LeaseMark)>,
    mints: Vec<(KeyName, LeaseMark, TokenId)>,
    mutations: Vec<(Slot, KeyName, LeaseMark, u64)>,
    looks: Vec<Look>,
    tokens: Vec<TokenId>,
    attempts: Vec<Attempt>,
    /// Older formats are written, in which a token's own record says which claim holds it.
    in_older_formats: bool,
}

/// A read of a session that has started.
#[derive(Clone)]
struct Look {
    slot: Slot,
    sequence: u64,
    asked_at: Timestamp,
}

/// A complete that was sent.
#[derive(Clone)]
struct Attempt {
    slot: Slot,
    agent: Agent,
    token: Option<TokenId>,
    key: KeyName,
    body: u8,
    claim: ClaimId,
    number: u32,
    lease: LeaseMark,
}

fn pick<T: Clone>(known: &[T], back: Back) -> Option<T> {
    let place = back.checked_rem(known.len())?;
    known.iter().rev().nth(place).cloned()
}

impl Outside {
    pub(super) fn of(ledger: &Ledger, in_older_formats: bool) -> Self {
        let tag = |slot: Slot| (slot, ledger.partitions().tag(&slot.merchant(), &slot.id()).to_string());
        Self {
            tags: [Slot::Main, Slot::Elsewhere].map(tag),
            drawn: 0,
            creates: vec![],
            mints: vec![],
            mutations: vec![],
            looks: vec![],
            tokens: vec![],
            attempts: vec![],
            in_older_formats,
        }
    }

    /// The operation of an action, with all it rests on; `None` when there is nothing to do it to.
    pub(super) fn prepare(&mut self, action: &Action, world: &World, moment: Moment) -> Option<Operation> {
        let now = moment.steady;
        let lease = self.lease(moment);
        Some(match action.clone() {
            Action::Own { slot, agent, total } => on_session(slot, None, What::Own { agent, total }),
            Action::Create { agent, key, body } => {
                let name = KeyName { route: Route::Create, slot: None, agent, number: key };
                on_key(name, What::Lease { lease, body })
            }
            Action::Created { create, keep } => {
                let (key, lease) = pick(&self.creates, create)?;
                on_key(key, What::Finish { lease, kept: self.answer(keep) })
            }
            Action::Draw { slot, agent, key, body } => {
                let name = KeyName { route: Route::Mint, slot: None, agent, number: key };
                on_key(name, What::Draw { id: self.draw_token(slot)?, lease, body })
            }
            Action::Mint { drawn, slot, agent, cap, life } => {
                let mint = drawn.and_then(|back| pick(&self.mints, back));
                let id = match mint {
                    Some((_, _, id)) => id,
                    None => self.draw_token(slot)?,
                };
                let slot = self.slot_of(&id)?;
                let minted = Box::new(token(&id, slot, agent, cap, now.plus(life), now));
                on_session(slot, Some(id), What::Insert { agent, minted })
            }
            Action::Minted { mint, keep } => {
                let (key, lease, _) = pick(&self.mints, mint)?;
                let kept = self.answer(keep);
                on_key(key, if keep { What::Finish { lease, kept } } else { What::Forget { lease } })
            }
            Action::Mutate { slot, agent, key, body } => {
                let key = Some(KeyName { route: Route::Mutate, slot: Some(slot), agent, number: key });
                Operation { key, ..on_session(slot, None, What::Mutate { agent, lease, body }) }
            }
            Action::Mutated { mutation, shown, keep } => {
                let (slot, key, lease, sequence) = pick(&self.mutations, mutation)?;
                let shown = shown.map(|(lifecycle, total)| Observation {
                    lifecycle,
                    total,
                    asked_at: now,
                    order: None,
                    shown_at: shown_by(By::Same),
                    handlers: Handlers::default(),
                });
                let what = What::EndMutation { lease, sequence, shown, kept: self.answer(keep) };
                Operation { key: Some(key), ..on_session(slot, None, what) }
            }
            Action::Look { slot } => {
                let session = world.session(slot, now)?;
                self.looks.push(Look { slot, sequence: session.sequence, asked_at: now });
                return None;
            }
            Action::Shown { look, slot, lifecycle, total, by } => {
                let look = match look {
                    Some(back) => pick(&self.looks, back)?,
                    None => Look { slot, sequence: world.session(slot, now)?.sequence, asked_at: now },
                };
                let token = world.session(look.slot, now).and_then(Session::token_at_stake).cloned();
                let shown = Observation {
                    lifecycle,
                    total,
                    asked_at: look.asked_at,
                    order: None,
                    shown_at: shown_by(by),
                    handlers: Handlers::default(),
                };
                on_session(look.slot, token, What::Observe { sequence: Some(look.sequence), shown })
            }
            Action::Check { slot, lifecycle, by } => {
                let shown = Observation {
                    lifecycle,
                    total: None,
                    asked_at: now,
                    order: None,
                    shown_at: shown_by(by),
                    handlers: Handlers::default(),
                };
                on_session(slot, claimed(world, slot, now), What::Observe { sequence: None, shown })
            }
            Action::Begin { slot, agent, token, key, body, drawn } => {
                let token = token.and_then(|back| pick(&self.tokens, back));
                let key = KeyName { route: Route::Complete, slot: Some(slot), agent, number: key };
                let claim = match world.key(&key, now) {
                    Some(_) if drawn => format!("drawn-{}", self.draw()),
                    Some(record) => record.upstream_key.to_string(),
                    None => format!("derived-{slot:?}-{agent:?}-{}", key.number),
                };
                // A key stands for one body, and a body names one token.
                let known = self.tokens.iter().position(|known| Some(known) == token.as_ref());
                let body = body + 2 * known.map_or(0, |place| u8::try_from(place + 1).unwrap());
                let limit = token.is_none().then_some(dollars(1000));
                let claim = ClaimId::parse(&claim).unwrap();
                let what = What::Begin { agent, claim, lease, body, limit };
                Operation { key: Some(key), ..on_session(slot, token, what) }
            }
            Action::Reenter { attempt, shown } => {
                let Attempt { slot, agent, token, key, body, claim, .. } = pick(&self.attempts, attempt)?;
                let what = What::Reenter { agent, claim, lease, body, shown };
                Operation { key: Some(key), ..on_session(slot, token, what) }
            }
            Action::Settle { attempt, outcome, total, keep } => {
                let Attempt { slot, token, key, claim, number, lease, .. } = pick(&self.attempts, attempt)?;
                // A claim's id comes again only once its key has ended, a day after it was used last: by then
                // nobody waits for an answer to the claim that had it first. In older formats one that came
                // all the same would leave the second claim's token as that claim's.
                let open = world.session(slot, now).and_then(|session| session.claim.as_ref());
                if self.in_older_formats && open.is_some_and(|open| open.id == claim && open.token != token) {
                    return None;
                }
                let kept = self.answer(keep);
                let what = What::Settle { claim, attempt: number, lease, outcome, total, kept };
                Operation { key: Some(key), ..on_session(slot, token, what) }
            }
            Action::Synthesise { attempt } => {
                let Attempt { slot, token, key, .. } = pick(&self.attempts, attempt)?;
                let kept = self.answer(true)?;
                Operation { key: Some(key), ..on_session(slot, token, What::Synthesise { kept }) }
            }
            Action::Redeem { attempt, token, amount, every_claim } => {
                let attempt = pick(&self.attempts, attempt)?;
                let token = token.and_then(|back| pick(&self.tokens, back)).or(attempt.token)?;
                let what = What::Redeem { claim: attempt.claim, amount, every_claim };
                on_session(self.slot_of(&token)?, Some(token), what)
            }
            Action::Revoke { token, agent } => {
                let token = pick(&self.tokens, token)?;
                on_session(self.slot_of(&token)?, Some(token), What::Revoke { agent })
            }
            Action::Resolve { slot, evidence } => {
                on_session(slot, claimed(world, slot, now), What::Resolve(evidence))
            }
            Action::Postpone { slot } => on_session(slot, None, What::Postpone),
        })
    }

    /// Notes what an operation has set off.
    pub(super) fn remember(&mut self, operation: &Operation, answer: &Answer) {
        let Operation { slot, token, key, what } = operation.clone();
        match (what, answer, slot, key) {
            (What::Lease { lease, .. }, Ok(_), _, Some(key)) => self.creates.push((key, lease)),
            (What::Draw { lease, .. }, Ok(Done::Drawn { id, .. }), _, Some(key)) => {
                self.mints.push((key, lease, id.clone()));
            }
            (What::Insert { minted, .. }, Ok(Done::Inserted), ..) => self.tokens.push(minted.id),
            (What::Mutate { lease, .. }, Ok(Done::Mutating(sequence)), Some(slot), Some(key)) => {
                self.mutations.push((slot, key, lease, *sequence));
            }
            (
                What::Begin { agent, claim, lease, body, .. }
                | What::Reenter { agent, claim, lease, body, .. },
                Ok(Done::Begun(begun)),
                Some(slot),
                Some(key),
            ) => {
                let number = begun.attempt;
                self.attempts.push(Attempt { slot, agent, token, key, body, claim, number, lease });
            }
            _ => {}
        }
    }

    /// Takes back what [`Self::remember`] noted of the last operation: nobody heard of it.
    pub(super) fn forget(&mut self, operation: &Operation) {
        match operation.what {
            What::Lease { .. } => drop(self.creates.pop()),
            What::Draw { .. } => drop(self.mints.pop()),
            What::Insert { .. } => drop(self.tokens.pop()),
            What::Mutate { .. } => drop(self.mutations.pop()),
            What::Begin { .. } | What::Reenter { .. } => drop(self.attempts.pop()),
            _ => {}
        }
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    fn lease(&mut self, moment: Moment) -> LeaseMark {
        let Moment { steady: now, incarnation, .. } = moment;
        LeaseMark { number: self.draw(), incarnation, until: now.plus(LEASE) }
    }

    /// An answer like no other.
    fn answer(&mut self, keep: bool) -> Option<StoredAnswer> {
        let body = sealed(&self.draw().to_be_bytes());
        keep.then_some(StoredAnswer { status: 200, content_type: None, body })
    }

    fn draw_token(&mut self, slot: Slot) -> Option<TokenId> {
        let random = format!("{:022}", self.draw());
        let (_, tag) = self.tags.iter().find(|(tagged, _)| *tagged == slot)?;
        TokenId::assemble(tag, &random)
    }

    fn slot_of(&self, token: &TokenId) -> Option<Slot> {
        self.tags.iter().find(|(_, tag)| tag == token.tag()).map(|(slot, _)| *slot)
    }
}

fn on_session(slot: Slot, token: Option<TokenId>, what: What) -> Operation {
    Operation { slot: Some(slot), token, key: None, what }
}

fn on_key(key: KeyName, what: What) -> Operation {
    Operation { slot: None, token: None, key: Some(key), what }
}

/// The token of the open claim.
fn claimed(world: &World, slot: Slot, now: Timestamp) -> Option<TokenId> {
    world.session(slot, now)?.claim.as_ref()?.token.clone()
}

fn token(
    id: &TokenId,
    slot: Slot,
    agent: Agent,
    cap: Money,
    expires_at: Timestamp,
    now: Timestamp,
) -> PaymentToken {
    let (agent, merchant, session) = (agent.id(), slot.merchant(), slot.id());
    Token {
        id: id.clone(),
        allowance: Allowance { agent, merchant, session, cap, expires_at },
        created_at: now,
        instrument: Instrument::Sealed { card: sealed(b"card"), perishable: Some(sealed(b"cvc")) },
        grant: key_id().as_str().to_owned(),
        card_fingerprint: [0; 32],
        state: TokenState::Active,
        attempts: 0,
        exposed: false,
        answered: 0,
    }
}
