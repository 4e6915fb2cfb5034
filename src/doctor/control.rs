//! What the running daemon says of itself, by its control socket.
//!
//! Must not: need it. A daemon without one is looked at from outside.

use crate::control::{AskError, Decided, STATUS, Status, ask};
use crate::http::Method;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is known of the daemon that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// Its process.
    pub pid: Option<u32>,
    /// The fingerprint of the policy in force.
    pub policy: String,
    /// The daemon's file that it was started with.
    pub config: Option<String>,
    /// Decisions so far, and how many of them were `unknown`.
    pub decisions: Option<(u64, u64)>,
    /// Lines that were lost.
    pub lost: u64,
}

/// Asks the daemon.
pub trait Control {
    /// How it goes.
    fn status(&self) -> Result<Running, NoStatus>;
}

/// Why the daemon did not say anything.
#[derive(Debug, thiserror::Error)]
pub enum NoStatus {
    /// No answer.
    #[error("{0}: {1}")]
    NoAnswer(PathBuf, #[source] AskError),
    /// An answer that is none.
    #[error("what answers on {0} is not understood: {1}")]
    NotUnderstood(PathBuf, #[source] serde_json::Error),
}

/// The daemon's control socket.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    timeout: Duration,
}

impl ControlSocket {
    /// At this path.
    pub fn new(path: &Path, timeout: Duration) -> Self {
        Self { path: path.to_path_buf(), timeout }
    }
}

impl Control for ControlSocket {
    fn status(&self) -> Result<Running, NoStatus> {
        let answer = ask(&self.path, Method::GET, STATUS, self.timeout)
            .map_err(|error| NoStatus::NoAnswer(self.path.clone(), error))?;
        let status: Status = serde_json::from_slice(&answer)
            .map_err(|error| NoStatus::NotUnderstood(self.path.clone(), error))?;
        Ok(Running::from(status))
    }
}

impl From<Status> for Running {
    fn from(status: Status) -> Self {
        let Decided { accept, tempfail, reject, unknown, .. } = status.decisions;
        Self {
            pid: Some(status.pid),
            policy: status.policy.policy.fingerprint,
            config: Some(status.config),
            decisions: Some((accept + tempfail + reject, unknown)),
            lost: status.lost.values().map(|lost| lost.queue_full + lost.not_written).sum(),
        }
    }
}
