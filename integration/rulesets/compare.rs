//! Two answers to one case, and the few differences between them that are meant.
//!
//! Promises: whatever is not named in [`ALLOWED`] is a fault, and shown with the least map that still shows it.

use super::bt::{Answer, Case};

/// One case that sendmail and the program under test do not answer alike.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    pub(crate) map: String,
    pub(crate) case: Case,
    pub(crate) sendmail: Answer,
    pub(crate) ours: Answer,
    /// The verdict in the decision record.
    pub(crate) verdict: String,
}

pub(crate) struct Allowed {
    pub(crate) name: &'static str,
    pub(crate) why: &'static str,
    applies: fn(&Difference) -> bool,
}

/// All that is allowed. One more needs a reason as good as these.
pub(crate) const ALLOWED: &[Allowed] = &[
    Allowed {
        name: "bits-that-are-no-number",
        why: "an MTA that tells nonsense has told nothing, and its misconfiguration is not made into an outage",
        applies: |it| {
            // Where both refuse, it is for another demand: sendmail has refused the nonsense before it.
            bits_are_no_number(&it.case) && (it.ours == Answer::Accepted || same_class(it))
        },
    },
    Allowed {
        name: "threshold-as-it-is-written",
        why: "sendmail repeats `less than 0112`, which is octal to it; we say the number that it means",
        applies: |it| same_class(it) && texts(it).is_some_and(|(theirs, ours)| same_threshold(theirs, ours)),
    },
    Allowed {
        name: "name-that-nobody-has",
        why: "a blank or a quote in a name of the map, and two names at once, match no certificate: both refuse, and \
              sendmail shows what was asked for",
        applies: |it| {
            let named = |(theirs, ours): (&str, &str)| {
                theirs.contains(" does not match ") && ours.ends_with(" not acceptable")
            };
            same_class(it) && texts(it).is_some_and(named)
        },
    },
    Allowed {
        name: "word-of-verify-that-nobody-knows",
        why: "sendmail means to repeat the word and repeats the extensions as they are written; we, as they are meant",
        applies: |it| {
            let unknown = |text: &str| text.starts_with("authentication failure");
            same_class(it) && texts(it).is_some_and(|(theirs, ours)| unknown(theirs) && unknown(ours))
        },
    },
];

/// The entry that allows it.
pub(crate) fn allowed(difference: &Difference) -> Option<&'static Allowed> {
    ALLOWED.iter().find(|entry| (entry.applies)(difference))
}

fn bits_are_no_number(case: &Case) -> bool {
    ["cipher_bits", "auth_ssf"]
        .into_iter()
        .filter_map(|name| case.get(name))
        .any(|bits| !bits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn same_class(difference: &Difference) -> bool {
    match (&difference.sendmail, &difference.ours) {
        (Answer::Refused(theirs, _), Answer::Refused(ours, _)) => theirs == ours,
        _ => false,
    }
}

fn texts(difference: &Difference) -> Option<(&str, &str)> {
    match (&difference.sendmail, &difference.ours) {
        (Answer::Refused(_, theirs), Answer::Refused(_, ours)) => Some((theirs, ours)),
        _ => None,
    }
}

fn same_threshold(theirs: &str, ours: &str) -> bool {
    let parts = |text: &str| {
        let (before, number) = text.split_once(" less than ")?;
        Some((before.to_owned(), as_c_reads(number)?))
    };
    parts(theirs).is_some_and(|theirs| parts(ours) == Some(theirs))
}

/// A number as strtol(3) reads it: hexadecimal, octal or decimal by its first characters, up to what is no digit. Beyond
/// 16 bits there is only "more than anybody has".
fn as_c_reads(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, base) = match (lower.strip_prefix("0x"), lower.strip_prefix('0')) {
        (Some(rest), _) => (rest, 16),
        (None, Some(_)) => (lower.as_str(), 8),
        (None, None) => (lower.as_str(), 10),
    };
    let end = digits.find(|c: char| !c.is_digit(base)).unwrap_or(digits.len());
    u64::from_str_radix(digits.get(..end)?, base).ok().map(|number| number.min(u16::MAX.into()))
}
