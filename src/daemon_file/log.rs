//! `[log]`: level, format, and where lines go.

use super::{DaemonFile, choice, string};
use crate::diagnostics::{Diagnostic, Place};
use crate::policy_file::walk::{Fields, Walk};
use crate::telemetry::entry::Format;
use crate::telemetry::log::LEVELS;
use crate::telemetry::sink::{JOURNAL, Target, syslog};
use std::path::Path;

/// A datagram of IPv4 holds some 65,500 bytes; under 480 not even RFC 5424's smallest message has room.
const SIZES: std::ops::RangeInclusive<i64> = 480..=65_000;

pub(super) fn read(walk: &mut Walk<'_>, fields: &Fields<'_, '_>, folder: &Path, daemon: &mut DaemonFile) {
    let names = LEVELS.map(|(name, _)| name);
    if let Some(level) = string(walk, fields, "level") {
        match LEVELS.iter().find(|(name, _)| *name == level.value) {
            Some((_, found)) => daemon.log.level = *found,
            None => choice(walk, &level, "level", &names),
        }
    }
    let mut json_at = None;
    if let Some(format) = string(walk, fields, "format") {
        match format.value.as_str() {
            "text" => daemon.log.format = Format::Text,
            "json" => {
                daemon.log.format = Format::Json;
                json_at = Some(format.place);
            }
            _ => choice(walk, &format, "format", &["text", "json"]),
        }
    }
    let syslog = syslog(walk, fields);
    if let Some(output) = string(walk, fields, "output") {
        daemon.log.output = match output.value.as_str() {
            "stderr" => Target::Stderr,
            "journald" => {
                tell_unused_format(walk, json_at);
                Target::Journal { socket: JOURNAL.into(), facility: syslog.facility }
            }
            "syslog" => Target::Syslog(syslog),
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
        } else if daemon.log.output == Target::File(decisions.clone()) {
            walk.tell(
                Diagnostic::error("bad-decisions", "`decisions` is the log's own file")
                    .at(path.place)
                    .hint("give each a file: decisions are JSON, one a line, whatever the log's format"),
            );
        }
        daemon.log.decisions = Some(decisions);
    }
}

/// The settings of syslog, which are checked whether the log goes there or not.
fn syslog(walk: &mut Walk<'_>, fields: &Fields<'_, '_>) -> syslog::Settings {
    let mut settings = syslog::Settings::default();
    if let Some(server) = string(walk, fields, "syslog-server") {
        match server.value.parse() {
            Ok(found) => settings.server = found,
            Err(error) => walk.tell(
                Diagnostic::error("bad-syslog-server", format!("`{}`: {error}", server.value))
                    .at(server.place)
                    .hint("write \"unix:/dev/log\", \"udp://loghost:514\" or \"tcp://loghost:514\""),
            ),
        }
    }
    if let Some(name) = string(walk, fields, "syslog-facility") {
        match syslog::Facility::named(&name.value) {
            Some(found) => settings.facility = found,
            None => {
                choice(walk, &name, "facility", &syslog::Facility::NAMES.map(|(known, _)| known));
            }
        }
    }
    if let Some(value) = fields.get("syslog-max-size")
        && let Some(bytes) = walk.integer(value, "syslog-max-size", SIZES)
    {
        settings.max_size = usize::try_from(bytes).unwrap_or(syslog::DEFAULT_MAX_SIZE);
    }
    settings
}

fn tell_unused_format(walk: &mut Walk<'_>, json_at: Option<Place>) {
    if let Some(at) = json_at {
        walk.tell(
            Diagnostic::warning("unused-setting", "the journal has fields of its own: `format` is not used")
                .at(at)
                .hint("`journalctl -o json` shows them as JSON"),
        );
    }
}
