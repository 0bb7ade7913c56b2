//! When a connection has been quiet for too long. One rule for HTTP/1.1 and HTTP/2: an answer that is
//! ready must be taken by its deadline, whatever else is asked meanwhile; a connection with a request
//! under way is busy; any other has until its head deadline, or its idle deadline.
//! Apart from hyper's own timer, which cannot tell an idle connection from a slow head.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::Settings;

/// What one connection is doing.
pub(super) struct Activity {
    head: Duration,
    idle: Duration,
    answer: Duration,
    state: Mutex<State>,
}

struct State {
    under_way: usize,
    idle_until: Instant,
    /// Set while a head is arriving.
    head_until: Option<Instant>,
    /// Answers that wait to be taken, each by its number, and since when: the oldest first.
    waiting: Vec<(u64, Instant)>,
    answers: u64,
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// No request for too long.
    Idle,
    /// A request's head began and did not end.
    SlowHead,
    /// An answer was not taken.
    Unread,
}

impl Activity {
    /// A connection fresh from its handshake: its first request is due as soon as any head.
    pub(super) fn begin(settings: &Settings) -> Arc<Self> {
        let (head, idle) = (settings.header_timeout, settings.idle_timeout);
        let state = State {
            under_way: 0,
            idle_until: Instant::now() + head.min(idle),
            head_until: None,
            waiting: Vec::new(),
            answers: 0,
        };
        Arc::new(Self { head, idle, answer: settings.answer_timeout, state: Mutex::new(state) })
    }

    /// When to look again, and why the connection is to be closed then; no reason while a request
    /// is under way.
    pub(super) fn expiry(&self) -> (Instant, Option<CloseReason>) {
        let state = self.state.lock();
        if let Some((_, ready)) = state.waiting.first() {
            return (*ready + self.answer, Some(CloseReason::Unread));
        }
        match (state.under_way, state.head_until) {
            (0, Some(head)) => (head, Some(CloseReason::SlowHead)),
            (0, None) => (state.idle_until, Some(CloseReason::Idle)),
            _ => (Instant::now() + self.idle, None),
        }
    }

    /// A request has arrived; it is under way until the guard is dropped.
    pub(super) fn request(self: &Arc<Self>) -> UnderWay {
        let mut state = self.state.lock();
        state.under_way += 1;
        state.head_until = None;
        UnderWay(Arc::clone(self))
    }

    /// Bytes have arrived: outside a request, the beginning of a head.
    fn bytes_arrived(&self) {
        let mut state = self.state.lock();
        if state.under_way == 0 && state.waiting.is_empty() && state.head_until.is_none() {
            state.head_until = Some(Instant::now() + self.head);
        }
    }
}

/// A request under way.
pub(super) struct UnderWay(Arc<Activity>);

impl UnderWay {
    /// Its answer is ready, and waits to be taken until what this returns is dropped.
    pub(super) fn answered(self) -> Waiting {
        let mut state = self.0.state.lock();
        state.answers = state.answers.wrapping_add(1);
        let number = state.answers;
        state.waiting.push((number, Instant::now()));
        drop(state);
        Waiting { activity: Arc::clone(&self.0), number }
    }
}

/// An answer that has not been taken.
pub(super) struct Waiting {
    activity: Arc<Activity>,
    number: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.activity.state.lock();
        state.waiting.retain(|(number, _)| *number != self.number);
        state.idle_until = Instant::now() + self.activity.idle;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.under_way = state.under_way.saturating_sub(1);
        state.idle_until = Instant::now() + self.0.idle;
    }
}

/// An HTTP/1.1 stream that tells its [`Activity`] of arriving bytes. HTTP/2 does without: there,
/// bytes are as likely a ping as a head.
pub(super) struct WatchedStream<T> {
    stream: T,
    activity: Arc<Activity>,
}

impl<T> WatchedStream<T> {
    pub(super) const fn new(stream: T, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WatchedStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.activity.bytes_arrived();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WatchedStream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
