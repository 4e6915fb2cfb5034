//! encr-milter: a milter that enforces minimum TLS strength in front of sendmail, and lets a rule ripen.
//!
//! The map of the crate. Dependencies point one way; `tests/architecture.rs` holds it to that.
//!
//! ```text
//! main → cli → service → {milter, outbound, control → reload} → {daemon_file, systemd}
//!      → {telemetry, listener, policy_file, sendmail, snapshot, evidence} → {policy, diagnostics}
//!            → {replay → sendmail, simulation, report → evidence} → policy
//! ```

pub mod cli;
pub mod control;
pub mod daemon_file;
pub mod database;
pub mod diagnostics;
pub mod doctor;
pub mod environment;
pub mod evidence;
pub mod http;
pub mod listener;
pub mod milter;
pub mod outbound;
pub mod policy;
pub mod policy_file;
pub mod probe;
pub mod reload;
pub mod replay;
pub mod report;
pub mod sendmail;
pub mod service;
pub mod simulation;
pub mod snapshot;
pub mod systemd;
pub mod telemetry;
pub mod waiting;
