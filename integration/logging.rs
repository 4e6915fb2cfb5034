//! The log with those who really receive it: rsyslogd, systemd-journald, and logrotate under the daemon.
//!
//! Promises: messages go through a live sm-mta while receivers are restarted and files are rotated; what arrives is held
//! against the daemon's own file of decisions, record by record and field by field.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::evidence::{POLICY, send};
use crate::rig::daemon::Daemon;
use crate::rig::receivers::{Journal, Rsyslog, rotate};
use crate::rig::sendmail::{Options, Sendmail};
use crate::rig::{Result, Rig, tool, wait};

type Test = fn(&Rig) -> Result<()>;

pub(crate) const ALL: &[(&str, Test)] = &[
    ("log-rsyslog-local", |rig| rsyslog(rig, "log-rsyslog-local", "unix")),
    ("log-rsyslog-udp", |rig| rsyslog(rig, "log-rsyslog-udp", "udp")),
    ("log-rsyslog-tcp", |rig| rsyslog(rig, "log-rsyslog-tcp", "tcp")),
    ("log-journald", journald),
    ("log-rotation", rotation),
];

/// As the sample has it, and its unit.
const LOGROTATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/logrotate");
const USER: &str = "encr-milter";
const LOGS: &str = "/var/log/encr-milter";
const ROTATIONS: usize = 5;

/// A record's fields with their values as text. Of `failures` there is one in this policy, and its words are the text
/// form's own.
fn fields(record: &Value) -> BTreeMap<String, String> {
    let all = record.as_object().into_iter().flatten().filter(|(name, _)| *name != "failures");
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    all.map(|(name, value)| (name.clone(), text(value))).collect()
}

fn failed(record: &Value) -> Option<String> {
    let failure = record["failures"].get(0)?;
    let word = |name: &str| failure[name].as_str();
    Some(format!(
        "{} {} {} {}: {}",
        word("mode")?,
        word("rule")?,
        word("side")?,
        word("key")?,
        word("reason")?
    ))
}

/// Each record by its message.
fn by_queue_id(records: Vec<Value>) -> Result<BTreeMap<String, Value>> {
    let mut found = BTreeMap::new();
    for record in records {
        let id = record
            .get("queue_id")
            .and_then(Value::as_str)
            .ok_or_else(|| format!("no queue id: {record}"))?
            .to_owned();
        if let Some(twice) = found.insert(id, record) {
            return Err(format!("twice: {twice}"));
        }
    }
    Ok(found)
}

/// A daemon with these settings of [log], and an sm-mta that asks it.
fn attached(rig: &Rig, folder: &Path, tag: &str, log: &str) -> Result<(Daemon, Sendmail)> {
    let settings = toml::from_str(&format!("[log]\n{log}")).map_err(|e| format!("settings: {e}"))?;
    let mut daemon = Daemon::lay_out(&rig.daemon, folder, &settings)?;
    fs::write(folder.join("policy.toml"), POLICY).map_err(|e| format!("policy.toml: {e}"))?;
    daemon.start()?;
    let options =
        Options { attach: daemon.listen().to_vec(), flags: Some("T".to_owned()), ..Options::default() };
    let sendmail = Sendmail::start(rig, folder, tag, &options)?;
    Ok((daemon, sendmail))
}

fn folder(tag: &str) -> Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(tag).tempdir().map_err(|e| format!("a folder: {e}"))
}

/// What a receiver is put through while messages are sent.
trait Restarts {
    fn start(&mut self) -> Result<()>;
    fn stop(&mut self) -> Result<()>;
}

impl Restarts for Rsyslog {
    fn start(&mut self) -> Result<()> {
        Rsyslog::start(self)
    }

    fn stop(&mut self) -> Result<()> {
        Rsyslog::stop(self)
    }
}

impl Restarts for Journal {
    fn start(&mut self) -> Result<()> {
        Journal::start(self)
    }

    fn stop(&mut self) -> Result<()> {
        Journal::stop(self)
    }
}

