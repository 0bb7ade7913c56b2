//! Sessions as they stand at their merchants: GET, relayed.
//!
//! And what must be known of a session before it is acted on: whose it is, and its total.

use std::sync::Arc;
use std::time::Duration;

use super::call::Call;
use super::events::{About, Events};
use super::evidence::Evidence;
use super::parts::{Books, Desk, owned, refuse_retired};
use super::refusal::Refusal;
use super::replays::Replays;
use super::reply::Reply;
use super::session_read::{SPACING, observation};
use super::session_reads::{Pace, Turn};
use super::upstreams::{Upstreams, deadline};
use super::way::{Reached, Way};
use crate::domain::id::SessionId;
use crate::domain::session::{Lifecycle, Moment, Observation, Session, SessionKind};
use crate::ledger::Records;
use crate::limit::Permit;
use crate::merchant::{SessionReading, read_session};
use crate::records::{Durability, Purpose};
use crate::registry::Merchant;

/// The flow of reads, and what other flows ask of a session.
pub(super) struct Sessions {
    pub books: Arc<Books>,
    pub upstreams: Arc<Upstreams>,
    pub replays: Arc<Replays>,
    pub evidence: Arc<Evidence>,
    pub events: Arc<Events>,
    pub desk: Arc<Desk>,
}

impl Sessions {
    /// GET of a session or cart, relayed.
    pub(super) async fn read_through(
        &self,
        call: &Call,
        merchant: &Arc<Merchant>,
        kind: SessionKind,
        id: &SessionId,
    ) -> Result<Reply, Refusal> {
        let record_set = self.books.ledger.record_set(kind, &merchant.id, id);
        let mut records = self.books.ledger.read(&record_set).await?;
        if records.session.is_none() && kind == SessionKind::Checkout {
            Box::pin(self.adopt(call, merchant, id)).await?;
            records = self.books.ledger.read(&record_set).await?;
        }
        let session = owned(records.session.as_ref(), call).map_err(|_| unknown(kind))?;
        self.replays.refuse_replayed_read(call, Some(merchant)).await?;
        let _place = self.upstreams.reading_place(call, merchant)?;
        let asked_at = self.desk.clock.steady();
        let outbound = call.outbound(None, None, None, None, self.desk.clock.now());
        let way = Way::of(session);
        let sent = self.upstreams.send_by(call, merchant, &way, outbound, deadline(merchant)).await;
        let Reached { exchange, shown_at } = sent;
        // What an agent's own query made of the session is no word about the session.
        if kind == SessionKind::Checkout
            && call.query.is_none()
            && let SessionReading::Session(shown) = read_session(&exchange, id)
        {
            self.events.faulty(About { merchant: &merchant.id, session: id }, &shown);
            let observation = observation(&shown, asked_at, shown_at);
            if is_news(session, &observation, merchant) {
                self.evidence.of_read(&record_set, session.sequence, &observation, merchant, id).await?;
            }
        }
        Reply::relayed(&exchange)
    }

