//! Latency at a fixed rate of arrivals, far below capacity.
//!
//! Straight to the merchant, through plain proxies, and through the gateway; and beside it what the disk
//! needs for one `fdatasync`, because no durable answer is faster.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Args;

use super::completes;
use crate::arena::Arena;
use crate::books::Page;
use crate::compare::{Envoy, Kind, Release};
use crate::connection::{Http, Target};
use crate::drive::{Fleet, Watched};
use crate::numbers::{length, quantile};
use crate::prepare::Preparation;
use crate::process::Process;
use crate::progress::Progress;
use crate::report::{Added, Curve, Sample};
use crate::request::{Proof, Style};

/// Syncs that are timed.
const SYNCS: usize = 500;
/// Connections.
const CONNECTIONS: usize = 64;

/// At which rate, how often and how long.
#[derive(Args, Clone)]
pub struct AddedLatency {
    /// Arrivals a second.
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// Length of a sample, in seconds.
    #[arg(long, default_value_t = 10.0)]
    sample_seconds: f64,
    /// Samples of each row.
    #[arg(long, default_value_t = 5)]
    samples: usize,
}

struct Row {
    id: &'static str,
    target: Target,
    process: Option<Process>,
    is_ours: bool,
}

impl AddedLatency {
    /// Measures.
    ///
    /// # Errors
    /// When something does not start, or a ledger does not balance.
    pub async fn measure(&self, arena: &Arena, progress: &Progress) -> Result<Added> {
        let rows = rows(arena)?;
        let count = length(self.rate * self.sample_seconds);
        let mut samples: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
        let mut latencies = BTreeMap::new();
        for sample in 0..self.samples {
            for row in &rows {
                progress.show(&format!("latency, sample {} of {}: {}", sample + 1, self.samples, row.id));
                let preparation = Preparation {
                    target: row.target.clone(),
                    everyone: arena.everyone.clone(),
                    merchant: None,
                    style: Style::Rfc9421,
                };
                let jobs = if row.is_ours {
                    completes(&preparation, count).await?
                } else {
                    preparation.bare_complete_jobs(900 + sample, count, Proof::Key(Style::Rfc9421))?
                };
                if let Some(process) = &row.process {
                    process.settle().await?;
                }
                let fleet = Fleet::open(&row.target, CONNECTIONS, 1).await?;
                let page = Page::open(&arena.merchant.ledger);
                let watched = Watched { proxy: row.process.as_ref(), beside: &[] };
                let (_, window) = fleet.open_loop(Arc::new(jobs), self.rate, watched).await?;
                page.balance(&window, row.is_ours).with_context(|| row.id)?;
                samples.entry(row.id.to_owned()).or_default().push(Sample::of(&window));
                let all = latencies.entry(row.id.to_owned()).or_insert(crate::drive::histogram()?);
                all.add(&window.latency).context("histograms of one kind")?;
            }
        }
        let curves = latencies.iter().map(|(id, latency)| (id.clone(), Curve::of(latency))).collect();
        let fdatasync = time_syncs(arena.path())?;
        Ok(Added { rate: self.rate, seconds: self.sample_seconds, samples, curves, fdatasync })
    }
}

fn rows(arena: &Arena) -> Result<Vec<Row>> {
    let straight = Target { tls: None, ..arena.target(arena.merchant.address, Http::One) };
    let mut rows = vec![Row { id: "direct", target: straight, process: None, is_ours: false }];
    let nowhere = Envoy(arena.path().join("none"));
    for (id, kind) in [
        ("hyper", Kind::Hyper),
        ("nginx", Kind::Nginx),
        ("embedded", Kind::Embedded(Release::Today)),
        ("before-embedded", Kind::Embedded(Release::Before)),
    ] {
        let is_unnamed = kind == Kind::Embedded(Release::Before) && arena.before.is_none();
        if is_unnamed || kind.hindrance(&nowhere).is_some() {
            continue;
        }
        let peer = kind.start(arena, &nowhere)?;
        let target = arena.target(peer.address, Http::One);
        rows.push(Row { id, target, process: Some(peer.process), is_ours: kind.is_ours() });
    }
    Ok(rows)
}

/// Median and 99th percentile of `fdatasync` after an appended 4 KiB, in milliseconds.
fn time_syncs(directory: &Path) -> Result<(f64, f64)> {
    let mut file = File::create(directory.join("syncs"))?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[0; 4096])?;
        let began = Instant::now();
        file.sync_data()?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    Ok((quantile(&times, 0.5), quantile(&times, 0.99)))
}