/// Sends messages before the receiver is stopped, while it is away, and after it has come back; gives the records that
/// the daemon has of them.
fn over_a_restart(
    receiver: &mut dyn Restarts,
    daemon: &mut Daemon,
    sendmail: &Sendmail,
    arrived: &dyn Fn() -> Result<usize>,
) -> Result<BTreeMap<String, Value>> {
    let wait_for = |count: usize| {
        wait::until("the receiver to have all", || Some(()).filter(|()| arrived() == Ok(count)))
            .map_err(|fault| format!("{fault}: {count} were sent, {:?} arrived", arrived()))
    };
    let mut sent = send(sendmail)?;
    wait_for(sent)?;
    receiver.stop()?;
    sent += send(sendmail)?;
    receiver.start()?;
    sent += send(sendmail)?;
    wait_for(sent)?;
    daemon.signal(Signal::SIGTERM)?;
    daemon.wait()?;
    let records = by_queue_id(daemon.decisions()?)?;
    if records.len() == sent {
        Ok(records)
    } else {
        Err(format!("{sent} messages, {} records", records.len()))
    }
}

fn rsyslog(rig: &Rig, tag: &str, how: &str) -> Result<()> {
    let folder = folder(tag)?;
    let port = rig.port();
    let mut rsyslog = Rsyslog::new(folder.path(), port);
    rsyslog.start()?;
    let server = match how {
        "unix" => format!("unix:{}", rsyslog.socket().display()),
        how => format!("{how}://127.0.0.1:{port}"),
    };
    let log = format!("output = \"syslog\"\nsyslog-server = \"{server}\"");
    let (mut daemon, sendmail) = attached(rig, folder.path(), tag, &log)?;
    let received = {
        let reader = Rsyslog::new(folder.path(), port);
        move || if how == "unix" { reader.local() } else { reader.remote() }
    };
    let is_decision =
        |message: &Value| message["text"].as_str().is_some_and(|text| text.contains(": verdict="));
    let arrived = || received().map(|all| all.iter().filter(|message| is_decision(message)).count());
    let records = if how == "udp" {
        // What is sent to a host that is away is gone; nobody promises anything else of UDP.
        let sent = send(&sendmail)?;
        wait::until("rsyslogd to have all", || Some(()).filter(|()| arrived() == Ok(sent)))?;
        daemon.signal(Signal::SIGTERM)?;
        daemon.wait()?;
        by_queue_id(daemon.decisions()?)?
    } else {
        over_a_restart(&mut rsyslog, &mut daemon, &sendmail, &arrived)?
    };
    // rsyslogd writes what it has when it ends.
    wait::until("the last line", || {
        let all = received().ok()?;
        all.iter()
            .any(|message| message["text"].as_str().is_some_and(|text| text.ends_with("stopped")))
            .then_some(())
    })?;
    let mut seen = BTreeSet::new();
    for message in &received()? {
        let text = message["text"].as_str().unwrap_or_default().trim_start();
        if message["facility"] != "mail"
            || !message["tag"].as_str().is_some_and(|tag| tag.starts_with("encr-milter["))
        {
            return Err(format!("not as ours: {message}"));
        }
        if !is_decision(message) {
            continue;
        }
        let (id, _) = text.split_once(": ").ok_or_else(|| format!("no queue id: {message}"))?;
        let record = records.get(id).ok_or_else(|| format!("of no record: {message}"))?;
        if message["severity"] != "notice" || !seen.insert(id.to_owned()) {
            return Err(format!("of another severity, or twice: {message}"));
        }
        if how != "unix" {
            let mut expected = fields(record);
            expected.extend(failed(record).map(|failed| ("failed".to_owned(), failed)));
            let told = message.pointer("/data/rfc5424-sd/encr@32473").map(fields).unwrap_or_default();
            if told != expected || message["kind"] != "decision" || message["host"] != "mail.rig.example" {
                return Err(format!("expected {expected:#?}\nin {message:#}"));
            }
        }
    }
    if seen.len() == records.len() { Ok(()) } else { Err(format!("{} of {}", seen.len(), records.len())) }
}

