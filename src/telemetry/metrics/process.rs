//! What the kernel knows of this process, under the names that Prometheus' own libraries give it.
//!
//! Promises: what cannot be read is left out. Must not: be called on a thread that answers, for it reads files.

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use std::fs;

/// What is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    /// Descriptors that are open.
    pub(super) open_descriptors: Option<u64>,
    /// Descriptors that may be.
    pub(super) most_descriptors: Option<u64>,
    /// Memory in use, in bytes.
    pub(super) resident: Option<u64>,
    /// The most that there was.
    pub(super) most_resident: Option<u64>,
    /// Threads.
    pub(super) threads: Option<u64>,
    /// Processor time, in seconds.
    pub(super) cpu_seconds: Option<f64>,
}

impl Process {
    pub(super) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
        let seconds = |time: nix::sys::time::TimeVal| {
            let (seconds, micros) = (u64::try_from(time.tv_sec()).ok()?, u32::try_from(time.tv_usec()).ok()?);
            Some(std::time::Duration::new(seconds, micros.checked_mul(1000)?).as_secs_f64())
        };
        Self {
            // Reading the folder is one of them.
            open_descriptors: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|all| (all.count() as u64).saturating_sub(1)),
            most_descriptors: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
            resident: field(&status, "VmRSS:").map(|kib| kib * 1024),
            most_resident: field(&status, "VmHWM:").map(|kib| kib * 1024),
            threads: field(&status, "Threads:"),
            cpu_seconds: usage
                .and_then(|usage| Some(seconds(usage.user_time())? + seconds(usage.system_time())?)),
        }
    }
}

/// A number of /proc/self/status.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        let process = Process::now();
        assert!(process.open_descriptors > Some(2) && process.most_descriptors > process.open_descriptors);
        assert!(process.resident > Some(1 << 20) && process.most_resident >= process.resident);
        assert!(process.threads >= Some(1) && process.cpu_seconds >= Some(0.0));
    }
}
