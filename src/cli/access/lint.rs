//! `encr-milter access lint`: all that is wrong with the TLS rules of an access map.
//!
//! Promises: shows as `check` does, and lets warnings fail where a script asks for it. Must not: judge (see
//! [`crate::sendmail::lint`]).

use super::super::{colour, exit};
use super::{Map, read};
use crate::diagnostics::DiagnosticRecord;
use crate::sendmail::lint::lint;
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Show all that is wrong with the TLS rules of an access map
///
/// Exits 0 where nothing is wrong, and 78 where a rule does not do what it was written for. Warnings are
/// shown all the same.
///
/// A bare rule (`ENCR:128`, without PERM+) replies 454: the sender keeps the mail and tries again for days,
/// until it gives up. That is sendmail's default, so it is said here and nowhere else.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The file that the map is made from (not access.db); `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Tell it as one JSON object on standard output
    #[arg(long)]
    json: bool,
    /// What makes it exit 78
    #[arg(long, value_name = "SEVERITY", value_enum, default_value_t = FailOn::Error)]
    fail_on: FailOn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    /// A warning, or an error
    Warning,
    /// An error
    Error,
}

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    errors: usize,
    warnings: usize,
    rules: usize,
    diagnostics: Vec<DiagnosticRecord<'a>>,
}

pub(super) fn run(arguments: &Arguments) -> io::Result<u8> {
    let Map { sources, file, text } = match read(&arguments.file) {
        Ok(text) => text,
        Err(code) => return Ok(code),
    };
    let found = lint(&text, file);
    let (errors, warnings) = (found.diagnostics.errors(), found.diagnostics.warnings());
    let ok = errors == 0 && (warnings == 0 || arguments.fail_on == FailOn::Error);
    let mut out = io::stdout().lock();
    if arguments.json {
        let diagnostics = found.diagnostics.records(&sources);
        serde_json::to_writer_pretty(
            &mut out,
            &Report { ok, errors, warnings, rules: found.rules, diagnostics },
        )?;
        writeln!(out)?;
    } else {
        let mut err = io::stderr().lock();
        write!(err, "{}", found.diagnostics.render(&sources, colour()))?;
        if let Some(summary) = found.diagnostics.summary() {
            writeln!(err, "{summary}")?;
        }
        if ok {
            let plural = if found.rules == 1 { "" } else { "s" };
            let path = sources.get(file).map_or(Path::new("-"), |source| &source.path);
            let verdict = if warnings == 0 { "sound" } else { "no errors" };
            writeln!(out, "{}: {} TLS rule{plural}, {verdict}", path.display(), found.rules)?;
        }
    }
    Ok(if ok { exit::OK } else { exit::CONFIG })
}
