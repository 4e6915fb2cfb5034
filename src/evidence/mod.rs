//! Evidence: stored counts of decisions, from which it is told who would break before anything does.
//!
//! The way through: [`observed`] takes from a decision what is counted, [`rollup`] counts it in memory, [`store`]
//! keeps the counts in a file, [`writer`] does so for the daemon. [`ripeness`] tells what they say of a rule's next step.
//!
//! Promises: counts of several hosts, put together in any order, are those of one host that saw it all; so are
//! the bounds on them. Must not: have a say in a decision, or hold one up; know mail addresses.

mod batch;
pub mod observed;
pub mod questions;
pub mod ripeness;
pub mod rollup;
mod seen;
pub mod store;
mod words;
pub mod writer;

pub use observed::Observed;
pub use rollup::Rollup;
pub use store::{Store, StoreError};

#[cfg(test)]
mod tests;
