//! A store whose operations are counted and timed: wraps any engine.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::{Either, ready};

use crate::domain::clock::Timestamp;
use crate::records::{
    Batch, BoxFuture, Committed, Identity, Kind, Reading, Record, RecordKey, RecordStore, StoreError,
};
use crate::telemetry::metrics::Metrics;

/// An engine under measurement.
pub struct Measured {
    store: Arc<dyn RecordStore>,
    metrics: Arc<Metrics>,
}

impl Measured {
    /// Reports `store`'s operations to `metrics`.
    pub fn new(store: Arc<dyn RecordStore>, metrics: Arc<Metrics>) -> Self {
        metrics.store_counted(store.engine());
        Self { store, metrics }
    }

    async fn measure<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
        outcome: impl FnOnce(&T) -> &'static str,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let result = work.await;
        self.note(operation, started, &result, outcome);
        result
    }

    fn note<T>(
        &self,
        operation: &'static str,
        started: Instant,
        result: &Result<T, StoreError>,
        outcome: impl FnOnce(&T) -> &'static str,
    ) {
        let outcome = match result {
            Ok(value) => outcome(value),
            Err(StoreError::Unavailable) => "unavailable",
            Err(StoreError::NoSpace) => "no_space",
            Err(StoreError::Unacknowledged) => "unacknowledged",
            Err(StoreError::Corrupt) => "corrupt",
            Err(StoreError::Changed) => "changed",
        };
        self.metrics.store_operation(self.store.engine(), operation, outcome, started.elapsed());
    }
}

impl RecordStore for Measured {
    fn engine(&self) -> &'static str {
        self.store.engine()
    }

    fn identity(&self) -> Identity {
        self.store.identity()
    }

    fn read<'a>(&'a self, keys: &'a [RecordKey]) -> Reading<'a> {
        let started = Instant::now();
        match self.store.read(keys) {
            Either::Left(read) => {
                let found = read.into_inner();
                self.note("read", started, &found, |_| "ok");
                Either::Left(ready(found))
            }
            Either::Right(read) => Either::Right(Box::pin(self.measure("read", read, |_| "ok"))),
        }
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed, StoreError>> {
        let outcome = |committed: &Committed| match committed {
            Committed::Applied(_) => "ok",
            Committed::Conflict => "conflict",
        };
        Box::pin(self.measure("commit", self.store.commit(batch), outcome))
    }

    fn due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Timestamp, RecordKey)>, StoreError>> {
        self.store.due(now, limit)
    }

    fn scan<'a>(
        &'a self,
        kind: Kind,
        after: Option<&'a RecordKey>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(RecordKey, Record)>, StoreError>> {
        self.store.scan(kind, after, limit)
    }

    fn sweep(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(self.measure("sweep", self.store.sweep(now, limit), |_| "ok"))
    }

    fn health(&self) -> Result<(), StoreError> {
        self.store.health()
    }

    fn may_have_forgotten(&self) -> bool {
        self.store.may_have_forgotten()
    }

    fn reads_are_acknowledged(&self) -> bool {
        self.store.reads_are_acknowledged()
    }

    fn is_exclusive(&self) -> bool {
        self.store.is_exclusive()
    }

    fn refuse_older_releases(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.refuse_older_releases()
    }

    fn joins_partitions(&self) -> bool {
        self.store.joins_partitions()
    }

    fn accept(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.accept()
    }
}
