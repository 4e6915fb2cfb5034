//! Sessions of an MTA against the daemon, against the same decision in C on libmilter, and against tokio alone.
//!
//! `cargo bench --bench sessions`; behind `--` what `--help` says. All servers take turns, several rounds of them; medians
//! are told, and beside the ratios what is asked of them. Every answer is held against the right one, and every decision
//! must be in the daemon's file. Ratios within a run count, not figures across machines.
//!
//! `cargo test --bench sessions` plays each scenario shortly, as a trial. Must not: be held to a time, there or here; what
//! it shows is for people to read.

// A benchmark may stop at once, and says what it has measured.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]
#![allow(missing_docs, clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

#[path = "../../load/mod.rs"]
mod load;
mod population;
#[path = "../reference/raw_tokio.rs"]
mod raw_tokio;
mod report;
mod scenarios;
mod selftest;
mod servers;
mod turn;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use scenarios::{ALL, Scale, Scenario};
use servers::SERVE_WORD;

/// Sessions of an MTA against the daemon, a C libmilter and a bare tokio server, by turns.
#[derive(Parser)]
struct Arguments {
    /// A short run, small lists: to see that it works. Its figures mean little.
    #[arg(long)]
    quick: bool,
    /// How long each turn goes on.
    #[arg(long)]
    seconds: Option<f64>,
    /// How many turns each server has at each load.
    #[arg(long)]
    rounds: Option<usize>,
    /// These scenarios alone: sessions, refused, messages, tcp, growth, idle, reload.
    #[arg(long, value_name = "SCENARIO", value_delimiter = ',', value_parser = scenario)]
    only: Vec<&'static Scenario>,
    /// At how many connections at once `sessions` is played.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    connections: Vec<usize>,
    /// How many keys the policy has.
    #[arg(long)]
    keys: Option<u64>,
    /// Another build of the daemon, which takes turns with this one.
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Each frame in a write of its own over unix sockets too, as sendmail has it; else those that go out together are
    /// written at once, which costs the load less.
    #[arg(long)]
    frame_by_frame: bool,
    /// Where the figures go as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What cargo says to a benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn scenario(name: &str) -> Result<&'static Scenario, String> {
    ALL.iter().find(|scenario| scenario.name == name).ok_or_else(|| "no such scenario".to_owned())
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.as_slice() {
        [word, place, list] if word == SERVE_WORD => raw_tokio::serve(place, Path::new(list)),
        words if words.iter().any(|word| word == "--bench" || word == "--help") => {
            measure(&Arguments::parse());
        }
        _ => try_all(),
    }
}

fn measure(arguments: &Arguments) {
    let mut scale = if arguments.quick { Scale::quick() } else { Scale::whole() };
    if let Some(seconds) = arguments.seconds {
        scale.turn = Duration::from_secs_f64(seconds);
    }
    scale.rounds = arguments.rounds.unwrap_or(scale.rounds).max(1);
    scale.keys = arguments.keys.unwrap_or(scale.keys).max(1);
    if !arguments.connections.is_empty() {
        scale.connections.clone_from(&arguments.connections);
    }
    scale.other.clone_from(&arguments.server);
    scale.frame_by_frame = arguments.frame_by_frame;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "{} rounds of turns of {:?}, medians; {} keys, {cores} cores",
        scale.rounds, scale.turn, scale.keys
    );
    let mut scenarios = serde_json::Map::new();
    for scenario in ALL {
        if arguments.only.is_empty() || arguments.only.iter().any(|only| only.name == scenario.name) {
            println!("{}: {}", scenario.name, scenario.about);
            let outcome = (scenario.run)(&scale);
            println!("{}", outcome.text());
            scenarios.insert(scenario.name.to_owned(), outcome.json());
        }
    }
    if let Some(path) = &arguments.json {
        let all = json!({
            "rounds": scale.rounds,
            "seconds": scale.turn.as_secs_f64(),
            "keys": scale.keys,
            "cores": cores,
            "scenarios": Value::Object(scenarios),
        });
        std::fs::write(path, format!("{all:#}\n")).unwrap();
    }
}

/// Each scenario shortly, as a trial: its answers must be right, and its report whole. And the load itself.
fn try_all() {
    let mut arguments = libtest_mimic::Arguments::from_args();
    // One server's load is enough for the machine.
    arguments.test_threads.get_or_insert(1);
    let trial = |scenario: &'static Scenario| {
        Trial::test(format!("sessions-{}", scenario.name), || {
            let outcome = (scenario.run)(&Scale::quick());
            let figures = outcome.rows.iter().flat_map(|row| [row.a_second, row.used, row.half, row.most]);
            let mut all = outcome.ratios.iter().map(|ratio| ratio.value).chain(figures);
            let missing = outcome.ratios.iter().find(|ratio| !outcome.text().contains(&ratio.name));
            if all.all(f64::is_finite) && !outcome.ratios.is_empty() && missing.is_none() {
                Ok(())
            } else {
                Err(format!("something was not measured, or not told: {outcome:?}").into())
            }
        })
    };
    let trials = ALL.iter().map(trial).chain(selftest::trials()).collect();
    libtest_mimic::run(&arguments, trials).exit();
}
