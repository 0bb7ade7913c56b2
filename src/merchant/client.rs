//! One merchant's connections, and one request over them.
//!
//! Sent at most once, waited for within deadlines, and every way it can end told apart by the one
//! question that matters for money: can the merchant have acted on it?

use std::future::Future;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri};
use http_body_util::{Either, Full};
use hyper::body::Incoming;

use super::connect::Connector;
use super::exchange::{Answer, Carrier, Exchange, Lost, NotSent, Stage};
use super::gate::Ticket;
use super::handshake::TlsFailure;
use super::http2::Http2Body;
use super::pool::{Http1, Keeping, Need, Pool, Taken};
use super::{Settings, body, response_headers};
use crate::domain::clock::Deadline;
use crate::registry::{Deadlines, MerchantEndpoint, MerchantIdempotency};

/// A request as it goes out. Cheap to clone: the body is shared.
pub(super) type Sendable = Request<Bytes>;

/// One merchant's connections.
pub(super) struct MerchantClient {
    /// For reads, those that settle doubt among them: they never stand behind a complete.
    reads: Pool,
    /// For everything else.
    writes: Pool,
    host: HeaderValue,
    deadlines: Deadlines,
    max_answer_bytes: usize,
    /// Whether its word is taken that it did not process a request. One that does not honour keys may
    /// have charged all the same, and a second request is then a second charge.
    is_believed: bool,
}

/// The head of an answer, its body to come.
struct Head {
    response: Response<Either<Incoming, Http2Body>>,
    carrier: Carrier,
    /// To be used again, once the body is read.
    connection: Option<Http1>,
}

/// Why there is no head of an answer.
enum NoHead {
    NotSent(NotSent),
    /// HTTP/2: on a stream above a `GOAWAY`'s last: not processed (RFC 9113 §6.8), as the peer says.
    GoneAway,
    /// HTTP/2: `REFUSED_STREAM`: not processed (RFC 9113 §8.7), as the peer says.
    Refused,
    Lost(Lost),
}

impl NoHead {
    /// The same, for what a TLS alert says where the connection ended with one. A request that is tried
    /// again is left alone.
    fn alerted(self, alert: Option<TlsFailure>, need: Need) -> Self {
        match (self, alert) {
            (Self::Lost(Lost::Reset), Some(alert)) => Self::Lost(Lost::Alerted(alert)),
            (Self::NotSent(NotSent::Unwritten), Some(alert)) if need == Need::New => {
                Self::NotSent(NotSent::Tls(alert))
            }
            (same, _) => same,
        }
    }
}

impl MerchantClient {
    /// A client over `connector`.
    pub(super) fn new(
        connector: Connector,
        endpoint: &MerchantEndpoint,
        deadlines: Deadlines,
        idempotency: MerchantIdempotency,
        settings: &Settings,
    ) -> Self {
        let keeping = Keeping {
            max_idle: settings.pool_max_idle.max(1),
            max_age: settings.pool_max_age,
            idle_for: endpoint.pool_idle,
            ping_every: settings.http2_ping,
            connect: deadlines.connect,
        };
        let pool = || Pool::new(connector.clone(), endpoint.base_url.clone(), keeping);
        Self {
            reads: pool(),
            writes: pool(),
            host: host(&endpoint.base_url),
            deadlines,
            max_answer_bytes: settings.max_answer_bytes,
            is_believed: idempotency == MerchantIdempotency::Keys,
        }
    }

    /// What its connections are made with.
    pub(super) fn connector(&self) -> &Connector {
        self.reads.connector()
    }

    /// Whether a new connection can be made.
    pub(super) async fn reach(&self) -> bool {
        self.reads.is_there().await
    }

    /// Sends a request and reads its answer. The request is written at most once, and never begun after
    /// `deadline`: only one of which nothing was written, or of which a merchant that is believed says
    /// that it was above a `GOAWAY`'s last stream, is tried again, once, on a connection of its own.
    /// Dropping the future closes an HTTP/1.1 connection or resets an HTTP/2 stream; the merchant may
    /// have acted all the same.
    ///
    /// An answer about another session or cart than `resource` is none, and ends its connection. What no
    /// longer `may_leave` when there is a connection for it is not written.
    pub(super) async fn exchange(
        &self,
        request: Sendable,
        resource: Option<&str>,
        deadline: Deadline,
        may_leave: &(dyn Fn() -> bool + Sync),
    ) -> Exchange {
        let started = Instant::now();
        let deadline = deadline.at_most(self.deadlines.total);
        let is_read = request.method() == Method::GET;
        let is_believed = self.is_believed || is_read;
        let pool = if is_read { &self.reads } else { &self.writes };
        let need = if is_believed { Need::Any } else { Need::Alive };
        let again = request.clone();
        let head = match self.head(pool, request, need, deadline, may_leave).await {
            Err(NoHead::NotSent(NotSent::Unwritten)) => {
                self.head(pool, again, Need::New, deadline, may_leave).await
            }
            Err(NoHead::GoneAway) if is_believed => {
                let second = self.head(pool, again, Need::New, deadline, may_leave).await;
                // The first was written: whoever cannot be reached now, the merchant's word about it is all
                // there is.
                match second {
                    Err(NoHead::NotSent(reason)) if reason != NotSent::Withheld => Err(NoHead::GoneAway),
                    second => second,
                }
            }
            first => first,
        };
        match head {
            Ok(Head { response, carrier, connection }) => {
                let read = self.read(response, carrier, started, deadline).await;
                let exchange = match resource {
                    Some(resource) => read.about(resource),
                    None => read,
                };
                match (connection, &exchange) {
                    (Some(connection), Exchange::Answered(_)) => pool.give_back(connection),
                    (None, Exchange::Lost(Lost::Misplaced)) => pool.forget_given_up(),
                    (Some(_) | None, _) => {}
                }
                exchange
            }
            Err(NoHead::NotSent(reason)) => Exchange::NotSent(reason),
            Err(NoHead::GoneAway | NoHead::Refused) if is_believed => {
                Exchange::NotSent(NotSent::StreamRefused)
            }
            Err(NoHead::GoneAway | NoHead::Refused) => Exchange::Lost(Lost::Reset),
            Err(NoHead::Lost(reason)) => Exchange::Lost(reason),
        }
    }

