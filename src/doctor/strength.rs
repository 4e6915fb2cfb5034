//! What the MTA offers its clients, held against what the policy asks of them: a demand that nobody could meet here
//! refuses everyone. And what sendmail logs of it.

use super::finding::{Area, Findings};
use super::{Known, Sendmail};
use crate::policy::requirement::Requirement;
use crate::policy::rule::{Mode, Rule, Side};
use crate::probe::target::{Family, Target};
use crate::probe::{Look, Settings, Starttls, look};
use std::collections::BTreeSet;
use std::path::Path;

const AREA: Area = Area::Tls;
/// sendmail logs STARTTLS from here on.
const LOG_LEVEL: u32 = 9;
/// A certificate that ends within so many days wants attention.
const SOON: i64 = 14;
const INBOUND: [Side; 3] = [Side::Client, Side::Sender, Side::Recipient];

pub(super) fn examine(known: &Known<'_>, sendmail: &Sendmail, findings: &mut Findings) {
    log_level(sendmail, findings);
    client_certificates(known, "sendmail", of_sendmail(sendmail).as_ref(), findings);
    let targets = targets(known, sendmail, findings);
    for (number, (name, target)) in targets.iter().enumerate() {
        one(known, name, target, number == 0, findings);
    }
}

/// Where sendmail.cf says that it listens, or what we were told.
fn targets(known: &Known<'_>, sendmail: &Sendmail, findings: &mut Findings) -> Vec<(String, Target)> {
    if let Some(target) = &known.settings.mta {
        return vec![(target.to_string(), target.clone())];
    }
    if !known.machine.is_live() {
        findings.not_looked(AREA, "starttls", "a tree of files has no MTA to speak to", &["--mta HOST:PORT"]);
        return Vec::new();
    }
    let mut found = Vec::new();
    for port in sendmail.cf.ports() {
        if port.is_smtps() {
            findings.not_looked(
                AREA,
                "starttls",
                format!("{port} speaks TLS from the first byte: no STARTTLS there"),
                &[],
            );
        } else if let Some((host, number)) = port.reach() {
            found.push((port.to_string(), Target { host, port: number }));
        } else {
            findings.not_looked(
                AREA,
                "starttls",
                format!("where {port} listens is not understood"),
                &["--mta HOST:PORT"],
            );
        }
    }
    found
}

/// The same of one MTA, whatever it is.
pub(super) fn examine_one(known: &Known<'_>, target: &Target, findings: &mut Findings) {
    one(known, &target.to_string(), target, true, findings);
}

/// What `probe` is asked with, here as there.
pub(super) fn settings(known: &Known<'_>, thorough: bool) -> Settings {
    Settings { helo: known.settings.helo.clone(), timeout: known.settings.timeout, ca: None, thorough }
}

