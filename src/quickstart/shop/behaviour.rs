//! How the shop misbehaves when it is told to: everything a gateway must survive in a merchant.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// The kinds of call a shop receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// `POST /checkout_sessions`
    Create,
    /// `GET /checkout_sessions/{id}`
    Read,
    /// `POST /checkout_sessions/{id}`
    Update,
    /// `POST /checkout_sessions/{id}/complete`
    Complete,
    /// `POST /checkout_sessions/{id}/cancel`
    Cancel,
    /// `POST /carts`
    CartCreate,
    /// `GET /carts/{id}`
    CartRead,
    /// `PUT /carts/{id}`
    CartUpdate,
    /// `POST /carts/{id}/cancel`
    CartCancel,
    /// Anything else.
    Other,
}

/// What the shop does with a call that it trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// What it should.
    Good,
    /// Begins to work only after this long; a duplicate meanwhile is told so.
    Delay(Duration),
    /// Does not begin to work before [`super::Shop::release`]; a duplicate meanwhile is told so.
    HoldBefore,
    /// Does its work and does not answer before [`super::Shop::release`].
    HoldAfter,
    /// Breaks the connection and does nothing.
    ResetBefore,
    /// Does its work and breaks the connection.
    ResetAfter,
    /// Does nothing but answer this.
    Instead(Canned),
    /// Does its work and then answers this.
    After(Canned),
    /// Does its work and answers with a change.
    Changed(Change),
    /// On complete: takes the order without charging, `pending_approval`, until
    /// [`super::Shop::approve`] or [`super::Shop::refuse`].
    PendingApproval,
    /// On complete: redeems the card, refuses, and repeats the card's number in the error and its
    /// headers.
    EchoCard,
    /// On complete: asks to redeem this many minor units more than the session's total.
    RedeemMore(u64),
    /// On complete: declines without redeeming the card.
    DeclineUnseen,
}

/// How an answer differs from what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another session's id.
    OtherSession,
    /// The first half of the body, then the connection breaks.
    Truncated,
    /// A second entry of type `total`, one minor unit above the first.
    ConflictingTotals,
    /// Every entry of type `total` this much higher.
    HigherTotal(u64),
    /// One byte of the body, then this long nothing, and so on.
    Dripping(Duration),
}

/// A fixed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canned {
    /// The status.
    pub status: u16,
    /// Headers, the content type among them.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Canned {
    /// An ACP error of this status.
    pub fn status(status: u16) -> Self {
        let kind = if status >= 500 { "processing_error" } else { "invalid_request" };
        let body = format!(r#"{{"type":"{kind}","code":"told_to","message":"The shop was told to."}}"#);
        Self::new(status, "application/json", body)
    }

    /// A page for people.
    pub fn html(status: u16) -> Self {
        Self::new(status, "text/html", "<html><body><h1>Sorry</h1></body></html>".to_owned())
    }

    /// A redirect to another path of the shop.
    pub fn redirect(status: u16) -> Self {
        Self::new(status, "text/plain", String::new()).with_header("location", "/thanks")
    }

    /// 429, to be tried again after so many seconds.
    pub fn too_many_requests(retry_after: u32) -> Self {
        Self::status(429).with_header("retry-after", &retry_after.to_string())
    }

    /// With one more header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn new(status: u16, content_type: &str, body: String) -> Self {
        Self { status, headers: vec![("content-type".to_owned(), content_type.to_owned())], body }
    }
}

/// What the shop was told.
#[derive(Default)]
pub(super) struct Orders {
    always: HashMap<CallKind, Behaviour>,
    next: HashMap<CallKind, VecDeque<Behaviour>>,
}

impl Orders {
    pub(super) fn always(&mut self, kind: CallKind, behaviour: Behaviour) {
        self.always.insert(kind, behaviour);
    }

    pub(super) fn once(&mut self, kind: CallKind, behaviour: Behaviour) {
        self.next.entry(kind).or_default().push_back(behaviour);
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// How to behave now: what was said for once comes first.
    pub(super) fn take(&mut self, kind: CallKind) -> Behaviour {
        let next = self.next.get_mut(&kind).and_then(VecDeque::pop_front);
        next.or_else(|| self.always.get(&kind).cloned()).unwrap_or(Behaviour::Good)
    }
}
