//! Numbers, shares, dates and names as a person reads them, the same on a terminal and in HTML.
//!
//! Promises: nothing that was told by others can move a cursor, break a line or turn the direction of writing.

use super::exemptions::Standing;
use crate::evidence::questions::events::{Fates, Happened};
use crate::policy::Day;
use crate::policy::facts::Direction;
use indicatif::HumanCount;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Text that was told by others.
pub(super) use crate::policy::record::plain as safe;

/// `1,234,567`
pub(super) fn number(number: u64) -> String {
    HumanCount(number).to_string()
}

/// A number, or a dash where it is none: in a table only what is there is seen.
pub(super) fn or_dash(count: u64) -> String {
    if count == 0 { "–".to_owned() } else { number(count) }
}

/// `1 message`, `2 messages`
pub(super) fn counted(count: u64, one: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {one}{plural}", number(count))
}

/// A share in percent. What is there is never 0 %, and what is not all of it never 100 %.
pub(super) fn share(part: u64, whole: u64) -> String {
    let percent = (u128::from(part) * 200 + u128::from(whole)) / (2 * u128::from(whole.max(1)));
    match percent {
        0 if part > 0 => "<1%".to_owned(),
        100.. if part < whole => ">99%".to_owned(),
        _ => format!("{percent}%"),
    }
}

/// A peer's domain, or what stands for it.
pub(super) fn domain_name(domain: &str) -> Cow<'_, str> {
    if domain.is_empty() { Cow::Borrowed("(no name)") } else { safe(domain) }
}

/// The day of a time, in UTC.
pub(super) fn date(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

/// The time to the minute, in UTC.
pub(super) fn minute(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// What mail of a direction is called.
pub(super) fn mail(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "Mail that comes in",
        Direction::Outbound => "Mail that leaves",
    }
}

/// Where nothing is left that would be judged.
pub(super) fn all_exempt(messages: u64) -> String {
    format!(
        "Nobody: {} came, all exempt (see Exemptions). A policy that is given with --policy says by its [exempt] who is; \
         `networks = []` judges this host, too.",
        counted(messages, "message")
    )
}

/// The same in a table.
pub(super) fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "in",
        Direction::Outbound => "out",
    }
}

/// A rule that decided, or that none did.
pub(super) fn decided_by(rule: &str) -> String {
    if rule.is_empty() { "(no rule)".to_owned() } else { safe(rule).into_owned() }
}

/// What each rule did over all days, and the last day; who did most first.
pub(super) fn by_rule(happened: &Happened) -> Vec<(&str, Fates, &str)> {
    let mut rules: BTreeMap<&str, (Fates, &str)> = BTreeMap::new();
    for entry in &happened.days_and_rules {
        let (fates, last) = rules.entry(&entry.rule).or_default();
        fates.add(entry.fates);
        *last = &entry.day;
    }
    let mut rules: Vec<_> = rules.into_iter().map(|(rule, (fates, last))| (rule, fates, last)).collect();
    rules.sort_by_key(|(rule, fates, _)| {
        (std::cmp::Reverse((fates.refused, fates.deferred, fates.observed, fates.unknown)), *rule)
    });
    rules
}

/// Whether an exemption holds, in a few words.
pub(super) fn until_words(standing: Standing, until: Option<Day>) -> String {
    let day = until.map(|day| day.to_string()).unwrap_or_default();
    match standing {
        Standing::Lapsed => format!("{day} (ended)"),
        Standing::Lapsing => format!("{day} (soon)"),
        Standing::Holds if day.is_empty() => "no end".to_owned(),
        Standing::Holds => day,
        Standing::NotInPolicy => "–".to_owned(),
    }
}

/// What happened, in a sentence.
pub(super) fn in_short(total: Fates) -> String {
    let Fates { refused, deferred, observed, unknown } = total;
    let mut said = format!(
        "{} refused, {} deferred; {} failed and were let through",
        number(refused),
        number(deferred),
        number(observed)
    );
    if unknown > 0 {
        said = format!("{said}; of {} nobody knows", number(unknown));
    }
    said + "."
}

/// When an exemption was used for the last time.
pub(super) fn used(last: Option<jiff::Timestamp>) -> String {
    last.map_or_else(|| "never used".to_owned(), date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!((counted(1, "message"), or_dash(0)), ("1 message".into(), "–".into()));
        assert_eq!(counted(1_234_567, "message"), "1,234,567 messages");
    }

    #[test]
    fn a_share_hides_neither_the_first_nor_the_last() {
        for (part, whole, text) in [
            (0, 0, "0%"),
            (0, 10, "0%"),
            (1, 1000, "<1%"),
            (1, 200, "1%"),
            (1, 3, "33%"),
            (2, 3, "67%"),
            (999, 1000, ">99%"),
            (1000, 1000, "100%"),
            (u64::MAX - 1, u64::MAX, ">99%"),
        ] {
            assert_eq!(share(part, whole), text, "{part} of {whole}");
        }
    }
}
