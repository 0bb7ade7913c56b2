//! The `loadtest` binary: arguments in, results out.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use loadtest::arena::Arena;
use loadtest::compare::Rounds;
use loadtest::gate::Gate;
use loadtest::gateway::{binary, for_service};
use loadtest::measure::added::AddedLatency;
use loadtest::measure::growth::GrowthOf;
use loadtest::measure::hostile::HostileBeside;
use loadtest::measure::memory::MemoryOver;
use loadtest::measure::parts;
use loadtest::passthrough::PassThrough;
use loadtest::placement::Placement;
use loadtest::population::{Keys, Population};
use loadtest::progress::Progress;
use loadtest::report::{Machine, PinnedReport, Results, chart, markdown, splice};
use loadtest::run::Run;
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
    /// Run one scenario through the gateway.
    Run(RunAndTell),
    /// Compare with everything a user could pick instead, and judge the goals.
    Compare(Box<Compare>),
    /// Tell again what a run has shown.
    Report(Report),
    /// Count instructions; fail when a checkout costs far too many.
    Gate(Gate),
    /// Be the plain pass-through until stopped.
    PassThrough(PassThrough),
}

#[derive(Args)]
struct RunAndTell {
    #[command(flatten)]
    run: Run,
    /// Writes the outcome as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes a chart of the latency as SVG.
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// A section of the results.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    /// The comparison with others.
    Rows,
    /// Latency added at a fixed rate.
    Added,
    /// CPU as things grow.
    Growth,
    /// Memory over many requests.
    Memory,
    /// Good traffic beside hostile traffic.
    Hostile,
    /// Some rows and the latency again, the proxy alone on a core.
    Pinned,
    /// Parts of the hot path.
    Parts,
}

#[derive(Args)]
struct Compare {
    /// Only these sections; the others are taken from `--json`, if that exists.
    #[arg(long, value_enum, value_delimiter = ',')]
    sections: Vec<Section>,
    #[command(flatten)]
    rounds: Rounds,
    #[command(flatten)]
    added: AddedLatency,
    #[command(flatten)]
    growth: GrowthOf,
    #[command(flatten)]
    memory: MemoryOver,
    #[command(flatten)]
    hostile: HostileBeside,
    /// Agents.
    #[arg(long, default_value_t = 100)]
    agents: usize,
    /// Merchants.
    #[arg(long, default_value_t = 10)]
    merchants: usize,
    /// The gateway's binary; without it, both are built as they are for service.
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// An earlier binary of the gateway, for rows of its own, by turns with today's.
    #[arg(long)]
    before: Option<PathBuf>,
    /// Rounds with the proxy alone on a core.
    #[arg(long, default_value_t = 3)]
    pinned_rounds: usize,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
struct Report {
    #[command(flatten)]
    output: Output,
}

/// Where results go, besides standard output.
#[derive(Args)]
struct Output {
    /// As JSON; `report` and sections that are not measured read it.
    #[arg(long, default_value = "target/loadtest/results.json")]
    json: PathBuf,
    /// As Markdown.
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// A chart of the latency at half load, as SVG.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Into this document, in place of the results it holds.
    #[arg(long)]
    update: Option<PathBuf>,
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
    allow_many_connections();
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

/// As many open files as the system allows, for this process and those it starts.
fn allow_many_connections() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it is refused, fewer connections are open.
    let _ = setrlimit(Resource::Nofile, limit);
}

async fn perform(verb: Verb) -> Result<()> {
    match verb {
        Verb::Run(run) => run.perform().await,
        Verb::Compare(compare) => compare.perform().await,
        Verb::Report(Report { output }) => output.write(&output.read()?),
        Verb::Gate(gate) => {
            say(&gate.pass().await?);
            Ok(())
        }
        Verb::PassThrough(passthrough) => passthrough.serve().await,
    }
}

fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

impl RunAndTell {
    async fn perform(&self) -> Result<()> {
        let progress = Progress::default();
        let outcome = self.run.perform(&progress).await?;
        progress.show("");
        say(&outcome.table());
        if let Some(path) = &self.json {
            std::fs::write(path, serde_json::to_string_pretty(&outcome)?)?;
        }
        if let Some(path) = &self.svg {
            let curves = [(outcome.scenario.clone(), &outcome.curve)];
            std::fs::write(path, chart("Latency", &curves))?;
        }
        Ok(())
    }
}

impl Compare {
    async fn perform(&self) -> Result<()> {
        // Nobody asks what the gateway costs in a build that is not for service.
        if self.gateway.is_none()
            && let Some(program) = for_service()?
        {
            return Err(Command::new(program).args(std::env::args_os().skip(1)).exec().into());
        }
        let progress = Progress::default();
        let everyone = Population::new(self.agents, self.merchants, Keys::Ed25519)?;
        let arena = self.arena(&everyone)?;
        let mut results = self.output.read().unwrap_or_default();
        results.machine = Machine::here();
        let arguments = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
        results.command = format!("cargo run --release -p loadtest -- {arguments}");
        let is_wanted = |section| self.sections.is_empty() || self.sections.contains(&section);
        if is_wanted(Section::Growth) {
            self.growth.has_room(arena.path())?;
        }
        if is_wanted(Section::Rows) {
            results.rows = self.rounds.measure(&arena, &progress).await?;
            self.output.keep(&results)?;
        }
        if is_wanted(Section::Added) {
            results.added = Some(self.added.measure(&arena, &progress).await?);
            self.output.keep(&results)?;
        }
        if is_wanted(Section::Growth) {
            results.growth = self.growth.measure(&arena, &progress).await?;
            self.output.keep(&results)?;
        }
        if is_wanted(Section::Memory) {
            results.memory = Some(self.memory.measure(&arena, &progress).await?);
            self.output.keep(&results)?;
        }
        if is_wanted(Section::Hostile) {
            results.hostile = Some(self.hostile.measure(&arena, &progress).await?);
            self.output.keep(&results)?;
        }
        if is_wanted(Section::Parts) {
            results.parts = parts::measure(&arena, &progress).await?;
            self.output.keep(&results)?;
        }
        drop(arena);
        if is_wanted(Section::Pinned) {
            results.pinned = self.pinned(&everyone, &progress).await?.or(results.pinned);
        }
        progress.show("");
        self.output.keep(&results)?;
        self.output.write(&results)
    }

