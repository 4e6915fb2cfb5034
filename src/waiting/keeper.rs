//! Keeps what [`super::Table`] knows in the state folder, on a thread of its own.
//!
//! Promises: asking costs a lock that is held for a lookup, never while something is written. A message whose
//! wait cannot be kept is not made to wait: while the file cannot be written, and for a `max-delay` after it could
//! not be read, everyone is told that the wait is over. The file is made with the first message that waits, and, where
//! it is gone or damaged, made anew with all that is known. It is bounded as the table is.

use super::{LONGEST, MOST, Table, Waited};
use crate::database::{Aside, Identity, identity};
use crate::policy::attempt::Attempt;
use crate::policy::rule::Delay;
use rusqlite::{Connection, ErrorCode};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const NAME: &str = "waiting.db";
/// What is new is written after so long, all together.
const GATHER: Duration = Duration::from_millis(500);
/// After a failure it is tried again so often.
const AGAIN: Duration = Duration::from_secs(5);
/// New messages that may wait to be written.
const QUEUE: usize = 16_384;

/// How often what is too old to matter is taken out of the file.
const FORGET: Duration = Duration::from_hours(24);

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

    /// How many messages are remembered.
    pub fn messages(&self) -> usize {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner).len()
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
        let mut file = File { path: state.join(NAME), open: None, forgot: None, aside: Aside::default() };
        let lost = file.restore(&mut table, now);
        let waiting = Waiting(Arc::new(Shared {
            table: Mutex::new(table),
            new,
            kept: AtomicBool::new(true),
            counted_since: AtomicI64::new(if lost { now.as_second() } else { i64::MIN }),
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
    // The file is gone, and what it had is not in a new one yet.
    let mut gone = false;
    while !stop {
        // Where something is left that could not be written it is tried again, though nothing new comes; and the file
        // may be gone meanwhile.
        match received.recv_timeout(AGAIN) {
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
        gone |= file.is_gone();
        if new.is_empty() && !gone {
            continue;
        }
        let known = || shared.table.lock().unwrap_or_else(PoisonError::into_inner).known();
        let mut written = file.write(&new, known);
        if let Err(error) = &written
            && is_damage(error)
            && file.move_aside(error)
        {
            written = file.write(&new, known);
        }
        let kept = match written {
            Ok(()) => {
                new.clear();
                gone = false;
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

/// Whether an answer of SQLite says that a file is none of ours, or not whole; not that it cannot be used just now.
fn is_damage(error: &rusqlite::Error) -> bool {
    !matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::CannotOpen
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory
        )
    )
}

/// The database.
struct File {
    path: PathBuf,
    open: Option<(Connection, Option<Identity>)>,
    /// When what is too old was last taken out.
    forgot: Option<Instant>,
    aside: Aside,
}

impl File {
    /// Whether the file that was written to lies there no more.
    fn is_gone(&self) -> bool {
        let now = identity(&self.path);
        self.open.as_ref().is_some_and(|(_, opened)| now.is_none() || now != *opened)
    }

    /// Reads what was kept. Whether that could not be, so that it is not known who has waited.
    fn restore(&mut self, table: &mut Table, now: jiff::Timestamp) -> bool {
        match self.path.try_exists() {
            Ok(false) => return false,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return false,
            // Where it cannot even be told, opening says why.
            Ok(true) | Err(_) => {}
        }
        let Err(error) = self.read(table, now.as_second()) else { return false };
        self.open = None;
        tracing::error!(
            file = %self.path.display(), %error, help = "its folder and the file must be the daemon's user's, and whole",
            "cannot read how long messages have been deferred: those with a max-delay are accepted for as long as that is"
        );
        if is_damage(&error) {
            self.move_aside(&error);
        }
        *table = Table::new(MOST);
        true
    }

    fn read(&mut self, table: &mut Table, now: i64) -> rusqlite::Result<()> {
        let connection = self.connection()?;
        let mut rows = connection.prepare(
            "SELECT attempt, first FROM waiting WHERE first BETWEEN ?1 - ?2 AND ?1 + ?2 ORDER BY first",
        )?;
        for row in rows.query_map([now, LONGEST], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))? {
            let (attempt, first) = row?;
            table.restore(Attempt(attempt.cast_unsigned()), first);
        }
        Ok(())
    }

    /// Moves a damaged file away. Whether that was done.
    fn move_aside(&mut self, error: &rusqlite::Error) -> bool {
        self.open = None;
        let Some(aside) = self.aside.take(&self.path) else { return false };
        tracing::error!(
            file = %self.path.display(), %error, moved_to = %aside.display(),
            "the file of how long messages have been deferred is damaged: it is moved aside, and a new one is begun"
        );
        true
    }

    fn connection(&mut self) -> rusqlite::Result<&mut Connection> {
        // A file that is gone, or has another in its place, is written to no more.
        if self.is_gone() {
            self.open = None;
        }
        match &mut self.open {
            Some((connection, _)) => Ok(connection),
            none => {
                let connection = Connection::open(&self.path)?;
                connection.busy_timeout(Duration::from_secs(1))?;
                connection.execute_batch(SCHEMA)?;
                Ok(&mut none.insert((connection, identity(&self.path))).0)
            }
        }
    }

    /// Writes what is new; all that is `known` where the file has nothing.
    fn write(
        &mut self,
        new: &BTreeMap<Attempt, i64>,
        known: impl Fn() -> Vec<(Attempt, i64)>,
    ) -> rusqlite::Result<()> {
        if let Some(folder) = self.path.parent() {
            // Where that fails, opening says why.
            let _ = std::fs::create_dir_all(folder);
        }
        let forget = self.forgot.is_none_or(|at| at.elapsed() >= FORGET);
        let transaction = self.connection()?.transaction()?;
        let has_some =
            transaction.query_row("SELECT EXISTS (SELECT 1 FROM waiting)", [], |row| row.get(0))?;
        let all = if has_some { Vec::new() } else { known() };
        {
            let mut insert = transaction.prepare(
                "INSERT INTO waiting (attempt, first) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET first = excluded.first",
            )?;
            for (attempt, first) in all.iter().map(|(attempt, first)| (attempt, first)).chain(new) {
                insert.execute((attempt.0.cast_signed(), first))?;
            }
            if forget {
                transaction.execute(
                    "DELETE FROM waiting WHERE first NOT BETWEEN ?1 - ?2 AND ?1 + ?2",
                    [jiff::Timestamp::now().as_second(), LONGEST],
                )?;
            }
        }
        transaction.commit()?;
        if forget {
            self.forgot = Some(Instant::now());
        }
        Ok(())
    }
}
