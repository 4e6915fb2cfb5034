//! The verdict, and the one place where modes act.
//!
//! Promises: a pure function of (policy, facts, envelope, day). `observe` never changes a reply, only
//! `soft-fail` gives 4xx, only `enforce` gives 5xx: [`disposition`] is the one total function that says
//! so. Stronger facts never fare worse. What the MTA did not tell is accepted, and said.

use super::facts::{Direction, Facts, TlsState, plain_address, told_address};
use super::lookup::{Found, Key, RuleId, Subject, Tried};
use super::network::neighbourhood;
use super::reply::{Refusal, Reply};
use super::requirement::{Outcome, failed_handshake};
use super::rule::{Delay, Mode, ModeEntry, Rule, Side, Standing};
use super::{Day, Policy, domain};
use std::borrow::Cow;

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

/// One mode that was not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure<'p> {
    /// The rule.
    pub rule: &'p Rule,
    /// The side on which its key was found.
    pub side: Side,
    /// The key.
    pub key: Key<'p>,
    /// The mode.
    pub mode: Mode,
    /// Why, in sendmail's words.
    pub reason: String,
}

/// One verdict, and all that led to it.
#[derive(Clone, Debug)]
pub struct Decision<'p> {
    /// The verdict.
    pub verdict: Verdict,
    /// What is done.
    pub disposition: Disposition,
    /// The mode that decided. A soft-fail outside its `percent` acts as `observe`.
    pub mode: Option<Mode>,
    /// The rule that decided.
    pub rule: Option<&'p Rule>,
    /// The side on which its key was found.
    pub side: Option<Side>,
    /// The key.
    pub key: Option<Key<'p>>,
    /// Why, in sendmail's words where sendmail has any.
    pub reason: Option<Cow<'p, str>>,
    /// What the client is told, where it is refused.
    pub reply: Option<Reply>,
    /// Every mode that was not met, by side, the hardest first.
    pub failures: Vec<Failure<'p>>,
    /// Whether `[exempt]` settled it, so that no recipient could change it.
    pub settled: bool,
    /// Whether a rule that was held demands the certificate's subject or issuer: who has not told them yet
    /// may be asked for them.
    pub wants_names: bool,
    /// Where it is a soft-fail that acts: the longest `max-delay` of those that act. How long the message has been
    /// tried should be asked for, and told in [`Envelope::waited`].
    pub max_delay: Option<Delay>,
    /// The rule of each side that was held, and how it fared.
    pub held: [Option<Held<'p>>; SIDES],
}

impl<'p> Decision<'p> {
    fn new(verdict: Verdict) -> Self {
        Self {
            verdict,
            disposition: disposition(verdict, None),
            mode: None,
            rule: None,
            side: None,
            key: None,
            reason: None,
            reply: None,
            failures: Vec::new(),
            settled: false,
            wants_names: false,
            max_delay: None,
            held: [None; SIDES],
        }
    }

