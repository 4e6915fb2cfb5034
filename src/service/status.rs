//! How it goes: put together from those who know, for the control socket and for `systemctl status`.
//!
//! Promises: reading waits for nobody who answers mail. Must not: keep anything beyond what is counted elsewhere.

use super::sources::{Served, Sources};
use crate::control::{Connections, Counted, Decided, Loads, Lost, PolicyStatus, State, Status};
use crate::policy::decide::Disposition;
use crate::reload::{Ending, InForce};
use crate::telemetry::sink::Sink;
use std::collections::BTreeMap;

impl Sources {
    /// All of it.
    pub(super) fn status(&self) -> Status {
        let loads = self.reloads.counts();
        let connections = |served: &&Served| {
            let now = served.view.connections();
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
            loads: Loads { in_force: loads.in_force, refused: loads.refused },
            listeners: self.listeners.clone(),
            connections: by_name(self.listening().map(|served| (served.name, served)), connections),
            decisions: Decided {
                accept: self.metrics.decisions_with(Disposition::Accept),
                tempfail: self.metrics.decisions_with(Disposition::Tempfail),
                reject: self.metrics.decisions_with(Disposition::Reject),
                unknown: self.metrics.unknown(),
                in_doubt: self.waiting.in_doubt(),
            },
            lost: by_name(self.sinks.iter().map(|(name, sink)| (*name, sink)), |sink| lost(sink)),
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
            .listening()
            .map(|served| format!("{} {}", served.name, served.view.connections().live))
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

    /// What has listeners.
    fn listening(&self) -> impl Iterator<Item = &Served> {
        self.served.iter().filter(|served| served.listeners > 0)
    }
}

fn by_name<S, T>(
    sources: impl Iterator<Item = (&'static str, S)>,
    read: impl Fn(&S) -> T,
) -> BTreeMap<String, T> {
    sources.map(|(name, source)| (name.to_owned(), read(&source))).collect()
}
