//! Reads a request's body, bounded in size and time, and sees to what nobody read of it. Apart,
//! because every route needs it and none may read a body any other way.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, EXPECT, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Version};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::domain::clock::Deadline;
use crate::limit::Limited;

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// Longer than allowed (413).
    #[error("the body is too large")]
    TooLarge,
    /// Not complete in time (408).
    #[error("the body did not arrive in time")]
    TooSlow,
    /// Too much of unfinished bodies is held for its sender (429).
    #[error("too many unfinished bodies")]
    Limited(Limited),
    /// Fields come behind it (400): nothing here knows of any, and what an HTTP/2 library takes for
    /// them may have been pseudo-headers, which make a request malformed (RFC 9113 §8.1).
    #[error("fields come behind the body")]
    Trailers,
    /// The client stopped in the middle, or framed it wrongly (400, if it is still there).
    #[error("the body is incomplete")]
    Broken,
}

/// Reads a body of at most `max` bytes by `deadline`. A declared length above `max` is refused
/// before anything is read; trailers are refused. `hold` is asked for leave to hold so many bytes
/// more while the rest is waited for, or its end; not for a body of known length that is there.
pub(crate) async fn collect(
    body: impl Body<Data = Bytes>,
    max: usize,
    deadline: Deadline,
    hold: impl FnMut(usize) -> Result<(), Limited>,
) -> Result<Bytes, BodyError> {
    let declared = body.size_hint().lower();
    if usize::try_from(declared).map_or(true, |length| length > max) {
        return Err(BodyError::TooLarge);
    }
    tokio::time::timeout_at(deadline.instant().into(), read(body, max, hold))
        .await
        .unwrap_or(Err(BodyError::TooSlow))
}

async fn read(
    body: impl Body<Data = Bytes>,
    max: usize,
    mut hold: impl FnMut(usize) -> Result<(), Limited>,
) -> Result<Bytes, BodyError> {
    let mut body = pin!(body);
    // Most bodies are one piece: it is handed on as it is. What follows is gathered by doubling, so
    // that a client reserves no more than twice what it has sent.
    let mut first = Bytes::new();
    let mut gathered = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let data = frame.map_err(|_| BodyError::Broken)?.into_data().map_err(|_| BodyError::Trailers)?;
        if data.len() > max - first.len().max(gathered.len()) {
            return Err(BodyError::TooLarge);
        }
        if !body.is_end_stream() {
            hold(data.len()).map_err(BodyError::Limited)?;
        }
        if first.is_empty() && gathered.is_empty() {
            first = data;
        } else {
            gathered.extend_from_slice(&std::mem::take(&mut first));
            gathered.extend_from_slice(&data);
        }
    }
    Ok(if gathered.is_empty() { first } else { gathered.freeze() })
}

/// How long an answer waits for the end of a body that nobody will read, and for how much of it. The
/// usual body has been sent with its head, and a connection that goes on is worth that much.
const SKIPPED_WITHIN: Duration = Duration::from_millis(100);
const SKIPPED_BYTES: usize = 64 * 1024;

/// How long a client may go on sending a body behind its answer on HTTP/2.
const DISCARDED_FOR: Duration = Duration::from_secs(2);

