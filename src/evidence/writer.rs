//! The daemon's evidence: a queue, and a thread that counts what comes out of it and writes it in batches.
//!
//! Promises: [`Evidence::take`] never waits. A full queue, or a file that cannot be written for so long that memory
//! is spent, costs evidence: counted, and said in the log. While the file is locked, its disk full or its folder
//! missing, counts are kept in memory and writing is tried again; a damaged file is moved aside and a new one begun.
//! Everything that was taken is written before [`Writer::close`] returns, or counted as lost.

use super::batch::Batch;
use super::store::FILE_NAME;
use super::{Observed, Rollup, Store, StoreError};
use crate::database::{Aside, Identity, beside, identity};
use crate::policy::{Day, Fingerprint, Policy};
use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Decisions that may wait to be counted: half a second of a very busy site, and some 5 MB.
const QUEUE: usize = 16 * 1024;
/// How long decisions gather once one has come: whoever decides wakes the counting thread once in that time, and not with
/// each decision.
const GATHER: Duration = Duration::from_millis(100);
/// How often counts are written.
const EVERY: Duration = Duration::from_secs(5);
/// Where writing takes long: after so many times as long, so that it takes a fiftieth of a processor at the most.
const WRITING: u32 = 50;
/// How soon it is tried again where that failed.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a batch waits for somebody else's lock: the queue fills meanwhile.
const LOCKED: Duration = Duration::from_millis(100);
/// Rows that are kept in memory while they cannot be written: some 40 MB.
const MOST_ROWS: usize = 100_000;
/// How often it is said that something was lost.
const SAY_LOSSES: Duration = Duration::from_secs(10);
/// How long it must have been today before what is too old for it is forgotten.
const SETTLED: Duration = Duration::from_hours(1);
/// How long `close` tries to write.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// How far the thread that counts steps back before those that answer: where they need the processors, it waits.
const NICE: i32 = 10;
/// What every SQLite file begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What the daemon's file says of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For how many days it is kept.
    pub keep_days: u32,
    /// How many peers of a day, and hosts of a month, are kept apart.
    pub max_peers: usize,
}

impl Default for Settings {
    /// Half a year, so that what happens once in a quarter has been seen twice; and a megabyte a day, or some more,
    /// of a site that has as many peers.
    fn default() -> Self {
        Self { keep_days: 180, max_peers: 5000 }
    }
}

/// How it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Decisions that are in the file.
    pub written: u64,
    /// Decisions that were lost for a full queue.
    pub queue_full: u64,
    /// Decisions that were lost for a file that could not be written.
    pub not_written: u64,
    /// Batches that were written.
    pub batches: u64,
    /// Batches that could not be written, each time it was tried.
    pub failures: u64,
    /// Decisions that wait in the queue to be counted.
    pub queue: u64,
    /// Rows that wait in memory to be written.
    pub unwritten_rows: u64,
}

#[derive(Debug, Default)]
struct State {
    written: AtomicU64,
    queue_full: AtomicU64,
    not_written: AtomicU64,
    batches: AtomicU64,
    failures: AtomicU64,
    queue: AtomicU64,
    unwritten_rows: AtomicU64,
}

enum Message {
    Observed(Observed),
    Close,
}

/// The way to the evidence. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Evidence {
    queue: SyncSender<Message>,
    state: Arc<State>,
}

/// The thread that writes.
#[derive(Debug)]
pub struct Writer {
    evidence: Evidence,
    thread: JoinHandle<()>,
}

impl Evidence {
    /// Takes a decision. Never waits.
    pub fn take(&self, observed: Observed) {
        self.state.queue.fetch_add(1, Ordering::Relaxed);
        if self.queue.try_send(Message::Observed(observed)).is_err() {
            self.state.queue.fetch_sub(1, Ordering::Relaxed);
            self.state.queue_full.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How it goes.
    pub fn counters(&self) -> Counters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            written: get(&self.state.written),
            queue_full: get(&self.state.queue_full),
            not_written: get(&self.state.not_written),
            batches: get(&self.state.batches),
            failures: get(&self.state.failures),
            queue: get(&self.state.queue),
            unwritten_rows: get(&self.state.unwritten_rows),
        }
    }
}

