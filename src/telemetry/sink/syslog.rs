//! A syslog daemon: the one of this machine at its local socket (RFC 3164), or a log host by UDP or TCP (RFC 5424).
//!
//! Promises: no message is longer than was settled. A receiver that is restarted is found again: a local socket is
//! asked for by its path each time, a TCP connection that was closed is seen to be so before anything is written into
//! it, and a host's name is looked up with each new connection. Frames of TCP are whole (RFC 6587, octet counting).

mod format;

use super::journal::{is_too_large, unix_socket};
use super::place::{Receiver, too_large};
use crate::telemetry::entry::{Entry, Format, Said};
use format::Header;
use socket2::{SockRef, TcpKeepalive};
use std::fmt;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Where the local daemon is, unless told otherwise.
pub const LOCAL: &str = "/dev/log";
/// What rsyslog takes, unless told otherwise.
pub const DEFAULT_MAX_SIZE: usize = 8192;
/// How long one attempt at sending may take.
pub(super) const MOMENT: Duration = Duration::from_millis(200);

const PORT: u16 = 514;
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// A log host that is silent for so long is gone.
const SILENT: Duration = Duration::from_secs(30);

/// How syslog is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it is.
    pub server: Server,
    /// As what our entries count there.
    pub facility: Facility,
    /// The most bytes of a message.
    pub max_size: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let server = Server::Local(LOCAL.into());
        Self { server, facility: Facility::default(), max_size: DEFAULT_MAX_SIZE }
    }
}

/// Where a syslog daemon is: `unix:/dev/log`, `udp://loghost:514`, `tcp://[2001:db8::1]:514`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// On this machine.
    Local(PathBuf),
    /// A log host, by UDP.
    Udp(String, u16),
    /// A log host, by TCP.
    Tcp(String, u16),
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut host = |kind: &str, host: &str, port: u16| {
            if host.contains(':') {
                write!(f, "{kind}://[{host}]:{port}")
            } else {
                write!(f, "{kind}://{host}:{port}")
            }
        };
        match self {
            Self::Udp(name, port) => host("udp", name, *port),
            Self::Tcp(name, port) => host("tcp", name, *port),
            Self::Local(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What is wrong with the name of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadServer {
    /// Neither of the kinds there are.
    #[error("begins neither with `unix:` nor with `udp://` or `tcp://`")]
    Kind,
    /// A path from nowhere.
    #[error("the socket's path is not absolute")]
    Path,
    /// No host.
    #[error("no host that could be looked up")]
    Host,
    /// No port.
    #[error("the port is no number between 1 and 65535")]
    Port,
}

impl FromStr for Server {
    type Err = BadServer;

    fn from_str(text: &str) -> Result<Self, BadServer> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') { Ok(Self::Local(path.into())) } else { Err(BadServer::Path) };
        }
        let (kind, rest): (fn(String, u16) -> Self, &str) = match text.split_once("://") {
            Some(("udp", rest)) => (Self::Udp, rest),
            Some(("tcp", rest)) => (Self::Tcp, rest),
            _ => return Err(BadServer::Kind),
        };
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(BadServer::Host)?;
                host.parse::<Ipv6Addr>().map_err(|_| BadServer::Host)?;
                (
                    host,
                    if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(BadServer::Port)?) },
                )
            }
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let of_name = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        if host.is_empty() || !host.chars().all(of_name) {
            return Err(BadServer::Host);
        }
        let port = match port {
            None => PORT,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(BadServer::Port)?,
        };
        Ok(kind(host.to_owned(), port))
    }
}

/// What part of a system a message is of, as syslog(3) has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(u8);

impl Facility {
    /// Their names, each at its number; those without one are of no use to a daemon.
    pub const NAMES: [(&'static str, u8); 20] = [
        ("kern", 0),
        ("user", 1),
        ("mail", 2),
        ("daemon", 3),
        ("auth", 4),
        ("syslog", 5),
        ("lpr", 6),
        ("news", 7),
        ("uucp", 8),
        ("cron", 9),
        ("authpriv", 10),
        ("ftp", 11),
        ("local0", 16),
        ("local1", 17),
        ("local2", 18),
        ("local3", 19),
        ("local4", 20),
        ("local5", 21),
        ("local6", 22),
        ("local7", 23),
    ];

    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| Self(*number))
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }
}

impl Default for Facility {
    /// `mail`, where the MTA's own log is.
    fn default() -> Self {
        Self(2)
    }
}

pub(super) struct Syslog {
    settings: Settings,
    header: Header,
    connection: Connection,
    lost: u64,
}

enum Connection {
    Local(Option<UnixDatagram>),
    Udp(Option<UdpSocket>),
    Tcp(Option<Stream>),
}

/// A TCP connection, and how much of the message that is being sent it has taken.
struct Stream {
    tcp: TcpStream,
    written: usize,
}

impl Syslog {
    pub(super) fn new(settings: &Settings) -> Self {
        let connection = match &settings.server {
            Server::Local(_) => Connection::Local(None),
            Server::Udp(..) => Connection::Udp(None),
            Server::Tcp(..) => Connection::Tcp(None),
        };
        let header = Header::of_this_process(settings.facility);
        Self { settings: settings.clone(), header, connection, lost: 0 }
    }
}

