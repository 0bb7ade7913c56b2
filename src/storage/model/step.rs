//! The steps of a history, as they are drawn and shrunk. A step names what it is about by how
//! recently that came up, so that a shorter history still means something.

use std::time::Duration;

use proptest::prelude::*;

use super::names::{Agent, Slot, dollars, euros, total};
use crate::domain::money::Money;
use crate::domain::session::{Evidence, Lifecycle, Outcome, SessionTotal};

/// Steps of a history at most.
const LONGEST: usize = 80;

/// One step.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// One operation.
    Alone(Action),
    /// Operations executed at the same time.
    AtOnce(Vec<Action>),
    /// The process ends, after so many turns of an operation, and another goes on.
    Crash(Option<Action>, usize),
    /// Time passes.
    Advance(Duration),
    /// Records that have ended are deleted.
    Sweep(usize),
    /// All records are compared.
    Compare,
    /// From now on records are written in the newest formats.
    Turn,
    /// One operation, of a replica that has not noticed that.
    Behind(Action),
}

/// Which of the merchant's base URLs shows something.
#[derive(Clone, Copy, Debug)]
pub(super) enum By {
    /// The one at which claims are.
    Same,
    /// One that may lag behind it.
    Standby,
}

/// Places before the newest of its kind.
pub(super) type Back = usize;

/// An operation before it is known what it rests on.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Own { slot: Slot, agent: Agent, total: Option<SessionTotal> },
    Create { agent: Agent, key: u8, body: u8 },
    Created { create: Back, keep: bool },
    Draw { slot: Slot, agent: Agent, key: u8, body: u8 },
    Mint { drawn: Option<Back>, slot: Slot, agent: Agent, cap: Money, life: Duration },
    Minted { mint: Back, keep: bool },
    Mutate { slot: Slot, agent: Agent, key: u8, body: u8 },
    Mutated { mutation: Back, shown: Option<(Lifecycle, Option<SessionTotal>)>, keep: bool },
    Look { slot: Slot },
    Shown { look: Option<Back>, slot: Slot, lifecycle: Lifecycle, total: Option<SessionTotal>, by: By },
    Check { slot: Slot, lifecycle: Lifecycle, by: By },
    Begin { slot: Slot, agent: Agent, token: Option<Back>, key: u8, body: u8, drawn: bool },
    Reenter { attempt: Back, shown: Option<SessionTotal> },
    Settle { attempt: Back, outcome: Outcome, total: Option<SessionTotal>, keep: bool },
    Synthesise { attempt: Back },
    Redeem { attempt: Back, token: Option<Back>, amount: Money, every_claim: bool },
    Revoke { token: Back, agent: Agent },
    Resolve { slot: Slot, evidence: Evidence },
    Postpone { slot: Slot },
}

/// What every history begins with: a session and a token for it.
pub(super) fn opening() -> [Step; 2] {
    let (slot, agent) = (Slot::Main, Agent::One);
    [
        Step::Alone(Action::Own { slot, agent, total: Some(total(dollars(1000))) }),
        Step::Alone(Action::Mint {
            drawn: None,
            slot,
            agent,
            cap: dollars(1000),
            life: Duration::from_secs(3600),
        }),
    ]
}

/// Steps in which records are written in the newest formats all the time.
pub(super) fn steps() -> BoxedStrategy<Vec<Step>> {
    let steps = prop::collection::vec(step(), 1..LONGEST);
    (any::<bool>(), steps)
        .prop_map(|(is_second, steps)| {
            let earlier = if is_second { declined().to_vec() } else { vec![] };
            earlier.into_iter().chain(steps).collect()
        })
        .boxed()
}

