//! The policy's folder flooded with edits: renames, rewrites in place, truncated and broken files, by two editors at once,
//! with sessions going on.
//!
//! What must hold: every decision is that of some good policy that was there, by its fingerprint and by its outcome; what
//! is edited last is in force at the end, soon; processor time and memory stay within bounds.
//! `ENCR_MILTER_FLOOD=300` floods for so many seconds.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Site, mail, recorded};
use crate::load::Random;
use crate::load::wire::{Wire, string};
use crate::rig::{Result, Rig, wait};

const SECONDS: u64 = 8;
const SECONDS_VAR: &str = "ENCR_MILTER_FLOOD";
/// What may stay in memory of it, in KiB.
const GROWTH: u64 = 24 * 1024;
/// How soon the last edit is in force once nobody edits any more: a change that nobody told of takes two seconds.
const SOON: Duration = Duration::from_secs(10);

pub(super) fn flood(rig: &Rig) -> Result<()> {
    let seconds = match env::var(SECONDS_VAR) {
        Ok(number) => number.parse().map_err(|e| format!("{SECONDS_VAR}={number}: {e}"))?,
        Err(_) => SECONDS,
    };
    let site = Site::new(rig, "fault-flood", "log.output = \"{dir}/daemon.log\"\n")?;
    site.write("policy.toml", &policy(0))?;
    run(site, Duration::from_secs(seconds))
}

fn run(mut site: Site, lasts: Duration) -> Result<()> {
    site.daemon.start()?;
    let (before, moment, begun) = (site.memory()?, site.moment()?, Instant::now());
    let (over, edits) = (AtomicBool::new(false), AtomicUsize::new(0));
    let file = site.path("policy.toml");
    let answers = thread::scope(|scope| {
        let (site, over, edits, file) = (&site, &over, &edits, &file);
        let editors: Vec<_> =
            (0..2).map(|editor| scope.spawn(move || edit(file, editor, edits, begun, lasts))).collect();
        let clients: Vec<_> = (0..3).map(|client| scope.spawn(move || send(site, client, over))).collect();
        let mut edited = Ok(());
        for editor in editors {
            edited = edited.and(editor.join().map_err(|_| "an editor panicked".to_owned())?);
        }
        over.store(true, Ordering::Relaxed);
        let mut answers = Vec::new();
        for client in clients {
            answers.extend(client.join().map_err(|_| "a client panicked".to_owned())??);
        }
        edited.map(|()| answers)
    })?;
    let load = site.load_since(moment)?;
    let edits = edits.load(Ordering::Relaxed);
    site.write("policy.toml", &policy(edits + 1))?;
    let written = Instant::now();
    let last = rule(edits + 1);
    wait::until("the last edit to be in force", || match send_one(&site, "LAST", 0) {
        Ok(Some(reply)) if reply.ends_with(&format!("rule {last}")) => Some(()),
        _ => None,
    })
    .map_err(|fault| {
        let log = fs::read_to_string(site.path("daemon.log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().filter(|line| !line.contains("verdict=")).take(40).collect();
        format!("{fault}\n{}", tail.join("\n"))
    })?;
    let took = written.elapsed();
    let after = site.memory()?;
    site.stop()?;
    let loads =
        fs::read_to_string(site.path("daemon.log")).unwrap_or_default().matches(" policy in force ").count();
    eprintln!(
        "fault-flood-of-edits: {edits} edits in {lasts:?}, {loads} policies in force, {} answers, {load:.2} of a processor, \
         {before} KiB before and {after} after; the last edit was in force after {took:.1?}",
        answers.len()
    );
    if took > SOON {
        return Err(format!("the last edit was in force after {took:?}"));
    }
    if after > before + GROWTH {
        return Err(format!("{before} KiB before, {after} after"));
    }
    if loads < 3 {
        return Err("hardly any of the edits was ever in force".to_owned());
    }
    compare(&answers, &recorded(&site.path("decisions.jsonl"))?.records, edits + 1)
}

/// A policy whose rule has the edit's number for a name. By turns it demands 128 and 256 bits.
fn policy(number: usize) -> String {
    let (mode, bits) = demand(number);
    format!(
        "version = 1\n[[rule]]\nname = \"{}\"\nclient = [\"partner.example\"]\n{mode} = {{ min-bits = {bits} }}\n",
        rule(number)
    )
}

fn rule(number: usize) -> String {
    format!("edit-{number}")
}

fn demand(number: usize) -> (&'static str, u32) {
    match number % 3 {
        0 => ("enforce", 128),
        1 => ("soft-fail", 256),
        _ => ("enforce", 256),
    }
}

/// One of two that edit without a pause, in every manner, good and broken.
fn edit(file: &Path, editor: u64, edits: &AtomicUsize, begun: Instant, lasts: Duration) -> Result<()> {
    let mut random = Random(editor);
    let beside = file.with_extension(format!("tmp{editor}"));
    while begun.elapsed() < lasts {
        let number = edits.fetch_add(1, Ordering::Relaxed) + 1;
        let mut text = policy(number);
        let manner = random.below(10);
        if manner == 3 {
            text = text.replace("min-bits", "min-bites");
        }
        let done =
            match manner {
                // Half of it, and nobody says that it is not all.
                0 => fs::write(&beside, text.get(..text.len() / 2).unwrap_or_default())
                    .and_then(|()| fs::rename(&beside, file)),
                // Nothing left of it for a while.
                1 => fs::write(file, "").and_then(|()| fs::write(file, &text)),
                2 => fs::remove_file(file).or(Ok(())).and_then(|()| fs::write(file, &text)),
                4 => OpenOptions::new().write(true).create(true).truncate(true).open(file).and_then(
                    |mut out| text.as_bytes().chunks(20).try_for_each(|piece| out.write_all(piece)),
                ),
                5 => fs::write(file, &text),
                _ => fs::write(&beside, &text).and_then(|()| fs::rename(&beside, file)),
            };
        done.map_err(|e| format!("edit {number}: {e}"))?;
        // At times it is left alone for long enough to be taken.
        let pause = random.one(&[0, 0, 1, 2, 5, 80], 0);
        thread::sleep(Duration::from_millis(pause));
    }
    Ok(())
}

/// What a message was answered, by its queue id.
type Answer = (String, u32, Option<String>);

fn send(site: &Site, client: usize, over: &AtomicBool) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    for bits in [0, 128, 256, 112].into_iter().cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("F{client}N{}", answers.len());
        let reply = send_one(site, &id, bits)?;
        answers.push((id, bits, reply));
    }
    Ok(answers)
}

