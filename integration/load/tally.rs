//! What came of sessions: how many, what was said, how long it took.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::session::Told;

/// Sums over sessions; of several connections they are added.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Sessions that got to their end.
    pub(crate) sessions: u64,
    /// Sessions that the milter cut.
    pub(crate) cut: u64,
    pub(crate) messages: u64,
    /// Decisions that must have been recorded, by what they said: the first word of the reply, or `accept`.
    pub(crate) decisions: BTreeMap<String, u64>,
    /// How long each answer took.
    pub(crate) latency: Latency,
    /// Everything that was said, and when, where it is kept.
    pub(crate) kept: Option<Vec<(Instant, Told)>>,
}

impl Tally {
    /// One that keeps everything that was said.
    pub(crate) fn keeping() -> Self {
        Self { kept: Some(Vec::new()), ..Self::default() }
    }

    pub(super) fn told(&mut self, told: Told) {
        let word = told.reply.as_deref().and_then(|reply| reply.split(' ').next()).unwrap_or("accept");
        *self.decisions.entry(word.to_owned()).or_default() += 1;
        if let Some(kept) = &mut self.kept {
            kept.push((Instant::now(), told));
        }
    }

    /// A message that would be refused and names no recipient has its record at its end.
    pub(super) fn unnamed(&mut self, id: &str, reply: Option<&str>) {
        self.told(Told { id: id.to_owned(), recipient: None, reply: reply.map(str::to_owned) });
    }

    pub(crate) fn decided(&self) -> u64 {
        self.decisions.values().sum()
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.sessions += other.sessions;
        self.cut += other.cut;
        self.messages += other.messages;
        for (word, count) in other.decisions {
            *self.decisions.entry(word).or_default() += count;
        }
        self.latency.add(&other.latency);
        if let (Some(kept), Some(others)) = (&mut self.kept, other.kept) {
            kept.extend(others);
        }
    }
}

/// Four steps for each doubling of time.
const STEPS: u32 = 4;
const BUCKETS: usize = 160;

/// How long answers took, to within a fifth.
#[derive(Debug)]
pub(crate) struct Latency {
    buckets: [u64; BUCKETS],
    slowest: Duration,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], slowest: Duration::ZERO }
    }
}

impl Latency {
    pub(crate) fn note(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(STEPS.into());
        let doubling = nanos.ilog2();
        let step = (nanos >> (doubling - 2)) & 3;
        let bucket = usize::try_from(u64::from(doubling * STEPS) + step).unwrap_or(BUCKETS);
        if let Some(count) = self.buckets.get_mut(bucket.min(BUCKETS - 1)) {
            *count += 1;
        }
        self.slowest = self.slowest.max(took);
    }

    fn add(&mut self, other: &Self) {
        for (ours, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *ours += theirs;
        }
        self.slowest = self.slowest.max(other.slowest);
    }

    pub(crate) fn slowest(&self) -> Duration {
        self.slowest
    }

    /// So many of a thousand answers took no longer.
    pub(crate) fn within(&self, per_mille: u64) -> Duration {
        let wanted = (self.buckets.iter().sum::<u64>() * per_mille).div_ceil(1000);
        let mut seen = 0;
        for (bucket, count) in (0u32..).zip(self.buckets) {
            seen += count;
            if seen >= wanted.max(1) {
                let (doubling, step) = (bucket / STEPS, u64::from(bucket % STEPS));
                let end = (u64::from(STEPS) + step + 1) << doubling.saturating_sub(2);
                return Duration::from_nanos(end).min(self.slowest);
            }
        }
        self.slowest
    }
}
