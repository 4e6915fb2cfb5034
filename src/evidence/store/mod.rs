//! Counts of decisions in a file: SQLite, to be read with plain `sqlite3` while the daemon writes.
//!
//! Promises: what is added is added whole or not at all, under the bounds of [`Rollup`], so that files merge as
//! counts in memory do. A file that is not ours, or of a later version, is left as it is. What goes wrong is told
//! with the next step ([`StoreError`]).
//!
//! `schema.sql` says what is in it.

mod error;
mod table;

pub use error::StoreError;

use super::rollup::{Bucket, OTHERS, Rank, Ranked, Rollup, Standing};
use crate::database::beside;
use crate::policy::Day;
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params, params_from_iter,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use table::{Decisions, Hosts, Table};

/// `ENCR`, for file(1) and for us: this file is ours.
const APPLICATION_ID: i32 = 0x454e_4352;
/// From each version to the next; the first makes an empty file version 1.
const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];
/// The memory that a writer's pages may take, in the notation of `PRAGMA cache_size`.
const CACHE_KIB: i64 = -16 * 1024;
/// How long a person waits for a file that somebody else is writing to.
const WAIT: Duration = Duration::from_secs(5);
/// The store's name in the daemon's state folder.
pub const FILE_NAME: &str = "evidence.db";

/// An evidence file, open.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
}

/// What is in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// The first day, `2026-11-22`.
    pub first_day: Option<String>,
    /// The last day.
    pub last_day: Option<String>,
    /// Days with decisions.
    pub days: u64,
    /// Decisions.
    pub decisions: u64,
    /// Rows that count them.
    pub rows: u64,
    /// Peers: domains in networks.
    pub peers: u64,
    /// Decisions on peers beyond the bound.
    pub others: u64,
    /// Hosts.
    pub hosts: u64,
    /// Rules.
    pub rules: u64,
    /// The size of the file, in bytes.
    pub bytes: u64,
}

