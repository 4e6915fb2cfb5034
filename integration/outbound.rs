//! Mail that leaves: a private sm-mta with the snippet of `config/`, the daemon that it asks, and peers of every strength.
//!
//! `asking` looks at what is asked and what an answer comes to, with a socket map of the rig's own; the others are live
//! deliveries with the daemon. Promises: the snippet is used as it stands, but for the socket and the lines that it tells
//! to change. A failed trial shows the records, the queue, and both logs.

mod asking;
mod certificates;
mod faults;
mod logged;
mod modes;
mod recipients;

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use toml::Table;

use crate::rig::case::check;
use crate::rig::daemon::Daemon;
use crate::rig::edit::{Manner, edit};
use crate::rig::peers::Peers;
use crate::rig::sender::{self, Message, Sender};
use crate::rig::{Result, Rig};

type Test = fn(&Rig) -> Result<()>;

/// All trials, by name.
pub(crate) const ALL: &[(&str, Test)] = &[
    ("outbound-snippet-asks", asking::asks),
    ("outbound-snippet-answers", asking::answers),
    ("outbound-every-strength", asking::every_strength),
    ("outbound-asked-how-often", asking::how_often),
    ("outbound-connection-lost", asking::asks_again),
    ("outbound-observe", modes::observe),
    ("outbound-soft-fail", modes::soft_fail),
    ("outbound-enforce", modes::enforce),
    ("outbound-long-reply", modes::long_reply),
    ("outbound-policy-edit", modes::policy_edit),
    ("outbound-background", modes::background),
    ("outbound-verify", certificates::verify),
    ("outbound-certificate-names", certificates::names),
    ("outbound-long-names", certificates::long_names),
    ("outbound-recipients", recipients::each_by_itself),
    ("outbound-odd-local-parts", recipients::odd_local_parts),
    ("outbound-recipient-enforced", recipients::enforced),
    ("outbound-recipient-after-bounce", recipients::after_a_bounce),
    ("outbound-access-map-beside", recipients::access_map_beside),
    ("outbound-broken-handshake", faults::broken_handshake),
    ("outbound-daemon-down", faults::down_delivers),
    ("outbound-daemon-stopped", faults::stopped_delivers),
    ("outbound-no-socket-file", faults::no_socket_file),
    ("outbound-daemon-down-defers", faults::down_defers),
    ("outbound-daemon-killed", faults::killed),
    ("outbound-sockets", faults::sockets),
    ("outbound-logged", logged::servers),
    ("outbound-logged-each", logged::recipients),
];

/// What a trial may choose.
#[derive(Default)]
struct Choice<'a> {
    /// `outbound.listen`, in TOML. Left out: a unix socket.
    listen: Option<String>,
    /// Which of them sendmail asks. Left out: the first.
    ask: usize,
    /// The snippet's other line: mail waits while there is no answer.
    defers: bool,
    access: &'a [&'a str],
    policy: &'a str,
}

/// The daemon and the sm-mta that asks it.
struct Pair<'a> {
    rig: &'a Rig,
    peers: &'a Peers,
    tag: &'static str,
    daemon: Daemon,
    sender: Sender,
    folder: TempDir,
}

