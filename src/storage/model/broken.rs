//! Stores that break one promise each, to show that the model would find it out.
//!
//! And what the histories must have come by to be worth anything.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use byteview::ByteView;
use futures_util::future::Either;
use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};

use super::memory::{new_store, reopened};
use super::step::{Step, steps};
use super::trace::Trace;
use super::{Engine, check_with};
use crate::domain::clock::{ManualClock, Timestamp};
use crate::records::formats::Formats;
use crate::records::memory::MemoryStore;
use crate::records::{
    Batch, BoxFuture, Committed, Identity, Kind, Reading, Record, RecordKey, RecordStore, Revision,
    StoreError,
};
use crate::storage::contract::{Fixture, START};

/// How often what is broken only sometimes is broken.
const SOMETIMES: u64 = 5;

/// What a store does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Applies every batch, whoever was first.
    IgnoresExpectations,
    /// Sometimes answers what a record was before, as if it still were.
    AnswersWhatWas,
    /// Sometimes keeps the first write of a batch alone.
    KeepsHalfABatch,
    /// Sometimes acknowledges what it does not keep.
    LosesABatch,
    /// Goes by another clock than everybody else: nothing ends.
    StopsTheClock,
    /// Calls every process by the number of the first.
    NeverReincarnates,
}

struct Broken {
    fault: Fault,
    store: Arc<MemoryStore>,
    calls: Mutex<u64>,
    /// The last two states that were read of each record.
    was: Mutex<HashMap<RecordKey, (Revision, ByteView, ByteView)>>,
}

impl Broken {
    fn now_and_then(&self) -> bool {
        let mut calls = self.calls.lock();
        *calls += 1;
        calls.is_multiple_of(SOMETIMES)
    }

    /// The content before the last, under the revision of the last.
    fn age(&self, key: &RecordKey, record: &mut Record) {
        let mut was = self.was.lock();
        let (revision, last, before) = was
            .entry(key.clone())
            .or_insert_with(|| (record.revision, record.bytes.clone(), record.bytes.clone()));
        if *revision != record.revision {
            (*revision, *before) = (record.revision, std::mem::replace(last, record.bytes.clone()));
        }
        if self.now_and_then() {
            record.bytes = before.clone();
        }
    }
}

impl RecordStore for Broken {
    fn engine(&self) -> &'static str {
        "broken"
    }

    fn identity(&self) -> Identity {
        match self.fault {
            Fault::NeverReincarnates => Identity { incarnation: 1, ..self.store.identity() },
            _ => self.store.identity(),
        }
    }

    fn read<'a>(&'a self, keys: &'a [RecordKey]) -> Reading<'a> {
        Either::Right(Box::pin(async move {
            let mut records = self.store.read(keys).await?;
            if self.fault == Fault::AnswersWhatWas {
                for (key, record) in keys.iter().zip(&mut records) {
                    if let Some(record) = record {
                        self.age(key, record);
                    }
                }
            }
            Ok(records)
        }))
    }

    fn commit(&self, mut batch: Batch) -> BoxFuture<'_, Result<Committed, StoreError>> {
        match self.fault {
            Fault::IgnoresExpectations => batch.expect.clear(),
            Fault::KeepsHalfABatch if self.now_and_then() => batch.writes.truncate(1),
            Fault::LosesABatch if self.now_and_then() => batch.writes.clear(),
            _ => {}
        }
        self.store.commit(batch)
    }

    fn due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Timestamp, RecordKey)>, StoreError>> {
        self.store.due(now, limit)
    }

    fn scan<'a>(
        &'a self,
        kind: Kind,
        after: Option<&'a RecordKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(RecordKey, Record)>, StoreError>> {
        self.store.scan(kind, after, limit)
    }

    fn sweep(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.store.sweep(now, limit)
    }

    fn health(&self) -> Result<(), StoreError> {
        self.store.health()
    }
}

