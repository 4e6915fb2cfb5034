//! Those who know how the daemon goes: what `status`, `systemctl status` and `[http]` read.
//!
//! Promises: one set of handles for all who ask, so that they cannot tell of different things; reading waits for nobody who
//! answers mail. Must not: keep anything beyond what is counted elsewhere.

use crate::control::Listening;
use crate::evidence::writer::Evidence;
use crate::listener::tally::View;
use crate::reload::{Life, Reloads};
use crate::snapshot::SnapshotCell;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::sink::Sink;
use crate::waiting::keeper::Waiting;
use jiff::Timestamp;
use std::sync::Arc;

/// The connections of one kind.
pub(super) struct Served {
    /// What is served: `milter`, `outbound`.
    pub(super) name: &'static str,
    pub(super) view: View,
    /// How many listeners should accept them.
    pub(super) listeners: usize,
}

/// All of them.
pub(super) struct Sources {
    pub(super) config: String,
    pub(super) since: Timestamp,
    pub(super) snapshots: Arc<SnapshotCell>,
    pub(super) reloads: Arc<Reloads>,
    /// Whether the thread that reloads is there.
    pub(super) reloading: Life,
    pub(super) listeners: Vec<Listening>,
    /// The MTA's connections; those of a kind without listeners, too.
    pub(super) served: [Served; 2],
    pub(super) metrics: Arc<Metrics>,
    pub(super) waiting: Waiting,
    /// By what is written.
    pub(super) sinks: Vec<(&'static str, Sink)>,
    pub(super) evidence: Option<Evidence>,
}

impl Sources {
    /// Whether the daemon is about to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.served.iter().any(|served| served.view.is_draining())
    }
}
