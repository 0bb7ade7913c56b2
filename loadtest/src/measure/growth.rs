//! CPU a request as agents, merchants and stored tokens grow: a small gateway and a large one side by
//! side, measured by turns, so that what else the machine does falls on both.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::completes;
use crate::arena::Arena;
use crate::books::Page;
use crate::connection::Http;
use crate::drive::{Fleet, Watched};
use crate::gateway::{Gateway, Options};
use crate::numbers::{length, real};
use crate::population::{Keys, Population};
use crate::prepare::Preparation;
use crate::progress::Progress;
use crate::report::Growth;
use crate::request::Style;

/// Tokens minted at once while a store is filled.
const BATCH: usize = 10_000;
/// Connections.
const CONNECTIONS: usize = 64;

/// How far things grow.
#[derive(Args, Clone)]
pub struct GrowthOf {
    /// Agents, from ten.
    #[arg(long, default_value_t = 10_000)]
    most_agents: usize,
    /// Merchants, from one.
    #[arg(long, default_value_t = 1000)]
    most_merchants: usize,
    /// Stored tokens, from a thousand.
    #[arg(long, default_value_t = 200_000)]
    most_tokens: usize,
    /// Rounds of each pair.
    #[arg(long, default_value_t = 5)]
    growth_rounds: usize,
    /// Requests in a window.
    #[arg(long, default_value_t = 8000)]
    growth_requests: usize,
}

struct Side {
    gateway: Gateway,
    preparation: Preparation,
}

impl GrowthOf {
    /// Measures.
    ///
    /// # Errors
    /// When something does not start, or a ledger does not balance.
    pub async fn measure(&self, arena: &Arena, progress: &Progress) -> Result<Vec<Growth>> {
        let people = |agents, merchants| Population::new(agents, merchants, Keys::Ed25519);
        let mut found = Vec::new();
        for (what, to, small, large) in [
            ("agents", self.most_agents, people(10, 10)?, people(self.most_agents, 10)?),
            ("merchants", self.most_merchants, people(100, 1)?, people(100, self.most_merchants)?),
        ] {
            let small = side(arena, &format!("few-{what}"), small)?;
            let large = side(arena, &format!("many-{what}"), large)?;
            let from = if what == "agents" { 10 } else { 1 };
            found.push(self.pair(arena, progress, what, (from, to), (&small, &large)).await?);
        }
        let small = side(arena, "few-tokens", people(100, 10)?)?;
        let large = side(arena, "many-tokens", people(100, 10)?)?;
        fill(&small, 1000, progress).await?;
        fill(&large, self.most_tokens, progress).await?;
        found.push(
            self.pair(arena, progress, "stored tokens", (1000, self.most_tokens), (&small, &large)).await?,
        );
        Ok(found)
    }

    async fn pair(
        &self,
        arena: &Arena,
        progress: &Progress,
        what: &str,
        (from, to): (usize, usize),
        (small, large): (&Side, &Side),
    ) -> Result<Growth> {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let mut growth =
            Growth { what: what.to_owned(), from: count(from), to: count(to), small: vec![], large: vec![] };
        // The first round warms up: connections to merchants, the store's caches.
        for round in 0..=self.growth_rounds {
            progress.show(&format!("growth of {what}, round {round} of {}", self.growth_rounds));
            let pair = (self.window(arena, small).await?, self.window(arena, large).await?);
            if round > 0 {
                growth.small.push(pair.0);
                growth.large.push(pair.1);
            }
        }
        Ok(growth)
    }

    async fn window(&self, arena: &Arena, side: &Side) -> Result<f64> {
        let jobs = completes(&side.preparation, self.growth_requests).await?;
        side.gateway.process.settle().await?;
        let fleet = Fleet::open(&side.preparation.target, CONNECTIONS, 1).await?;
        let page = Page::open(&arena.merchant.ledger);
        let watched = Watched { proxy: Some(&side.gateway.process), beside: &[] };
        let (_, window) = fleet.closed(Arc::new(jobs), Duration::from_secs(600), watched).await?;
        page.balance(&window, true)?;
        Ok(window.cpu_micros())
    }
}

fn side(arena: &Arena, name: &str, everyone: Population) -> Result<Side> {
    let gateway = arena.gateway(name, &everyone, &Options::default())?;
    let target = arena.target(gateway.address, Http::One);
    let preparation = Preparation { target, everyone, merchant: None, style: Style::Rfc9421 };
    Ok(Side { gateway, preparation })
}

async fn fill(side: &Side, tokens: usize, progress: &Progress) -> Result<()> {
    let mut stored = 0;
    while stored < tokens {
        let share = real(u64::try_from(stored).unwrap_or(0)) / real(u64::try_from(tokens).unwrap_or(1));
        progress.show(&format!("filling a store with {tokens} tokens: {} %", length(share * 100.0)));
        let batch = BATCH.min(tokens - stored);
        side.preparation.tokens(side.preparation.sessions(batch).await?).await?;
        stored += batch;
    }
    Ok(())
}
