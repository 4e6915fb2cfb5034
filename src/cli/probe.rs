//! `encr-milter probe`: what a server's STARTTLS is worth.

mod picture;

use super::{complain, exit, policies};
use crate::daemon_file;
use crate::policy::Policy;
use crate::policy::decide::{Disposition, Verdict, decide};
use crate::policy::facts::parse_bits;
use crate::policy::record::Record;
use crate::policy::reply::Reply;
use crate::policy::rule::Mode;
use crate::probe::fault::Kind;
use crate::probe::meaning::{self, Demand, Threshold};
use crate::probe::target::{DEFAULT_PORT, Family, Hosts, Target, mx};
use crate::probe::{Look, Settings, Starttls, look};
use serde::Serialize;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Look at any SMTP server's TLS: what it offers, what is negotiated, which thresholds that would meet
///
/// Speaks to it as a client would (EHLO, STARTTLS, EHLO, QUIT) and sends no mail. It is asked once for what any client
/// gets, and then once for each version and strength that is not known yet: some seven connections. What it shows
/// is the server's side, for mail to it; what a partner's own clients negotiate with us, `encr-milter report` tells.
///
/// Exits 0 where STARTTLS works and the server goes on within it, 1 where it is not to be had or --require is not met,
/// 69 where nobody is reached, or the server refuses, hangs or closes, 76 where it does not keep to the protocol: before
/// STARTTLS or within it alike.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The host: a name or an address, with a port where that is not 25; an IPv6 address before a port in brackets
    #[arg(value_name = "HOST[:PORT]")]
    target: String,
    /// It is a mail domain: look at all of its hosts (MX)
    #[arg(long)]
    mx: bool,
    /// Only the one connection that any client would make
    #[arg(long)]
    quick: bool,
    /// Exit with 1 where fewer bits than these are negotiated
    #[arg(long, value_name = "BITS", value_parser = bits)]
    require: Option<u16>,
    /// What would this policy decide about a delivery to it? Files or globs
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "config")]
    policy: Vec<PathBuf>,
    /// The same with the policy that a daemon's file names
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The recipient of that delivery, for rules on `recipient-outbound`
    #[arg(long, value_name = "ADDRESS")]
    recipient: Option<String>,
    /// The name to give with EHLO [default: this host's]
    #[arg(long, value_name = "NAME", value_parser = helo)]
    helo: Option<String>,
    /// How long each step may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Certificates to trust, as PEM, in place of the system's: sendmail's confCACERT
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Who is asked for MX, in place of the system's resolver
    #[arg(long, value_name = "ADDRESS:PORT", requires = "mx")]
    resolver: Option<SocketAddr>,
    #[command(flatten)]
    family: FamilyFlags,
    /// Tell it as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct FamilyFlags {
    /// Addresses of IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Addresses of IPv6 only
    #[arg(short = '6', long)]
    ipv6: bool,
}

fn bits(text: &str) -> Result<u16, String> {
    parse_bits(text).ok_or_else(|| "a number of bits, 0 to 1024".to_owned())
}

/// It goes to the server as it is: one word that ends no line.
pub(super) fn helo(text: &str) -> Result<String, String> {
    let sound = (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if sound { Ok(text.to_owned()) } else { Err("a host's name, or an address in brackets".to_owned()) }
}

/// The name that this host goes by.
pub(super) fn own_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| helo(name).is_ok()).unwrap_or_else(|| "localhost".to_owned())
}

/// One host, and what it means.
#[derive(Serialize)]
struct Host<'a> {
    #[serde(flatten)]
    look: &'a Look,
    thresholds: Vec<Threshold>,
    #[serde(skip_serializing_if = "Option::is_none")]
    most: Option<Demand>,
    #[serde(skip_serializing_if = "Option::is_none")]
    required: Option<Required>,
    /// What the policy says of a delivery to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<Decided<'a>>,
}

/// In the words of a decision record.
#[derive(Serialize)]
struct Decided<'a> {
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    disposition: Disposition,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<String>,
    policy: &'a str,
}

#[derive(Serialize)]
struct Required {
    bits: u16,
    met: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    asked: &'a str,
    ok: bool,
    hosts: &'a [Host<'a>],
    notes: &'a [String],
}

