//! What may stand in a log line: typed fields only. There is no way to hand it a body, a header or
//! free text of a stranger.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::trace::TraceId;
use crate::domain::card::luhn;
use crate::domain::clock::Timestamp;
use crate::domain::id::{AgentId, ClaimId, KeyId, MerchantId, SessionId, TokenId};
use crate::domain::money::Currency;

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

/// An id of ours, or one that a merchant chose.
trait Named {
    fn name(&self) -> &str;
}

macro_rules! identifiers {
    ($($id:ty),*) => {$(
        impl From<&$id> for Value {
            fn from(id: &$id) -> Self {
                Self::Id(Identifier::known(id.as_str()))
            }
        }

        impl Named for $id {
            fn name(&self) -> &str {
                self.as_str()
            }
        }
    )*};
}
identifiers!(AgentId, ClaimId, KeyId, MerchantId, SessionId, TokenId);

/// An id that may stand in the log: at most 128 characters of `[A-Za-z0-9._~:/+=-]`, with no run
/// of digits that could be a card number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identifier(Arc<str>);

impl Identifier {
    /// Reads an id that a stranger chose, a request id for instance; `None` when it may not be
    /// logged.
    pub fn parse(text: &str) -> Option<Self> {
        may_be_logged(text).then(|| Self(text.into()))
    }

    /// The same, of text that others hold too.
    pub fn shared(text: Arc<str>) -> Option<Self> {
        may_be_logged(&text).then_some(Self(text))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn known(text: &str) -> Self {
        Self(masked(text).into())
    }
}

fn may_be_logged(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._~:/+=-".contains(&b);
    (1..=128).contains(&text.len()) && text.bytes().all(allowed) && !holds_card_number(text)
}

/// What stands in the log for it.
fn masked(text: &str) -> &str {
    if may_be_logged(text) { text } else { "masked" }
}

/// Digits of a card number (ISO/IEC 7812-1).
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 12..=19;

/// Whether groups of digits, with no letter between them, together are a card number: 12 to 19
/// digits that satisfy the Luhn checksum. A group counts whole, because among the digits of a long
/// number some would nearly always do.
pub fn holds_card_number(text: &str) -> bool {
    let mut before = b'-';
    text.as_bytes().iter().enumerate().any(|(at, byte)| {
        let begins = byte.is_ascii_digit() && !before.is_ascii_digit();
        before = *byte;
        begins && text.as_bytes().get(at..).is_some_and(begins_with_card_number)
    })
}

fn begins_with_card_number(text: &[u8]) -> bool {
    let (mut digits, mut count) = ([0; *CARD_DIGITS.end()], 0);
    let mut rest = text.iter().take_while(|byte| !byte.is_ascii_alphabetic()).peekable();
    while let Some(byte) = rest.next() {
        if !byte.is_ascii_digit() {
            continue;
        }
        let Some(next) = digits.get_mut(count) else { return false };
        *next = *byte;
        count += 1;
        let ends = rest.peek().is_none_or(|next| !next.is_ascii_digit());
        if ends && CARD_DIGITS.contains(&count) && luhn(digits.iter().copied().take(count)) {
            return true;
        }
    }
    false
}

/// A trace id, unless its digits could hide a card number anywhere among them. Few random ids do:
/// it takes twelve digits on end. No card begins with a zero, but many ids do.
pub(super) fn loggable(trace: TraceId) -> Option<TraceId> {
    let text = trace.to_string();
    let is_card = |digits: &[u8]| {
        digits.first() != Some(&b'0') && digits.iter().all(u8::is_ascii_digit) && luhn(digits.iter().copied())
    };
    (!CARD_DIGITS.into_iter().any(|length| text.as_bytes().windows(length).any(is_card))).then_some(trace)
}

/// One request, as logged.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename = "request")]
pub struct AccessRecord {
    /// When it was answered.
    #[serde(serialize_with = "rfc3339")]
    pub time: Timestamp,
    /// How urgent it is.
    pub level: Level,
    /// Who called: the client's address, as told by a trusted proxy if there is one.
    pub peer: IpAddr,
    /// Which route; our own name of it.
    pub route: &'static str,
    /// The status answered; `None` when the client left first.
    pub status: Option<u16>,
    /// What was decided, in a word: the reason of a refusal, or how it went.
    pub decision: &'static str,
    /// Why it failed, where that is not the caller's doing: what of ours, or of what was asked of a
    /// merchant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'static str>,
    /// The authenticated agent.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "known")]
    pub agent: Option<AgentId>,
    /// The configured merchant.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "known")]
    pub merchant: Option<MerchantId>,
    /// The checkout session it is about.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "known")]
    pub session: Option<SessionId>,
    /// The claim it runs under: the key that the merchant receives.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "known")]
    pub claim: Option<ClaimId>,
    /// The payment token it is about.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "known")]
    pub token: Option<TokenId>,
    /// How much money it is about, in minor units: the most a token is for, what was checked of a
    /// complete, what a redeemer asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<u64>,
    /// Of what.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "code")]
    pub currency: Option<Currency>,
    /// Which attempt of its claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
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
    /// The status of the merchant's last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merchant_status: Option<u16>,
    /// The code in it, if it may be logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merchant_code: Option<Identifier>,
    /// What of the merchant's answer is no use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merchant_fault: Option<&'static str>,
    /// Length of the request's body.
    pub bytes_in: u64,
    /// Length of the answer's body.
    pub bytes_out: u64,
}

/// One event, as logged.
pub(super) struct EventRecord {
    pub(super) time: Timestamp,
    pub(super) level: Level,
    pub(super) name: &'static str,
    pub(super) fields: Vec<(&'static str, Value)>,
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

/// Looked at by who writes the line, and not by who is waited for.
fn known<T: Named, S: Serializer>(id: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(id.as_ref().map_or("", |id| masked(id.name())))
}

fn code<S: Serializer>(currency: &Option<Currency>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(currency.as_ref().map_or("", Currency::as_str))
}

fn rfc3339<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_holds_no_card_number_and_nothing_that_breaks_a_line() {
        for good in ["req_1", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "1234567890123456", "a/b:c=d+e~f"] {
            assert!(Identifier::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "a b",
            "a\nb",
            "é",
            "\"",
            "4242424242424242",
            "x4242424242424242y",
            "4242-4242-4242-4242",
            "4242424242424242-1",
            "1/4242424242424242",
            "4242.4242:4242_4242",
            &"x".repeat(129),
        ] {
            assert!(Identifier::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_trace_id_holds_no_card_number_and_nearly_always_is_logged() {
        let logged = |id: &str| {
            let header = format!("00-{id}-b7ad6b7169203331-01");
            loggable(super::super::trace::TraceParent::parse(header.as_bytes()).unwrap().trace_id()).is_some()
        };
        for good in ["0af7651916cd43dd8448eb211c80319c", "0000000000000000a3ce929d0e0e4736"] {
            assert!(logged(good), "{good}");
        }
        for bad in ["42424242424242424242424242424242", "a4242424242424242bcdef0123456789"] {
            assert!(!logged(bad), "{bad}");
        }
    }
}
