//! What sendmail's own rulesets say of a session, and what our policy says of it that was imported from the same access
//! map: the same, over thousands of sessions and maps made by chance; and back again by way of `access export`.
//!
//! `bt` asks sendmail, `ours` asks the program under test, `generate` and `policies` make up what they are asked, `compare` holds
//! the answers together. Promises: a failure shows the seed that repeats it, and the least map that shows it.

mod bt;
mod compare;
mod generate;
mod ours;
mod policies;
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::Value;

use crate::rig::{Result, Rig};
use bt::{Answer, Asker, Case, Ruleset};
use compare::{ALLOWED, Difference, allowed};
use ours::Ours;
use random::{Random, VARIABLE, seed};

/// Maps of one trial, and sessions under each.
const MAPS: u64 = 8;
const CASES: usize = 250;

/// How often each of the allowed differences was met, by name.
type Met = BTreeMap<&'static str, usize>;

/// The two that are compared.
struct Both<'a> {
    asker: Asker<'a>,
    ours: Ours,
    perm_err: bool,
}

pub(crate) fn client(rig: &Rig) -> Result<()> {
    by_chance(rig, Ruleset::Client, false)
}

pub(crate) fn server(rig: &Rig) -> Result<()> {
    by_chance(rig, Ruleset::Server, false)
}

pub(crate) fn rcpt(rig: &Rig) -> Result<()> {
    by_chance(rig, Ruleset::Rcpt, false)
}

/// With `TLS_PERM_ERR`, where a bare rule refuses for good.
pub(crate) fn perm_err(rig: &Rig) -> Result<()> {
    by_chance(rig, Ruleset::Client, true)
}

/// Every odd right-hand side by itself. What is allowed must be met here: else it need not be allowed.
pub(crate) fn odd_rules(rig: &Rig) -> Result<()> {
    let both = Both::new(rig, false)?;
    let (map, cases) = generate::every_odd_rule();
    let met = both.compare(&map, Ruleset::Client, &cases)?;
    let dead = ALLOWED.iter().find(|entry| !met.contains_key(entry.name));
    dead.map_or(Ok(()), |entry| Err(format!("allowed and never met: {} ({})", entry.name, entry.why)))
}

/// Random policies, by way of `access export` to sendmail, and by way of `access import` back.
pub(crate) fn round_trip(rig: &Rig) -> Result<()> {
    let seed = seed()?;
    let both = Both::new(rig, false)?;
    for number in 0..MAPS {
        let mut random = Random::new(seed, number);
        for ruleset in [Ruleset::Client, Ruleset::Server, Ruleset::Rcpt] {
            let policy = policies::policy(&mut random, ruleset);
            let cases: Vec<Case> = (0..CASES).map(|_| policies::case(&mut random, ruleset)).collect();
            for mode in ["enforce", "soft-fail"] {
                both.there_and_back(&policy, mode, ruleset, &cases).map_err(|fault| {
                    format!(
                        "{VARIABLE}={seed}, policy {number}, {ruleset:?}, --mode {mode}: {fault}\n{policy}"
                    )
                })?;
            }
        }
    }
    Ok(())
}

fn by_chance(rig: &Rig, ruleset: Ruleset, perm_err: bool) -> Result<()> {
    let seed = seed()?;
    let both = Both::new(rig, perm_err)?;
    // Not the maps of the other trial again.
    let first = if perm_err { MAPS } else { 0 };
    for number in first..first + MAPS {
        let mut random = Random::new(seed, number);
        let map = generate::map(&mut random, ruleset);
        let cases: Vec<Case> = (0..CASES).map(|_| generate::case(&mut random, ruleset)).collect();
        both.compare(&map, ruleset, &cases)
            .map_err(|fault| format!("{VARIABLE}={seed}, map {number}, {ruleset:?}: {fault}"))?;
    }
    Ok(())
}

