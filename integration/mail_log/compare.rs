//! What sendmail's log comes to, beside what the daemon recorded of the same sessions.
//!
//! Promises: each decision of the one is found with the other: same verdict, disposition, rule, side, key, mode, reason and
//! reply, and the same facts. Both forms of time stamps are read and must come to the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use encr_milter::policy::decide::decide;
use encr_milter::policy::record::Record;
use encr_milter::policy::{Day, Policy};
use encr_milter::policy_file::load::{DEFAULT_MAX_SIZE, Disk, Request, load};
use encr_milter::sendmail::mail_log::{Joiner, Options, Tally};
use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use serde_json::Value;

use crate::rig::Result;

/// What a decision says, and what it rests on.
const FIELDS: &[&str] = &[
    "verdict",
    "disposition",
    "rule",
    "side",
    "key",
    "mode",
    "reason",
    "reply",
    "failures",
    "client_name",
    "client_addr",
    "client_resolve",
    "server_name",
    "server_addr",
    "sender",
    "tls_version",
    "cipher",
    "cipher_bits",
    "verify",
    "cn_subject",
    "cert_subject",
    "cert_issuer",
];

/// Where the two may differ: the field, the daemon's record and the log's.
pub(crate) type Excuse<'e> = &'e dyn Fn(&str, &Value, &Value) -> bool;

/// Loads the policy that the daemon has, as the daemon does.
pub(crate) fn policy(file: &Path) -> Result<Policy> {
    let request = Request { patterns: vec![PathBuf::from(file)], max_size: DEFAULT_MAX_SIZE };
    let today = Day::of_unix_seconds(Timestamp::now().as_second());
    let loaded = load(&request, &mut Disk, today);
    loaded.policy.ok_or_else(|| format!("{}: {:?}", file.display(), loaded.diagnostics))
}

/// The log's records, judged by the policy; and what was counted.
pub(crate) fn judged(policy: &Policy, lines: &[String], each: bool) -> Result<(Vec<Value>, Tally)> {
    let now = Timestamp::now();
    let traditional: Vec<String> = lines.iter().map(|line| written(line, None)).collect();
    let iso: Vec<String> = lines.iter().map(|line| written(line, Some(now))).collect();
    let (records, tally) = joined(policy, &traditional, each, now)?;
    if joined(policy, &iso, each, now)? != (records.clone(), tally.clone()) {
        return Err("with other time stamps the log comes to something else".to_owned());
    }
    Ok((records, tally))
}

fn joined(policy: &Policy, lines: &[String], each: bool, now: Timestamp) -> Result<(Vec<Value>, Tally)> {
    let options = Options { recipients: each, deliveries: each, zone: TimeZone::UTC, reference: now };
    let mut joiner = Joiner::new(options);
    let mut records = Vec::new();
    let mut failed = None;
    let mut emit = |record: &Record<'_>| {
        let facts = record.facts();
        let decision = decide(policy, &facts, record.envelope(), record.day(now));
        let ts = record.ts.unwrap_or(now);
        let judged = Record::new(ts, &facts, record.envelope(), &decision, policy.fingerprint());
        match serde_json::to_value(&judged) {
            Ok(record) => records.push(record),
            Err(e) => failed = Some(format!("a record: {e}")),
        }
    };
    for line in lines {
        joiner.line(line.as_bytes(), &mut emit);
    }
    joiner.finish(&mut emit);
    failed.map_or(Ok((records, joiner.tally().clone())), Err)
}

/// A line of /dev/log (`<22>Nov 22 02:07:29 TAG[PID]: …`) as a syslog writes it into a file.
fn written(line: &str, now: Option<Timestamp>) -> String {
    let line = line.split_once('>').map_or(line, |(_priority, line)| line);
    let (stamp, rest) = line.split_at_checked(15).unwrap_or((line, ""));
    let stamp = now.and_then(|now| iso(stamp, now)).unwrap_or_else(|| stamp.to_owned());
    format!("{stamp} mail{rest}")
}

/// The rig's clock is UTC.
fn iso(stamp: &str, now: Timestamp) -> Option<String> {
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = i8::try_from(months.iter().position(|month| stamp.starts_with(month))?).ok()? + 1;
    let number = |from: usize| stamp.get(from..from + 2)?.trim().parse::<i8>().ok();
    let in_year = |year: i16| {
        let at = civil::Date::new(year, month, number(4)?).ok()?.at(number(7)?, number(10)?, number(13)?, 0);
        at.to_zoned(TimeZone::UTC).ok()
    };
    let year = jiff::tz::Offset::UTC.to_datetime(now).year();
    let at = in_year(year).filter(|at| at.timestamp() <= now).or_else(|| in_year(year - 1))?;
    Some(at.strftime("%Y-%m-%dT%H:%M:%S.000000+00:00").to_string())
}

/// Holds the log's records against the daemon's. A message that was settled at MAIL has one record with the daemon, and
/// one for each recipient in the log. `alone`: which records need not be found with the other.
pub(crate) fn compare(
    daemon: &[Value],
    log: &[Value],
    alone: &dyn Fn(&Value) -> bool,
    excuse: Excuse<'_>,
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut found = BTreeSet::new();
    for record in log {
        let same = |other: &Value, recipient: &Value| {
            ["direction", "queue_id", "server_name"].iter().all(|field| other[*field] == record[*field])
                && &other["recipient"] == recipient
        };
        let of = |recipient: &Value| {
            let all: Vec<usize> =
                (0..).zip(daemon).filter(|(_, other)| same(other, recipient)).map(|(n, _)| n).collect();
            // Of several attempts each has its own.
            all.iter().copied().find(|n| !found.contains(n)).or(all.first().copied())
        };
        let Some(place) = of(&record["recipient"]).or_else(|| of(&Value::Null)) else {
            if !alone(record) {
                faults.push(format!("the daemon has no record of what the log tells:\n    {record}"));
            }
            continue;
        };
        found.insert(place);
        let Some(theirs) = daemon.get(place) else { continue };
        for field in FIELDS {
            if theirs[*field] != record[*field] && !excuse(field, theirs, record) {
                faults.push(format!(
                    "{field}: {} recorded, {} by the log\n    {theirs}\n    {record}",
                    theirs[*field], record[*field]
                ));
            }
        }
    }
    for (place, record) in (0..).zip(daemon) {
        if !found.contains(&place) && !alone(record) {
            faults.push(format!("the log does not tell of\n    {record}"));
        }
    }
    faults
}
