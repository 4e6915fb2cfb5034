//! What the running daemon says of itself, by its control socket.
//!
//! Must not: need it. A daemon without one is looked at from outside.

use serde_json::Value;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A status has a few KB.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

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

/// Why the daemon did not say anything.
#[derive(Debug, thiserror::Error)]
pub enum NoStatus {
    /// Nobody listens there.
    #[error("no daemon answers on {0}: {1}")]
    NoDaemon(PathBuf, io::Error),
    /// Only root and the daemon's user may.
    #[error("only root and the daemon's user may ask on {0}")]
    Forbidden(PathBuf),
    /// An answer that is none.
    #[error("what answers on {0} is not understood: {1}")]
    NotUnderstood(PathBuf, String),
}

/// Asks the daemon.
pub trait Control {
    /// How it goes.
    fn status(&self) -> Result<Running, NoStatus>;
}

/// The daemon's control socket: HTTP, `GET /status`.
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

    fn exchange(&self) -> io::Result<String> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        stream.write_all(b"GET /status HTTP/1.1\r\nHost: encr-milter\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Control for ControlSocket {
    fn status(&self) -> Result<Running, NoStatus> {
        let answer = self.exchange().map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => NoStatus::Forbidden(self.path.clone()),
            _ => NoStatus::NoDaemon(self.path.clone(), error),
        })?;
        let not_understood = |why: &str| NoStatus::NotUnderstood(self.path.clone(), why.to_owned());
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| not_understood("no HTTP"))?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(not_understood(head.lines().next().unwrap_or_default()));
        }
        let status: Value = serde_json::from_str(body).map_err(|error| not_understood(&error.to_string()))?;
        running(&status).ok_or_else(|| not_understood("it names no policy"))
    }
}

fn running(status: &Value) -> Option<Running> {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let decisions = status.get("decisions").and_then(Value::as_object).map(|by| {
        let all = ["accept", "tempfail", "reject"].map(|name| by.get(name).map(number).unwrap_or_default());
        (all.iter().sum(), by.get("unknown").map(number).unwrap_or_default())
    });
    let lost = status.get("lost").and_then(Value::as_object).into_iter().flat_map(|by| by.values());
    Some(Running {
        pid: status.get("pid").and_then(Value::as_u64).and_then(|pid| pid.try_into().ok()),
        policy: status.pointer("/policy/fingerprint")?.as_str()?.to_owned(),
        config: status.get("config").and_then(Value::as_str).map(str::to_owned),
        decisions,
        lost: lost.filter_map(Value::as_object).flat_map(|by| by.values()).map(number).sum(),
    })
}
