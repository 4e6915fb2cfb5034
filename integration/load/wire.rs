//! The milter protocol's frames on a socket that waits.
//!
//! Promises: sends exactly what it is given; a reply is waited for no longer than the time set. Shares no code with
//! the milter, nor with indymilter.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// How long a reply may take, on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// No milter's reply is longer; what announces more is no reply.
const LONGEST: usize = 1 << 20;

/// Where the milter listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// One connection of an MTA.
pub(crate) struct Wire {
    stream: Box<dyn Way>,
    /// Frames that were begun to be put together, to be sent as one.
    out: Vec<u8>,
}

trait Way: Read + Write + Send {}
impl<S: Read + Write + Send> Way for S {}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

impl Wire {
    pub(crate) fn connect(target: &Target) -> io::Result<Self> {
        Self::connect_for(target, PATIENCE)
    }

    /// With another time for a reply to come, and for what is sent to be taken.
    pub(crate) fn connect_for(target: &Target, patience: Duration) -> io::Result<Self> {
        let patience = Some(patience);
        let stream: Box<dyn Way> = match target {
            Target::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(patience)?;
                Box::new(stream)
            }
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(patience)?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        };
        Ok(Self { stream, out: Vec::new() })
    }

    /// Puts a frame behind those that wait to be sent.
    pub(crate) fn put(&mut self, kind: u8, payload: &[u8]) {
        frame(&mut self.out, kind, payload);
    }

    /// Sends what was put.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.out);
        self.stream.write_all(&out)
    }

    /// Sends these bytes, whatever they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads these bytes, whatever they are.
    pub(crate) fn some(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.read(into)
    }

    /// The next frame. Where the milter has closed, that is an error: [`ErrorKind::UnexpectedEof`].
    pub(crate) fn reply(&mut self) -> io::Result<Frame> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let [a, b, c, d, kind] = head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length == 0 || length > LONGEST {
            return Err(io::Error::other(format!("a reply of {length} bytes")));
        }
        let mut payload = vec![0; length - 1];
        self.stream.read_exact(&mut payload)?;
        Ok(Frame { kind, payload })
    }

    /// A command, and what is answered to it.
    pub(crate) fn ask(&mut self, kind: u8, payload: &[u8]) -> io::Result<Frame> {
        self.put(kind, payload);
        self.flush()?;
        self.reply()
    }

    /// Waits until the milter closes; gives how many frames it still sent.
    pub(crate) fn closed(&mut self) -> io::Result<usize> {
        let mut frames = 0;
        loop {
            match self.reply() {
                Ok(_) => frames += 1,
                Err(error) if is_cut(&error) => return Ok(frames),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether an error says that the other side is gone.
pub(crate) fn is_cut(error: &io::Error) -> bool {
    use ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof,
    };
    let gone = [BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof];
    gone.contains(&error.kind())
}

/// Puts a frame's bytes behind others.
pub(crate) fn frame(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    frame_of(out, kind, &[payload]);
}

/// The same, with a payload in pieces.
pub(crate) fn frame_of(out: &mut Vec<u8>, kind: u8, pieces: &[&[u8]]) {
    let payload: usize = pieces.iter().map(|piece| piece.len()).sum();
    // No test sends a frame of 4 GiB.
    let length = u32::try_from(payload + 1).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.push(kind);
    for piece in pieces {
        out.extend_from_slice(piece);
    }
}

/// The first frame of what has come, its kind and payload, and its length; nothing while it is not whole.
pub(crate) fn first_frame(bytes: &[u8]) -> io::Result<Option<(u8, &[u8], usize)>> {
    let Some((head, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let length = u32::from_be_bytes(*head) as usize;
    if length == 0 || length > LONGEST {
        return Err(io::Error::other(format!("a reply of {length} bytes")));
    }
    let Some((kind, payload)) = rest.get(..length).and_then(<[u8]>::split_first) else { return Ok(None) };
    Ok(Some((*kind, payload, head.len() + length)))
}

/// A string of the protocol.
pub(crate) fn string(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}
