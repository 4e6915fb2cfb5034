//! Whether a rule is ripe for its next step: its evidence, held against the policy's gate.
//!
//! Promises: what is demanded is held against what was negotiated by the decision's own code, so that a demand can be
//! judged on evidence that was gathered before anybody thought of it. The names of certificates are not kept: a demand
//! on them counts as it fared when it was in force. A failure counts as long as it is younger than the gate's days,
//! or its peer has not been seen passing since. Where it is not known which counts of a rule's sides are of the same
//! message, messages are those that there were at the least, and failures at the most. Must not: forgive what cannot be
//! told apart (peers beyond the bound).

use super::questions::{MESSAGES, told_record};
use super::rollup::OTHERS;
use super::{Store, StoreError};
use crate::policy::gate::Gate;
use crate::policy::record::Record;
use crate::policy::requirement::{Outcome, Requirement, Unmet};
use crate::policy::rule::{Mode, Rule};
use crate::policy::step::{self, Wish};
use crate::policy::{Day, Policy};
use rusqlite::named_params;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};

/// The daemon notes each day which rules stand, so that evidence that ends before yesterday has ended.
const FRESH_DAYS: i64 = 1;
/// [`Asked::gate`] of what the policy has against a step.
pub const STEP: &str = "step";
/// How many peers are named in a sentence.
const NAMED: usize = 3;

/// Where a rule stands on its way from one mode to a harder one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ripeness {
    /// The rule.
    pub rule: String,
    /// The mode that it has.
    pub from: Mode,
    /// The mode that it would have.
    pub to: Mode,
    /// What is demanded.
    pub requirement: String,
    /// Whether the gate is open.
    pub ripe: bool,
    /// On how many days in succession, up to the last that there is evidence of, this was in force in this mode.
    pub days: u32,
    /// The first of them, `2026-11-08`.
    pub since: Option<String>,
    /// The first of the days in succession on which the rule stood in any mode: from then on evidence is counted.
    pub watched_since: Option<String>,
    /// The last day that there is evidence of, whichever rule's.
    pub evidence_until: Option<String>,
    /// Messages that could be judged, at the least: where a rule has keys on two sides, a message may have met both.
    pub messages: u64,
    /// Of them those that would fail, at the most.
    pub failures: u64,
    /// Of these those that count.
    pub failures_that_count: u64,
    /// The most recent failure.
    pub last_failure: Option<Failure>,
    /// Days since then.
    pub days_since_failure: Option<i64>,
    /// Messages of which was not told what would be needed to judge them.
    pub unknown: u64,
    /// Failures in the modes of the rule that are harder than the one that it has.
    pub failures_in_harder: u64,
    /// Peers that the rule has met: domains in networks.
    pub peers: u64,
    /// Of them those that never passed, the busiest first.
    pub never_passed: Vec<PeerSeen>,
    /// What the gate asks, one by one.
    pub gates: Vec<Asked>,
}

/// A failure of a demand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The day.
    pub day: String,
    /// Whose.
    pub peer: String,
    /// Why, in sendmail's words.
    pub reason: String,
}

/// A peer that never passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerSeen {
    /// Its registrable domain and its network.
    pub peer: String,
    /// Its messages.
    pub messages: u64,
    /// The last day on which it was met.
    pub last: String,
}

/// One thing that the gate asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// The field of `[gate]`; `evidence` for that there is any of today; `step` for what the policy itself has against
    /// the step.
    pub gate: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// With its numbers.
    pub words: String,
}

impl Ripeness {
    /// What the gate asks and does not hold.
    pub fn against(&self) -> impl Iterator<Item = &Asked> {
        self.gates.iter().filter(|asked| !asked.holds)
    }
}

/// The ripeness of a rule for its next step; nothing where it has none.
pub fn of_rule(
    store: &Store,
    policy: &Policy,
    rule: &Rule,
    today: Day,
) -> Result<Option<Ripeness>, StoreError> {
    let Some((from, to)) = step::next(rule) else { return Ok(None) };
    of_step(store, policy.gate(), rule, (from, to), today)
}

/// The ripeness of a rule for a step from one mode that it has to a harder one.
pub fn of_step(
    store: &Store,
    gate: &Gate,
    rule: &Rule,
    (from, to): (Mode, Mode),
    today: Day,
) -> Result<Option<Ripeness>, StoreError> {
    Ok(judge(store, gate, &[(rule, from, to)], Some(&rule.name), today)?.pop())
}

