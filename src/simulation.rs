//! What would change: decisions of two policies on the same messages, or of one and what was recorded.
//!
//! Promises: pure, no clock and no files; the result does not depend on the order of what comes in, but for which
//! examples are kept; memory is bounded, however many peers, domains and reasons there are ([`MAX_GROUPS`],
//! [`MAX_REASONS`], [`peers`]). Must not: decide.

mod example;
pub mod peers;
pub mod repeats;

pub use example::Example;

use crate::policy::decide::{Decision, Disposition, Envelope, Reason, Verdict, disposition};
use crate::policy::domain::{NameBuffer, split_address};
use crate::policy::facts::{Direction, Facts, plain_address, told_address};
use crate::policy::network::neighbourhood;
use crate::policy::record::Record;
use crate::policy::rule::Side;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use peers::Peers;
use std::borrow::Cow;
use std::hash::BuildHasher;
use std::num::NonZeroU64;

/// What becomes of a message. Ordered: the further down, the worse for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// Every mode in force was met.
    Passed,
    /// It is not judged.
    Exempt,
    /// No rule has a key for it, or nobody has judged it.
    NoRule,
    /// The MTA did not tell what would be needed to judge it.
    Unknown,
    /// It fails, and is let through.
    Observed,
    /// 4xx
    Deferred,
    /// 5xx
    Refused,
}

impl Fate {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Passed,
        Self::Exempt,
        Self::NoRule,
        Self::Unknown,
        Self::Observed,
        Self::Deferred,
        Self::Refused,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Exempt => "exempt",
            Self::NoRule => "no-rule",
            Self::Unknown => "unknown",
            Self::Observed => "observed",
            Self::Deferred => "deferred",
            Self::Refused => "refused",
        }
    }

    /// What is done with such a message.
    pub fn disposition(self) -> Disposition {
        match self {
            Self::Refused => Disposition::Reject,
            Self::Deferred => Disposition::Tempfail,
            _ => Disposition::Accept,
        }
    }

    fn of(verdict: Verdict, done: Disposition) -> Self {
        match (done, verdict) {
            (Disposition::Reject, _) => Self::Refused,
            (Disposition::Tempfail, _) => Self::Deferred,
            (Disposition::Accept, Verdict::Pass) => Self::Passed,
            (Disposition::Accept, Verdict::Fail) => Self::Observed,
            (Disposition::Accept, Verdict::Exempt) => Self::Exempt,
            (Disposition::Accept, Verdict::NoRule) => Self::NoRule,
            (Disposition::Accept, Verdict::Unknown) => Self::Unknown,
        }
    }

    /// Whether anybody notices: the administrator (a failure, or what could not be judged), or the sender.
    fn shows(self) -> bool {
        self >= Self::Unknown
    }
}

/// Whether anybody notices that a message fares otherwise.
pub fn is_change(from: Fate, to: Fate) -> bool {
    from != to && (from.shows() || to.shows())
}

/// A decision, as far as it counts here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged<'a> {
    /// What becomes of the message.
    pub fate: Fate,
    /// The rule that decided.
    pub rule: Option<&'a str>,
    /// The side on which its key was found.
    pub side: Option<Side>,
    /// Why.
    pub reason: Option<Reason<'a>>,
}

impl<'a> Judged<'a> {
    /// What a policy decides.
    pub fn by(decision: &'a Decision<'_>) -> Self {
        Self {
            fate: Fate::of(decision.verdict, decision.disposition),
            rule: decision.rule.map(|rule| rule.name.as_str()),
            side: decision.side,
            reason: decision.reason,
        }
    }

    /// What a record says was decided. One that was not judged was let through by no rule.
    pub fn recorded(record: &'a Record<'_>) -> Self {
        let verdict = record.verdict.unwrap_or(Verdict::NoRule);
        let done = record.disposition.unwrap_or(disposition(verdict, record.mode));
        Self {
            fate: Fate::of(verdict, done),
            rule: record.rule.as_deref(),
            side: record.side,
            reason: record.reason.as_deref().map(Reason::Words),
        }
    }
}

