//! The report on a terminal: tables, and bars made of characters, that fit its width.
//!
//! Promises: no line is wider than the terminal; all can be read without colours; a list that was cut says so; it ends
//! with what to do next.

mod bars;
mod dossier;
mod table;

pub use dossier::dossier;
pub use table::Look;

use super::exemptions::{Exemptions, Standing};
use super::next::{empty, next_steps};
use super::standing::{ModeStanding, RuleStanding};
use super::strength::by_strength;
use super::timeline::timeline;
use super::words::{
    all_exempt, by_rule, counted, date, decided_by, domain_name, in_short, mail, minute, number, or_dash,
    safe, share, until_words, used, way,
};
use super::{Origin, Report};
use crate::evidence::questions::events::{Fates, Happened};
use crate::evidence::questions::exposure::{Exposure, NO_TLS, Tally, VersionShare};
use std::fmt::Write;
use table::{Column, Tone, Value, count, text, word};

/// The bar of a domain in a table.
const BAR: usize = 12;

/// The whole report.
pub fn report(report: &Report, look: Look) -> String {
    let mut out = opening("What the evidence says", &report.origin, look);
    if report.extent.decisions == 0 {
        for line in empty(&report.origin) {
            out.push_str(&look.paragraph(&line, ""));
        }
        return out;
    }
    let first = report.extent.first_day.as_deref().unwrap_or_default();
    let last = report.extent.last_day.as_deref().unwrap_or_default();
    let decisions = counted(report.extent.decisions, "decision");
    out.push_str(&look.paragraph(&format!("{decisions} from {first} to {last}"), ""));
    for exposure in &report.who_would_break {
        out.push_str(&who_would_break(exposure, look));
    }
    out.push_str(&rules(report, look));
    out.push_str(&what_happened(&report.what_happened, look));
    out.push_str(&exemptions(&report.exemptions, look));
    out.push_str(&look.heading("What to do next"));
    for step in next_steps(report) {
        out.push_str(&look.paragraph(&step.why, ""));
        // To be copied: a command is not broken by us.
        let _ = writeln!(out, "  {}", safe(&step.command));
    }
    out
}

/// Title, and where it all comes from.
fn opening(title: &str, origin: &Origin, look: Look) -> String {
    let mut out = look.heading(title).trim_start().to_owned();
    out.push_str(&look.paragraph(&from_where(origin), ""));
    for note in &origin.notes {
        out.push_str(&look.paragraph(&format!("note: {}", safe(note)), "  "));
    }
    out
}

/// Where it all comes from, in a sentence.
fn from_where(origin: &Origin) -> String {
    let policy = match &origin.policy {
        Some(fingerprint) => format!("policy {fingerprint}"),
        None => "no policy".to_owned(),
    };
    let mut period = String::new();
    // Writing to a String cannot fail.
    if let Some(since) = origin.since {
        let _ = write!(period, ", since {since}");
    }
    if let Some(until) = origin.until {
        let _ = write!(period, ", until {until}");
    }
    let (source, made, version) = (safe(&origin.source), minute(origin.made), origin.version);
    format!("{source}{period}; {policy}; encr-milter {version}, {made}")
}

/// So many of a list; says what was cut.
fn cut<T>(list: Vec<T>, look: Look) -> (Vec<T>, String) {
    let left = list.len().saturating_sub(look.top);
    let said = if left > 0 { format!("and {} more (--all)\n", number(left as u64)) } else { String::new() };
    (list.into_iter().take(look.top).collect(), said)
}

const EXPOSURE: [Column; 12] = [
    text("domain"),
    count("messages"),
    count("peers").goes(6),
    word("bits").goes(5),
    count("clear"),
    count("112"),
    count("128"),
    count("256"),
    count("TLS 1.2").goes(2),
    count("TLS 1.3").goes(3),
    count("verify").goes(4),
    word("last seen").goes(7),
];

