//! sendmail attached by the guide's very lines: mail is decided and written down, over a reload and a crash.

use serde_json::Value;

use super::ensure;
use super::host::Machine;
use super::installed::{install, is_running};
use super::load::one_message;
use crate::rig::smtp::Tls;
use crate::rig::{Result, Rig, wait};

const GUIDE: &str = include_str!("../../docs/guide.md");
const DECISIONS: &str = "/var/log/encr-milter/decisions.jsonl";

pub(crate) fn attached(rig: &Rig) -> Result<()> {
    let machine = Machine::boot("machine-attached")?;
    install(&machine)?;
    attach(&machine)?;

    // One message in the clear, one with TLS.
    one_message(&machine, 2, "clear@partner.example")?;
    let mut client = machine.connect_from(4)?;
    client.reply()?;
    client.say("EHLO mx.other.example")?;
    let wish = Tls { version: Some("1.3".to_owned()), ..Tls::default() };
    client.say("STARTTLS")?;
    client.handshake(&wish, &rig.certs)?;
    for line in ["EHLO mx.other.example", "MAIL FROM:<tls@other.example>", "RCPT TO:<root@mail.rig.example>"]
    {
        let reply = client.say(line)?;
        ensure(reply.code == 250, || format!("{line}: {}", reply.text()))?;
    }
    client.say("QUIT")?;
    let clear = decision(&machine, "clear@partner.example")?;
    let tls = decision(&machine, "tls@other.example")?;
    let known = |record: &Value, name: &str, verdict: &str| {
        is(record, "client_name", name)
            && is(record, "client_resolve", "OK")
            && is(record, "verdict", verdict)
    };
    ensure(
        known(&clear, "mx.partner.example", "fail")
            && is(&clear, "cipher_bits", 0)
            && is(&clear, "disposition", "accept")
            && known(&tls, "mx.other.example", "pass")
            && is(&tls, "tls_version", "TLSv1.3"),
        || format!("{clear}\n{tls}"),
    )?;
    // The evidence tells of both, some seconds later.
    machine.until("the report", "encr-milter report --json | grep -q '\"decisions\": 2'")?;

    // Nothing is left to mend. (The sample's line lets mail pass without the daemon: right while rules observe.)
    let doctor = machine.sh("encr-milter doctor")?;
    ensure(!doctor.text.contains("  problem "), || doctor.text)?;

    reload(&machine)?;
    crash(&machine)?;

    machine.must("cat sample.toml >/etc/encr-milter/policy.toml; systemctl reload encr-milter")?;

    // logrotate moves the decisions away, and the daemon begins a new file.
    machine.must("logrotate --force /etc/logrotate.d/encr-milter")?;
    machine.until("the new file", &format!("test -e {DECISIONS}.1 && test -e {DECISIONS}"))?;
    wait::until("a decision in the new file", || {
        one_message(&machine, 2, "rotated@partner.example").ok()?;
        decision(&machine, "rotated@partner.example").ok()
    })?;
    machine.must(&format!("! grep -q rotated@ {DECISIONS}.1"))?;

    // Without the daemon the sample's line lets mail pass; with it again, it is judged again.
    machine.must("systemctl stop encr-milter.socket encr-milter.service")?;
    one_message(&machine, 2, "without@partner.example")?;
    machine.must("systemctl start encr-milter.socket encr-milter.service")?;
    is_running(&machine)?;
    one_message(&machine, 2, "again@partner.example")?;
    decision(&machine, "again@partner.example").map(drop)
}

/// Types what the guide says, up to a sendmail that hosts of its network can reach.
pub(crate) fn attach(machine: &Machine) -> Result<()> {
    for heading in ["### STARTTLS and the network", "### Attach sendmail"] {
        machine.must(&block(heading)?)?;
    }
    machine.must("grep -q '^Xencr-milter' /etc/mail/sendmail.cf")?;
    wait::until("sendmail to offer STARTTLS to the network", || {
        let mut client = machine.connect_from(2).ok()?;
        client.reply().ok()?;
        let reply = client.say("EHLO mx.partner.example").ok()?;
        client.say("QUIT").ok()?;
        reply.lines.iter().any(|line| line == "STARTTLS").then_some(())
    })
}

/// The commands below a heading of the guide.
pub(crate) fn block(heading: &str) -> Result<String> {
    let (_, rest) =
        GUIDE.split_once(&format!("{heading}\n")).ok_or_else(|| format!("the guide has no {heading:?}"))?;
    let chapter = rest.split("\n#").next().unwrap_or_default();
    let commands: Vec<&str> = chapter.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    ensure(!commands.is_empty(), || format!("no commands below {heading:?}"))?;
    Ok(commands.join("\n"))
}

/// What was decided of the one message of this sender, once it is written.
pub(crate) fn decision(machine: &Machine, sender: &str) -> Result<Value> {
    let find = format!("grep -F '\"sender\":\"{sender}\"' {DECISIONS}");
    machine.until(&format!("the decision on {sender}"), &find)?;
    let line = machine.line(&find)?;
    serde_json::from_str(&line).map_err(|e| format!("{line}: {e}"))
}

/// A good policy is taken, and a broken one is not.
fn reload(machine: &Machine) -> Result<()> {
    let policy = "/etc/encr-milter/policy.toml";
    machine.must(&format!("cp {policy} sample.toml"))?;
    machine.must(&format!("sed -i 's/^observe = .*/soft-fail = {{ require = \"modern\" }}/' {policy}"))?;
    // When it comes back the policy is in force.
    machine.must("systemctl reload encr-milter")?;
    let refused = one_message(machine, 2, "deferred@partner.example");
    ensure(refused.as_ref().is_err_and(|fault| fault.contains("454")), || format!("deferred: {refused:?}"))?;

    machine.must(&format!("cp {policy} good.toml; sed -i 's/^min-bits = .*/min-bites = 128/' {policy}"))?;
    let said = machine.sh("systemctl reload encr-milter")?;
    ensure(said.code != 0, || format!("a broken policy was reloaded: {}", said.text))?;
    machine.until(
        "the refusal of a broken policy",
        "journalctl -u encr-milter | grep -q 'did you mean `min-bits`'",
    )?;
    let refused = one_message(machine, 2, "still-deferred@partner.example");
    ensure(refused.as_ref().is_err_and(|fault| fault.contains("454")), || format!("deferred: {refused:?}"))?;
    machine.must(&format!("cat good.toml >{policy}; systemctl reload encr-milter")).map(drop)
}

/// Killed, it comes again, and mail is judged.
fn crash(machine: &Machine) -> Result<()> {
    let pid = "systemctl show --property MainPID --value encr-milter";
    let before = machine.line(pid)?;
    machine.must("systemctl kill --signal KILL encr-milter")?;
    machine.until("another process", &format!("p=$({pid}); test $p -gt 0 && test $p != {before}"))?;
    is_running(machine)?;
    let refused = one_message(machine, 2, "after-a-crash@partner.example");
    ensure(refused.as_ref().is_err_and(|fault| fault.contains("454")), || format!("deferred: {refused:?}"))?;
    decision(machine, "after-a-crash@partner.example").map(drop)
}

fn is(record: &Value, field: &str, value: impl Into<Value>) -> bool {
    record.get(field) == Some(&value.into())
}
