//! The end of an HTTP/1.1 connection whose client may still be sending.
//!
//! Our half is closed first, and what still comes is thrown away for a while. To close a socket with
//! bytes unread resets it, and then many a client never sees the answer that is on its way (RFC 9112
//! §9.6).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::server::TlsStream;

/// A client that sends nothing for this long has no more to send; none sends for longer than this.
const QUIET: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(2);

/// A stream over TCP.
pub(super) trait OverTcp: AsyncRead + AsyncWrite + Unpin {
    /// The socket under it.
    fn tcp(&mut self) -> &mut TcpStream;
}

impl OverTcp for TcpStream {
    fn tcp(&mut self) -> &mut TcpStream {
        self
    }
}

impl OverTcp for TlsStream<TcpStream> {
    fn tcp(&mut self) -> &mut TcpStream {
        self.get_mut().0
    }
}

/// A stream that is shut down only when its client has done sending, or for too long.
pub(super) struct Lingering<S> {
    stream: S,
    /// Once our half is closed.
    ending: Option<Ending>,
}

struct Ending {
    until: Instant,
    quiet: Pin<Box<Sleep>>,
}

impl<S: OverTcp> Lingering<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, ending: None }
    }
}

impl Ending {
    fn begin() -> Self {
        let now = Instant::now();
        Self { until: now + LONGEST, quiet: Box::pin(sleep_until(now + QUIET)) }
    }

    /// Throws away what comes, undecrypted. Ready at the client's end, or when it has had its time.
    fn poll(&mut self, socket: &mut TcpStream, cx: &mut Context<'_>) -> Poll<()> {
        let mut thrown_away = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut thrown_away);
            match Pin::new(&mut *socket).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    let now = Instant::now();
                    if now >= self.until {
                        return Poll::Ready(());
                    }
                    self.quiet.as_mut().reset(self.until.min(now + QUIET));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.quiet.as_mut().poll(cx),
            }
        }
    }
}

impl<S: OverTcp> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: OverTcp> AsyncWrite for Lingering<S> {
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

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let Self { stream, ending } = self.get_mut();
        if ending.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
        }
        ending.get_or_insert_with(Ending::begin).poll(stream.tcp(), cx).map(Ok)
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
