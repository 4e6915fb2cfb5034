//! The machine: files below a root, processes, users, and who may do what with a file.
//!
//! Promises: reads, and nothing else; a text comes whole or not at all, and what is no file (a folder, a pipe, a device)
//! is an error at once: nothing here waits for somebody to write.

use nix::unistd::{Group, User};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A configuration has some ten KB, with large classes in it some hundred.
const MAX_CONFIGURATION: u64 = 4 * 1024 * 1024;
/// An access map's text may have tens of MB.
const MAX_TABLE: u64 = 64 * 1024 * 1024;

/// The folder that stands for `/`.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    root: PathBuf,
}

/// A process, and what it was started with.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) name: String,
    /// Its arguments, or what it has put in their place.
    pub(super) title: String,
}

/// Somebody who wants to do something with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) uid: u32,
    pub(super) groups: Vec<u32>,
}

impl Machine {
    pub(super) fn at(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// Whether it is this machine, and not a tree of files.
    pub(super) fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Where a path of the machine lies for us.
    pub(super) fn path(&self, path: &Path) -> PathBuf {
        if self.is_live() || path.starts_with(&self.root) {
            return path.to_path_buf();
        }
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A configuration.
    pub(super) fn text(&self, path: &Path) -> io::Result<String> {
        self.whole(path, MAX_CONFIGURATION)
    }

    /// The text of a map.
    pub(super) fn table(&self, path: &Path) -> io::Result<String> {
        self.whole(path, MAX_TABLE)
    }

    fn whole(&self, path: &Path, most: u64) -> io::Result<String> {
        let mut bytes = Vec::new();
        // Files of /proc say that they are empty, so that only reading tells.
        self.open(path)?.take(most + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            let words = format!("more than {} MB, which no such file has", most / 1024 / 1024);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, words));
        }
        // Comments in other encodings are no reason to stop.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Opens a file, and nothing else: others may have nothing to read for ever, or no end.
    fn open(&self, path: &Path) -> io::Result<File> {
        let not_blocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
        let file = File::options().read(true).custom_flags(not_blocking).open(self.path(path))?;
        let kind = file.metadata()?.file_type();
        let is = match () {
            () if kind.is_file() => return Ok(file),
            () if kind.is_dir() => "a folder",
            () if kind.is_fifo() => "a pipe",
            () => "a device",
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{is}, and no file")))
    }

    /// The end of a file, from a line's beginning on.
    pub(super) fn tail(&self, path: &Path, most: u64) -> io::Result<String> {
        let mut file = self.open(path)?;
        let length = file.metadata()?.len();
        let from = length.saturating_sub(most);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if from == 0 {
            return Ok(text);
        }
        Ok(text.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default())
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    pub(super) fn meta(&self, path: &Path) -> io::Result<Metadata> {
        fs::metadata(self.path(path))
    }

    pub(super) fn modified(&self, path: &Path) -> Option<SystemTime> {
        self.meta(path).and_then(|meta| meta.modified()).ok()
    }

    /// A process, if there is one of that id.
    pub(super) fn process(&self, pid: u32) -> Option<Process> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let name = self.text(&folder.join("comm")).ok()?.trim().to_owned();
        let title = self.text(&folder.join("cmdline")).unwrap_or_default();
        let title = title.split('\0').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        Some(Process { pid, name, title })
    }

    /// Where a process is.
    pub(super) fn folder_of(&self, pid: u32) -> Option<PathBuf> {
        fs::read_link(self.path(&PathBuf::from(format!("/proc/{pid}/cwd")))).ok()
    }

    /// All processes that may be seen.
    pub(super) fn processes(&self) -> Vec<Process> {
        let entries = fs::read_dir(self.path(Path::new("/proc")));
        let pids = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(|pid| self.process(pid)).collect()
    }

    /// Whose a process is.
    pub(super) fn who_runs(&self, pid: u32) -> Option<Who> {
        let status = self.text(&PathBuf::from(format!("/proc/{pid}/status"))).ok()?;
        let numbers = |field: &str| -> Vec<u32> {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.into_iter()
                .flat_map(str::split_ascii_whitespace)
                .filter_map(|word| word.parse().ok())
                .collect()
        };
        let uid = *numbers("Uid:").get(1)?;
        let mut groups = numbers("Groups:");
        groups.extend(numbers("Gid:").get(1));
        Some(Who { uid, groups })
    }
}

impl Who {
    /// The superuser.
    pub(super) fn root() -> Self {
        Self { uid: 0, groups: vec![0] }
    }

    /// sendmail's RunAsUser: `user`, `user:group`, by names or numbers.
    pub(super) fn named(text: &str) -> Option<Self> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user.trim(), Some(group.trim())),
            None => (text.trim(), None),
        };
        let found = match user.parse::<u32>() {
            Ok(uid) => User::from_uid(uid.into()).ok().flatten(),
            Err(_) => User::from_name(user).ok().flatten(),
        };
        let uid = found.as_ref().map(|user| user.uid.as_raw()).or_else(|| user.parse().ok())?;
        let mut groups = Vec::new();
        if let Some(group) = group {
            groups.push(match group.parse() {
                Ok(gid) => gid,
                Err(_) => Group::from_name(group).ok().flatten()?.gid.as_raw(),
            });
        }
        if let Some(user) = found {
            groups.push(user.gid.as_raw());
            let name = std::ffi::CString::new(user.name).ok();
            let others = name.and_then(|name| nix::unistd::getgrouplist(&name, user.gid).ok());
            groups.extend(others.into_iter().flatten().map(nix::unistd::Gid::as_raw));
        }
        Some(Self { uid, groups })
    }

    /// Whether these bits (`rwx`, in octal) are granted on a file.
    pub(super) fn may(&self, meta: &Metadata, bits: u32) -> bool {
        if self.uid == 0 {
            return true;
        }
        let mode = meta.mode();
        let granted = if meta.uid() == self.uid {
            mode >> 6
        } else if self.groups.contains(&meta.gid()) {
            mode >> 3
        } else {
            mode
        };
        granted & bits == bits
    }
}

/// A user's name, or his number.
pub(super) fn user_name(uid: u32) -> String {
    User::from_uid(uid.into()).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// A group's name, or its number.
pub(super) fn group_name(gid: u32) -> String {
    Group::from_gid(gid.into()).ok().flatten().map_or_else(|| gid.to_string(), |group| group.name)
}

/// A point in time as it is shown.
pub(super) fn shown(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time)
        .map(|time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
        .unwrap_or_default()
}
