//! One connection's life: PROXY header, TLS, then HTTP/2 or HTTP/1.1 until it ends.
//!
//! Falls silent or is asked to. Each runs in a task of its own, so that whatever it does costs nobody
//! else anything.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::activity::{Activity, CloseReason, UnderWay, WatchedStream};
use super::answer::{Answer, Kept};
use super::connection_counts::CountedConnection;
use super::linger::Lingering;
use super::seats::{Kind, Seat};
use super::shared::Shared;
use super::{Peer, Service, Settings, proxy, tls};
use crate::auth::client_certificate::ClientCertificate;
use crate::body::Content;

/// An idle connection that was told so has this long to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// hyper's smallest buffer.
const SMALLEST_HEAD: usize = 8 * 1024;

/// Unread bytes that one HTTP/2 stream, and one connection, may make us hold.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What tells connections to end.
#[derive(Clone, Default)]
pub(super) struct Ending {
    /// Finish what is under way, begin nothing.
    pub(super) gently: CancellationToken,
    /// Now.
    pub(super) now: CancellationToken,
}

/// Serves one accepted socket to its end, or until its place is another's. `presence` counts its
/// address, unless the address is a proxy's.
pub(super) async fn serve<S: Service>(
    stream: TcpStream,
    address: SocketAddr,
    counted: Option<CountedConnection>,
    seat: &Arc<Seat>,
    shared: Arc<Shared>,
    service: Arc<S>,
    ending: Ending,
) {
    // Tokens of this connection's own: those of the server are one lock for all connections.
    let (now, gently) = (ending.now.child_token(), ending.gently.child_token());
    let served = async {
        let by = Instant::now() + shared.settings.handshake_timeout;
        // In boxes, so that an idle connection does not hold the room that a handshake took.
        let handshake = Box::pin(handshake(stream, address, counted, seat, &shared));
        let Ok(ready) = timeout_at(by, handshake).await else {
            shared.metrics.handshake_failed("timeout");
            return;
        };
        let Some((stream, peer, _counted)) = ready else { return };
        converse(stream, peer, seat, &shared, service, &gently).await;
    };
    tokio::select! {
        biased;
        () = now.cancelled() => {}
        () = seat.lost() => {}
        () = served => {}
    }
}

/// PROXY header, when from a proxy, then TLS. Reports and answers `None` on failure.
async fn handshake(
    mut stream: TcpStream,
    address: SocketAddr,
    mut counted: Option<CountedConnection>,
    seat: &Arc<Seat>,
    shared: &Shared,
) -> Option<(TlsStream<TcpStream>, Peer, Option<CountedConnection>)> {
    let mut address = SocketAddr::new(address.ip().to_canonical(), address.port());
    // Answers are small and written whole; waiting to fill segments only delays them.
    let _ = stream.set_nodelay(true);
    if shared.is_proxy(address.ip()) {
        match proxy::read(&mut stream, shared.settings.proxy.required).await {
            Ok(None) => {}
            Ok(Some(client)) => {
                address = client;
                counted = Some(shared.enter(client.ip())?);
                if shared.kind(client.ip()) == Kind::Common {
                    shared.seated(shared.seats.demote(seat).map(|evicted| ((), evicted)))?;
                }
            }
            Err(error) => {
                shared.metrics.proxy_error(error.reason());
                return None;
            }
        }
    }
    let acceptor = TlsAcceptor::from(Arc::clone(&shared.entrance.load().tls.config));
    match acceptor.accept(stream).await {
        Ok(stream) => {
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let certificate = ClientCertificate::new(chain, Arc::clone(&shared.clients));
            let standing = seat.standing().clone();
            if certificate.is_some() {
                standing.recognise_certificate();
            }
            Some((stream, Peer { address, certificate, standing }, counted))
        }
        Err(error) => {
            shared.metrics.handshake_failed(tls::failure(&error));
            None
        }
    }
}

/// Speaks the protocol that ALPN settled on; HTTP/1.1 when the client named none.
async fn converse<S: Service>(
    stream: TlsStream<TcpStream>,
    peer: Peer,
    seat: &Arc<Seat>,
    shared: &Arc<Shared>,
    service: Arc<S>,
    gently: &CancellationToken,
) {
    let settings = &shared.settings;
    let activity = Activity::begin(settings);
    let answer = service_fn({
        let (activity, max, largest) = (Arc::clone(&activity), settings.header_count, settings.body_bytes);
        let (seat, shared) = (Arc::clone(seat), Arc::clone(shared));
        move |request: http::Request<Incoming>| {
            let under_way = activity.request();
            let (service, peer, asked) = (Arc::clone(&service), peer.clone(), seat.begin());
            let (seat, shared) = (Arc::clone(&seat), Arc::clone(&shared));
            let head = request.method() == http::Method::HEAD && request.version() == http::Version::HTTP_2;
            async move {
                let response = if asked.is_none() {
                    // Its place is another's: nobody will hear this.
                    bare(http::StatusCode::SERVICE_UNAVAILABLE)
                } else if request.headers().len() > max {
                    too_many_headers(request, largest).await
                } else {
                    service.call(request, peer).await
                };
                drop(asked);
                let response = if head { without_content(response) } else { response };
                Ok::<_, Infallible>(outgoing(response, under_way, &seat, &shared).await)
            }
        }
    });
    if stream.get_ref().1.alpn_protocol() == Some(tls::H2) {
        shared.metrics.connection_ready("h2");
        let connection = http2_builder(settings).serve_connection(TokioIo::new(stream), answer);
        supervise(Box::pin(connection), &activity, gently, shared).await;
    } else {
        shared.metrics.connection_ready("http/1.1");
        let stream = WatchedStream::new(Lingering::new(stream), Arc::clone(&activity));
        let connection = http1_builder(settings).serve_connection(TokioIo::new(stream), answer);
        supervise(Box::pin(connection), &activity, gently, shared).await;
    }
}

