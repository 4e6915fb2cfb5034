//! `encr-milter promote`: a rule's demand, up to a harder mode, in the policy file itself, if the evidence allows it.

use super::change::{Change, Options, Way, harder_mode};
use super::{colour, complain, exit, today};
use crate::evidence::Store;
use crate::evidence::ripeness::{self, Ripeness};
use crate::policy::{Day, rule::Mode, step::Wish};
use crate::policy_file::load::{Disk, load};
use crate::report::next::shell_word;
use crate::telemetry::log::with_causes;
use serde::Serialize;
use std::io::{self, Write};

/// Make a rule harder, in the policy file itself, if the evidence allows it
///
/// The demand of the hardest mode below the given one moves up to it, one step at a time: of observe 256,
/// soft-fail 168, enforce 128, `--to enforce` makes soft-fail's 168 binding, and observe stays. What the
/// mode demanded before makes way; its own percent, max-delay and a day to come stay. With a day to come (--from),
/// the softer mode stays beside it, for until then nothing else watches.
///
/// The policy's [gate] is asked first: days, messages, failures, and whether each peer was seen to pass.
/// A failure counts until it is older than min-days and its peer has passed since. All else in the file stays
/// byte for byte; the file is replaced as a whole, and only if the policy is sound then. The running daemon takes it
/// by itself.
///
/// With --check, all rules are asked: one line for each that is ripe, with the command for it, and nothing where
/// none is, as cron likes it.
///
/// Exits 0 where it is done (and after --check), 1 where the gate is shut, 64 where there is no such
/// rule or step, 65 where the file cannot be changed so, 66 where there is no evidence to read (--check), 73 or 74
/// where it cannot be written, 75 where somebody else changed it meanwhile, 78 where the policy is wrong.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The rule's name
    #[arg(value_name = "RULE", required_unless_present = "check", conflicts_with = "check")]
    rule: Option<String>,
    /// The mode that it shall have: soft-fail or enforce
    #[arg(long, value_name = "MODE", required_unless_present = "check", conflicts_with = "check", value_parser = harder_mode())]
    to: Option<Mode>,
    /// In force from that day on, 00:00 UTC: 2027-01-15
    #[arg(long, value_name = "DATE", value_parser = day, conflicts_with = "check")]
    from: Option<Day>,
    /// Ask all rules whether they are ripe, and change nothing
    #[arg(long, conflicts_with_all = ["force", "dry_run", "percent", "max_delay"])]
    check: bool,
    /// With --check: show every rule, and what stands against it
    #[arg(long, requires = "check")]
    all: bool,
    #[command(flatten)]
    options: Options,
}

fn day(text: &str) -> Result<Day, &'static str> {
    Day::parse(text).ok_or("a day is written 2027-01-15")
}

pub(super) fn run(arguments: &Arguments) -> io::Result<u8> {
    let options = &arguments.options;
    match (&arguments.rule, arguments.to) {
        (Some(rule), Some(to)) => {
            let wish = Wish { percent: options.percent, max_delay: options.max_delay, from: arguments.from };
            Change { today: today(), way: Way::Up, rule, to, wish, options }.run()
        }
        _ => check(arguments),
    }
}

/// One rule, as `--check --json` tells it.
#[derive(Serialize)]
struct Checked<'a> {
    #[serde(flatten)]
    ripeness: &'a Ripeness,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
}

/// Asks all rules.
fn check(arguments: &Arguments) -> io::Result<u8> {
    let place = &arguments.options.installation;
    let found = match place.find() {
        Ok(found) => found,
        Err((diagnostics, sources)) => {
            io::stderr().lock().write_all(diagnostics.render(&sources, colour()).as_bytes())?;
            return Ok(exit::CONFIG);
        }
    };
    let today = today();
    let loaded = load(&found.request, &mut Disk, today);
    let Some(policy) = loaded.policy else {
        let shown = loaded.diagnostics.render(&loaded.sources, colour());
        io::stderr().lock().write_all(shown.as_bytes())?;
        return Ok(exit::CONFIG);
    };
    let Some(evidence) = found.evidence else {
        complain("whether a rule is ripe is asked of the evidence: give it with --evidence FILE");
        return Ok(exit::USAGE);
    };
    let store = Store::open_read_only(&evidence);
    let all = match store.and_then(|store| ripeness::of_all(&store, &policy, today)) {
        Ok(all) => all,
        Err(error) => {
            complain(&format!("cannot read the evidence: {}", with_causes(&error)));
            return Ok(exit::NO_INPUT);
        }
    };
    let command = |ripeness: &Ripeness| {
        let rule = shell_word(&ripeness.rule);
        ripeness.ripe.then(|| format!("encr-milter promote {rule} --to {}{}", ripeness.to, place.arguments()))
    };
    let mut out = io::stdout().lock();
    if arguments.options.json {
        let shown = all.iter().filter(|ripeness| arguments.all || ripeness.ripe);
        let shown: Vec<_> = shown.map(|ripeness| Checked { ripeness, command: command(ripeness) }).collect();
        serde_json::to_writer_pretty(&mut out, &shown)?;
        writeln!(out)?;
        return Ok(exit::OK);
    }
    // Evidence that has ended is the same for all rules, and would go unnoticed for ever.
    let ended = all.iter().flat_map(Ripeness::against).find(|asked| asked.gate == "evidence");
    if let Some(ended) = ended {
        complain(&ended.words);
    }
    for ripeness in all.iter().filter(|ripeness| arguments.all || ripeness.ripe) {
        let Ripeness { rule, from, to, requirement, .. } = ripeness;
        match command(ripeness) {
            Some(command) => writeln!(out, "{rule}: {requirement} is ripe for {to}, from {from}: {command}")?,
            None => writeln!(out, "{rule}: {requirement} is not ripe for {to}, from {from}:")?,
        }
        if arguments.all {
            out.write_all(lines(ripeness).as_bytes())?;
        }
    }
    if arguments.all {
        let asked = |name: &str| all.iter().any(|ripeness| ripeness.rule == name);
        for rule in policy.rules().iter().filter(|rule| !asked(&rule.name)) {
            writeln!(out, "{}: nothing to promote", rule.name)?;
        }
    }
    Ok(exit::OK)
}

/// The gate's questions and answers, one a line.
pub(super) fn lines(ripeness: &Ripeness) -> String {
    let line = |asked: &ripeness::Asked| {
        let mark = if asked.holds { "yes" } else { "no " };
        format!("  {mark} {}: {}\n", asked.gate, asked.words)
    };
    ripeness.gates.iter().map(line).collect()
}