    /// Whether a complete can be decided without asking the merchant: its total is known, or something
    /// else decides. Whether a merchant that was not available answers again is asked by a read.
    pub(super) fn knows_enough(&self, session: &Session, merchant: &Merchant) -> bool {
        let fresh = session.fresh_total(self.desk.clock.steady(), merchant.total_max_age).is_some();
        let totals_at = self.upstreams.totals_at(session, merchant);
        let is_there = totals_at.is_none() || session.places.total == totals_at;
        session.claim.is_some()
            || session.ending.is_some()
            || (fresh
                && is_there
                && !self.books.ledger.store().may_have_forgotten()
                && self.upstreams.can_begin(session, merchant))
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
        let record_set = self.books.ledger.record_set(SessionKind::Checkout, &merchant.id, id);
        let may_have_forgotten = self.books.ledger.store().may_have_forgotten();
        let reads = &self.upstreams.reads;
        let (begun, until) = (reads.begun(), deadline(merchant));
        loop {
            let session = owned(self.books.ledger.read(&record_set).await?.session.as_ref(), call)?.clone();
            if self.knows_enough(&session, merchant) {
                return Ok(());
            }
            match reads.turn(record_set.session_key(), None, self.desk.clock.steady()) {
                Turn::Ours(reader) => {
                    if place.is_none() {
                        *place = Some(self.upstreams.place(call, merchant)?);
                    }
                    let totals_at = self.upstreams.totals_at(&session, merchant);
                    let way = totals_at.map_or_else(|| Way::of(&session), Way::Rather);
                    let read = Arc::new(self.upstreams.read_for(call, merchant, &way, id).await);
                    if let Some(observation) = read.observation() {
                        self.evidence
                            .of_read(&record_set, session.sequence, &observation, merchant, id)
                            .await?;
                    }
                    reader.done(&read, Pace::Kept);
                    return match &read.reading {
                        SessionReading::Unreadable => Err(read.unreadable(id)),
                        SessionReading::Session(_) | SessionReading::Missing => {
                            read.shows_total(may_have_forgotten)
                        }
                    };
                }
                Turn::Theirs(under_way) => {
                    drop(place.take());
                    // One that was asked before the store forgot a claim shows nothing of it, and one for a
                    // claim in doubt leaves no total.
                    let is_enough =
                        under_way.is_for_total() && (!may_have_forgotten || under_way.is_after(begun));
                    match under_way.result(until).await {
                        // To ask a merchant that has just not answered, one after the other, would only
                        // make more of it.
                        Some(read) if is_enough => return read.shows_total(may_have_forgotten),
                        _ if until.has_passed() => return Err(Refusal::SessionBusy(Duration::ZERO)),
                        Some(_) | None => {}
                    }
                }
                // Only where a claim is in doubt.
                Turn::TooSoon => return Err(Refusal::SessionBusy(SPACING)),
            }
        }
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
        // It begins something, whatever it is for: the session is the agent's from then on.
        refuse_retired(merchant)?;
        self.desk.suspended.refuse_stopped(call.movement(&merchant.id)).await?;
        let place = self.upstreams.reading_place(call, merchant)?;
        let read = self.upstreams.read_for(call, merchant, &Way::Any, id).await;
        drop(place);
        // Only the merchant itself can say that it has no such session.
        if read.reading == SessionReading::Unreadable {
            return Err(read.unreadable(id));
        }
        let alive = |shown: &Observation| matches!(shown.lifecycle, Lifecycle::Open | Lifecycle::Working);
        let observation = read.observation().filter(alive).ok_or(Refusal::SessionUnknown)?;
        self.own(call, merchant, SessionKind::Checkout, id, &observation).await
    }

    /// Records that a session belongs to the calling agent, unless it has another owner.
    pub(super) async fn own(
        &self,
        call: &Call,
        merchant: &Merchant,
        kind: SessionKind,
        id: &SessionId,
        observation: &Observation,
    ) -> Result<(), Refusal> {
        let record_set = self.books.ledger.record_set(kind, &merchant.id, id);
        let decide = |records: &mut Records, moment: Moment| {
            let session = records.session.get_or_insert_with(|| {
                Session::new(kind, merchant.id.clone(), id.clone(), call.agent.id.clone(), moment.steady)
            });
            if session.owner != call.agent.id {
                return Err(Refusal::OwnershipConflict);
            }
            // A create that is repeated may show the session as it was before its updates.
            if session.note_total(0, observation.total, Some(&observation.shown_at.url), moment) {
                session.handlers = observation.handlers.clone();
            }
            Ok(())
        };
        let owned =
            self.books.ledger.transact(&record_set, Purpose::Finish, Durability::Synced, decide).await?;
        if owned.is_err() {
            self.events.ownership_conflict(About { merchant: &merchant.id, session: id });
        }
        owned.map(|done| done.decided)
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
        || session.handlers != observation.handlers
        || refreshes
}

pub(super) const fn unknown(kind: SessionKind) -> Refusal {
    match kind {
        SessionKind::Cart => Refusal::CartUnknown,
        SessionKind::Checkout => Refusal::SessionUnknown,
    }
}
