//! Keeps it so: what a checkout costs is counted in instructions and bounded.
//!
//! Instructions a checkout costs the gateway against what the same number of requests costs the
//! pass-through, counted by valgrind, and how often a complete and a GET ask for memory. No clock is read,
//! so that a busy machine changes nothing; the bounds are generous, so that only a blunder meets them.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::arena::Arena;
use crate::books::Page;
use crate::callgrind::Cost;
use crate::checkout::STEPS;
use crate::connection::Http;
use crate::drive::{Fleet, Watched};
use crate::gateway::{Options, binary, check, configure};
use crate::job::Job;
use crate::numbers::real;
use crate::population::{Keys, Population};
use crate::prepare::Preparation;
use crate::process::{Process, find, free_address};
use crate::request::{Proof, Style};
use crate::scenario::Scenario;

/// Checkouts of the shorter and of the longer run. What both share, such as starting, drops out.
const CHECKOUTS: [usize; 2] = [20, 120];
/// Sessions and tokens that are made before requests of one kind are counted.
const SESSIONS: usize = 120;
/// Requests of each kind, and of the kind that is counted.
const FEW: usize = 20;
const MANY: usize = 120;
/// Connections: enough that claims share syncs, as they do in service.
const CONNECTIONS: usize = 8;
/// Valgrind is slow.
const PATIENCE: Duration = Duration::from_secs(100);
/// How old the files of a configuration are made.
const AGE: Duration = Duration::from_secs(3_600);

/// What may be spent.
#[derive(Args)]
pub struct Gate {
    /// The most instructions a checkout (create, get, delegate, complete) may cost, as a multiple of
    /// what four requests cost the pass-through. About one and a half times what it is.
    #[arg(long, default_value_t = 21.0)]
    at_most: f64,
    /// The most often that a complete may ask for memory; about one and a half times what it does.
    #[arg(long, default_value_t = 195.0)]
    complete_allocations: f64,
    /// The most often that a GET may.
    #[arg(long, default_value_t = 62.0)]
    get_allocations: f64,
    /// Keeps what callgrind counted in this directory, for `callgrind_annotate`.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// The gateway's binary; the one beside this by default.
    #[arg(long)]
    gateway: Option<PathBuf>,
}

impl Gate {
    /// Counts and judges; what was found.
    ///
    /// # Errors
    /// When valgrind is not installed, or the bound is not kept.
    pub async fn pass(&self) -> Result<String> {
        let valgrind = find("valgrind").context("not installed: apt-get install valgrind")?;
        let everyone = Population::new(10, 2, Keys::Ed25519)?;
        let arena = Arena::new(everyone, binary(self.gateway.as_deref())?)?;
        let ours = per_job(&arena, &valgrind, true).await?;
        let plain = per_job(&arena, &valgrind, false).await?;
        let ratio = ours / plain;
        let mut told = format!(
            "a checkout costs {:.0} thousand instructions, {ratio:.1} times what four requests cost the plain pass-through ({:.0} thousand); at most {:.0} times",
            ours / 1e3,
            plain / 1e3,
            self.at_most
        );
        let mut is_kept = ratio <= self.at_most;
        let base = self.cost(&arena, &valgrind, FEW, FEW).await?;
        let complete = self.cost(&arena, &valgrind, MANY, FEW).await?;
        let get = self.cost(&arena, &valgrind, FEW, MANY).await?;
        let kinds = [("complete", complete, self.complete_allocations), ("GET", get, self.get_allocations)];
        let more = real(u64::try_from(MANY - FEW)?);
        for (kind, cost, at_most) in kinds {
            let Cost { instructions, allocations } = (cost - base).per(more);
            write!(
                told,
                "\na {kind} costs {:.0} thousand instructions and {allocations:.1} allocations; at most {at_most:.0}",
                instructions / 1e3,
            )?;
            is_kept &= allocations <= at_most;
        }
        if !is_kept {
            bail!("{told}");
        }
        Ok(told)
    }

