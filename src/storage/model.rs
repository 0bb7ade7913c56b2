//! Random histories of the ledger, on any engine, against the domain on plain values.
//!
//! [`ledger_model!`] runs them. Apart from [`super::contract`] because what is tested is not one verb of
//! a store but that money is safe on all of them: every operation the gateway makes, in any order, at
//! once with others, over crashes and with answers that come late.
//!
//! Each operation is decided twice by the same pure function: by [`Ledger::transact`] on the engine
//! and by [`World`] on plain values. Answers must be equal, and so must all records whenever they
//! are compared. Operations at once must answer, and leave the records, as in one of their orders.
//! [`Trace`] follows what happened and holds it against what the product promises.

/// Makes the test of an engine. Takes the path of an async function that answers a
/// [`Fixture`] with an empty store, and, where the process can end and open the same records again,
/// of one that makes a fixture anew from an earlier one: then operations are also cut off in the
/// middle. Without it a crash is a new ledger over the same store.
macro_rules! ledger_model {
    ($open:path) => {
        ledger_model!($open, $crate::storage::model::kept_open, false);
    };
    ($open:path, $reopen:path) => {
        ledger_model!($open, $reopen, true);
    };
    ($open:path, $reopen:path, $ends:expr) => {
        #[test]
        fn any_history_of_the_ledger_goes_as_the_domain_decides() {
            let engine = $crate::storage::model::Engine { open: $open, reopen: $reopen, ends: $ends };
            $crate::storage::model::check(&engine);
        }

        #[test]
        fn any_history_in_which_formats_turn_goes_as_the_domain_decides() {
            let engine = $crate::storage::model::Engine { open: $open, reopen: $reopen, ends: $ends };
            $crate::storage::model::check_rolling(&engine);
        }
    };
}

mod broken;
mod memory;
mod names;
mod operation;
mod outside;
mod step;
mod trace;
mod world;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner, contextualize_config};
use tokio::task::JoinSet;

use self::operation::{Answer, Operation};
use self::outside::Outside;
use self::step::{Action, Step, opening, rolling_steps, steps};
use self::trace::Trace;
use self::world::{Snapshot, World};
use super::contract::Fixture;
use crate::ledger::{Ledger, Moment};
use crate::records::StoreError;
use crate::records::formats::{Formats, Written};

/// Histories an engine is put through, unless `PROPTEST_CASES` says otherwise.
const HISTORIES: u32 = 32;

/// An engine under test.
pub(super) struct Engine<Open, Reopen> {
    /// A new, empty store.
    pub(super) open: Open,
    /// The same records, after the process has ended.
    pub(super) reopen: Reopen,
    /// Reopening waits for, or cuts off, what was under way.
    pub(super) ends: bool,
}

/// The reopening of a store that outlives its processes.
pub(super) async fn kept_open<Guard>(fixture: Fixture<Guard>) -> Fixture<Guard> {
    fixture
}

/// Puts an engine through random histories; panics with the shortest that it fails.
pub(super) fn check<Guard, Opening, Reopening>(
    engine: &Engine<impl Fn() -> Opening, impl Fn(Fixture<Guard>) -> Reopening>,
) where
    Opening: Future<Output = Fixture<Guard>>,
    Reopening: Future<Output = Fixture<Guard>>,
{
    let runner = TestRunner::new(contextualize_config(config()));
    if let Err(error) = check_with(runner, engine, (Formats::NEWEST, steps()), |_| ()) {
        panic!("{error}");
    }
}

/// The same where older formats are written to begin with.
pub(super) fn check_rolling<Guard, Opening, Reopening>(
    engine: &Engine<impl Fn() -> Opening, impl Fn(Fixture<Guard>) -> Reopening>,
) where
    Opening: Future<Output = Fixture<Guard>>,
    Reopening: Future<Output = Fixture<Guard>>,
{
    let runner = TestRunner::new(contextualize_config(config()));
    if let Err(error) = check_with(runner, engine, (Formats::OLDER, rolling_steps()), |_| ()) {
        panic!("{error}");
    }
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: HISTORIES,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    }
}