/// How a message was counted: what one like it comes to ([`Simulation::add_again`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    from: Fate,
    to: Fate,
    /// Its group, and the place of its reason there.
    told: Option<(usize, Option<usize>)>,
}

impl Counted {
    /// Stands for no group, and for no reason.
    const NONE: (u32, u8) = (u32::MAX, u8::MAX);

    /// As it is kept; nothing where there are more groups than any policy has.
    fn pack(self) -> Option<NonZeroU64> {
        let (group, reason) = match self.told {
            Some((group, reason)) => (
                u32::try_from(group).ok().filter(|group| *group != Self::NONE.0)?,
                reason.map_or(Some(Self::NONE.1), |reason| u8::try_from(reason).ok())?,
            ),
            None => Self::NONE,
        };
        let [a, b, c, d] = group.to_le_bytes();
        NonZeroU64::new(u64::from_le_bytes([1, self.from as u8, self.to as u8, reason, a, b, c, d]))
    }

    fn unpack(kept: NonZeroU64) -> Self {
        let [_, from, to, reason, group @ ..] = kept.get().to_le_bytes();
        let fate = |place: u8| Fate::ALL.get(usize::from(place)).copied().unwrap_or(Fate::NoRule);
        let group = Some(u32::from_le_bytes(group)).filter(|group| *group != Self::NONE.0);
        let reason = Some(reason).filter(|reason| *reason != Self::NONE.1).map(usize::from);
        let told = group.and_then(|group| Some((usize::try_from(group).ok()?, reason)));
        Self { from: fate(from), to: fate(to), told }
    }
}

/// So many groups are told apart; what comes after them is told together, by rule.
pub const MAX_GROUPS: usize = 10_000;

/// So many reasons of a group are told apart: some have names of certificates in them.
pub const MAX_REASONS: usize = 4;

/// So many bytes of a word that somebody sent are kept.
const MAX_WORD: usize = 256;

/// The domain of a group that stands for many.
pub const OTHERS: &str = "(others)";

/// Messages to which the same happens.
#[derive(Debug)]
pub struct Group {
    /// Which way the mail goes.
    pub direction: Direction,
    /// What becomes of them now.
    pub from: Fate,
    /// What would become of them.
    pub to: Fate,
    /// The rule under which they fare worse: the one that would act, or the one that does now.
    pub rule: Option<String>,
    /// The side on which its key was found.
    pub side: Option<Side>,
    /// Whom it is about: the registrable domain of the host's confirmed name, or the network of a host without one; the
    /// domain of the address where the rule's key was one of a mail address.
    pub domain: String,
    /// How many.
    pub messages: u64,
    /// How many hosts.
    pub peers: Peers,
    /// Why, with the number of messages.
    pub reasons: Vec<(String, u64)>,
    /// Messages of other reasons than these.
    pub other_reasons: u64,
    /// The first of them.
    pub first: Option<jiff::Timestamp>,
    /// The last of them.
    pub last: Option<jiff::Timestamp>,
    /// A few of them, each of another host.
    pub examples: Vec<Example>,
}

/// Counts what would change.
#[derive(Debug)]
pub struct Simulation {
    judged: u64,
    first: Option<jiff::Timestamp>,
    last: Option<jiff::Timestamp>,
    transitions: [[u64; Fate::ALL.len()]; Fate::ALL.len()],
    groups: Vec<Group>,
    index: HashTable<usize>,
    hasher: RandomState,
    max_examples: usize,
    /// Where an example is written.
    line: Vec<u8>,
}

impl Simulation {
    /// With so many examples of each group.
    pub fn new(max_examples: usize) -> Self {
        Self {
            judged: 0,
            first: None,
            last: None,
            transitions: Default::default(),
            groups: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::default(),
            max_examples,
            line: Vec::new(),
        }
    }

