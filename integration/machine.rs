//! The machine that is booted: a Debian 12 with systemd and sendmail, on which the package is installed, attached,
//! upgraded and removed as an administrator does it.
//!
//! Each trial has a machine of its own (`machine/host.rs`). Must not: know more than the administrator: it reads the
//! guide, types commands, and looks at what they say.

mod attached;
mod host;
mod hung;
mod installed;
mod load;
mod package;
mod removed;
mod upgraded;

use crate::rig::{Result, Rig};

type Test = fn(&Rig) -> Result<()>;

/// All trials, by name.
pub(crate) const ALL: &[(&str, Test)] = &[
    ("machine-package", package::clean),
    ("machine-installed", installed::installed),
    ("machine-attached", attached::attached),
    ("machine-hung", hung::hung),
    ("machine-upgraded", upgraded::upgraded),
    ("machine-removed", removed::removed),
];

/// What is wrong, where it is.
fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(what()) }
}
