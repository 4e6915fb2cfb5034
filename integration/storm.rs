//! Policies edited in every manner, broken and mended, while clients of different strength never stop sending.
//!
//! What must hold: every message has one decision, of the policy that was in force when its MAIL came; the client was
//! told what the record says; nobody is ever cut off; and a broken edit is never seen in any of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::rig::daemon::Daemon;
use crate::rig::edit::{Manner, edit};
use crate::rig::sendmail::{Options, Sendmail};
use crate::rig::smtp::{Client, Tls};
use crate::rig::{Result, Rig, wait};

const TAG: &str = "storm-of-edits";
const CLIENTS: usize = 4;
const EDITS: usize = 30;
/// A client comes anew after so many messages, so that old and new connections are there at every edit.
const MESSAGES_A_CONNECTION: usize = 7;

const MANNERS: [Manner; 6] = [
    Manner::InPlace,
    Manner::Rename,
    Manner::BackupFirst,
    Manner::Symlink,
    Manner::RemoveFirst,
    Manner::Pieces,
];

/// What the rule demands, by turns. Clients are in the clear or have 128 bits.
const MODES: [&str; 4] = [
    "soft-fail = { min-bits = 128 }",
    "enforce = { min-bits = 256 }",
    "observe = { min-bits = 256 }",
    "enforce = { min-bits = 128 }\nsoft-fail = { min-bits = 256 }",
];

/// One message as its client saw it.
struct Sent {
    sender: String,
    /// The whole reply to RCPT.
    reply: String,
    /// How many edits were known to be in force before MAIL and after the reply to RCPT.
    before: usize,
    after: usize,
}

/// What clients and editor share.
struct Weather {
    /// The edit that is known to be in force.
    in_force: AtomicUsize,
    sent: AtomicUsize,
    over: AtomicBool,
}

pub(crate) fn storm(rig: &Rig) -> Result<()> {
    let folder = tempfile::Builder::new().prefix(TAG).tempdir().map_err(|e| format!("a folder: {e}"))?;
    let mut daemon = Daemon::lay_out(&rig.daemon, folder.path(), &toml::Table::new())?;
    let file = folder.path().join("policy.toml");
    fs::write(&file, policy(0)).map_err(|e| format!("policy.toml: {e}"))?;
    daemon.start()?;
    // Whoever is cut off by the daemon gets 451, and is seen.
    let options =
        Options { attach: daemon.listen().to_vec(), flags: Some("T".to_owned()), ..Options::default() };
    let sendmail = Sendmail::start(rig, folder.path(), TAG, &options)?;
    let weather =
        Weather { in_force: AtomicUsize::new(0), sent: AtomicUsize::new(0), over: AtomicBool::new(false) };

    let (to, seen) = (&sendmail, &weather);
    let sent = thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|client| scope.spawn(move || send(rig, to, seen, client))).collect();
        let edited = (1..=EDITS).try_for_each(|number| change(&daemon, &file, &weather, number));
        weather.over.store(true, Ordering::SeqCst);
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.join().map_err(|_| "a client panicked")??);
        }
        edited.map(|()| all)
    });
    let sent = sent.map_err(|fault| format!("{fault}\n{}", daemon.log.lines().join("\n")))?;
    daemon.signal(Signal::SIGTERM)?;
    let status = daemon.wait()?;
    if !status.success() {
        return Err(format!("the daemon ended with {status}"));
    }
    compare(&sent, &daemon.decisions()?)
}

/// A policy whose rule has the edit's number for a name, so that every reply and record tells which it was.
fn policy(number: usize) -> String {
    let modes = MODES.get(number % MODES.len()).copied().unwrap_or_default();
    format!(
        "version = 1\n[exempt]\nnetworks = []\n[[rule]]\nname = \"{}\"\nclient = [\"partner.example\"]\n{modes}\n",
        rule(number)
    )
}

fn rule(number: usize) -> String {
    format!("edit-{number}")
}

