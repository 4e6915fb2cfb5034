//! What goes wrong around the daemon, done to it: trials `fault-…`.
//!
//! Promises of the daemon that all of them hold it to: nobody is let through or refused by mistake, before, during or
//! after; what it had to write down is there or counted as lost; and when the fault is over it is as if it had not been,
//! without anybody's help.

mod clock;
mod connections;
mod descriptors;
mod disk;
mod flood;
mod folder;
mod frames;
mod killed;
mod others;
mod restarts;
mod signals;
mod sizes;
mod slow;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::load::dialect::OFFER;
use crate::load::drive;
use crate::load::script::{End, Host, Message, Recipient, Script, policy, refusal, strict_refusal};
use crate::load::tally::Tally;
use crate::load::wire::{Frame, Target, Wire, string};
use crate::rig::daemon::Daemon;
use crate::rig::{Result, Rig, tool, usage, wait};

type Trial = fn(&Rig) -> Result<()>;

/// The trials, by name.
pub(crate) const ALL: &[(&str, Trial)] = &[
    ("fault-killed-under-load", killed::under_load),
    ("fault-restarts-behind-sendmail", restarts::behind_sendmail),
    ("fault-log-disk-full", disk::full),
    ("fault-state-read-only", state::read_only),
    ("fault-state-gone", state::gone),
    ("fault-state-folders-for-files", state::folders_for_files),
    ("fault-files-of-others", others::files_of_others),
    ("fault-descriptors", descriptors::none_left),
    ("fault-ten-thousand-connections", connections::ten_thousand),
    ("fault-slow-mta", slow::slow),
    ("fault-frames", frames::odd_frames),
    ("fault-many-recipients", frames::many_recipients),
    ("fault-socket-map", frames::odd_questions),
    ("fault-clock", clock::steps),
    ("fault-policy-folder", folder::taken_away),
    ("fault-flood-of-edits", flood::flood),
    ("fault-signals", signals::storms),
    ("fault-signals-at-start", signals::at_start),
    ("fault-many-daemons", signals::many_daemons),
    ("fault-absurd-policy", sizes::absurd),
];

/// A daemon with a folder of its own, and the policy of the load.
pub(crate) struct Site {
    pub(crate) daemon: Daemon,
    // Behind the daemon, so that it goes after it.
    folder: TempDir,
}

impl Site {
    /// Laid out, and not started yet. `settings` are laid over the rig's; `{dir}` in them is the folder.
    pub(crate) fn new(rig: &Rig, name: &str, settings: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix(name).tempdir().map_err(|e| format!("a folder: {e}"))?;
        let settings = toml::from_str(settings).map_err(|e| format!("settings: {e}"))?;
        let daemon = Daemon::lay_out(&rig.daemon, folder.path(), &settings)?;
        let site = Self { daemon, folder };
        site.write("policy.toml", &policy(0, false))?;
        Ok(site)
    }

    /// The same, running.
    pub(crate) fn started(rig: &Rig, name: &str, settings: &str) -> Result<Self> {
        let mut site = Self::new(rig, name, settings)?;
        site.daemon.start()?;
        Ok(site)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file beside its place, and moves it there.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        let (path, beside) = (self.path(name), self.path(&format!("{name}.tmp")));
        fs::write(&beside, text).and_then(|()| fs::rename(&beside, &path)).map_err(|e| format!("{name}: {e}"))
    }

    pub(crate) fn target(&self) -> Target {
        Target::Unix(self.path("milter.sock"))
    }

    /// Two messages, each in a session of its own: one that must be refused, and one that must not. Gives how long
    /// the slowest answer took.
    fn probe(&self) -> Result<(Tally, Duration)> {
        let mut tally = Tally::keeping();
        for (id, bits) in [("PROBE-WEAK", 0), ("PROBE-STRONG", 256)] {
            let recipients = vec![Recipient::Anyone, Recipient::Postmaster];
            let message = Message { id: id.to_owned(), bits, recipients, end: End::Whole };
            tally =
                drive::play(&self.target(), &Script { host: Host::Hard, messages: vec![message] }, tally)?;
        }
        let slowest = tally.latency.slowest();
        Ok((tally, slowest))
    }

