//! SQLite files of the state folder: what belongs to one, and how a damaged one makes way.
//!
//! Must not: know what is in them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What tells that a file is still the one that was opened.
pub type Identity = (u64, u64);

/// Of the file that lies there now.
pub fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// The files that SQLite keeps beside one that is in use.
pub fn beside(path: &Path) -> [PathBuf; 2] {
    ["-wal", "-shm"].map(|ending| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        name.into()
    })
}

/// How soon a file that is damaged again is moved aside again.
const AGAIN: Duration = Duration::from_mins(10);

/// Moves damaged files away, for whoever wants to see what can be saved of them; but a disk that damages one file after
/// the other is not to be filled with them.
#[derive(Debug, Default)]
pub struct Aside {
    moved: Option<Instant>,
}

impl Aside {
    /// Moves a file, and gives its new name; nothing where that was done a moment ago, or cannot be. It must be closed:
    /// SQLite deletes by name what it has beside a file.
    pub fn take(&mut self, path: &Path) -> Option<PathBuf> {
        if self.moved.is_some_and(|at| at.elapsed() < AGAIN) {
            return None;
        }
        let aside = move_aside(path, jiff::Timestamp::now()).ok()?;
        self.moved = Some(Instant::now());
        Some(aside)
    }
}

fn move_aside(path: &Path, now: jiff::Timestamp) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".corrupt-{}", now.strftime("%Y%m%dT%H%M%SZ")));
    let aside = PathBuf::from(name);
    fs::rename(path, &aside)?;
    for (from, to) in beside(path).iter().zip(beside(&aside)) {
        // Mostly they are not there; one that stays belongs to no file, and SQLite deletes it.
        let _ = fs::rename(from, to);
    }
    Ok(aside)
}
