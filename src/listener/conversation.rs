//! Reading and answering on one connection, with an end for silence and for the drain.
//!
//! Promises: what has come is handed over as soon as it is there, as much of it as there is; what is answered to it is
//! sent in one piece. One timer, and one place among those who wait for the drain, for all of a connection: neither
//! costs each read anything. What a large message needed is given back after it.
//!
//! Must not: know a protocol.

use super::ConnectionError;
use bytes::BytesMut;
use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

/// A buffer that has grown beyond so many times its usual size is not kept.
const LARGE: usize = 4;

/// What comes after what was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing is under way: the connection may end here where the daemon is to stop.
    Idle,
    /// Something is under way.
    Open,
    /// The other side is done.
    Close,
}

/// Whether the daemon is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Draining {
    No,
    /// It is, and what was said before that may not have been seen.
    Begun,
    Seen,
}

/// Serves one connection to its end. `idle` is how long the other side may be silent, or be about one message, or not read; `buffer` is how many bytes
/// it says at once as a rule. `answer` takes the whole messages from the front of what has come, and appends what is to be
/// said to each; what it appended before a fault is said all the same.
pub async fn converse<S, P>(
    stream: &mut S,
    mut drain: watch::Receiver<bool>,
    idle: Duration,
    buffer: usize,
    mut answer: impl FnMut(&mut BytesMut, &mut Vec<u8>) -> Result<Next, P>,
) -> Result<(), ConnectionError<P>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    P: std::error::Error,
{
    let (mut input, mut output) = (BytesMut::new(), Vec::new());
    let mut drain = pin!(super::draining(&mut drain));
    let mut draining = Draining::No;
    let mut timer = pin!(sleep(idle));
    let mut heard = Instant::now();
    let mut next = Next::Idle;
    loop {
        if input.is_empty() && input.capacity() > LARGE * buffer {
            input = BytesMut::new();
        }
        input.reserve(buffer);
        // Between two messages the connection may end.
        let between = input.is_empty();
        let may_end = next == Next::Idle && between;
        let read = match draining {
            Draining::Seen if may_end => return Ok(()),
            Draining::Begun if may_end => {
                draining = Draining::Seen;
                // What was said before may lie there, and not be known of yet: whoever has begun is heard.
                tokio::task::yield_now().await;
                tokio::select! {
                    biased;
                    read = stream.read_buf(&mut input) => read?,
                    () = std::future::ready(()) => return Ok(()),
                }
            }
            _ => tokio::select! {
                biased;
                read = stream.read_buf(&mut input) => read?,
                () = drain.as_mut(), if draining == Draining::No => {
                    draining = Draining::Begun;
                    continue;
                }
                () = silence(timer.as_mut(), heard + idle) => return Err(ConnectionError::Idle(idle)),
            },
        };
        if read == 0 {
            let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
            return if input.is_empty() { Ok(()) } else { Err(cut().into()) };
        }
        let had = input.len();
        let answered = answer(&mut input, &mut output);
        // A message has begun, or has come to its end. A byte now and then is silence.
        if between || input.len() < had {
            heard = Instant::now();
        }
        if !output.is_empty() {
            tokio::select! {
                biased;
                written = stream.write_all(&output) => written?,
                () = silence(timer.as_mut(), heard + idle) => return Err(ConnectionError::Idle(idle)),
            }
            output.clear();
        }
        next = answered.map_err(ConnectionError::Protocol)?;
        if next == Next::Close {
            return Ok(());
        }
    }
}