    /// Tells it to stop; it must end well.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.daemon.signal(Signal::SIGTERM)?;
        let status = self.daemon.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the daemon ended with {status}")) }
    }

    fn kill(&mut self) -> Result<()> {
        self.daemon.signal(Signal::SIGKILL)?;
        self.daemon.wait().map(drop)
    }

    /// Waits for a line, from that place of the log on, that has all of these words; gives the place behind it.
    fn said(&self, from: usize, words: &[&str]) -> Result<usize> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        self.daemon.log.wait_for(from, &words).map_err(|fault| self.told(&fault))
    }

    /// Puts a policy in its place, and waits until it is in force.
    fn put_in_force(&self, generation: usize, recipients: bool) -> Result<()> {
        let from = self.daemon.log.len();
        self.write("policy.toml", &policy(generation, recipients))?;
        let at = self.said(from, &[&format!("rule generation-{generation}: added")])?;
        self.said(at, &["policy in force"]).map(drop)
    }

    /// A fault, with what the daemon said.
    fn told(&self, fault: &str) -> String {
        let lines = self.daemon.log.lines();
        let last = lines.get(lines.len().saturating_sub(60)..).unwrap_or_default();
        format!("{fault}\n{}", last.join("\n"))
    }

    /// The last good policy that a start falls back to, made to: by its generation.
    fn last_good_is(&mut self, generation: usize) -> Result<()> {
        self.write("policy.toml", "version = 1\n[broken")?;
        let from = self.daemon.log.len();
        self.daemon.start()?;
        self.said(from, &["beginning with the last good policy of the state folder"])?;
        let kept = fs::read_to_string(self.path("state/last-good-policy.json"))
            .map_err(|e| format!("last-good-policy.json: {e}"))?;
        if !kept.contains(&format!("generation-{generation}\\\"")) {
            return Err(self.told(&format!("the last good policy is not of generation {generation}: {kept}")));
        }
        self.probe().map(drop)
    }

    /// Whether the policy of this generation is in force. Costs one decision.
    pub(crate) fn is_in_force(&self, generation: usize) -> Result<bool> {
        let ask = || {
            let mut wire = Wire::connect(&self.target())?;
            let name = format!("mx.generation{generation}.example");
            match mail(&mut wire, "ASKED", &name, "192.0.2.99")?.kind {
                b'a' => Ok(false),
                _ => wire.ask(b'R', &string("<r@rig.example>")).map(|reply| reply.kind == b'y'),
            }
        };
        ask().map_err(|e: std::io::Error| format!("asking for generation {generation}: {e}"))
    }

    /// How much memory it has, in KiB.
    pub(crate) fn memory(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.daemon.pid()?);
        let status = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
        number.ok_or_else(|| format!("no VmRSS in {status}"))
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> Result<usize> {
        self.open_files().map(|files| files.len())
    }

    /// The same, when all that it opens once is open: the store of evidence is, after the first answers, by a
    /// thread of its own.
    pub(crate) fn descriptors_from_the_start_on(&self) -> Result<usize> {
        wait::until("the store of evidence to be open", || {
            let files = self.open_files().ok()?;
            files.iter().any(|file| file.ends_with("evidence.db-shm")).then_some(files.len())
        })
    }

    fn open_files(&self) -> Result<Vec<PathBuf>> {
        let path = format!("/proc/{}/fd", self.daemon.pid()?);
        let names = fs::read_dir(&path).map_err(|e| format!("{path}: {e}"))?;
        // One that is closed meanwhile leads nowhere.
        Ok(names.flatten().filter_map(|name| fs::read_link(name.path()).ok()).collect())
    }

    /// A moment, and what it had computed by then.
    fn moment(&self) -> Result<(Instant, Duration)> {
        Ok((Instant::now(), self.processor_time()?))
    }

    /// How much of a processor it has used since.
    fn load_since(&self, (begun, used): (Instant, Duration)) -> Result<f64> {
        Ok(self.processor_time()?.saturating_sub(used).as_secs_f64() / begun.elapsed().as_secs_f64())
    }

    /// How much processor time it has used.
    fn processor_time(&self) -> Result<Duration> {
        usage::of(self.daemon.pid()?).map(|usage| usage.own)
    }
}

/// MAIL in the clear from such a host, and what is answered.
pub(crate) fn mail(wire: &mut Wire, id: &str, name: &str, address: &str) -> std::io::Result<Frame> {
    let mut told = vec![b'M'];
    for (macro_name, value) in
        [("i", id), ("{client_addr}", address), ("{client_name}", name), ("{client_resolve}", "OK")]
    {
        told.extend([string(macro_name), string(value)].concat());
    }
    wire.put(b'D', &told);
    wire.ask(b'M', &string("<a@sender.example>"))
}

/// The negotiation, as sendmail begins it.
pub(crate) fn negotiate(wire: &mut Wire) -> std::io::Result<Frame> {
    let offer: Vec<u8> = OFFER.iter().flat_map(|word| word.to_be_bytes()).collect();
    wire.ask(b'O', &offer)
}

/// What a file of decisions holds.
#[derive(Default)]
struct Recorded {
    records: Vec<Value>,
    /// Lines that are no record.
    broken: usize,
}

