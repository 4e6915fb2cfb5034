//! Lines that a process says, kept as they come, and waited for.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use super::Result;
use super::wait::DEADLINE;

/// The lines said so far. Clones are the same log.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Log {
    /// Takes in all lines of a pipe until it closes. Bytes that are no UTF-8 are replaced.
    pub(crate) fn follow(&self, pipe: impl Read + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(pipe.read_until(b'\n', &mut line), Ok(1..)) {
                log.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
        });
    }

    pub(crate) fn push(&self, line: String) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        self.0.1.notify_all();
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many lines there are: a place in the log from which to wait.
    pub(crate) fn len(&self) -> usize {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits for a line, at `from` or later, that holds all of `parts`. Gives the place after it.
    pub(crate) fn wait_for(&self, from: usize, parts: &[String]) -> Result<usize> {
        let start = Instant::now();
        let mut lines = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let found = lines.iter().skip(from).position(|line| parts.iter().all(|part| line.contains(part)));
            if let Some(place) = found {
                return Ok(from + place + 1);
            }
            let Some(rest) = DEADLINE.checked_sub(start.elapsed()) else {
                return Err(format!("the log did not say {parts:?} within {} s", DEADLINE.as_secs()));
            };
            lines = self.0.1.wait_timeout(lines, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
