//! The connections to one merchant for one kind of request. A request gets a connection that is free,
//! one that is opened, or a refusal; none waits in a queue out of which it could be sent too late.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::client::legacy::connect::Connection as _;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::connect::{Connector, Progress};
use super::exchange::{Carrier, NotSent, Stage};
use super::gate::{Http1Gate, Turn};
use super::http2::{Http2, Slot};
use crate::domain::clock::Deadline;

/// Largest head of an HTTP/1.1 answer, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// HTTP/2 connections to a merchant at most.
const MOST_SHARED: usize = 8;
/// Connections being opened at once: as many as a merchant that answers takes, one at a time to one
/// that does not.
const MOST_OPENING: usize = 64;
const FIRST_OPENING: usize = 16;
/// How long a connection whose answer has been read may take to be ready again.
const READY_WITHIN: Duration = Duration::from_millis(20);

/// Which connection a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Any.
    Any,
    /// One that has shown within the second that it lives, or a new one.
    Alive,
    /// A new one.
    New,
}

/// A connection, for one request.
pub(super) enum Taken {
    /// HTTP/1.1: the whole connection.
    Http1(Http1),
    /// HTTP/2: a stream.
    Http2(Slot),
}

/// An HTTP/1.1 connection.
pub(super) struct Http1 {
    /// To send over it.
    pub sender: http1::SendRequest<Full<Bytes>>,
    /// Which request it carries.
    pub turn: Arc<Turn>,
    /// Whether it may be used again.
    pub carrier: Carrier,
    /// Whether it has carried others.
    pub reused: bool,
    /// How long it is kept idle at the other end, where that has said so.
    pub kept_for: Option<Duration>,
    opened: Instant,
}

impl Http1 {
    /// Whether another request may go over it, idle as it is since then.
    fn is_good(&self, since: Instant, keeping: &Keeping) -> bool {
        let idle_for = self.kept_for.map_or(keeping.idle_for, |kept_for| kept_for.min(keeping.idle_for));
        !self.sender.is_closed()
            && !self.carrier.is_given_up()
            && since.elapsed() < idle_for
            && self.opened.elapsed() < keeping.max_age
    }
}

/// How connections are kept.
#[derive(Clone, Copy)]
pub(super) struct Keeping {
    /// Idle HTTP/1.1 connections at most.
    pub max_idle: usize,
    /// How long one is kept idle.
    pub idle_for: Duration,
    /// How old one may be that takes a request, HTTP/2 too.
    pub max_age: Duration,
    /// How often an HTTP/2 connection in use is pinged.
    pub ping_every: Duration,
    /// How long a request waits for a connection.
    pub connect: Duration,
}

/// The connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    connector: Connector,
    to: Uri,
    keeping: Keeping,
    state: Mutex<State>,
    /// Told of everything that may let a waiting request go on.
    freed: Arc<Notify>,
}

struct State {
    idle: Vec<(Http1, Instant)>,
    shared: Vec<Arc<Http2>>,
    opening: usize,
    /// How far the last that was begun has come.
    progress: Progress,
    most_opening: usize,
    /// Whether the last connection was HTTP/2.
    multiplexes: bool,
    is_reaped: bool,
}

enum Next {
    Take(Taken),
    Open(Opening),
    Wait,
    Refuse,
}

impl Pool {
    /// What its connections are made with.
    pub(super) fn connector(&self) -> &Connector {
        &self.0.connector
    }

    /// Connections to `to`.
    pub(super) fn new(connector: Connector, to: Uri, keeping: Keeping) -> Self {
        // Whether one connection is enough is known once TLS has said what is spoken.
        let most_opening = if to.scheme_str() == Some("https") { 1 } else { FIRST_OPENING };
        let state = State {
            idle: Vec::new(),
            shared: Vec::new(),
            opening: 0,
            progress: Progress::default(),
            most_opening,
            multiplexes: false,
            is_reaped: false,
        };
        let freed = Arc::new(Notify::new());
        Self(Arc::new(Shared { connector, to, keeping, state: Mutex::new(state), freed }))
    }

