//! A daemon with a user of its own, and files that are somebody else's: what a copy as root, or a restored backup, leaves.
//!
//! What must hold: each is told with what to look at; what can go on goes on, judging; and when the files are handed over
//! it is as if nothing had been.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use super::Site;
use crate::rig::{Result, Rig};

/// Nobody on the machine has this number.
const USER: u32 = 54_321;
/// What shows whose the folders on the way are.
const LOOK: &str = "namei -l";

pub(super) fn files_of_others(rig: &Rig) -> Result<()> {
    let log = "[log]\ndecisions = \"{dir}/logs/decisions.jsonl\"\n[state]\ndir = \"{dir}/state\"";
    let mut site = Site::new(rig, "fault-others", log)?;
    let user = format!("--reuid={USER}");
    site.daemon.wrapper =
        ["setpriv", &user, &format!("--regid={USER}"), "--clear-groups"].map(str::to_owned).into();
    for folder in ["state", "logs"] {
        fs::create_dir_all(site.path(folder)).map_err(|e| format!("{folder}: {e}"))?;
        give(&site.path(folder), USER, 0o755)?;
    }
    // The sockets are made in the folder itself.
    give(&site.path("."), USER, 0o755)?;

    not_started(&mut site)?;

    give(&site.path("state"), 0, 0o755)?;
    let from = site.daemon.log.len();
    site.daemon.start()?;
    site.said(from, &["cannot keep the last good policy", "Permission denied", "its owner"])?;
    site.said(from, &["cannot write evidence: it is kept in memory", LOOK])?;
    site.probe()?;
    give(&site.path("state"), USER, 0o755)?;
    site.said(from, &["the last good policy is kept again"])?;
    site.said(from, &["evidence is written again"])?;
    site.stop()?;

    give(&site.path("logs"), 0, 0o755)?;
    fs::remove_file(site.path("logs/decisions.jsonl")).map_err(|e| format!("decisions.jsonl: {e}"))?;
    let from = site.daemon.log.len();
    site.daemon.start()?;
    site.said(from, &["cannot open; trying again", "Permission denied", LOOK])?;
    site.probe()?;
    give(&site.path("logs"), USER, 0o755)?;
    site.probe()?;
    site.stop()?;
    let written = fs::metadata(site.path("logs/decisions.jsonl")).map_or(0, |file| file.len());
    if written == 0 {
        return Err(site.told("nothing was written to a folder that was handed over"));
    }

    // The policy, with a good copy kept: that is in force until it may be read again.
    give(&site.path("policy.toml"), 0, 0o600)?;
    let from = site.daemon.log.len();
    site.daemon.start()?;
    site.said(from, &["cannot read", "policy.toml", LOOK])?;
    site.said(from, &["beginning with the last good policy of the state folder"])?;
    site.probe()?;
    give(&site.path("policy.toml"), 0, 0o644)?;
    site.said(from, &["policy in force"])?;
    site.probe()?;
    site.stop()
}

/// What it cannot begin without: the policy, and a folder for its socket.
fn not_started(site: &mut Site) -> Result<()> {
    for (name, mode, words) in [
        ("policy.toml", 0o600, ["cannot read", "policy.toml", LOOK]),
        (
            ".",
            0o755,
            ["not started: cannot listen on", "its folder must be the daemon's user's", "Permission denied"],
        ),
    ] {
        let path = site.path(name);
        give(&path, 0, mode)?;
        let from = site.daemon.log.len();
        if site.daemon.start().is_ok() {
            return Err(site.told(&format!("it started with {name} of root's")));
        }
        site.said(from, &words)?;
        give(&path, USER, if name == "." { 0o755 } else { 0o644 })?;
    }
    Ok(())
}

fn give(path: &Path, user: u32, mode: u32) -> Result<()> {
    chown(path, Some(user), Some(user))
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(|e| format!("{}: {e}", path.display()))
}
