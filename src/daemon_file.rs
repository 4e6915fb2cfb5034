//! The daemon's own file: where to listen, what to load, where to write.
//!
//! Promises: every setting has a default, given here with its reason; a path that is not absolute is taken
//! from the folder of the file; a mistake is told as in a policy.

use crate::diagnostics::{Diagnostic, Diagnostics, FileId, Sources};
use crate::evidence::writer::Settings as Evidence;
use crate::listener::{Address, Ownership};
use crate::policy::Policy;
use crate::policy_file::load::{DEFAULT_MAX_SIZE, Disk, Request, Store};
use crate::policy_file::walk::{Fields, Located, Walk, nearest, tell_syntax};
use crate::telemetry::log::{Format, LEVELS, with_causes};
use crate::telemetry::sink::Target;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::DeTable;
use tracing::Level;

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

const TOP: &[&str] = &["version", "milter", "policy", "log", "outbound", "http", "state", "evidence"];
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
const LOG: &[&str] = &["level", "format", "output", "decisions"];
const STATE: &[&str] = &["dir"];
const EVIDENCE: &[&str] = &["enabled", "keep-days", "max-peers"];

/// All settings.
#[derive(Clone, Debug, PartialEq)]
pub struct DaemonFile {
    /// Where the milter listens, and how it serves.
    pub milter: Sockets,
    /// The same for the socket map of mail that leaves; it listens nowhere unless told to.
    pub outbound: Sockets,
    /// How long open transactions have to get to their end when the daemon stops.
    pub drain: Duration,
    /// The policy's files, and their limit.
    pub policy: PolicyFiles,
    /// The log's level.
    pub level: Level,
    /// The log's format.
    pub format: Format,
    /// Where the log goes.
    pub output: Target,
    /// Where decisions are written as JSON Lines.
    pub decisions: Option<PathBuf>,
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
            return Read { daemon: None, diagnostics, sources };
        }
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            diagnostics.push(Diagnostic::error("unreadable-file", message).in_file(path));
            return Read { daemon: None, diagnostics, sources };
        }
    };
    let file = sources.add(path.to_path_buf(), text.as_str().into());
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    let daemon = parse(&text, file, folder, &mut diagnostics);
    let daemon = (!diagnostics.has_errors()).then_some(daemon);
    Read { daemon, diagnostics, sources }
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
        drain: DEFAULT_DRAIN,
        policy: PolicyFiles { patterns: vec![folder.join("policy.toml")], max_size: DEFAULT_MAX_SIZE },
        level: Level::INFO,
        format: Format::Text,
        output: Target::Stderr,
        decisions: None,
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
    if let Some(fields) = section(&mut walk, "policy", POLICY) {
        policy(&mut walk, &fields, folder, &mut daemon);
    }
    if let Some(fields) = section(&mut walk, "log", LOG) {
        log(&mut walk, &fields, folder, &mut daemon);
    }
    if let Some(fields) = section(&mut walk, "state", STATE)
        && let Some(dir) = string(&mut walk, &fields, "dir")
    {
        daemon.state = folder.join(dir.value);
    }
    if let Some(fields) = section(&mut walk, "evidence", EVIDENCE) {
        daemon.evidence = evidence(&mut walk, &fields);
    }
    if let Some(fields) = section(&mut walk, "http", &["listen"]) {
        walk.tell(
            Diagnostic::warning("not-served", "[http] is not served by this version: it is ignored")
                .at(fields.place),
        );
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

fn log(walk: &mut Walk<'_>, fields: &Fields<'_, '_>, folder: &Path, daemon: &mut DaemonFile) {
    let names = LEVELS.map(|(name, _)| name);
    if let Some(level) = string(walk, fields, "level") {
        match LEVELS.iter().find(|(name, _)| *name == level.value) {
            Some((_, found)) => daemon.level = *found,
            None => choice(walk, &level, "level", &names),
        }
    }
    if let Some(format) = string(walk, fields, "format") {
        match format.value.as_str() {
            "text" => daemon.format = Format::Text,
            "json" => daemon.format = Format::Json,
            _ => choice(walk, &format, "format", &["text", "json"]),
        }
    }
    if let Some(output) = string(walk, fields, "output") {
        daemon.output = match output.value.as_str() {
            "stderr" => Target::Stderr,
            "journald" | "syslog" => {
                walk.tell(
                    Diagnostic::warning(
                        "not-served",
                        format!(
                            "output `{}` is not served by this version: the log goes to stderr",
                            output.value
                        ),
                    )
                    .at(output.place)
                    .hint("under systemd, what goes to stderr is in the journal"),
                );
                Target::Stderr
            }
            path if path.contains('/') => Target::File(folder.join(path)),
            _ => {
                choice(walk, &output, "output", &["stderr", "journald", "syslog", "/path/to/a/file"]);
                Target::Stderr
            }
        };
    }
    if let Some(path) = string(walk, fields, "decisions") {
        let decisions = folder.join(&path.value);
        if daemon.policy.patterns.contains(&decisions) {
            walk.tell(
                Diagnostic::error(
                    "bad-decisions",
                    "`decisions` is a file of the policy: it would be written to",
                )
                .at(path.place),
            );
        }
        daemon.decisions = Some(decisions);
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
mod tests {
    use super::*;

    fn of(text: &str) -> (DaemonFile, Vec<&'static str>) {
        let mut diagnostics = Diagnostics::default();
        let mut sources = Sources::default();
        let file = sources.add("d.toml".into(), text.into());
        let daemon = parse(text, file, Path::new("/etc/x"), &mut diagnostics);
        (daemon, diagnostics.iter().map(|diagnostic| diagnostic.code).collect())
    }

    #[test]
    fn every_setting_is_read() {
        let (daemon, codes) = of(r#"
            version = 1
            [milter]
            listen = ["unix:/run/m.sock", "inet:8891@127.0.0.1"]
            max-connections = 7
            socket-user = "root"
            socket-group = "root"
            socket-mode = "0600"
            idle-timeout = 60
            drain-timeout = 5
            [policy]
            files = ["a.toml", "/b/*.toml"]
            max-size = 1000
            [log]
            level = "debug"
            format = "json"
            output = "log/encr-milter.log"
            decisions = "/var/log/d.jsonl"
            [state]
            dir = "state"
            [evidence]
            keep-days = 30
            max-peers = 100
        "#);
        assert_eq!(codes, [] as [&str; 0]);
        assert_eq!(daemon.milter.listen.len(), 2);
        assert_eq!((daemon.milter.max_connections, daemon.milter.ownership.mode), (7, 0o600));
        assert_eq!((daemon.milter.idle.as_secs(), daemon.drain.as_secs()), (60, 5));
        assert_eq!(daemon.policy.patterns, [Path::new("/etc/x/a.toml"), Path::new("/b/*.toml")]);
        assert_eq!((daemon.level, daemon.format), (Level::DEBUG, Format::Json));
        assert_eq!(daemon.output, Target::File("/etc/x/log/encr-milter.log".into()));
        assert_eq!(daemon.state, Path::new("/etc/x/state"));
        assert_eq!(daemon.evidence, Some(Evidence { keep_days: 30, max_peers: 100 }));
        let (off, codes) = of("version = 1\n[evidence]\nenabled = false\n");
        assert_eq!((off.evidence, codes.len()), (None, 0));
    }

    #[test]
    fn mistakes_are_told_all_at_once() {
        let (_, codes) = of(
            "version = 1\nx = 1\n[milter]\nlisten = [\"inet:8891\", \"/a\", \"/a\"]\nsocket-mode = \"rw\"\nsocket-user = \"no-such-user-here\"\nidle-timeout = 0\n[log]\nlevel = \"inf\"\nformat = \"xml\"\noutput = \"sdterr\"\n[policy]\nfiles = []\n[evidence]\nenabled = 1\nkeep-days = 0\nmax-peers = \"many\"\nkeep = 1\n[http]\nlisten = \"127.0.0.1:9354\"\n",
        );
        assert_eq!(
            codes,
            [
                "unknown-field",
                "bad-listen",
                "duplicate-listen",
                "bad-mode",
                "out-of-range",
                "unknown-name",
                "no-policy",
                "unknown-value",
                "unknown-value",
                "unknown-value",
                "unknown-field",
                "out-of-range",
                "wrong-type",
                "wrong-type",
                "not-served"
            ]
        );
        assert_eq!(of("").1, ["missing-version"]);
        assert_eq!(of("version = 1\n[milter]\nlisten = []\n").1, ["no-listen"]);
    }
}
