//! What is recorded: do the macros arrive, and does a message that is begun here and now come to be judged?
//!
//! The live look begins a message with the MTA and takes it back before a recipient is named. Its sender is one that
//! nobody else uses, so that its record can be told from all others.

use super::finding::{Area, Findings};
use super::machine::Machine;
use super::strength::settings;
use super::{Known, Sendmail};
use crate::policy::decide::Verdict;
use crate::policy::facts::Direction;
use crate::policy::network::parse_address;
use crate::policy::record::Record;
use crate::probe::target::{Family, Target};
use crate::probe::{Begun, begin_and_take_back};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

const AREA: Area = Area::Records;
/// As much of the end of the decisions is looked at.
const TAIL: u64 = 1024 * 1024;
/// The log's writer is quick; a busy disk may not be.
const RECORD_WITHIN: Duration = Duration::from_secs(10);
/// As many clients are named.
const NAMED: usize = 3;
const A_DAY: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The policy by which the last record was judged.
pub(super) fn last_policy(machine: &Machine, file: &Path) -> Option<String> {
    let text = machine.tail(file, TAIL).ok()?;
    let last = text.lines().rev().find_map(|line| serde_json::from_str::<Record<'_>>(line).ok())?;
    last.policy.map(Into::into)
}

/// Whether the MTA tells what is needed to judge.
pub(super) fn told(known: &Known<'_>, findings: &mut Findings) {
    let Some(file) = known.daemon.as_ref().and_then(|daemon| daemon.log.decisions.as_deref()) else {
        let decisions = known.running.as_ref().and_then(|running| running.decisions);
        if let Some((all, unknown)) = decisions {
            share(all, unknown, "since the daemon was started", "", findings);
        }
        return;
    };
    let text = match known.machine.tail(file, TAIL) {
        // logrotate has just moved them away: in the night that is no sign that nobody asks.
        Ok(text) if text.is_empty() => {
            let mut rotated = file.as_os_str().to_owned();
            rotated.push(".1");
            known.machine.tail(Path::new(&rotated), TAIL).unwrap_or(text)
        }
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let found = format!("{} is not there: nothing has been decided yet", file.display());
            return findings.warning(
                AREA,
                "macros-told",
                found,
                &["encr-milter doctor --live tries whether a message is judged"],
            );
        }
        Err(error) => {
            return findings.not_looked(
                AREA,
                "macros-told",
                format!("{}: {error}", file.display()),
                &["run doctor as root"],
            );
        }
    };
    let records = text.lines().filter_map(|line| serde_json::from_str::<Record<'_>>(line).ok());
    let inbound: Vec<Record<'_>> = records.filter(|record| record.direction == Direction::Inbound).collect();
    let unknown: Vec<_> = inbound.iter().filter(|record| record.verdict == Some(Verdict::Unknown)).collect();
    let reason = unknown.last().and_then(|record| record.reason.as_deref()).unwrap_or_default();
    let count = |list: usize| u64::try_from(list).unwrap_or(u64::MAX);
    let last = inbound
        .last()
        .and_then(|record| record.ts)
        .map(|ts| format!("up to {}", ts.strftime("%Y-%m-%d %H:%M:%S UTC")));
    share(count(inbound.len()), count(unknown.len()), &last.unwrap_or_default(), reason, findings);
    exempt(&inbound, findings);
}

/// Whether anybody is judged at all. On a host's first day there may have been no mail but its own.
fn exempt(inbound: &[Record<'_>], findings: &mut Findings) {
    let is_exempt = |record: &Record<'_>| record.verdict == Some(Verdict::Exempt);
    if inbound.is_empty() || !inbound.iter().all(is_exempt) {
        return;
    }
    let clients: BTreeSet<&str> = inbound.iter().filter_map(|record| record.client_addr.as_deref()).collect();
    let is_own = |address: &&str| parse_address(address).is_some_and(|address| address.is_loopback());
    let is_own = !clients.is_empty() && clients.iter().all(is_own);
    let shown: Vec<&str> = clients.iter().copied().take(NAMED).collect();
    let shown = match clients.len() {
        0 => String::new(),
        all if all > NAMED => format!(" (clients {}, and {} more)", shown.join(", "), all - NAMED),
        _ => format!(" (clients {})", shown.join(", ")),
    };
    let found = format!("all of the last {} decisions were `exempt`{shown}", inbound.len());
    let times = || inbound.iter().filter_map(|record| record.ts);
    let lasted = times().max().zip(times().min()).map(|(last, first)| last.duration_since(first));
    let young = lasted.is_none_or(|lasted| lasted < A_DAY);
    let proxy = "if mail from elsewhere came in that time, a proxy stands before the MTA, and all clients have an exempt address: see [exempt] of the policy";
    if is_own && young {
        let found = format!(
            "{found}: mail of this host itself, as on the first day; whether others are judged is not known yet"
        );
        let wait = "send a message from another host, or wait for one, and run doctor again";
        findings.not_looked(AREA, "all-exempt", found, &[wait, proxy]);
    } else {
        findings.warning(AREA, "all-exempt", format!("{found}: nobody is judged"), &[proxy]);
    }
}

fn share(all: u64, unknown: u64, when: &str, reason: &str, findings: &mut Findings) {
    let remedy = [
        "does another milter, or a proxy, stand between? encr-milter asks the MTA for its macros when it connects",
        "encr-milter doctor --live shows what is told of a message here and now",
    ];
    let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    if all == 0 {
        findings.warning(
            AREA,
            "macros-told",
            "no decision about mail that comes in is on record: either none came, or nobody asks us",
            &[remedy[1]],
        );
    } else if unknown == 0 {
        findings.ok(
            AREA,
            "macros-told",
            format!("the MTA told what was needed to judge: {all} decisions {when}, none `unknown`"),
        );
    } else if unknown * 2 > all {
        let found = format!(
            "{unknown} of {all} decisions {when} were `unknown`: the MTA does not tell what is needed, and mail is accepted{reason}"
        );
        findings.problem(AREA, "macros-told", found, &remedy);
    } else {
        findings.warning(
            AREA,
            "macros-told",
            format!("{unknown} of {all} decisions {when} were `unknown`{reason}"),
            &remedy,
        );
    }
}

/// Begins a message, takes it back, and looks for its record.
pub(super) fn live(known: &Known<'_>, sendmail: Option<&Sendmail>, findings: &mut Findings) {
    let not_looked = |findings: &mut Findings, found: String, remedy: &str| {
        findings.not_looked(AREA, "live", found, &[remedy]);
    };
    let Some(file) = known.daemon.as_ref().and_then(|daemon| daemon.log.decisions.as_deref()) else {
        return not_looked(
            findings,
            "a message can be begun, but its record is nowhere to be looked for".to_owned(),
            "decisions = \"…\" below [log] of the daemon's file",
        );
    };
    if let Err(error) = known.machine.tail(file, 1)
        && error.kind() == std::io::ErrorKind::PermissionDenied
    {
        return not_looked(findings, format!("{}: {error}", file.display()), "run doctor as root");
    }
    let Some(target) = target(known, sendmail) else {
        return not_looked(findings, "where the MTA listens is not known".to_owned(), "--mta HOST:PORT");
    };
    let sender = format!(
        "encr-milter-doctor-{}-{}@{}",
        std::process::id(),
        known.now.as_nanosecond(),
        known.settings.helo.trim_matches(['[', ']'])
    );
    let begun = target.addresses(Family::Any).and_then(|addresses| {
        begin_and_take_back(&target.host, &addresses, &sender, &settings(known, false))
    });
    let begun = match begun {
        Ok(begun) => begun,
        Err(fault) => {
            return findings.problem(
                AREA,
                "live",
                format!("no message can be begun at {target}: {fault}"),
                &[known.mta_status()],
            );
        }
    };
    if !begun.mail.is_positive() {
        let found = format!(
            "the MTA refuses a message of <{sender}>: {}; whether the milter is asked is not known",
            begun.mail.shown()
        );
        return not_looked(
            findings,
            found,
            "--helo NAME of a domain that it takes mail from, or look at a real message's record",
        );
    }
    match find(known, file, &sender) {
        Some(record) => compare(&record, &begun, findings),
        None if known.policy.as_ref().is_some_and(crate::policy::Policy::judges_recipients) => not_looked(
            findings,
            "the policy judges recipients, and none was named: there is no record to look for".to_owned(),
            "look at a real message's record",
        ),
        None => findings.problem(
            AREA,
            "live",
            format!(
                "a message begun at {target} was taken ({}), and {} has no record of it after {} s: the milter was not asked",
                begun.mail.shown(),
                file.display(),
                RECORD_WITHIN.as_secs()
            ),
            &["is the milter in the running sendmail's configuration, and its daemon alive? See above"],
        ),
    }
}

fn target(known: &Known<'_>, sendmail: Option<&Sendmail>) -> Option<Target> {
    if let Some(target) = &known.settings.mta {
        return Some(target.clone());
    }
    if known.is_postfix && known.machine.is_live() {
        return Some(super::postfix::usual_target());
    }
    let ports = sendmail?.cf.ports();
    let (host, port) =
        ports.iter().filter(|port| !port.is_smtps()).find_map(crate::sendmail::cf::DaemonPort::reach)?;
    Some(Target { host, port })
}

/// Waits for the record of this sender.
fn find(known: &Known<'_>, file: &Path, sender: &str) -> Option<serde_json::Value> {
    let end = Instant::now() + RECORD_WITHIN;
    loop {
        let text = known.machine.tail(file, TAIL).unwrap_or_default();
        let mut records = text.lines().rev().filter(|line| line.contains(sender));
        let found = records.find_map(|line| serde_json::from_str(line).ok());
        if found.is_some() || Instant::now() > end {
            return found;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// What was negotiated here, and what the milter was told of it.
fn compare(record: &serde_json::Value, begun: &Begun, findings: &mut Findings) {
    let text = |name: &str| record.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    let bits = record.get("cipher_bits").and_then(serde_json::Value::as_u64);
    let (ours, version) =
        begun.session.as_ref().map_or((0, ""), |session| (session.cipher_bits, session.tls_version.as_str()));
    let shown = |bits: Option<u64>, version: &str| match bits {
        None => "nothing of TLS".to_owned(),
        Some(0) => "no TLS".to_owned(),
        Some(bits) => format!("{version}, {bits} bits"),
    };
    let (told, negotiated) = (shown(bits, text("tls_version")), shown(Some(ours.into()), version));
    let verdict = format!("verdict {}, {}", text("verdict"), text("disposition"));
    if bits == Some(ours.into()) && text("tls_version") == version && text("verdict") != "unknown" {
        findings.ok(
            AREA,
            "live",
            format!("a message begun and taken back came to the milter with what was negotiated ({negotiated}): {verdict}"),
        );
    } else {
        findings.problem(
            AREA,
            "live",
            format!("of a message begun here with {negotiated} the milter was told {told}: {verdict}"),
            &["does a proxy, or another MTA, stand between? encr-milter can judge only what the MTA tells"],
        );
    }
}
