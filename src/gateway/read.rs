//! Reads of sessions: relayed for agents, and made for totals, doubt and ownership. Every session
//! answer that passes is an observation.

use std::sync::Arc;

use super::Gateway;
use super::bracket::{deadline, owned};
use super::call::Call;
use super::notes::note;
use super::reading::{SPACING, Turn};
use super::refusal::Refusal;
use super::reply::Reply;
use crate::acp::wire::session::SessionView;
use crate::domain::allowance::Allowance;
use crate::domain::clock::Timestamp;
use crate::domain::id::{MerchantId, SessionId};
use crate::domain::session::{Lifecycle, Observation, Session, SessionKind};
use crate::ledger::Address;
use crate::limit::Permit;
use crate::merchant::{Exchange, InvalidAnswer, Passing, SessionReading, read_session, read_shown};
use crate::records::{Durability, Purpose};
use crate::registry::Merchant;

/// What came of reading a session for ourselves.
pub(super) struct SessionRead {
    pub reading: SessionReading,
    pub exchange: Exchange,
    /// The instant before the read was sent.
    pub asked_at: Timestamp,
    /// In whose version and language it was asked.
    pub passing: Passing,
}

impl SessionRead {
    /// What it proves; `None` when it is no evidence.
    pub fn observation(&self) -> Option<Observation> {
        match &self.reading {
            SessionReading::Shown(shown) => Some(observation(shown, self.asked_at)),
            SessionReading::Missing | SessionReading::Unreadable => None,
        }
    }

    /// One that brought nothing.
    #[cfg(test)]
    pub fn lost(exchange: Exchange, asked_at: Timestamp) -> Self {
        let passing = Passing {
            version: String::new(),
            accept_language: None,
            content_type: None,
            accept: None,
            user_agent: None,
            request_id: String::new(),
            traceparent: None,
            forwarded_for: std::net::Ipv4Addr::LOCALHOST.into(),
            host: String::new(),
        };
        Self { reading: SessionReading::Unreadable, exchange, asked_at, passing }
    }

    /// Whether the answer is the one that this call would have got.
    pub fn speaks_to(&self, call: &Call) -> bool {
        let spoken = |passing: &Passing| {
            (passing.version.clone(), passing.accept_language.clone(), passing.accept.clone())
        };
        spoken(&self.passing) == spoken(&call.passing)
    }
}

impl Gateway {
    /// GET of a session or cart, relayed.
    pub(super) async fn read_through(
        &self,
        call: &Call,
        merchant: &Arc<Merchant>,
        kind: SessionKind,
        id: &SessionId,
    ) -> Result<Reply, Refusal> {
        let address = self.ledger.address(kind, &merchant.id, id);
        let mut view = self.ledger.read(&address).await?;
        if view.session.is_none() && kind == SessionKind::Checkout {
            Box::pin(self.adopt(call, merchant, id)).await?;
            view = self.ledger.read(&address).await?;
        }
        let session = owned(view.session.as_ref(), call).map_err(|_| unknown(kind))?;
        self.refuse_replayed_read(call, Some(merchant)).await?;
        let _permit =
            self.concurrency.read(merchant, &call.agent.id, call.is_signed()).map_err(Refusal::Limited)?;
        let asked_at = self.clock.steady();
        let outbound = call.outbound(None, None, None, None, self.clock.now());
        let exchange = self.send(call, merchant, outbound).await;
        // What an agent's own query made of the session is no word about the session.
        if kind == SessionKind::Checkout
            && call.query.is_none()
            && let SessionReading::Shown(shown) = read_session(&exchange, id)
        {
            self.note_faults(&merchant.id, id, &shown);
            let observation = observation(&shown, asked_at);
            if is_news(session, &observation, merchant) {
                self.note_observation(&address, session.sequence, &observation, merchant, id).await?;
            }
        }
        Reply::relayed(&exchange)
    }

    /// Reads a session for ourselves.
    pub(super) async fn read_session(
        &self,
        call: &Call,
        merchant: &Arc<Merchant>,
        id: &SessionId,
    ) -> SessionRead {
        let asked_at = self.clock.steady();
        let outbound = call.session_read(id, self.clock.now());
        let passing = outbound.headers.clone();
        let exchange = self.send(call, merchant, outbound).await;
        SessionRead { reading: read_session(&exchange, id), exchange, asked_at, passing }
    }

    /// Whether a complete can be decided without asking the merchant: its total is known, or something
    /// else decides.
    pub(super) fn knows_enough(&self, session: &Session, merchant: &Merchant) -> bool {
        let fresh = session.fresh_total(self.clock.steady(), merchant.total_max_age).is_some();
        session.claim.is_some() || session.ending.is_some() || (fresh && !self.ledger.store().mistrusted())
    }

