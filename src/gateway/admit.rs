//! From a request's head to an admitted [`Call`].
//!
//! The steps every agent request goes through, in the order in which they refuse.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::request::Parts;
use parking_lot::Mutex;

use super::Caller;
use super::call::Call;
use super::parts::{Desk, Identities};
use super::refusal::Refusal;
use super::reply::ResponseHead;
use crate::acp::authority::Authority;
use crate::acp::header::{self, ContentType, HeaderError, RequestHead};
use crate::acp::problem::{ErrorDialect, Problem};
use crate::acp::route::{Route, RouteError};
use crate::acp::version::Version;
use crate::auth::bearer;
use crate::auth::signature::{self, Company, Presented, Proof, Sender, SignedRequest, Verified};
use crate::body::{BodyError, Content, collect};
use crate::crypto::digest::Sha256;
use crate::crypto::random;
use crate::domain::clock::Deadline;
use crate::http_signature::MessageView;
use crate::limit::{Limited, Limits};
use crate::merchant::ForwardedHeaders;
use crate::registry::{Agent, Merchant};
use crate::telemetry::access::RequestLog;
use crate::telemetry::log::{Identifier, Level, Value};
use crate::telemetry::spans::Stage;
use crate::telemetry::trace::TraceParent;
use crate::telemetry::trail::Trail;

impl ResponseHead {
    /// What can be echoed before anything is known to be right.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self {
            request_id: header::request_id(headers).map_or_else(drawn_request_id, |id| id.as_str().into()),
            idempotency_key: header::idempotency_key(headers).ok().flatten(),
            quota: None,
            dialect: ErrorDialect::Checkout,
        }
    }
}

/// Whose digest of a credential and a line end was told: once each.
#[derive(Default)]
pub(super) struct LineEnds {
    told: Mutex<BTreeSet<String>>,
}

/// The way in.
pub(super) struct Admission {
    pub identities: Arc<Identities>,
    /// Rates.
    pub limits: Limits,
    /// Signatures that are to be verified.
    pub company: Company,
    /// Digests that were told to be of a credential and a line end.
    pub line_ends: LineEnds,
    /// The largest body, in bytes.
    pub body_bytes: usize,
    /// The time for a whole body.
    pub body_timeout: Duration,
    pub desk: Arc<Desk>,
}

impl Admission {
    /// Which authority and route a head names.
    pub(super) fn route(&self, head: &Parts) -> Result<(Authority, Route), Refusal> {
        let authority = Authority::of_request(&head.uri, &head.headers).map_err(|_| {
            let problem = Problem::invalid_request(
                http::StatusCode::BAD_REQUEST,
                "invalid_host",
                "The request must name one host, the same wherever it names it.",
            );
            Refusal::Malformed(Box::new(problem))
        })?;
        let host_merchant =
            self.identities.registry.merchant_by_host(authority.as_str()).map(|merchant| &merchant.id);
        if host_merchant.is_none() && !self.identities.registry.is_shared_host(authority.as_str()) {
            return Err(Refusal::Misdirected);
        }
        match Route::parse(&head.method, head.uri.path(), host_merchant) {
            Ok(route) => Ok((authority, route)),
            Err(RouteError::NotFound) => Err(Refusal::NotFound),
            Err(RouteError::MethodNotAllowed { allow }) => Err(Refusal::MethodNotAllowed(allow)),
        }
    }

