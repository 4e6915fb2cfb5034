//! The policy in force, for everyone who answers.
//!
//! Promises: reading costs no lock and never waits for a reload; whoever holds a snapshot keeps it, so that
//! a transaction is judged by one policy from MAIL to its end, whatever is swapped in meanwhile.

use crate::policy::Policy;
use arc_swap::ArcSwap;
use std::sync::Arc;

/// Holds the policy in force.
#[derive(Debug)]
pub struct SnapshotCell(ArcSwap<Policy>);

impl SnapshotCell {
    /// Begins with a policy.
    pub fn new(policy: Policy) -> Self {
        Self(ArcSwap::from_pointee(policy))
    }

    /// The policy in force now.
    pub fn load(&self) -> Arc<Policy> {
        self.0.load_full()
    }

    /// Puts another policy in force; gives the one before. Whoever swaps should keep that until nobody else
    /// has it ([`Arc::strong_count`]), so that no answering thread pays for dropping it.
    pub fn swap(&self, policy: Arc<Policy>) -> Arc<Policy> {
        self.0.swap(policy)
    }
}