/// Resolves at that end. The timer is set once, and again only where it finds that the end has moved.
async fn silence(mut timer: Pin<&mut Sleep>, end: Instant) {
    timer.as_mut().await;
    while Instant::now() < end {
        timer.as_mut().reset(end);
        timer.as_mut().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    const IDLE: Duration = Duration::from_secs(1);

    /// Answers each line with its length; `q` ends it, `o` opens something, `!` is a fault.
    fn lines(input: &mut BytesMut, output: &mut Vec<u8>) -> Result<Next, io::Error> {
        let mut next = Next::Idle;
        while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            let line = input.split_to(end + 1);
            output.extend_from_slice(line.len().to_string().as_bytes());
            next = match line.first() {
                Some(b'q') => return Ok(Next::Close),
                Some(b'!') => return Err(io::Error::other("a fault")),
                Some(b'o') => Next::Open,
                _ => Next::Idle,
            };
        }
        Ok(next)
    }

    async fn said(told: &[u8]) -> (Result<(), ConnectionError<io::Error>>, String) {
        let (mut ours, mut theirs) = duplex(64 * 1024);
        let (_keep, drain) = watch::channel(false);
        ours.write_all(told).await.unwrap();
        ours.shutdown().await.unwrap();
        let ended = converse(&mut theirs, drain, IDLE, 16, lines).await;
        drop(theirs);
        let mut answered = String::new();
        ours.read_to_string(&mut answered).await.unwrap();
        (ended, answered)
    }

    #[tokio::test]
    async fn all_that_came_is_answered_in_order() {
        let (ended, answered) = said(format!("a\n{}\nbb\n", "x".repeat(1000)).as_bytes()).await;
        assert!(ended.is_ok());
        assert_eq!(answered, "210013");
    }

    #[tokio::test]
    async fn what_came_before_an_end_or_a_fault_is_answered() {
        let (ended, answered) = said(b"a\nq\nnever\n").await;
        assert!(ended.is_ok());
        assert_eq!(answered, "22");
        let (ended, answered) = said(b"a\n!\nnever\n").await;
        assert!(matches!(ended, Err(ConnectionError::Protocol(_))));
        assert_eq!(answered, "22");
        let (ended, answered) = said(b"a\ncut").await;
        assert!(matches!(ended, Err(ConnectionError::Io(_))));
        assert_eq!(answered, "2");
    }

    #[tokio::test]
    async fn only_silence_of_that_length_ends_it() {
        let (mut ours, mut theirs) = duplex(64);
        let (_keep, drain) = watch::channel(false);
        let served = tokio::spawn(async move { converse(&mut theirs, drain, IDLE, 16, lines).await });
        let mut answer = [0];
        for _ in 0..8 {
            sleep(IDLE / 5).await;
            ours.write_all(b"a\n").await.unwrap();
            ours.read_exact(&mut answer).await.unwrap();
        }
        let spoken = Instant::now();
        assert!(matches!(served.await.unwrap(), Err(ConnectionError::Idle(IDLE))));
        // It was heard before we were answered.
        assert!(spoken.elapsed() > IDLE / 2);
    }

    #[tokio::test]
    async fn a_byte_of_one_message_now_and_then_is_silence() {
        let (mut ours, mut theirs) = duplex(64);
        let (_keep, drain) = watch::channel(false);
        let served = tokio::spawn(async move { converse(&mut theirs, drain, IDLE, 16, lines).await });
        let begun = Instant::now();
        while begun.elapsed() < 5 * IDLE && ours.write_all(b"a").await.is_ok() {
            sleep(IDLE / 5).await;
        }
        assert!(matches!(served.await.unwrap(), Err(ConnectionError::Idle(IDLE))));
        assert!(begun.elapsed() < 3 * IDLE);
    }

    #[tokio::test]
    async fn who_does_not_read_is_not_waited_for() {
        let (mut ours, mut theirs) = duplex(4);
        let (_keep, drain) = watch::channel(false);
        let served = tokio::spawn(async move { converse(&mut theirs, drain, IDLE, 16, lines).await });
        ours.write_all(b"1\n2\n3\n4\n5\n6\n7\n").await.unwrap();
        assert!(matches!(served.await.unwrap(), Err(ConnectionError::Idle(IDLE))));
    }

    #[tokio::test]
    async fn the_drain_ends_it_between_messages_only() {
        let (mut ours, mut theirs) = duplex(64);
        let (begin, drain) = watch::channel(false);
        let served =
            tokio::spawn(
                async move { converse(&mut theirs, drain, Duration::from_mins(1), 16, lines).await },
            );
        let mut answer = [0];
        ours.write_all(b"o\n").await.unwrap();
        ours.read_exact(&mut answer).await.unwrap();
        begin.send(true).unwrap();
        ours.write_all(b"o\n").await.unwrap();
        ours.read_exact(&mut answer).await.unwrap();
        ours.write_all(b"a\n").await.unwrap();
        ours.read_exact(&mut answer).await.unwrap();
        assert!(served.await.unwrap().is_ok());
    }
}
