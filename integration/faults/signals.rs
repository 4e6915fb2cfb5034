//! Signals in storms, at every moment of a start, during a reload; and many daemons that want one socket.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::Site;
use crate::load::Random;
use crate::load::drive::{Plan, drive, play};
use crate::load::script::{Script, policy};
use crate::load::tally::Tally;
use crate::rig::daemon::Daemon;
use crate::rig::{Result, Rig, wait};

const HANGUPS: usize = 1000;
const STARTS: u64 = 30;
/// A start takes so long on a machine that has nothing else to do, in ms.
const START_MS: u64 = 60;
const ROUNDS: usize = 6;
const DAEMONS: usize = 8;
/// EX_UNAVAILABLE of sysexits.
const TAKEN: i32 = 69;

pub(super) fn storms(rig: &Rig) -> Result<()> {
    let mut site = Site::started(rig, "fault-signals", "")?;
    site.probe()?;
    let (before, over, next) =
        (site.descriptors_from_the_start_on()?, AtomicBool::new(false), AtomicU64::new(0));
    let targets = [site.target()];
    let plan = Plan {
        targets: &targets,
        seed: 0x6875_7073,
        connections: 3,
        next: &next,
        until: u64::MAX,
        over: &over,
        may_cut: false,
        keeps: false,
    };
    let tally = thread::scope(|scope| {
        let load = scope.spawn(|| drive(&plan));
        let storm = (0..HANGUPS).try_for_each(|number| {
            if number == HANGUPS / 2 {
                site.write("policy.toml", &policy(1, false))?;
            }
            // So that they do not all fall into one.
            thread::sleep(Duration::from_millis(1));
            site.daemon.signal(Signal::SIGHUP)
        });
        let in_force = storm.and_then(|()| site.said(0, &["rule generation-1: added"]));
        over.store(true, Ordering::Relaxed);
        let tally = load.join().map_err(|_| "the load panicked".to_owned())??;
        in_force.map(|_| tally)
    })?;
    let probed = site.probe()?.0;
    // Of the last loads some may still be at it.
    wait::until(&format!("no more than {before} descriptors, and a few"), || {
        site.descriptors().is_ok_and(|now| now <= before + 4).then_some(())
    })?;
    // A stop in the middle of a reload of something large.
    let list: Vec<String> = (0..100_000).map(|number| format!("host{number}.large.example")).collect();
    site.write("large.txt", &list.join("\n"))?;
    let large = "[[rule]]\nname = \"large\"\nclient-file = \"large.txt\"\nobserve = { min-bits = 128 }\n";
    site.write("policy.toml", &(policy(2, false) + large))?;
    site.daemon.signal(Signal::SIGHUP)?;
    let stopping = Instant::now();
    site.stop()?;
    if stopping.elapsed() > Duration::from_secs(20) {
        return Err(format!("the stop took {:?}", stopping.elapsed()));
    }
    let found = super::recorded(&site.path("decisions.jsonl"))?;
    // The first probe too.
    let decided = tally.decided() + 2 * probed.decided();
    match found.records.len() as u64 {
        written if written == decided && found.broken == 0 => Ok(()),
        written => {
            Err(format!("{decided} decisions, {written} written: the log was opened anew all the while"))
        }
    }
}

/// SIGTERM at any moment from the start of the process on.
pub(super) fn at_start(rig: &Rig) -> Result<()> {
    let mut site = Site::new(rig, "fault-at-start", "")?;
    let mut random = Random(0x7374_6172);
    let (mut before, mut after) = (0, 0);
    for _ in 0..STARTS {
        let from = site.daemon.log.len();
        site.daemon.spawn()?;
        thread::sleep(Duration::from_millis(random.below(START_MS)));
        site.daemon.signal(Signal::SIGTERM)?;
        let status = site.daemon.wait()?;
        let listened = site.daemon.log.lines().iter().skip(from).any(|line| line.contains("listening"));
        match (status.code(), status.signal()) {
            (Some(0), _) => after += 1,
            // Before it heeds any.
            (None, Some(15)) if !listened => before += 1,
            _ => return Err(site.told(&format!("it ended with {status}"))),
        }
        if site.path("milter.sock").exists() {
            return Err("the socket's file is left".to_owned());
        }
    }
    if after == 0 {
        return Err(format!("{before} of {STARTS} were over before they began"));
    }
    site.daemon.start()?;
    site.probe()?;
    site.stop()
}

/// Of many that are started at once, where one was killed before, one serves and the others go.
pub(super) fn many_daemons(rig: &Rig) -> Result<()> {
    let site = Site::new(rig, "fault-many", "")?;
    for round in 0..ROUNDS {
        let mut all = (0..DAEMONS)
            .map(|_| Daemon::lay_out(&rig.daemon, site.folder.path(), &toml::Table::new()))
            .collect::<Result<Vec<_>>>()?;
        all.iter_mut().try_for_each(Daemon::spawn)?;
        let mut ended = Vec::new();
        wait::until("all but one to give up", || {
            ended = all.iter_mut().filter_map(Daemon::has_ended).collect();
            (ended.len() + 1 >= DAEMONS).then_some(())
        })?;
        if let Some(other) = ended.iter().find(|status| status.code() != Some(TAKEN)) {
            return Err(format!("round {round}: one ended with {other}"));
        }
        for number in 0..20 {
            play(&site.target(), &Script::of(7, number), Tally::default())
                .map_err(|e| format!("round {round}: {e}"))?;
        }
        if ended.len() != DAEMONS - 1 {
            return Err(format!("round {round}: {} ended", ended.len()));
        }
        // A kill, so that the next ones find the file of one that is gone.
        for daemon in all.iter_mut().filter(|daemon| daemon.is_running()) {
            if daemon.has_ended().is_none() {
                daemon.signal(Signal::SIGKILL)?;
            }
            daemon.wait()?;
        }
    }
    let names = fs::read_dir(site.folder.path()).map_err(|e| format!("the folder: {e}"))?;
    let left = names.flatten().filter(|name| name.file_name().to_string_lossy().starts_with('.')).count();
    if left > 0 { Err(format!("{left} sockets are left beside their place")) } else { Ok(()) }
}
