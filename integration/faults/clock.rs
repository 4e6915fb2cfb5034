//! The clock is set, forth and back, by hours, days and years, over midnight and a rule's `from`, while the daemon runs.
//!
//! libfaketime tells the daemon another time of day; the time that passes is the machine's. What must hold: each decision
//! is right by the day that it is then; a `max-delay` never defers somebody for ever; evidence stands under the day it was
//! counted on, and none is forgotten for a clock that jumped; nothing computes without an end.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::killed::{DELAYED, delayed};
use super::{Site, mail, recorded};
use crate::load::wire::{Wire, string};
use crate::rig::{Result, Rig, wait};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// What it may compute of the time that passes.
const BUSY: f64 = 0.6;

pub(super) fn steps(rig: &Rig) -> Result<()> {
    let mut site = Site::new(rig, "fault-clock", "")?;
    let offset = site.path("offset");
    fs::write(&offset, "+0").map_err(|e| format!("offset: {e}"))?;
    // The clock says 23:59:50 or so of some day, wherever the machine's own stands: all begins just before midnight.
    let now = Timestamp::now().as_second();
    let to_midnight = DAY - now.rem_euclid(DAY) - 12;
    let day = |days: i64| -> Result<String> {
        let at = Timestamp::from_second(now + to_midnight + days * DAY).map_err(|e| e.to_string())?;
        Ok(at.strftime("%Y-%m-%d").to_string())
    };
    let rules = format!(
        "[[rule]]\nname = \"comes\"\nclient = [\"comes.example\"]\nenforce = {{ min-bits = 128, from = {} }}\n\
         [[rule]]\nname = \"ends\"\nclient = [\"mx.ends.example\"]\nexempt = {{ reason = \"a test\", until = {} }}\n\
         [[rule]]\nname = \"ended\"\nclient = [\"ends.example\"]\nenforce = {{ min-bits = 128 }}\n{DELAYED}",
        day(1)?,
        day(0)?
    );
    site.write("policy.toml", &format!("version = 1\n{rules}"))?;
    site.daemon.wrapper = vec![
        "env".to_owned(),
        format!("LD_PRELOAD={}", library()?.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", offset.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "NO_FAKE_STAT=1".to_owned(),
    ];
    let set = |seconds: i64| fs::write(&offset, format!("{seconds:+}")).map_err(|e| format!("offset: {e}"));
    set(to_midnight)?;
    site.daemon.start()?;
    let begun = site.moment()?;

    // Today the one is not asked for yet, and the other is still exempt.
    let mut expected = Vec::new();
    let mut asked = |site: &Site, host: &str, refused: bool| -> Result<()> {
        let id = format!("CLOCK{}", expected.len());
        let answer = refusal(site, &id, host)?;
        expected.push((id, answer.is_some()));
        if answer.is_some() == refused {
            Ok(())
        } else {
            Err(site.told(&format!("{host} was answered {answer:?}")))
        }
    };
    asked(&site, "mx.comes.example", false)?;
    asked(&site, "mx.ends.example", false)?;
    delayed(&site, "WAIT1")?;
    // Midnight comes by itself.
    wait::until("midnight", || asked(&site, "mx.comes.example", true).ok())?;
    asked(&site, "mx.ends.example", true)?;
    site.said(0, &["rule comes: enforce is in force from today"])?;
    site.said(0, &["rule ends: its exemption has lapsed"])?;
    // Back by a few hours, and it is yesterday again; forth by as many.
    set(to_midnight - 5 * HOUR)?;
    asked(&site, "mx.comes.example", false)?;
    asked(&site, "mx.ends.example", false)?;
    // A wait that began in the future: nobody knows, so the message is taken.
    taken(&site, "WAIT2")?;
    set(to_midnight + DAY)?;
    asked(&site, "mx.comes.example", true)?;
    taken(&site, "WAIT3")?;
    // Years, both ways.
    for years in [10, -10, 40, -40] {
        set(to_midnight + years * 365 * DAY)?;
        asked(&site, "mx.comes.example", years > 0)?;
        asked(&site, "mx.ends.example", years > 0)?;
        site.daemon.signal(nix::sys::signal::Signal::SIGHUP)?;
    }
    set(to_midnight + DAY)?;
    asked(&site, "mx.comes.example", true)?;
    // All of it in the evidence, day by day, while it runs: the writer heeds no clock.
    let counted = wait::until("the evidence", || {
        let connection = rusqlite::Connection::open(site.path("state/evidence.db")).ok()?;
        let sql = "SELECT coalesce(sum(count), 0), count(DISTINCT day) FROM evidence WHERE decided = 1";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, usize>(0)?, row.get::<_, usize>(1)?));
        connection.query_row(sql, [], read).ok().filter(|(count, _)| *count >= expected.len() + 3)
    })?;
    if counted.1 < 6 {
        return Err(format!("evidence of {} days only", counted.1));
    }
    let load = site.load_since(begun)?;
    if load > BUSY {
        return Err(site.told(&format!("{load:.2} of a processor was used")));
    }
    let stopping = Instant::now();
    site.stop()?;
    if stopping.elapsed() > Duration::from_secs(10) {
        return Err(format!("the stop took {:?}", stopping.elapsed()));
    }
    // Each record has the time that it was then.
    let found = recorded(&site.path("decisions.jsonl"))?;
    let (mut before, today) = (0, day(1)?);
    for (id, refused) in &expected {
        let record = found.records.iter().find(|record| record["queue_id"] == id.as_str());
        let record = record.ok_or_else(|| format!("{id} is not recorded"))?;
        let ts = record["ts"].as_str().unwrap_or_default();
        let on_the_day = ts.get(..10).unwrap_or_default() >= today.as_str();
        before += usize::from(!on_the_day);
        if on_the_day != *refused {
            return Err(format!("refused: {refused}, and the record is of {ts}: {record}"));
        }
    }
    let log = site.daemon.log.lines().join("\n");
    if before < 6 || log.contains("panicked") {
        return Err(format!("{before} records of before that day\n{log}"));
    }
    Ok(())
}

/// The refusal of a message in the clear.
fn refusal(site: &Site, id: &str, host: &str) -> Result<Option<String>> {
    let ask = || -> std::io::Result<Option<String>> {
        let mut wire = Wire::connect(&site.target())?;
        if mail(&mut wire, id, host, "192.0.2.50")?.kind == b'a' {
            return Ok(None);
        }
        let reply = wire.ask(b'R', &string("<r@rig.example>"))?;
        Ok((reply.kind == b'y').then(|| String::from_utf8_lossy(&reply.payload).into_owned()))
    };
    ask().map_err(|e| format!("{id}: {e}"))
}

/// The message that would have to wait is let through.
fn taken(site: &Site, id: &str) -> Result<()> {
    match refusal(site, id, "mx.delayed.example")? {
        None => Ok(()),
        Some(reply) => Err(site.told(&format!("{id} was answered {reply}"))),
    }
}

/// libfaketime, where Debian has it on this kind of machine.
fn library() -> Result<PathBuf> {
    let folders = fs::read_dir("/usr/lib").map_err(|e| format!("/usr/lib: {e}"))?;
    folders
        .flatten()
        .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists())
        .ok_or_else(|| "libfaketime is not there: run integration/setup.sh".to_owned())
}
