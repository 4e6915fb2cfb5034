//! One connection of the MTA: frames in, the session's answers out.
//!
//! Promises: a frame that is malformed, too large, unknown or cut ends this connection and nothing else,
//! and is told in the log; one that comes out of order is answered so that mail goes on. When the daemon
//! stops, a transaction that is open gets to its end; a connection that has none is closed.

use super::negotiate;
use super::session::{Answer, Session};
use crate::environment::{Environment, timed};
use crate::listener::{self, draining};
use crate::policy::facts::Direction;
use bytes::{Bytes, BytesMut};
use indymilter::message::command::{CommandKind, OptNegPayload};
use indymilter::message::reply::Reply;
use indymilter::message::{self, Message};
use std::ffi::CString;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, BufStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// The largest frame that is taken: an MTA's own limit is 64 KiB for what it sends.
const MAX_FRAME: u32 = 1024 * 1024;
/// A frame with our macros has some 600 bytes; a reply 300. Kept per connection, so kept small.
const READ_BUFFER: usize = 2048;
const WRITE_BUFFER: usize = 512;

/// What is wrong with what an MTA said.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The length of a frame is none.
    #[error("a frame of {0} bytes; between 1 and {MAX_FRAME} are possible")]
    FrameLength(u32),
    /// A command that the protocol does not have.
    #[error("an unknown command, 0x{0:02x}")]
    UnknownCommand(u8),
    /// A payload that is not what its command needs.
    #[error("a malformed {0} frame")]
    Malformed(&'static str),
    /// The negotiation failed.
    #[error("{0}")]
    Version(String),
}

type ConnectionError = listener::ConnectionError<Fault>;

/// Serves one connection to its end. `idle` is how long the MTA may be silent.
pub async fn serve<S>(
    stream: S,
    environment: &impl Environment,
    mut drain: watch::Receiver<bool>,
    idle: Duration,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = BufStream::with_capacity(READ_BUFFER, WRITE_BUFFER, stream);
    let mut ending = Ending { session: Session::default(), environment };
    converse(&mut stream, &mut ending.session, environment, &mut drain, idle).await
}

/// Ends the session whatever becomes of its connection: also where the daemon stops and does not wait.
struct Ending<'e, E: Environment> {
    session: Session,
    environment: &'e E,
}

impl<E: Environment> Drop for Ending<'_, E> {
    fn drop(&mut self) {
        self.session.end(self.environment);
    }
}

async fn converse<S>(
    stream: &mut BufStream<S>,
    session: &mut Session,
    environment: &impl Environment,
    drain: &mut watch::Receiver<bool>,
    idle: Duration,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let next = timeout(idle, read(stream));
        let frame = if session.in_transaction() {
            next.await
        } else {
            // What is cut off here is lost, and the connection with it: nobody reads on.
            tokio::select! {
                biased;
                frame = next => frame,
                () = draining(drain) => return Ok(()),
            }
        };
        let Some(frame) = frame.map_err(|_| ConnectionError::Idle(idle))?? else { return Ok(()) };
        match answer(frame, session, environment)? {
            Step::Silent => {}
            Step::Reply(reply) => {
                let write = message::write(stream, reply.into_message());
                timeout(idle, write).await.map_err(|_| ConnectionError::Idle(idle))??;
            }
            Step::Close => return Ok(()),
        }
    }
}

/// Reads one frame; nothing where the MTA has closed the connection between two.
async fn read<S>(stream: &mut BufStream<S>) -> Result<Option<Message>, ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if stream.fill_buf().await?.is_empty() {
        return Ok(None);
    }
    let length = stream.read_u32().await?;
    if !(1..=MAX_FRAME).contains(&length) {
        return Err(ConnectionError::Protocol(Fault::FrameLength(length)));
    }
    let kind = stream.read_u8().await?;
    let wanted = length as usize - 1;
    // Grows with what comes, not with what is announced.
    let mut payload = BytesMut::with_capacity(wanted.min(READ_BUFFER));
    let mut rest = stream.take(u64::from(length - 1));
    while payload.len() < wanted {
        if rest.read_buf(&mut payload).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    Ok(Some(Message::new(kind, payload.freeze())))
}

enum Step {
    Silent,
    Reply(Reply),
    Close,
}

fn answer(
    frame: Message,
    session: &mut Session,
    environment: &impl Environment,
) -> Result<Step, ConnectionError> {
    let kind = CommandKind::try_from(frame.kind)
        .map_err(|_| ConnectionError::Protocol(Fault::UnknownCommand(frame.kind)))?;
    Ok(match kind {
        CommandKind::OptNeg => {
            session.forget_macros();
            let offer = OptNegPayload::parse_buffer(frame.buffer)
                .map_err(|_| ConnectionError::Protocol(Fault::Malformed("negotiation")))?;
            let reply = negotiate::answer(&offer)
                .map_err(|error| ConnectionError::Protocol(Fault::Version(error.to_string())))?;
            Step::Reply(reply)
        }
        CommandKind::DefMacros => {
            let mut payload = frame.buffer;
            // Some MTAs send it with nothing in it; then nothing was told.
            if !payload.is_empty() {
                match payload.split_to(1).as_ref() {
                    b"M" => session.macros_for_mail(payload),
                    b"R" => session.macros_for_rcpt(payload),
                    _ => {}
                }
            }
            Step::Silent
        }
        CommandKind::Mail => {
            let sender =
                first_argument(&frame.buffer).ok_or(ConnectionError::Protocol(Fault::Malformed("MAIL")))?;
            let answer = timed(environment, Direction::Inbound, || session.mail(environment, sender));
            Step::Reply(reply_of(answer))
        }
        CommandKind::Rcpt => {
            let recipient =
                first_argument(&frame.buffer).ok_or(ConnectionError::Protocol(Fault::Malformed("RCPT")))?;
            let answer = timed(environment, Direction::Inbound, || session.rcpt(environment, &recipient));
            Step::Reply(reply_of(answer))
        }
        CommandKind::BodyEnd => {
            session.forget_macros();
            session.end(environment);
            Step::Reply(Reply::Accept)
        }
        // The one command that is never answered.
        CommandKind::Abort => {
            session.forget_macros();
            session.end(environment);
            Step::Silent
        }
        CommandKind::Quit => Step::Close,
        // Another SMTP connection begins on this one; it too is not answered.
        CommandKind::QuitNc => {
            session.end(environment);
            *session = Session::default();
            Step::Silent
        }
        CommandKind::ConnInfo | CommandKind::Helo => {
            session.forget_macros();
            session.end(environment);
            Step::Reply(Reply::Continue)
        }
        // Stages that we asked not to be sent; an MTA that cannot leave them out gets to go on.
        CommandKind::Data
        | CommandKind::Header
        | CommandKind::Eoh
        | CommandKind::BodyChunk
        | CommandKind::Unknown => {
            session.forget_macros();
            Step::Reply(Reply::Continue)
        }
    })
}

fn reply_of(answer: Answer) -> Reply {
    match answer {
        Answer::Continue => Reply::Continue,
        Answer::Accept => Reply::Accept,
        // A reply has no NUL in it: it is printable ASCII. Were it otherwise, mail goes on.
        Answer::Refuse(reply) => {
            CString::new(reply.wire()).map_or(Reply::Continue, |reply| Reply::ReplyCode { reply })
        }
    }
}

/// The first string of a payload, which must be ended by a NUL: the address, before ESMTP parameters.
fn first_argument(payload: &Bytes) -> Option<Bytes> {
    let end = payload.iter().position(|b| *b == 0)?;
    Some(payload.slice(..end))
}
