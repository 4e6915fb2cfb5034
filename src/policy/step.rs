//! One step of a rule, up or down its modes: what moves, what makes way for it, and what the rule demands then.
//!
//! Promises: a step up never makes a rule ask for less, and a step down never makes it stricter nor forgets the most
//! that it asked for; where that cannot be, it is said, and done only for one who insists. Must not: know how a
//! policy file is written, or what the evidence says.

use super::Day;
use super::rule::{Delay, Mode, ModeEntry, Modes, Rule};

/// What is asked for beyond the mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// `percent` of the target.
    pub percent: Option<u8>,
    /// `max-delay` of the target.
    pub max_delay: Option<Delay>,
    /// `from` of the target.
    pub from: Option<Day>,
}

/// One step of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The mode that is changed.
    pub to: Mode,
    /// The mode whose demand the target gets; nothing where it has its own.
    pub source: Option<Mode>,
    /// What the rule demands before.
    pub before: Modes,
    /// What the rule demands after it.
    pub after: Modes,
}

impl Step {
    /// The modes that the rule has no more, the hardest first.
    pub fn gone(&self) -> impl Iterator<Item = Mode> {
        let gone = |mode: &Mode| self.before.get(*mode).is_some() && self.after.get(*mode).is_none();
        Mode::HARDEST_FIRST.into_iter().filter(gone)
    }

    /// The mode whose place in the file is the target's afterwards; nothing where it needs a new one.
    pub fn place(&self) -> Option<Mode> {
        let is_gone = |mode: &Mode| self.after.get(*mode).is_none();
        if self.before.get(self.to).is_some() { Some(self.to) } else { self.source.filter(is_gone) }
    }
}

/// A step, and what stands against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The step.
    pub step: Step,
    /// Why it should not be taken.
    pub objections: Vec<String>,
}

/// Why there is no step to take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoStep {
    /// Nothing could be moved up.
    #[error("rule `{rule}` has no mode softer than `{to}` that could be promoted")]
    NothingSofter {
        /// The rule.
        rule: String,
        /// The target.
        to: Mode,
    },
    /// Nothing could be moved down.
    #[error("rule `{rule}` has no mode harder than `{to}` that could be demoted")]
    NothingHarder {
        /// The rule.
        rule: String,
        /// The target.
        to: Mode,
    },
    /// The target has that demand already, from a day to come, and no other day is wished for.
    #[error("rule `{rule}` demands this in `{to}` already, from {from}: an earlier day is said by `--from`")]
    Waits {
        /// The rule.
        rule: String,
        /// The target.
        to: Mode,
        /// Its day.
        from: Day,
    },
    /// Only soft-fail defers.
    #[error("`{setting}` has no meaning in `{to}`: only `soft-fail` defers")]
    Misplaced {
        /// `percent` or `max-delay`.
        setting: &'static str,
        /// The target.
        to: Mode,
    },
}

/// The step that a rule would take next: its hardest mode that is not yet `enforce` goes up by one. None where a
/// harder mode demands all of it already.
pub fn next(rule: &Rule) -> Option<(Mode, Mode)> {
    let (from, to, entry) = [(Mode::SoftFail, Mode::Enforce), (Mode::Observe, Mode::SoftFail)]
        .into_iter()
        .find_map(|(from, to)| Some((from, to, rule.modes.get(from)?)))?;
    let mut harder = entries(&rule.modes).filter(|(mode, _)| *mode > from);
    let is_demanded = harder.any(|(_, harder)| harder.requirement.implies(&entry.requirement));
    (!is_demanded).then_some((from, to))
}

/// Moves the demand of the hardest mode below `to` up to it. The one that `to` has makes way; how softly it
/// acts (`percent`, `max-delay`) and from which day to come it holds stays, unless wished otherwise. Where it holds
/// from a day to come, the softer mode stays beside it: until then it is all that watches.
pub fn promote(rule: &Rule, to: Mode, wish: Wish, today: Day) -> Result<Proposal, NoStep> {
    misplaced(to, wish)?;
    let before = &rule.modes;
    let Some((source, moved)) = entries(before).find(|(mode, _)| *mode < to) else {
        return Err(NoStep::NothingSofter { rule: rule.name.clone(), to });
    };
    let mut objections = Vec::new();
    if let Some(from) = moved.from.filter(|from| *from > today && wish.from.is_none()) {
        objections.push(format!("`{source}` is not in force before {from}: nobody has met it yet"));
    }
    let target = before.get(to);
    if let Some(target) = target.filter(|target| !moved.requirement.implies(&target.requirement)) {
        objections.push(format!(
            "`{to}` demands {} already, which `{source}` ({}) does not: the rule would ask for less",
            target.requirement, moved.requirement
        ));
    }
    let from = target.and_then(|target| target.from);
    let arrived = arrived(moved, target, from, to, wish, today);
    let mut after = before.clone();
    if let Some(from) = arrived.from {
        if target == Some(&arrived) {
            return Err(NoStep::Waits { rule: rule.name.clone(), to, from });
        }
        if target.is_some_and(|target| target.in_force(today)) {
            objections.push(format!("`{to}` is in force, and would not be before {from}"));
        }
    } else {
        after.set(source, None);
    }
    after.set(to, Some(arrived));
    Ok(Proposal { step: Step { to, source: Some(source), before: before.clone(), after }, objections })
}

