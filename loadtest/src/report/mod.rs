//! Results: kept as JSON, told as Markdown and as a chart.

mod chart;
mod goals;
mod machine;
mod table;

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::drive::Window;
use crate::numbers::{median, quantile, real, size};

pub use chart::chart;
pub use goals::{Goal, Verdict, goals, milestones};
pub use machine::Machine;
pub use table::{markdown, splice};

/// Quantiles a curve is kept at: dense where the tail is.
const CURVE: [f64; 14] =
    [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.9975, 0.999, 0.9995, 0.9999, 1.0];

/// Everything one run has shown.
#[derive(Serialize, Deserialize, Default)]
pub struct Results {
    /// Where.
    pub machine: Machine,
    /// How it was called.
    pub command: String,
    /// The comparison.
    pub rows: Vec<RowReport>,
    /// Some of it with the proxy alone on a core.
    #[serde(default)]
    pub pinned: Option<PinnedReport>,
    /// Latency added at a fixed rate of arrivals.
    pub added: Option<Added>,
    /// CPU a request as things grow.
    pub growth: Vec<Growth>,
    /// Memory over many requests.
    pub memory: Option<Memory>,
    /// Good traffic beside hostile traffic.
    pub hostile: Option<Hostile>,
    /// Parts of the hot path, in nanoseconds.
    pub parts: Vec<Part>,
}

/// What is measured again with the proxy alone on a core.
#[derive(Serialize, Deserialize, Clone)]
pub struct PinnedReport {
    /// The comparison.
    pub rows: Vec<RowReport>,
    /// Latency added at a fixed rate of arrivals.
    pub added: Added,
}

/// One window.
#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
pub struct Sample {
    /// CPU µs of the proxy a request.
    pub cpu: f64,
    /// CPU µs of what works beside it a request.
    pub beside: f64,
    /// Requests a second.
    pub throughput: f64,
    /// Milliseconds.
    pub p50: f64,
    /// Milliseconds.
    pub p99: f64,
    /// Resident megabytes of the proxy, at the end.
    pub megabytes: f64,
    /// Batches that shared a sync of the embedded store; 0 where there is none.
    #[serde(default)]
    pub batches_a_sync: f64,
}

impl Sample {
    /// CPU µs a request of the proxy and of what works beside it.
    pub fn both(&self) -> f64 {
        self.cpu + self.beside
    }

    /// What a window showed.
    pub fn of(window: &Window) -> Self {
        Self {
            cpu: window.cpu_micros(),
            beside: window.beside_micros(),
            throughput: window.throughput(),
            p50: window.millis(0.5),
            p99: window.millis(0.99),
            megabytes: window.megabytes(),
            batches_a_sync: 0.0,
        }
    }
}

const fn one() -> usize {
    1
}

/// One row of the comparison.
#[derive(Serialize, Deserialize, Clone)]
pub struct RowReport {
    /// Its name in results.
    pub id: String,
    /// Its name in tables.
    pub title: String,
    /// The row whose ratio to it is told.
    pub base: String,
    /// The row of the same work through an earlier binary.
    #[serde(default)]
    pub before: Option<String>,
    /// Requests in one of what it counts.
    #[serde(default = "one")]
    pub requests: usize,
    /// Why it was not measured.
    pub skipped: Option<String>,
    /// Closed loop, a sample a round.
    pub rounds: Vec<Sample>,
    /// Open loop at half of that, a sample for each of the first rounds.
    pub half_load: Vec<Sample>,
    /// Latency at half load.
    pub curve: Option<Curve>,
}

