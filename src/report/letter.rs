//! The words of a dossier, the same on a terminal and in HTML: for a reader who runs mail servers and knows nothing of us.

use super::dossier::{Asked, Dossier, Fate, Host, Milestone, Negotiated, Outlook, Remedy};
use super::words::{counted, date, minute, safe};
use crate::policy::Day;
use crate::policy::facts::{Direction, UNVERIFIED};
use std::collections::{BTreeMap, BTreeSet};

/// So many hosts are named in a sentence.
const NAMED: usize = 8;

/// What a dossier says before its tables.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) title: String,
    /// What this is.
    pub(super) intro: String,
    /// What it comes to.
    pub(super) in_short: Vec<String>,
    /// What we ask.
    pub(super) asked: Vec<String>,
    /// What is to be done.
    pub(super) to_do: Vec<String>,
    /// Who helps.
    pub(super) help: String,
    /// When it was made.
    pub(super) made: String,
}

impl Letter {
    pub(super) fn of(dossier: &Dossier) -> Self {
        let domain = safe(&dossier.domain);
        let ours = dossier.ours.as_deref().map(safe);
        let us = ours.as_deref().unwrap_or("us");
        let times = dossier.hosts.iter().flat_map(|host| &host.sessions);
        let first = times.clone().map(|session| session.first).min();
        let last = times.map(|session| session.last).max();
        let period = match first.zip(last) {
            Some((first, last)) => format!(" from {} to {}", date(first), date(last)),
            None => String::new(),
        };
        let help = match &dossier.contact {
            Some(contact) => format!("Questions, or a date that cannot be kept? {}", safe(contact)),
            None => {
                "Questions, or a date that cannot be kept? Write to postmaster at our domain, who takes mail \
                     from everyone."
                    .to_owned()
            }
        };
        Self {
            title: format!("Encryption of mail between {domain} and {us}"),
            intro: format!(
                "This is how the mail servers of {domain} and {} spoke to each other{period}, and what becomes of \
                 mail between us from when on. It was counted from SMTP sessions: it holds no message and no mail \
                 address.",
                ours.as_deref().unwrap_or("our own")
            ),
            in_short: in_short(dossier, &domain),
            asked: dossier.asked.iter().map(asked).collect(),
            to_do: to_do(&dossier.hosts),
            help,
            made: made(dossier),
        }
    }
}

fn made(dossier: &Dossier) -> String {
    let day = |what: &str, day: Option<Day>| day.map(|day| format!("{what} {day}"));
    let asked: Vec<String> =
        [day("from", dossier.since), day("until", dossier.until)].into_iter().flatten().collect();
    let asked = if asked.is_empty() { String::new() } else { format!(" Asked for: {}.", asked.join(" ")) };
    format!("Made by encr-milter {}, {}.{asked}", dossier.version, minute(dossier.made))
}

fn in_short(dossier: &Dossier, domain: &str) -> Vec<String> {
    // One that sends and takes mail is one.
    let hosts: BTreeSet<_> = dossier.hosts.iter().map(|host| (&host.host, &host.address)).collect();
    let mut said = vec![match hosts.len() {
        0 if dossier.beyond_bound => {
            format!(
                "Of the hosts that we have met in that time, not all are known by name; none that is, is of {domain}."
            )
        }
        0 => format!("We have met no host of {domain} in that time."),
        hosts => format!("We have met {}.", counted(hosts as u64, "host")),
    }];
    if !dossier.judged {
        return said;
    }
    let elsewhere = in_short_elsewhere(dossier);
    let all_well = |milestone: &Milestone| {
        milestone.refused + milestone.deferred + milestone.observed + milestone.undecided == 0
    };
    if dossier.milestones.iter().all(all_well) {
        if !hosts.is_empty() && dossier.asked.is_empty() {
            said.push("We ask nothing of them: nothing has to be done.".to_owned());
        } else if !hosts.is_empty() {
            let done = if elsewhere.is_none() { ": nothing has to be done" } else { "" };
            said.push(format!("All of them meet what we ask, today and on every day that is fixed{done}."));
        }
    } else {
        said.extend(dossier.milestones.iter().map(milestone));
    }
    said.extend(elsewhere);
    said
}

