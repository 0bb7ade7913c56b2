//! One HTTP/2 connection to a merchant, never fuller than its peer takes, and known to be alive.
//!
//! Never more requests on it than its peer takes at once, pinged while it is in use, and known to be
//! alive to the instant of its last pong.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, RecvStream, SendStream};
use http::{HeaderMap, Request};
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::exchange::{Carrier, NotSent};
use super::gate::{Http2Gate, Stream, Ticket, Tickets};
use super::handshake::TlsFailure;

/// How long an HTTP/2 ping may go unanswered before its connection is given up.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a pong is proof of life to a complete that must not be tried twice.
const ALIVE_FOR: Duration = Duration::from_secs(1);
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 5 << 20;

/// A connection.
pub(super) struct Http2 {
    inner: Mutex<Inner>,
    tickets: Arc<Tickets>,
    /// Whether new requests may go over it, as answers have shown.
    pub carrier: Carrier,
    /// A ping is wanted.
    ask: Arc<Notify>,
    /// A pong came, or the connection ended.
    told: Notify,
    /// Told of every stream that becomes free.
    freed: Arc<Notify>,
}

struct Inner {
    sender: SendRequest<Bytes>,
    /// The stream of the next request.
    next: u32,
    in_use: usize,
    /// Of those in use: given up. A pong after their reset says that the peer has seen it.
    owed: usize,
    /// Whether the peer's settings are known; until then it gets one request.
    settled: bool,
    open: bool,
    /// The last pong, or when it was opened.
    alive_at: Instant,
    opened: Instant,
    used_at: Instant,
}

impl Http2 {
    /// Greets the merchant.
    pub(super) async fn open(
        stream: Stream,
        ping_every: Duration,
        freed: Arc<Notify>,
    ) -> Result<Arc<Self>, NotSent> {
        let tickets = Arc::new(Tickets::default());
        let gate = Http2Gate::new(stream, Arc::clone(&tickets));
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(1)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(16 * 1024);
        let handshake = builder.handshake::<_, Bytes>(gate).await;
        let (sender, mut connection) = handshake.map_err(|_| NotSent::Connect)?;
        let pings = connection.ping_pong().ok_or(NotSent::Connect)?;
        let now = Instant::now();
        let inner = Inner {
            sender,
            next: 1,
            in_use: 0,
            owed: 0,
            settled: false,
            open: true,
            alive_at: now,
            opened: now,
            used_at: now,
        };
        let this = Arc::new(Self {
            inner: Mutex::new(inner),
            tickets,
            carrier: Carrier::default(),
            ask: Arc::new(Notify::new()),
            told: Notify::new(),
            freed,
        });
        // At once: its pong comes after the peer's settings.
        this.ask.notify_one();
        let kept = keep(Arc::downgrade(&this), Arc::clone(&this.ask), pings, ping_every);
        tokio::spawn(run(Arc::downgrade(&this), connection, kept));
        Ok(this)
    }

    /// Whether new requests may go over it.
    pub(super) fn is_open(&self) -> bool {
        let inner = &mut *self.inner.lock();
        inner.open = inner.open
            && !self.carrier.is_given_up()
            && !matches!(
                inner.sender.poll_ready(&mut Context::from_waker(Waker::noop())),
                Poll::Ready(Err(_))
            );
        inner.open
    }

    /// Whether new requests may go over it, and it was opened less than so long ago.
    pub(super) fn is_younger_than(&self, age: Duration) -> bool {
        self.is_open() && self.inner.lock().opened.elapsed() < age
    }

    /// Whether how much it takes is known.
    pub(super) fn is_settled(&self) -> bool {
        self.inner.lock().settled
    }

    /// Whether nothing has gone over it for so long.
    pub(super) fn is_idle_for(&self, long: Duration) -> bool {
        let inner = self.inner.lock();
        inner.in_use == 0 && inner.used_at.elapsed() >= long
    }

    /// A free stream, where there is one.
    pub(super) fn reserve(self: &Arc<Self>) -> Option<Slot> {
        let mut inner = self.inner.lock();
        let most = if inner.settled { inner.sender.current_max_send_streams() } else { 1 };
        if !inner.open || inner.in_use >= most {
            return None;
        }
        inner.in_use += 1;
        inner.used_at = Instant::now();
        Some(Slot { connection: Arc::clone(self), stream: None, is_over: false })
    }

    /// Waits until it has shown within the second that it lives.
    pub(super) async fn is_alive(&self) -> bool {
        let wait = async {
            loop {
                let told = self.told.notified();
                tokio::pin!(told);
                told.as_mut().enable();
                {
                    let inner = self.inner.lock();
                    if !inner.open || inner.alive_at.elapsed() < ALIVE_FOR {
                        return inner.open;
                    }
                }
                self.ask.notify_one();
                told.await;
            }
        };
        tokio::time::timeout(ALIVE_FOR, wait).await.unwrap_or(false)
    }

    /// The TLS alert that it ended with.
    pub(super) fn alert(&self) -> Option<TlsFailure> {
        self.tickets.alert()
    }

