//! What a running daemon says of itself.
//!
//! Promises: one schema for the socket, `status --json` and the table.

use crate::reload::{InForce, Outcome};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whether it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Yes.
    Running,
    /// Open transactions get to their end; nothing new is accepted.
    Stopping,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Whether it serves.
    pub state: State,
    /// Since when it runs.
    pub since: Timestamp,
    /// The daemon's file.
    pub config: String,
    /// The policy in force.
    pub policy: Policy,
    /// What came of the last load.
    pub last_load: Outcome,
    /// How many loads put in force what the files say, and how many did not.
    pub loads: Loads,
    /// Where it listens.
    pub listeners: Vec<Listening>,
    /// Connections by what is served: `milter`, `outbound`.
    pub connections: BTreeMap<String, Connections>,
    /// What was decided so far.
    pub decisions: Decided,
    /// Lines that were lost, by where they should have gone: `log`, `decisions`.
    pub lost: BTreeMap<String, Lost>,
    /// The evidence, where some is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Counted>,
}

/// A policy, and since when it is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The policy.
    #[serde(flatten)]
    pub policy: InForce,
    /// Since when. One that is the same in meaning begins nothing.
    pub since: Timestamp,
}

/// Loads so far, the start's among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loads {
    /// The files are in force.
    pub in_force: u64,
    /// They are not.
    pub refused: u64,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// In sendmail's notation.
    pub address: String,
    /// `milter`, `outbound`, `control`.
    pub serves: String,
    /// Whether systemd listens on it, too.
    pub passed: bool,
}

/// Connections of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Now.
    pub live: u64,
    /// At once, at most.
    pub most: u64,
    /// As many may be.
    pub limit: u64,
    /// So far.
    pub total: u64,
    /// Closed at once, for all were in use.
    pub turned_away: u64,
}

/// Decisions so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// Accepted.
    pub accept: u64,
    /// Answered 4xx.
    pub tempfail: u64,
    /// Answered 5xx.
    pub reject: u64,
    /// Of those accepted: the MTA did not tell what would be needed to judge.
    pub unknown: u64,
    /// Of those accepted: nobody could tell how long they had been deferred.
    pub in_doubt: u64,
}

/// Lines that were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// For a full queue.
    pub queue_full: u64,
    /// For a disk that did not take them.
    pub not_written: u64,
}

/// Decisions on their way into the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// In the file.
    pub written: u64,
    /// Lost for a full queue, or for a file that could not be written.
    pub lost: u64,
    /// Batches that could not be written, each time it was tried.
    pub failures: u64,
}
