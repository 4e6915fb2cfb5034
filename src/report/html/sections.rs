//! The sections of the report's page.

use super::table::{Set, Table};
use super::{chart, from_where};
use crate::evidence::questions::events::{Fates, Happened, RuleFates};
use crate::evidence::questions::exposure::{Exposure, Tally};
use crate::report::Report;
use crate::report::exemptions::{Exemptions, RuleExemption, Standing};
use crate::report::next::{empty, next_steps};
use crate::report::standing::{ModeStanding, RuleStanding};
use crate::report::words::{
    all_exempt, by_rule, counted, date, decided_by, domain_name, in_short, mail, number, or_dash, safe,
    share, until_words, used, way,
};
use maud::{Markup, html};

/// All of them.
pub(super) fn report(report: &Report, top: usize) -> Markup {
    let extent = &report.extent;
    let days = extent.first_day.as_deref().zip(extent.last_day.as_deref());
    html! {
        header {
            h1 { "What the evidence says" }
            (from_where(&report.origin, days))
            @for note in &report.origin.notes { p class="note" { "Note: " (safe(note)) } }
        }
        main {
            @if extent.decisions == 0 {
                @for line in empty(&report.origin) { p { (line) } }
            } @else {
                (figures(report))
                @for exposure in &report.who_would_break { (who_would_break(exposure, top)) }
                (rules(report, top))
                (what_happened(&report.what_happened, top))
                (exemptions(&report.exemptions, top))
                section aria-labelledby="next" {
                    h2 id="next" { "What to do next" }
                    @for step in next_steps(report) {
                        p { (step.why) }
                        pre { code { (safe(&step.command)) } }
                    }
                }
            }
        }
    }
}

/// The numbers that one looks for first.
fn figures(report: &Report) -> Markup {
    let all = |of: fn(&Tally) -> u64| -> u64 {
        report.who_would_break.iter().map(|exposure| of(&exposure.total)).sum()
    };
    let messages = all(|total| total.messages);
    let below_128 = all(|total| total.would_fail.get(1).map_or(0, |fails| fails.messages));
    let ready = report
        .rules
        .iter()
        .filter(|rule| rule.ripeness.as_ref().is_some_and(|ripeness| ripeness.ripe))
        .count();
    let total = report.what_happened.total;
    html! {
        dl class="figures" {
            div { dt { "decisions" } dd { (number(report.extent.decisions)) } }
            div { dt { "in the clear" } dd { (share(all(|total| total.in_the_clear), messages)) } }
            div { dt { "below 128 bits" } dd { (share(below_128, messages)) } }
            div { dt { "deferred" } dd { (number(total.deferred)) } }
            div { dt { "refused" } dd { (number(total.refused)) } }
            @if report.origin.policy.is_some() && report.origin.from_store {
                div { dt { "rules ready for more" } dd { (ready) } }
            }
        }
    }
}

const EXPOSURE: [(&str, Set); 11] = [
    ("domain", Set::Text),
    ("messages", Set::Number),
    ("peers", Set::Number),
    ("in the clear", Set::Number),
    ("112 bits", Set::Number),
    ("128 bits", Set::Number),
    ("256 bits", Set::Number),
    ("TLS 1.2", Set::Number),
    ("TLS 1.3", Set::Number),
    ("verify", Set::Number),
    ("last seen", Set::Date),
];

fn who_would_break(exposure: &Exposure, top: usize) -> Markup {
    let Exposure { direction, exempt, total, domains } = exposure;
    let id = direction.as_str();
    let row = |name: Markup, tally: &Tally| -> Vec<Markup> {
        let mut row = vec![
            name,
            html! { (number(tally.messages)) },
            html! { (or_dash(tally.peers)) },
            html! { (share(tally.in_the_clear, tally.messages)) },
        ];
        row.extend(tally.would_fail.iter().map(|fails| html! { (or_dash(fails.messages)) }));
        row.push(html! { (date(tally.last)) });
        row
    };
    let caption =
        "Messages that would fail if it were demanded of everyone; who would break first stands first";
    let mut table = Table::new(caption, &EXPOSURE)
        .of(domains, top, |domain| row(html! { (domain_name(&domain.domain)) }, &domain.tally));
    if domains.len() > 1 {
        table = table.total(row(html! { "all " (number(domains.len() as u64)) " domains" }, total));
    }
    let not_told = total.would_fail.iter().map(|fails| fails.not_told).max().unwrap_or_default();
    html! {
        section aria-labelledby=(format_args!("break-{id}")) {
            h2 id=(format_args!("break-{id}")) { "Who would break? " (mail(*direction)) }
            @if total.messages == 0 { p { (all_exempt(*exempt)) } } @else { p {
                (counted(total.messages, "message")) " of " (counted(total.peers, "peer")) ", "
                (share(total.in_the_clear, total.messages)) " in the clear."
                @if *exempt > 0 { " " (number(*exempt)) " more are exempt, and not counted here." }
            } }
            @if total.messages > 0 {
                (chart::versions(&format!("versions-{id}"), total))
                (chart::strengths(&format!("strengths-{id}"), total, domains))
                (table.draw())
            }
            @if not_told > 0 {
                p class="note" {
                    "Of " (counted(not_told, "message"))
                    " the MTA did not tell what would be needed to say: they neither fail nor pass."
                }
            }
        }
    }
}

