//! `encr-milter check`: all that is wrong with a configuration.

use super::{colour, exit, today};
use crate::daemon_file;
use crate::diagnostics::{DiagnosticRecord, Diagnostics, Sources};
use crate::policy_file::load::{DEFAULT_MAX_SIZE, Disk, Request, load};
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;

/// Show all that is wrong with the daemon's file and its policy, or with a policy alone
///
/// Exits 0 where the daemon would take it (warnings are shown all the same), and 78 where it would not.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(false))]
pub(super) struct Arguments {
    /// The daemon's file; the policy that it names is checked too
    #[arg(short, long, value_name = "FILE", group = "what")]
    config: Option<PathBuf>,
    /// Policy files (or globs), together one policy
    #[arg(long, value_name = "FILE", num_args = 1.., group = "what")]
    policy: Vec<PathBuf>,
    /// Tell it as one JSON object on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    errors: usize,
    warnings: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<usize>,
    diagnostics: Vec<DiagnosticRecord<'a>>,
}

pub(super) fn run(arguments: &Arguments) -> io::Result<u8> {
    let mut found: Vec<(Diagnostics, Sources)> = Vec::new();
    let mut request = Request { patterns: arguments.policy.clone(), max_size: DEFAULT_MAX_SIZE };
    let mut daemon_is_sound = true;
    let mut served = None;
    if let Some(config) = &arguments.config {
        let read = daemon_file::read(config);
        daemon_is_sound = read.daemon.is_some();
        if let Some(daemon) = read.daemon {
            request = daemon.policy.request();
            served = Some(daemon);
        }
        found.push((read.diagnostics, read.sources));
    }
    let mut policy = None;
    if daemon_is_sound {
        let mut loaded = load(&request, &mut Disk, today());
        policy = loaded.policy;
        let unasked = served.zip(policy.as_ref()).and_then(|(daemon, policy)| daemon.unasked(policy));
        if let Some(unasked) = unasked {
            loaded.diagnostics.push(unasked);
        }
        found.push((loaded.diagnostics, loaded.sources));
    }
    let errors = found.iter().map(|(diagnostics, _)| diagnostics.errors()).sum();
    let warnings = found.iter().map(|(diagnostics, _)| diagnostics.warnings()).sum();
    let mut out = io::stdout().lock();
    if arguments.json {
        let report = Report {
            ok: errors == 0,
            errors,
            warnings,
            policy: policy.as_ref().map(|policy| policy.fingerprint().as_str()),
            rules: policy.as_ref().map(|policy| policy.rules().len()),
            diagnostics: found
                .iter()
                .flat_map(|(diagnostics, sources)| diagnostics.records(sources))
                .collect(),
        };
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        let mut err = io::stderr().lock();
        for (diagnostics, sources) in &found {
            write!(err, "{}", diagnostics.render(sources, colour()))?;
            if let Some(summary) = diagnostics.summary() {
                writeln!(err, "{summary}")?;
            }
        }
        if let Some(policy) = &policy {
            let (rules, fingerprint) = (policy.rules().len(), policy.fingerprint());
            let plural = if rules == 1 { "" } else { "s" };
            writeln!(out, "policy {fingerprint}: {rules} rule{plural}, sound")?;
        }
    }
    Ok(if errors == 0 { exit::OK } else { exit::CONFIG })
}
