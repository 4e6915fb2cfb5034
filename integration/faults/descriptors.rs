//! No descriptor left to a daemon that runs: nothing can be accepted, opened or read.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Site, evidence_of, mail, negotiate, recorded};
use crate::load::script::{Host, refusal};
use crate::load::wire::{Wire, string};
use crate::rig::{Result, Rig, tool, wait};

/// What it may compute in a second of it.
const BUSY: f64 = 0.5;

pub(super) fn none_left(rig: &Rig) -> Result<()> {
    let mut site = Site::started(rig, "fault-descriptors", "")?;
    let io = |what: &'static str| move |e: std::io::Error| format!("{what}: {e}");
    let mut open = Wire::connect(&site.target()).map_err(io("connecting"))?;
    negotiate(&mut open).map_err(io("negotiating"))?;
    refused(&mut open, 1)?;
    site.probe()?;

    let limit = |limit: u32| -> Result<()> {
        let pid = format!("--pid={}", site.daemon.pid()?);
        tool::run(Command::new("prlimit").args([&pid, &format!("--nofile={limit}:")]), "").map(drop)
    };
    limit(3)?;
    let (from, begun) = (site.daemon.log.len(), site.moment()?);
    // Who is in is served.
    refused(&mut open, 2)?;
    // Who comes waits for his turn.
    let mut waiting = Wire::connect(&site.target()).map_err(io("connecting"))?;
    site.said(from, &["cannot accept connections; trying again"])?;
    // An edit cannot be read, nor can the daemon's own file, and the log cannot be opened anew: all of it is told.
    site.write("policy.toml", &crate::load::script::policy(1, false))?;
    site.said(from, &["cannot read", "policy.toml"])?;
    let refusal = site.said(from, &["policy refused: the one in force stays"])?;
    site.daemon.signal(Signal::SIGHUP)?;
    site.said(refusal, &["policy refused: the one in force stays"])?;
    refused(&mut open, 3)?;
    wait::until("three seconds of it", || (begun.0.elapsed() > Duration::from_secs(3)).then_some(()))?;
    let load = site.load_since(begun)?;
    if load > BUSY {
        return Err(site.told(&format!("{load:.2} of a processor was used for nothing")));
    }

    let healed = site.daemon.log.len();
    limit(1024)?;
    let reply = negotiate(&mut waiting).map_err(io("the one who waited"))?;
    if reply.kind != b'O' {
        return Err(format!("the one who waited was told {reply:?}"));
    }
    // Nobody edits it again, and nobody signals.
    let at = site.said(healed, &["rule generation-1: added"])?;
    site.said(at, &["policy in force"])?;
    refused(&mut open, 4)?;
    site.probe()?;
    site.stop()?;
    let found = recorded(&site.path("decisions.jsonl"))?;
    let counted = evidence_of(&site.path("state/evidence.db"))?;
    // Two probes of three decisions each, and the one who was in.
    if (found.records.len(), found.broken, counted) != (10, 0, 10) {
        return Err(site.told(&format!("{} recorded, {counted} counted", found.records.len())));
    }
    site.last_good_is(1)
}

/// One message more on a connection that is open: it must be refused.
fn refused(wire: &mut Wire, number: usize) -> Result<()> {
    let ask = |wire: &mut Wire| {
        mail(wire, &format!("OPEN{number}"), Host::Hard.name(), Host::Hard.address())?;
        let reply = wire.ask(b'R', &string("<r@rig.example>"))?;
        wire.put(b'A', b"");
        wire.flush().map(|()| reply)
    };
    let reply = ask(wire).map_err(|e: std::io::Error| format!("message {number} of who is in: {e}"))?;
    if reply.payload == string(&refusal(Host::Hard, 0).unwrap_or_default()) {
        Ok(())
    } else {
        Err(format!("message {number} of who is in: {reply:?}"))
    }
}
