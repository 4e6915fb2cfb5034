//! MTAs that are slow on purpose or half dead: a byte now and then, no byte at all, replies that nobody reads.
//!
//! What must hold: each is let go when the time set is over; others are answered at once meanwhile; a stop does not
//! wait for them longer than for a transaction.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use super::{Site, mail, negotiate};
use crate::load::script::Host;
use crate::load::wire::{Target, Wire, frame, is_cut, string};
use crate::rig::{Result, Rig, wait};

const OF_EACH: usize = 20;
/// Fewer of those who ask without reading: until both ways are full they are answered, and that takes its time; over TCP
/// it takes a hundred thousand of them.
const DEAF: usize = 2;
const IDLE: Duration = Duration::from_secs(2);
/// Others meanwhile, on a machine that is busy.
const PROMPT: Duration = Duration::from_millis(1500);
/// What may stay in memory of it, in KiB.
const GROWTH: u64 = 24 * 1024;

pub(super) fn slow(rig: &Rig) -> Result<()> {
    let port = rig.port();
    let settings = format!(
        "log.level = \"warn\"\nlog.decisions = \"/dev/null\"\n[milter]\nlisten = [\"unix:{{dir}}/milter.sock\", \"inet:{port}@127.0.0.1\"]\n\
         idle-timeout = {}\ndrain-timeout = 3\n",
        IDLE.as_secs()
    );
    let mut site = Site::started(rig, "fault-slow", &settings)?;
    site.probe()?;
    let before = site.memory()?;
    let targets = [site.target(), Target::Tcp(([127, 0, 0, 1], port).into())];
    thread::scope(|scope| {
        let mut all = Vec::new();
        for target in targets.iter().cycle().take(OF_EACH) {
            all.push(scope.spawn(move || dribble(target)));
            all.push(scope.spawn(move || silent(target)));
        }
        all.extend(targets.iter().take(1).cycle().take(DEAF).map(|target| scope.spawn(move || deaf(target))));
        let mut probed = Ok(());
        while all.iter().any(|one| !one.is_finished()) && probed.is_ok() {
            probed = site.probe().and_then(|(_, slowest)| {
                if slowest < PROMPT { Ok(()) } else { Err(format!("an answer to others took {slowest:?}")) }
            });
        }
        for one in all {
            one.join().map_err(|_| "one of them panicked".to_owned())??;
        }
        probed
    })?;
    let after = site.memory()?;
    if after > before + GROWTH {
        return Err(format!("{before} KiB before, {after} after"));
    }
    // One more of each is there when the daemon stops.
    let deaf = deafen(&site.target()).map_err(|e| format!("one who reads nothing: {e}"))?;
    let stopping = Instant::now();
    site.stop()?;
    let took = stopping.elapsed();
    drop(deaf);
    if took > Duration::from_secs(10) { Err(format!("the stop took {took:?}")) } else { Ok(()) }
}

/// A frame of a thousand bytes, one now and then.
fn dribble(target: &Target) -> Result<()> {
    let mut whole = Vec::new();
    frame(&mut whole, b'M', &[b'a'; 1000]);
    let begun = Instant::now();
    let mut wire = connect(target)?;
    for byte in whole {
        if wire.bytes(&[byte]).is_err() {
            return let_go(begun, "a byte now and then");
        }
        thread::sleep(Duration::from_millis(100));
    }
    Err("all of it was taken".to_owned())
}

/// Nothing at all.
fn silent(target: &Target) -> Result<()> {
    let begun = Instant::now();
    let mut wire = connect(target)?;
    wire.closed().map_err(|e| format!("one who says nothing: {e}"))?;
    let_go(begun, "one who says nothing")
}

/// Asks and asks, and reads no answer.
fn deaf(target: &Target) -> Result<()> {
    let begun = Instant::now();
    let mut wire = deafen(target).map_err(|e| format!("one who reads nothing: {e}"))?;
    wait::until("one who reads nothing to be let go", || {
        wire.bytes(&[0, 0, 0, 1, b'N']).is_err_and(|e| is_cut(&e)).then_some(())
    })?;
    let_go(begun, "one who reads nothing")
}

/// As far as the daemon waits for its answers to be read.
fn deafen(target: &Target) -> std::io::Result<Wire> {
    let mut wire = Wire::connect_for(target, Duration::from_secs(1))?;
    negotiate(&mut wire)?;
    mail(&mut wire, "DEAF", Host::Hard.name(), Host::Hard.address())?;
    let mut many = Vec::new();
    for _ in 0..500 {
        frame(&mut many, b'R', &string("<r@rig.example>"));
    }
    loop {
        match wire.bytes(&many) {
            Ok(()) => {}
            // Both ways are full.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(wire);
            }
            Err(error) if is_cut(&error) => return Ok(wire),
            Err(error) => return Err(error),
        }
    }
}

fn connect(target: &Target) -> Result<Wire> {
    Wire::connect(target).map_err(|e| format!("{target:?}: {e}"))
}

/// Not before its time.
fn let_go(begun: Instant, who: &str) -> Result<()> {
    let after = begun.elapsed();
    if after >= IDLE { Ok(()) } else { Err(format!("{who} was let go after {after:?} already")) }
}
