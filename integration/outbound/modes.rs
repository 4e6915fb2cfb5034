//! The three modes, live: delivered and recorded, queued with our reason, bounced with our reason.

use super::{Choice, Pair};
use crate::rig::sender::{SENDER, When};
use crate::rig::{Result, Rig, wait};

/// Every peer that can be had, and what the record says of it.
pub(super) fn observe(rig: &Rig) -> Result<()> {
    let policy = r#"
[[rule]]
name = "everyone"
server = ["*"]
observe = { min-bits = 256 }
"#;
    let mut pair = Pair::start(rig, "outbound-observe", &Choice { policy, ..Choice::default() })?;
    let peers = ["clear", "null", "aes128", "aes256", "aes128-13", "aes256-13", "six"];
    for peer in peers {
        let to = pair.at("bob", peer);
        pair.sender.send(When::Now, &[&to])?;
        pair.taken(&[(&to, 1)])?;
    }
    pair.queued(&[])?;
    pair.recorded(
        r#"
{ server_name = "clear.peer.example", server_addr = "127.0.0.41", cipher_bits = 0, verify = "NONE", verdict = "fail", mode = "observe", disposition = "accept", rule = "everyone", side = "server", key = "*", reason = "encryption too weak 0 less than 256", absent = ["tls_version", "cipher", "recipient", "reply", "sender"] },
{ server_name = "null.peer.example", cipher_bits = 0, cipher = "NULL-SHA256", tls_version = "TLSv1.2", verify = "OK", verdict = "fail", reason = "encryption too weak 0 less than 256" },
{ server_name = "aes128.peer.example", cipher_bits = 128, tls_version = "TLSv1.2", verdict = "fail", mode = "observe", disposition = "accept", reason = "encryption too weak 128 less than 256", failures = [{ mode = "observe" }] },
{ server_name = "aes256.peer.example", server_addr = "127.0.0.44", cipher_bits = 256, cipher = "ECDHE-RSA-AES256-GCM-SHA384", tls_version = "TLSv1.2", verdict = "pass", disposition = "accept", absent = ["reason", "failures"] },
{ server_name = "aes128-13.peer.example", cipher_bits = 128, tls_version = "TLSv1.3", verdict = "fail" },
{ server_name = "aes256-13.peer.example", cipher_bits = 256, tls_version = "TLSv1.3", verdict = "pass" },
{ server_name = "six.peer.example", server_addr = "fd00::44", cipher_bits = 256, verdict = "pass" },
"#,
    )
}

const SOFT: &str = r#"
[reply]
contact = "https://mail.rig.example/tls"
[[rule]]
name = "peers"
server = ["peer.example"]
soft-fail = { min-bits = 256 }
"#;
const NEEDED: &str =
    "encryption needed, STARTTLS with at least 256 bits, rule peers, see https://mail.rig.example/tls";
const WEAK: &str = "encryption too weak 128 less than 256, rule peers, see https://mail.rig.example/tls";

