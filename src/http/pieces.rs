//! An answer's body, handed on piece by piece.
//!
//! Promises: nothing of it is copied before it can be sent, so that a page of many MB which many read slowly is there once.
//! Whoever waits for it to be taken is told where it ends.

use super::patient::Sending;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What a connection may copy at once.
const PIECE: usize = 16 * 1024;

/// What is left of a body.
#[derive(Debug)]
pub(super) struct Pieces {
    rest: Bytes,
    sending: Sending,
}

impl Pieces {
    pub(super) fn of(body: Bytes, sending: &Sending) -> Self {
        sending.set(!body.is_empty());
        Self { rest: body, sending: sending.clone() }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        self.sending.set(!self.rest.is_empty());
        Poll::Ready((length > 0).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        // Also where it was for a HEAD.
        self.sending.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_are_the_whole_and_the_last_one_ends_it() {
        for length in [0, 1, PIECE, PIECE + 1, 3 * PIECE] {
            let whole = Bytes::from((0..=250).cycle().take(length).collect::<Vec<u8>>());
            let sending = Sending::default();
            let mut body = Pieces::of(whole.clone(), &sending);
            let (mut seen, mut context) = (Vec::new(), Context::from_waker(std::task::Waker::noop()));
            while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut context) {
                let piece = frame.into_data().unwrap();
                assert!(piece.len() <= PIECE);
                seen.extend_from_slice(&piece);
                assert_eq!(sending.is_under_way(), seen.len() < length);
                assert_eq!(body.size_hint().exact(), Some((length - seen.len()) as u64));
            }
            assert!(body.is_end_stream());
            assert_eq!(seen, whole);
        }
    }
}
