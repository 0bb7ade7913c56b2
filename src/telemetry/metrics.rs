//! Every metric, one documented line each, and a verb for each thing that happens.
//!
//! Label values are `&'static str` chosen by our own code, or a configured merchant's id while
//! there are few of them: nothing a stranger sends can make a series. Methods never fail and never
//! block.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::{Histogram, IntCounter};

use super::instrument::{Ages, Counters, Durations, Gauges, Instruments};
pub use super::instrument::{Definition, Gauged, MetricKind, MetricsError};
use crate::domain::id::MerchantId;
pub use configuration::Shown;

/// What is told of merchants' breakers.
mod breakers;
/// What is told of the configuration that runs.
mod configuration;
/// What is told of connections.
mod connections;
/// What is told of disks.
mod disks;
/// What is told of traces.
mod exemplars;
/// What is told of tokens and their security codes.
mod tokens;
/// By what counters are told apart.
mod words;

/// Merchants are told apart by label while at most this many are configured.
pub const MERCHANT_LABELS: usize = 50;

/// The merchant label when merchants are many, or not configured.
const ANY_MERCHANT: &str = "any";

/// Values of the `status` label, by class; the first is "the client left before the answer".
const STATUS_CLASSES: [&str; 6] = ["hangup", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Counters of one route or merchant, one for each class of [`STATUS_CLASSES`].
type ByStatus = [IntCounter; STATUS_CLASSES.len()];

/// Every metric of the process.
pub struct Metrics {
    instruments: Instruments,
    requests: Counters<2>,
    gateway_seconds: Durations<1>,
    upstream_seconds: Durations<1>,
    merchant_requests: Counters<2>,
    merchant_upstream_seconds: Durations<1>,
    upstream_failures: Counters<1>,
    breaker_state: Gauges<1>,
    breaker_openings: Counters<2>,
    refusals: Counters<1>,
    signatures: Counters<2>,
    signatures_computed: Counters<1>,
    token_events: Counters<1>,
    tokens: Gauges<1>,
    idempotency: Counters<1>,
    codes_lost: prometheus::IntGauge,
    epoch_node_restarts: IntCounter,
    kept_bytes: prometheus::IntGauge,
    ready: prometheus::IntGauge,
    limited: Counters<1>,
    fraud: Counters<3>,
    store_operations: Counters<3>,
    store_operation_seconds: Durations<2>,
    store_sync_seconds: Histogram,
    claims: Counters<1>,
    unresolved_claims: Gauges<1>,
    unresolved_oldest_seconds: Ages<1>,
    overcharges: IntCounter,
    ownership_conflicts: IntCounter,
    second_answers: Counters<1>,
    session_faults: Counters<1>,
    spans: Counters<1>,
    connections: Counters<1>,
    connections_open: prometheus::IntGauge,
    connections_refused: Counters<1>,
    connections_evicted: Counters<1>,
    handshake_failures: Counters<1>,
    proxy_errors: Counters<1>,
    requests_under_way: prometheus::IntGauge,
    log_lines_dropped: IntCounter,
    disk_free: Gauges<1>,
    disk_min_free: Gauges<1>,
    certificate_expiry: Gauges<2>,
    config_reloads: Counters<1>,
    config_read: prometheus::IntGauge,
    config_info: Gauges<1>,
    key_current_since: Gauges<1>,
    suspensions: prometheus::IntGauge,
    suspensions_read: prometheus::IntGauge,
    // Handles resolved once, so that a request looks up no label: see `request`.
    routes: ArcSwap<HashMap<&'static str, Arc<RouteHandles>>>,
    merchants: ArcSwap<HashMap<MerchantId, Arc<MerchantHandles>>>,
    any_merchant: MerchantHandles,
}

struct RouteHandles {
    requests: ByStatus,
    gateway: Histogram,
    upstream: Histogram,
}

struct MerchantHandles {
    requests: ByStatus,
    upstream: Histogram,
}

impl Metrics {
    /// Registers every metric. Counters whose labels are a closed set start at zero, all others are absent
    /// until they are told.
    #[rustfmt::skip]
    pub fn new() -> Result<Self, MetricsError> {
        let mut w = Instruments::new()?;
        let requests = w.closed("requests_total", ["route", "status"], words::ROUTES.into_iter().flat_map(|route| STATUS_CLASSES.map(|status| [route, status])), "Requests answered, by route and class of status; `hangup` when the client left first.")?;
        let gateway_seconds = w.durations("gateway_seconds", ["route"], "Our own time on a request: neither the merchant's nor the client's.")?;
        let upstream_seconds = w.durations("upstream_seconds", ["route"], "Time a request spent waiting for its merchant, all attempts together.")?;
        let merchant_requests = w.counters("merchant_requests_total", ["merchant", "status"], "Requests to a merchant's routes, by class of status; merchants are told apart while they are few.")?;
        let merchant_upstream_seconds = w.durations("merchant_upstream_seconds", ["merchant"], "Time a request spent waiting for this merchant; merchants are told apart while they are few.")?;
        let upstream_failures = w.closed("upstream_failures_total", ["reason"], words::UPSTREAM_FAILURES.map(|word| [word]), "Requests to merchants that came to nothing, by why: the `cause` in the log.")?;
        let breaker_state = w.gauges("breaker_state", ["merchant"], "Whether a merchant is asked for anything new: 0 closed, all is; 1 half-open, a complete once its session was read; 2 open, only reads. Of several base URLs the best counts, of several merchants that are not told apart the worst.")?;
        let breaker_openings = w.counters("breaker_openings_total", ["merchant", "cause"], "Times a merchant's breaker opened: too many requests in a row were unanswered, or too large a share was failing.")?;
        let refusals = w.closed("refusals_total", ["reason"], words::REFUSALS.iter().map(|word| [*word]), "Requests the gateway itself refused, by reason.")?;
        let signatures = w.closed("signatures_total", ["profile", "outcome"], words::SIGNATURES, "Agents' signatures: verified, invalid or absent.")?;
        let signatures_computed = w.closed("signatures_computed_total", ["how"], words::COMPUTED.map(|word| [word]), "Ed25519 signatures of agents, by how they were computed: alone, together with others under way, or split: one by one after a bad one was among them.")?;
        let token_events = w.closed("token_events_total", ["event"], words::TOKEN_EVENTS.map(|word| [word]), "What happened to payment tokens.")?;
        let tokens = w.gauges("tokens", ["state"], "Payment tokens stored, by state, as last counted.")?;
        let codes_lost = w.gauges("codes_lost", [], "Live tokens whose security code was lost with the server that held its hourly key, as last counted; their cards are not.")?.at([]);
        let epoch_node_restarts = w.counters("epoch_node_restarts_total", [], "Times a server of hourly keys (`epoch_nodes`) was found started again: the security codes sealed under its keys are lost.")?.at([]);
        let idempotency = w.closed("idempotency_total", ["result"], words::KEYS.map(|word| [word]), "What an Idempotency-Key turned out to be.")?;
        let ready = w.gauges("ready", [], "Whether `/readyz` says that money may move: 1 or 0, as of this scrape.")?.at([]);
        let kept_bytes = w.gauges("kept_bytes", [], "Bytes kept of requests and answers off the money routes, as last counted.")?.at([]);
        let limited = w.closed("limited_total", ["scope"], words::LIMITS.map(|word| [word]), "Requests over a limit, by whose limit it was.")?;
        let fraud = w.closed("fraud_total", ["rule", "verdict", "mode"], words::fraud(), "Fraud rules that spoke, their verdict, and whether it was enforced.")?;
        let store_operations = w.counters("store_operations_total", ["engine", "operation", "outcome"], "Operations on the store.")?;
        let store_operation_seconds = w.durations("store_operation_seconds", ["engine", "operation"], "How long an operation on the store took, waiting for stable storage included.")?;
        let store_sync_seconds = w.durations("store_sync_seconds", [], "How long a write of the embedded engine took, its sync included; one write holds every batch that waited for it.")?.at([]);
        let claims = w.closed("claims_total", ["outcome"], words::CLAIMS.map(|word| [word]), "Claims settled, by outcome.")?;
        let unresolved_claims = w.gauges("unresolved_claims", ["kind"], "Claims held without evidence of a charge or of none: in doubt or pending.")?;
        let unresolved_oldest_seconds = w.ages("unresolved_oldest_seconds", ["kind"], "Age of the oldest unresolved claim; 0 when there is none.")?;
        let overcharges = w.counters("overcharges_total", [], "Answers to a complete that show more than was checked.")?.at([]);
        let ownership_conflicts = w.counters("ownership_conflicts_total", [], "Sessions a merchant handed to a second agent.")?.at([]);
        let second_answers = w.closed("second_answers_total", ["what"], words::SECOND_ANSWERS.map(|word| [word]), "Times a merchant showed a second `order` for a session, or denied with a second `answer` what the first had charged.")?;
        let session_faults = w.closed("session_faults_total", ["fault"], words::SESSION_FAULTS.map(|word| [word]), "Sessions relayed although they contradict ACP, by what they get wrong.")?;
        let spans = w.closed("spans_total", ["outcome"], words::SPANS.map(|word| [word]), "Spans of traces: exported to the collector, not taken by it, or lost because too many waited.")?;
        let connections = w.closed("connections_total", ["protocol"], words::PROTOCOLS.map(|word| [word]), "Connections that finished their handshake, by protocol.")?;
        let connections_open = w.gauges("connections_open", [], "Connections open now, handshakes included.")?.at([]);
        let connections_refused = w.closed("connections_refused_total", ["reason"], words::CONNECTIONS_REFUSED.map(|word| [word]), "Connections closed before their handshake, by the bound they met.")?;
        let connections_evicted = w.closed("connections_evicted_total", ["reason"], words::CONNECTIONS_EVICTED.map(|word| [word]), "Connections closed so that others have room, by what they held: a place and were `quiet`, or answers and left them `unread`.")?;
        let handshake_failures = w.closed("handshake_failures_total", ["reason"], words::HANDSHAKES.map(|word| [word]), "TLS handshakes that failed.")?;
        let proxy_errors = w.closed("proxy_errors_total", ["reason"], words::PROXY_ERRORS.map(|word| [word]), "Connections of a configured proxy without a well-formed PROXY header.")?;
        let requests_under_way = w.gauges("requests_under_way", [], "Requests begun and not yet answered.")?.at([]);
        let log_lines_dropped = w.counters("log_lines_dropped_total", [], "Log lines lost because the log could not be written fast enough.")?.at([]);
        let disk_free = w.gauges("disk_free_bytes", ["directory"], "Bytes that the gateway may still write to the file system of its `store` and of its hourly keys (`epochs`).")?;
        let disk_min_free = w.gauges("disk_min_free_bytes", ["directory"], "Bytes that must stay free there: with less in the store nothing new is admitted.")?;
        let certificate_expiry = w.gauges("certificate_expiry_timestamp_seconds", ["use", "merchant"], "When the certificate that a `listener`, the `admin` listener or a `client` towards a merchant shows ends, in Unix seconds; the first to end where merchants are not told apart.")?;
        let config_reloads = w.closed("config_reloads_total", ["outcome"], words::RELOADS.map(|word| [word]), "Times the configuration was read again: applied, unchanged, or why what ran before goes on.")?;
        let config_read = w.gauges("config_read_timestamp_seconds", [], "When the configuration that runs was put in place, in Unix seconds.")?.at([]);
        let config_info = w.gauges("config_info", ["digest"], "Always 1; the label tells one configuration from another, the contents of its files included.")?;
        let key_current_since = w.gauges("key_current_since_timestamp_seconds", ["ring"], "Since when the key of a ring of ours that is current is that, in Unix seconds; as the store knows it.")?;
        let suspensions = w.gauges("suspensions", [], "What operators have stopped and not resumed: agents, merchants, keys, credentials, cards.")?.at([]);
        let suspensions_read = w.gauges("suspensions_read_timestamp_seconds", [], "When this replica last read what operators have stopped, in Unix seconds; when that is more than 5 s ago nothing new begins.")?.at([]);
        let build_info = w.gauges("build_info", ["version"], "Always 1; the version is the label.")?;
        build_info.set([env!("CARGO_PKG_VERSION")], 1);
        let any_merchant = merchant_handles(&merchant_requests, &merchant_upstream_seconds, ANY_MERCHANT);
        Ok(Self {
            instruments: w,
            requests, gateway_seconds, upstream_seconds, merchant_requests, merchant_upstream_seconds, upstream_failures,
            breaker_state, breaker_openings, refusals, signatures, signatures_computed, token_events, tokens, codes_lost, epoch_node_restarts, idempotency, kept_bytes, ready, limited, fraud,
            store_operations, store_operation_seconds, store_sync_seconds,
            claims, unresolved_claims, unresolved_oldest_seconds, overcharges, ownership_conflicts, second_answers, session_faults, spans,
            connections, connections_open, connections_refused, connections_evicted, handshake_failures, proxy_errors,
            requests_under_way, log_lines_dropped, disk_free, disk_min_free, certificate_expiry, config_reloads, config_read, config_info, key_current_since,
            suspensions, suspensions_read,
            routes: ArcSwap::default(),
            merchants: ArcSwap::default(),
            any_merchant,
        })
    }

    /// A request was answered with `status`, or the client left before (`None`). `gateway` is our
    /// own time, `upstream` the merchant's when it was asked.
    pub fn request(
        &self,
        route: &'static str,
        status: Option<u16>,
        gateway: Duration,
        upstream: Option<Duration>,
    ) {
        let handles = self.route(route);
        count(&handles.requests, status);
        handles.gateway.observe(gateway.as_secs_f64());
        if let Some(upstream) = upstream {
            handles.upstream.observe(upstream.as_secs_f64());
        }
    }

    /// The same request, told by merchant.
    pub fn merchant_request(&self, merchant: &MerchantId, status: Option<u16>, upstream: Option<Duration>) {
        let map = self.merchants.load();
        let handles = map.get(merchant).map_or(&self.any_merchant, |handles| &**handles);
        count(&handles.requests, status);
        if let Some(upstream) = upstream {
            handles.upstream.observe(upstream.as_secs_f64());
        }
    }

    /// What was asked of a merchant came to nothing.
    pub fn upstream_failed(&self, reason: &'static str) {
        self.upstream_failures.add_one([reason]);
    }

    /// A request began: it is under way until the guard is dropped.
    pub fn request_under_way(&self) -> Gauged {
        Gauged::rise(&self.requests_under_way)
    }

    /// The gateway refused a request.
    pub fn refused(&self, reason: &'static str) {
        self.refusals.add_one([reason]);
    }

    /// A signature was looked at: `verified`, `invalid` or `absent`.
    pub fn signature(&self, profile: &'static str, outcome: &'static str) {
        self.signatures.add_one([profile, outcome]);
    }

    /// So many signatures were computed: `alone`, `together`, or `split`.
    pub fn signature_computed(&self, how: &'static str, count: usize) {
        self.signatures_computed.at([how]).inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// What an idempotency key turned out to be: `fresh`, `replayed`, `in_flight`, `conflict`, …
    pub fn idempotency(&self, result: &'static str) {
        self.idempotency.add_one([result]);
    }

    /// Whether money may move.
    pub fn set_ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }

    /// How much is kept off the money routes.
    pub fn set_kept_bytes(&self, bytes: u64) {
        self.kept_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A request was over a limit: `address`, `agent`, `merchant`, …
    pub fn limited(&self, scope: &'static str) {
        self.limited.add_one([scope]);
    }

    /// A fraud rule spoke.
    pub fn fraud(&self, rule: &'static str, verdict: &'static str, mode: &'static str) {
        self.fraud.add_one([rule, verdict, mode]);
    }

    /// The store did something.
    pub fn store_operation(
        &self,
        engine: &'static str,
        operation: &'static str,
        outcome: &'static str,
        elapsed: Duration,
    ) {
        self.store_operations.add_one([engine, operation, outcome]);
        self.store_operation_seconds.observe([engine, operation], elapsed);
    }

    /// What this engine is asked for is counted from now on.
    pub fn store_counted(&self, engine: &'static str) {
        for [operation, outcome] in words::store_operations() {
            drop(self.store_operations.at([engine, operation, outcome]));
        }
    }

    /// The embedded engine wrote and synced a group of batches.
    pub fn store_synced(&self, took: Duration) {
        self.store_sync_seconds.observe(took.as_secs_f64());
    }

    /// A claim was settled: `charged`, `not_charged`, `pending`, `in_doubt`.
    pub fn claim(&self, outcome: &'static str) {
        self.claims.add_one([outcome]);
    }

    /// How many claims are unresolved (`in_doubt`, `pending`) and for how long the oldest has been.
    pub fn set_unresolved(&self, kind: &'static str, count: u64, oldest: Duration) {
        self.unresolved_claims.set([kind], count);
        self.unresolved_oldest_seconds.set([kind], oldest);
    }

    /// A merchant charged more than was checked.
    pub fn overcharge(&self) {
        self.overcharges.inc();
    }

    /// A merchant handed an owned session to another agent.
    pub fn ownership_conflict(&self) {
        self.ownership_conflicts.inc();
    }

    /// A merchant showed a second `order` of a session, or a second, different `answer` of a claim.
    pub fn second_answer(&self, what: &'static str) {
        self.second_answers.add_one([what]);
    }

    /// A session that contradicts ACP was relayed.
    pub fn session_fault(&self, fault: &'static str) {
        self.session_faults.add_one([fault]);
    }

    /// So many spans came to this: `exported`, `not_taken` or `lost`.
    pub fn spans(&self, outcome: &'static str, count: usize) {
        self.spans.at([outcome]).inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// A log line was lost.
    pub fn log_line_dropped(&self) {
        self.log_lines_dropped.inc();
    }

    /// Every sample in Prometheus' text format, version 0.0.4.
    pub fn encode(&self) -> String {
        self.instruments.encode()
    }

    fn route(&self, route: &'static str) -> Arc<RouteHandles> {
        if let Some(handles) = self.routes.load().get(route) {
            return Arc::clone(handles);
        }
        // The first request of this route: routes are few and named by our own code.
        let made = Arc::new(RouteHandles {
            requests: STATUS_CLASSES.map(|class| self.requests.at([route, class])),
            gateway: self.gateway_seconds.at([route]),
            upstream: self.upstream_seconds.at([route]),
        });
        self.routes.rcu(|routes| {
            let mut routes = HashMap::clone(routes);
            routes.insert(route, Arc::clone(&made));
            routes
        });
        made
    }
}

/// Every metric there is, as documented.
pub fn table() -> Result<Vec<Definition>, MetricsError> {
    Ok(Metrics::new()?.instruments.table().to_vec())
}

fn merchant_handles(requests: &Counters<2>, upstream: &Durations<1>, label: &str) -> MerchantHandles {
    MerchantHandles {
        requests: STATUS_CLASSES.map(|class| requests.at([label, class])),
        upstream: upstream.at([label]),
    }
}

fn count(classes: &ByStatus, status: Option<u16>) {
    let index = status.map_or(0, |status| usize::from(status / 100));
    if let Some(counter) = classes.get(index) {
        counter.inc();
    }
}

#[cfg(test)]
mod tests;