    fn arena(&self, everyone: &Population) -> Result<Arena> {
        let mut arena = Arena::new(everyone.clone(), binary(self.gateway.as_deref())?)?;
        if let Some(before) = &self.before {
            let found = before.canonicalize().with_context(|| before.display().to_string())?;
            arena.before = Some(found);
        }
        Ok(arena)
    }

    /// Where there is only one core, nothing is measured.
    async fn pinned(&self, everyone: &Population, progress: &Progress) -> Result<Option<PinnedReport>> {
        let placement = match Placement::pinned() {
            Ok(placement) => placement,
            Err(hindrance) => {
                progress.say(&format!("not pinned: {hindrance:#}"));
                return Ok(None);
            }
        };
        // The merchant too is started on the cores that are left.
        let mut arena = self.arena(everyone)?;
        arena.placement = placement;
        let rows = self.rounds.again(self.pinned_rounds).measure(&arena, progress).await?;
        Ok(Some(PinnedReport { rows, added: self.added.measure(&arena, progress).await? }))
    }
}

impl Output {
    fn read(&self) -> Result<Results> {
        let text = std::fs::read_to_string(&self.json).with_context(|| self.json.display().to_string())?;
        Ok(serde_json::from_str(&text)?)
    }

    fn keep(&self, results: &Results) -> Result<()> {
        if let Some(directory) = self.json.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(&self.json, serde_json::to_string_pretty(results)?)?;
        Ok(())
    }

    fn write(&self, results: &Results) -> Result<()> {
        let text = markdown(results);
        say(&text);
        if let Some(path) = &self.markdown {
            std::fs::write(path, &text)?;
        }
        if let Some(path) = &self.svg {
            let rows = results.rows.iter();
            let curves: Vec<_> =
                rows.filter_map(|row| Some((row.title.clone(), row.curve.as_ref()?))).collect();
            std::fs::write(path, chart("Latency at half load", &curves))?;
        }
        if let Some(path) = &self.update {
            std::fs::write(path, splice(&std::fs::read_to_string(path)?, &text)?)?;
        }
        Ok(())
    }
}
