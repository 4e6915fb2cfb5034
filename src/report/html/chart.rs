//! Charts as SVG in the page. Lengths across are percentages, so that a chart fits any width and its text keeps its size.

use crate::evidence::questions::events::{DayFates, Fates};
use crate::evidence::questions::exposure::{DomainTally, NO_TLS, Tally};
use crate::report::strength::{Strength, by_strength};
use crate::report::timeline::timeline;
use crate::report::words::{domain_name, number, share};
use maud::{Markup, html};

/// So many domains are drawn.
const BARS: usize = 10;
/// So many versions are told apart.
const VERSIONS: usize = 6;
/// So many letters of a name fit beside a number on a phone.
const LETTERS: usize = 32;
/// From one bar to the next, of which the label takes the upper part.
const ROW: usize = 42;
const LABEL: usize = 18;
/// So many steps of a timeline can be told apart on a phone.
const STEPS: usize = 60;
/// The height of a timeline's columns, and where they begin.
const HEIGHT: u64 = 120;
const ABOVE: u64 = 18;
/// What is not known is no failure.
const DRAWN: usize = 3;

/// A part of a bar.
struct Part {
    class: &'static str,
    label: String,
    count: u64,
}

/// A length that is to `scale` as a part is to the whole, with two decimals.
fn length(part: u64, whole: u64, scale: u64) -> String {
    let hundredths = u128::from(part) * u128::from(scale) * 100 / u128::from(whole.max(1));
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

fn percent(part: u64, whole: u64) -> String {
    format!("{}%", length(part, whole, 100))
}

/// One bar of parts, on a line of its own.
fn parts(parts: &[Part], y: usize) -> Markup {
    let total: u64 = parts.iter().map(|part| part.count).sum();
    let mut before = 0;
    html! {
        @for part in parts.iter().filter(|part| part.count > 0) {
            rect class=(part.class) x=(percent(before, total)) y=(y) width=(percent(part.count, total)) height="14" {
                title { (part.label) ": " (number(part.count)) " (" (share(part.count, total)) ")" }
            }
            @let () = before += part.count;
        }
    }
}

fn legend(entries: &[(&str, String)]) -> Markup {
    html! {
        ul class="legend" {
            @for (class, label) in entries {
                li {
                    svg viewBox="0 0 12 12" aria-hidden="true" { rect class=(class) width="12" height="12" {} }
                    (label)
                }
            }
        }
    }
}

fn of_strength(tally: &Tally) -> Vec<Part> {
    let part = |(strength, count): (Strength, u64)| Part {
        class: strength.class(),
        label: strength.label().to_owned(),
        count,
    };
    by_strength(&tally.bits).map(part).into()
}

/// A name in so many letters.
fn shortened(name: &str) -> String {
    if name.chars().count() <= LETTERS {
        return name.to_owned();
    }
    let head: String = name.chars().take(LETTERS / 2 - 1).collect();
    let tail: Vec<char> = name.chars().rev().take(LETTERS / 2).collect();
    format!("{head}…{}", tail.into_iter().rev().collect::<String>())
}

/// How strongly the mail of each domain came; as many as can be taken in.
pub(super) fn strengths(id: &str, total: &Tally, domains: &[DomainTally]) -> Markup {
    let shown = domains.len().min(BARS);
    let entries: Vec<(&str, String)> = by_strength(&total.bits)
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(strength, count)| {
            (strength.class(), format!("{} {}", strength.label(), share(count, total.messages)))
        })
        .collect();
    html! {
        figure {
            figcaption {
                "Key bits of messages by domain, who would break first on top"
                @if domains.len() > shown { " (" (shown) " of " (number(domains.len() as u64)) " domains)" }
            }
            (legend(&entries))
            svg role="img" aria-labelledby=(format_args!("{id}-title {id}-desc")) height=(shown * ROW) {
                title id=(format_args!("{id}-title")) { "Key bits of messages by domain" }
                desc id=(format_args!("{id}-desc")) {
                    "A bar for each domain, shared out by key bits. The numbers are those of the table below."
                }
                @for (row, domain) in domains.iter().take(shown).enumerate() {
                    text x="0" y=(row * ROW + LABEL - 5) { (shortened(&domain_name(&domain.domain))) }
                    text.soft x="100%" y=(row * ROW + LABEL - 5) text-anchor="end" {
                        (number(domain.tally.messages))
                    }
                    (parts(&of_strength(&domain.tally), row * ROW + LABEL))
                }
            }
        }
    }
}

