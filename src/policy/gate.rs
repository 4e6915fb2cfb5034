//! What the evidence must show before a rule is made harder: the policy's `[gate]`.
//!
//! Must not: have a say in a decision. It is no part of the fingerprint.

/// What `promote` asks of the evidence. Every part of it must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Days in succession on which the requirement has been in force in the softer mode.
    pub min_days: u32,
    /// Messages that the rule has met since it stands: a rule that nobody met has proved nothing.
    pub min_messages: u64,
    /// Failures of the requirement that are younger than `min_days`, or whose peer has not been seen passing since.
    pub max_failures: u64,
    /// Whether each peer that the rule has met must have met the requirement at least once.
    pub every_peer_passed: bool,
}

impl Default for Gate {
    /// A fortnight, so that every weekly job of a partner has run twice; and nobody fails.
    fn default() -> Self {
        Self { min_days: 14, min_messages: 100, max_failures: 0, every_peer_passed: true }
    }
}