fn journald(rig: &Rig) -> Result<()> {
    const TAG: &str = "log-journald";
    let folder = folder(TAG)?;
    let mut journal = Journal::default();
    journal.start()?;
    let (mut daemon, sendmail) = attached(rig, folder.path(), TAG, "output = \"journald\"")?;
    let arrived = || Journal::find(&["ENCR_RULE=partner"]).map(|found| found.len());
    let records = over_a_restart(&mut journal, &mut daemon, &sendmail, &arrived)?;
    // What the daemon says of itself has its fields, too.
    let said = Journal::find(&["SYSLOG_IDENTIFIER=encr-milter", "PRIORITY=6"])?;
    let listening = said.iter().find(|entry| entry["ENCR_LISTENER"].is_string());
    if listening.is_none_or(|entry| !entry["MESSAGE"].as_str().is_some_and(|m| m.starts_with("listening "))) {
        return Err(format!("no listener: {said:#?}"));
    }
    for (id, record) in &records {
        let found = Journal::find(&[&format!("ENCR_QUEUE_ID={id}")])?;
        let [entry] = found.as_slice() else { return Err(format!("{id}: {found:#?}")) };
        let mut expected = fields(record);
        expected.extend(failed(record).map(|failed| ("failed".to_owned(), failed)));
        let told: BTreeMap<String, String> = fields(entry)
            .into_iter()
            .filter_map(|(name, value)| Some((name.strip_prefix("ENCR_")?.to_ascii_lowercase(), value)))
            .collect();
        let begins =
            entry["MESSAGE"].as_str().is_some_and(|text| text.starts_with(&format!("{id}: verdict=")));
        if told != expected || !begins || entry["PRIORITY"] != "5" || entry["SYSLOG_FACILITY"] != "2" {
            return Err(format!("expected {expected:#?}\nin {entry:#}"));
        }
    }
    Ok(())
}

/// The sample for logrotate under a daemon that has a user and a folder as the unit gives them.
fn rotation(rig: &Rig) -> Result<()> {
    const TAG: &str = "log-rotation";
    let failed = |e: std::io::Error| format!("{TAG}: {e}");
    let folder = folder(TAG)?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).map_err(failed)?;
    user_and_folder().map_err(failed)?;
    let log = format!("output = \"{LOGS}/daemon.log\"\ndecisions = \"{LOGS}/decisions.jsonl\"");
    let settings = toml::from_str(&format!("[log]\n{log}")).map_err(|e| format!("settings: {e}"))?;
    let program = folder.path().join("daemon.sh");
    script(
        &program,
        &format!("exec setpriv --reuid={USER} --regid={USER} --clear-groups {} \"$@\"", rig.daemon.display()),
    )?;
    let home = folder.path().join("home");
    let mut daemon = Daemon::lay_out(&program, &home, &settings)?;
    fs::write(home.join("policy.toml"), POLICY).map_err(failed)?;
    tool::run(Command::new("chown").args(["-R", &format!("{USER}:{USER}"), LOGS]).arg(&home), "")?;
    daemon.start()?;
    let options =
        Options { attach: daemon.listen().to_vec(), flags: Some("T".to_owned()), ..Options::default() };
    let sendmail = Sendmail::start(rig, folder.path(), TAG, &options)?;

    // What the sample calls, in systemd's place.
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).map_err(failed)?;
    let pid = daemon.pid()?;
    let calls = folder.path().join("calls");
    script(
        &bin.join("systemctl"),
        &format!(
            "[ \"$*\" = 'kill --kill-whom=main -s HUP encr-milter.service' ] || exit 1\necho called >>{}\nkill -s HUP {pid}",
            calls.display()
        ),
    )?;
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let (conf, state) = (folder.path().join("logrotate.conf"), folder.path().join("logrotate.state"));
    fs::copy(LOGROTATE, &conf).map_err(failed)?;

    // Messages without a pause, and rotations between them.
    let sent = thread::scope(|scope| -> Result<usize> {
        let senders: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| (0..10).try_fold(0, |sent, _| Ok::<_, String>(sent + send(&sendmail)?))))
            .collect();
        for rotation in 1..=ROTATIONS {
            // There is something to rotate: an empty file is left alone.
            wait::until("a line in the file", || {
                let length = fs::metadata(format!("{LOGS}/decisions.jsonl")).map_or(0, |meta| meta.len());
                (length > 0).then_some(())
            })?;
            rotate(&conf, &state, &path)?;
            let called = fs::read_to_string(&calls).unwrap_or_default().lines().count();
            if called != rotation {
                return Err(format!("rotation {rotation}: told the daemon {called} times"));
            }
            // logrotate waits a day, and the daemon needs a moment; so this one is waited for.
            wait::until("the files to be opened anew", || reopened(daemon.pid().ok()?))?;
            send(&sendmail)?;
        }
        let from_threads =
            senders.into_iter().map(|sender| sender.join().unwrap_or_else(|_| Err("a panic".to_owned())));
        Ok(ROTATIONS * 20 + from_threads.sum::<Result<usize>>()?)
    })?;
    daemon.signal(Signal::SIGTERM)?;
    daemon.wait()?;

    let (decisions, log) = (files("decisions.jsonl")?, files("daemon.log")?);
    if decisions.len() != ROTATIONS + 1 || log.len() != ROTATIONS + 1 {
        return Err(format!("{decisions:?} {log:?}"));
    }
    let packed = decisions.iter().filter(|path| path.extension().is_some_and(|e| e == "gz")).count();
    if packed != ROTATIONS - 1 {
        return Err(format!("{packed} of {decisions:?} are packed"));
    }
    // Every decision is in one file, and no line is torn; and so for the log.
    let mut records = Vec::new();
    for line in lines_of(&decisions)? {
        records.push(serde_json::from_str(&line).map_err(|e| format!("{e}: {line}"))?);
    }
    let records = by_queue_id(records)?;
    let told: Vec<String> = lines_of(&log)?.into_iter().filter(|line| line.contains(": verdict=")).collect();
    let ids: BTreeSet<&str> =
        told.iter().filter_map(|line| line.split(' ').nth(2)?.strip_suffix(':')).collect();
    if records.len() != sent
        || told.len() != sent
        || !ids.iter().all(|id| records.contains_key(*id))
        || ids.len() != sent
    {
        return Err(format!(
            "{sent} messages, {} records, {} lines, {} ids",
            records.len(),
            told.len(),
            ids.len()
        ));
    }
    // Those who look back read all of them.
    let mut report = Command::new(&rig.daemon);
    report.args(["simulate", "--json", "--policy"]).arg(home.join("policy.toml")).args(&decisions);
    let report = tool::run(&mut report, "")?;
    let report: Value = serde_json::from_slice(&report.stdout).map_err(|e| format!("simulate: {e}"))?;
    let read = report.pointer("/judged/messages").and_then(Value::as_u64);
    if read == Some(sent as u64) {
        Ok(())
    } else {
        Err(format!("simulate has read {read:?} of {sent}: {report:#}"))
    }
}

