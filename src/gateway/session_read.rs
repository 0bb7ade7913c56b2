//! A session as it was read for ourselves: what it proves, and why it proves nothing.

use std::time::Duration;

use super::call::Call;
use super::refusal::Refusal;
use super::reply::Reply;
use crate::acp::wire::session::SessionView;
#[cfg(test)]
use crate::domain::base_url::BaseUrl;
use crate::domain::clock::Timestamp;
use crate::domain::id::SessionId;
use crate::domain::session::{Lifecycle, Observation, ShownAt};
use crate::merchant::{Exchange, ForwardedHeaders, InvalidAnswer, SessionReading};

/// The least time between two reads for one claim in doubt.
pub(super) const SPACING: Duration = Duration::from_secs(2);

/// What came of reading a session for ourselves.
pub(super) struct SessionRead {
    pub reading: SessionReading,
    pub exchange: Exchange,
    /// The instant before the read was sent.
    pub asked_at: Timestamp,
    /// Where it was asked.
    pub shown_at: ShownAt,
    /// In whose version and language it was asked.
    pub passing: ForwardedHeaders,
}

impl SessionRead {
    /// What it proves; `None` when it is no evidence.
    pub(super) fn observation(&self) -> Option<Observation> {
        match &self.reading {
            SessionReading::Session(shown) => Some(observation(shown, self.asked_at, self.shown_at.clone())),
            SessionReading::Missing | SessionReading::Unreadable => None,
        }
    }

    /// One that brought nothing.
    #[cfg(test)]
    pub(super) fn lost(exchange: Exchange, asked_at: Timestamp) -> Self {
        let passing = ForwardedHeaders {
            version: "".into(),
            accept_language: None,
            content_type: None,
            accept: None,
            user_agent: None,
            request_id: "".into(),
            traceparent: None,
            forwarded_for: std::net::Ipv4Addr::LOCALHOST.into(),
            host: "".into(),
        };
        let shown_at = ShownAt { url: BaseUrl::new("https://shop.example"), is_only: true, is_first: true };
        Self { reading: SessionReading::Unreadable, exchange, asked_at, shown_at, passing }
    }

    /// Whether the answer is the one that this call would have got.
    pub(super) fn speaks_to(&self, call: &Call) -> bool {
        let spoken = |passing: &ForwardedHeaders| {
            (passing.version.clone(), passing.accept_language.clone(), passing.accept.clone())
        };
        spoken(&self.passing) == spoken(&call.passing)
    }

    /// Whether it says enough for a complete to begin.
    pub(super) fn shows_total(&self, may_have_forgotten: bool) -> Result<(), Refusal> {
        match (&self.reading, self.observation().map(|shown| shown.lifecycle)) {
            // Where a claim was that the store has forgotten nobody knows.
            (_, Some(_)) if may_have_forgotten && !self.shown_at.is_only => {
                Err(Refusal::OutcomeUnknown(SPACING))
            }
            // Perhaps at work on a complete that the store has forgotten.
            (_, Some(Lifecycle::Working | Lifecycle::Unknown)) if may_have_forgotten => {
                Err(Refusal::OutcomeUnknown(SPACING))
            }
            (SessionReading::Session(_), _) => Ok(()),
            (SessionReading::Missing, _) => Err(Refusal::SessionUnknown),
            (SessionReading::Unreadable, _) => Err(Refusal::SessionBusy(Duration::ZERO)),
        }
    }

    /// Why the session was not shown: what reached nobody, or did not come back, says so itself.
    pub(super) fn unreadable(&self, id: &SessionId) -> Refusal {
        let invalid = Refusal::MerchantAnswer(InvalidAnswer::of_exchange(&self.exchange, Some(id)));
        Reply::relayed(&self.exchange).err().unwrap_or(invalid)
    }
}

/// What a session answer proves.
pub(super) fn observation(shown: &SessionView, asked_at: Timestamp, shown_at: ShownAt) -> Observation {
    Observation {
        lifecycle: shown.lifecycle(),
        total: shown.known_total(),
        asked_at,
        order: shown.order_mark,
        shown_at,
        handlers: shown.handlers.clone(),
    }
}
