//! Cases are data: files of steps, with the reply to each and the decision records that are expected.
//!
//! `schema` says what a case file may hold, `play` does what it says, `check` holds the outcome against it.
//! Promises: a case that expects nothing, or holds a word that is not known, is an error, not a success.

pub(crate) mod check;
pub(crate) mod play;
mod postfix;
pub(crate) mod schema;