fn send_one(site: &Site, id: &str, bits: u32) -> Result<Option<String>> {
    let ask = || -> std::io::Result<Option<String>> {
        let mut wire = Wire::connect(&site.target())?;
        let mail = if bits == 0 {
            mail(&mut wire, id, "mx.partner.example", "192.0.2.7")?
        } else {
            let mut told = vec![b'M'];
            let bits = bits.to_string();
            let of_tls = [("{tls_version}", "TLSv1.3"), ("{cipher_bits}", &bits), ("{verify}", "NOT")];
            let of_client = [
                ("i", id),
                ("{client_addr}", "192.0.2.7"),
                ("{client_name}", "mx.partner.example"),
                ("{client_resolve}", "OK"),
            ];
            for (name, value) in of_client.into_iter().chain(of_tls) {
                told.extend([string(name), string(value)].concat());
            }
            wire.put(b'D', &told);
            wire.ask(b'M', &string("<a@partner.example>"))?
        };
        if mail.kind == b'a' {
            return Ok(None);
        }
        let reply = wire.ask(b'R', &string("<r@rig.example>"))?;
        Ok(Some(String::from_utf8_lossy(reply.payload.strip_suffix(&[0]).unwrap_or_default()).into_owned()))
    };
    ask().map_err(|e| format!("{id}: {e}"))
}

/// Each answer is that of one edit that was good, whose every decision has one fingerprint.
fn compare(answers: &[Answer], records: &[serde_json::Value], last: usize) -> Result<()> {
    let by_id: BTreeMap<&str, &serde_json::Value> =
        records.iter().filter_map(|record| Some((record["queue_id"].as_str()?, record))).collect();
    let mut fingerprints: BTreeMap<&str, usize> = BTreeMap::new();
    for (id, bits, reply) in answers {
        let record = by_id.get(id.as_str()).ok_or_else(|| format!("{id} is not recorded"))?;
        if record["reply"].as_str() != reply.as_deref() {
            return Err(format!("{id} was answered {reply:?}: {record}"));
        }
        let number = record["rule"].as_str().and_then(|rule| rule.strip_prefix("edit-")?.parse().ok());
        let number: usize =
            number.filter(|number| *number <= last).ok_or_else(|| format!("of no edit: {record}"))?;
        let (mode, need) = demand(number);
        let refused = *bits < need;
        let code = if mode == "enforce" { "55" } else { "454" };
        if refused != reply.is_some() || reply.as_ref().is_some_and(|reply| !reply.starts_with(code)) {
            return Err(format!("edit {number} would have had {refused} with {bits} bits: {record}"));
        }
        let fingerprint = record["policy"].as_str().unwrap_or_default();
        if *fingerprints.entry(fingerprint).or_insert(number) != number {
            return Err(format!("two edits with one fingerprint: {record}"));
        }
    }
    if fingerprints.len() < 3 { Err("hardly any policy was met by a message".to_owned()) } else { Ok(()) }
}
