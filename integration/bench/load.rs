//! What loading a policy costs, by size and by kind of file, beside what nobody can do without: reading and splitting a
//! list, and `toml`'s own parsing. And what a lookup costs in what was loaded, and an import of as many lines.
//!
//! `cargo bench --bench load`; `-- --quick` leaves out the largest, `-- --json FILE` writes the figures down too, `-- --only lookup` measures
//! but that (or load, import, calm). The reference runs in the same turn as what is held against it: ratios within a run count, not figures across machines.
//! Memory is that of a child process that does this one thing. Must not: be held to a time; what it shows is for people
//! to read.

// A benchmark may stop at once, and says what it has measured.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]
#![allow(missing_docs, clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

#[path = "load/calm.rs"]
mod calm;
#[path = "load/files.rs"]
mod files;
#[path = "load/memory.rs"]
mod memory;
#[path = "../../tests/support/mod.rs"]
mod support;

use encr_milter::policy::lookup::Subject;
use encr_milter::policy::rule::{Side, Standing};
use encr_milter::policy::{Day, Policy};
use encr_milter::policy_file::diff::diff;
use encr_milter::policy_file::load::{DEFAULT_MAX_SIZE, Disk, Request, load};
use files::{Kind, Names};
use memory::{Task, megabytes, peak_of};
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use toml::de::DeTable;

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// A table for each key is what nobody writes by the million, and takes the parser seconds.
const MOST_TABLES: usize = 100_000;
const TURNS: usize = 5;

/// What is measured, by name.
type Part<'m> = (&'static str, &'m dyn Fn(&Path) -> Value);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(task) = Task::of(&arguments) {
        return task.run();
    }
    let sizes = if arguments.iter().any(|argument| argument == "--quick") { &SIZES[..3] } else { &SIZES };
    let behind = |option: &str| {
        let at = arguments.iter().position(|argument| argument == option)?;
        Some(arguments.get(at + 1).unwrap_or_else(|| panic!("{option} what?")))
    };
    let only = behind("--only");
    let folder = tempfile::tempdir().unwrap();
    let mut figures = serde_json::Map::new();
    let parts: [Part<'_>; 4] = [
        ("load", &|folder| sizes.iter().flat_map(|size| loads(folder, *size)).collect()),
        ("lookup", &|folder| lookups(folder, sizes).into()),
        ("import", &|folder| sizes.iter().map(|size| imports(folder, *size)).collect()),
        ("calm", &|folder| calm::measure(folder, sizes).into()),
    ];
    assert!(
        only.is_none_or(|only| parts.iter().any(|(name, _)| name == only)),
        "--only load, lookup, import or calm"
    );
    for (name, part) in parts.iter().filter(|(name, _)| only.is_none_or(|only| name == only)) {
        figures.insert((*name).to_owned(), part(folder.path()));
    }
    if let Some(file) = behind("--json") {
        std::fs::write(file, serde_json::to_vec_pretty(&figures).unwrap()).unwrap();
    }
}

/// The median of so many turns, in milliseconds of processor time: on a busy machine the clock on the wall says little. What
/// is made is dropped outside of the time.
fn median<T>(mut turn: impl FnMut() -> T) -> f64 {
    let mut times: Vec<Duration> = (0..TURNS)
        .map(|_| {
            let begun = processor_time();
            let made = black_box(turn());
            let took = processor_time().saturating_sub(begun);
            drop(made);
            took
        })
        .collect();
    times.sort_unstable();
    times[TURNS / 2].as_secs_f64() * 1e3
}

/// Of this thread: what getrusage tells is counted in ticks.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn load_file(policy: &Path) -> Policy {
    let request = Request { patterns: vec![policy.to_path_buf()], max_size: DEFAULT_MAX_SIZE };
    let loaded = load(&request, &mut Disk, Day(20_000));
    assert!(!loaded.diagnostics.has_errors(), "{}", loaded.diagnostics.render(&loaded.sources, false));
    loaded.policy.unwrap()
}

/// Every key of a list file in one arena, with its place: the least that can be called reading it.
fn read_and_split(list: &Path) -> (String, Vec<(u32, u16)>) {
    let text = std::fs::read_to_string(list).unwrap();
    let mut arena = String::with_capacity(text.len());
    let mut places = Vec::new();
    for line in text.lines() {
        places.push((arena.len() as u32, line.len() as u16));
        arena.push_str(line);
    }
    (arena, places)
}

