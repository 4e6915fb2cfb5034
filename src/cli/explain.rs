//! `encr-milter explain`: one decision and how it came about, or many from JSON Lines.

use super::{complain, exit, policies};
use crate::policy::Policy;
use crate::policy::decide::{Decision, decide, tried};
use crate::policy::facts::{Direction, Facts};
use crate::policy::record::Record;
use crate::policy::rule::Standing;
use serde::Serialize;
use std::borrow::Cow;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;

/// Show what would be decided for a connection, and why: the keys that were tried, in order
///
/// The flags are named like the fields of a decision record. What is not given counts as not told by the
/// MTA, with two exceptions for convenience: a client's name counts as confirmed (--client-resolve OK), and
/// a connection of which no TLS is told counts as one in the clear (--cipher-bits 0) where its host is given.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Policy files (or globs), together one policy
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    policy: Vec<PathBuf>,
    /// Read decision records (or parts of them) as JSON Lines from standard input, and answer each with a record.
    /// What a record does not say was not told: the two conveniences do not hold
    #[arg(long)]
    batch: bool,
    /// Tell it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    facts: FactFlags,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The connection")]
struct FactFlags {
    /// inbound or outbound [default: outbound where a server is given]
    #[arg(long, value_parser = ["inbound", "outbound"])]
    direction: Option<String>,
    /// When, RFC 3339; dates of the policy are held against it [default: now]
    #[arg(long, value_name = "TIME")]
    ts: Option<jiff::Timestamp>,
    /// The MTA's own name
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// The message's queue id
    #[arg(long, value_name = "ID")]
    queue_id: Option<String>,
    /// The SMTP client's name
    #[arg(long, value_name = "NAME")]
    client_name: Option<String>,
    /// The SMTP client's address
    #[arg(long, value_name = "ADDRESS")]
    client_addr: Option<String>,
    /// Whether the name is confirmed: OK, FAIL, FORGED, TEMP [default: OK]
    #[arg(long, value_name = "WORD")]
    client_resolve: Option<String>,
    /// The SMTP server's name, outbound
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// The SMTP server's address, outbound
    #[arg(long, value_name = "ADDRESS")]
    server_addr: Option<String>,
    /// The envelope sender; <> is the null sender
    #[arg(long, value_name = "ADDRESS")]
    sender: Option<String>,
    /// The envelope recipient
    #[arg(long, value_name = "ADDRESS")]
    recipient: Option<String>,
    /// Who authenticated
    #[arg(long, value_name = "NAME")]
    auth: Option<String>,
    /// TLSv1 … TLSv1.3
    #[arg(long, value_name = "VERSION")]
    tls_version: Option<String>,
    /// The cipher suite
    #[arg(long, value_name = "NAME")]
    cipher: Option<String>,
    /// Effective key bits; 0 is in the clear
    #[arg(long, value_name = "BITS")]
    cipher_bits: Option<u16>,
    /// Key bits of a SASL security layer
    #[arg(long, value_name = "BITS")]
    auth_ssf: Option<u16>,
    /// How the certificate fared: OK, NO, NOT, FAIL, NONE
    #[arg(long, value_name = "WORD")]
    verify: Option<String>,
    /// The certificate's common name
    #[arg(long, value_name = "NAME")]
    cn_subject: Option<String>,
    /// The certificate's subject
    #[arg(long, value_name = "DN")]
    cert_subject: Option<String>,
    /// The certificate's issuer
    #[arg(long, value_name = "DN")]
    cert_issuer: Option<String>,
    /// How long the message has been tried, in seconds; a `max-delay` is held against it
    #[arg(long, value_name = "SECONDS")]
    waited: Option<u32>,
}

impl FactFlags {
    /// Whether any is given.
    fn any(&self) -> bool {
        let record = self.record();
        record != Record::default()
    }

