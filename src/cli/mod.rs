//! The verbs of the `countersign` binary, one file each. They take arguments and a writer, so that
//! `main` only starts them and tests see what users see.

mod admin_client;
mod admin_tls;
pub mod check;
mod claims;
mod error;
mod given_request;
mod init;
mod key_file;
mod keygen;
mod profile;
mod reach;
mod reload;
mod serve;
mod sign;
mod store;
mod suspend;
mod verify;

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};

pub use error::CommandError;

use crate::conformance::{self, AgentArgs, MerchantArgs};
use crate::doctor::{self, DoctorArgs};
use crate::domain::clock::{Clock, SystemClock};
use crate::quickstart::{self, QuickstartArgs};
use claims::ClaimsVerb;
use init::InitArgs;
use keygen::KeygenArgs;
use reload::ReloadArgs;
use sign::SignArgs;
use store::StoreVerb;
use suspend::{How, HowStopped, Subject, SuspensionsArgs};
use verify::VerifyArgs;

/// What `--version` says.
static VERSION: LazyLock<String> = LazyLock::new(|| version_of(option_env!("COUNTERSIGN_REVISION")));

/// The version, and of which revision it was built, where the build was told.
fn version_of(revision: Option<&str>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match revision {
        None | Some("" | "unknown") => version.to_owned(),
        Some(revision) => format!("{version} ({revision})"),
    }
}

/// A payment gateway proxy for the Agentic Commerce Protocol.
#[derive(Parser)]
#[command(version = VERSION.as_str(), about)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

/// Whom to try.
#[derive(Subcommand, Clone, Debug)]
enum ConformanceVerb {
    /// Order things at a test shop as agents would through this gateway, and as networks fail, and report what it
    /// does.
    Merchant(Box<MerchantArgs>),
    /// Run a gateway and a sandbox merchant that fails as it is told, and report how an agent that buys there bears
    /// it.
    Agent(AgentArgs),
}

#[derive(Subcommand)]
enum Verb {
    /// Run a gateway, two shops and two agents on this machine, and tell what they do.
    Quickstart(QuickstartArgs),
    /// Write a first configuration, with keys, a certificate, one merchant, one agent and an operator of yours.
    Init(InitArgs),
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
    /// Look at all that a configuration names, from here: machine, store, merchants, clocks. Nothing is changed.
    Doctor(DoctorArgs),
    /// Stop an agent, a merchant, a key, a credential, a card or everything, on every replica. What was begun
    /// before is finished.
    #[command(subcommand)]
    Suspend(Subject<HowStopped>),
    /// Let it go on.
    #[command(subcommand)]
    Resume(Subject<How>),
    /// List what is suspended, and who did it why.
    Suspensions(SuspensionsArgs),
    /// Have a running gateway read its configuration again. What is wrong, or takes away what is needed,
    /// changes nothing and is listed.
    Reload(ReloadArgs),
    /// List what a reload would change, and what stands in its way.
    Diff(ReloadArgs),
    /// List the claims of a running gateway that are in doubt or pending, show what is known of a session,
    /// or end a claim by hand.
    #[command(subcommand)]
    Claims(ClaimsVerb),
    /// Look through a store, or copy it.
    #[command(subcommand)]
    Store(StoreVerb),
    /// Try whether a merchant or an agent does what ACP and this gateway ask of it.
    #[command(subcommand)]
    Conformance(ConformanceVerb),
    /// Make a key; its private part goes to a new file only.
    Keygen(KeygenArgs),
    /// Sign a request and print its headers, ready for `curl -H @FILE`.
    Sign(SignArgs),
    /// Verify a signed request and print the exact bytes that were signed.
    Verify(VerifyArgs),
}

/// Runs the verb. Whether there was nothing wrong.
///
/// # Errors
/// [`CommandError`].
pub fn run(arguments: &Arguments, out: &mut dyn Write, errors: &mut dyn Write) -> Result<bool, CommandError> {
    let now = SystemClock.now();
    match &arguments.verb {
        Verb::Quickstart(arguments) => match &arguments.own.merchant {
            Some(url) => {
                let mut answers = io::stdin().lock();
                Ok(runtime()?.block_on(quickstart::run_before(arguments, url, &mut answers, out))?)
            }
            None => {
                let program = std::env::current_exe()?;
                Ok(runtime()?.block_on(quickstart::run(arguments, &program, out))?)
            }
        },
        Verb::Init(arguments) => init::init(arguments, now, out).map(|()| true),
        Verb::Serve { config } => runtime()?.block_on(serve::serve(config, errors)),
        Verb::Check { config } => Ok(check::check(config, out)?),
        Verb::Doctor(arguments) => Ok(runtime()?.block_on(doctor::doctor(arguments, out))?),
        Verb::Suspend(subject) => runtime()?.block_on(suspend::suspend(subject, out)),
        Verb::Resume(subject) => runtime()?.block_on(suspend::resume(subject, out)),
        Verb::Suspensions(arguments) => runtime()?.block_on(suspend::suspensions(arguments, out)),
        Verb::Reload(arguments) => runtime()?.block_on(reload::reload(arguments, false, out)),
        Verb::Diff(arguments) => runtime()?.block_on(reload::reload(arguments, true, out)),
        Verb::Claims(verb) => runtime()?.block_on(claims::claims(verb, out)),
        Verb::Store(verb) => runtime()?.block_on(store::store(verb, now, out)),
        Verb::Conformance(ConformanceVerb::Agent(arguments)) => {
            Ok(runtime()?.block_on(conformance::sandbox(arguments, out, errors))?)
        }
        Verb::Conformance(ConformanceVerb::Merchant(arguments)) => {
            let mut answers = io::stdin().lock();
            Ok(runtime()?.block_on(conformance::merchant(arguments, &mut answers, out, errors))?)
        }
        Verb::Keygen(arguments) => keygen::keygen(arguments, out).map(|()| true),
        Verb::Sign(arguments) => sign::sign(arguments, now, out).map(|()| true),
        Verb::Verify(arguments) => verify::verify(arguments, now, out),
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
