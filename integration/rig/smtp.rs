//! An SMTP client that does what it is told: source address, TLS version, cipher, certificate, AUTH, rudeness.
//!
//! Promises: every reply is waited for with a deadline and handed back as it came. Must not: be clever. A session
//! that no well-behaved client would hold is what some cases are about.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslStream, SslVerifyMode, SslVersion};
use serde::Deserialize;
use socket2::{Domain, Socket, Type};

use super::certs::Certs;
use super::wait::DEADLINE;
use super::{Result, wait};

/// The strength of a session.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Tls {
    /// The one version to speak: `1.0` to `1.3`. Left out: the best of both sides.
    pub(crate) version: Option<String>,
    /// A cipher list of OpenSSL, or for 1.3 a ciphersuite.
    pub(crate) cipher: Option<String>,
    /// A client certificate: `signed` by the CA that sm-mta trusts, or `self-signed`.
    pub(crate) cert: Option<String>,
}

/// One reply: a code, and its lines without the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) lines: Vec<String>,
}

impl Reply {
    /// As a case writes it: `454 4.7.0 text`, several lines one below the other.
    pub(crate) fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{} {line}", self.code)).collect::<Vec<_>>().join("\n")
    }
}

/// The bytes' way to sm-mta.
enum Way {
    Plain(TcpStream),
    Tls(SslStream<TcpStream>),
    /// `sendmail -bs`: its standard input and what its standard output says.
    Submission {
        process: Child,
        to: ChildStdin,
        from: Receiver<Vec<u8>>,
    },
    Closed,
}

pub(crate) struct Client {
    way: Way,
    unread: Vec<u8>,
}

impl Client {
    /// Connects from the given address of this machine. The greeting is the first reply.
    pub(crate) fn connect(source: IpAddr, to: SocketAddr) -> Result<Client> {
        let open = || -> io::Result<TcpStream> {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
            socket.connect_timeout(&to.into(), DEADLINE)?;
            socket.set_read_timeout(Some(DEADLINE))?;
            socket.set_tcp_nodelay(true)?;
            Ok(socket.into())
        };
        let stream = open().map_err(|e| format!("connecting from {source} to {to}: {e}"))?;
        Ok(Client { way: Way::Plain(stream), unread: Vec::new() })
    }