/// An answer as it goes out. Of how it is taken, or not, both the connection and all together are told.
async fn outgoing(
    response: http::Response<Full<Bytes>>,
    under_way: UnderWay,
    seat: &Arc<Seat>,
    shared: &Shared,
) -> http::Response<Answer> {
    let (head, body) = response.into_parts();
    let content = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(never) => match never {},
    };
    let answer = Answer::new(content, |bytes| {
        let (owed, gone) = shared.seats.owe(seat, bytes);
        (0..gone).for_each(|_| shared.metrics.connection_evicted("unread"));
        Kept { _waiting: under_way.answered(), _owed: owed }
    });
    http::Response::from_parts(head, answer)
}

fn http1_builder(settings: &Settings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    let head = settings.header_bytes.max(SMALLEST_HEAD);
    // `Activity` keeps the time. A client that has closed its half behind a whole request waits for its
    // answer: TLS 1.3 closes each half by itself (RFC 8446 §6.1).
    builder.header_read_timeout(None).max_buf_size(head).max_header_size(head).half_close(true);
    // Any other number costs an allocation a request; `converse` counts as well.
    if settings.header_count > 100 {
        builder.max_headers(settings.header_count);
    }
    builder
}

fn http2_builder(settings: &Settings) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.streams)
        .max_pending_accept_reset_streams(settings.pending_resets)
        .max_local_error_reset_streams(settings.local_resets)
        .max_header_list_size(u32::try_from(settings.header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    builder
}

/// The answer to HEAD: the length that GET's would have, and no content (RFC 9110 §9.3.2). hyper sees
/// to it in HTTP/1.1 only; in HTTP/2 content is a protocol error that ends the client's connection.
fn without_content(response: http::Response<Full<Bytes>>) -> http::Response<Full<Bytes>> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.entry(http::header::CONTENT_LENGTH).or_insert(length.into());
    }
    http::Response::from_parts(head, Full::default())
}

fn bare(status: http::StatusCode) -> http::Response<Full<Bytes>> {
    let mut response = http::Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// What hyper itself answers in HTTP/1.1; HTTP/2 has no bound of its own on the number.
async fn too_many_headers(request: http::Request<Incoming>, largest: usize) -> http::Response<Full<Bytes>> {
    let mut response = bare(http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let (head, body) = request.into_parts();
    Content::new(&head, body).finish(response.headers_mut(), largest).await;
    response
}

/// Runs a connection until it ends, falls silent, or is asked to end gently.
async fn supervise<C: Graceful>(
    mut connection: Pin<Box<C>>,
    activity: &Activity,
    gently: &CancellationToken,
    shared: &Shared,
) {
    let ended = tokio::select! {
        biased;
        ended = watch(connection.as_mut(), activity) => ended,
        () = gently.cancelled() => {
            connection.as_mut().end_gently();
            watch(connection.as_mut(), activity).await.filter(|reason| *reason == CloseReason::Unread)
        }
    };
    match ended {
        // Half a head cannot be answered, only dropped.
        None | Some(CloseReason::SlowHead) => {}
        // Who does not read would not read a goodbye.
        Some(CloseReason::Unread) => shared.metrics.connection_evicted("unread"),
        Some(CloseReason::Idle) => {
            connection.as_mut().end_gently();
            let _ = timeout(GOODBYE, poll_fn(|cx| connection.as_mut().poll_end(cx))).await;
        }
    }
}

/// Completes when the connection ends (`None`) or has been quiet for too long.
async fn watch<C: Graceful>(mut connection: Pin<&mut C>, activity: &Activity) -> Option<CloseReason> {
    let mut timer = std::pin::pin!(sleep_until(Instant::now()));
    poll_fn(|cx| {
        if connection.as_mut().poll_end(cx).is_ready() {
            return Poll::Ready(None);
        }
        // The timer is set anew only when it would ring too late, or has rung: not for every request.
        loop {
            let (at, reason) = activity.expiry();
            if timer.is_elapsed() || at < timer.deadline() {
                if reason.is_some() && at <= Instant::now() {
                    return Poll::Ready(reason);
                }
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// A connection that can be told to finish.
trait Graceful {
    fn poll_end(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
    fn end_gently(self: Pin<&mut Self>);
}

impl<I, S> Graceful for http1::Connection<I, S>
where
    I: Read + Write + Unpin + 'static,
    S: HttpService<Incoming, ResBody = Answer, Error = Infallible>,
{
    fn poll_end(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // How a client broke off is its own affair.
        self.poll(cx).map(|_| ())
    }

    fn end_gently(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Graceful for http2::Connection<I, S, TokioExecutor>
where
    I: Read + Write + Unpin + 'static,
    S: HttpService<Incoming, ResBody = Answer, Error = Infallible>,
    S::Future: Send + 'static,
{
    fn poll_end(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(cx).map(|_| ())
    }

    fn end_gently(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
