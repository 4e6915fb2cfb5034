//! What the daemon counts of itself, and serves to Prometheus.
//!
//! Promises: whoever answers mail pays some atomic additions for it, and never waits: neither for a scrape nor for a reload.
//! Labels are words of the policy or of fixed sets; nothing that a client says becomes one. Numbers that others keep already
//! (connections, lost lines, evidence, loads of the policy) are not kept twice: they come with each scrape, as a [`Sample`].
//!
//! A decision is counted in one place, where its record is handed on: one record, one count.

mod exposition;
mod histogram;
mod process;
pub mod reference;
mod sessions;
mod tallies;

pub use exposition::Form;
pub use tallies::{REMOVED, Tallied};

use crate::policy::Policy;
use crate::policy::decide::{Decision, Disposition};
use crate::policy::facts::Direction;
use crate::policy::negotiated::Negotiated;
use crate::policy::rule::Side;
use histogram::Histogram;
use sessions::{Sessions, Unknown, index_of};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tallies::Tallies;

/// Why a line or a decision was lost, as the numbers come in pairs.
const REASONS: [&str; 2] = ["queue-full", "not-written"];

/// All that is counted.
#[derive(Debug)]
pub struct Metrics {
    tallies: Tallies,
    sessions: Sessions,
    unknown: Unknown,
    deciding: [Histogram; 2],
    requests: Requests,
    started: jiff::Timestamp,
}

impl Metrics {
    /// Of a process that starts now.
    pub fn new(started: jiff::Timestamp) -> Self {
        Self {
            tallies: Tallies::default(),
            sessions: Sessions::default(),
            unknown: Unknown::default(),
            deciding: [Histogram::default(), Histogram::default()],
            requests: Requests::default(),
            started,
        }
    }

    /// A decision that has its record.
    pub fn decided(&self, direction: Direction, decision: &Decision<'_>) {
        self.tallies.count(direction, decision);
        self.unknown.count(direction, decision);
    }

    /// A session.
    pub fn session(&self, direction: Direction, negotiated: Negotiated) {
        self.sessions.count(direction, negotiated);
    }

    /// How long an answer took.
    pub fn answered(&self, direction: Direction, took: Duration) {
        if let Some(histogram) = self.deciding.get(index_of(direction)) {
            histogram.observe(took);
        }
    }

    /// A policy is about to be put in force. By one thread, and before it is: its decisions are to find their tallies.
    pub fn expect(&self, policy: &Policy) {
        self.tallies.expect(policy);
    }

    /// A request was answered.
    pub fn requested(&self, path: Path, code: u16) {
        self.requests.count(path, code);
    }

    /// Every number of decisions that is not zero.
    pub fn decisions(&self) -> Vec<Tallied> {
        let mut all = Vec::new();
        self.tallies.each(|tallied| all.push(tallied.clone()));
        all
    }

    /// How many decisions came out so.
    pub fn decisions_with(&self, disposition: Disposition) -> u64 {
        let all = self.decisions();
        all.iter().filter(|tallied| tallied.disposition() == disposition).map(|tallied| tallied.count).sum()
    }

    /// How many verdicts were `unknown`.
    pub fn unknown(&self) -> u64 {
        self.unknown.all().map(|(.., count)| count).sum()
    }

    /// All metrics as text, with what others count. Takes long where the policy is large: nothing for a thread that
    /// answers.
    pub fn text(self: &Arc<Self>, sample: Sample, form: Form) -> Result<String, fmt::Error> {
        exposition::text(self, sample, form)
    }
}

/// The numbers that others keep, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Whether mail is accepted and judged.
    pub ready: bool,
    /// The policy in force.
    pub policy: PolicySample,
    /// What came of loading policies.
    pub loads: LoadSample,
    /// By kind of listener.
    pub connections: Vec<ConnectionSample>,
    /// By output.
    pub outputs: Vec<OutputSample>,
    /// Where evidence is kept.
    pub evidence: Option<EvidenceSample>,
    /// Messages whose first attempt is remembered.
    pub waiting: u64,
    /// Messages that were accepted for want of knowledge.
    pub in_doubt: u64,
}

