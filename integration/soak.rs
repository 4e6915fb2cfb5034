//! Sessions without an end: of every strength, whole and cut, with the policy reloaded and the logs rotated all the while.
//!
//! What must hold: every answer is right; at the end each decision is in the log or counted as lost, and so in the
//! evidence; memory and descriptors are as they were after the first tenth.
//!
//! `integration/soak.sh 1000000` runs a million, with the release build.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::faults::{Site, evidence_of, said_lost};
use crate::load::drive::{Plan, drive};
use crate::load::script::policy;
use crate::load::tally::Tally;
use crate::rig::{Result, Rig, wait};

/// How many sessions there are unless told otherwise: enough to see a byte that each of them leaves behind.
const SESSIONS: u64 = 50_000;
const SESSIONS_VAR: &str = "ENCR_MILTER_SOAK";
/// Another build of the daemon.
const DAEMON_VAR: &str = "ENCR_MILTER_SOAK_DAEMON";
/// The sessions come in so many rounds, with so many connections at once.
const ROUNDS: u64 = 10;
const CONNECTIONS: [usize; 4] = [16, 64, 128, 32];
/// Memory may grow by so much after the first rounds (an allocator's arenas, a database's cache), in KiB, however many
/// sessions there are.
const GROWTH: u64 = 12 * 1024;
/// After so many rounds all has been needed once: the most connections at once among them.
const WARM: usize = 3;

const SETTINGS: &str = "log.level = \"warn\"\n";

pub(crate) fn soak(rig: &Rig) -> Result<()> {
    let sessions = match env::var(SESSIONS_VAR) {
        Ok(number) => number.parse().map_err(|e| format!("{SESSIONS_VAR}={number}: {e}"))?,
        Err(_) => SESSIONS,
    };
    let mut site = Site::new(rig, "soak", SETTINGS)?;
    if let Some(program) = env::var_os(DAEMON_VAR) {
        site.daemon.set_program(Path::new(&program));
    }
    site.daemon.start()?;
    let over = AtomicBool::new(false);
    let (mut tally, mut written, mut samples) = (Tally::default(), BTreeMap::new(), Vec::new());
    let begun = Instant::now();
    let asked = thread::scope(|scope| {
        let (seen, ended) = (&site, &over);
        let reloads = scope.spawn(move || reload_until(seen, ended));
        let rounds = rounds(&site, sessions, &mut |round| {
            tally.add(round);
            rotate(&site, &mut written)?;
            samples.push((tally.sessions, site.memory()?, site.descriptors()?));
            Ok(())
        });
        over.store(true, Ordering::Relaxed);
        let asked = reloads.join().map_err(|_| "the reloads panicked".to_owned())?;
        rounds.and(asked)
    })
    .map_err(|fault| format!("{fault}\n{}", site.daemon.log.lines().join("\n")))?;
    let took = begun.elapsed();
    site.stop()?;
    count(&site.path("decisions.jsonl"), &mut written)?;

    told(&samples, &tally, took, asked);
    let log = site.daemon.log.lines();
    let lost = |output| said_lost(log.iter().map(String::as_str), output);
    let in_log: u64 = written.values().sum();
    let decided = tally.decided() + asked.questions;
    if in_log + lost("decisions") != decided {
        let lost = lost("decisions");
        return Err(format!(
            "{decided} decisions, {in_log} in the log and {lost} lost: {written:?}, {:?}",
            tally.decisions
        ));
    }
    // What an answer began with must be there as often, where nothing was lost.
    for (word, count) in &tally.decisions {
        let found = written.get(word).copied().unwrap_or(0);
        if lost("decisions") == 0 && found != *count && word != "accept" && word != "550" {
            return Err(format!("{word}: {count} were told, and {found} are in the log"));
        }
    }
    let counted = evidence_of(&site.path("state/evidence.db"))?;
    if counted + lost("evidence") != decided {
        return Err(format!("{decided} decisions, {counted} in the evidence and {} lost", lost("evidence")));
    }
    flat(&samples)
}

