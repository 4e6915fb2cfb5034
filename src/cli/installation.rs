//! Where a policy and its evidence are: the daemon's file names both, or each is told by itself.
//!
//! Promises: finds them alike for every command that needs both. Must not: read them.

use super::file::quoted;
use crate::daemon_file::{self, DEFAULT_PATH};
use crate::diagnostics::{Diagnostics, Sources};
use crate::evidence::store;
use crate::policy_file::load::{DEFAULT_MAX_SIZE, Request};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct Installation {
    /// The daemon's file: it names the policy and the folder of the evidence
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_PATH, conflicts_with = "policy")]
    config: PathBuf,
    /// Policy files (or globs), together one policy
    #[arg(long, value_name = "FILE", num_args = 1..)]
    policy: Vec<PathBuf>,
    /// The evidence file, in place of the daemon's
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
}

/// What an installation consists of.
pub(super) struct Found {
    pub(super) request: Request,
    /// Nothing where only a policy was told.
    pub(super) evidence: Option<PathBuf>,
}

impl Installation {
    /// Finds both; what is wrong with the daemon's file is told.
    pub(super) fn find(&self) -> Result<Found, (Diagnostics, Sources)> {
        if !self.policy.is_empty() {
            let request = Request { patterns: self.policy.clone(), max_size: DEFAULT_MAX_SIZE };
            return Ok(Found { request, evidence: self.evidence.clone() });
        }
        let read = daemon_file::read(&self.config);
        let Some(daemon) = read.daemon else { return Err((read.diagnostics, read.sources)) };
        let evidence = self.evidence.clone().unwrap_or_else(|| daemon.state.join(store::FILE_NAME));
        Ok(Found { request: daemon.policy.request(), evidence: Some(evidence) })
    }

    /// The arguments that name the same installation, each with a blank before it.
    pub(super) fn arguments(&self) -> String {
        let mut parts = Vec::new();
        if !self.policy.is_empty() {
            let files: Vec<String> = self.policy.iter().map(|path| quoted(path)).collect();
            parts.push(format!(" --policy {}", files.join(" ")));
        } else if self.config != Path::new(DEFAULT_PATH) {
            parts.push(format!(" -c {}", quoted(&self.config)));
        }
        parts.extend(self.evidence.iter().map(|path| format!(" --evidence {}", quoted(path))));
        parts.concat()
    }
}
