//! What sendmail's log tells of deliveries, beside what the daemon was asked and recorded.

use super::{Choice, Pair};
use crate::mail_log::agree;
use crate::rig::sender::When;
use crate::rig::{Result, Rig};

const SERVERS: &str = r#"
[[rule]]
name = "weak"
server = ["aes128.peer.example", "aes128-13.peer.example", "127.0.0.42"]
soft-fail = { min-bits = 256 }
[[rule]]
name = "clear"
server = ["clear.peer.example"]
soft-fail = { min-bits = 1 }
[[rule]]
name = "verified"
server = ["self-signed.peer.example"]
enforce = { verify = true }
[[rule]]
name = "everyone"
server = ["*"]
observe = { min-bits = 256 }
"#;
const RECIPIENTS: &str = r#"
[[rule]]
name = "strict"
recipient-outbound = ["aes128.peer.example"]
soft-fail = { min-bits = 256 }
[[rule]]
name = "everyone"
server = ["*"]
observe = { min-bits = 256 }
"#;
const PEERS: &[&str] =
    &["clear", "null", "aes128", "aes256", "aes128-13", "aes256-13", "self-signed", "six", "broken", "busy"];

/// A record for each message and server: first attempts, one message to several servers, a queue run that keeps its
/// connections, a policy that changes what becomes of a message.
pub(super) fn servers(rig: &Rig) -> Result<()> {
    let mut pair = Pair::start(rig, "outbound-logged", &Choice { policy: SERVERS, ..Choice::default() })?;
    for peer in PEERS {
        let to = pair.at("bob", peer);
        pair.sender.send(When::Now, &[&to])?;
    }
    let all: Vec<String> = PEERS.iter().map(|peer| pair.at("carl", peer)).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    pair.sender.send(When::Now, &all)?;
    for who in ["dora", "emil", "fred"] {
        for peer in ["aes256", "aes128", "clear", "six"] {
            let to = pair.at(who, peer);
            pair.sender.send(When::Queued, &[&to])?;
        }
    }
    pair.sender.run_queue()?;
    pair.sender.run_queue()?;
    settle(&mut pair, false)
}

/// A record for each recipient.
pub(super) fn recipients(rig: &Rig) -> Result<()> {
    let mut pair =
        Pair::start(rig, "outbound-logged-each", &Choice { policy: RECIPIENTS, ..Choice::default() })?;
    for peer in ["clear", "aes128", "aes256", "six"] {
        let (one, other) = (pair.at("bob", peer), pair.at("carl", peer));
        pair.sender.send(When::Now, &[&one, &other])?;
        let unknown = format!("unknown@{peer}.peer.example");
        pair.sender.send(When::Queued, &[&one, &unknown])?;
    }
    pair.sender.run_queue()?;
    settle(&mut pair, true)
}

/// Holds the log against the records of both.
fn settle(pair: &mut Pair<'_>, each: bool) -> Result<()> {
    let records = pair.records()?;
    let policy = pair.folder.path().join("policy.toml");
    pair.rig.syslog.catch_up()?;
    let lines = pair.rig.syslog.whole(pair.tag);
    agree(&policy, &lines, &records, each, &|field, theirs, ours| match field {
        // Asked for only where a rule needs them; without a certificate one of them is told all the same.
        "cn_subject" | "cert_subject" | "cert_issuer" => {
            theirs[field].as_str().is_none_or(str::is_empty) || ours[field] == theirs[field]
        }
        // A server that puts STARTTLS off looks in the log like one that does not offer it.
        "verify" => theirs[field] == "TEMP" && ours[field] == "NONE",
        _ => false,
    })
}
