//! SQLite files of the state folder: what belongs to one, and how a damaged one makes way.
//!
//! Must not: know what is in them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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

/// Moves a damaged file away, for whoever wants to see what can be saved of it; gives its new name. It must be
/// closed: SQLite deletes by name what it has beside a file.
pub fn move_aside(path: &Path, now: jiff::Timestamp) -> io::Result<PathBuf> {
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
