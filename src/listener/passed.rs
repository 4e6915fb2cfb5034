//! Sockets that the service manager listens on for us (socket activation): whoever connects while no daemon runs waits
//! for the next one, and is not refused.
//!
//! Promises: each socket is matched with the `listen` of the same address, by what the kernel says of it and not by its
//! name or place; one that matches none is told, for an MTA would wait on it for ever. A passed socket's file is never
//! removed, moved or given to anybody: it is the manager's.

use super::{Address, ListenSocket, Listener};
use listenfd::ListenFd;
use socket2::SockRef;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, UnixListener};

/// What is wrong with what was passed.
#[derive(Debug, thiserror::Error)]
pub enum PassedError {
    /// A datagram socket, a pipe, a connection.
    #[error(
        "what systemd passes as descriptor {0} is no stream socket that listens: the .socket unit may have \
         ListenStream= only, and Accept=no"
    )]
    NotAListener(usize),
    /// Nobody would accept on it.
    #[error(
        "systemd passes the socket {address}, and no `listen` of the daemon's file names it: write \"{address}\" \
         into `listen` of [milter] or [outbound], or take ListenStream={stream} out of the .socket unit"
    )]
    Unclaimed {
        /// In sendmail's notation.
        address: String,
        /// In systemd's.
        stream: String,
    },
    /// The system's answer.
    #[error("cannot take over the socket that systemd passes as {0}")]
    Io(String, #[source] io::Error),
}

/// Sockets that were passed and are not claimed yet.
#[derive(Debug, Default)]
pub struct Passed(Vec<Socket>);

#[derive(Debug)]
enum Socket {
    Unix(StdUnixListener, PathBuf),
    Tcp(StdTcpListener, SocketAddr),
    /// With a name that no `listen` can have: abstract, or none.
    Nameless(String),
}

impl Passed {
    /// Takes what the surroundings (`LISTEN_FDS`) pass. To be called once, before there are threads.
    pub fn take() -> Result<Self, PassedError> {
        /// Descriptors are passed from here on (`sd_listen_fds(3)`).
        const FIRST: usize = 3;
        let mut passed = ListenFd::from_env();
        let sockets = (0..passed.len()).map(|index| {
            let not_a_listener = || PassedError::NotAListener(FIRST + index);
            // Which of the two it is, only trying tells.
            if let Ok(Some(socket)) = passed.take_unix_listener(index) {
                is_listening(&SockRef::from(&socket)).then_some(()).ok_or_else(not_a_listener)?;
                let name = socket.local_addr().map_err(|error| io_error("unix", error))?;
                return Ok(match name.as_pathname() {
                    Some(path) => Socket::Unix(socket, path.to_path_buf()),
                    None => Socket::Nameless(format!("{name:?}")),
                });
            }
            match passed.take_tcp_listener(index) {
                Ok(Some(socket)) if is_listening(&SockRef::from(&socket)) => {
                    let name = socket.local_addr().map_err(|error| io_error("inet", error))?;
                    Ok(Socket::Tcp(socket, name))
                }
                _ => Err(not_a_listener()),
            }
        });
        sockets.collect::<Result<_, _>>().map(Self)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The socket of this address, if one was passed. Needs a tokio runtime.
    pub fn claim(&mut self, address: &Address) -> Result<Option<Listener>, PassedError> {
        let Some(at) = self.0.iter().position(|socket| socket.is_of(address)) else { return Ok(None) };
        let socket = self.0.swap_remove(at);
        let name = socket.to_string();
        let socket = socket.into_listening().map_err(|error| io_error(&name, error))?;
        Ok(socket.map(|socket| Listener { address: address.clone(), socket, passed: true, file: None }))
    }

    /// An error where sockets are left that nobody has claimed.
    pub fn all_claimed(&self) -> Result<(), PassedError> {
        match self.0.first() {
            None => Ok(()),
            Some(socket) => {
                Err(PassedError::Unclaimed { address: socket.to_string(), stream: socket.stream() })
            }
        }
    }
}

impl Socket {
    fn is_of(&self, address: &Address) -> bool {
        match (self, address) {
            (Self::Unix(_, path), Address::Unix(ours)) => path == ours || same_file(path, ours),
            (Self::Tcp(_, name), Address::Tcp { v6, port, host }) => {
                // A host that cannot be looked up is told when it is bound.
                let ours = (host.as_str(), *port).to_socket_addrs();
                name.is_ipv6() == *v6 && ours.is_ok_and(|mut ours| ours.any(|ours| ours == *name))
            }
            _ => false,
        }
    }

    fn into_listening(self) -> io::Result<Option<ListenSocket>> {
        match self {
            Self::Unix(socket, _) => {
                socket.set_nonblocking(true)?;
                UnixListener::from_std(socket).map(|socket| Some(ListenSocket::Unix(socket)))
            }
            Self::Tcp(socket, _) => {
                socket.set_nonblocking(true)?;
                TcpListener::from_std(socket).map(|socket| Some(ListenSocket::Tcp(socket)))
            }
            Self::Nameless(_) => Ok(None),
        }
    }

    /// As a .socket unit names it.
    fn stream(&self) -> String {
        match self {
            Self::Unix(_, path) => path.display().to_string(),
            Self::Tcp(_, name) => name.to_string(),
            Self::Nameless(name) => name.clone(),
        }
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(_, path) => Address::Unix(path.clone()).fmt(f),
            Self::Tcp(_, name) => {
                Address::Tcp { v6: name.is_ipv6(), port: name.port(), host: name.ip().to_string() }.fmt(f)
            }
            Self::Nameless(name) => f.write_str(name),
        }
    }
}

impl Listener {
    /// Whether the service manager listens on it, too.
    pub fn is_passed(&self) -> bool {
        self.passed
    }

    /// Whether somebody who looks for its file finds a socket there. Only a passed one can have lost it: its folder may
    /// have been removed with the daemon before.
    pub fn has_file(&self) -> bool {
        match &self.address {
            Address::Tcp { .. } => true,
            Address::Unix(path) => {
                std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
            }
        }
    }
}

fn is_listening(socket: &SockRef<'_>) -> bool {
    socket.is_listener().unwrap_or(false)
}

/// `/var/run` is `/run`.
fn same_file(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| std::fs::canonicalize(path).ok();
    whole(one).is_some_and(|one| Some(one) == whole(other))
}

fn io_error(name: &str, error: io::Error) -> PassedError {
    PassedError::Io(name.to_owned(), error)
}
