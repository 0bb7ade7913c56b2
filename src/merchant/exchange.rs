//! What became of a request to a merchant.
//!
//! An enum, never an error, because every case has a meaning for the claim it ran under.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::handshake::TlsFailure;
use crate::acp::wire::json::{Document, Value};
use crate::acp::wire::syntax::Outline;

/// What became of a request.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every exchange is an answer")]
pub enum Exchange {
    /// The merchant answered, in full.
    Answered(Answer),
    /// It is certain that the merchant did not act on it.
    NotSent(NotSent),
    /// Bytes may have left, and there is no whole answer.
    Lost(Lost),
}

impl Exchange {
    /// The answer, where there is one.
    pub const fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Answered(answer) => Some(answer),
            Self::NotSent(_) | Self::Lost(_) => None,
        }
    }

    /// Why there is no answer, in a word for logs; `None` where there is one.
    pub const fn cause(&self) -> Option<&'static str> {
        match self {
            Self::Answered(_) => None,
            Self::NotSent(reason) => Some(reason.as_str()),
            Self::Lost(reason) => Some(reason.as_str()),
        }
    }

    /// The same, unless a successful answer is about another session or cart than `resource`: then
    /// nothing of it is true of what was asked, and whatever else its connection carries is no better.
    #[must_use]
    pub fn about(self, resource: &str) -> Self {
        match self {
            Self::Answered(answer) if answer.is_about_another(resource) => {
                answer.connection.give_up();
                Self::Lost(Lost::Misplaced)
            }
            other => other,
        }
    }

    /// Whether its answer shows the session as it is now. A merchant answers a repeat as it answered
    /// the first time (rfc.agentic_checkout §6.3), whatever has changed the session since: so neither
    /// what it calls a replay does, nor the answer to a key that was used before.
    pub fn shows_the_present(&self, is_first_use: bool) -> bool {
        is_first_use && !self.answer().is_some_and(|answer| answer.is_replay)
    }
}

/// A merchant's answer: complete, within bounds and decoded.
#[derive(Clone)]
pub struct Answer {
    /// Its status; redirects are not followed.
    pub status: StatusCode,
    /// `Content-Type` without its parameters, lower-case.
    pub media_type: Option<Cow<'static, str>>,
    /// Its headers that may travel on to an agent; all others are gone.
    pub headers: HeaderMap,
    /// The body, with a content coding removed.
    pub body: Bytes,
    /// From handing the request over to the last byte of the body.
    pub elapsed: Duration,
    /// Whether it says that it was given before (`Idempotent-Replayed`, rfc.agentic_checkout §6.3).
    pub is_replay: bool,
    /// What carried it.
    pub connection: Carrier,
    /// What the body holds where it is JSON, once somebody has asked.
    outline: OnceLock<Option<Outline>>,
}

impl Answer {
    /// An answer given for the first time.
    pub fn new(
        status: StatusCode,
        media_type: Option<Cow<'static, str>>,
        headers: HeaderMap,
        body: Bytes,
        elapsed: Duration,
    ) -> Self {
        Self::over(Carrier::default(), status, media_type, headers, body, elapsed)
    }

    /// The same, over a connection.
    pub(super) fn over(
        connection: Carrier,
        status: StatusCode,
        media_type: Option<Cow<'static, str>>,
        headers: HeaderMap,
        body: Bytes,
        elapsed: Duration,
    ) -> Self {
        Self {
            status,
            media_type,
            headers,
            body,
            elapsed,
            is_replay: false,
            connection,
            outline: OnceLock::new(),
        }
    }

    /// The same answer with another body.
    #[must_use]
    pub fn with_body(self, body: Bytes) -> Self {
        Self { body, outline: OnceLock::new(), ..self }
    }

    /// Whether it shows a session or cart that is not `resource`.
    fn is_about_another(&self, resource: &str) -> bool {
        let id = self.json().and_then(Value::object).and_then(|object| object.get("id")?.text());
        self.status.is_success() && id.is_some_and(|id| id.as_str() != resource)
    }

    /// Whether the body is JSON.
    pub fn is_json(&self) -> bool {
        self.outline().is_some()
    }

    /// What the body says, where it is JSON.
    pub fn json(&self) -> Option<Value<'_>> {
        Value::of_outlined(&self.body, self.outline()?)
    }

    fn outline(&self) -> Option<&Outline> {
        let draw = || Document::of_body(&self.body).map(Document::into_outline);
        self.outline.get_or_init(draw).as_ref()
    }
}