    /// Makes sure that the session's total is known, reading it where it is not, or where the store
    /// may have forgotten a claim: then what the merchant shows decides. One read a session is under
    /// way at a time, and who waits for another's holds no `place` meanwhile.
    pub(super) async fn ensure_total(
        &self,
        call: &Call,
        merchant: &Arc<Merchant>,
        id: &SessionId,
        place: &mut Option<Permit>,
    ) -> Result<(), Refusal> {
        let address = self.ledger.address(SessionKind::Checkout, &merchant.id, id);
        let mistrusted = self.ledger.store().mistrusted();
        let (begun, until) = (self.reads.begun(), deadline(merchant));
        loop {
            let session = owned(self.ledger.read(&address).await?.session.as_ref(), call)?.clone();
            if self.knows_enough(&session, merchant) {
                return Ok(());
            }
            match self.reads.turn(address.session_key(), None, self.clock.steady()) {
                Turn::Ours(reader) => {
                    if place.is_none() {
                        *place = Some(self.place(call, merchant)?);
                    }
                    let read = self.read_session(call, merchant, id).await;
                    if let Some(observation) = read.observation() {
                        self.note_observation(&address, session.sequence, &observation, merchant, id).await?;
                    }
                    let read = reader.done(read);
                    return match &read.reading {
                        SessionReading::Unreadable => Err(unreadable(&read.exchange, id)),
                        SessionReading::Shown(_) | SessionReading::Missing => shows_total(&read, mistrusted),
                    };
                }
                Turn::Theirs(under_way) => {
                    drop(place.take());
                    // One that was asked before the store forgot a claim shows nothing of it, and one for a
                    // claim in doubt leaves no total.
                    let is_enough = under_way.is_for_total() && (!mistrusted || under_way.is_after(begun));
                    match under_way.result(until).await {
                        // To ask a merchant that has just not answered, one after the other, would only
                        // make more of it.
                        Some(read) if is_enough => return shows_total(&read, mistrusted),
                        _ if until.has_passed() => return Err(Refusal::SessionBusy),
                        Some(_) | None => {}
                    }
                }
                // Only where a claim is in doubt.
                Turn::TooSoon => return Err(Refusal::SessionBusy),
            }
        }
    }

    /// Applies an observation to the session and to the claim it may end.
    pub(super) async fn note_observation(
        &self,
        address: &Address,
        sequence: u64,
        observation: &Observation,
        merchant: &Merchant,
        id: &SessionId,
    ) -> Result<(), Refusal> {
        let address = self.with_claimed_token(address.clone()).await?;
        let noted = self
            .ledger
            .transact(&address, Purpose::Finish, Durability::Synced, |view, present| {
                let Some(session) = view.session.as_mut() else { return Err(Refusal::SessionUnknown) };
                session.note_total(sequence, observation.total, present);
                note(view, observation, merchant, present).ok_or(Refusal::SessionUnknown)
            })
            .await??;
        self.tell(noted, &merchant.id, id);
        Ok(())
    }

    /// Counts a token that has ended as live no longer.
    pub(super) fn give_back(&self, ended: Option<Allowance>) {
        if let Some(Allowance { agent, expires_at, .. }) = ended {
            self.allotments.give_back(&agent, expires_at, self.clock.earliest());
        }
    }

    /// Counts and alarms an order that no open claim accounts for.
    pub(super) fn note_late_charge(&self, merchant: &MerchantId, id: &SessionId) {
        self.observer.metrics().claim("charged_late");
        self.alarm("charged_late", merchant, id);
    }

    /// Adds the token that the session's open claim holds, so that both change together.
    pub(super) async fn with_claimed_token(&self, address: Address) -> Result<Address, Refusal> {
        let session = self.ledger.read(&address).await?.session;
        Ok(match session.as_ref().and_then(Session::token_at_stake) {
            Some(token) => address.with_token(token),
            None => address,
        })
    }

    /// Lets a named agent adopt a session that the gateway has not seen created, if the merchant
    /// shows it alive. Otherwise the session does not exist.
    pub(super) async fn adopt(
        &self,
        call: &Call,
        merchant: &Arc<Merchant>,
        id: &SessionId,
    ) -> Result<(), Refusal> {
        if !merchant.adoption.contains(&call.agent.id) {
            return Err(Refusal::SessionUnknown);
        }
        let permit =
            self.concurrency.read(merchant, &call.agent.id, call.is_signed()).map_err(Refusal::Limited)?;
        let read = self.read_session(call, merchant, id).await;
        drop(permit);
        // Only the merchant itself can say that it has no such session.
        if read.reading == SessionReading::Unreadable {
            return Err(unreadable(&read.exchange, id));
        }
        let alive = |shown: &Observation| matches!(shown.lifecycle, Lifecycle::Open | Lifecycle::Working);
        let observation = read.observation().filter(alive).ok_or(Refusal::SessionUnknown)?;
        self.own_session(call, merchant, SessionKind::Checkout, id, &observation).await
    }

