//! What happened? What was refused, deferred, observed and not known, by day and rule; and which exemptions were used.

use super::{MESSAGES, Period, direction_of, each, time};
use crate::evidence::store::{Store, StoreError};
use crate::policy::facts::Direction;

/// What became of messages that did not simply pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Fates {
    /// 5xx
    pub refused: u64,
    /// 4xx
    pub deferred: u64,
    /// A requirement was not met, and the message let through.
    pub observed: u64,
    /// The MTA did not tell what would be needed to judge, and the message was let through.
    pub unknown: u64,
}

impl Fates {
    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.refused += other.refused;
        self.deferred += other.deferred;
        self.observed += other.observed;
        self.unknown += other.unknown;
    }

    /// Each with its name, the worst first.
    pub fn named(&self) -> [(&'static str, u64); 4] {
        [
            ("refused", self.refused),
            ("deferred", self.deferred),
            ("observed", self.observed),
            ("unknown", self.unknown),
        ]
    }

    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// All messages of a day.
#[derive(Clone, Debug, serde::Serialize)]
pub struct DayFates {
    /// The day, `2026-11-22`, in UTC.
    pub day: String,
    /// All messages, those that passed too.
    pub messages: u64,
    /// Those that did not.
    #[serde(flatten)]
    pub fates: Fates,
}

/// What a rule did on a day.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RuleFates {
    /// The day.
    pub day: String,
    /// Which way the mail goes.
    pub direction: Direction,
    /// The rule that decided; empty: none (the MTA told nothing).
    pub rule: String,
    /// What it did.
    #[serde(flatten)]
    pub fates: Fates,
}

/// What happened.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Happened {
    /// Over all days.
    pub total: Fates,
    /// Every day with a decision, in order.
    pub days: Vec<DayFates>,
    /// Every day and rule with something that did not simply pass, in order.
    pub days_and_rules: Vec<RuleFates>,
}

/// What happened?
pub fn what_happened(store: &Store, period: Period) -> Result<Happened, StoreError> {
    const QUESTION: &str = "SELECT day, direction, rule, sum(count), \
        coalesce(sum(count) FILTER (WHERE disposition = 'reject'), 0), \
        coalesce(sum(count) FILTER (WHERE disposition = 'tempfail'), 0), \
        coalesce(sum(count) FILTER (WHERE disposition = 'accept' AND verdict = 'fail'), 0), \
        coalesce(sum(count) FILTER (WHERE disposition = 'accept' AND verdict = 'unknown'), 0) \
        FROM decision_counts WHERE decided = 1 AND day BETWEEN ?1 AND ?2 \
        GROUP BY day, direction, rule ORDER BY day, direction, rule";
    let mut happened = Happened::default();
    each(store, QUESTION, period.days(), |row| {
        let day: String = row.get(0)?;
        let fates = Fates {
            refused: row.get(4)?,
            deferred: row.get(5)?,
            observed: row.get(6)?,
            unknown: row.get(7)?,
        };
        happened.total.add(fates);
        if happened.days.last().is_none_or(|last| last.day != day) {
            happened.days.push(DayFates { day: day.clone(), messages: 0, fates: Fates::default() });
        }
        if let Some(last) = happened.days.last_mut() {
            last.messages += row.get::<_, u64>(3)?;
            last.fates.add(fates);
        }
        if !fates.is_empty() {
            let direction = direction_of(&row.get::<_, String>(1)?);
            happened.days_and_rules.push(RuleFates { day, direction, rule: row.get(2)?, fates });
        }
        Ok(())
    })?;
    Ok(happened)
}

/// How often an exemption was used.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Used {
    /// What exempts: the reason that `[exempt]` gives (`network 127.0.0.0/8`), or a rule's name.
    pub name: String,
    /// Messages. Of a rule with keys on two sides, as many as there were for certain: nothing tells whether both sides met
    /// the same ones.
    pub messages: u64,
    /// The last one.
    pub last: jiff::Timestamp,
}

/// Exemptions that were used, the most used first.
#[derive(Clone, Debug, Default)]
pub struct ExemptionsUsed {
    /// Those of `[exempt]`.
    pub settled: Vec<Used>,
    /// Those of rules.
    pub rules: Vec<Used>,
}

/// Which exemptions were used?
pub fn exemptions_used(store: &Store, period: Period) -> Result<ExemptionsUsed, StoreError> {
    const SETTLED: &str = "SELECT key, sum(count) AS messages, max(last) FROM decision_counts \
        WHERE rule = '' AND verdict = 'exempt' AND day BETWEEN ?1 AND ?2 GROUP BY key ORDER BY messages DESC, key";
    // A rule's exemption is used on its side, whatever another side decided.
    const RULES: &str = "SELECT rule, sum(least) AS used, max(last) FROM messages \
        WHERE exempt AND day BETWEEN ?1 AND ?2 GROUP BY rule ORDER BY used DESC, rule";
    let mut used = ExemptionsUsed::default();
    let of_rules = format!("{MESSAGES}{RULES}");
    for (question, to) in [(SETTLED, &mut used.settled), (&of_rules, &mut used.rules)] {
        each(store, question, period.days(), |row| {
            to.push(Used { name: row.get(0)?, messages: row.get(1)?, last: time(row.get(2)?) });
            Ok(())
        })?;
    }
    Ok(used)
}
