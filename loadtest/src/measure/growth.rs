//! CPU a request as agents, merchants and stored tokens grow.
//!
//! A small gateway and a large one side by side, measured by turns, so that what else the machine does
//! falls on both.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use countersign::config::Config;
use countersign::domain::clock::{Clock as _, KeptClock, SystemClock};
use countersign::ledger::session;
use countersign::records::{Batch, Durability, Kind, Purpose, RecordKey, Write};
use countersign::storage::open_engine;

use super::completes;
use crate::arena::Arena;
use crate::books::Page;
use crate::connection::Http;
use crate::drive::{Fleet, Watched};
use crate::gateway::{Gateway, Options, configure};
use crate::numbers::{length, real};
use crate::population::{Keys, Population};
use crate::prepare::Preparation;
use crate::progress::Progress;
use crate::report::Growth;
use crate::request::Style;

/// Disk space, in bytes, that a stored token takes at the most: while tables merge both the old and
/// the new are there.
const PER_TOKEN: u64 = 2_700;
/// Tokens stored at once while a store is filled.
const BATCH: usize = 4_000;
/// How long a store may take to close.
const CLOSES_WITHIN: Duration = Duration::from_secs(60);
/// Tokens in the small store.
const FEW_TOKENS: usize = 1000;
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
    #[arg(long, default_value_t = 10_000_000)]
    most_tokens: usize,
    /// Rounds of each pair.
    #[arg(long, default_value_t = 9)]
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
    /// Whether the disk below `directory` has room for the tokens, before the time is spent that fills it.
    ///
    /// # Errors
    /// When it has not, with what to do.
    pub fn has_room(&self, directory: &Path) -> Result<()> {
        let disk = rustix::fs::statvfs(directory)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let needed = u64::try_from(self.most_tokens)?.saturating_mul(PER_TOKEN);
        if free < needed {
            bail!(
                "a store of {} tokens takes up to {} MB in {} while its tables merge, and {} are free: make \
                 room, set TMPDIR, or lower --most-tokens",
                self.most_tokens,
                needed / 1_000_000,
                directory.display(),
                free / 1_000_000
            );
        }
        Ok(())
    }

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
        small.preparation.tokens(small.preparation.sessions(FEW_TOKENS).await?).await?;
        let large =
            side_with_tokens(arena, "many-tokens", people(100, 10)?, self.most_tokens, progress).await?;
        found.push(
            self.pair(arena, progress, "stored tokens", (FEW_TOKENS, self.most_tokens), (&small, &large))
                .await?,
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
            // Neither side always follows the other.
            let (of_small, of_large) = if round % 2 == 0 {
                let of_small = self.window(arena, small).await?;
                (of_small, self.window(arena, large).await?)
            } else {
                let of_large = self.window(arena, large).await?;
                (self.window(arena, small).await?, of_large)
            };
            if round > 0 {
                growth.small.push(of_small);
                growth.large.push(of_large);
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
    Ok(Side { preparation: preparation(arena, everyone, &gateway), gateway })
}

fn preparation(arena: &Arena, everyone: Population, gateway: &Gateway) -> Preparation {
    let target = arena.target(gateway.address, Http::One);
    Preparation { target, everyone, merchant: None, style: Style::Rfc9421 }
}

/// A side whose store holds so many tokens: one is minted, and written again under other names while
/// the gateway is down. To mint them all would take an hour.
async fn side_with_tokens(
    arena: &Arena,
    name: &str,
    everyone: Population,
    tokens: usize,
    progress: &Progress,
) -> Result<Side> {
    let room = arena.room(name)?;
    let merchant = arena.merchant.address;
    let configured = configure(&room, &arena.certificates, &everyone, merchant, &Options::default())?;
    let serve = || Gateway::serve(&arena.binary, &room, &configured);
    let gateway = serve()?;
    let first = preparation(arena, everyone.clone(), &gateway);
    first.tokens(first.sessions(1).await?).await?;
    gateway.process.finish(CLOSES_WITHIN)?;
    multiply(&configured.file, tokens, progress).await?;
    let gateway = serve()?;
    Ok(Side { preparation: preparation(arena, everyone, &gateway), gateway })
}

/// Writes the one token of a store again until there are so many.
async fn multiply(config: &Path, tokens: usize, progress: &Progress) -> Result<()> {
    let config = Config::load(config).map_err(|errors| anyhow!("{errors}"))?;
    let nobody = Arc::new(|_| {});
    let opened = open_engine(
        config.store,
        Arc::new(KeptClock::new(Arc::new(SystemClock))),
        nobody,
        Arc::new(|_| {}),
        &config.keys,
    )
    .await?;
    let store = opened.records;
    let (model, record) =
        store.scan(Kind::Token, None, 1).await?.pop().context("the token that was minted")?;
    let expires_at = Some(SystemClock.now().plus(session::RETENTION));
    let mut stored = 1;
    while stored < tokens {
        let share = real(u64::try_from(stored)?) / real(u64::try_from(tokens)?);
        progress.show(&format!("filling a store with {tokens} tokens: {} %", length(share * 100.0)));
        let next = tokens.min(stored + BATCH);
        let again = |number: usize| Write::Put {
            key: RecordKey::new(model.kind, &format!("{number:010}"), model.name()),
            bytes: record.bytes.clone(),
            expires_at,
            due: None,
        };
        let batch = Batch {
            expect: vec![],
            writes: (stored..next).map(again).collect(),
            durability: Durability::Applied,
            purpose: Purpose::Admit,
        };
        if !store.commit(batch).await?.is_applied() {
            bail!("tokens that nobody else writes conflict");
        }
        stored = next;
    }
    // Closing waits for the disk.
    Ok(tokio::task::spawn_blocking(move || drop(store)).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_for_the_tokens_is_told_before_anything_is_measured() {
        let directory = tempfile::tempdir().unwrap();
        let growth = |most_tokens| GrowthOf {
            most_agents: 10,
            most_merchants: 1,
            most_tokens,
            growth_rounds: 1,
            growth_requests: 1,
        };
        growth(1000).has_room(directory.path()).unwrap();
        let refused = growth(usize::MAX).has_room(directory.path()).unwrap_err().to_string();
        assert!(refused.contains("--most-tokens"), "{refused}");
    }
}