    fn exempt_from_all(reason: impl Into<Cow<'p, str>>) -> Self {
        Self { reason: Some(reason.into()), settled: true, ..Self::new(Verdict::Exempt) }
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

/// Decides on one message (no recipient) or one recipient of it.
pub fn decide<'p>(policy: &'p Policy, facts: &Facts<'_>, envelope: Envelope<'_>, day: Day) -> Decision<'p> {
    let parties = Parties::of(envelope, facts.direction);
    if let Some(decision) = exempt(policy, facts, &parties) {
        return decision;
    }
    if !facts.told_anything() {
        return Decision {
            reason: Some(Cow::Borrowed("not told by the MTA: {client_addr}")),
            ..Decision::new(Verdict::Unknown)
        };
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
                Some(reason) if exempt && entry.requirement.handshake => Outcome::Failed(reason.to_owned()),
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
                    tally.fail(effective, mode, held, entry, reason);
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
struct Tally<'p> {
    failures: Vec<Failure<'p>>,
    /// The most serious failure: its effective mode, its place in `failures`, what was demanded.
    worst: Option<(Mode, usize, &'p ModeEntry)>,
    /// Of the failures that defer.
    longest_delay: Option<Delay>,
    unknown: Option<(Mode, Held<'p>, &'static str)>,
    passed: Option<(Mode, Held<'p>)>,
    exempt: Option<Held<'p>>,
}

impl<'p> Tally<'p> {
    fn pass(&mut self, mode: Mode, held: Held<'p>) {
        if self.passed.is_none_or(|(hardest, _)| mode > hardest) {
            self.passed = Some((mode, held));
        }
    }

    fn unknown(&mut self, mode: Mode, held: Held<'p>, what: &'static str) {
        if self.unknown.is_none_or(|(hardest, ..)| mode > hardest) {
            self.unknown = Some((mode, held, what));
        }
    }

    fn fail(&mut self, effective: Mode, mode: Mode, held: Held<'p>, need: &'p ModeEntry, reason: String) {
        if self.worst.is_none_or(|(worst, ..)| effective > worst) {
            self.worst = Some((effective, self.failures.len(), need));
        }
        if effective == Mode::SoftFail {
            self.longest_delay = self.longest_delay.max(need.max_delay);
        }
        self.failures.push(Failure { rule: held.rule, side: held.side, key: held.key, mode, reason });
    }

    /// The most serious over all sides decides: a failure, then what is not known, then a rule that was
    /// met, then an exemption.
    fn decide(self, policy: &'p Policy, facts: &Facts<'_>) -> Decision<'p> {
        // Where an observed failure stands beside a harder mode that could not be judged, the latter is what
        // the administrator must see; neither changes a reply.
        let acts = self
            .worst
            .is_some_and(|(mode, ..)| disposition(Verdict::Fail, Some(mode)) != Disposition::Accept);
        let hidden =
            self.unknown.is_some_and(|(unknown, ..)| self.worst.is_some_and(|(mode, ..)| unknown > mode));
        if (acts || !hidden)
            && let Some((mode, place, entry)) = self.worst
            && let Some(failure) = self.failures.get(place)
        {
            let requirement = &entry.requirement;
            let done = disposition(Verdict::Fail, Some(mode));
            // A SASL layer of too few bits is encryption, and too weak.
            let layer = facts.effective_bits().filter(|bits| *bits > 0);
            let too_weak = layer.is_some_and(|bits| requirement.min_bits.is_some_and(|need| bits < need));
            let refusal = Refusal {
                reason: &failure.reason,
                requirement,
                plaintext: facts.tls.state == TlsState::Plaintext && !too_weak,
                rule: &failure.rule.name,
                contact: policy.contact(),
            };
            return Decision {
                disposition: done,
                mode: Some(mode),
                rule: Some(failure.rule),
                side: Some(failure.side),
                key: Some(failure.key),
                reason: Some(Cow::Owned(failure.reason.clone())),
                reply: match done {
                    Disposition::Accept => None,
                    Disposition::Tempfail => Some(Reply::tempfail(refusal)),
                    Disposition::Reject => Some(Reply::reject(refusal)),
                },
                failures: self.failures,
                max_delay: self.longest_delay.filter(|_| mode == Mode::SoftFail),
                ..Decision::new(Verdict::Fail)
            };
        }
        let by = |verdict, mode, held: Held<'p>, reason| Decision {
            mode,
            rule: Some(held.rule),
            side: Some(held.side),
            key: Some(held.key),
            reason,
            ..Decision::new(verdict)
        };
        if let Some((mode, held, what)) = self.unknown {
            let reason = Cow::Owned(format!("not told by the MTA: {what}"));
            Decision { failures: self.failures, ..by(Verdict::Unknown, Some(mode), held, Some(reason)) }
        } else if let Some((mode, held)) = self.passed {
            by(Verdict::Pass, Some(mode), held, None)
        } else if let Some(held) = self.exempt {
            let reason = held.rule.exemption.as_ref().and_then(|exemption| exemption.reason.as_deref());
            by(Verdict::Exempt, None, held, reason.map(Cow::Borrowed))
        } else {
            Decision::new(Verdict::NoRule)
        }
    }
}

/// The reason of an exemption of clients that have authenticated.
pub const AUTHENTICATED: &str = "authenticated";

/// Step one: who is never judged.
fn exempt<'p>(policy: &'p Policy, facts: &Facts<'_>, parties: &Parties<'_>) -> Option<Decision<'p>> {
    let exempt = policy.exempt();
    if exempt.authenticated && facts.auth.is_some() {
        return Some(Decision::exempt_from_all(AUTHENTICATED));
    }
    if let Some(address) = facts.lookup_ip()
        && let Some(network) = exempt.networks.iter().find(|network| network.contains(address))
    {
        return Some(Decision::exempt_from_all(format!("network {network}")));
    }
    if let Some(recipient) = parties.recipient.as_deref()
        && let Some(listed) = exempt.recipients.iter().find(|listed| recipient_is(recipient, listed))
    {
        return Some(Decision::exempt_from_all(format!("recipient {listed}")));
    }
    None
}

/// Whether a recipient is the one listed: by its local part at whatever domain, or as a whole.
fn recipient_is(recipient: &str, listed: &str) -> bool {
    let (local, domain) = domain::split_address(recipient);
    match domain::split_address(listed) {
        (listed_local, None) => local.eq_ignore_ascii_case(listed_local),
        (listed_local, Some(listed_domain)) => {
            local.eq_ignore_ascii_case(listed_local)
                && domain
                    .and_then(domain::Normalised::of)
                    .is_some_and(|domain| domain.as_str() == listed_domain)
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
    use siphasher::sip::SipHasher13;
    use std::hash::Hasher;

    let address = match side {
        Side::Client | Side::Sender | Side::Recipient => parties.sender.as_deref(),
        Side::RecipientOutbound => parties.recipient.as_deref(),
        Side::Server => None,
    };
    let (_, domain) = domain::split_address(address.unwrap_or_default());
    let domain = domain.and_then(domain::Normalised::of);
    let network = facts.lookup_ip().and_then(neighbourhood).map(|network| network.to_string());
    let mut hasher = SipHasher13::new();
    for part in [
        rule.name.as_str(),
        domain.as_ref().map(domain::Normalised::as_str).unwrap_or_default(),
        network.as_deref().unwrap_or_default(),
    ] {
        hasher.write(part.as_bytes());
        hasher.write_u8(0);
    }
    hasher.write(&day.0.to_le_bytes());
    hasher.finish() % 100 < u64::from(percent)
}

#[cfg(test)]
mod tests;
