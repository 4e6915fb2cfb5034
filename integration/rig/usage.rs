//! What a process has had of the processors, as the kernel counts it.

use std::fs;
use std::time::Duration;

use super::Result;

/// Processor time so far, in steps of 10 ms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Of all its threads, those that have ended among them.
    pub(crate) own: Duration,
    /// Of those of its children, and theirs, that have ended and were waited for.
    pub(crate) ended_children: Duration,
}

pub(crate) fn of(pid: u32) -> Result<Usage> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    // Behind the name, which ends with the last bracket: the state, and from there utime is the 12th.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace().collect::<Vec<_>>());
    let ticks = |at: usize| -> Option<u64> { fields.as_ref()?.get(at)?.parse().ok() };
    // Linux counts hundredths here, whatever its own clock does.
    let of = |user, system| Some(Duration::from_millis(10 * (ticks(user)? + ticks(system)?)));
    let usage = of(11, 12).zip(of(13, 14)).map(|(own, ended_children)| Usage { own, ended_children });
    usage.ok_or_else(|| format!("{path}: {stat}"))
}

/// Whether it has children at this moment.
pub(crate) fn has_children(pid: u32) -> Result<bool> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    Ok(!children.trim().is_empty())
}