/// The ripeness of all rules that have a next step, in the order of the files.
pub fn of_all(store: &Store, policy: &Policy, today: Day) -> Result<Vec<Ripeness>, StoreError> {
    let rules = policy.rules().iter();
    let steps: Vec<_> =
        rules.filter_map(|rule| step::next(rule).map(|(from, to)| (rule, from, to))).collect();
    judge(store, policy.gate(), &steps, None, today)
}

/// Judges steps, of one rule or of many, in one walk through the evidence.
fn judge(
    store: &Store,
    gate: &Gate,
    steps: &[(&Rule, Mode, Mode)],
    only: Option<&str>,
    today: Day,
) -> Result<Vec<Ripeness>, StoreError> {
    let days = Days::read(store, only, today).map_err(|error| store.error(error))?;
    let mut tallies: Vec<Tally<'_>> = steps
        .iter()
        .filter_map(|(rule, from, to)| Tally::new(rule, *from, *to, &days, gate, today))
        .collect();
    let places: HashMap<&str, usize> =
        tallies.iter().enumerate().map(|(place, tally)| (tally.rule.name.as_str(), place)).collect();
    let mut count = |rule: &str, seen: &Seen| {
        if let Some(tally) = places.get(rule).and_then(|place| tallies.get_mut(*place)) {
            tally.count(seen);
        }
    };
    read_rows(store, only, &mut count).map_err(|error| store.error(error))?;
    Ok(tallies.into_iter().map(|tally| tally.done(gate, &days, today)).collect())
}

/// On which days what was in force.
struct Days {
    /// On which the daemon ran, the last first.
    all: Vec<String>,
    /// By rule, mode and requirement.
    standing: HashMap<String, BTreeSet<(String, String, String)>>,
    /// The last day that there is evidence of.
    until: Option<String>,
}

impl Days {
    /// Days that are yet to come were written while a clock was wrong: they make nothing fresh.
    fn read(store: &Store, only: Option<&str>, today: Day) -> rusqlite::Result<Self> {
        let connection = store.connection();
        let today = today.to_string();
        let mut days =
            connection.prepare("SELECT DISTINCT day FROM standing WHERE day <= ?1 ORDER BY day DESC")?;
        let all: Vec<String> =
            days.query_map([&today], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let mut standing: HashMap<String, BTreeSet<_>> = HashMap::new();
        let mut rows = connection.prepare(
            "SELECT rule, day, mode, requirement FROM standing WHERE :rule IS NULL OR rule = :rule",
        )?;
        let mut rows = rows.query(named_params! { ":rule": only })?;
        while let Some(row) = rows.next()? {
            standing.entry(row.get(0)?).or_default().insert((row.get(1)?, row.get(2)?, row.get(3)?));
        }
        let until = "SELECT max(day) FROM (SELECT max(day) AS day FROM decision_counts WHERE day <= ?1
                     UNION ALL SELECT max(day) FROM standing WHERE day <= ?1)";
        let until = connection.query_row(until, [&today], |row| row.get(0))?;
        Ok(Self { all, standing, until })
    }

    /// The days in succession, up to the last one, on which the rule stood so, the last first. A day on which no
    /// daemon ran breaks nothing, and is not counted.
    fn of<'d>(&'d self, rule: &str, so: impl Fn(&str, &str) -> bool) -> impl Iterator<Item = &'d str> {
        let stood: BTreeSet<&str> = self
            .standing
            .get(rule)
            .into_iter()
            .flatten()
            .filter(|(_, mode, requirement)| so(mode, requirement))
            .map(|(day, ..)| day.as_str())
            .collect();
        self.all.iter().map(String::as_str).take_while(move |day| stood.contains(day))
    }
}

/// Decisions that have all of this in common.
struct Seen {
    day: String,
    peer: (String, String),
    direction: String,
    version: String,
    cipher: String,
    bits: Option<u16>,
    verify: String,
    modes: [String; Mode::COUNT],
    /// How many messages there were at the least, and at the most: see [`MESSAGES`].
    least: u64,
    most: u64,
}

/// All rows of a rule, or of all, in the order of time.
fn read_rows(store: &Store, only: Option<&str>, count: &mut dyn FnMut(&str, &Seen)) -> rusqlite::Result<()> {
    let mut rows = store.connection().prepare(&format!(
        "{MESSAGES}
         SELECT rule, day, domain, network, direction, version, cipher, bits, verify, observe, soft_fail, enforce,
                least, most
         FROM messages WHERE NOT exempt AND (:rule IS NULL OR rule = :rule)
         ORDER BY last"
    ))?;
    let mut rows = rows.query(named_params! { ":rule": only })?;
    while let Some(row) = rows.next()? {
        let rule: String = row.get(0)?;
        // What was not told is negative.
        let bits: i64 = row.get(7)?;
        let seen = Seen {
            day: row.get(1)?,
            peer: (row.get(2)?, row.get(3)?),
            direction: row.get(4)?,
            version: row.get(5)?,
            cipher: row.get(6)?,
            bits: u16::try_from(bits).ok(),
            verify: row.get(8)?,
            modes: [row.get(9)?, row.get(10)?, row.get(11)?],
            least: row.get(12)?,
            most: row.get(13)?,
        };
        count(&rule, &seen);
    }
    Ok(())
}

