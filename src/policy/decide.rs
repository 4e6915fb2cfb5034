//! The verdict, and the one place where modes act.
//!
//! Promises: a pure function of (policy, facts, envelope, day). `observe` never changes a reply, only
//! `soft-fail` gives 4xx, only `enforce` gives 5xx: [`disposition`] is the one total function that says
//! so. Stronger facts never fare worse. What the MTA did not tell is accepted, and said. Deciding words nothing and
//! allocates nothing, whatever comes out: reasons, failures and the reply are made when they are asked for.

use super::domain::{self, NameBuffer};
use super::facts::{Direction, Facts, TlsState, plain_address, told_address};
use super::lookup::{Found, Key, RuleId, Subject, Tried};
use super::network::{Network, neighbourhood};
use super::reply::{Refusal, Reply};
use super::requirement::{Outcome, Unmet, failed_handshake};
use super::rule::{Delay, Mode, ModeEntry, Rule, Side, Standing};
use super::{Day, Policy};
use std::borrow::Cow;
use std::fmt;

/// What the policy says of a message or recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every mode that was in force was met.
    Pass,
    /// A mode was not met.
    Fail,
    /// Not to be judged: by `[exempt]` or by a rule.
    Exempt,
    /// No rule has a key for it.
    NoRule,
    /// The MTA did not tell what would be needed to say.
    Unknown,
}

impl Verdict {
    /// The word for it, as in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Exempt => "exempt",
            Self::NoRule => "no-rule",
            Self::Unknown => "unknown",
        }
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disposition {
    /// Let through.
    Accept,
    /// Deferred, 4xx.
    Tempfail,
    /// Refused, 5xx.
    Reject,
}

impl Disposition {
    /// The word for it, as in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Tempfail => "tempfail",
            Self::Reject => "reject",
        }
    }
}

/// What is done, from what was found. Nothing else in the program decides this.
pub fn disposition(verdict: Verdict, mode: Option<Mode>) -> Disposition {
    match (verdict, mode) {
        (Verdict::Fail, Some(Mode::Enforce)) => Disposition::Reject,
        (Verdict::Fail, Some(Mode::SoftFail)) => Disposition::Tempfail,
        (Verdict::Fail, Some(Mode::Observe) | None)
        | (Verdict::Pass | Verdict::Exempt | Verdict::NoRule | Verdict::Unknown, _) => Disposition::Accept,
    }
}

/// Who writes to whom, as MAIL and RCPT gave it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Envelope<'a> {
    /// The envelope sender, with or without angle brackets; `<>` is the null sender. Absent: not known.
    pub sender: Option<&'a str>,
    /// The recipient that is judged. Absent: the message as a whole.
    pub recipient: Option<&'a str>,
    /// How long, in seconds, this message has been tried already, where somebody keeps count.
    pub waited: Option<u32>,
}

/// The addresses of an envelope as the MTA itself will take them, to look up. The null sender is absent.
struct Parties<'a> {
    sender: Option<Cow<'a, str>>,
    recipient: Option<Cow<'a, str>>,
}

impl<'a> Parties<'a> {
    fn of(envelope: Envelope<'a>, direction: Direction) -> Self {
        let address = |address| match (direction, told_address(direction, address)) {
            (Direction::Inbound, told) => plain_address(told),
            (Direction::Outbound, told) => Cow::Borrowed(told),
        };
        Self {
            sender: envelope.sender.map(address).filter(|sender| !sender.is_empty()),
            recipient: envelope.recipient.map(address),
        }
    }
}

