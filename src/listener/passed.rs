//! Sockets that the service manager listens on for us (socket activation): whoever connects while no daemon runs waits
//! for the next one, and is not refused.
//!
//! Promises: each socket is matched with the `listen` of the same address, by what the kernel says of it and not by its
//! name or place; one that matches none is told, for an MTA would wait on it for ever. A passed socket's file is never
//! removed, moved or given to anybody: it is the manager's. What is passed to another process, or announced by words that
//! make no sense, is left alone, and told.

use super::{Address, ListenSocket, Listener};
use listenfd::ListenFd;
use socket2::SockRef;
use std::ffi::OsString;
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
    /// More are announced than are there.
    #[error(
        "LISTEN_FDS announces {count} sockets, and descriptor {descriptor} is not open: whatever starts the daemon must pass \
         as many as it says, from descriptor {FIRST} on"
    )]
    NotOpen {
        /// Which one is not there.
        descriptor: usize,
        /// How many are announced.
        count: usize,
    },
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

/// Descriptors are passed from here on (`sd_listen_fds(3)`).
const FIRST: usize = 3;
/// Nobody passes as many; what is beyond is no number that was meant.
const MOST: usize = 1000;

/// Sockets that were passed and are not claimed yet.
#[derive(Debug, Default)]
pub struct Passed {
    sockets: Vec<Socket>,
    /// Why what was announced was not taken.
    left: Option<String>,
}

#[derive(Debug)]
enum Socket {
    Unix(StdUnixListener, PathBuf),
    Tcp(StdTcpListener, SocketAddr),
    /// With a name that no `listen` can have: abstract, or none.
    Nameless(String),
}

/// What the surroundings say of sockets that they pass.
#[derive(Debug, Default)]
struct Announced {
    /// `LISTEN_PID`: whom they are for.
    pid: Option<String>,
    /// `LISTEN_FDS`: how many there are.
    count: Option<String>,
    /// `LISTEN_FDS_FIRST_FD`, which `sd_listen_fds(3)` does not know, and the library would heed.
    first: Option<String>,
}

impl Announced {
    fn here() -> Self {
        let text = |value: OsString| value.to_string_lossy().into_owned();
        // An empty value is how a shell takes one away.
        let read = |name| std::env::var_os(name).map(text).filter(|value| !value.is_empty());
        Self { pid: read("LISTEN_PID"), count: read("LISTEN_FDS"), first: read("LISTEN_FDS_FIRST_FD") }
    }

    /// How many are for the process `ours`, as `sd_listen_fds(3)` has it; or why what is there is left alone.
    fn count(&self, ours: u32) -> Result<usize, String> {
        let (pid, count) = match (&self.pid, &self.count) {
            (_, None) => return Ok(0),
            (None, Some(_)) => {
                return Err("LISTEN_FDS is set, and LISTEN_PID does not say for which process".to_owned());
            }
            (Some(pid), Some(count)) => (pid, count),
        };
        match pid.parse::<u32>() {
            Ok(pid) if pid == ours => {}
            Ok(pid) if pid > 0 => {
                return Err(format!(
                    "they are for process {pid} (LISTEN_PID), and this is {ours}: a script that starts the daemon must `exec` it"
                ));
            }
            _ => return Err(format!("LISTEN_PID is {pid:?}, which is no process")),
        }
        if let Some(first) = &self.first {
            return Err(format!(
                "LISTEN_FDS_FIRST_FD is {first:?}: passed sockets begin at descriptor {FIRST}"
            ));
        }
        let count = count.parse().ok().filter(|known| (1..=MOST).contains(known));
        count.ok_or_else(|| {
            format!(
                "LISTEN_FDS is {:?}, which is no number of sockets",
                self.count.as_deref().unwrap_or_default()
            )
        })
    }
}

