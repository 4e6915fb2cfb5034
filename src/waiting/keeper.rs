//! Keeps what [`super::Table`] knows in the state folder, on a thread of its own.
//!
//! Promises: asking costs a lock that is held for a lookup, and never by the thread that writes. A message whose
//! wait cannot be kept is not made to wait: while the file cannot be written, and for a `max-delay` after it was
//! found damaged, everyone is told that the wait is over. The file is made with the first message that waits.

use super::{LONGEST, MOST, Table, Waited};
use crate::database::move_aside;
use crate::policy::attempt::Attempt;
use crate::policy::rule::Delay;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const NAME: &str = "waiting.db";
/// What is new is written after so long, all together.
const GATHER: Duration = Duration::from_millis(500);
/// After a failure it is tried again so often.
const AGAIN: Duration = Duration::from_secs(5);
/// New messages that may wait to be written.
const QUEUE: usize = 16_384;

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS waiting (attempt INTEGER PRIMARY KEY, first INTEGER NOT NULL) STRICT;";

/// Who answers how long a message has been tried. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Waiting(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    new: SyncSender<Told>,
    /// Whether what is new can be kept.
    kept: AtomicBool,
    /// Since when (in unix seconds) waits are counted, after what was kept before was lost.
    counted_since: AtomicI64,
    in_doubt: AtomicU64,
}

#[derive(Debug)]
enum Told {
    New(Attempt, i64),
    Stop,
}

/// The thread that keeps it.
#[derive(Debug)]
pub struct Keeper {
    waiting: Waiting,
    thread: JoinHandle<()>,
}

impl Waiting {
    /// For how many seconds a message has been tried, at `now`; from now on, if it is new. `delay` where that is in
    /// doubt.
    pub fn waited(&self, attempt: Option<Attempt>, delay: Delay, now: jiff::Timestamp) -> u32 {
        self.ask(attempt, delay, now.as_second()).unwrap_or_else(|| {
            self.0.in_doubt.fetch_add(1, Ordering::Relaxed);
            delay.0
        })
    }

    fn ask(&self, attempt: Option<Attempt>, delay: Delay, now: i64) -> Option<u32> {
        let attempt = attempt?;
        let certain_from = self.0.counted_since.load(Ordering::Relaxed).saturating_add(i64::from(delay.0));
        if !self.0.kept.load(Ordering::Relaxed) || now < certain_from {
            return None;
        }
        let waited = self.0.table.lock().unwrap_or_else(PoisonError::into_inner).ask(attempt, delay, now);
        match waited {
            Waited::For(seconds) => Some(seconds),
            Waited::InDoubt => None,
            Waited::Begins => match self.0.new.try_send(Told::New(attempt, now)) {
                Ok(()) => Some(0),
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => None,
            },
        }
    }

    /// How often the answer was in doubt, so that a message was accepted.
    pub fn in_doubt(&self) -> u64 {
        self.0.in_doubt.load(Ordering::Relaxed)
    }
}

impl Keeper {
    /// Reads what was kept in the state folder, and starts to keep what is new there.
    pub fn start(state: &Path, now: jiff::Timestamp) -> io::Result<Self> {
        let (new, received) = sync_channel(QUEUE);
        let mut table = Table::new(MOST);
        let mut file = File { path: state.join(NAME), open: None };
        let damaged = file.restore(&mut table, now);
        let waiting = Waiting(Arc::new(Shared {
            table: Mutex::new(table),
            new,
            kept: AtomicBool::new(true),
            counted_since: AtomicI64::new(if damaged { now.as_second() } else { i64::MIN }),
            in_doubt: AtomicU64::new(0),
        }));
        let shared = Arc::clone(&waiting.0);
        let thread = std::thread::Builder::new()
            .name("waiting".into())
            .spawn(move || keep(&mut file, &received, &shared))?;
        Ok(Self { waiting, thread })
    }

    /// Who answers.
    pub fn waiting(&self) -> Waiting {
        self.waiting.clone()
    }

