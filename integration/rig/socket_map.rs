//! A socket map that takes down what sendmail asks, and answers what it was told to.
//!
//! Promises: each question is kept as it came, byte by byte, with the number of its connection.
//! Must not: know anything of what the daemon makes of a question.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::Result;

/// `$|` on the wire, and what stands before one that belongs to a value.
const SEPARATOR: u8 = 0x9b;
const QUOTE: u8 = 0x7f;

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) connection: usize,
    /// The map's name, a blank, and the key.
    pub(crate) bytes: Vec<u8>,
}

impl Asked {
    /// The key's fields, as they came.
    pub(crate) fn raw(&self) -> Vec<Vec<u8>> {
        let key = self.bytes.iter().position(|byte| *byte == b' ').map_or(0, |blank| blank + 1);
        let mut fields = vec![Vec::new()];
        let mut quoted = false;
        for &byte in self.bytes.iter().skip(key) {
            if byte == SEPARATOR && !quoted {
                fields.push(Vec::new());
            } else if let Some(field) = fields.last_mut() {
                field.push(byte);
            }
            quoted = byte == QUOTE && !quoted;
        }
        fields
    }

    /// The same as text.
    pub(crate) fn fields(&self) -> Vec<String> {
        self.raw().iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect()
    }

    /// One of them, by its place in the snippet.
    pub(crate) fn field(&self, place: usize) -> String {
        self.fields().into_iter().nth(place).unwrap_or_default()
    }
}

/// Clones are the same map.
#[derive(Clone, Default)]
pub(crate) struct SocketMap(Arc<Mutex<Vec<Asked>>>);

impl SocketMap {
    /// Listens until the program ends.
    pub(crate) fn listen(
        socket: &Path,
        answer: impl Fn(&Asked) -> Option<Vec<u8>> + Clone + Send + 'static,
    ) -> Result<SocketMap> {
        let listener = UnixListener::bind(socket).map_err(|e| format!("{}: {e}", socket.display()))?;
        let map = SocketMap::default();
        let kept = map.clone();
        thread::spawn(move || {
            for (connection, stream) in (1..).zip(listener.incoming().map_while(std::io::Result::ok)) {
                let (kept, answer) = (kept.clone(), answer.clone());
                // What ends a connection is sendmail's doing, and is seen there.
                thread::spawn(move || kept.serve(stream, connection, answer));
            }
        });
        Ok(map)
    }

    fn serve(
        &self,
        stream: UnixStream,
        connection: usize,
        answer: impl Fn(&Asked) -> Option<Vec<u8>>,
    ) -> std::io::Result<()> {
        let mut out = stream.try_clone()?;
        let mut input = BufReader::new(stream);
        loop {
            let mut length = Vec::new();
            if input.read_until(b':', &mut length)? == 0 {
                return Ok(());
            }
            length.pop();
            let length = String::from_utf8_lossy(&length).parse().map_err(std::io::Error::other)?;
            let mut bytes = vec![0; length];
            input.read_exact(&mut bytes)?;
            input.read_exact(&mut [0])?;
            let asked = Asked { connection, bytes };
            let said = answer(&asked);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
            // No answer is what a daemon gives that was killed.
            let Some(said) = said else { return Ok(()) };
            out.write_all(&[format!("{}:", said.len()).as_bytes(), &said, b","].concat())?;
        }
    }

    /// The questions since the last call.
    pub(crate) fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How many connections these came by.
pub(crate) fn connections(asked: &[Asked]) -> usize {
    asked.iter().map(|asked| asked.connection).collect::<BTreeSet<_>>().len()
}
