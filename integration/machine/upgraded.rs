//! A new version over a running one: under load, beside an administrator's changes, and with a configuration that it
//! does not take.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::attached::attach;
use super::host::Machine;
use super::installed::{install, is_running};
use super::load::{Load, one_message};
use super::{ensure, package};
use crate::rig::{Result, Rig};

const PID: &str = "systemctl show --property MainPID --value encr-milter";

pub(crate) fn upgraded(_: &Rig) -> Result<()> {
    let machine = Arc::new(Machine::boot("machine-upgraded")?);
    install(&machine)?;
    attach(&machine)?;
    // The administrator has changed one conffile; the new version brings others of both.
    machine.must("sed -i 's/^contact/#contact/; s/^name = \"everyone\"/name = \"all-of-them\"/' /etc/encr-milter/policy.toml")?;
    let folder = tempfile::tempdir().map_err(|e| format!("a folder: {e}"))?;
    let change =
        "echo '# new' >>etc/encr-milter/policy.toml; echo '# new' >>etc/encr-milter/encr-milter.toml";
    let next = package::next(&package::built()?, folder.path(), change)?;
    machine.bring(&next)?;
    let before = machine.line(PID)?;

    let load = Load::begin(&machine);
    load.wait_for(10)?;
    let said = machine.must(
        "DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-confold --install encr-milter-next.deb",
    )?;
    is_running(&machine)?;
    load.wait_for(10)?;
    let sessions = load.end()?;

    let failed: Vec<String> = sessions
        .iter()
        .filter_map(|session| {
            session.outcome.as_ref().err().map(|fault| format!("{}: {fault}", session.sender))
        })
        .collect();
    ensure(failed.is_empty(), || {
        format!("{} of {} sessions: {:#?}", failed.len(), sessions.len(), failed.iter().take(10))
    })?;
    let after = machine.line(PID)?;
    ensure(before != after, || format!("it was not started anew: {said}"))?;
    ensure(
        machine.line("dpkg-query --show --showformat '${Version}' encr-milter")?.contains("+next1"),
        || said.clone(),
    )?;
    // Whoever was greeted was judged. Lines are written by a thread of their own.
    let written = || -> Result<BTreeSet<String>> {
        let senders =
            "grep -o '\"sender\":\"load-[^\"]*\"' /var/log/encr-milter/decisions.jsonl | cut -d'\"' -f4";
        Ok(machine.must(senders)?.lines().map(str::to_owned).collect())
    };
    let mut missing = Vec::new();
    let complete = crate::rig::wait::until("all decisions", || {
        let written = written().ok()?;
        missing = sessions
            .iter()
            .map(|session| session.sender.clone())
            .filter(|sender| !written.contains(sender))
            .collect();
        missing.is_empty().then_some(())
    });
    complete.map_err(|fault| {
        format!("{fault}: {} of {} are missing: {missing:?}", missing.len(), sessions.len())
    })?;
    // dpkg's rule: what was changed stays, what was not is replaced.
    machine.must(
        "grep -q all-of-them /etc/encr-milter/policy.toml && test -e /etc/encr-milter/policy.toml.dpkg-dist",
    )?;
    machine.must("grep -q '^# new' /etc/encr-milter/encr-milter.toml")?;

    not_taken(&machine, folder.path())
}

/// The new version does not take the configuration: the old process goes on, and the reason is told.
fn not_taken(machine: &Machine, folder: &std::path::Path) -> Result<()> {
    machine.must("sed -i 's/^\\[log\\]/[log]\\nno-such-setting = 1/' /etc/encr-milter/encr-milter.toml")?;
    let before = machine.line(PID)?;
    let another = folder.join("another");
    std::fs::create_dir(&another).map_err(|e| format!("{}: {e}", another.display()))?;
    let next = package::next(&folder.join("encr-milter-next.deb"), &another, "true")?;
    machine.bring(&next)?;
    let said = machine.must(
        "DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-confold --install encr-milter-next.deb",
    )?;
    ensure(said.contains("no-such-setting") && said.contains("The old process goes on"), || said.clone())?;
    let after = machine.line(PID)?;
    ensure(before == after, || format!("it was {before}, and is {after}"))?;
    one_message(machine, 2, "not-taken@partner.example")?;
    super::attached::decision(machine, "not-taken@partner.example")?;
    // Mended, it is the new one that runs.
    machine.must(
        "sed -i '/^no-such-setting/d' /etc/encr-milter/encr-milter.toml; systemctl restart encr-milter",
    )?;
    is_running(machine)
}
