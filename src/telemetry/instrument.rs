//! Prometheus instruments whose number of labels is part of their type.
//!
//! The [`Instruments`] makes, registers and lists them. Apart, so that `metrics.rs` is one line for each
//! metric.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::exemplars::Exemplars;

const PREFIX: &str = "countersign_";

/// Upper bounds of every duration histogram, in seconds: from a check in memory to the longest a
/// merchant is waited for.
pub(super) const BUCKETS: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];

/// The metrics cannot be set up: a name is malformed or used twice.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// A distribution of durations in seconds.
    Histogram,
}

/// One metric as documented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Full name, prefix included.
    pub name: String,
    /// What it counts.
    pub kind: MetricKind,
    /// Label names, in order.
    pub labels: Vec<&'static str>,
    /// What it means, in one sentence.
    pub help: &'static str,
}

/// Makes instruments and remembers what it made.
pub(super) struct Instruments {
    registry: Registry,
    table: Vec<Definition>,
    exemplars: Exemplars,
}

impl Instruments {
    /// Only what the system tells of the process, `process_*`.
    pub(super) fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self { registry, table: Vec::new(), exemplars: Exemplars::default() })
    }

    pub(super) fn counters<const N: usize>(
        &mut self,
        name: &str,
        labels: [&'static str; N],
        help: &'static str,
    ) -> Result<Counters<N>, MetricsError> {
        let made = IntCounterVec::new(Opts::new(format!("{PREFIX}{name}"), help), &labels)?;
        self.keep(name, MetricKind::Counter, &labels, help, made.clone())?;
        Ok(Counters { made, known: None })
    }

    /// Counters of which each is there from the start, at 0: of no other words will be counted.
    pub(super) fn closed<const N: usize>(
        &mut self,
        name: &str,
        labels: [&'static str; N],
        sets: impl IntoIterator<Item = [&'static str; N]>,
        help: &'static str,
    ) -> Result<Counters<N>, MetricsError> {
        let open = self.counters(name, labels, help)?;
        let known: HashSet<_> = sets.into_iter().collect();
        known.iter().for_each(|values| drop(open.at(*values)));
        Ok(Counters { known: Some(Arc::new(known)), ..open })
    }

    pub(super) fn gauges<const N: usize>(
        &mut self,
        name: &str,
        labels: [&'static str; N],
        help: &'static str,
    ) -> Result<Gauges<N>, MetricsError> {
        let made = IntGaugeVec::new(Opts::new(format!("{PREFIX}{name}"), help), &labels)?;
        self.keep(name, MetricKind::Gauge, &labels, help, made.clone())?;
        Ok(Gauges(made))
    }

    pub(super) fn ages<const N: usize>(
        &mut self,
        name: &str,
        labels: [&'static str; N],
        help: &'static str,
    ) -> Result<Ages<N>, MetricsError> {
        let made = GaugeVec::new(Opts::new(format!("{PREFIX}{name}"), help), &labels)?;
        self.keep(name, MetricKind::Gauge, &labels, help, made.clone())?;
        Ok(Ages(made))
    }

    pub(super) fn durations<const N: usize>(
        &mut self,
        name: &str,
        labels: [&'static str; N],
        help: &'static str,
    ) -> Result<Durations<N>, MetricsError> {
        let options = HistogramOpts::new(format!("{PREFIX}{name}"), help).buckets(BUCKETS.to_vec());
        let made = HistogramVec::new(options, &labels)?;
        self.keep(name, MetricKind::Histogram, &labels, help, made.clone())?;
        Ok(Durations(made))
    }

    fn keep(
        &mut self,
        name: &str,
        kind: MetricKind,
        labels: &[&'static str],
        help: &'static str,
        made: impl Collector + 'static,
    ) -> Result<(), MetricsError> {
        self.registry.register(Box::new(made))?;
        self.table.push(Definition { name: format!("{PREFIX}{name}"), kind, labels: labels.to_vec(), help });
        Ok(())
    }

    /// Everything made so far, in order.
    pub(super) fn table(&self) -> &[Definition] {
        &self.table
    }

    /// Every sample.
    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// Which traces show what histograms hold.
    pub(super) const fn exemplars(&self) -> &Exemplars {
        &self.exemplars
    }

    /// Every sample in Prometheus' text format, version 0.0.4.
    pub(super) fn encode(&self) -> String {
        let mut out = Vec::with_capacity(16 * 1024);
        // Writing to memory fails only for a family without samples, which `gather` leaves out.
        let _ = TextEncoder::new().encode(&self.gather(), &mut out);
        String::from_utf8(out).unwrap_or_default()
    }
}

/// Counters told apart by `N` labels.
#[derive(Clone)]
pub(super) struct Counters<const N: usize> {
    made: IntCounterVec,
    /// The labels there are, where they are a closed set.
    known: Option<Arc<HashSet<[&'static str; N]>>>,
}

impl<const N: usize> Counters<N> {
    /// The counter with these label values.
    pub(super) fn at(&self, values: [&str; N]) -> IntCounter {
        debug_assert!(
            self.known.as_ref().is_none_or(|known| known.contains(&values)),
            "{values:?} is counted and does not stand in src/telemetry/metrics/words.rs"
        );
        self.made.with_label_values(&values)
    }

    pub(super) fn add_one(&self, values: [&str; N]) {
        self.at(values).inc();
    }

    /// Forgets the series with these label values, if there is one.
    pub(super) fn forget(&self, values: [&str; N]) {
        let _ = self.made.remove_label_values(&values);
    }
}

/// Gauges of whole numbers told apart by `N` labels.
#[derive(Clone)]
pub(super) struct Gauges<const N: usize>(IntGaugeVec);

impl<const N: usize> Gauges<N> {
    pub(super) fn at(&self, values: [&str; N]) -> prometheus::IntGauge {
        self.0.with_label_values(&values)
    }

    pub(super) fn set(&self, values: [&str; N], count: u64) {
        self.at(values).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Forgets one series.
    pub(super) fn forget(&self, values: [&str; N]) {
        let _ = self.0.remove_label_values(&values);
    }

    /// Forgets every series.
    pub(super) fn clear(&self) {
        self.0.reset();
    }
}

/// Gauges of seconds told apart by `N` labels.
#[derive(Clone)]
pub(super) struct Ages<const N: usize>(GaugeVec);

impl<const N: usize> Ages<N> {
    pub(super) fn set(&self, values: [&str; N], age: Duration) {
        self.0.with_label_values(&values).set(age.as_secs_f64());
    }
}

/// Duration histograms told apart by `N` labels.
#[derive(Clone)]
pub(super) struct Durations<const N: usize>(HistogramVec);

impl<const N: usize> Durations<N> {
    /// The histogram with these label values.
    pub(super) fn at(&self, values: [&str; N]) -> Histogram {
        self.0.with_label_values(&values)
    }

    pub(super) fn observe(&self, values: [&str; N], elapsed: Duration) {
        self.at(values).observe(elapsed.as_secs_f64());
    }

    /// Forgets the series with these label values, if there is one.
    pub(super) fn forget(&self, values: [&str; N]) {
        let _ = self.0.remove_label_values(&values);
    }
}

/// One more on a gauge for as long as it lives.
#[must_use]
pub struct Gauged(prometheus::IntGauge);

impl Gauged {
    pub(super) fn rise(gauge: &prometheus::IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Gauged {
    fn drop(&mut self) {
        self.0.dec();
    }
}
