//! The rig's /dev/log: what each sm-mta logs, told apart by the tag it was started with.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::thread;

use super::Result;
use super::log::Log;

pub(crate) struct Syslog(Log);

impl Syslog {
    pub(crate) fn listen(path: &Path) -> Result<Syslog> {
        let socket = UnixDatagram::bind(path).map_err(|e| format!("{}: {e}", path.display()))?;
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
        Ok(Syslog(log))
    }

    /// What the process with this tag has said: `<22>Nov 22 02:07:29 TAG[PID]: …`, shown from the tag on.
    pub(crate) fn of(&self, tag: &str) -> Vec<String> {
        let from_tag = |line: String| line.get(at(&line, tag)? + 1..).map(str::to_owned);
        self.0.lines().into_iter().filter_map(from_tag).collect()
    }

    /// The same, as a whole.
    pub(crate) fn whole(&self, tag: &str) -> Vec<String> {
        self.0.lines().into_iter().filter(|line| at(line, tag).is_some()).collect()
    }
}

fn at(line: &str, tag: &str) -> Option<usize> {
    line.find(&format!(" {tag}["))
}