    /// Takes an agent's request through every check that does not depend on its route's flow.
    #[allow(clippy::too_many_arguments, reason = "the parts of one request, each owned by another stage")]
    pub(super) async fn admit(
        &self,
        head: &Parts,
        body: &mut Content,
        caller: Caller,
        authority: Authority,
        route: Route,
        request_log: &mut RequestLog,
        response_head: &mut ResponseHead,
    ) -> Result<Call, Refusal> {
        // Work that finishes what was begun goes on while the gateway shuts down; nothing new does.
        // What was let in here is waited for from here on, its body included.
        let work = match route {
            Route::RevokeToken { .. } => self.desk.drain.work(),
            _ => self.desk.drain.admit().ok_or(Refusal::Draining)?,
        };
        let admitting = request_log.trail().span(Stage::Admit);
        header::refuse_repeats(&head.headers).map_err(Refusal::Header)?;
        let (agent, credential) = self.authenticate(&head.headers, &caller)?;
        request_log.agent(&agent.id);
        note_names(&route, request_log.trail());
        let read = RequestHead::read(&head.headers).map_err(|error| match error {
            HeaderError::UnsupportedVersion => Refusal::Version(self.versions_of(&route, &agent)),
            other => Refusal::Header(other),
        })?;
        let version = read
            .version
            .or_else(|| default_version(&agent))
            .ok_or_else(|| Refusal::MissingVersion(self.versions_of(&route, &agent)))?;
        let merchant = self.merchant_of(&route, &agent, version)?;
        if let Some(merchant) = &merchant {
            request_log.merchant(&merchant.id);
        }
        if route.needs_idempotency_key(version) && read.idempotency_key.is_none() {
            return Err(Refusal::KeyRequired);
        }
        let query = query(head, &route, merchant.as_deref())?;
        // A thief with the credential and no key exhausts an allowance of its own address here,
        // not the agent's, and before a byte of body is read.
        self.limits.signature(&agent.id, caller.address).map_err(Refusal::Limited)?;
        let mut unfinished = self.limits.unfinished_body(&agent.id, caller.address, self.body_bytes);
        let body = self.read_body(body, &route, |bytes| unfinished.hold(bytes), request_log).await?;
        drop(unfinished);
        if read.content_type == ContentType::Absent && !body.is_empty() {
            return Err(Refusal::Header(HeaderError::UnsupportedMediaType));
        }
        let path = route.canonical_path();
        let request = SignedRequest {
            message: message(head, &authority),
            body: &body,
            money_route: route.is_money(),
            idempotency_key: read.idempotency_key.as_ref().map(header::IdempotencyKey::as_str),
        };
        drop(admitting);
        let verifying = request_log.trail().span(Stage::Verify);
        let verified = self.verify(&agent, &request, &caller).await?;
        drop(verifying);
        let limiting = request_log.trail().span(Stage::Limit);
        let quota = self.limits.admit(&agent, verified.is_signed(), merchant.as_deref()).await;
        drop(limiting);
        response_head.quota = Some(quota.map_err(Refusal::Limited)?);
        let trace = named_trace(&head.headers);
        request_log.trace(trace, agent.traces);
        let passing = self.passing(head, version, &authority, &caller, response_head, trace);
        Ok(Call {
            agent,
            version,
            route,
            path,
            passing,
            query,
            key: read.idempotency_key,
            credential,
            verified,
            trail: request_log.trail().clone(),
            _work: work,
        })
    }

    /// Whose credential it is, and its digest.
    fn authenticate(&self, headers: &HeaderMap, caller: &Caller) -> Result<(Arc<Agent>, Sha256), Refusal> {
        let (agent, credential) = bearer::agent(&self.identities.registry, headers)
            .map_err(|_| self.unauthenticated(headers, caller))?;
        caller.standing.recognise(&credential);
        Ok((Arc::clone(agent), credential))
    }

    /// The refusal of who presents no credential that is known here.
    pub(super) fn unauthenticated(&self, headers: &HeaderMap, caller: &Caller) -> Refusal {
        self.tell_line_end(headers);
        match self.limits.failed_authentication(caller.address) {
            Ok(()) => Refusal::Unauthenticated,
            Err(limited) => Refusal::Limited(limited),
        }
    }

    /// A credential is refused because its configured digest is of it and a line end: nobody else sees that.
    fn tell_line_end(&self, headers: &HeaderMap) {
        let credential = header::credential(headers).ok().flatten();
        let Some(of) =
            credential.and_then(|credential| self.identities.registry.with_line_end(credential.expose()))
        else {
            return;
        };
        if self.line_ends.told.lock().insert(of.to_owned())
            && let Some(id) = Identifier::parse(of)
        {
            self.desk.observer.log().event(
                Level::Warn,
                "credential_digest_with_line_end",
                &[("id", Value::Id(id))],
            );
        }
    }

    fn merchant_of(
        &self,
        route: &Route,
        agent: &Agent,
        version: Version,
    ) -> Result<Option<Arc<Merchant>>, Refusal> {
        let Some(id) = route.merchant() else { return Ok(None) };
        let merchant = self.identities.merchant(id)?;
        if !agent.may_use(id) {
            return Err(Refusal::MerchantUnknown);
        }
        // `delegate_payment` ends here: the merchant never sees its version.
        if !matches!(route, Route::DelegatePayment { .. }) && !merchant.versions.contains(version.as_str()) {
            return Err(Refusal::Version(versions_of(&merchant)));
        }
        Ok(Some(merchant))
    }

    /// The versions that would be served: a merchant's own where it sees them, and where the agent
    /// may know that it exists.
    fn versions_of(&self, route: &Route, agent: &Agent) -> Vec<Version> {
        let ends_here = matches!(route, Route::DelegatePayment { .. });
        let id = route.merchant().filter(|id| !ends_here && agent.may_use(id));
        let merchant = id.and_then(|id| self.identities.merchant(id).ok());
        merchant.map_or_else(|| Version::NEWEST_FIRST.to_vec(), |merchant| versions_of(&merchant))
    }

