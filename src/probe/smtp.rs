//! An SMTP client's side of a conversation that sends no mail.
//!
//! Promises: every answer is waited for so long and no longer, however slowly it trickles; no more of it is kept than
//! a reply may have; what stands behind the 220 to STARTTLS is never taken for a part of the TLS session.
//! Must not: send more than was asked of it. RCPT and DATA are not in it.

use super::fault::{Fault, Step};
use crate::policy::facts;
use crate::policy::record::plain;
use openssl::ssl::{HandshakeError, Ssl, SslRef, SslStream};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The longest line of a reply. RFC 5321 has 512 bytes.
const MAX_LINE: usize = 2048;
/// The most bytes of one reply: a long list of extensions has two thousand.
const MAX_REPLY: usize = 64 * 1024;
/// What is shown of a line that a server said.
const SHOWN: usize = 200;

/// One reply: its code, and the texts of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its code.
    pub code: u16,
    /// Its lines, without code; bytes as they came.
    pub lines: Vec<Vec<u8>>,
}

impl Reply {
    /// The reply as one line to show.
    pub fn shown(&self) -> String {
        let first = self.lines.first().map(|line| shown(line)).unwrap_or_default();
        let more = if self.lines.len() > 1 { " …" } else { "" };
        format!("{} {first}{more}", self.code).trim_end().to_owned()
    }

    /// Whether it says yes.
    pub fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// The extensions that a reply to EHLO names, without the first line.
    pub fn extensions(&self) -> Vec<String> {
        self.lines.iter().skip(1).map(|line| shown(line)).filter(|line| !line.is_empty()).collect()
    }
}

/// Bytes that a server sent, for a person: cut, nothing in them that could act on a terminal.
pub fn shown(bytes: &[u8]) -> String {
    let (kept, cut) = match bytes.get(..SHOWN) {
        Some(kept) if bytes.len() > SHOWN => (kept, "…"),
        _ => (bytes, ""),
    };
    format!("{}{cut}", plain(facts::text(kept).trim_end_matches(['\r', '\n'])))
}

/// A connection whose reads and writes end at a moment, however little comes at a time.
#[derive(Debug)]
pub struct Timed {
    stream: TcpStream,
    end: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

/// A socket's time-out is told as "would block".
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer).map_err(timed_out)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[derive(Debug)]
enum Way {
    Plain(Timed),
    Tls(SslStream<Timed>),
    Gone,
}

/// One conversation.
#[derive(Debug)]
pub struct Conversation {
    way: Way,
    unread: Vec<u8>,
    timeout: Duration,
    /// Where it goes to.
    pub peer: SocketAddr,
}

impl Conversation {
    /// Connects to the first of these addresses that answers. `timeout` holds for each step.
    pub fn open(addresses: &[SocketAddr], timeout: Duration) -> Result<Self, Fault> {
        let mut tried = Vec::new();
        for address in addresses {
            match TcpStream::connect_timeout(address, timeout) {
                Ok(stream) => {
                    // Fails only on a connection that is gone already: reading will tell.
                    let _ = stream.set_nodelay(true);
                    let way = Way::Plain(Timed { stream, end: Instant::now() + timeout });
                    return Ok(Self { way, unread: Vec::new(), timeout, peer: *address });
                }
                Err(error) => tried.push((*address, error)),
            }
        }
        Err(Fault::Unreachable(tried))
    }

    /// The TLS session, once there is one.
    pub fn tls(&self) -> Option<&SslRef> {
        match &self.way {
            Way::Tls(stream) => Some(stream.ssl()),
            Way::Plain(_) | Way::Gone => None,
        }
    }

    fn begin(&mut self) {
        let end = Instant::now() + self.timeout;
        match &mut self.way {
            Way::Plain(timed) => timed.end = end,
            Way::Tls(stream) => stream.get_mut().end = end,
            Way::Gone => {}
        }
    }

    /// The greeting: who does not greet with 220 serves nobody, or not us.
    pub fn greeting(&mut self) -> Result<Reply, Fault> {
        self.begin();
        let reply = self.reply(Step::Greeting)?;
        if reply.code == 220 { Ok(reply) } else { Err(Fault::Refused(Step::Greeting, reply.shown())) }
    }

    /// Says a line and waits for the reply to it.
    pub fn say(&mut self, step: Step, line: &str) -> Result<Reply, Fault> {
        self.begin();
        let bytes = format!("{line}\r\n");
        let sent = match &mut self.way {
            Way::Plain(stream) => stream.write_all(bytes.as_bytes()),
            Way::Tls(stream) => stream.write_all(bytes.as_bytes()),
            Way::Gone => Err(io::ErrorKind::NotConnected.into()),
        };
        sent.map_err(|error| self.broken(step, error))?;
        self.reply(step)
    }

