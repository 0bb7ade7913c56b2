//! Good traffic alone and beside five times as much hostile traffic, by turns. The hostile come from
//! an address of their own, with credentials they have stolen.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;

use super::completes;
use crate::arena::Arena;
use crate::books::Page;
use crate::connection::{Http, Target};
use crate::drive::{Fleet, Watched};
use crate::gateway::Options;
use crate::numbers::length;
use crate::population::{Keys, Population};
use crate::prepare::Preparation;
use crate::progress::Progress;
use crate::report::{Hostile, Sample};
use crate::request::Style;
use crate::scenario::Scenario;

/// Where the hostile come from: loopback too, but another address.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));
/// Connections of either side.
const CONNECTIONS: usize = 64;
/// Requests a second each agent may send: what a flood is cut to.
const AGENT_RATE: u32 = 500;

/// How much of either.
#[derive(Args, Clone)]
pub struct HostileBeside {
    /// Good completes a second.
    #[arg(long, default_value_t = 400.0)]
    good_rate: f64,
    /// Hostile requests for each good one.
    #[arg(long, default_value_t = 5.0)]
    hostile_share: f64,
    /// Length of a sample, in seconds.
    #[arg(long, default_value_t = 10.0)]
    hostile_seconds: f64,
    /// Samples of either kind.
    #[arg(long, default_value_t = 5)]
    hostile_samples: usize,
}

impl HostileBeside {
    /// Measures.
    ///
    /// # Errors
    /// When something does not start, a hostile request gets an answer it must not get, or a ledger
    /// does not balance.
    pub async fn measure(&self, arena: &Arena, progress: &Progress) -> Result<Hostile> {
        let everyone = Population::new(200, 10, Keys::Ed25519)?;
        let options = Options { agent_rate: AGENT_RATE, ..Options::default() };
        let gateway = arena.gateway("hostile", &everyone, &options)?;
        let target = arena.target(gateway.address, Http::One);
        // One of those whose credentials were stolen floods, and is cut off with all it sends.
        let good_ones = everyone.but_the_first();
        let stolen = Preparation { target, everyone, merchant: None, style: Style::Rfc9421 };
        let good = Preparation { everyone: good_ones, ..stolen.clone() };
        let bad = Target { from: Some(ELSEWHERE), ..good.target.clone() };
        let hostile_rate = self.good_rate * self.hostile_share;
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        let mut answers: BTreeMap<String, u64> = BTreeMap::new();
        for sample in 0..self.hostile_samples * 2 {
            let is_beside = sample % 2 == 1;
            progress.show(&format!("hostile traffic, sample {} of {}", sample + 1, self.hostile_samples * 2));
            let jobs = completes(&good, length(self.good_rate * self.hostile_seconds)).await?;
            let count = length(hostile_rate * self.hostile_seconds);
            let attacks = if is_beside { Scenario::Hostile.jobs(&stolen, count).await? } else { Vec::new() };
            gateway.process.settle().await?;
            let fleet = Fleet::open(&good.target, CONNECTIONS, 1).await?;
            let attackers = Fleet::open(&bad, CONNECTIONS, 1).await?;
            let page = Page::open(&arena.merchant.ledger);
            let watched = Watched { proxy: Some(&gateway.process), beside: &[] };
            let (served, attacked) = tokio::join!(
                fleet.open_loop(Arc::new(jobs), self.good_rate, watched),
                attackers.open_loop(Arc::new(attacks), hostile_rate, Watched::default()),
            );
            let ((_, window), (_, attack)) = (served?, attacked?);
            page.balance(&window, true).context("good traffic")?;
            if attack.failed > 0 {
                anyhow::bail!("hostile requests got what they must not: {}", attack.failures.join("; "));
            }
            for (status, count) in &attack.statuses {
                *answers.entry(status.to_string()).or_default() += count;
            }
            if is_beside { &mut beside } else { &mut alone }.push(Sample::of(&window));
        }
        Ok(Hostile { good_rate: self.good_rate, hostile_rate, alone, beside, answers })
    }
}
