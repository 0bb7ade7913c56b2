//! The shop's desk: what every call at it needs, whatever it is about.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::request::Parts;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use super::behaviour::{Behaviour, CallKind};
use super::book::Book;
use super::catalogue::Catalogue;
use super::context::Context;
use super::gateway::GatewayLink;
use super::trust::Trust;
use super::view::Viewer;
use crate::acp::header::IDEMPOTENCY_KEY;
use crate::acp::version::Version;
use crate::crypto::random::{self, RandomUnavailable};
use crate::domain::clock::Clock;

/// The shop behind its socket.
pub(super) struct Desk {
    pub trust: Trust,
    pub clock: Arc<dyn Clock>,
    /// Whether idempotency keys are honoured.
    pub idempotency: bool,
    /// Whether a key is taken note of only with its answer.
    pub late_keys: bool,
    /// Whether a completed session is charged again when asked.
    pub careless: bool,
    pub book: Mutex<Book>,
    pub gateway: Mutex<Option<GatewayLink>>,
    /// Told when a call was recorded.
    pub arrivals: watch::Sender<()>,
    /// Told when held calls may go on.
    pub releases: watch::Sender<()>,
    /// `https` and the shop's authority.
    pub base_url: String,
    /// The numbers of the connections that are open.
    pub connections: Mutex<BTreeSet<u64>>,
}

/// The connection a call came over.
#[derive(Clone, Copy)]
pub(super) struct Came(pub u64);

/// A call that is believed.
pub(super) struct Call {
    pub kind: CallKind,
    pub head: Parts,
    pub json: Value,
    pub version: Version,
    /// What the gateway says about it; none when nothing is asked for.
    pub context: Option<Context>,
    pub behaviour: Behaviour,
}

impl Call {
    pub(super) fn key(&self) -> Option<&str> {
        self.head.headers.get(IDEMPOTENCY_KEY)?.to_str().ok()
    }
}

impl Desk {
    pub(super) fn viewer<'a>(&'a self, catalogue: &'a Catalogue, call: &Call) -> Viewer<'a> {
        Viewer { catalogue, version: call.version, merchant: &self.trust.merchant, base_url: &self.base_url }
    }

    /// An id nobody guesses.
    pub(super) fn new_id(&self, kind: &str) -> Result<String, RandomUnavailable> {
        Ok(format!("{kind}_{}", random::base62(16)?))
    }
}
