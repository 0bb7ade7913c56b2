//! The `loadtest` binary: arguments in, results out.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use loadtest::passthrough::PassThrough;
use loadtest::quick::Quick;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load generator and comparison bench for Countersign.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Look quickly: `complete` and `get` through the gateway and through the plain pass-through.
    Quick(Quick),
    /// Run the plain pass-through until it is stopped.
    PassThrough(PassThrough),
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // What was started is stopped when the work is dropped.
        tokio::select! {
            done = perform(verb) => done,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => anyhow::bail!("interrupted"),
        }
    })
}

async fn perform(verb: Verb) -> Result<()> {
    match verb {
        Verb::Quick(quick) => quick.run(&mut |line| say(&line)).await,
        Verb::PassThrough(passthrough) => passthrough.serve().await,
    }
}

fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
