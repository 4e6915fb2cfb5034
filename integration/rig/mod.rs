//! The rig: a private sm-mta or Postfix, the daemon under test attached to it, SMTP clients and peers of every strength.
//!
//! Promises: nothing on the machine is touched. Everything runs in namespaces of its own (`namespace`), keeps its
//! files in memory there, and ends with the program that made it. No mail leaves.
//! Must not: know anything of the daemon's inside. It sees what an administrator sees: files, log, replies.

pub(crate) mod case;
pub(crate) mod certs;
pub(crate) mod daemon;
pub(crate) mod edit;
pub(crate) mod listening;
pub(crate) mod log;
pub(crate) mod mta;
pub(crate) mod namespace;
pub(crate) mod peers;
pub(crate) mod postfix;
pub(crate) mod prometheus;
pub(crate) mod receivers;
pub(crate) mod sender;
pub(crate) mod sendmail;
pub(crate) mod smtp;
pub(crate) mod socket_map;
pub(crate) mod syslog;
pub(crate) mod tap;
pub(crate) mod tool;
pub(crate) mod usage;
pub(crate) mod wait;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// What went wrong, in words for the person who reads the failed test.
pub(crate) type Result<T, E = String> = std::result::Result<T, E>;

/// What all cases of one run share. Made once, inside the namespaces.
pub(crate) struct Rig {
    /// The unpacked sendmail packages.
    pub(crate) sendmail_root: PathBuf,
    /// The daemon under test.
    pub(crate) daemon: PathBuf,
    pub(crate) certs: certs::Certs,
    pub(crate) syslog: syslog::Syslog,
    peers: OnceLock<Result<peers::Peers>>,
    next_port: AtomicU16,
}

impl Rig {
    pub(crate) fn new(daemon: &Path) -> Result<Rig> {
        let sendmail_root = unpacked("sendmail-root")?;
        sendmail::prepare_auth(&sendmail_root)?;
        Ok(Rig {
            sendmail_root,
            daemon: daemon.to_owned(),
            certs: certs::Certs::make(Path::new("/run/certs"))?,
            syslog: syslog::Syslog::listen(Path::new("/dev/log"))?,
            peers: OnceLock::new(),
            // The network is private: below the range of ephemeral ports, nobody else takes one.
            next_port: AtomicU16::new(2000),
        })
    }

    /// Where mail goes: one sm-mta for all trials, started for the first that sends some.
    pub(crate) fn peers(&self) -> Result<&peers::Peers> {
        self.peers.get_or_init(|| peers::Peers::start(self)).as_ref().map_err(Clone::clone)
    }

    /// A TCP port that nothing else in the rig uses.
    pub(crate) fn port(&self) -> u16 {
        self.next_port.fetch_add(1, Ordering::Relaxed)
    }
}

/// What setup.sh unpacked lies in the target folder, wherever that is, and so does this program.
pub(crate) fn unpacked(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe().map_err(|e| format!("where this program lies: {e}"))?;
    program
        .ancestors()
        .map(|folder| folder.join("rig").join(name))
        .find(|root| root.join(".complete").exists())
        .ok_or_else(|| {
            format!("{name} is not unpacked yet: run integration/setup.sh, or integration/test.sh")
        })
}