fn milestone(milestone: &Milestone) -> String {
    let parts: Vec<String> = [
        (milestone.refused, "refused"),
        (milestone.deferred, "deferred"),
        (milestone.observed, "accepted, but short of what we try out"),
        (milestone.undecided, "accepted, if the certificate has the names that we ask for"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("mail of {} is {what}", counted(count as u64, "host")))
    .collect();
    let what = if parts.is_empty() { "all meet what we ask".to_owned() } else { parts.join("; ") };
    format!("{}: {what}.", when(milestone.from))
}

/// What is worth saying of mail by hosts of other names: the worst that becomes of it, and when first.
fn in_short_elsewhere(dossier: &Dossier) -> Option<String> {
    let outlooks = dossier.elsewhere.iter().flat_map(|seen| &seen.outlook);
    let worst = outlooks.max_by_key(|outlook| (outlook.fate, std::cmp::Reverse(outlook.from)))?;
    let what = match worst.fate {
        Fate::Refused => "refused",
        Fate::Deferred => "deferred",
        Fate::Observed => "accepted, but short of what we try out",
        _ => return None,
    };
    let when = when(worst.from);
    Some(format!(
        "{when}: mail in your name by hosts of other names is {what}, some of it at least (see below)."
    ))
}

/// `Today`, `From 2027-01-15`
pub(super) fn when(from: Option<Day>) -> String {
    from.map_or_else(|| "Today".to_owned(), |day| format!("From {day}"))
}

fn asked(asked: &Asked) -> String {
    let which = if asked.outbound { "Mail to you" } else { "Mail from you" };
    let otherwise = match (asked.otherwise, &asked.max_delay) {
        (Fate::Refused, _) => "Otherwise it is refused, and goes back to who sent it.".to_owned(),
        (Fate::Deferred, Some(most)) => {
            format!("Otherwise it is put off, for {most} at the most, and then accepted.")
        }
        (Fate::Deferred, None) => {
            "Otherwise it is put off: it waits in the queue and is tried again, until the queue \
                                   gives up and it goes back to who sent it."
                .to_owned()
        }
        _ => "Otherwise it is accepted all the same, and we take note of it.".to_owned(),
    };
    format!("{}, {}: {}. {otherwise}", which, lower(&when(asked.from)), safe(&asked.what))
}

fn lower(words: &str) -> String {
    let mut chars = words.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// What is to be done, with the hosts that it is to be done on.
fn to_do(hosts: &[Host]) -> Vec<String> {
    let mut wanted: BTreeMap<(Remedy, bool), BTreeSet<&str>> = BTreeMap::new();
    for host in hosts {
        let outbound = host.direction == Direction::Outbound;
        for session in host.sessions.iter().filter(|session| !session.superseded) {
            for remedy in &session.remedies {
                wanted.entry((*remedy, outbound)).or_default().insert(&host.host);
            }
        }
    }
    wanted
        .into_iter()
        .map(|((remedy, outbound), hosts)| format!("{} On {}.", advice(remedy, outbound), names(&hosts)))
        .collect()
}

fn names(hosts: &BTreeSet<&str>) -> String {
    let named: Vec<_> = hosts.iter().take(NAMED).map(|host| safe(host)).collect();
    let more = hosts.len().saturating_sub(NAMED);
    if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
}

fn advice(remedy: Remedy, outbound: bool) -> &'static str {
    match (remedy, outbound) {
        (Remedy::Encrypt, false) => "Use STARTTLS for the mail that you send.",
        (Remedy::Encrypt, true) => "Offer STARTTLS for the mail that you receive.",
        (Remedy::Handshake, false) => {
            "The TLS handshake of mail that you send fails: the log of your server says why."
        }
        (Remedy::Handshake, true) => {
            "The TLS handshake of mail that you receive fails: the log of your server says why."
        }
        (Remedy::NewerVersion, false) => "Allow newer versions of TLS for the mail that you send.",
        (Remedy::NewerVersion, true) => "Allow newer versions of TLS for the mail that you receive.",
        (Remedy::StrongerCipher, false) => {
            "Prefer ciphers with more key bits (AES-256, ChaCha20) for the mail that you send."
        }
        (Remedy::StrongerCipher, true) => {
            "Prefer ciphers with more key bits (AES-256, ChaCha20) for the mail that you receive."
        }
        (Remedy::VerifiedCertificate, false) => {
            "Present a client certificate, signed by an authority that we know, when you send mail."
        }
        (Remedy::VerifiedCertificate, true) => {
            "Present a certificate that is signed by an authority that we know, with its whole chain."
        }
        (Remedy::CertificateNames, _) => {
            "Present the certificate that we agreed on: its names are not those."
        }
    }
}

/// What was negotiated, in a few words.
pub(super) fn negotiated(negotiated: &Negotiated) -> String {
    match (negotiated.version.as_deref(), negotiated.bits) {
        (None, Some(0)) => "no encryption".to_owned(),
        (None, None) => "not told".to_owned(),
        (version, bits) => {
            let version = version.map_or("unknown version".into(), safe);
            bits.map_or_else(|| format!("{version}, bits not told"), |bits| format!("{version}, {bits} bits"))
        }
    }
}

/// What became of a certificate, as a reader who does not know sendmail would say it.
pub(super) fn certificate(verify: Option<&str>) -> String {
    match verify.unwrap_or_default() {
        "" => "–".to_owned(),
        "OK" | "TRUSTED" => "verified".to_owned(),
        "NO" | "NOT" => "none".to_owned(),
        "FAIL" | UNVERIFIED => "not verified".to_owned(),
        other => safe(other).into_owned(),
    }
}

/// What becomes of messages, now and on the days to come. What is the same reason all along is told with the last.
pub(super) fn outlooks(outlooks: &[Outlook]) -> Vec<(Fate, String)> {
    let is_more = outlooks.len() > 1;
    let told = outlooks.iter().enumerate().map(|(place, outlook)| {
        let next = outlooks.get(place + 1);
        let reason =
            outlook.reason.as_deref().filter(|_| next.is_none_or(|next| next.reason != outlook.reason));
        let reason = reason.map(|reason| format!(" ({})", safe(reason))).unwrap_or_default();
        let day = match outlook.from {
            Some(day) => format!("from {day} "),
            None if is_more => "today ".to_owned(),
            None => String::new(),
        };
        (outlook.fate, format!("{day}{}{reason}", fate(outlook)))
    });
    told.collect()
}

fn fate(outlook: &Outlook) -> String {
    match outlook.fate {
        Fate::Passed => "accepted".to_owned(),
        Fate::NotAsked => "accepted, nothing is asked".to_owned(),
        Fate::Exempt => "accepted, not judged".to_owned(),
        Fate::Unknown => "accepted, not all is known that it takes to judge it".to_owned(),
        Fate::Undecided => "accepted, if the certificate has the names that we ask for".to_owned(),
        Fate::Observed => "accepted, but short of what we try out".to_owned(),
        Fate::Deferred => {
            let share = outlook.percent.map(|percent| format!("{percent}% of it ")).unwrap_or_default();
            let most = outlook.max_delay.as_deref().map(|delay| format!(", for {delay} at the most"));
            format!("{share}deferred{}", most.unwrap_or_default())
        }
        Fate::Refused => "refused".to_owned(),
    }
}