impl<'a> Pair<'a> {
    /// Lays out both; the daemon runs, if the trial does not say otherwise.
    fn start(rig: &'a Rig, tag: &'static str, choice: &Choice<'_>) -> Result<Pair<'a>> {
        let mut pair = Pair::lay_out(rig, tag, choice)?;
        pair.daemon.start()?;
        Ok(pair)
    }

    fn lay_out(rig: &'a Rig, tag: &'static str, choice: &Choice<'_>) -> Result<Pair<'a>> {
        let folder = tempfile::Builder::new().prefix(tag).tempdir().map_err(|e| format!("a folder: {e}"))?;
        let listen = choice.listen.clone().unwrap_or_else(|| "\"unix:{dir}/outbound.sock\"".to_owned());
        let settings = toml::from_str(&format!("outbound.listen = {listen}"));
        let settings = settings.map_err(|e| format!("settings: {e}"))?;
        let daemon = Daemon::lay_out(&rig.daemon, folder.path(), &settings)?;
        let policy = folder.path().join("policy.toml");
        fs::write(&policy, policy_text(choice.policy)).map_err(|e| format!("policy.toml: {e}"))?;
        let socket = daemon.outbound().get(choice.ask).ok_or("no such socket")?;
        let snippet =
            if choice.defers { sender::deferring_snippet(socket)? } else { sender::snippet(socket)? };
        let sender = Sender::lay_out(rig, folder.path(), tag, &snippet, choice.access)?;
        Ok(Pair { rig, peers: rig.peers()?, tag, daemon, sender, folder })
    }

    /// An address at this peer that no other trial writes to.
    fn at(&self, who: &str, peer: &str) -> String {
        address(self.tag, who, peer)
    }

    /// Gives the daemon another policy, and waits until it is in force.
    fn edit(&self, policy: &str) -> Result<()> {
        let from = self.daemon.log.len();
        edit(&self.folder.path().join("policy.toml"), Manner::Rename, &policy_text(policy))?;
        self.daemon.log.wait_for(from, &["policy in force".to_owned()]).map(drop)
    }

    /// How often the mail of each was taken must be as it is said here.
    fn taken(&self, expected: &[(&str, usize)]) -> Result<()> {
        for (recipient, times) in expected {
            let taken = self.peers.taken(recipient)?;
            if taken != *times {
                return Err(self.told(&format!("mail for {recipient} was taken {taken} times, not {times}")));
            }
        }
        Ok(())
    }

    /// Who is in the queue, and why: for each message why it waits, and its recipients. Reasons are whole.
    fn queued(&self, expected: &[(&str, &[&str])]) -> Result<Vec<Message>> {
        let queue = self.sender.queue()?;
        let holds = |message: &Message, why: &str, recipients: &[&str]| {
            let mut addresses: Vec<&str> =
                message.recipients.iter().map(|one| one.address.as_str()).collect();
            let mut wanted = recipients.to_vec();
            addresses.sort_unstable();
            wanted.sort_unstable();
            message.why == why && addresses == wanted
        };
        let each = expected.iter().all(|(why, to)| queue.iter().any(|message| holds(message, why, to)));
        if each && queue.len() == expected.len() {
            Ok(queue)
        } else {
            Err(self.told(&format!("the queue was to be {expected:#?}")))
        }
    }

    /// The one message that came back holds this text.
    fn bounced(&self, texts: &[&str]) -> Result<()> {
        let returned = self.sender.returned()?;
        let (Some(bounce), 1) = (returned.first(), returned.len()) else {
            return Err(self.told(&format!("one bounce was due, there are {}", returned.len())));
        };
        match texts.iter().find(|text| !bounce.contains(**text)) {
            None => Ok(()),
            Some(text) => Err(self.told(&format!("the bounce does not say {text:?}:\n{bounce}"))),
        }
    }

    /// The sm-mta's log says this.
    fn logged(&self, parts: &[&str]) -> Result<()> {
        // The log comes by a socket: what was said is not always here yet.
        let said = || {
            let lines = self.rig.syslog.of(self.tag);
            lines.iter().any(|line| parts.iter().all(|part| line.contains(part))).then_some(())
        };
        crate::rig::wait::until(&format!("{parts:?} in the log"), said).map_err(|fault| self.told(&fault))
    }

    /// Stops the daemon; what it has recorded.
    fn records(&mut self) -> Result<Vec<Value>> {
        if self.daemon.is_running() {
            self.daemon.signal(Signal::SIGTERM)?;
            self.daemon.wait()?;
        }
        self.daemon.decisions()
    }

    /// Stops the daemon, and holds its records against a TOML list. All of them are listed, in order, and all are lawful.
    fn recorded(&mut self, expected: &str) -> Result<()> {
        let expected = expected.replace("{tag}", self.tag);
        let table: Table = toml::from_str(&format!("records = [{expected}]")).map_err(|e| e.to_string())?;
        let tables = table.get("records").and_then(toml::Value::as_array).into_iter().flatten();
        let tables: Vec<Table> = tables.filter_map(|one| one.as_table().cloned()).collect();
        let records = self.records()?;
        let mut faults = check::records(&tables, &records, None);
        for record in &records {
            if record["direction"] != "outbound" || record["host"] != "mail.rig.example" {
                faults.push(format!("direction or host: {record}"));
            }
            if record["queue_id"].as_str().is_none_or(|id| id.len() != 14) {
                faults.push(format!("queue_id: {record}"));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(self.told(&faults.join("\n"))) }
    }

    /// A fault, with all that may explain it.
    fn told(&self, fault: &str) -> String {
        let lines = |lines: Vec<String>| lines.join("\n    ");
        let records = self.daemon.decisions().unwrap_or_default().iter().map(Value::to_string).collect();
        format!(
            "{fault}\nqueue: {:#?}\nrecords:\n    {}\ndaemon:\n    {}\nsm-mta:\n    {}",
            self.sender.queue().unwrap_or_default(),
            lines(records),
            lines(self.daemon.log.lines()),
            lines(self.rig.syslog.of(self.tag)),
        )
    }
}

fn address(tag: &str, who: &str, peer: &str) -> String {
    format!("{who}.{tag}@{peer}.peer.example")
}

/// Rules below the head that all policies here have: the peers' addresses are exempt by default.
fn policy_text(rules: &str) -> String {
    format!("version = 1\n[exempt]\nnetworks = []\n{rules}")
}
