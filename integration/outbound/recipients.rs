//! Recipients of one message, each judged by itself; and rules of sendmail's own beside ours.

use super::{Choice, Pair};
use crate::rig::sender::When;
use crate::rig::{Result, Rig};

/// One is delivered, one waits, of one message to one server. Records are told for each.
pub(super) fn each_by_itself(rig: &Rig) -> Result<()> {
    let policy = r#"
[[rule]]
name = "strict"
recipient-outbound = ["bob.outbound-recipients@aes128.peer.example"]
soft-fail = { min-bits = 256 }
[[rule]]
name = "loose"
recipient-outbound = ["peer.example"]
soft-fail = { min-bits = 128 }
"#;
    let tag = "outbound-recipients";
    let mut pair = Pair::start(rig, tag, &Choice { policy, ..Choice::default() })?;
    let (bob, carl) = (pair.at("bob", "aes128"), pair.at("carl", "aes128"));
    pair.sender.send(When::Now, &[&bob, &carl])?;
    pair.taken(&[(&bob, 0), (&carl, 1)])?;
    // sendmail leaves the code out where it is a recipient's.
    let weak = "encryption too weak 128 less than 256, rule strict";
    let queue = pair.queued(&[(weak, &[&bob])])?;
    let why = queue.first().and_then(|message| message.recipients.first()).map(|one| one.why.clone());
    if why.as_deref() != Some(weak) {
        return Err(pair.told(&format!("{why:?}")));
    }
    pair.logged(&["ruleset=tls_rcpt", &format!("arg1={bob}"), &format!("reject=454 4.7.0 {weak}")])?;
    pair.sender.run_queue()?;
    pair.taken(&[(&bob, 0), (&carl, 1)])?;
    pair.edit(&policy.replace("256", "128"))?;
    pair.sender.run_queue()?;
    pair.taken(&[(&bob, 1), (&carl, 1)])?;
    pair.queued(&[])?;
    pair.recorded(
        r#"
{ recipient = "carl.{tag}@aes128.peer.example", rule = "loose", side = "recipient-outbound", key = "peer.example", verdict = "pass", disposition = "accept" },
{ recipient = "bob.{tag}@aes128.peer.example", rule = "strict", side = "recipient-outbound", verdict = "fail", disposition = "tempfail", reply = "454 4.7.0 encryption too weak 128 less than 256, rule strict" },
{ recipient = "bob.{tag}@aes128.peer.example", rule = "strict", disposition = "tempfail", server_name = "aes128.peer.example" },
{ recipient = "bob.{tag}@aes128.peer.example", rule = "strict", verdict = "pass", disposition = "accept" },
"#,
    )
}

/// What stands in quotes or behind a backslash is a part of the name: sendmail asks without them, and nobody gets round a
/// rule by a parenthesis.
pub(super) fn odd_local_parts(rig: &Rig) -> Result<()> {
    let policy = r#"
[[rule]]
name = "strict"
recipient-outbound = ["clear.peer.example"]
soft-fail = { min-bits = 128 }
"#;
    let mut pair = Pair::start(rig, "outbound-odd-local-parts", &Choice { policy, ..Choice::default() })?;
    let needed = "encryption needed, STARTTLS with at least 128 bits, rule strict";
    for local in ["\"a(b\"", "a\\(b", "\"postmaster(\"", "\"a b\"", "\"a@b\""] {
        let address = format!("{local}@clear.peer.example");
        pair.sender.send(When::Now, &[&address])?;
    }
    let records = pair.records()?;
    let deferred = records.iter().filter(|record| record["disposition"] == "tempfail").count();
    if deferred != 5 || records.len() != 5 {
        return Err(pair.told(&format!("five were to be deferred with {needed:?}: {records:?}")));
    }
    Ok(())
}

