//! Memory over a million requests of many agents over many connections.
//!
//! How much, and whether it still grows.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::arena::Arena;
use crate::books::Page;
use crate::connection::Http;
use crate::drive::{Fleet, Watched};
use crate::gateway::Options;
use crate::numbers::real;
use crate::population::{Keys, Population};
use crate::prepare::Preparation;
use crate::progress::Progress;
use crate::report::Memory;
use crate::request::Style;
use crate::scenario::Scenario;

/// Jobs between two looks. What prepares them is about half as many requests again.
const BATCH: usize = 20_000;

/// How much is sent.
#[derive(Args, Clone)]
pub struct MemoryOver {
    /// Requests.
    #[arg(long, default_value_t = 1_000_000)]
    memory_requests: u64,
    /// Agents.
    #[arg(long, default_value_t = 10_000)]
    memory_agents: usize,
    /// Connections.
    #[arg(long, default_value_t = 1000)]
    memory_connections: usize,
}

impl MemoryOver {
    /// Measures.
    ///
    /// # Errors
    /// When something does not start, or a ledger does not balance.
    pub async fn measure(&self, arena: &Arena, progress: &Progress) -> Result<Memory> {
        let everyone = Population::new(self.memory_agents, 10, Keys::Ed25519)?;
        let gateway = arena.gateway("memory", &everyone, &Options::default())?;
        let target = arena.target(gateway.address, Http::One);
        let preparation = Preparation { target, everyone, merchant: None, style: Style::Rfc9421 };
        let mut sent = 0;
        let mut looks = vec![(0, real(gateway.process.usage()?.resident) / 1e6)];
        while sent < self.memory_requests {
            progress.show(&format!("memory: {sent} of {} requests", self.memory_requests));
            let jobs = Arc::new(Scenario::Mixed.jobs(&preparation, BATCH).await?);
            // Connections stay for the batch; the next one's preparation may outlast idle timeouts.
            let fleet = Fleet::open(&preparation.target, self.memory_connections, 1).await?;
            let page = Page::open(&arena.merchant.ledger);
            let watched = Watched { proxy: Some(&gateway.process), beside: &[] };
            let (fleet, window) = fleet.closed(jobs, Duration::from_secs(600), watched).await?;
            page.balance(&window, true)?;
            let done = u64::try_from(window.done).unwrap_or(0);
            // Of twenty jobs three are mints and three completes: nine preparing requests.
            sent += done + done * 9 / 20;
            looks.push((sent, window.megabytes()));
            drop(fleet);
        }
        let (agents, connections) = (self.memory_agents, self.memory_connections);
        Ok(Memory { agents, connections, looks })
    }
}