impl fmt::Debug for Answer {
    /// Status, media type and length: no body is ever logged, because a merchant may echo a card.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("media_type", &self.media_type)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// The connection that carried an answer, as far as it must be known afterwards.
#[derive(Clone, Debug, Default)]
pub struct Carrier(Arc<AtomicBool>);

impl Carrier {
    /// Gives it up: no other request goes over it.
    pub fn give_up(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether no other request may go over it.
    pub fn is_given_up(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Why it is certain that the merchant did not act on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// Its name could not be resolved.
    #[error("the merchant's name does not resolve")]
    Unresolved,
    /// No address of it is one we may connect to.
    #[error("the merchant's address is private and its entry does not allow that")]
    AddressForbidden,
    /// The connection was refused.
    #[error("the merchant refuses connections")]
    Refused,
    /// There is no way to its network or host.
    #[error("there is no way to the merchant")]
    Unreachable,
    /// The connection broke before it was usable, or could not be made for another reason.
    #[error("the merchant cannot be connected to")]
    Connect,
    /// No connection within the connect deadline, or before the request's own.
    #[error("connecting to the merchant took too long")]
    Timeout(Stage),
    /// The TLS handshake failed.
    #[error("the TLS handshake with the merchant failed")]
    Tls(TlsFailure),
    /// The connection ended before the request was written, on a new connection too.
    #[error("the connection ended before the request was written")]
    Unwritten,
    /// HTTP/2: it takes no more requests at once, on as many connections as are opened to it.
    #[error("the merchant takes no more requests at once")]
    NoStream,
    /// HTTP/2: `REFUSED_STREAM`, or a stream above a `GOAWAY`'s last (RFC 9113 §8.7).
    #[error("the merchant refused the stream unprocessed")]
    StreamRefused,
    /// An operator has stopped it.
    #[error("the request is not to be sent")]
    Withheld,
    /// A value cannot be written into a header, there is no randomness to sign with, or what is kept of it
    /// cannot be opened.
    #[error("the request cannot be written or signed")]
    NotBuilt,
}

impl NotSent {
    /// Whether nobody could be reached, as far as that is the merchant's doing or its network's.
    pub const fn is_unreached(self) -> bool {
        match self {
            Self::Unresolved
            | Self::AddressForbidden
            | Self::Refused
            | Self::Unreachable
            | Self::Connect
            | Self::Timeout(Stage::Dns | Stage::Connect | Stage::Tls)
            | Self::Tls(_)
            | Self::Unwritten => true,
            Self::Timeout(Stage::Pool | Stage::Write)
            | Self::NoStream
            | Self::StreamRefused
            | Self::Withheld
            | Self::NotBuilt => false,
        }
    }

    /// The word in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unresolved => "unresolved",
            Self::AddressForbidden => "address_forbidden",
            Self::Refused => "connection_refused",
            Self::Unreachable => "unreachable",
            Self::Connect => "connection_failed",
            Self::Timeout(stage) => stage.as_str(),
            Self::Tls(failure) => failure.as_str(),
            Self::Unwritten => "unwritten",
            Self::NoStream => "no_stream",
            Self::StreamRefused => "stream_refused",
            Self::Withheld => "withheld",
            Self::NotBuilt => "not_built",
        }
    }
}

/// How far a request had come when its time was over, before anything of it had left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// It waited for a connection that others use or open.
    #[default]
    Pool,
    /// The merchant's name was being looked up.
    Dns,
    /// It was being connected to.
    Connect,
    /// In the TLS handshake.
    Tls,
    /// There was a connection, and it was not written.
    Write,
}

impl Stage {
    /// The word in logs and metrics for the end of its time there.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pool => "pool_timeout",
            Self::Dns => "dns_timeout",
            Self::Connect => "connect_timeout",
            Self::Tls => "tls_timeout",
            Self::Write => "write_timeout",
        }
    }
}

/// Why there is no whole answer although bytes may have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// No head of an answer in time.
    #[error("the merchant did not answer in time")]
    Timeout,
    /// The connection or stream ended before the head of an answer.
    #[error("the connection ended before an answer")]
    Reset,
    /// The same, with a TLS alert: TLS 1.3 tells only behind the handshake that a client's certificate is
    /// not accepted (RFC 8446 §4.4.2.4).
    #[error("the merchant ended the connection before an answer")]
    Alerted(TlsFailure),
    /// What came is not HTTP.
    #[error("the merchant's answer is not HTTP")]
    Malformed,
    /// The answer's body stopped early.
    #[error("the merchant's answer was cut short")]
    Truncated,
    /// The answer's body took too long.
    #[error("the merchant's answer was not finished in time")]
    SlowBody,
    /// The answer is larger than allowed, as sent or decoded.
    #[error("the merchant's answer is too large")]
    TooLarge,
    /// Its content coding is unknown or broken.
    #[error("the merchant's answer cannot be decoded")]
    Undecodable,
    /// It is an answer about another session or cart than was asked for.
    #[error("the merchant's answer is about another session")]
    Misplaced,
}

impl Lost {
    /// The word in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "head_timeout",
            Self::Reset => "reset",
            Self::Alerted(failure) => failure.as_str(),
            Self::Malformed => "malformed",
            Self::Truncated => "truncated",
            Self::SlowBody => "body_timeout",
            Self::TooLarge => "too_large",
            Self::Undecodable => "undecodable",
            Self::Misplaced => "misplaced",
        }
    }
}
