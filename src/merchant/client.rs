//! One merchant's connections, and one request over them: sent at most once, waited for within
//! deadlines, and every way it can end told apart by the one question that matters for money: can
//! the merchant have acted on it?

use std::error::Error;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::dial::Connector;
use super::exchange::{Answer, Carrier, Exchange, Lost, NotSent};
use super::{Settings, body, inward};
use crate::domain::clock::Deadline;
use crate::registry::{Deadlines, MerchantEndpoint};

/// Largest head of an HTTP/1.1 answer, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How long an HTTP/2 ping may go unanswered before its connection is given up.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A request as it goes out. Cheap to clone: the body is shared.
pub type Sendable = Request<Full<Bytes>>;

/// One merchant's connections.
pub struct MerchantClient {
    /// Keeps idle connections.
    pooled: Client<Connector, Full<Bytes>>,
    /// Opens a connection a request: for the second try of one that was never written.
    fresh: Client<Connector, Full<Bytes>>,
    deadlines: Deadlines,
    max_answer_bytes: usize,
}

/// Why there is no head of an answer.
enum NoHead {
    NotSent(NotSent),
    /// HTTP/2: on a stream above a `GOAWAY`'s last: not processed (RFC 9113 §6.8).
    GoneAway,
    Lost(Lost),
}

impl MerchantClient {
    /// A client over `connector`.
    pub fn new(
        connector: Connector,
        endpoint: &MerchantEndpoint,
        deadlines: Deadlines,
        settings: &Settings,
    ) -> Self {
        let build = |max_idle: usize| {
            Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(endpoint.pool_idle)
                .pool_max_idle_per_host(max_idle)
                // A repeat is decided below and nowhere else.
                .retry_canceled_requests(false)
                .http1_max_buf_size(MAX_HEAD_BYTES)
                .http2_keep_alive_interval(settings.http2_ping)
                .http2_keep_alive_timeout(PING_TIMEOUT)
                .build(connector.clone())
        };
        Self {
            pooled: build(settings.pool_max_idle.max(1)),
            fresh: build(0),
            deadlines,
            max_answer_bytes: settings.max_answer_bytes,
        }
    }

    /// Sends a request and reads its answer. The request is written at most once: only one of which
    /// the connection said that nothing was written, or that it was above a `GOAWAY`'s last stream,
    /// is tried again, once, on a connection of its own. Dropping the future closes an HTTP/1.1
    /// connection or resets an HTTP/2 stream; the merchant may have acted all the same.
    pub async fn exchange(&self, request: Sendable, deadline: Deadline) -> Exchange {
        let started = Instant::now();
        let deadline = deadline.at_most(self.deadlines.total);
        let again = request.clone();
        let head = match self.head(&self.pooled, request, deadline).await {
            Err(NoHead::NotSent(NotSent::Unwritten) | NoHead::GoneAway) => {
                self.head(&self.fresh, again, deadline).await
            }
            first => first,
        };
        match head {
            Ok((response, carrier)) => self.read(response, carrier, started, deadline).await,
            Err(NoHead::NotSent(reason)) => Exchange::NotSent(reason),
            Err(NoHead::GoneAway) => Exchange::NotSent(NotSent::StreamRefused),
            Err(NoHead::Lost(reason)) => Exchange::Lost(reason),
        }
    }

    /// Sends a request and waits for the head of its answer.
    async fn head(
        &self,
        client: &Client<Connector, Full<Bytes>>,
        mut request: Sendable,
        deadline: Deadline,
    ) -> Result<(Response<Incoming>, Carrier), NoHead> {
        if deadline.has_passed() {
            return Err(NoHead::NotSent(NotSent::ConnectTimeout));
        }
        // Set by the client when it has a connection for this request, before it hands it over:
        // while it is not set, nothing can have been written.
        let connection = capture_connection(&mut request);
        let mut connected = connection.clone();
        let first_byte = async {
            drop(connected.wait_for_connection_metadata().await);
            tokio::time::sleep(self.deadlines.first_byte).await;
        };
        let answered = tokio::select! {
            biased;
            answered = client.request(request) => Some(answered),
            () = first_byte => None,
            () = tokio::time::sleep_until(deadline.instant().into()) => None,
        };
        let handed_over = connection.connection_metadata().is_some();
        match answered {
            Some(Ok(response)) => Ok((response, Carrier::new(connection))),
            Some(Err(error)) if handed_over => Err(read_failure(&error)),
            // Where the connector gave no reason, a connection was lost on its way through the pool.
            Some(Err(error)) => {
                Err(NoHead::NotSent(find::<NotSent>(&error).copied().unwrap_or(NotSent::Unwritten)))
            }
            None if handed_over => Err(NoHead::Lost(Lost::Timeout)),
            None => Err(NoHead::NotSent(NotSent::ConnectTimeout)),
        }
    }

    async fn read(
        &self,
        response: Response<Incoming>,
        carrier: Carrier,
        started: Instant,
        deadline: Deadline,
    ) -> Exchange {
        let (head, incoming) = response.into_parts();
        let max = self.max_answer_bytes;
        let collected = body::collect(incoming, max, deadline).await;
        match collected.and_then(|bytes| body::decode(&head.headers, bytes, max)) {
            Ok(body) => {
                let body = without_byte_order_mark(body);
                let media_type = inward::media_type(&head.headers);
                let headers = inward::allowed(&head.headers);
                let mut answer = Answer::new(head.status, media_type, headers, body, started.elapsed());
                answer.is_replay = inward::is_replay(&head.headers);
                answer.connection = carrier;
                Exchange::Answered(answer)
            }
            Err(reason) => Exchange::Lost(reason),
        }
    }
}

/// Some programs write JSON with a byte order mark, which RFC 8259 §8.1 lets a reader pass over.
fn without_byte_order_mark(body: Bytes) -> Bytes {
    if body.starts_with(b"\xef\xbb\xbf") { body.slice(3..) } else { body }
}

/// What the failure of a request says that was handed to a connection.
fn read_failure(error: &hyper_util::client::legacy::Error) -> NoHead {
    if let Some(reset) = find::<h2::Error>(error).filter(|error| error.is_remote()) {
        if reset.is_go_away() {
            return NoHead::GoneAway;
        }
        if reset.reason() == Some(h2::Reason::REFUSED_STREAM) {
            return NoHead::NotSent(NotSent::StreamRefused);
        }
    }
    match find::<hyper::Error>(error) {
        // hyper's only use of this: the request still stood in the queue of a connection that ended.
        Some(error) if error.is_canceled() => NoHead::NotSent(NotSent::Unwritten),
        Some(error) if error.is_parse() => NoHead::Lost(Lost::Malformed),
        _ => NoHead::Lost(Lost::Reset),
    }
}

/// The first error of type `E` among an error and its sources.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