/// Breaks the policy, then edits it; each is waited for, and then some messages more.
fn change(daemon: &Daemon, file: &std::path::Path, weather: &Weather, number: usize) -> Result<()> {
    let manner = MANNERS.get(number % MANNERS.len()).copied().unwrap_or_default();
    if number.is_multiple_of(3) {
        let mark = daemon.log.len();
        edit(file, manner, &policy(number).replace("name =", "nmae ="))?;
        daemon.log.wait_for(mark, &["policy refused".to_owned()])?;
        breathe(weather)?;
    }
    let mark = daemon.log.len();
    edit(file, manner, &policy(number))?;
    let told = daemon.log.wait_for(mark, &[format!("rule {}: added", rule(number))])?;
    daemon.log.wait_for(told, &["policy in force".to_owned()])?;
    weather.in_force.store(number, Ordering::SeqCst);
    breathe(weather)
}

/// Lets every client come to its next message, on average.
fn breathe(weather: &Weather) -> Result<()> {
    let so_far = weather.sent.load(Ordering::SeqCst);
    wait::until("more messages", || (weather.sent.load(Ordering::SeqCst) >= so_far + CLIENTS).then_some(()))
}

/// A client that sends until it is over. Odd ones speak TLS.
fn send(rig: &Rig, sendmail: &Sendmail, weather: &Weather, client: usize) -> Result<Vec<Sent>> {
    let mut sent = Vec::new();
    while !weather.over.load(Ordering::SeqCst) {
        let mut connection = arrive(rig, sendmail, client % 2 == 1)?;
        for _ in 0..MESSAGES_A_CONNECTION {
            let sender = format!("{client}-{}@partner.example", sent.len());
            let before = weather.in_force.load(Ordering::SeqCst);
            let mail = connection.say(&format!("MAIL FROM:<{sender}>"))?;
            let rcpt = connection.say("RCPT TO:<bob@rig.example>")?;
            let after = weather.in_force.load(Ordering::SeqCst);
            if mail.code != 250 {
                return Err(format!("{sender}: {}", mail.text()));
            }
            connection.say("RSET")?;
            sent.push(Sent { sender, reply: rcpt.text(), before, after });
            weather.sent.fetch_add(1, Ordering::SeqCst);
        }
        connection.say("QUIT")?;
    }
    Ok(sent)
}

fn arrive(rig: &Rig, sendmail: &Sendmail, tls: bool) -> Result<Client> {
    let mut connection = sendmail.connect_from([127, 0, 0, 2].into())?;
    connection.reply()?;
    connection.say("EHLO mx.partner.example")?;
    if tls {
        connection.say("STARTTLS")?;
        let weak =
            Tls { version: Some("1.2".to_owned()), cipher: Some("AES128-SHA256".to_owned()), cert: None };
        connection.handshake(&weak, &rig.certs)?;
        connection.say("EHLO mx.partner.example")?;
    }
    Ok(connection)
}

fn compare(sent: &[Sent], records: &[Value]) -> Result<()> {
    let field =
        |record: &Value, name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut by_sender: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for record in records {
        by_sender.entry(field(record, "sender")).or_default().push(record);
    }
    let mut faults = Vec::new();
    let mut policies: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for message in sent {
        let found = by_sender.remove(&message.sender).unwrap_or_default();
        let [record] = found.as_slice() else {
            faults.push(format!("{}: {} records, of one message", message.sender, found.len()));
            continue;
        };
        let told = match field(record, "reply") {
            reply if reply.is_empty() => "250 2.1.5 Recipient ok".to_owned(),
            reply => reply,
        };
        if message.reply.replacen("<bob@rig.example>... ", "", 1) != told {
            faults
                .push(format!("{}: was told {:?}, and recorded is {record}", message.sender, message.reply));
        }
        // The next edit may be in force already when the log that says so is yet to be read.
        let could_be = message.before..=message.after + 1;
        if !could_be.clone().any(|number| rule(number) == field(record, "rule")) {
            faults.push(format!(
                "{}: judged by {}, between {could_be:?}",
                message.sender,
                field(record, "rule")
            ));
        }
        policies.entry(field(record, "policy")).or_default().insert(field(record, "rule"));
    }
    faults.extend(by_sender.into_keys().map(|sender| format!("{sender}: a record of no message")));
    faults.extend(
        policies
            .iter()
            .filter(|(_, rules)| rules.len() != 1)
            .map(|(policy, rules)| format!("{policy} is {rules:?}")),
    );
    if policies.len() <= EDITS / 2 {
        faults.push(format!("only {} policies have judged anything, of {}", policies.len(), EDITS + 1));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}
