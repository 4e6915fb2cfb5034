//! How did the modes of each rule fare? What the evidence itself says, policy or no policy.

use super::{MESSAGES, Period, each, time};
use crate::evidence::store::{Store, StoreError};
use crate::policy::rule::Mode;

/// A rule in the evidence.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RuleSeen {
    /// Its name.
    pub rule: String,
    /// Against how many messages it was held, at the least: see [`ModeSeen`].
    pub held: u64,
    /// The last time.
    pub last: Option<jiff::Timestamp>,
    /// Its modes, the hardest first: those that were in force on any of the days.
    pub modes: Vec<ModeSeen>,
}

/// A mode of a rule in the evidence. Of a rule with keys on several sides it is not always known which counts are of the
/// same message: those that passed are told at the least, the others at the most.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ModeSeen {
    /// The mode.
    pub mode: Mode,
    /// Messages that met it.
    pub passed: u64,
    /// Messages that did not.
    pub failed: u64,
    /// Messages of which the MTA did not tell what would be needed to say.
    pub unknown: u64,
    /// The last failure.
    pub last_failure: Option<jiff::Timestamp>,
    /// What it demands, as it last stood; nothing where no daemon wrote it down.
    pub requirement: Option<String>,
    /// On how many days it is known to have been in force.
    pub days: u64,
}

impl ModeSeen {
    /// Of a mode that has met nobody.
    pub fn none(mode: Mode) -> Self {
        Self { mode, passed: 0, failed: 0, unknown: 0, last_failure: None, requirement: None, days: 0 }
    }
}

/// How did the modes of each rule fare?
pub fn modes_of_rules(store: &Store, period: Period) -> Result<Vec<RuleSeen>, StoreError> {
    // SQLite takes the other columns of a group from the row with the maximum.
    const STOOD: &str = "SELECT rule, mode, count(DISTINCT day), max(day), requirement FROM standing \
                         WHERE day BETWEEN ?1 AND ?2 GROUP BY rule, mode";
    let mut rules: Vec<RuleSeen> = Vec::new();
    each(store, &fared(), period.days(), |row| {
        let mut modes = Vec::new();
        for (position, mode) in Mode::HARDEST_FIRST.into_iter().enumerate() {
            let from = 3 + 4 * position;
            let seen = ModeSeen {
                passed: row.get(from)?,
                failed: row.get(from + 1)?,
                unknown: row.get(from + 2)?,
                last_failure: row.get::<_, Option<i64>>(from + 3)?.map(time),
                ..ModeSeen::none(mode)
            };
            if seen.passed + seen.failed + seen.unknown > 0 {
                modes.push(seen);
            }
        }
        let last = row.get::<_, Option<i64>>(2)?.map(time);
        rules.push(RuleSeen { rule: row.get(0)?, held: row.get(1)?, last, modes });
        Ok(())
    })?;
    each(store, STOOD, period.days(), |row| {
        let (name, word): (String, String) = (row.get(0)?, row.get(1)?);
        let Some(mode) = Mode::HARDEST_FIRST.into_iter().find(|mode| mode.as_str() == word) else {
            return Ok(());
        };
        let place = match rules.binary_search_by(|rule| rule.rule.cmp(&name)) {
            Ok(place) => place,
            Err(place) => {
                rules.insert(place, RuleSeen { rule: name, held: 0, last: None, modes: Vec::new() });
                place
            }
        };
        let Some(rule) = rules.get_mut(place) else { return Ok(()) };
        let (days, requirement) = (row.get(2)?, Some(row.get(4)?));
        if let Some(seen) = rule.modes.iter_mut().find(|seen| seen.mode == mode) {
            (seen.days, seen.requirement) = (days, requirement);
        } else {
            let place = rule.modes.partition_point(|seen| seen.mode > mode);
            rule.modes.insert(place, ModeSeen { requirement, days, ..ModeSeen::none(mode) });
        }
        Ok(())
    })?;
    Ok(rules)
}

/// Sums of every mode, the hardest first.
fn fared() -> String {
    let sums = Mode::HARDEST_FIRST.map(|mode| {
        let column = mode.as_str().replace('-', "_");
        let sum = |number: &str, word: &str| {
            format!("coalesce(sum({number}) FILTER (WHERE {column} = '{word}'), 0)")
        };
        format!(
            "{}, {}, {}, max(last) FILTER (WHERE {column} = 'fail')",
            sum("least", "pass"),
            sum("most", "fail"),
            sum("most", "unknown")
        )
    });
    format!(
        "{MESSAGES} SELECT rule, sum(least), max(last), {} FROM messages \
         WHERE day BETWEEN ?1 AND ?2 GROUP BY rule ORDER BY rule",
        sums.join(", ")
    )
}
