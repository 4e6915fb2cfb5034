//! What a check found: a code, how bad it is, the words, and what to do.

use crate::policy::record::plain;
use serde::Serialize;

/// What is quoted of a file may be of any length.
const LONGEST: usize = 2000;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Could not be looked at: neither sound nor wrong.
    NotLooked,
    /// Works, and may surprise.
    Warning,
    /// Mail is not judged, or not as the policy says, or is refused by mistake.
    Problem,
}

impl Level {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotLooked => "not looked",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// The daemon, its file and its policy.
    Daemon,
    /// The MTA, and how the milter is attached to it.
    Mta,
    /// What the MTA offers, and what the policy asks for.
    Tls,
    /// sendmail's access map, which comes before us.
    Access,
    /// Mail that leaves.
    Outbound,
    /// What is told with each message, and what is written down.
    Records,
}

impl Area {
    /// Its heading.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Daemon => "the daemon",
            Self::Mta => "the MTA and the milter",
            Self::Tls => "what the MTA offers",
            Self::Access => "the access map",
            Self::Outbound => "mail that leaves",
            Self::Records => "what is recorded",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub area: Area,
    /// A stable word for what was looked at.
    pub code: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do, a line or a command each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remedy: Vec<String>,
}

/// Files say what they like, and a terminal takes some of it for commands.
fn legible(text: &str) -> String {
    let cut = text.char_indices().nth(LONGEST).map_or(text.len(), |(at, _)| at);
    let kept = text.get(..cut).unwrap_or_default();
    format!("{}{}", plain(kept), if cut < text.len() { "…" } else { "" })
}

/// What was found so far, in the order of looking.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) list: Vec<Finding>,
}

impl Findings {
    fn add(
        &mut self,
        area: Area,
        level: Level,
        code: &'static str,
        found: impl Into<String>,
        remedy: &[&str],
    ) {
        let remedy = remedy.iter().map(|line| legible(line)).collect();
        self.list.push(Finding { area, code, level, found: legible(&found.into()), remedy });
    }

    pub(super) fn ok(&mut self, area: Area, code: &'static str, found: impl Into<String>) {
        self.add(area, Level::Ok, code, found, &[]);
    }

    pub(super) fn not_looked(
        &mut self,
        area: Area,
        code: &'static str,
        found: impl Into<String>,
        remedy: &[&str],
    ) {
        self.add(area, Level::NotLooked, code, found, remedy);
    }

    pub(super) fn warning(
        &mut self,
        area: Area,
        code: &'static str,
        found: impl Into<String>,
        remedy: &[&str],
    ) {
        self.add(area, Level::Warning, code, found, remedy);
    }

    pub(super) fn problem(
        &mut self,
        area: Area,
        code: &'static str,
        found: impl Into<String>,
        remedy: &[&str],
    ) {
        self.add(area, Level::Problem, code, found, remedy);
    }

    /// Whether something of this code is wrong.
    pub(super) fn has_problem(&self, code: &str) -> bool {
        self.list.iter().any(|finding| finding.code == code && finding.level == Level::Problem)
    }
}
