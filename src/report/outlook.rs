//! What becomes of a session today, and on every later day on which the policy changes of itself.
//!
//! Promises: [`decide`] says so, for each day of its own; the days are those of the rules that have a key for the
//! session. What a share is deferred of is told as deferred, for on another day it is another share.

use super::day_text;
use crate::policy::decide::{Failure, Verdict, decide, tried};
use crate::policy::facts::{Facts, TlsState};
use crate::policy::record::Record;
use crate::policy::requirement::{Outcome, Requirement};
use crate::policy::rule::{Mode, ModeEntry, Rule};
use crate::policy::{Day, Policy};
use std::collections::BTreeSet;

/// What becomes of a message, from the best to the worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It meets what is asked.
    Passed,
    /// Nothing is asked.
    #[default]
    NotAsked,
    /// It is not judged.
    Exempt,
    /// The MTA did not tell what would be needed to judge it.
    Unknown,
    /// It hangs on the names in the certificate, which the evidence does not keep.
    Undecided,
    /// It does not meet what is tried out, and is let through.
    Observed,
    /// It is put off (4xx).
    Deferred,
    /// It is refused (5xx).
    Refused,
}

/// What becomes of a session's messages from a day on.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Outlook {
    /// From that day, 00:00 UTC; null: already today.
    #[serde(serialize_with = "day_text")]
    pub from: Option<Day>,
    /// What becomes of them.
    pub fate: Fate,
    /// Where only a share is deferred, how much of it, in percent.
    pub percent: Option<u8>,
    /// How long one message is deferred at the most: `4h`.
    pub max_delay: Option<String>,
    /// Why, in sendmail's words.
    pub reason: Option<String>,
}

impl Outlook {
    fn says_the_same(&self, other: &Self) -> bool {
        *self == Self { from: self.from, ..other.clone() }
    }
}

/// What is asked of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Demand<'p> {
    /// How seriously.
    pub(super) mode: Mode,
    /// What, and of which share.
    pub(super) entry: &'p ModeEntry,
    /// From when on it is asked of the session: later than the rule has it, where an exemption has to end first. Nothing:
    /// already today.
    pub(super) from: Option<Day>,
}

/// What would mend a session. Ordered as one would go about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// Use STARTTLS at all.
    Encrypt,
    /// A handshake that does not fail.
    Handshake,
    /// A newer version of TLS.
    NewerVersion,
    /// A cipher with more bits.
    StrongerCipher,
    /// A certificate that can be verified.
    VerifiedCertificate,
    /// A certificate with the right names.
    CertificateNames,
}

/// What the policy says of a session, over all days.
#[derive(Debug, Default)]
pub(super) struct Prospect<'p> {
    /// Today first.
    pub(super) outlook: Vec<Outlook>,
    /// What is asked, on any of the days.
    pub(super) demands: Vec<Demand<'p>>,
    /// What would mend it.
    pub(super) remedies: BTreeSet<Remedy>,
}

impl<'p> Prospect<'p> {
    /// Of a session that a record tells, with the facts of that.
    pub(super) fn of(policy: &'p Policy, record: &Record<'_>, facts: &'p Facts<'p>, today: Day) -> Self {
        let mut prospect = Self::default();
        for day in days(policy, record, facts, today) {
            let decision = decide(policy, facts, record.envelope(), day);
            let mut undecided: Option<Mode> = None;
            for held in decision.held.iter().flatten().filter(|held| !held.exempt) {
                for (mode, entry) in held.rule.modes.in_force(day) {
                    if prospect.demands.iter().all(|known| (known.mode, known.entry) != (mode, entry)) {
                        prospect.demands.push(Demand { mode, entry, from: (day > today).then_some(day) });
                    }
                    if hangs_on_names(&entry.requirement, facts) {
                        undecided = undecided.max(Some(mode));
                    }
                }
            }
            let mut outlook = Outlook {
                from: (day > today).then_some(day),
                fate: match decision.verdict {
                    Verdict::Pass => Fate::Passed,
                    Verdict::NoRule => Fate::NotAsked,
                    Verdict::Exempt => Fate::Exempt,
                    Verdict::Unknown => Fate::Unknown,
                    Verdict::Fail => Fate::Observed,
                },
                ..Outlook::default()
            };
            // The hardest mode that fails, as the policy has it: a share is deferred on some days and not on others.
            let worst = decision.failures().max_by_key(|failure| failure.mode);
            let in_share = |failure: &Failure<'_>| {
                let entry = failure.rule.modes.get(failure.mode);
                entry.is_some_and(|entry| entry.percent.is_some())
            };
            let worst = worst.filter(|failure| match decision.verdict {
                Verdict::Fail => true,
                // Outside its share, what fails there counts for nothing beside what was not told.
                Verdict::Unknown => in_share(failure),
                Verdict::Pass | Verdict::Exempt | Verdict::NoRule => false,
            });
            if let Some(failure) = worst {
                outlook.fail(&failure);
                for failure in decision.failures() {
                    if let Some(entry) = failure.rule.modes.get(failure.mode) {
                        prospect.remedies.extend(remedies(&entry.requirement, facts));
                    }
                }
            }
            // What is only tried out refuses nobody.
            if undecided > worst.map(|failure| failure.mode).max(Some(Mode::Observe)) {
                outlook = Outlook { from: outlook.from, fate: Fate::Undecided, ..Outlook::default() };
            }
            if prospect.outlook.last().is_none_or(|last| !last.says_the_same(&outlook)) {
                prospect.outlook.push(outlook);
            }
        }
        prospect
    }

    /// What becomes of it on a day.
    pub(super) fn on(outlook: &[Outlook], day: Option<Day>) -> Option<&Outlook> {
        outlook.iter().rev().find(|outlook| outlook.from <= day)
    }
}

