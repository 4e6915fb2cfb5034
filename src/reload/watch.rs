//! What the policy's files are like, and who tells when they change.
//!
//! Promises: a rename over a file, a swap of a symbolic link anywhere on the way to it, a folder that is
//! replaced, a file that appears where a pattern points, a list that comes back: all are changes. What else
//! happens in the folder (the file of decisions growing beside the policy, an editor's backup) is none.

use super::Trigger;
use super::settle::Change;
use crate::policy_file::load::{Disk, ReadError, Store, is_backup};
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What a set of files is like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Signature(BTreeMap<PathBuf, Option<Stamp>>);

impl Signature {
    /// Of what the patterns match, and of further files.
    pub(super) fn of(patterns: &[PathBuf], further: &[PathBuf]) -> Self {
        // A pattern that matches nothing is a path that does not exist.
        let expand = |pattern: &PathBuf| Disk.expand(pattern).unwrap_or_else(|_| vec![pattern.clone()]);
        let paths = patterns.iter().flat_map(expand).chain(further.iter().cloned());
        Self(paths.map(|path| (path.clone(), stamp(&path))).collect())
    }

    /// Looks at a file more, if it is not among them.
    pub(super) fn look(&mut self, path: &Path) {
        if !self.0.contains_key(path) {
            self.0.insert(path.to_path_buf(), stamp(path));
        }
    }

    /// The files that another set has not.
    pub(super) fn paths_beyond(&self, other: &Self) -> Vec<PathBuf> {
        self.0.keys().filter(|path| !other.0.contains_key(*path)).cloned().collect()
    }

    /// How many bytes they have.
    pub(super) fn bytes(&self) -> u64 {
        self.0.values().flatten().map(|stamp| stamp.size).sum()
    }

    /// The files.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.0.keys().cloned().collect()
    }
}

/// Files on the disk, each looked at before it is read.
pub(super) struct Looked(pub(super) Signature);

impl Store for Looked {
    fn expand(&mut self, pattern: &Path) -> Result<Vec<PathBuf>, ReadError> {
        Disk.expand(pattern)
    }

    fn read(&mut self, path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
        self.0.look(path);
        Disk.read(path, limit)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    Some(Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    })
}

/// Which events concern us.
#[derive(Debug, Default)]
struct Interest {
    /// The files, and the symbolic links on the way to them.
    paths: BTreeSet<PathBuf>,
    patterns: Vec<glob::Pattern>,
}

impl Interest {
    fn concerns(&self, path: &Path) -> bool {
        self.paths.iter().any(|ours| ours == path || ours.starts_with(path))
            || (!is_backup(path) && self.patterns.iter().any(|pattern| pattern.matches_path(path)))
    }
}

/// Watches folders.
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    /// Watched folders, and which folder was there when the watch began.
    folders: BTreeMap<PathBuf, (u64, u64)>,
    interest: Arc<Mutex<Interest>>,
}

impl Watch {
    /// Sends triggers.
    pub(super) fn new(triggers: Sender<Trigger>) -> Self {
        let interest = Arc::new(Mutex::new(Interest::default()));
        let theirs = Arc::clone(&interest);
        let handler = move |event: notify::Result<notify::Event>| {
            let trigger = match event {
                Ok(event) => {
                    let interest = theirs.lock().unwrap_or_else(PoisonError::into_inner);
                    trigger_of(&event, &interest)
                }
                // An overflow: something happened, and nobody knows what.
                Err(_) => Some(Trigger::changed(Change::Unseen)),
            };
            if let Some(trigger) = trigger {
                // Nobody listens any more when the daemon ends.
                let _ = triggers.send(trigger);
            }
        };
        let watcher = notify::recommended_watcher(handler)
            .inspect_err(|error| {
                tracing::warn!(%error, "cannot watch folders: changes are seen within two seconds");
            })
            .ok();
        Self { watcher, folders: BTreeMap::new(), interest }
    }