impl Seen {
    /// What was negotiated, to be judged again.
    fn record(&self) -> Record<'_> {
        told_record(&self.direction, &self.version, &self.cipher, self.bits, &self.verify)
    }

    /// How they fared in a mode, where it was in force.
    fn fared(&self, mode: Mode) -> Option<Outcome<'static>> {
        match self.modes.get(mode.index()).map_or("", String::as_str) {
            "pass" => Some(Outcome::Met),
            "fail" => Some(Outcome::Failed(Unmet::Words("certificate not as demanded"))),
            "unknown" => Some(Outcome::NotTold("the certificate")),
            _ => None,
        }
    }
}

/// What a peer has shown.
#[derive(Default)]
struct PeerTally {
    messages: u64,
    passed: bool,
    /// Failures on older days that no pass has followed.
    open: u64,
    last: String,
}

/// The counts of one step.
struct Tally<'p> {
    rule: &'p Rule,
    from: Mode,
    to: Mode,
    requirement: &'p Requirement,
    /// The first day whose rows count.
    watched_since: Option<String>,
    /// On which the demand was in force in its mode.
    days: BTreeSet<String>,
    /// The first day on which each failure counts.
    recent: String,
    messages: u64,
    failures: u64,
    recent_failures: u64,
    unknown: u64,
    failures_in_harder: u64,
    last_failure: Option<Failure>,
    peers: HashMap<(String, String), PeerTally>,
}

impl<'p> Tally<'p> {
    fn new(rule: &'p Rule, from: Mode, to: Mode, days: &Days, gate: &Gate, today: Day) -> Option<Self> {
        let requirement = &rule.modes.get(from)?.requirement;
        let text = requirement.to_string();
        let same = |mode: &str, demanded: &str| mode == from.as_str() && demanded == text;
        Some(Self {
            rule,
            from,
            to,
            requirement,
            watched_since: days.of(&rule.name, |_, _| true).last().map(str::to_owned),
            days: days.of(&rule.name, same).map(str::to_owned).collect(),
            recent: Day(today.0 - i64::from(gate.min_days.max(1)) + 1).to_string(),
            messages: 0,
            failures: 0,
            recent_failures: 0,
            unknown: 0,
            failures_in_harder: 0,
            last_failure: None,
            peers: HashMap::new(),
        })
    }

    fn count(&mut self, seen: &Seen) {
        if self.watched_since.as_ref().is_some_and(|since| seen.day < *since) {
            return;
        }
        let record = seen.record();
        let facts = record.facts();
        let outcome = if self.requirement.certificate.is_empty() {
            Some(self.requirement.check(&facts))
        } else {
            seen.fared(self.from).filter(|_| self.days.contains(&seen.day))
        };
        let Some(outcome) = outcome else { return };
        let harder = Mode::HARDEST_FIRST.into_iter().filter(|mode| *mode > self.from);
        if harder.filter_map(|mode| seen.modes.get(mode.index())).any(|fared| fared == "fail") {
            self.failures_in_harder += seen.most;
        }
        let peer = self.peers.entry(seen.peer.clone()).or_default();
        peer.messages += seen.least;
        peer.last.clone_from(&seen.day);
        match outcome {
            Outcome::Met => {
                self.messages += seen.least;
                peer.passed = true;
                // Of many counted together, nobody knows whether the one that failed is the one that passes.
                if seen.peer.0 != OTHERS {
                    peer.open = 0;
                }
            }
            Outcome::NotTold(_) => self.unknown += seen.most,
            Outcome::Failed(unmet) => {
                let reason = unmet.to_string();
                self.messages += seen.least;
                self.failures += seen.most;
                if seen.day >= self.recent {
                    self.recent_failures += seen.most;
                } else {
                    peer.open += seen.most;
                }
                // They come in the order of time.
                self.last_failure = Some(Failure { day: seen.day.clone(), peer: named(&seen.peer), reason });
            }
        }
    }

