//! What the store tells its operator, as events of the log.

use crate::storage::Notice;
use crate::telemetry::log::{Level, Log, Value};
use crate::telemetry::metrics::Metrics;

/// Logs what the store tells, and counts what is to be counted.
pub(super) fn report(log: &Log, metrics: &Metrics, notice: &Notice) {
    match notice {
        Notice::Closed { cause } => log.event(Level::Error, "store_closed", &[why(cause)]),
        Notice::NotReopened { cause } => log.event(Level::Error, "store_not_reopened", &[why(cause)]),
        Notice::Reopened { after } => {
            log.event(Level::Warn, "store_reopened", &[("after", Value::Duration(*after))]);
        }
        Notice::TornWriteDropped { bytes } => {
            log.event(Level::Warn, "store_torn_write_dropped", &[("bytes", Value::Number(*bytes))]);
        }
        Notice::SpaceShort { free } => {
            log.event(Level::Error, "store_space_short", &[("free", Value::Number(*free))])
        }
        Notice::SpaceBack { free } => {
            log.event(Level::Warn, "store_space_back", &[("free", Value::Number(*free))])
        }
        Notice::Unreachable => log.event(Level::Error, "store_unreachable", &[]),
        Notice::ReachableAgain => log.event(Level::Warn, "store_reachable_again", &[]),
        Notice::PrimaryChanged => log.event(Level::Warn, "store_primary_changed", &[]),
        Notice::Changed => log.event(Level::Error, "store_changed", &[]),
        Notice::Accepted => log.event(Level::Warn, "store_accepted", &[]),
        Notice::EpochsUnusable { cause } => {
            log.event(Level::Error, "epoch_directory_unusable", &[why(cause)]);
        }
        Notice::EpochsUsable => log.event(Level::Warn, "epoch_directory_usable", &[]),
        Notice::EpochNodeUnusable { cause } => log.event(Level::Error, "epoch_nodes_unusable", &[why(cause)]),
        Notice::EpochNodesUsable => log.event(Level::Warn, "epoch_nodes_usable", &[]),
        Notice::EpochNodeRestarted { node } => {
            log.event(Level::Error, "epoch_node_restarted", &[("node", Value::Message(node.clone()))]);
            metrics.epoch_node_restarted();
        }
    }
}

/// What the disk or its file system said: words of ours and of the system's, never of a record.
fn why(cause: &str) -> (&'static str, Value) {
    ("cause", Value::Message(cause.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;
    use std::time::Duration;

    use parking_lot::Mutex;

    use super::*;
    use crate::domain::clock::SystemClock;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_store_that_closes_says_why() {
        let (sink, metrics) = (Sink::default(), Arc::new(Metrics::new().unwrap()));
        let log = Log::start(sink.clone(), Arc::clone(&metrics), Arc::new(SystemClock)).unwrap();
        report(&log, &metrics, &Notice::Closed { cause: "no space left".to_owned() });
        report(&log, &metrics, &Notice::NotReopened { cause: "read-only file system".to_owned() });
        assert!(log.flush(Duration::from_secs(20)));
        let lines: Vec<String> =
            String::from_utf8(sink.0.lock().clone()).unwrap().lines().map(str::to_owned).collect();
        assert!(lines[0].contains(r#""event":"store_closed","cause":"no space left""#), "{}", lines[0]);
        let second = r#""event":"store_not_reopened","cause":"read-only file system""#;
        assert!(lines[1].contains(second), "{}", lines[1]);
    }
}
