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
/// A burst that does not end is looked at after so long, in a pause that is as long as this: whoever writes a file in place
/// every few milliseconds has closed it then.
const LONGEST: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);
/// After so long without such a pause, too.
const LONGEST_RESTLESS: Duration = Duration::from_secs(5);
/// A file that is open for writing may be left alone for so long; then its writer is taken for dead.
const LONGEST_WRITING: Duration = Duration::from_mins(1);
/// One that goes on being written, for so long: whoever does not close it must not hold up every other edit.
const LONGEST_OPEN: Duration = Duration::from_mins(5);

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
            let longest = (burst.first + LONGEST.max(burst.quiet)).max(burst.last + PAUSE);
            Some((burst.last + burst.quiet).min(longest).min(burst.first + LONGEST_RESTLESS))
        } else {
            Some((burst.last + LONGEST_WRITING).min(burst.first + LONGEST_OPEN))
        }
    }

    /// The files are looked at now. Says so where one may not be whole.
    pub(super) fn looked(&mut self) {
        if let Some(file) = self.writing.first() {
            tracing::warn!(
                file = %file.display(), files = self.writing.len(),
                "still open for writing: its writer is waited for no longer, and it is read as it is"
            );
        }
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
    fn a_burst_without_end_is_looked_at_in_a_pause() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut settle = Settle::default();
        for ms in (0..=3_000).step_by(10) {
            settle.changed(at(ms), Change::Written(vec!["list".into()]));
            settle.changed(at(ms + 1), Change::Done(vec!["list".into()]));
        }
        assert_eq!(settle.due(), Some(at(3_006)), "behind the last closing, before the next opening");
        settle.changed(at(4_998), Change::Unseen);
        assert_eq!(settle.due(), Some(at(5_000)), "and at the last without one");
    }

    #[test]
    fn a_file_that_is_never_closed_holds_up_what_else_there_is_for_minutes_only() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut settle = Settle::default();
        for second in 0..=290 {
            settle.changed(at(second), Change::Written(vec!["list".into()]));
            settle.changed(at(second), Change::Done(Vec::new()));
        }
        assert_eq!(settle.due(), Some(at(300)));
        settle.looked();
        assert_eq!(settle.due(), None);
    }

    #[test]
    fn what_nobody_told_of_takes_a_second_look() {
        let start = Instant::now();
        let mut settle = Settle::default();
        settle.changed(start, Change::Unseen);
        assert_eq!(settle.due(), Some(start + QUIET_UNSEEN));
    }
}
