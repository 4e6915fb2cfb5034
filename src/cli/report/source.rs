//! Where a report's evidence and policy come from.

use super::logs;
use crate::cli::{colour, complain, evidence, exit, file, policies};
use crate::daemon_file::{self, DEFAULT_PATH};
use crate::evidence::{Store, StoreError, store};
use crate::policy::{Day, Policy};
use crate::report::Origin;
use jiff::tz::TimeZone;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// So many logs are named.
const NAMED: usize = 3;

#[derive(Debug, clap::Args)]
pub(super) struct Sources {
    /// Decision files and mail logs, in place of the daemon's evidence; - is standard input
    #[arg(value_name = "LOG", conflicts_with = "evidence")]
    logs: Vec<PathBuf>,
    /// The daemon's file: it names the policy and the folder of the evidence [default where nothing else is named:
    /// /etc/encr-milter/encr-milter.toml]
    #[arg(short, long, value_name = "FILE", conflicts_with = "policy")]
    config: Option<PathBuf>,
    /// The policy to tell it against: a file (or glob); several, each behind a --policy of its own, are one policy
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// An evidence file, in place of the daemon's
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// The time zone of stamps in logs that do not tell theirs (Nov 22 02:07:29) [default: this machine's]
    #[arg(long, value_name = "ZONE", value_parser = crate::cli::simulate::zone)]
    time_zone: Option<TimeZone>,
}

/// Evidence, and what goes with it.
pub(super) struct Source {
    pub(super) store: Store,
    pub(super) policy: Option<Policy>,
    pub(super) origin: Origin,
    /// The exit code, where all else goes well.
    pub(super) code: u8,
}

impl Sources {
    /// Opens all of it. What is wrong is told; what comes back then is the exit code.
    pub(super) fn open(
        &self,
        now: jiff::Timestamp,
        (since, until): (Option<Day>, Option<Day>),
    ) -> io::Result<Result<Source, u8>> {
        if let Some(log) = self.logs.iter().find(|log| log.extension().is_some_and(|ending| ending == "toml"))
        {
            complain(&format!(
                "{0} is a policy by its name, and stands among the logs: write --policy {0}",
                log.display()
            ));
            return Ok(Err(exit::USAGE));
        }
        if let Some(database) = self.logs.iter().find(|log| is_database(log)) {
            complain(&format!(
                "{0} is a database, and stands among the logs: write --evidence {0}",
                database.display()
            ));
            return Ok(Err(exit::USAGE));
        }
        let is_daemons = self.config.is_some()
            || (self.logs.is_empty() && self.evidence.is_none() && self.policy.is_empty());
        let (mut patterns, mut evidence) = (self.policy.clone(), self.evidence.clone());
        if is_daemons {
            let config = self.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
            let read = daemon_file::read(config);
            let Some(daemon) = read.daemon else {
                write!(io::stderr().lock(), "{}", read.diagnostics.render(&read.sources, colour()))?;
                complain(
                    "the daemon's file is wrong; logs can be named instead, as in encr-milter report /var/log/mail.log",
                );
                return Ok(Err(exit::CONFIG));
            };
            patterns = daemon.policy.patterns;
            evidence = evidence.or(Some(daemon.state.join(store::FILE_NAME)));
        }
        let policy = match (patterns.is_empty(), policies::load(&patterns, now)) {
            (true, _) => None,
            (false, loaded) => match loaded? {
                Some(policy) => Some(policy),
                None => return Ok(Err(exit::CONFIG)),
            },
        };
        let mut origin = Origin {
            made: now,
            version: env!("CARGO_PKG_VERSION"),
            source: String::new(),
            from_store: self.logs.is_empty(),
            arguments: self.arguments(),
            logs: self.logs(),
            since,
            until,
            policy: policy.as_ref().map(|policy| policy.fingerprint().as_str().to_owned()),
            notes: Vec::new(),
        };
        if !self.logs.is_empty() {
            let zone = self.time_zone.clone().unwrap_or_else(TimeZone::system);
            origin.source = named(&self.logs);
            let read = match logs::read(&self.logs, policy.as_ref(), now, zone) {
                Ok(read) => read,
                Err(error) => return Ok(Err(evidence::failed(&error))),
            };
            origin.notes = read.notes;
            return Ok(Ok(Source { store: read.store, policy, origin, code: read.code }));
        }
        let Some(evidence) = evidence else {
            complain(
                "a policy alone says nothing of what happened: give logs, --evidence FILE, or the daemon's file with -c",
            );
            return Ok(Err(exit::USAGE));
        };
        if evidence.is_dir() {
            let within = evidence.join(store::FILE_NAME);
            complain(&format!(
                "{} is a folder: name the file in it, as in --evidence {}",
                evidence.display(),
                within.display()
            ));
            return Ok(Err(exit::NO_INPUT));
        }
        origin.source = evidence.display().to_string();
        Ok(match open(&evidence) {
            Ok(store) => Ok(Source { store, policy, origin, code: exit::OK }),
            Err(error) => {
                let code = evidence::failed(&error);
                if matches!(error, StoreError::Damaged { .. }) && self.evidence.is_some() {
                    complain("if it is a log, name it without --evidence");
                }
                if matches!(error, StoreError::Missing(_) | StoreError::Empty(_)) {
                    complain(
                        "until there is some, sendmail's own log will do: encr-milter report /var/log/mail.log",
                    );
                }
                Err(code)
            }
        })
    }

    /// The arguments that name the same sources, each with a blank before it.
    fn arguments(&self) -> String {
        let mut parts = Vec::new();
        let named = [("-c", &self.config), ("--evidence", &self.evidence)];
        for (flag, path) in named {
            parts.extend(path.iter().map(|path| format!(" {flag} {}", file::quoted(path))));
        }
        parts.extend(self.policy.iter().map(|path| format!(" --policy {}", file::quoted(path))));
        if !self.logs.is_empty() {
            parts.push(self.logs());
        }
        parts.concat()
    }

    /// The logs, each with a blank before it.
    fn logs(&self) -> String {
        if self.logs.is_empty() {
            return " decisions.jsonl".to_owned();
        }
        let words: Vec<String> = self.logs.iter().map(|path| format!(" {}", file::quoted(path))).collect();
        words.concat()
    }
}

/// Whether a file begins as SQLite's do. One that cannot be read is told of when it is read as a log.
fn is_database(path: &Path) -> bool {
    const BEGINS: &[u8] = b"SQLite format 3\0";
    let begins = |file| BufReader::with_capacity(BEGINS.len(), file).fill_buf().map(|bytes| bytes == BEGINS);
    // A pipe would not have again what is taken from it.
    path.is_file() && File::open(path).and_then(begins).unwrap_or(false)
}

fn open(path: &Path) -> Result<Store, StoreError> {
    Store::open_read_only(path)
}

/// `mail.log, mail.log.1 and 3 more logs`
fn named(logs: &[PathBuf]) -> String {
    let names: Vec<String> = logs
        .iter()
        .take(NAMED)
        .map(
            |log| {
                if log.as_os_str() == "-" { "standard input".to_owned() } else { log.display().to_string() }
            },
        )
        .collect();
    let more = logs.len().saturating_sub(NAMED);
    if more > 0 { format!("{} and {more} more logs", names.join(", ")) } else { names.join(", ") }
}
