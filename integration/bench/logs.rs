//! What replaying logs costs: bytes a second of one processor, and memory, over large logs whose truth is known.
//!
//! `cargo bench --bench logs`, or `cargo bench --bench logs -- SMALL LARGE` (MB; 50 and 200 where nothing is said). Each run is
//! the real program over a file; its counts are held against the truth, so that what is quick is also right.
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

use generated_logs::{POLICY, Stamps, Truth, decisions, mail_log};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SEED: u64 = 20_261_122;
const TURNS: usize = 3;

/// Writes a log of so many bytes.
type Generate = dyn Fn(&mut dyn Write, u64) -> io::Result<Truth>;

fn main() {
    let sizes: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let [small, large] = match sizes[..] {
        [small, large] => [small, large],
        _ => [50, 200],
    };
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    fs::write(&policy, POLICY).unwrap();
    println!(
        "seed {SEED}, by processor time, medians of {TURNS} turns; each result is held against the truth"
    );
    println!("{:<28} {:>10} {:>10} {:>12} {:>10}", "log", "MB", "MB/CPU-s", "messages", "peak MB");
    let kinds: [(&str, &Generate); 3] = [
        ("mail log, ISO", &|mut out, size| mail_log(&mut out, size, Stamps::Iso, SEED)),
        ("mail log, traditional", &|mut out, size| mail_log(&mut out, size, Stamps::Traditional, SEED)),
        ("decision records", &|mut out, size| decisions(&mut out, size, SEED)),
    ];
    for (name, generate) in kinds {
        for megabytes in [small, large] {
            let plain = folder.path().join("log");
            let truth = written(&plain, |out| generate(out, megabytes * 1_000_000));
            measure(name, &policy, &plain, &plain, &truth);
            if megabytes == small {
                let packed = gzip(&plain);
                measure(&format!("{name}, gzip"), &policy, &packed, &plain, &truth);
            }
        }
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
fn measure(name: &str, policy: &Path, log: &Path, plain: &Path, truth: &Truth) {
    let mut times = Vec::new();
    let mut peak = 0;
    for _ in 0..TURNS {
        let before = processor_time();
        let child = Command::new(env!("CARGO_BIN_EXE_encr-milter"))
            .args(["simulate", "--json", "--time-zone", "UTC", "--policy"])
            .args([policy, log])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (output, memory) = watched(child);
        times.push(processor_time() - before);
        peak = peak.max(memory);
        truth.is_told_by(&serde_json::from_slice(&output).unwrap());
    }
    times.sort_unstable();
    let megabytes = fs::metadata(plain).unwrap().len() as f64 / 1e6;
    let rate = megabytes / (times[TURNS / 2].num_microseconds() as f64 / 1e6);
    println!(
        "{name:<28} {megabytes:>10.0} {rate:>10.0} {:>12} {:>10.1}",
        truth.messages(),
        peak as f64 / 1e3
    );
}

/// What the children that have ended have used so far: on a busy machine the clock on the wall says little.
fn processor_time() -> TimeVal {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    usage.user_time() + usage.system_time()
}

/// What a process writes, and the most memory that it had, in kB.
fn watched(mut child: Child) -> (Vec<u8>, u64) {
    let mut stdout = child.stdout.take().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let reader = std::thread::spawn(move || {
        let mut output = Vec::new();
        io::copy(&mut stdout, &mut output).unwrap();
        output
    });
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let high = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = high.and_then(|high| high.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(peak);
        std::thread::sleep(Duration::from_millis(5));
    }
    (reader.join().unwrap(), peak)
}
