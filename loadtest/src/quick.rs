//! The quick look: `complete` and `get` through the gateway and through the plain pass-through, by
//! turns, CPU beside CPU.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use countersign::domain::clock::{Clock as _, SystemClock};
use countersign::quickstart::certificates::Certificates;

use crate::books::balance;
use crate::connection::{Http, Target};
use crate::drive::{Fleet, Job, Window};
use crate::gateway::{AUTHORITY, Gateway, Options, binary};
use crate::merchant::{Behaviour, Merchant};
use crate::numbers::{length, median};
use crate::population::{Keys, Population};
use crate::prepare::{Preparation, bare_complete_jobs, bare_sessions, complete_jobs, get_jobs};
use crate::process::{Process, free_address};
use crate::request::{Proof, Style};

/// What to look at, for how long.
#[derive(Args)]
pub struct Quick {
    /// Rounds; each measures every row once.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Length of a window, in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Connections.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Agents.
    #[arg(long, default_value_t = 100)]
    agents: usize,
    /// Merchants.
    #[arg(long, default_value_t = 10)]
    merchants: usize,
    /// What agents sign with.
    #[arg(long, value_enum, default_value = "ed25519")]
    keys: Keys,
    /// How agents sign.
    #[arg(long, value_enum, default_value = "rfc9421")]
    style: Style,
    /// The most requests a second a window is prepared for.
    #[arg(long, default_value_t = 12_000.0)]
    at_most: f64,
    /// The gateway's binary; the one beside this by default.
    #[arg(long)]
    gateway: Option<PathBuf>,
}

impl Quick {
    /// Measures, and tells each row as it comes.
    ///
    /// # Errors
    /// When anything cannot be started, or an answer or the ledger is wrong.
    pub async fn run(&self, tell: &mut (dyn FnMut(String) + Send)) -> Result<()> {
        let directory = tempfile::tempdir()?;
        let certificates =
            Certificates::ensure(&directory.path().join("certs"), &[AUTHORITY], SystemClock.now())?;
        let everyone = Population::new(self.agents, self.merchants, self.keys)?;
        let merchant = Merchant::start(Behaviour::default())?;
        let gateway = Gateway::start(
            &binary(self.gateway.as_deref())?,
            &directory.path().join("gateway"),
            &certificates,
            &everyone,
            merchant.address,
            &Options::default(),
        )?;
        let address = free_address()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["pass-through", "--listen", &address.to_string()]);
        command.args(["--upstream", &merchant.address.to_string()]);
        command.arg("--certificate").arg(&certificates.certificate_file);
        command.arg("--key").arg(&certificates.key_file);
        let mut passthrough = Process::start("pass-through", &mut command, directory.path())?;
        passthrough.wait_for(address)?;
        let tls = Arc::new(certificates.client()?);
        let preparation = |address| Preparation {
            target: Target {
                address,
                authority: AUTHORITY.to_owned(),
                tls: Some(Arc::clone(&tls)),
                http: Http::One,
            },
            everyone: everyone.clone(),
            merchant: None,
            style: self.style,
        };
        let (ours, plain) = (preparation(gateway.address), preparation(address));
        let count = length(self.at_most * self.seconds);
        let mut cpu: [Vec<f64>; 4] = Default::default();
        let names = ["plain, complete", "plain, get", "gateway, complete", "gateway, get"];
        for round in 0..=self.rounds {
            let signed = Proof::Key(self.style);
            let unsigned = Proof::Key(Style::Unsigned);
            for (row, (name, cpu)) in names.into_iter().zip(&mut cpu).enumerate() {
                let jobs = match row {
                    0 => bare_complete_jobs(&plain, round, count * 3, signed)?,
                    1 => get_jobs(&plain, &bare_sessions(&plain, 1000)?, count * 3, unsigned)?,
                    2 => {
                        let sessions = ours.tokens(ours.sessions(count).await?).await?;
                        complete_jobs(&ours, &sessions, signed)?
                    }
                    _ => get_jobs(&ours, &ours.sessions(1000).await?, count * 2, unsigned)?,
                };
                let (process, target) = match row {
                    0 | 1 => (&passthrough, &plain.target),
                    _ => (&gateway.process, &ours.target),
                };
                process.settle().await?;
                let window = self.window(target, jobs, process, &merchant, row == 2).await?;
                tell(format!(
                    "{name}: {:.1} µs CPU, {:.0} req/s, p50 {:.2} ms, p99 {:.2} ms, {:.0} MB",
                    window.cpu_micros(),
                    window.throughput(),
                    window.millis(0.5),
                    window.millis(0.99),
                    crate::numbers::real(window.resident) / 1e6,
                ));
                if round > 0 {
                    cpu.push(window.cpu_micros());
                }
            }
        }
        for (name, cpu) in names.iter().zip(&cpu) {
            tell(format!("median {name}: {:.1} µs CPU", median(cpu)));
        }
        Ok(())
    }

    async fn window(
        &self,
        target: &Target,
        jobs: Vec<Job>,
        process: &Process,
        merchant: &Merchant,
        vouched: bool,
    ) -> Result<Window> {
        let jobs = Arc::new(jobs);
        let fleet = Fleet::open(target, self.connections, 1).await?;
        let longest = Duration::from_secs_f64(self.seconds);
        let (_, window) = fleet.closed(Arc::clone(&jobs), longest, Some(process)).await?;
        balance(&jobs, &window, merchant.ledger.take(), vouched)?;
        Ok(window)
    }
}
