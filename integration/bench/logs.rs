//! What replaying logs costs: bytes a second of one processor, and memory, over large logs whose truth is known.
//!
//! `cargo bench --bench logs -- [--quick] [--json FILE] [SMALL LARGE]` (MB; 50 and 200 where nothing is said). Each run is
//! the real program over a file; its counts are held against the truth, so that what is quick is also right. Beside it
//! stands what it costs in the same run to read the same file and find its line feeds, and nothing else: the ratio of the two
//! says more on a busy machine than either.
//! Must not: be held to a time; what it shows is for people to read.

// A benchmark may stop at once, and says what it has measured.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]
#![allow(missing_docs, clippy::cast_precision_loss)]

mod generated_logs;

use generated_logs::{Mix, POLICY, Stamps, Truth, decisions, mail_log};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SEED: u64 = 20_261_122;
/// So many moments of a run are kept of its memory.
const MOMENTS: usize = 10;

/// What is asked for.
struct Asked {
    sizes: [u64; 2],
    turns: usize,
    json: Option<PathBuf>,
}

impl Asked {
    fn from_arguments() -> Self {
        let mut asked = Self { sizes: [50, 200], turns: 3, json: None };
        let mut sizes = Vec::new();
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // cargo's own.
                "--bench" => {}
                "--quick" => (asked.sizes, asked.turns) = ([10, 40], 1),
                "--json" => asked.json = Some(arguments.next().expect("--json FILE").into()),
                size => sizes.push(size.parse().expect("a size in MB, --quick or --json FILE")),
            }
        }
        if let [small, large] = sizes[..] {
            asked.sizes = [small, large];
        }
        asked
    }
}

/// What a run came to.
#[derive(Serialize)]
struct Figures {
    log: String,
    megabytes: f64,
    messages: u64,
    /// By processor time, of the program and of the system for it.
    megabytes_per_second: f64,
    /// By that of the program alone.
    megabytes_per_user_second: f64,
    /// The same of reading the file and finding its lines.
    lines_megabytes_per_second: f64,
    /// How many times as long it takes.
    times_lines: f64,
    peak_kilobytes: u64,
    /// Resident memory from the beginning to the end.
    kilobytes: Vec<u64>,
}

/// Writes a log of so many bytes.
type Generate = dyn Fn(&mut dyn Write, u64) -> io::Result<Truth>;

fn main() {
    let asked = Asked::from_arguments();
    let [small, large] = asked.sizes;
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    fs::write(&policy, POLICY).unwrap();
    println!(
        "seed {SEED}, by processor time, medians of {} turns; each result is held against the truth",
        asked.turns
    );
    println!(
        "{:<34} {:>6} {:>8} {:>10} {:>10} {:>12} {:>10} {:>8}",
        "log", "MB", "MB/CPU-s", "MB/user-s", "lines MB/s", "times lines", "messages", "peak MB"
    );
    let usual = Mix::USUAL;
    let few = Mix { hosts: 400, ..usual };
    let of_others = Mix { others: 80, ..usual };
    let judged = Mix { judged: true, ..usual };
    let iso = |mix| move |mut out: &mut dyn Write, size| mail_log(&mut out, size, Stamps::Iso, mix, SEED);
    let traditional =
        |mut out: &mut dyn Write, size| mail_log(&mut out, size, Stamps::Traditional, Mix::USUAL, SEED);
    let records = |mix| move |mut out: &mut dyn Write, size| decisions(&mut out, size, mix, SEED);
    let kinds: [(&str, &Generate); 8] = [
        ("mail log, ISO", &iso(usual)),
        ("mail log, traditional", &traditional),
        ("mail log, 400 hosts", &iso(few)),
        ("mail log, 80 % of others", &iso(of_others)),
        ("records", &records(usual)),
        ("records, 400 hosts", &records(few)),
        ("records, judged", &records(judged)),
        ("records, judged, 400 hosts", &records(Mix { judged: true, ..few })),
    ];
    let mut all = Vec::new();
    for (name, generate) in kinds {
        for megabytes in [small, large] {
            let plain = folder.path().join("log");
            let truth = written(&plain, |out| generate(out, megabytes * 1_000_000));
            all.push(measure(name, &policy, &plain, &plain, &truth, asked.turns));
            if megabytes == small && name == kinds[0].0 {
                let packed = gzip(&plain);
                all.push(measure(&format!("{name}, gzip"), &policy, &packed, &plain, &truth, asked.turns));
            }
        }
    }
    if let Some(path) = asked.json {
        serde_json::to_writer_pretty(File::create(path).unwrap(), &all).unwrap();
    }
}