    /// Watches the folders of these files and of the symbolic links on the way to them, and no others.
    pub(super) fn update(&mut self, paths: &[PathBuf], patterns: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        let tracked: BTreeSet<PathBuf> = paths.iter().flat_map(|path| way_to(path)).collect();
        let mut wanted = BTreeMap::new();
        let of_patterns = patterns.iter().map(PathBuf::as_path);
        for path in tracked.iter().map(PathBuf::as_path).chain(of_patterns) {
            // The nearest folder that is there: it tells when the next one comes.
            let folder = path.ancestors().skip(1).find_map(|folder| {
                let meta = std::fs::metadata(folder).ok()?;
                Some((folder.to_path_buf(), (meta.dev(), meta.ino())))
            });
            wanted.extend(folder);
        }
        {
            let patterns = patterns.iter().filter_map(|p| glob::Pattern::new(p.to_str()?).ok()).collect();
            let mut interest = self.interest.lock().unwrap_or_else(PoisonError::into_inner);
            *interest = Interest { paths: tracked, patterns };
        }
        self.folders.retain(|folder, identity| {
            let keep = wanted.get(folder) == Some(identity);
            if !keep {
                // It may be gone already, and its watch with it.
                let _ = watcher.unwatch(folder);
            }
            keep
        });
        for (folder, identity) in wanted {
            // Also those that are watched already: a folder may have been removed and made anew with the same
            // inode, and its watch is gone with the first. Watching twice is watching once.
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.folders.insert(folder, identity);
                }
                Err(error) => tracing::debug!(folder = %folder.display(), %error, "cannot watch"),
            }
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("folders", &self.folders).finish_non_exhaustive()
    }
}

fn trigger_of(event: &notify::Event, interest: &Interest) -> Option<Trigger> {
    if event.need_rescan() {
        return Some(Trigger::changed(Change::Unseen));
    }
    let paths: Vec<PathBuf> = event.paths.iter().filter(|path| interest.concerns(path)).cloned().collect();
    if paths.is_empty() {
        return None;
    }
    Some(Trigger::changed(match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Change::Done(paths),
        EventKind::Access(_) => return None,
        EventKind::Modify(ModifyKind::Data(_)) => Change::Written(paths),
        _ => Change::Done(paths),
    }))
}

/// The path, and every symbolic link that is followed on the way to what it names, with what each leads to.
fn way_to(path: &Path) -> Vec<PathBuf> {
    /// The system's own limit of links to follow.
    const MAX_LINKS: usize = 40;
    let mut way = vec![path.to_path_buf()];
    let mut at = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        // The outermost link first: `conf` before `policy.toml` in /etc/conf/policy.toml.
        let prefixes: Vec<PathBuf> = at.ancestors().map(Path::to_path_buf).collect();
        let link = prefixes.iter().rev().find(|prefix| prefix.is_symlink());
        let Some(link) = link else { break };
        let Ok(target) = std::fs::read_link(link) else { break };
        let rest = at.strip_prefix(link).map(Path::to_path_buf).unwrap_or_default();
        let folder = link.parent().unwrap_or(Path::new("/"));
        way.push(link.clone());
        at = folder.join(target);
        if !rest.as_os_str().is_empty() {
            at.push(rest);
        }
        way.push(at.clone());
    }
    way
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_link_on_the_way_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("v1")).unwrap();
        std::fs::write(root.join("v1/policy.toml"), "").unwrap();
        symlink("v1", root.join("current")).unwrap();
        symlink("current/policy.toml", root.join("policy.toml")).unwrap();
        let way = way_to(&root.join("policy.toml"));
        for part in ["policy.toml", "current", "current/policy.toml", "v1/policy.toml"] {
            assert!(way.contains(&root.join(part)), "{part} in {way:?}");
        }
        symlink("loop", root.join("loop")).unwrap();
        assert!(way_to(&root.join("loop")).len() < 100);
    }

    #[test]
    fn what_happens_beside_the_policy_is_no_change() {
        let interest = Interest {
            paths: [PathBuf::from("/etc/x/policy.toml")].into(),
            patterns: vec![glob::Pattern::new("/etc/x/policy.d/*.toml").unwrap()],
        };
        for (path, concerns) in [
            ("/etc/x/policy.toml", true),
            ("/etc/x", true),
            ("/etc/x/decisions.jsonl", false),
            ("/etc/x/policy.toml~", false),
            ("/etc/x/policy.d/a.toml", true),
            ("/etc/x/policy.d/.a.toml.swp", false),
            ("/etc/x/policy.d/#a.toml", false),
        ] {
            assert_eq!(interest.concerns(Path::new(path)), concerns, "{path}");
        }
    }
}