impl Store {
    /// Opens a store for writing; makes it where there is none.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_within(path, WAIT)
    }

    /// The same, for one who waits only so long where somebody else is writing to the file.
    pub fn open_within(path: &Path, wait: Duration) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut store = Self::connect(path, path.into(), flags, wait)?;
        store.migrate()?;
        Ok(store)
    }

    /// Opens a store that is there, to read. Works while the daemon writes.
    pub fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        // Where it cannot even be told, opening says why.
        if matches!(path.try_exists(), Ok(false)) {
            return Err(StoreError::Missing(path.to_path_buf()));
        }
        // For writing where that is allowed, though nothing is written: who may not write cannot take away again what
        // SQLite lays beside the file.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Self::connect(path, path.into(), flags, WAIT).and_then(Self::known);
        let in_use = beside(path).iter().any(|beside| beside.exists());
        match opened {
            // Nobody writes to it, and we may lay nothing beside it.
            Err(StoreError::CannotOpen { .. } | StoreError::NotWritable { .. }) if !in_use => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
                    | OpenFlags::SQLITE_OPEN_NO_MUTEX
                    | OpenFlags::SQLITE_OPEN_URI;
                Self::connect(path, immutable_uri(path), flags, WAIT).and_then(Self::known)
            }
            opened => opened,
        }
    }

    /// A store in memory.
    pub fn memory() -> Result<Self, StoreError> {
        let path = PathBuf::from(":memory:");
        let connection = Connection::open_in_memory().map_err(|error| StoreError::of(error, &path))?;
        let mut store = Self { connection, path };
        store.migrate()?;
        Ok(store)
    }

    /// To ask questions of it: the tables and views of `schema.sql`.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// An error of a question that was asked over [`Self::connection`].
    pub fn error(&self, error: rusqlite::Error) -> StoreError {
        StoreError::of(error, &self.path)
    }

    fn connect(path: &Path, place: PathBuf, flags: OpenFlags, wait: Duration) -> Result<Self, StoreError> {
        let connect = || {
            let connection = Connection::open_with_flags(place, flags)?;
            connection.busy_timeout(wait)?;
            Ok(connection)
        };
        let connection = connect().map_err(|error| StoreError::of(error, path))?;
        Ok(Self { connection, path: path.to_path_buf() })
    }

    /// The version of its schema, where the file is ours; 0 of an empty one.
    fn version(&self) -> Result<usize, StoreError> {
        let ask = || -> rusqlite::Result<(i32, i64, i64)> {
            let number = |name: &str| self.connection.pragma_query_value(None, name, |row| row.get(0));
            let tables =
                self.connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            let id = self.connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
            Ok((id, number("user_version")?, tables))
        };
        let (id, version, tables) = ask().map_err(|error| self.error(error))?;
        if id != APPLICATION_ID && (tables > 0 || id != 0 || version != 0) {
            return Err(StoreError::NotEvidence(self.path.clone()));
        }
        match usize::try_from(version) {
            Ok(version) if version <= MIGRATIONS.len() => Ok(version),
            _ => Err(StoreError::Newer { path: self.path.clone(), found: version, known: MIGRATIONS.len() }),
        }
    }

    /// A store that can be asked as it is.
    fn known(self) -> Result<Self, StoreError> {
        match self.version()? {
            version if version == MIGRATIONS.len() => {
                let read_only = self.connection.pragma_update(None, "query_only", true);
                read_only.map_err(|error| self.error(error))?;
                Ok(self)
            }
            0 => Err(StoreError::Empty(self.path)),
            found => Err(StoreError::Older { path: self.path, found, known: MIGRATIONS.len() }),
        }
    }

    fn migrate(&mut self) -> Result<(), StoreError> {
        let found = self.version()?;
        let migrate = |connection: &mut Connection| -> rusqlite::Result<()> {
            if found == 0 {
                // Before anything is in it: space that old days leave is given back.
                connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
            }
            // Readers do not wait for the writer, nor the writer for readers.
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // Of a busy day all of it: else each batch writes and reads its pages again and again.
            connection.pragma_update(None, "cache_size", CACHE_KIB)?;
            // What a power failure takes of the last seconds is evidence, not mail.
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            if found < MIGRATIONS.len() {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                // Somebody else may have been first.
                let found: usize = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
                for migration in MIGRATIONS.iter().skip(found) {
                    transaction.execute_batch(migration)?;
                }
                transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
                transaction.pragma_update(None, "user_version", MIGRATIONS.len())?;
                transaction.commit()?;
            }
            Ok(())
        };
        migrate(&mut self.connection).map_err(|error| StoreError::of(error, &self.path))
    }

    /// Adds counts: all of them, or none.
    pub fn add(&mut self, rollup: &Rollup) -> Result<(), StoreError> {
        self.in_transaction(|transaction| add(transaction, rollup))
    }

    /// Adds all that another store has: all of it, or nothing.
    pub fn merge_from(&mut self, other: &Self) -> Result<(), StoreError> {
        // As it is at one moment, while others write to it; and a day at a time, which fits into memory.
        let seen = other.connection.unchecked_transaction().map_err(|error| other.error(error))?;
        let days = periods::<Decisions>(&seen).map_err(|error| other.error(error))?;
        let months = periods::<Hosts>(&seen).map_err(|error| other.error(error))?;
        let theirs = |error| other.error(error);
        let path = self.path.clone();
        let ours = |error| StoreError::of(error, &path);
        let adding = self.begin().map_err(ours)?;
        for day in days {
            let bucket = read_bucket::<Decisions>(&seen, &day).map_err(theirs)?;
            add_bucket::<Decisions>(&adding, &day, &bucket).map_err(ours)?;
        }
        for month in months {
            let bucket = read_bucket::<Hosts>(&seen, &month).map_err(theirs)?;
            add_bucket::<Hosts>(&adding, &month, &bucket).map_err(ours)?;
        }
        for standing in read_standing(&seen).map_err(theirs)? {
            add_standing(&adding, &standing).map_err(ours)?;
        }
        adding.commit().map_err(ours)
    }

    /// All of it, in memory.
    pub fn rollup(&self) -> Result<Rollup, StoreError> {
        let read = || {
            let seen = self.connection.unchecked_transaction()?;
            let mut rollup = Rollup::new(usize::MAX);
            for day in periods::<Decisions>(&seen)? {
                let bucket = read_bucket::<Decisions>(&seen, &day)?;
                rollup.add_day(day, bucket);
            }
            for month in periods::<Hosts>(&seen)? {
                let bucket = read_bucket::<Hosts>(&seen, &month)?;
                rollup.add_month(month, bucket);
            }
            for standing in read_standing(&seen)? {
                rollup.add_standing(standing);
            }
            Ok(rollup)
        };
        read().map_err(|error| self.error(error))
    }

    /// Forgets what is older than so many days: the last day that stays is `keep_days` before today. Hosts are
    /// forgotten by whole months. Gives how many rows went.
    pub fn prune(&mut self, today: Day, keep_days: u32) -> Result<usize, StoreError> {
        let oldest = Day(today.0.saturating_sub(i64::from(keep_days))).to_string();
        let month = oldest.rsplit_once('-').map_or(oldest.as_str(), |(month, _)| month).to_owned();
        let pruned = self.in_transaction(|transaction| {
            let days = transaction.execute("DELETE FROM decision_counts WHERE day < ?1", [&oldest])?;
            let months = transaction.execute("DELETE FROM host_counts WHERE month < ?1", [&month])?;
            let standing = transaction.execute("DELETE FROM standing WHERE day < ?1", [&oldest])?;
            transaction.execute(
                "DELETE FROM bounds WHERE period < CASE length(period) WHEN 7 THEN ?2 ELSE ?1 END",
                [&oldest, &month],
            )?;
            Ok(days + months + standing)
        })?;
        if pruned > 0 {
            let vacuum = || {
                let mut statement = self.connection.prepare("PRAGMA incremental_vacuum")?;
                let mut rows = statement.query([])?;
                // It gives back a page at each step.
                while rows.next()?.is_some() {}
                Ok(())
            };
            vacuum().map_err(|error| self.error(error))?;
        }
        Ok(pruned)
    }

    /// Closes it, so that all is in the one file.
    pub fn close(self) -> Result<(), StoreError> {
        let Self { connection, path } = self;
        connection.close().map_err(|(_, error)| StoreError::of(error, &path))
    }

    /// What is in it.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let ask = || {
            self.connection.query_row(
                "SELECT min(day), max(day), count(DISTINCT day),
                        coalesce(sum(count) FILTER (WHERE decided = 1), 0), count(*),
                        (SELECT count(*) FROM (SELECT DISTINCT domain, network FROM decision_counts WHERE domain <> ?1)),
                        coalesce(sum(count) FILTER (WHERE decided = 1 AND domain = ?1), 0),
                        (SELECT count(*) FROM (SELECT DISTINCT host, address FROM host_counts WHERE domain <> ?1)),
                        (SELECT count(*) FROM (SELECT rule FROM decision_counts WHERE rule <> ''
                                               UNION SELECT rule FROM standing)),
                        (SELECT page_count * page_size FROM pragma_page_count, pragma_page_size)
                 FROM decision_counts",
                [OTHERS],
                |row| {
                    Ok(Stats {
                        first_day: row.get(0)?,
                        last_day: row.get(1)?,
                        days: row.get(2)?,
                        decisions: row.get(3)?,
                        rows: row.get(4)?,
                        peers: row.get(5)?,
                        others: row.get(6)?,
                        hosts: row.get(7)?,
                        rules: row.get(8)?,
                        bytes: row.get(9)?,
                    })
                },
            )
        };
        ask().map_err(|error| self.error(error))
    }

    fn begin(&mut self) -> rusqlite::Result<Transaction<'_>> {
        // At once for writing: one that begins to read and then writes cannot wait for another writer.
        self.connection.transaction_with_behavior(TransactionBehavior::Immediate)
    }

    fn in_transaction<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let path = self.path.clone();
        let run = || {
            let transaction = self.begin()?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        run().map_err(|error| StoreError::of(error, &path))
    }
}

