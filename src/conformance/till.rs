//! The gateway's counter, where the merchant fetches cards: it hands them out as the gateway does, or fails on purpose.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::bodies;
use crate::acp::wire::redeem::RedeemRequest;
use crate::crypto::digest::{Sha256, sha256};
use crate::domain::money::Money;

/// As the gateway takes of a redeem.
const MOST_BYTES: usize = 4096;

/// How the counter behaves about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// The card is handed out.
    Give,
    /// It is refused, as one that was handed out before.
    Refuse,
    /// Its first answer never arrives.
    LoseFirst,
    /// Nothing is answered before [`Till::release`].
    Hold,
}

/// A token that can be redeemed.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub session: String,
    /// The complete it may be redeemed for now.
    pub claim: String,
    pub total: Money,
    pub card: &'static str,
    pub manner: Manner,
}

/// A redeem that came.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub token: String,
    pub claim: Option<String>,
    /// The amount it asked for.
    pub amount: Option<Money>,
    /// What it was told: 200, or a refusal.
    pub status: u16,
    pub code: &'static str,
    /// Whether whoever asked has hung up without having been answered.
    pub hung_up: bool,
}

/// A token at the counter.
struct Offered {
    offer: Offer,
    /// The complete its card was handed out for.
    handed_out: Option<String>,
}

/// What goes on at the counter.
struct Counter {
    redeemers: Vec<Sha256>,
    /// Whether a card is handed out again for another complete.
    every_claim: bool,
    keys: Bytes,
    offers: Mutex<HashMap<String, Offered>>,
    asked: watch::Sender<Vec<Asked>>,
    released: watch::Sender<bool>,
}

/// The counter, open until it is dropped.
pub(super) struct Till {
    counter: Arc<Counter>,
    _closed: DropGuard,
}

impl Till {
    /// Opens it on a socket. Who presents a credential with one of these digests may redeem; `keys` are
    /// published.
    pub(super) fn open(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        redeemers: Vec<Sha256>,
        every_claim: bool,
        keys: &Value,
    ) -> Self {
        let counter = Arc::new(Counter {
            redeemers,
            every_claim,
            keys: keys.to_string().into(),
            offers: Mutex::default(),
            asked: watch::Sender::new(Vec::new()),
            released: watch::Sender::new(false),
        });
        let closed = CancellationToken::new();
        let tls = tls.map(TlsAcceptor::from);
        tokio::spawn(listen(listener, tls, Arc::clone(&counter), closed.clone()));
        Self { counter, _closed: closed.drop_guard() }
    }

    /// Lets a token be redeemed.
    pub(super) fn offer(&self, token: &str, offer: Offer) {
        self.counter.released.send_replace(false);
        self.counter.offers.lock().insert(token.to_owned(), Offered { offer, handed_out: None });
    }

    /// Another complete may redeem it: of the same session, where the card was handed out before.
    pub(super) fn claim(&self, token: &str, claim: &str) {
        if let Some(offered) = self.counter.offers.lock().get_mut(token) {
            claim.clone_into(&mut offered.offer.claim);
        }
    }

    /// Whoever was kept waiting is answered.
    pub(super) fn release(&self) {
        self.counter.released.send_replace(true);
    }

    /// The redeems of a token, in order.
    pub(super) fn asked_for(&self, token: &str) -> Vec<Asked> {
        self.counter.asked.borrow().iter().filter(|asked| asked.token == token).cloned().collect()
    }

    /// Waits until so many redeems of a token came; whether they did in time.
    pub(super) async fn came(&self, token: &str, count: usize, within: Duration) -> bool {
        let mut asked = self.counter.asked.subscribe();
        let enough = asked.wait_for(|asked| asked.iter().filter(|one| one.token == token).count() >= count);
        tokio::time::timeout(within, enough).await.is_ok_and(|waited| waited.is_ok())
    }
}

async fn listen(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    counter: Arc<Counter>,
    closed: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closed.cancelled() => return,
        };
        if let Ok((stream, _)) = accepted {
            let (tls, counter, broken) = (tls.clone(), Arc::clone(&counter), closed.child_token());
            tokio::spawn(async move {
                tokio::select! {
                    () = connection(stream, tls, counter, broken.clone()) => {}
                    () = broken.cancelled() => {}
                }
            });
        }
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    counter: Arc<Counter>,
    broken: CancellationToken,
) {
    let service = service_fn(move |request| serve(Arc::clone(&counter), request, broken.clone()));
    let Some(tls) = tls else {
        let _ =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        return;
    };
    let Ok(stream) = tls.accept(stream).await else { return };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = TokioIo::new(stream);
    if is_http2 {
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = server.serve_connection(stream, service).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
    }
}

