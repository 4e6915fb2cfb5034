//! Ten thousand connections held open, half of them in the middle of a message.

use std::time::Duration;

use super::{Site, mail, negotiate};
use crate::load::script::Host;
use crate::load::wire::Wire;
use crate::rig::{Result, Rig, tool, wait};

const CONNECTIONS: usize = 10_000;
/// So often, one ten thousand after the other.
const ROUNDS: usize = 3;
/// What a connection may take of memory, in KiB, every other one with a message under way: 13 in a debug build, whose
/// futures are large.
const EACH: u64 = 20;
/// Each ten thousand after the first may take so small a part more.
const GROWTH: u64 = 5;
/// The slowest of some answers to others meanwhile, on a machine that is busy.
const PROMPT: Duration = Duration::from_secs(5);

const SETTINGS: &str = "milter.max-connections = 12000\nlog.decisions = \"/dev/null\"\n";

pub(super) fn ten_thousand(rig: &Rig) -> Result<()> {
    // As many for us, who hold the other ends.
    let ours = format!("--pid={}", std::process::id());
    tool::run(std::process::Command::new("prlimit").args([&ours, "--nofile=12500:"]), "")?;
    let mut site = Site::new(rig, "fault-connections", SETTINGS)?;
    site.daemon.start()?;
    site.probe()?;
    let before = (site.memory()?, site.descriptors_from_the_start_on()?);
    let mut most = Vec::new();
    for _ in 0..ROUNDS {
        let held = hold_open(&site)?;
        let memory = site.memory()?;
        let each = (memory.saturating_sub(before.0)) / CONNECTIONS as u64;
        if each > EACH {
            return Err(format!("{each} KiB for a connection: {} KiB before, {memory} with them", before.0));
        }
        let (_, slowest) = site.probe()?;
        if slowest > PROMPT {
            return Err(format!("an answer took {slowest:?}"));
        }
        most.push(memory);
        drop(held);
        wait::until("the connections to be gone", || {
            site.descriptors().is_ok_and(|now| now <= before.1 + 2).then_some(())
        })?;
    }
    let after = site.memory()?;
    eprintln!(
        "fault-ten-thousand-connections: {} KiB before, {most:?} with them, {after} afterwards",
        before.0
    );
    // The room of those that have gone is taken by the next ones: some of it an allocator keeps for them.
    match most.as_slice() {
        [first, others @ ..] if others.iter().all(|next| *next <= first + (first - before.0) / GROWTH) => {
            site.probe()?;
            site.stop()
        }
        _ => Err(format!("memory with ten thousand grew each time: {most:?} KiB")),
    }
}

fn hold_open(site: &Site) -> Result<Vec<Wire>> {
    let mut held = Vec::with_capacity(CONNECTIONS);
    for number in 0..CONNECTIONS {
        let mut wire = Wire::connect(&site.target()).map_err(|e| format!("connection {number}: {e}"))?;
        let reply = negotiate(&mut wire).and_then(|_| match number % 2 {
            // A message in the clear of one who must not: it is left open.
            0 => mail(&mut wire, "HELD", Host::Hard.name(), Host::Hard.address()).map(Some),
            _ => Ok(None),
        });
        match reply.map_err(|e| format!("connection {number}: {e}"))? {
            Some(reply) if reply.kind != b'c' => return Err(format!("connection {number}: {reply:?}")),
            _ => held.push(wire),
        }
    }
    Ok(held)
}
