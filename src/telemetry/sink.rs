//! A place that entries go to, written by a thread of its own: standard error, a file, the journal, syslog.
//!
//! Promises: [`Sink::take`] never waits. An entry that finds the queue full, or that a disk does not take, is lost and
//! counted, and the writer itself says so where it can write again; a full disk or a missing folder is tried again
//! with every batch. A receiver (the journal, syslog) that is away or does not read is tried again until it takes
//! what the writer holds; what comes meanwhile waits in the queue. Every entry that was taken is brought away before
//! [`Writer::close`] returns, or counted among those that it gave up.

mod journal;
mod lines;
mod place;
pub mod syslog;

use super::entry::{Entry, Format};
use place::Output;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// Entries that may wait: two seconds of all that one thread can answer, while a disk writes what it was given.
const QUEUE: u64 = 128 * 1024;
/// And their bytes: whoever can make records long must not make the daemon grow.
const QUEUED_BYTES: usize = 64 * 1024 * 1024;
/// Bytes that are written at once.
const BATCH: usize = 128 * 1024;
/// How long the writer lets decisions gather once one has come to an empty queue: whoever answers wakes it once in that
/// time, and not with each. That is twenty times a second at most, and what a kill may lose of the log. An event, which is
/// rare, ends it.
const GATHER: Duration = Duration::from_millis(50);
/// How long `close` waits for a disk that does not answer.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Where systemd's journal takes entries.
pub const JOURNAL: &str = "/run/systemd/journal/socket";

/// Where entries go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nowhere: there is no such log.
    Nowhere,
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
    /// The journal that reads this socket.
    Journal {
        /// The socket.
        socket: PathBuf,
        /// As what it passes entries on to syslog.
        facility: syslog::Facility,
    },
    /// A syslog daemon.
    Syslog(syslog::Settings),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => f.write_str("none"),
            Self::Stderr => f.write_str("stderr"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Journal { .. } => f.write_str("journald"),
            Self::Syslog(settings) => write!(f, "syslog {}", settings.server),
        }
    }
}

enum Message {
    Entry(Entry),
    /// Nothing to write; but the writer looks whether something is to be said.
    Look,
    Reopen,
    Change(Change),
    Close(SyncSender<()>),
}

/// Where entries are to go from then on, and how they are to look.
#[derive(Clone, Debug)]
struct Change {
    /// The how-manieth it is.
    number: u64,
    target: Target,
    format: Format,
}

/// What the two ends of a queue share.
#[derive(Debug, Default)]
struct State {
    queue_full: AtomicU64,
    not_written: AtomicU64,
    /// Entries that were taken, and are neither written nor lost yet.
    waiting: AtomicU64,
    /// How many bytes are in the queue.
    queued: AtomicUsize,
    /// The place could not be opened anew: entries go to the old one, or nowhere.
    stale: AtomicBool,
    /// A reopening for which the queue had no room: done with the next batch.
    reopen: AtomicBool,
    /// The last change, for a writer that does not get on in its queue.
    change: Mutex<Option<Change>>,
    /// The queue had no room for it: done with the next batch.
    change_now: AtomicBool,
    /// Something came that is not to wait for decisions to gather.
    urgent: AtomicBool,
    /// The thread that writes, once it runs.
    writer: OnceLock<Thread>,
    /// Told to end: a receiver that does not take entries is not waited for much longer.
    closing: AtomicBool,
}

impl State {
    /// Has the writer go on at once, if it lets decisions gather.
    fn hurry(&self) {
        self.urgent.store(true, Ordering::Relaxed);
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// Lets decisions gather for so long, or until somebody is in a hurry.
    fn gather(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.urgent.swap(false, Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::park_timeout(left);
        }
    }

    fn last_change(&self) -> MutexGuard<'_, Option<Change>> {
        // Whoever panicked within did not leave it half-done.
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Words for entries that were lost, if some were and it is time to say so; at the end (`true`) it is. Asked by
/// the writer before it writes, so that the words cannot get lost in the queue that lost the entries.
pub type LossNote = Box<dyn FnMut(bool) -> Vec<Entry> + Send>;

/// The way to a place. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sink {
    /// Without a bound of its own, so that it takes no memory for what seldom waits: [`State`] knows how full it is.
    queue: Sender<Message>,
    state: Arc<State>,
}

/// The thread that writes.
#[derive(Debug)]
pub struct Writer {
    sink: Sink,
    thread: JoinHandle<()>,
}

impl Sink {
    /// Starts a writer, and tries to open its file; what came of that is told. `loss_note` makes the note
    /// of this place's (or another's) losses.
    pub fn start(
        target: Target,
        format: Format,
        name: &str,
        loss_note: impl FnOnce(&Self) -> Option<LossNote>,
    ) -> io::Result<(Writer, io::Result<()>)> {
        let (queue, messages) = channel();
        let state = Arc::new(State::default());
        let sink = Self { queue, state: Arc::clone(&state) };
        let (mut output, opened) = Output::new(target, format, loss_note(&sink));
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || write_entries(&messages, &mut output, &state, GATHER))?;
        // It is the first.
        let _ = sink.state.writer.set(thread.thread().clone());
        Ok((Writer { sink, thread }, opened))
    }