fn recorded(path: &std::path::Path) -> Result<Recorded> {
    let bytes = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut recorded = Recorded::default();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(record) => recorded.records.push(record),
            Err(_) => recorded.broken += 1,
        }
    }
    Ok(recorded)
}

/// Holds each record against the session that it must be of, and gives who was recorded: the message, and the recipient.
/// Of none there may be two.
fn hold(seed: u64, records: &[Value]) -> Result<BTreeSet<(String, Option<String>)>> {
    let mut known = BTreeSet::new();
    for record in records {
        let text = |name: &str| record.get(name).and_then(Value::as_str);
        let id = text("queue_id").unwrap_or_default();
        if !id.starts_with('L') {
            continue;
        }
        let number = id.trim_start_matches('L').split('M').next().and_then(|number| number.parse().ok());
        let script = Script::of(seed, number.ok_or_else(|| format!("no session: {record}"))?);
        let message = script.messages.iter().find(|message| message.id == id);
        let message = message.ok_or_else(|| format!("no message: {record}"))?;
        let recipient = text("recipient").map(str::to_owned);
        let named = message
            .recipients
            .iter()
            .enumerate()
            .find(|(number, kind)| Some(kind.address(*number)) == recipient);
        let right = match named.map(|(_, kind)| kind) {
            Some(Recipient::Postmaster) => None,
            Some(Recipient::Strict) => strict_refusal(message.bits),
            Some(Recipient::Anyone) | None => refusal(script.host, message.bits),
        };
        let disposition = match right.as_deref().map(|reply| reply.starts_with('4')) {
            None => "accept",
            Some(true) => "tempfail",
            Some(false) => "reject",
        };
        if text("reply") != right.as_deref() || text("disposition") != Some(disposition) {
            return Err(format!("this should have been {disposition} {right:?}: {record}"));
        }
        // Postmaster may be named twice in a message.
        if !known.insert((id.to_owned(), recipient.clone()))
            && recipient != Some(Recipient::Postmaster.address(0))
        {
            return Err(format!("recorded twice: {record}"));
        }
    }
    Ok(known)
}

/// How many lines the log says were lost, of `output`.
pub(crate) fn said_lost<'l>(lines: impl IntoIterator<Item = &'l str>, output: &str) -> u64 {
    let of_output = |line: &&str| line.contains("were lost") && line.contains(&format!("output={output}"));
    let number = |line: &str, name: &str| -> u64 {
        let rest = line.split_once(&format!("{name}=")).map_or("", |(_, rest)| rest);
        rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
    };
    let lost = |line: &str| {
        ["queue_full", "not_written", "lines"].iter().map(|name| number(line, name)).sum::<u64>()
    };
    lines.into_iter().filter(of_output).map(lost).sum()
}

/// How many decisions the evidence counts, of a database that must be sound.
pub(crate) fn evidence_of(path: &std::path::Path) -> Result<u64> {
    let ask = || -> rusqlite::Result<(String, u64)> {
        let connection = rusqlite::Connection::open(path)?;
        let sound = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        let sql = "SELECT coalesce(sum(count), 0) FROM evidence WHERE decided = 1";
        Ok((sound, connection.query_row(sql, [], |row| row.get(0))?))
    };
    match ask().map_err(|e| format!("{}: {e}", path.display()))? {
        (sound, count) if sound == "ok" => Ok(count),
        (damage, _) => Err(format!("{}: {damage}", path.display())),
    }
}

/// A file system of its own on a folder, in memory; gone when it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(folder: PathBuf, size: &str) -> Result<Self> {
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut mount = Command::new("mount");
        tool::run(mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "fault"]).arg(&folder), "")?;
        Ok(Self(folder))
    }

    /// Whether it may be written to from now on.
    fn writable(&self, yes: bool) -> Result<()> {
        let how = if yes { "remount,rw" } else { "remount,ro" };
        tool::run(Command::new("mount").args(["-o", how]).arg(&self.0), "").map(drop)
    }

    /// Takes all room that there is.
    fn fill(&self) -> Result<PathBuf> {
        use std::io::Write;
        let path = self.0.join("filler");
        let mut file = fs::File::create(&path).map_err(|e| format!("the filler: {e}"))?;
        while let Ok(1..) = file.write(&[0; 4096]) {}
        Ok(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whoever still has a file open in it keeps it alive that long.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// What of one is missing in another, by message and recipient.
fn by_key<T>(
    told: impl IntoIterator<Item = (T, crate::load::session::Told)>,
) -> BTreeMap<(String, Option<String>), T> {
    told.into_iter().map(|(at, told)| ((told.id, told.recipient), at)).collect()
}
