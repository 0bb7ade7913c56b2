//! Which traces are told, and the bounded way to whoever collects them.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::metrics::Metrics;
use super::otlp::Sampler;
use super::spans::{Lineage, Told};

/// Random bytes, where the system has any.
pub type Draw = fn() -> Option<[u8; 24]>;

/// Settles which traces are told, and hands them on.
#[derive(Clone)]
pub struct Tracer(Arc<Tracing>);

struct Tracing {
    sampler: Sampler,
    draw: Draw,
    /// Of those that did not fail.
    per_second: u32,
    /// When the second began that is counted, and how many were taken in it.
    taken: Mutex<(Instant, u32)>,
    metrics: Arc<Metrics>,
    queue: UnboundedSender<Told>,
    /// Spans in the queue, and the most there may be: the channel itself has no bound.
    queued: Arc<AtomicUsize>,
    most: usize,
}

/// Where traces come out.
pub struct Traces {
    queue: UnboundedReceiver<Told>,
    queued: Arc<AtomicUsize>,
}

impl Tracer {
    /// A tracer that tells at most so many traces a second of requests that did not fail, and keeps at most so many
    /// spans until they are collected.
    pub fn new(
        sampler: Sampler,
        draw: Draw,
        per_second: NonZeroU32,
        most: usize,
        metrics: Arc<Metrics>,
    ) -> (Self, Traces) {
        let (sender, receiver) = unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let tracing = Tracing {
            sampler,
            draw,
            per_second: per_second.get(),
            taken: Mutex::new((Instant::now(), 0)),
            metrics,
            queue: sender,
            queued: Arc::clone(&queued),
            most,
        };
        (Self(Arc::new(tracing)), Traces { queue: receiver, queued })
    }

    /// Random bytes for the ids of a request. None where the system has none: a request is not refused for that.
    pub(super) fn draw(&self) -> Option<[u8; 24]> {
        (self.0.draw)()
    }

    /// Whether a request that stands so is told, however it ends; `number` is random.
    pub(super) fn takes(&self, lineage: &Lineage, number: u64) -> bool {
        let is_wanted = match lineage {
            Lineage::Own => self.0.sampler.takes(number),
            Lineage::Honoured(parent) => self.0.sampler.honours(parent),
            Lineage::Passed(_) => false,
        };
        is_wanted && self.has_room()
    }

    fn has_room(&self) -> bool {
        let (now, mut taken) = (Instant::now(), self.0.taken.lock());
        if now.saturating_duration_since(taken.0) >= Duration::from_secs(1) {
            *taken = (now, 0);
        }
        let has_room = taken.1 < self.0.per_second;
        taken.1 = taken.1.saturating_add(has_room.into());
        has_room
    }

    /// Hands a trace on, or counts it as lost.
    pub(super) fn tell(&self, told: Told) {
        let Tracing { metrics, queue, queued, most, .. } = &*self.0;
        let spans = told.stages.len().saturating_add(1);
        let before = queued.fetch_add(spans, Ordering::Relaxed);
        if before.saturating_add(spans) > *most || queue.send(told).is_err() {
            queued.fetch_sub(spans, Ordering::Relaxed);
            metrics.spans("lost", spans);
        }
    }
}

impl Traces {
    /// The next one; `None` when no more will come.
    pub(super) async fn next(&mut self) -> Option<Told> {
        let told = self.queue.recv().await;
        self.took(told.as_ref());
        told
    }

    /// The next one, if it is there.
    pub(super) fn at_hand(&mut self) -> Option<Told> {
        let told = self.queue.try_recv().ok();
        self.took(told.as_ref());
        told
    }

    fn took(&self, told: Option<&Told>) {
        if let Some(told) = told {
            self.queued.fetch_sub(told.stages.len().saturating_add(1), Ordering::Relaxed);
        }
    }
}