    /// Takes an entry. Never waits.
    pub fn take(&self, entry: Entry) {
        let size = entry.size();
        let is_event = matches!(entry, Entry::Event(_));
        let queued = self.state.queued.fetch_add(size, Ordering::Relaxed);
        let waiting = self.state.waiting.fetch_add(1, Ordering::Relaxed);
        if queued > QUEUED_BYTES || waiting >= QUEUE || self.queue.send(Message::Entry(entry)).is_err() {
            self.state.queued.fetch_sub(size, Ordering::Relaxed);
            self.state.waiting.fetch_sub(1, Ordering::Relaxed);
            self.state.queue_full.fetch_add(1, Ordering::Relaxed);
        } else if is_event {
            self.state.hurry();
        }
    }

    /// Tells the writer something behind what waits. False: that is too much already.
    fn tell(&self, message: Message) -> bool {
        let told = self.state.waiting.load(Ordering::Relaxed) < QUEUE && self.queue.send(message).is_ok();
        self.state.hurry();
        told
    }

    /// Has the writer look whether something was lost, where nobody says anything.
    pub fn look(&self) {
        // Where the queue is full it will look anyway.
        self.tell(Message::Look);
    }

    /// Opens the place anew, after all entries that were taken before: a file has been moved away.
    pub fn reopen(&self) {
        if !self.tell(Message::Reopen) {
            self.state.reopen.store(true, Ordering::Relaxed);
        }
    }

    /// From here on entries go there, and look so. Where a new file cannot be opened they go on to the old place
    /// until it can.
    pub fn change(&self, target: Target, format: Format) {
        let mut last = self.state.last_change();
        let number = last.as_ref().map_or(1, |last| last.number + 1);
        let change = last.insert(Change { number, target, format });
        if !self.tell(Message::Change(change.clone())) {
            self.state.change_now.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the file could not be opened anew, and is tried again.
    pub fn is_stale(&self) -> bool {
        self.state.stale.load(Ordering::Relaxed)
    }

    /// How many entries were lost so far: for a full queue, and for a disk or a receiver that did not take them.
    pub fn lost(&self) -> (u64, u64) {
        (self.state.queue_full.load(Ordering::Relaxed), self.state.not_written.load(Ordering::Relaxed))
    }
}

impl Writer {
    /// The way to it.
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Writes what is left, and ends. Gives up on a disk (or a reader) that does not answer; tells how many
    /// entries it gave up.
    pub fn close(self) -> u64 {
        let state = Arc::clone(&self.sink.state);
        self.finish();
        state.waiting.load(Ordering::Relaxed)
    }

    fn finish(self) {
        let (done, wait) = sync_channel(1);
        self.sink.state.closing.store(true, Ordering::Relaxed);
        // Where nobody receives it, the thread has ended.
        let _ = self.sink.queue.send(Message::Close(done));
        self.sink.state.hurry();
        if wait.recv_timeout(CLOSE_WITHIN) != Err(RecvTimeoutError::Timeout) {
            // It has answered, so it has ended; a panic in it has been printed already.
            let _ = self.thread.join();
        }
    }
}

fn write_entries(messages: &Receiver<Message>, output: &mut Output, state: &State, gather: Duration) {
    let mut batch = Vec::new();
    // More waits than a batch holds: whoever waited then would write a batch in that time at most, however much comes.
    let mut is_behind = false;
    while let Ok(first) = messages.recv() {
        let is_decision = matches!(first, Message::Entry(Entry::Decision(_)));
        if is_decision && !is_behind && !state.closing.load(Ordering::Relaxed) {
            state.gather(gather);
        }
        let mut next = Some(first);
        let mut bytes = 0;
        while let Some(message) = next.take() {
            match message {
                Message::Entry(entry) => {
                    let size = entry.size();
                    state.queued.fetch_sub(size, Ordering::Relaxed);
                    bytes += size;
                    batch.push(entry);
                    if bytes >= BATCH {
                        break;
                    }
                }
                Message::Look => {}
                Message::Reopen => {
                    output.write(&mut batch, state, false);
                    output.reopen(state);
                }
                Message::Change(change) => {
                    output.write(&mut batch, state, false);
                    output.change(change, state);
                }
                Message::Close(done) => {
                    output.write(&mut batch, state, true);
                    // Whoever waits may have given up.
                    let _ = done.send(());
                    return;
                }
            }
            next = messages.try_recv().ok();
        }
        is_behind = bytes >= BATCH;
        output.write(&mut batch, state, false);
        if state.change_now.swap(false, Ordering::Relaxed) {
            output.catch_up(state);
        }
        if state.reopen.swap(false, Ordering::Relaxed) {
            output.reopen(state);
        }
    }
}

#[cfg(test)]
mod tests;
