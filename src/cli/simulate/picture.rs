//! What `simulate` found, for a person: tables that fit the terminal, the worst first.
//!
//! Promises: nothing that clients sent can move the cursor or break a line.

use super::counted;
use super::report::{Change, Counts, Report};
use crate::policy::facts::Direction;
use crate::policy::record::plain;
use crate::policy::{Day, decide::Disposition};
use crate::simulation::{Example, Fate};
use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle, presets};
use indicatif::{HumanBytes, HumanCount};
use std::io::{self, IsTerminal, Write};

/// A line below the head, and none between rows.
const STYLE: TableStyle = presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─'));

/// Where there is no terminal to fit.
const WIDTH: u16 = 120;

pub(super) fn draw(report: &Report<'_>, limit: usize, out: &mut impl Write) -> io::Result<()> {
    head(report, out)?;
    let mut left = limit;
    for (direction, title) in
        [(Direction::Inbound, "Mail that comes in"), (Direction::Outbound, "Mail that leaves")]
    {
        let changes: Vec<&Change<'_>> =
            report.changes.iter().filter(|change| change.direction == direction).collect();
        if !changes.is_empty() {
            let shown = changes.len().min(left);
            left -= shown;
            section(title, &changes, shown, out)?;
        }
    }
    if report.changes.is_empty() && report.judged.messages > 0 {
        writeln!(out, "Nothing would change: every message fares as it did.\n")?;
    }
    if report.judged.messages > 0 {
        totals(report, out)?;
    }
    for note in &report.notes {
        writeln!(out, "note: {}", plain(note))?;
    }
    out.flush()
}

fn head(report: &Report<'_>, out: &mut impl Write) -> io::Result<()> {
    write!(out, "policy {} against ", report.policy.unwrap_or_default())?;
    match report.against {
        Some(against) => writeln!(out, "policy {against}")?,
        None => writeln!(out, "what was decided")?,
    }
    let (read, judged) = (&report.read, &report.judged);
    writeln!(
        out,
        "read   {}, {}, {}",
        counted(read.logs.len() as u64, "log"),
        counted(read.lines, "line"),
        HumanBytes(read.bytes)
    )?;
    write!(out, "judged {}", counted(judged.messages, "message"))?;
    if let Some((first, last)) = judged.first.zip(judged.last) {
        write!(out, " from {first:.0} to {last:.0}")?;
    }
    let kinds = [
        (judged.from_decision_records, "by our own records"),
        (judged.from_mail_log, "by sendmail's log"),
        (judged.outside_period, "left out by --since and --until"),
    ];
    let kinds: Vec<String> = kinds
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", HumanCount(count)))
        .collect();
    let kinds = if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join(", ")) };
    writeln!(out, "{kinds}\n")
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if !io::stdout().is_terminal() {
        table.set_width(WIDTH);
    }
    table
}

fn right(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn section(title: &str, changes: &[&Change<'_>], shown: usize, out: &mut impl Write) -> io::Result<()> {
    let messages = changes.iter().map(|change| change.messages).sum();
    writeln!(out, "{title}: {} would fare otherwise", counted(messages, "message"))?;
    let mut table = table();
    table.set_header(["", "would be", "domain, rule", "messages", "why, first and last"]);
    for (number, change) in (1..).zip(changes.iter().take(shown)) {
        let rule = change.rule.map_or_else(|| "no rule".to_owned(), |rule| format!("rule {}", plain(rule)));
        let side = change.side.map(|side| format!(" ({side})")).unwrap_or_default();
        let domain =
            if change.domain.is_empty() { "not told".to_owned() } else { plain(change.domain).into_owned() };
        let about = if change.peers_exact { "" } else { "about " };
        table.add_row([
            format!("{number}"),
            format!("{}\nwas {}", change.to.as_str(), change.from.as_str()),
            format!("{domain}\n{rule}{side}"),
            format!("{}\n{about}{}", HumanCount(change.messages), counted(change.peers, "host")),
            format!("{}\n{}", why(change), period(change)),
        ]);
    }
    right(&mut table, &[0, 3]);
    if shown > 0 {
        writeln!(out, "{}", table.trim_fmt())?;
    }
    if shown < changes.len() {
        writeln!(out, "and {} more; --limit shows more of them, --json all", changes.len() - shown)?;
    }
    let numbered = (1..).zip(changes.iter().take(shown));
    if numbered.clone().any(|(_, change)| !change.examples.is_empty()) {
        writeln!(out, "\nexamples")?;
    }
    for (number, change) in numbered {
        for mut example in change.examples.iter().map(Example::record) {
            let ts = example.ts.map(|ts| format!("{ts:.0} ")).unwrap_or_default();
            // The reason stands in the table.
            example.reason = None;
            writeln!(out, "{number:>3}  {ts}{example}")?;
        }
    }
    writeln!(out)
}

fn period(change: &Change<'_>) -> String {
    let day = |ts: jiff::Timestamp| Day::of_unix_seconds(ts.as_second()).to_string();
    match change.first.zip(change.last).map(|(first, last)| (day(first), day(last))) {
        None => String::new(),
        Some((first, last)) if first == last => first,
        Some((first, last)) => format!("{first} to {last}"),
    }
}

fn why(change: &Change<'_>) -> String {
    let alone = change.reasons.len() == 1 && change.other_reasons == 0;
    let mut lines: Vec<String> = change
        .reasons
        .iter()
        .map(|reason| {
            let text = plain(reason.reason).into_owned();
            if alone { text } else { format!("{} {text}", HumanCount(reason.messages)) }
        })
        .collect();
    if change.other_reasons > 0 {
        lines.push(format!("{} other reasons", HumanCount(change.other_reasons)));
    }
    lines.join("\n")
}

fn totals(report: &Report<'_>, out: &mut impl Write) -> io::Result<()> {
    let (before, after) = (&report.totals.before, &report.totals.after);
    let mut table = table();
    table.set_header(["all messages", "was", "would be", "change"]);
    for disposition in [Disposition::Accept, Disposition::Tempfail, Disposition::Reject] {
        row(
            &mut table,
            disposition.as_str(),
            disposition.as_str(),
            |counts| &counts.disposition,
            before,
            after,
        );
        let fates: Vec<Fate> =
            Fate::ALL.into_iter().filter(|fate| fate.disposition() == disposition).collect();
        for fate in fates.iter().filter(|_| fates.len() > 1) {
            row(
                &mut table,
                &format!("  {}", fate.as_str()),
                fate.as_str(),
                |counts| &counts.fate,
                before,
                after,
            );
        }
    }
    right(&mut table, &[1, 2, 3]);
    writeln!(out, "{}\n", table.trim_fmt())
}

fn row<'c>(
    table: &mut Table,
    title: &str,
    word: &str,
    of: impl Fn(&'c Counts) -> &'c std::collections::BTreeMap<&'static str, u64>,
    before: &'c Counts,
    after: &'c Counts,
) {
    let count = |counts| of(counts).get(word).copied().unwrap_or(0);
    let (before, after) = (count(before), count(after));
    let change = match after.cmp(&before) {
        std::cmp::Ordering::Equal => String::new(),
        std::cmp::Ordering::Greater => format!("+{}", HumanCount(after - before)),
        std::cmp::Ordering::Less => format!("-{}", HumanCount(before - after)),
    };
    table.add_row([title.to_owned(), HumanCount(before).to_string(), HumanCount(after).to_string(), change]);
}
