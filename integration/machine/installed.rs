//! The package on a bare system: what it puts where, whose it is, and what it may do.

use super::ensure;
use super::host::Machine;
use super::package::built;
use crate::rig::{Result, Rig};

/// The figure that the guide names.
const GUIDE: &str = include_str!("../../docs/guide.md");

pub(crate) fn installed(_: &Rig) -> Result<()> {
    let machine = Machine::boot("machine-installed")?;
    install(&machine)?;
    let is = |script: &str, expected: &str| {
        let found = machine.line(script)?;
        ensure(found == expected, || format!("{script}: expected\n{expected}\nfound\n{found}"))
    };
    // Its user: a number of the system's, no way to log in, no home.
    is("getent passwd encr-milter | cut -d: -f6-", "/nonexistent:/usr/sbin/nologin")?;
    is("test $(id -u encr-milter) -lt 1000 && id -gn encr-milter", "encr-milter")?;
    is("passwd --status encr-milter | cut -d' ' -f2", "L")?;
    // What is whose.
    let modes = [
        ("/etc/encr-milter", "755 root root"),
        ("/etc/encr-milter/encr-milter.toml", "644 root root"),
        ("/etc/encr-milter/policy.toml", "644 root root"),
        ("/run/encr-milter", "755 encr-milter encr-milter"),
        ("/run/encr-milter/milter.sock", "660 encr-milter encr-milter"),
        ("/var/lib/encr-milter", "750 encr-milter encr-milter"),
        ("/var/log/encr-milter", "750 encr-milter encr-milter"),
        ("/usr/bin/encr-milter", "755 root root"),
    ];
    for (path, expected) in modes {
        is(&format!("stat --format '%a %U %G' {path}"), expected)?;
    }
    is(
        "dpkg-query --show --showformat '${Conffiles}' encr-milter | sed 's/^ //; s/ .*//' | grep -c toml",
        "2",
    )?;
    // What it may: nothing that an ordinary process may not, and less.
    let process = "/proc/$(systemctl show --property MainPID --value encr-milter)/status";
    is(&format!("awk '/^Cap(Prm|Eff|Bnd|Amb)/ {{ print $2 }}' {process} | sort -u"), "0000000000000000")?;
    is(&format!("awk '/^NoNewPrivs/ {{ print $2 }}' {process}"), "1")?;
    is(&format!("awk '/^Uid/ {{ print $2 }}' {process}"), &machine.line("id -u encr-milter")?)?;
    // Who counts steps back behind those who answer: the unit lets it.
    is(
        "for task in /proc/$(systemctl show --property MainPID --value encr-milter)/task/*; do \
         if grep -q '^evidence' $task/comm; then cut -d ' ' -f 19 $task/stat; fi; done",
        "10",
    )?;
    is("systemctl is-enabled encr-milter.service encr-milter.socket", "enabled\nenabled")?;
    exposure(&machine)?;
    // What it says.
    machine
        .until("the journal to have its start", "journalctl -u encr-milter | grep -q 'policy in force'")?;
    is("encr-milter check -c /etc/encr-milter/encr-milter.toml | grep -c sound", "1")?;
    is("zcat /usr/share/man/man5/encr-milter-policy.5.gz | grep -c '^.Dt ENCR-MILTER-POLICY 5'", "1")?;
    is(
        "logrotate --debug /etc/logrotate.d/encr-milter 2>&1 | grep -c 'considering log /var/log/encr-milter/decisions.jsonl'",
        "1",
    )?;
    // It comes again with the machine.
    is("systemctl show --property WantedBy --value encr-milter.service", "multi-user.target")
}

/// Installs the package as the guide says, and waits until it runs.
pub(crate) fn install(machine: &Machine) -> Result<String> {
    machine.bring(&built()?)?;
    let said = machine.must("apt-get install --yes ./encr-milter_*.deb")?;
    is_running(machine).map_err(|fault| format!("{fault}\n{said}"))?;
    Ok(said)
}

/// It runs, and whoever connects finds it.
pub(crate) fn is_running(machine: &Machine) -> Result<()> {
    machine.until(
        "the daemon to run",
        "systemctl is-active encr-milter.service && test -S /run/encr-milter/milter.sock",
    )
}

/// `systemd-analyze security` says no more than the guide tells.
fn exposure(machine: &Machine) -> Result<()> {
    let said = machine.must("systemd-analyze security --no-pager encr-milter.service")?;
    let figure = |text: &str, before: &str| {
        let (_, rest) = text.split_once(before)?;
        rest.split_whitespace().next()?.trim_end_matches([',', '.', ')']).parse::<f64>().ok()
    };
    let found = figure(&said, "for encr-milter.service:").ok_or_else(|| format!("no figure: {said}"))?;
    let told = figure(GUIDE, "`systemd-analyze security` says").ok_or("the guide names no figure")?;
    ensure(found <= told, || format!("the guide says {told}, it is {found}:\n{said}"))
}
