//! The flow: one request from its head to its answer.
//!
//! [`Gateway::answer`] is the prefix all requests share, in the order in which it happens: address
//! limit, credential, body, signature, agent limit. Then each family of routes has a file. Order is
//! a security property, so it is straight-line code, not a stack of layers.

mod admit;
pub mod bracket;
mod call;
pub mod claims;
mod complete;
mod delegate;
mod doubt;
mod mutate;
mod notes;
mod operation;
mod publish;
mod read;
mod reading;
mod reconcile;
mod redeem;
mod refusal;
mod reply;
mod risk;
mod send;
mod survey;
mod token_view;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::oneshot;

use self::call::Call;
use self::refusal::{Internal, Refusal};
use self::reply::{Echo, Reply};
use crate::acp::route::{CartCall, CheckoutCall, Route};
use crate::auth::Standing;
use crate::auth::client_certificate::ClientCertificate;
use crate::body::Content;
use crate::crypto::rings::KeyRings;
use crate::domain::clock::Clock;
use crate::domain::session::SessionKind;
use crate::drain::Drain;
use crate::fraud::Velocity;
use crate::idempotency::KeptBytes;
use crate::ledger::Ledger;
use crate::limit::{Concurrency, Limits};
use crate::merchant::{Countersigner, Merchants, UpstreamFailure};
use crate::records::BoxFuture;
use crate::registry::Registry;
use crate::telemetry::access::{Observation, Observer};
use crate::telemetry::log::{Level, Log, Value};
use crate::telemetry::trail::Trail;
use crate::token::{Allotments, Vault};

/// What the gateway is made of. One immutable snapshot: a new configuration is a new gateway over
/// the same store.
pub struct Gateway {
    /// Who is who.
    pub registry: Arc<Registry>,
    /// Every key of ours.
    pub rings: Arc<KeyRings>,
    /// Sessions, tokens and keys.
    pub ledger: Ledger,
    /// Live tokens of agents.
    pub allotments: Allotments,
    /// What is kept for agents off the money routes.
    pub kept: KeptBytes,
    /// Fraud counters.
    pub velocity: Arc<Velocity>,
    /// Signs grants.
    pub countersigner: Arc<Countersigner>,
    /// Cards.
    pub vault: Vault,
    /// Rates.
    pub limits: Limits,
    /// Requests under way.
    pub concurrency: Concurrency,
    /// Risk rules.
    pub fraud: crate::fraud::Settings,
    /// How `delegate_payment` is read.
    pub delegate: crate::acp::Settings,
    /// Towards merchants.
    pub merchants: Arc<Merchants>,
    /// Metrics and log.
    pub observer: Observer,
    /// Shutdown.
    pub drain: Drain,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The largest body, in bytes.
    pub body_bytes: usize,
    /// The time for a whole body.
    pub body_timeout: Duration,
    /// Digests that were told to be of a credential and a line end.
    pub line_ends: LineEnds,
    /// Reads of sessions: one a session at a time, and how often.
    pub reads: SessionReads,
}

pub use self::admit::LineEnds;
pub use self::reading::SessionReads;

/// Who is at the other end of the connection.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Its address, a trusted proxy's word included.
    pub address: IpAddr,
    /// Its TLS client certificate.
    pub certificate: Option<ClientCertificate>,
    /// Where it is noted that it has shown a credential that is known.
    pub standing: Standing,
}

impl Gateway {
    /// Answers one request. Dropping the future abandons reads; mutations run on in tasks.
    pub async fn answer(
        self: Arc<Self>,
        request: http::Request<Incoming>,
        caller: Caller,
    ) -> Response<Full<Bytes>> {
        let mut observation = self.observer.begin(caller.address);
        let (head, body) = request.into_parts();
        let mut body = Content::new(&head, body);
        let mut echo = Echo::of(&head.headers);
        observation.request_id(&echo.request_id);
        let reply = match self.serve(&head, &mut body, caller, &mut observation, &mut echo).await {
            Ok(reply) => reply,
            Err(refusal) => {
                self.note_refusal(&refusal, &mut echo, observation.trail());
                observation.merchant_fault(refusal.merchant_fault());
                if matches!(refusal, Refusal::Internal(_)) {
                    observation.is_ours();
                }
                Reply::refusal(&refusal, echo.dialect)
            }
        };
        observation.decision(reply.decision);
        observation.finish(reply.status.as_u16(), reply.body.len());
        let mut response = echo.respond(reply);
        body.finish(response.headers_mut(), self.body_bytes).await;
        response
    }

