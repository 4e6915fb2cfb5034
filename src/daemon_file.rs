//! The daemon's own file: where to listen, what to load, where to write.
//!
//! Promises: every setting has a default, given here with its reason; a path that is not absolute is taken
//! from the folder of the file; a mistake is told as in a policy.

mod control;
mod http;
mod log;

use crate::diagnostics::{Diagnostic, Diagnostics, FileId, Sources};
use crate::evidence::writer::Settings as Evidence;
use crate::listener::{Address, Ownership};
use crate::policy::Policy;
use crate::policy_file::load::{DEFAULT_MAX_SIZE, Disk, Request, Store};
use crate::policy_file::walk::{Fields, Located, Walk, nearest, tell_syntax};
use crate::telemetry::log::{Settings, with_causes};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::DeTable;

/// Where the file lies unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/encr-milter/encr-milter.toml";
/// An sm-mta has some hundred connections at once; a large site's some thousand.
pub const DEFAULT_MAX_CONNECTIONS: usize = 4096;
/// SMTP allows a client minutes between commands, and sendmail an hour in all; libmilter waits as long.
pub const DEFAULT_IDLE: Duration = Duration::from_secs(7210);
/// Under systemd's 90 seconds, and enough for recipients to be named and a message to be sent.
pub const DEFAULT_DRAIN: Duration = Duration::from_secs(30);
/// A daemon's file has a page or two.
const MAX_SIZE: u64 = 1024 * 1024;

const DEFAULT_LISTEN: &str = "/run/encr-milter/milter.sock";
const DEFAULT_STATE: &str = "/var/lib/encr-milter";

const TOP: &[&str] =
    &["version", "milter", "policy", "log", "outbound", "http", "control", "state", "evidence"];
const MILTER: &[&str] = &[
    "listen",
    "max-connections",
    "socket-user",
    "socket-group",
    "socket-mode",
    "idle-timeout",
    "drain-timeout",
];
const OUTBOUND: &[&str] =
    &["listen", "max-connections", "socket-user", "socket-group", "socket-mode", "idle-timeout"];
const POLICY: &[&str] = &["files", "max-size"];
const LOG: &[&str] =
    &["level", "format", "output", "decisions", "syslog-server", "syslog-facility", "syslog-max-size"];
const HTTP: &[&str] = &["listen"];
const CONTROL: &[&str] = &["listen", "enabled"];
const STATE: &[&str] = &["dir"];
const EVIDENCE: &[&str] = &["enabled", "keep-days", "max-peers"];

/// Every table of the daemon's file with its settings.
pub const TABLES: &[(&str, &[&str])] = &[
    ("", TOP),
    ("milter", MILTER),
    ("outbound", OUTBOUND),
    ("policy", POLICY),
    ("log", LOG),
    ("state", STATE),
    ("evidence", EVIDENCE),
    ("http", HTTP),
    ("control", CONTROL),
];

/// All settings.
#[derive(Clone, Debug, PartialEq)]
pub struct DaemonFile {
    /// Where the milter listens, and how it serves.
    pub milter: Sockets,
    /// The same for the socket map of mail that leaves; it listens nowhere unless told to.
    pub outbound: Sockets,
    /// The unix socket on which `status` and `reload` ask, where there is to be one.
    pub control: Option<PathBuf>,
    /// How long open transactions have to get to their end when the daemon stops.
    pub drain: Duration,
    /// The policy's files, and their limit.
    pub policy: PolicyFiles,
    /// The log, and the file of decisions.
    pub log: Settings,
    /// Where metrics and the state of health are asked for; nowhere unless told to.
    pub http: Vec<SocketAddr>,
    /// Where the last good policy is kept, and evidence.
    pub state: PathBuf,
    /// Whether and how evidence is kept.
    pub evidence: Option<Evidence>,
}

/// Sockets of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// Where to listen.
    pub listen: Vec<Address>,
    /// How many connections are served at once, over all of them.
    pub max_connections: usize,
    /// Whose the unix sockets are.
    pub ownership: Ownership,
    /// How long an MTA may be silent.
    pub idle: Duration,
}