impl Writer {
    /// Starts a writer to the file in the state folder. What is wrong with that is told in the log, and tried again.
    /// `policy` gives the policy in force, whose modes are noted day by day.
    pub fn start(
        state_folder: &Path,
        settings: Settings,
        policy: impl Fn() -> Arc<Policy> + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE);
        let state = Arc::new(State::default());
        let evidence = Evidence { queue, state: Arc::clone(&state) };
        let worker = Worker::new(state_folder.join(FILE_NAME), settings, Box::new(policy), state);
        let thread = std::thread::Builder::new().name("evidence".into()).spawn(move || {
            // Where it may not, it counts all the same.
            let _ = rustix::process::setpriority_process(None, NICE);
            worker.run(&messages);
        })?;
        Ok(Self { evidence, thread })
    }

    /// The way to it.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Writes what was taken, and ends. Gives up on a file that is locked for long, and says so in the log.
    pub fn close(self) {
        // A queue that is full is being emptied.
        let _ = self.evidence.queue.send(Message::Close);
        // A panic in it has been printed already.
        let _ = self.thread.join();
    }
}

/// Whether what SQLite has beside a file in use is still there: counts that are written to files without a name are
/// seen by nobody, and gone with the daemon.
fn is_whole(path: &Path) -> bool {
    // SQLite puts it beside what a symlink points to.
    fs::canonicalize(path).is_ok_and(|path| beside(&path).iter().all(|file| file.exists()))
}

/// The file in use. What is first is dropped first.
struct Open {
    store: Store,
    /// To look at it past SQLite. Kept, for whoever closes a file loses all locks that his process has on it (fcntl(2)),
    /// SQLite's too: the next reader would take itself for the last one, and delete what SQLite has beside the file.
    file: Option<fs::File>,
    identity: Identity,
}

impl Open {
    /// Whether it is still a database; SQLite would go by what it has in memory for a while.
    fn begins_as_a_database(&self) -> bool {
        let mut begin = [0; MAGIC.len()];
        let read = self.file.as_ref().is_some_and(|file| file.read_exact_at(&mut begin, 0).is_ok());
        read && begin == *MAGIC
    }
}

struct Worker {
    path: PathBuf,
    settings: Settings,
    policy: Box<dyn Fn() -> Arc<Policy> + Send>,
    file: Option<Open>,
    /// What came together, and is not counted yet.
    batch: Batch,
    /// What is not written yet.
    rollup: Rollup,
    /// What is noted already, in the file or to be written, of what is in force.
    stood: Option<(Day, Fingerprint)>,
    /// Today, and since when it is.
    day: Option<(Day, Instant)>,
    pruned: Option<Day>,
    aside: Aside,
    /// What was said of a failure that lasts.
    failing: Option<String>,
    /// Losses of which it was said, and when.
    said: (u64, u64),
    said_at: Option<Instant>,
    state: Arc<State>,
}

impl Worker {
    fn new(
        path: PathBuf,
        settings: Settings,
        policy: Box<dyn Fn() -> Arc<Policy> + Send>,
        state: Arc<State>,
    ) -> Self {
        Self {
            path,
            settings,
            policy,
            file: None,
            batch: Batch::default(),
            rollup: Rollup::new(settings.max_peers),
            stood: None,
            day: None,
            pruned: None,
            aside: Aside::default(),
            failing: None,
            said: (0, 0),
            said_at: None,
            state,
        }
    }

    fn run(mut self, messages: &Receiver<Message>) {
        // At once, so that it is known from the start on whether evidence is kept.
        let mut due = Instant::now();
        loop {
            match messages.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(first) => {
                    std::thread::sleep(GATHER);
                    // Bounded, for what is due must be done however fast they come.
                    let gathered = std::iter::once(first).chain(messages.try_iter().take(QUEUE));
                    for message in gathered {
                        let Message::Observed(observed) = message else {
                            self.batch.count(&mut self.rollup);
                            return self.close();
                        };
                        self.state.queue.fetch_sub(1, Ordering::Relaxed);
                        self.take(observed);
                    }
                    self.batch.count(&mut self.rollup);
                    self.state.unwritten_rows.store(self.rollup.len() as u64, Ordering::Relaxed);
                }
                Err(RecvTimeoutError::Disconnected) => return self.close(),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let begun = Instant::now();
            if due <= begun {
                let written = self.flush();
                self.say_losses(false);
                let share = begun.elapsed() * WRITING;
                due = Instant::now() + if written { EVERY.max(share) } else { AGAIN };
            }
        }
    }

