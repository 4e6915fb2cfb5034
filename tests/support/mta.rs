//! An MTA of our own: the milter protocol on a raw socket, by the book or against it.
//!
//! Promises: sends exactly the bytes it is given; waits for replies no longer than the deadline. Shares no
//! code with the milter, nor with indymilter, so that a misreading of the protocol is not made twice.

use super::{DEADLINE, until};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// What sendmail 8.17 offers: version 6, all actions, all that can be left out.
pub(crate) const OFFER: [u32; 3] = [6, 0x1ff, 0x1f_ffff];

enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: char,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The reply that refuses, as it is on the wire.
    pub(crate) fn refusal(&self) -> &str {
        assert_eq!(self.kind, 'y', "no refusal: {self:?}");
        let text = self.payload.strip_suffix(b"\0").expect("a reply ends with a NUL");
        std::str::from_utf8(text).unwrap()
    }

    /// `continue`, `accept`, or the refusal.
    pub(crate) fn answer(&self) -> &str {
        match self.kind {
            'c' => "continue",
            'a' => "accept",
            _ => self.refusal(),
        }
    }
}

/// One connection to the milter.
pub(crate) struct Mta {
    socket: Socket,
}

impl Mta {
    /// Connects to a unix socket.
    pub(crate) fn unix(path: &Path) -> io::Result<Self> {
        let socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.set_write_timeout(Some(DEADLINE))?;
        Ok(Self { socket: Socket::Unix(socket) })
    }

    /// Connects over TCP.
    pub(crate) fn tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.set_write_timeout(Some(DEADLINE))?;
        socket.set_nodelay(true)?;
        Ok(Self { socket: Socket::Tcp(socket) })
    }

    /// Sends these bytes, whatever they are. Whether the milter still takes them is not told: it may have
    /// closed for good reason, which reading shows.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let sent = match &mut self.socket {
            Socket::Unix(socket) => socket.write_all(bytes),
            Socket::Tcp(socket) => socket.write_all(bytes),
        };
        if let Err(error) = sent {
            let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&error.kind());
            assert!(gone, "cannot send: {error}");
        }
    }

    /// Sends a frame.
    pub(crate) fn frame(&mut self, kind: char, payload: &[u8]) {
        self.bytes(&frame(kind, payload));
    }

    /// Sends a command and reads what is answered.
    pub(crate) fn ask(&mut self, kind: char, payload: &[u8]) -> Frame {
        self.frame(kind, payload);
        self.reply()
    }

    /// Reads a frame that must come.
    pub(crate) fn reply(&mut self) -> Frame {
        self.next().expect("cannot read a reply").expect("closed where a reply should come")
    }

    /// Reads a frame; nothing where the milter has closed.
    pub(crate) fn next(&mut self) -> io::Result<Option<Frame>> {
        let mut length = [0u8; 4];
        match self.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&error.kind()) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        let mut rest = vec![0u8; u32::from_be_bytes(length) as usize];
        self.read_exact(&mut rest)?;
        Ok(Some(Frame { kind: char::from(rest[0]), payload: rest.split_off(1) }))
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match &mut self.socket {
            Socket::Unix(socket) => socket.read_exact(buffer),
            Socket::Tcp(socket) => socket.read_exact(buffer),
        }
    }

    /// Says that nothing more will be sent, as an MTA that died does.
    pub(crate) fn end_sending(&mut self) {
        // The milter may have closed already.
        let _ = match &self.socket {
            Socket::Unix(socket) => socket.shutdown(Shutdown::Write),
            Socket::Tcp(socket) => socket.shutdown(Shutdown::Write),
        };
    }

    /// Waits until the milter closes; gives what it still said.
    pub(crate) fn drained(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().expect("the milter did not close") {
            frames.push(frame);
        }
        frames
    }

    /// Negotiates as sendmail does.
    pub(crate) fn negotiate(&mut self) -> Frame {
        let reply = self.ask('O', &offer(OFFER));
        assert_eq!(reply.kind, 'O', "{reply:?}");
        reply
    }

    /// Tells macros for MAIL.
    pub(crate) fn macros(&mut self, pairs: &[(&str, &str)]) {
        self.frame('D', &macros('M', pairs));
    }

    /// MAIL, and what is answered: `continue`, `accept`, or the refusal.
    pub(crate) fn mail(&mut self, sender: &str) -> String {
        self.ask('M', &argument(sender)).answer().to_owned()
    }

    /// RCPT, likewise.
    pub(crate) fn rcpt(&mut self, recipient: &str) -> String {
        self.ask('R', &argument(recipient)).answer().to_owned()
    }

    /// The end of the message, likewise.
    pub(crate) fn end_of_message(&mut self) -> String {
        self.ask('E', b"").answer().to_owned()
    }

    /// QUIT, and waits until the milter has closed: all that it had to do is done.
    pub(crate) fn quit(mut self) {
        self.frame('Q', b"");
        assert_eq!(self.drained(), []);
    }
}

/// A frame's bytes.
pub(crate) fn frame(kind: char, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 1).unwrap();
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.push(u8::try_from(kind).unwrap());
    bytes.extend_from_slice(payload);
    bytes
}

/// The payload of a negotiation.
pub(crate) fn offer(words: [u32; 3]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// The payload of MAIL or RCPT: the address, and no parameters.
pub(crate) fn argument(address: &str) -> Vec<u8> {
    format!("{address}\0").into_bytes()
}

/// The payload of a macro definition.
pub(crate) fn macros(stage: char, pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut payload = vec![u8::try_from(stage).unwrap()];
    for (name, value) in pairs {
        payload.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
    }
    payload
}

/// The address that clients of the tests come from: none that is exempt.
pub(crate) const CLIENT: &str = "192.0.2.7";

/// What sendmail tells of a client in the clear: no TLS macro at all.
pub(crate) fn plain(queue_id: &str) -> Vec<(&str, &str)> {
    vec![
        ("i", queue_id),
        ("j", "mail.example.org"),
        ("{client_addr}", CLIENT),
        ("{client_name}", "mx.partner.example"),
        ("{client_resolve}", "OK"),
    ]
}

/// What sendmail tells of a client with TLS, and a cipher of so many bits.
pub(crate) fn tls<'a>(queue_id: &'a str, bits: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut pairs = plain(queue_id);
    pairs.extend([
        ("{tls_version}", "TLSv1.3"),
        ("{cipher}", "TLS_TEST"),
        ("{cipher_bits}", bits),
        ("{verify}", "NOT"),
        ("{cn_subject}", ""),
        ("{cert_subject}", ""),
        ("{cert_issuer}", ""),
    ]);
    pairs
}

/// Connects, as soon as somebody listens.
pub(crate) fn connect(path: &Path) -> Mta {
    until("a listening socket", || Mta::unix(path).ok())
}
