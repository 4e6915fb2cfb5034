//! A stream whose other side has so long to take an answer.
//!
//! Promises: an answer that is not taken in time ends with an error, however slowly it was being taken; in less time where
//! somebody waits for what it holds. Must not: limit how long an answer takes to be made.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a client may take to read an answer: the largest has some MB, and whoever asks wants it.
const WITHIN: Duration = Duration::from_secs(30);
/// The same while somebody waits.
const HURRIED: Duration = Duration::from_secs(5);
/// How often it is looked whether somebody does.
const LOOK: Duration = Duration::from_millis(500);

/// Whether somebody waits for what others take slowly.
#[derive(Clone, Debug, Default)]
pub struct Hurry(Arc<AtomicUsize>);

/// As long as this lives, somebody waits.
#[derive(Debug)]
pub struct Waits(Hurry);

impl Hurry {
    /// Somebody waits, until what is given is dropped.
    pub fn waits(&self) -> Waits {
        self.0.fetch_add(1, Ordering::Relaxed);
        Waits(self.clone())
    }

    /// Whether anybody does.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether more of an answer is to come than has been handed on. Of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Sending(Arc<AtomicBool>);

impl Sending {
    pub(super) fn set(&self, under_way: bool) {
        self.0.store(under_way, Ordering::Relaxed);
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream, and the end of patience while something is being written to it.
#[derive(Debug)]
pub(super) struct Patient<S> {
    stream: S,
    within: Duration,
    hurried: Duration,
    sending: Sending,
    hurry: Hurry,
    /// From the first piece of an answer that had to wait until all of it is taken.
    since: Option<Instant>,
    look: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, sending: Sending, hurry: Hurry) -> Self {
        Self { stream, within: WITHIN, hurried: HURRIED, sending, hurry, since: None, look: None }
    }

    /// Something cannot be written now. Whether to wait for it.
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let since = *self.since.get_or_insert_with(Instant::now);
        loop {
            let within = if self.hurry.is_on() { self.hurried } else { self.within };
            let left = within.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)));
            }
            let look = self.look.get_or_insert_with(|| Box::pin(sleep(left.min(LOOK))));
            ready!(look.as_mut().poll(context));
            self.look = None;
        }
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
                // Asked for when all that was handed on has been written.
                if !self.sending.is_under_way() {
                    (self.since, self.look) = (None, None);
                }
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

    /// With these times.
    fn patient<S>(stream: S, within: u64, hurried: u64) -> Patient<S> {
        let [within, hurried] = [within, hurried].map(Duration::from_millis);
        Patient { within, hurried, ..Patient::new(stream, Sending::default(), Hurry::default()) }
    }

    const HOUR: u64 = 3_600_000;

    /// Somebody who takes a byte now and then, until there is no more.
    async fn dribble(mut stream: impl AsyncRead + Unpin) {
        let mut byte = [0];
        while stream.read(&mut byte).await.unwrap_or(0) > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[test]
    fn who_takes_an_answer_byte_by_byte_is_cut_off_in_time() {
        block_on(async {
            let (ours, theirs) = tokio::io::duplex(64);
            let mut patient = patient(ours, 50, HOUR);
            let slow = tokio::spawn(dribble(theirs));
            let error = patient.write_all(&vec![b'x'; 100_000]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            drop(patient);
            slow.await.unwrap();
        });
    }

    #[test]
    fn where_somebody_waits_it_is_sooner() {
        block_on(async {
            let (ours, theirs) = tokio::io::duplex(64);
            let mut patient = patient(ours, HOUR, 50);
            let hurry = patient.hurry.clone();
            let slow = tokio::spawn(dribble(theirs));
            let whole = vec![b'x'; 100_000];
            let write = patient.write_all(&whole);
            tokio::pin!(write);
            // Long past the shorter time, and nobody waits.
            let early = tokio::time::timeout(Duration::from_millis(200), write.as_mut()).await;
            assert!(early.is_err());
            let waits = hurry.waits();
            assert_eq!(write.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
            drop(waits);
            assert!(!hurry.is_on());
            drop(patient);
            slow.await.unwrap();
        });
    }

    #[test]
    fn each_answer_has_the_whole_time_and_no_piece_of_one_has() {
        block_on(async {
            let (ours, mut theirs) = tokio::io::duplex(64);
            let mut patient = patient(ours, HOUR, HOUR);
            for under_way in [false, true, false] {
                // More than there is room for: it has to wait.
                let half = patient.write(&[b'x'; 128]).await.unwrap();
                let full = std::future::poll_fn(|context| {
                    Poll::Ready(Pin::new(&mut patient).poll_write(context, &[b'x'; 128]).is_pending())
                });
                assert!(full.await && patient.since.is_some());
                let mut taken = vec![0; half];
                theirs.read_exact(&mut taken).await.unwrap();
                patient.sending.set(under_way);
                patient.flush().await.unwrap();
                assert_eq!(patient.since.is_some(), under_way, "the next one begins anew");
            }
        });
    }
}