fn who_would_break(exposure: &Exposure, look: Look) -> String {
    let Exposure { direction, exempt, total, domains } = exposure;
    let mut out = look.heading(&format!("Who would break? {}", mail(*direction)));
    if total.messages == 0 {
        out.push_str(&look.paragraph(&all_exempt(*exempt), ""));
        return out;
    }
    let mut said = format!(
        "{} of {}, {} in the clear; versions: {}.",
        counted(total.messages, "message"),
        counted(total.peers, "peer"),
        share(total.in_the_clear, total.messages),
        versions(total),
    );
    if *exempt > 0 {
        let _ = write!(said, " {} more are exempt, and not counted here.", number(*exempt));
    }
    out.push_str(&look.paragraph(&said, ""));
    let width = usize::from(look.width).min(72);
    let _ = write!(
        out,
        "\n{}\n{}\n",
        bars::stacked(&by_strength(&total.bits), width),
        look.paragraph(&bars::legend(), "")
    );
    let intro = "Messages that would fail if 112, 128, 256 bits, TLS 1.2, 1.3, or a verified certificate were \
                 demanded of everyone. Who would break first stands first.";
    out.push_str(&look.paragraph(intro, ""));
    out.push('\n');
    let (shown, more) = cut(domains.iter().collect(), look);
    let mut rows: Vec<Vec<Value>> = shown
        .into_iter()
        .map(|domain| exposure_row(domain_name(&domain.domain).into_owned(), &domain.tally))
        .collect();
    if domains.len() > 1 {
        rows.push(exposure_row(format!("all {} domains", number(domains.len() as u64)), total));
    }
    out.push_str(&look.table(&EXPOSURE, rows));
    out.push_str(&more);
    let not_told = total.would_fail.iter().map(|fails| fails.not_told).max().unwrap_or_default();
    if not_told > 0 {
        let said = format!(
            "Of {} the MTA did not tell what would be needed to say: they neither fail nor pass.",
            counted(not_told, "message")
        );
        out.push_str(&look.paragraph(&said, ""));
    }
    out
}

fn exposure_row(name: String, tally: &Tally) -> Vec<Value> {
    let mut row: Vec<Value> = vec![
        name.into(),
        number(tally.messages).into(),
        or_dash(tally.peers).into(),
        bars::stacked(&by_strength(&tally.bits), BAR).into(),
        share(tally.in_the_clear, tally.messages).into(),
    ];
    for (position, fails) in tally.would_fail.iter().enumerate() {
        // 112 bits is what anybody can do today.
        let tone = match fails.messages {
            0 => Tone::Plain,
            _ if position == 0 => Tone::Bad,
            _ => Tone::Warning,
        };
        row.push(Value(or_dash(fails.messages), tone));
    }
    row.push(date(tally.last).into());
    row
}

/// So many versions are named.
const VERSIONS: usize = 5;

/// `TLSv1.3 80%, TLSv1.2 17%, none 3%`, the most first.
fn versions(tally: &Tally) -> String {
    let mut versions: Vec<&VersionShare> = tally.versions.iter().collect();
    versions.sort_by_key(|version| std::cmp::Reverse(version.messages));
    let rest: u64 = versions.iter().skip(VERSIONS).map(|version| version.messages).sum();
    let told = versions.into_iter().take(VERSIONS).map(|version| {
        let name = match version.version.as_deref() {
            None => "not told".into(),
            Some(NO_TLS) => "none".into(),
            Some(name) => safe(name),
        };
        format!("{name} {}", share(version.messages, tally.messages))
    });
    let rest = (rest > 0).then(|| format!("others {}", share(rest, tally.messages)));
    told.chain(rest).collect::<Vec<_>>().join(", ")
}

const RULES: [Column; 8] = [
    text("rule"),
    word("mode"),
    text("demands").goes(3),
    count("days").goes(2),
    count("met"),
    count("failed"),
    count("unknown").goes(4),
    word("last failure").goes(1),
];