impl Outlook {
    fn fail(&mut self, failure: &Failure<'_>) {
        self.reason = Some(failure.reason.to_string());
        let entry = failure.rule.modes.get(failure.mode);
        match failure.mode {
            Mode::Observe => {}
            Mode::Enforce => self.fate = Fate::Refused,
            Mode::SoftFail => {
                self.fate = Fate::Deferred;
                self.percent = entry.and_then(|entry| entry.percent);
                self.max_delay = entry.and_then(|entry| entry.max_delay).map(|delay| delay.to_string());
            }
        }
    }
}

/// Today, and every later day on which a rule that has a key for the session begins or ends to ask something.
fn days(policy: &Policy, record: &Record<'_>, facts: &Facts<'_>, today: Day) -> BTreeSet<Day> {
    let mut days = BTreeSet::from([today]);
    for (_, tried) in tried(policy, facts, record.envelope()) {
        if let Some(rule) = tried.rule.and_then(|id| policy.rule(id)) {
            days.extend(turns(rule).filter(|day| *day > today));
        }
    }
    days
}

/// The days on which a rule begins or ends to ask something.
fn turns(rule: &Rule) -> impl Iterator<Item = Day> {
    let begins = Mode::HARDEST_FIRST.into_iter().filter_map(|mode| rule.modes.get(mode)?.from);
    let ends = rule.exemption.iter().filter_map(|exemption| exemption.until);
    // What ends with the calendar does not end.
    begins.chain(ends.filter(|until| *until < Day::LAST).map(|until| Day(until.0 + 1)))
}

/// Whether a session meets all that is demanded but for the names in its certificate, of which nothing is kept.
fn hangs_on_names(requirement: &Requirement, facts: &Facts<'_>) -> bool {
    let is_not_told = |requirement: &Requirement| matches!(requirement.check(facts), Outcome::NotTold(_));
    let but_names = Requirement { certificate: Vec::new(), ..requirement.clone() };
    is_not_told(requirement) && !is_not_told(&but_names)
}

/// Which parts of a requirement are not met, each held by itself.
fn remedies(requirement: &Requirement, facts: &Facts<'_>) -> BTreeSet<Remedy> {
    let fails = |part: Requirement| matches!(part.check(facts), Outcome::Failed(_));
    if fails(Requirement { handshake: true, ..Requirement::default() }) {
        return BTreeSet::from([Remedy::Handshake]);
    }
    if facts.tls.state == TlsState::Plaintext {
        return BTreeSet::from([Remedy::Encrypt]);
    }
    let Requirement { min_bits, min_version, verify, ref certificate, .. } = *requirement;
    let parts = [
        (Remedy::NewerVersion, Requirement { min_version, ..Requirement::default() }),
        (Remedy::StrongerCipher, Requirement { min_bits, ..Requirement::default() }),
        (Remedy::VerifiedCertificate, Requirement { verify, ..Requirement::default() }),
        (
            Remedy::CertificateNames,
            Requirement { certificate: certificate.clone(), ..Requirement::default() },
        ),
    ];
    parts.into_iter().filter(|(_, part)| fails(part.clone())).map(|(remedy, _)| remedy).collect()
}
