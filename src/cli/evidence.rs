//! `encr-milter evidence …`: the files that the daemon keeps evidence in.

mod merge;
mod stats;

use super::{complain, exit};
use crate::evidence::StoreError;
use crate::telemetry::log::with_causes;
use std::io;

/// Put the evidence of several hosts together, and see what is in a file
///
/// The daemon keeps it in evidence.db in its state folder; sqlite3 reads it too, while the daemon runs.
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Merge(merge::Arguments),
    Stats(stats::Arguments),
}

pub(super) fn run(arguments: &Arguments) -> io::Result<u8> {
    match &arguments.command {
        Command::Merge(arguments) => merge::run(arguments),
        Command::Stats(arguments) => stats::run(arguments),
    }
}

/// Tells what is wrong with an evidence file; gives the exit code for it.
pub(super) fn failed(error: &StoreError) -> u8 {
    complain(&with_causes(error));
    match error {
        StoreError::Missing(_) | StoreError::CannotOpen { .. } => exit::NO_INPUT,
        StoreError::Empty(_)
        | StoreError::Damaged { .. }
        | StoreError::NotEvidence(_)
        | StoreError::Newer { .. }
        | StoreError::Older { .. } => exit::DATA,
        StoreError::Locked { .. } => exit::TEMP_FAIL,
        StoreError::NotWritable { .. } => exit::CANT_CREATE,
        StoreError::Full { .. } | StoreError::Io { .. } | StoreError::Question { .. } => exit::IO,
    }
}
