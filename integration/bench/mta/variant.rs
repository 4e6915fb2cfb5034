//! A private sm-mta and what it asks: nobody, this daemon, a C milter, or its own access map.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::rig::daemon::Daemon;
use crate::rig::sendmail::{Options, Sendmail};
use crate::rig::{Result, Rig, listening, tool, usage, wait};

/// The daemon's own file as it is shipped.
const DAEMON_FILE: &str = include_str!("../../../config/encr-milter.toml");
/// The milter in C.
const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/bench/reference/libmilter.c");
/// What all of them demand.
const BITS: u16 = 128;

/// What judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nobody: sendmail alone.
    Alone,
    /// This daemon: decisions logged, evidence on.
    Ours,
    /// The same, and sendmail without an access map: where that has no other rules than these, it is not needed any more.
    OursAlone,
    /// The same decision in C, on libmilter.
    Libmilter,
    /// sendmail's own rules: `TLS_Clt:` in its access map.
    AccessMap,
}

impl Kind {
    pub(crate) const ALL: [Kind; 5] =
        [Kind::Alone, Kind::Ours, Kind::OursAlone, Kind::Libmilter, Kind::AccessMap];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Alone => "no milter",
            Self::Ours => "encr-milter",
            Self::OursAlone => "encr-milter only",
            Self::Libmilter => "C libmilter",
            Self::AccessMap => "TLS_Clt map",
        }
    }

    /// Whether what comes in the clear is refused.
    pub(crate) fn judges(self) -> bool {
        self != Self::Alone
    }
}

/// One of them, running.
pub(crate) struct Variant {
    pub(crate) kind: Kind,
    pub(crate) sendmail: Sendmail,
    milter: Milter,
}

enum Milter {
    None,
    Ours(Box<Daemon>),
    Foreign(Foreign),
}

impl Variant {
    pub(crate) fn start(rig: &Rig, parent: &Path, kind: Kind, keys: &[String]) -> Result<Variant> {
        let folder = parent.join(kind.name().replace(' ', "-"));
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut options = Options { flags: Some("T".to_owned()), ..Options::default() };
        let milter = match kind {
            Kind::Alone => Milter::None,
            Kind::AccessMap => {
                options.access = keys.iter().map(|key| format!("TLS_Clt:{key} PERM+ENCR:{BITS}")).collect();
                Milter::None
            }
            Kind::Ours | Kind::OursAlone => {
                options.no_access_map = kind == Kind::OursAlone;
                let daemon = ours(rig, &folder, keys, &[])?;
                options.attach = daemon.listen().to_vec();
                Milter::Ours(Box::new(daemon))
            }
            Kind::Libmilter => {
                let foreign = Foreign::start(&folder, keys)?;
                options.attach = vec![foreign.socket.clone()];
                Milter::Foreign(foreign)
            }
        };
        let tag = kind.name().replace(' ', "-");
        let sendmail = Sendmail::start(rig, &folder, &tag, &options)?;
        Ok(Variant { kind, sendmail, milter })
    }

    /// What sendmail, its ended children, and the milter have used so far.
    pub(crate) fn used(&self) -> Result<(Duration, Duration)> {
        // Its own clock counts finer than what stands in /proc, and with threads that have ended.
        let exactly = |pid: u32| -> Result<Duration> {
            let pid = i32::try_from(pid).map_err(|e| format!("a process id: {e}"))?;
            let clock = nix::time::clock_getcpuclockid(Pid::from_raw(pid));
            let now = clock.and_then(nix::time::ClockId::now);
            now.map(Duration::from).map_err(|e| format!("the processor time of {pid}: {e}"))
        };
        let milter = match &self.milter {
            Milter::None => Duration::ZERO,
            Milter::Ours(daemon) => exactly(daemon.pid()?)?,
            Milter::Foreign(foreign) => exactly(foreign.process.id())?,
        };
        let pid = self.sendmail.pid();
        Ok((exactly(pid)? + usage::of(pid)?.ended_children, milter))
    }

