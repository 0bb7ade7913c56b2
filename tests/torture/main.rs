//! The torture program: everybody misbehaves, and the money must come out right.
//!
//! Gateways on one store, merchants that misbehave, agents that repeat, hang up and lose patience, and a
//! tormentor that kills, pauses, cuts and fills. When all has settled, the ledgers of the merchants, the
//! tokens and the answers must tell one story.
//!
//! Without arguments, as in `cargo test`, it is short. The long way:
//!
//! ```console
//! cargo test --profile ci --locked --test torture -- --engine embedded --checkouts 20000 --faults 200 --seed 1
//! cargo test --profile ci --locked --test torture -- --engine redis --wait-replicas 1 --failovers 50
//! cargo test --profile ci --locked --test torture -- --engine cluster --outage
//! ```

#![allow(unreachable_pub, reason = "a program of its own: nothing outside reaches anything")]
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "tests"
)]

#[path = "../redis_server/mod.rs"]
mod redis_server;

/// What was seen.
mod facts;
/// Whether it is one story.
mod audit;
/// Chance.
mod dice;
/// Where it is written down.
mod notebook;
/// The merchants.
mod merchants;
/// The gateways.
mod gateway;
/// The way to a merchant that comes and goes.
mod flap;
/// What stands in for it, and lags behind.
mod standby;
/// The way to a store that swallows.
mod hole;
/// The store under them.
mod store;
/// Client certificates.
mod papers;
/// All of it together.
mod town;
/// The agents.
mod buyers;
/// The faults.
mod tormentor;
/// The end.
mod settling;
/// What is asked for.
mod arguments;
/// One run, from the first purchase to the verdict.
mod run;

use std::process::ExitCode;

use arguments::Arguments;

fn main() -> ExitCode {
    let Some(runs) = Arguments::read().runs() else { return ExitCode::SUCCESS };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    // Side by side: most of the time of each is spent waiting for grace periods to end.
    let verdicts = runtime.block_on(async {
        let mut running = tokio::task::JoinSet::new();
        runs.into_iter().for_each(|run| {
            running.spawn(run.make());
        });
        running.join_all().await
    });
    if verdicts.into_iter().all(|passed| passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
