//! The `countersign` binary: arguments in, exit code out.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use countersign::app::App;
use countersign::cli::check::check;
use countersign::cli::profile::CommandError;
use countersign::cli::reach::{self, ClaimsVerb, StoreVerb};
use countersign::cli::{KeygenArgs, SignArgs, VerifyArgs, claims, keygen, sign, store, verify};
use countersign::config::Config;
use countersign::domain::clock::{Clock, SystemClock};
use countersign::quickstart::{self, QuickstartArgs};
use countersign::server::process;
use countersign::server::signals::Signals;
use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

/// What is freed is wiped: a card passes through buffers of libraries that know nothing of cards.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

/// A payment gateway proxy for the Agentic Commerce Protocol.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a gateway, two shops and two agents on this machine, and tell what they do.
    Quickstart(QuickstartArgs),
    /// Serve agents and merchants until SIGTERM, SIGINT, SIGQUIT or SIGUSR1.
    Serve {
        /// The TOML file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Read a configuration and list every mistake in it.
    Check {
        /// The TOML file.
        #[arg(long)]
        config: PathBuf,
    },
    /// List the claims of a running gateway that are in doubt or pending, or end one by hand.
    #[command(subcommand)]
    Claims(ClaimsVerb),
    /// Look through a store, or copy it.
    #[command(subcommand)]
    Store(StoreVerb),
    /// Make a key; its private part goes to a new file only.
    Keygen(KeygenArgs),
    /// Sign a request and print its headers, ready for `curl -H @FILE`.
    Sign(SignArgs),
    /// Verify a signed request and print the exact bytes that were signed.
    Verify(VerifyArgs),
}

fn main() -> ExitCode {
    // Before a key or a credential is read.
    if let Err(error) = process::hide_memory() {
        let _ =
            writeln!(io::stderr(), "countersign: this process's memory cannot be kept to itself: {error}");
        return ExitCode::FAILURE;
    }
    let arguments = Arguments::parse();
    let ran = match arguments.verb {
        Verb::Quickstart(arguments) => tell(&arguments),
        Verb::Check { config } => check(&config, &mut io::stdout().lock()),
        Verb::Serve { config } => serve(&config),
        Verb::Claims(verb) => command_line(claims(&verb, &mut io::stdout())),
        Verb::Store(verb) => command_line(store(&verb, SystemClock.now(), &mut io::stdout())),
        Verb::Keygen(arguments) => done(keygen(&arguments, &mut io::stdout().lock())),
        Verb::Sign(arguments) => done(sign(&arguments, SystemClock.now(), &mut io::stdout().lock())),
        Verb::Verify(arguments) => {
            verify(&arguments, SystemClock.now(), &mut io::stdout().lock()).map_err(io_error)
        }
    };
    match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // A reader that closed our output, as `head` does, is no failure of ours to report.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "countersign: {error}");
            ExitCode::FAILURE
        }
    }
}

fn done(ran: Result<(), CommandError>) -> io::Result<bool> {
    ran.map(|()| true).map_err(io_error)
}

fn io_error(error: CommandError) -> io::Error {
    match error {
        CommandError::Output(error) => error,
        other => io::Error::other(other),
    }
}

fn tell(arguments: &QuickstartArgs) -> io::Result<bool> {
    runtime()?.block_on(quickstart::run(arguments, &mut io::stdout()))
}

fn serve(path: &std::path::Path) -> io::Result<bool> {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(_) => return check(path, &mut io::stderr().lock()),
    };
    runtime()?.block_on(async {
        let signals = Signals::listen()?;
        let app = App::start(config, Arc::new(SystemClock)).await.map_err(io::Error::other)?;
        signals.told_to_drain(app.log()).await;
        app.shutdown().await;
        Ok(true)
    })
}

fn command_line(work: impl Future<Output = Result<bool, reach::CommandError>>) -> io::Result<bool> {
    Ok(runtime()?.block_on(work)?)
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
