//! The last door before a merchant's socket: whether a request may leave is decided here.
//!
//! And nowhere else, once, with the bytes in hand. A request that is late, or that was given up, is never
//! written.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;

use super::frames::Frames;
use super::handshake::TlsFailure;
use crate::domain::clock::Deadline;

/// What a connector gives.
pub(super) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

const WAITING: u8 = 0;
const LEFT: u8 = 1;
const WITHDRAWN: u8 = 2;

/// One request's permission to leave.
pub(super) struct Ticket {
    until: Deadline,
    state: AtomicU8,
}

impl Ticket {
    /// A request that may begin to leave before `until`.
    pub(super) fn new(until: Deadline) -> Arc<Self> {
        Arc::new(Self { until, state: AtomicU8::new(WAITING) })
    }

    /// Takes the permission back. True: no byte has left, and none will.
    pub(super) fn withdraw(&self) -> bool {
        let state = self.state.compare_exchange(WAITING, WITHDRAWN, Ordering::SeqCst, Ordering::SeqCst);
        state.map_or_else(|state| state == WITHDRAWN, |_| true)
    }

    /// Its bytes are about to leave.
    pub(super) fn leave(&self) -> Result<()> {
        if self.until.has_passed() {
            self.withdraw();
            return Err(Error::new(ErrorKind::TimedOut, "the request is late"));
        }
        let state = self.state.compare_exchange(WAITING, LEFT, Ordering::SeqCst, Ordering::SeqCst);
        match state {
            Ok(_) | Err(LEFT) => Ok(()),
            Err(_) => Err(Error::new(ErrorKind::TimedOut, "the request was given up")),
        }
    }
}

/// The TLS alert that a connection ended with, which HTTP libraries do not hand on.
#[derive(Default)]
struct Alert(OnceLock<TlsFailure>);

impl Alert {
    /// Looks at what came of a read.
    fn note(&self, read: &Poll<Result<()>>) {
        if let Poll::Ready(Err(error)) = read
            && let Some(alert) = TlsFailure::of_ending(error)
        {
            self.0.get_or_init(|| alert);
        }
    }
}

/// Which request an HTTP/1.1 connection carries.
#[derive(Default)]
pub(super) struct Turn {
    request: Mutex<Option<(Arc<Ticket>, bool)>>,
    alert: Alert,
}

impl Turn {
    /// The TLS alert that its connection ended with.
    pub(super) fn alert(&self) -> Option<TlsFailure> {
        self.alert.0.get().copied()
    }

    /// The next request is this one; `reused`: others came before.
    pub(super) fn give(&self, ticket: Arc<Ticket>, reused: bool) {
        *self.request.lock() = Some((ticket, reused));
    }
}

/// The socket of an HTTP/1.1 connection.
pub(super) struct Http1Gate {
    stream: Stream,
    turn: Arc<Turn>,
}

impl Http1Gate {
    /// A gate before `stream`.
    pub(super) fn new(stream: Stream, turn: Arc<Turn>) -> Self {
        Self { stream, turn }
    }

    fn admit(&self) -> Result<()> {
        let mut turn = self.turn.request.lock();
        let Some((ticket, look)) = turn.as_mut() else {
            return Err(Error::other("no request has the turn"));
        };
        // Bytes behind an answer would be read as the answer to the next request, and be another's.
        if std::mem::take(look) && has_unread(&self.stream) {
            ticket.withdraw();
            return Err(Error::other("bytes behind an answer"));
        }
        ticket.leave()
    }
}

/// Whether the socket holds anything nobody has asked for, an end among it. Asked of the socket and not
/// of the runtime, which learns of bytes later.
fn has_unread(stream: &Stream) -> bool {
    let tcp = match stream {
        MaybeHttpsStream::Http(tcp) => tcp.inner(),
        MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().inner(),
    };
    let mut byte = [0_u8; 1];
    !matches!(
        recv(tcp, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR)
    )
}

impl Read for Http1Gate {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.turn.alert.note(&read);
        read
    }
}

impl Write for Http1Gate {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.admit()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.admit()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The requests under way on an HTTP/2 connection, by stream.
#[derive(Default)]
pub(super) struct Tickets {
    requests: Mutex<Vec<(u32, Arc<Ticket>)>>,
    alert: Alert,
}

impl Tickets {
    /// The TLS alert that the connection ended with.
    pub(super) fn alert(&self) -> Option<TlsFailure> {
        self.alert.0.get().copied()
    }

    /// Announces the request of a stream.
    pub(super) fn announce(&self, stream: u32, ticket: Arc<Ticket>) {
        self.requests.lock().push((stream, ticket));
    }

    /// Forgets a stream, unless it is still to leave although nobody waits for it.
    pub(super) fn forget(&self, stream: u32) {
        let is_kept =
            |id: u32, ticket: &Ticket| id != stream || ticket.state.load(Ordering::SeqCst) == WAITING;
        self.requests.lock().retain(|(id, ticket)| is_kept(*id, ticket));
    }

    /// The frames of these streams are about to leave.
    fn leave(&self, streams: &[u32]) -> Result<()> {
        let tickets = self.requests.lock();
        for stream in streams {
            let Some((_, ticket)) = tickets.iter().find(|(id, _)| id == stream) else {
                return Err(Error::other("a request that was given up"));
            };
            ticket.leave()?;
        }
        Ok(())
    }
}

/// The socket of an HTTP/2 connection: reads the heads of the frames that pass.
pub(super) struct Http2Gate {
    stream: TokioIo<Stream>,
    tickets: Arc<Tickets>,
    frames: Frames,
}

impl Http2Gate {
    /// A gate before `stream`.
    pub(super) fn new(stream: Stream, tickets: Arc<Tickets>) -> Self {
        Self { stream: TokioIo::new(stream), tickets, frames: Frames::default() }
    }

    /// Where the frames stand once `slices` are written, if they may be.
    fn admit<'a>(&self, slices: impl Iterator<Item = &'a [u8]>) -> Result<()> {
        let mut ahead = self.frames.clone();
        let mut streams = Vec::new();
        for slice in slices {
            ahead.pass(slice, |stream| streams.push(stream));
        }
        if streams.is_empty() { Ok(()) } else { self.tickets.leave(&streams) }
    }
}

impl tokio::io::AsyncRead for Http2Gate {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.tickets.alert.note(&read);
        read
    }
}

impl tokio::io::AsyncWrite for Http2Gate {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.admit(slices.iter().map(|slice| &**slice))?;
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        let mut left = written;
        for slice in slices {
            let passed = slice.get(..left.min(slice.len())).unwrap_or_default();
            self.frames.pass(passed, |_| {});
            left -= passed.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
