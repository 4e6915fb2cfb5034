//! A connection that is made of pieces: what comes, comes piece by piece, and what is said in between can be looked at.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The other end of a connection.
pub struct Wire {
    pieces: VecDeque<Vec<u8>>,
    /// Whether the rest of the first piece is still to be read.
    begun: bool,
    said: Rc<RefCell<Said>>,
    look: Box<dyn Fn() -> usize>,
}

/// What was answered, and when.
#[derive(Debug, Default)]
pub struct Said {
    pub bytes: Vec<u8>,
    /// At each piece, before it was read: how much had been said, and what the look at the world gave. One more at the end.
    pub before: Vec<(usize, usize)>,
}

impl Wire {
    /// A connection on which these pieces come, and then its end. Before each, `look` is asked.
    pub fn new(
        pieces: impl IntoIterator<Item = Vec<u8>>,
        look: impl Fn() -> usize + 'static,
    ) -> (Self, Rc<RefCell<Said>>) {
        let said = Rc::<RefCell<Said>>::default();
        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        (Self { pieces, begun: false, said: Rc::clone(&said), look: Box::new(look) }, said)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.begun {
            let seen = (self.look)();
            let mut said = self.said.borrow_mut();
            let length = said.bytes.len();
            said.before.push((length, seen));
        }
        let Some(piece) = self.pieces.front_mut() else { return Poll::Ready(Ok(())) };
        let taken = piece.len().min(out.remaining());
        out.put_slice(&piece[..taken]);
        piece.drain(..taken);
        self.begun = !piece.is_empty();
        if !self.begun {
            self.pieces.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.said.borrow_mut().bytes.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Bytes in pieces of these sizes, by turns.
pub fn cut(bytes: &[u8], sizes: &[u8]) -> Vec<Vec<u8>> {
    let mut sizes = sizes.iter().map(|size| usize::from(*size) + 1).cycle();
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(rest.len()).min(rest.len());
        let (piece, behind) = rest.split_at(size);
        pieces.push(piece.to_vec());
        rest = behind;
    }
    pieces
}

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
}

/// Runs a connection to its end.
pub fn run<F: Future>(connection: F) -> F::Output {
    RUNTIME.with(|runtime| runtime.block_on(connection))
}