    fn take(&mut self, observed: Observed) {
        if self.rollup.len() < MOST_ROWS {
            self.batch.take(observed, &mut self.rollup);
        } else {
            self.state.not_written.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn close(mut self) {
        let end = Instant::now() + CLOSE_WITHIN;
        while !self.flush() {
            if Instant::now() >= end {
                self.state.not_written.fetch_add(self.rollup.decisions(), Ordering::Relaxed);
                break;
            }
            std::thread::sleep(LOCKED);
        }
        self.say_losses(true);
    }

    /// Writes what is not written yet. Whether that worked; where not, all is kept.
    fn flush(&mut self) -> bool {
        let mut written = self.write();
        if let Err(error @ StoreError::Damaged { .. }) = &written
            && self.move_aside(error)
        {
            written = self.write();
        }
        match written {
            Ok(()) => {
                let done = std::mem::replace(&mut self.rollup, Rollup::new(self.settings.max_peers));
                self.state.written.fetch_add(done.decisions(), Ordering::Relaxed);
                self.state.batches.fetch_add(u64::from(!done.is_empty()), Ordering::Relaxed);
                self.state.unwritten_rows.store(0, Ordering::Relaxed);
                if self.failing.take().is_some() {
                    tracing::info!(file = %self.path.display(), "evidence is written again");
                }
                true
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let today = Day::of_unix_seconds(jiff::Timestamp::now().as_second());
        let opened = self.open();
        let policy = (self.policy)();
        let standing = Some((today, policy.fingerprint().clone()));
        if self.stood != standing {
            self.rollup.stand(&policy, today);
            self.stood = standing;
        }
        opened?;
        let Some(Open { store, .. }) = &mut self.file else { return Ok(()) };
        if !self.rollup.is_empty() {
            store.add(&self.rollup)?;
        }
        // A clock that jumps ahead for a while must not have all of it forgotten.
        let (day, since) = *self.day.get_or_insert_with(|| (today, Instant::now()));
        if day != today {
            self.day = Some((today, Instant::now()));
        } else if self.pruned != Some(today) && since.elapsed() >= SETTLED {
            let rows = store.prune(today, self.settings.keep_days)?;
            if rows > 0 {
                tracing::info!(rows, keep_days = self.settings.keep_days, "old evidence is forgotten");
            }
            self.pruned = Some(today);
        }
        Ok(())
    }

    /// Opens the file that lies there now, if it is not open.
    fn open(&mut self) -> Result<(), StoreError> {
        let now = identity(&self.path);
        if let Some(open) = &self.file {
            if now != Some(open.identity) {
                tracing::warn!(
                    file = %self.path.display(),
                    "the evidence's file is gone: what was in it is lost, unless it was moved; a new one is begun"
                );
                self.file = None;
            } else if !open.begins_as_a_database() || !is_whole(&self.path) {
                self.file = None;
            }
        }
        if self.file.is_none() {
            if let Some(folder) = self.path.parent() {
                // Where that fails, opening says why.
                let _ = fs::create_dir_all(folder);
            }
            let store = Store::open_within(&self.path, LOCKED)?;
            // It may be gone again; then the next batch sees another one there.
            let identity = identity(&self.path).unwrap_or_default();
            self.file = Some(Open { store, file: fs::File::open(&self.path).ok(), identity });
            self.stood = None;
        }
        Ok(())
    }

    /// Moves a damaged file away, for whoever wants to see what can be saved of it. Whether that was done.
    fn move_aside(&mut self, error: &StoreError) -> bool {
        self.file = None;
        let Some(aside) = self.aside.take(&self.path) else { return false };
        self.state.failures.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            error = error as &dyn Error, moved_to = %aside.display(),
            "the evidence's file is damaged: it is moved aside, and a new one is begun"
        );
        true
    }

    fn failed(&mut self, error: &StoreError) {
        self.state.failures.fetch_add(1, Ordering::Relaxed);
        if !matches!(error, StoreError::Locked { .. } | StoreError::Full { .. }) {
            // Whatever it is, a file that is opened anew may be free of it.
            self.file = None;
        }
        let said = error.to_string();
        if self.failing.as_ref() != Some(&said) {
            tracing::error!(
                error = error as &dyn Error,
                "cannot write evidence: it is kept in memory, as much as there is room for, and tried again"
            );
            self.failing = Some(said);
        }
    }

    fn say_losses(&mut self, closing: bool) {
        let lost = {
            let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            (get(&self.state.queue_full), get(&self.state.not_written))
        };
        if lost == self.said || (!closing && self.said_at.is_some_and(|at| at.elapsed() < SAY_LOSSES)) {
            return;
        }
        tracing::warn!(
            output = "evidence",
            queue_full = lost.0 - self.said.0,
            not_written = lost.1 - self.said.1,
            "decisions were lost to the evidence"
        );
        self.said = lost;
        self.said_at = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests;