    /// The handshake that a 220 to STARTTLS asks for.
    pub fn handshake(&mut self, ssl: Ssl) -> Result<(), Fault> {
        self.begin();
        if let Some(bytes) = self.said_too_early() {
            return Err(Fault::Injected(shown(&bytes)));
        }
        let Way::Plain(stream) = std::mem::replace(&mut self.way, Way::Gone) else {
            return Err(Fault::Closed(Step::Handshake));
        };
        let failed = |stream: openssl::ssl::MidHandshakeSslStream<Timed>, timeout| match stream
            .error()
            .io_error()
            .map(io::Error::kind)
        {
            Some(io::ErrorKind::TimedOut) => Fault::TimedOut(Step::Handshake, timeout),
            _ => Fault::Handshake(why(stream.error())),
        };
        match ssl.connect(stream) {
            Ok(stream) => {
                self.way = Way::Tls(stream);
                Ok(())
            }
            Err(HandshakeError::SetupFailure(error)) => Err(error.into()),
            Err(HandshakeError::Failure(stream) | HandshakeError::WouldBlock(stream)) => {
                Err(failed(stream, self.timeout))
            }
        }
    }

    /// What came behind the 220, before we have said anything: in our buffer, or waiting in the socket.
    fn said_too_early(&mut self) -> Option<Vec<u8>> {
        if !self.unread.is_empty() {
            return Some(std::mem::take(&mut self.unread));
        }
        let Way::Plain(timed) = &self.way else { return None };
        let mut bytes = [0; SHOWN];
        timed.stream.set_nonblocking(true).ok()?;
        let peeked = timed.stream.peek(&mut bytes);
        timed.stream.set_nonblocking(false).ok()?;
        let length = peeked.ok().filter(|length| *length > 0)?;
        bytes.get(..length).map(<[u8]>::to_vec)
    }

    /// Says QUIT, and goes. Nobody waits for what is answered.
    pub fn quit(mut self) {
        self.begin();
        let _ = match &mut self.way {
            Way::Plain(stream) => stream.write_all(b"QUIT\r\n"),
            Way::Tls(stream) => stream.write_all(b"QUIT\r\n").map(|()| {
                let _ = stream.shutdown();
            }),
            Way::Gone => Ok(()),
        };
    }

    fn broken(&self, step: Step, error: io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::TimedOut => Fault::TimedOut(step, self.timeout),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                Fault::Closed(step)
            }
            _ => Fault::Broken(step, error),
        }
    }

    fn reply(&mut self, step: Step) -> Result<Reply, Fault> {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        let mut code = None;
        let mut taken = 0;
        loop {
            let line = self.line(step, taken)?;
            taken += line.len();
            let not_smtp = || Fault::NotSmtp(step, shown(&line));
            let (digits, rest) = line.split_at_checked(3).ok_or_else(not_smtp)?;
            let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u16>().ok());
            let number = number.filter(|number| (200..600).contains(number)).ok_or_else(not_smtp)?;
            if *code.get_or_insert(number) != number {
                return Err(not_smtp());
            }
            let (goes_on, text) = match rest.split_first() {
                Some((b'-', text)) => (true, text),
                Some((b' ', text)) => (false, text),
                None => (false, rest),
                Some(_) => return Err(not_smtp()),
            };
            lines.push(text.to_vec());
            if !goes_on {
                return Ok(Reply { code: number, lines });
            }
        }
    }

    /// One line without its end. `before` bytes of the reply have been taken.
    fn line(&mut self, step: Step, before: usize) -> Result<Vec<u8>, Fault> {
        let too_much = || Fault::TooMuch(step, MAX_REPLY, MAX_LINE);
        let mut searched = 0;
        loop {
            let end =
                self.unread.iter().skip(searched).position(|byte| *byte == b'\n').map(|at| searched + at);
            if end.unwrap_or(self.unread.len()) > MAX_LINE {
                // Not even the beginning of a reply: that is told rather than its length.
                let begins = self.unread.first().is_some_and(u8::is_ascii_digit);
                return Err(if begins { too_much() } else { Fault::NotSmtp(step, shown(&self.unread)) });
            }
            if let Some(end) = end {
                if before + end > MAX_REPLY {
                    return Err(too_much());
                }
                let mut line: Vec<u8> = self.unread.drain(..=end).collect();
                while matches!(line.last(), Some(b'\n' | b'\r')) {
                    line.pop();
                }
                return Ok(line);
            }
            searched = self.unread.len();
            let mut bytes = [0; 4096];
            let read = match &mut self.way {
                Way::Plain(stream) => stream.read(&mut bytes),
                Way::Tls(stream) => stream.read(&mut bytes),
                Way::Gone => Ok(0),
            };
            match read {
                Ok(0) if self.unread.is_empty() => return Err(Fault::Closed(step)),
                Ok(0) => return Err(Fault::NotSmtp(step, shown(&self.unread))),
                Ok(length) => self.unread.extend_from_slice(bytes.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(step, error)),
            }
        }
    }
}

/// Why a handshake failed, in OpenSSL's words without its file names.
fn why(error: &openssl::ssl::Error) -> String {
    if let Some(io) = error.io_error() {
        return io.to_string();
    }
    let stack = error.ssl_error().map(openssl::error::ErrorStack::errors).unwrap_or_default();
    let reasons: Vec<&str> = stack.iter().filter_map(openssl::error::Error::reason).collect();
    if reasons.is_empty() {
        return "the server closed the connection".to_owned();
    }
    let said = reasons.join(", ");
    // What is no TLS at all looks like a record of an odd version.
    if reasons.contains(&"wrong version number") { format!("{said}: what it sent is no TLS") } else { said }
}
