//! What the product promises, held against what has happened. It keeps its own books of claims,
//! charges and cards, from the answers alone, so that a rule and its record cannot be wrong together.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::names::Slot;
use super::operation::{Answer, Done, LIVE_TOKENS, Operation, What};
use super::world::World;
use crate::domain::clock::Timestamp;
use crate::domain::id::TokenId;
use crate::domain::money::Money;
use crate::domain::session::{Ending, Outcome, Redeemed, Settlement};
use crate::domain::token::{Instrument, MAX_ATTEMPTS, TokenState};
use crate::idempotency::KeyState;
use crate::token::REDEEM_REPLAY;

/// What has happened.
#[derive(Default)]
pub(super) struct Trace {
    open: BTreeMap<Slot, Open>,
    charged: BTreeSet<Slot>,
    consumed: BTreeSet<TokenId>,
    ended: BTreeSet<TokenId>,
    /// Claims that certainly were attempts at the token's card.
    tried: BTreeMap<TokenId, u8>,
    /// Every kind of answer there was.
    pub(super) seen: BTreeSet<String>,
}

/// A claim that has begun and not ended.
struct Open {
    checked: Money,
    redeemed_at: Option<Timestamp>,
}

impl Trace {
    /// Takes in one operation.
    pub(super) fn follow(
        &mut self,
        before: &World,
        operation: &Operation,
        answer: &Answer,
        after: &World,
        now: Timestamp,
    ) -> Result<(), TestCaseError> {
        self.seen.insert(label(answer));
        if let (Some(slot), Ok(done)) = (operation.slot, answer) {
            if before.session(slot, now).is_none() {
                prop_assert!(!self.open.contains_key(&slot), "a session was forgotten with its claim");
                self.charged.remove(&slot);
            }
            self.follow_done(before, operation, slot, done, now)?;
        }
        self.hold_tokens(after, now)?;
        self.hold_sessions(before, after, now)?;
        hold_answers(before, after, now)
    }