    fn done(self, gate: &Gate, days: &Days, today: Day) -> Ripeness {
        let open: u64 = self.peers.values().map(|peer| peer.open).sum();
        let mut never_passed: Vec<PeerSeen> = self
            .peers
            .iter()
            .filter(|(peer, tally)| !tally.passed && peer.0 != OTHERS)
            .map(|(peer, tally)| PeerSeen {
                peer: named(peer),
                messages: tally.messages,
                last: tally.last.clone(),
            })
            .collect();
        never_passed.sort_by(|a, b| b.messages.cmp(&a.messages).then_with(|| a.peer.cmp(&b.peer)));
        let peers = self.peers.keys().filter(|peer| peer.0 != OTHERS).count();
        let last_failed = self.last_failure.as_ref().and_then(|failure| Day::parse(&failure.day));
        let mut ripeness = Ripeness {
            rule: self.rule.name.clone(),
            from: self.from,
            to: self.to,
            requirement: self.requirement.to_string(),
            ripe: false,
            days: u32::try_from(self.days.len()).unwrap_or(u32::MAX),
            since: self.days.first().cloned(),
            watched_since: self.watched_since,
            evidence_until: days.until.clone(),
            messages: self.messages,
            failures: self.failures,
            failures_that_count: self.recent_failures + open,
            last_failure: self.last_failure,
            days_since_failure: last_failed.map(|day| today.0 - day.0),
            unknown: self.unknown,
            failures_in_harder: self.failures_in_harder,
            peers: u64::try_from(peers).unwrap_or(u64::MAX),
            never_passed,
            gates: Vec::new(),
        };
        ripeness.gates = asked(&ripeness, gate, today);
        let proposal = step::promote(self.rule, self.to, Wish::default(), today);
        let objections = proposal.into_iter().flat_map(|proposal| proposal.objections);
        ripeness.gates.extend(objections.map(|words| Asked { gate: STEP, holds: false, words }));
        ripeness.ripe = ripeness.gates.iter().all(|asked| asked.holds);
        ripeness
    }
}

/// A peer's name, as it is told.
fn named((domain, network): &(String, String)) -> String {
    match (domain.as_str(), network.as_str()) {
        ("", "") => "(no address)".to_owned(),
        ("", network) => network.to_owned(),
        (domain, "") => domain.to_owned(),
        (domain, network) => format!("{domain} ({network})"),
    }
}

/// A number and what it counts.
fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Holds the evidence against the gate, part by part.
fn asked(seen: &Ripeness, gate: &Gate, today: Day) -> Vec<Asked> {
    let mut all = Vec::new();
    let mut ask = |gate, holds, words| all.push(Asked { gate, holds, words });
    match seen.evidence_until.as_deref().map(|day| (day, Day::parse(day))) {
        None => ask(
            "evidence",
            false,
            "there is no evidence at all: has the daemon run, with [evidence] enabled?".to_owned(),
        ),
        Some((day, last)) => {
            let age = last.map_or(i64::MAX, |last| today.0 - last.0);
            let words = if age > FRESH_DAYS {
                format!("the evidence ends on {day}: does the daemon run, with [evidence] enabled?")
            } else {
                format!("the evidence goes to {day}")
            };
            ask("evidence", age <= FRESH_DAYS, words);
        }
    }
    let since = seen.since.as_ref().map_or(String::new(), |since| format!(", since {since}"));
    let in_mode =
        format!("{} of {} in {}{since}", seen.days, counted(gate.min_days.into(), "day"), seen.from);
    ask("min-days", seen.days >= gate.min_days, in_mode);
    let messages = format!("{} of {}", seen.messages, counted(gate.min_messages, "message"));
    let unknown = match seen.unknown {
        0 => String::new(),
        unknown => format!("; of {unknown} more the MTA did not tell enough"),
    };
    ask("min-messages", seen.messages >= gate.min_messages, messages + &unknown);
    let failures = counted(seen.failures_that_count, "failure");
    let recent = match &seen.last_failure {
        None => "none ever".to_owned(),
        Some(Failure { day, peer, reason }) => format!("the last on {day}: {peer}, {reason}"),
    };
    let failures = format!("{failures}, {} allowed; {recent}", gate.max_failures);
    ask("max-failures", seen.failures_that_count <= gate.max_failures, failures);
    if gate.every_peer_passed {
        let never = seen.never_passed.len();
        let mut words = format!("{} of {} never passed", never, counted(seen.peers, "peer"));
        let names: Vec<&str> = seen.never_passed.iter().take(NAMED).map(|peer| peer.peer.as_str()).collect();
        if !names.is_empty() {
            words = format!("{words}: {}", names.join(", "));
        }
        if never > NAMED {
            words = format!("{words} and {} more", never - NAMED);
        }
        ask("every-peer-passed", never == 0, words);
    }
    all
}

#[cfg(test)]
mod tests;