    /// Reads a body within bounds; `hold` as for [`collect`]. A read has none.
    pub(super) async fn read_body(
        &self,
        body: &mut Content,
        route: &Route,
        hold: impl FnMut(usize) -> Result<(), Limited>,
        request_log: &mut RequestLog,
    ) -> Result<Bytes, Refusal> {
        let started = Instant::now();
        let most = match route {
            Route::RedeemToken { .. } => REDEEM_BYTES.min(self.body_bytes),
            route if route.is_mutation() => self.body_bytes,
            _ => 0,
        };
        let read = collect(body, most, Deadline::after(self.body_timeout), hold).await;
        request_log.body(read.as_ref().map_or(0, Bytes::len), started.elapsed());
        read.map_err(|error| match error {
            BodyError::TooLarge => Refusal::TooLarge,
            BodyError::TooSlow => Refusal::TooSlow,
            BodyError::Limited(limited) => Refusal::Limited(limited),
            BodyError::Trailers => Refusal::Malformed(Box::new(Problem::invalid_request(
                http::StatusCode::BAD_REQUEST,
                "trailers_not_allowed",
                "The request must end with its body: trailer fields are not accepted.",
            ))),
            BodyError::Broken => Refusal::Broken,
        })
    }

    async fn verify(
        &self,
        agent: &Agent,
        request: &SignedRequest<'_>,
        caller: &Caller,
    ) -> Result<Verified, Refusal> {
        let metrics = self.desk.observer.metrics();
        let now = self.desk.clock.now();
        // This one is under way itself.
        let sender = Sender { id: &agent.id, now, has_company: self.desk.drain.under_way() > 1 };
        let verified = match signature::examine(agent, request, now) {
            Ok(left) => left.in_company(&self.company, sender).await,
            Err(error) => Err(error),
        };
        match verified {
            Ok(verified) => {
                let profile = match verified.proof() {
                    Proof::Signed { profile, .. } => profile.as_str(),
                    Proof::BearerOnly { .. } => Presented::Nothing.as_str(),
                };
                metrics.signature(profile, verified.outcome().as_str());
                Ok(verified)
            }
            Err(error) => {
                metrics.signature(Presented::by(request.message.headers).as_str(), error.outcome().as_str());
                self.limits.failed_signature(&agent.id, caller.address);
                Err(Refusal::Signature(error))
            }
        }
    }

    fn passing(
        &self,
        head: &Parts,
        version: Version,
        authority: &Authority,
        caller: &Caller,
        response_head: &ResponseHead,
        trace: Option<TraceParent>,
    ) -> ForwardedHeaders {
        ForwardedHeaders {
            version: version.as_str().into(),
            accept_language: header::accept_language(&head.headers),
            content_type: head.headers.get(CONTENT_TYPE).cloned(),
            accept: head.headers.get(ACCEPT).cloned(),
            user_agent: head.headers.get(USER_AGENT).cloned(),
            request_id: Arc::clone(&response_head.request_id),
            traceparent: trace.map(|trace| trace.to_string()),
            forwarded_for: caller.address,
            host: authority.shared(),
        }
    }
}

/// A redeem names a claim and perhaps an amount.
const REDEEM_BYTES: usize = 4 * 1024;

/// A request id of ours: `req_` and 131 random bits.
pub(super) fn drawn_request_id() -> Arc<str> {
    ["req_", &random::base62(22).unwrap_or_default()].concat().into()
}

fn versions_of(merchant: &Merchant) -> Vec<Version> {
    merchant.versions.iter().filter_map(|text| Version::parse(text)).collect()
}

/// The trace that a request says it belongs to.
pub(super) fn named_trace(headers: &HeaderMap) -> Option<TraceParent> {
    headers.get("traceparent").and_then(|value| TraceParent::parse(value.as_bytes()))
}

/// Notes what a route names. Not before it is known who asks.
pub(super) fn note_names(route: &Route, trail: &Trail) {
    if let Some(session) = route.session() {
        trail.session(session);
    }
    if let Some(token) = route.token() {
        trail.token(token);
    }
}

fn default_version(agent: &Agent) -> Option<Version> {
    agent.default_version.as_deref().and_then(Version::parse)
}

/// The query, where the merchant's entry lets one pass.
fn query(head: &Parts, route: &Route, merchant: Option<&Merchant>) -> Result<Option<String>, Refusal> {
    let Some(query) = head.uri.query() else { return Ok(None) };
    let passes = !route.is_mutation() && merchant.is_some_and(|merchant| merchant.query_on_get);
    if passes {
        return Ok(Some(query.to_owned()));
    }
    let problem = Problem::invalid_request(
        http::StatusCode::BAD_REQUEST,
        "query_not_allowed",
        "This path does not take a query.",
    );
    Err(Refusal::Malformed(Box::new(problem)))
}

/// The request as its signature sees it: the authority normalised, the path as received.
pub(super) fn message<'a>(head: &'a Parts, authority: &'a Authority) -> MessageView<'a> {
    MessageView {
        method: head.method.as_str(),
        scheme: "https",
        authority: authority.as_str(),
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
    }
}
