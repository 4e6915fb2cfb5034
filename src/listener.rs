//! Listening sockets: sendmail's notation, sockets that the MTA may use and nobody else, accepting that
//! survives what can be survived, a limit that is seen, and a drain.
//!
//! Promises: a live socket file is never taken from its owner, a stale one never stands in the way, and
//! what is no socket is never removed. A failed `accept` ends nothing. A TCP connection acknowledges what it
//! reads at once: sendmail writes a command in two pieces without TCP_NODELAY, and would wait 43 ms for a
//! delayed ACK at each.

mod address;
pub mod conversation;
mod passed;
mod stream;
pub mod tally;
mod threads;

pub use address::{Address, AddressError};
pub use passed::{Passed, PassedError};
pub use stream::Stream;
pub use threads::{End, Threads};

use nix::unistd::{Gid, Group, Uid, User};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tally::{Tally, View};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, watch};

/// As many may wait to be accepted as a restart of a busy MTA brings at once.
const BACKLOG: i32 = 4096;
/// Whose a unix socket is, and who may connect to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// A user's name; the daemon's own where absent.
    pub user: Option<String>,
    /// A group's name; the daemon's own where absent.
    pub group: Option<String>,
    /// Permission bits.
    pub mode: u32,
    /// Whether the socket's file stays when we go. Who connects to it then is refused; who finds no file may
    /// take that for a fault of its own.
    pub stays: bool,
}

impl Default for Ownership {
    /// The daemon's user and group may connect, and nobody else.
    fn default() -> Self {
        Self { user: None, group: None, mode: 0o660, stays: false }
    }
}

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there.
    #[error("another process answers on it: is encr-milter running already?")]
    Taken,
    /// The path is a file, a folder, …
    #[error("{0} exists and is no socket; it is left alone: move it away")]
    NotASocket(PathBuf),
    /// `socket-user`, `socket-group`
    #[error("there is no {0} named `{1}` on this machine")]
    NoSuchName(&'static str, String),
    /// The name of an `inet` address.
    #[error("`{0}` has no {1} address")]
    NoAddress(String, &'static str),
    /// `socket-user`, `socket-group`
    #[error(
        "giving the socket to socket-user or socket-group: {0}; the daemon must be a member of that group \
         (SupplementaryGroups= in its unit), and only root may give it to another user"
    )]
    Give(io::Error),
    /// The system's answer.
    #[error("{0}")]
    Io(&'static str, #[source] io::Error),
}

/// A socket that listens. Its file goes when this is dropped, unless another process has taken its place.
#[derive(Debug)]
pub struct Listener {
    address: Address,
    socket: ListenSocket,
    /// Whether the service manager made it.
    passed: bool,
    file: Option<SocketFile>,
}

#[derive(Debug)]
enum ListenSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Binds and listens. Needs a tokio runtime.
    pub fn bind(address: &Address, ownership: &Ownership) -> Result<Self, BindError> {
        let (socket, file) = match address {
            Address::Tcp { v6, port, host } => (ListenSocket::Tcp(bind_tcp(*v6, *port, host)?), None),
            Address::Unix(path) => {
                let (socket, file) = bind_unix(path, ownership)?;
                (ListenSocket::Unix(socket), Some(file))
            }
        };
        Ok(Self { address: address.clone(), socket, passed: false, file })
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The file of a unix socket of ours.
    pub fn place(&self) -> Option<Place> {
        self.file.as_ref().map(|file| file.place.clone())
    }

    async fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            ListenSocket::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Ours answer at once, too. Neither can fail on a socket that was just accepted, but for
                // one that its peer has reset; reading will tell.
                let _ = stream.set_nodelay(true);
                let _ = SockRef::from(&stream).set_tcp_quickack(true);
                Ok(Stream::Tcp(stream))
            }
            ListenSocket::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

