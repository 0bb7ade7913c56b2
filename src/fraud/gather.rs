//! Counting an operation and collecting the facts about it.
//!
//! What the rules then make of them is none of this file's business.

use super::velocity::{Counter, Velocity, Window};
use super::window::{Added, Member};
use super::{CardFingerprint, Facts, RiskAction, Settings};
use crate::crypto::digest::sha256_framed;
use crate::domain::clock::Timestamp;
use crate::domain::id::AgentId;
use crate::domain::money::{MinorUnits, Money};
use crate::idempotency::Scope;
use crate::records::StoreError;
use crate::registry::Agent;

/// A mint as it asks to begin.
#[derive(Clone, Copy)]
pub(crate) struct MintAttempt<'a> {
    /// Who mints.
    pub agent: &'a Agent,
    /// The allowance's largest amount.
    pub amount: Money,
    /// With which card.
    pub card: &'a CardFingerprint,
    /// What the agent itself signals.
    pub signals: &'a [RiskAction],
}

/// A complete as it asks to begin.
#[derive(Clone, Copy)]
pub(crate) struct CompleteAttempt<'a> {
    /// Who completes.
    pub agent: &'a Agent,
    /// The session's total.
    pub amount: Money,
    /// The token's card; `None` for a purchase order or a free one.
    pub card: Option<&'a CardFingerprint>,
    /// Names the operation: retries count once.
    pub operation: &'a Scope,
}

/// What an operation has counted so far. Hand it back when anything refuses the operation; keep it
/// once the operation has begun. Dropped, it counts as kept: an operation whose end nobody saw is
/// not forgotten before its window has passed.
#[must_use]
pub(crate) struct Reservation<'a> {
    velocity: &'a Velocity,
    counted: Vec<Counted>,
    now: Timestamp,
}

struct Counted {
    window: Window,
    member: Member,
    added: Added,
}

/// Counts a mint and gathers its facts.
///
/// # Errors
/// [`StoreError`] when the counters cannot be kept: the mint must then be refused.
pub(crate) async fn gather_mint<'a, 'v>(
    velocity: &'v Velocity,
    settings: &Settings,
    attempt: MintAttempt<'a>,
    now: Timestamp,
) -> Result<(Facts<'a>, Reservation<'v>), StoreError> {
    let agent = &attempt.agent.id;
    let testing = &settings.card_testing;
    let counts_cards = testing.review_above.or(testing.deny_above).is_some();
    let cards = counts_cards.then(|| Counter::CardsOfAgent(agent).over(testing.window));
    let sharing = &settings.shared_card;
    let agents =
        sharing.review_above.is_some().then(|| Counter::AgentsOfCard(attempt.card).over(sharing.window));

    let mut reservation = Reservation { velocity, counted: Vec::with_capacity(2), now };
    let (cards, agents, declines) = tokio::join!(
        add(velocity, cards, member_of(attempt.card.as_bytes()), now),
        add(velocity, agents, member_of(&sha256_framed(&[agent.as_str().as_bytes()])), now),
        declines(velocity, settings, agent, Some(attempt.card), now),
    );
    let cards_of_agent = reservation.note(cards);
    let agents_of_card = reservation.note(agents);
    let (cards_of_agent, agents_of_card, declines) = match (cards_of_agent, agents_of_card, declines) {
        (Ok(cards), Ok(agents), Ok(declines)) => (cards, agents, declines),
        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => {
            reservation.release().await;
            return Err(error);
        }
    };
    let facts = Facts {
        amount: attempt.amount,
        ceilings: &attempt.agent.token_ceiling,
        signals: attempt.signals,
        cards_of_agent,
        agents_of_card,
        declines,
        small_amounts: 0,
    };
    Ok((facts, reservation))
}