    /// A connection for one request.
    ///
    /// # Errors
    /// There is none by `until`, or will be none.
    pub(super) async fn take(&self, need: Need, until: Deadline) -> Result<Taken, NotSent> {
        if until.has_passed() {
            return Err(NotSent::Timeout(Stage::Pool));
        }
        if need == Need::New {
            return self.open(self.opening(), until).await;
        }
        let until = until.at_most(self.0.keeping.connect);
        loop {
            let freed = self.0.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            match self.next() {
                Next::Take(taken) => {
                    if let Some(taken) = usable(taken, need).await {
                        return Ok(taken);
                    }
                }
                Next::Open(opening) => return self.open(opening, until).await,
                Next::Refuse => return Err(NotSent::NoStream),
                Next::Wait => {
                    let waited = tokio::time::timeout_at(until.instant().into(), freed).await;
                    waited.map_err(|_| NotSent::Timeout(self.stage()))?;
                }
            }
            if until.has_passed() {
                return Err(NotSent::Timeout(self.stage()));
            }
        }
    }

    /// Whether somebody takes a connection, with TLS and all; it is closed at once.
    pub(super) async fn is_there(&self) -> bool {
        self.0.connector.connect(&self.0.to, &Progress::default()).await.is_ok()
    }

    /// Gives an HTTP/1.1 connection back whose answer has been read whole.
    pub(super) fn give_back(&self, connection: Http1) {
        if connection.sender.is_closed() {
            return;
        }
        {
            let mut state = self.0.state.lock();
            if state.idle.len() < self.0.keeping.max_idle {
                state.idle.push((Http1 { reused: true, ..connection }, Instant::now()));
            }
            if !std::mem::replace(&mut state.is_reaped, true) {
                tokio::spawn(reap(Arc::downgrade(&self.0), self.0.keeping));
            }
        }
        self.0.freed.notify_one();
    }

    /// Lets go of HTTP/2 connections that carry no other request: they end with those under way.
    pub(super) fn forget_given_up(&self) {
        self.0.state.lock().shared.retain(|connection| connection.is_open());
        self.0.freed.notify_waiters();
    }

    fn next(&self) -> Next {
        let state = &mut *self.0.state.lock();
        while let Some((connection, since)) = state.idle.pop() {
            if connection.is_good(since, &self.0.keeping) {
                return Next::Take(Taken::Http1(connection));
            }
        }
        // What is too old ends with the requests that are on it.
        state.shared.retain(|connection| connection.is_younger_than(self.0.keeping.max_age));
        if let Some(slot) = state.shared.iter().find_map(Http2::reserve) {
            return Next::Take(Taken::Http2(slot));
        }
        let most = if state.multiplexes {
            let is_known = state.shared.iter().all(|connection| connection.is_settled());
            if is_known && state.opening == 0 && state.shared.len() >= MOST_SHARED {
                return Next::Refuse;
            }
            usize::from(is_known && state.shared.len() < MOST_SHARED)
        } else {
            state.most_opening
        };
        if state.opening >= most {
            return Next::Wait;
        }
        Next::Open(self.opened(state))
    }

    fn opening(&self) -> Opening {
        self.opened(&mut self.0.state.lock())
    }

    fn opened(&self, state: &mut State) -> Opening {
        state.opening += 1;
        state.progress = Progress::default();
        Opening { pool: Arc::clone(&self.0), progress: state.progress.clone(), came: None }
    }

    /// What who waits for a connection waits for.
    fn stage(&self) -> Stage {
        let state = self.0.state.lock();
        if state.opening > 0 { state.progress.stage() } else { Stage::Pool }
    }

