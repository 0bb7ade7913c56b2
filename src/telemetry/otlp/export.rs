//! Takes traces out of their queue and tells them, a message at a time, until it is told to end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::collector::{Collector, NotTaken};
use super::message;
use super::settings::Settings;
use crate::telemetry::line::Value;
use crate::telemetry::log::{Level, Log};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::spans::Told;
use crate::telemetry::tracer::Traces;

/// Between two tries of a message, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Spans that are being told.
pub struct Exporting {
    end: watch::Sender<()>,
    task: JoinHandle<()>,
}

struct Exporter {
    collector: Collector,
    settings: Settings,
    metrics: Arc<Metrics>,
    log: Log,
    /// Whether the last message came to nothing, which is logged once.
    fails: bool,
}

/// Begins to tell what comes out of the queue.
pub fn start(
    collector: Collector,
    settings: Settings,
    traces: Traces,
    metrics: Arc<Metrics>,
    log: Log,
) -> Exporting {
    let exporter = Exporter { collector, settings, metrics, log, fails: false };
    let (end, ended) = watch::channel(());
    Exporting { end, task: tokio::spawn(exporter.run(traces, ended)) }
}

impl Exporting {
    /// Tells what is in the queue, and ends: within this time, whatever the collector does.
    pub async fn end_within(self, within: Duration) {
        let Self { end, mut task } = self;
        drop(end);
        if timeout(within, &mut task).await.is_err() {
            task.abort();
        }
    }
}

impl Exporter {
    async fn run(mut self, mut traces: Traces, mut ended: watch::Receiver<()>) {
        loop {
            let first = tokio::select! {
                told = traces.next() => told,
                // Asked again after a batch that the end cut short: unlike what is told once, it stays true.
                _ = ended.changed() => break,
            };
            let Some(first) = first else { return };
            let batch = self.gather(first, &mut traces, &mut ended).await;
            self.tell(&batch).await;
        }
        // What was noted until now, and nobody waits for company any more.
        while let Some(first) = traces.at_hand() {
            let batch = self.fill(vec![first], &mut traces);
            self.tell(&batch).await;
        }
    }

    /// As many as a message holds, of those that come within the time that they may wait.
    async fn gather(&self, first: Told, traces: &mut Traces, ended: &mut watch::Receiver<()>) -> Vec<Told> {
        let until = Instant::now() + self.settings.delay;
        let mut batch = self.fill(vec![first], traces);
        while spans(&batch) < self.settings.batch {
            let next = tokio::select! {
                next = timeout_at(until, traces.next()) => next,
                _ = ended.changed() => return batch,
            };
            match next {
                Ok(Some(told)) => batch.push(told),
                Ok(None) | Err(_) => break,
            }
        }
        batch
    }

    fn fill(&self, mut batch: Vec<Told>, traces: &mut Traces) -> Vec<Told> {
        while spans(&batch) < self.settings.batch
            && let Some(told) = traces.at_hand()
        {
            batch.push(told);
        }
        batch
    }

    async fn tell(&mut self, batch: &[Told]) {
        let request = message::request(&self.settings.resource, batch);
        let until = Instant::now() + self.settings.export_timeout;
        let mut pause = FIRST_PAUSE;
        let told = loop {
            let told = timeout_at(until, self.collector.send(&request)).await.unwrap_or(Err(NotTaken::Late));
            match told {
                Err(not) if not.is_for_now() && Instant::now() + pause < until => sleep(pause).await,
                Ok(_) | Err(_) => break told,
            }
            pause = pause.saturating_mul(2);
        };
        let sent = spans(batch);
        let not_taken = told.map_or(sent, |rejected| rejected.min(sent));
        self.metrics.spans("exported", sent.saturating_sub(not_taken));
        self.metrics.spans("not_taken", not_taken);
        match (told, self.fails) {
            (Err(not), false) => {
                self.log.event(Level::Warn, "traces_not_exported", &[("cause", Value::Text(not.as_str()))]);
            }
            (Ok(_), true) => self.log.event(Level::Info, "traces_exported_again", &[]),
            (Ok(_), false) | (Err(_), true) => {}
        }
        self.fails = told.is_err();
    }
}

fn spans(batch: &[Told]) -> usize {
    batch.iter().map(message::count).sum()
}