/// Lets a rule be no harder than `to`. Of what it demanded there and above, the most is demanded there.
pub fn demote(rule: &Rule, to: Mode, wish: Wish, today: Day) -> Result<Proposal, NoStep> {
    misplaced(to, wish)?;
    let before = &rule.modes;
    let harder: Vec<(Mode, &ModeEntry)> = entries(before).filter(|(mode, _)| *mode > to).collect();
    let Some(hardest) = harder.first() else {
        return Err(NoStep::NothingHarder { rule: rule.name.clone(), to });
    };
    let target = before.get(to);
    // The target's own first: what can stay, stays.
    let all = || target.map(|entry| (to, entry)).into_iter().chain(harder.iter().rev().copied());
    // What is observed may be observed sooner; what defers may not.
    let sooner = |a: &ModeEntry, b: &ModeEntry| to == Mode::Observe || b.in_force(today) <= a.in_force(today);
    let most = all().find(|(_, entry)| {
        all().all(|(_, other)| entry.requirement.implies(&other.requirement) && sooner(entry, other))
    });
    let mut objections = Vec::new();
    let (source, moved) = most.unwrap_or_else(|| {
        let demands: Vec<String> = all().map(|(mode, entry)| format!("{mode} {entry}")).collect();
        objections.push(format!(
            "none of its demands holds all the others ({}): all but one would be lost",
            demands.join("; ")
        ));
        harder.iter().find(|(_, entry)| entry.in_force(today)).copied().unwrap_or(*hardest)
    });
    let mut after = before.clone();
    for (mode, _) in &harder {
        after.set(*mode, None);
    }
    let from = if source == to { moved.from } else { moved.from.filter(|_| to != Mode::Observe) };
    let arrived = if source == to {
        ModeEntry {
            percent: share(wish).or(moved.percent.filter(|_| wish.percent.is_none())),
            max_delay: wish.max_delay.or(moved.max_delay),
            from: wish.from.or(from),
            ..moved.clone()
        }
    } else {
        arrived(moved, target, from, to, wish, today)
    };
    after.set(to, Some(arrived));
    let source = (source != to).then_some(source);
    Ok(Proposal { step: Step { to, source, before: before.clone(), after }, objections })
}

/// The modes that a rule has, the hardest first.
fn entries(modes: &Modes) -> impl Iterator<Item = (Mode, &ModeEntry)> {
    Mode::HARDEST_FIRST.into_iter().filter_map(|mode| Some((mode, modes.get(mode)?)))
}

fn misplaced(to: Mode, wish: Wish) -> Result<(), NoStep> {
    let wished = [("percent", wish.percent.is_some()), ("max-delay", wish.max_delay.is_some())];
    match wished.into_iter().find(|(_, wished)| *wished && to != Mode::SoftFail) {
        Some((setting, _)) => Err(NoStep::Misplaced { setting, to }),
        None => Ok(()),
    }
}

/// The share that is wished for; all is no share.
fn share(wish: Wish) -> Option<u8> {
    wish.percent.filter(|percent| *percent < 100)
}