fn one(known: &Known<'_>, name: &str, target: &Target, thorough: bool, findings: &mut Findings) {
    let looked = match target.addresses(Family::Any) {
        Ok(addresses) => look(&target.host, &addresses, &settings(known, thorough)),
        Err(fault) => Look { fault: Some(fault), ..Look::default() },
    };
    let mend = certificate_for(known);
    let mend: Vec<&str> = mend.iter().map(String::as_str).collect();
    let make = mend.last().copied().unwrap_or_default();
    match (&looked.session, looked.starttls, &looked.fault) {
        (Some(session), _, fault) => {
            let found = format!(
                "{name} offers STARTTLS: {}, {}, {} bits",
                session.tls_version, session.cipher, session.cipher_bits
            );
            match fault {
                None => findings.ok(AREA, "starttls", found),
                Some(fault) => findings.problem(
                    AREA,
                    "starttls",
                    format!("{found}; but then: {fault}"),
                    &[fault.next_step().unwrap_or(known.mta_status()), "the MTA's log tells more"],
                ),
            }
            certificate(known, name, &looked, findings);
            let most =
                looked.accepts.as_ref().and_then(|accepts| Some((accepts.bits()?.1, accepts.newest())));
            let (bits, version) = most.unwrap_or((session.cipher_bits, Some(session.tls_version.as_str())));
            demands(known, name, bits.max(session.cipher_bits), version, findings);
        }
        (None, Starttls::NotOffered, _) => {
            let found = format!(
                "{name} does not offer STARTTLS: everybody comes in the clear, and every demand refuses everybody"
            );
            let port = if known.is_postfix {
                "is it smtpd_discard_ehlo_keywords, or smtpd_tls_security_level = none, of main.cf or of the service in master.cf?"
            } else {
                "is S in the M= of its DAEMON_OPTIONS, or `Srv_Features:` in the access map? Both switch it off"
            };
            findings.problem(AREA, "starttls", found, &[&[port], mend.as_slice()].concat());
        }
        (None, Starttls::Refused, _) => {
            let reply = looked.starttls_reply.as_deref().unwrap_or_default();
            let found = format!("{name} refuses STARTTLS: {reply}");
            // With F=T that is how sendmail tells clients that a milter is down.
            if ["socket-safe", "socket-answers"].iter().any(|code| findings.has_problem(code)) {
                let found = format!("{found}; with F=T it does so while the milter does not answer");
                findings.problem(AREA, "starttls", found, &["what is wrong with the socket stands above"]);
            } else {
                findings.problem(AREA, "starttls", found, &mend);
            }
        }
        (None, _, Some(fault)) if looked.starttls == Starttls::Failed => {
            findings.problem(AREA, "starttls", format!("{name}: {fault}"), &["ciphers, certificate and key of the MTA: its log tells more (sendmail: STARTTLS=server, error)", make]);
        }
        (None, _, Some(fault)) => {
            let found = format!("{name} cannot be looked at: {fault}");
            findings.problem(
                AREA,
                "starttls",
                found,
                &[fault.next_step().unwrap_or(known.mta_status()), "or tell where it is: --mta HOST:PORT"],
            );
        }
        (None, _, None) => findings.problem(AREA, "starttls", format!("{name} came to no session"), &mend),
    }
}

/// How the MTA comes to a certificate, and so to STARTTLS. Debian has a script for sendmail.
fn certificate_for(known: &Known<'_>) -> Vec<String> {
    const UPDATE_TLS: &str = "/usr/share/sendmail/update_tls";
    if known.is_postfix {
        let lines = "smtpd_tls_security_level = may, smtpd_tls_cert_file and smtpd_tls_key_file in main.cf";
        return [lines, "postfix reload"].map(str::to_owned).into();
    }
    let mut all = Vec::new();
    if known.machine.exists(Path::new(UPDATE_TLS)) {
        all.push(format!("sh {UPDATE_TLS} new   (makes a certificate, and /etc/mail/tls/starttls.m4)"));
        all.push(
            "include(`/etc/mail/tls/starttls.m4')dnl in sendmail.mc, before the MAILER lines".to_owned(),
        );
    } else {
        all.push("define confSERVER_CERT and confSERVER_KEY in sendmail.mc".to_owned());
    }
    all.push("make -C /etc/mail && /etc/init.d/sendmail reload".to_owned());
    all
}

fn certificate(known: &Known<'_>, name: &str, look: &Look, findings: &mut Findings) {
    let Some(certificate) = &look.certificate else { return };
    let Some(until) = certificate.not_after else { return };
    let left = until.duration_since(known.now).as_hours().div_euclid(24);
    let day = until.strftime("%Y-%m-%d");
    let renew = ["renew it: partners who verify it (MTA-STS, DANE, VERIFY) send nothing once it has ended"];
    if left < 0 {
        findings.warning(
            AREA,
            "certificate",
            format!("the certificate of {name} has ended on {day}"),
            &renew,
        );
    } else if left < SOON {
        findings.warning(
            AREA,
            "certificate",
            format!("the certificate of {name} ends on {day}, in {left} days"),
            &renew,
        );
    } else {
        findings.ok(
            AREA,
            "certificate",
            format!("the certificate of {name} ({}) is valid until {day}", certificate.subject),
        );
    }
}

/// What is asked of clients today, by rule and mode.
fn asked<'p>(known: &'p Known<'_>) -> Vec<(&'p Rule, Mode, &'p Requirement)> {
    let Some(policy) = &known.policy else { return Vec::new() };
    let ids: BTreeSet<_> = INBOUND
        .into_iter()
        .flat_map(|side| policy.index().side(side).iter())
        .map(|found| found.rule)
        .collect();
    let rules = ids.into_iter().filter_map(|id| policy.rule(id));
    rules
        .flat_map(|rule| {
            rule.modes.in_force(known.today).map(move |(mode, entry)| (rule, mode, &entry.requirement))
        })
        .collect()
}

