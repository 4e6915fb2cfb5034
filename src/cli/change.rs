//! A step of a rule, made in the policy's file: what `promote` and `demote` have in common.
//!
//! Promises: nothing is written unless the whole policy is sound afterwards and differs in that step alone; a file
//! that somebody changed meanwhile is left as it is; what was overridden by force is said.

use super::file::{Seen, quoted, unified_diff};
use super::installation::Installation;
use super::promote::lines;
use super::{colour, complain, exit};
use crate::diagnostics::{Diagnostic, DiagnosticRecord, Diagnostics, Sources};
use crate::evidence::Store;
use crate::evidence::ripeness::{self, Ripeness};
use crate::policy::rule::{Delay, Mode, Rule};
use crate::policy::step::{self, Proposal, Step, Wish};
use crate::policy::{Day, Policy};
use crate::policy_file::load::{Disk, Loaded, ReadError, Request, Store as Files, load};
use crate::policy_file::{diff, edit, walk};
use crate::telemetry::log::with_causes;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use std::borrow::Cow;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What both commands take.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) installation: Installation,
    /// With --to soft-fail: defer this share of what fails
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(super) percent: Option<u8>,
    /// With --to soft-fail: defer a message for so long at the most: 4h, 90m, 1d
    #[arg(long, value_name = "SPAN", value_parser = clap::value_parser!(Delay))]
    pub(super) max_delay: Option<Delay>,
    /// Do it in spite of all that stands against it, which is shown
    #[arg(long)]
    force: bool,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Tell it as one JSON object on standard output
    #[arg(long)]
    pub(super) json: bool,
}

/// The modes that a rule can be promoted to.
pub(super) fn harder_mode() -> impl TypedValueParser<Value = Mode> {
    mode_parser([Mode::SoftFail, Mode::Enforce])
}

/// The modes that a rule can be demoted to.
pub(super) fn softer_mode() -> impl TypedValueParser<Value = Mode> {
    mode_parser([Mode::Observe, Mode::SoftFail])
}

fn mode_parser(modes: [Mode; 2]) -> impl TypedValueParser<Value = Mode> {
    let named = |text: String| Mode::HARDEST_FIRST.into_iter().find(|mode| mode.as_str() == text);
    PossibleValuesParser::new(modes.map(Mode::as_str)).try_map(move |text| named(text).ok_or("no mode"))
}

/// Up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

/// A change that is asked for.
pub(super) struct Change<'a> {
    /// One day for all of it, should midnight pass meanwhile.
    pub(super) today: Day,
    pub(super) way: Way,
    pub(super) rule: &'a str,
    pub(super) to: Mode,
    pub(super) wish: Wish,
    pub(super) options: &'a Options,
}

/// What came of it.
#[derive(Default)]
struct Outcome {
    code: u8,
    /// Why not, in one sentence.
    failed: Option<String>,
    diagnostics: Diagnostics,
    sources: Sources,
    ripeness: Option<Ripeness>,
    /// What stands against it, beside what the gate says.
    objections: Vec<String>,
    from: Option<Mode>,
    policy: Option<String>,
    made: Option<Made>,
}

/// A change that was made, or would be.
struct Made {
    path: PathBuf,
    written: bool,
    diff: Vec<u8>,
    meaning: Vec<String>,
    policy: String,
    next: Option<String>,
}

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    rule: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Mode>,
    to: Mode,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<&'a str>,
    /// What stands against it.
    against: Vec<Cow<'a, str>>,
    /// Whether it was done in spite of that.
    forced: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ripeness: Option<&'a Ripeness>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    written: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<&'a [String]>,
    /// The fingerprints before and after.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_after: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
    diagnostics: Vec<DiagnosticRecord<'a>>,
}

/// Files on the disk, but for one, which is as it would be.
struct With<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Files for With<'_> {
    fn expand(&mut self, pattern: &Path) -> Result<Vec<PathBuf>, ReadError> {
        Disk.expand(pattern)
    }

    fn read(&mut self, path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
        match path == self.path {
            true if self.text.len() as u64 > limit => Err(ReadError::TooLarge),
            true => Ok(self.text.as_bytes().to_vec()),
            false => Disk.read(path, limit),
        }
    }
}

impl Outcome {
    fn fail(&mut self, code: u8, why: impl Into<String>) {
        self.code = code;
        self.failed = Some(why.into());
    }

    /// All that stands against it, in words.
    fn against(&self) -> Vec<Cow<'_, str>> {
        let gates = self.ripeness.iter().flat_map(Ripeness::against);
        let gates = gates.map(|asked| Cow::Owned(format!("{}: {}", asked.gate, asked.words)));
        self.objections.iter().map(|words| Cow::Borrowed(words.as_str())).chain(gates).collect()
    }
}

