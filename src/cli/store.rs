//! `countersign store`: whether a store is whole, and copies of it.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::Method;

use super::error::CommandError;
use super::reach::{Reach, overview_of};
use crate::domain::clock::Timestamp;
use crate::operator::check;
use crate::operator::wire::{AcceptAnswer, BackupAnswer, BackupRequest, ConvertAnswer, ReplicaList};
use crate::storage::backup::Backup;
use crate::storage::directory::DirectoryError;
use crate::storage::embedded::{ClosedStore, OpenError};
use crate::storage::{Engine, Settings};

/// Faults named one by one; of more only the number is told.
const NAMED: usize = 1_000;

/// What can be done about a store.
#[derive(Subcommand, Clone, Debug)]
pub(super) enum StoreVerb {
    /// Read every record of a store that no gateway has open, and name each fault.
    Check(CheckArgs),
    /// Copy a store, also while a gateway serves from it.
    Backup(BackupArgs),
    /// Take a shared store that has lost records, or is another one, as it is now.
    Accept(Reach),
    /// List the replicas that live, and the formats in which they write.
    Replicas(Reach),
    /// Have records written in the newest formats, once no replica lives that could not read them.
    Convert(Reach),
}

/// Arguments of `store check`: exactly one.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct CheckArgs {
    /// The gateway's TOML file; of it `[admin]` and `[store]` are read.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// The store's own directory, a backup's for example.
    #[arg(long)]
    pub directory: Option<PathBuf>,
}

/// Arguments of `store backup`.
#[derive(Args, Clone, Debug)]
pub(super) struct BackupArgs {
    /// How the gateway is reached, if it runs.
    #[command(flatten)]
    pub reach: Reach,
    /// A directory that does not exist yet.
    #[arg(long)]
    pub to: PathBuf,
}

/// Runs `store`. Whether there was nothing wrong. `now` says what has expired.
///
/// # Errors
/// [`CommandError`].
pub(super) async fn store(
    verb: &StoreVerb,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<bool, CommandError> {
    match verb {
        StoreVerb::Check(arguments) => look_through(arguments, now, out),
        StoreVerb::Backup(arguments) => backup(arguments, out).await,
        StoreVerb::Accept(reach) => {
            let _: AcceptAnswer = reach.admin()?.ask(Method::POST, "/store/accept", None).await?;
            writeln!(out, "the store is accepted as it is now; every replica follows by itself")?;
            Ok(true)
        }
        StoreVerb::Replicas(reach) => {
            let list: ReplicaList = reach.admin()?.ask(Method::GET, "/store/replicas", None).await?;
            writeln!(out, "formats written {}, newest {}", list.written, list.newest)?;
            for replica in &list.replicas {
                writeln!(
                    out,
                    "replica {} of release {} reads formats up to {}",
                    replica.id, replica.release, replica.reads
                )?;
            }
            if list.awaits_operator {
                writeln!(
                    out,
                    "replicas of releases that are not listed may live: once none does, `countersign store convert`"
                )?;
            }
            Ok(true)
        }
        StoreVerb::Convert(reach) => {
            let ConvertAnswer { written, converted_now } =
                reach.admin()?.ask(Method::POST, "/store/convert", None).await?;
            let since = if converted_now { "from now on" } else { "as before" };
            writeln!(
                out,
                "records are written in formats {written} {since}; every replica follows by itself"
            )?;
            Ok(true)
        }
    }
}

fn embedded(engine: Engine) -> Result<Settings, CommandError> {
    match engine {
        Engine::Embedded(settings) => Ok(settings),
        Engine::Redis { .. } => Err(CommandError::NotEmbedded),
    }
}

fn look_through(arguments: &CheckArgs, now: Timestamp, out: &mut dyn Write) -> Result<bool, CommandError> {
    let settings = match (&arguments.config, &arguments.directory) {
        (_, Some(directory)) => Settings { directory: directory.clone(), ..Settings::default() },
        (Some(config), None) => embedded(overview_of(config)?.store)?,
        (None, None) => Settings::default(),
    };
    let store = ClosedStore::open(&settings)?;
    writeln!(out, "{}", settings.directory.display())?;
    if let Some(bytes) = store.torn() {
        writeln!(out, "a write cut short by a crash was dropped: {bytes} bytes, never acknowledged")?;
    }
    let mut faults = 0;
    let mut named = Ok(());
    let summary = check::check(&store, now, &mut |fault| {
        faults += 1;
        if faults <= NAMED && named.is_ok() {
            named = writeln!(out, "fault: {fault}");
        }
    });
    named?;
    if faults > NAMED {
        writeln!(out, "and {} more", faults - NAMED)?;
    }
    for (what, count) in summary.counts() {
        writeln!(out, "{what:<22}{count:>12}")?;
    }
    if faults == 0 {
        writeln!(out, "the store is whole")?;
    } else {
        writeln!(out, "faults: {faults}; keep a copy of the directory, and restore a backup")?;
    }
    Ok(faults == 0)
}

async fn backup(arguments: &BackupArgs, out: &mut dyn Write) -> Result<bool, CommandError> {
    let directory = std::path::absolute(&arguments.to)?;
    let settings = embedded(arguments.reach.overview()?.store)?;
    let (records, bytes, milliseconds) = match ClosedStore::open(&settings) {
        Ok(store) => {
            let copied = store.copy_to(&directory, &|| true)?;
            (copied.records, copied.bytes, u64::try_from(copied.took.as_millis()).unwrap_or(u64::MAX))
        }
        // A gateway has it: it makes the copy itself.
        Err(OpenError::Directory(DirectoryError::Locked { .. })) => {
            let request = BackupRequest { directory: directory.to_string_lossy().into_owned() };
            let body = serde_json::to_vec(&request).map_err(std::io::Error::from)?;
            let answer: BackupAnswer =
                arguments.reach.admin()?.ask(Method::POST, "/store/backup", Some(body)).await?;
            (answer.records, answer.bytes, answer.milliseconds)
        }
        Err(error) => return Err(error.into()),
    };
    writeln!(
        out,
        "{}: {records} records, {bytes} bytes, in {milliseconds} ms; look through it with `countersign store check --directory`",
        directory.display()
    )?;
    Ok(true)
}
