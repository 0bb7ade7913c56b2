//! The shop's socket: TLS, HTTP/2 or HTTP/1.1 by ALPN, and bodies that break off or drip.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::desk::{Came, Desk};
use super::reply::{Delivery, Reply};
use super::serve::Served;

/// How connections are served.
#[derive(Clone)]
pub(super) struct Door {
    pub tls: Arc<ServerConfig>,
    pub http2_streams: Option<u32>,
}

/// Accepts connections until the shop closes.
pub(super) async fn listen(listener: TcpListener, door: Door, desk: Arc<Desk>, closed: CancellationToken) {
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closed.cancelled() => return,
        };
        if let Ok((stream, _)) = accepted {
            number += 1;
            let (door, desk, broken) = (door.clone(), Arc::clone(&desk), closed.child_token());
            tokio::spawn(async move {
                desk.connections.lock().insert(number);
                connection(stream, Came(number), door, Arc::clone(&desk), broken).await;
                desk.connections.lock().remove(&number);
            });
        }
    }
}

/// Serves a connection until it ends, the shop closes, or the shop is told to break it.
async fn connection(stream: TcpStream, came: Came, door: Door, desk: Arc<Desk>, broken: CancellationToken) {
    let serving = async {
        stream.set_nodelay(true).ok()?;
        let stream = TlsAcceptor::from(door.tls).accept(stream).await.ok()?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let breaker = broken.clone();
        let service = service_fn(move |request| respond(Arc::clone(&desk), came, request, breaker.clone()));
        let stream = TokioIo::new(stream);
        if http2 {
            let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            server.timer(TokioTimer::new());
            if let Some(streams) = door.http2_streams {
                server.max_concurrent_streams(streams);
            }
            server.serve_connection(stream, service).await.ok()
        } else {
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new()).serve_connection(stream, service).await.ok()
        }
    };
    tokio::select! {
        _ = serving => {}
        () = broken.cancelled() => {}
    }
}

async fn respond(
    desk: Arc<Desk>,
    came: Came,
    request: Request<Incoming>,
    broken: CancellationToken,
) -> Result<Response<ShopBody>, Infallible> {
    let (mut head, body) = request.into_parts();
    head.extensions.insert(came);
    let Ok(body) = body.collect().await else {
        broken.cancel();
        return std::future::pending().await;
    };
    // A task of its own: the shop finishes what it began, whether or not anybody still listens.
    let served = tokio::spawn(desk.serve(head, body.to_bytes())).await;
    match served {
        Ok(Served::Answer(reply, delivery)) => Ok(response(reply, delivery)),
        Ok(Served::Broken) | Err(_) => {
            broken.cancel();
            std::future::pending().await
        }
    }
}

fn response(reply: Reply, delivery: Delivery) -> Response<ShopBody> {
    let mut response = Response::new(ShopBody::new(reply.body.into(), delivery));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in reply.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// A body that says how long it is and may not keep its word.
struct ShopBody {
    left: Bytes,
    delivery: Delivery,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// A body broke off on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the shop was told to break off")]
struct BrokenOff;

impl ShopBody {
    const fn new(left: Bytes, delivery: Delivery) -> Self {
        Self { left, delivery, pause: None }
    }

    fn drip(
        &mut self,
        context: &mut Context<'_>,
        pause: Duration,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let Some(sleep) = &mut self.pause
            && sleep.as_mut().poll(context).is_pending()
        {
            return Poll::Pending;
        }
        // A timer of no time still waits for the next tick.
        self.pause = (!pause.is_zero()).then(|| Box::pin(tokio::time::sleep(pause)));
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(1)))))
    }
}

impl Body for ShopBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        match self.delivery {
            Delivery::Whole => Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.left))))),
            Delivery::Dripping(pause) => self.drip(context, pause),
            Delivery::Truncated if self.pause.is_some() => Poll::Ready(Some(Err(BrokenOff))),
            Delivery::Truncated => {
                let half = self.left.len() / 2;
                self.pause = Some(Box::pin(tokio::time::sleep(Duration::ZERO)));
                Poll::Ready(Some(Ok(Frame::data(self.left.split_to(half)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.left.len()).unwrap_or(u64::MAX))
    }
}
