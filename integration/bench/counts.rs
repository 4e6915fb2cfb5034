//! Instructions and allocations of the parts of an answer, a reload and a replay, held against those of `baseline.toml`: on a machine
//! that others use too a count says what a time does not.
//!
//! `cargo bench --bench counts` compares, and ends with a table of what grew; `-- --renew` writes the baseline anew; `-- --all`
//! shows every piece. Instructions are callgrind's (valgrind), which runs this program once more; allocations are those
//! of the calling thread. Promises: what must do without an allocation does, whatever the baseline says.

// A benchmark may stop at once where something is not as it should be.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss
)]

#[allow(dead_code, reason = "others hold results against the truth")]
mod generated_logs;
#[allow(dead_code, reason = "what is timed only")]
mod work;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use work::Work;

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/bench/baseline.toml");
/// More would take minutes under valgrind.
const SIZES: [usize; 2] = [10, 100_000];
/// This program's second life, under valgrind.
const UNDER_VALGRIND: &str = "--under-valgrind";

/// What stands at the head of the baseline.
const HEAD: &str = "\
# What the pieces of integration/bench/work.rs took when this was written: instructions (callgrind) and allocations, of all `times`
# together. `cargo bench --bench counts` fails where instructions have grown by more than the tolerance, or where there
# is one allocation more.
#
# Made by `cargo bench --bench counts -- --renew`, in the form of `cargo bench` on x86-64 with AVX2 and Debian 12's glibc.
# Another compiler makes other code: where nothing here has changed and much has grown with one, renew it. Do so too after
# a change that is meant to cost more, or that costs less, and say in the commit what it bought.
";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Baseline {
    /// By how much instructions may grow.
    tolerance_percent: f64,
    /// What they were counted of.
    compiler: String,
    pieces: BTreeMap<String, Counts>,
}

/// All `times` together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    times: usize,
    instructions: u64,
    allocations: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let folder = tempfile::tempdir().unwrap();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [UNDER_VALGRIND] => {
            for mut work in work::all(folder.path(), &SIZES) {
                warm(&mut work);
                counted(&mut || all_times(&mut work));
            }
            ExitCode::SUCCESS
        }
        [] => compare(&count(folder.path()), false),
        ["--all"] => compare(&count(folder.path()), true),
        ["--renew"] => {
            renew(count(folder.path()));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("counts: there are --all and --renew");
            ExitCode::FAILURE
        }
    }
}

/// What is made at the first use is not counted.
fn warm(work: &mut Work) {
    (work.run)(0);
}

fn all_times(work: &mut Work) {
    (0..work.times).for_each(|n| (work.run)(n));
}

/// What callgrind looks for: it collects while this runs.
#[inline(never)]
fn counted(run: &mut dyn FnMut()) {
    run();
    // Something behind it, so that this is no jump.
    std::hint::black_box(&());
}

fn count(folder: &Path) -> BTreeMap<String, Counts> {
    let mut instructions = instructions(folder).into_iter();
    let pieces = work::all(folder, &SIZES).into_iter().map(|mut work| {
        warm(&mut work);
        let allocations = allocation_counter::measure(|| all_times(&mut work)).count_total;
        let instructions = instructions.next().expect("callgrind has counted fewer pieces");
        assert!(
            allocations == 0 || !work.without_allocation,
            "{}: {allocations} allocations in {} times, and there must be none",
            work.name,
            work.times
        );
        (work.name, Counts { times: work.times, instructions, allocations })
    });
    let pieces = pieces.collect();
    assert!(instructions.next().is_none(), "callgrind has counted more pieces");
    pieces
}