/// A path as SQLite's URI of a file that nobody changes.
fn immutable_uri(path: &Path) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut uri = b"file:".to_vec();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            uri.push(*byte);
        } else {
            uri.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    uri.extend_from_slice(b"?immutable=1");
    std::ffi::OsString::from_vec(uri).into()
}

fn add(transaction: &Transaction<'_>, rollup: &Rollup) -> rusqlite::Result<()> {
    for (day, bucket) in rollup.days() {
        add_bucket::<Decisions>(transaction, day, bucket)?;
    }
    for (month, bucket) in rollup.months() {
        add_bucket::<Hosts>(transaction, month, bucket)?;
    }
    rollup.standing().iter().try_for_each(|standing| add_standing(transaction, standing))
}

/// Adds a bucket under the smaller of both bounds: whoever is not among the first peers of both together is counted
/// among the others.
fn add_bucket<T: Table>(
    transaction: &Transaction<'_>,
    period: &str,
    bucket: &Bucket<T::Peer, T::Row>,
) -> rusqlite::Result<()> {
    let max_peers: i64 = transaction
        .prepare_cached(
            "INSERT INTO bounds (period, max_peers) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET max_peers = min(max_peers, excluded.max_peers) RETURNING max_peers",
        )?
        .query_row(params![period, i64::try_from(bucket.max_peers()).unwrap_or(i64::MAX)], |row| {
            row.get(0)
        })?;
    let room = usize::try_from(max_peers).unwrap_or(usize::MAX);
    let stored = stored_ranks::<T>(transaction, period)?;
    let all: BTreeSet<&Rank<T::Peer>> = stored.iter().chain(bucket.ranks()).collect();
    // The first who finds no room; whoever comes after finds none either.
    let last = all.iter().nth(room).map(|rank| (*rank).clone());
    let is_kept = |rank: &Rank<T::Peer>| last.as_ref().is_none_or(|last| rank < last);
    for rank in stored.iter().filter(|rank| !is_kept(rank)) {
        evict::<T>(transaction, period, rank.peer())?;
    }
    let mut upsert = transaction.prepare_cached(&T::upsert())?;
    for (rank, peer, rows) in bucket.by_peer() {
        let others = rank.is_some_and(|rank| !is_kept(rank)).then(|| T::Peer::others(peer.known_by()));
        for (row, counts) in rows {
            let mut values = T::values(period, others.as_ref().unwrap_or(peer), row);
            values.extend(T::count_values(*counts));
            upsert.execute(params_from_iter(values))?;
        }
    }
    Ok(())
}