/// Why a decision is what it is: worded where somebody reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason<'a> {
    /// What was not met.
    Unmet(Unmet<'a>),
    /// What the MTA did not tell.
    NotTold(&'static str),
    /// In the words of whoever wrote the policy, or a record.
    Words(&'a str),
    /// `[exempt]`: a network.
    Network(&'a Network),
    /// `[exempt]`: a recipient.
    Recipient(&'a str),
}

impl<'a> Reason<'a> {
    /// The words, sendmail's where it has any; borrowed where there is nothing to put together.
    pub fn words(self) -> Cow<'a, str> {
        match self {
            Self::Unmet(unmet) => unmet.words(),
            Self::Words(words) => Cow::Borrowed(words),
            Self::NotTold(_) | Self::Network(_) | Self::Recipient(_) => Cow::Owned(self.to_string()),
        }
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmet(unmet) => unmet.fmt(f),
            Self::NotTold(what) => write!(f, "not told by the MTA: {what}"),
            Self::Words(words) => f.write_str(words),
            Self::Network(network) => write!(f, "network {network}"),
            Self::Recipient(listed) => write!(f, "recipient {listed}"),
        }
    }
}

/// One mode that was not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// The side on which its key was found.
    pub side: Side,
    /// The key.
    pub key: Key<'a>,
    /// The mode.
    pub mode: Mode,
    /// Why.
    pub reason: Unmet<'a>,
}

/// One verdict, and all that led to it. Borrows from the policy and from the facts.
#[derive(Clone, Debug)]
pub struct Decision<'a> {
    /// The verdict.
    pub verdict: Verdict,
    /// What is done.
    pub disposition: Disposition,
    /// The mode that decided. A soft-fail outside its `percent` acts as `observe`.
    pub mode: Option<Mode>,
    /// The rule that decided.
    pub rule: Option<&'a Rule>,
    /// The side on which its key was found.
    pub side: Option<Side>,
    /// The key.
    pub key: Option<Key<'a>>,
    /// Why.
    pub reason: Option<Reason<'a>>,
    /// Whether `[exempt]` settled it, so that no recipient could change it.
    pub settled: bool,
    /// Whether a rule that was held demands the certificate's subject or issuer: who has not told them yet
    /// may be asked for them.
    pub wants_names: bool,
    /// Where it is a soft-fail that acts: the longest `max-delay` of those that act. How long the message has been
    /// tried should be asked for, and told in [`Envelope::waited`].
    pub max_delay: Option<Delay>,
    /// The rule of each side that was held, and how it fared.
    pub held: [Option<Held<'a>>; SIDES],
    /// What was not met, where that decided.
    demanded: Option<&'a ModeEntry>,
    policy: &'a Policy,
    facts: &'a Facts<'a>,
}

impl<'a> Decision<'a> {
    /// One of which nothing is said but the verdict.
    pub fn new(policy: &'a Policy, facts: &'a Facts<'a>, verdict: Verdict) -> Self {
        Self {
            verdict,
            disposition: disposition(verdict, None),
            mode: None,
            rule: None,
            side: None,
            key: None,
            reason: None,
            settled: false,
            wants_names: false,
            max_delay: None,
            held: [None; SIDES],
            demanded: None,
            policy,
            facts,
        }
    }

    /// What the client is told, where it is refused.
    pub fn reply(&self) -> Option<Reply> {
        let of = match self.disposition {
            Disposition::Accept => return None,
            Disposition::Tempfail => Reply::tempfail,
            Disposition::Reject => Reply::reject,
        };
        let requirement = &self.demanded?.requirement;
        // A SASL layer of too few bits is encryption, and too weak.
        let layer = self.facts.effective_bits().filter(|bits| *bits > 0);
        let too_weak = layer.is_some_and(|bits| requirement.min_bits.is_some_and(|need| bits < need));
        Some(of(Refusal {
            reason: &self.reason?.words(),
            requirement,
            plaintext: self.facts.tls.state == TlsState::Plaintext && !too_weak,
            rule: &self.rule?.name,
            contact: self.policy.contact(),
        }))
    }

    /// Every mode that was not met, by side, the hardest first.
    pub fn failures(&self) -> impl Iterator<Item = Failure<'a>> + '_ {
        self.held.iter().flatten().flat_map(|held| held.failures(self.facts))
    }
}

/// The most sides that one decision looks at.
pub const SIDES: usize = 3;

/// How one mode of a rule fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fared {
    /// Met.
    Passed,
    /// Not met.
    Failed,
    /// The MTA did not tell what would be needed to say.
    NotTold,
}

