//! When a burst of changes has settled.
//!
//! An editor saves in several steps, a deployment in many, a copy over a slow line in as many as it takes.
//! Promises: nothing is loaded while changes keep coming, and nothing while one of the files is open for
//! writing, for half a list of exemptions would refuse mail; but neither holds for ever.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// So long nothing may change before the files are read.
const QUIET: Duration = Duration::from_millis(50);
/// So long where nobody tells when a file is closed: the change was seen by looking only.
const QUIET_UNSEEN: Duration = Duration::from_secs(2);
/// A burst that does not end is looked at after so long.
const LONGEST: Duration = Duration::from_secs(2);
/// A file that is being written may take so long; then its writer is taken for dead.
const LONGEST_WRITING: Duration = Duration::from_mins(1);

/// What became of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// They are being written: their end is yet to come.
    Written(Vec<PathBuf>),
    /// They are closed, or have been moved, made or removed as a whole.
    Done(Vec<PathBuf>),
    /// Something is different, and nobody told.
    Unseen,
}

#[derive(Debug, Default)]
pub(super) struct Settle {
    burst: Option<Burst>,
    /// Files that are open for writing.
    writing: BTreeSet<PathBuf>,
}

#[derive(Debug)]
struct Burst {
    first: Instant,
    last: Instant,
    quiet: Duration,
}

impl Settle {
    /// Something changed.
    pub(super) fn changed(&mut self, now: Instant, change: Change) {
        let burst = self.burst.get_or_insert(Burst { first: now, last: now, quiet: QUIET });
        burst.last = now;
        match change {
            Change::Written(paths) => self.writing.extend(paths),
            Change::Done(paths) => self.writing.retain(|path| !paths.contains(path)),
            Change::Unseen => burst.quiet = QUIET_UNSEEN,
        }
    }

    /// When to look; nothing where nothing changed.
    pub(super) fn due(&self) -> Option<Instant> {
        let burst = self.burst.as_ref()?;
        if self.writing.is_empty() {
            Some((burst.last + burst.quiet).min(burst.first + LONGEST.max(burst.quiet)))
        } else {
            Some(burst.last + LONGEST_WRITING)
        }
    }

    /// The files were looked at.
    pub(super) fn looked(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_settles_and_an_endless_one_is_cut() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let done = || Change::Done(vec!["a".into()]);
        let mut settle = Settle::default();
        assert_eq!(settle.due(), None);
        settle.changed(at(0), done());
        assert_eq!(settle.due(), Some(at(50)));
        settle.changed(at(60), done());
        assert_eq!(settle.due(), Some(at(110)));
        settle.changed(at(1990), done());
        assert_eq!(settle.due(), Some(at(2000)));
        settle.looked();
        assert_eq!(settle.due(), None);
    }

    #[test]
    fn a_file_that_is_being_written_is_waited_for() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut settle = Settle::default();
        settle.changed(at(0), Change::Written(vec!["list".into()]));
        assert_eq!(settle.due(), Some(at(60_000)));
        settle.changed(at(10), Change::Done(vec!["other".into()]));
        assert_eq!(settle.due(), Some(at(60_010)), "another file's end is not this one's");
        settle.changed(at(5_000), Change::Done(vec!["list".into()]));
        assert!(settle.due() <= Some(at(5_050)));
    }

    #[test]
    fn what_nobody_told_of_takes_a_second_look() {
        let start = Instant::now();
        let mut settle = Settle::default();
        settle.changed(start, Change::Unseen);
        assert_eq!(settle.due(), Some(start + QUIET_UNSEEN));
    }
}