/// A recipient who is refused comes back alone. sendmail has our text in the bounce's transcript, and nowhere else in it: it
/// takes what tls_rcpt refuses for a "Data format error".
pub(super) fn enforced(rig: &Rig) -> Result<()> {
    let policy = r#"
[[rule]]
name = "strict"
recipient-outbound = ["bob.outbound-recipient-enforced@aes128.peer.example", "clear.peer.example"]
enforce = { min-bits = 256 }
"#;
    let choice = Choice { policy, ..Choice::default() };
    let mut pair = Pair::start(rig, "outbound-recipient-enforced", &choice)?;
    let (weak, free, clear) = (pair.at("bob", "aes128"), pair.at("carl", "aes128"), pair.at("bob", "clear"));
    pair.sender.send(When::Now, &[&weak, &free, &clear])?;
    pair.taken(&[(&weak, 0), (&free, 1), (&clear, 0)])?;
    pair.queued(&[])?;
    let too_weak = "554 5.7.0 encryption too weak 128 less than 256, rule strict";
    let needed = "encryption needed, STARTTLS with at least 256 bits, rule strict";
    pair.bounced(&[
        &weak,
        too_weak,
        &format!("550 5.7.10 {clear}... {needed}"),
        "501 5.6.0 Data format error",
    ])?;
    pair.logged(&["ruleset=tls_rcpt", &format!("arg1={weak}"), &format!("reject={too_weak}")])?;
    let dispositions: Vec<(String, String)> = pair
        .records()?
        .iter()
        .map(|record| (record["recipient"].to_string(), record["disposition"].to_string()))
        .collect();
    for (recipient, disposition) in [(&weak, "reject"), (&free, "accept"), (&clear, "reject")] {
        if !dispositions.contains(&(format!("\"{recipient}\""), format!("\"{disposition}\""))) {
            return Err(pair.told(&format!("{recipient}: no record of {disposition}")));
        }
    }
    Ok(())
}

/// What sendmail does with a 4xx of tls_rcpt after a permanent failure of the same message, whatever that was: it bounces
/// that recipient too, its own TLS_Rcpt rules no less than ours. If this fails one day, sendmail has been mended.
pub(super) fn after_a_bounce(rig: &Rig) -> Result<()> {
    let tag = "outbound-recipient-after-bounce";
    let policy = r#"
[[rule]]
name = "strict"
recipient-outbound = ["aes256.peer.example"]
soft-fail = { min-version = "TLSv1.3" }
"#;
    let access = ["TLS_Rcpt:aes256-13.peer.example TEMP+ENCR:257"];
    let pair = Pair::start(rig, tag, &Choice { policy, access: &access, ..Choice::default() })?;
    let unknown = "unknown@aes128.peer.example";
    for (peer, says) in
        [("aes256", "454 4.7.0 "), ("aes256-13", "403 4.7.0 encryption too weak 256 less than 257")]
    {
        let to = pair.at("bob", peer);
        pair.sender.send(When::Now, &[&to])?;
        let queue = pair.sender.queue()?;
        let waits =
            queue.iter().filter(|message| message.recipients.iter().any(|one| one.address == to)).count();
        if waits != 1 {
            return Err(pair.told(&format!("{to} alone was to wait")));
        }
        let returned = pair.sender.returned()?.len();
        pair.sender.send(When::Now, &[unknown, &to])?;
        let now = pair.sender.returned()?;
        let bounce = now.get(returned).cloned().unwrap_or_default();
        let transcript = bounce.contains("550 5.1.1") && bounce.contains(says);
        if now.len() != returned + 1 || !transcript || !bounce.contains(&format!("RFC822; {to}")) {
            return Err(pair.told(&format!("a bounce for {to} beside {unknown}:\n{bounce}")));
        }
    }
    Ok(())
}

/// `TLS_Srv:` lines are looked at after us, and refuse what our policy lets pass; ours refuse what they let pass.
pub(super) fn access_map_beside(rig: &Rig) -> Result<()> {
    let policy = r#"
[[rule]]
name = "ours"
server = ["aes128.peer.example"]
soft-fail = { min-bits = 256 }
"#;
    let access = ["TLS_Srv:aes128-13.peer.example PERM+ENCR:256", "TLS_Srv:aes128.peer.example OK"];
    let choice = Choice { policy, access: &access, ..Choice::default() };
    let mut pair = Pair::start(rig, "outbound-access-map-beside", &choice)?;
    let (theirs, ours, free) =
        (pair.at("bob", "aes128-13"), pair.at("bob", "aes128"), pair.at("bob", "aes256"));
    for to in [&theirs, &ours, &free] {
        pair.sender.send(When::Now, &[to])?;
    }
    pair.taken(&[(&theirs, 0), (&ours, 0), (&free, 1)])?;
    pair.queued(&[("Deferred: 454 4.7.0 encryption too weak 128 less than 256, rule ours", &[&ours])])?;
    pair.bounced(&["503 5.7.0 encryption too weak 128 less than 256", &theirs])?;
    pair.recorded(
        r#"
{ server_name = "aes128-13.peer.example", verdict = "no-rule", disposition = "accept" },
{ server_name = "aes128.peer.example", verdict = "fail", disposition = "tempfail" },
{ server_name = "aes256.peer.example", verdict = "no-rule", disposition = "accept" },
"#,
    )
}