    /// The flags as a record, to the letter.
    fn record(&self) -> Record<'_> {
        let text = |value: &'_ Option<String>| value.clone().map(Cow::Owned);
        Record {
            ts: self.ts,
            direction: match self.direction.as_deref() {
                Some("outbound") => Direction::Outbound,
                // A server has a name only in mail that leaves.
                None if self.server_name.is_some() || self.server_addr.is_some() => Direction::Outbound,
                _ => Direction::Inbound,
            },
            host: text(&self.host),
            queue_id: text(&self.queue_id),
            client_name: text(&self.client_name),
            client_addr: text(&self.client_addr),
            client_resolve: text(&self.client_resolve),
            server_name: text(&self.server_name),
            server_addr: text(&self.server_addr),
            sender: text(&self.sender),
            recipient: text(&self.recipient),
            auth: text(&self.auth),
            tls_version: text(&self.tls_version),
            cipher: text(&self.cipher),
            cipher_bits: self.cipher_bits,
            auth_ssf: self.auth_ssf,
            verify: text(&self.verify),
            cn_subject: text(&self.cn_subject),
            cert_subject: text(&self.cert_subject),
            cert_issuer: text(&self.cert_issuer),
            waited: self.waited,
            ..Record::default()
        }
    }
}

/// Fills in what a person at the command line means, and tells what was filled in.
fn assume(record: &mut Record<'_>) -> Vec<&'static str> {
    let mut assumed = Vec::new();
    if record.client_name.as_deref().is_some_and(|name| !name.starts_with('['))
        && record.client_resolve.is_none()
    {
        record.client_resolve = Some("OK".into());
        assumed.push("client_resolve OK: the client's name counts as confirmed");
    }
    let host = [&record.client_name, &record.client_addr, &record.server_name, &record.server_addr];
    let tls = record.tls_version.is_some() || record.cipher.is_some() || record.verify.is_some();
    if host.iter().any(|host| host.is_some()) && record.cipher_bits.is_none() && !tls {
        record.cipher_bits = Some(0);
        assumed.push("cipher_bits 0: no TLS was given, so the connection counts as one in the clear");
    }
    assumed
}

pub(super) fn run(arguments: &Arguments) -> io::Result<u8> {
    if arguments.batch && arguments.facts.any() {
        complain("--batch reads its connections from standard input: it takes no flags of one");
        return Ok(exit::USAGE);
    }
    let now = jiff::Timestamp::now();
    let Some(policy) = policies::load(&arguments.policy, now)? else { return Ok(exit::CONFIG) };
    if arguments.batch {
        return batch(&policy, now);
    }
    let mut record = arguments.facts.record();
    let assumed = assume(&mut record);
    one(&policy, &record, now, &assumed, arguments.json)?;
    Ok(exit::OK)
}

/// A decision with the keys that were tried.
#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    record: Record<'a>,
    tried: Vec<TriedRecord<'a>>,
}

#[derive(Serialize)]
struct TriedRecord<'a> {
    side: &'static str,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    /// Whether that rule is in force on the day.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_force: Option<bool>,
    /// Whether it ends the search among keys of this kind.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    skips: bool,
    /// The kind of key, counted from 0.
    #[serde(skip)]
    kind: usize,
}

fn one(
    policy: &Policy,
    input: &Record<'_>,
    now: jiff::Timestamp,
    assumed: &[&str],
    json: bool,
) -> io::Result<()> {
    let facts = input.facts();
    let day = input.day(now);
    let decision = decide(policy, &facts, input.envelope(), day);
    let record =
        Record::new(input.ts.unwrap_or(now), &facts, input.envelope(), &decision, policy.fingerprint());
    let keys: Vec<TriedRecord<'_>> = tried(policy, &facts, input.envelope())
        .into_iter()
        .map(|(side, tried)| {
            let rule = tried.rule.and_then(|id| policy.rule(id));
            TriedRecord {
                side: side.as_str(),
                key: tried.key,
                rule: rule.map(|rule| rule.name.as_str()),
                in_force: rule.map(|rule| rule.standing(day) != Standing::Absent),
                skips: rule.is_some_and(|rule| rule.skip),
                kind: tried.kind,
            }
        })
        .collect();
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &Explained { record, tried: keys })?;
        return writeln!(out);
    }
    picture(&mut out, &record, &decision, &facts, &keys)?;
    for assumption in assumed {
        writeln!(out, "assumed      {assumption}")?;
    }
    writeln!(out, "policy       {}, judged for {day}", policy.fingerprint())
}