fn loads(folder: &Path, keys: usize) -> Vec<Value> {
    let mut figures = Vec::new();
    for kind in Kind::ALL {
        if kind == Kind::Tables && keys > MOST_TABLES {
            continue;
        }
        let policy = kind.write(folder, keys);
        let reference = match kind {
            Kind::Lists | Kind::Networks => median(|| read_and_split(&files::list(folder))),
            Kind::Arrays | Kind::Tables => {
                let text = std::fs::read_to_string(&policy).unwrap();
                median(|| drop(black_box(DeTable::parse(&text).unwrap())))
            }
        };
        let ours = median(|| load_file(&policy));
        let (old, new) = (load_file(&policy), load_file(&policy));
        assert_eq!(old.index().side(Side::Client).len(), keys);
        let same = median(|| diff(&old, &new));
        kind.write_without_last(folder, keys);
        let shorter = load_file(&policy);
        let edited = median(|| diff(&old, &shorter));
        kind.write(folder, keys);
        drop((old, new, shorter));
        let memory = memory::of_load(&policy);
        println!(
            "{:<9} {keys:>8} keys: {ours:>8.2} ms, {:>5.2} × {} ({reference:.2} ms); what changed: {same:.2} ms where nothing, \
             {edited:.2} ms where one key; resident {:.1} MB, peak {:.2} of it",
            kind.name(),
            ours / reference,
            kind.reference(),
            megabytes(memory.resident),
            memory.ratio()
        );
        figures.push(json!({
            "kind": kind.name(), "keys": keys, "ms": ours, "reference": kind.reference(), "reference_ms": reference,
            "ratio": ours / reference, "diff_same_ms": same, "diff_edited_ms": edited,
            "resident_kb": memory.resident, "peak_kb": memory.peak, "peak_ratio": memory.ratio(),
        }));
    }
    figures
}

/// Random names of the policy, each with three labels before it, asked once: the caches are as cold as in a server.
fn lookups(folder: &Path, sizes: &[usize]) -> Vec<Value> {
    const ASKED: usize = 200_000;
    let mut figures = Vec::new();
    for keys in std::iter::once(&10).chain(sizes) {
        let policy = load_file(&Kind::Lists.write(folder, *keys));
        let side = policy.index().side(Side::Client);
        let mut nanoseconds = [0.0; 3];
        for (place, labels) in [(0, Some("")), (1, Some("a.b.c.")), (2, None)] {
            let mut random = Names::default();
            let names: Vec<String> = (0..ASKED)
                .map(|_| match labels {
                    Some(labels) => format!("{labels}{}", files::name(random.next() as usize % keys)),
                    None => format!("host{}.nobody.invalid", random.next()),
                })
                .collect();
            let time = median(|| {
                let find = |name: &String| {
                    side.find(Subject::Host { name: Some(name), address: None }, |_| Standing::InForce)
                };
                let found = names.iter().filter(|name| find(name).is_some()).count();
                assert_eq!(found, if labels.is_some() { ASKED } else { 0 });
            });
            nanoseconds[place] = time * 1e6 / ASKED as f64;
        }
        let [exact, below, missed] = nanoseconds;
        println!(
            "lookup among {keys:>8}: {exact:>4.0} ns as it is written, {below:>4.0} ns with three labels to strip, \
             {missed:>4.0} ns for a name that is not there"
        );
        figures
            .push(json!({ "keys": keys, "exact_ns": exact, "three_labels_ns": below, "missed_ns": missed }));
    }
    figures
}

fn imports(folder: &Path, lines: usize) -> Value {
    let map = files::write_map(folder, lines);
    let size = std::fs::metadata(&map).unwrap().len();
    let mut times = Vec::new();
    let mut peak = 0;
    let mut lint = (0.0, 0);
    for _ in 0..3 {
        let begun = Instant::now();
        peak = peak.max(peak_of(&access("import", &map)));
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        let begun = Instant::now();
        let most = peak_of(&access("lint", &map));
        lint = (begun.elapsed().as_secs_f64() * 1e3, most);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "access import of {lines:>8} lines ({:.1} MB): {:.0} ms, peak {:.1} MB; access lint: {:.0} ms, peak {:.1} MB",
        size as f64 / 1e6,
        times[1],
        megabytes(peak),
        lint.0,
        megabytes(lint.1)
    );
    json!({
        "lines": lines, "bytes": size, "ms": times[1], "peak_kb": peak, "lint_ms": lint.0, "lint_peak_kb": lint.1
    })
}

fn access(command: &str, map: &Path) -> Vec<String> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_encr-milter"));
    [&program, &PathBuf::from("access"), &PathBuf::from(command), &map.to_path_buf()]
        .map(|argument| argument.display().to_string())
        .to_vec()
}
