//! `max-delay`, with the real MTAs: a client whose message is deferred tries again, the daemon is restarted
//! meanwhile, and in the end the message is taken.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::rig::daemon::Daemon;
use crate::rig::mta::{Kind, Mta};
use crate::rig::sendmail::Options;
use crate::rig::{Result, Rig, wait};

const POLICY: &str = r#"
version = 1
[exempt]
networks = []
[[rule]]
name = "partner"
client = ["partner.example"]
soft-fail = { min-bits = 128, max-delay = "3s" }
"#;

pub(crate) fn max_delay(rig: &Rig) -> Result<()> {
    deferred_for_a_while(rig, "max-delay", Kind::Sendmail)
}

pub(crate) fn with_postfix(rig: &Rig) -> Result<()> {
    deferred_for_a_while(rig, "postfix-max-delay", Kind::Postfix)
}

fn deferred_for_a_while(rig: &Rig, tag: &str, kind: Kind) -> Result<()> {
    let folder = tempfile::Builder::new().prefix(tag).tempdir().map_err(|e| format!("a folder: {e}"))?;
    let mut daemon = Daemon::lay_out(&rig.daemon, folder.path(), &kind.settings(folder.path())?)?;
    fs::write(folder.path().join("policy.toml"), POLICY).map_err(|e| format!("policy.toml: {e}"))?;
    daemon.start()?;
    let options =
        Options { attach: daemon.listen().to_vec(), flags: Some("T".to_owned()), ..Options::default() };
    let mta = kind.start(rig, folder.path(), tag, &options, &[])?;

    if attempt(&mta)? != 454 {
        return Err("the first attempt was not deferred".to_owned());
    }
    daemon.signal(Signal::SIGTERM)?;
    daemon.wait()?;
    daemon.start()?;
    let mut codes = Vec::new();
    wait::until("the message to be taken", || {
        codes.push(attempt(&mta));
        (codes.last() == Some(&Ok(250))).then_some(())
    })
    .map_err(|fault| format!("{fault}: {codes:?}"))?;
    let before = codes.len() - 1;
    if codes.iter().take(before).any(|code| *code != Ok(454)) {
        return Err(format!("before it was taken: {codes:?}"));
    }
    let records = wait::until("all records", || {
        daemon.decisions().ok().filter(|records| records.len() == codes.len() + 1)
    })?;
    let told = |record: &Value| (record["disposition"] == "accept", record["waited"].as_u64() >= Some(3));
    let accepted: Vec<_> = records.iter().map(told).collect();
    match accepted.split_last() {
        Some(((true, true), others)) if others.iter().all(|told| *told == (false, false)) => Ok(()),
        _ => Err(format!("{records:#?}")),
    }
}

/// Sends one message in the clear; gives the code of the reply to RCPT, or to the message where that was taken.
fn attempt(mta: &Mta) -> Result<u16> {
    let mut client = mta.connect_from([127, 0, 0, 2].into())?;
    client.reply()?;
    client.say("EHLO mx.partner.example")?;
    client.say("MAIL FROM:<anna@partner.example>")?;
    let mut reply = client.say("RCPT TO:<bob@rig.example>")?;
    if reply.code == 250 {
        client.say("DATA")?;
        reply = client.say("Subject: at last\r\n\r\nat last\r\n.")?;
    }
    client.say("QUIT")?;
    Ok(reply.code)
}
