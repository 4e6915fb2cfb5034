//! A policy that a command was given, or why there is none.

use super::{colour, complain};
use crate::policy::{Day, Policy};
use crate::policy_file::load::{self, DEFAULT_MAX_SIZE, Disk, Request};
use std::io::{self, Write};
use std::path::PathBuf;

/// Loads the policy of these files (or globs). Where it is wrong, all that is wrong is told on standard error.
pub(super) fn load(patterns: &[PathBuf], now: jiff::Timestamp) -> io::Result<Option<Policy>> {
    let request = Request { patterns: patterns.to_vec(), max_size: DEFAULT_MAX_SIZE };
    let loaded = load::load(&request, &mut Disk, Day::of_unix_seconds(now.as_second()));
    if loaded.policy.is_none() {
        write!(io::stderr().lock(), "{}", loaded.diagnostics.render(&loaded.sources, colour()))?;
        complain(&format!("the policy is wrong: {}", loaded.diagnostics.summary().unwrap_or_default()));
    }
    Ok(loaded.policy)
}
