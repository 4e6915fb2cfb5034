//! When a burst of changes has settled.
//!
//! An editor saves in several steps, a deployment in many. Promises: nothing is loaded while changes keep
//! coming, or while a file is open for writing, but not for ever: after [`LONGEST`] it is looked at.

use std::time::{Duration, Instant};

/// So long nothing may change before the files are read.
const QUIET: Duration = Duration::from_millis(50);
/// So long while a file is being written, and its closing has not been seen.
const QUIET_WRITING: Duration = Duration::from_millis(750);
/// A burst that does not end is looked at after so long.
const LONGEST: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct Settle {
    burst: Option<Burst>,
}

#[derive(Debug)]
struct Burst {
    first: Instant,
    last: Instant,
    writing: bool,
}

impl Settle {
    /// Something changed.
    pub(super) fn changed(&mut self, now: Instant, writing: bool) {
        let burst = self.burst.get_or_insert(Burst { first: now, last: now, writing });
        burst.last = now;
        burst.writing = writing;
    }

    /// When to look; nothing where nothing changed.
    pub(super) fn due(&self) -> Option<Instant> {
        let burst = self.burst.as_ref()?;
        let quiet = if burst.writing { QUIET_WRITING } else { QUIET };
        Some((burst.last + quiet).min(burst.first + LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_settles_and_an_endless_one_is_cut() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut settle = Settle::default();
        assert_eq!(settle.due(), None);
        settle.changed(at(0), false);
        assert_eq!(settle.due(), Some(at(50)));
        settle.changed(at(40), true);
        assert_eq!(settle.due(), Some(at(790)));
        settle.changed(at(60), false);
        assert_eq!(settle.due(), Some(at(110)));
        settle.changed(at(1990), false);
        assert_eq!(settle.due(), Some(at(2000)));
    }
}