impl Sockets {
    fn at(listen: Vec<Address>) -> Self {
        Self {
            listen,
            max_connections: DEFAULT_MAX_CONNECTIONS,
            ownership: Ownership::default(),
            idle: DEFAULT_IDLE,
        }
    }
}

impl DaemonFile {
    /// What is to be said where a policy has rules that nobody could ask for.
    pub fn unasked(&self, policy: &Policy) -> Option<Diagnostic> {
        (policy.is_outbound() && self.outbound.listen.is_empty()).then(|| {
            Diagnostic::warning(
                "not-asked",
                "the policy has rules for mail that leaves (server, recipient-outbound), and no MTA can ask for them",
            )
            .hint("give the daemon's file [outbound] with `listen`, and sendmail the lines of sendmail-outbound.mc")
        })
    }

    /// How many connections there may be of all kinds.
    pub fn max_connections(&self) -> usize {
        let outbound = if self.outbound.listen.is_empty() { 0 } else { self.outbound.max_connections };
        self.milter.max_connections.saturating_add(outbound)
    }
}

/// `[policy]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFiles {
    /// Files and globs, absolute.
    pub patterns: Vec<PathBuf>,
    /// The most bytes of all of them.
    pub max_size: u64,
}

impl PolicyFiles {
    /// As the loader takes it.
    pub fn request(&self) -> Request {
        Request { patterns: self.patterns.clone(), max_size: self.max_size }
    }
}

/// What came of reading.
#[derive(Debug)]
pub struct Read {
    /// The settings, where nothing is wrong.
    pub daemon: Option<DaemonFile>,
    /// Where the daemon is asked, as far as a wrong file tells.
    pub control: Option<PathBuf>,
    /// What is wrong, or odd.
    pub diagnostics: Diagnostics,
    /// The file, for the lines to show.
    pub sources: Sources,
}

/// Reads a daemon's file.
pub fn read(path: &Path) -> Read {
    let mut diagnostics = Diagnostics::default();
    let mut sources = Sources::default();
    let text = match Disk.read(path, MAX_SIZE).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => {
            let message = format!("{} is not UTF-8 text", path.display());
            diagnostics.push(Diagnostic::error("not-utf8", message).in_file(path));
            return Read { daemon: None, control: None, diagnostics, sources };
        }
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            diagnostics.push(Diagnostic::error("unreadable-file", message).in_file(path));
            return Read { daemon: None, control: None, diagnostics, sources };
        }
    };
    let file = sources.add(path.to_path_buf(), text.as_str().into());
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    let daemon = parse(&text, file, folder, &mut diagnostics);
    let control = daemon.control.clone();
    let daemon = (!diagnostics.has_errors()).then_some(daemon);
    Read { daemon, control, diagnostics, sources }
}