impl Change<'_> {
    pub(super) fn run(&self) -> io::Result<u8> {
        let mut outcome = Outcome::default();
        self.work(&mut outcome);
        if self.options.json {
            self.report(&outcome)?;
        } else {
            Self::picture(&outcome)?;
        }
        Ok(outcome.code)
    }

    /// Does it, and says nothing yet.
    fn work(&self, outcome: &mut Outcome) {
        let found = match self.options.installation.find() {
            Ok(found) => found,
            Err((diagnostics, sources)) => {
                (outcome.diagnostics, outcome.sources) = (diagnostics, sources);
                return outcome.fail(exit::CONFIG, "the daemon's file is wrong: nothing is written");
            }
        };
        let loaded = load(&found.request, &mut Disk, self.today);
        let Some(policy) = &loaded.policy else {
            (outcome.diagnostics, outcome.sources) = (loaded.diagnostics, loaded.sources);
            return outcome.fail(exit::CONFIG, "the policy is wrong as it is: nothing is written");
        };
        outcome.policy = Some(policy.fingerprint().as_str().to_owned());
        let Some(rule) = policy.rules().iter().find(|rule| rule.name == self.rule) else {
            return outcome.fail(exit::USAGE, unknown_rule(self.rule, policy));
        };
        let proposal = match self.way {
            Way::Up => step::promote(rule, self.to, self.wish, self.today),
            Way::Down => step::demote(rule, self.to, self.wish, self.today),
        };
        let Proposal { step, objections } = match proposal {
            Ok(proposal) => proposal,
            Err(none) => return outcome.fail(exit::USAGE, none.to_string()),
        };
        outcome.from = step.source;
        outcome.objections = objections;
        if let (Way::Up, Some(from)) = (self.way, step.source) {
            self.ask(found.evidence.as_deref(), policy, rule, from, outcome);
        }
        if !self.options.force && !outcome.against().is_empty() {
            let why = format!("rule `{}` is not made {}: nothing is written", self.rule, self.to);
            return outcome.fail(exit::GATE, why);
        }
        self.make(&found.request, &loaded, &step, outcome);
    }

    /// Asks the evidence whether the rule is ripe.
    fn ask(&self, evidence: Option<&Path>, policy: &Policy, rule: &Rule, from: Mode, outcome: &mut Outcome) {
        let Some(evidence) = evidence else {
            let words =
                "there is no evidence to ask: give it with --evidence FILE, or the daemon's file with -c";
            return outcome.objections.push(words.to_owned());
        };
        let asked = Store::open_read_only(evidence)
            .and_then(|store| ripeness::of_step(&store, policy.gate(), rule, (from, self.to), self.today));
        match asked {
            Ok(mut ripeness) => {
                // What the policy has against the very step that is asked for has been said.
                if let Some(ripeness) = &mut ripeness {
                    ripeness.gates.retain(|asked| asked.gate != ripeness::STEP);
                    ripeness.ripe = ripeness.gates.iter().all(|asked| asked.holds);
                }
                outcome.ripeness = ripeness;
            }
            Err(error) => {
                outcome.objections.push(format!("the evidence cannot be read: {}", with_causes(&error)));
            }
        }
    }

    /// Changes the file that has the rule.
    fn make(&self, request: &Request, loaded: &Loaded, step: &Step, outcome: &mut Outcome) {
        let mut files = loaded.sources.iter().take(loaded.policy_files);
        // A policy that has the rule has a file that has it, in a way that `edit` finds, or refuses with words.
        let Some(source) = files.find(|source| edit::has_rule(&source.text, self.rule)) else {
            return outcome.fail(exit::DATA, edit::EditError::NoRule(self.rule.to_owned()).to_string());
        };
        let path = source.path.clone();
        let seen = match Seen::read(&path) {
            Ok(seen) => seen,
            Err(error) => {
                return outcome.fail(exit::NO_INPUT, format!("cannot read {}: {error}", path.display()));
            }
        };
        if seen.bytes != source.text.as_bytes() {
            let why = format!("{} was changed meanwhile: run this again", path.display());
            return outcome.fail(exit::TEMP_FAIL, why);
        }
        let text = match edit::apply(&source.text, self.rule, step) {
            Ok(text) => text,
            Err(error) => return outcome.fail(exit::DATA, format!("{}: {error}", path.display())),
        };
        let after = load(request, &mut With { path: &path, text: &text }, self.today);
        let (Some(before), Some(new)) = (&loaded.policy, &after.policy) else {
            (outcome.diagnostics, outcome.sources) = (after.diagnostics, after.sources);
            return outcome.fail(exit::CONFIG, "the policy would be wrong then: nothing is written");
        };
        if !differs_in(before, new, self.rule, step) {
            let why = format!(
                "{}: more than rule `{}` would change: nothing is written",
                path.display(),
                self.rule
            );
            return outcome.fail(exit::DATA, why);
        }
        let written = !self.options.dry_run;
        if written && let Err(failed) = seen.replace(text.as_bytes()) {
            outcome.diagnostics.push(failed.diagnostic(&path));
            return outcome.fail(failed.exit_code(), "nothing is written");
        }
        for told in after.diagnostics.iter().filter(|told| !is_told(&loaded.diagnostics, told)) {
            outcome.diagnostics.push(told.clone());
        }
        let next = (self.to == Mode::Enforce).then(|| {
            let files: Vec<String> = request.patterns.iter().map(|path| quoted(path)).collect();
            format!("encr-milter access export --policy {}", files.join(" "))
        });
        outcome.made = Some(Made {
            diff: unified_diff(&path, source.text.as_bytes(), text.as_bytes()),
            meaning: diff::diff(before, new),
            policy: new.fingerprint().as_str().to_owned(),
            path,
            written,
            next,
        });
        outcome.sources = after.sources;
    }

    fn report(&self, outcome: &Outcome) -> io::Result<()> {
        let made = outcome.made.as_ref();
        let against = outcome.against();
        let report = Report {
            ok: outcome.code == exit::OK,
            rule: self.rule,
            from: outcome.from,
            to: self.to,
            failed: outcome.failed.as_deref(),
            forced: made.is_some() && !against.is_empty(),
            against,
            ripeness: outcome.ripeness.as_ref(),
            file: made.map(|made| made.path.display().to_string()),
            written: made.is_some_and(|made| made.written),
            diff: made.map(|made| String::from_utf8_lossy(&made.diff)),
            changes: made.map(|made| made.meaning.as_slice()),
            policy: outcome.policy.as_deref(),
            policy_after: made.map(|made| made.policy.as_str()),
            next: made.and_then(|made| made.next.as_deref()),
            diagnostics: outcome.diagnostics.records(&outcome.sources),
        };
        let mut out = io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)
    }

    fn picture(outcome: &Outcome) -> io::Result<()> {
        let mut err = io::stderr().lock();
        err.write_all(outcome.diagnostics.render(&outcome.sources, colour()).as_bytes())?;
        if let Some(failed) = &outcome.failed {
            complain(failed);
        }
        let Some(made) = &outcome.made else {
            for objection in &outcome.objections {
                writeln!(err, "  no  {objection}")?;
            }
            if let Some(ripeness) = &outcome.ripeness {
                err.write_all(lines(ripeness).as_bytes())?;
            }
            if outcome.code == exit::GATE {
                writeln!(err, "Who knows better adds --force.")?;
            }
            return Ok(());
        };
        // First what matters: should the diff find no reader, the file is written all the same.
        let done = if made.written { "written" } else { "a dry run, nothing is written" };
        complain(&format!("{}: {done}", made.path.display()));
        for change in &made.meaning {
            writeln!(err, "  {change}")?;
        }
        for against in outcome.against() {
            writeln!(err, "  in spite of {against}")?;
        }
        if made.written {
            writeln!(
                err,
                "The running daemon takes it by itself; its log says then: policy in force policy={}",
                made.policy
            )?;
        }
        if let Some(next) = &made.next {
            writeln!(err, "Next, when it has stood the test, the same for when no milter runs:\n  {next}")?;
        }
        io::stdout().lock().write_all(&made.diff)
    }
}

/// Whether two policies are the same but for a step of one rule.
fn differs_in(before: &Policy, after: &Policy, rule: &str, step: &Step) -> bool {
    let expected = before.rules().iter().map(|old| {
        let mut expected = old.clone();
        if old.name == rule {
            expected.modes = step.after.clone();
        }
        expected
    });
    let rule_line = format!("rule {rule}: ");
    expected.eq(after.rules().iter().cloned())
        && diff::diff(before, after).iter().all(|line| line.starts_with(&rule_line))
}

/// Whether the same has been told of the policy as it was.
fn is_told(before: &Diagnostics, told: &Diagnostic) -> bool {
    before.iter().any(|known| known.code == told.code && known.message == told.message)
}

fn unknown_rule(name: &str, policy: &Policy) -> String {
    let known: Vec<&str> = policy.rules().iter().map(|rule| rule.name.as_str()).collect();
    match walk::nearest(name, &known) {
        Some(near) => format!("no rule is named `{name}`: did you mean `{near}`?"),
        None if known.len() <= 20 => format!("no rule is named `{name}`; there are {}", known.join(", ")),
        None => format!("no rule is named `{name}`"),
    }
}
