//! What can be wrong with an evidence file, and what to do about it.
//!
//! Promises: whoever must act differently can tell the cases apart.

use rusqlite::{Error, ErrorCode};
use std::path::{Path, PathBuf};

/// Why an evidence file could not be read, or written to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing there.
    #[error("{}: there is no evidence file; the daemon makes one where [evidence] is enabled", .0.display())]
    Missing(PathBuf),
    /// An empty file.
    #[error("{}: an empty file: no evidence has been written to it yet", .0.display())]
    Empty(PathBuf),
    /// No database at all, or not a whole one.
    #[error("{}: damaged, or no database: move it away, and the daemon begins a new one", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        source: Error,
    },
    /// A database of something else.
    #[error("{}: a database, but not encr-milter's evidence: give another file; this one is left as it is", .0.display())]
    NotEvidence(PathBuf),
    /// Written by a later version.
    #[error(
        "{}: its format is {found}, and this version of encr-milter knows {known} at the most: use the newer version",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// Ours.
        known: usize,
    },
    /// Written by an earlier version, and opened for reading only.
    #[error(
        "{}: its format is {found}, that of an older version (now {known}): start the daemon once, which brings it up to date",
        path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// Somebody else writes to it.
    #[error("{}: another process holds it locked: try again when that has ended", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        source: Error,
    },
    /// No room.
    #[error("{}: the disk is full: make room", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        source: Error,
    },
    /// May not be written to.
    #[error("{}: may not be written to: look at the owner and mode of it and of its folder (`namei -l`)", path.display())]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        source: Error,
    },
    /// Cannot be opened.
    #[error("{}: cannot be opened: does its folder exist, and may both be read and written? `namei -l` shows whose they are", path.display())]
    CannotOpen {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        source: Error,
    },
    /// The system's answer to reading or writing.
    #[error("{}: reading or writing failed", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        source: Error,
    },
    /// Anything else.
    #[error("{}: a question to the evidence failed", path.display())]
    Question {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        source: Error,
    },
}

impl StoreError {
    /// What an answer of SQLite means.
    pub(super) fn of(source: Error, path: &Path) -> Self {
        let path = path.to_path_buf();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged { path, source },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { path, source },
            Some(ErrorCode::DiskFull) => Self::Full { path, source },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::NotWritable { path, source },
            Some(ErrorCode::CannotOpen) => Self::CannotOpen { path, source },
            Some(ErrorCode::SystemIoFailure) => Self::Io { path, source },
            _ => Self::Question { path, source },
        }
    }
}