/// A request's body, and how far it has been read.
pub(crate) struct Content<B = Incoming> {
    body: B,
    /// Requests follow one another on its connection (HTTP/1.1), so that the next begins only behind
    /// this body's end.
    in_line: bool,
    /// Its sender may be waiting for leave to send it (RFC 9110 §10.1.1), which asking for it gives.
    awaits_leave: bool,
    /// Its end has been seen.
    over: bool,
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Content<B> {
    /// The body behind this head.
    pub(crate) fn new(head: &Parts, body: B) -> Self {
        let in_line = head.version < Version::HTTP_2;
        Self { body, in_line, awaits_leave: in_line && head.headers.contains_key(EXPECT), over: false }
    }

    /// Sees to what is left of it, now that the answer is known; the largest body that is ever read has
    /// `largest` bytes. On HTTP/1.1 it is read to its end, or `headers` of the answer say that the
    /// connection ends there: else the next request would be taken for content (RFC 9112 §9.3).
    pub(crate) async fn finish(mut self, headers: &mut HeaderMap, largest: usize) {
        if self.is_end_stream() {
            return;
        }
        if !self.in_line {
            self.discard(largest);
        } else if !headers.contains_key(CONNECTION) && !self.is_soon_over().await {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    async fn is_soon_over(&mut self) -> bool {
        // Who was given no leave will not send, or sends without: nobody can tell which.
        let declared = usize::try_from(self.size_hint().lower()).unwrap_or(usize::MAX);
        if self.awaits_leave || declared > SKIPPED_BYTES {
            return false;
        }
        let skipped = tokio::time::timeout(SKIPPED_WITHIN, self.skip(SKIPPED_BYTES)).await;
        skipped.is_ok() && self.over
    }

    /// Receives in the background what still comes, at most so many bytes. To reset an HTTP/2 stream
    /// instead (RFC 9113 §8.1) would lose the answer: many a client, curl 7.88 among them, throws it
    /// away with the reset.
    fn discard(mut self, most: usize) {
        tokio::spawn(tokio::time::timeout(DISCARDED_FOR, async move { self.skip(most).await }));
    }

    async fn skip(&mut self, most: usize) {
        let mut left = most;
        while let Some(Ok(frame)) = self.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Content<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.awaits_leave = false;
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.over |= frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::Full;
    use hyper::body::Frame;
    use proptest::prelude::*;

    use super::*;

    type Piece = Result<Bytes, std::io::Error>;

    /// A body of pieces, then the end of the stream, or silence.
    struct Pieces {
        pieces: std::vec::IntoIter<Piece>,
        silent: bool,
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            match self.pieces.next() {
                None if self.silent => std::task::Poll::Pending,
                piece => std::task::Poll::Ready(piece.map(|piece| piece.map(Frame::data))),
            }
        }
    }

    fn pieces(pieces: &[&'static [u8]], silent: bool) -> Pieces {
        let pieces: Vec<Piece> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece))).collect();
        Pieces { pieces: pieces.into_iter(), silent }
    }

    fn freely(_: usize) -> Result<(), Limited> {
        Ok(())
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(30))
    }

    #[tokio::test]
    async fn a_body_at_the_bound_is_read_and_one_byte_more_is_too_large() {
        for split in [&[&b"12345678"[..]][..], &[b"1234", b"", b"5678"], &[b"", b"1", b"2345678"]] {
            assert_eq!(collect(pieces(split, false), 8, soon(), freely).await.unwrap(), "12345678");
            assert_eq!(collect(pieces(split, false), 7, soon(), freely).await, Err(BodyError::TooLarge));
        }
        assert_eq!(collect(pieces(&[], false), 0, soon(), freely).await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_declared_length_above_the_bound_is_refused_unread() {
        assert_eq!(
            collect(Full::new(Bytes::from_static(b"123")), 2, soon(), freely).await,
            Err(BodyError::TooLarge)
        );
    }

    #[tokio::test]
    async fn a_body_that_stops_arriving_is_too_slow() {
        let body = pieces(&[b"12"], true);
        assert_eq!(
            collect(body, 8, Deadline::after(Duration::from_millis(50)), freely).await,
            Err(BodyError::TooSlow)
        );
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_not_taken_for_a_shorter_one() {
        let broken: Vec<Piece> =
            vec![Ok(Bytes::from_static(b"12")), Err(std::io::ErrorKind::UnexpectedEof.into())];
        let body = Pieces { pieces: broken.into_iter(), silent: false };
        assert_eq!(collect(body, 8, soon(), freely).await, Err(BodyError::Broken));
    }

    #[tokio::test]
    async fn leave_is_asked_for_what_is_held_while_more_is_to_come() {
        let mut held = Vec::new();
        let one_piece = Full::new(Bytes::from_static(b"1234"));
        let mut hold = |bytes| {
            held.push(bytes);
            Ok(())
        };
        assert_eq!(collect(one_piece, 8, soon(), &mut hold).await.unwrap(), "1234");
        assert_eq!(collect(pieces(&[b"12", b"345"], false), 8, soon(), &mut hold).await.unwrap(), "12345");
        // These pieces do not say which is the last.
        assert_eq!(held, [2, 3]);
        let limited = Limited {
            scope: crate::limit::LimitScope::UnfinishedBodies,
            retry_after_seconds: 1,
            quota: None,
        };
        let refused =
            collect(
                pieces(&[b"12", b"345"], true),
                8,
                soon(),
                |bytes| {
                    if bytes > 2 { Err(limited) } else { Ok(()) }
                },
            );
        assert_eq!(refused.await, Err(BodyError::Limited(limited)));
    }

    proptest! {
        #[test]
        fn pieces_are_joined_in_order_within_the_bound(split: Vec<Vec<u8>>, max in 0_usize..64) {
            let whole = split.concat();
            let body = Pieces {
                pieces: split.into_iter().map(|piece| Ok(piece.into())).collect::<Vec<Piece>>().into_iter(),
                silent: false,
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let read = runtime.block_on(collect(body, max, soon(), freely));
            if whole.len() <= max {
                prop_assert_eq!(read.unwrap(), whole);
            } else {
                prop_assert_eq!(read, Err(BodyError::TooLarge));
            }
        }
    }
}