/// Counts a complete and gathers its facts.
///
/// # Errors
/// [`StoreError`] when the counters cannot be kept: the complete must then be refused.
pub(crate) async fn gather_complete<'a, 'v>(
    velocity: &'v Velocity,
    settings: &Settings,
    attempt: CompleteAttempt<'a>,
    now: Timestamp,
) -> Result<(Facts<'a>, Reservation<'v>), StoreError> {
    let agent = &attempt.agent.id;
    let small = &settings.small_amounts;
    // Where nothing is paid with nothing, no card is tried.
    let tries_a_card = attempt.card.is_some() || attempt.amount.amount != MinorUnits::ZERO;
    let counts = small.review_above.or(small.deny_above).is_some()
        && attempt.amount.amount.get() <= small.at_most
        && tries_a_card;
    let small = counts.then(|| Counter::SmallAmounts(agent).over(small.window));

    let mut reservation = Reservation { velocity, counted: Vec::with_capacity(1), now };
    let (small, declines) = tokio::join!(
        add(velocity, small, member_of(attempt.operation.as_bytes()), now),
        declines(velocity, settings, agent, attempt.card, now),
    );
    let (small_amounts, declines) = match (reservation.note(small), declines) {
        (Ok(small), Ok(declines)) => (small, declines),
        (Err(error), _) | (_, Err(error)) => {
            reservation.release().await;
            return Err(error);
        }
    };
    let facts = Facts {
        amount: attempt.amount,
        ceilings: &attempt.agent.token_ceiling,
        signals: &[],
        cards_of_agent: 0,
        agents_of_card: 0,
        declines,
        small_amounts,
    };
    Ok((facts, reservation))
}

/// Counts that a complete with this card was declined; the same operation once, however often its
/// outcome is learned.
///
/// # Errors
/// [`StoreError`]; the decline is then not counted, which changes nothing about the complete.
pub(crate) async fn record_decline(
    velocity: &Velocity,
    settings: &Settings,
    agent: &AgentId,
    card: &CardFingerprint,
    operation: &Scope,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(window) = declines_window(settings, agent, card) else { return Ok(()) };
    velocity.add(&window, member_of(operation.as_bytes()), now).await.map(drop)
}

impl Reservation<'_> {
    /// The operation has begun: what it counted stays.
    pub(crate) fn commit(self) {}

    /// The operation was refused: what it counted is taken back. What the store does not let go of
    /// is forgotten when its window has passed.
    pub(crate) async fn release(self) {
        for Counted { window, member, added } in self.counted {
            let _ = self.velocity.release(&window, member, added, self.now).await;
        }
    }

    /// Remembers what was counted and answers the count.
    fn note(&mut self, counted: Result<Option<Counted>, StoreError>) -> Result<u32, StoreError> {
        let Some(counted) = counted? else { return Ok(0) };
        let count = counted.added.count;
        self.counted.push(counted);
        Ok(count)
    }
}

async fn add(
    velocity: &Velocity,
    window: Option<Window>,
    member: Member,
    now: Timestamp,
) -> Result<Option<Counted>, StoreError> {
    let Some(window) = window else { return Ok(None) };
    let added = velocity.add(&window, member, now).await?;
    Ok(Some(Counted { window, member, added }))
}

async fn declines(
    velocity: &Velocity,
    settings: &Settings,
    agent: &AgentId,
    card: Option<&CardFingerprint>,
    now: Timestamp,
) -> Result<u32, StoreError> {
    match card.and_then(|card| declines_window(settings, agent, card)) {
        Some(window) => velocity.count(&window, now).await,
        None => Ok(0),
    }
}

fn declines_window(settings: &Settings, agent: &AgentId, card: &CardFingerprint) -> Option<Window> {
    let rule = &settings.declines;
    rule.review_above.or(rule.deny_above)?;
    Some(Counter::Declines(agent, card).over(rule.window))
}

/// Eight bytes of a digest: among a thousand members two of the same are not to be expected.
fn member_of(digest: &[u8]) -> Member {
    digest.first_chunk().copied().unwrap_or_default()
}
