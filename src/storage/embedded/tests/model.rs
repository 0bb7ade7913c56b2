//! Random histories, compared with a plain map.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use byteview::ByteView;
use proptest::prelude::*;
use tokio::task::JoinSet;

use super::*;
use crate::records::{Durability, Purpose, Revision, Write};
use crate::storage::contract::{START, key};

const LIMIT: usize = 100;

#[derive(Clone, Debug)]
enum Step {
    /// Batches committed at once.
    Commit(Vec<Vec<Part>>),
    Advance(u64),
    Sweep(usize),
    Reopen,
}

/// What a batch does with one key.
#[derive(Clone, Debug)]
struct Part {
    key: usize,
    expect: Expect,
    change: Change,
}

#[derive(Clone, Debug)]
enum Expect {
    Nothing,
    WhatIsThere,
    SomethingElse,
}

#[derive(Clone, Debug)]
enum Change {
    None,
    Put { bytes: u8, expires_in: Option<u64>, due_in: Option<u64> },
    Delete,
}

fn keys() -> Vec<RecordKey> {
    let kinds = [Kind::Token, Kind::Session];
    kinds.iter().flat_map(|kind| ["a", "b", "c"].map(|name| key(*kind, "p", name))).collect()
}

fn part() -> impl Strategy<Value = Part> {
    let expect = prop_oneof![
        4 => Just(Expect::WhatIsThere),
        2 => Just(Expect::Nothing),
        1 => Just(Expect::SomethingElse)
    ];
    let change = prop_oneof![
        1 => Just(Change::None),
        4 => (any::<u8>(), prop::option::of(0..6_u64), prop::option::of(0..6_u64))
            .prop_map(|(bytes, expires_in, due_in)| Change::Put { bytes, expires_in, due_in }),
        1 => Just(Change::Delete)
    ];
    (0..6_usize, expect, change).prop_map(|(key, expect, change)| Part { key, expect, change })
}

fn step() -> impl Strategy<Value = Step> {
    let batches = prop::collection::vec(prop::collection::vec(part(), 0..4), 1..4);
    prop_oneof![
        12 => batches.prop_map(Step::Commit),
        3 => (0..4_u64).prop_map(Step::Advance),
        2 => (0..3_usize).prop_map(Step::Sweep),
        1 => Just(Step::Reopen)
    ]
}

struct Kept {
    revision: Revision,
    bytes: ByteView,
    expires_at: Option<Timestamp>,
    due: Option<Timestamp>,
}

/// What the store should hold.
#[derive(Default)]
struct Model {
    records: BTreeMap<RecordKey, Kept>,
    last: Revision,
}

impl Model {
    fn alive(&self, key: &RecordKey, now: Timestamp) -> Option<&Kept> {
        self.records.get(key).filter(|kept| kept.expires_at.is_none_or(|at| now < at))
    }

    fn revision(&self, key: &RecordKey, now: Timestamp) -> Revision {
        self.alive(key, now).map_or(Revision::ABSENT, |kept| kept.revision)
    }

    fn commit(&mut self, batch: &Batch, now: Timestamp) -> bool {
        if batch.expect.iter().any(|(key, revision)| self.revision(key, now) != *revision) {
            return false;
        }
        for write in &batch.writes {
            match write {
                Write::Put { key, bytes, expires_at, due } => {
                    // The store's own revision is learnt when it is read.
                    let kept = Kept {
                        revision: Revision(u64::MAX),
                        bytes: bytes.clone(),
                        expires_at: *expires_at,
                        due: *due,
                    };
                    self.records.insert(key.clone(), kept);
                }
                Write::Delete { key } => drop(self.records.remove(key)),
            }
        }
        true
    }