/// Which versions of TLS there were.
pub(super) fn versions(id: &str, total: &Tally) -> Markup {
    let class = |version: Option<&str>| match version {
        None => Strength::NotTold,
        Some(NO_TLS) => Strength::Clear,
        Some("TLSv1.3") => Strength::Strong,
        Some("TLSv1.2") => Strength::Good,
        Some(_) => Strength::Weak,
    };
    let mut all: Vec<Part> = total
        .versions
        .iter()
        .map(|version| Part {
            class: class(version.version.as_deref()).class(),
            label: match version.version.as_deref() {
                None => "not told".to_owned(),
                Some(NO_TLS) => "no TLS".to_owned(),
                Some(name) => crate::report::words::safe(name).into_owned(),
            },
            count: version.messages,
        })
        .collect();
    all.sort_by_key(|part| std::cmp::Reverse(part.count));
    let rest: u64 = all.iter().skip(VERSIONS).map(|part| part.count).sum();
    all.truncate(VERSIONS);
    if rest > 0 {
        all.push(Part { class: Strength::NotTold.class(), label: "others".to_owned(), count: rest });
    }
    let entries: Vec<(&str, String)> = all
        .iter()
        .map(|part| (part.class, format!("{} {}", part.label, share(part.count, total.messages))))
        .collect();
    html! {
        figure {
            figcaption { "Versions of TLS" }
            svg role="img" aria-labelledby=(format_args!("{id}-title {id}-desc")) height="16" {
                title id=(format_args!("{id}-title")) { "Versions of TLS" }
                desc id=(format_args!("{id}-desc")) { "One bar, shared out by version; the shares stand beside it." }
                (parts(&all, 1))
            }
            (legend(&entries))
        }
    }
}

/// What was refused, deferred and observed, day by day.
pub(super) fn days(id: &str, days: &[DayFates]) -> Markup {
    let steps = timeline(days, STEPS);
    let of = |fates: &Fates| fates.named().into_iter().take(DRAWN);
    let sum = |fates: &Fates| -> u64 { of(fates).map(|(_, count)| count).sum() };
    let most = steps.iter().map(|step| sum(&step.fates)).max().unwrap_or_default();
    let (Some(first), Some(last), true) = (steps.first(), steps.last(), most > 0) else { return html! {} };
    let each = first.last.0 - first.first.0 + 1;
    let count = steps.len() as u64;
    let entries = [("refused", "refused"), ("deferred", "deferred"), ("observed", "failed, and let through")];
    let entries: Vec<(&str, String)> =
        entries.into_iter().map(|(class, label)| (class, label.to_owned())).collect();
    html! {
        figure {
            figcaption {
                "Messages that failed, by day"
                @if each > 1 { " (a column is " (each) " days)" }
            }
            (legend(&entries))
            svg role="img" aria-labelledby=(format_args!("{id}-title {id}-desc")) height=(ABOVE + HEIGHT + 22) {
                title id=(format_args!("{id}-title")) { "Messages that failed, by day" }
                desc id=(format_args!("{id}-desc")) {
                    "A column for each day from " (first.first) " to " (last.last) ", " (number(most)) " at the most. "
                    "The numbers are those of the table below."
                }
                line x1="0" x2="100%" y1=(ABOVE) y2=(ABOVE) {}
                line x1="0" x2="100%" y1=(ABOVE + HEIGHT) y2=(ABOVE + HEIGHT) {}
                text.soft x="0" y=(ABOVE - 5) { (number(most)) }
                @for (place, step) in (0..).zip(&steps) {
                    @let mut above = most;
                    @for (class, failed) in of(&step.fates).filter(|(_, failed)| *failed > 0) {
                        @let () = above -= failed;
                        // From its top downwards; the columns stand below the line.
                        svg y=(ABOVE) {
                            rect class=(class) x=(percent(place, count)) y=(length(above, most, HEIGHT))
                                width=(percent(1, count)) height=(length(failed, most, HEIGHT)) {
                                title { (step.first) ": " (number(failed)) " " (class) }
                            }
                        }
                    }
                }
                text.soft x="0" y=(ABOVE + HEIGHT + 16) { (first.first) }
                text.soft x="100%" y=(ABOVE + HEIGHT + 16) text-anchor="end" { (last.last) }
            }
        }
    }
}