    /// Opens a connection for a request that waits for it until then. What comes later is kept for the
    /// next: to a merchant that is slow to take connections, one after the other would be half made.
    async fn open(&self, opening: Opening, until: Deadline) -> Result<Taken, NotSent> {
        let (tell, told) = oneshot::channel();
        let (pool, progress) = (self.clone(), opening.progress.clone());
        let timeout = move || Err(NotSent::Timeout(progress.stage()));
        let too_late = timeout.clone();
        tokio::spawn(async move {
            let connecting = pool.connect(&opening.progress);
            let opened = tokio::time::timeout(pool.0.keeping.connect, connecting).await;
            let opened = opened.unwrap_or_else(|_| too_late());
            opening.ended(opened.is_ok());
            if let Err(Ok(Taken::Http1(connection))) = tell.send(opened) {
                pool.give_back(connection);
            }
        });
        let opened = tokio::time::timeout_at(until.instant().into(), told).await;
        opened.map_or_else(|_| timeout(), |told| told.unwrap_or_else(|_| timeout()))
    }

    async fn connect(&self, progress: &Progress) -> Result<Taken, NotSent> {
        let stream = self.0.connector.connect(&self.0.to, progress).await?;
        if stream.connected().is_negotiated_h2() {
            let opened = Http2::open(stream, self.0.keeping.ping_every, Arc::clone(&self.0.freed)).await?;
            let slot = opened.reserve().ok_or(NotSent::Connect)?;
            let state = &mut *self.0.state.lock();
            state.multiplexes = true;
            state.shared.push(opened);
            if !std::mem::replace(&mut state.is_reaped, true) {
                tokio::spawn(reap(Arc::downgrade(&self.0), self.0.keeping));
            }
            return Ok(Taken::Http2(slot));
        }
        self.0.state.lock().multiplexes = false;
        let turn = Arc::new(Turn::default());
        let gate = Http1Gate::new(stream, Arc::clone(&turn));
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD_BYTES);
        let (sender, connection) = builder.handshake(gate).await.map_err(|_| NotSent::Connect)?;
        tokio::spawn(connection);
        Ok(Taken::Http1(Http1 {
            sender,
            turn,
            carrier: Carrier::default(),
            reused: false,
            kept_for: None,
            opened: Instant::now(),
        }))
    }
}

/// What was taken, if it can be used as needed.
async fn usable(taken: Taken, need: Need) -> Option<Taken> {
    match taken {
        Taken::Http1(mut connection) => {
            if !connection.sender.is_ready() {
                tokio::time::timeout(READY_WITHIN, connection.sender.ready()).await.ok()?.ok()?;
            }
            Some(Taken::Http1(connection))
        }
        Taken::Http2(slot) => {
            if need == Need::Alive && !slot.connection().is_alive().await {
                slot.connection().retire();
                return None;
            }
            Some(Taken::Http2(slot))
        }
    }
}

/// Closes what has been idle for too long or is too old, for as long as there is the pool.
async fn reap(pool: Weak<Shared>, keeping: Keeping) {
    let mut tick = tokio::time::interval((keeping.idle_for / 2).max(Duration::from_millis(100)));
    loop {
        tick.tick().await;
        let Some(pool) = pool.upgrade() else { return };
        let state = &mut *pool.state.lock();
        state.idle.retain(|(connection, since)| connection.is_good(*since, &keeping));
        state.shared.retain(|connection| {
            connection.is_younger_than(keeping.max_age) && !connection.is_idle_for(keeping.idle_for)
        });
    }
}

/// A connection being opened.
struct Opening {
    pool: Arc<Shared>,
    progress: Progress,
    /// Whether it came; `None`: it is not known.
    came: Option<bool>,
}

impl Opening {
    /// It came, or did not: another may be opened.
    fn ended(mut self, came: bool) {
        self.came = Some(came);
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        {
            let state = &mut *self.pool.state.lock();
            state.opening = state.opening.saturating_sub(1);
            state.most_opening = match self.came {
                Some(true) => (state.most_opening.max(FIRST_OPENING / 2) * 2).min(MOST_OPENING),
                Some(false) => (state.most_opening / 2).max(1),
                None => state.most_opening,
            };
        }
        self.pool.freed.notify_waiters();
    }
}
