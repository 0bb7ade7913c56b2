//! What is learnt of a request where it is worked on.
//!
//! Shared with its line in the log, and kept by work that runs on when the client is gone.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::line::{Identifier, Value};
use super::spans::{Span, Spans, Stage};
use crate::domain::id::{ClaimId, SessionId, TokenId};
use crate::domain::money::Money;

/// What is learnt of one request. Clones share it.
#[derive(Clone, Default)]
pub struct Trail {
    learnt: Arc<Mutex<Learnt>>,
    /// Its spans, where somebody collects them.
    spans: Option<Arc<Spans>>,
}

/// As much as is known now.
#[derive(Clone, Default)]
pub(super) struct Learnt {
    /// The time that merchants were waited for; `None`: they were not.
    pub waited: Option<Duration>,
    /// The status of the merchant's last answer.
    pub merchant_status: Option<u16>,
    /// The code in it, where it was no success and has one that may be logged.
    pub merchant_code: Option<Identifier>,
    /// Why the last that was asked of it came to nothing.
    pub cause: Option<&'static str>,
    /// The checkout session it is about.
    pub session: Option<SessionId>,
    /// The claim it runs under.
    pub claim: Option<ClaimId>,
    /// The payment token it is about.
    pub token: Option<TokenId>,
    /// The money it is about.
    pub amount: Option<Money>,
    /// Which attempt of its claim.
    pub attempt: Option<u32>,
}

impl Trail {
    /// A trail whose stages are timed.
    pub(super) fn timed(spans: Option<Arc<Spans>>) -> Self {
        Self { learnt: Arc::default(), spans }
    }

    /// The request's spans.
    pub(super) fn request_spans(&self) -> Option<&Arc<Spans>> {
        self.spans.as_ref()
    }

    /// A stage begins; it ends when what is returned is dropped.
    pub fn span(&self, stage: Stage) -> Span {
        Span::begin(self.spans.as_ref(), stage)
    }

    /// A merchant was waited for; attempts add up.
    pub fn waited(&self, waited: Duration) {
        *self.learnt.lock().waited.get_or_insert_default() += waited;
    }

    /// A merchant answered, with this status and code, or did not; and why that came to nothing. A code
    /// that may not be logged is left out.
    pub fn merchant_answered(&self, status: Option<u16>, code: Option<&str>, cause: Option<&'static str>) {
        let mut learnt = self.learnt.lock();
        learnt.merchant_status = status;
        learnt.merchant_code = code.and_then(Identifier::parse);
        learnt.cause = cause;
    }

    /// Why it failed, in a word of our own.
    pub fn cause(&self, cause: &'static str) {
        self.learnt.lock().cause = Some(cause);
    }

    /// Whether it is known why it failed.
    pub fn has_cause(&self) -> bool {
        self.learnt.lock().cause.is_some()
    }

    /// It is about this checkout session.
    pub fn session(&self, session: &SessionId) {
        self.learnt.lock().session = Some(session.clone());
    }

    /// It runs under this claim.
    pub fn claim(&self, claim: &ClaimId) {
        self.learnt.lock().claim = Some(claim.clone());
    }

    /// It is about this payment token.
    pub fn token(&self, token: &TokenId) {
        self.learnt.lock().token = Some(token.clone());
    }

    /// It is about this much money.
    pub fn amount(&self, amount: Money) {
        self.learnt.lock().amount = Some(amount);
    }

    /// It is this attempt of its claim.
    pub fn attempt(&self, attempt: u32) {
        self.learnt.lock().attempt = Some(attempt);
    }

    /// What is known of whose money it was, and of why it failed, as fields of an event.
    pub fn fields(&self) -> Vec<(&'static str, Value)> {
        let learnt = self.learnt();
        let ids = [
            ("session", learnt.session.as_ref().map(Value::from)),
            ("claim", learnt.claim.as_ref().map(Value::from)),
            ("token", learnt.token.as_ref().map(Value::from)),
            ("cause", learnt.cause.map(Value::Text)),
        ];
        ids.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    pub(super) fn learnt(&self) -> Learnt {
        self.learnt.lock().clone()
    }
}