    /// Speaks to a process started as `sendmail -bs`.
    pub(crate) fn submission(mut process: Child) -> Result<Client> {
        let to = process.stdin.take().ok_or("sendmail -bs has no standard input")?;
        let mut out = process.stdout.take().ok_or("sendmail -bs has no standard output")?;
        let (tell, from) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = vec![0; 4096];
            while let Ok(length @ 1..) = out.read(&mut bytes) {
                if tell.send(bytes.get(..length).unwrap_or_default().to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Client { way: Way::Submission { process, to, from }, unread: Vec::new() })
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = match &mut self.way {
            Way::Plain(stream) => stream.write_all(bytes),
            Way::Tls(stream) => stream.write_all(bytes),
            Way::Submission { to, .. } => to.write_all(bytes).and_then(|()| to.flush()),
            Way::Closed => Err(io::ErrorKind::NotConnected.into()),
        };
        sent.map_err(|e| format!("sending {:?}: {e}", String::from_utf8_lossy(bytes)))
    }

    /// Sends a line and waits for its reply.
    pub(crate) fn say(&mut self, line: &str) -> Result<Reply> {
        self.send(format!("{line}\r\n").as_bytes())?;
        self.reply().map_err(|e| format!("after {line:?}: {e}"))
    }

    /// Waits for the next reply.
    pub(crate) fn reply(&mut self) -> Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            let (code, rest) = line.split_at_checked(3).ok_or_else(|| format!("no reply: {line:?}"))?;
            let code = code.parse().map_err(|_| format!("no reply code: {line:?}"))?;
            lines.push(rest.get(1..).unwrap_or_default().to_owned());
            if !rest.starts_with('-') {
                return Ok(Reply { code, lines });
            }
        }
    }

    /// Does the handshake that a 220 to STARTTLS asks for. Says what came of it: version and cipher.
    pub(crate) fn handshake(&mut self, wish: &Tls, certs: &Certs) -> Result<String> {
        self.handshake_by(&context(wish, certs)?).map_err(|e| format!("{e}, as {wish:?}"))
    }

    /// The same by a context that is made once for many sessions: to make one costs as much as the handshake.
    pub(crate) fn handshake_by(&mut self, context: &SslContext) -> Result<String> {
        if !self.unread.is_empty() {
            return Err(format!(
                "said in the clear after STARTTLS: {:?}",
                String::from_utf8_lossy(&self.unread)
            ));
        }
        let Way::Plain(stream) = std::mem::replace(&mut self.way, Way::Closed) else {
            return Err("STARTTLS on something that is no plain connection".to_owned());
        };
        let ssl = Ssl::new(context).map_err(|e| format!("a TLS session: {e}"))?;
        let stream = ssl.connect(stream).map_err(|e| format!("TLS handshake: {e}"))?;
        let cipher = stream.ssl().current_cipher().map_or("no cipher", |cipher| cipher.name());
        let strength = format!("{} {cipher}", stream.ssl().version_str());
        self.way = Way::Tls(stream);
        Ok(strength)
    }

    /// Waits until the other side has closed, as it does after QUIT.
    pub(crate) fn closed(&mut self) -> Result<()> {
        if self.more()? {
            Err(format!("said after the end: {:?}", String::from_utf8_lossy(&self.unread)))
        } else {
            Ok(())
        }
    }

    /// Goes away without QUIT: with a reset, or as a process that has ended would.
    pub(crate) fn drop_connection(self, reset: bool) -> Result<()> {
        if let (true, Some(stream)) = (reset, self.stream()) {
            let linger = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
            linger.map_err(|e| format!("SO_LINGER: {e}"))?;
        }
        Ok(())
    }

    fn stream(&self) -> Option<&TcpStream> {
        match &self.way {
            Way::Plain(stream) => Some(stream),
            Way::Tls(stream) => Some(stream.get_ref()),
            Way::Submission { .. } | Way::Closed => None,
        }
    }

    fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if !self.more()? {
                return Err(format!(
                    "the connection ended, after {:?}",
                    String::from_utf8_lossy(&self.unread)
                ));
            }
        }
    }

    /// Reads on. False: the other side has closed.
    fn more(&mut self) -> Result<bool> {
        let mut bytes = [0; 4096];
        // sendmail writes in pieces, as behind a handshake, and would wait 40 ms for our delayed ACK between them.
        if let Some(stream) = self.stream() {
            let _ = socket2::SockRef::from(stream).set_tcp_quickack(true);
        }
        let length = match &mut self.way {
            Way::Plain(stream) => stream.read(&mut bytes),
            Way::Tls(stream) => stream.read(&mut bytes),
            Way::Submission { from, .. } => match from.recv_timeout(DEADLINE) {
                Ok(said) => {
                    self.unread.extend(said);
                    return Ok(true);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
                Err(mpsc::RecvTimeoutError::Disconnected) => Ok(0),
            },
            Way::Closed => Ok(0),
        };
        match length {
            Ok(length) => {
                self.unread.extend(bytes.iter().take(length));
                Ok(length > 0)
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(e) => Err(format!("waiting for a reply: {e}")),
        }
    }
}

impl Drop for Client {
    /// A submission process ends with its standard input, and is waited for: it has its milters to tell.
    fn drop(&mut self) {
        if let Way::Submission { mut process, to, .. } = std::mem::replace(&mut self.way, Way::Closed) {
            drop(to);
            if wait::until("sendmail -bs to end", || process.try_wait().ok().flatten()).is_err() {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}

/// What sessions of this strength are made by.
pub(crate) fn context(wish: &Tls, certs: &Certs) -> Result<SslContext> {
    let version = match wish.version.as_deref() {
        None => None,
        Some("1.0") => Some(SslVersion::TLS1),
        Some("1.1") => Some(SslVersion::TLS1_1),
        Some("1.2") => Some(SslVersion::TLS1_2),
        Some("1.3") => Some(SslVersion::TLS1_3),
        Some(other) => return Err(format!("no TLS version {other:?}: there are 1.0, 1.1, 1.2, 1.3")),
    };
    let identity = wish.cert.as_deref().map(|kind| certs.client(kind)).transpose()?;
    let make = || {
        let mut context = SslContext::builder(SslMethod::tls_client())?;
        context.set_verify(SslVerifyMode::NONE);
        context.set_security_level(0);
        context.set_min_proto_version(Some(version.unwrap_or(SslVersion::TLS1)))?;
        context.set_max_proto_version(version)?;
        match wish.cipher.as_deref() {
            Some(suite) if version == Some(SslVersion::TLS1_3) => context.set_ciphersuites(suite)?,
            list => context.set_cipher_list(list.unwrap_or("ALL:@SECLEVEL=0"))?,
        }
        if let Some(identity) = identity {
            context.set_certificate(&identity.cert)?;
            context.set_private_key(&identity.key)?;
        }
        Ok::<SslContext, ErrorStack>(context.build())
    };
    make().map_err(|e| format!("TLS sessions as {wish:?}: {e}"))
}
