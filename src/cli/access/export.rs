//! `encr-milter access export`: a policy's ripened rules as lines of sendmail's access map.
//!
//! Promises: what is not told to be written is not written; an access file changes within the marked block and
//! nowhere else, and only where no error stands. The map itself is never rebuilt: that is the administrator's to do.
//! Must not: know what the lines mean (see [`crate::sendmail::export`]).

use super::super::file::{Seen, quoted, unified_diff};
use super::super::{colour, complain, exit, today};
use crate::diagnostics::{Diagnostic, DiagnosticRecord, Diagnostics, FileId, Place, Sources};
use crate::policy::{Day, rule};
use crate::policy_file::load::{DEFAULT_MAX_SIZE, Disk, Request, load};
use crate::sendmail::block;
use crate::sendmail::export::{Export, Line, export};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Turn a policy's rules of one mode into lines of sendmail's access map, which hold when no milter runs
///
/// The lines are one block between two marked comments. They go to standard output, or, with --into, in
/// the place of the block that the file has (at its end where it has none); all else in the file stays as
/// it is, and so do its owner and mode. The change is shown as a diff. The map is not rebuilt: the command
/// for that is told.
///
/// Whatever an access map cannot hold (min-version, percent, dates, senders) is told as a warning. Exits 0
/// where the block was made, 66 where there is no such file, 75 where somebody else changed it meanwhile,
/// and 78 where the policy is wrong, or the map would not be what the policy is; nothing is written then.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Policy files (or globs), together one policy
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    policy: Vec<PathBuf>,
    /// The mode whose demands are exported
    #[arg(long, value_name = "MODE", value_enum, default_value_t = Mode::Enforce)]
    mode: Mode,
    /// The access file to put the block into (the text, not access.db)
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,
    /// Show what would change, and change nothing
    #[arg(long, requires = "into")]
    dry_run: bool,
    /// Tell it as one JSON object on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Mode {
    /// What is refused: PERM+
    Enforce,
    /// What is deferred: TEMP+
    SoftFail,
}

impl From<Mode> for rule::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Enforce => Self::Enforce,
            Mode::SoftFail => Self::SoftFail,
        }
    }
}

/// What came of it.
struct Outcome {
    code: u8,
    diagnostics: Diagnostics,
    sources: Sources,
    export: Option<Export>,
    policy: Option<String>,
    change: Option<Change>,
}

/// What became of the access file.
struct Change {
    /// Empty where the file is as it should be.
    diff: Vec<u8>,
    written: bool,
    command: String,
}

impl Outcome {
    fn fail(&mut self, code: u8, diagnostic: Diagnostic) {
        self.code = code;
        self.diagnostics.push(diagnostic);
    }
}

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    mode: rule::Mode,
    lines: Vec<LineRecord<'a>>,
    /// Whether the file is, or with `--dry-run` would be, another than before.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a str>,
    diagnostics: Vec<DiagnosticRecord<'a>>,
}

#[derive(Serialize)]
struct LineRecord<'a> {
    key: &'a str,
    value: &'a str,
    /// Absent for what `[exempt]` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    /// The number of the line outside of the block that says it, so that the block does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    outside: Option<usize>,
}

pub(super) fn run(arguments: &Arguments) -> io::Result<u8> {
    let outcome = work(arguments, today());
    if arguments.json {
        report(arguments, &outcome)?;
    } else {
        picture(arguments, &outcome)?;
    }
    Ok(outcome.code)
}