/// What a person wants to see: the verdict first, then why.
fn picture(
    out: &mut impl Write,
    record: &Record<'_>,
    decision: &Decision<'_>,
    facts: &Facts<'_>,
    keys: &[TriedRecord<'_>],
) -> io::Result<()> {
    let mode = decision.mode.map(|mode| format!(" ({mode})")).unwrap_or_default();
    writeln!(out, "verdict      {}{mode}", decision.verdict.as_str())?;
    writeln!(out, "disposition  {}", decision.disposition.as_str())?;
    for (name, value) in
        [("rule", &record.rule), ("key", &record.key), ("reason", &record.reason), ("reply", &record.reply)]
    {
        if let Some(value) = value {
            let side =
                decision.side.filter(|_| name == "key").map(|side| format!(" ({side})")).unwrap_or_default();
            writeln!(out, "{name:<12} {value}{side}")?;
        }
    }
    if let Some(bits) = facts.effective_bits() {
        writeln!(out, "bits         {bits} effective")?;
    }
    for failure in decision.failures() {
        writeln!(out, "not met      {} of rule {}: {}", failure.mode, failure.rule.name, failure.reason)?;
    }
    if decision.settled {
        return writeln!(out, "tried        no key: [exempt] settles it");
    }
    let mut settled: Vec<&str> = Vec::new();
    let mut skipped = None;
    for tried in keys {
        // Once a side has its rule, the rest is what would have been tried.
        let before = settled.contains(&tried.side) || skipped == Some((tried.side, tried.kind));
        let what = match (tried.rule, tried.in_force) {
            (Some(rule), _) if before => format!("rule {rule}, not reached: a key above is more specific"),
            (Some(rule), _) if tried.skips => {
                skipped = Some((tried.side, tried.kind));
                format!("rule {rule}, skips to the next kind of key")
            }
            (Some(rule), Some(true)) => {
                settled.push(tried.side);
                format!("rule {rule}  <- applies")
            }
            (Some(rule), _) => format!("rule {rule}, not in force on that day"),
            (None, _) if before => continue,
            (None, _) => "no rule".to_owned(),
        };
        writeln!(out, "tried        {:<10} {:<34} {what}", tried.side, tried.key)?;
    }
    Ok(())
}

/// Answers record after record, one line for each line.
fn batch(policy: &Policy, now: jiff::Timestamp) -> io::Result<u8> {
    #[derive(Serialize)]
    struct Unreadable {
        line: usize,
        error: String,
    }
    let mut input = io::BufReader::new(io::stdin().lock());
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut code = exit::OK;
    let mut line = Vec::new();
    let mut buffer = Vec::new();
    for number in 1.. {
        line.clear();
        match input.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                out.flush()?;
                complain(&format!("cannot read standard input: {error}"));
                return Ok(exit::NO_INPUT);
            }
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        buffer.clear();
        match serde_json::from_slice::<Record<'_>>(&line) {
            Ok(record) => {
                let facts = record.facts();
                let decision = decide(policy, &facts, record.envelope(), record.day(now));
                let ts = record.ts.unwrap_or(now);
                Record::new(ts, &facts, record.envelope(), &decision, policy.fingerprint())
                    .write_json(&mut buffer);
            }
            Err(error) => {
                complain(&format!("line {number}: not a decision record: {error}"));
                code = exit::DATA;
                serde_json::to_writer(&mut buffer, &Unreadable { line: number, error: error.to_string() })?;
                buffer.push(b'\n');
            }
        }
        out.write_all(&buffer)?;
        // Whoever writes a line and waits for its answer gets it.
        if input.buffer().is_empty() {
            out.flush()?;
        }
    }
    out.flush()?;
    Ok(code)
}
