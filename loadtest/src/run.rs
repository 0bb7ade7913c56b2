//! One scenario through the gateway, for capacity or for latency.
//!
//! A closed loop for capacity, or an open loop at a fixed rate of arrivals for latency.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use crate::arena::Arena;
use crate::books::Page;
use crate::connection::Http;
use crate::drive::{Fleet, Watched};
use crate::gateway::{Options, binary};
use crate::numbers::length;
use crate::population::{Keys, Population};
use crate::prepare::Preparation;
use crate::progress::Progress;
use crate::report::{Curve, Sample};
use crate::request::Style;
use crate::scenario::Scenario;

/// What is sent, by whom, and how.
#[derive(Args)]
pub struct Run {
    /// What agents do.
    #[arg(long, value_enum, default_value = "complete")]
    scenario: Scenario,
    /// Arrivals a second; without it the next request follows each answer.
    #[arg(long)]
    rate: Option<f64>,
    /// Length of the measurement, in seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Requests prepared for a closed loop, which ends when they run out.
    #[arg(long, default_value_t = 50_000)]
    requests: usize,
    /// Connections.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests at once on each connection, with HTTP/2.
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// Which HTTP agents speak.
    #[arg(long, value_enum, default_value = "one")]
    http: Http,
    /// Agents.
    #[arg(long, default_value_t = 100)]
    agents: usize,
    /// Merchants.
    #[arg(long, default_value_t = 10)]
    merchants: usize,
    /// What agents sign with.
    #[arg(long, value_enum, default_value = "ed25519")]
    keys: Keys,
    /// How agents sign.
    #[arg(long, value_enum, default_value = "rfc9421")]
    style: Style,
    /// The gateway's binary; the one beside this by default.
    #[arg(long)]
    gateway: Option<PathBuf>,
}

/// What came of it.
#[derive(Serialize)]
pub struct Outcome {
    /// The scenario.
    pub scenario: String,
    /// Requests answered; with `checkout` whole checkouts.
    pub requests: u64,
    /// What they cost and how long they took.
    pub sample: Sample,
    /// Latency.
    pub curve: Curve,
}

impl Run {
    /// Runs it.
    ///
    /// # Errors
    /// When something does not start, an answer is wrong or the ledger does not balance.
    pub async fn perform(&self, progress: &Progress) -> Result<Outcome> {
        if self.http == Http::One && self.streams > 1 {
            bail!("HTTP/1.1 carries one request at a time");
        }
        let everyone = Population::new(self.agents, self.merchants, self.keys)?;
        let arena = Arena::new(everyone, binary(self.gateway.as_deref())?)?;
        progress.show("starting the gateway");
        let gateway = arena.gateway("gateway", &arena.everyone, &Options::default())?;
        let preparation = Preparation {
            target: arena.target(gateway.address, self.http),
            everyone: arena.everyone.clone(),
            merchant: None,
            style: self.style,
        };
        let count = self.rate.map_or(self.requests, |rate| length(rate * self.seconds));
        progress.show(&format!("preparing {count} requests"));
        let jobs = Arc::new(self.scenario.jobs(&preparation, count).await?);
        gateway.process.settle().await?;
        progress.show("measuring");
        let fleet = Fleet::open(&preparation.target, self.connections, self.streams).await?;
        let page = Page::open(&arena.merchant.ledger);
        let watched = Watched { proxy: Some(&gateway.process), beside: &[] };
        let (_, window) = match self.rate {
            Some(rate) => fleet.open_loop(jobs, rate, watched).await?,
            None => fleet.closed(jobs, Duration::from_secs_f64(self.seconds), watched).await?,
        };
        page.balance(&window, true)?;
        Ok(Outcome {
            scenario: format!("{:?}", self.scenario).to_lowercase(),
            requests: window.latency.len(),
            sample: Sample::of(&window),
            curve: Curve::of(&window.latency),
        })
    }
}

impl Outcome {
    /// As a table.
    pub fn table(&self) -> String {
        let Sample { cpu, throughput, p50, p99, megabytes, .. } = self.sample;
        let mut out = format!(
            "{:<12} {:>10} {:>12} {:>14} {:>8}\n{:<12} {:>10} {throughput:>12.0} {cpu:>14.1} {megabytes:>8.0}\n\n",
            "scenario", "requests", "requests/s", "CPU µs/request", "MB", self.scenario, self.requests,
        );
        out.push_str("latency, ms\n");
        for (quantile, millis) in &self.curve.0 {
            out.push_str(&format!("{:>9.2} % {millis:>10.3}\n", quantile * 100.0));
        }
        out.push_str(&format!("p50 {p50:.2} ms, p99 {p99:.2} ms; the merchant's ledger agrees\n"));
        out
    }
}