/// As [`check`], with this runner, and with a look at what happened in each history.
fn check_with<Guard, Opening, Reopening>(
    mut runner: TestRunner,
    engine: &Engine<impl Fn() -> Opening, impl Fn(Fixture<Guard>) -> Reopening>,
    (written, steps): (Formats, impl Strategy<Value = Vec<Step>>),
    look: impl Fn(&Trace),
) -> Result<(), TestError<Vec<Step>>>
where
    Opening: Future<Output = Fixture<Guard>>,
    Reopening: Future<Output = Fixture<Guard>>,
{
    // One thread, so that what is at once interleaves the same way whenever a history is tried.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runner.run(&steps, |steps| {
        runtime.block_on(async {
            let fixture = (engine.open)().await;
            let trace = live_through(fixture, engine, written, &steps).await?;
            look(&trace);
            Ok(())
        })
    })
}

/// The model: what should be stored, what has happened, and what those outside wait for.
struct Model {
    written: Written,
    world: World,
    trace: Trace,
    outside: Outside,
}

impl Model {
    /// Does an operation on the plain values and holds what happened against the promises.
    fn apply(&mut self, operation: &Operation, moment: Moment) -> Result<Answer, TestCaseError> {
        self.apply_in(operation, moment, self.written.now())
    }

    fn apply_in(
        &mut self,
        operation: &Operation,
        moment: Moment,
        written: Formats,
    ) -> Result<Answer, TestCaseError> {
        let before = self.world.clone();
        let answer = self.world.apply(operation, moment, written);
        self.trace.follow(&before, operation, &answer, &self.world, moment.steady)?;
        self.outside.remember(operation, &answer);
        Ok(answer)
    }

    fn prepare(&mut self, action: &Action, moment: Moment) -> Option<Operation> {
        self.outside.prepare(action, &self.world, moment)
    }
}

async fn live_through<Guard, Reopening: Future<Output = Fixture<Guard>>>(
    mut fixture: Fixture<Guard>,
    engine: &Engine<impl Sized, impl Fn(Fixture<Guard>) -> Reopening>,
    begins_in: Formats,
    steps: &[Step],
) -> Result<Trace, TestCaseError> {
    let written = Written::new(begins_in);
    let ledger_of = |fixture: &Fixture<Guard>, written: Written| {
        Ledger::new(fixture.store.clone(), fixture.clock.clone()).writing(written)
    };
    let mut ledger = Arc::new(ledger_of(&fixture, written.clone()));
    let outside = Outside::of(&ledger, begins_in != Formats::NEWEST);
    let mut model =
        Model { written: written.clone(), world: World::default(), trace: Trace::default(), outside };
    for step in opening().iter().chain(steps) {
        let moment = ledger.moment();
        match step {
            Step::Alone(action) => {
                if let Some(operation) = model.prepare(action, moment) {
                    let answer = said(operation.execute(&ledger).await)?;
                    prop_assert_eq!(answer, model.apply(&operation, moment)?, "{:?}", operation);
                }
            }
            Step::AtOnce(actions) => {
                let operations: Vec<Operation> =
                    actions.iter().filter_map(|action| model.prepare(action, moment)).collect();
                at_once(&ledger, &mut model, &operations).await?;
            }
            Step::Crash(action, polls) => {
                let operation = action.as_ref().and_then(|action| model.prepare(action, moment));
                let answer = match &operation {
                    Some(operation) if engine.ends => cut_off(operation.execute(&ledger), *polls).await,
                    Some(operation) => Some(operation.execute(&ledger).await),
                    None => None,
                };
                drop(ledger);
                let was = fixture.store.identity();
                fixture = (engine.reopen)(fixture).await;
                let is = fixture.store.identity();
                prop_assert!(is.tag_key == was.tag_key, "the sessions have moved");
                prop_assert_eq!(is.incarnation > was.incarnation, engine.ends);
                ledger = Arc::new(ledger_of(&fixture, written.clone()));
                if let Some(operation) = operation {
                    all_or_nothing(&ledger, &mut model, &operation, answer, moment).await?;
                }
            }
            Step::Turn => written.set(Formats::NEWEST),
            Step::Behind(action) => {
                let behind = ledger_of(&fixture, Written::new(begins_in));
                if let Some(operation) = model.prepare(action, moment) {
                    let answer = said(operation.execute(&behind).await)?;
                    prop_assert_eq!(
                        answer,
                        model.apply_in(&operation, moment, begins_in)?,
                        "{:?}",
                        operation
                    );
                }
            }
            Step::Advance(by) => fixture.clock.advance(*by),
            Step::Sweep(limit) => {
                let swept = said(fixture.store.sweep(moment.steady, *limit).await)?;
                prop_assert!(swept <= *limit);
            }
            Step::Compare => compare(&ledger, &model).await?,
        }
    }
    compare(&ledger, &model).await?;
    Ok(model.trace)
}

