//! The state folder read-only, gone, or with folders where files should be: at the start, and while the daemon runs.
//!
//! What must hold: mail is judged all the while; what could not be kept is told, and kept as soon as it can be, by
//! nobody's doing: the evidence with every decision, the last good policy as the newest one, waits from then on.

use std::fs;
use std::path::Path;

use super::killed::{DELAYED, delayed};
use super::{Mounted, Site, evidence_of, recorded};
use crate::load::script::policy;
use crate::rig::{Result, Rig, wait};

const NO_EVIDENCE: &str = "cannot write evidence: it is kept in memory";
const EVIDENCE_AGAIN: &str = "evidence is written again";
const NO_COPY: &str = "cannot keep the last good policy in the state folder";
const COPY_AGAIN: &str = "the last good policy is kept again";
const NO_WAITS: &str = "cannot keep how long messages have been deferred";
const WAITS_AGAIN: &str = "how long messages have been deferred is kept again";

pub(super) fn read_only(rig: &Rig) -> Result<()> {
    let mut site = site(rig)?;
    let state = site.path("state");
    site.daemon.start()?;
    delayed(&site, "W1")?;
    all_counted(&site)?;

    // While it runs: another file system lies over the folder, and may not be written to.
    let from = site.daemon.log.len();
    let over = Mounted::tmpfs(state.clone(), "1m")?;
    over.writable(false)?;
    site.probe()?;
    site.said(from, &[NO_EVIDENCE])?;
    edit(&site, 1)?;
    site.said(from, &[NO_COPY])?;
    accepted_in_doubt(&site)?;
    site.probe()?;
    drop(over);
    healed(&site, from)?;
    site.kill()?;
    site.last_good_is(1)?;
    site.stop()?;

    // And from the start on.
    let over = Mounted::tmpfs(state, "1m")?;
    over.writable(false)?;
    edited(&site, 2)?;
    let from = site.daemon.log.len();
    site.daemon.start()?;
    site.probe()?;
    site.said(from, &[NO_EVIDENCE])?;
    site.said(from, &[NO_COPY])?;
    accepted_in_doubt(&site)?;
    drop(over);
    healed(&site, from)?;
    site.stop()?;
    site.last_good_is(2)
}

pub(super) fn gone(rig: &Rig) -> Result<()> {
    let mut site = site(rig)?;
    site.daemon.start()?;
    delayed(&site, "W1")?;
    for _ in 0..2 {
        all_counted_or_newer(&site)?;
        let from = site.daemon.log.len();
        fs::remove_dir_all(site.path("state")).map_err(|e| format!("state: {e}"))?;
        site.probe()?;
        delayed(&site, "W2")?;
        site.said(from, &["the evidence's file is gone"])?;
        // Nobody edits anything: the copy is made anew all the same.
        wait_for(&site.path("state/last-good-policy.json"))?;
        delayed(&site, "W3")?;
        wait_for(&site.path("state/waiting.db"))?;
    }
    site.kill()?;
    site.last_good_is(0)?;
    site.stop()?;
    // Not there at the start, nor the one above it.
    fs::remove_dir_all(site.path("state")).map_err(|e| format!("state: {e}"))?;
    edited(&site, 1)?;
    site.daemon.start()?;
    site.probe()?;
    delayed(&site, "W4")?;
    site.stop()?;
    if evidence_of(&site.path("state/evidence.db"))? != 4 {
        // A probe's three, and the one who waits.
        return Err("the evidence of a folder that was not there is not complete".to_owned());
    }
    site.last_good_is(1)
}

pub(super) fn folders_for_files(rig: &Rig) -> Result<()> {
    const NAMES: [&str; 3] = ["evidence.db", "waiting.db", "last-good-policy.json"];
    let mut site = site(rig)?;
    let state = site.path("state");
    let put = || -> Result<()> {
        fs::create_dir_all(&state).map_err(|e| format!("state: {e}"))?;
        for name in NAMES {
            for ending in ["", "-wal", "-shm"] {
                // Not all of them are there each time.
                let _ = fs::remove_file(state.join(format!("{name}{ending}")));
            }
            fs::create_dir(state.join(name)).map_err(|e| format!("{name}: {e}"))?;
        }
        Ok(())
    };
    put()?;
    for generation in 1..=2 {
        let from = site.daemon.log.len();
        if generation == 1 {
            edited(&site, generation)?;
            site.daemon.start()?;
        } else {
            put()?;
            edit(&site, generation)?;
        }
        site.probe()?;
        site.said(from, &[NO_EVIDENCE])?;
        site.said(from, &[NO_COPY])?;
        // What was kept could not be read, so nobody knows who has waited: they pass.
        accepted_in_doubt(&site)?;
        for name in NAMES {
            fs::remove_dir(state.join(name)).map_err(|e| format!("{name}: {e}"))?;
        }
        site.said(from, &[EVIDENCE_AGAIN])?;
        site.said(from, &[COPY_AGAIN])?;
        site.probe()?;
    }
    site.kill()?;
    site.last_good_is(2)
}

fn site(rig: &Rig) -> Result<Site> {
    let site = Site::new(rig, "fault-state", "")?;
    edited(&site, 0)?;
    Ok(site)
}

fn edited(site: &Site, generation: usize) -> Result<()> {
    site.write("policy.toml", &(policy(generation, false) + DELAYED))
}

fn edit(site: &Site, generation: usize) -> Result<()> {
    let from = site.daemon.log.len();
    edited(site, generation)?;
    let at = site.said(from, &[&format!("rule generation-{generation}: added")])?;
    site.said(at, &["policy in force"]).map(drop)
}

/// Those who would have to wait are let through, for no wait can be kept: at once, or as soon as that was noticed.
fn accepted_in_doubt(site: &Site) -> Result<()> {
    let mut number = 0;
    wait::until("a message to be let through in doubt", || {
        number += 1;
        delayed(site, &format!("DOUBT{number}")).is_err().then_some(())
    })
    .map_err(|fault| site.told(&fault))
}

/// All of it is kept again.
fn healed(site: &Site, from: usize) -> Result<()> {
    site.said(from, &[NO_WAITS])?;
    for again in [EVIDENCE_AGAIN, COPY_AGAIN, WAITS_AGAIN] {
        site.said(from, &[again])?;
    }
    site.probe()?;
    all_counted(site)
}

/// The evidence has all that is in the file of decisions.
fn all_counted(site: &Site) -> Result<()> {
    let seen = std::cell::RefCell::new(String::new());
    wait::until("every decision in the evidence", || {
        let written = recorded(&site.path("decisions.jsonl")).map(|found| found.records.len() as u64);
        let counted = evidence_of(&site.path("state/evidence.db"));
        *seen.borrow_mut() = format!("{written:?} written, {counted:?} counted");
        (written.is_ok() && written == counted).then_some(())
    })
    .map_err(|fault| site.told(&format!("{fault}: {}", seen.borrow())))
}

/// There is evidence, as much as there may be.
fn all_counted_or_newer(site: &Site) -> Result<()> {
    wait::until("some evidence", || {
        evidence_of(&site.path("state/evidence.db")).ok().filter(|count| *count > 0)
    })
    .map(drop)
}

fn wait_for(path: &Path) -> Result<()> {
    wait::until(&path.display().to_string(), || path.is_file().then_some(()))
}