/// A demand in its new mode. A day that has come says nothing any more.
fn arrived(
    moved: &ModeEntry,
    target: Option<&ModeEntry>,
    from: Option<Day>,
    to: Mode,
    wish: Wish,
    today: Day,
) -> ModeEntry {
    let soft = target.filter(|_| to == Mode::SoftFail);
    ModeEntry {
        requirement: moved.requirement.clone(),
        from: wish.from.or(from).filter(|from| *from > today),
        percent: share(wish)
            .or_else(|| soft.filter(|_| wish.percent.is_none()).and_then(|target| target.percent)),
        max_delay: wish.max_delay.or_else(|| soft.and_then(|target| target.max_delay)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::requirement::Requirement;

    const TODAY: Day = Day(20_000);

    fn bits(bits: u16) -> ModeEntry {
        let requirement = Requirement { min_bits: Some(bits), ..Requirement::default() };
        ModeEntry { requirement, ..ModeEntry::default() }
    }

    fn verify() -> ModeEntry {
        ModeEntry {
            requirement: Requirement { verify: true, ..Requirement::default() },
            ..ModeEntry::default()
        }
    }

    fn rule(observe: Option<ModeEntry>, soft_fail: Option<ModeEntry>, enforce: Option<ModeEntry>) -> Rule {
        let modes = Modes { observe, soft_fail, enforce };
        Rule { name: "r".into(), modes, ..Rule::default() }
    }

    fn up(rule: &Rule, to: Mode) -> Proposal {
        promote(rule, to, Wish::default(), TODAY).unwrap()
    }

    fn down(rule: &Rule, to: Mode) -> Proposal {
        demote(rule, to, Wish::default(), TODAY).unwrap()
    }

    /// What the rule demands after it, the softest first.
    fn after(proposal: &Proposal) -> [Option<String>; 3] {
        let modes = &proposal.step.after;
        [&modes.observe, &modes.soft_fail, &modes.enforce]
            .map(|entry| entry.as_ref().map(ToString::to_string))
    }

    fn demands(observe: &str, soft_fail: &str, enforce: &str) -> [Option<String>; 3] {
        [observe, soft_fail, enforce].map(|text| (!text.is_empty()).then(|| text.to_owned()))
    }

    #[test]
    fn the_hardest_mode_below_goes_up() {
        let three = rule(Some(bits(256)), Some(bits(168)), Some(bits(128)));
        let proposal = up(&three, Mode::Enforce);
        assert_eq!(after(&proposal), demands("min-bits 256", "", "min-bits 168"));
        assert_eq!(
            (proposal.step.source, proposal.step.place()),
            (Some(Mode::SoftFail), Some(Mode::Enforce))
        );
        assert_eq!(proposal.step.gone().collect::<Vec<_>>(), [Mode::SoftFail]);
        assert!(proposal.objections.is_empty());
        let proposal = up(&three, Mode::SoftFail);
        assert_eq!(after(&proposal), demands("", "min-bits 256", "min-bits 128"));
        let two = rule(Some(bits(256)), None, Some(bits(128)));
        assert_eq!(after(&up(&two, Mode::Enforce)), demands("", "", "min-bits 256"));
        assert_eq!(up(&two, Mode::SoftFail).step.place(), Some(Mode::Observe));
        for to in [Mode::Observe, Mode::SoftFail, Mode::Enforce] {
            let none = promote(&rule(None, None, Some(bits(128))), to, Wish::default(), TODAY);
            assert_eq!(none, Err(NoStep::NothingSofter { rule: "r".into(), to }));
        }
    }

    #[test]
    fn a_step_up_that_asks_for_less_is_objected_to() {
        let less = up(&rule(Some(bits(128)), None, Some(bits(256))), Mode::Enforce);
        assert_eq!(less.objections.len(), 1, "{:?}", less.objections);
        let other = up(&rule(Some(bits(256)), None, Some(verify())), Mode::Enforce);
        assert_eq!(other.objections.len(), 1, "{:?}", other.objections);
    }

    #[test]
    fn what_is_not_in_force_has_met_nobody() {
        let to_come = ModeEntry { from: Some(Day(TODAY.0 + 1)), ..bits(256) };
        let early = up(&rule(Some(to_come.clone()), None, None), Mode::SoftFail);
        assert_eq!(early.objections.len(), 1);
        // Who insists has it at once; who gives a day has it then.
        assert_eq!(after(&early), demands("", "min-bits 256", ""));
        let from = Some(Day(TODAY.0 + 30));
        let dated =
            promote(&rule(Some(to_come), None, None), Mode::Enforce, Wish { from, ..Wish::default() }, TODAY)
                .unwrap();
        assert_eq!(dated.step.after.enforce, Some(ModeEntry { from, ..bits(256) }));
        // Until then, what watched goes on watching.
        assert_eq!((&dated.step.after.observe, dated.step.place()), (&dated.step.before.observe, None));
        let come = ModeEntry { from: Some(TODAY), ..bits(256) };
        let ripe = up(&rule(Some(come), None, None), Mode::Enforce);
        assert_eq!((ripe.objections.len(), after(&ripe)), (0, demands("", "", "min-bits 256")));
    }

    #[test]
    fn how_softly_a_mode_acts_is_its_own() {
        let soft = ModeEntry { percent: Some(25), max_delay: Some(Delay(3600)), ..bits(128) };
        let up_there = up(&rule(None, Some(soft.clone()), None), Mode::Enforce);
        assert_eq!(after(&up_there), demands("", "", "min-bits 128"));
        let both = rule(Some(bits(256)), Some(soft), None);
        assert_eq!(
            after(&up(&both, Mode::SoftFail)),
            demands("", "min-bits 256, percent 25, max-delay 1h", "")
        );
        let wish = Wish { percent: Some(100), max_delay: Some(Delay(7200)), from: None };
        let wished = promote(&both, Mode::SoftFail, wish, TODAY).unwrap();
        assert_eq!(after(&wished), demands("", "min-bits 256, max-delay 2h", ""));
        let misplaced = promote(&both, Mode::Enforce, wish, TODAY);
        assert_eq!(misplaced, Err(NoStep::Misplaced { setting: "percent", to: Mode::Enforce }));
        // What is in force must not wait for another day.
        let from = Some(Day(TODAY.0 + 30));
        let late = promote(
            &rule(Some(bits(256)), None, Some(bits(128))),
            Mode::Enforce,
            Wish { from, ..Wish::default() },
            TODAY,
        );
        assert_eq!(late.unwrap().objections.len(), 1);
        // A day that partners were told of stays.
        let announced = ModeEntry { from: Some(Day(TODAY.0 + 9)), ..bits(128) };
        let kept = up(&rule(Some(bits(256)), None, Some(announced.clone())), Mode::Enforce);
        assert_eq!(kept.step.after.enforce, Some(ModeEntry { from: announced.from, ..bits(256) }));
        // Where nothing would change, it is said what would.
        let again = rule(None, Some(bits(128)), Some(announced.clone()));
        let from = Day(TODAY.0 + 9);
        assert_eq!(
            promote(&again, Mode::Enforce, Wish::default(), TODAY),
            Err(NoStep::Waits { rule: "r".into(), to: Mode::Enforce, from })
        );
        let today = Wish { from: Some(TODAY), ..Wish::default() };
        let proposal = promote(&again, Mode::Enforce, today, TODAY).unwrap();
        assert_eq!(after(&proposal), demands("", "", "min-bits 128"));
        assert!(proposal.objections.is_empty());
    }

    #[test]
    fn a_step_down_keeps_the_most_that_was_asked_for() {
        for (before, to, expected) in [
            (rule(None, None, Some(bits(128))), Mode::Observe, demands("min-bits 128", "", "")),
            (rule(Some(bits(256)), None, Some(bits(128))), Mode::Observe, demands("min-bits 256", "", "")),
            (rule(None, Some(bits(168)), Some(bits(128))), Mode::Observe, demands("min-bits 168", "", "")),
            (
                rule(Some(bits(256)), Some(bits(168)), Some(bits(128))),
                Mode::SoftFail,
                demands("min-bits 256", "min-bits 168", ""),
            ),
            (rule(None, Some(bits(128)), Some(bits(256))), Mode::SoftFail, demands("", "min-bits 256", "")),
            (
                rule(Some(verify()), None, Some(bits(128))),
                Mode::SoftFail,
                demands("verify", "min-bits 128", ""),
            ),
        ] {
            let proposal = down(&before, to);
            assert_eq!((after(&proposal), proposal.objections.len()), (expected, 0), "{before:?} {to}");
        }
        let none = demote(&rule(Some(bits(128)), None, None), Mode::Observe, Wish::default(), TODAY);
        assert_eq!(none, Err(NoStep::NothingHarder { rule: "r".into(), to: Mode::Observe }));
    }

    #[test]
    fn a_step_down_that_forgets_something_is_objected_to() {
        let apart = down(&rule(None, Some(verify()), Some(bits(128))), Mode::SoftFail);
        assert_eq!((apart.objections.len(), after(&apart)), (1, demands("", "min-bits 128", "")));
        // What is to come must not take the place of what holds today.
        let to_come = ModeEntry { from: Some(Day(TODAY.0 + 9)), ..bits(256) };
        let early = down(&rule(None, Some(bits(128)), Some(to_come.clone())), Mode::SoftFail);
        assert_eq!(early.objections.len(), 1);
        // Nor act sooner than it would have.
        let soft = down(&rule(None, None, Some(to_come.clone())), Mode::SoftFail);
        assert_eq!(soft.step.after.soft_fail, Some(to_come.clone()));
        let seen = down(&rule(None, None, Some(to_come)), Mode::Observe);
        assert_eq!(seen.step.after.observe, Some(bits(256)));
    }

    #[test]
    fn one_mode_up_is_next() {
        let of = |observe, soft_fail, enforce| {
            let entry = |demanded: u16| (demanded > 0).then(|| bits(demanded));
            next(&rule(entry(observe), entry(soft_fail), entry(enforce)))
        };
        assert_eq!(of(256, 168, 128), Some((Mode::SoftFail, Mode::Enforce)));
        assert_eq!(of(256, 0, 128), Some((Mode::Observe, Mode::SoftFail)));
        assert_eq!(of(0, 0, 128), None);
        // What is demanded already ripens no more.
        assert_eq!((of(128, 0, 128), of(0, 128, 256)), (None, None));
    }
}
