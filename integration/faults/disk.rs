//! The disk of the log and of the decisions is full.
//!
//! What must hold: no answer waits for it; each line is there or counted as lost, and the log says so when it can again.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::{Mounted, Site, evidence_of, hold, recorded, said_lost};
use crate::load::drive::{Plan, drive};
use crate::load::tally::Tally;
use crate::rig::{Result, Rig, wait};

const SEED: u64 = 0x6469_736b;
const SESSIONS: u64 = 600;
const SETTINGS: &str =
    "[log]\ndecisions = \"{dir}/disk/decisions.jsonl\"\noutput = \"{dir}/disk/daemon.log\"\n";

pub(super) fn full(rig: &Rig) -> Result<()> {
    let mut site = Site::new(rig, "fault-disk", SETTINGS)?;
    // Behind the daemon when all is dropped, but for a failure: then it is detached.
    let disk = Mounted::tmpfs(site.path("disk"), "6m")?;
    site.daemon.start()?;
    let next = AtomicU64::new(0);
    let mut tally = Tally::keeping();
    let mut filler = None;
    // With room, without, with, and without to the end.
    for (round, room) in [true, false, true, false].into_iter().enumerate() {
        if room {
            if let Some(filler) = filler.take() {
                fs::remove_file(filler).map_err(|e| format!("the filler: {e}"))?;
                // The first line that is written again is a note of what was lost.
                let log = site.path("disk/daemon.log");
                let before = lost(&log)?;
                wait::until("the losses to be told", || {
                    site.probe().ok().map(|(probed, _)| tally.add(probed))?;
                    (lost(&log).ok()? > before).then_some(())
                })?;
            }
        } else {
            filler = Some(disk.fill()?);
        }
        tally.add(send(&site, &next, SESSIONS * (round as u64 + 1))?);
        tally.add(site.probe()?.0);
    }
    if let Some(filler) = filler {
        fs::remove_file(filler).map_err(|e| format!("the filler: {e}"))?;
    }
    site.stop()?;
    let found = recorded(&site.path("disk/decisions.jsonl"))?;
    hold(SEED, &found.records)?;
    let log = fs::read_to_string(site.path("disk/daemon.log")).map_err(|e| format!("daemon.log: {e}"))?;
    let lost = said_lost(log.lines(), "decisions");
    let (decided, written) = (tally.decided(), found.records.len() as u64);
    if written + lost != decided || lost == 0 {
        return Err(format!(
            "{decided} decisions, {written} in the file, {lost} said to be lost:\n{}",
            notes(&log)
        ));
    }
    // A line that was cut by the full disk is ended before the next one, once for each time that it was full.
    if found.broken > 2 {
        return Err(format!("{} lines that are no records", found.broken));
    }
    // The log has lost as many of its own, and each of its decisions is whole too.
    let in_log = log.lines().filter(|line| line.contains(": verdict=")).count() as u64;
    let of_log = said_lost(log.lines(), "log");
    if of_log == 0 || in_log + of_log < decided {
        return Err(format!(
            "{decided} decisions, {in_log} in the log, {of_log} said to be lost:\n{}",
            notes(&log)
        ));
    }
    match evidence_of(&site.path("state/evidence.db"))? {
        counted if counted == decided => Ok(()),
        counted => {
            Err(format!("{decided} decisions, {counted} in the evidence, which has a disk of its own"))
        }
    }
}

fn send(site: &Site, next: &AtomicU64, until: u64) -> Result<Tally> {
    let (targets, over) = ([site.target()], AtomicBool::new(false));
    drive(&Plan {
        targets: &targets,
        seed: SEED,
        connections: 4,
        next,
        until,
        over: &over,
        may_cut: false,
        keeps: false,
    })
}

fn lost(log: &std::path::Path) -> Result<u64> {
    let text = fs::read_to_string(log).map_err(|e| format!("daemon.log: {e}"))?;
    Ok(said_lost(text.lines(), "decisions"))
}

fn notes(log: &str) -> String {
    log.lines().filter(|line| !line.contains(": verdict=")).collect::<Vec<_>>().join("\n")
}
