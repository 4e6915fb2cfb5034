//! `encr-milter status`: how the running daemon does.

use super::running::{Answered, Running};
use super::{complain, exit};
use crate::control::{Connections, STATUS, State, Status};
use crate::http::Method;
use crate::reload::{Cause, Ending, Outcome};
use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;
use std::io::{self, Write};
use std::time::Duration;

/// What the daemon counts is at hand: who needs longer does not answer at all.
const WITHIN: Duration = Duration::from_secs(10);

/// Show how the running daemon does: its policy, the last load, connections, decisions, losses
///
/// Exit codes: 0 it answers; 69 no daemon answers; 77 only root and the daemon's own user may ask. With --json a script
/// finds all of it, last_load.outcome (`in-force` or not) among it.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    running: Running,
}

pub(super) fn run(arguments: &Arguments) -> io::Result<u8> {
    let found = arguments.running.find();
    let Answered { answer, text } = match found.ask::<Status>(Method::GET, STATUS, WITHIN) {
        Ok(answered) => answered,
        Err(code) => return Ok(code),
    };
    if found.wrong.is_some() {
        let config = arguments.running.config.display();
        complain(&format!("the daemon's file is wrong as it is now, see `encr-milter check -c {config}`"));
    }
    let mut out = io::stdout().lock();
    if arguments.running.json {
        out.write_all(text.as_bytes())?;
    } else {
        out.write_all(table(&answer, Timestamp::now()).as_bytes())?;
    }
    Ok(exit::OK)
}

fn table(status: &Status, now: Timestamp) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    let mut row = |name: &str, text: String| {
        table.add_row([name.to_owned(), text]);
    };
    let state = match status.state {
        State::Running => "running",
        State::Stopping => "stopping: open transactions get to their end",
    };
    row("daemon", format!("encr-milter {}, pid {}, {state}", status.version, status.pid));
    row("since", moment(status.since, now));
    row("file", status.config.clone());
    let policy = &status.policy.policy;
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let (rules, keys) = (count(policy.rules, "rule"), count(policy.keys, "key"));
    row("policy", format!("{}, {rules}, {keys}", policy.fingerprint));
    row("in force since", moment(status.policy.since, now));
    row("last load", last_load(&status.last_load, now));
    for (n, listener) in status.listeners.iter().enumerate() {
        let by = if listener.passed { ", with systemd" } else { "" };
        let text = format!("{} ({}{by})", listener.address, listener.serves);
        row(if n == 0 { "listening" } else { "" }, text);
    }
    for (n, (serves, connections)) in status.connections.iter().enumerate() {
        row(if n == 0 { "connections" } else { "" }, format!("{serves}: {}", of_connections(connections)));
    }
    let decided = &status.decisions;
    row(
        "decisions",
        format!("{} accepted, {} deferred, {} refused", decided.accept, decided.tempfail, decided.reject),
    );
    if decided.unknown + decided.in_doubt > 0 {
        let text = format!(
            "accepted unjudged: {} for want of macros, {} in doubt of max-delay",
            decided.unknown, decided.in_doubt
        );
        row("", text);
    }
    row("lost", losses(status));
    if let Some(evidence) = &status.evidence {
        let failed = match evidence.failures {
            0 => String::new(),
            n => format!("; it could not be written {n} times, see the log"),
        };
        row("evidence", format!("{} decisions{failed}", evidence.written));
    }
    // Padding at the end of lines is nobody's.
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.strip_prefix(' ').unwrap_or(&line).trim_end());
        text.push('\n');
    }
    if !status.last_load.is_success() {
        text.push('\n');
        text.push_str(&status.last_load.drawn);
    }
    text
}

fn moment(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(at.as_second()).max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let ago = match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    };
    format!("{at:.0} ({ago} ago)")
}

fn last_load(outcome: &Outcome, now: Timestamp) -> String {
    let ending = match outcome.outcome {
        Ending::InForce => "in force",
        Ending::Refused => "REFUSED",
        Ending::Unsettled => "NOT IN FORCE: the files do not hold still",
        Ending::Stopping => "not done: the daemon stops",
        Ending::Failed => "FAILED within the program",
    };
    let cause = match outcome.cause {
        Cause::Start => "at the start",
        Cause::Edit => "after an edit",
        Cause::Signal => "after a SIGHUP",
        Cause::Asked => "asked for",
    };
    let found = match (outcome.errors, outcome.warnings) {
        (0, 0) => String::new(),
        (0, warnings) => format!("; warnings: {warnings} (encr-milter check)"),
        (errors, warnings) => format!("; errors: {errors}, warnings: {warnings}"),
    };
    let told = format!("{ending}, {cause}, {}{found}", moment(outcome.at, now));
    [&[told], outcome.notes.as_slice()].concat().join("; ")
}

fn of_connections(connections: &Connections) -> String {
    let Connections { live, most, limit, total, turned_away } = connections;
    let turned_away = match turned_away {
        0 => String::new(),
        n => format!(", {n} turned away"),
    };
    format!("{live} now, {most} at most ({limit} may be), {total} so far{turned_away}")
}

fn losses(status: &Status) -> String {
    let lines = status.lost.iter().map(|(name, lost)| (name.as_str(), lost.queue_full + lost.not_written));
    let evidence = status.evidence.iter().map(|evidence| ("evidence", evidence.lost));
    let lost: Vec<String> =
        lines.chain(evidence).filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {n}")).collect();
    if lost.is_empty() { "nothing".to_owned() } else { lost.join(", ") }
}