/// A rule that was found on a side, and how its modes fared.
#[derive(Clone, Copy, Debug)]
pub struct Held<'p> {
    /// The rule.
    pub rule: &'p Rule,
    /// The side on which its key was found.
    pub side: Side,
    /// The key.
    pub key: Key<'p>,
    /// Whether the rule exempts on that day.
    pub exempt: bool,
    /// By mode ([`Mode::index`]); nothing for one that is not in force, or that an exemption lifts.
    pub modes: [Option<Fared>; Mode::COUNT],
}

impl<'a> Held<'a> {
    fn fared(&self, mode: Mode) -> Option<Fared> {
        self.modes.get(mode.index()).copied().flatten()
    }

    /// Its modes that were not met, the hardest first: what was held is held once more, to say why.
    fn failures(self, facts: &'a Facts<'a>) -> impl Iterator<Item = Failure<'a>> {
        let Self { rule, side, key, .. } = self;
        let failed =
            Mode::HARDEST_FIRST.into_iter().filter(move |mode| self.fared(*mode) == Some(Fared::Failed));
        failed.filter_map(move |mode| match rule.modes.get(mode)?.requirement.check(facts) {
            Outcome::Failed(reason) => Some(Failure { rule, side, key, mode, reason }),
            Outcome::Met | Outcome::NotTold(_) => None,
        })
    }
}

/// Decides on one message (no recipient) or one recipient of it.
pub fn decide<'a>(
    policy: &'a Policy,
    facts: &'a Facts<'a>,
    envelope: Envelope<'_>,
    day: Day,
) -> Decision<'a> {
    let parties = Parties::of(envelope, facts.direction);
    if let Some(reason) = exempt(policy, facts, &parties) {
        let exempt = Decision::new(policy, facts, Verdict::Exempt);
        return Decision { reason: Some(reason), settled: true, ..exempt };
    }
    if !facts.told_anything() {
        let unknown = Decision::new(policy, facts, Verdict::Unknown);
        return Decision { reason: Some(Reason::NotTold("{client_addr}")), ..unknown };
    }

    let mut tally = Tally::default();
    let mut wants_names = false;
    let mut all_held = [None; SIDES];
    for ((side, subject), place) in subjects(facts, &parties).into_iter().flatten().zip(&mut all_held) {
        let standing = |id: RuleId| policy.rule(id).map_or(Standing::Absent, |rule| rule.standing(day));
        let Some(Found { key, rule: id }) = policy.index().side(side).find(subject, standing) else {
            continue;
        };
        let Some(rule) = policy.rule(id) else { continue };
        let exempt = rule.exemption.as_ref().is_some_and(|exemption| exemption.holds(day));
        let mut held = Held { rule, side, key, exempt, modes: [None; Mode::COUNT] };
        wants_names |= !exempt && rule.modes.in_force(day).any(|(_, entry)| entry.requirement.wants_names());
        for (mode, entry) in rule.modes.in_force(day) {
            // An exemption lifts every demand but this one: that there be a session at all.
            let outcome = match failed_handshake(facts) {
                Some(reason) if exempt && entry.requirement.handshake => {
                    Outcome::Failed(Unmet::Words(reason))
                }
                _ if exempt => continue,
                _ => entry.requirement.check(facts),
            };
            let fared = match outcome {
                Outcome::Met => {
                    tally.pass(mode, held);
                    Fared::Passed
                }
                Outcome::NotTold(what) => {
                    tally.unknown(mode, held, what);
                    Fared::NotTold
                }
                Outcome::Failed(reason) => {
                    let in_share = entry
                        .percent
                        .is_none_or(|percent| in_share(rule, side, facts, &parties, day, percent));
                    let waited_enough = entry
                        .max_delay
                        .is_some_and(|delay| envelope.waited.is_some_and(|waited| waited >= delay.0));
                    let effective = if in_share && !waited_enough { mode } else { Mode::Observe };
                    tally.fail(effective, held, entry, reason);
                    Fared::Failed
                }
            };
            if let Some(place) = held.modes.get_mut(mode.index()) {
                *place = Some(fared);
            }
        }
        *place = Some(held);
        if exempt {
            tally.exempt.get_or_insert(held);
        }
    }
    Decision { wants_names, held: all_held, ..tally.decide(policy, facts) }
}

