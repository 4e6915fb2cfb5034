//! `encr-milter evidence stats`: what is in an evidence file.

use super::failed;
use crate::cli::exit;
use crate::evidence::store::{Stats, Store};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Show how much is in an evidence file
///
/// Exit code 66: there is no such file; 65: it is damaged, or no evidence.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The file, as evidence.db of the daemon's state folder
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Tell it as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> io::Result<u8> {
    let stats = match Store::open_read_only(&arguments.file).and_then(|store| store.stats()) {
        Ok(stats) => stats,
        Err(error) => return Ok(failed(&error)),
    };
    tell(&arguments.file, &stats, arguments.json)?;
    Ok(exit::OK)
}

/// Tells what is in a file, to a person or to a script.
pub(super) fn tell(path: &Path, stats: &Stats, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, stats)?;
        return writeln!(out);
    }
    let Stats { first_day, last_day, days, decisions, rows, peers, others, hosts, rules, bytes } = stats;
    let (Some(first), Some(last)) = (first_day, last_day) else {
        return writeln!(out, "{}: no decisions yet", path.display());
    };
    let unit = if *days == 1 { "day" } else { "days" };
    writeln!(out, "{}: {decisions} decisions on {days} {unit}, {first} to {last}", path.display())?;
    let beyond = if *others > 0 { format!("; {others} decisions on further peers") } else { String::new() };
    writeln!(out, "{rules} rules, {peers} peers, {hosts} hosts{beyond}")?;
    writeln!(out, "{rows} rows, {bytes} bytes")
}