    /// Writes what is new, and ends.
    pub fn stop(self) {
        // A queue that is full is being written.
        let _ = self.waiting.0.new.send(Told::Stop);
        // A panic in it has been printed already.
        let _ = self.thread.join();
    }
}

fn keep(file: &mut File, received: &Receiver<Told>, shared: &Shared) {
    let mut new: BTreeMap<Attempt, i64> = BTreeMap::new();
    let mut stop = false;
    while !stop {
        // Where something is left that could not be written, it is tried again though nothing new comes.
        let first = if new.is_empty() {
            received.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            received.recv_timeout(AGAIN)
        };
        match first {
            Ok(Told::New(attempt, first)) => {
                new.insert(attempt, first);
                std::thread::sleep(GATHER);
            }
            Ok(Told::Stop) | Err(RecvTimeoutError::Disconnected) => stop = true,
            Err(RecvTimeoutError::Timeout) => {}
        }
        while let Ok(told) = received.try_recv() {
            match told {
                Told::New(attempt, first) => drop(new.insert(attempt, first)),
                Told::Stop => stop = true,
            }
        }
        if new.is_empty() {
            continue;
        }
        let kept = match file.write(&new) {
            Ok(()) => {
                new.clear();
                true
            }
            Err(error) => {
                if shared.kept.load(Ordering::Relaxed) {
                    tracing::error!(
                        file = %file.path.display(), %error,
                        "cannot keep how long messages have been deferred: those with a max-delay are accepted until it can"
                    );
                }
                file.open = None;
                false
            }
        };
        if kept && !shared.kept.swap(kept, Ordering::Relaxed) {
            tracing::info!(file = %file.path.display(), "how long messages have been deferred is kept again");
        }
        shared.kept.store(kept, Ordering::Relaxed);
    }
}

/// The database.
struct File {
    path: PathBuf,
    open: Option<Connection>,
}

impl File {
    /// Reads what was kept. Whether that was damaged, so that it is not known who has waited.
    fn restore(&mut self, table: &mut Table, now: jiff::Timestamp) -> bool {
        if !self.path.exists() {
            return false;
        }
        let Err(error) = self.read(table, now.as_second()) else { return false };
        self.open = None;
        let moved = move_aside(&self.path, now);
        tracing::error!(
            file = %self.path.display(), %error,
            moved_to = moved.as_ref().map_or_else(ToString::to_string, |aside| aside.display().to_string()),
            "cannot read how long messages have been deferred: those with a max-delay are accepted for as long as that is"
        );
        *table = Table::new(MOST);
        true
    }

    fn read(&mut self, table: &mut Table, now: i64) -> rusqlite::Result<()> {
        let connection = self.connection()?;
        connection.execute("DELETE FROM waiting WHERE first < ?1", [now - LONGEST])?;
        let mut rows = connection.prepare("SELECT attempt, first FROM waiting ORDER BY first")?;
        for row in rows.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))? {
            let (attempt, first) = row?;
            table.restore(Attempt(attempt.cast_unsigned()), first);
        }
        Ok(())
    }

    fn connection(&mut self) -> rusqlite::Result<&mut Connection> {
        // A file that is gone is written to no more.
        if !self.path.exists() {
            self.open = None;
        }
        match &mut self.open {
            Some(connection) => Ok(connection),
            none => {
                let connection = Connection::open(&self.path)?;
                connection.busy_timeout(Duration::from_secs(1))?;
                connection.execute_batch(SCHEMA)?;
                Ok(none.insert(connection))
            }
        }
    }

    fn write(&mut self, new: &BTreeMap<Attempt, i64>) -> rusqlite::Result<()> {
        if let Some(folder) = self.path.parent() {
            // Where that fails, opening says why.
            let _ = std::fs::create_dir_all(folder);
        }
        let transaction = self.connection()?.transaction()?;
        {
            let mut insert = transaction.prepare(
                "INSERT INTO waiting (attempt, first) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET first = excluded.first",
            )?;
            for (attempt, first) in new {
                insert.execute((attempt.0.cast_signed(), first))?;
            }
        }
        transaction.commit()
    }
}
