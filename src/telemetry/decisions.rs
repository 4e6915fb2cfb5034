//! Where decisions are written: a line in the log, and a line in the file of decisions.
//!
//! Promises: one decision, one record, in each place that is configured. Not through `tracing`'s
//! formatter, which costs ten times what serialising a record into a buffer does.

use super::log::Format;
use super::sink::Sink;
use crate::policy::decide::Verdict;
use crate::policy::record::Record;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Takes decisions.
#[derive(Debug)]
pub struct Decisions {
    log: Sink,
    format: Format,
    /// Whether the log's level lets decisions through: they are `info`.
    in_log: AtomicBool,
    file: Option<Sink>,
    unknown: AtomicU64,
}

impl Decisions {
    /// To the log, in its format, and to a file of JSON Lines.
    pub fn new(log: Sink, format: Format, in_log: bool, file: Option<Sink>) -> Self {
        Self { log, format, in_log: AtomicBool::new(in_log), file, unknown: AtomicU64::new(0) }
    }

    /// Whether decisions are to be seen in the log.
    pub fn set_in_log(&self, in_log: bool) {
        self.in_log.store(in_log, Ordering::Relaxed);
    }

    /// How many verdicts were `unknown` so far.
    pub fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// Writes a record. Never waits.
    pub fn write(&self, record: &Record<'_>) {
        if record.verdict == Some(Verdict::Unknown) {
            self.unknown.fetch_add(1, Ordering::Relaxed);
        }
        let in_log = self.in_log.load(Ordering::Relaxed);
        let as_json = self.file.is_some() || (in_log && self.format == Format::Json);
        if as_json {
            let mut line = Vec::with_capacity(768);
            // Strings and numbers into memory: cannot fail.
            if record.write_json(&mut line).is_ok() {
                if in_log && self.format == Format::Json {
                    self.log.line(line.clone());
                }
                if let Some(file) = &self.file {
                    file.line(line);
                }
            }
        }
        if in_log && self.format == Format::Text {
            let mut line = Vec::with_capacity(512);
            let ts = record.ts.unwrap_or_default();
            // Into memory: cannot fail.
            let _ = writeln!(line, "{ts:.6} INFO {record}");
            self.log.line(line);
        }
    }
}