fn written(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<Truth>) -> Truth {
    let mut out = BufWriter::new(File::create(path).unwrap());
    let truth = write(&mut out).unwrap();
    out.flush().unwrap();
    truth
}

fn gzip(plain: &Path) -> PathBuf {
    let packed = plain.with_extension("packed");
    let mut out =
        flate2::write::GzEncoder::new(File::create(&packed).unwrap(), flate2::Compression::default());
    io::copy(&mut File::open(plain).unwrap(), &mut out).unwrap();
    out.finish().unwrap();
    packed
}

/// `plain` is the log unpacked: its bytes count.
fn measure(name: &str, policy: &Path, log: &Path, plain: &Path, truth: &Truth, turns: usize) -> Figures {
    let (mut times, mut user_times, mut line_times) = (Vec::new(), Vec::new(), Vec::new());
    let (mut peak_kilobytes, mut kilobytes) = (0, Vec::new());
    for _ in 0..turns {
        let before = processor_time(UsageWho::RUSAGE_CHILDREN);
        let child = Command::new(env!("CARGO_BIN_EXE_encr-milter"))
            .args(["simulate", "--json", "--time-zone", "UTC", "--policy"])
            .args([policy, log])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (output, memory) = watched(child);
        let after = processor_time(UsageWho::RUSAGE_CHILDREN);
        times.push(after.0 + after.1 - before.0 - before.1);
        user_times.push(after.0 - before.0);
        peak_kilobytes = memory.iter().copied().max().unwrap_or(0).max(peak_kilobytes);
        kilobytes = (0..MOMENTS).filter_map(|at| memory.get(at * memory.len() / MOMENTS)).copied().collect();
        truth.is_told_by(&serde_json::from_slice(&output).unwrap());
        let before = processor_time(UsageWho::RUSAGE_THREAD);
        assert_eq!(lines(plain), truth.lines);
        let after = processor_time(UsageWho::RUSAGE_THREAD);
        line_times.push(after.0 + after.1 - before.0 - before.1);
    }
    let megabytes = fs::metadata(plain).unwrap().len() as f64 / 1e6;
    let rate = |times: &mut Vec<TimeVal>| {
        times.sort_unstable();
        megabytes / (times[times.len() / 2].num_microseconds() as f64 / 1e6)
    };
    let of_lines = rate(&mut line_times);
    let figures = Figures {
        log: name.to_owned(),
        megabytes,
        messages: truth.messages(),
        megabytes_per_second: rate(&mut times),
        megabytes_per_user_second: rate(&mut user_times),
        lines_megabytes_per_second: of_lines,
        times_lines: of_lines / rate(&mut times),
        peak_kilobytes,
        kilobytes,
    };
    println!(
        "{name:<34} {megabytes:>6.0} {:>8.0} {:>10.0} {of_lines:>10.0} {:>12.1} {:>10} {:>8.1}",
        figures.megabytes_per_second,
        figures.megabytes_per_user_second,
        figures.times_lines,
        figures.messages,
        peak_kilobytes as f64 / 1e3
    );
    figures
}

/// Reads a file and finds its lines.
fn lines(path: &Path) -> u64 {
    let mut file = File::open(path).unwrap();
    let mut buffer = vec![0; 256 * 1024];
    let mut lines = 0;
    loop {
        let read = file.read(&mut buffer).unwrap();
        if read == 0 {
            return lines;
        }
        lines += memchr::memchr_iter(b'\n', &buffer[..read]).map(std::hint::black_box).count() as u64;
    }
}

/// What was used so far, in the program and in the system for it: on a busy machine the clock on the wall says little. Of
/// children it counts those that have ended.
fn processor_time(who: UsageWho) -> (TimeVal, TimeVal) {
    let usage = getrusage(who).unwrap();
    (usage.user_time(), usage.system_time())
}

/// What a process writes, and its resident memory from moment to moment, in kB; the peak is among them.
fn watched(mut child: Child) -> (Vec<u8>, Vec<u64>) {
    let mut stdout = child.stdout.take().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let reader = std::thread::spawn(move || {
        let mut output = Vec::new();
        io::copy(&mut stdout, &mut output).unwrap();
        output
    });
    let mut memory = Vec::new();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let told = |name: &str| -> Option<u64> {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            value.trim().trim_end_matches(" kB").parse().ok()
        };
        memory.extend(told("VmRSS:"));
        peak = told("VmHWM:").unwrap_or(peak);
        std::thread::sleep(Duration::from_millis(5));
    }
    memory.push(peak);
    (reader.join().unwrap(), memory)
}