/// What has been found so far, over all sides and modes.
#[derive(Default)]
struct Tally<'a> {
    /// The most serious failure: its effective mode, where, what was demanded, why it was not met.
    worst: Option<(Mode, Held<'a>, &'a ModeEntry, Unmet<'a>)>,
    /// Of the failures that defer.
    longest_delay: Option<Delay>,
    unknown: Option<(Mode, Held<'a>, &'static str)>,
    passed: Option<(Mode, Held<'a>)>,
    exempt: Option<Held<'a>>,
}

impl<'a> Tally<'a> {
    fn pass(&mut self, mode: Mode, held: Held<'a>) {
        if self.passed.is_none_or(|(hardest, _)| mode > hardest) {
            self.passed = Some((mode, held));
        }
    }

    fn unknown(&mut self, mode: Mode, held: Held<'a>, what: &'static str) {
        if self.unknown.is_none_or(|(hardest, ..)| mode > hardest) {
            self.unknown = Some((mode, held, what));
        }
    }

    fn fail(&mut self, effective: Mode, held: Held<'a>, need: &'a ModeEntry, reason: Unmet<'a>) {
        if self.worst.is_none_or(|(worst, ..)| effective > worst) {
            self.worst = Some((effective, held, need, reason));
        }
        if effective == Mode::SoftFail {
            self.longest_delay = self.longest_delay.max(need.max_delay);
        }
    }

    /// The most serious over all sides decides: a failure, then what is not known, then a rule that was
    /// met, then an exemption.
    fn decide(self, policy: &'a Policy, facts: &'a Facts<'a>) -> Decision<'a> {
        // Where an observed failure stands beside a harder mode that could not be judged, the latter is what
        // the administrator must see; neither changes a reply.
        let acts = self
            .worst
            .is_some_and(|(mode, ..)| disposition(Verdict::Fail, Some(mode)) != Disposition::Accept);
        let hidden =
            self.unknown.is_some_and(|(unknown, ..)| self.worst.is_some_and(|(mode, ..)| unknown > mode));
        let by = |verdict, mode, held: Held<'a>, reason| Decision {
            mode,
            rule: Some(held.rule),
            side: Some(held.side),
            key: Some(held.key),
            reason,
            ..Decision::new(policy, facts, verdict)
        };
        if (acts || !hidden)
            && let Some((mode, held, entry, unmet)) = self.worst
        {
            Decision {
                disposition: disposition(Verdict::Fail, Some(mode)),
                demanded: Some(entry),
                max_delay: self.longest_delay.filter(|_| mode == Mode::SoftFail),
                ..by(Verdict::Fail, Some(mode), held, Some(Reason::Unmet(unmet)))
            }
        } else if let Some((mode, held, what)) = self.unknown {
            by(Verdict::Unknown, Some(mode), held, Some(Reason::NotTold(what)))
        } else if let Some((mode, held)) = self.passed {
            by(Verdict::Pass, Some(mode), held, None)
        } else if let Some(held) = self.exempt {
            let reason = held.rule.exemption.as_ref().and_then(|exemption| exemption.reason.as_deref());
            by(Verdict::Exempt, None, held, reason.map(Reason::Words))
        } else {
            Decision::new(policy, facts, Verdict::NoRule)
        }
    }
}

/// The reason of an exemption of clients that have authenticated.
pub const AUTHENTICATED: &str = "authenticated";

/// Step one: who is never judged, and why.
fn exempt<'a>(policy: &'a Policy, facts: &Facts<'_>, parties: &Parties<'_>) -> Option<Reason<'a>> {
    let exempt = policy.exempt();
    if exempt.authenticated && facts.auth.is_some() {
        return Some(Reason::Words(AUTHENTICATED));
    }
    if let Some(address) = facts.lookup_ip()
        && let Some(network) = exempt.networks.iter().find(|network| network.contains(address))
    {
        return Some(Reason::Network(network));
    }
    let recipient = parties.recipient.as_deref()?;
    exempt
        .recipients
        .iter()
        .find(|listed| recipient_is(recipient, listed))
        .map(|listed| Reason::Recipient(listed))
}