/// Operations at once answer, and leave the records, as in one of their orders.
async fn at_once(
    ledger: &Arc<Ledger>,
    model: &mut Model,
    operations: &[Operation],
) -> Result<(), TestCaseError> {
    let moment = ledger.moment();
    let mut racers = JoinSet::new();
    for (index, operation) in operations.iter().cloned().enumerate() {
        let ledger = ledger.clone();
        racers.spawn(async move { (index, operation.execute(&ledger).await) });
    }
    let mut answers = racers.join_all().await;
    answers.sort_unstable_by_key(|(index, _)| *index);
    let answers: Vec<Answer> =
        answers.into_iter().map(|(_, answer)| said(answer)).collect::<Result<_, _>>()?;
    let stored = Snapshot::of_store(ledger).await?;
    let mut explained = None;
    for order in orders(operations.len()) {
        let mut world = model.world.clone();
        let written = model.written.now();
        let in_order = order.iter().all(|at| world.apply(&operations[*at], moment, written) == answers[*at]);
        if in_order && world.snapshot(ledger) == stored && world.compare_lookups(ledger).await.is_ok() {
            explained = Some(order);
            break;
        }
    }
    let Some(order) = explained else {
        return Err(TestCaseError::fail(format!(
            "no order explains the answers {answers:#?} to {operations:#?} over {:#?}\nwith {stored:#?}",
            model.world.snapshot(ledger)
        )));
    };
    for at in order {
        _ = model.apply(&operations[at], moment)?;
    }
    Ok(())
}

/// Every order of so many operations.
fn orders(count: usize) -> Vec<Vec<usize>> {
    (0..count).fold(vec![vec![]], |shorter, next| {
        let places = |order: Vec<usize>| (0..=order.len()).map(move |place| (order.clone(), place));
        let with_next = |(mut order, place): (Vec<usize>, usize)| {
            order.insert(place, next);
            order
        };
        shorter.into_iter().flat_map(places).map(with_next).collect()
    })
}

/// What was under way when the process ended was done or was not done; if it was answered, it was.
async fn all_or_nothing(
    ledger: &Ledger,
    model: &mut Model,
    operation: &Operation,
    answer: Option<Result<Answer, StoreError>>,
    begun_in: Moment,
) -> Result<(), TestCaseError> {
    let stored = Snapshot::of_store(ledger).await?;
    if answer.is_none() && stored == model.world.snapshot(ledger) {
        return Ok(());
    }
    let expected = model.apply(operation, begun_in)?;
    if let Some(answer) = answer {
        prop_assert_eq!(said(answer)?, expected, "{:?}", operation);
    } else {
        // Nobody was told: nothing was sent, and nothing is answered late.
        model.outside.forget(operation);
    }
    prop_assert_eq!(stored, model.world.snapshot(ledger), "cut off: {:?}", operation);
    Ok(())
}

/// Gives a future so many turns, then drops it; its output, if it came to one.
async fn cut_off<T>(future: impl Future<Output = T>, turns: usize) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..turns {
        let turn = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        if let Poll::Ready(output) = turn {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Every record reads as the model has it: walked through, looked up, and due.
async fn compare(ledger: &Ledger, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(Snapshot::of_store(ledger).await?, model.world.snapshot(ledger));
    model.world.compare_lookups(ledger).await
}

/// No store here has a reason not to answer.
fn said<T>(answer: Result<T, StoreError>) -> Result<T, TestCaseError> {
    answer.map_err(|error| TestCaseError::fail(format!("the store failed: {error}")))
}
