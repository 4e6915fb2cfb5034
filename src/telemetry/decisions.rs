//! Where decisions are written: in the log, and in the file of decisions.
//!
//! Promises: one decision, one record, in each place that is configured. It is serialised once, by whoever decided;
//! what the log makes of it is made by the thread that writes. Not through `tracing`, which costs ten times that.

use super::entry::Entry;
use super::sink::Sink;
use crate::policy::record::Record;
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering};

/// Takes decisions.
#[derive(Debug)]
pub struct Decisions {
    log: Sink,
    /// Whether the log's level lets decisions through: they are `info`.
    in_log: AtomicBool,
    file: Sink,
    /// Whether there is such a file.
    in_file: AtomicBool,
}

impl Decisions {
    /// To the log, and to a file of JSON Lines.
    pub fn new(log: Sink, in_log: bool, file: Sink, in_file: bool) -> Self {
        Self { log, in_log: AtomicBool::new(in_log), file, in_file: AtomicBool::new(in_file) }
    }

    /// Whether decisions are to be seen in the log, and in the file.
    pub fn set(&self, in_log: bool, in_file: bool) {
        self.in_log.store(in_log, Ordering::Relaxed);
        self.in_file.store(in_file, Ordering::Relaxed);
    }

    /// Writes a record. Never waits.
    pub fn write(&self, record: &Record<'_>) {
        let in_log = self.in_log.load(Ordering::Relaxed);
        let in_file = self.in_file.load(Ordering::Relaxed);
        if !in_log && !in_file {
            return;
        }
        let mut line = Vec::with_capacity(768);
        record.write_json(&mut line);
        let line = Bytes::from(line);
        if in_log {
            self.log.take(Entry::Decision(line.clone()));
        }
        if in_file {
            self.file.take(Entry::Decision(line));
        }
    }
}