    /// Counts one message.
    pub fn add(
        &mut self,
        record: &Record<'_>,
        facts: &Facts<'_>,
        before: Judged<'_>,
        after: Judged<'_>,
    ) -> Counted {
        let counted = Counted { from: before.fate, to: after.fate, told: None };
        self.pass(record.ts, counted);
        if !is_change(before.fate, after.fate) {
            return counted;
        }
        // What is told is the decision under which it fares worse.
        let acts = if after.fate > before.fate { after } else { before };
        let key = Key {
            direction: facts.direction,
            from: before.fate,
            to: after.fate,
            rule: acts.rule,
            side: acts.side,
            domain: &domain_of(facts, record.envelope(), acts.side),
        };
        let max_examples = self.max_examples;
        let Some(at) = self.group(key) else { return counted };
        let Some(group) = self.groups.get_mut(at) else { return counted };
        group.messages += 1;
        widen(&mut group.first, &mut group.last, record.ts);
        let words = acts.reason.map(Reason::words);
        let reason = group.reason(words.as_deref().unwrap_or_default());
        if group.peers.add(facts) && group.examples.len() < max_examples {
            group.examples.push(Example::of(record, words.as_deref(), &mut self.line));
        }
        Counted { told: Some((at, reason)), ..counted }
    }

    /// Counts one message more that comes to the same as one that was counted: of the same host, and of the same group and
    /// reason. What was found for that one stays true: groups and reasons are never taken away, a host that was added
    /// is not new.
    pub fn add_again(&mut self, ts: Option<jiff::Timestamp>, counted: Counted) {
        self.pass(ts, counted);
        if let Some((at, reason)) = counted.told
            && let Some(group) = self.groups.get_mut(at)
        {
            group.messages += 1;
            widen(&mut group.first, &mut group.last, ts);
            match reason.and_then(|reason| group.reasons.get_mut(reason)) {
                Some((_, count)) => *count += 1,
                None => group.other_reasons += 1,
            }
        }
    }

    /// Counts a message from one fate to another.
    fn pass(&mut self, ts: Option<jiff::Timestamp>, Counted { from, to, .. }: Counted) {
        self.judged += 1;
        widen(&mut self.first, &mut self.last, ts);
        if let Some(count) = self.transitions.get_mut(from as usize).and_then(|row| row.get_mut(to as usize))
        {
            *count += 1;
        }
    }

    /// The group of a key, made where there is none yet and room for it.
    fn group(&mut self, key: Key<'_>) -> Option<usize> {
        let with_rule = Key { domain: OTHERS, ..key };
        let at_last = Key { rule: None, side: None, ..with_rule };
        for (key, room) in [
            (key, MAX_GROUPS),
            // Records may name any number of rules.
            (with_rule, 2 * MAX_GROUPS),
            (at_last, usize::MAX),
        ] {
            let hash = self.hasher.hash_one(key);
            let groups = &self.groups;
            let found = self.index.find(hash, |&at| groups.get(at).is_some_and(|group| group.key() == key));
            if let Some(&at) = found {
                return Some(at);
            }
            if self.groups.len() < room {
                let Self { groups, index, hasher, .. } = self;
                let hash_of = |&at: &usize| groups.get(at).map_or(0, |group| hasher.hash_one(group.key()));
                index.insert_unique(hash, groups.len(), hash_of);
                groups.push(Group::new(key));
                return Some(groups.len() - 1);
            }
        }
        None
    }

    /// How many messages were judged.
    pub fn judged(&self) -> u64 {
        self.judged
    }

    /// The first and the last message that was judged.
    pub fn period(&self) -> Option<(jiff::Timestamp, jiff::Timestamp)> {
        self.first.zip(self.last)
    }

    /// How many messages go from one fate to another.
    pub fn transition(&self, from: Fate, to: Fate) -> u64 {
        self.transitions.get(from as usize).and_then(|row| row.get(to as usize)).copied().unwrap_or(0)
    }

    /// How many messages have a fate now.
    pub fn before(&self, fate: Fate) -> u64 {
        Fate::ALL.into_iter().map(|to| self.transition(fate, to)).sum()
    }

    /// How many messages would have it.
    pub fn after(&self, fate: Fate) -> u64 {
        Fate::ALL.into_iter().map(|from| self.transition(from, fate)).sum()
    }

    /// How many messages would have it that fare better now.
    pub fn newly(&self, fate: Fate) -> u64 {
        Fate::ALL.into_iter().filter(|from| *from < fate).map(|from| self.transition(from, fate)).sum()
    }

