//! How it goes: put together from those who know, for the control socket and for `systemctl status`.
//!
//! Promises: reading waits for nobody who answers mail. Must not: keep anything beyond what is counted elsewhere.

use crate::control::{Connections, Counted, Decided, Listening, Loads, Lost, PolicyStatus, State, Status};
use crate::evidence::writer::Evidence;
use crate::listener::tally::View;
use crate::policy::decide::Disposition;
use crate::reload::{Ending, InForce, Reloads};
use crate::snapshot::SnapshotCell;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::sink::Sink;
use crate::waiting::keeper::Waiting;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Those who know.
pub(super) struct Sources {
    pub(super) config: String,
    pub(super) since: Timestamp,
    pub(super) snapshots: Arc<SnapshotCell>,
    pub(super) reloads: Arc<Reloads>,
    pub(super) listeners: Vec<Listening>,
    /// By what is served.
    pub(super) connections: Vec<(&'static str, View)>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) waiting: Waiting,
    /// By what is written.
    pub(super) sinks: Vec<(&'static str, Sink)>,
    pub(super) evidence: Option<Evidence>,
}

impl Sources {
    /// All of it.
    pub(super) fn status(&self) -> Status {
        let (in_force, refused) = self.reloads.counts();
        let connections = |view: &View| {
            let now = view.connections();
            Connections {
                live: now.live,
                most: now.most,
                limit: now.limit,
                total: now.accepted,
                turned_away: now.turned_away,
            }
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
            connections: by_name(&self.connections, connections),
            decisions: Decided {
                accept: self.metrics.decisions_with(Disposition::Accept),
                tempfail: self.metrics.decisions_with(Disposition::Tempfail),
                reject: self.metrics.decisions_with(Disposition::Reject),
                unknown: self.metrics.unknown(),
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
        let connections: Vec<String> = self
            .connections
            .iter()
            .map(|(serves, view)| format!("{serves} {}", view.connections().live))
            .collect();
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
        self.connections.iter().any(|(_, view)| view.is_draining())
    }
}

fn by_name<S, T>(sources: &[(&'static str, S)], read: impl Fn(&S) -> T) -> BTreeMap<String, T> {
    sources.iter().map(|(name, source)| ((*name).to_owned(), read(source))).collect()
}
