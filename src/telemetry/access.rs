//! One log line and one sample for each request, whatever becomes of it.
//!
//! An [`RequestLog`] begins with the head, collects what is learnt on the way, and reports when it is
//! dropped, so also when the client hangs up.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::line::loggable;
use super::log::{AccessRecord, Identifier, Level, Log};
use super::metrics::{Gauged, Metrics};
use super::spans::{Lineage, Outcome, Spans};
use super::trace::TraceParent;
use super::tracer::Tracer;
use super::trail::Trail;
use crate::domain::clock::Clock;
use crate::domain::id::{AgentId, MerchantId};

/// Begins observations.
#[derive(Clone)]
pub struct Observer(Arc<Reports>);

struct Reports {
    metrics: Arc<Metrics>,
    log: Log,
    clock: Arc<dyn Clock>,
    tracer: Option<Tracer>,
}

impl Observer {
    /// An observer that reports to these, and traces where there is somebody to tell.
    pub fn new(metrics: Arc<Metrics>, log: Log, clock: Arc<dyn Clock>, tracer: Option<Tracer>) -> Self {
        Self(Arc::new(Reports { metrics, log, clock, tracer }))
    }

    /// The metrics it reports to.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// The log it writes to.
    pub fn log(&self) -> &Log {
        &self.0.log
    }

    /// A request's head has arrived.
    pub fn begin(&self, peer: IpAddr) -> RequestLog {
        let spans = self.0.tracer.as_ref().and_then(|tracer| Spans::of_request(tracer, self.0.clock.now()));
        RequestLog {
            reports: Arc::clone(&self.0),
            started: Instant::now(),
            peer,
            route: "unknown",
            status: None,
            is_ours: false,
            decision: None,
            agent: None,
            merchant: None,
            request_id: None,
            trace: None,
            client: Duration::ZERO,
            trail: Trail::timed(spans),
            merchant_fault: None,
            bytes_in: 0,
            bytes_out: 0,
            _under_way: self.0.metrics.request_under_way(),
        }
    }
}

/// What is known of one request. Reports when dropped.
#[must_use]
pub struct RequestLog {
    reports: Arc<Reports>,
    started: Instant,
    peer: IpAddr,
    route: &'static str,
    status: Option<u16>,
    is_ours: bool,
    decision: Option<&'static str>,
    agent: Option<AgentId>,
    merchant: Option<MerchantId>,
    request_id: Option<Identifier>,
    trace: Option<TraceParent>,
    client: Duration,
    trail: Trail,
    merchant_fault: Option<&'static str>,
    bytes_in: u64,
    bytes_out: u64,
    _under_way: Gauged,
}

impl RequestLog {
    /// The route is known.
    pub fn route(&mut self, route: &'static str) {
        self.route = route;
    }

    /// What every request to its route looks like: its method, and its path with names in place of ids.
    pub fn template(&self, template: impl FnOnce() -> (&'static str, &'static str)) {
        if let Some(spans) = self.trail.request_spans() {
            spans.is_like(template());
        }
    }

    /// The agent is authenticated.
    pub fn agent(&mut self, agent: &AgentId) {
        self.agent = Some(agent.clone());
    }

    /// The merchant is known and configured: never what a stranger merely named.
    pub fn merchant(&mut self, merchant: &MerchantId) {
        self.merchant = Some(merchant.clone());
    }

    /// The request's id, the agent's or ours. One that may not be logged is left out.
    pub fn request_id(&mut self, id: impl Into<Arc<str>>) {
        self.request_id = Identifier::shared(id.into());
    }

    /// It is admitted, and named this trace as the one it belongs to; whether that counts, its agent's entry says.
    pub fn trace(&mut self, trace: Option<TraceParent>, is_honoured: bool) {
        self.trace = trace;
        if let Some(spans) = self.trail.request_spans() {
            spans.stands(match trace {
                None => Lineage::Own,
                Some(parent) if is_honoured => Lineage::Honoured(parent),
                Some(parent) => Lineage::Passed(parent),
            });
        }
    }

    /// The body has been read: `waited` was the client's time, not ours.
    pub fn body(&mut self, bytes: usize, waited: Duration) {
        self.bytes_in = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.client += waited;
    }

    /// Where what is learnt of it is noted.
    pub const fn trail(&self) -> &Trail {
        &self.trail
    }

    /// What of the merchant's answer was no use: in a word of our own.
    pub fn merchant_fault(&mut self, fault: Option<&'static str>) {
        self.merchant_fault = fault;
    }

    /// It failed of something of ours: somebody must look.
    pub const fn is_ours(&mut self) {
        self.is_ours = true;
    }

    /// What was decided, in a word of our own.
    pub fn decision(&mut self, decision: &'static str) {
        self.decision = Some(decision);
    }

    fn level(&self, has_cause: bool) -> Level {
        if self.is_ours {
            Level::Error
        } else if has_cause || self.status.is_some_and(|status| status >= 500) {
            Level::Warn
        } else {
            Level::Info
        }
    }

