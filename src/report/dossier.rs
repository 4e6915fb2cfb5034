//! The dossier of one domain, to be sent to those who run its mail: what their hosts negotiated with us, and what
//! becomes of them from when on.
//!
//! Promises: it is told in words for a reader who knows nothing of us, and holds nothing of anybody else: no rule, no
//! comment, no reason of an exemption, no other partner, no path of ours. Must not: hold a mail address.

pub use super::outlook::{Fate, Outlook, Remedy};

use super::outlook::{Demand, Prospect};
use super::{Origin, day_text};
use crate::evidence::questions::hosts::{elsewhere, has_others, hosts_of};
use crate::evidence::questions::record_of;
use crate::evidence::rollup::Session;
use crate::evidence::{Store, StoreError};
use crate::policy::facts::Direction;
use crate::policy::record::Record;
use crate::policy::requirement::{Attribute, Requirement, Wanted};
use crate::policy::rule::Mode;
use crate::policy::{Day, Policy};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// So many messages of other kinds say that a host has changed, and did not only do otherwise for once.
const ENOUGH: u64 = 20;

/// What their hosts negotiated with us, and what becomes of them.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Dossier {
    /// The domain.
    pub domain: String,
    /// When it was made.
    pub made: jiff::Timestamp,
    /// By which version of encr-milter.
    pub version: &'static str,
    /// The first day that was asked for.
    #[serde(serialize_with = "day_text")]
    pub since: Option<Day>,
    /// The last day that was asked for.
    #[serde(serialize_with = "day_text")]
    pub until: Option<Day>,
    /// Whether it was told against a policy: else nothing is said of what becomes of anything.
    pub judged: bool,
    /// Who we are, where that was said.
    pub ours: Option<String>,
    /// Where help is found: the policy's contact.
    pub contact: Option<String>,
    /// Whether more hosts of whomever were met than are kept apart: theirs may be among those.
    pub beyond_bound: bool,
    /// Their hosts.
    pub hosts: Vec<Host>,
    /// Mail of theirs by hosts of other names.
    pub elsewhere: Vec<Elsewhere>,
    /// What is asked of them; empty where no policy was given.
    pub asked: Vec<Asked>,
    /// How many of their hosts fare how, from which day on.
    pub milestones: Vec<Milestone>,
}

/// One of their hosts, in one direction.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Host {
    /// Whether it sends us mail, or takes ours.
    pub direction: Direction,
    /// Its confirmed name.
    pub host: String,
    /// Its address.
    pub address: String,
    /// What it negotiated, the latest first.
    pub sessions: Vec<HostSession>,
}

/// One kind of session.
#[derive(Clone, Debug, serde::Serialize)]
pub struct HostSession {
    /// What was negotiated.
    #[serde(flatten)]
    pub negotiated: Negotiated,
    /// Messages.
    pub messages: u64,
    /// The first one.
    pub first: jiff::Timestamp,
    /// The last one.
    pub last: jiff::Timestamp,
    /// Whether enough came after the last one, and all of another kind: this is how it was, not how it is.
    pub superseded: bool,
    /// What becomes of such messages; empty where no policy was given.
    pub outlook: Vec<Outlook>,
    /// What would mend it.
    pub remedies: Vec<Remedy>,
}

/// What was negotiated.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Negotiated {
    /// The version of TLS; null where there was none, or none was told.
    pub version: Option<String>,
    /// The cipher suite; likewise.
    pub cipher: Option<String>,
    /// Effective key bits; 0 in the clear, null where they were not told.
    pub bits: Option<u16>,
    /// How the certificate fared: `OK`, `NO`, `NOT`, `FAIL`, …
    pub verify: Option<String>,
}

impl Negotiated {
    fn of(session: &Session) -> Self {
        let told = |word: &str| (!word.is_empty()).then(|| word.to_owned());
        Self {
            version: told(&session.version),
            cipher: told(&session.cipher),
            bits: session.bits,
            verify: told(&session.verify),
        }
    }
}

/// Mail of theirs by hosts of another name.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Elsewhere {
    /// Which way the mail went.
    pub direction: Direction,
    /// The registrable part of the hosts' names; empty where they have none.
    pub peer_domain: String,
    /// Their network.
    pub network: String,
    /// What was negotiated.
    #[serde(flatten)]
    pub negotiated: Negotiated,
    /// Messages.
    pub messages: u64,
    /// The last one.
    pub last: jiff::Timestamp,
    /// What becomes of such messages, as far as it hangs on their addresses.
    pub outlook: Vec<Outlook>,
}