/// One number for each piece, in order.
fn instructions(folder: &Path) -> Vec<u64> {
    let out = folder.join("callgrind");
    // At the beginning of each piece it writes down what the one before has taken, and at the end the last one's.
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .args(["--toggle-collect=counts::counted", "--dump-before=counts::counted"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().unwrap())
        .arg(UNDER_VALGRIND)
        .stdout(Stdio::null())
        .status()
        .expect("valgrind cannot be started: integration/setup.sh installs it");
    assert!(status.success(), "under valgrind: {status}");
    let total = |path: PathBuf| {
        let text = fs::read_to_string(path).ok()?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals: "))?;
        Some(total.trim().parse::<u64>().unwrap())
    };
    let mut totals: Vec<u64> =
        (2..).map_while(|number| total(out.with_extension(number.to_string()))).collect();
    totals.extend(total(out));
    assert!(totals.iter().all(|total| *total > 0), "callgrind has counted nothing: {totals:?}");
    totals
}

fn renew(pieces: BTreeMap<String, Counts>) {
    let tolerance_percent = baseline().map_or(5.0, |baseline| baseline.tolerance_percent);
    let baseline = Baseline { tolerance_percent, compiler: compiler(), pieces };
    fs::write(BASELINE, format!("{HEAD}\n{}", toml::to_string(&baseline).unwrap())).unwrap();
    println!("{BASELINE}: {} pieces", baseline.pieces.len());
}

fn baseline() -> Option<Baseline> {
    fs::read_to_string(BASELINE).ok().map(|text| toml::from_str(&text).unwrap())
}

fn compiler() -> String {
    let version = Command::new("rustc").arg("--version").output().unwrap().stdout;
    String::from_utf8(version).unwrap().trim().to_owned()
}

fn compare(now: &BTreeMap<String, Counts>, shows_all: bool) -> ExitCode {
    let baseline = baseline().expect("no baseline: cargo bench --bench counts -- --renew");
    let (tolerance, then) = (baseline.tolerance_percent, &baseline.pieces);
    let gone = then.keys().filter(|name| !now.contains_key(*name)).map(|name| (name, None));
    let (mut rows, mut faults, mut fewer) = (Vec::new(), 0, 0);
    for (name, counts) in now.iter().map(|(name, counts)| (name, Some(counts))).chain(gone) {
        let before = then.get(name);
        let change = |of: fn(&Counts) -> u64| {
            Some((of(counts?) as f64 - of(before?) as f64) * 100.0 / of(before?) as f64)
        };
        let instructions = change(|counts| counts.instructions);
        let grown = instructions.is_some_and(|percent| percent > tolerance);
        let shrunk = instructions.is_some_and(|percent| percent < -tolerance);
        // One more is one too many; a piece that is new, gone or done more often is not held against anything.
        let other = counts.map(|counts| counts.times) != before.map(|before| before.times)
            || counts.map(|counts| counts.allocations) > before.map(|before| before.allocations);
        let shrunk =
            shrunk || counts.map(|counts| counts.allocations) < before.map(|before| before.allocations);
        faults += usize::from(grown || other);
        fewer += usize::from(shrunk && !grown && !other);
        if grown || other || shrunk || shows_all {
            rows.push((name, before, counts, instructions, grown || other));
        }
    }
    println!("{:<56} {:>24} {:>9} {:>22}", "of one time", "instructions", "", "allocations");
    for (name, before, counts, instructions, is_fault) in rows {
        println!(
            "{name:<56} {:>11} → {:>10} {:>9} {:>9} → {:>10} {}",
            each(before, |counts| counts.instructions),
            each(counts, |counts| counts.instructions),
            instructions.map_or_else(String::new, |percent| format!("{percent:+.1} %")),
            each(before, |counts| counts.allocations),
            each(counts, |counts| counts.allocations),
            if is_fault { "!" } else { "" }
        );
    }
    println!("{} pieces; tolerance of instructions {tolerance} %, of allocations none", now.len());
    if fewer > 0 {
        println!("{fewer} need less: `cargo bench --bench counts -- --renew` holds on to that");
    }
    if faults == 0 {
        return ExitCode::SUCCESS;
    }
    eprintln!("{faults} pieces are not as the baseline has them (!): mend them, or renew it and say why");
    if baseline.compiler != compiler() {
        eprintln!("the baseline was counted with {}, this is {}", baseline.compiler, compiler());
    }
    ExitCode::FAILURE
}

fn each(counts: Option<&Counts>, of: fn(&Counts) -> u64) -> String {
    counts.map_or_else(
        || "-".to_owned(),
        |counts| {
            let each = of(counts) as f64 / counts.times as f64;
            if each >= 1000.0 || each.fract() == 0.0 { format!("{each:.0}") } else { format!("{each:.2}") }
        },
    )
}
