//! What came of loading: for whoever asked for it, for `status`, and for metrics.
//!
//! Promises: one schema for all of them; bounded, as diagnostics and the changes that are told are.

use crate::diagnostics::{Diagnostics, Sources};
use crate::policy::Policy;
use crate::policy::rule::Side;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::watch;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// What the files say is in force.
    InForce,
    /// A file is wrong: the policy that was in force stays.
    Refused,
    /// The files change, or are open for writing: they are loaded once they hold still.
    Unsettled,
    /// The daemon stops, and loads nothing any more.
    Stopping,
    /// A fault of the program: the policy that was in force stays.
    Failed,
}

/// Why it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The daemon began.
    Start,
    /// The files changed.
    Edit,
    /// SIGHUP.
    Signal,
    /// `encr-milter reload`.
    Asked,
}

/// What came of one load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub outcome: Ending,
    /// Why it was done.
    pub cause: Cause,
    /// When it ended.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// The policy that is in force after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<InForce>,
    /// Since when that is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The fingerprint of the policy before, where another has taken its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What changed in meaning, a line each.
    pub changes: Vec<String>,
    /// How many changes more there are.
    pub further_changes: usize,
    /// What else is to be known, a line each.
    pub notes: Vec<String>,
    /// How many errors were found.
    pub errors: usize,
    /// How many warnings were found.
    pub warnings: usize,
    /// What was found, as `check --json` tells it.
    pub diagnostics: Vec<serde_json::Value>,
    /// The same as `check` draws it.
    pub drawn: String,
}

/// A policy in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// Its fingerprint.
    pub fingerprint: String,
    /// How many rules it has.
    pub rules: usize,
    /// How many keys, over all sides.
    pub keys: usize,
}

impl InForce {
    /// Of a policy.
    pub fn of(policy: &Policy) -> Self {
        let keys = Side::ALL.into_iter().map(|side| policy.index().side(side).len()).sum();
        Self { fingerprint: policy.fingerprint().to_string(), rules: policy.rules().len(), keys }
    }
}

impl Outcome {
    /// Without anything found. It ends now.
    pub fn new(outcome: Ending, cause: Cause, policy: Option<&Policy>) -> Self {
        Self {
            outcome,
            cause,
            at: Timestamp::now(),
            took_ms: 0,
            policy: policy.map(InForce::of),
            since: None,
            before: None,
            changes: Vec::new(),
            further_changes: 0,
            notes: Vec::new(),
            errors: 0,
            warnings: 0,
            diagnostics: Vec::new(),
            drawn: String::new(),
        }
    }

    /// With what was found in files, in the order of their reading.
    pub(super) fn found(&mut self, diagnostics: &Diagnostics, sources: &Sources) {
        self.errors += diagnostics.errors();
        self.warnings += diagnostics.warnings();
        self.drawn.push_str(&diagnostics.render(sources, false));
        if let Some(summary) = diagnostics.summary() {
            self.drawn.push_str(&summary);
            self.drawn.push('\n');
        }
        // Strings and numbers: always a value.
        self.diagnostics.extend(
            diagnostics.records(sources).iter().filter_map(|record| serde_json::to_value(record).ok()),
        );
    }

    /// Whether what the files say is in force.
    pub fn is_success(&self) -> bool {
        self.outcome == Ending::InForce
    }
}

/// What came of loading so far.
#[derive(Debug)]
pub struct Reloads {
    last: watch::Sender<Arc<Outcome>>,
    in_force_since: watch::Sender<Timestamp>,
    counts: watch::Sender<Counts>,
}

/// Loads so far, the start's among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many put in force what the files say.
    pub in_force: u64,
    /// How many did not, whatever the reason.
    pub refused: u64,
    /// When the last of the former ended.
    pub succeeded_at: Option<Timestamp>,
}

impl Reloads {
    pub(super) fn begin(first: Outcome) -> Self {
        let at = first.at;
        let reloads = Self {
            last: watch::Sender::new(Arc::new(first)),
            in_force_since: watch::Sender::new(at),
            counts: watch::Sender::default(),
        };
        reloads.count(&reloads.last());
        reloads
    }

    pub(super) fn publish(&self, outcome: Arc<Outcome>) {
        self.count(&outcome);
        if let Some(since) = outcome.since {
            self.in_force_since.send_replace(since);
        }
        self.last.send_replace(outcome);
    }

    fn count(&self, outcome: &Outcome) {
        self.counts.send_modify(|counts| {
            if outcome.is_success() {
                counts.in_force += 1;
                counts.succeeded_at = Some(outcome.at);
            } else {
                counts.refused += 1;
            }
        });
    }

    /// What came of the last load; the first is that of the start.
    pub fn last(&self) -> Arc<Outcome> {
        Arc::clone(&self.last.borrow())
    }

    /// Tells of each load that ends from now on.
    pub fn watch(&self) -> watch::Receiver<Arc<Outcome>> {
        self.last.subscribe()
    }

    /// Since when the policy in force is so: one that is the same in meaning begins nothing.
    pub fn in_force_since(&self) -> Timestamp {
        *self.in_force_since.borrow()
    }

    /// How many there were of either kind.
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_load_is_counted_once_whatever_came_of_it() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let outcome = |ending, second| Outcome { at: at(second), ..Outcome::new(ending, Cause::Edit, None) };
        let reloads = Reloads::begin(outcome(Ending::Unsettled, 1));
        assert_eq!(reloads.counts(), Counts { refused: 1, ..Counts::default() });
        for (n, ending) in [Ending::InForce, Ending::Refused, Ending::Failed].into_iter().enumerate() {
            reloads.publish(Arc::new(outcome(ending, 2 + i64::try_from(n).unwrap())));
        }
        assert_eq!(reloads.counts(), Counts { in_force: 1, refused: 3, succeeded_at: Some(at(2)) });
        assert_eq!((reloads.last().outcome, reloads.last().at), (Ending::Failed, at(4)));
    }
}
