//! What a session costs a real sm-mta with STARTTLS: with nobody asked, with this daemon (and with an access map that has no such
//! rules, or without any), with a C milter of the same decision, and with sendmail's own `TLS_Clt:` rules; and how long a MAIL takes
//! over TCP and over a unix socket.
//!
//! As root, once set up (integration/setup.sh): `cargo bench --bench mta`. Behind `--`: `--json FILE`, `--quick`, `--turns N`,
//! `--seconds N` (of a turn), `--keys N`, `--clients N`, `--timed N` (sessions in which MAIL is timed). Everything runs in namespaces of its own (`rig`).
//! Must not: be held to a time; what it shows is for people to read. That every reply is right is held.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is how a benchmark says what it has measured"
)]

#[allow(clippy::indexing_slicing, clippy::cast_precision_loss, reason = "figures of a benchmark")]
#[path = "mta/mod.rs"]
mod mta;
#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../rig/mod.rs"]
mod rig;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use mta::variant::Kind;
use mta::{Plan, play, report};
use rig::{Result, Rig, namespace};

fn main() -> ExitCode {
    let played = if namespace::is_inside() { run() } else { namespace::enter().map(|never| match never {}) };
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("mta: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let (plan, json) = plan()?;
    let rig = Rig::new(Path::new(env!("CARGO_BIN_EXE_encr-milter")))?;
    let outcome = play(&rig, &plan)?;
    print!("{}", report::table(&outcome, &plan));
    match json {
        Some(file) => {
            std::fs::write(&file, format!("{:#}\n", outcome.json(&plan))).map_err(|e| format!("{file}: {e}"))
        }
        None => Ok(()),
    }
}

/// What the arguments ask for.
fn plan() -> Result<(Plan, Option<String>)> {
    let mut plan = Plan {
        keys: 100_000,
        clients: 4,
        turns: 10,
        turn: Duration::from_secs(2),
        timed: 100,
        kinds: Kind::ALL.to_vec(),
    };
    let (mut json, mut arguments) = (None, std::env::args().skip(1));
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
        let number = |text: String| text.parse::<usize>().map_err(|e| format!("{text}: {e}"));
        match argument.as_str() {
            // Cargo's own.
            "--bench" => {}
            "--quick" => {
                (plan.turns, plan.turn, plan.timed) = (1, Duration::from_secs(1), 5);
            }
            "--json" => json = Some(value()?),
            "--turns" => plan.turns = number(value()?)?.max(1),
            "--seconds" => plan.turn = Duration::from_secs(number(value()?)? as u64),
            "--keys" => plan.keys = number(value()?)?.max(1),
            "--clients" => plan.clients = number(value()?)?.max(1),
            "--timed" => plan.timed = number(value()?)?.max(1),
            other => {
                return Err(format!(
                    "{other}: there are --json, --quick, --turns, --seconds, --keys, --clients, --timed"
                ));
            }
        }
    }
    Ok((plan, json))
}
