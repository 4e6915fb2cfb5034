//! How it goes: put together from those who know, for the control socket and for `systemctl status`.
//!
//! Promises: reading waits for nobody who answers mail. Must not: keep anything beyond what is counted elsewhere, but
//! for the decisions by what was done.

use crate::control::{Connections, Counted, Decided, Listening, Loads, Lost, PolicyStatus, State, Status};
use crate::evidence::writer::Evidence;
use crate::listener::Gauge;
use crate::policy::decide::Disposition;
use crate::reload::{Ending, InForce, Reloads};
use crate::snapshot::SnapshotCell;
use crate::telemetry::decisions::Decisions;
use crate::telemetry::sink::Sink;
use crate::waiting::keeper::Waiting;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// Decisions by what was done.
#[derive(Debug, Default)]
pub(super) struct Tally {
    accept: AtomicU64,
    tempfail: AtomicU64,
    reject: AtomicU64,
}

impl Tally {
    pub(super) fn count(&self, disposition: Disposition) {
        let counter = match disposition {
            Disposition::Accept => &self.accept,
            Disposition::Tempfail => &self.tempfail,
            Disposition::Reject => &self.reject,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Those who know.
pub(super) struct Sources {
    pub(super) config: String,
    pub(super) since: Timestamp,
    pub(super) snapshots: Arc<SnapshotCell>,
    pub(super) reloads: Arc<Reloads>,
    pub(super) listeners: Vec<Listening>,
    /// By what is served.
    pub(super) gauges: Vec<(&'static str, Gauge)>,
    pub(super) tally: Arc<Tally>,
    pub(super) decisions: Arc<Decisions>,
    pub(super) waiting: Waiting,
    /// By what is written.
    pub(super) sinks: Vec<(&'static str, Sink)>,
    pub(super) evidence: Option<Evidence>,
    /// Becomes true when the daemon is told to stop.
    pub(super) closing: watch::Receiver<bool>,
}

impl Sources {
    /// All of it.
    pub(super) fn status(&self) -> Status {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (in_force, refused) = self.reloads.counts();
        let connections = |gauge: &Gauge| Connections {
            live: gauge.live(),
            most: gauge.most(),
            limit: gauge.limit(),
            total: gauge.total(),
            turned_away: gauge.total_turned_away(),
        };
        let lost = |sink: &Sink| {
            let (queue_full, not_written) = sink.lost();
            Lost { queue_full, not_written }
        };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            state: if self.is_stopping() { State::Stopping } else { State::Running },
            since: self.since,
            config: self.config.clone(),
            policy: PolicyStatus {
                policy: InForce::of(&self.snapshots.load()),
                since: self.reloads.in_force_since(),
            },
            last_load: (*self.reloads.last()).clone(),
            loads: Loads { in_force, refused },
            listeners: self.listeners.clone(),
            connections: by_name(&self.gauges, connections),
            decisions: Decided {
                accept: get(&self.tally.accept),
                tempfail: get(&self.tally.tempfail),
                reject: get(&self.tally.reject),
                unknown: self.decisions.unknown(),
                in_doubt: self.waiting.in_doubt(),
            },
            lost: by_name(&self.sinks, lost),
            evidence: self.evidence.as_ref().map(|evidence| {
                let counters = evidence.counters();
                Counted {
                    written: counters.written,
                    lost: counters.queue_full + counters.not_written,
                    failures: counters.failures,
                }
            }),
        }
    }

    /// The line for `systemctl status`.
    pub(super) fn line(&self) -> String {
        let policy = self.snapshots.load();
        let connections: Vec<String> =
            self.gauges.iter().map(|(serves, gauge)| format!("{serves} {}", gauge.live())).collect();
        let state = if self.is_stopping() { "stopping: " } else { "" };
        let rules = policy.rules().len();
        let plural = if rules == 1 { "" } else { "s" };
        let mut line = format!(
            "{state}policy {}, {rules} rule{plural}; connections: {}",
            policy.fingerprint(),
            connections.join(", ")
        );
        let last = self.reloads.last();
        match last.outcome {
            Ending::InForce => {}
            Ending::Refused => line.push_str("; its files as they are now were REFUSED (encr-milter status)"),
            _ => line.push_str("; its files as they are now are NOT IN FORCE (encr-milter status)"),
        }
        line
    }

    fn is_stopping(&self) -> bool {
        *self.closing.borrow()
    }
}

fn by_name<S, T>(sources: &[(&'static str, S)], read: impl Fn(&S) -> T) -> BTreeMap<String, T> {
    sources.iter().map(|(name, source)| ((*name).to_owned(), read(source))).collect()
}