fn parse(text: &str, file: FileId, folder: &Path, diagnostics: &mut Diagnostics) -> DaemonFile {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut daemon = DaemonFile {
        milter: Sockets::at(vec![Address::Unix(DEFAULT_LISTEN.into())]),
        // sendmail defers mail by itself, whatever its rulesets say, where a map's socket has no file.
        outbound: Sockets {
            ownership: Ownership { stays: true, ..Ownership::default() },
            ..Sockets::at(Vec::new())
        },
        control: None,
        drain: DEFAULT_DRAIN,
        policy: PolicyFiles { patterns: vec![folder.join("policy.toml")], max_size: DEFAULT_MAX_SIZE },
        log: Settings::default(),
        http: Vec::new(),
        state: DEFAULT_STATE.into(),
        evidence: Some(Evidence::default()),
    };
    tell_syntax(file, &errors, diagnostics);
    if !errors.is_empty() {
        return daemon;
    }
    let mut walk = Walk::new(file, diagnostics);
    let top = walk.fields(table.get_ref(), 0..0, "the daemon's file", TOP);
    walk.version(&top);
    let section = |walk: &mut Walk<'_>, name: &str, known: &[&str]| {
        top.get(name).and_then(|value| walk.table(value, name, known))
    };
    if let Some(fields) = section(&mut walk, "milter", MILTER) {
        sockets(&mut walk, &fields, &mut daemon.milter);
        daemon.drain = seconds(&mut walk, &fields, "drain-timeout", 0).unwrap_or(DEFAULT_DRAIN);
    }
    if let Some(fields) = section(&mut walk, "outbound", OUTBOUND) {
        // One MTA asks on both.
        daemon.outbound.ownership = Ownership { stays: true, ..daemon.milter.ownership.clone() };
        sockets(&mut walk, &fields, &mut daemon.outbound);
        if let Some(twice) = daemon.outbound.listen.iter().find(|at| daemon.milter.listen.contains(at)) {
            let message = format!("`{twice}` is a socket of [milter]: each needs its own");
            walk.tell(Diagnostic::error("duplicate-listen", message).at(fields.place));
        } else if fields.get("listen").is_none() {
            walk.tell(
                Diagnostic::warning("no-listen", "[outbound] without `listen`: no MTA could ask")
                    .at(fields.place)
                    .hint("listen = \"unix:/run/encr-milter/outbound.sock\""),
            );
        }
    }
    let fields = section(&mut walk, "control", CONTROL);
    control::read(&mut walk, fields.as_ref(), &mut daemon);
    if let Some(fields) = section(&mut walk, "policy", POLICY) {
        policy(&mut walk, &fields, folder, &mut daemon);
    }
    if let Some(fields) = section(&mut walk, "log", LOG) {
        log::read(&mut walk, &fields, folder, &mut daemon);
    }
    if let Some(fields) = section(&mut walk, "state", STATE)
        && let Some(dir) = string(&mut walk, &fields, "dir")
    {
        daemon.state = folder.join(dir.value);
    }
    if let Some(fields) = section(&mut walk, "evidence", EVIDENCE) {
        daemon.evidence = evidence(&mut walk, &fields);
    }
    if let Some(fields) = section(&mut walk, "http", HTTP) {
        http::read(&mut walk, &fields, &mut daemon);
    }
    daemon
}

fn string(walk: &mut Walk<'_>, fields: &Fields<'_, '_>, name: &str) -> Option<Located<String>> {
    let text = walk.string(fields.get(name)?, name)?;
    if text.value.is_empty() {
        walk.tell(Diagnostic::error("empty-value", format!("`{name}` is empty")).at(text.place));
        return None;
    }
    Some(Located { value: text.value.into_owned(), place: text.place })
}