const RULES: [(&str, Set); 8] = [
    ("rule", Set::Text),
    ("mode", Set::Date),
    ("demands", Set::Long),
    ("days", Set::Number),
    ("met", Set::Number),
    ("failed", Set::Number),
    ("unknown", Set::Number),
    ("last failure", Set::Date),
];

fn rules(report: &Report, top: usize) -> Markup {
    let mut modes: Vec<(&RuleStanding, Option<&ModeStanding>)> = Vec::new();
    for rule in report.rules.iter().take(top) {
        modes.extend(rule.modes.iter().map(|mode| (rule, Some(mode))));
        if rule.modes.is_empty() {
            modes.push((rule, None));
        }
    }
    let table =
        Table::new("How each mode of each rule fared", &RULES)
            .of(&modes, usize::MAX, |(rule, mode)| mode_row(rule, *mode));
    let more = report.rules.len().saturating_sub(top);
    let steps: Vec<&RuleStanding> = report.rules.iter().filter(|rule| rule.ripeness.is_some()).collect();
    let never: Vec<&RuleStanding> = report.rules.iter().filter(|rule| rule.held == 0).collect();
    html! {
        section aria-labelledby="rules" {
            h2 id="rules" { "Where does each rule stand?" }
            @if report.rules.is_empty() {
                p { "No rule was held against any message." }
            } @else {
                (table.draw())
                @if more > 0 { p class="note" { "and " (number(more as u64)) " more rules (report --all)" } }
            }
            @if report.origin.policy.is_none() {
                p class="note" {
                    "This is what the evidence says of the modes. What the rules are today, and which are ready for "
                    "their next step, is told with their policy."
                }
            }
            @if !steps.is_empty() { (ripeness(&steps, top)) }
            @if !never.is_empty() {
                h3 { "Rules that met nobody" }
                p {
                    @for (place, rule) in never.iter().take(top).enumerate() {
                        @if place > 0 { ", " }
                        (safe(&rule.rule))
                    }
                    @if never.len() > top { " and " (number((never.len() - top) as u64)) " more (report --all)" }
                }
            }
        }
    }
}

fn mode_row(rule: &RuleStanding, mode: Option<&ModeStanding>) -> Vec<Markup> {
    let name = html! { (safe(&rule.rule)) };
    let Some(mode) = mode else {
        return vec![name, html! { (if rule.exempt { "exempt" } else { "–" }) }];
    };
    let seen = &mode.seen;
    vec![
        name,
        html! { (seen.mode) },
        html! {
            (safe(seen.requirement.as_deref().unwrap_or("–")))
            @if let Some(from) = mode.from { ", from " (from) }
        },
        html! { (or_dash(rule.days(seen))) },
        html! { (or_dash(seen.passed)) },
        html! { (or_dash(seen.failed)) },
        html! { (or_dash(seen.unknown)) },
        html! { @if let Some(last) = seen.last_failure { (date(last)) } },
    ]
}

