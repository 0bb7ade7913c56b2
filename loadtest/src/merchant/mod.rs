//! A merchant that is as fast as it can be and still keeps honest books.
//!
//! It answers every ACP call from a template, whatever proxy the call came through, and writes each
//! complete into its ledger.
//!
//! It verifies nothing: what is measured is the proxy, and what was right is told by the ledger.

mod answer;
mod ledger;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use answer::{TOTAL, Templates};
pub use ledger::{Call, Ledger, Paid};

/// How it behaves.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// Threads that serve.
    pub threads: usize,
    /// How long each answer takes.
    pub delay: Duration,
}

impl Default for Behaviour {
    fn default() -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Self { threads, delay: Duration::ZERO }
    }
}

/// A running merchant, on threads of its own. All merchants of a population are one: each has the
/// base path `/{name}`.
pub struct Merchant {
    /// Where it listens, in plain HTTP/1.1.
    pub address: SocketAddr,
    /// What it was asked for.
    pub ledger: Arc<Ledger>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Merchant {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(behaviour: Behaviour) -> Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let ledger = Arc::new(Ledger::default());
        let shop = Arc::new(Shop {
            ledger: Arc::clone(&ledger),
            templates: Templates::new()?,
            delay: behaviour.delay,
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(behaviour.threads)
            .thread_name("merchant")
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("merchant".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = serve(listener, shop) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_timeout(Duration::from_secs(1));
        })?;
        Ok(Self { address, ledger, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Merchant {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Shop {
    ledger: Arc<Ledger>,
    templates: Templates,
    delay: Duration,
}

async fn serve(listener: std::net::TcpListener, shop: Arc<Shop>) -> Result<()> {
    let listener = TcpListener::from_std(listener).context("the merchant cannot listen")?;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let shop = Arc::clone(&shop);
        tokio::spawn(async move {
            let service = service_fn(|request| Arc::clone(&shop).answer(request));
            let mut server = http1::Builder::new();
            // Proxies keep idle connections for as long as they like.
            let server = server.timer(TokioTimer::new()).header_read_timeout(None);
            let connection = server.serve_connection(TokioIo::new(stream), service);
            // A proxy that hangs up is its own affair.
            let _ = connection.await;
        });
    }
}

impl Shop {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            return Ok(refused(StatusCode::BAD_REQUEST));
        };
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        let body = body.to_bytes();
        let Some((id, call)) = call(&head.method, head.uri.path()) else {
            return Ok(refused(StatusCode::NOT_FOUND));
        };
        let (status, answer) = match (call, id) {
            (Call::Create, _) => (StatusCode::CREATED, self.templates.open(&self.ledger.new_session())),
            (_, None) => return Ok(refused(StatusCode::NOT_FOUND)),
            (Call::Complete, Some(id)) => {
                self.ledger.complete(id, &head.headers, &body);
                (StatusCode::OK, self.templates.completed(id))
            }
            (Call::Get, Some(id)) if self.ledger.is_paid(id) => {
                (StatusCode::OK, self.templates.completed(id))
            }
            (Call::Get | Call::Update, Some(id)) => (StatusCode::OK, self.templates.open(id)),
            (Call::Cancel, Some(id)) => (StatusCode::OK, self.templates.canceled(id)),
        };
        self.ledger.count(call);
        let mut response = Response::new(Full::new(answer));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

fn refused(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

/// What is asked for and of which session. What stands before `checkout_sessions` depends on the
/// proxy: `/m/{merchant}` when it passes paths on, `/{merchant}` when it maps them.
fn call<'a>(method: &Method, path: &'a str) -> Option<(Option<&'a str>, Call)> {
    let (_, rest) = path.split_once("/checkout_sessions")?;
    let mut parts = rest.strip_prefix('/').unwrap_or_default().split('/');
    let id = parts.next().filter(|id| !id.is_empty());
    let call = match (method, id, parts.next()) {
        (&Method::POST, None, None) => Call::Create,
        (&Method::GET, Some(_), None) => Call::Get,
        (&Method::POST, Some(_), None) => Call::Update,
        (&Method::POST, Some(_), Some("complete")) => Call::Complete,
        (&Method::POST, Some(_), Some("cancel")) => Call::Cancel,
        _ => return None,
    };
    Some((id, call))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_whatever_stands_before_them() {
        let read = |method: &Method, path: &'static str| call(method, path);
        assert_eq!(read(&Method::POST, "/m/shop-1/checkout_sessions"), Some((None, Call::Create)));
        assert_eq!(read(&Method::GET, "/shop-1/checkout_sessions/cs_1"), Some((Some("cs_1"), Call::Get)));
        let complete = "/a/b/checkout_sessions/cs_1/complete";
        assert_eq!(read(&Method::POST, complete), Some((Some("cs_1"), Call::Complete)));
        assert_eq!(read(&Method::GET, complete), None);
        assert_eq!(read(&Method::GET, "/m/shop-1/carts/c_1"), None);
    }
}