fn rules(report: &Report, look: Look) -> String {
    let mut out = look.heading("Where does each rule stand?");
    if report.rules.is_empty() {
        out.push_str("No rule was held against any message.\n");
        return out;
    }
    let (shown, more) = cut(report.rules.iter().collect(), look);
    let mut rows = Vec::new();
    for rule in &shown {
        let mut name = safe(&rule.rule).into_owned();
        if rule.modes.is_empty() {
            let what = if rule.exempt { "exempt" } else { "–" };
            rows.push(vec![name.clone().into(), what.into()]);
        }
        for mode in &rule.modes {
            rows.push(mode_row(std::mem::take(&mut name), mode, rule));
        }
    }
    out.push_str(&look.table(&RULES, rows));
    out.push_str(&more);
    if report.origin.policy.is_none() {
        out.push('\n');
        let said = "This is what the evidence says of the modes. What the rules are today, and which are ready for \
                    their next step, is told with their policy (--policy FILE, or -c FILE).";
        out.push_str(&look.paragraph(said, ""));
    }
    let never: Vec<&str> =
        report.rules.iter().filter(|rule| rule.held == 0).map(|rule| rule.rule.as_str()).collect();
    if !never.is_empty() {
        let (shown, more) = cut(never, look);
        let names: Vec<_> = shown.into_iter().map(safe).collect();
        let said = format!("Met nobody: {}", names.join(", "));
        out.push('\n');
        out.push_str(&look.paragraph(&said, "  "));
        out.push_str(&more);
    }
    let (ready, waiting): (Vec<_>, Vec<_>) =
        report.rules.iter().filter_map(|rule| rule.ripeness.as_ref()).partition(|ripeness| ripeness.ripe);
    for ripeness in cut(ready, look).0 {
        let said = format!("Ready: {} for {}", safe(&ripeness.rule), ripeness.to);
        out.push('\n');
        out.push_str(&look.paragraph(&said, "  "));
    }
    let (waiting, more) = cut(waiting, look);
    for ripeness in waiting {
        let against: Vec<_> = ripeness.against().map(|asked| safe(&asked.words)).collect();
        let said = format!("Not ready: {} for {}: {}", safe(&ripeness.rule), ripeness.to, against.join("; "));
        out.push('\n');
        out.push_str(&look.paragraph(&said, "  "));
    }
    out.push_str(&more);
    out
}

fn mode_row(name: String, mode: &ModeStanding, rule: &RuleStanding) -> Vec<Value> {
    let seen = &mode.seen;
    let mut demands = seen.requirement.as_deref().map(|text| safe(text).into_owned()).unwrap_or_default();
    if let Some(from) = mode.from {
        let _ = write!(demands, ", from {from}");
    }
    vec![
        name.into(),
        seen.mode.as_str().into(),
        demands.into(),
        or_dash(rule.days(seen)).into(),
        or_dash(seen.passed).into(),
        Value(or_dash(seen.failed), if seen.failed > 0 { Tone::Warning } else { Tone::Plain }),
        or_dash(seen.unknown).into(),
        seen.last_failure.map(date).unwrap_or_default().into(),
    ]
}

const FATES: [Column; 6] = [
    text("rule"),
    count("refused"),
    count("deferred"),
    count("observed"),
    count("unknown"),
    word("last").goes(1),
];

const DAYS: [Column; 7] = [
    word("day"),
    word("mail"),
    text("rule"),
    count("refused"),
    count("deferred"),
    count("observed"),
    count("unknown").goes(1),
];

fn fates_values(fates: Fates) -> [Value; 4] {
    let toned = |count, tone| Value(or_dash(count), if count > 0 { tone } else { Tone::Plain });
    [
        toned(fates.refused, Tone::Bad),
        toned(fates.deferred, Tone::Warning),
        or_dash(fates.observed).into(),
        or_dash(fates.unknown).into(),
    ]
}