/// What the unit makes: a user of the daemon's own, and a folder for its logs. The rig has an /etc of its own, and
/// what lies under /var/log is in memory now.
fn user_and_folder() -> std::io::Result<()> {
    tool::run(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", "logs", "/var/log"]), "")
        .map_err(std::io::Error::other)?;
    for (file, line) in [
        ("/etc/passwd", "encr-milter:x:6422:6422::/nonexistent:/bin/false\n"),
        ("/etc/group", "encr-milter:x:6422:\n"),
    ] {
        let all = fs::read_to_string(file)? + line;
        fs::write(file, all)?;
    }
    fs::create_dir(LOGS)?;
    fs::set_permissions(LOGS, fs::Permissions::from_mode(0o750))
}

fn script(path: &Path, text: &str) -> Result<()> {
    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
    fs::write(path, format!("#!/bin/sh\n{text}\n")).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(failed)
}

/// Whether no file that has been rotated away is open any more.
fn reopened(pid: u32) -> Option<()> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let mut names = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let rotated = |path: PathBuf| path.starts_with(LOGS) && path.extension().is_some_and(|e| e == "1");
    (!names.any(rotated)).then_some(())
}

/// A file and those that it has become.
fn files(name: &str) -> Result<Vec<PathBuf>> {
    let all = fs::read_dir(LOGS).map_err(|e| format!("{LOGS}: {e}"))?;
    let mut found: Vec<PathBuf> = all.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.retain(|path| path.file_name().is_some_and(|found| found.to_string_lossy().starts_with(name)));
    found.sort();
    Ok(found)
}

fn lines_of(files: &[PathBuf]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for file in files {
        let cat = if file.extension().is_some_and(|e| e == "gz") { "zcat" } else { "cat" };
        let text = tool::run(Command::new(cat).arg(file), "")?.stdout;
        lines.extend(String::from_utf8_lossy(&text).lines().map(str::to_owned));
    }
    Ok(lines)
}
