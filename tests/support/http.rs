//! An HTTP client that sends whatever it is told to, and takes answers apart by the letter.

use super::{DEADLINE, until};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Client {
    /// Connects, as soon as somebody listens.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = until("somebody to listen for HTTP", || TcpStream::connect(address).ok());
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { stream, unread: Vec::new() }
    }

    /// Sends these bytes. The other side may have closed by now.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Says that nothing more will be sent.
    pub(crate) fn end(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Asks by a method for a path, and reads the answer.
    pub(crate) fn ask(&mut self, method: &str, path: &str, headers: &str) -> Answer {
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes());
        self.answer(method != "HEAD").expect("closed where an answer should come")
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    fn more(&mut self) -> bool {
        let mut bytes = [0; 8192];
        match self.stream.read(&mut bytes) {
            Ok(length) => {
                self.unread.extend_from_slice(&bytes[..length]);
                length > 0
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("waiting for HTTP: {error}"),
        }
    }

    /// Reads an answer; nothing where the other side has closed. `with_body`: whether one follows, if its length is told.
    pub(crate) fn answer(&mut self, with_body: bool) -> Option<Answer> {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if !self.more() {
                assert!(
                    self.unread.is_empty(),
                    "half an answer: {:?}",
                    String::from_utf8_lossy(&self.unread)
                );
                return None;
            }
        };
        let head = String::from_utf8(self.unread[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
        let headers: Vec<_> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        self.unread.drain(..end + 4);
        let mut answer = Answer { status, headers, body: String::new() };
        if with_body {
            let length: usize = answer.header("content-length").expect("a length").parse().unwrap();
            while self.unread.len() < length {
                assert!(self.more(), "cut within a body");
            }
            answer.body = String::from_utf8(self.unread.drain(..length).collect()).unwrap();
        }
        Some(answer)
    }

    /// Waits until an answer with a page has begun, and takes no more of it than its first line; false where another has.
    pub(crate) fn begun(&self) -> bool {
        let mut line = [0; 15];
        until("an answer to begin", || {
            let length = self.stream.peek(&mut line).unwrap();
            assert!(length > 0, "closed before an answer began");
            (length == line.len()).then_some(())
        });
        line == *b"HTTP/1.1 200 OK"
    }

    /// Reads what is left until the other side closes; how much that was.
    pub(crate) fn rest(&mut self) -> usize {
        let before = self.unread.len();
        self.closed();
        self.unread.len() - before
    }

    /// Waits until the other side has closed.
    pub(crate) fn closed(&mut self) {
        while self.more() {}
    }
}

/// One answer, on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    let mut client = Client::connect(address);
    client.ask("GET", path, "Connection: close\r\n")
}