pub(super) fn run(arguments: &Arguments) -> io::Result<u8> {
    let target = match arguments.target.parse::<Target>() {
        Ok(target) => target,
        Err(error) => {
            complain(&error.to_string());
            return Ok(exit::USAGE);
        }
    };
    let Ok(policy) = policy(arguments)? else { return Ok(exit::CONFIG) };
    if let Some(ca) = &arguments.ca
        && let Err(error) = std::fs::metadata(ca)
    {
        complain(&format!("cannot read {}: {error}", ca.display()));
        return Ok(exit::NO_INPUT);
    }
    let timeout = Duration::from_secs(arguments.timeout);
    let mut notes = Vec::new();
    let targets = match targets(arguments, target, timeout, &mut notes) {
        Ok(targets) => targets,
        Err(error) => {
            complain(&error);
            return Ok(exit::UNAVAILABLE);
        }
    };
    let settings = Settings {
        helo: arguments.helo.clone().unwrap_or_else(own_name),
        timeout,
        ca: arguments.ca.clone(),
        thorough: !arguments.quick,
    };
    let family = match (arguments.family.ipv4, arguments.family.ipv6) {
        (true, _) => Family::V4,
        (_, true) => Family::V6,
        _ => Family::Any,
    };
    let looks: Vec<Look> = targets
        .iter()
        .map(|(preference, target)| {
            let looked = match target.addresses(family) {
                Ok(addresses) => look(&target.host, &addresses, &settings),
                Err(fault) => Look { host: target.host.clone(), fault: Some(fault), ..Look::default() },
            };
            Look { preference: *preference, ..looked }
        })
        .collect();
    let hosts: Vec<Host<'_>> = looks.iter().map(|look| host(look, policy.as_ref(), arguments)).collect();
    let code = code(&hosts);
    let mut out = io::stdout().lock();
    if arguments.json {
        let report = Report { asked: &arguments.target, ok: code == exit::OK, hosts: &hosts, notes: &notes };
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
        return Ok(code);
    }
    for note in &notes {
        writeln!(out, "{note}")?;
    }
    for (number, host) in hosts.iter().enumerate() {
        if number > 0 || !notes.is_empty() {
            writeln!(out)?;
        }
        picture::draw(&mut out, host)?;
    }
    Ok(code)
}

/// Why there is no policy has been told.
struct Told;

/// The policy to ask, where one is wished.
fn policy(arguments: &Arguments) -> io::Result<Result<Option<Policy>, Told>> {
    let mut patterns = arguments.policy.clone();
    if let Some(config) = &arguments.config {
        let read = daemon_file::read(config);
        let Some(daemon) = read.daemon else {
            write!(io::stderr().lock(), "{}", read.diagnostics.render(&read.sources, super::colour()))?;
            return Ok(Err(Told));
        };
        patterns = daemon.policy.patterns;
    }
    if patterns.is_empty() {
        return Ok(Ok(None));
    }
    Ok(policies::load(&patterns, jiff::Timestamp::now())?.map(Some).ok_or(Told))
}

/// What to look at; what was found on the way there is noted.
fn targets(
    arguments: &Arguments,
    target: Target,
    timeout: Duration,
    notes: &mut Vec<String>,
) -> Result<Vec<(Option<u16>, Target)>, String> {
    if !arguments.mx {
        return Ok(vec![(None, target)]);
    }
    if target.port != DEFAULT_PORT {
        notes.push(format!("port {} in place of 25 at each host", target.port));
    }
    match mx(&target.host, arguments.resolver, timeout).map_err(|error| error.to_string())? {
        Hosts::Mx(hosts) => Ok(hosts
            .into_iter()
            .map(|(preference, host)| {
                let host = host.trim_end_matches('.').to_ascii_lowercase();
                (Some(preference), Target { host, port: target.port })
            })
            .collect()),
        Hosts::Itself => {
            notes.push(format!("{} has no MX: mail goes to the host of that name", target.host));
            Ok(vec![(None, target)])
        }
        Hosts::Nobody => Err(format!("{} says that it takes no mail (`MX 0 .`, RFC 7505)", target.host)),
    }
}

fn host<'a>(look: &'a Look, policy: Option<&'a Policy>, arguments: &Arguments) -> Host<'a> {
    let now = jiff::Timestamp::now();
    let decision = policy.zip(meaning::record(look)).map(|(policy, record)| {
        let record = Record { recipient: arguments.recipient.clone().map(Into::into), ..record };
        let facts = record.facts();
        let decision = decide(policy, &facts, record.envelope(), record.day(now));
        Decided {
            verdict: decision.verdict,
            mode: decision.mode,
            disposition: decision.disposition,
            rule: decision.rule.map(|rule| rule.name.clone()),
            reason: decision.reason.map(|reason| reason.to_string()),
            reply: decision.reply().map(Reply::into_line),
            policy: policy.fingerprint().as_str(),
        }
    });
    let bits = look.session.as_ref().map_or(0, |session| session.cipher_bits);
    Host {
        look,
        thresholds: meaning::thresholds(look),
        most: meaning::most(look),
        required: arguments.require.map(|needed| Required { bits: needed, met: bits >= needed }),
        decision,
    }
}

/// What a script is told. Of several hosts the most telling counts: the answer "no", then what breaks the protocol,
/// then who was not reached.
fn code(hosts: &[Host<'_>]) -> u8 {
    let is_short = |host: &Host<'_>| host.required.as_ref().is_some_and(|required| !required.met);
    let of = |host: &Host<'_>| match &host.look.fault {
        // What was negotiated is an answer, whatever came then.
        Some(_) if host.look.session.is_some() && is_short(host) => exit::GATE,
        Some(fault) => match fault.kind() {
            Kind::NotReached => exit::UNAVAILABLE,
            Kind::Protocol => exit::PROTOCOL,
            Kind::Own => exit::OS,
        },
        None if host.look.starttls != Starttls::Works => exit::GATE,
        None if is_short(host) => exit::GATE,
        None => exit::OK,
    };
    let codes: Vec<u8> = hosts.iter().map(of).collect();
    let order = [exit::GATE, exit::PROTOCOL, exit::OS, exit::UNAVAILABLE];
    order.into_iter().find(|code| codes.contains(code)).unwrap_or(exit::OK)
}
