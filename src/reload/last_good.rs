//! The last good policy, kept in the state folder: the texts that it was made of.
//!
//! Promises: written whole or not at all (beside its place, synced, moved there); a folder that cannot be
//! written costs the copy, never the daemon, and is told.

use super::say;
use crate::diagnostics::Sources;
use crate::policy::{Day, Policy};
use crate::policy_file::load::{ReadError, Request, Store, load as load_policy};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NAME: &str = "last-good-policy.json";
const VERSION: u32 = 1;

/// The texts of a policy.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    version: u32,
    /// Policy files first, then lists.
    files: Vec<KeptFile>,
    policy_files: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptFile {
    path: PathBuf,
    text: Arc<str>,
}

impl Kept {
    /// Of what was read.
    pub(super) fn of(sources: &Sources, policy_files: usize) -> Self {
        let files = sources
            .iter()
            .map(|source| KeptFile { path: source.path.clone(), text: Arc::clone(&source.text) })
            .collect();
        Self { version: VERSION, files, policy_files }
    }
}

/// Where it lies.
fn path(state: &Path) -> PathBuf {
    state.join(NAME)
}

/// Keeps it. Gives it back where that could not be done.
pub(super) fn save(state: &Path, kept: Kept) -> Option<Kept> {
    let error = write(state, &kept).err()?;
    tracing::warn!(
        state = %state.display(), %error, help = "make the folder, and the daemon's user its owner",
        "cannot keep the last good policy in the state folder: a start with a broken policy would fail"
    );
    Some(kept)
}

/// Tries again to keep what could not be; says so once it is.
pub(super) fn save_again(state: &Path, kept: Kept) -> Option<Kept> {
    if write(state, &kept).is_err() {
        return Some(kept);
    }
    tracing::info!(state = %state.display(), "the last good policy is kept again");
    None
}

/// Whether there is one.
pub(super) fn is_there(state: &Path) -> bool {
    path(state).is_file()
}

/// Removes what a daemon that was killed while it wrote has left: many kills must not fill the disk.
fn remove_halves(state: &Path, ours: &Path) {
    let Ok(entries) = std::fs::read_dir(state) else { return };
    let half = format!(".{NAME}.");
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_half =
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(half.as_bytes()));
        if is_half && path != ours {
            // One that cannot be removed costs its room.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn write(state: &Path, kept: &Kept) -> io::Result<()> {
    std::fs::create_dir_all(state)?;
    let place = path(state);
    let beside = state.join(format!(".{NAME}.{}", std::process::id()));
    remove_halves(state, &beside);
    let write = || -> io::Result<()> {
        let mut file = io::BufWriter::new(std::fs::File::create(&beside)?);
        serde_json::to_writer(&mut file, kept)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        std::fs::rename(&beside, &place)
    };
    write().inspect_err(|_| {
        // Nothing is to be left of what was not finished; if even that fails, the error told says why.
        let _ = std::fs::remove_file(&beside);
    })
}

/// Loads it, if there is one and it is whole.
pub(super) fn load(state: &Path, today: Day) -> Option<Policy> {
    let bytes = match std::fs::read(path(state)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::error!(state = %state.display(), %error, "cannot read the last good policy");
            return None;
        }
    };
    let kept: Kept = match serde_json::from_slice(&bytes) {
        Ok(kept) => kept,
        Err(error) => {
            tracing::error!(state = %state.display(), %error, "the last good policy is damaged");
            return None;
        }
    };
    if kept.version != VERSION {
        tracing::error!(state = %state.display(), version = kept.version, "the last good policy is of another version");
        return None;
    }
    let patterns = kept.files.iter().take(kept.policy_files).map(|file| file.path.clone()).collect();
    let request = Request { patterns, max_size: u64::MAX };
    let loaded = load_policy(&request, &mut Copy(kept.files), today);
    for (severity, line) in loaded.diagnostics.lines(&loaded.sources) {
        say(severity, &format!("last good policy: {line}"));
    }
    loaded.policy
}

/// The kept texts in the place of files.
struct Copy(Vec<KeptFile>);

impl Store for Copy {
    fn expand(&mut self, pattern: &Path) -> Result<Vec<PathBuf>, ReadError> {
        Ok(vec![pattern.to_path_buf()])
    }

    fn read(&mut self, path: &Path, _limit: u64) -> Result<Vec<u8>, ReadError> {
        let file = self.0.iter().find(|file| file.path == path);
        let file = file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(file.text.as_bytes().to_vec())
    }
}
