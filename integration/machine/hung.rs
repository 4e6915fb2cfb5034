//! A daemon that hangs: systemd hears no sign of life, kills it and starts it anew. Nobody's mail is lost by it, and who came
//! meanwhile is judged.

use std::thread;

use super::attached::{attach, decision};
use super::ensure;
use super::host::Machine;
use super::installed::{install, is_running};
use super::load::one_message;
use crate::rig::smtp::Client;
use crate::rig::{Result, Rig};

const PID: &str = "systemctl show --property MainPID --value encr-milter";
const RESTARTS: &str = "systemctl show --property NRestarts --value encr-milter";
const DROP_IN: &str = "/etc/systemd/system/encr-milter.service.d/soon.conf";

pub(crate) fn hung(_: &Rig) -> Result<()> {
    let machine = Machine::boot("machine-hung")?;
    install(&machine)?;
    attach(&machine)?;
    let shipped = machine.line("systemctl show --property WatchdogUSec --value encr-milter")?;
    ensure(shipped == "30s", || format!("the unit's watchdog: {shipped}"))?;
    // The same, sooner. And a rule by which one sees who was judged.
    machine.must(&format!(
        "mkdir -p $(dirname {DROP_IN}); printf '[Service]\\nWatchdogSec=6s\\n' >{DROP_IN}; \
         sed -i 's/^observe = .*/soft-fail = {{ require = \"modern\" }}/' /etc/encr-milter/policy.toml; \
         systemctl daemon-reload; systemctl restart encr-milter"
    ))?;
    is_running(&machine)?;
    is_deferred(one_message(&machine, 2, "before@partner.example"))?;
    let before = machine.line(PID)?;
    ensure(machine.line(RESTARTS)? == "0", || "it was started anew without a reason".to_owned())?;

    // One is in the middle of a message when the daemon stops to answer, another comes while it hangs.
    let mut open = begun(&machine)?;
    machine.must("systemctl kill --signal STOP encr-milter")?;
    let (recipient, came) = thread::scope(|scope| {
        let came = scope.spawn(|| one_message(&machine, 2, "meanwhile@partner.example"));
        let recipient = open.say("RCPT TO:<root@mail.rig.example>");
        (recipient, came.join())
    });
    // Its milter is gone: by the sample's line mail then passes as if there were none.
    let recipient = recipient?;
    ensure(recipient.code == 250, || format!("the message under way: {}", recipient.text()))?;
    open.say("QUIT")?;
    // It waited at the socket, which is systemd's, and the next daemon has judged it.
    is_deferred(came.map_err(|_| "a client has panicked")?)?;
    decision(&machine, "meanwhile@partner.example")?;

    let after = machine.line(PID)?;
    ensure(after != before, || format!("still process {before}"))?;
    ensure(machine.line(RESTARTS)? == "1", || "it was started anew more than once".to_owned())?;
    machine.until("the journal to tell of it", "journalctl -u encr-milter | grep -q 'Watchdog timeout'")?;
    machine.must("journalctl -u encr-milter | grep -q \"Failed with result 'watchdog'\"")?;
    is_running(&machine)?;
    is_deferred(one_message(&machine, 2, "after@partner.example"))?;
    decision(&machine, "after@partner.example").map(drop)
}

/// A session with a sender, and no recipient yet.
fn begun(machine: &Machine) -> Result<Client> {
    let mut client = machine.connect_from(2)?;
    client.reply()?;
    for line in ["EHLO mx.partner.example", "MAIL FROM:<under-way@partner.example>"] {
        let reply = client.say(line)?;
        ensure(reply.code == 250, || format!("{line}: {}", reply.text()))?;
    }
    Ok(client)
}

/// The rule has judged it.
fn is_deferred(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(fault) if fault.contains("454") => Ok(()),
        other => Err(format!("not deferred: {other:?}")),
    }
}
