//! The log: JSON lines, written by a thread of their own behind a bounded queue, so that a slow
//! disk or terminal never holds up a request. When the queue is full a line is lost and counted.
//!
//! A line is made of typed fields only: there is no way to hand it a body, a header or free text of
//! a stranger.

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::metrics::Metrics;
use super::trace::TraceId;
use crate::domain::card::luhn;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::id::{AgentId, ClaimId, KeyId, MerchantId, SessionId};

/// Lines waiting to be written: a second at 8,000 requests a second, about 4 MB.
const QUEUE_LINES: usize = 8_192;

/// The writer lets lines gather for this long, so that it is woken a few times a second rather than
/// once a line.
const GATHER: Duration = Duration::from_millis(20);

/// How urgent an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Normal life.
    Info,
    /// Something is wrong and handled.
    Warn,
    /// Somebody must look.
    Error,
}

/// The value of an event's field.
#[derive(Clone, Debug)]
pub enum Value {
    /// Words of our own code.
    Text(&'static str),
    /// A number.
    Number(u64),
    /// A truth.
    Flag(bool),
    /// A length of time; written in milliseconds.
    Duration(Duration),
    /// A network address.
    Address(IpAddr),
    /// An instant.
    Time(Timestamp),
    /// An id of one of the kinds that convert into this.
    Id(Identifier),
    /// What one of our error types displays: those never hold a stranger's bytes.
    Message(String),
}

impl Value {
    /// What an error says. For error types of this crate and of the operating system only.
    pub fn error(error: &dyn std::error::Error) -> Self {
        Self::Message(error.to_string())
    }
}

macro_rules! identifiers {
    ($($id:ty),*) => {$(
        impl From<&$id> for Value {
            fn from(id: &$id) -> Self {
                Self::Id(Identifier::known(id.as_str()))
            }
        }
    )*};
}
identifiers!(AgentId, ClaimId, KeyId, MerchantId, SessionId);

/// An id that may stand in the log: at most 128 characters of `[A-Za-z0-9._~:/+=-]`, with no run
/// of digits that could be a card number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identifier(Arc<str>);

impl Identifier {
    /// Reads an id that a stranger chose, a request id for instance; `None` when it may not be
    /// logged.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._~:/+=-".contains(&b);
        ((1..=128).contains(&text.len()) && text.bytes().all(allowed) && !holds_card_number(text))
            .then(|| Self(text.into()))
    }

    pub(super) fn known(text: &str) -> Self {
        Self::parse(text).unwrap_or_else(|| Self("masked".into()))
    }
}

/// Whether 13 to 19 digits in a row satisfy the Luhn checksum.
fn holds_card_number(text: &str) -> bool {
    text.as_bytes()
        .split(|b| !b.is_ascii_digit())
        .any(|run| (13..=19).any(|length| run.windows(length).any(|digits| luhn(digits.iter().copied()))))
}

/// One request, as logged.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename = "request")]
pub struct AccessRecord {
    /// When it was answered.
    #[serde(serialize_with = "rfc3339")]
    pub time: Timestamp,
    /// Who called: the client's address, as told by a trusted proxy if there is one.
    pub peer: IpAddr,
    /// Which route; our own name of it.
    pub route: &'static str,
    /// The status answered; `None` when the client left first.
    pub status: Option<u16>,
    /// What was decided, in a word: the reason of a refusal, or how it went.
    pub decision: &'static str,
    /// The authenticated agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Identifier>,
    /// The configured merchant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merchant: Option<Identifier>,
    /// `Request-Id`, the agent's own when it may be logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Identifier>,
    /// The trace it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
    /// Our own time, in microseconds.
    pub gateway_us: u64,
    /// The merchant's time, in microseconds; `None` when it was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_us: Option<u64>,
    /// Length of the request's body.
    pub bytes_in: u64,
    /// Length of the answer's body.
    pub bytes_out: u64,
}

struct EventRecord {
    time: Timestamp,
    level: Level,
    name: &'static str,
    fields: Vec<(&'static str, Value)>,
}

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

impl Serialize for EventRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry("time", &self.time.to_rfc3339())?;
        line.serialize_entry("level", &self.level)?;
        line.serialize_entry("event", self.name)?;
        for (name, value) in &self.fields {
            line.serialize_entry(name, value)?;
        }
        line.end()
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Duration(length) => {
                serializer.serialize_u64(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
            }
            Self::Address(address) => serializer.collect_str(address),
            Self::Time(time) => serializer.serialize_str(&time.to_rfc3339()),
            Self::Id(id) => id.serialize(serializer),
            Self::Message(message) => serializer.serialize_str(message),
        }
    }
}

fn rfc3339<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339())
}