    fn note_refusal(&self, refusal: &Refusal, echo: &mut Echo, trail: &Trail) {
        let metrics = self.observer.metrics();
        metrics.refused(refusal.reason());
        if let Some(cause) = refusal.cause() {
            trail.cause(cause);
        }
        // What of an answer only who asked can tell, and has not been counted with it.
        if let Refusal::MerchantAnswer(invalid) = refusal
            && invalid.is_unreadable()
            && !trail.has_cause()
        {
            let failure = UpstreamFailure::Unreadable.as_str();
            trail.cause(failure);
            metrics.upstream_failed(failure);
        }
        if let Refusal::Limited(limited) = refusal {
            metrics.limited(limited.scope.as_str());
            echo.quota = limited.quota.or(echo.quota);
        }
    }

    async fn serve(
        self: &Arc<Self>,
        head: &http::request::Parts,
        body: &mut Content,
        caller: Caller,
        observation: &mut Observation,
        echo: &mut Echo,
    ) -> Result<Reply, Refusal> {
        let routed = self.route(head);
        if let Ok((_, route)) = &routed {
            echo.dialect = route.error_dialect();
            observation.route(route.label());
        }
        // Who asks for what is not here pays for it too.
        self.limits.address(caller.address).map_err(Refusal::Limited)?;
        let (authority, route) = routed?;
        match &route {
            Route::Discovery { merchant } => self.discovery(merchant.as_ref(), &authority),
            Route::Jwks => self.jwks(),
            Route::SignatureDirectory => self.signature_directory(),
            Route::GrantedToken { token } | Route::RedeemToken { token } => {
                Box::pin(self.serve_redeemer(head, body, caller, &authority, &route, token, observation))
                    .await
            }
            Route::DelegatePayment { .. }
            | Route::IssuedToken { .. }
            | Route::RevokeToken { .. }
            | Route::Checkout { .. }
            | Route::Cart { .. } => {
                let call = self.admit(head, body, caller, authority, route, observation, echo).await?;
                self.dispatch(call).await
            }
        }
    }

    /// Hands an admitted call to its flow. From here on a client that hangs up cancels no mutation. Each
    /// flow has a box of its own: together they would make every request's future as large as the
    /// largest, and futures are copied on their way.
    async fn dispatch(self: &Arc<Self>, call: Call) -> Result<Reply, Refusal> {
        let (gateway, trail) = (Arc::clone(self), call.trail.clone());
        match call.route.clone() {
            Route::DelegatePayment { merchant } => {
                self.detach(trail, Box::pin(gateway.delegate_payment(call, merchant))).await
            }
            Route::IssuedToken { token } => Box::pin(self.issued_token(&call, &token)).await,
            Route::RevokeToken { token } => {
                self.detach(trail, Box::pin(async move { gateway.revoke_token(&call, &token).await })).await
            }
            Route::Checkout { merchant, call: CheckoutCall::Complete { session } } => {
                let merchant = self.merchant(&merchant)?;
                self.detach(trail, Box::pin(gateway.complete(call, merchant, session))).await
            }
            Route::Checkout { merchant, call: CheckoutCall::Get { session } } => {
                let merchant = self.merchant(&merchant)?;
                Box::pin(self.read_through(&call, &merchant, SessionKind::Checkout, &session)).await
            }
            Route::Cart { merchant, call: CartCall::Get { cart } } => {
                let merchant = self.merchant(&merchant)?;
                Box::pin(self.read_through(&call, &merchant, SessionKind::Cart, &cart)).await
            }
            Route::Checkout { merchant, call: CheckoutCall::Create } => {
                let merchant = self.merchant(&merchant)?;
                self.detach(trail, Box::pin(gateway.create(call, merchant, SessionKind::Checkout))).await
            }
            Route::Cart { merchant, call: CartCall::Create } => {
                let merchant = self.merchant(&merchant)?;
                self.detach(trail, Box::pin(gateway.create(call, merchant, SessionKind::Cart))).await
            }
            Route::Checkout {
                merchant,
                call: CheckoutCall::Update { session } | CheckoutCall::Cancel { session },
            } => {
                let merchant = self.merchant(&merchant)?;
                self.detach(trail, Box::pin(gateway.mutate(call, merchant, SessionKind::Checkout, session)))
                    .await
            }
            Route::Cart { merchant, call: CartCall::Update { cart } | CartCall::Cancel { cart } } => {
                let merchant = self.merchant(&merchant)?;
                self.detach(trail, Box::pin(gateway.mutate(call, merchant, SessionKind::Cart, cart))).await
            }
            Route::GrantedToken { .. }
            | Route::RedeemToken { .. }
            | Route::Discovery { .. }
            | Route::Jwks
            | Route::SignatureDirectory => Err(Refusal::NotFound),
        }
    }

    /// Runs a mutation to its end whatever the client does, and lets shutdown wait for it.
    async fn detach(
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