fn ripeness(rules: &[&RuleStanding], top: usize) -> Markup {
    const COLUMNS: [(&str, Set); 4] = [
        ("rule", Set::Text),
        ("next step", Set::Date),
        ("ready", Set::Date),
        ("what the gate asks", Set::Long),
    ];
    let table = Table::new("Which rules are ready for their next step, and why not", &COLUMNS).cards();
    let table = table.of(rules, top, |rule| {
        let Some(ripeness) = &rule.ripeness else { return Vec::new() };
        vec![
            html! { (safe(&rule.rule)) },
            html! { (ripeness.from) " → " (ripeness.to) },
            html! { (if ripeness.ripe { "ready" } else { "not yet" }) },
            html! {
                ul {
                    @for asked in ripeness.gates.iter().filter(|asked| ripeness.ripe || !asked.holds) {
                        li { (safe(&asked.words)) }
                    }
                }
            },
        ]
    });
    table.draw()
}

fn fates(fates: Fates) -> [Markup; 4] {
    let count = |count: u64, class: Option<&str>| html! { span class=[class.filter(|_| count > 0)] { (or_dash(count)) } };
    [
        count(fates.refused, Some("refused-text")),
        count(fates.deferred, Some("deferred-text")),
        count(fates.observed, None),
        count(fates.unknown, None),
    ]
}

const FATES: [(&str, Set); 6] = [
    ("rule", Set::Text),
    ("refused", Set::Number),
    ("deferred", Set::Number),
    ("observed", Set::Number),
    ("unknown", Set::Number),
    ("last", Set::Date),
];

const DAYS: [(&str, Set); 7] = [
    ("day", Set::Date),
    ("mail", Set::Date),
    ("rule", Set::Text),
    ("refused", Set::Number),
    ("deferred", Set::Number),
    ("observed", Set::Number),
    ("unknown", Set::Number),
];

fn what_happened(happened: &Happened, top: usize) -> Markup {
    let total = happened.total;
    let rules = by_rule(happened);
    // The latest first.
    let days: Vec<&RuleFates> = happened.days_and_rules.iter().rev().collect();
    let rules = Table::new("By rule", &FATES).of(&rules, top, |(rule, seen, last)| {
        let mut row = vec![html! { (decided_by(rule)) }];
        row.extend(fates(*seen));
        row.push(html! { (last) });
        row
    });
    let days = Table::new("By day and rule, the latest first", &DAYS).of(&days, top, |entry| {
        let (way, rule) = (way(entry.direction), decided_by(&entry.rule));
        let mut row = vec![html! { (entry.day) }, html! { (way) }, html! { (rule) }];
        row.extend(fates(entry.fates));
        row
    });
    html! {
        section aria-labelledby="happened" {
            h2 id="happened" { "What happened?" }
            p { (in_short(total)) }
            @if !total.is_empty() {
                (chart::days("days", &happened.days))
                (rules.draw())
                (days.draw())
            }
        }
    }
}

fn exemptions(exemptions: &Exemptions, top: usize) -> Markup {
    const SETTLED: [(&str, Set); 3] =
        [("by [exempt]", Set::Text), ("messages", Set::Number), ("last", Set::Date)];
    const RULES: [(&str, Set); 6] = [
        ("by rule", Set::Text),
        ("until", Set::Date),
        ("messages", Set::Number),
        ("last", Set::Date),
        ("owner", Set::Text),
        ("reason", Set::Long),
    ];
    let settled =
        Table::new("What [exempt] lets through", &SETTLED).of(&exemptions.settled, top, |settled| {
            vec![
                html! { (safe(&settled.reason)) },
                html! { (or_dash(settled.messages)) },
                html! { (used(settled.last)) },
            ]
        });
    let rule = |rule: &RuleExemption| {
        let class = (rule.standing <= Standing::Lapsing).then_some("refused-text");
        let told = |text: &Option<String>| html! { (safe(text.as_deref().unwrap_or_default())) };
        vec![
            html! { (safe(&rule.rule)) },
            html! { span class=[class] { (until_words(rule.standing, rule.until)) } },
            html! { (or_dash(rule.messages)) },
            html! { (used(rule.last)) },
            told(&rule.owner),
            told(&rule.reason),
        ]
    };
    let rules = Table::new("What rules let through; what ends first stands first", &RULES).cards().of(
        &exemptions.rules,
        top,
        rule,
    );
    html! {
        section aria-labelledby="exemptions" {
            h2 id="exemptions" { "Exemptions" }
            @if exemptions.settled.is_empty() && exemptions.rules.is_empty() { p { "None was used." } }
            @if !exemptions.settled.is_empty() { (settled.draw()) }
            @if !exemptions.rules.is_empty() { (rules.draw()) }
        }
    }
}