fn what_happened(happened: &Happened, look: Look) -> String {
    let mut out = look.heading("What happened?");
    let total = happened.total;
    out.push_str(&look.paragraph(&in_short(total), ""));
    if total.is_empty() {
        return out;
    }
    let room = usize::from(look.width.saturating_sub(10)).clamp(1, 120);
    let steps = timeline(&happened.days, room);
    if let (Some(first), Some(last), true) = (steps.first(), steps.last(), steps.len() > 1) {
        out.push('\n');
        for (place, (name, _)) in total.named().into_iter().enumerate().filter(|(_, (_, of_all))| *of_all > 0)
        {
            let of_step = |fates: Fates| fates.named().get(place).map_or(0, |(_, count)| *count);
            let counts: Vec<u64> = steps.iter().map(|step| of_step(step.fates)).collect();
            let _ = writeln!(out, "{name:<10}{}", bars::columns(&counts).trim_end());
        }
        let days = first.last.0 - first.first.0 + 1;
        let each = if days > 1 { format!(", {days} days each") } else { String::new() };
        out.push_str(&look.paragraph(&format!("from {} to {}{each}", first.first, last.last), ""));
    }
    out.push('\n');
    let (shown, more) = cut(by_rule(happened), look);
    let rows = shown.into_iter().map(|(rule, fates, last)| {
        let mut row = vec![decided_by(rule).into()];
        row.extend(fates_values(fates));
        row.push(last.into());
        row
    });
    out.push_str(&look.table(&FATES, rows.collect()));
    out.push_str(&more);
    out.push('\n');
    // The latest first.
    let (shown, more) = cut(happened.days_and_rules.iter().rev().collect(), look);
    let rows = shown.into_iter().map(|entry| {
        let mut row =
            vec![entry.day.as_str().into(), way(entry.direction).into(), decided_by(&entry.rule).into()];
        row.extend(fates_values(entry.fates));
        row
    });
    out.push_str(&look.table(&DAYS, rows.collect()));
    out.push_str(&more);
    out
}

const SETTLED: [Column; 3] = [text("by [exempt]"), count("messages"), word("last")];
const EXEMPT: [Column; 6] = [
    text("by rule"),
    word("until"),
    count("messages"),
    word("last"),
    text("owner").goes(2),
    text("reason").goes(1),
];

fn exemptions(exemptions: &Exemptions, look: Look) -> String {
    let mut out = look.heading("Exemptions");
    if exemptions.settled.is_empty() && exemptions.rules.is_empty() {
        out.push_str("None was used.\n");
    }
    if !exemptions.settled.is_empty() {
        let (shown, more) = cut(exemptions.settled.iter().collect(), look);
        let rows = shown.into_iter().map(|settled| {
            vec![
                safe(&settled.reason).into_owned().into(),
                or_dash(settled.messages).into(),
                used(settled.last).into(),
            ]
        });
        out.push_str(&look.table(&SETTLED, rows.collect()));
        out.push_str(&more);
    }
    if !exemptions.rules.is_empty() {
        out.push('\n');
        let (shown, more) = cut(exemptions.rules.iter().collect(), look);
        let rows = shown.into_iter().map(|rule| {
            let tone = match rule.standing {
                Standing::Lapsed => Tone::Bad,
                Standing::Lapsing => Tone::Warning,
                Standing::Holds | Standing::NotInPolicy => Tone::Plain,
            };
            let told = |text: &Option<String>| safe(text.as_deref().unwrap_or_default()).into_owned();
            vec![
                safe(&rule.rule).into_owned().into(),
                Value(until_words(rule.standing, rule.until), tone),
                or_dash(rule.messages).into(),
                used(rule.last).into(),
                told(&rule.owner).into(),
                told(&rule.reason).into(),
            ]
        });
        out.push_str(&look.table(&EXEMPT, rows.collect()));
        out.push_str(&more);
    }
    out
}
