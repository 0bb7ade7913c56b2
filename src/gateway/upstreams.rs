//! Towards merchants: leave to send, the sending, and reads of sessions for ourselves.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::availability::{Availability, asked};
use super::base_urls::{is_lack, may_go_on};
use super::call::Call;
use super::parts::{Books, Desk};
use super::refusal::Refusal;
use super::session_read::SessionRead;
use super::session_reads::{Doubtful, SessionReads};
use super::suspended::Movement;
use super::way::{Reached, Way};
use crate::domain::base_url::BaseUrl;
use crate::domain::clock::Deadline;
use crate::domain::id::SessionId;
use crate::ledger::RecordSet;
use crate::limit::{Concurrency, Permit};
use crate::merchant::{
    Exchange, Lost, Merchants, NotSent, Outbound, UpstreamFailure, read_session, resource, told_code,
};
use crate::registry::Merchant;
use crate::telemetry::spans::{Asked, Stage};

/// The way to merchants.
pub(super) struct Upstreams {
    pub merchants: Arc<Merchants>,
    /// Requests under way.
    pub concurrency: Concurrency,
    /// Whether merchants can be asked for anything new.
    pub availability: Arc<Availability>,
    /// Reads of sessions: one a session at a time, and how often.
    pub reads: SessionReads,
    pub books: Arc<Books>,
    pub desk: Arc<Desk>,
}

impl Upstreams {
    /// Leave to forward a request that changes something, or finds out what became of one.
    pub(super) fn place(&self, call: &Call, merchant: &Merchant) -> Result<Permit, Refusal> {
        self.concurrency.forward(merchant, &call.agent.id, call.is_signed()).map_err(Refusal::Limited)
    }

    /// The same for what is new, which waits where the merchant has asked for fewer requests.
    pub(super) fn new_place(&self, call: &Call, merchant: &Merchant) -> Result<Permit, Refusal> {
        let (agent, is_signed) = (&call.agent.id, call.is_signed());
        let place = match self.availability.slowed(merchant, call) {
            None => self.concurrency.forward(merchant, agent, is_signed),
            Some(slowed) => self.concurrency.forward_slowly(merchant, agent, is_signed, slowed),
        };
        place.map_err(Refusal::Limited)
    }

    /// The place that is held, or one where it was given up meanwhile.
    pub(super) fn place_again(
        &self,
        call: &Call,
        merchant: &Merchant,
        held: Option<Permit>,
    ) -> Result<Permit, Refusal> {
        held.map_or_else(|| self.new_place(call, merchant), Ok)
    }

    /// Leave to forward a request that only reads.
    pub(super) fn reading_place(&self, call: &Call, merchant: &Merchant) -> Result<Permit, Refusal> {
        self.concurrency.read(merchant, &call.agent.id, call.is_signed()).map_err(Refusal::Limited)
    }

    /// What is kept of a call's request cannot be opened: nothing is sent, and told as nothing sent is.
    pub(super) fn not_built(&self, call: &Call) -> Exchange {
        let failure = UpstreamFailure::NotSent(NotSent::NotBuilt).as_str();
        self.desk.observer.metrics().upstream_failed(failure);
        call.trail.merchant_answered(None, None, Some(failure));
        Exchange::NotSent(NotSent::NotBuilt)
    }

    /// Sends a request for a call, unless what it moves is stopped when it is about to leave: then with the
    /// refusal, and nothing of it is sent.
    pub(super) async fn send_unless_stopped(
        &self,
        call: &Call,
        merchant: &Arc<Merchant>,
        way: &Way,
        outbound: Outbound,
        deadline: Deadline,
        movement: Movement<'_>,
    ) -> (Reached, Option<Refusal>) {
        let suspended = &self.desk.suspended;
        // Where what is known is old it is read before a connection is waited for.
        suspended.make_known().await;
        let stopped = OnceLock::new();
        let may_leave = || match suspended.refuse_unless_known(movement) {
            Ok(()) => true,
            Err(refusal) => {
                let _ = stopped.set(refusal);
                false
            }
        };
        let reached = self.send_while(call, merchant, way, outbound, deadline, &may_leave).await;
        let is_withheld = matches!(reached.exchange, Exchange::NotSent(NotSent::Withheld));
        (reached, stopped.into_inner().filter(|_| is_withheld))
    }

    /// Sends a request for a call, and counts the wait as the merchant's.
    pub(super) async fn send_by(
        &self,
        call: &Call,
        merchant: &Arc<Merchant>,
        way: &Way,
        outbound: Outbound,
        deadline: Deadline,
    ) -> Reached {
        self.send_while(call, merchant, way, outbound, deadline, &|| true).await
    }

    async fn send_while(
        &self,
        call: &Call,
        merchant: &Arc<Merchant>,
        way: &Way,
        mut outbound: Outbound,
        deadline: Deadline,
        may_leave: &(dyn Fn() -> bool + Sync),
    ) -> Reached {
        let started = Instant::now();
        let mut span = call.trail.span(Stage::Upstream);
        if let Some(traceparent) = span.traceparent() {
            outbound.headers.traceparent = Some(traceparent.to_string());
        }
        let method = outbound.method.clone();
        let reached = self.ask_merchant(Some(call), merchant, way, outbound, deadline, may_leave).await;
        let exchange = &reached.exchange;
        call.trail.waited(started.elapsed());
        let failure = UpstreamFailure::of(exchange).map(UpstreamFailure::as_str);
        let answer = exchange.answer();
        let code = answer.filter(|answer| !answer.status.is_success()).and_then(told_code);
        let status = answer.map(|answer| answer.status.as_u16());
        call.trail.merchant_answered(status, code.as_deref(), failure);
        span.asks(|| asked_of(&reached.shown_at.url, method));
        span.came(status, failure);
        reached
    }

