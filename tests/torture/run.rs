//! One run: open, buy and torment, settle, audit, print.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::audit::{Findings, audit};
use crate::buyers::Buyers;
use crate::dice::Dice;
use crate::flap::Flap;
use crate::notebook::Notebook;
use crate::store::{Engine, RedisSettings, Store};
use crate::tormentor::{Fault, Tormentor};
use crate::town::Town;

/// Findings that are printed in full.
const PRINTED: usize = 10;

/// What is run.
#[derive(Clone)]
pub struct Run {
    pub engine: Engine,
    pub redis: RedisSettings,
    pub checkouts: usize,
    pub faults: usize,
    pub seed: u64,
    pub kinds: Vec<Fault>,
    pub mischief: u64,
    /// Whether only 503 may be answered where there is no other answer.
    pub outage: bool,
    /// Whether the store is made to forget, so that the audit must find it out.
    pub forget: bool,
    /// Whether a merchant comes and goes.
    pub flaps: bool,
    /// How many of the faults are stalls, and how long each is.
    pub stalls: usize,
    pub stall: Duration,
    /// How long the first client certificate of a merchant is good.
    pub certificate: Duration,
    pub buyers: usize,
}

impl Run {
    /// Whether it passed.
    pub async fn make(self) -> bool {
        let began = Instant::now();
        let town = Arc::new(Town::open(self.engine, self.redis, self.certificate).await);
        let notebook = Notebook::default();
        let may_lose = town.store.lock().await.may_lose();
        notebook.change(|facts| facts.may_lose = may_lose);
        if let Store::Embedded(disk) = &*town.store.lock().await
            && !disk.can_fill()
        {
            println!("no file system can be mounted here: the disk is never full");
        }
        let buyers = Buyers {
            town: Arc::clone(&town),
            notebook: notebook.clone(),
            seed: self.seed,
            mischief: self.mischief,
            done: Arc::new(AtomicUsize::new(0)),
            clerks: Arc::default(),
        };
        let watching = tokio::spawn({
            let (town, notebook) = (Arc::clone(&town), notebook.clone());
            async move { town.watch_papers(&notebook).await }
        });
        if self.flaps {
            town.flaps.iter().for_each(Flap::begin);
        }
        let faults = self.buy(&buyers).await;
        let bought = began.elapsed();
        let settled = buyers.settle().await;
        watching.await.unwrap();
        if self.outage {
            self.only_unavailable(&notebook);
        }
        let found = audit(&notebook.facts());
        let checkouts = buyers.done.load(Ordering::Relaxed);
        let passed = if self.forget { found.twice > 0 } else { found.violations.is_empty() };
        println!("{}", self.summary(checkouts, &faults, &found, [bought, settled, began.elapsed()], passed));
        if let Some([median, late]) = notebook.times() {
            println!(
                "    a create elsewhere than at the merchants that come and go: {median:.0?}, p99 {late:.0?}"
            );
        }
        println!(
            "    the standby showed a session as it was before its order {} times",
            town.standby.stale()
        );
        for ((status, code), count) in notebook.tally() {
            println!("    {count:>7} x {status} {code}");
        }
        let shown = if self.forget { &[] } else { found.violations.as_slice() };
        for violation in shown.iter().take(PRINTED) {
            println!("    VIOLATION {violation}");
        }
        for lost in found.lost.iter().take(if self.forget { 0 } else { PRINTED }) {
            println!("    lost: {lost}");
        }
        if !passed {
            for gateway in town.gateways.lock().await.iter() {
                println!("the last lines of a gateway:\n{}", gateway.end_of_log());
            }
        }
        passed
    }

    /// Agents buy while faults are inflicted, never so far ahead of them that the last fault meets
    /// nobody.
    async fn buy(&self, buyers: &Buyers) -> BTreeMap<Fault, usize> {
        let next = Arc::new(AtomicUsize::new(0));
        let may_begin = Arc::new(AtomicUsize::new(0));
        let mut buying = JoinSet::new();
        for _ in 0..self.buyers {
            let (buyers, next, may_begin) = (buyers.clone(), Arc::clone(&next), Arc::clone(&may_begin));
            let enough = self.checkouts;
            buying.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= enough {
                        return;
                    }
                    while number >= may_begin.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    buyers.buy(number).await;
                }
            });
        }
        let mut tormentor = Tormentor {
            buyers: buyers.clone(),
            kinds: self.kinds.clone(),
            dice: Dice::of(self.seed, u64::MAX),
            stalls: self.stalls,
            stall: self.stall,
            may_begin,
            done: BTreeMap::new(),
        };
        if self.forget {
            tormentor.forget(self.checkouts).await;
        }
        tormentor.torment(self.faults, self.checkouts).await;
        buying.join_all().await;
        tormentor.done
    }

    /// Nothing but 503 of all that says "no answer".
    fn only_unavailable(&self, notebook: &Notebook) {
        for ((status, code), count) in notebook.tally() {
            if status >= 500 && status != 503 {
                notebook.odd(format!("{count} answers of {status} {code} in an outage of the store"));
            }
        }
    }

    fn summary(
        &self,
        checkouts: usize,
        faults: &BTreeMap<Fault, usize>,
        found: &Findings,
        [bought, settled, took]: [Duration; 3],
        passed: bool,
    ) -> String {
        let engine = match self.engine {
            Engine::Embedded => "embedded".to_owned(),
            Engine::Redis => format!("redis, wait_replicas {}", self.redis.wait_replicas),
            Engine::Cluster => format!("cluster, wait_replicas {}", self.redis.wait_replicas),
        };
        let kinds: Vec<String> = faults.iter().map(|(fault, count)| format!("{count} {fault:?}")).collect();
        let expected = match self.forget {
            true => format!(", {} sessions charged twice (the store was made to forget)", found.twice),
            false => String::new(),
        };
        format!(
            "torture of {engine}, seed {}: {checkouts} checkouts, {} faults ({}), {} charges, {} in doubt and \
             resolved, {} lost writes, {} violations{expected}; {bought:.0?} under faults, all settled {settled:.0?} after the last, \
             {took:.0?} in all: {}",
            self.seed,
            faults.values().sum::<usize>(),
            kinds.join(", "),
            found.charges,
            found.resolved,
            found.lost.len(),
            found.violations.len(),
            if passed { "ok" } else { "FAILED" },
        )
    }
}