    /// The answer is ready; reports.
    pub fn finish(mut self, status: u16, bytes: usize) {
        self.status = Some(status);
        self.bytes_out = u64::try_from(bytes).unwrap_or(u64::MAX);
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        let learnt = self.trail.learnt();
        let others = self.client + learnt.waited.unwrap_or_default();
        let gateway = self.started.elapsed().saturating_sub(others);
        let metrics = &self.reports.metrics;
        metrics.request(self.route, self.status, gateway, learnt.waited);
        if let Some(merchant) = &self.merchant {
            metrics.merchant_request(merchant, self.status, learnt.waited);
        }
        let outcome = if self.status.is_some() { "answered" } else { "hangup" };
        let level = self.level(learnt.cause.is_some());
        let decision = self.decision.unwrap_or(outcome);
        let told = self.trail.request_spans().and_then(|spans| {
            spans.came_to(Outcome {
                route: self.route,
                status: self.status,
                decision,
                cause: learnt.cause,
                is_failure: level != Level::Info,
                agent: self.agent.clone(),
                merchant: self.merchant.clone(),
                request_id: self.request_id.clone(),
                ended: Instant::now(),
            })
        });
        let now = self.reports.clock.now();
        if let Some(trace) = told {
            let merchant = self.merchant.as_ref();
            metrics.request_traced(self.route, merchant, gateway, learnt.waited, trace, now);
        }
        self.reports.log.access(AccessRecord {
            time: now,
            level,
            peer: self.peer,
            route: self.route,
            status: self.status,
            decision,
            cause: learnt.cause,
            agent: self.agent.take(),
            merchant: self.merchant.take(),
            session: learnt.session,
            claim: learnt.claim,
            token: learnt.token,
            amount: learnt.amount.map(|money| money.amount.get()),
            currency: learnt.amount.map(|money| money.currency),
            attempt: learnt.attempt,
            request_id: self.request_id.take(),
            trace_id: self.trace.map(|trace| trace.trace_id()).or(told).and_then(loggable),
            gateway_us: micros(gateway),
            upstream_us: learnt.waited.map(micros),
            merchant_status: learnt.merchant_status,
            merchant_code: learnt.merchant_code,
            merchant_fault: self.merchant_fault,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
        });
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::log::tests::Sink;
    use super::*;
    use crate::domain::clock::{ManualClock, Timestamp};
    use crate::domain::id::{ClaimId, SessionId, TokenId};
    use crate::domain::money::{Currency, MinorUnits, Money};

    fn observer() -> (Observer, Sink) {
        let (sink, metrics) = (Sink::default(), Arc::new(Metrics::new().unwrap()));
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_unix_seconds(0)));
        let log = Log::start(sink.clone(), Arc::clone(&metrics), Arc::clone(&clock)).unwrap();
        (Observer::new(metrics, log, clock, None), sink)
    }

    #[test]
    fn an_answered_request_leaves_one_line_and_one_sample() {
        let (observer, sink) = observer();
        let mut seen = observer.begin(IpAddr::from([192, 0, 2, 1]));
        assert!(observer.metrics().encode().contains("countersign_requests_under_way 1\n"));
        seen.route("checkout_complete");
        seen.agent(&AgentId::parse("agent-1").unwrap());
        seen.merchant(&MerchantId::parse("shop").unwrap());
        seen.request_id("req-1");
        seen.trace(TraceParent::parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), false);
        seen.body(1_500, Duration::from_secs(3_600));
        seen.trail().waited(Duration::from_millis(2));
        seen.trail().waited(Duration::from_millis(3));
        seen.trail().merchant_answered(Some(401), Some("signature_invalid"), Some("credential_refused"));
        seen.trail().session(&SessionId::parse("cs_1").unwrap());
        seen.trail().claim(&ClaimId::parse("claim-1").unwrap());
        seen.trail().token(&TokenId::assemble("abcdefghij", "0123456789012345678901").unwrap());
        let currency = Currency::parse("usd").unwrap();
        seen.trail().amount(Money { amount: MinorUnits::new(1_999).unwrap(), currency });
        seen.trail().attempt(2);
        seen.decision("charged");
        seen.finish(200, 3_000);
        assert!(observer.log().flush(Duration::from_secs(20)));
        let expected = json!({
            "time": "1970-01-01T00:00:00Z", "event": "request", "level": "warn", "peer": "192.0.2.1", "route": "checkout_complete",
            "status": 200, "decision": "charged", "cause": "credential_refused", "agent": "agent-1", "merchant": "shop",
            "session": "cs_1", "claim": "claim-1", "token": "vt_abcdefghij0123456789012345678901", "amount": 1_999,
            "currency": "usd", "attempt": 2, "request_id": "req-1",
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
            // The waits claimed above are longer than the test took: our own time is what is left.
            "gateway_us": 0, "upstream_us": 5_000, "merchant_status": 401, "merchant_code": "signature_invalid",
            "bytes_in": 1_500, "bytes_out": 3_000,
        });
        assert_eq!(sink.lines(), [expected]);
        let metrics = observer.metrics().encode();
        for line in [
            "countersign_requests_total{route=\"checkout_complete\",status=\"2xx\"} 1",
            "countersign_upstream_seconds_sum{route=\"checkout_complete\"} 0.005",
            "countersign_merchant_requests_total{merchant=\"any\",status=\"2xx\"} 1",
            "countersign_requests_under_way 0",
        ] {
            assert!(metrics.lines().any(|shown| shown == line), "{line}\n{metrics}");
        }
    }

    #[test]
    fn a_client_that_hangs_up_leaves_a_line_and_a_sample_too() {
        let (observer, sink) = observer();
        let mut seen = observer.begin(IpAddr::from([192, 0, 2, 1]));
        seen.request_id("4242424242424242");
        drop(seen);
        assert!(observer.log().flush(Duration::from_secs(20)));
        let lines = sink.lines();
        assert_eq!(lines.len(), 1);
        assert_eq!((&lines[0]["status"], &lines[0]["decision"]), (&json!(null), &json!("hangup")));
        assert_eq!(lines[0].get("request_id"), None, "a card number is no request id");
        let sample = "countersign_requests_total{route=\"unknown\",status=\"hangup\"} 1\n";
        assert!(observer.metrics().encode().contains(sample));
    }
}