impl Receiver for Syslog {
    fn message(&self, entry: &Entry, said: &Said<'_>, form: Format) -> Vec<u8> {
        let text = match form {
            Format::Text => format::text(said),
            Format::Json => {
                let mut line = Vec::new();
                entry.line(Format::Json, &mut line);
                String::from_utf8_lossy(line.trim_ascii_end()).into_owned()
            }
        };
        let most = self.settings.max_size;
        match self.connection {
            Connection::Local(_) => format::rfc3164(&self.header, said, &text, most),
            Connection::Udp(_) => format::rfc5424(&self.header, said, &text, most),
            Connection::Tcp(_) => {
                let message = format::rfc5424(&self.header, said, &text, most);
                let mut frame = format!("{} ", message.len()).into_bytes();
                frame.extend_from_slice(&message);
                frame
            }
        }
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match (&mut self.connection, &self.settings.server) {
            (Connection::Local(socket), Server::Local(path)) => {
                let socket = match socket {
                    Some(socket) => socket,
                    none => none.insert(unix_socket()?),
                };
                match socket.send_to(message, path) {
                    Err(error) if is_too_large(&error) => Err(too_large(message.len(), path)),
                    sent => sent.map(drop),
                }
            }
            (Connection::Udp(socket), Server::Udp(host, port)) => {
                // Kept only where it works: perhaps the host has another address by now.
                let connected = match socket.take() {
                    Some(connected) => connected,
                    None => udp(host, *port)?,
                };
                let mut sent = connected.send(message);
                // So the one before did not arrive, and this one was not sent.
                if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                    self.lost += 1;
                    sent = connected.send(message);
                }
                match sent {
                    Err(error) if is_too_large(&error) => Err(too_large(message.len(), host.as_ref())),
                    Err(error) => Err(error),
                    Ok(_) => {
                        *socket = Some(connected);
                        Ok(())
                    }
                }
            }
            (Connection::Tcp(stream), Server::Tcp(host, port)) => tcp(stream, host, *port, message),
            // Made from it.
            _ => Ok(()),
        }
    }

    fn lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

/// Asks for the host's addresses, and gives what the first will do with that works.
fn first_that_works<T>(
    host: &str,
    port: u16,
    attempt: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in (host, port).to_socket_addrs()? {
        match attempt(address) {
            Ok(found) => return Ok(found),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn udp(host: &str, port: u16) -> io::Result<UdpSocket> {
    first_that_works(host, port, |address| {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.set_write_timeout(Some(MOMENT))?;
        socket.connect(address)?;
        Ok(socket)
    })
}

fn connect(host: &str, port: u16) -> io::Result<Stream> {
    first_that_works(host, port, |address| {
        let tcp = TcpStream::connect_timeout(&address, CONNECT_WITHIN)?;
        tcp.set_write_timeout(Some(MOMENT))?;
        tcp.set_nodelay(true)?;
        let options = SockRef::from(&tcp);
        options.set_tcp_user_timeout(Some(SILENT))?;
        options.set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENT))?;
        Ok(Stream { tcp, written: 0 })
    })
}

/// Whether the other side has closed the connection: what is written into it then is lost, and no error says so.
fn is_closed(tcp: &TcpStream) -> io::Result<bool> {
    tcp.set_nonblocking(true)?;
    let seen = tcp.peek(&mut [0]);
    tcp.set_nonblocking(false)?;
    Ok(match seen {
        Ok(count) => count == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    })
}

/// Sends a frame, or what is left of it. A connection that breaks within a frame leaves nothing of it at the receiver.
fn tcp(stream: &mut Option<Stream>, host: &str, port: u16, frame: &[u8]) -> io::Result<()> {
    // Kept only where it works.
    let mut open = match stream.take() {
        Some(open) if open.written > 0 || !is_closed(&open.tcp)? => open,
        _ => connect(host, port)?,
    };
    while let Some(rest) = frame.get(open.written..).filter(|rest| !rest.is_empty()) {
        match open.tcp.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => open.written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                // Who does not read is asked again for the rest.
                if error.kind() == io::ErrorKind::WouldBlock {
                    *stream = Some(open);
                }
                return Err(error);
            }
        }
    }
    open.written = 0;
    *stream = Some(open);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_as_urls() {
        for (text, expected) in [
            ("unix:/dev/log", Ok(Server::Local("/dev/log".into()))),
            ("udp://loghost", Ok(Server::Udp("loghost".into(), 514))),
            ("tcp://log.example.org:6514", Ok(Server::Tcp("log.example.org".into(), 6514))),
            ("tcp://[2001:db8::1]", Ok(Server::Tcp("2001:db8::1".into(), 514))),
            ("udp://[2001:db8::1]:515", Ok(Server::Udp("2001:db8::1".into(), 515))),
            ("udp://192.0.2.1:0", Err(BadServer::Port)),
            ("udp://192.0.2.1:x", Err(BadServer::Port)),
            ("udp://[2001:db8::1]515", Err(BadServer::Port)),
            ("udp://2001:db8::1", Err(BadServer::Port)),
            ("udp://", Err(BadServer::Host)),
            ("tcp://[loghost]", Err(BadServer::Host)),
            ("tcp://log host", Err(BadServer::Host)),
            ("unix:dev/log", Err(BadServer::Path)),
            ("loghost", Err(BadServer::Kind)),
            ("tls://loghost", Err(BadServer::Kind)),
        ] {
            assert_eq!(text.parse::<Server>(), expected, "{text}");
            if let Ok(server) = expected {
                assert_eq!(server.to_string().parse(), Ok(server));
            }
        }
    }
}
