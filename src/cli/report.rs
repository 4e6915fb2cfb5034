//! `encr-milter report`: what the evidence says, for a person, a script, or a partner.
//!
//! Must not: count, or know what an answer looks like (see [`crate::evidence`], [`crate::report`]).

mod logs;
mod source;

use super::file::{Failed, Seen};
use super::{complain, evidence, exit};
use crate::evidence::StoreError;
use crate::policy::{Day, domain};
use crate::report::dossier::Dossier;
use crate::report::terminal::Look;
use crate::report::{Report, html, terminal};
use serde::Serialize;
use source::{Source, Sources};
use std::fs::Permissions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where nobody says how wide a line may be.
const WIDTH: u16 = 80;

/// So many lines of a list, where nobody says how many.
const TOP: usize = 20;

/// Show who would break, where each rule stands, and what happened
///
/// The evidence is the daemon's (evidence.db in its state folder), another file of that kind, or logs: decision files
/// and sendmail's mail log, plain or packed, so that it tells something on the day of installation. Logs are judged by
/// the policy where one is given; else decision records count as they were decided, and messages in sendmail's log as
/// judged by no rule.
///
/// With --domain it is a dossier of that domain, fit to be sent to those who run its mail: what their hosts negotiated
/// with us, and which of them would be refused from when on. It names nobody else, and no rule.
///
/// Exits 0; 65 where the evidence is damaged or of another version, or a log is; 66 where there is none; 73 or 74 where
/// FILE cannot be written; 75 where the evidence is locked; 78 where the daemon's file or the policy is wrong.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    sources: Sources,
    /// Only from that day on: 2026-11-01, in UTC
    #[arg(long, value_name = "DATE", value_parser = day)]
    since: Option<Day>,
    /// Only up to the end of that day
    #[arg(long, value_name = "DATE", value_parser = day)]
    until: Option<Day>,
    /// Only so many days, the last of them today
    #[arg(long, value_name = "N", conflicts_with = "since", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: Option<u32>,
    /// The dossier of this domain and its subdomains
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// Who we are, as the dossier names us: "Example Ltd"
    #[arg(long, value_name = "NAME", requires = "domain")]
    our_name: Option<String>,
    /// So many lines of each list; --json has all [default: 20; all of a dossier's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
    /// All lines of each list
    #[arg(long, conflicts_with = "top")]
    all: bool,
    /// Tell it as one JSON object
    #[arg(long)]
    json: bool,
    /// Tell it as one HTML page that needs nothing else
    #[arg(long, conflicts_with = "json")]
    html: bool,
    /// Write it to a file, as a whole or not at all, and not to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn day(text: &str) -> Result<Day, &'static str> {
    Day::parse(text).ok_or("a day is written 2026-11-22")
}

pub(super) fn run(arguments: &Arguments) -> io::Result<u8> {
    let now = jiff::Timestamp::now();
    let today = Day::of_unix_seconds(now.as_second());
    let since = arguments.since.or(arguments.days.map(|days| Day(today.0 - i64::from(days) + 1)));
    let period = (since, arguments.until);
    if since.zip(arguments.until).is_some_and(|(since, until)| until < since) {
        complain("--until is before --since: no day is left");
        return Ok(exit::USAGE);
    }
    let domain = match arguments.domain.as_deref().map(domain::key).transpose() {
        Ok(domain) => domain,
        Err(error) => {
            complain(&format!("--domain: {error}; give a domain's name, as in --domain partner.example"));
            return Ok(exit::USAGE);
        }
    };
    let source = match arguments.sources.open(now, period)? {
        Ok(source) => source,
        Err(code) => return Ok(code),
    };
    let told = match &domain {
        Some(domain) => dossier(arguments, &source, domain),
        None => report(arguments, &source),
    };
    let text = match told {
        Ok(text) => text?,
        Err(error) => return Ok(evidence::failed(&error)),
    };
    match &arguments.output {
        None => io::stdout().lock().write_all(text.as_bytes())?,
        Some(path) => {
            if let Err(failed) = write_whole(path, text.as_bytes()) {
                complain(&format!("{} is not written: {failed}", path.display()));
                return Ok(failed.exit_code());
            }
        }
    }
    Ok(source.code)
}

fn report(arguments: &Arguments, source: &Source) -> Result<io::Result<String>, StoreError> {
    let report = Report::of(&source.store, source.policy.as_ref(), source.origin.clone())?;
    Ok(if arguments.json {
        as_json(&report)
    } else if arguments.html {
        Ok(html::report(&report, arguments.top()))
    } else {
        Ok(terminal::report(&report, arguments.look()))
    })
}

fn dossier(arguments: &Arguments, source: &Source, domain: &str) -> Result<io::Result<String>, StoreError> {
    let (policy, ours) = (source.policy.as_ref(), arguments.our_name.clone());
    let dossier = Dossier::of(&source.store, policy, &source.origin, domain, ours)?;
    if dossier.beyond_bound && dossier.hosts.is_empty() {
        complain(&format!(
            "more hosts were met than are kept apart, and those of {domain} may be among them: a rule with a key for it \
             (observe, say) keeps them apart from then on, as does a higher max-peers of [evidence]"
        ));
    }
    Ok(if arguments.json {
        as_json(&dossier)
    } else if arguments.html {
        Ok(html::dossier(&dossier, arguments.top()))
    } else {
        Ok(terminal::dossier(&dossier, arguments.look()))
    })
}

fn as_json(told: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(told)? + "\n")
}

impl Arguments {
    fn top(&self) -> usize {
        match self.top {
            Some(top) => usize::try_from(top).unwrap_or(usize::MAX),
            // Whoever gets a dossier cannot ask for the rest of it.
            None if self.all || self.domain.is_some() => usize::MAX,
            None => TOP,
        }
    }

    /// What the output is looked at with.
    fn look(&self) -> Look {
        let on_terminal = self.output.is_none() && io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let width = told.filter(|width| *width > 0).or_else(|| {
            let table = comfy_table::Table::new();
            table.width().filter(|_| on_terminal)
        });
        Look { width: width.unwrap_or(WIDTH), colour: on_terminal && !plain, top: self.top() }
    }
}

/// Writes a file as a whole or not at all. One that is there keeps its owner and mode.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failed> {
    match Seen::read(path) {
        Ok(seen) => seen.replace(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            // As any program makes a file: the umask takes away what it takes away.
            let mut new = tempfile::Builder::new()
                .prefix(".encr-milter-")
                .permissions(Permissions::from_mode(0o666))
                .tempfile_in(folder)
                .map_err(|error| Failed::Create { folder: folder.to_path_buf(), error })?;
            new.write_all(bytes)?;
            new.as_file().sync_all()?;
            new.persist(path).map_err(|error| Failed::Write(error.error))?;
            Ok(())
        }
        Err(error) => Err(Failed::Write(error)),
    }
}
