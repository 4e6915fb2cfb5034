//! How long something took, in buckets.
//!
//! Promises: an observation costs two atomic additions and no lock; what is read is consistent in itself, for the
//! number of observations is the sum of the buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds in nanoseconds: a decision takes some 2 µs, one with a lookup of how long a message has waited some more,
/// and what takes 50 ms is an MTA's time-out in the making.
const BOUNDS: [u64; 15] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    50_000_000,
    250_000_000,
];

/// The buckets, and beside them one for what exceeds all bounds.
#[derive(Debug)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    /// All together, in seconds.
    pub(super) sum: f64,
    /// How many.
    pub(super) count: u64,
    /// Upper bounds in seconds, and how many lie between it and the one before.
    pub(super) buckets: Vec<(f64, u64)>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), nanoseconds: AtomicU64::new(0) }
    }
}

/// Of nanoseconds. A sum of years is not exact to the nanosecond any more.
fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

impl Histogram {
    /// Takes one.
    pub(super) fn observe(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let place = BOUNDS.partition_point(|bound| *bound < nanoseconds);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> Seen {
        let bounds = BOUNDS.into_iter().map(seconds).chain([f64::INFINITY]);
        let buckets: Vec<_> =
            bounds.zip(&self.buckets).map(|(bound, count)| (bound, count.load(Ordering::Relaxed))).collect();
        Seen {
            sum: seconds(self.nanoseconds.load(Ordering::Relaxed)),
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_is_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for nanoseconds in [0, 1_000, 1_001, 250_000_000, 250_000_001, u64::MAX / 2] {
            histogram.observe(Duration::from_nanos(nanoseconds));
        }
        let seen = histogram.seen();
        let filled: Vec<_> = seen.buckets.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(filled, [(1e-6, 2), (2e-6, 1), (0.25, 1), (f64::INFINITY, 2)]);
        assert_eq!(seen.count, 6);
        assert!(seen.sum > 9e9, "{}", seen.sum);
        assert!(BOUNDS.is_sorted());
    }
}