/// A purchase whose card was fetched and declined: by drawn steps alone few come to a second one.
fn declined() -> [Step; 3] {
    let (slot, agent, token) = (Slot::Main, Agent::One, Some(0));
    let total = Some(total(dollars(1000)));
    let outcome = Outcome::NotCharged { recorded: true };
    [
        Action::Begin { slot, agent, token, key: 0, body: 0, drawn: false },
        Action::Redeem { attempt: 0, token: None, amount: dollars(1000), every_claim: false },
        Action::Settle { attempt: 0, outcome, total, keep: true },
    ]
    .map(Step::Alone)
}

/// Steps in which older formats are written to begin with.
pub(super) fn rolling_steps() -> BoxedStrategy<Vec<Step>> {
    let step = prop_oneof![
        40 => step(),
        1 => Just(Step::Turn),
        4 => action().prop_map(Step::Behind),
    ];
    prop::collection::vec(step, 1..LONGEST).boxed()
}

fn step() -> BoxedStrategy<Step> {
    let together = prop_oneof![
        3 => prop::collection::vec(action(), 2..=3),
        // The same again, as of two that race for one thing.
        1 => action().prop_map(|action| vec![action.clone(), action]),
    ];
    prop_oneof![
        24 => action().prop_map(Step::Alone),
        8 => together.prop_map(Step::AtOnce),
        1 => (prop::option::of(action()), 0..4_usize).prop_map(|(action, turns)| Step::Crash(action, turns)),
        4 => time().prop_map(Step::Advance),
        1 => (0..4_usize).prop_map(Step::Sweep),
        2 => Just(Step::Compare),
    ]
    .boxed()
}

fn time() -> impl Strategy<Value = Duration> {
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    prop_oneof![
        6 => (1..30_000_u64).prop_map(Duration::from_millis),
        // The ends of leases and attempts, the grace, the redeem replay window.
        4 => prop::sample::select(vec![39, 40, 41, 60, 61]).prop_map(Duration::from_secs),
        2 => (60..4_000_u64).prop_map(Duration::from_secs),
        // Beyond what keys, tokens and sessions are kept.
        1 => prop::sample::select(vec![days(2), days(10), days(38), days(91)]),
    ]
}

fn checkout() -> impl Strategy<Value = Slot> {
    prop_oneof![6 => Just(Slot::Main), 1 => Just(Slot::Elsewhere)]
}

fn slot() -> impl Strategy<Value = Slot> {
    prop_oneof![6 => checkout(), 1 => Just(Slot::Cart)]
}

fn agent() -> impl Strategy<Value = Agent> {
    prop_oneof![8 => Just(Agent::One), 1 => Just(Agent::Two)]
}

fn back() -> impl Strategy<Value = Back> {
    prop_oneof![5 => Just(0_usize), 2 => 0..8_usize]
}

fn body() -> impl Strategy<Value = u8> {
    prop_oneof![8 => Just(0_u8), 1 => Just(1_u8)]
}

fn amount() -> impl Strategy<Value = Money> {
    let most = prop::sample::select(vec![1000, 500, 1001, 2000]);
    prop_oneof![8 => most.prop_map(dollars), 1 => Just(euros(900))]
}

fn shown_total() -> impl Strategy<Value = Option<SessionTotal>> {
    let both = |settlement| SessionTotal { presentment: Some(euros(900)), ..total(settlement) };
    prop_oneof![
        6 => Just(Some(total(dollars(1000)))),
        2 => amount().prop_map(|amount| Some(total(amount))),
        1 => amount().prop_map(move |amount| Some(both(amount))),
        1 => Just(None),
    ]
}

fn lifecycle() -> impl Strategy<Value = Lifecycle> {
    prop_oneof![
        4 => Just(Lifecycle::Open),
        1 => Just(Lifecycle::Working),
        1 => Just(Lifecycle::Unknown),
        1 => Just(Lifecycle::Completed),
        1 => Just(Lifecycle::Closed),
    ]
}

fn by() -> impl Strategy<Value = By> {
    prop_oneof![4 => Just(By::Same), 1 => Just(By::Standby)]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::NotCharged { recorded: true }),
        1 => Just(Outcome::NotCharged { recorded: false }),
        1 => Just(Outcome::Refused),
        1 => Just(Outcome::Pending),
        2 => Just(Outcome::InDoubt),
        2 => Just(Outcome::Charged),
    ]
}

