//! An HTTPS client that always dials one address, whatever authority it names.
//!
//! What the sample agent and the sample shop call the gateway with. It adds no header of its own
//! choosing, so that a caller controls every byte a server judges.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::net::TcpStream;
use tower_service::Service;

/// Which version of HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// HTTP/1.1.
    One,
    /// HTTP/2.
    Two,
}

/// The client.
#[derive(Clone)]
pub struct Client(legacy::Client<HttpsConnector<Dialer>, Full<Bytes>>);

/// A request did not get a whole answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A path or header that cannot be sent.
    #[error("the request cannot be written: {0}")]
    NotWritten(#[from] http::Error),
    /// No connection, or it broke before the answer's head.
    #[error("no answer: {0}")]
    NoAnswer(#[from] legacy::Error),
    /// The connection broke within the answer's body.
    #[error("the answer broke off: {0}")]
    BrokenOff(#[from] hyper::Error),
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as received.
    pub body: Bytes,
}

impl Client {
    /// A client that dials `address`. Its connections are kept and used again.
    pub fn new(address: SocketAddr, tls: ClientConfig, http: Http) -> Self {
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
        let dialer = Dialer(address);
        let connector = match http {
            Http::One => builder.enable_http1().wrap_connector(dialer),
            Http::Two => builder.enable_http2().wrap_connector(dialer),
        };
        let mut client = legacy::Client::builder(TokioExecutor::new());
        // A request that is repeated without being asked would falsify what a test counts.
        client.retry_canceled_requests(false).http2_only(http == Http::Two);
        Self(client.build(connector))
    }

    /// Sends a request as it stands; `https` and an authority stand in its URI.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let (head, body) = self.0.request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

impl Answer {
    /// The body as JSON; null when it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A string of the body by its JSON pointer (RFC 6901).
    pub fn text(&self, pointer: &str) -> Option<String> {
        self.json().pointer(pointer)?.as_str().map(str::to_owned)
    }

    /// A header's value, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The code of an ACP error.
    pub fn code(&self) -> Option<String> {
        self.text("/code")
    }
}

/// Dials one address.
#[derive(Clone, Copy)]
struct Dialer(SocketAddr);

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let address = self.0;
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}