    /// Sends a request and waits for the head of its answer.
    async fn head(
        &self,
        pool: &Pool,
        request: Sendable,
        need: Need,
        deadline: Deadline,
        may_leave: &(dyn Fn() -> bool + Sync),
    ) -> Result<Head, NoHead> {
        let taken = pool.take(need, deadline).await.map_err(NoHead::NotSent)?;
        if !may_leave() {
            // Not given back: it would count as used just now, though its merchant has been closing it since
            // it was.
            return Err(NoHead::NotSent(NotSent::Withheld));
        }
        let ticket = Ticket::new(deadline);
        match taken {
            Taken::Http1(mut connection) => {
                connection.turn.give(ticket.clone(), connection.reused);
                let answered = connection.sender.send_request(self.for_http1(request));
                let response = self.wait(&ticket, deadline, answered, of_http1).await;
                let response = response.map_err(|no| no.alerted(connection.turn.alert(), need))?;
                connection.kept_for = response_headers::kept_for(response.headers());
                let (response, carrier) = (response.map(Either::Left), connection.carrier.clone());
                Ok(Head { response, carrier, connection: Some(connection) })
            }
            Taken::Http2(mut slot) => {
                let (head, body) = for_http2(request);
                let sent = slot.send(head, body, &ticket).map_err(NoHead::NotSent);
                let (answered, upload) = sent.map_err(|no| no.alerted(slot.connection().alert(), need))?;
                let response = self.wait(&ticket, deadline, answered, of_http2).await;
                let response = response.map_err(|no| no.alerted(slot.connection().alert(), need))?;
                slot.heard();
                let carrier = slot.connection().carrier.clone();
                let (head, incoming) = response.into_parts();
                let body = Http2Body::new(incoming, upload, slot, &head.headers);
                let response = Response::from_parts(head, Either::Right(body));
                Ok(Head { response, carrier, connection: None })
            }
        }
    }

    async fn wait<T, E>(
        &self,
        ticket: &Ticket,
        deadline: Deadline,
        answered: impl Future<Output = Result<T, E>>,
        read_failure: impl Fn(&E) -> NoHead,
    ) -> Result<T, NoHead> {
        let until = deadline.at_most(self.deadlines.first_byte);
        // Whether anything left is decided with the ticket: once taken back, nothing will.
        match tokio::time::timeout_at(until.instant().into(), answered).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) if ticket.withdraw() => Err(NoHead::NotSent(if deadline.has_passed() {
                NotSent::Timeout(Stage::Write)
            } else {
                NotSent::Unwritten
            })),
            Ok(Err(error)) => Err(read_failure(&error)),
            Err(_) if ticket.withdraw() => Err(NoHead::NotSent(NotSent::Timeout(Stage::Write))),
            Err(_) => Err(NoHead::Lost(Lost::Timeout)),
        }
    }

    /// The request in origin form (RFC 9112 §3.2.1).
    fn for_http1(&self, request: Sendable) -> Request<Full<Bytes>> {
        let mut request = request.map(Full::new);
        let path = std::mem::take(request.uri_mut()).into_parts().path_and_query;
        *request.uri_mut() = path.unwrap_or_else(|| PathAndQuery::from_static("/")).into();
        request.headers_mut().insert(HOST, self.host.clone());
        request
    }

    async fn read(
        &self,
        response: Response<Either<Incoming, Http2Body>>,
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
                let media_type = response_headers::media_type(&head.headers);
                let headers = response_headers::allowed(&head.headers);
                let (status, elapsed) = (head.status, started.elapsed());
                let mut answer = Answer::over(carrier, status, media_type, headers, body, elapsed);
                answer.is_replay = response_headers::is_replay(&head.headers);
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

/// The request without a body, which goes apart.
fn for_http2(request: Sendable) -> (Request<()>, Bytes) {
    let (mut head, body) = request.into_parts();
    head.version = http::Version::HTTP_2;
    if !body.is_empty() || head.method != Method::GET {
        head.headers.insert(CONTENT_LENGTH, body.len().into());
    }
    (Request::from_parts(head, ()), body)
}

/// The `Host` of a URL: its authority, without the scheme's own port.
fn host(url: &Uri) -> HeaderValue {
    let own_port = if url.scheme_str() == Some("http") { 80 } else { 443 };
    let text = match (url.host(), url.port_u16().filter(|port| *port != own_port)) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// What the failure of a request says of which bytes may have left.
fn of_http1(error: &hyper::Error) -> NoHead {
    NoHead::Lost(if error.is_parse() { Lost::Malformed } else { Lost::Reset })
}

/// As [`of_http1`].
fn of_http2(error: &h2::Error) -> NoHead {
    if error.is_remote() && error.is_go_away() {
        return NoHead::GoneAway;
    }
    if error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM) {
        return NoHead::Refused;
    }
    NoHead::Lost(Lost::Reset)
}
