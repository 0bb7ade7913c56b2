//! The flow: one request from its head to its answer.
//!
//! [`Gateway::handle`] is the prefix all requests share, in the order in which it happens: address
//! limit, credential, body, signature, agent limit. Then each family of routes has a file. Order is
//! a security property, so it is straight-line code, not a stack of layers.

mod admit;
mod assembly;
mod availability;
mod base_urls;
mod call;
mod claim;
mod claim_sending;
pub(crate) mod claims;
mod complete;
mod complete_answer;
mod completion;
mod delegate;
mod destinations;
mod doubt;
mod events;
mod evidence;
mod mutate;
mod parts;
mod publish;
mod reconcile;
mod redeem;
mod refusal;
mod replays;
mod reply;
mod risk;
mod session_read;
mod session_reads;
mod sessions;
mod store_scan;
mod suspended;
mod token_view;
mod upstreams;
mod way;
mod withdrawals;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::body::Incoming;

use self::admit::Admission;
pub(crate) use self::assembly::Parts;
use self::availability::Availability;
use self::call::Call;
pub use self::claim::{HeldClaim, Settled};
use self::claims::OpenClaimsDesk;
use self::complete::Completes;
use self::delegate::Mints;
pub(crate) use self::destinations::Destinations;
use self::mutate::Mutations;
pub(crate) use self::parts::{Books, Desk, Identities};
pub(crate) use self::publish::KEY_SET_MAX_AGE;
use self::publish::Published;
use self::reconcile::Worker;
use self::redeem::Redemptions;
use self::refusal::Refusal;
use self::reply::{Reply, ResponseHead};
use self::session_reads::SessionReads;
use self::sessions::Sessions;
pub(crate) use self::suspended::Suspended;
use self::token_view::Tokens;
use self::upstreams::Upstreams;
pub(crate) use self::withdrawals::Withdrawals;
use crate::acp::route::{CartCall, CheckoutCall, Route};
use crate::auth::Standing;
use crate::auth::client_certificate::ClientCertificate;
use crate::body::Content;
use crate::domain::id::{MerchantId, SessionId};
use crate::domain::session::SessionKind;
use crate::domain::wiping::wiping_stack;
use crate::limit::breaker::Breakers;
use crate::limit::{Concurrency, Limits};
use crate::merchant::{Merchants, UpstreamFailure};
use crate::telemetry::access::RequestLog;
use crate::telemetry::trail::Trail;

/// The flows, and the way to each; nothing of it changes while it runs.
pub(crate) struct Gateway {
    admission: Arc<Admission>,
    published: Published,
    completes: Arc<Completes>,
    mutations: Arc<Mutations>,
    mints: Arc<Mints>,
    sessions: Arc<Sessions>,
    tokens: Arc<Tokens>,
    redemptions: Arc<Redemptions>,
    worker: Arc<Worker>,
    reads: SessionReads,
    upstreams: Arc<Upstreams>,
    availability: Arc<Availability>,
    /// The open claims, for operators.
    pub open_claims: Arc<OpenClaimsDesk>,
    /// Withdraws tokens, for operators.
    pub withdrawals: Arc<Withdrawals>,
    desk: Arc<Desk>,
}

/// Who is at the other end of the connection.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Its address, a trusted proxy's word included.
    pub address: IpAddr,
    /// Its TLS client certificate.
    pub certificate: Option<ClientCertificate>,
    /// Where it is noted that it has shown a credential that is known.
    pub standing: Standing,
}

impl Gateway {
    /// The rates it charges: those of the next configuration go on from there.
    pub(crate) fn limits(&self) -> &Limits {
        &self.admission.limits
    }

    /// What is under way at merchants.
    pub(crate) fn concurrency(&self) -> &Concurrency {
        &self.upstreams.concurrency
    }

    /// What is known of whether merchants can be asked.
    pub(crate) fn breakers(&self) -> &Breakers {
        &self.availability.breakers
    }

    /// Tells a scrape what is known of that.
    pub(crate) fn show_breakers(&self) {
        self.availability.show_standings();
    }

    /// The way to merchants.
    pub(crate) fn merchant_pools(&self) -> &Merchants {
        &self.upstreams.merchants
    }

    /// Does what nobody asks for, in the background, until shutdown begins; with whichever of the
    /// gateways of this process runs.
    pub(crate) async fn work_in_background(running: &ArcSwap<Self>) {
        tokio::join!(
            reconcile::work(|| Arc::clone(&running.load().worker)),
            availability::look_after(|| Arc::clone(&running.load().availability))
        );
    }

    /// Answers one request. Dropping the future abandons reads; mutations run on in tasks.
    pub(crate) async fn handle(
        &self,
        request: http::Request<Incoming>,
        caller: Caller,
    ) -> Response<Full<Bytes>> {
        let mut request_log = self.desk.observer.begin(caller.address);
        let (head, body) = request.into_parts();
        let mut body = Content::new(&head, body);
        let mut response_head = ResponseHead::of(&head.headers);
        request_log.request_id(Arc::clone(&response_head.request_id));
        let reply = match self.serve(&head, &mut body, caller, &mut request_log, &mut response_head).await {
            Ok(reply) => reply,
            Err(refusal) => {
                self.note_refusal(&refusal, &mut response_head, request_log.trail());
                request_log.merchant_fault(refusal.merchant_fault());
                if matches!(refusal, Refusal::Internal(_)) {
                    request_log.is_ours();
                }
                Reply::refusal(&refusal, response_head.dialect)
            }
        };
        request_log.decision(reply.decision);
        request_log.finish(reply.status.as_u16(), reply.body.len());
        let mut response = response_head.respond(reply);
        body.finish(response.headers_mut(), self.admission.body_bytes).await;
        response
    }

