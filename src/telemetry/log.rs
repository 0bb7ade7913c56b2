//! The log: JSON lines, written by a thread of their own behind a bounded queue, so that a slow
//! disk or terminal never holds up a request. When the queue is full a line is lost and counted.

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use super::line::EventRecord;
pub use super::line::{AccessRecord, Identifier, Level, Value};
use super::metrics::Metrics;
use crate::domain::clock::Clock;

/// Lines waiting to be written: a second at 8,000 requests a second, about 4 MB.
const QUEUE_LINES: usize = 8_192;

/// The writer lets lines gather for this long, so that it is woken a few times a second rather than
/// once a line.
const GATHER: Duration = Duration::from_millis(20);

enum Message {
    Access(AccessRecord),
    Event(EventRecord),
    Flush(SyncSender<()>),
}

/// A handle on the log; clones write to the same one.
#[derive(Clone)]
pub struct Log {
    queue: SyncSender<Message>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
}

impl Log {
    /// Starts a log that writes to `sink`.
    pub fn start(
        sink: impl Write + Send + 'static,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE_LINES);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write_lines(&lines, sink))?;
        Ok(Self { queue, metrics, clock })
    }

    /// Starts the log on standard output.
    pub fn to_stdout(metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        Self::start(std::io::stdout(), metrics, clock)
    }

    /// Writes the line of one request.
    pub fn access(&self, record: AccessRecord) {
        self.send(Message::Access(record));
    }

    /// Writes an operational event: `name` is a word of our own, fields must not be named `time`,
    /// `level` or `event`.
    pub fn event(&self, level: Level, name: &'static str, fields: &[(&'static str, Value)]) {
        let time = self.clock.now();
        self.send(Message::Event(EventRecord { time, level, name, fields: fields.to_vec() }));
    }

    /// Waits until every line sent before has been written, at most `within`. Blocks the thread:
    /// for shutdown. Answers whether all were written.
    pub fn flush(&self, within: Duration) -> bool {
        let (done, written) = sync_channel(1);
        let deadline = crate::domain::clock::Deadline::after(within);
        let mut message = Message::Flush(done);
        while let Err(refused) = self.queue.try_send(message) {
            match refused {
                std::sync::mpsc::TrySendError::Full(back) if !deadline.has_passed() => message = back,
                _ => return false,
            }
            std::thread::sleep(GATHER.min(deadline.remaining()));
        }
        written.recv_timeout(deadline.remaining()).is_ok()
    }

    fn send(&self, message: Message) {
        if self.queue.try_send(message).is_err() {
            self.metrics.log_line_dropped();
        }
    }
}

/// Writes until the last handle is gone. A sink that fails loses lines, never requests.
fn write_lines(lines: &Receiver<Message>, mut sink: impl Write) {
    let mut buffer = Vec::with_capacity(64 * 1024);
    while let Ok(first) = lines.recv() {
        let mut flushed = Vec::new();
        if !matches!(first, Message::Flush(_)) {
            std::thread::sleep(GATHER);
        }
        for message in std::iter::once(first).chain(lines.try_iter()).take(QUEUE_LINES) {
            let end = buffer.len();
            let written = match message {
                Message::Access(record) => serde_json::to_writer(&mut buffer, &record),
                Message::Event(record) => serde_json::to_writer(&mut buffer, &record),
                Message::Flush(done) => {
                    flushed.push(done);
                    continue;
                }
            };
            match written {
                Ok(()) => buffer.push(b'\n'),
                // Half a line must not spoil the next.
                Err(_) => buffer.truncate(end),
            }
        }
        let _ = sink.write_all(&buffer).and_then(|()| sink.flush());
        buffer.clear();
        for done in flushed {
            // Whoever asked may have stopped waiting.
            let _ = done.try_send(());
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::IpAddr;

    use parking_lot::{Condvar, Mutex};
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::domain::clock::{ManualClock, Timestamp};
    use crate::domain::id::SessionId;

    const SOON: Duration = Duration::from_secs(20);

    /// A sink to read back, which can be held up.
    #[derive(Clone, Default)]
    pub(in crate::telemetry) struct Sink(Arc<Held>);

    #[derive(Default)]
    struct Held {
        state: Mutex<(Vec<u8>, bool)>,
        changed: Condvar,
    }

    impl Sink {
        pub(in crate::telemetry) fn lines(&self) -> Vec<Json> {
            let written = String::from_utf8(self.0.state.lock().0.clone()).unwrap();
            written.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }

        fn hold(&self, held: bool) {
            self.0.state.lock().1 = held;
            self.0.changed.notify_all();
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let mut state = self.0.state.lock();
            self.0.changed.wait_while(&mut state, |state| state.1);
            state.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn log() -> (Log, Sink, Arc<Metrics>) {
        let (sink, metrics) = (Sink::default(), Arc::new(Metrics::new().unwrap()));
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_seconds(1_767_323_045)));
        (Log::start(sink.clone(), Arc::clone(&metrics), clock).unwrap(), sink, metrics)
    }

    #[test]
    fn an_event_is_one_line_of_json() {
        let (log, sink, _) = log();
        let session = SessionId::parse("cs_1").unwrap();
        let card = SessionId::parse("4242424242424242").unwrap();
        log.event(
            Level::Error,
            "overcharge",
            &[
                ("session", Value::from(&session)),
                ("other", Value::from(&card)),
                ("amount", Value::Number(7)),
                ("waited", Value::Duration(Duration::from_millis(1_500))),
                ("peer", Value::Address(IpAddr::from([192, 0, 2, 1]))),
                ("why", Value::error(&std::io::Error::from(std::io::ErrorKind::TimedOut))),
                ("at", Value::Time(Timestamp::from_unix_seconds(0))),
                ("final", Value::Flag(true)),
                ("kind", Value::Text("quo\"ted\n")),
            ],
        );
        assert!(log.flush(SOON));
        let expected = json!({
            "time": "2026-01-02T03:04:05Z", "level": "error", "event": "overcharge",
            "session": "cs_1", "other": "masked", "amount": 7, "waited": 1500, "peer": "192.0.2.1",
            "why": "timed out", "at": "1970-01-01T00:00:00Z", "final": true, "kind": "quo\"ted\n",
        });
        assert_eq!(sink.lines(), [expected]);
    }

    #[test]
    fn a_sink_that_stalls_loses_lines_and_holds_up_nobody() {
        let (log, sink, metrics) = log();
        sink.hold(true);
        // Enough to fill the queue, whatever the writer took out of it before it stalled.
        for _ in 0..3 * QUEUE_LINES {
            log.event(Level::Info, "line", &[]);
        }
        assert!(!log.flush(Duration::from_millis(50)), "not everything is written");
        sink.hold(false);
        assert!(log.flush(SOON));
        let dropped: usize = metrics
            .encode()
            .lines()
            .find_map(|line| line.strip_prefix("countersign_log_lines_dropped_total "))
            .unwrap()
            .parse()
            .unwrap();
        assert!(dropped >= QUEUE_LINES - 2, "{dropped}");
        assert_eq!(sink.lines().len() + dropped, 3 * QUEUE_LINES, "each line is written or counted");
    }
}
