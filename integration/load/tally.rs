//! What came of sessions: how many, what was said, how long it took.

use hdrhistogram::Histogram;
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
    /// How long those to MAIL took.
    pub(crate) mail: Latency,
    /// Everything that was said, and when, where it is kept.
    pub(crate) kept: Option<Vec<(Instant, Told)>>,
}

impl Tally {
    /// One that keeps everything that was said.
    pub(crate) fn keeping() -> Self {
        Self { kept: Some(Vec::new()), ..Self::default() }
    }

    /// What was said of a message, or of a recipient. A message that would be refused and names no recipient has it at its
    /// end.
    pub(super) fn told(&mut self, id: &str, recipient: Option<&str>, reply: Option<&str>) {
        let word = reply.and_then(|reply| reply.split(' ').next()).unwrap_or("accept");
        match self.decisions.get_mut(word) {
            Some(count) => *count += 1,
            None => drop(self.decisions.insert(word.to_owned(), 1)),
        }
        if let Some(kept) = &mut self.kept {
            let owned = |text: &str| text.to_owned();
            let told = Told { id: id.to_owned(), recipient: recipient.map(owned), reply: reply.map(owned) };
            kept.push((Instant::now(), told));
        }
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
        self.mail.add(&other.mail);
        if let (Some(kept), Some(others)) = (&mut self.kept, other.kept) {
            kept.extend(others);
        }
    }
}

/// How long answers took, to three digits.
#[derive(Debug)]
pub(crate) struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        // Any time at all, and three digits: that cannot be refused.
        #[allow(clippy::expect_used)]
        Self(Histogram::new(3).expect("three digits"))
    }
}

impl Latency {
    pub(crate) fn note(&mut self, took: Duration) {
        // It grows to what is needed, and cannot fail but for memory.
        let _ = self.0.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    fn add(&mut self, other: &Self) {
        // It grows by itself.
        let _ = self.0.add(&other.0);
    }

    pub(crate) fn slowest(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }

    /// So many of a thousand answers took no longer.
    pub(crate) fn within(&self, per_mille: u16) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(f64::from(per_mille) / 1000.0))
    }
}
