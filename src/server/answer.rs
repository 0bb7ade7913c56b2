//! An answer on its way out. It is known how long it has been waiting to be taken, and how much of it
//! and its like is waiting, up to the last byte that leaves for the socket: a client that asks and
//! never reads must not make us keep what it asked for.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};

use super::activity::Waiting;
use super::seats::Owed;

/// An answer's content.
pub(super) struct Answer {
    content: Bytes,
    kept: Option<Kept>,
}

/// What ends when an answer is gone.
pub(super) struct Kept {
    pub(super) _waiting: Waiting,
    pub(super) _owed: Owed,
}

/// The content on its way through the protocol: gone when all of it is written, or when nobody can
/// have it any more.
pub(super) struct Piece {
    content: Bytes,
    _kept: Option<Kept>,
}

impl Answer {
    /// `kept` only while there is something to be taken.
    pub(super) fn new(content: Bytes, kept: impl FnOnce(usize) -> Kept) -> Self {
        let kept = (!content.is_empty()).then(|| kept(content.len()));
        Self { content, kept }
    }
}

impl Body for Answer {
    type Data = Piece;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Self::Error>>> {
        if self.content.is_empty() {
            return Poll::Ready(None);
        }
        let piece = Piece { content: std::mem::take(&mut self.content), _kept: self.kept.take() };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.content.len()).unwrap_or(u64::MAX))
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.content.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.content.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.content.advance(count);
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.content.chunks_vectored(slices)
    }
}