/// Mail waits, with our reason in the queue, mailq and the log.
pub(super) fn soft_fail(rig: &Rig) -> Result<()> {
    let mut pair = Pair::start(rig, "outbound-soft-fail", &Choice { policy: SOFT, ..Choice::default() })?;
    let (clear, also, weak, strong) = (
        pair.at("bob", "clear"),
        pair.at("carl", "clear"),
        pair.at("bob", "aes128"),
        pair.at("bob", "aes256"),
    );
    pair.sender.send(When::Now, &[&clear, &also])?;
    pair.sender.send(When::Now, &[&weak])?;
    pair.sender.send(When::Now, &[&strong])?;
    let (needed, too_weak) = (format!("Deferred: 454 4.7.0 {NEEDED}"), format!("Deferred: 454 4.7.0 {WEAK}"));
    let queue = pair.queued(&[(&needed, &[&clear, &also]), (&too_weak, &[&weak])])?;
    let mailq = pair.sender.mailq()?;
    if !mailq.contains("(Deferred: 454 4.7.0 encryption needed, STARTTLS") {
        return Err(format!("mailq: {mailq}"));
    }
    pair.taken(&[(&clear, 0), (&also, 0), (&weak, 0), (&strong, 1)])?;
    let id = queue.first().map(|message| message.id.clone()).unwrap_or_default();
    pair.logged(&[&id, "dsn=4.7.0", "stat=Deferred: 454 4.7.0 encryption"])?;
    pair.logged(&[
        "ruleset=tls_server, arg1=NONE, relay=clear.peer.example",
        &format!("reject=454 4.7.0 {NEEDED}"),
    ])?;
    if !pair.sender.returned()?.is_empty() {
        return Err(pair.told("something came back"));
    }
    pair.recorded(
        r#"
{ server_name = "clear.peer.example", verdict = "fail", mode = "soft-fail", disposition = "tempfail", reason = "encryption too weak 0 less than 256", reply = "454 4.7.0 encryption needed, STARTTLS with at least 256 bits, rule peers, see https://mail.rig.example/tls" },
{ server_name = "aes128.peer.example", verdict = "fail", mode = "soft-fail", disposition = "tempfail", reason = "encryption too weak 128 less than 256" },
{ server_name = "aes256.peer.example", verdict = "pass", disposition = "accept", absent = ["reply"] },
"#,
    )
}

/// Mail comes back, with our text.
pub(super) fn enforce(rig: &Rig) -> Result<()> {
    let policy = &SOFT.replace("soft-fail", "enforce");
    let mut pair = Pair::start(rig, "outbound-enforce", &Choice { policy, ..Choice::default() })?;
    let (clear, weak, strong) = (pair.at("bob", "clear"), pair.at("bob", "aes128"), pair.at("bob", "aes256"));
    pair.sender.send(When::Now, &[&clear, &weak, &strong])?;
    pair.queued(&[])?;
    pair.taken(&[(&clear, 0), (&weak, 0), (&strong, 1)])?;
    pair.bounced(&[
        &format!("To: {SENDER}"),
        "Status: 5.7.10",
        // sendmail puts the address before what is a 550.
        &format!("Diagnostic-Code: SMTP; 550 5.7.10 {clear}... {NEEDED}"),
        "Status: 5.7.0",
        &format!("Diagnostic-Code: SMTP; 554 5.7.0 {WEAK}"),
    ])?;
    pair.logged(&[
        "ruleset=tls_server, arg1=OK, relay=aes128.peer.example",
        &format!("reject=554 5.7.0 {WEAK}"),
    ])?;
    let mut records = pair.records()?;
    records.sort_by_key(|record| record["server_name"].to_string());
    let dispositions: Vec<&str> =
        records.iter().filter_map(|record| record["disposition"].as_str()).collect();
    if dispositions != ["reject", "accept", "reject"] {
        return Err(pair.told(&format!("aes128, aes256 and clear: {dispositions:?}")));
    }
    let replies: Vec<&str> = records.iter().filter_map(|record| record["reply"].as_str()).collect();
    if replies == [format!("554 5.7.0 {WEAK}"), format!("550 5.7.10 {NEEDED}")] {
        return Ok(());
    }
    Err(pair.told(&format!("{replies:?}")))
}

/// As much text as sendmail takes (some 246 bytes; the rest it cuts off) comes out as it went in, whatever is in it.
pub(super) fn long_reply(rig: &Rig) -> Result<()> {
    let contact = "postmaster [all of us; 100%], by mail to <postmaster@mail.rig.example>, or, where that is of no use: \
                   call the number that the directory has. $1 $@ $: we are here day and night";
    let policy = &SOFT.replace("https://mail.rig.example/tls", contact);
    let mut pair = Pair::start(rig, "outbound-long-reply", &Choice { policy, ..Choice::default() })?;
    let to = pair.at("bob", "clear");
    pair.sender.send(When::Now, &[&to])?;
    let records = pair.records()?;
    let reply = records.first().and_then(|record| record["reply"].as_str()).unwrap_or_default();
    if reply.len() < 240 || !reply.ends_with(contact) {
        return Err(pair.told("the reply was to be long, and whole"));
    }
    pair.queued(&[(&format!("Deferred: {reply}"), &[&to])]).map(drop)
}