impl RowReport {
    /// A row without samples.
    pub fn new(id: &str, title: &str, base: &str) -> Self {
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            base: base.to_owned(),
            before: None,
            requests: one(),
            skipped: None,
            rounds: Vec::new(),
            half_load: Vec::new(),
            curve: None,
        }
    }

    /// The spread of something over the rounds.
    pub fn spread(&self, of: impl Fn(&Sample) -> f64) -> Spread {
        Spread::of(&self.rounds.iter().map(of).collect::<Vec<_>>())
    }

    /// The spread of something at half load.
    pub fn spread_at_half(&self, of: impl Fn(&Sample) -> f64) -> Spread {
        Spread::of(&self.half_load.iter().map(of).collect::<Vec<_>>())
    }

    /// The spread of the ratio to another row, round by round.
    pub fn ratio(&self, other: &Self, of: impl Fn(&Sample) -> f64) -> Spread {
        let pairs = self.rounds.iter().zip(&other.rounds);
        Spread::of(&pairs.map(|(own, other)| of(own) / of(other)).collect::<Vec<_>>())
    }

    /// The spread of the ratio to so many requests of another row as there are in one of this, round by
    /// round.
    pub fn price(&self, other: &Self, of: impl Fn(&Sample) -> f64) -> Spread {
        let many = size(self.requests) / size(other.requests.max(1));
        let Spread { low, median, high } = self.ratio(other, of);
        Spread { low: low / many, median: median / many, high: high / many }
    }

    /// The spread of the difference to another row, round by round.
    pub fn difference(&self, other: &Self, of: impl Fn(&Sample) -> f64) -> Spread {
        let pairs = self.rounds.iter().zip(&other.rounds);
        Spread::of(&pairs.map(|(own, other)| of(own) - of(other)).collect::<Vec<_>>())
    }

    /// The spread of the ratio to another row at half load.
    pub fn ratio_at_half(&self, other: &Self, of: impl Fn(&Sample) -> f64) -> Spread {
        let pairs = self.half_load.iter().zip(&other.half_load);
        Spread::of(&pairs.map(|(own, other)| of(own) / of(other)).collect::<Vec<_>>())
    }
}

/// A median with the quartiles beside it.
#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
pub struct Spread {
    /// The lower quartile.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// The upper quartile.
    pub high: f64,
}

impl Spread {
    /// Of some measures; NaN of none.
    pub fn of(measures: &[f64]) -> Self {
        let (low, high) = (quantile(measures, 0.25), quantile(measures, 0.75));
        Self { low, median: median(measures), high }
    }
}

/// Latency by quantile.
#[derive(Serialize, Deserialize, Clone)]
pub struct Curve(pub Vec<(f64, f64)>);

impl Curve {
    /// Quantiles and milliseconds of a histogram of microseconds.
    pub fn of(latency: &Histogram<u64>) -> Self {
        let at = |quantile| (quantile, real(latency.value_at_quantile(quantile)) / 1000.0);
        Self(CURVE.into_iter().map(at).collect())
    }
}

/// Latency added at a fixed rate of arrivals.
#[derive(Serialize, Deserialize, Clone)]
pub struct Added {
    /// Arrivals a second.
    pub rate: f64,
    /// Seconds a sample.
    pub seconds: f64,
    /// By row: samples.
    pub samples: BTreeMap<String, Vec<Sample>>,
    /// By row: all samples together.
    pub curves: BTreeMap<String, Curve>,
    /// The disk's own `fdatasync` after 4 KiB, in milliseconds: median and 99th percentile.
    pub fdatasync: (f64, f64),
}

/// CPU a request, small against large.
#[derive(Serialize, Deserialize, Clone)]
pub struct Growth {
    /// What grows.
    pub what: String,
    /// From.
    pub from: u64,
    /// To.
    pub to: u64,
    /// CPU µs a request, small.
    pub small: Vec<f64>,
    /// CPU µs a request, large, in the same rounds.
    pub large: Vec<f64>,
}

impl Growth {
    /// The ratio of large to small, round by round.
    pub fn ratio(&self) -> Spread {
        let pairs = self.large.iter().zip(&self.small);
        Spread::of(&pairs.map(|(large, small)| large / small).collect::<Vec<_>>())
    }
}

/// Memory over many requests.
#[derive(Serialize, Deserialize, Clone)]
pub struct Memory {
    /// Agents.
    pub agents: usize,
    /// Connections.
    pub connections: usize,
    /// Requests so far and resident megabytes, at each look.
    pub looks: Vec<(u64, f64)>,
}

/// Good traffic alone and beside hostile traffic.
#[derive(Serialize, Deserialize, Clone)]
pub struct Hostile {
    /// Good arrivals a second.
    pub good_rate: f64,
    /// Hostile arrivals a second.
    pub hostile_rate: f64,
    /// Good traffic alone, sample by sample.
    pub alone: Vec<Sample>,
    /// Good traffic beside the other, sample by sample.
    pub beside: Vec<Sample>,
    /// What the hostile requests were answered, by status.
    pub answers: BTreeMap<String, u64>,
}

/// A part of the hot path.
#[derive(Serialize, Deserialize, Clone)]
pub struct Part {
    /// What.
    pub name: String,
    /// Median nanoseconds.
    pub nanoseconds: f64,
}
