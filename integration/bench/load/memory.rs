//! Memory of a process that does one thing.

use super::load_file;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What this program does as a child.
pub(crate) enum Task {
    /// Loads a policy, and tells its memory.
    Load(PathBuf),
}

/// Of a load, in kB, beyond what the process has before it.
pub(crate) struct OfLoad {
    /// With the policy alone.
    pub(crate) resident: u64,
    /// At the most.
    pub(crate) peak: u64,
}

impl OfLoad {
    pub(crate) fn ratio(&self) -> f64 {
        self.peak as f64 / self.resident as f64
    }
}

pub(crate) fn megabytes(kilobytes: u64) -> f64 {
    kilobytes as f64 / 1e3
}

impl Task {
    pub(crate) fn of(arguments: &[String]) -> Option<Self> {
        match arguments {
            [task, path, ..] if task == "--load" => Some(Self::Load(path.into())),
            _ => None,
        }
    }

    pub(crate) fn run(self) {
        let Self::Load(path) = self;
        let before = of_process("self", "VmRSS:");
        let policy = load_file(&path);
        let (peak, resident) = (of_process("self", "VmHWM:"), of_process("self", "VmRSS:"));
        drop(policy);
        println!("{} {}", resident.saturating_sub(before).max(1), peak.saturating_sub(before).max(1));
    }
}

fn of_process(process: &str, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

/// What loading a policy takes.
pub(crate) fn of_load(policy: &Path) -> OfLoad {
    let program = std::env::current_exe().unwrap();
    let told = Command::new(program).arg("--load").arg(policy).output().unwrap().stdout;
    let told = String::from_utf8(told).unwrap();
    let mut numbers = told.split_whitespace().map(|number| number.parse().unwrap());
    OfLoad { resident: numbers.next().unwrap(), peak: numbers.next().unwrap() }
}

/// The most memory that a command has, in kB; what it writes is for nobody.
pub(crate) fn peak_of(command: &[String]) -> u64 {
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = child.id().to_string();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(of_process(&process, "VmHWM:"));
        std::thread::sleep(Duration::from_millis(1));
    }
    peak
}