/// All sessions, in rounds.
fn rounds(site: &Site, sessions: u64, after: &mut dyn FnMut(Tally) -> Result<()>) -> Result<()> {
    let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let targets = [site.target()];
    for (round, connections) in (1..=ROUNDS).zip(CONNECTIONS.into_iter().cycle()) {
        let until = sessions * round / ROUNDS;
        // Each thread takes a number more than it plays.
        next.store(sessions * (round - 1) / ROUNDS, Ordering::Relaxed);
        let plan = Plan {
            targets: &targets,
            seed: 0x736f_616b,
            connections,
            next: &next,
            until,
            over: &over,
            may_cut: false,
            keeps: false,
        };
        after(drive(&plan)?)?;
    }
    Ok(())
}

/// What the reloads came to.
#[derive(Clone, Copy)]
struct Asked {
    reloads: usize,
    /// Decisions that were made to see whether one was in force.
    questions: u64,
}

/// Puts one policy after the other in force.
fn reload_until(site: &Site, over: &AtomicBool) -> Result<Asked> {
    let mut asked = Asked { reloads: 0, questions: 0 };
    while !over.load(Ordering::Relaxed) {
        asked.reloads += 1;
        site.write("policy.toml", &policy(asked.reloads, asked.reloads.is_multiple_of(2)))?;
        wait::until("a policy to be in force", || {
            asked.questions += 1;
            match site.is_in_force(asked.reloads) {
                Ok(false) => None,
                answer => Some(answer),
            }
        })??;
    }
    Ok(asked)
}

/// As logrotate does it: moves the file away, signals, and counts what is in it when the new one is there.
fn rotate(site: &Site, written: &mut BTreeMap<String, u64>) -> Result<()> {
    let (file, old) = (site.path("decisions.jsonl"), site.path("decisions.jsonl.1"));
    fs::rename(&file, &old).map_err(|e| format!("decisions.jsonl: {e}"))?;
    site.daemon.signal(Signal::SIGHUP)?;
    wait::until("the file of decisions to be opened anew", || file.exists().then_some(()))?;
    count(&old, written)?;
    fs::remove_file(&old).map_err(|e| format!("decisions.jsonl.1: {e}"))
}

/// Counts the records of a file, each of which must be one, by what their replies begin with.
fn count(path: &Path, written: &mut BTreeMap<String, u64>) -> Result<()> {
    let file = fs::File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    for line in BufReader::new(file).lines() {
        let line = line.map_err(|e| format!("{}: {e}", path.display()))?;
        let record: serde_json::Value = serde_json::from_str(&line).map_err(|e| format!("{e}: {line}"))?;
        let reply = record.get("reply").and_then(|reply| reply.as_str()?.split(' ').next());
        *written.entry(reply.unwrap_or("accept").to_owned()).or_default() += 1;
    }
    Ok(())
}

fn told(samples: &[(u64, u64, usize)], tally: &Tally, took: Duration, asked: Asked) {
    let a_second = tally.sessions * 1000 / u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    let (half, most) = (tally.latency.within(500), tally.latency.within(999));
    eprintln!(
        "soak: {} sessions, {} messages, {} decisions, {} reloads in {took:.1?}: {a_second} sessions/s; an answer took \
         {half:.1?} (half of them), {most:.1?} (all but a thousandth), {:.1?} at the most",
        tally.sessions,
        tally.messages,
        tally.decided(),
        asked.reloads,
        tally.latency.slowest()
    );
    for (sessions, memory, descriptors) in samples {
        eprintln!("soak: after {sessions:>8} sessions {memory:>7} KiB, {descriptors} descriptors");
    }
}

/// Nothing has grown since it was warm.
fn flat(samples: &[(u64, u64, usize)]) -> Result<()> {
    let (Some(warm), Some(last)) = (samples.get(WARM - 1), samples.last()) else {
        return Err("no samples".to_owned());
    };
    if last.1 > warm.1 + GROWTH {
        return Err(format!(
            "memory grew: {} KiB after {} sessions, {} after {}",
            warm.1, warm.0, last.1, last.0
        ));
    }
    // The reloads and the rotation have some open at times.
    if last.2 > warm.2 + 8 {
        return Err(format!(
            "descriptors: {} after {} sessions, {} after {}",
            warm.2, warm.0, last.2, last.0
        ));
    }
    Ok(())
}
