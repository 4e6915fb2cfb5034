//! One connection of the MTA: frames in, the session's answers out.
//!
//! Promises: a frame that is malformed, too large, unknown or cut ends this connection and nothing else,
//! and is told in the log; one that comes out of order is answered so that mail goes on. When the daemon
//! stops, a transaction that is open gets to its end; a connection that has none is closed.

use super::negotiate;
use super::session::{Answer, Session};
use crate::environment::{Environment, timed};
use crate::listener::ConnectionError;
use crate::listener::conversation::{Next, converse};
use crate::policy::facts::Direction;
use bytes::{Buf, Bytes, BytesMut};
use indymilter::message::Message;
use indymilter::message::command::{CommandKind, OptNegPayload};
use indymilter::message::reply::Reply;
use std::ffi::CString;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

/// The largest frame that is taken: an MTA's own limit is 64 KiB for what it sends.
const MAX_FRAME: u32 = 128 * 1024;
/// Our macros and their MAIL have some 700 bytes together. Kept per connection, so kept small.
const READ_BUFFER: usize = 2048;

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

/// Serves one connection to its end. `idle` is how long the MTA may be silent.
pub async fn serve<S>(
    mut stream: S,
    environment: &impl Environment,
    drain: watch::Receiver<bool>,
    idle: Duration,
) -> Result<(), ConnectionError<Fault>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // What is left to be recorded is, before the connection is seen to be closed.
    let mut ending = Ending { session: Session::default(), environment };
    let session = &mut ending.session;
    converse(&mut stream, drain, idle, READ_BUFFER, |input, output| {
        while let Some(frame) = frame(input)? {
            match answer(frame, session, environment)? {
                Step::Silent => {}
                Step::Reply(reply) => write(&reply.into_message(), output),
                Step::Negotiated(message) => write(&message, output),
                Step::Close => return Ok(Next::Close),
            }
        }
        Ok(if session.in_transaction() { Next::Open } else { Next::Idle })
    })
    .await
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

/// How many bytes a frame's length has.
const LENGTH: usize = 4;

/// Takes the frame at the front, if all of it is there.
fn frame(input: &mut BytesMut) -> Result<Option<Message>, Fault> {
    let Some(length) = input.first_chunk::<LENGTH>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length);
    if !(1..=MAX_FRAME).contains(&length) {
        return Err(Fault::FrameLength(length));
    }
    let whole = LENGTH + length as usize;
    if input.len() < whole {
        return Ok(None);
    }
    let mut frame = input.split_to(whole).freeze();
    frame.advance(LENGTH);
    let kind = frame.get_u8();
    Ok(Some(Message::new(kind, frame)))
}

fn write(message: &Message, output: &mut Vec<u8>) {
    // A reply of 4 GiB does not come.
    let length = u32::try_from(message.buffer.len() + 1).unwrap_or(u32::MAX);
    output.reserve(LENGTH + 1 + message.buffer.len());
    output.extend_from_slice(&length.to_be_bytes());
    output.push(message.kind);
    output.extend_from_slice(&message.buffer);
}

enum Step {
    Silent,
    Reply(Reply),
    /// The answer to the MTA's offer.
    Negotiated(Message),
    Close,
}

fn answer(frame: Message, session: &mut Session, environment: &impl Environment) -> Result<Step, Fault> {
    let kind = CommandKind::try_from(frame.kind).map_err(|_| Fault::UnknownCommand(frame.kind))?;
    Ok(match kind {
        CommandKind::OptNeg => {
            session.forget_macros();
            let offer =
                OptNegPayload::parse_buffer(frame.buffer).map_err(|_| Fault::Malformed("negotiation"))?;
            let reply = negotiate::answer(&offer).map_err(|error| Fault::Version(error.to_string()))?;
            Step::Negotiated(reply)
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
            let sender = first_argument(&frame.buffer).ok_or(Fault::Malformed("MAIL"))?;
            let answer = timed(environment, Direction::Inbound, || session.mail(environment, sender));
            Step::Reply(reply_of(answer))
        }
        CommandKind::Rcpt => {
            let recipient = first_argument(&frame.buffer).ok_or(Fault::Malformed("RCPT"))?;
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