/// Who has rows of their own.
fn stored_ranks<T: Table>(
    transaction: &Transaction<'_>,
    period: &str,
) -> rusqlite::Result<Vec<Rank<T::Peer>>> {
    let mut statement = transaction.prepare_cached(&T::distinct_peers())?;
    let ranks = statement.query_map(params![period, OTHERS], |row| Ok(Rank::of(T::peer(row, 0)?)))?;
    ranks.collect()
}

/// Counts a peer among the others from now on.
fn evict<T: Table>(transaction: &Transaction<'_>, period: &str, peer: &T::Peer) -> rusqlite::Result<()> {
    let mut whose = T::peer_values(period, peer);
    let mut whose_and_others = whose.clone();
    whose_and_others.extend(T::peer_values(period, &T::Peer::others(peer.known_by())).into_iter().skip(1));
    transaction.prepare_cached(&T::fold())?.execute(params_from_iter(whose_and_others))?;
    transaction.prepare_cached(&T::delete_peer())?.execute(params_from_iter(whose.drain(..)))?;
    Ok(())
}

fn periods<T: Table>(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&T::distinct_periods())?;
    statement.query_map([], |row| row.get(0))?.collect()
}

fn read_bucket<T: Table>(connection: &Connection, period: &str) -> rusqlite::Result<Bucket<T::Peer, T::Row>> {
    let bound: Option<i64> = connection
        .prepare_cached("SELECT max_peers FROM bounds WHERE period = ?1")?
        .query_row([period], |row| row.get(0))
        .optional()?;
    // Bounds are taken back only with what they bind.
    let room = bound.and_then(|bound| usize::try_from(bound).ok()).unwrap_or(usize::MAX);
    let mut bucket = Bucket::new(room);
    let mut statement = connection.prepare_cached(&T::select_period())?;
    let mut rows = statement.query([period])?;
    while let Some(row) = rows.next()? {
        let (peer, what, counts) = T::read(row)?;
        bucket.add(peer, what, counts);
    }
    Ok(bucket)
}

fn read_standing(connection: &Connection) -> rusqlite::Result<Vec<Standing>> {
    let mut statement = connection.prepare_cached("SELECT day, rule, mode, requirement FROM standing")?;
    let read = |row: &rusqlite::Row<'_>| {
        let mode: String = row.get(2)?;
        Ok(Standing { day: row.get(0)?, rule: row.get(1)?, mode: mode.into(), requirement: row.get(3)? })
    };
    statement.query_map([], read)?.collect()
}

fn add_standing(transaction: &Transaction<'_>, standing: &Standing) -> rusqlite::Result<()> {
    let Standing { day, rule, mode, requirement } = standing;
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO standing (day, rule, mode, requirement) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![day, rule, mode, requirement])?;
    Ok(())
}

#[cfg(test)]
mod tests;
