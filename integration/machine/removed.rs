//! Removed, purged, and installed again: what stays, what goes, and mail all the while.

use super::attached::{attach, block, decision};
use super::ensure;
use super::host::Machine;
use super::installed::install;
use super::load::one_message;
use crate::rig::{Result, Rig, wait};

const REMOVE: &str = "### Upgrade and remove";

pub(crate) fn removed(_: &Rig) -> Result<()> {
    let machine = Machine::boot("machine-removed")?;
    install(&machine)?;
    attach(&machine)?;
    one_message(&machine, 2, "before@partner.example")?;
    decision(&machine, "before@partner.example")?;

    let said = machine.must("apt-get remove --yes encr-milter")?;
    ensure(said.contains("/etc/mail/sendmail.cf still asks for it"), || said.clone())?;
    // What is to be typed is what the guide has, which is typed below.
    let guide = block(REMOVE)?;
    let lines: Vec<&str> = guide.lines().filter(|line| !line.starts_with("apt ")).collect();
    ensure(lines.len() == 2 && lines.iter().all(|line| said.contains(line)), || {
        format!("{lines:?}\n{said}")
    })?;
    machine.must("test -e /etc/encr-milter/policy.toml && test -e /var/log/encr-milter/decisions.jsonl")?;
    machine.must("test ! -e /usr/bin/encr-milter && ! pgrep encr-milter")?;
    one_message(&machine, 2, "removed@partner.example")?;

    // Installed again it is as it was.
    machine.must("echo '# ours' >>/etc/encr-milter/policy.toml")?;
    install(&machine)?;
    machine.must("grep -q '^# ours' /etc/encr-milter/policy.toml")?;
    one_message(&machine, 2, "again@partner.example")?;
    decision(&machine, "again@partner.example")?;

    let said = machine.must("apt-get purge --yes encr-milter")?;
    ensure(
        said.contains("deleting /var/lib/encr-milter") && said.contains("deleting /var/log/encr-milter"),
        || said.clone(),
    )?;
    let left = machine
        .line("find / -xdev -path /proc -prune -o -name '*encr-milter*' -not -path '/root/*' -print")?;
    ensure(left.is_empty(), || format!("left: {left}"))?;
    // But for its number, which must not become somebody else's; nobody can log in by it.
    machine.must("getent passwd encr-milter | grep -q nologin")?;
    one_message(&machine, 2, "purged@partner.example")?;
    machine.must("systemctl restart sendmail")?;
    machine.until("sendmail to listen", "grep -q ':0019 .* 0A ' /proc/net/tcp")?;
    one_message(&machine, 2, "purged-restarted@partner.example")?;

    install(&machine)?;
    one_message(&machine, 2, "anew@partner.example")?;
    decision(&machine, "anew@partner.example")?;
    by_the_guide(&machine)
}

/// Types what the guide has for it, where sendmail defers what the daemon does not answer.
fn by_the_guide(machine: &Machine) -> Result<()> {
    machine.must(&block("### Once rules defer or refuse")?)?;
    machine.must("grep -q '^Xencr-milter.*F=T' /etc/mail/sendmail.cf")?;
    machine.until("sendmail to be asked again", "test -S /run/encr-milter/milter.sock")?;
    wait::until("the milter to be asked", || one_message(machine, 2, "held@partner.example").ok())?;
    decision(machine, "held@partner.example")?;
    // Whoever types it answers apt's question with yes.
    machine.must("echo 'APT::Get::Assume-Yes \"true\";' >/etc/apt/apt.conf.d/99yes")?;
    let said = machine.must(&block(REMOVE)?)?;
    ensure(!said.contains("still asks for it"), || said.clone())?;
    let left = machine.sh("grep -l encr-milter /etc/mail/sendmail.mc /etc/mail/sendmail.cf")?;
    ensure(left.text.trim().is_empty(), || format!("left: {}", left.text))?;
    machine.must("test ! -e /usr/bin/encr-milter && ! pgrep encr-milter")?;
    wait::until("sendmail to have read its configuration", || {
        one_message(machine, 2, "without-the-milter@partner.example").ok()
    })
}