    fn note_refusal(&self, refusal: &Refusal, response_head: &mut ResponseHead, trail: &Trail) {
        let metrics = self.desk.observer.metrics();
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
        metrics.refused(refusal.reason());
        if let Refusal::Limited(limited) = refusal {
            metrics.limited(limited.scope.as_str());
            response_head.quota = limited.quota.or(response_head.quota);
        }
    }

    async fn serve(
        &self,
        head: &http::request::Parts,
        body: &mut Content,
        caller: Caller,
        request_log: &mut RequestLog,
        response_head: &mut ResponseHead,
    ) -> Result<Reply, Refusal> {
        let routed = self.admission.route(head);
        if let Ok((_, route)) = &routed {
            response_head.dialect = route.error_dialect();
            request_log.route(route.label());
            request_log.template(|| route.template());
        }
        // Who asks for what is not here pays for it too.
        self.admission.limits.address(caller.address).map_err(Refusal::Limited)?;
        let (authority, route) = routed?;
        match &route {
            Route::Discovery { merchant } => self.published.discovery(merchant.as_ref(), &authority),
            Route::Jwks => self.published.jwks(),
            Route::SignatureDirectory => self.published.signature_directory(),
            Route::GrantedToken { token } | Route::RedeemToken { token } => {
                wiping_stack(self.redemptions.serve_redeemer(
                    head,
                    body,
                    caller,
                    &authority,
                    &route,
                    token,
                    request_log,
                ))
                .await
            }
            // From the first look at its body.
            Route::DelegatePayment { .. } => {
                wiping_stack(async {
                    let call = self
                        .admission
                        .admit(head, body, caller, authority, route, request_log, response_head)
                        .await?;
                    self.dispatch(call).await
                })
                .await
            }
            Route::IssuedToken { .. }
            | Route::RevokeToken { .. }
            | Route::Checkout { .. }
            | Route::Cart { .. } => {
                let call = self
                    .admission
                    .admit(head, body, caller, authority, route, request_log, response_head)
                    .await?;
                self.dispatch(call).await
            }
        }
    }

    /// Hands an admitted call to its flow. From here on a client that hangs up cancels no mutation. Each
    /// flow has a box of its own: together they would make every request's future as large as the
    /// largest, and futures are copied on their way.
    async fn dispatch(&self, call: Call) -> Result<Reply, Refusal> {
        let merchant = |id| self.admission.identities.merchant(id);
        let trail = call.trail.clone();
        match call.route.clone() {
            Route::DelegatePayment { merchant } => {
                let mints = Arc::clone(&self.mints);
                self.desk
                    .detach(trail, wiping_stack(async move { mints.delegate_payment(call, merchant).await }))
                    .await
            }
            Route::IssuedToken { token } => Box::pin(self.tokens.issued_token(&call, &token)).await,
            Route::RevokeToken { token } => {
                let tokens = Arc::clone(&self.tokens);
                let operation = call.operation(&self.admission.identities.rings, None)?;
                let revoking = async move { tokens.revoke_token(&call, &operation, &token).await };
                self.desk.detach(trail, Box::pin(revoking)).await
            }
            Route::Checkout { merchant: id, call: CheckoutCall::Complete { session } } => {
                let (completes, merchant) = (Arc::clone(&self.completes), merchant(&id)?);
                let completing = async move { completes.complete(call, merchant, session).await };
                self.desk.detach(trail, Box::pin(completing)).await
            }
            Route::Checkout { merchant: id, call: CheckoutCall::Get { session } } => {
                let (kind, merchant) = (SessionKind::Checkout, merchant(&id)?);
                Box::pin(self.sessions.read_through(&call, &merchant, kind, &session)).await
            }
            Route::Cart { merchant: id, call: CartCall::Get { cart } } => {
                let (kind, merchant) = (SessionKind::Cart, merchant(&id)?);
                Box::pin(self.sessions.read_through(&call, &merchant, kind, &cart)).await
            }
            Route::Checkout { merchant: id, call: CheckoutCall::Create } => {
                self.create(call, &id, SessionKind::Checkout).await
            }
            Route::Cart { merchant: id, call: CartCall::Create } => {
                self.create(call, &id, SessionKind::Cart).await
            }
            Route::Checkout {
                merchant: id,
                call: CheckoutCall::Update { session } | CheckoutCall::Cancel { session },
            } => self.mutate(call, &id, SessionKind::Checkout, session).await,
            Route::Cart { merchant: id, call: CartCall::Update { cart } | CartCall::Cancel { cart } } => {
                self.mutate(call, &id, SessionKind::Cart, cart).await
            }
            Route::GrantedToken { .. }
            | Route::RedeemToken { .. }
            | Route::Discovery { .. }
            | Route::Jwks
            | Route::SignatureDirectory => Err(Refusal::NotFound),
        }
    }

    async fn create(&self, call: Call, merchant: &MerchantId, kind: SessionKind) -> Result<Reply, Refusal> {
        let (mutations, merchant) =
            (Arc::clone(&self.mutations), self.admission.identities.merchant(merchant)?);
        let trail = call.trail.clone();
        let creating = async move { mutations.create(call, merchant, kind).await };
        self.desk.detach(trail, Box::pin(creating)).await
    }

    async fn mutate(
        &self,
        call: Call,
        merchant: &MerchantId,
        kind: SessionKind,
        session: SessionId,
    ) -> Result<Reply, Refusal> {
        let (mutations, merchant) =
            (Arc::clone(&self.mutations), self.admission.identities.merchant(merchant)?);
        let trail = call.trail.clone();
        let mutating = async move { mutations.mutate(call, merchant, kind, session).await };
        self.desk.detach(trail, Box::pin(mutating)).await
    }
}
