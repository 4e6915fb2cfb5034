//! The servers that are compared: each a process of its own, with the same list, and what it uses.
//!
//! Promises: ours runs as an administrator has it, decisions in a file, its log in another, evidence on; a server that is
//! asked for listens when it is given, and is gone when it is dropped. Processor time is that of all its threads, those
//! that have ended too.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::load::wire::{Target, Wire};

/// What all of them demand, and the rule's name in all their replies.
pub(crate) const MIN_BITS: u32 = 128;
pub(crate) const RULE: &str = "partners";
/// The word by which this program is told to be a server.
pub(crate) const SERVE_WORD: &str = "serve-raw-tokio";

/// More than any scenario opens.
const MAX_CONNECTIONS: usize = 12_000;
/// A million keys in a debug build take their time.
const STARTS_WITHIN: Duration = Duration::from_mins(2);

const OUR_BINARY: &str = env!("CARGO_BIN_EXE_encr-milter");
/// Its environment is the daemon's.
const UNIT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/config/encr-milter.service"));
const LIBMILTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/bench/reference/libmilter.c");

/// Whose server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The daemon, of this build.
    Ours,
    /// The daemon, of another build.
    Other(PathBuf),
    /// C on libmilter.
    Libmilter,
    /// tokio without anything.
    Tokio,
}

impl Kind {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Other(_) => "other",
            Self::Libmilter => "libmilter",
            Self::Tokio => "tokio",
        }
    }
}

/// Where a server is to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Unix,
    Tcp,
}

/// A server that listens.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) target: Target,
    child: Child,
    folder: TempDir,
}

impl Server {
    /// Starts one, and waits until it listens. `list` is the file of keys.
    pub(crate) fn start(kind: Kind, way: Way, list: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("sessions-").tempdir().unwrap();
        let target = match way {
            Way::Unix => Target::Unix(folder.path().join("milter.sock")),
            Way::Tcp => Target::Tcp(free_address()),
        };
        let mut command = match &kind {
            Kind::Ours => daemon(Path::new(OUR_BINARY), folder.path(), &target, list),
            Kind::Other(binary) => daemon(binary, folder.path(), &target, list),
            Kind::Libmilter => libmilter(folder.path(), &target, list),
            Kind::Tokio => tokio(&target, list),
        };
        let log = File::options().create(true).append(true).open(folder.path().join("stderr")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut server = Self { kind, target, child, folder };
        server.until_it_listens();
        server
    }

    fn until_it_listens(&mut self) {
        let end = Instant::now() + STARTS_WITHIN;
        while Wire::connect(&self.target).is_err() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended with {status}:\n{}", self.kind.name(), self.log());
            }
            assert!(Instant::now() < end, "{} does not listen:\n{}", self.kind.name(), self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it said on standard error.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// Tells it something.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(name)
    }

    /// Resident memory, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        resident.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// How many descriptors it has.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(self.proc("fd")).unwrap().count()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// The processor time that it has used so far.
    pub(crate) fn used(&self) -> Duration {
        clock_gettime(clock_getcpuclockid(self.pid()).unwrap()).unwrap().into()
    }

    /// Whether it writes its decisions down.
    pub(crate) fn is_daemon(&self) -> bool {
        matches!(self.kind, Kind::Ours | Kind::Other(_))
    }

    /// How long what it said is, up to now.
    pub(crate) fn said(&self) -> u64 {
        fs::metadata(self.folder.path().join("stderr")).unwrap().len()
    }

    /// Whether it has put a policy in force since it had said so much.
    pub(crate) fn has_loaded_since(&self, said: u64) -> bool {
        let mut file = File::open(self.folder.path().join("stderr")).unwrap();
        let mut new = Vec::new();
        file.seek(SeekFrom::Start(said)).and_then(|_| file.read_to_end(&mut new)).unwrap();
        memchr::memmem::find(&new, b"policy in force").is_some()
    }

    /// Waits until so many decisions are in its file, then empties it and the log. They must be exactly so many: a daemon
    /// that loses some is not measured. Gives their bytes.
    pub(crate) fn settle(&self, decided: u64) -> u64 {
        if !self.is_daemon() {
            return 0;
        }
        let decisions = self.decisions();
        let lines = || memchr::memchr_iter(b'\n', &fs::read(&decisions).unwrap()).count() as u64;
        let end = Instant::now() + STARTS_WITHIN;
        while lines() < decided {
            assert!(Instant::now() < end, "{decided} decisions, {} written:\n{}", lines(), self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(lines(), decided, "decisions written");
        let written = self.written();
        for file in ["decisions.jsonl", "stderr"] {
            File::options().write(true).truncate(true).open(self.folder.path().join(file)).unwrap();
        }
        written
    }

    fn decisions(&self) -> PathBuf {
        self.folder.path().join("decisions.jsonl")
    }

    /// How many bytes of decisions are in its file.
    pub(crate) fn written(&self) -> u64 {
        fs::metadata(self.decisions()).map_or(0, |file| file.len())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill(self.pid(), Signal::SIGTERM);
        let end = Instant::now() + Duration::from_secs(20);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap()
}

/// In sendmail's notation.
fn notation(target: &Target) -> String {
    match target {
        Target::Unix(path) => format!("unix:{}", path.display()),
        Target::Tcp(address) => format!("inet:{}@{}", address.port(), address.ip()),
    }
}

fn daemon(binary: &Path, folder: &Path, target: &Target, list: &Path) -> Command {
    let at = |name: &str| folder.join(name).display().to_string();
    let config = format!(
        "version = 1\n[milter]\nlisten = [{:?}]\nmax-connections = {MAX_CONNECTIONS}\n\
         [policy]\nfiles = [\"policy.toml\"]\n[log]\ndecisions = {:?}\n\
         [control]\nlisten = {:?}\n[state]\ndir = {:?}\n",
        notation(target),
        at("decisions.jsonl"),
        format!("unix:{}", at("control.sock")),
        at("state"),
    );
    let policy = format!(
        "version = 1\n[[rule]]\nname = \"{RULE}\"\nclient-file = \"{}\"\nenforce = {{ min-bits = {MIN_BITS} }}\n",
        list.display()
    );
    fs::create_dir(folder.join("state")).unwrap();
    fs::write(folder.join("policy.toml"), policy).unwrap();
    fs::write(folder.join("encr-milter.toml"), config).unwrap();
    let mut command = Command::new(binary);
    command.args(["run", "-c"]).arg(folder.join("encr-milter.toml"));
    let variables = UNIT.lines().filter_map(|line| line.strip_prefix("Environment=")?.split_once('='));
    command.envs(variables);
    command
}

fn libmilter(folder: &Path, target: &Target, list: &Path) -> Command {
    let binary = folder.join("libmilter");
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-o"]).arg(&binary).args([LIBMILTER, "-lmilter", "-lpthread"]);
    assert!(
        compiler.status().unwrap().success(),
        "cc cannot compile it: is libmilter-dev there? (integration/setup.sh)"
    );
    let mut command = Command::new(binary);
    command.arg(notation(target)).arg(list).args([&MIN_BITS.to_string(), RULE]);
    command
}

fn tokio(target: &Target, list: &Path) -> Command {
    let place = match target {
        Target::Unix(path) => path.display().to_string(),
        Target::Tcp(address) => address.to_string(),
    };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([SERVE_WORD, &place]).arg(list);
    command
}
