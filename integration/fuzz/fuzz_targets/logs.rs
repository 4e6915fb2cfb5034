//! Logs as `simulate` and `report` read them: decision records, sendmail's log, whatever is mixed, plain or packed. A file,
//! a pipe that gives it in pieces, and the same packed with gzip come to the same; memory does not grow with what is read,
//! nor with what it unpacks to.
#![no_main]

use encr_milter::policy::record::Record;
use encr_milter::replay::{Audience, Options, Origin, Packing, Problem, Replay, Tally};
use encr_milter_fuzz::{check, memory, now, wire};
use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::io::{Write, pipe};
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a folder for the logs")
});

/// So much is unpacked at the most: a bomb is ended by whoever has seen enough.
const ENOUGH: usize = 20_000;

#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    records: Vec<(bool, Vec<u8>)>,
    problems: usize,
    progress: u64,
}

impl Audience for Heard {
    fn record(&mut self, origin: Origin, record: &Record<'_>) -> ControlFlow<()> {
        let mut json = Vec::new();
        record.write_json(&mut json);
        let line = String::from_utf8_lossy(&json);
        assert!(!line.trim_end_matches('\n').contains(check::breaks_a_line), "{line:?}");
        assert!(!record.to_string().contains(check::breaks_a_line), "{record}");
        self.records.push((origin == Origin::Decision, json));
        if self.records.len() < ENOUGH { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn progress(&mut self, bytes: u64) {
        assert!(bytes >= self.progress);
        self.progress = bytes;
    }

    fn problem(&mut self, problem: Problem) {
        assert!(!problem.fault.to_string().is_empty());
        self.problems += 1;
    }
}

fn replay(paths: &[PathBuf]) -> (Heard, Tally) {
    let mut heard = Heard::default();
    let options =
        Options { recipients: true, deliveries: true, zone: jiff::tz::TimeZone::UTC, reference: now() };
    let tally = Replay::new(paths, options, &mut heard).run(&mut heard);
    (heard, tally)
}

fn written(name: &str, bytes: &[u8]) -> PathBuf {
    let path = FOLDER.path().join(name);
    fs::write(&path, bytes).expect("the log can be written");
    // What stands in a traditional stamp depends on when the file was last written.
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(now().as_second().cast_unsigned());
    fs::File::options().append(true).open(&path).and_then(|file| file.set_modified(at)).expect("a time");
    path
}

fuzz_target!(|bytes: &[u8]| {
    let path = written("log", bytes);
    let (heard, tally) = memory::bounded(bytes.len(), 500, || replay(std::slice::from_ref(&path)));
    let packing = tally.logs.first().map(|log| log.packing);
    if packing != Some(Packing::Plain) {
        // Unpacked or told of; what it holds is the fuzzer's own.
        assert!(packing.is_some() || heard.problems == 1);
        return;
    }
    assert_eq!(tally.lines, bytes.split_inclusive(|byte| *byte == b'\n').count() as u64);
    assert_eq!(
        tally.lines,
        tally.decisions + tally.other_objects + tally.broken_json + tally.too_long + tally.mail_log.lines
    );

    let (reader, mut writer) = pipe().expect("a pipe");
    let pieces = wire::cut(bytes, &bytes[..bytes.len().min(3)]);
    let feeder = std::thread::spawn(move || pieces.iter().all(|piece| writer.write_all(piece).is_ok()));
    let (from_pipe, _) = replay(&[format!("/proc/self/fd/{}", reader.as_raw_fd()).into()]);
    drop(reader);
    assert!(feeder.join().expect("the feeder"));
    assert_eq!((&heard.records, heard.problems), (&from_pipe.records, from_pipe.problems), "in pieces");

    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(bytes).expect("memory takes all");
    let packed = written("log.gz", &packer.finish().expect("memory takes all"));
    let (from_packed, _) = replay(std::slice::from_ref(&packed));
    assert_eq!((&heard.records, heard.problems), (&from_packed.records, from_packed.problems), "packed");

    // The same twice, by two names: once.
    let link = FOLDER.path().join("link");
    let _ = fs::remove_file(&link);
    fs::hard_link(&path, &link).expect("a link");
    let (twice, _) = replay(&[path, link]);
    assert_eq!((&twice.records, twice.problems), (&heard.records, heard.problems + 1), "named twice");
});
