//! `kill -9` at any moment, under load and with edits going on, and a new start each time.
//!
//! What must hold: every answer that was given was right; the records are those of answers that were given, each once,
//! in whole lines; what is missing was decided in the last moment before a kill; databases and the last good policy are
//! sound; a wait goes on.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Site, by_key, evidence_of, hold, mail, recorded};
use crate::load::Random;
use crate::load::drive::{Plan, drive};
use crate::load::script::policy;
use crate::load::wire::{Wire, string};
use crate::rig::{Result, Rig, wait};

const SEED: u64 = 0x6b69_6c6c;
const KILLS: u64 = 12;
/// Some time after its start: while it loads, listens, answers, writes.
const WITHIN_MS: u64 = 400;
/// What was decided so long before a kill is on the disk's side of the write, however busy the machine is.
const ON_ITS_WAY: Duration = Duration::from_secs(3);
const CONNECTIONS: usize = 6;

/// One who waits: deferred for a day at the most.
pub(super) const DELAYED: &str = "[[rule]]\nname = \"delayed\"\nclient = [\"delayed.example\"]\n\
                       soft-fail = { min-bits = 128, max-delay = \"1d\" }\n";

pub(super) fn under_load(rig: &Rig) -> Result<()> {
    let mut site = Site::new(rig, "fault-killed", "")?;
    site.write("policy.toml", &text(0))?;
    site.daemon.start()?;
    delayed(&site, "WAITS-FIRST")?;
    wait::until("the wait to be kept", || {
        let kept = rusqlite::Connection::open(site.path("state/waiting.db")).ok()?;
        kept.query_row("SELECT count(*) FROM waiting", [], |row| row.get::<_, i64>(0))
            .ok()
            .filter(|rows| *rows == 1)
    })?;

    let (over, next, generation) = (AtomicBool::new(false), AtomicU64::new(0), AtomicUsize::new(0));
    let targets = [site.target()];
    let plan = Plan {
        targets: &targets,
        seed: SEED,
        connections: CONNECTIONS,
        next: &next,
        until: u64::MAX,
        over: &over,
        may_cut: true,
        keeps: true,
    };
    let mut kills = Vec::new();
    let tally = thread::scope(|scope| {
        let load = scope.spawn(|| drive(&plan));
        let policy_file = site.path("policy.toml");
        let (over, generation) = (&over, &generation);
        let edits = scope.spawn(move || -> Result<()> {
            while !over.load(Ordering::Relaxed) {
                let number = generation.fetch_add(1, Ordering::Relaxed) + 1;
                let beside = policy_file.with_extension("toml.tmp");
                std::fs::write(&beside, text(number))
                    .and_then(|()| std::fs::rename(&beside, &policy_file))
                    .map_err(|e| format!("policy.toml: {e}"))?;
                thread::sleep(Duration::from_millis(70));
            }
            Ok(())
        });
        let mut random = Random(SEED);
        let killed = (0..KILLS).try_for_each(|_| {
            thread::sleep(Duration::from_millis(random.below(WITHIN_MS)));
            site.kill()?;
            kills.push(Instant::now());
            site.daemon.start()
        });
        over.store(true, Ordering::Relaxed);
        let tally = load.join().map_err(|_| "the load panicked".to_owned())?;
        edits.join().map_err(|_| "the edits panicked".to_owned())??;
        killed.and(tally)
    })
    .map_err(|fault| site.told(&fault))?;

    let last = generation.load(Ordering::Relaxed) + 1;
    let from = site.daemon.log.len();
    site.write("policy.toml", &text(last))?;
    let at = site.said(from, &[&format!("rule generation-{last}: added")])?;
    site.said(at, &["policy in force"])?;
    delayed(&site, "WAITS-STILL")?;
    site.probe()?;
    site.stop()?;

    let found = recorded(&site.path("decisions.jsonl"))?;
    if found.broken as u64 > KILLS {
        return Err(format!("{} lines are no records, and there were {KILLS} kills", found.broken));
    }
    let seen = hold(SEED, &found.records)?;
    let answered = by_key(tally.kept.unwrap_or_default());
    let missing: Vec<_> = answered.iter().filter(|(told, _)| !seen.contains(*told)).collect();
    let excused = |at: &Instant| kills.iter().any(|kill| *at <= *kill && *kill - *at < ON_ITS_WAY);
    if let Some((told, _)) = missing.iter().find(|(_, at)| !excused(at)) {
        return Err(format!("{told:?} was answered, is not recorded, and nobody was killed just then"));
    }
    if tally.cut == 0 || seen.len() < 100 || missing.len() * 2 > seen.len() {
        let (cut, seen, missing) = (tally.cut, seen.len(), missing.len());
        return Err(format!("{cut} sessions were cut, {seen} decisions are recorded, {missing} are missing"));
    }
    still_waits(&found.records)?;
    let counted = evidence_of(&site.path("state/evidence.db"))?;
    if counted == 0 || counted > found.records.len() as u64 + missing.len() as u64 {
        return Err(format!("the evidence counts {counted}, of {} records", found.records.len()));
    }
    evidence_free_of_debris(&site)?;
    site.last_good_is(last)
}

fn text(generation: usize) -> String {
    policy(generation, generation % 2 == 1) + DELAYED
}

/// A message that has to wait, with nothing of the load's.
pub(super) fn delayed(site: &Site, id: &str) -> Result<()> {
    let mut wire = Wire::connect(&site.target()).map_err(|e| format!("connecting: {e}"))?;
    let rcpt = mail(&mut wire, id, "mx.delayed.example", "192.0.2.9")
        .and_then(|_| wire.ask(b'R', &string("<r@rig.example>")))
        .map_err(|e| format!("{id}: {e}"))?;
    if rcpt.payload.starts_with(b"454 4.7.0") { Ok(()) } else { Err(format!("{id}: {rcpt:?}")) }
}

fn still_waits(records: &[Value]) -> Result<()> {
    let waited = |id: &str| {
        records.iter().find(|record| record["queue_id"] == id).and_then(|record| record["waited"].as_u64())
    };
    match (waited("WAITS-FIRST"), waited("WAITS-STILL")) {
        (_, Some(1..)) => Ok(()),
        waits => Err(format!("the wait began anew: {waits:?}")),
    }
}

/// A kill while a file is being replaced may leave one half; many kills must not fill the disk.
fn evidence_free_of_debris(site: &Site) -> Result<()> {
    let names = std::fs::read_dir(site.path("state")).map_err(|e| format!("state: {e}"))?;
    let names: Vec<String> =
        names.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let known = |name: &&String| {
        !["evidence.db", "waiting.db", "last-good-policy.json"].iter().any(|k| name.starts_with(k))
    };
    match names.iter().filter(known).count() {
        0 | 1 => Ok(()),
        _ => Err(format!("left in the state folder: {names:?}")),
    }
}
