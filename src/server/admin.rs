//! The operator's listener: `/metrics`, `/livez`, `/readyz` and the operator's API. Apart from the public
//! one, so that it answers while that one is full, draining or down.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admin_tls::AdminTls;
use super::linger::{Lingering, OverTcp};
use super::seats::{Kind, Seat, Seats, Unread};
use super::{Peer, Service};
use crate::body::Content;
use crate::drain::Drain;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::openmetrics;

/// Connections open at once: scrapers, probes and a few operators. One more, and the quietest gives way.
const CONNECTIONS: usize = 64;
/// Time for a request's head, the wait for it included: longer than scrapers' intervals.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// Time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a request's head.
const HEAD_BYTES: usize = 16 * 1024;
/// Bytes of a request's body, where there is no operator's API: nothing has one.
const BODY_BYTES: usize = 16 * 1024;

/// Whether money may move, and if not why not, in words for an operator.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The operator's listener.
pub struct Admin {
    metrics: Arc<Metrics>,
    drain: Drain,
    readiness: Readiness,
    operator: Option<Arc<dyn Service>>,
    tls: Option<Arc<AdminTls>>,
    is_for_probes: bool,
}

impl Admin {
    /// Reports these metrics; ready while no drain is announced and `readiness` agrees.
    pub fn new(metrics: Arc<Metrics>, drain: Drain, readiness: Readiness) -> Self {
        Self { metrics, drain, readiness, operator: None, tls: None, is_for_probes: false }
    }

    /// Hands every other path to the operator's API, which has a credential of its own.
    #[must_use]
    pub fn with_operator(mut self, operator: Arc<dyn Service>) -> Self {
        self.operator = Some(operator);
        self
    }

    /// Speaks TLS, where there is any, and lets in whom it lets in.
    #[must_use]
    pub fn behind(mut self, tls: Option<Arc<AdminTls>>) -> Self {
        self.tls = tls;
        self
    }

    /// What answers probes as this does, in plain HTTP, and nothing else.
    #[must_use]
    pub fn for_probes_alone(&self) -> Self {
        let probes = Self::new(Arc::clone(&self.metrics), self.drain.clone(), Arc::clone(&self.readiness));
        Self { is_for_probes: true, ..probes }
    }

    /// Serves until `end` completes; then finishes the answers under way.
    pub async fn run(self, listener: TcpListener, end: impl Future<Output = ()> + Send) {
        let admin = Arc::new(self);
        let seats = Arc::new(Seats::new(CONNECTIONS, 0, Unread { each: usize::MAX, all: usize::MAX }));
        let connections = TaskTracker::new();
        let ending = CancellationToken::new();
        let mut end = std::pin::pin!(end);
        loop {
            let (stream, address) = tokio::select! {
                biased;
                () = &mut end => break,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(_) => {
                        // Out of file descriptors, most likely: `Server` reports it.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let Some((seat, _)) = seats.take(Kind::Common) else { continue };
            let (admin, seats, ending) = (Arc::clone(&admin), Arc::clone(&seats), ending.clone());
            connections.spawn(async move {
                admin.serve(stream, address, &seat, ending).await;
                seats.leave(&seat);
            });
        }
        drop(listener);
        ending.cancel();
        connections.close();
        connections.wait().await;
    }

    async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        seat: &Arc<Seat>,
        ending: CancellationToken,
    ) {
        let peer = Peer { address, certificate: None, standing: seat.standing().clone() };
        let Some(tls) = self.tls.clone() else { return self.talk(stream, peer, seat, ending).await };
        let handshake = tokio::select! {
            handshake = timeout(HANDSHAKE_TIMEOUT, tls.welcome(stream)) => handshake,
            () = seat.lost() => return,
            () = ending.cancelled() => return,
        };
        match handshake.unwrap_or(Err("timeout")) {
            Ok((stream, certificate)) => self.talk(stream, Peer { certificate, ..peer }, seat, ending).await,
            Err(reason) => self.metrics.handshake_failed(reason),
        }
    }

    async fn talk<S: OverTcp + Send>(
        self: Arc<Self>,
        stream: S,
        peer: Peer,
        seat: &Arc<Seat>,
        ending: CancellationToken,
    ) {
        let asking = Arc::clone(seat);
        let answer = service_fn(move |request| {
            let (admin, peer, seat) = (Arc::clone(&self), peer.clone(), Arc::clone(&asking));
            async move {
                Ok::<_, Infallible>(match seat.begin() {
                    None => plain(StatusCode::SERVICE_UNAVAILABLE, "closing\n".to_owned()),
                    Some(_asked) => admin.answer(request, peer).await,
                })
            }
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES)
            .half_close(true);
        let mut connection =
            std::pin::pin!(builder.serve_connection(TokioIo::new(Lingering::new(stream)), answer));
        tokio::select! {
            _ = connection.as_mut() => {}
            () = seat.lost() => {}
            () = ending.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let _ = timeout(Duration::from_secs(1), connection).await;
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Response<Full<Bytes>> {
        if self.tls.as_ref().is_some_and(|tls| !tls.lets_in(peer.certificate.as_ref())) {
            let mut response =
                plain(StatusCode::FORBIDDEN, "this client certificate is no longer good here\n".to_owned());
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            return response;
        }
        let ours = matches!(request.uri().path(), "/metrics" | "/livez" | "/readyz");
        if let (false, Some(operator)) = (ours, &self.operator) {
            return Arc::clone(operator).call(request, peer).await;
        }
        let (head, body) = request.into_parts();
        let mut response = self.report(&head);
        Content::new(&head, body).finish(response.headers_mut(), BODY_BYTES).await;
        response
    }

    fn report(&self, head: &Parts) -> Response<Full<Bytes>> {
        let reading = matches!(head.method, Method::GET | Method::HEAD);
        match head.uri.path() {
            "/metrics" if self.is_for_probes => plain(StatusCode::NOT_FOUND, "not found\n".to_owned()),
            "/metrics" | "/livez" | "/readyz" if !reading => {
                let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
            "/metrics" => {
                self.metrics.set_ready(self.ready().is_ok());
                let accept =
                    head.headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
                let (samples, format) = if openmetrics::is_asked_for(accept) {
                    (self.metrics.encode_openmetrics(), openmetrics::CONTENT_TYPE)
                } else {
                    (self.metrics.encode(), "text/plain; version=0.0.4; charset=utf-8")
                };
                let mut response = plain(StatusCode::OK, samples);
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format));
                response
            }
            "/livez" => plain(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => match self.ready() {
                Ok(()) => plain(StatusCode::OK, "ok\n".to_owned()),
                Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
            },
            _ => plain(StatusCode::NOT_FOUND, "not found\n".to_owned()),
        }
    }

    fn ready(&self) -> Result<(), String> {
        if self.drain.is_announced() {
            return Err("draining".to_owned());
        }
        (self.readiness)()
    }
}

fn plain(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
