//! The log: JSON lines, written by a thread of their own behind a bounded queue.
//!
//! So that a slow disk or terminal never holds up a request. When the queue is full a line is lost and
//! counted; a sink that refuses is tried again from the byte it refused, so that no line is lost or torn
//! by it. Warnings and errors have room of their own.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use super::line::EventRecord;
pub use super::line::{AccessRecord, Identifier, Level, Value, holds_card_number};
use super::metrics::Metrics;
use crate::domain::clock::Clock;

/// Lines waiting to be written: a second at 8,000 requests a second, about 4 MB.
const QUEUE_LINES: usize = 8_192;

/// Warnings and errors waiting to be written, beside the queue: a retry storm that fills it must not
/// cost the line that says why.
const QUEUE_ALARMS: usize = 1_024;

/// How long a sink that refuses is left alone: one that is full for the moment, as a pipe that does not
/// block, and one that failed, as a full disk.
const FULL_PAUSE: Duration = Duration::from_millis(5);
const FAILED_PAUSE: Duration = Duration::from_millis(100);

/// The writer lets lines gather for this long, so that it is woken a few times a second rather than
/// once a line.
const GATHER: Duration = Duration::from_millis(20);

enum Message {
    Access(Box<AccessRecord>),
    Event(EventRecord),
    Flush(SyncSender<()>),
    /// There are alarms.
    Wake,
}

type Alarms = Arc<Mutex<VecDeque<EventRecord>>>;