impl Passed {
    /// Takes what the surroundings (`LISTEN_FDS`) pass. To be called once, before there are threads.
    pub fn take() -> Result<Self, PassedError> {
        match Announced::here().count(std::process::id()) {
            Ok(0) => Ok(Self::default()),
            Ok(count) => Self::of(count),
            Err(left) => Ok(Self { sockets: Vec::new(), left: Some(left) }),
        }
    }

    /// Why what is there to be taken was not.
    pub fn left(&self) -> Option<&str> {
        self.left.as_deref()
    }

    fn of(count: usize) -> Result<Self, PassedError> {
        let mut passed = ListenFd::from_env();
        let sockets = (0..count).map(|index| {
            let descriptor = FIRST + index;
            let not_a_listener = || PassedError::NotAListener(descriptor);
            if !is_open(descriptor) {
                return Err(PassedError::NotOpen { descriptor, count });
            }
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
        sockets.collect::<Result<_, _>>().map(|sockets| Self { sockets, left: None })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// The socket of this address, if one was passed. Needs a tokio runtime.
    pub fn claim(&mut self, address: &Address) -> Result<Option<Listener>, PassedError> {
        let Some(at) = self.sockets.iter().position(|socket| socket.is_of(address)) else { return Ok(None) };
        let socket = self.sockets.swap_remove(at);
        let name = socket.to_string();
        let socket = socket.into_listening().map_err(|error| io_error(&name, error))?;
        Ok(socket.map(|socket| Listener { address: address.clone(), socket, passed: true, file: None }))
    }

    /// An error where sockets are left that nobody has claimed.
    pub fn all_claimed(&self) -> Result<(), PassedError> {
        match self.sockets.first() {
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

/// Where that cannot be seen, trying tells.
fn is_open(descriptor: usize) -> bool {
    let all = Path::new("/proc/self/fd");
    !all.is_dir() || all.join(descriptor.to_string()).symlink_metadata().is_ok()
}

/// `/var/run` is `/run`.
fn same_file(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| std::fs::canonicalize(path).ok();
    whole(one).is_some_and(|one| Some(one) == whole(other))
}

fn io_error(name: &str, error: io::Error) -> PassedError {
    PassedError::Io(name.to_owned(), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_is_ours_by_the_process_and_a_number_only() {
        let told = |pid: Option<&str>, count: Option<&str>, first: Option<&str>| {
            let [pid, count, first] = [pid, count, first].map(|value| value.map(str::to_owned));
            Announced { pid, count, first }.count(77)
        };
        assert_eq!(told(None, None, None), Ok(0));
        // Of another process, and nothing of its sockets: a word left over.
        assert_eq!(told(Some("1"), None, Some("9")), Ok(0));
        assert_eq!(told(Some("77"), Some("2"), None), Ok(2));
        assert_eq!(told(Some("77"), Some("1000"), None), Ok(1000));
        for (pid, count, first, why) in [
            (None, "1", None, "LISTEN_PID does not say"),
            (Some("76"), "1", None, "they are for process 76 (LISTEN_PID), and this is 77"),
            (Some("0"), "1", None, "LISTEN_PID is \"0\", which is no process"),
            (Some("-77"), "1", None, "LISTEN_PID is \"-77\""),
            (Some("77 "), "1", None, "LISTEN_PID is \"77 \""),
            (Some("self"), "1", None, "LISTEN_PID is \"self\""),
            (Some("77"), "0", None, "LISTEN_FDS is \"0\", which is no number of sockets"),
            (Some("77"), "-1", None, "LISTEN_FDS is \"-1\""),
            (Some("77"), "two", None, "LISTEN_FDS is \"two\""),
            (Some("77"), "1001", None, "LISTEN_FDS is \"1001\""),
            (Some("77"), "99999999999999999999", None, "LISTEN_FDS is \"99999999999999999999\""),
            (Some("77"), "1", Some("0"), "LISTEN_FDS_FIRST_FD is \"0\""),
        ] {
            let left = told(pid, Some(count), first).unwrap_err();
            assert!(left.contains(why), "{left}");
        }
    }
}
