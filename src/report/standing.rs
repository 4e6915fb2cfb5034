//! Where does each rule stand? How its modes fared, and whether it is ripe for the next one.
//!
//! Promises: with a policy, its rules and no others, in its order, those that met nobody too; without one, what the
//! evidence itself says. Whether a rule is ripe is said by [`crate::evidence::ripeness`] alone.

use super::day_text;
use crate::evidence::questions::rules::{ModeSeen, RuleSeen};
use crate::evidence::ripeness::Ripeness;
use crate::policy::rule::{Mode, Rule};
use crate::policy::{Day, Policy};

/// A rule.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RuleStanding {
    /// Its name.
    pub rule: String,
    /// Whether it exempts, on the day of the report.
    pub exempt: bool,
    /// How often it was held against a message.
    pub held: u64,
    /// The last time; null: it has met nobody.
    pub last: Option<jiff::Timestamp>,
    /// Its modes, the hardest first.
    pub modes: Vec<ModeStanding>,
    /// Whether it is ripe for its next step; null where it has none, or where that was not asked.
    pub ripeness: Option<Ripeness>,
}

/// A mode of a rule.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ModeStanding {
    /// How it fared.
    #[serde(flatten)]
    pub seen: ModeSeen,
    /// From which day on it will be in force, where that is to come.
    #[serde(serialize_with = "day_text")]
    pub from: Option<Day>,
}

impl RuleStanding {
    /// On how many days a mode has been in force: in succession up to today, where that was asked.
    pub(super) fn days(&self, mode: &ModeSeen) -> u64 {
        let asked = self.ripeness.as_ref().filter(|ripeness| ripeness.from == mode.mode);
        asked.map_or(mode.days, |ripeness| u64::from(ripeness.days))
    }
}

/// Of all rules.
pub(super) fn standing(
    seen: Vec<RuleSeen>,
    policy: Option<&Policy>,
    mut ripeness: Vec<Ripeness>,
    today: Day,
) -> Vec<RuleStanding> {
    let Some(policy) = policy else { return seen.into_iter().map(of_evidence).collect() };
    let mut seen = seen;
    policy
        .rules()
        .iter()
        .map(|rule| {
            let place = seen.iter().position(|seen| seen.rule == rule.name);
            let ripe = ripeness.iter().position(|ripeness| ripeness.rule == rule.name);
            let ripeness = ripe.map(|place| ripeness.swap_remove(place));
            of_policy(rule, place.map(|place| seen.swap_remove(place)), ripeness, today)
        })
        .collect()
}

fn of_evidence(seen: RuleSeen) -> RuleStanding {
    let modes = seen.modes.into_iter().map(|seen| ModeStanding { seen, from: None });
    RuleStanding {
        rule: seen.rule,
        exempt: false,
        held: seen.held,
        last: seen.last,
        modes: modes.collect(),
        ripeness: None,
    }
}

fn of_policy(rule: &Rule, seen: Option<RuleSeen>, ripeness: Option<Ripeness>, today: Day) -> RuleStanding {
    let mut fared = Vec::new();
    let (mut held, mut last) = (0, None);
    if let Some(seen) = seen {
        (held, last, fared) = (seen.held, seen.last, seen.modes);
    }
    let modes = Mode::HARDEST_FIRST.into_iter().filter_map(|mode| Some((mode, rule.modes.get(mode)?)));
    let modes = modes.map(|(mode, entry)| {
        let known = fared.iter().find(|seen| seen.mode == mode).cloned();
        let requirement = Some(entry.requirement.to_string());
        let seen = known.unwrap_or(ModeSeen::none(mode));
        ModeStanding { seen: ModeSeen { requirement, ..seen }, from: entry.from.filter(|from| *from > today) }
    });
    RuleStanding {
        rule: rule.name.clone(),
        exempt: rule.exemption.as_ref().is_some_and(|exemption| exemption.holds(today)),
        held,
        last,
        modes: modes.collect(),
        ripeness,
    }
}