/// One thing that is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Asked {
    /// From that day; null: already.
    #[serde(serialize_with = "day_text")]
    pub from: Option<Day>,
    /// What becomes of mail that does not meet it.
    pub otherwise: Fate,
    /// How long a message is put off at the most: `4h`.
    pub max_delay: Option<String>,
    /// What, in plain words.
    pub what: String,
    /// Of mail in which direction.
    pub outbound: bool,
}

/// How many hosts fare how from a day on.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Milestone {
    /// From that day; null: today.
    #[serde(serialize_with = "day_text")]
    pub from: Option<Day>,
    /// Hosts of which some mail is refused.
    pub refused: usize,
    /// Hosts of which some is deferred, and none refused.
    pub deferred: usize,
    /// Hosts that do not meet what is tried out.
    pub observed: usize,
    /// Hosts of which it hangs on the names in their certificates, which are not kept.
    pub undecided: usize,
}

impl Dossier {
    /// Asks the store, and tells the answers against a policy where there is one.
    pub fn of(
        store: &Store,
        policy: Option<&Policy>,
        origin: &Origin,
        domain: &str,
        ours: Option<String>,
    ) -> Result<Self, StoreError> {
        let today = origin.today();
        let mut asked = BTreeSet::new();
        let mut prospect = |record: &Record<'_>| {
            let facts = record.facts();
            let prospect =
                policy.map(|policy| Prospect::of(policy, record, &facts, today)).unwrap_or_default();
            let outbound = record.direction == Direction::Outbound;
            asked.extend(prospect.demands.iter().map(|demand| Asked::of(demand, outbound)));
            (prospect.outlook, prospect.remedies)
        };
        let mut hosts: Vec<Host> = Vec::new();
        for seen in hosts_of(store, domain, origin.period())? {
            let address = address_of(domain);
            let record = with_peer(record_of(&seen.session), &seen.host, &seen.address, &address);
            let (outlook, remedies) = prospect(&record);
            let direction = record.direction;
            let session = HostSession {
                negotiated: Negotiated::of(&seen.session),
                messages: seen.messages,
                first: seen.first,
                last: seen.last,
                superseded: false,
                outlook,
                remedies: remedies.into_iter().collect(),
            };
            match hosts.last_mut() {
                Some(host)
                    if (host.direction, &host.host, &host.address)
                        == (direction, &seen.host, &seen.address) =>
                {
                    host.sessions.push(session);
                }
                _ => hosts.push(Host {
                    direction,
                    host: seen.host,
                    address: seen.address,
                    sessions: vec![session],
                }),
            }
        }
        for host in &mut hosts {
            let all: Vec<(jiff::Timestamp, u64)> =
                host.sessions.iter().map(|session| (session.first, session.messages)).collect();
            for session in &mut host.sessions {
                let later = all.iter().filter(|(first, _)| *first > session.last);
                session.superseded = later.map(|(_, messages)| messages).sum::<u64>() >= ENOUGH;
            }
        }
        let mut others = Vec::new();
        for seen in elsewhere(store, domain, origin.period())? {
            let address = if seen.key.contains('@') { seen.key } else { address_of(&seen.key) };
            let record = with_address(record_of(&seen.session), &address);
            others.push(Elsewhere {
                direction: record.direction,
                outlook: prospect(&record).0,
                peer_domain: seen.peer_domain,
                network: seen.network,
                negotiated: Negotiated::of(&seen.session),
                messages: seen.messages,
                last: seen.last,
            });
        }
        Ok(Self {
            domain: domain.to_owned(),
            made: origin.made,
            version: origin.version,
            since: origin.since,
            until: origin.until,
            judged: policy.is_some(),
            ours,
            contact: policy.and_then(Policy::contact).map(str::to_owned),
            beyond_bound: has_others(store, origin.period())?,
            milestones: milestones(&hosts),
            hosts,
            elsewhere: others,
            asked: most_serious_first(asked),
        })
    }
}

fn most_serious_first(asked: BTreeSet<Asked>) -> Vec<Asked> {
    // What is asked of some already, and of others later (an exemption ends), is told once.
    let mut known = BTreeSet::new();
    let mut asked: Vec<Asked> = asked
        .into_iter()
        .filter(|asked| known.insert((asked.otherwise, asked.what.clone(), asked.outbound)))
        .collect();
    // Of the same seriousness, what holds already.
    asked.sort_by_key(|asked| std::cmp::Reverse(asked.otherwise));
    asked
}

/// Somebody of a domain. Not postmaster, who is never refused.
fn address_of(domain: &str) -> String {
    format!("anyone@{domain}")
}