    /// Waits until every session is over for sendmail too, and takes away what it has accepted.
    pub(crate) fn rest(&self) -> Result<()> {
        let pid = self.sendmail.pid();
        wait::until("sendmail's children to end", || match usage::has_children(pid) {
            Ok(true) => None,
            other => Some(other),
        })??;
        let queue = self.sendmail.queue();
        let failed = |e: std::io::Error| format!("{}: {e}", queue.display());
        for entry in fs::read_dir(&queue).map_err(failed)? {
            fs::remove_file(entry.map_err(failed)?.path()).map_err(failed)?;
        }
        Ok(())
    }

    /// Ends the milter. How many decisions it has written down, where somebody does that.
    pub(crate) fn end(&mut self) -> Result<Option<u64>> {
        let Milter::Ours(daemon) = &mut self.milter else { return Ok(None) };
        stop(daemon)?;
        let path = daemon.folder.join("log/decisions.jsonl");
        let text = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Some(text.iter().map(|byte| u64::from(*byte == b'\n')).sum()))
    }
}

/// This daemon with so many keys, listening at a unix socket, and elsewhere too where told to.
pub(crate) fn ours(rig: &Rig, folder: &Path, keys: &[String], also: &[String]) -> Result<Daemon> {
    let listen = [&["unix:{dir}/milter.sock".to_owned()], also].concat();
    let mut settings = toml::Table::new();
    let mut set = |section: &str, key: &str, value: toml::Value| {
        let table = settings.entry(section).or_insert_with(|| toml::Table::new().into());
        if let Some(table) = table.as_table_mut() {
            table.insert(key.to_owned(), value);
        }
    };
    set("milter", "listen", listen.into());
    // Not beside the policy, whose folder is watched: each line would be looked at.
    set("log", "output", "{dir}/log/log".into());
    set("log", "decisions", "{dir}/log/decisions.jsonl".into());
    let mut daemon = Daemon::lay_out_over(DAEMON_FILE, &rig.daemon, folder, &settings)?;
    fs::create_dir_all(folder.join("log")).map_err(|e| format!("{}: {e}", folder.display()))?;
    let policy = format!(
        "version = 1\n[exempt]\nnetworks = []\n[[rule]]\nname = \"partners\"\nclient-file = \"partners.txt\"\nenforce = {{ min-bits = {BITS} }}\n"
    );
    fs::write(folder.join("partners.txt"), keys.join("\n") + "\n")
        .and_then(|()| fs::write(folder.join("policy.toml"), policy))
        .map_err(|e| format!("{}: {e}", folder.display()))?;
    daemon.start().map_err(|e| format!("{e}\n{}", daemon.log.lines().join("\n")))?;
    Ok(daemon)
}

pub(crate) fn stop(daemon: &mut Daemon) -> Result<()> {
    daemon.signal(Signal::SIGTERM)?;
    let status = daemon.wait()?;
    if status.success() { Ok(()) } else { Err(format!("the daemon ended with {status}")) }
}

/// The reference milter, which ends with its sm-mta.
pub(crate) struct Foreign {
    process: Child,
    pub(crate) socket: String,
}

impl Foreign {
    /// At a unix socket of the folder.
    fn start(folder: &Path, keys: &[String]) -> Result<Foreign> {
        Foreign::listening_at(format!("unix:{}/reference.sock", folder.display()), folder, keys)
    }

    pub(crate) fn listening_at(socket: String, folder: &Path, keys: &[String]) -> Result<Foreign> {
        let program = compiled(folder)?;
        let names = folder.join("names");
        fs::write(&names, keys.join("\n") + "\n").map_err(|e| format!("{}: {e}", names.display()))?;
        let process = Command::new(&program)
            .arg(&socket)
            .arg(&names)
            .args([&BITS.to_string(), "partners"])
            .stdin(Stdio::null())
            .spawn()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        let foreign = Foreign { process, socket };
        wait::until("the reference to listen", || listening::milter(&foreign.socket).then_some(()))?;
        Ok(foreign)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Compiles it.
fn compiled(folder: &Path) -> Result<PathBuf> {
    let program = folder.join("reference");
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-o"]).arg(&program).arg(REFERENCE).args(["-lmilter", "-lpthread"]);
    tool::run(&mut compiler, "").map_err(|e| format!("{e}: libmilter-dev has what it needs"))?;
    Ok(program)
}
