//! Lines, on standard error or at the end of a file.
//!
//! Promises: what is cut off within a line is ended before the next one. A pipe that nobody reads holds up neither the
//! start nor, for more than a moment, the writer. Where standard error is the journal, each line tells it its priority.

use crate::telemetry::entry::{Entry, Format};
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a batch waits for a pipe's reader: so often, so long.
const MOMENTS: u32 = 100;
const MOMENT: Duration = Duration::from_millis(10);

pub(super) struct Lines {
    /// Standard error, where there is none.
    path: Option<PathBuf>,
    file: Option<File>,
    /// Whether the last write ended within a line.
    torn: bool,
    /// Whether lines begin with `<6>`, which the journal takes off and heeds.
    priorities: bool,
}

impl Lines {
    pub(super) fn stderr() -> Self {
        Self { path: None, file: None, torn: false, priorities: stderr_is_the_journal() }
    }

    /// A file, and whether it could be opened.
    pub(super) fn file(path: &Path) -> (Self, io::Result<()>) {
        let mut lines = Self { path: Some(path.to_owned()), file: None, torn: false, priorities: false };
        let opened = lines.open();
        (lines, opened)
    }

    fn open(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            // A pipe that nobody reads must not hold up the start, nor one that is full the writer for ever.
            let flags = OFlag::O_NONBLOCK.bits();
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .read(true)
                .mode(0o640)
                .custom_flags(flags)
                .open(path)?;
            // Whoever wrote before may have been cut off within a line.
            let meta = file.metadata()?;
            let mut last = [b'\n'];
            if meta.is_file() && meta.len() > 0 {
                file.read_exact_at(&mut last, meta.len() - 1)?;
            }
            self.torn = last != [b'\n'];
            self.file = Some(file);
        }
        Ok(())
    }

    /// Appends an entry's line.
    pub(super) fn render(&self, entry: &Entry, format: Format, out: &mut Vec<u8>) {
        if self.priorities {
            out.extend_from_slice(format!("<{}>", entry.priority() as u8).as_bytes());
        }
        entry.line(format, out);
    }

    /// Writes these lines; or tells how many bytes of them were written, and why no more.
    pub(super) fn write(&mut self, batch: &[u8]) -> Result<(), (usize, io::Error)> {
        let outcome = self.write_all(batch);
        if let Err((written, _)) = outcome {
            // Where nothing was written, what was torn before still is.
            if written > 0 {
                self.torn = batch.get(written - 1) != Some(&b'\n');
            }
            // Perhaps the file is on a disk that has been unmounted: open it anew next time.
            self.file = None;
        }
        outcome
    }

    fn write_all(&mut self, batch: &[u8]) -> Result<(), (usize, io::Error)> {
        if self.file.is_none() {
            self.open().map_err(|error| (0, error))?;
        }
        if self.torn {
            self.write_once(b"\n").map_err(|error| (0, error))?;
            self.torn = false;
        }
        let mut written = 0;
        let mut moments = MOMENTS;
        while let Some(rest) = batch.get(written..).filter(|rest| !rest.is_empty()) {
            match self.write_once(rest) {
                Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A pipe whose reader is slow gets a moment.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && moments > 0 => {
                    moments -= 1;
                    std::thread::sleep(MOMENT);
                }
                Err(error) => return Err((written, error)),
            }
        }
        Ok(())
    }

    fn write_once(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.file {
            Some(file) => file.write(bytes),
            None => io::stderr().lock().write(bytes),
        }
    }
}

/// systemd says by `JOURNAL_STREAM` which file it is that leads to the journal; standard error may have been
/// redirected since.
fn stderr_is_the_journal() -> bool {
    let Some(told) = std::env::var_os("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|stat| *told == *format!("{}:{}", stat.st_dev, stat.st_ino))
}
