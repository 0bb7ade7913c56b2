//! What flows are made of: who is who and our keys, the books, and the desk at which things are told.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::call::Call;
use super::destinations::Destinations;
use super::refusal::{Internal, Refusal};
use super::reply::Reply;
use super::suspended::Suspended;
use crate::crypto::rings::KeyRings;
use crate::domain::clock::Clock;
use crate::domain::id::{MerchantId, SessionId};
use crate::domain::session::Session;
use crate::drain::Drain;
use crate::fraud::Velocity;
use crate::idempotency::KeptBytes;
use crate::ledger::Ledger;
use crate::records::BoxFuture;
use crate::registry::{Merchant, Registry};
use crate::telemetry::access::Observer;
use crate::telemetry::log::{Level, Log, Value};
use crate::telemetry::trail::Trail;
use crate::token::Allotments;

/// Who is who, and every key of ours.
pub(crate) struct Identities {
    /// Agents, merchants and redeemers.
    pub registry: Arc<Registry>,
    /// Our keys.
    pub rings: Arc<KeyRings>,
}

impl Identities {
    /// The merchant of that id.
    pub(super) fn merchant(&self, id: &MerchantId) -> Result<Arc<Merchant>, Refusal> {
        self.registry.merchant(id).cloned().ok_or(Refusal::MerchantUnknown)
    }
}

/// What is written down: the ledger, and what is counted beside it.
pub(crate) struct Books {
    /// Sessions, tokens and keys.
    pub ledger: Ledger,
    /// Live tokens of agents.
    pub allotments: Allotments,
    /// What is kept for agents off the money routes.
    pub kept: KeptBytes,
    /// Fraud counters.
    pub velocity: Arc<Velocity>,
}

/// What every flow tells and asks.
pub(crate) struct Desk {
    /// Metrics and log.
    pub observer: Observer,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Shutdown.
    pub drain: Drain,
    /// Where merchants are, as what runs says.
    pub destinations: Destinations,
    /// What operators have stopped.
    pub suspended: Suspended,
}

impl Desk {
    /// Runs a mutation to its end whatever the client does, and lets shutdown wait for it.
    pub(super) async fn detach(
        &self,
        trail: Trail,
        work: BoxFuture<'static, Result<Reply, Refusal>>,
    ) -> Result<Reply, Refusal> {
        let guard = self.drain.work();
        let (tell, told) = oneshot::channel();
        let log = self.observer.log().clone();
        tokio::spawn(async move {
            let _guard = guard;
            if let Err(unheard) = tell.send(work.await) {
                note_unheard(&log, &trail, &unheard);
            }
        });
        told.await.unwrap_or(Err(Refusal::Internal(Internal::Unfinished)))
    }

    /// Something a person must look at: one line in the log, at the highest level.
    pub(super) fn alarm(&self, what: &'static str, merchant: &MerchantId, session: &SessionId) {
        let fields = [("merchant", Value::from(merchant)), ("session", Value::from(session))];
        self.observer.log().event(Level::Error, what, &fields);
    }

    /// One record that cannot be read must not keep the rest from being counted.
    pub(super) fn unreadable_record(&self, kind: &'static str) {
        self.observer.log().event(Level::Error, "record_unreadable", &[("kind", Value::Text(kind))]);
    }
}

/// What became of a request whose client had gone: its own line was written before that was known.
fn note_unheard(log: &Log, trail: &Trail, unheard: &Result<Reply, Refusal>) {
    let (decision, status) = match unheard {
        Ok(reply) => (reply.decision, reply.status),
        Err(refusal) => (refusal.reason(), refusal.problem().status),
    };
    if let Some(cause) = unheard.as_ref().err().and_then(Refusal::cause) {
        trail.cause(cause);
    }
    let mut fields =
        vec![("decision", Value::Text(decision)), ("status", Value::Number(status.as_u16().into()))];
    fields.extend(trail.fields());
    log.event(Level::Info, "answer_unheard", &fields);
}

/// Before something new begins at a merchant.
pub(super) const fn refuse_retired(merchant: &Merchant) -> Result<(), Refusal> {
    if merchant.retired { Err(Refusal::MerchantRetired) } else { Ok(()) }
}

/// The session, if it belongs to the calling agent. To every other agent it does not exist.
pub(super) fn owned<'a>(session: Option<&'a Session>, call: &Call) -> Result<&'a Session, Refusal> {
    session.filter(|session| session.owner == call.agent.id).ok_or(Refusal::SessionUnknown)
}

/// As [`owned`], to change it.
pub(super) fn owned_mut<'a>(
    session: Option<&'a mut Session>,
    call: &Call,
) -> Result<&'a mut Session, Refusal> {
    session.filter(|session| session.owner == call.agent.id).ok_or(Refusal::SessionUnknown)
}
