//! The rig's /dev/log: what each MTA logs, told apart by the tag it was started with.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::Result;
use super::log::Log;

pub(crate) struct Syslog {
    log: Log,
    path: PathBuf,
    marks: AtomicU32,
}

impl Syslog {
    pub(crate) fn listen(path: &Path) -> Result<Syslog> {
        let failed = |e: std::io::Error| format!("{}: {e}", path.display());
        let socket = UnixDatagram::bind(path).map_err(failed)?;
        // Postfix's processes are not root's.
        fs::set_permissions(path, Permissions::from_mode(0o666)).map_err(failed)?;
        let log = Log::default();
        let kept = log.clone();
        thread::spawn(move || {
            let mut datagram = vec![0; 16 * 1024];
            while let Ok(length) = socket.recv(&mut datagram) {
                kept.push(
                    String::from_utf8_lossy(datagram.get(..length).unwrap_or_default()).trim_end().to_owned(),
                );
            }
        });
        Ok(Syslog { log, path: path.to_owned(), marks: AtomicU32::new(0) })
    }

    /// What the process with this tag has said: `<22>Nov 22 02:07:29 TAG[PID]: …`, shown from the tag on.
    pub(crate) fn of(&self, tag: &str) -> Vec<String> {
        let from_tag = |line: String| line.get(at(&line, tag)? + 1..).map(str::to_owned);
        self.log.lines().into_iter().filter_map(from_tag).collect()
    }

    /// The same, as a whole.
    pub(crate) fn whole(&self, tag: &str) -> Vec<String> {
        self.log.lines().into_iter().filter(|line| at(line, tag).is_some()).collect()
    }

    /// Waits until everything is here that was said before. Lines come in their order.
    pub(crate) fn catch_up(&self) -> Result<()> {
        let from = self.log.len();
        let mark = format!("rig: mark {}.", self.marks.fetch_add(1, Ordering::Relaxed));
        let said = UnixDatagram::unbound().and_then(|socket| socket.send_to(mark.as_bytes(), &self.path));
        said.map_err(|e| format!("{}: {e}", self.path.display()))?;
        self.log.wait_for(from, &[mark]).map(drop)
    }
}

/// Where the tag stands: `tag[pid]`, or `tag/smtpd[pid]` of Postfix.
fn at(line: &str, tag: &str) -> Option<usize> {
    ["[", "/"].iter().find_map(|behind| line.find(&format!(" {tag}{behind}")))
}
