//! What answering an MTA needs of the world: the policy in force, the time, and somebody who takes the record.
//!
//! Must not: block. Whoever answers is on the path of mail.

use crate::policy::Policy;
use crate::policy::record::Record;
use std::sync::Arc;

/// What a session needs of the world.
pub trait Environment {
    /// The policy in force.
    fn policy(&self) -> Arc<Policy>;
    /// The time.
    fn now(&self) -> jiff::Timestamp;
    /// Takes the record of a decision. Must not block.
    fn record(&self, record: &Record<'_>);
}