    /// Takes no more requests.
    pub(super) fn retire(&self) {
        self.inner.lock().open = false;
        self.told.notify_waiters();
    }

    /// The peer has answered.
    fn heard(&self, owed: usize) {
        let was_settled = {
            let mut inner = self.inner.lock();
            inner.alive_at = Instant::now();
            inner.owed = inner.owed.saturating_sub(owed);
            inner.in_use = inner.in_use.saturating_sub(owed);
            std::mem::replace(&mut inner.settled, true)
        };
        self.told.notify_waiters();
        if !was_settled || owed > 0 {
            self.freed.notify_waiters();
        }
    }
}

async fn run(this: Weak<Http2>, connection: Connection<Http2Gate, Bytes>, kept: impl Future<Output = ()>) {
    tokio::select! {
        _ = connection => {}
        () = kept => {}
    }
    if let Some(this) = this.upgrade() {
        this.retire();
        this.freed.notify_waiters();
    }
}

/// Pings when asked, and while requests are under way; ends when a pong does not come.
async fn keep(this: Weak<Http2>, ask: Arc<Notify>, mut pings: PingPong, every: Duration) {
    loop {
        let asked = tokio::time::timeout(every, ask.notified()).await.is_ok();
        let Some(connection) = this.upgrade() else { break };
        let (in_use, owed) = {
            let inner = connection.inner.lock();
            (inner.in_use > 0, inner.owed)
        };
        drop(connection);
        if !asked && !in_use {
            continue;
        }
        if pings.send_ping(Ping::opaque()).is_err() {
            break;
        }
        match tokio::time::timeout(PING_TIMEOUT, poll_fn(|cx| pings.poll_pong(cx))).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
        let Some(connection) = this.upgrade() else { break };
        connection.heard(owed);
    }
    // Nobody will send anything more: the connection ends by itself, once its streams have.
    std::future::pending::<()>().await;
}

/// One stream of a connection, free again when dropped.
pub(super) struct Slot {
    connection: Arc<Http2>,
    stream: Option<u32>,
    /// Whether the peer knows that the stream has ended.
    is_over: bool,
}

impl Slot {
    /// The connection.
    pub(super) const fn connection(&self) -> &Arc<Http2> {
        &self.connection
    }

    /// Hands a request to the connection.
    ///
    /// # Errors
    /// Nothing was written, nor will be.
    pub(super) fn send(
        &mut self,
        request: Request<()>,
        body: Bytes,
        ticket: &Arc<Ticket>,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), NotSent> {
        let connection = Arc::clone(&self.connection);
        let inner = &mut *connection.inner.lock();
        let mut sender = inner.sender.clone();
        let stream = inner.next;
        inner.next = inner.next.saturating_add(2);
        connection.tickets.announce(stream, Arc::clone(ticket));
        self.stream = Some(stream);
        let sent = sender.send_request(request, body.is_empty());
        let Ok((response, mut upload)) = sent else {
            inner.open = false;
            ticket.withdraw();
            return Err(NotSent::Unwritten);
        };
        if !body.is_empty() {
            // Where it cannot be queued, the response says why.
            let _ = upload.send_data(body, true);
        }
        Ok((response, upload))
    }

    /// The peer has answered with settings and a head: it lives.
    pub(super) fn heard(&self) {
        self.connection.heard(0);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let connection = &self.connection;
        {
            let mut inner = connection.inner.lock();
            inner.used_at = Instant::now();
            if self.is_over || self.stream.is_none() {
                inner.in_use = inner.in_use.saturating_sub(1);
            } else {
                inner.owed += 1;
                connection.ask.notify_one();
            }
        }
        if let Some(stream) = self.stream {
            connection.tickets.forget(stream);
        }
        connection.freed.notify_one();
    }
}

/// An answer's body, and the stream it comes on.
pub(super) struct Http2Body {
    incoming: RecvStream,
    /// Kept, because a stream whose upload is dropped is reset.
    _upload: SendStream<Bytes>,
    slot: Slot,
    declared: u64,
}

impl Http2Body {
    /// The body behind a head.
    pub(super) fn new(
        incoming: RecvStream,
        upload: SendStream<Bytes>,
        slot: Slot,
        headers: &HeaderMap,
    ) -> Self {
        let declared = headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let declared = declared.and_then(|value| value.parse().ok()).unwrap_or(0);
        Self { incoming, _upload: upload, slot, declared }
    }
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match ready!(self.incoming.poll_data(cx)) {
            Some(Ok(data)) => {
                let _ = self.incoming.flow_control().release_capacity(data.len());
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            Some(Err(error)) => return Poll::Ready(Some(Err(io::Error::other(error)))),
            None => {}
        }
        // Trailers are dropped.
        match ready!(self.incoming.poll_trailers(cx)) {
            Ok(_) => {
                self.slot.is_over = true;
                Poll::Ready(None)
            }
            Err(error) => Poll::Ready(Some(Err(io::Error::other(error)))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(self.declared);
        hint
    }
}