    /// Records that a session belongs to the calling agent, unless it has another owner.
    pub(super) async fn own_session(
        &self,
        call: &Call,
        merchant: &Merchant,
        kind: SessionKind,
        id: &SessionId,
        observation: &Observation,
    ) -> Result<(), Refusal> {
        let address = self.ledger.address(kind, &merchant.id, id);
        let owned = self
            .ledger
            .transact(&address, Purpose::Finish, Durability::Synced, |view, present| {
                let session = view.session.get_or_insert_with(|| {
                    Session::new(kind, merchant.id.clone(), id.clone(), call.agent.id.clone(), present.now)
                });
                if session.owner != call.agent.id {
                    return Err(Refusal::OwnershipConflict);
                }
                // A create that is repeated may show the session as it was before its updates.
                session.note_total(0, observation.total, present);
                Ok(())
            })
            .await?;
        if owned.is_err() {
            self.observer.metrics().ownership_conflict();
            self.alarm("ownership_conflict", &merchant.id, id);
        }
        owned
    }

    /// Counts and logs what a session says against ACP before it is relayed all the same.
    pub(super) fn note_faults(&self, merchant: &MerchantId, session: &SessionId, shown: &SessionView) {
        use crate::telemetry::log::{Level, Value};
        for fault in &shown.faults {
            self.observer.metrics().session_fault(fault.as_str());
            let fields = [
                ("fault", Value::Text(fault.as_str())),
                ("merchant", Value::from(merchant)),
                ("session", Value::from(session)),
            ];
            self.observer.log().event(Level::Warn, "session_fault", &fields);
        }
    }

    /// What a successful answer to a mutation of session `id` proves; `None` when it cannot be read.
    pub(super) fn observation_of(
        &self,
        merchant: &MerchantId,
        exchange: &Exchange,
        id: &SessionId,
        asked_at: Timestamp,
    ) -> Option<Observation> {
        let answer = exchange.answer().filter(|answer| answer.status.is_success())?;
        let shown = read_shown(answer, id)?;
        self.note_faults(merchant, id, &shown);
        Some(observation(&shown, asked_at))
    }

    /// Something a person must look at: one line in the log, at the highest level.
    pub(super) fn alarm(&self, what: &'static str, merchant: &MerchantId, session: &SessionId) {
        use crate::telemetry::log::{Level, Value};
        self.observer.log().event(
            Level::Error,
            what,
            &[("merchant", Value::from(merchant)), ("session", Value::from(session))],
        );
    }
}

/// Whether a session's read says enough for a complete to begin.
fn shows_total(read: &SessionRead, mistrusted: bool) -> Result<(), Refusal> {
    match (&read.reading, read.observation().map(|shown| shown.lifecycle)) {
        // Perhaps at work on a complete that the store has forgotten.
        (_, Some(Lifecycle::Working | Lifecycle::Unknown)) if mistrusted => {
            Err(Refusal::OutcomeUnknown(SPACING))
        }
        (SessionReading::Shown(_), _) => Ok(()),
        (SessionReading::Missing, _) => Err(Refusal::SessionUnknown),
        (SessionReading::Unreadable, _) => Err(Refusal::SessionBusy),
    }
}

/// Why a session was not shown: what reached nobody, or did not come back, says so itself.
fn unreadable(exchange: &Exchange, id: &SessionId) -> Refusal {
    let invalid = Refusal::MerchantAnswer(InvalidAnswer::of_exchange(exchange, Some(id)));
    Reply::relayed(exchange).err().unwrap_or(invalid)
}

/// What a session answer proves.
pub(super) fn observation(shown: &SessionView, asked_at: Timestamp) -> Observation {
    Observation {
        lifecycle: shown.lifecycle(),
        total: shown.known_total(),
        asked_at,
        order: shown.order_mark,
    }
}

/// Whether an observation is worth a write: it ends something, or the total changed or has aged.
fn is_news(session: &Session, observation: &Observation, merchant: &Merchant) -> bool {
    let ends = matches!(observation.lifecycle, Lifecycle::Completed | Lifecycle::Closed);
    let refreshes = session.total.is_none_or(|known| {
        Some(known.total) != observation.total
            || observation.asked_at.since(known.at) > merchant.total_max_age / 2
    });
    session.claim.is_some()
        || (ends && session.ending.is_none())
        || !session.knows_order(observation.order)
        || refreshes
}

pub(super) const fn unknown(kind: SessionKind) -> Refusal {
    match kind {
        SessionKind::Cart => Refusal::CartUnknown,
        SessionKind::Checkout => Refusal::SessionUnknown,
    }
}
