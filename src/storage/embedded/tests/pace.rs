//! Measurements, to be read and not asserted.
//!
//! How many commits share a sync, what waiting for others costs who is alone, and what a sweep costs
//! those who commit meanwhile.
//!
//! `cargo test --release --lib pace -- --ignored --nocapture --test-threads 1`

#![allow(clippy::as_conversions, clippy::print_stdout, reason = "measurements are printed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::task::JoinSet;

use super::*;
use crate::domain::clock::SystemClock;
use crate::records::Write;

/// A disk that counts its syncs.
struct Counting(Arc<AtomicU64>);

impl Disk for Counting {
    fn commit(&mut self, batch: fjall::OwnedWriteBatch) -> fjall::Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        batch.commit()
    }

    fn free_bytes(&mut self, directory: &Path) -> std::io::Result<u64> {
        SystemDisk { synced: Arc::new(|_| {}) }.free_bytes(directory)
    }
}

struct Bench {
    store: Arc<EmbeddedStore>,
    syncs: Arc<AtomicU64>,
    _directory: tempfile::TempDir,
}

/// On a disk: in memory a sync costs nothing.
fn bench(change: impl FnOnce(&mut Settings)) -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let syncs = Arc::new(AtomicU64::new(0));
    let mut settings = settings(directory.path());
    change(&mut settings);
    let clock = Arc::new(SystemClock);
    let disk = Box::new(Counting(syncs.clone()));
    let store = EmbeddedStore::open_on(disk, &settings, clock, Arc::new(|_| {})).unwrap();
    Bench { store: Arc::new(store), syncs, _directory: directory }
}

fn commit_of(number: u64) -> Batch {
    let key = token(&format!("{:x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    batch(&[(&key, Revision::ABSENT)], vec![put(&key, &"x".repeat(400))])
}

struct Seen {
    took: Vec<Duration>,
    began: Instant,
    syncs: u64,
}

impl Seen {
    fn tell(mut self, what: &str, syncs: u64) {
        let seconds = self.began.elapsed().as_secs_f64();
        self.took.sort();
        let at = |share: f64| self.took[((self.took.len() - 1) as f64 * share) as usize];
        println!(
            "{what}: {:.0}/s, {:.1} a sync, p50 {:?}, p99 {:?}, most {:?}",
            self.took.len() as f64 / seconds,
            self.took.len() as f64 / (syncs - self.syncs) as f64,
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
}

/// So many at once, each again as soon as it is answered.
async fn closed(bench: &Bench, at_once: u64, each: u64) -> Seen {
    let (began, syncs) = (Instant::now(), bench.syncs.load(Ordering::Relaxed));
    let mut tasks = JoinSet::new();
    for task in 0..at_once {
        let store = bench.store.clone();
        tasks.spawn(async move {
            let mut took = Vec::new();
            for number in 0..each {
                let began = Instant::now();
                store.commit(commit_of((task << 32) + number)).await.unwrap();
                took.push(began.elapsed());
            }
            took
        });
    }
    Seen { took: tasks.join_all().await.concat(), began, syncs }
}

/// So many a second whether or not they are answered, at random moments.
async fn open_loop(bench: &Bench, rate: f64, count: u64, first: u64) -> Seen {
    let (began, syncs) = (Instant::now(), bench.syncs.load(Ordering::Relaxed));
    let mut tasks = JoinSet::new();
    let mut at = 0.0;
    let mut dice = 1_u64;
    for number in 0..count {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        at -= (((dice >> 11) as f64 + 1.0) / (1_u64 << 53) as f64).ln() / rate;
        while began.elapsed().as_secs_f64() < at {
            tokio::task::yield_now().await;
        }
        let store = bench.store.clone();
        tasks.spawn(async move {
            let began = Instant::now();
            // What is refused because too many wait is not a commit.
            store.commit(commit_of(first + number)).await.is_ok().then(|| began.elapsed())
        });
    }
    Seen { took: tasks.join_all().await.into_iter().flatten().collect(), began, syncs }
}

#[ignore = "a measurement"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_many_commits_share_a_sync() {
    for window in [Duration::ZERO, Duration::from_millis(1)] {
        for at_once in [1, 2, 4, 16, 64, 256] {
            let bench = bench(|settings| settings.gather_window = window);
            let each = (40_000 / at_once).min(4_000);
            let seen = closed(&bench, at_once, each).await;
            seen.tell(&format!("window {window:?}, {at_once} at once"), bench.syncs.load(Ordering::Relaxed));
        }
        for rate in [500.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0] {
            let bench = bench(|settings| settings.gather_window = window);
            let seen = open_loop(&bench, rate, (rate * 3.0) as u64, 0).await;
            seen.tell(&format!("window {window:?}, {rate} a second"), bench.syncs.load(Ordering::Relaxed));
        }
    }
}

#[ignore = "a measurement"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_sweep_costs_commits() {
    const EXPIRED: u64 = 200_000;
    let bench = bench(|_| {});
    for begin in (0..EXPIRED).step_by(500) {
        let writes = (begin..begin + 500).map(|number| Write::Put {
            key: token(&format!("expired-{:x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15))),
            bytes: vec![7; 400].into(),
            expires_at: Some(contract::START),
            due: None,
        });
        bench.store.commit(batch(&[], writes.collect())).await.unwrap();
    }
    let now = crate::domain::clock::Clock::now(&SystemClock);
    open_loop(&bench, 2_000.0, 6_000, 0).await.tell("without a sweep", bench.syncs.load(Ordering::Relaxed));
    let sweeping = {
        let store = bench.store.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            let mut most = Duration::ZERO;
            loop {
                let once = Instant::now();
                if store.sweep(now, 2_000).await.unwrap() < 2_000 {
                    return (began.elapsed(), most);
                }
                most = most.max(once.elapsed());
            }
        })
    };
    let seen = open_loop(&bench, 2_000.0, 6_000, 1 << 40).await;
    seen.tell("with a sweep", bench.syncs.load(Ordering::Relaxed));
    let (took, most) = sweeping.await.unwrap();
    println!("{EXPIRED} swept in {took:?}, 2000 of them in at most {most:?}");
}

#[ignore = "a measurement"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_copy_and_a_start_cost() {
    const RECORDS: u64 = 400_000;
    let bench = bench(|_| {});
    for begin in (0..RECORDS).step_by(500) {
        let writes = (begin..begin + 500).map(|number| {
            put(&token(&format!("{:x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15))), &"x".repeat(900))
        });
        bench.store.commit(batch(&[], writes.collect())).await.unwrap();
    }
    open_loop(&bench, 2_000.0, 6_000, 1 << 40)
        .await
        .tell("without a copy", bench.syncs.load(Ordering::Relaxed));
    let copying = {
        let (store, to) = (bench.store.clone(), bench._directory.path().join("copy"));
        tokio::task::spawn_blocking(move || store.copy_to(&to, &|| true).unwrap())
    };
    open_loop(&bench, 2_000.0, 6_000, 1 << 41).await.tell("with a copy", bench.syncs.load(Ordering::Relaxed));
    println!("{:?}", copying.await.unwrap());
    drop(Arc::into_inner(bench.store).unwrap());
    let data = bench._directory.path().join("store/data");
    let began = Instant::now();
    super::super::tables::verify(&data).unwrap();
    println!("looked through in {:?}", began.elapsed());
    let began = Instant::now();
    EmbeddedStore::open(
        &settings(bench._directory.path()),
        Arc::new(SystemClock),
        Arc::new(|_| {}),
        Arc::new(|_| {}),
    )
    .unwrap();
    println!("opened in {:?}", began.elapsed());
}
