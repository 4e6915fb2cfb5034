//! The daemon under test, run as an administrator runs it: a daemon file, a policy beside it, signals, a log.
//!
//! Promises: it listens everywhere it should when `start` comes back, and is gone when it is dropped.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use toml::Table;

use super::log::Log;
use super::{Result, listening, wait};

pub(crate) struct Daemon {
    process: Option<Child>,
    program: PathBuf,
    /// What runs it, and its arguments; its own command line comes behind them. It must become the daemon (exec).
    pub(crate) wrapper: Vec<String>,
    /// Where daemon file, policies, decisions and state are.
    pub(crate) folder: PathBuf,
    listen: Vec<String>,
    /// The socket map's, where there is one.
    outbound: Vec<String>,
    /// What it has said, over all of its lives.
    pub(crate) log: Log,
}

impl Daemon {
    /// Writes the daemon file: the rig's settings, with others laid over them. Policies are the caller's to write.
    pub(crate) fn lay_out(program: &Path, folder: &Path, settings: &Table) -> Result<Daemon> {
        Daemon::lay_out_over("", program, folder, settings)
    }

    /// The same, with a daemon file below both.
    pub(crate) fn lay_out_over(
        base: &str,
        program: &Path,
        folder: &Path,
        settings: &Table,
    ) -> Result<Daemon> {
        let failed = |e: &dyn std::fmt::Display| format!("the daemon file: {e}");
        let mut file: Table = toml::from_str(base).map_err(|e| failed(&e))?;
        merge(&mut file, &toml::from_str(DAEMON_FILE).map_err(|e| failed(&e))?);
        merge(&mut file, settings);
        let text = file.to_string().replace("{dir}", &folder.display().to_string());
        let file: Table = toml::from_str(&text).map_err(|e| failed(&e))?;
        let (listen, outbound) = (sockets(&file, "milter"), sockets(&file, "outbound"));
        fs::create_dir_all(folder.join("state")).map_err(|e| failed(&e))?;
        fs::write(folder.join("encr-milter.toml"), text).map_err(|e| failed(&e))?;
        Ok(Daemon {
            process: None,
            program: program.to_owned(),
            wrapper: Vec::new(),
            folder: folder.to_owned(),
            listen,
            outbound,
            log: Log::default(),
        })
    }

    /// Has another build of it started from now on.
    pub(crate) fn set_program(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// Its own file.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.join("encr-milter.toml")
    }

    /// Its listeners, as the daemon file names them.
    pub(crate) fn listen(&self) -> &[String] {
        &self.listen
    }

    /// Where the outbound rulesets ask it, as the daemon file names it.
    pub(crate) fn outbound(&self) -> &[String] {
        &self.outbound
    }

    /// Starts it, and waits until it listens.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.spawn()?;
        self.wait_listening(true)
    }

    /// Waits until it listens at all of its sockets, or at none.
    pub(crate) fn wait_listening(&mut self, yes: bool) -> Result<()> {
        let what = if yes { "the daemon to listen" } else { "the daemon to listen no more" };
        let reached = wait::until(what, || {
            if let (true, Some(status)) = (yes, self.has_ended()) {
                return Some(Err(format!("the daemon ended at its start, {status}")));
            }
            self.listen
                .iter()
                .chain(&self.outbound)
                .all(|socket| listening::milter(socket) == yes)
                .then_some(Ok(()))
        });
        reached?
    }

    /// Starts it without waiting: for a start that is expected to fail.
    pub(crate) fn spawn(&mut self) -> Result<()> {
        let mut line: Vec<_> = self.wrapper.iter().map(OsString::from).collect();
        line.extend([self.program.clone().into(), "run".into(), "-c".into(), self.config().into()]);
        let program = line.remove(0);
        let mut process = Command::new(&program)
            .args(line)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        if let Some(pipe) = process.stderr.take() {
            self.log.follow(pipe);
        }
        self.process = Some(process);
        Ok(())
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Result<u32> {
        self.process.as_ref().map(Child::id).ok_or_else(|| "the daemon is not running".to_owned())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()?).map_err(|e| format!("a process id: {e}"))?;
        kill(Pid::from_raw(pid), signal).map_err(|e| format!("{signal} to the daemon: {e}"))
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        let status = wait::until("the daemon to end", || self.has_ended())?;
        self.process = None;
        Ok(status)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// All that it has written to its decisions file. Complete once it has ended.
    pub(crate) fn decisions(&self) -> Result<Vec<Value>> {
        let path = self.folder.join("decisions.jsonl");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(format!("{}: {e}", path.display())),
        };
        let parse = |line: &str| serde_json::from_str(line).map_err(|e| format!("a decision: {e}: {line}"));
        text.lines().map(parse).collect()
    }

    /// How it ended, if it has.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut().and_then(|process| process.try_wait().ok().flatten())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Where the rig has what the daemon reads and writes.
const DAEMON_FILE: &str = r#"
version = 1
[milter]
listen = ["unix:{dir}/milter.sock"]
[policy]
files = ["policy.toml"]
[log]
decisions = "{dir}/decisions.jsonl"
[state]
dir = "{dir}/state"
"#;

/// The listeners of one section: a string, or a list of them.
fn sockets(file: &Table, section: &str) -> Vec<String> {
    let listen = file.get(section).and_then(|section| section.get("listen"));
    let all = listen.map(|listen| listen.as_array().map_or(std::slice::from_ref(listen), Vec::as_slice));
    all.into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

/// Lays one table over another, table by table.
pub(crate) fn merge(under: &mut Table, over: &Table) {
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => merge(under, over),
            _ => drop(under.insert(key.clone(), value.clone())),
        }
    }
}
