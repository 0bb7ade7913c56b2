//! The program's arguments, and the runs they ask for.

use std::time::Duration;

use clap::{Parser, ValueEnum as _};

use crate::redis_server::Persistence;
use crate::run::Run;
use crate::store::{Engine, RedisSettings};
use crate::tormentor::Fault;

/// How long a stall is in a short run: longer than `doubt_grace`, which is as short as it can be.
const SHORT_STALL: Duration = Duration::from_secs(65);
/// How long the first client certificate is good in a short run.
const SHORT_CERTIFICATE: Duration = Duration::from_secs(25);

/// Tortures the gateway and audits what is left.
#[derive(Parser)]
#[command(name = "torture")]
pub struct Arguments {
    /// The store; without it, a short run on each.
    #[arg(long)]
    engine: Option<Engine>,
    /// Checkouts, at least.
    #[arg(long, default_value_t = 20_000)]
    checkouts: usize,
    /// Faults.
    #[arg(long, default_value_t = 200)]
    faults: usize,
    /// What chance begins with.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kinds of faults; those usual for the engine by default.
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<Fault>,
    /// Of a hundred completes, how many the merchants spoil.
    #[arg(long, default_value_t = 10)]
    mischief: u64,
    /// So many failovers and no other faults.
    #[arg(long, conflicts_with_all = ["faults", "kinds"])]
    failovers: Option<usize>,
    /// Ten seconds without a store, with merchants that behave, and no other faults: only 503 may be
    /// answered meanwhile.
    #[arg(long, conflicts_with_all = ["faults", "kinds", "mischief", "failovers"])]
    outage: bool,
    /// Of the faults, so many are a gateway that stalls.
    #[arg(long, default_value_t = 3)]
    stalls: usize,
    /// How long a stall is, in seconds: longer than `doubt_grace`.
    #[arg(long, default_value_t = 90)]
    stall: u64,
    /// How long the first client certificate of a merchant is good, in seconds.
    #[arg(long, default_value_t = 60)]
    certificate: u64,
    /// `store.wait_replicas`
    #[arg(long, default_value_t = 1)]
    wait_replicas: u8,
    /// Redis keeps an append-only file.
    #[arg(long)]
    append_only: bool,
    /// The store forgets what it acknowledged, behind the gateway's back: the audit must find
    /// charges made twice.
    #[arg(long)]
    forget: bool,
    /// No merchant comes and goes.
    #[arg(long)]
    steady: bool,
    /// Purchases under way at once.
    #[arg(long, default_value_t = 64)]
    buyers: usize,
    /// What `cargo test NAME` hands to every test program.
    #[arg(hide = true)]
    filters: Vec<String>,
    #[arg(long, hide = true)]
    nocapture: bool,
    #[arg(long, hide = true)]
    test_threads: Option<usize>,
}

impl Arguments {
    /// Reads them, and ends the program when they are wrong.
    pub fn read() -> Self {
        Self::parse()
    }

    /// What is to be run; nothing when other tests were asked for.
    pub fn runs(&self) -> Option<Vec<Run>> {
        if !self.filters.is_empty() && !self.filters.iter().any(|filter| "torture".contains(filter.as_str()))
        {
            return None;
        }
        let Some(engine) = self.engine else { return Some(self.short()) };
        let mut run = self.run(engine, self.checkouts, self.faults);
        if !self.kinds.is_empty() {
            run.kinds.clone_from(&self.kinds);
        }
        if let Some(failovers) = self.failovers {
            (run.kinds, run.faults, run.stalls) = (vec![Fault::Failover], failovers, 0);
        }
        if self.outage {
            (run.kinds, run.faults, run.stalls, run.mischief, run.outage) =
                (vec![Fault::Outage], 1, 0, 0, true);
            run.flaps = false;
        }
        run.forget = self.forget;
        Some(vec![run])
    }

    /// A run on each engine, and one that must not pass.
    fn short(&self) -> Vec<Run> {
        let mut runs: Vec<Run> =
            Engine::value_variants().iter().map(|engine| self.run(*engine, 150, 6)).collect();
        runs.push(Run { forget: true, mischief: 0, ..self.run(Engine::Embedded, 150, 0) });
        for run in &mut runs {
            (run.stalls, run.stall) = (run.stalls.min(1), SHORT_STALL);
            run.certificate = SHORT_CERTIFICATE;
        }
        runs
    }

    fn run(&self, engine: Engine, checkouts: usize, faults: usize) -> Run {
        let persistence = if self.append_only { Persistence::EverySecond } else { Persistence::None };
        Run {
            engine,
            redis: RedisSettings { wait_replicas: self.wait_replicas, persistence },
            checkouts,
            faults,
            seed: self.seed,
            kinds: Fault::usual(engine),
            mischief: self.mischief,
            outage: false,
            forget: false,
            flaps: !self.steady,
            stalls: self.stalls,
            stall: Duration::from_secs(self.stall),
            certificate: Duration::from_secs(self.certificate),
            buyers: self.buyers,
        }
    }
}