fn bind_tcp(v6: bool, port: u16, host: &str) -> Result<TcpListener, BindError> {
    let addresses =
        (host, port).to_socket_addrs().map_err(|error| BindError::Io("looking up the host", error))?;
    let address = addresses.into_iter().find(|address| address.is_ipv6() == v6);
    let family = if v6 { "IPv6" } else { "IPv4" };
    let address: SocketAddr = address.ok_or_else(|| BindError::NoAddress(host.to_owned(), family))?;
    let listen = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
        if v6 {
            socket.set_only_v6(true)?;
        }
        // A restart must not wait for the old connections' TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    listen().map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => BindError::Taken,
        _ => BindError::Io("listening", error),
    })
}

fn bind_unix(path: &Path, ownership: &Ownership) -> Result<(UnixListener, SocketFile), BindError> {
    let io = |what| move |error| BindError::Io(what, error);
    let uid = ownership.user.as_deref().map(user_id).transpose()?;
    let gid = ownership.group.as_deref().map(group_id).transpose()?;
    // To the end: of two that find the same stale file the second would put its socket over that of the first.
    let _alone = alone(path);
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(BindError::Io("looking at the socket's path", error)),
        Ok(meta) if !meta.file_type().is_socket() => return Err(BindError::NotASocket(path.to_path_buf())),
        Ok(_) => ensure_stale(path)?,
    }
    // Made beside its place and moved there: there is no moment at which the socket has the wrong mode, or
    // at which a stale file is gone and the new one not there yet.
    let beside = path.with_file_name(format!(".{}", std::process::id()));
    let _ = std::fs::remove_file(&beside);
    let socket =
        Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).map_err(io("making a socket"))?;
    let address = SockAddr::unix(&beside).map_err(io("naming the socket"))?;
    socket.bind(&address).map_err(io("binding (its folder must be the daemon's user's to write to)"))?;
    if uid.is_some() || gid.is_some() {
        std::os::unix::fs::chown(&beside, uid.map(Uid::as_raw), gid.map(Gid::as_raw)).map_err(|error| {
            let _ = std::fs::remove_file(&beside);
            BindError::Give(error)
        })?;
    }
    let place = || -> io::Result<SocketFile> {
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(ownership.mode))?;
        socket.listen(BACKLOG)?;
        let meta = std::fs::symlink_metadata(&beside)?;
        std::fs::rename(&beside, path)?;
        let place = Place { path: path.to_path_buf(), device: meta.dev(), inode: meta.ino() };
        Ok(SocketFile { place, stays: ownership.stays })
    };
    let file = place().map_err(|error| {
        let _ = std::fs::remove_file(&beside);
        BindError::Io("putting the socket in its place", error)
    })?;
    let listener = UnixListener::from_std(socket.into()).map_err(io("listening"))?;
    Ok((listener, file))
}

/// Keeps others of us from a socket's folder, as long as it is held. A folder that cannot be locked, or is locked for
/// long by somebody else, is no reason not to start.
fn alone(path: &Path) -> Option<std::fs::File> {
    const TRIES: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(20);
    let folder = std::fs::File::open(path.parent()?).ok()?;
    for _ in 0..TRIES {
        match folder.try_lock() {
            Ok(()) => return Some(folder),
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(std::fs::TryLockError::Error(_)) => return None,
        }
    }
    None
}

/// A socket file is stale if nobody listens on it. Asked without waiting: a listener whose queue is full is
/// alive.
fn ensure_stale(path: &Path) -> Result<(), BindError> {
    let probe = || -> io::Result<()> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    match probe() {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        // Gone since we looked.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(()) => Err(BindError::Taken),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(BindError::Taken),
        Err(error) => Err(BindError::Io("asking whether the socket is alive", error)),
    }
}

impl Ownership {
    /// Whether the names exist on this machine.
    pub fn check(&self) -> Result<(), BindError> {
        self.user.as_deref().map(user_id).transpose()?;
        self.group.as_deref().map(group_id).transpose()?;
        Ok(())
    }
}

fn user_id(name: &str) -> Result<Uid, BindError> {
    let found = User::from_name(name).map_err(|error| BindError::Io("looking up the user", error.into()))?;
    found.map(|user| user.uid).ok_or_else(|| BindError::NoSuchName("user", name.to_owned()))
}

