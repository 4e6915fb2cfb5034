//! What the daemon says: its log, its decisions, and what it could not say.
//!
//! Promises: nothing here ever blocks an answer to the MTA. Who has something to say makes an entry of it; a thread
//! of its own makes lines, or a receiver's own fields, and brings them where they belong. What has to be dropped on
//! the way is counted, and said.

pub mod decisions;
pub mod entry;
pub mod log;
pub mod metrics;
pub mod sink;
