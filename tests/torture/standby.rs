//! A standby of the merchant that comes and goes: it lags behind, and takes nothing.
//!
//! Whoever reads a session there sees it open for a minute and a half after it has an order: longer than the
//! gateway holds a claim over a session that its own merchant shows open.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use countersign::quickstart::certificates::Certificates;
use countersign::quickstart::client::{Client, Http};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// How far it lags behind.
const LAG: Duration = Duration::from_secs(90);

/// The standby.
pub struct Standby {
    /// Where it listens.
    pub address: SocketAddr,
    desk: Arc<Desk>,
}

struct Desk {
    merchant: Client,
    authority: String,
    /// Since when it has known of a session's order.
    known: Mutex<HashMap<String, Instant>>,
    stale: AtomicUsize,
}

impl Standby {
    /// Of the merchant at a port of this machine.
    pub fn of(port: u16, certificates: &Certificates) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(certificates.server(&[b"http/1.1"]).unwrap()));
        let merchant =
            Client::new(SocketAddr::from(([127, 0, 0, 1], port)), certificates.client().unwrap(), Http::Two);
        let desk = Arc::new(Desk {
            merchant,
            authority: format!("127.0.0.1:{port}"),
            known: Mutex::default(),
            stale: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&desk);
        // A thread of its own, as the way to the merchant has.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, acceptor.clone(), Arc::clone(&serving)));
                }
            });
        });
        Self { address, desk }
    }

    /// How often it has shown a session as it was before its order.
    pub fn stale(&self) -> usize {
        self.desk.stale.load(Ordering::Relaxed)
    }
}

async fn serve(stream: tokio::net::TcpStream, acceptor: TlsAcceptor, desk: Arc<Desk>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let answer = service_fn(move |request: Request<Incoming>| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(request).await) }
    });
    // Who goes away goes.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

impl Desk {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (mut head, _) = request.into_parts();
        if head.method != Method::GET {
            // A refusal, and no failure: it is there.
            let error = json!({"type": "invalid_request", "code": "read_only", "message": "A standby."});
            return respond(StatusCode::CONFLICT, error.to_string());
        }
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        head.uri = format!("https://{}{path}", self.authority).parse().unwrap();
        head.version = http::Version::default();
        head.headers.remove(header::HOST);
        head.headers.remove(header::CONNECTION);
        let asked = Request::from_parts(head, Full::default());
        let Ok(shown) = self.merchant.send(asked).await else {
            return respond(StatusCode::BAD_GATEWAY, "{}".to_owned());
        };
        let mut session = shown.json();
        if session["status"] == "completed" {
            let known = *self.known.lock().entry(path).or_insert_with(Instant::now);
            if known.elapsed() < LAG {
                session["status"] = json!("ready_for_payment");
                session.as_object_mut().unwrap().remove("order");
                self.stale.fetch_add(1, Ordering::Relaxed);
                return respond(shown.status, session.to_string());
            }
        }
        respond(shown.status, String::from_utf8_lossy(&shown.body).into_owned())
    }
}

fn respond(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