fn group_id(name: &str) -> Result<Gid, BindError> {
    let found =
        Group::from_name(name).map_err(|error| BindError::Io("looking up the group", error.into()))?;
    found.map(|group| group.gid).ok_or_else(|| BindError::NoSuchName("group", name.to_owned()))
}

/// Where the file of a socket of ours lies, and which one it is.
#[derive(Clone, Debug)]
pub struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Place {
    /// Whether it is still there, and still ours.
    pub fn is_ours(&self) -> bool {
        std::fs::symlink_metadata(&self.path)
            .is_ok_and(|meta| meta.dev() == self.device && meta.ino() == self.inode)
    }
}

/// The file of our socket, removed at the end if it is still ours and is not to stay.
#[derive(Debug)]
struct SocketFile {
    place: Place,
    stays: bool,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.stays && self.place.is_ours() {
            // At the end of the process there is nobody to tell.
            let _ = std::fs::remove_file(&self.place.path);
        }
    }
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError<P: std::error::Error> {
    /// The socket failed, or was cut within something.
    #[error("the connection was cut: {0}")]
    Io(#[from] io::Error),
    /// Nothing for so long.
    #[error("nothing was heard for {} seconds", .0.as_secs())]
    Idle(Duration),
    /// What was said is not of the protocol.
    #[error("{0}")]
    Protocol(P),
}

/// What all listeners of a service share.
#[derive(Clone, Debug)]
pub struct Shared {
    limit: Arc<Semaphore>,
    max_connections: usize,
    /// The setting that says how many.
    setting: &'static str,
    /// Whether those beyond are closed at once. Else they wait for their turn.
    turns_away: bool,
    /// What became of connections so far.
    tally: Arc<Tally>,
    closing: watch::Receiver<bool>,
    drain: watch::Receiver<bool>,
    /// Held by every connection; nobody sends. When all are gone, all connections have ended.
    alive: mpsc::Sender<()>,
    /// The threads that answer; where there are none, whichever accepts.
    threads: Option<Threads>,
}

/// The other end of [`Shared`]: begins the drain, and waits for its end.
#[derive(Debug)]
pub struct Drain {
    close: watch::Sender<bool>,
    begin: watch::Sender<bool>,
    ended: mpsc::Receiver<()>,
}

/// Makes the two ends. `setting` is what the daemon's file calls the limit.
pub fn shared(max_connections: usize, setting: &'static str) -> (Shared, Drain) {
    let (close, closing) = watch::channel(false);
    let (begin, drain) = watch::channel(false);
    let (alive, ended) = mpsc::channel(1);
    let limit = limit_of(max_connections);
    let tally = Arc::default();
    (
        Shared {
            limit,
            max_connections,
            setting,
            turns_away: false,
            tally,
            closing,
            drain,
            alive,
            threads: None,
        },
        Drain { close, begin, ended },
    )
}

fn limit_of(max_connections: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)))
}

impl Shared {
    /// For other listeners of the same service: with a limit of their own, and the same drain. Connections
    /// beyond the limit are closed at once, for who would wait without a time-out.
    pub fn beside(&self, max_connections: usize, setting: &'static str) -> Self {
        let (limit, tally) = (limit_of(max_connections), Arc::default());
        Self { limit, max_connections, setting, turns_away: true, tally, ..self.clone() }
    }

    /// The same, but that connections beyond the limit are closed at once.
    #[must_use]
    pub fn turning_away(self) -> Self {
        Self { turns_away: true, ..self }
    }

    /// The same, but that connections are spread over these threads. The listeners must be of the one that accepts.
    #[must_use]
    pub fn over(self, threads: &Threads) -> Self {
        Self { threads: Some(threads.clone()), ..self }
    }

    /// What can be seen of them, by somebody who holds nothing up.
    pub fn view(&self) -> View {
        View::new(Arc::clone(&self.tally), self.max_connections, self.closing.clone())
    }

    /// Becomes true when nothing more is accepted.
    pub fn closing(&self) -> watch::Receiver<bool> {
        self.closing.clone()
    }