/// A handle on the log; clones write to the same one.
#[derive(Clone)]
pub struct Log {
    queue: SyncSender<Message>,
    alarms: Alarms,
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
        let alarms = Alarms::default();
        let writer = Writer { alarms: Arc::clone(&alarms), metrics: Arc::clone(&metrics), sink };
        std::thread::Builder::new().name("log".to_owned()).spawn(move || writer.write_lines(&lines))?;
        Ok(Self { queue, alarms, metrics, clock })
    }

    /// Writes the line of one request.
    pub fn access(&self, record: AccessRecord) {
        self.send(Message::Access(Box::new(record)));
    }

    /// Writes an operational event: `name` is a word of our own, fields must not be named `time`,
    /// `level` or `event`.
    pub fn event(&self, level: Level, name: &'static str, fields: &[(&'static str, Value)]) {
        let time = self.clock.now();
        let record = EventRecord { time, level, name, fields: fields.to_vec() };
        match level {
            Level::Info => self.send(Message::Event(record)),
            Level::Warn | Level::Error => self.alarm(record),
        }
    }

    fn alarm(&self, record: EventRecord) {
        let mut alarms = self.alarms.lock();
        if alarms.len() >= QUEUE_ALARMS {
            drop(alarms);
            self.metrics.log_line_dropped();
            return;
        }
        alarms.push_back(record);
        drop(alarms);
        // With a full queue the writer is awake, and looks for alarms before it takes more of it.
        let _ = self.queue.try_send(Message::Wake);
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

/// Standard output as a sink: as it is, so that what it refuses is known to the byte.
///
/// # Errors
/// What the system says.
pub fn stdout() -> std::io::Result<File> {
    Ok(File::from(std::io::stdout().as_fd().try_clone_to_owned()?))
}

struct Writer<W> {
    alarms: Alarms,
    metrics: Arc<Metrics>,
    sink: W,
}

impl<W: Write> Writer<W> {
    /// Writes until the last handle is gone.
    fn write_lines(mut self, lines: &Receiver<Message>) {
        let mut buffer = Vec::with_capacity(64 * 1024);
        while let Ok(first) = lines.recv() {
            let mut flushed = Vec::new();
            if !matches!(first, Message::Flush(_)) {
                std::thread::sleep(GATHER);
            }
            // Before anything else: they are what somebody is woken by.
            let alarms = std::mem::take(&mut *self.alarms.lock());
            alarms.iter().for_each(|alarm| self.add(&mut buffer, alarm));
            for message in std::iter::once(first).chain(lines.try_iter()).take(QUEUE_LINES) {
                match message {
                    Message::Access(record) => self.add(&mut buffer, &record),
                    Message::Event(record) => self.add(&mut buffer, &record),
                    Message::Flush(done) => flushed.push(done),
                    Message::Wake => {}
                }
            }
            if !self.write_all(&buffer) {
                return;
            }
            buffer.clear();
            for done in flushed {
                // Whoever asked may have stopped waiting.
                let _ = done.try_send(());
            }
        }
    }

    fn add(&self, buffer: &mut Vec<u8>, record: &impl Serialize) {
        let end = buffer.len();
        match serde_json::to_writer(&mut *buffer, record) {
            Ok(()) => buffer.push(b'\n'),
            Err(_) => {
                // Half a line must not spoil the next.
                buffer.truncate(end);
                self.metrics.log_line_dropped();
            }
        }
    }

    /// Writes all of it, however long the sink refuses; meanwhile the queue fills, and what finds no
    /// room there is counted. `false` when nobody has a handle any more who could wait for it.
    fn write_all(&mut self, mut bytes: &[u8]) -> bool {
        loop {
            let refused = match bytes {
                [] => self.sink.flush().err(),
                _ => match self.sink.write(bytes) {
                    Ok(0) => Some(ErrorKind::WriteZero.into()),
                    Ok(written) => {
                        bytes = bytes.get(written..).unwrap_or_default();
                        continue;
                    }
                    Err(error) => Some(error),
                },
            };
            match refused.map(|error| error.kind()) {
                None => return true,
                Some(ErrorKind::Interrupted) => {}
                // Every handle holds the alarms too.
                Some(_) if Arc::strong_count(&self.alarms) == 1 => return false,
                Some(ErrorKind::WouldBlock) => std::thread::sleep(FULL_PAUSE),
                Some(_) => std::thread::sleep(FAILED_PAUSE),
            }
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

    /// Takes a few bytes at a time and refuses in between, as a full pipe and a full disk do.
    struct Reluctant(Sink, usize);

    impl Write for Reluctant {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.1 += 1;
            match self.1 % 4 {
                0 => Err(ErrorKind::WouldBlock.into()),
                1 if self.1.is_multiple_of(5) => Err(ErrorKind::StorageFull.into()),
                2 => Err(ErrorKind::Interrupted.into()),
                _ => self.0.write(&bytes[..bytes.len().min(1_000)]),
            }
        }

        fn flush(&mut self) -> std::io::Result<()> {
            self.0.flush()
        }
    }

    fn dropped(metrics: &Metrics) -> usize {
        let text = metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix("countersign_log_lines_dropped_total "));
        line.unwrap().parse().unwrap()
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
        let dropped = dropped(&metrics);
        assert!(dropped >= QUEUE_LINES - 2, "{dropped}");
        assert_eq!(sink.lines().len() + dropped, 3 * QUEUE_LINES, "each line is written or counted");
    }

    #[test]
    fn a_sink_that_refuses_in_the_middle_of_a_line_loses_and_tears_none() {
        let (sink, metrics) = (Sink::default(), Arc::new(Metrics::new().unwrap()));
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_seconds(0)));
        let log = Log::start(Reluctant(sink.clone(), 0), Arc::clone(&metrics), clock).unwrap();
        for number in 0..500 {
            log.event(Level::Info, "line", &[("number", Value::Number(number))]);
        }
        assert!(log.flush(SOON));
        let numbers: Vec<u64> = sink.lines().iter().map(|line| line["number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..500).collect::<Vec<_>>());
        assert_eq!(dropped(&metrics), 0);
    }

    #[test]
    fn an_alarm_finds_room_when_the_queue_is_full() {
        let (log, sink, metrics) = log();
        sink.hold(true);
        for _ in 0..3 * QUEUE_LINES {
            log.event(Level::Info, "line", &[]);
        }
        assert!(dropped(&metrics) > 0, "the queue is full");
        for _ in 0..10 {
            log.event(Level::Error, "overcharge", &[]);
        }
        sink.hold(false);
        // The writer has the alarms before the rest of the queue.
        while !log.alarms.lock().is_empty() {
            std::thread::sleep(GATHER);
        }
        assert!(log.flush(SOON));
        let alarms = sink.lines().iter().filter(|line| line["event"] == "overcharge").count();
        assert_eq!(alarms, 10);
    }

    #[test]
    fn a_log_on_a_sink_that_always_fails_ends_with_its_last_handle() {
        struct Full {
            _alive: Arc<()>,
        }
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (alive, metrics) = (Arc::new(()), Arc::new(Metrics::new().unwrap()));
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_seconds(0)));
        let log = Log::start(Full { _alive: Arc::clone(&alive) }, metrics, clock).unwrap();
        log.event(Level::Error, "line", &[]);
        assert!(!log.flush(Duration::from_millis(50)), "nothing was written");
        drop(log);
        while Arc::strong_count(&alive) > 1 {
            std::thread::sleep(GATHER);
        }
    }
}
