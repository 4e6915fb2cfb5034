//! A service manager of our own: hears what the daemon tells (`sd_notify(3)`), and passes it sockets (`sd_listen_fds(3)`).
//!
//! Promises: speaks systemd's protocol with plain datagrams and descriptors, and shares no code with the daemon.

use super::DEADLINE;
use super::daemon::{Daemon, Home};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

/// Hears one daemon.
pub(crate) struct Manager {
    socket: UnixDatagram,
    variable: String,
}

impl Manager {
    /// Its socket lies in a home.
    pub(crate) fn new(home: &Home) -> Self {
        let path = home.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { socket, variable: format!("NOTIFY_SOCKET={}", path.display()) }
    }

    /// Starts the daemon, which tells this manager how it goes. `more` is set in its environment, too.
    pub(crate) fn spawn<'h>(&self, home: &'h Home, more: &[&str]) -> Daemon<'h> {
        let wrapper: Vec<&str> = ["env", &self.variable].into_iter().chain(more.iter().copied()).collect();
        home.spawn(&wrapper)
    }

    /// What comes next: one datagram's lines.
    pub(crate) fn next(&self) -> Vec<String> {
        self.within(DEADLINE).expect("the daemon tells nothing more")
    }

    /// The same; nothing where nothing comes in that time.
    pub(crate) fn within(&self, time: Duration) -> Option<Vec<String>> {
        let mut buffer = [0; 4096];
        self.socket.set_read_timeout(Some(time)).unwrap();
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap().lines().map(str::to_owned).collect())
    }

    /// Waits until a line with this beginning comes; gives the rest of that line, and all lines that came before it.
    pub(crate) fn until(&self, beginning: &str) -> (String, Vec<String>) {
        let mut before = Vec::new();
        loop {
            let lines = self.next();
            let found = lines.iter().find_map(|line| line.strip_prefix(beginning));
            if let Some(rest) = found {
                return (rest.to_owned(), before);
            }
            before.extend(lines);
        }
    }
}

/// Starts the daemon with descriptors, the first as 3, as systemd passes them. At most two: they come by way of a shell's
/// standard input and output.
pub(crate) fn spawn_passing(home: &Home, sockets: Vec<OwnedFd>) -> Daemon<'_> {
    let count = sockets.len().to_string();
    spawn_announcing(home, sockets, "$$", &count)
}

/// The same, announced for a process (`$$` is the daemon's own) and by a count that may be wrong.
pub(crate) fn spawn_announcing<'h>(
    home: &'h Home,
    sockets: Vec<OwnedFd>,
    pid: &str,
    count: &str,
) -> Daemon<'h> {
    let mut sockets = sockets.into_iter().map(Stdio::from);
    let [stdin, stdout] = [(); 2].map(|()| sockets.next().unwrap_or_else(Stdio::null));
    assert!(sockets.next().is_none());
    let script = format!(
        "exec 3<&0 4>&1 5>&- 0</dev/null 1>/dev/null; LISTEN_PID={pid} LISTEN_FDS={count} LISTEN_FDNAMES=x exec \"$@\""
    );
    home.spawn_with(&["sh", "-c", &script, "sh"], stdin, stdout)
}
