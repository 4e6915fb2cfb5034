//! What answering an MTA needs of the world: the policy in force, the time, and somebody who takes the record.
//!
//! Must not: block. Whoever answers is on the path of mail.

use crate::policy::Policy;
use crate::policy::attempt::Attempt;
use crate::policy::decide::Decision;
use crate::policy::facts::Facts;
use crate::policy::record::Record;
use crate::policy::rule::Delay;
use std::sync::Arc;

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
}