/// Does it, and says nothing yet.
fn work(arguments: &Arguments, today: Day) -> Outcome {
    let request = Request { patterns: arguments.policy.clone(), max_size: DEFAULT_MAX_SIZE };
    let loaded = load(&request, &mut Disk, today);
    let mut outcome = Outcome {
        code: exit::OK,
        diagnostics: Diagnostics::default(),
        sources: Sources::default(),
        export: None,
        policy: None,
        change: None,
    };
    let Some(policy) = loaded.policy else {
        let (diagnostics, sources) = (loaded.diagnostics, loaded.sources);
        return Outcome { code: exit::CONFIG, diagnostics, sources, ..outcome };
    };
    outcome.policy = Some(policy.fingerprint().as_str().to_owned());
    let file = match arguments.into.as_deref().map(|path| (path, access_file(path, &mut outcome))) {
        None => None,
        Some((path, Some(file))) => Some((path, file)),
        Some((_, None)) => return outcome,
    };
    let taken = file.as_ref().map_or_else(BTreeSet::new, |(_, file)| file.tags.clone());
    let mut made = export(&policy, today, arguments.mode.into(), &taken);
    for diagnostic in std::mem::take(&mut made.diagnostics).iter() {
        outcome.diagnostics.push(diagnostic.clone());
    }
    if let Some((_, file)) = &file {
        meet_outside(file, &mut made, &mut outcome);
    }
    if outcome.diagnostics.has_errors() {
        outcome.code = exit::CONFIG;
    } else if let Some((path, file)) = &file {
        put(path, &file.seen, &made.block(), arguments.dry_run, &mut outcome);
    }
    outcome.export = Some(made);
    outcome
}

/// The access file.
struct AccessFile {
    seen: Seen,
    /// Its text as it is shown, for places in it.
    id: FileId,
    shown: String,
    /// The tags that it uses outside of the block.
    tags: BTreeSet<String>,
}

/// Reads the access file. What is wrong with its markers is told; so is why it cannot be read.
fn access_file(path: &Path, outcome: &mut Outcome) -> Option<AccessFile> {
    let seen = match Seen::read(path) {
        Ok(seen) => seen,
        Err(error) => {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => {
                    "for a map that is yet to be, make an empty file first; without --into the lines go to standard output"
                }
                _ => "give the text file that the map is made from",
            };
            let message = format!("cannot read {}: {error}", path.display());
            let diagnostic = Diagnostic::error("unreadable-file", message).in_file(path).hint(hint);
            outcome.fail(exit::NO_INPUT, diagnostic);
            return None;
        }
    };
    if seen.bytes.contains(&0) {
        let hint = "give the file that the map is made from, not the map (access, not access.db)";
        let message = format!("{} is no text", path.display());
        outcome.fail(exit::DATA, Diagnostic::error("not-text", message).in_file(path).hint(hint));
        return None;
    }
    // Markers and keys that matter are ASCII, so that they are found alike in the text as it is shown.
    let shown = String::from_utf8_lossy(&seen.bytes).into_owned();
    let id = outcome.sources.add(path.to_path_buf(), shown.as_str().into());
    let tags = match block::tags_outside(shown.as_bytes()) {
        Ok(tags) => tags,
        Err(damaged) => {
            let message = format!("the marked block is damaged: {}", damaged.what.words());
            let hint = format!(
                "a block begins with `{}` and ends with `{}`: mend it, or take the whole of it out",
                block::BEGIN,
                block::END
            );
            let place = Place { file: id, span: damaged.span };
            outcome.diagnostics.push(Diagnostic::error("damaged-block", message).at(place).hint(hint));
            BTreeSet::new()
        }
    };
    Some(AccessFile { seen, id, shown, tags })
}

/// Lines around the block that have a key of the block's: makemap would keep the first and complain of the other.
/// One that says the same stands for the block's; another is told.
fn meet_outside(file: &AccessFile, made: &mut Export, outcome: &mut Outcome) {
    let own: HashMap<String, (String, Option<String>)> = made
        .lines()
        .map(|(rule, line)| (line.key.to_ascii_lowercase(), (line.value.clone(), rule.map(str::to_owned))))
        .collect();
    let mut same: HashMap<String, (usize, usize)> = HashMap::new();
    for outside in block::keys_outside(file.shown.as_bytes()).unwrap_or_default() {
        let key = String::from_utf8_lossy(outside.key);
        let lower = key.to_ascii_lowercase();
        let Some((value, rule)) = own.get(&lower) else { continue };
        let said = outside.value.map(String::from_utf8_lossy);
        if said.is_some_and(|said| block::say_the_same(&said, value)) {
            same.entry(lower).or_insert((outside.number, outside.span.start));
            continue;
        }
        let who = match rule {
            Some(rule) => format!("rule `{rule}`"),
            None => "[exempt]".to_owned(),
        };
        let message = format!("`{key}` stands outside of the block, and would stand in it too");
        outcome.diagnostics.push(
            Diagnostic::error("duplicate-key", message)
                .at(Place { file: file.id, span: outside.span })
                .label("makemap takes the first and complains of the other")
                .hint(format!("take this line out, or let it say `{value}`: {who} of the policy says so")),
        );
    }
    if same.is_empty() {
        return;
    }
    // Behind the block, lines move by as many as the block becomes longer.
    let old = block::find(file.shown.as_bytes()).ok().flatten();
    let count = |text: &str| text.bytes().filter(|b| *b == b'\n').count();
    let (end, before) =
        old.map_or((usize::MAX, 0), |old| (old.end, count(file.shown.get(old).unwrap_or_default())));
    let find = |line: &Line| same.get(&line.key.to_ascii_lowercase()).copied();
    made.leave_out(|line| find(line).map(|(number, _)| number));
    let after = count(&made.block());
    made.leave_out(|line| {
        find(line).map(|(number, at)| if at < end { number } else { number + after - before })
    });
}

