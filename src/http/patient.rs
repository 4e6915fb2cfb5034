//! A stream whose other side has so long to take an answer.
//!
//! Promises: an answer that is not taken in time ends with an error, however slowly it was being taken. Must not: limit
//! how long an answer takes to be made.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A stream, and the end of patience while something is being written to it.
#[derive(Debug)]
pub(super) struct Patient<S> {
    stream: S,
    within: Duration,
    /// From the first piece of an answer until all of it is taken.
    end: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, within: Duration) -> Self {
        Self { stream, within, end: None }
    }

    /// Something cannot be written now. Whether to wait for it.
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let within = self.within;
        let end = self.end.get_or_insert_with(|| Box::pin(sleep(within)));
        ready!(end.as_mut().poll(context));
        Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, buf) {
            Poll::Pending => self.wait(cx),
            written @ Poll::Ready(_) => written,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, bufs) {
            Poll::Pending => self.wait(cx),
            written @ Poll::Ready(_) => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Pending => self.wait(cx),
            flushed @ Poll::Ready(_) => {
                // Asked for when all of an answer has been written.
                self.end = None;
                flushed
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn block_on(future: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
    }

    #[test]
    fn who_takes_an_answer_byte_by_byte_is_cut_off_in_time() {
        block_on(async {
            let (ours, mut theirs) = tokio::io::duplex(64);
            let mut patient = Patient::new(ours, Duration::from_millis(50));
            let slow = tokio::spawn(async move {
                let mut byte = [0];
                while theirs.read(&mut byte).await.unwrap_or(0) > 0 {
                    sleep(Duration::from_millis(5)).await;
                }
            });
            let error = patient.write_all(&vec![b'x'; 100_000]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            drop(patient);
            slow.await.unwrap();
        });
    }

    #[test]
    fn each_answer_has_the_whole_time() {
        block_on(async {
            let (ours, mut theirs) = tokio::io::duplex(64);
            let mut patient = Patient::new(ours, Duration::from_hours(1));
            for _ in 0..2 {
                // More than there is room for: it has to wait.
                let half = patient.write(&[b'x'; 128]).await.unwrap();
                let full = std::future::poll_fn(|context| {
                    Poll::Ready(Pin::new(&mut patient).poll_write(context, &[b'x'; 128]).is_pending())
                });
                assert!(full.await && patient.end.is_some());
                let mut taken = vec![0; half];
                theirs.read_exact(&mut taken).await.unwrap();
                patient.flush().await.unwrap();
                assert!(patient.end.is_none(), "the next one begins anew");
            }
        });
    }
}