/// Demands that no client can meet, whatever it can do: this MTA does not go so far.
fn demands(known: &Known<'_>, name: &str, bits: u16, version: Option<&str>, findings: &mut Findings) {
    let mut met = true;
    for (rule, mode, requirement) in asked(known) {
        let too_many = requirement.min_bits.filter(|needed| *needed > bits);
        let newest = version.and_then(crate::policy::requirement::TlsVersion::from_mta);
        let too_new = requirement.min_version.filter(|needed| newest.is_some_and(|newest| *needed > newest));
        let mut why = Vec::new();
        why.extend(too_many.map(|needed| format!("{needed} bits, and {name} goes up to {bits}")));
        why.extend(
            too_new.map(|needed| format!("{needed}, and {name} goes up to {}", version.unwrap_or_default())),
        );
        if why.is_empty() {
            continue;
        }
        met = false;
        let found =
            format!("rule {} ({mode}) asks for {}: no client can meet it", rule.name, why.join("; and for "));
        let remedy = [
            "CipherList and ServerSSLOptions (confCIPHER_LIST, confSERVER_SSL_OPTIONS) in sendmail.mc",
            "or ask for less in the policy",
        ];
        if mode == Mode::Observe {
            findings.warning(AREA, "demand-possible", found, &remedy);
        } else {
            findings.problem(AREA, "demand-possible", found, &remedy);
        }
    }
    if met && known.policy.is_some() {
        let version = version.map(|version| format!(", {version}")).unwrap_or_default();
        findings.ok(
            AREA,
            "demand-possible",
            format!("{name} goes up to {bits} bits{version}: what the rules ask for can be met"),
        );
    }
}

/// Why no client's certificate is told of, and what to write instead.
pub(super) struct NoCertificates {
    pub(super) why: &'static str,
    pub(super) remedy: &'static str,
}

fn of_sendmail(sendmail: &Sendmail) -> Option<NoCertificates> {
    let cf = &sendmail.cf;
    if cf.option("TLSSrvOptions").is_some_and(|options| options.contains('V')) {
        Some(NoCertificates {
            why: "asks no client for one (TLSSrvOptions=V)",
            remedy: "define(`confTLS_SRV_OPTIONS', `')dnl in sendmail.mc",
        })
    } else if cf.option("CACertFile").is_none() && cf.option("CACertPath").is_none() {
        Some(NoCertificates {
            why: "trusts no authority (CACertFile, CACertPath)",
            remedy: "define(`confCACERT', `FILE')dnl in sendmail.mc",
        })
    } else {
        None
    }
}

/// Rules on clients' certificates need an MTA that asks for one, and knows whom to trust.
pub(super) fn client_certificates(
    known: &Known<'_>,
    mta: &str,
    lack: Option<&NoCertificates>,
    findings: &mut Findings,
) {
    let check = "client-certificates";
    let wants = |requirement: &Requirement| requirement.verify || !requirement.certificate.is_empty();
    let rules: Vec<_> = asked(known).into_iter().filter(|(_, _, requirement)| wants(requirement)).collect();
    let Some((rule, mode, _)) = rules.iter().max_by_key(|(_, mode, _)| *mode) else { return };
    let Some(NoCertificates { why, remedy }) = lack else {
        findings.ok(AREA, check, format!("{mta} asks clients for a certificate, as rules want it"));
        return;
    };
    let found = format!("rule {} ({mode}) asks for a client's certificate, and {mta} {why}", rule.name);
    if *mode == Mode::Observe {
        findings.warning(AREA, check, found, &[remedy]);
    } else {
        findings.problem(AREA, check, found, &[remedy]);
    }
}

fn log_level(sendmail: &Sendmail, findings: &mut Findings) {
    let level = sendmail.cf.log_level();
    if level < LOG_LEVEL {
        findings.warning(
            AREA,
            "log-level",
            format!("LogLevel={level}: sendmail's log does not tell of TLS, so that `simulate` and `report` can make nothing of it"),
            &["define(`confLOG_LEVEL', `9')dnl in sendmail.mc, then make -C /etc/mail && /etc/init.d/sendmail reload"],
        );
    } else {
        findings.ok(
            AREA,
            "log-level",
            format!("LogLevel={level}: sendmail's log tells of TLS, for `simulate` and `report`"),
        );
    }
}
