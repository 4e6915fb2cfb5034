//! What the daemon says: its log, its decisions, and what it could not say.
//!
//! Promises: nothing here ever blocks an answer to the MTA. Lines are made by whoever has something to say,
//! and written by a thread of their own; what has to be dropped on the way is counted, and said.

pub mod decisions;
pub mod log;
pub mod metrics;
pub mod sink;