impl Both<'_> {
    fn new(rig: &Rig, perm_err: bool) -> Result<Both<'_>> {
        Ok(Both { asker: Asker::new(rig, perm_err)?, ours: Ours::new(rig)?, perm_err })
    }

    /// Asks both of each case under this map, and fails at what is not allowed.
    fn compare(&self, map: &str, ruleset: Ruleset, cases: &[Case]) -> Result<Met> {
        let mut met = Met::new();
        let mut faults = Vec::new();
        for difference in self.differences(map, ruleset, cases)? {
            match allowed(&difference) {
                Some(entry) => *met.entry(entry.name).or_default() += 1,
                None => faults.push(difference),
            }
        }
        let Some(first) = faults.first() else { return Ok(met) };
        let least = self.least(first, ruleset)?;
        let policy = self.ours.import(&least.map, self.perm_err)?;
        let mut told = format!("{} of {} cases differ, not as ALLOWED has it:\n", faults.len(), cases.len());
        let kinds: BTreeSet<String> = faults
            .iter()
            .map(|it| format!("    {:?}, ours {:?} ({})\n", it.sendmail, it.ours, it.verdict))
            .collect();
        told.extend(kinds);
        let _ = write!(
            told,
            "the first:\ncase      {:?}\nsendmail  {:?}\nours      {:?} ({})\nmap, as little of it as shows it:\n{}\npolicy imported of that:\n{policy}",
            least.case, least.sendmail, least.ours, least.verdict, least.map
        );
        Err(told)
    }

    fn differences(&self, map: &str, ruleset: Ruleset, cases: &[Case]) -> Result<Vec<Difference>> {
        let policy = self.ours.import(map, self.perm_err)?;
        let theirs = self.asker.ask(map, ruleset, cases)?;
        let records = self.ours.explain(&policy, ruleset, cases)?;
        let all = cases.iter().zip(theirs).zip(records);
        let differ = all.filter_map(|((case, sendmail), record)| {
            let ours = ours::answer(&record);
            (sendmail != ours).then(|| Difference {
                map: map.to_owned(),
                case: case.clone(),
                sendmail,
                ours,
                verdict: record.get("verdict").and_then(Value::as_str).unwrap_or_default().to_owned(),
            })
        });
        Ok(differ.collect())
    }

    /// The same difference with as few lines of the map as show it.
    fn least(&self, difference: &Difference, ruleset: Ruleset) -> Result<Difference> {
        let mut least = difference.clone();
        for number in (0..least.map.lines().count()).rev() {
            let without = |(at, line): (usize, &str)| (at != number).then(|| format!("{line}\n"));
            let map: String = least.map.split_terminator('\n').enumerate().filter_map(without).collect();
            let still = self.differences(&map, ruleset, std::slice::from_ref(&difference.case))?.pop();
            if let Some(still) = still.filter(|still| allowed(still).is_none()) {
                least = still;
            }
        }
        Ok(least)
    }

    /// The policy's own decisions, of one mode, against those of sendmail and of `access import` on what was exported.
    fn there_and_back(&self, policy: &str, mode: &str, ruleset: Ruleset, cases: &[Case]) -> Result<()> {
        let map = self.ours.export(policy, mode)?;
        let imported = self.ours.import(&map, false)?;
        let meant = self.ours.explain(policy, ruleset, cases)?;
        let meant: Vec<Answer> = meant.iter().map(|record| ours::answer_of_mode(record, mode)).collect();
        let back = self.ours.explain(&imported, ruleset, cases)?;
        let back: Vec<Answer> = back.iter().map(ours::answer).collect();
        let there = self.asker.ask(&map, ruleset, cases)?;
        for (who, answers) in [("sendmail", there), ("imported again", back)] {
            let different = cases.iter().zip(&meant).zip(answers).find(|((_, meant), it)| **meant != *it);
            if let Some(((case, meant), answer)) = different {
                return Err(format!(
                    "case {case:?}\nthe policy      {meant:?}\n{who:<15} {answer:?}\nmap:\n{map}\nimported again:\n{imported}\npolicy:"
                ));
            }
        }
        Ok(())
    }
}
