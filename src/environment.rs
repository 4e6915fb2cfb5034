//! What answering an MTA needs of the world: the policy in force, the time, and somebody who takes the record.
//!
//! Must not: block. Whoever answers is on the path of mail.

use crate::policy::Policy;
use crate::policy::attempt::Attempt;
use crate::policy::decide::Decision;
use crate::policy::facts::{Direction, Facts};
use crate::policy::negotiated::Negotiated;
use crate::policy::record::Record;
use crate::policy::rule::Delay;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a session needs of the world.
pub trait Environment {
    /// The policy in force.
    fn policy(&self) -> Arc<Policy>;
    /// The time.
    fn now(&self) -> jiff::Timestamp;
    /// How many seconds a message that is deferred for `delay` at the most has been tried; from this moment on, if
    /// it is new. `delay` where nobody can tell: when in doubt it is accepted. Must not block.
    fn waited(&self, attempt: Option<Attempt>, delay: Delay, now: jiff::Timestamp) -> u32;
    /// Takes a decision, what it was made of, and its record. Must not block.
    fn record(&self, facts: &Facts<'_>, decision: &Decision<'_>, record: &Record<'_>);
    /// A session was seen: what a client's connection has negotiated by its first message, and again when that has
    /// changed; what a connection to a server has. Must not block. For those who count sessions.
    fn session(&self, _direction: Direction, _negotiated: Negotiated) {}
    /// How long an answer took to be found. Must not block. For those who measure.
    fn answered(&self, _direction: Direction, _took: Duration) {}
}

/// Finds an answer, and tells how long that took: from the whole frame to the answer that is ready to be sent.
pub fn timed<T>(environment: &impl Environment, direction: Direction, answer: impl FnOnce() -> T) -> T {
    let asked = Instant::now();
    let found = answer();
    environment.answered(direction, asked.elapsed());
    found
}
