//! Real receivers of logs: rsyslogd and systemd-journald, run by hand; and logrotate.
//!
//! Promises: each takes what is sent when `start` comes back, and has written all of it when `stop` does.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{Result, unpacked, wait};

/// A service that runs until it is told to stop, or dropped.
struct Service(Child);

impl Service {
    fn start(command: &mut Command) -> Result<Service> {
        let name = command.get_program().display().to_string();
        let child = command.stdin(Stdio::null()).spawn();
        child.map(Service).map_err(|e| format!("{name}: {e}"))
    }

    fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.0.id()).map_err(|e| format!("a process id: {e}"))?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).map_err(|e| format!("stopping a service: {e}"))?;
        wait::until("a service to end", || self.0.try_wait().ok().flatten()).map(drop)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// rsyslogd, with a local socket, and UDP and TCP at one port.
pub(crate) struct Rsyslog {
    folder: PathBuf,
    port: u16,
    service: Option<Service>,
}

impl Rsyslog {
    pub(crate) fn new(folder: &Path, port: u16) -> Rsyslog {
        Rsyslog { folder: folder.to_owned(), port, service: None }
    }

    /// Its local socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("rsyslog.sock")
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        let root = unpacked("logging-root")?;
        let conf = self.folder.join("rsyslog.conf");
        let text = CONF
            .replace("{dir}", &self.folder.display().to_string())
            .replace("{port}", &self.port.to_string());
        fs::write(&conf, text).map_err(|e| format!("rsyslog.conf: {e}"))?;
        let mut command = Command::new(root.join("usr/sbin/rsyslogd"));
        command.arg("-n").arg("-f").arg(&conf).arg("-i").arg(self.folder.join("rsyslog.pid"));
        command.arg("-M").arg(root.join("usr/lib/x86_64-linux-gnu/rsyslog"));
        self.service = Some(Service::start(&mut command)?);
        let socket = self.socket();
        wait::until("rsyslogd to listen", || {
            let tcp = std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok();
            (tcp && UnixDatagram::unbound().is_ok_and(|probe| probe.connect(&socket).is_ok())).then_some(())
        })
    }

    pub(crate) fn stop(&mut self) -> Result<()> {
        self.service.take().map_or(Ok(()), Service::stop)
    }

    /// What came over a network: the message's parts, and its structured data as rsyslog has parsed it.
    pub(crate) fn remote(&self) -> Result<Vec<Value>> {
        parsed(&fs::read_to_string(self.folder.join("remote")).unwrap_or_default())
    }

    /// What came by the local socket: tag, severity, facility and text.
    pub(crate) fn local(&self) -> Result<Vec<Value>> {
        parsed(&fs::read_to_string(self.folder.join("local")).unwrap_or_default())
    }
}

/// One JSON object a line; a last line that is not whole is left out.
fn parsed(text: &str) -> Result<Vec<Value>> {
    let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
    let parse = |line: &str| serde_json::from_str(line).map_err(|e| format!("{e}: {line}"));
    whole.lines().map(parse).collect()
}

/// As in Debian: rsyslog's own bound on messages, its own parsers.
const CONF: &str = r#"
global(workDirectory="{dir}")
module(load="imuxsock" SysSock.Use="off")
module(load="imudp")
module(load="imtcp")
module(load="mmpstrucdata")
template(name="object" type="list") {
    constant(value="{\"tag\":\"") property(name="syslogtag" format="json")
    constant(value="\",\"severity\":\"") property(name="syslogseverity-text" format="json")
    constant(value="\",\"facility\":\"") property(name="syslogfacility-text" format="json")
    constant(value="\",\"kind\":\"") property(name="msgid" format="json")
    constant(value="\",\"host\":\"") property(name="hostname" format="json")
    constant(value="\",\"text\":\"") property(name="msg" format="json")
    constant(value="\",\"data\":") property(name="$!all-json") constant(value="}\n")
}
ruleset(name="remote") {
    action(type="mmpstrucdata" sd_name.lowercase="off")
    action(type="omfile" file="{dir}/remote" template="object")
}
ruleset(name="local") { action(type="omfile" file="{dir}/local" template="object") }
input(type="imuxsock" Socket="{dir}/rsyslog.sock" Ruleset="local")
input(type="imudp" port="{port}" address="127.0.0.1" ruleset="remote")
input(type="imtcp" port="{port}" address="127.0.0.1" ruleset="remote")
"#;

/// systemd-journald, at its own place: the rig has a /run and an /etc of its own.
#[derive(Default)]
pub(crate) struct Journal(Option<Service>);

impl Journal {
    pub(crate) fn start(&mut self) -> Result<()> {
        let failed = |e: std::io::Error| format!("the journal's folders: {e}");
        for folder in ["/run/systemd/journal", "/run/log/journal", "/etc/systemd/journald.conf.d"] {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        fs::write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n").map_err(failed)?;
        fs::write("/etc/systemd/journald.conf.d/rig.conf", JOURNALD).map_err(failed)?;
        self.0 = Some(Service::start(Command::new("/lib/systemd/systemd-journald").stderr(Stdio::null()))?);
        wait::until("the journal to listen", || {
            let probe = UnixDatagram::unbound().ok()?;
            probe.connect("/run/systemd/journal/socket").ok()
        })
    }

    pub(crate) fn stop(&mut self) -> Result<()> {
        self.0.take().map_or(Ok(()), Service::stop)
    }

    /// What `journalctl` finds by these words, an object for each entry.
    pub(crate) fn find(words: &[&str]) -> Result<Vec<Value>> {
        let mut command = Command::new("journalctl");
        command.args(["-D", "/run/log/journal", "--no-pager", "-o", "json", "--all"]).args(words);
        // There may be no journal yet, or none with such an entry.
        let found = super::tool::run_allowing(&mut command, "", &[1])?;
        parsed(&String::from_utf8_lossy(&found.stdout))
    }
}

/// In memory, and small; nothing of the kernel's.
const JOURNALD: &str = "[Journal]
Storage=volatile
RuntimeMaxUse=64M
RateLimitIntervalSec=0
ReadKMsg=no
Audit=no
ForwardToSyslog=no
";

/// Rotates by this configuration now, whatever the date.
pub(crate) fn rotate(conf: &Path, state: &Path, path: &str) -> Result<()> {
    let mut command = Command::new(unpacked("logging-root")?.join("usr/sbin/logrotate"));
    command.arg("--force").arg("--state").arg(state).arg(conf).env("PATH", path);
    super::tool::run(&mut command, "").map(drop)
}
