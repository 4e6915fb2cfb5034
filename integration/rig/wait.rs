//! Waiting for an outcome, with a deadline. Nothing in the rig sleeps in the hope that something has happened.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long an outcome may take on a busy machine. Nothing that works comes near it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Asks until there is an answer, at most for [`DEADLINE`].
pub(crate) fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> super::Result<T> {
    within(DEADLINE, what, ask)
}

/// The same, for what takes longer.
pub(crate) fn within<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> super::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if start.elapsed() > limit {
            return Err(format!("waited {} s for {what}, in vain", limit.as_secs()));
        }
        sleep(Duration::from_millis(5));
    }
}
