//! `encr-milter reload`: has the running daemon load its policy, and tells what came of it.

use super::running::{Answered, Running};
use super::{complain, exit};
use crate::control::RELOAD;
use crate::http::Method;
use crate::reload::{Ending, Outcome};
use std::io::{self, Write};
use std::time::Duration;

/// Have the running daemon load its policy and open its logs anew, and tell what came of it
///
/// Edits of the policy's files are taken by themselves; this waits for the outcome. The daemon's own file is read too: its
/// log.level is taken. Exit codes: 0 what the files say is in force; 78 they are refused (all that is wrong is shown), and
/// the policy that was in force stays; 69 no daemon answers, or it is stopping; 75 the files do not hold still (one is open
/// for writing, say): they are loaded when they do; 77 only root and the daemon's own user may ask.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    running: Running,
    /// How long to wait for the outcome, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 80, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

pub(super) fn run(arguments: &Arguments) -> io::Result<u8> {
    let found = arguments.running.find();
    let within = Duration::from_secs(arguments.timeout);
    let Answered { answer, text } = match found.ask::<Outcome>(Method::POST, RELOAD, within) {
        Ok(answered) => answered,
        Err(code) => return Ok(code),
    };
    if arguments.running.json {
        io::stdout().lock().write_all(text.as_bytes())?;
    } else {
        tell(&answer)?;
    }
    Ok(match answer.outcome {
        Ending::InForce => exit::OK,
        Ending::Refused => exit::CONFIG,
        Ending::Unsettled => exit::TEMP_FAIL,
        Ending::Stopping => exit::UNAVAILABLE,
        Ending::Failed => exit::SOFTWARE,
    })
}

fn tell(outcome: &Outcome) -> io::Result<()> {
    // Drawn by the daemon as `check` draws it.
    write!(io::stderr().lock(), "{}", outcome.drawn)?;
    let mut out = io::stdout().lock();
    for change in &outcome.changes {
        writeln!(out, "{change}")?;
    }
    if outcome.further_changes > 0 {
        writeln!(out, "… and {} changes more", outcome.further_changes)?;
    }
    for note in &outcome.notes {
        writeln!(out, "{note}")?;
    }
    let policy = outcome.policy.as_ref();
    let fingerprint = policy.map_or("?", |policy| policy.fingerprint.as_str());
    match outcome.outcome {
        Ending::InForce => {
            let meaning = match (&outcome.before, outcome.since) {
                (Some(_), _) => "changed".to_owned(),
                // The daemon watches the files, and mostly is faster than whoever asks.
                (None, Some(since)) => format!("the same in meaning since {since:.0}"),
                (None, None) => "the same in meaning".to_owned(),
            };
            let rules = policy.map_or(0, |policy| policy.rules);
            let plural = if rules == 1 { "" } else { "s" };
            writeln!(out, "policy {fingerprint} in force: {rules} rule{plural}, {meaning}")?;
        }
        Ending::Refused if outcome.before.is_some() => {
            complain(&format!(
                "the policy is taken ({fingerprint} is in force), the daemon's file is refused"
            ));
        }
        Ending::Refused => {
            complain(&format!("refused: policy {fingerprint} stays in force"));
        }
        Ending::Unsettled => complain(&format!(
            "the policy's files do not hold still, or one is open for writing: policy {fingerprint} stays in force \
             until they do, and they are loaded then"
        )),
        Ending::Stopping => complain("the daemon is stopping, and loads nothing any more"),
        Ending::Failed => complain(&format!(
            "loading failed within the program: policy {fingerprint} stays in force; please report this, with the log"
        )),
    }
    Ok(())
}