/// The next queue run obeys the policy that is in force by then.
pub(super) fn policy_edit(rig: &Rig) -> Result<()> {
    let mut pair = Pair::start(rig, "outbound-policy-edit", &Choice { policy: SOFT, ..Choice::default() })?;
    let (to, other) = (pair.at("bob", "aes128"), pair.at("bob", "clear"));
    pair.sender.send(When::Now, &[&to])?;
    pair.sender.send(When::Now, &[&other])?;
    let still = [format!("Deferred: 454 4.7.0 {WEAK}"), format!("Deferred: 454 4.7.0 {NEEDED}")];
    pair.sender.run_queue()?;
    pair.queued(&[(&still[0], &[&to]), (&still[1], &[&other])])?;
    pair.edit(&SOFT.replace("256", "128"))?;
    pair.sender.run_queue()?;
    let needed = still[1].replace("256", "128");
    pair.queued(&[(&needed, &[&other])])?;
    pair.taken(&[(&to, 1), (&other, 0)])?;
    pair.edit(&SOFT.replace("soft-fail", "enforce"))?;
    pair.sender.run_queue()?;
    pair.queued(&[])?;
    pair.bounced(&[&format!("550 5.7.10 {other}... {NEEDED}")])?;
    let records = pair.records()?;
    let dispositions: Vec<&str> =
        records.iter().filter_map(|record| record["disposition"].as_str()).collect();
    let mut sorted = dispositions.clone();
    sorted.sort_unstable();
    // Twice each in the first two tries; then the one goes, and the other waits once more, and comes back.
    if sorted == ["accept", "reject", "tempfail", "tempfail", "tempfail", "tempfail", "tempfail"] {
        return Ok(());
    }
    Err(pair.told(&format!("{dispositions:?}")))
}

/// As a service: submission by SMTP, delivery in the background, and the queue runner of its own accord.
pub(super) fn background(rig: &Rig) -> Result<()> {
    let mut pair = Pair::start(rig, "outbound-background", &Choice { policy: SOFT, ..Choice::default() })?;
    pair.sender.listen()?;
    let to = pair.at("bob", "aes128");
    let mut client = pair.sender.connect()?;
    client.reply()?;
    let from = format!("MAIL FROM:<{SENDER}>");
    for line in [
        "EHLO mx.partner.example",
        &from,
        &format!("RCPT TO:<{to}>"),
        "DATA",
        "Subject: news\r\n\r\nAll is well.\r\n.",
    ] {
        let reply = client.say(line)?;
        if reply.code >= 400 {
            return Err(format!("{line}: {}", reply.text()));
        }
    }
    drop(client);
    pair.logged(&[&format!("to=<{to}>"), &format!("stat=Deferred: 454 4.7.0 {WEAK}")])?;
    pair.taken(&[(&to, 0)])?;
    pair.edit(&SOFT.replace("256", "128"))?;
    wait::until("the queue runner to deliver", || (pair.peers.taken(&to) == Ok(1)).then_some(()))
        .map_err(|fault| pair.told(&fault))?;
    wait::until("the queue to be empty", || {
        pair.sender.queue().is_ok_and(|all| all.is_empty()).then_some(())
    })?;
    let records = pair.records()?;
    let last = records.last().map(|record| record["disposition"].clone()).unwrap_or_default();
    let all_ours =
        records.iter().all(|record| record["direction"] == "outbound" || record["client_name"].is_string());
    if last == "accept" && all_ours {
        Ok(())
    } else {
        Err(pair.told("the last record was to be of a delivery"))
    }
}