/// A policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySample {
    /// Its fingerprint.
    pub fingerprint: String,
    /// How many rules it has.
    pub rules: u64,
    /// How many keys, by side.
    pub keys: [u64; Side::ALL.len()],
}

impl PolicySample {
    /// Of a policy.
    pub fn of(policy: &Policy) -> Self {
        Self {
            fingerprint: policy.fingerprint().to_string(),
            rules: policy.rules().len() as u64,
            keys: Side::ALL.map(|side| policy.index().side(side).len() as u64),
        }
    }
}

/// Loads so far, the start's among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadSample {
    /// Whether the last one put in force what the files say.
    pub successful: bool,
    /// When the last one ended.
    pub at: jiff::Timestamp,
    /// When the last one ended that was successful.
    pub succeeded_at: Option<jiff::Timestamp>,
    /// How many put in force what the files say.
    pub in_force: u64,
    /// How many did not.
    pub refused: u64,
}

/// Connections of one kind of listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionSample {
    /// `milter`, `outbound`, `http`.
    pub listener: &'static str,
    /// Served now.
    pub live: u64,
    /// The most at once.
    pub most: u64,
    /// As many may be.
    pub limit: u64,
    /// Accepted since the start.
    pub accepted: u64,
    /// Of these, those that had to wait for their turn.
    pub waited: u64,
    /// Of these, those that were closed beyond the limit.
    pub turned_away: u64,
    /// Ended by the other side, or by the system.
    pub cut: u64,
    /// Closed after silence.
    pub idle: u64,
    /// Closed for what was said on them.
    pub protocol: u64,
    /// How often the system would not accept one.
    pub accept_errors: u64,
}

/// Where lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputSample {
    /// `log` or `decisions`.
    pub name: &'static str,
    /// Lines that were lost for a full queue.
    pub queue_full: u64,
    /// Lines that were lost because they could not be written.
    pub not_written: u64,
    /// Whether the file could not be opened anew.
    pub stale: bool,
}

/// How the evidence goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EvidenceSample {
    /// Decisions that wait to be counted.
    pub queue: u64,
    /// Rows that wait to be written.
    pub unwritten_rows: u64,
    /// Decisions in the file.
    pub written: u64,
    /// Decisions that were lost for a full queue.
    pub queue_full: u64,
    /// Decisions that were lost because they could not be written.
    pub not_written: u64,
    /// Batches that were written.
    pub batches: u64,
    /// Batches that could not be, each time it was tried.
    pub failures: u64,
}

/// A path that [http] has; or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// `/`
    Root,
    /// `/metrics`
    Metrics,
    /// `/healthz`
    Healthz,
    /// `/readyz`
    Readyz,
    /// Nothing is there.
    Other,
}

impl Path {
    const ALL: [Self; 5] = [Self::Root, Self::Metrics, Self::Healthz, Self::Readyz, Self::Other];

    /// Which one that is.
    pub fn of(path: &str) -> Self {
        Self::ALL.into_iter().find(|known| known.as_str() == path).unwrap_or(Self::Other)
    }

    /// As it is requested.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "/",
            Self::Metrics => "/metrics",
            Self::Healthz => "/healthz",
            Self::Readyz => "/readyz",
            Self::Other => "other",
        }
    }
}

/// What is answered; another code counts as the last.
const CODES: [&str; 6] = ["200", "404", "405", "500", "503", "other"];

/// Requests, by path and code.
#[derive(Debug, Default)]
struct Requests([[AtomicU64; CODES.len()]; Path::ALL.len()]);

impl Requests {
    fn row(&self, path: Path) -> impl Iterator<Item = (&'static str, &AtomicU64)> {
        let place = Path::ALL.iter().position(|known| *known == path);
        place.and_then(|place| self.0.get(place)).into_iter().flat_map(|row| CODES.into_iter().zip(row))
    }

    fn count(&self, path: Path, code: u16) {
        let code = code.to_string();
        let mut row = self.row(path);
        let place = row.find(|(known, _)| *known == code).or_else(|| self.row(path).last());
        if let Some((_, count)) = place {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn of(&self, path: Path) -> impl Iterator<Item = (&'static str, u64)> {
        self.row(path)
            .map(|(code, count)| (code, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
    }
}