fn action() -> BoxedStrategy<Action> {
    prop_oneof![2 => session_action(), 2 => key_action(), 6 => claim_action(), 3 => token_action()].boxed()
}

/// Sessions and what is seen of them.
fn session_action() -> BoxedStrategy<Action> {
    prop_oneof![
        2 => (slot(), agent(), shown_total())
            .prop_map(|(slot, agent, total)| Action::Own { slot, agent, total }),
        2 => (slot(), agent(), 0..2_u8, body())
            .prop_map(|(slot, agent, key, body)| Action::Mutate { slot, agent, key, body }),
        2 => (back(), prop::option::of((lifecycle(), shown_total())), any::<bool>())
            .prop_map(|(mutation, shown, keep)| Action::Mutated { mutation, shown, keep }),
        1 => checkout().prop_map(|slot| Action::Look { slot }),
        6 => (prop::option::of(back()), checkout(), lifecycle(), shown_total(), by())
            .prop_map(|(look, slot, lifecycle, total, by)| Action::Shown { look, slot, lifecycle, total, by }),
    ]
    .boxed()
}

/// Keys that are not in a session's partition.
fn key_action() -> BoxedStrategy<Action> {
    prop_oneof![
        1 => (agent(), 0..2_u8, body()).prop_map(|(agent, key, body)| Action::Create { agent, key, body }),
        1 => (back(), any::<bool>()).prop_map(|(create, keep)| Action::Created { create, keep }),
        2 => (checkout(), agent(), 0..2_u8, body())
            .prop_map(|(slot, agent, key, body)| Action::Draw { slot, agent, key, body }),
        2 => (back(), any::<bool>()).prop_map(|(mint, keep)| Action::Minted { mint, keep }),
    ]
    .boxed()
}

fn claim_action() -> BoxedStrategy<Action> {
    let mostly_a_token = prop::option::weighted(0.9, back());
    prop_oneof![
        8 => (checkout(), agent(), mostly_a_token, 0..5_u8, body(), any::<bool>()).prop_map(
            |(slot, agent, token, key, body, drawn)| Action::Begin { slot, agent, token, key, body, drawn }
        ),
        1 => (back(), shown_total()).prop_map(|(attempt, shown)| Action::Reenter { attempt, shown }),
        6 => (back(), outcome(), shown_total(), any::<bool>())
            .prop_map(|(attempt, outcome, total, keep)| Action::Settle { attempt, outcome, total, keep }),
        1 => back().prop_map(|attempt| Action::Synthesise { attempt }),
        2 => (checkout(), lifecycle(), by())
            .prop_map(|(slot, lifecycle, by)| Action::Check { slot, lifecycle, by }),
        1 => checkout().prop_map(|slot| Action::Postpone { slot }),
        1 => (checkout(), prop::sample::select(vec![Evidence::Charged, Evidence::NotCharged]))
            .prop_map(|(slot, evidence)| Action::Resolve { slot, evidence }),
    ]
    .boxed()
}

fn token_action() -> BoxedStrategy<Action> {
    let life = prop::sample::select(vec![3600, 60, 600_000]).prop_map(Duration::from_secs);
    let other_token = prop::option::weighted(0.1, back());
    prop_oneof![
        3 => (prop::option::of(back()), checkout(), agent(), amount(), life)
            .prop_map(|(drawn, slot, agent, cap, life)| Action::Mint { drawn, slot, agent, cap, life }),
        5 => (back(), other_token, amount(), any::<bool>()).prop_map(
            |(attempt, token, amount, every_claim)| Action::Redeem { attempt, token, amount, every_claim }
        ),
        1 => (back(), agent()).prop_map(|(token, agent)| Action::Revoke { token, agent }),
    ]
    .boxed()
}