/// The record of a session with somebody's mail.
fn with_address<'r>(record: Record<'r>, address: &'r str) -> Record<'r> {
    let address = Some(Cow::Borrowed(address));
    match record.direction {
        Direction::Inbound => Record { sender: address, ..record },
        Direction::Outbound => Record { recipient: address, ..record },
    }
}

/// The same with a host. Hosts are kept under confirmed names, or under none.
fn with_peer<'r>(record: Record<'r>, host: &'r str, ip: &'r str, address: &'r str) -> Record<'r> {
    let told = |text: &'r str| (!text.is_empty()).then_some(Cow::Borrowed(text));
    let record = with_address(record, address);
    match record.direction {
        Direction::Inbound => Record {
            client_name: told(host),
            client_addr: told(ip),
            client_resolve: (!host.starts_with('[')).then_some(Cow::Borrowed("OK")),
            ..record
        },
        Direction::Outbound => Record { server_name: told(host), server_addr: told(ip), ..record },
    }
}

/// On each day on which something changes, how many hosts fare how. What is no more does not count. A host that sends
/// and takes mail is one.
fn milestones(hosts: &[Host]) -> Vec<Milestone> {
    let mut machines: BTreeMap<(&str, &str), Vec<&HostSession>> = BTreeMap::new();
    for host in hosts {
        let sessions = machines.entry((&host.host, &host.address)).or_default();
        sessions.extend(host.sessions.iter().filter(|session| !session.superseded));
    }
    let hosts: Vec<Vec<&HostSession>> = machines.into_values().collect();
    let outlooks = hosts.iter().flatten().flat_map(|session| &session.outlook);
    let days: BTreeSet<Option<Day>> = outlooks.map(|outlook| outlook.from).collect();
    let mut milestones: Vec<Milestone> = Vec::new();
    for day in days {
        let worst: Vec<Fate> = hosts
            .iter()
            .filter_map(|sessions| {
                let fates = sessions.iter().filter_map(|session| Prospect::on(&session.outlook, day));
                fates.map(|outlook| outlook.fate).max()
            })
            .collect();
        let count = |fate| worst.iter().filter(|worst| **worst == fate).count();
        let milestone = Milestone {
            from: day,
            refused: count(Fate::Refused),
            deferred: count(Fate::Deferred),
            observed: count(Fate::Observed),
            undecided: count(Fate::Undecided),
        };
        let is_new =
            milestones.last().is_none_or(|last| *last != Milestone { from: last.from, ..milestone.clone() });
        if is_new {
            milestones.push(milestone);
        }
    }
    milestones
}

impl Asked {
    fn of(demand: &Demand<'_>, outbound: bool) -> Self {
        Self {
            from: demand.from,
            otherwise: match demand.mode {
                Mode::Observe => Fate::Observed,
                Mode::SoftFail => Fate::Deferred,
                Mode::Enforce => Fate::Refused,
            },
            max_delay: demand.entry.max_delay.map(|delay| delay.to_string()),
            what: in_plain_words(&demand.entry.requirement),
            outbound,
        }
    }
}

/// What a requirement asks, for one who knows mail and TLS, but not us.
fn in_plain_words(requirement: &Requirement) -> String {
    let mut parts = Vec::new();
    parts.extend(requirement.min_bits.map(|bits| match bits {
        0 | 1 => "encryption (STARTTLS)".to_owned(),
        2..=112 => format!("encryption (STARTTLS) with at least {bits} key bits: any cipher of today"),
        113..=128 => format!("encryption (STARTTLS) with at least {bits} key bits: AES-128 or stronger"),
        129..=256 => format!("encryption (STARTTLS) with at least {bits} key bits: AES-256 or ChaCha20"),
        257.. => format!("encryption (STARTTLS) with at least {bits} key bits"),
    }));
    parts.extend(requirement.min_version.map(|version| format!("{version} or newer")));
    parts.extend(requirement.verify.then(|| "a certificate that can be verified".to_owned()));
    for name in &requirement.certificate {
        let attribute = match name.attribute {
            Attribute::CommonName => "common name",
            Attribute::Subject => "subject",
            Attribute::Issuer => "issuer",
        };
        parts.push(match &name.wanted {
            Wanted::OfPeer => format!("a certificate with the host's own name as its {attribute}"),
            Wanted::Is(wanted) => format!("a certificate with the {attribute} {wanted}"),
            Wanted::OneOf(names) => {
                format!("a certificate with one of the {attribute}s {}", names.join(", "))
            }
        });
    }
    if parts.is_empty() {
        parts.push("a TLS handshake that does not fail".to_owned());
    }
    parts.join("; ")
}