fn seconds(walk: &mut Walk<'_>, fields: &Fields<'_, '_>, name: &str, least: i64) -> Option<Duration> {
    let seconds = walk.integer(fields.get(name)?, name, least..=86_400)?;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// What sockets of both kinds have. A setting that is not given stays as it is.
fn sockets(walk: &mut Walk<'_>, fields: &Fields<'_, '_>, sockets: &mut Sockets) {
    if let Some(value) = fields.get("listen") {
        sockets.listen.clear();
        for text in walk.strings(value, "listen") {
            match text.value.parse::<Address>() {
                Ok(address) if sockets.listen.contains(&address) => walk.tell(
                    Diagnostic::error("duplicate-listen", format!("`{address}` is listened on twice"))
                        .at(text.place),
                ),
                Ok(address) => sockets.listen.push(address),
                Err(error) => walk.tell(
                    Diagnostic::error("bad-listen", format!("`{}`: {error}", text.value)).at(text.place),
                ),
            }
        }
        if value.get_ref().as_array().is_some_and(|list| list.is_empty()) {
            let at = walk.place(value.span());
            walk.tell(Diagnostic::error("no-listen", "`listen` is empty: no MTA could connect").at(at));
        }
    }
    if let Some(value) = fields.get("max-connections")
        && let Some(limit) = walk.integer(value, "max-connections", 1..=1_000_000)
    {
        sockets.max_connections = usize::try_from(limit).unwrap_or(DEFAULT_MAX_CONNECTIONS);
    }
    if let Some(user) = string(walk, fields, "socket-user") {
        sockets.ownership.user = Some(user.value);
    }
    if let Some(group) = string(walk, fields, "socket-group") {
        sockets.ownership.group = Some(group.value);
    }
    if let Some(mode) = string(walk, fields, "socket-mode") {
        let octal = u32::from_str_radix(&mode.value, 8).ok().filter(|bits| *bits <= 0o777);
        match octal {
            Some(bits) => {
                sockets.ownership.mode = bits;
                if bits & 0o007 != 0 {
                    walk.tell(
                        Diagnostic::warning(
                            "open-socket",
                            "everybody on this machine may talk to this socket",
                        )
                        .at(mode.place)
                        .hint("set socket-group to the MTA's group, and the mode to \"0660\""),
                    );
                }
            }
            None => walk.tell(
                Diagnostic::error("bad-mode", format!("`{}` is no mode", mode.value))
                    .at(mode.place)
                    .hint("write permission bits in octal, as \"0660\""),
            ),
        }
    }
    sockets.idle = seconds(walk, fields, "idle-timeout", 1).unwrap_or(DEFAULT_IDLE);
    if let Err(error) = sockets.ownership.check()
        && let Some(value) = fields.get("socket-user").or_else(|| fields.get("socket-group"))
    {
        let at = walk.place(value.span());
        walk.tell(Diagnostic::error("unknown-name", with_causes(&error)).at(at));
    }
}

fn policy(walk: &mut Walk<'_>, fields: &Fields<'_, '_>, folder: &Path, daemon: &mut DaemonFile) {
    if let Some(value) = fields.get("files") {
        let files = walk.strings(value, "files");
        daemon.policy.patterns = files.iter().map(|file| folder.join(file.value.as_ref())).collect();
        if value.get_ref().as_array().is_some_and(|list| list.is_empty()) {
            let at = walk.place(value.span());
            walk.tell(
                Diagnostic::error("no-policy", "`files` is empty: there is no policy")
                    .at(at)
                    .hint("a policy without rules is a file that says `version = 1`"),
            );
        }
    }
    if let Some(value) = fields.get("max-size")
        && let Some(bytes) = walk.integer(value, "max-size", 1..=i64::MAX)
    {
        daemon.policy.max_size = u64::try_from(bytes).unwrap_or(DEFAULT_MAX_SIZE);
    }
}

/// Nothing where it is switched off; what else is said of it is checked all the same.
fn evidence(walk: &mut Walk<'_>, fields: &Fields<'_, '_>) -> Option<Evidence> {
    let mut evidence = Evidence::default();
    // A hundred years, and more peers than a day has: numbers that are larger are mistakes.
    if let Some(value) = fields.get("keep-days")
        && let Some(days) = walk.integer(value, "keep-days", 1..=36_500)
    {
        evidence.keep_days = u32::try_from(days).unwrap_or(evidence.keep_days);
    }
    if let Some(value) = fields.get("max-peers")
        && let Some(peers) = walk.integer(value, "max-peers", 1..=1_000_000)
    {
        evidence.max_peers = usize::try_from(peers).unwrap_or(evidence.max_peers);
    }
    let enabled = fields.get("enabled").and_then(|value| walk.boolean(value, "enabled")).unwrap_or(true);
    enabled.then_some(evidence)
}

fn choice(walk: &mut Walk<'_>, found: &Located<String>, name: &str, known: &[&str]) {
    let hint = match nearest(&found.value, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known here: {}", known.join(", ")),
    };
    walk.tell(
        Diagnostic::error("unknown-value", format!("`{}` is no {name}", found.value))
            .at(found.place.clone())
            .hint(hint),
    );
}

#[cfg(test)]
mod tests;
