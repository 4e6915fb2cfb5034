//! How many decisions there were: by direction, rule, side, mode and verdict. The disposition follows from the latter two.
//!
//! Promises: counting takes no lock that anybody holds while he works, and allocates once for each rule and side. Each
//! decision is counted once, whatever is reloaded meanwhile: tallies go on by the rule's name, those of rules that are gone
//! stay for another reload, and what is decided by a rule that is gone for longer is counted as of [`REMOVED`].
//! Must not: have an answering thread drop a table.

use crate::policy::Policy;
use crate::policy::decide::{Decision, Disposition, Verdict, disposition};
use crate::policy::facts::Direction;
use crate::policy::rule::{Mode, Side};
use arc_swap::ArcSwap;
use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Stands for rules that were taken out of the policy two reloads ago or earlier, while transactions still went by it.
pub const REMOVED: &str = "(removed)";

const VERDICTS: [Verdict; 5] =
    [Verdict::Pass, Verdict::Fail, Verdict::Exempt, Verdict::NoRule, Verdict::Unknown];
/// Beside the modes: none.
const MODES: usize = Mode::COUNT + 1;
/// How many outcomes are told apart.
const OUTCOMES: usize = VERDICTS.len() * MODES;

/// By verdict and mode.
type Outcomes = [AtomicU64; OUTCOMES];

/// The place of an outcome among [`Outcomes`].
fn place(verdict: Verdict, mode: Option<Mode>) -> usize {
    let verdict = match verdict {
        Verdict::Pass => 0,
        Verdict::Fail => 1,
        Verdict::Exempt => 2,
        Verdict::NoRule => 3,
        Verdict::Unknown => 4,
    };
    verdict * MODES + mode.map_or(0, |mode| mode.index() + 1)
}

fn side_index(side: Side) -> usize {
    match side {
        Side::Client => 0,
        Side::Sender => 1,
        Side::Recipient => 2,
        Side::Server => 3,
        Side::RecipientOutbound => 4,
    }
}

fn side_direction(side: Side) -> Direction {
    match side {
        Side::Client | Side::Sender | Side::Recipient => Direction::Inbound,
        Side::Server | Side::RecipientOutbound => Direction::Outbound,
    }
}

fn bump(outcomes: &Outcomes, decision: &Decision<'_>) {
    if let Some(count) = outcomes.get(place(decision.verdict, decision.mode)) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn outcomes() -> Outcomes {
    std::array::from_fn(|_| AtomicU64::new(0))
}

/// The decisions by one rule. Most rules of a large policy never decide anything, so that sides are made when they are needed.
#[derive(Debug, Default)]
struct RuleTally([OnceLock<Box<Outcomes>>; Side::ALL.len()]);

impl RuleTally {
    fn count(&self, side: Side, decision: &Decision<'_>) {
        if let Some(outcomes_of) = self.0.get(side_index(side)) {
            bump(outcomes_of.get_or_init(|| Box::new(outcomes())), decision);
        }
    }

    fn has_counted(&self) -> bool {
        self.0.iter().any(|side| side.get().is_some())
    }
}

/// The tallies of the rules in force, and of those that a transaction may still go by.
#[derive(Debug, Default)]
struct Table {
    rules: HashMap<Arc<str>, Arc<RuleTally>, FixedState>,
    /// Of the rules in force: those that stay when the next policy has no rule of that name.
    in_force: Vec<Arc<str>>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Tallies {
    table: ArcSwap<Table>,
    /// By no rule: by direction.
    by_none: [Outcomes; 2],
    removed: Arc<RuleTally>,
    /// Tables that were in use, until no answering thread looks at them any more. Nobody who answers takes this lock.
    retired: Mutex<Vec<Arc<Table>>>,
}

/// One of the numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tallied {
    /// Which way the mail goes.
    pub direction: Direction,
    /// The rule that decided.
    pub rule: Option<Arc<str>>,
    /// The side on which its key was found.
    pub side: Option<Side>,
    /// The mode that decided.
    pub mode: Option<Mode>,
    /// What was found.
    pub verdict: Verdict,
    /// How often.
    pub count: u64,
}

impl Tallied {
    /// What was done.
    pub fn disposition(&self) -> Disposition {
        disposition(self.verdict, self.mode)
    }
}

impl Default for Tallies {
    fn default() -> Self {
        Self {
            table: ArcSwap::default(),
            by_none: std::array::from_fn(|_| outcomes()),
            removed: Arc::default(),
            retired: Mutex::default(),
        }
    }
}

impl Tallies {
    /// Counts one.
    pub(super) fn count(&self, direction: Direction, decision: &Decision<'_>) {
        match decision.rule.zip(decision.side) {
            Some((rule, side)) => match self.table.load().rules.get(rule.name.as_str()) {
                Some(tally) => tally.count(side, decision),
                None => self.removed.count(side, decision),
            },
            None => {
                let [inbound, outbound] = &self.by_none;
                bump(if direction == Direction::Inbound { inbound } else { outbound }, decision);
            }
        }
    }

    /// Makes ready for the decisions of a policy. To be called before it is in force, by one thread.
    pub(super) fn expect(&self, policy: &Policy) {
        let before = self.table.load_full();
        let mut table = Table::default();
        table.rules.reserve(policy.rules().len() + 1);
        table.in_force.reserve(policy.rules().len());
        for rule in policy.rules() {
            let (name, tally) = match before.rules.get_key_value(rule.name.as_str()) {
                Some((name, tally)) => (Arc::clone(name), Arc::clone(tally)),
                None => (Arc::from(rule.name.as_str()), Arc::default()),
            };
            table.in_force.push(Arc::clone(&name));
            table.rules.insert(name, tally);
        }
        for name in &before.in_force {
            if let Some(tally) = before.rules.get(name)
                && !table.rules.contains_key(name)
            {
                table.rules.insert(Arc::clone(name), Arc::clone(tally));
            }
        }
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        drop(before);
        retired.push(self.table.swap(Arc::new(table)));
        retired.retain(|table| Arc::strong_count(table) > 1);
    }

    /// Every number that is not zero, by direction for decisions of no rule, then by rule.
    pub(super) fn each(&self, mut tell: impl FnMut(&Tallied)) {
        let mut tell_all = |direction, rule: Option<&Arc<str>>, side, outcomes: &Outcomes| {
            let rule = rule.cloned();
            let modes = [None, Some(Mode::Observe), Some(Mode::SoftFail), Some(Mode::Enforce)];
            let places = VERDICTS.into_iter().flat_map(|verdict| modes.map(|mode| (verdict, mode)));
            for ((verdict, mode), count) in places.zip(outcomes) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    tell(&Tallied { direction, rule: rule.clone(), side, mode, verdict, count });
                }
            }
        };
        for (direction, outcomes) in [Direction::Inbound, Direction::Outbound].into_iter().zip(&self.by_none)
        {
            tell_all(direction, None, None, outcomes);
        }
        let table = self.table.load_full();
        let mut rules: Vec<_> = table.rules.iter().filter(|(_, tally)| tally.has_counted()).collect();
        let removed = Arc::from(REMOVED);
        // A rule that has this very name has its own numbers; two series must not have one name.
        if self.removed.has_counted() && !table.rules.contains_key(REMOVED) {
            rules.push((&removed, &self.removed));
        }
        rules.sort_unstable_by_key(|(name, _)| Arc::clone(name));
        for (name, tally) in rules {
            for (side, outcomes) in Side::ALL.into_iter().zip(&tally.0) {
                if let Some(outcomes) = outcomes.get() {
                    tell_all(side_direction(side), Some(name), Some(side), outcomes);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