    /// What became of connections so far.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }
}

impl Drain {
    /// Tells every listener to accept no more. Connections go on.
    pub fn close(&self) {
        // As below.
        let _ = self.close.send(true);
    }

    /// Tells every listener to accept no more, and every connection to end when it can.
    pub fn begin(&self) {
        self.close();
        // With nobody left to tell there is nothing to drain.
        let _ = self.begin.send(true);
    }

    /// Waits until every listener and every connection has ended.
    pub async fn ended(&mut self) {
        // `None` when the last sender is gone; nobody ever sends.
        let _ = self.ended.recv().await;
    }
}

/// Resolves when the drain has begun (or the service is gone).
pub async fn draining(drain: &mut watch::Receiver<bool>) {
    let _ = drain.wait_for(|begun| *begun).await;
}

/// Accepts connections until the drain begins; each is served by a task of its own. Whatever `accept`
/// answers, the next one is tried: at once where a single connection was at fault, after a pause where the
/// machine has run out of something.
pub async fn serve<F, S>(listener: Listener, mut shared: Shared, serve_one: S)
where
    S: Fn(Stream, watch::Receiver<bool>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    const FIRST_PAUSE: Duration = Duration::from_millis(20);
    const LONGEST_PAUSE: Duration = Duration::from_secs(1);

    let address = listener.address().to_string();
    let mut pause = FIRST_PAUSE;
    let mut at_limit = false;
    let mut accepting = shared.tally.accepting();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = draining(&mut shared.closing) => return,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) if is_of_one_connection(&error) => {
                tracing::debug!(listener = %address, %error, "a connection was gone before it was accepted");
                continue;
            }
            Err(error) => {
                tracing::error!(
                    listener = %address, %error, pause_ms = pause.as_millis(),
                    "cannot accept connections; trying again"
                );
                accepting.failed();
                tokio::time::sleep(pause).await;
                accepting.tries_again();
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        };
        pause = FIRST_PAUSE;
        accepting.accepted();
        let permit = match Arc::clone(&shared.limit).try_acquire_owned() {
            Ok(permit) => {
                // Said once it is well below the limit, not at each connection that comes and goes there.
                if at_limit && shared.limit.available_permits() >= shared.max_connections / 10 {
                    at_limit = false;
                    tracing::info!(listener = %address, "connections are free again");
                }
                permit
            }
            Err(_) => {
                if !at_limit {
                    at_limit = true;
                    tracing::warn!(
                        listener = %address, limit = shared.max_connections,
                        "all connections are in use ({}): further ones {}", shared.setting,
                        if shared.turns_away { "are turned away" } else { "wait for their turn" }
                    );
                }
                if shared.turns_away {
                    shared.tally.turned_away();
                    continue;
                }
                shared.tally.waits();
                let acquired = tokio::select! {
                    permit = Arc::clone(&shared.limit).acquire_owned() => permit,
                    () = draining(&mut shared.closing) => return,
                };
                let Ok(permit) = acquired else { return };
                permit
            }
        };
        let place = shared.threads.as_ref().and_then(Threads::place);
        let elsewhere =
            place.as_ref().filter(|place| !place.is_here()).and_then(threads::Place::runtime).cloned();
        let stream = match &elsewhere {
            Some(runtime) => match stream.moved_to(runtime) {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!(listener = %address, %error, "a connection was gone before it was served");
                    continue;
                }
            },
            None => stream,
        };
        let connection = serve_one(stream, shared.drain.clone());
        let (alive, live) = (shared.alive.clone(), shared.tally.begins());
        let connection = async move {
            connection.await;
            drop(live);
            drop(permit);
            drop(place);
            drop(alive);
        };
        match elsewhere {
            Some(runtime) => runtime.spawn(connection),
            None => tokio::spawn(connection),
        };
    }
}

/// Errors of `accept(2)` that concern the one connection that was to be accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, PermissionDenied};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | PermissionDenied)
}

#[cfg(test)]
mod tests;
