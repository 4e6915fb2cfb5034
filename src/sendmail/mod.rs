//! sendmail's own formats, read and written.
//!
//! The access map: [`access_map`] takes its text apart, [`rhs`] its TLS rules' right-hand sides (with
//! [`tokens`], sendmail's own way to take a value apart). From there [`import`] makes a policy, [`lint`] says
//! what is wrong, and [`export`] goes the other way, into the marked [`block`] of an access map.
//!
//! The [`mail_log`]: what it tells of each session, message and delivery.
//!
//! [`cf`]: what the running sendmail was told.
//!
//! The [`socket_map`]: what the outbound rulesets ask, and how they are answered.

pub mod access_map;
pub mod block;
pub mod cf;
pub mod export;
pub mod import;
mod keys;
pub mod lint;
pub mod lower;
pub mod mail_log;
mod prefix;
pub mod rhs;
pub mod socket_map;
pub mod tokens;

/// A map is worked off line by line: so many of its faults are shown.
pub const MAX_SHOWN: usize = 10_000;
