//! `[log]`: level, format, and where lines go.

use super::{DaemonFile, choice, string};
use crate::diagnostics::Diagnostic;
use crate::policy_file::walk::{Fields, Walk};
use crate::telemetry::log::{Format, LEVELS};
use crate::telemetry::sink::Target;
use std::path::Path;

pub(super) fn read(walk: &mut Walk<'_>, fields: &Fields<'_, '_>, folder: &Path, daemon: &mut DaemonFile) {
    let names = LEVELS.map(|(name, _)| name);
    if let Some(level) = string(walk, fields, "level") {
        match LEVELS.iter().find(|(name, _)| *name == level.value) {
            Some((_, found)) => daemon.level = *found,
            None => choice(walk, &level, "level", &names),
        }
    }
    if let Some(format) = string(walk, fields, "format") {
        match format.value.as_str() {
            "text" => daemon.format = Format::Text,
            "json" => daemon.format = Format::Json,
            _ => choice(walk, &format, "format", &["text", "json"]),
        }
    }
    if let Some(output) = string(walk, fields, "output") {
        daemon.output = match output.value.as_str() {
            "stderr" => Target::Stderr,
            "journald" | "syslog" => {
                walk.tell(
                    Diagnostic::warning(
                        "not-served",
                        format!(
                            "output `{}` is not served by this version: the log goes to stderr",
                            output.value
                        ),
                    )
                    .at(output.place)
                    .hint("under systemd, what goes to stderr is in the journal"),
                );
                Target::Stderr
            }
            path if path.contains('/') => Target::File(folder.join(path)),
            _ => {
                choice(walk, &output, "output", &["stderr", "journald", "syslog", "/path/to/a/file"]);
                Target::Stderr
            }
        };
    }
    if let Some(path) = string(walk, fields, "decisions") {
        let decisions = folder.join(&path.value);
        if daemon.policy.patterns.contains(&decisions) {
            walk.tell(
                Diagnostic::error(
                    "bad-decisions",
                    "`decisions` is a file of the policy: it would be written to",
                )
                .at(path.place),
            );
        }
        daemon.decisions = Some(decisions);
    }
}
