//! What `simulate` found, as `--json` tells it; a person is told from the same values.
//!
//! Names are stable: scripts rely on them.

use super::arguments::Arguments;
use super::pretty::Line;
use super::{Seen, counted};
use crate::policy::facts::Direction;
use crate::replay::{LogRead, Tally};
use crate::sendmail::mail_log;
use crate::simulation::{Example, Fate, Group, Simulation};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

#[derive(Serialize)]
pub(super) struct Report<'a> {
    /// The fingerprint of the policy that was tried.
    pub(super) policy: Option<&'a str>,
    /// The fingerprint of the policy to compare with; absent where that is what was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) against: Option<&'a str>,
    pub(super) read: Read<'a>,
    pub(super) judged: JudgedCount,
    /// What a reader should know, in words.
    pub(super) notes: Vec<String>,
    pub(super) totals: Totals,
    /// How many messages go from one fate to another, and stay.
    pub(super) transitions: Vec<Transition>,
    /// How many messages would fare otherwise, so that somebody notices.
    pub(super) changed: u64,
    /// The same by direction, rule and domain, the worst first.
    pub(super) changes: Vec<Change<'a>>,
    /// What --fail-on named, and how many messages would newly be so.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) fail_on: BTreeMap<&'static str, u64>,
}

/// What was read.
#[derive(Serialize)]
pub(super) struct Read<'a> {
    pub(super) logs: &'a [LogRead],
    /// As they lie there, still packed.
    pub(super) bytes: u64,
    pub(super) lines: u64,
    pub(super) decision_records: u64,
    pub(super) other_objects: u64,
    pub(super) broken_json: u64,
    pub(super) too_long: u64,
    pub(super) mail_log: &'a mail_log::Tally,
}

/// What was judged.
#[derive(Serialize)]
pub(super) struct JudgedCount {
    pub(super) messages: u64,
    pub(super) from_decision_records: u64,
    pub(super) from_mail_log: u64,
    /// Left out by --since and --until.
    pub(super) outside_period: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first: Option<jiff::Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last: Option<jiff::Timestamp>,
}

/// Messages by what becomes of them.
#[derive(Serialize)]
pub(super) struct Totals {
    pub(super) before: Counts,
    pub(super) after: Counts,
}

/// By disposition, and by fate.
#[derive(Serialize)]
pub(super) struct Counts {
    pub(super) disposition: BTreeMap<&'static str, u64>,
    pub(super) fate: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
pub(super) struct Transition {
    from: Fate,
    to: Fate,
    messages: u64,
}

#[derive(Serialize)]
pub(super) struct Change<'a> {
    pub(super) direction: Direction,
    pub(super) from: Fate,
    pub(super) to: Fate,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) side: Option<&'static str>,
    pub(super) domain: &'a str,
    pub(super) messages: u64,
    pub(super) peers: u64,
    /// Whether `peers` is counted, not estimated.
    pub(super) peers_exact: bool,
    pub(super) reasons: Vec<Reason<'a>>,
    pub(super) other_reasons: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first: Option<jiff::Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last: Option<jiff::Timestamp>,
    /// In the schema of the decision record.
    #[serde(serialize_with = "lines")]
    pub(super) examples: &'a [Example],
}

fn lines<S: Serializer>(examples: &&[Example], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(examples.iter().map(|example| Line(example.json())))
}

#[derive(Serialize)]
pub(super) struct Reason<'a> {
    pub(super) reason: &'a str,
    pub(super) messages: u64,
}

impl<'a> Report<'a> {
    pub(super) fn new(
        arguments: &Arguments,
        [policy, against]: [Option<&'a str>; 2],
        simulation: &'a Simulation,
        seen: &Seen,
        tally: &'a Tally,
        notes: Vec<String>,
    ) -> Self {
        let pairs = Fate::ALL.into_iter().flat_map(|from| Fate::ALL.map(|to| (from, to)));
        let transitions =
            pairs.map(|(from, to)| Transition { from, to, messages: simulation.transition(from, to) });
        let period = simulation.period();
        Self {
            policy,
            against,
            read: Read {
                logs: &tally.logs,
                bytes: tally.bytes,
                lines: tally.lines,
                decision_records: tally.decisions,
                other_objects: tally.other_objects,
                broken_json: tally.broken_json,
                too_long: tally.too_long,
                mail_log: &tally.mail_log,
            },
            judged: JudgedCount {
                messages: simulation.judged(),
                from_decision_records: seen.decisions,
                from_mail_log: seen.mail_log,
                outside_period: seen.outside,
                first: period.map(|(first, _)| first),
                last: period.map(|(_, last)| last),
            },
            notes,
            totals: Totals {
                before: Counts::of(|fate| simulation.before(fate)),
                after: Counts::of(|fate| simulation.after(fate)),
            },
            transitions: transitions.filter(|transition| transition.messages > 0).collect(),
            changed: simulation.changed(),
            changes: simulation.changes().into_iter().map(Change::of).collect(),
            fail_on: arguments.fail_on.iter().map(|on| (on.as_str(), simulation.newly(on.fate()))).collect(),
        }
    }

    /// What shuts the gate, if anything does.
    pub(super) fn gate(&self) -> Option<String> {
        let met: Vec<String> = self
            .fail_on
            .iter()
            .filter(|(_, messages)| **messages > 0)
            .map(|(word, messages)| format!("{word} would be newly met by {}", counted(*messages, "message")))
            .collect();
        (!met.is_empty()).then(|| format!("--fail-on: {}", met.join("; ")))
    }
}

impl Counts {
    fn of(count: impl Fn(Fate) -> u64) -> Self {
        let mut counts = Self { disposition: BTreeMap::new(), fate: BTreeMap::new() };
        for fate in Fate::ALL {
            counts.fate.insert(fate.as_str(), count(fate));
            *counts.disposition.entry(fate.disposition().as_str()).or_default() += count(fate);
        }
        counts
    }
}

impl<'a> Change<'a> {
    fn of(group: &'a Group) -> Self {
        let mut reasons: Vec<_> =
            group.reasons.iter().map(|(reason, messages)| Reason { reason, messages: *messages }).collect();
        reasons.sort_by(|a, b| b.messages.cmp(&a.messages).then(a.reason.cmp(b.reason)));
        Self {
            direction: group.direction,
            from: group.from,
            to: group.to,
            rule: group.rule.as_deref(),
            side: group.side.map(crate::policy::rule::Side::as_str),
            domain: &group.domain,
            messages: group.messages,
            peers: group.peers.count(),
            peers_exact: group.peers.is_exact(),
            reasons,
            other_reasons: group.other_reasons,
            first: group.first,
            last: group.last,
            examples: &group.examples,
        }
    }
}
