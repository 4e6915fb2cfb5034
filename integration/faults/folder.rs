//! The policy's folder is a file system that is unmounted, mounted over, and mounted anew.
//!
//! What must hold: as long as there is no policy the one in force stays; the one that comes is taken, by nobody's doing.

use std::fs;
use std::process::Command;

use super::{Mounted, Site};
use crate::load::script::policy;
use crate::rig::{Result, Rig, tool, wait};

pub(super) fn taken_away(rig: &Rig) -> Result<()> {
    let mut site = Site::new(rig, "fault-folder", "policy.files = [\"conf/policy.toml\"]\n")?;
    let conf = site.path("conf");
    let first = mounted(&site, 1)?;
    site.daemon.start()?;
    in_force(&site, 1)?;

    // Nothing there any more.
    let from = site.daemon.log.len();
    drop(first);
    site.said(from, &["policy refused: the one in force stays"])?;
    in_force(&site, 1)?;
    site.probe()?;
    // Another one in its place, with an edit in it.
    let second = mounted(&site, 2)?;
    in_force(&site, 2)?;
    site.write("conf/policy.toml", &policy(3, false))?;
    in_force(&site, 3)?;
    // One above the other, and away again: what was there before is there again.
    let above = mounted(&site, 4)?;
    in_force(&site, 4)?;
    drop(above);
    in_force(&site, 3)?;
    // A folder is bound over it, and what is edited is that folder's.
    let other = site.path("other");
    fs::create_dir(&other).map_err(|e| format!("other: {e}"))?;
    site.write("other/policy.toml", &policy(5, false))?;
    tool::run(Command::new("mount").arg("--bind").arg(&other).arg(&conf), "")?;
    let bound = Mounted(conf.clone());
    in_force(&site, 5)?;
    site.write("other/policy.toml", &policy(6, false))?;
    in_force(&site, 6)?;
    // The file itself is bound over.
    site.write("single.toml", &policy(7, false))?;
    tool::run(
        Command::new("mount").arg("--bind").arg(site.path("single.toml")).arg(conf.join("policy.toml")),
        "",
    )?;
    let single = Mounted(conf.join("policy.toml"));
    in_force(&site, 7)?;
    drop(single);
    in_force(&site, 6)?;
    drop(bound);
    in_force(&site, 3)?;
    drop(second);
    site.probe()?;
    // Without a folder at a start it is the last good one.
    site.kill()?;
    let from = site.daemon.log.len();
    site.daemon.start()?;
    site.said(from, &["beginning with the last good policy of the state folder"])?;
    in_force(&site, 3)?;
    site.stop()
}

fn mounted(site: &Site, generation: usize) -> Result<Mounted> {
    let mounted = Mounted::tmpfs(site.path("conf"), "1m")?;
    site.write("conf/policy.toml", &policy(generation, false))?;
    Ok(mounted)
}

fn in_force(site: &Site, generation: usize) -> Result<()> {
    wait::until(&format!("generation {generation} to be in force"), || match site.is_in_force(generation) {
        Ok(false) => None,
        answer => Some(answer),
    })
    .map_err(|fault| site.told(&fault))?
    .map(drop)
}
