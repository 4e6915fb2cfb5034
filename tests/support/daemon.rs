//! The real binary, run as an administrator runs it: a daemon file, a policy beside it, signals, a log.
//!
//! Promises: everything of it lies in a folder of its own, and it is gone when it is dropped. What it said
//! can be searched, from any moment on.

use super::mta::{Mta, connect};
use super::{DEADLINE, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Instant;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_encr-milter");

/// A daemon file with everything that a test needs, and nothing more.
pub(crate) const DAEMON_FILE: &str = "\
version = 1
[milter]
listen = [\"unix:{dir}/m.sock\"]
[policy]
files = [\"policy.toml\"]
[log]
decisions = \"decisions.jsonl\"
[state]
dir = \"state\"
";

/// A folder with a daemon file and policies, before and after the daemon runs.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    /// With the usual daemon file, and this policy (without its `version`).
    pub(crate) fn new(policy: &str) -> Self {
        Self::with(DAEMON_FILE, policy)
    }

    /// With another daemon file; `{dir}` in it is the folder.
    pub(crate) fn with(daemon_file: &str, policy: &str) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        home.daemon_file(daemon_file);
        home.write("policy.toml", &format!("version = 1\n{policy}"));
        home
    }

    /// Where everything lies.
    pub(crate) fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, in place.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Writes the daemon file.
    pub(crate) fn daemon_file(&self, text: &str) {
        self.write("encr-milter.toml", &text.replace("{dir}", self.dir().to_str().unwrap()));
    }

    /// Starts the daemon and waits until it listens.
    pub(crate) fn start(&self) -> Daemon<'_> {
        let mut daemon = self.spawn(&[]);
        daemon.wait_started();
        daemon
    }

    /// Starts the daemon. `wrapper` is a command line that runs it: the daemon's own is put behind it.
    pub(crate) fn spawn(&self, wrapper: &[&str]) -> Daemon<'_> {
        self.spawn_with(wrapper, Stdio::null(), Stdio::null())
    }

    /// The same, with something on the wrapper's standard input and output.
    pub(crate) fn spawn_with(&self, wrapper: &[&str], stdin: Stdio, stdout: Stdio) -> Daemon<'_> {
        let log = OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let before = self.log().len();
        let config = self.path("encr-milter.toml");
        let own = [PROGRAM, "run", "-c", config.to_str().unwrap()];
        let line: Vec<&str> = wrapper.iter().copied().chain(own).collect();
        let child = Command::new(line[0])
            .args(&line[1..])
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        Daemon { home: self, child, before }
    }

    /// Runs the daemon, which must end by itself.
    pub(crate) fn run_to_end(&self) -> Output {
        let mut daemon = self.spawn(&[]);
        let status = daemon.wait_ended();
        Output { status, stdout: Vec::new(), stderr: self.log()[daemon.before..].to_owned().into_bytes() }
    }

    /// All that was said on standard error, over all lives of the daemon.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Every decision in the file of decisions; a last line that is not whole is left out.
    pub(crate) fn decisions(&self) -> Vec<Value> {
        decisions_of(&self.path("decisions.jsonl"))
    }

    /// Waits for so many decisions.
    pub(crate) fn wait_decisions(&self, count: usize) -> Vec<Value> {
        until(&format!("{count} decisions"), || Some(self.decisions()).filter(|found| found.len() >= count))
    }
}

/// Every decision of a file.
pub(crate) fn decisions_of(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The daemon, running. Killed when dropped.
pub(crate) struct Daemon<'h> {
    home: &'h Home,
    child: Child,
    before: usize,
}

impl Daemon<'_> {
    /// Waits until all listeners listen.
    pub(crate) fn wait_started(&mut self) {
        let file = fs::read_to_string(self.home.path("encr-milter.toml")).unwrap();
        let listeners = file.matches("unix:").count() + file.matches("inet").count();
        until("the daemon to listen", || {
            let log = self.log();
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended at its start, {ended:?}:\n{log}");
            (log.matches("listening listener=").count() >= listeners).then_some(())
        });
    }

    /// What this one has said.
    pub(crate) fn log(&self) -> String {
        self.home.log()[self.before..].to_owned()
    }

    /// A moment of the log, for [`Self::wait_log_since`].
    pub(crate) fn mark(&self) -> usize {
        self.log().len()
    }

    /// Waits until it has said this.
    pub(crate) fn wait_log(&self, text: &str) {
        self.wait_log_since(0, text);
    }

    /// Waits until it has said this after that moment; gives all that it has said since.
    pub(crate) fn wait_log_since(&self, mark: usize, text: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let since = self.log()[mark..].to_owned();
            // A line that is not whole may yet become another.
            let whole = since.rfind('\n').map_or("", |end| &since[..=end]);
            if whole.contains(text) {
                return whole.to_owned();
            }
            assert!(Instant::now() < end, "waited for {text:?} in the log:\n{}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait_ended(&mut self) -> ExitStatus {
        let status = until("the daemon to end", || self.child.try_wait().unwrap());
        assert_eq!(status.signal(), None, "the daemon was killed:\n{}", self.log());
        status
    }

    /// Tells it to stop, and waits until it has; it must have ended well.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.wait_ended();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// An MTA of ours that has connected to its first unix socket and negotiated.
    pub(crate) fn negotiated(&self) -> Mta {
        let mut mta = connect(&self.home.path("m.sock"));
        mta.negotiate();
        mta
    }

    /// Sends one message to one recipient in a connection of its own; gives what was answered last:
    /// `accept` at MAIL, or what was said to the recipient.
    pub(crate) fn one_message(&self, told: &[(&str, &str)]) -> String {
        let mut mta = self.negotiated();
        mta.macros(told);
        let answer = match mta.mail("<a@sender.example>").as_str() {
            "continue" => mta.rcpt("<r@recipient.example>"),
            other => other.to_owned(),
        };
        mta.quit();
        answer
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a command of the program, its three streams in our hands.
pub(crate) fn piped(arguments: &[&str]) -> Child {
    Command::new(PROGRAM)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs a command of the program to its end, with this on its standard input.
pub(crate) fn run(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = piped(arguments);
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // Beside reading: both pipes are short.
    let feeding = std::thread::spawn(move || {
        use std::io::Write;
        // The program may have seen enough.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    output
}

/// What is open in a process: its descriptors.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Makes an empty file.
pub(crate) fn touch(path: &Path) {
    File::create(path).unwrap();
}
