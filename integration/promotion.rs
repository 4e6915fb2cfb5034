//! A rule ripens: what sm-mta's clients negotiate becomes evidence, the evidence opens the gate, and the next message
//! is judged by the promoted rule. Then a weak client comes, and nothing is promoted over it.

use std::fs;
use std::process::Command;

use crate::rig::daemon::Daemon;
use crate::rig::sendmail::{Options, Sendmail};
use crate::rig::smtp::Tls;
use crate::rig::{Result, Rig, tool, wait};

const TAG: &str = "promotion";
const STRONG: &str = "ECDHE-RSA-AES256-GCM-SHA384";
const WEAK: &str = "ECDHE-RSA-AES128-GCM-SHA256";
/// The gate asks for so many messages.
const MESSAGES: usize = 3;

const POLICY: &str = "
version = 1
[exempt]
networks = []
[gate]
min-days = 1
min-messages = 3
[[rule]]
name = \"partner\"                      # contract 2026-114
client = [\"partner.example\"]
observe   = { min-bits = 256 }        # the next step
";

pub(crate) fn promotion(rig: &Rig) -> Result<()> {
    let folder = tempfile::Builder::new().prefix(TAG).tempdir().map_err(|e| format!("a folder: {e}"))?;
    let mut daemon = Daemon::lay_out(&rig.daemon, folder.path(), &toml::Table::new())?;
    let policy = folder.path().join("policy.toml");
    fs::write(&policy, POLICY).map_err(|e| format!("policy.toml: {e}"))?;
    daemon.start()?;
    let options =
        Options { attach: daemon.listen().to_vec(), flags: Some("T".to_owned()), ..Options::default() };
    let sendmail = Sendmail::start(rig, folder.path(), TAG, &options)?;
    // What is answered to the recipient of a message over TLS with this cipher.
    let message = |cipher: &str| -> Result<String> {
        let mut client = sendmail.connect_from([127, 0, 0, 2].into())?;
        client.reply()?;
        client.say("EHLO mx.partner.example")?;
        client.say("STARTTLS")?;
        let tls = Tls { version: Some("1.2".to_owned()), cipher: Some(cipher.to_owned()), ..Tls::default() };
        client.handshake(&tls, &rig.certs)?;
        client.say("EHLO mx.partner.example")?;
        client.say("MAIL FROM:<anna@partner.example>")?;
        let reply = client.say("RCPT TO:<bob@rig.example>")?.text();
        client.say("QUIT")?;
        Ok(reply)
    };
    let command = |arguments: &[&str], codes: &[i32]| -> Result<String> {
        let mut command = Command::new(&rig.daemon);
        command.args(arguments).arg("-c").arg(folder.path().join("encr-milter.toml"));
        let output = tool::run_allowing(&mut command, "", codes)?;
        Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    };
    let expect = |what: &str, said: &str, wanted: &str| {
        if said.contains(wanted) { Ok(()) } else { Err(format!("{what}: no {wanted:?} in {said}")) }
    };

    for _ in 0..MESSAGES {
        expect("a strong message", &message(STRONG)?, "250 ")?;
    }
    wait::until("the rule to be ripe", || {
        command(&["promote", "--check"], &[]).ok().filter(|said| said.contains("is ripe for soft-fail"))
    })?;
    let promoted = command(&["promote", "partner", "--to", "enforce"], &[])?;
    expect("promote", &promoted, "rule partner: enforce added min-bits 256")?;
    let refused = wait::until("the rule to be enforced", || {
        message(WEAK).ok().filter(|reply| !reply.starts_with("250"))
    })?;
    expect("a weak message", &refused, "554 5.7.0")?;
    expect("a strong message", &message(STRONG)?, "250 ")?;
    let expected = POLICY.replace("observe   =", "enforce   =");
    expect("the policy", &fs::read_to_string(&policy).map_err(|e| e.to_string())?, &expected)?;

    command(&["demote", "partner", "--to", "observe"], &[])?;
    wait::until("the rule to be observed", || message(WEAK).ok().filter(|reply| reply.starts_with("250")))?;
    wait::until("the failure to be evidence", || {
        let said = command(&["promote", "--check", "--all"], &[]).ok()?;
        said.contains("encryption too weak 128 less than 256").then_some(())
    })?;
    let shut = command(&["promote", "partner", "--to", "enforce"], &[1])?;
    expect("promote", &shut, "rule `partner` is not made enforce: nothing is written")?;
    expect("the policy", &fs::read_to_string(&policy).map_err(|e| e.to_string())?, POLICY)
}