/// Puts the block into the file, or says what that would change.
fn put(path: &Path, seen: &Seen, block: &str, dry_run: bool, outcome: &mut Outcome) {
    // Damaged markers have been told, and nothing gets here then.
    let Ok(new) = block::replace(&seen.bytes, block) else { return };
    let written = new != seen.bytes && !dry_run;
    if written && let Err(failed) = seen.replace(&new) {
        outcome.fail(failed.exit_code(), failed.diagnostic(path));
        return;
    }
    let diff = unified_diff(path, &seen.bytes, &new);
    outcome.change = Some(Change { diff, written, command: rebuild(path, seen.target()) });
}

/// The command that makes the map of the file. A symlink's Makefile is beside what it points to.
fn rebuild(path: &Path, target: &Path) -> String {
    let beside = if path.is_symlink() { target } else { path };
    let folder = beside.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.join("Makefile").is_file() {
        format!("make -C {}", quoted(folder))
    } else {
        let path = quoted(path);
        format!("makemap hash {path} < {path}")
    }
}

fn report(arguments: &Arguments, outcome: &Outcome) -> io::Result<()> {
    let change = outcome.change.as_ref();
    let report = Report {
        ok: outcome.code == exit::OK,
        policy: outcome.policy.as_deref(),
        mode: arguments.mode.into(),
        lines: outcome
            .export
            .iter()
            .flat_map(Export::lines)
            .map(|(rule, line)| LineRecord {
                key: &line.key,
                value: &line.value,
                rule,
                outside: line.outside,
            })
            .collect(),
        changed: change.map(|change| !change.diff.is_empty()),
        written: change.map(|change| change.written),
        diff: change.map(|change| String::from_utf8_lossy(&change.diff)),
        command: change.map(|change| change.command.as_str()),
        diagnostics: outcome.diagnostics.records(&outcome.sources),
    };
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &report)?;
    writeln!(out)
}

fn picture(arguments: &Arguments, outcome: &Outcome) -> io::Result<()> {
    let mut text = outcome.diagnostics.render(&outcome.sources, colour());
    if let Some(summary) = outcome.diagnostics.summary() {
        text.push_str(&summary);
        text.push('\n');
    }
    io::stderr().lock().write_all(text.as_bytes())?;
    let Some(path) = arguments.into.as_deref().map(Path::display) else {
        return match outcome.export.as_ref().filter(|_| outcome.code == exit::OK) {
            Some(export) => io::stdout().lock().write_all(export.block().as_bytes()),
            None => Ok(()),
        };
    };
    match &outcome.change {
        None => complain(&format!("{path}: nothing is written")),
        Some(change) if change.diff.is_empty() => complain(&format!("{path}: unchanged, nothing to write")),
        Some(Change { diff, written, command }) => {
            // First what matters: should the diff find no reader, the file is written all the same.
            if *written {
                complain(&format!("{path}: written; now have the map made:\n  {command}"));
            } else {
                complain(&format!("{path}: a dry run, nothing is written; this would be next:\n  {command}"));
            }
            io::stdout().lock().write_all(diff)?;
        }
    }
    Ok(())
}