async fn serve(
    counter: Arc<Counter>,
    request: Request<Incoming>,
    broken: CancellationToken,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if path == "/.well-known/jwks.json" {
        return Ok(answer(StatusCode::OK, counter.keys.clone()));
    }
    let rest = path.strip_prefix("/agentic_commerce/granted_tokens/");
    let token = rest.and_then(|rest| rest.strip_suffix("/redeem")).filter(|_| head.method == Method::POST);
    let viewed = rest.filter(|rest| !rest.contains('/') && head.method == Method::GET);
    let is_known = counter.knows(head.headers.get(AUTHORIZATION));
    match (token, viewed) {
        (Some(token), _) => {
            let body = Limited::new(body, MOST_BYTES).collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            Ok(counter.redeem(token, &body, is_known, &broken).await)
        }
        (None, Some(_)) if !is_known => Ok(refusal(401, "unauthorized")),
        (None, Some(token)) => Ok(counter.view(token)),
        (None, None) => Ok(refusal(404, "not_found")),
    }
}

fn answer(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn refusal(status: u16, code: &str) -> Response<Full<Bytes>> {
    let body = json!({ "type": "invalid_request", "code": code, "message": "This redeem is refused." });
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer(status, body.to_string().into())
}

/// Notes that whoever asked has hung up, unless it was answered.
struct Waiting<'a> {
    counter: &'a Counter,
    at: usize,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let (at, answered) = (self.at, self.answered);
        self.counter.asked.send_modify(|asked| {
            if let Some(asked) = asked.get_mut(at) {
                asked.hung_up = !answered;
            }
        });
    }
}

impl Counter {
    fn knows(&self, presented: Option<&HeaderValue>) -> bool {
        let credential = presented.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        credential.is_some_and(|credential| self.redeemers.contains(&sha256(&[credential.as_bytes()])))
    }

    async fn redeem(
        &self,
        token: &str,
        body: &[u8],
        is_known: bool,
        broken: &CancellationToken,
    ) -> Response<Full<Bytes>> {
        let request = RedeemRequest::read(body).ok();
        let (status, code, offer, is_first) = self.decide(token, request.as_ref(), is_known);
        let asked = Asked {
            token: token.to_owned(),
            claim: request.as_ref().map(|request| request.claim.as_str().to_owned()),
            amount: request.as_ref().map(|request| request.amount),
            status,
            code,
            hung_up: false,
        };
        let mut at = 0;
        self.asked.send_modify(|all| {
            at = all.len();
            all.push(asked);
        });
        let mut waiting = Waiting { counter: self, at, answered: false };
        let Some(offer) = offer else {
            waiting.answered = true;
            return refusal(status, code);
        };
        match offer.manner {
            Manner::LoseFirst if is_first => {
                broken.cancel();
                return std::future::pending().await;
            }
            Manner::Hold => {
                let mut released = self.released.subscribe();
                let _ = released.wait_for(|released| *released).await;
            }
            Manner::Give | Manner::Refuse | Manner::LoseFirst => {}
        }
        waiting.answered = true;
        answer(StatusCode::OK, bodies::card(offer.card).to_string().into())
    }

    /// What a redeem is told, by the gateway's rules; the offer where the card is handed out, and whether for
    /// the first time.
    fn decide(
        &self,
        token: &str,
        request: Option<&RedeemRequest>,
        is_known: bool,
    ) -> (u16, &'static str, Option<Offer>, bool) {
        let refused = |status, code| (status, code, None, false);
        if !is_known {
            return refused(401, "unauthorized");
        }
        let Some(request) = request else { return refused(400, "invalid_body") };
        let mut offers = self.offers.lock();
        let Some(Offered { offer, handed_out }) = offers.get_mut(token) else {
            return refused(404, "not_found");
        };
        let of_another = request.session.as_str() != offer.session || request.claim.as_str() != offer.claim;
        if of_another {
            return refused(409, "claim_unknown");
        }
        if request.amount.currency != offer.total.currency {
            return refused(422, "currency_mismatch");
        }
        if request.amount.amount > offer.total.amount {
            return refused(422, "amount_exceeds_claim");
        }
        let for_another = handed_out.as_ref().is_some_and(|claim| *claim != offer.claim);
        if offer.manner == Manner::Refuse || for_another && !self.every_claim {
            return refused(410, "already_redeemed");
        }
        let is_first = handed_out.replace(offer.claim.clone()).is_none();
        (200, "redeemed", Some(offer.clone()), is_first)
    }

    fn view(&self, token: &str) -> Response<Full<Bytes>> {
        let offers = self.offers.lock();
        let Some(Offered { offer, handed_out }) = offers.get(token) else {
            return refusal(404, "not_found");
        };
        let redeemed = handed_out.is_some();
        let amount = offer.total.amount.get();
        let currency = offer.total.currency.as_str();
        let view = json!({
            "id": token,
            "status": "claimed",
            "checkout_session_id": offer.session,
            "max_amount": amount,
            "currency": currency,
            "claim": { "id": offer.claim, "amount": amount, "currency": currency, "redeemed": redeemed },
        });
        answer(StatusCode::OK, view.to_string().into())
    }
}

/// Where it listens, as merchants are told.
pub(super) fn base_url(address: SocketAddr, authority: Option<&str>) -> String {
    match authority {
        Some(authority) => format!("https://{authority}"),
        None => format!("http://{address}"),
    }
}