/// The same histories on every run.
fn runner(cases: u32) -> TestRunner {
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// The shortest history that finds a fault out.
fn found_out(fault: Fault) -> Vec<Step> {
    let open = || async move {
        let clock = Arc::new(ManualClock::new(START));
        let own = match fault {
            Fault::StopsTheClock => Arc::new(ManualClock::new(START)),
            _ => clock.clone(),
        };
        let (calls, was) = (Mutex::default(), Mutex::default());
        let store = Arc::new(MemoryStore::new(own));
        let broken = Broken { fault, store: store.clone(), calls, was };
        Fixture { store: Arc::new(broken), clock, _guard: store }
    };
    let engine = Engine { open, reopen: reopened, ends: true };
    match check_with(runner(64), &engine, (Formats::NEWEST, steps()), |_| ()) {
        Err(TestError::Fail(_, steps)) => steps,
        other => panic!("not found out: {other:?}"),
    }
}

#[test]
fn a_store_that_ignores_expectations_is_found_out_by_operations_at_once() {
    let steps = found_out(Fault::IgnoresExpectations);
    assert!(steps.iter().any(|step| matches!(step, Step::AtOnce(_))), "{steps:#?}");
    assert!(steps.len() <= 3, "shrunk to what a person can read: {steps:#?}");
}

#[test]
fn a_store_that_answers_what_was_is_found_out() {
    found_out(Fault::AnswersWhatWas);
}

#[test]
fn a_store_that_keeps_half_a_batch_is_found_out() {
    found_out(Fault::KeepsHalfABatch);
}

#[test]
fn a_store_that_loses_what_it_acknowledged_is_found_out() {
    found_out(Fault::LosesABatch);
}

#[test]
fn a_store_in_which_nothing_ends_is_found_out() {
    found_out(Fault::StopsTheClock);
}

#[test]
fn a_store_that_does_not_count_its_openings_is_found_out() {
    found_out(Fault::NeverReincarnates);
}

/// Answers that a payment gets, but for the rarest.
const TURNS: [&str; 38] = [
    "Begun",
    "Charged",
    "ChargedLate",
    "Drawn earlier: false",
    "Drawn earlier: true",
    "Err(Claim(AlreadyCharged))",
    "Err(Claim(CurrencyMismatch))",
    "Err(Claim(OverCap))",
    "Err(Claim(SessionBusy))",
    "Err(Claim(SessionClosed))",
    "Err(Claim(TokenClaimed))",
    "Err(Claim(TokenExpired))",
    "Err(Claim(TokenRevoked))",
    "Err(Claim(TotalUnknown))",
    "Err(Ended)",
    "Err(KeyAnswered)",
    "Err(KeyConflict)",
    "Err(KeyInFlight)",
    "Err(OwnedByAnother)",
    "Err(Redeem(AlreadyExposed))",
    "Err(Redeem(CurrencyMismatch))",
    "Err(Redeem(Expired))",
    "Err(Redeem(Gone))",
    "Err(Redeem(NoSuchClaim))",
    "Err(Redeem(OverChecked))",
    "Err(Redeem(Revoking))",
    "Err(Revoke(Consumed))",
    "Err(Revoke(InUse))",
    "Err(SessionBusy)",
    "Err(TooManyTokens)",
    "Held",
    "Redeemed Again",
    "Redeemed First",
    "Reentered",
    "Released",
    "Revoked Already",
    "Revoked Requested",
    "Stale",
];

#[test]
fn the_histories_come_by_every_turn_of_a_payment() {
    let seen = RefCell::new(BTreeSet::new());
    let engine = Engine { open: new_store, reopen: reopened, ends: true };
    let look = |trace: &Trace| seen.borrow_mut().extend(trace.seen.iter().cloned());
    check_with(runner(512), &engine, (Formats::NEWEST, steps()), look).unwrap();
    let seen = seen.into_inner();
    let missed: Vec<_> = TURNS.iter().filter(|turn| !seen.contains(**turn)).collect();
    assert!(missed.is_empty(), "no history came by {missed:?}");
}