    fn follow_done(
        &mut self,
        before: &World,
        operation: &Operation,
        slot: Slot,
        done: &Done,
        now: Timestamp,
    ) -> Result<(), TestCaseError> {
        match (done, &operation.what) {
            (Done::Begun(begun), What::Begin { .. }) => {
                let open = Open { checked: begun.checked, redeemed_at: None };
                prop_assert!(self.open.insert(slot, open).is_none(), "two open claims");
                prop_assert!(!self.charged.contains(&slot), "begun on a charged session");
                if let Some(id) = &operation.token {
                    prop_assert!(!self.consumed.contains(id), "begun with a consumed token");
                    let tried = self.tried.get(id).copied().unwrap_or_default();
                    prop_assert!(tried < MAX_ATTEMPTS, "begun with a token that was tried {tried} times");
                    let cap = before.token(id, now).map(|token| token.allowance.cap);
                    prop_assert!(cap.is_some_and(|cap| begun.checked.fits_within(&cap).is_ok()));
                }
            }
            (Done::Begun(begun), _) => {
                let checked = self.open.get(&slot).map(|open| open.checked);
                prop_assert_eq!(checked, Some(begun.checked), "sent again for another amount");
                prop_assert!(!self.charged.contains(&slot), "sent again on a charged session");
            }
            (Done::Settled { settlement, ended }, _) => {
                if let Settlement::Charged | Settlement::Released = settlement {
                    let ended = self.open.remove(&slot);
                    prop_assert!(ended.is_some(), "a claim ended twice");
                    let recorded = Outcome::NotCharged { recorded: true };
                    let is_answered =
                        matches!(&operation.what, What::Settle { outcome, .. } if *outcome == recorded);
                    if is_answered || ended.is_some_and(|open| open.redeemed_at.is_some()) {
                        let held = before.session(slot, now).and_then(|session| session.claim.as_ref());
                        if let Some(id) = held.and_then(|claim| claim.token.clone()) {
                            *self.tried.entry(id).or_default() += 1;
                        }
                    }
                }
                if *settlement == Settlement::Charged {
                    prop_assert!(self.charged.insert(slot), "charged twice without an alarm");
                }
                if *ended {
                    let token = operation.token.clone();
                    prop_assert!(token.is_some_and(|token| self.ended.insert(token)), "ended twice");
                }
            }
            (Done::Redeemed(redeemed), What::Redeem { amount, .. }) => {
                let open = self.open.get_mut(&slot);
                prop_assert!(open.is_some(), "a card left without a claim");
                let Some(open) = open else { return Ok(()) };
                prop_assert!(amount.fits_within(&open.checked).is_ok(), "redeemed above what was checked");
                match (redeemed, open.redeemed_at) {
                    (Redeemed::First, None) => open.redeemed_at = Some(now),
                    (Redeemed::Again, Some(first)) => prop_assert!(now.since(first) < REDEEM_REPLAY),
                    (Redeemed::First, Some(_)) => prop_assert!(false, "a card left twice"),
                    (Redeemed::Again, None) => prop_assert!(false, "a card left again before it left"),
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn hold_sessions(&self, before: &World, after: &World, now: Timestamp) -> Result<(), TestCaseError> {
        for (slot, session) in after.sessions(now) {
            prop_assert_eq!(session.claim.is_some(), self.open.contains_key(slot));
            let held = session.claim.as_ref().and_then(|claim| Some((claim, claim.token.as_ref()?)));
            if let Some((claim, id)) = held
                && let Some(token) = after.token(id, now)
            {
                let holds = matches!(&token.state, TokenState::Claimed { claim: by } if *by == claim.id);
                // A charge that is learned late spends the token of whichever claim holds it now.
                prop_assert!(holds || self.consumed.contains(id), "a claim over {:?}", token);
            }
            let living = session.tokens.iter().filter(|(_, expiry)| now < *expiry).count();
            prop_assert!(living <= usize::try_from(LIVE_TOKENS).unwrap());
            let was_charged = before
                .session(*slot, now)
                .is_some_and(|session| matches!(session.ending, Some(Ending::Charged { .. })));
            let is_charged = matches!(session.ending, Some(Ending::Charged { .. }));
            prop_assert!(is_charged || !(was_charged || self.charged.contains(slot)), "a charge was undone");
        }
        Ok(())
    }

    fn hold_tokens(&mut self, after: &World, now: Timestamp) -> Result<(), TestCaseError> {
        for (id, token) in after.tokens(now) {
            let is_consumed = matches!(token.state, TokenState::Consumed { .. });
            if is_consumed {
                self.consumed.insert(id.clone());
            }
            prop_assert!(is_consumed || !self.consumed.contains(id), "a spent token came back: {:?}", token);
            if let TokenState::Claimed { claim } = &token.state {
                let mut open = after.sessions(now).filter_map(|(_, session)| session.claim.as_ref());
                let held = open.any(|open| open.id == *claim && open.token.as_ref() == Some(id));
                prop_assert!(held, "held by nothing: {:?}", token);
            }
            if let TokenState::Consumed { .. } | TokenState::Revoked { .. } = token.state {
                let gone = matches!(token.instrument, Instrument::Deleted);
                prop_assert!(gone, "a card outlived {:?}", token);
            }
        }
        Ok(())
    }
}

/// An answer once given is given again for as long as its key is remembered.
fn hold_answers(before: &World, after: &World, now: Timestamp) -> Result<(), TestCaseError> {
    for (name, record) in before.keys(now) {
        if let KeyState::Recorded(_) = &record.state {
            prop_assert_eq!(after.key(name, now).map(|record| &record.state), Some(&record.state));
        }
    }
    Ok(())
}

/// The kind of an answer.
fn label(answer: &Answer) -> String {
    match answer {
        Ok(Done::Settled { settlement, .. }) => format!("{settlement:?}"),
        Ok(Done::Redeemed(redeemed)) => format!("Redeemed {redeemed:?}"),
        Ok(Done::Revoked(revoked)) => format!("Revoked {revoked:?}"),
        Ok(Done::Drawn { earlier, .. }) => format!("Drawn earlier: {earlier}"),
        Ok(Done::Begun(begun)) if begun.attempt > 1 => "Reentered".to_owned(),
        Ok(Done::Begun(_)) => "Begun".to_owned(),
        Ok(Done::Mutating(_)) => "Mutating".to_owned(),
        other => format!("{other:?}"),
    }
}