    /// What a run of so many completes and GETs costs, on sessions and tokens that each run makes.
    async fn cost(&self, arena: &Arena, valgrind: &Path, completes: usize, gets: usize) -> Result<Cost> {
        let name = format!("{completes}-completes-{gets}-gets");
        let room = arena.room(&name)?;
        let counted = match &self.keep {
            Some(directory) => std::path::absolute(directory)?.join(format!("{name}.callgrind")),
            None => room.join("callgrind"),
        };
        let mut command = Command::new(valgrind);
        command.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", counted.display()));
        let address = gateway(arena, &room, &mut command)?;
        let mut process = Process::start(&name, &mut command, &room)?;
        process.wait_for(address)?;
        let preparation = arena.preparation(address, None);
        let sessions = preparation.tokens(preparation.sessions(SESSIONS).await?).await?;
        let paid = sessions.get(..completes).context("a session for each complete")?;
        let mut jobs = preparation.complete_jobs(paid, Proof::Key(Style::Rfc9421))?;
        jobs.extend(preparation.get_jobs(&sessions, gets, Proof::Key(Style::Unsigned))?);
        let fleet = Fleet::open(&preparation.target, CONNECTIONS, 1).await?;
        let page = Page::open(&arena.merchant.ledger);
        let (fleet, window) = fleet.closed(Arc::new(jobs), PATIENCE, Watched::default()).await?;
        page.balance(&window, true)?;
        drop(fleet);
        process.finish(PATIENCE)?;
        Cost::read(&fs::read_to_string(counted)?)
    }
}

/// Instructions a checkout costs the gateway, or as many requests the pass-through.
async fn per_job(arena: &Arena, valgrind: &Path, is_ours: bool) -> Result<f64> {
    let mut counts = Vec::new();
    for checkouts in CHECKOUTS {
        counts.push(count(arena, valgrind, is_ours, checkouts).await?);
    }
    let [less, more] = counts.as_slice() else { bail!("two runs") };
    let more_checkouts = CHECKOUTS.iter().max().zip(CHECKOUTS.iter().min()).map(|(most, least)| most - least);
    Ok((more - less) / real(u64::try_from(more_checkouts.unwrap_or(1))?))
}

async fn count(arena: &Arena, valgrind: &Path, is_ours: bool, checkouts: usize) -> Result<f64> {
    let name = format!("{}-{checkouts}", if is_ours { "gateway" } else { "plain" });
    let room = arena.room(&name)?;
    let mut command = Command::new(valgrind);
    command.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]);
    let address = if is_ours { gateway(arena, &room, &mut command)? } else { plain(arena, &mut command)? };
    let mut process = Process::start(&name, &mut command, &room)?;
    process.wait_for(address)?;
    let preparation = Preparation {
        target: arena.target(address, Http::One),
        everyone: arena.everyone.clone(),
        merchant: None,
        style: Style::Rfc9421,
    };
    let jobs: Vec<Job> = if is_ours {
        Scenario::Checkout.jobs(&preparation, checkouts).await?
    } else {
        preparation.bare_complete_jobs(checkouts, checkouts * STEPS, Proof::Key(Style::Rfc9421))?
    };
    let fleet = Fleet::open(&preparation.target, CONNECTIONS, 1).await?;
    let page = Page::open(&arena.merchant.ledger);
    let (fleet, window) = fleet.closed(Arc::new(jobs), PATIENCE, Watched::default()).await?;
    page.balance(&window, is_ours)?;
    drop(fleet);
    let log = process.finish(PATIENCE)?;
    instructions(&log).with_context(|| format!("valgrind counted nothing:\n{log}"))
}

fn gateway(arena: &Arena, room: &Path, command: &mut Command) -> Result<SocketAddr> {
    let (everyone, merchant) = (&arena.everyone, arena.merchant.address);
    let configured = configure(room, &arena.certificates, everyone, merchant, &Options::default())?;
    check(&arena.binary, &configured.file)?;
    set_back(room)?;
    arena.certificates.certificate_file.parent().map_or(Ok(()), set_back)?;
    command.arg(&arena.binary).arg("serve").arg("--config").arg(&configured.file);
    Ok(configured.address)
}

/// Makes the files in a directory as old as they are in service: what was written in the second of a start
/// is read again soon after, and would be counted in one run and not in another.
fn set_back(directory: &Path) -> Result<()> {
    let then = SystemTime::now() - AGE;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_file() {
            File::options().append(true).open(&path)?.set_modified(then)?;
        }
    }
    Ok(())
}

fn plain(arena: &Arena, command: &mut Command) -> Result<SocketAddr> {
    let address = free_address()?;
    arena.pass_through_at(address, command.arg(std::env::current_exe()?));
    Ok(address)
}

/// What valgrind says at the end: `I   refs:      1,234`.
fn instructions(log: &str) -> Option<f64> {
    let line = log.lines().rev().find(|line| line.contains("refs:"))?;
    let digits: String = line.split("refs:").nth(1)?.chars().filter(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valgrind_s_count_is_read() {
        assert_eq!(instructions("==12== hello\n==12== I   refs:      1,234,567\n"), Some(1_234_567.0));
        assert_eq!(instructions("==12== I refs:  7\n"), Some(7.0));
        assert_eq!(instructions("nothing"), None);
    }
}
