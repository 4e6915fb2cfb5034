//! Puts the running program into namespaces of its own: mounts, network, host name, processes.
//!
//! The program starts itself once more, as a child of `unshare`, and namespace.sh makes the new surroundings.
//! When that program ends, for whatever reason, the kernel ends all that it started, and all of its files are gone.

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::process::Command;

const INSIDE: &str = "ENCR_MILTER_RIG_INSIDE";
const SET_UP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/rig/namespace.sh");

/// Whether this is the program's second life.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Starts the program again, inside. Comes back only if that cannot be done.
pub(crate) fn enter() -> super::Result<Infallible> {
    if !nix::unistd::geteuid().is_root() {
        return Err("sm-mta and its private network need root: run integration/test.sh (or try.sh), \
                    which uses sudo where it has to"
            .to_owned());
    }
    let program = std::env::current_exe().map_err(|e| format!("where this program lies: {e}"))?;
    let error = Command::new("unshare")
        .args(["--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", SET_UP])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(format!("unshare (of util-linux): {error}"))
}