/// Whether a recipient is the one listed: by its local part at whatever domain, or as a whole.
fn recipient_is(recipient: &str, listed: &str) -> bool {
    let (local, domain) = domain::split_address(recipient);
    match domain::split_address(listed) {
        (listed_local, None) => local.eq_ignore_ascii_case(listed_local),
        (listed_local, Some(listed_domain)) => {
            local.eq_ignore_ascii_case(listed_local)
                && domain
                    .is_some_and(|domain| NameBuffer::default().normalised(domain) == Some(listed_domain))
        }
    }
}

/// Who is looked up on which side.
fn subjects<'a>(facts: &'a Facts<'_>, parties: &'a Parties<'_>) -> [Option<(Side, Subject<'a>)>; SIDES] {
    let host = Subject::Host { name: facts.confirmed_name(), address: facts.lookup_ip() };
    let (sender, recipient) = (parties.sender.as_deref(), parties.recipient.as_deref());
    match facts.direction {
        Direction::Inbound => [
            Some((Side::Client, host)),
            sender.map(|sender| (Side::Sender, Subject::Address(sender))),
            recipient.map(|recipient| (Side::Recipient, Subject::Address(recipient))),
        ],
        Direction::Outbound => [
            // Of a server that nobody told of nothing can be said; its recipient may be asked for alone.
            (facts.peer_name.is_some() || facts.peer_addr.is_some()).then_some((Side::Server, host)),
            recipient.map(|recipient| (Side::RecipientOutbound, Subject::Delivery(recipient))),
            None,
        ],
    }
}

/// Every key that was tried on every side, in order, with the rule that has it.
pub fn tried(policy: &Policy, facts: &Facts<'_>, envelope: Envelope<'_>) -> Vec<(Side, Tried)> {
    subjects(facts, &Parties::of(envelope, facts.direction))
        .into_iter()
        .flatten()
        .flat_map(|(side, subject)| {
            policy.index().side(side).candidates(subject).into_iter().map(move |tried| (side, tried))
        })
        .collect()
}

/// Whether a failure belongs to the share that is deferred. By rule, peer domain (the domain of the other
/// side's mail: the sender's, or the recipient's of mail that leaves), network of the peer, and day: the
/// same on every host, and the same for a retry from next door. A server is judged before its recipients are
/// known, and so without them.
fn in_share(
    rule: &Rule,
    side: Side,
    facts: &Facts<'_>,
    parties: &Parties<'_>,
    day: Day,
    percent: u8,
) -> bool {
    use fmt::Write;
    use siphasher::sip::SipHasher13;
    use std::hash::Hasher;

    /// Takes text in pieces: where one ends and the next begins makes no difference.
    struct Hashed(SipHasher13);

    impl Write for Hashed {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }

    let address = match side {
        Side::Client | Side::Sender | Side::Recipient => parties.sender.as_deref(),
        Side::RecipientOutbound => parties.recipient.as_deref(),
        Side::Server => None,
    };
    let (_, domain) = domain::split_address(address.unwrap_or_default());
    let mut buffer = NameBuffer::default();
    let domain = domain.and_then(|domain| buffer.normalised(domain)).unwrap_or_default();
    let mut hashed = Hashed(SipHasher13::new());
    let network = facts.lookup_ip().and_then(neighbourhood);
    for part in [
        &rule.name as &dyn fmt::Display,
        &domain,
        network.as_ref().map_or(&"", |network| network as &dyn fmt::Display),
    ] {
        // Nothing of it can fail.
        let _ = write!(hashed, "{part}\0");
    }
    hashed.0.write(&day.0.to_le_bytes());
    hashed.0.finish() % 100 < u64::from(percent)
}

#[cfg(test)]
mod tests;
