//! This replica in the store's registry, from before its first write until after its last.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use crate::crypto::random::{self, RandomUnavailable};
use crate::domain::clock::{Clock, KeptClock};
use crate::records::formats::{Formats, Written};
use crate::records::replicas::{Membership, NotRegistered, RENEW_EVERY, Registered};
use crate::records::{RecordStore, StoreError};
use crate::telemetry::log::{Level, Log, Value};
use crate::telemetry::metrics::Metrics;

/// Keeps this replica registered.
pub(super) struct Registration {
    membership: Arc<Membership>,
    store: Arc<dyn RecordStore>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    log: Log,
}

/// What was told last, so that each change is told once.
#[derive(Default)]
struct Told {
    written: Option<Formats>,
    fails: bool,
}

impl Registration {
    /// Of a replica under a number of its own; what is to be written is said to `written`.
    pub(super) fn new(
        store: &Arc<dyn RecordStore>,
        written: &Written,
        clock: &Arc<KeptClock>,
        metrics: &Arc<Metrics>,
        log: &Log,
    ) -> Result<Self, RandomUnavailable> {
        let number = u64::from_be_bytes(random::bytes()?);
        Ok(Self {
            membership: Arc::new(Membership::new(Arc::clone(store), number, written.clone())),
            store: Arc::clone(store),
            clock: clock.clone(),
            metrics: Arc::clone(metrics),
            log: log.clone(),
        })
    }

    /// This replica in the registry.
    pub(super) fn membership(&self) -> Arc<Membership> {
        Arc::clone(&self.membership)
    }

    /// Registers for the first time. A store that cannot take it yet is asked again by [`Self::keep`]: until
    /// then what every release reads is written.
    ///
    /// # Errors
    /// [`NotRegistered`] where the gateway must not start.
    pub(super) async fn begin(&self) -> Result<(), NotRegistered> {
        match self.renew(&mut Told::default()).await {
            Ok(Registered { written, .. }) => {
                if !written.are_newest() {
                    let fields = [numbered("written", written), numbered("newest", Formats::NEWEST)];
                    self.log.event(Level::Warn, "older_formats_written", &fields);
                }
                Ok(())
            }
            Err(NotRegistered::Store(StoreError::Changed | StoreError::Unacknowledged)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Renews until `ended`, and says then that it is no more. In a store of one process there is nobody to
    /// tell: it is registered once.
    pub(super) async fn keep(self, ended: impl Future<Output = ()>) {
        let mut ended = std::pin::pin!(ended);
        let mut told = Told::default();
        let is_alone = self.store.is_exclusive();
        let mut tick = tokio::time::interval(RENEW_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick(), if !is_alone => {}
                () = self.membership.has_news(), if !is_alone => {}
                () = &mut ended => break,
            }
            let _ = self.renew(&mut told).await;
        }
        // One that cannot be told is left out by the others soon.
        let _ = self.membership.leave(self.clock.steady()).await;
    }

    async fn renew(&self, told: &mut Told) -> Result<Registered, NotRegistered> {
        let began = Instant::now();
        let renewed = self.membership.renew(self.clock.steady()).await;
        let outcome = match &renewed {
            Ok(_) => "ok",
            Err(NotRegistered::Store(_)) => "unavailable",
            Err(NotRegistered::TooOld { .. }) => "too_old",
        };
        self.metrics.store_operation(self.store.engine(), "register", outcome, began.elapsed());
        match &renewed {
            Ok(Registered { written, .. }) => {
                if told.written.is_some_and(|before| before != *written) {
                    self.log.event(Level::Info, "store_converted", &[numbered("written", *written)]);
                }
                *told = Told { written: Some(*written), fails: false };
            }
            Err(_) if told.fails => {}
            Err(error) => {
                told.fails = true;
                let level = match error {
                    NotRegistered::Store(_) => Level::Warn,
                    NotRegistered::TooOld { .. } => Level::Error,
                };
                let cause = ("cause", Value::Message(error.to_string()));
                self.log.event(level, "replica_not_registered", &[cause]);
            }
        }
        renewed
    }
}

fn numbered(name: &'static str, formats: Formats) -> (&'static str, Value) {
    (name, Value::Number(formats.number().into()))
}
