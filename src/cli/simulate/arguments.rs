//! What `simulate` is told on its command line.
//!
//! Promises: `--policy NEW… [--against OLD…] LOG…` can be written in any order, a shell's globs among it.

use crate::simulation::Fate;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches, value_parser};
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use std::path::{Path, PathBuf};

/// Replay logs against a policy that is not in force, and show only what would change
///
/// LOG is a decision file or sendmail's mail log, or both in one, plain or packed (gzip, xz, zstd); what it is, is told
/// by its content. Several are read in the order of their first time stamps, so that rotated logs may be given as
/// mail.log*. Messages in sendmail's log count as deferred or refused where its own TLS rules did so (those of the access
/// map), and else as let through by no rule; unless --against says by which policy they would have been judged.
///
/// What becomes of a message is one of: passed, exempt, no-rule (all three: let through, and nothing to see), unknown
/// (let through; the log does not tell what would be needed to judge it), observed (it fails, and is let through),
/// deferred (4xx), refused (5xx). A change is told where the word differs, and one of the two is unknown, observed,
/// deferred or refused. Messages that were judged for each recipient count for each.
///
/// Exits 0; with --fail-on 1 where a message would newly have such a fate; 65 where a log is damaged or, with
/// --fail-on, nothing could be judged; 66 where a log cannot be opened; 78 where a policy is wrong.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    #[command(flatten)]
    pub(super) files: Files,
    /// Exit with 1 where a message would newly have one of these fates: one that fares better now. Each stands for itself:
    /// name tempfail and reject for "deferred or worse"
    #[arg(long, value_name = "FATE", value_delimiter = ',')]
    pub(super) fail_on: Vec<FailOn>,
    /// Only what happened from then on: a date, or a time (2026-11-01, 2026-11-01T12:00, or RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    pub(super) since: Option<When>,
    /// Only what happened until then; of a date, to its end
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    pub(super) until: Option<When>,
    /// The time zone of stamps that do not tell theirs (Nov 22 02:07:29), and of --since and --until [default: this
    /// machine's]
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    pub(super) time_zone: Option<TimeZone>,
    /// Judge every message as if it had come on that day, and not on its own: what will a later `from` do?
    #[arg(long, value_name = "DATE")]
    pub(super) day: Option<Date>,
    /// So many examples of each change, 10 at the most
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u8).range(0..=10))]
    pub(super) examples: u8,
    /// Show so many changes, the worst first; --json tells all
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(super) limit: usize,
    /// Print the new decision on every message as a decision record (JSON Lines), and no summary
    #[arg(long, conflicts_with = "json")]
    pub(super) records: bool,
    /// Tell it as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// What shuts the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum FailOn {
    /// 5xx
    Reject,
    /// 4xx
    Tempfail,
    /// Fails, and is let through
    Observe,
    /// Could not be judged
    Unknown,
}

impl FailOn {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Tempfail => "tempfail",
            Self::Observe => "observe",
            Self::Unknown => "unknown",
        }
    }

    pub(super) fn fate(self) -> Fate {
        match self {
            Self::Reject => Fate::Refused,
            Self::Tempfail => Fate::Deferred,
            Self::Observe => Fate::Observed,
            Self::Unknown => Fate::Unknown,
        }
    }
}

/// The policies and the logs.
///
/// `--policy` takes several values, and logs may follow it. So the first value behind an option is a policy whatever it
/// is called, and what else follows is one where its name ends in `.toml`, as no log's does.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) policy: Vec<PathBuf>,
    pub(super) against: Vec<PathBuf>,
    pub(super) logs: Vec<PathBuf>,
}

impl Files {
    fn of(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut logs = Vec::new();
        let mut policies = |id: &str| {
            let mut found = Vec::new();
            for occurrence in matches.get_occurrences::<PathBuf>(id).into_iter().flatten() {
                for (place, path) in occurrence.enumerate() {
                    let is_policy = place == 0 || is_toml(path);
                    (if is_policy { &mut found } else { &mut logs }).push(path.clone());
                }
            }
            found
        };
        let (policy, against) = (policies("policy"), policies("against"));
        let positional = matches.get_many::<PathBuf>("log").into_iter().flatten();
        for path in positional {
            if is_toml(path) {
                return Err(wrong(&format!(
                    "{} is a policy by its name, and stands among the logs: put it behind --policy or --against",
                    path.display()
                )));
            }
            logs.push(path.clone());
        }
        if logs.is_empty() {
            return Err(wrong(
                "no log is named: give decision files or mail logs, or - for standard input, as in\n  \
                 encr-milter simulate --policy policy.toml /var/log/mail.log*",
            ));
        }
        Ok(Self { policy, against, logs })
    }
}

fn is_toml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

fn wrong(message: &str) -> clap::Error {
    clap::Error::raw(clap::error::ErrorKind::MissingRequiredArgument, format!("{message}\n"))
}

impl FromArgMatches for Files {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Self::of(matches)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::of(matches)?;
        Ok(())
    }
}

impl clap::Args for Files {
    fn augment_args(command: Command) -> Command {
        let path = |id: &'static str, value: &'static str| {
            Arg::new(id)
                .value_name(value)
                .value_parser(value_parser!(PathBuf))
                .action(ArgAction::Append)
                .num_args(1..)
        };
        command
            .arg(path("policy", "NEW").long("policy").required(true).help(
                "The policy to try: files (or globs), together one policy. Where logs follow, only the first need not \
                 be called *.toml",
            ))
            .arg(
                path("against", "OLD")
                    .long("against")
                    .help("The policy to compare with, likewise [default: what was decided then]"),
            )
            .arg(path("log", "LOG").help("Decision files and mail logs; - is standard input"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// A point in time as a person writes it.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    At(jiff::Timestamp),
    Local(DateTime),
    Day(Date),
}

impl When {
    fn parse(text: &str) -> Result<Self, String> {
        // A date is also a date and time to jiff, so it is tried before.
        let day = (text.len() == "2026-11-22".len()).then(|| text.parse().ok()).flatten();
        day.map(Self::Day)
            .or_else(|| text.parse().ok().map(Self::At))
            .or_else(|| text.parse().ok().map(Self::Local))
            .ok_or_else(|| {
                "write it as 2026-11-22, 2026-11-22T08:00, or 2026-11-22T08:00:00+01:00".to_owned()
            })
    }

    /// The first moment of it, or the first behind it.
    pub(super) fn resolve(self, zone: &TimeZone, behind: bool) -> Result<jiff::Timestamp, jiff::Error> {
        match self {
            Self::At(at) => Ok(at),
            Self::Local(at) => Ok(at.to_zoned(zone.clone())?.timestamp()),
            Self::Day(day) => {
                let day = if behind { day.tomorrow()? } else { day };
                Ok(day.to_zoned(zone.clone())?.timestamp())
            }
        }
    }
}

/// A time zone by its name.
pub(in super::super) fn zone(name: &str) -> Result<TimeZone, String> {
    // The one that is most often named here is known without a look at what zones the system has.
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name)
        .map_err(|_| "no time zone is called that; Europe/Berlin and UTC are names of some".to_owned())
}