    /// The outcome is not known, with how long it will not be: until the session may be read again, and
    /// where the request may be sent again, until then.
    pub(super) fn still_unknown(&self, record_set: &RecordSet, doubtful: &Doubtful) -> Refusal {
        let now = self.desk.clock.steady();
        let next = self.reads.next(record_set.session_key(), doubtful, now);
        Refusal::OutcomeUnknown(
            doubtful.milestones.silent_from.map_or(next, |from| from.max(next)).since(now),
        )
    }

    /// Sends a request where it may go, and to the next as long as nothing of it was sent.
    async fn ask_merchant(
        &self,
        call: Option<&Call>,
        merchant: &Merchant,
        way: &Way,
        mut outbound: Outbound,
        deadline: Deadline,
        may_leave: &(dyn Fn() -> bool + Sync),
    ) -> Reached {
        let asked = asked(&outbound);
        let mut urls = self.tried_at(merchant, way, asked).into_iter().peekable();
        let (mut lacking, mut unreached) = (None, None);
        while let Some(url) = urls.next() {
            let again = urls.peek().map(|_| outbound.clone());
            let exchange = self.ask_at(call, merchant, &url, outbound, deadline, may_leave).await;
            let goes_on = may_go_on(&exchange, asked);
            let is_lack = is_lack(&exchange);
            let reached = Reached { exchange, shown_at: self.shown_at(merchant, url) };
            match again {
                Some(again) if goes_on && !deadline.has_passed() => outbound = again,
                // That there is none is the first's word: another may not have heard of it.
                None if goes_on && is_lack => return unreached.unwrap_or(reached),
                None if goes_on => return lacking.unwrap_or(reached),
                Some(_) | None => return reached,
            }
            let kept = if is_lack { &mut lacking } else { &mut unreached };
            kept.get_or_insert(reached);
        }
        // A merchant without a base URL is none.
        Reached::nowhere(Exchange::NotSent(NotSent::NotBuilt))
    }

    /// Sends a request there, and counts why it came to nothing.
    async fn ask_at(
        &self,
        call: Option<&Call>,
        merchant: &Merchant,
        url: &BaseUrl,
        outbound: Outbound,
        deadline: Deadline,
        may_leave: &(dyn Fn() -> bool + Sync),
    ) -> Exchange {
        let path = Arc::clone(&outbound.path);
        let asked = asked(&outbound);
        let exchange = self.merchants.send_if(merchant, url, outbound, deadline, may_leave).await;
        self.availability.came(&merchant.id, url, asked, call, &exchange, || {
            call.map_or(0, |call| self.concurrency.under_way(merchant, &call.agent.id, call.is_signed()))
        });
        // What was withheld is no failure of the merchant's.
        if let Some(failure) = UpstreamFailure::of(&exchange)
            && failure != UpstreamFailure::NotSent(NotSent::Withheld)
        {
            self.desk.observer.metrics().upstream_failed(failure.as_str());
        }
        // Somebody must look, at the merchant or at what stands in front of it.
        if let Exchange::Lost(Lost::Misplaced) = exchange
            && let Some(session) = resource(&path).and_then(SessionId::parse)
        {
            self.desk.alarm("answer_of_another_session", &merchant.id, &session);
        }
        exchange
    }

    /// Reads a session for ourselves, on a call's behalf.
    pub(super) async fn read_for(
        &self,
        call: &Call,
        merchant: &Arc<Merchant>,
        way: &Way,
        id: &SessionId,
    ) -> SessionRead {
        self.read_within(call, merchant, way, id, deadline(merchant)).await
    }

    /// The same, until this deadline.
    pub(super) async fn read_within(
        &self,
        call: &Call,
        merchant: &Arc<Merchant>,
        way: &Way,
        id: &SessionId,
        deadline: Deadline,
    ) -> SessionRead {
        let asked_at = self.desk.clock.steady();
        let outbound = call.session_read(id, self.desk.clock.now());
        let passing = outbound.headers.clone();
        let sent = self.send_by(call, merchant, way, outbound, deadline).await;
        let Reached { exchange, shown_at } = sent;
        SessionRead { reading: read_session(&exchange, id), exchange, asked_at, shown_at, passing }
    }

    /// Reads a session on nobody's behalf.
    pub(super) async fn read_alone(
        &self,
        merchant: &Merchant,
        way: &Way,
        outbound: Outbound,
        id: &SessionId,
    ) -> SessionRead {
        let (asked_at, passing) = (self.desk.clock.steady(), outbound.headers.clone());
        let until = deadline(merchant);
        let sent = self.ask_merchant(None, merchant, way, outbound, until, &|| true).await;
        let Reached { exchange, shown_at } = sent;
        SessionRead { reading: read_session(&exchange, id), exchange, asked_at, shown_at, passing }
    }
}

/// What a span says of a request to a merchant, at this base URL.
fn asked_of(url: &BaseUrl, method: http::Method) -> Asked {
    let url: http::Uri = url.as_str().parse().unwrap_or_default();
    let usual = if url.scheme() == Some(&http::uri::Scheme::HTTP) { 80 } else { 443 };
    let server = url.host().unwrap_or_default().to_owned();
    Asked { method, server, port: url.port_u16().unwrap_or(usual) }
}

/// By when an exchange that starts now is over.
pub(super) fn deadline(merchant: &Merchant) -> Deadline {
    Deadline::after(merchant.deadlines.total)
}
