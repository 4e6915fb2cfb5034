//! An administrator's file: read, replaced as a whole, and what changed in it shown.
//!
//! Promises: whoever looks finds the old file or the new one, never a part; owner, group and mode stay; a file that
//! somebody changed meanwhile is left as it is. A symlink stays, and what it points to is replaced. Must not: know
//! what the file says.

use super::exit;
use crate::diagnostics::Diagnostic;
use crate::report::next::shell_word;
use similar::TextDiff;
use std::fs::{self, File, Metadata, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// A file as it was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    path: PathBuf,
    /// Where it really lies.
    target: PathBuf,
    /// What it says.
    pub(super) bytes: Vec<u8>,
    identity: Identity,
}

/// What tells that a file is still the same: an editor's new file has another inode, a change in place another time.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    inode: (u64, u64),
    owner: (u32, u32),
    mode: u32,
    modified: (i64, i64),
}

impl Identity {
    fn of(meta: &Metadata) -> Self {
        Self {
            inode: (meta.dev(), meta.ino()),
            owner: (meta.uid(), meta.gid()),
            mode: meta.mode(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}

/// Why a file was not replaced.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// No file can be made beside it.
    #[error("cannot make a file in {}: {error}", folder.display())]
    Create {
        /// Where.
        folder: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// The new file would be another's.
    #[error(
        "cannot give the new file the owner, group and mode of the old one ({uid}:{gid}, {mode:o}): {error}"
    )]
    Owner {
        /// The owner.
        uid: u32,
        /// The group.
        gid: u32,
        /// The mode.
        mode: u32,
        /// The system's answer.
        error: io::Error,
    },
    /// The new file could not be written, or put in the old one's place.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
    /// The file is not as it was read.
    #[error("it was changed meanwhile")]
    Changed,
}

impl Failed {
    /// The exit code for it.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Create { .. } | Self::Owner { .. } => exit::CANT_CREATE,
            Self::Write(_) => exit::IO,
            Self::Changed => exit::TEMP_FAIL,
        }
    }

    /// As it is told of a file.
    pub(super) fn diagnostic(&self, path: &Path) -> Diagnostic {
        let message = format!("{} is not written: {self}", path.display());
        Diagnostic::error("not-written", message).in_file(path).hint(self.hint())
    }

    /// What to do.
    fn hint(&self) -> &'static str {
        match self {
            Self::Create { .. } | Self::Owner { .. } => "run it as the file's owner, or as root",
            Self::Write(_) => "the file is as it was",
            Self::Changed => "the file is as the other left it: run this again",
        }
    }
}

impl Seen {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let target = fs::canonicalize(path)?;
        // Asked before opening: opening a pipe would wait for its writer.
        if !fs::metadata(&target)?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut file = File::open(&target)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let identity = Identity::of(&file.metadata()?);
        Ok(Self { path: path.to_path_buf(), target, bytes, identity })
    }

    /// Where it really lies.
    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// Puts a new file in its place, unless it is no longer as it was read.
    pub(super) fn replace(&self, bytes: &[u8]) -> Result<(), Failed> {
        let folder = self.target.parent().unwrap_or(Path::new("/"));
        let mut new = tempfile::Builder::new()
            .prefix(".encr-milter-")
            .tempfile_in(folder)
            .map_err(|error| Failed::Create { folder: folder.to_path_buf(), error })?;
        new.write_all(bytes)?;
        self.own(new.as_file())?;
        new.as_file().sync_all()?;
        // Of two who have read the same, one would undo what the other has just done.
        let held = File::open(&self.target).ok();
        if held.as_ref().is_some_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock))) {
            return Err(Failed::Changed);
        }
        // As late as can be: between this and the next line nothing but the clock passes.
        if Self::read(&self.path).ok().as_ref() != Some(self) {
            return Err(Failed::Changed);
        }
        new.persist(&self.target).map_err(|error| error.error)?;
        // So that the new name is there after a power cut; where it cannot be made sure of, the file is whole still.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
        Ok(())
    }

    /// Makes a new file the old one's owner's. Last the mode: a change of owner takes bits of it away.
    fn own(&self, new: &File) -> Result<(), Failed> {
        let ((uid, gid), mode) = (self.identity.owner, self.identity.mode & 0o7777);
        let owned = || {
            let meta = new.metadata()?;
            if (meta.uid(), meta.gid()) != (uid, gid) {
                fchown(new, Some(uid), Some(gid))?;
            }
            new.set_permissions(Permissions::from_mode(mode))
        };
        owned().map_err(|error| Failed::Owner { uid, gid, mode, error })
    }
}

/// What a change of a file does to its lines; empty where it changes nothing.
pub(super) fn unified_diff(path: &Path, old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut diff = Vec::new();
    if new != old {
        let lines = TextDiff::from_lines(old, new);
        // Writing to a Vec cannot fail. Hunk by hunk: the whole at once would be made UTF-8.
        let _ = write!(diff, "--- {0}\n+++ {0}\n", path.display());
        for hunk in lines.unified_diff().iter_hunks() {
            let _ = hunk.to_writer(&mut diff);
        }
    }
    diff
}

/// A path as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    shell_word(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access");
        fs::write(&path, "old").unwrap();
        (folder, path)
    }

    #[test]
    fn a_file_that_was_changed_meanwhile_is_left_alone() {
        for change in [
            |path: &Path| fs::write(path, "else").unwrap(),
            |path: &Path| fs::remove_file(path).unwrap(),
            |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap(),
            // As an editor does it: the same text in another file.
            |path: &Path| {
                fs::write(path.with_extension("new"), "old").unwrap();
                fs::rename(path.with_extension("new"), path).unwrap();
            },
        ] {
            let (folder, path) = file();
            fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
            let seen = Seen::read(&path).unwrap();
            change(&path);
            let after = fs::read(&path).ok();
            let failed = seen.replace(b"new").unwrap_err();
            assert!(matches!(failed, Failed::Changed), "{failed}");
            assert_eq!((failed.exit_code(), fs::read(&path).ok()), (75, after.clone()));
            // Nothing is left lying about.
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), usize::from(after.is_some()));
        }
    }

    #[test]
    fn of_two_who_replace_a_file_at_once_one_gives_way() {
        let (folder, path) = file();
        let seen = Seen::read(&path).unwrap();
        let other = File::open(&path).unwrap();
        other.lock().unwrap();
        assert!(matches!(seen.replace(b"new"), Err(Failed::Changed)));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        drop(other);
        seen.replace(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_through_a_symlink() {
        let (folder, path) = file();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("access", &link).unwrap();
        Seen::read(&link).unwrap().replace(b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().mode() & 0o7777),
            (b"new".to_vec(), 0o640)
        );
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let (folder, path) = file();
        assert!(Seen::read(folder.path()).is_err());
        fs::remove_file(&path).unwrap();
        assert_eq!(Seen::read(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