    /// How many messages would fare otherwise than now, so that somebody notices.
    pub fn changed(&self) -> u64 {
        let pairs = Fate::ALL.into_iter().flat_map(|from| Fate::ALL.map(|to| (from, to)));
        pairs.filter(|(from, to)| is_change(*from, *to)).map(|(from, to)| self.transition(from, to)).sum()
    }

    /// What would change, the worst first, and of that the most.
    pub fn changes(&self) -> Vec<&Group> {
        let mut groups: Vec<&Group> = self.groups.iter().collect();
        groups.sort_by_cached_key(|group| {
            let hardens = group.to > group.from;
            let worst = group.to.max(group.from);
            let order = std::cmp::Reverse((hardens, worst, group.messages));
            (group.direction as u8, order, group.to, group.from, &group.rule, group.side, &group.domain)
        });
        groups
    }
}

fn widen(
    first: &mut Option<jiff::Timestamp>,
    last: &mut Option<jiff::Timestamp>,
    ts: Option<jiff::Timestamp>,
) {
    if let Some(ts) = ts {
        *first = Some(first.map_or(ts, |first| first.min(ts)));
        *last = Some(last.map_or(ts, |last| last.max(ts)));
    }
}

/// What a group has in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key<'a> {
    direction: Direction,
    from: Fate,
    to: Fate,
    rule: Option<&'a str>,
    side: Option<Side>,
    domain: &'a str,
}

impl Group {
    fn new(key: Key<'_>) -> Self {
        Self {
            direction: key.direction,
            from: key.from,
            to: key.to,
            rule: key.rule.map(str::to_owned),
            side: key.side,
            domain: key.domain.to_owned(),
            messages: 0,
            peers: Peers::default(),
            reasons: Vec::new(),
            other_reasons: 0,
            first: None,
            last: None,
            examples: Vec::new(),
        }
    }

    fn key(&self) -> Key<'_> {
        let Self { direction, from, to, side, .. } = *self;
        Key { direction, from, to, rule: self.rule.as_deref(), side, domain: &self.domain }
    }

    /// Counts a reason, and gives its place; nothing where it is told with the others.
    fn reason(&mut self, reason: &str) -> Option<usize> {
        let reason = beginning(reason);
        let known = self.reasons.iter().position(|(known, _)| *known == reason);
        if let Some((at, (_, count))) = known.and_then(|at| Some((at, self.reasons.get_mut(at)?))) {
            *count += 1;
            Some(at)
        } else if self.reasons.len() < MAX_REASONS {
            self.reasons.push((reason.to_owned(), 1));
            Some(self.reasons.len() - 1)
        } else {
            self.other_reasons += 1;
            None
        }
    }
}

/// A word that somebody sent, up to a bound.
fn beginning(word: &str) -> &str {
    word.get(..word.floor_char_boundary(MAX_WORD)).unwrap_or(word)
}

/// Whom a decision is about.
fn domain_of<'a>(facts: &'a Facts<'_>, envelope: Envelope<'_>, side: Option<Side>) -> Cow<'a, str> {
    let address = match side {
        Some(Side::Sender) => envelope.sender,
        Some(Side::Recipient | Side::RecipientOutbound) => envelope.recipient,
        Some(Side::Client | Side::Server) | None => None,
    };
    let address = address.map(|address| plain_address(told_address(facts.direction, address)));
    if let Some(domain) = address.as_deref().and_then(|address| split_address(address).1)
        && let Some(domain) = NameBuffer::default().normalised(domain)
    {
        return Cow::Owned(domain.to_owned());
    }
    if let Some(domain) = facts.peer_domain() {
        return Cow::Owned(domain);
    }
    if let Some(network) = facts.lookup_ip().and_then(neighbourhood) {
        return Cow::Owned(network.to_string());
    }
    let told = facts.peer_name.as_deref().or(facts.peer_addr.as_deref());
    Cow::Borrowed(beginning(told.unwrap_or_default()))
}

#[cfg(test)]
mod tests;
