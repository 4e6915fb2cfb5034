//! Sessions of an MTA against the daemon, against the same decision in C on libmilter, and against tokio alone.
//!
//! `cargo bench --bench sessions`; behind `--`: `--quick`, `--seconds N`, `--only SCENARIO`, `--json FILE`, `--server PATH`
//! (another build of the daemon, compared with this one). All servers take turns, several rounds of them; medians are
//! told. Every answer is held against the right one, and every decision must be in the daemon's file.
//! Ratios within a run count, not figures across machines. Must not: be held to a time; what it shows is for people to read.

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
mod servers;
mod turn;

use std::path::Path;
use std::time::Duration;

use population::Mix;
use servers::{Kind, SERVE_WORD, Server, Way};
use turn::{Load, play};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, place, list] = arguments.as_slice()
        && word == SERVE_WORD
    {
        return raw_tokio::serve(place, Path::new(list));
    }
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("keys.txt");
    std::fs::write(&list, population::list(100_000)).unwrap();
    let mix = Mix { keys: 100_000, refused: 20, messages: 1 };
    let servers: Vec<Server> = [Kind::Ours, Kind::Libmilter, Kind::Tokio]
        .into_iter()
        .map(|kind| Server::start(kind, Way::Unix, &list))
        .collect();
    println!(
        "{:>5} {:>10} {:>10} {:>8} {:>9} {:>9}",
        "conns", "server", "sess/s", "CPU us", "p50 us", "p99 us"
    );
    for connections in [1, 16, 128, 1000] {
        for _ in 0..3 {
            for server in &servers {
                let load = Load {
                    connections,
                    pace: None,
                    frame_by_frame: false,
                    mix,
                    lasts: Duration::from_secs(2),
                };
                let turn = play(server, load);
                println!(
                    "{connections:>5} {:>10} {:>10.0} {:>8.1} {:>9.1} {:>9.1}",
                    server.kind.name(),
                    turn.sessions_a_second(),
                    turn.used_each(),
                    turn.mail_within(500),
                    turn.mail_within(990)
                );
            }
        }
    }
}
