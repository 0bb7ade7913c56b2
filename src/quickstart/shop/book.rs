//! What the shop knows and what happened to it: sessions, stock, charges, calls.
//!
//! Sessions, carts, stock, the ledger of charges, every call received, and the answers kept for
//! idempotency keys.

use std::collections::{HashMap, VecDeque};

use http::{HeaderMap, Method};

use super::basket::Cart;
use super::behaviour::{CallKind, Orders};
use super::catalogue::Catalogue;
use super::gateway::{NotRedeemed, Redeem};
use super::reply::Reply;
use super::session::Session;
use super::trust::Distrust;

/// Calls kept; a shop that stays up forgets the oldest.
const MAX_CALLS: usize = 100_000;

/// A call as it was received. It holds the credential of the gateway, but never a card.
#[derive(Clone, Debug)]
pub struct RecordedCall {
    /// Which call.
    pub kind: CallKind,
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: bytes::Bytes,
    /// Why the shop did not believe it, if it did not.
    pub distrust: Option<Distrust>,
    /// The number of the connection it came over.
    pub connection: u64,
}

/// Money taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// For which session.
    pub session: String,
    /// Under which claim: the idempotency key of the complete.
    pub claim: String,
    /// With which token.
    pub token: String,
    /// How much, in minor units.
    pub amount: u64,
    /// In which currency.
    pub currency: String,
    /// The last four digits of the card.
    pub last4: String,
    /// For which order.
    pub order: String,
}

/// What became of an idempotency key.
enum Kept {
    UnderWay([u8; 32]),
    Done([u8; 32], Reply),
}

/// What an idempotency key says about a request.
pub(super) enum Begun {
    /// Go on.
    Fresh,
    /// It was answered before.
    Replay(Reply),
    /// It is being answered.
    UnderWay,
    /// It was used for another body.
    Conflict,
}

/// Everything the shop knows.
pub(super) struct Book {
    pub catalogue: Catalogue,
    pub sessions: HashMap<String, Session>,
    pub carts: HashMap<String, Cart>,
    pub charges: Vec<Charge>,
    pub redeemed: Vec<Redeem>,
    pub not_redeemed: Vec<NotRedeemed>,
    pub orders: Orders,
    calls: VecDeque<RecordedCall>,
    keys: HashMap<String, Kept>,
}

impl Book {
    pub(super) fn new(catalogue: Catalogue) -> Self {
        Self {
            catalogue,
            sessions: HashMap::new(),
            carts: HashMap::new(),
            charges: Vec::new(),
            redeemed: Vec::new(),
            not_redeemed: Vec::new(),
            orders: Orders::default(),
            calls: VecDeque::new(),
            keys: HashMap::new(),
        }
    }

    pub(super) fn record(&mut self, call: RecordedCall) {
        if self.calls.len() == MAX_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back(call);
    }

    pub(super) fn calls(&self) -> impl Iterator<Item = &RecordedCall> {
        self.calls.iter()
    }

    /// Takes an idempotency key for a body of this digest; `late`, takes note of it only with
    /// [`Self::finish`].
    pub(super) fn begin(&mut self, key: &str, digest: [u8; 32], late: bool) -> Begun {
        match self.keys.get(key) {
            None if late => Begun::Fresh,
            None => {
                self.keys.insert(key.to_owned(), Kept::UnderWay(digest));
                Begun::Fresh
            }
            Some(Kept::UnderWay(other) | Kept::Done(other, _)) if *other != digest => Begun::Conflict,
            Some(Kept::UnderWay(_)) => Begun::UnderWay,
            Some(Kept::Done(_, reply)) => Begun::Replay(reply.clone()),
        }
    }

    /// Keeps the answer, unless it is an error of ours (rfc.agentic_checkout §6.5).
    pub(super) fn finish(&mut self, key: &str, digest: [u8; 32], reply: &Reply) {
        if reply.status >= 500 {
            self.keys.remove(key);
        } else {
            self.keys.insert(key.to_owned(), Kept::Done(digest, reply.clone()));
        }
    }
}
