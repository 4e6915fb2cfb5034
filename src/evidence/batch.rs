//! Decisions that came together, before they are counted.
//!
//! Promises: what comes of it is what counting each decision by itself gives. Bounded by whoever fills it.

use super::observed::Observed;
use super::rollup::{Counts, Rollup};
use crate::policy::Day;
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Decisions that came together: of one who sends many messages at a time most are the same.
#[derive(Debug, Default)]
pub(super) struct Batch {
    same: HashMap<Observed, Counts, RandomState>,
    day: Option<Day>,
}

impl Batch {
    /// Takes one more; where it is of another day, those before are counted at once.
    pub(super) fn take(&mut self, observed: Observed, into: &mut Rollup) {
        let day = Day::of_unix_seconds(observed.at);
        if self.day.replace(day) != Some(day) {
            self.count(into);
        }
        let one = Counts::one(observed.at);
        self.same.entry(observed).and_modify(|counts| counts.add(one)).or_insert(one);
    }

    /// Counts all of them.
    pub(super) fn count(&mut self, into: &mut Rollup) {
        for (observed, counts) in self.same.drain() {
            into.observe_all(&observed, counts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use crate::policy::decide::{Envelope, decide};
    use crate::policy::facts::{Facts, Told};

    fn observed(address: &str, bits: &str, at: i64) -> Observed {
        let told = Told {
            peer_addr: Some(address.as_bytes()),
            cipher_bits: Some(bits.as_bytes()),
            tls_version: Some(b"TLSv1.3"),
            ..Told::default()
        };
        let (policy, facts) = (Policy::default(), Facts::inbound(&told));
        let decision = decide(&policy, &facts, Envelope::default(), Day::of_unix_seconds(at));
        Observed::of(&facts, &decision, jiff::Timestamp::from_second(at).unwrap())
    }

    #[test]
    fn together_they_count_as_one_by_one() {
        const DAY: i64 = 86_400;
        let all = [
            observed("192.0.2.7", "256", 30),
            observed("192.0.2.7", "256", 10),
            observed("192.0.2.7", "128", 20),
            observed("192.0.2.9", "256", 40),
            observed("192.0.2.7", "256", DAY + 5),
            observed("192.0.2.7", "256", 50),
        ];
        let (mut alone, mut together, mut batch) = (Rollup::new(10), Rollup::new(10), Batch::default());
        for one in &all {
            alone.observe(one);
            batch.take(one.clone(), &mut together);
        }
        batch.count(&mut together);
        assert_eq!(alone, together);
        assert_eq!(together.decisions(), 6);
        batch.count(&mut together);
        assert_eq!(together.decisions(), 6, "nothing is counted twice");
    }
}