    fn batch(&self, parts: &[Part], now: Timestamp) -> Batch {
        let keys = keys();
        let after = |millis: u64| now.plus(Duration::from_millis(millis));
        let expect = parts.iter().filter_map(|part| {
            let key = &keys[part.key];
            match part.expect {
                Expect::Nothing => None,
                Expect::WhatIsThere => Some((key.clone(), self.revision(key, now))),
                Expect::SomethingElse => Some((key.clone(), Revision(1))),
            }
        });
        let writes = parts.iter().filter_map(|part| {
            let key = keys[part.key].clone();
            match part.change {
                Change::None => None,
                Change::Put { bytes, expires_in, due_in } => Some(Write::Put {
                    key,
                    bytes: ByteView::new(&[bytes]),
                    expires_at: expires_in.map(after),
                    due: due_in.map(after),
                }),
                Change::Delete => Some(Write::Delete { key }),
            }
        });
        Batch {
            expect: expect.collect(),
            writes: writes.collect(),
            durability: Durability::Synced,
            purpose: Purpose::Admit,
        }
    }

    /// The store reads as the model has it; takes over the revisions of what is new.
    async fn compare(&mut self, store: &EmbeddedStore, now: Timestamp) {
        let keys = keys();
        let read = store.read(&keys).await.unwrap();
        let mut highest = self.last;
        for (key, record) in keys.iter().zip(&read) {
            assert_eq!(record.as_ref().map(|r| &r.bytes), self.alive(key, now).map(|kept| &kept.bytes));
            let Some(record) = record else { continue };
            let kept = self.records.get_mut(key).unwrap();
            if kept.revision == Revision(u64::MAX) {
                assert!(record.revision > self.last, "a revision came twice");
                kept.revision = record.revision;
            }
            assert_eq!(record.revision, kept.revision);
            highest = highest.max(record.revision);
        }
        self.last = highest;
        for kind in [Kind::Token, Kind::Session] {
            let scanned = store.scan(kind, None, LIMIT).await.unwrap();
            let scanned: Vec<RecordKey> = scanned.into_iter().map(|(key, _)| key).collect();
            let alive = self.records.keys().filter(|key| key.kind == kind && self.alive(key, now).is_some());
            assert_eq!(scanned, alive.cloned().collect::<Vec<_>>());
        }
        let mut due: Vec<(Timestamp, RecordKey)> = Vec::new();
        for key in self.records.keys() {
            if let Some(at) = self.alive(key, now).and_then(|kept| kept.due).filter(|at| *at <= now) {
                due.push((at, key.clone()));
            }
        }
        due.sort();
        assert_eq!(store.due(now, LIMIT).await.unwrap(), due);
    }
}

async fn run(steps: Vec<Step>) {
    let directory = scratch();
    let clock = Arc::new(ManualClock::new(START));
    let mut store = Arc::new(open(directory.path(), &clock));
    let mut model = Model::default();
    for step in steps {
        let now = clock.now();
        match step {
            Step::Commit(batches) => {
                let batches: Vec<Batch> = batches.iter().map(|parts| model.batch(parts, now)).collect();
                let mut commits = JoinSet::new();
                for (index, batch) in batches.iter().cloned().enumerate() {
                    let store = store.clone();
                    commits.spawn(async move { (index, store.commit(batch).await.unwrap()) });
                }
                // One thread runs the tasks in the order they were spawned.
                let mut answers = commits.join_all().await;
                answers.sort_unstable_by_key(|(index, _)| *index);
                for (batch, (_, answer)) in batches.iter().zip(answers) {
                    assert_eq!(answer.is_applied(), model.commit(batch, now));
                }
            }
            Step::Advance(millis) => clock.advance(Duration::from_millis(millis)),
            Step::Sweep(limit) => {
                let is_expired = |kept: &Kept| kept.expires_at.is_some_and(|at| now >= at);
                let expired = model.records.values().filter(|kept| is_expired(kept)).count();
                assert_eq!(store.sweep(now, limit).await, Ok(expired.min(limit)));
                if expired <= limit {
                    model.records.retain(|_, kept| !is_expired(kept));
                } else {
                    // Which went is the engine's choice, oldest first; the rest go now.
                    assert_eq!(store.sweep(now, LIMIT).await, Ok(expired - limit));
                    model.records.retain(|_, kept| !is_expired(kept));
                }
            }
            Step::Reopen => {
                drop(Arc::into_inner(store).unwrap());
                store = Arc::new(open(directory.path(), &clock));
            }
        }
        model.compare(&store, clock.now()).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_history_reads_as_a_plain_map_would(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(run(steps));
    }
}
