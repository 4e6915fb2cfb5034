//! The verdict, and the one place where modes act.
//!
//! Promises: a pure function of (policy, facts, envelope, day). `observe` never changes a reply, only
//! `soft-fail` gives 4xx, only `enforce` gives 5xx: [`disposition`] is the one total function that says
//! so. Stronger facts never fare worse. What the MTA did not tell is accepted, and said.

use super::facts::{Direction, Facts, TlsState, bare_address, plain_address};
use super::lookup::{Found, Key, RuleId, Subject, Tried};
use super::network::neighbourhood;
use super::reply::{Refusal, Reply};
use super::rule::{Mode, Outcome, Requirement, Rule, Side};
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
}

/// The addresses of an envelope as the MTA itself will take them, to look up. The null sender is absent.
struct Parties<'a> {
    sender: Option<Cow<'a, str>>,
    recipient: Option<Cow<'a, str>>,
}

impl<'a> Parties<'a> {
    fn of(envelope: Envelope<'a>) -> Self {
        let address = |address| plain_address(bare_address(address));
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
        }
    }

    fn exempt_from_all(reason: impl Into<Cow<'p, str>>) -> Self {
        Self { reason: Some(reason.into()), settled: true, ..Self::new(Verdict::Exempt) }
    }
}

/// A rule that was found, and where.
#[derive(Clone, Copy)]
struct Held<'p> {
    rule: &'p Rule,
    side: Side,
    key: Key<'p>,
}

/// Decides on one message (no recipient) or one recipient of it.
pub fn decide<'p>(policy: &'p Policy, facts: &Facts<'_>, envelope: Envelope<'_>, day: Day) -> Decision<'p> {
    let parties = Parties::of(envelope);
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
    for (side, subject) in subjects(facts, &parties).into_iter().flatten() {
        let in_force = |id: RuleId| policy.rule(id).is_some_and(|rule| rule.in_force(day));
        let Some(Found { key, rule: id }) = policy.index().side(side).find(subject, in_force) else {
            continue;
        };
        let Some(rule) = policy.rule(id) else { continue };
        let held = Held { rule, side, key };
        if rule.exemption.as_ref().is_some_and(|exemption| exemption.holds(day)) {
            tally.exempt.get_or_insert(held);
            continue;
        }
        for (mode, entry) in rule.modes.in_force(day) {
            match entry.requirement.check(facts) {
                Outcome::Met => tally.pass(mode, held),
                Outcome::NotTold(what) => tally.unknown(mode, held, what),
                Outcome::Failed(reason) => {
                    let acts =
                        entry.percent.is_none_or(|percent| in_share(rule, facts, &parties, day, percent));
                    let effective = if acts { mode } else { Mode::Observe };
                    tally.fail(effective, mode, held, &entry.requirement, reason);
                }
            }
        }
    }
    tally.decide(policy, facts)
}

/// What has been found so far, over all sides and modes.
#[derive(Default)]
struct Tally<'p> {
    failures: Vec<Failure<'p>>,
    /// The most serious failure: its effective mode, its place in `failures`, what was demanded.
    worst: Option<(Mode, usize, &'p Requirement)>,
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

    fn fail(&mut self, effective: Mode, mode: Mode, held: Held<'p>, need: &'p Requirement, reason: String) {
        if self.worst.is_none_or(|(worst, ..)| effective > worst) {
            self.worst = Some((effective, self.failures.len(), need));
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
            && let Some((mode, place, requirement)) = self.worst
            && let Some(failure) = self.failures.get(place)
        {
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

/// Step one: who is never judged.
fn exempt<'p>(policy: &'p Policy, facts: &Facts<'_>, parties: &Parties<'_>) -> Option<Decision<'p>> {
    let exempt = policy.exempt();
    if exempt.authenticated && facts.auth.is_some() {
        return Some(Decision::exempt_from_all("authenticated"));
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
fn subjects<'a>(facts: &'a Facts<'_>, parties: &'a Parties<'_>) -> [Option<(Side, Subject<'a>)>; 3] {
    let host = Subject::Host { name: facts.confirmed_name(), address: facts.lookup_ip() };
    let (sender, recipient) = (parties.sender.as_deref(), parties.recipient.as_deref());
    match facts.direction {
        Direction::Inbound => [
            Some((Side::Client, host)),
            sender.map(|sender| (Side::Sender, Subject::Address(sender))),
            recipient.map(|recipient| (Side::Recipient, Subject::Address(recipient))),
        ],
        Direction::Outbound => [
            Some((Side::Server, host)),
            recipient.map(|recipient| (Side::RecipientOutbound, Subject::Address(recipient))),
            None,
        ],
    }
}

/// Every key that was tried on every side, in order, with the rule that has it.
pub fn tried(policy: &Policy, facts: &Facts<'_>, envelope: Envelope<'_>) -> Vec<(Side, Tried)> {
    subjects(facts, &Parties::of(envelope))
        .into_iter()
        .flatten()
        .flat_map(|(side, subject)| {
            policy.index().side(side).candidates(subject).into_iter().map(move |tried| (side, tried))
        })
        .collect()
}

/// Whether a failure belongs to the share that is deferred. By rule, peer domain (the domain of the other
/// side's mail: the sender's, or the recipient's of mail that leaves), network of the peer, and day: the
/// same on every host, and the same for a retry from next door.
fn in_share(rule: &Rule, facts: &Facts<'_>, parties: &Parties<'_>, day: Day, percent: u8) -> bool {
    use siphasher::sip::SipHasher13;
    use std::hash::Hasher;

    let address = match facts.direction {
        Direction::Inbound => &parties.sender,
        Direction::Outbound => &parties.recipient,
    };
    let (_, domain) = domain::split_address(address.as_deref().unwrap_or_default());
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
mod tests {
    use super::*;
    use crate::policy::facts::Told;
    use crate::policy::lookup::Index;
    use crate::policy::network::Network;
    use crate::policy::rule::{Exempt, Exemption, ModeEntry, Modes};

    const DAY: Day = Day(20_000);

    fn bits(min: u16) -> ModeEntry {
        let requirement = Requirement { min_bits: Some(min), ..Requirement::default() };
        ModeEntry { requirement, from: None, percent: None }
    }

    fn policy(rules: Vec<(Side, &str, Rule)>) -> Policy {
        let mut index = Index::default();
        let mut list = Vec::new();
        for (id, (side, key, mut rule)) in rules.into_iter().enumerate() {
            let key = match Network::parse(key) {
                _ if key == "*" => Key::Any,
                Some(written) => Key::Network(written.unwrap().network),
                None => Key::Name(key),
            };
            index.side_mut(side).insert(key, RuleId::new(id)).unwrap();
            if rule.name.is_empty() {
                rule.name = format!("rule{id}");
            }
            list.push(rule);
        }
        let exempt = Exempt { networks: Vec::new(), ..Exempt::default() };
        Policy::new(list, index, exempt, None)
    }

    fn rule(
        observe: impl Into<Option<ModeEntry>>,
        soft_fail: impl Into<Option<ModeEntry>>,
        enforce: impl Into<Option<ModeEntry>>,
    ) -> Rule {
        let modes = Modes { observe: observe.into(), soft_fail: soft_fail.into(), enforce: enforce.into() };
        Rule { modes, ..Rule::default() }
    }

    fn client(cipher_bits: Option<&'static str>) -> Facts<'static> {
        Facts::inbound(&Told {
            client_addr: Some(b"192.0.2.7"),
            client_name: Some(b"mx.partner.example"),
            client_resolve: Some(b"OK"),
            cipher_bits: cipher_bits.map(str::as_bytes),
            cipher: cipher_bits.map(|_| b"X".as_slice()),
            ..Told::default()
        })
    }

    const ENVELOPE: Envelope<'static> =
        Envelope { sender: Some("<a@sender.example>"), recipient: Some("<u@rcpt.example>") };

    #[test]
    fn each_mode_is_held_and_the_most_serious_decides() {
        let rule = rule(bits(256), bits(168), bits(128));
        let policy = policy(vec![(Side::Client, "partner.example", rule)]);
        for (told, verdict, mode, done, failures) in [
            (Some("256"), Verdict::Pass, Mode::Enforce, Disposition::Accept, 0),
            (Some("168"), Verdict::Fail, Mode::Observe, Disposition::Accept, 1),
            (Some("128"), Verdict::Fail, Mode::SoftFail, Disposition::Tempfail, 2),
            (Some("112"), Verdict::Fail, Mode::Enforce, Disposition::Reject, 3),
            (None, Verdict::Fail, Mode::Enforce, Disposition::Reject, 3),
            (Some("abc"), Verdict::Unknown, Mode::Enforce, Disposition::Accept, 0),
        ] {
            let decision = decide(&policy, &client(told), ENVELOPE, DAY);
            assert_eq!(
                (decision.verdict, decision.mode, decision.disposition, decision.failures.len()),
                (verdict, Some(mode), done, failures),
                "{told:?}"
            );
            assert_eq!(decision.reply.is_some(), done != Disposition::Accept);
        }
    }

    #[test]
    fn what_could_not_be_judged_is_not_hidden_behind_a_softer_failure() {
        let mut strict = rule(bits(256), None, bits(128));
        strict.modes.enforce.as_mut().unwrap().requirement.verify = true;
        let policy = policy(vec![(Side::Client, "*", strict)]);
        let decision = decide(&policy, &client(Some("128")), ENVELOPE, DAY);
        assert_eq!((decision.verdict, decision.mode), (Verdict::Unknown, Some(Mode::Enforce)));
        assert_eq!((decision.disposition, decision.failures.len()), (Disposition::Accept, 1));
        // A mode that acts does act.
        let decision = decide(&policy, &client(Some("112")), ENVELOPE, DAY);
        assert_eq!((decision.verdict, decision.disposition), (Verdict::Fail, Disposition::Reject));
    }

    #[test]
    fn the_most_serious_side_decides() {
        let policy = policy(vec![
            (Side::Client, "*", rule(bits(256), None, None)),
            (Side::Sender, "sender.example", rule(None, bits(256), None)),
            (Side::Recipient, "rcpt.example", rule(None, None, bits(256))),
        ]);
        let whole = decide(&policy, &client(Some("128")), ENVELOPE, DAY);
        assert_eq!((whole.side, whole.disposition), (Some(Side::Recipient), Disposition::Reject));
        assert_eq!(whole.failures.len(), 3);
        let at_mail = Envelope { recipient: None, ..ENVELOPE };
        let mail = decide(&policy, &client(Some("128")), at_mail, DAY);
        assert_eq!((mail.side, mail.disposition), (Some(Side::Sender), Disposition::Tempfail));
        let null = Envelope { sender: Some("<>"), recipient: None };
        let null = decide(&policy, &client(Some("128")), null, DAY);
        assert_eq!((null.side, null.disposition), (Some(Side::Client), Disposition::Accept));
    }

    #[test]
    fn an_exemption_of_one_side_does_not_help_another() {
        let exempt = Rule { exemption: Some(Exemption::default()), ..Rule::default() };
        let policy = policy(vec![
            (Side::Client, "partner.example", exempt),
            (Side::Sender, "strict.example", rule(None, None, bits(256))),
        ]);
        let decision = decide(&policy, &client(None), ENVELOPE, DAY);
        assert_eq!(decision.verdict, Verdict::Exempt);
        let strict = Envelope { sender: Some("<a@strict.example>"), ..ENVELOPE };
        assert_eq!(decide(&policy, &client(None), strict, DAY).disposition, Disposition::Reject);
    }

    #[test]
    fn a_lapsed_exemption_and_a_mode_to_come_are_not_there() {
        let lapsed = Exemption { until: Some(Day(DAY.0 - 1)), ..Exemption::default() };
        let lapsed = Rule { exemption: Some(lapsed), ..Rule::default() };
        let mut future = rule(None, None, bits(256));
        future.modes.enforce.as_mut().unwrap().from = Some(Day(DAY.0 + 1));
        let policy = policy(vec![
            (Side::Client, "192.0.2.7", lapsed),
            (Side::Client, "mx.partner.example", future),
            (Side::Client, "*", rule(None, bits(128), None)),
        ]);
        let decision = decide(&policy, &client(None), ENVELOPE, DAY);
        assert_eq!((decision.key, decision.disposition), (Some(Key::Any), Disposition::Tempfail));
        let later = decide(&policy, &client(None), ENVELOPE, Day(DAY.0 + 1));
        assert_eq!(
            (later.key, later.disposition),
            (Some(Key::Name("mx.partner.example")), Disposition::Reject)
        );
    }

    #[test]
    fn the_exempt_are_not_judged() {
        let mut policy = policy(vec![(Side::Client, "*", rule(None, None, bits(256)))]);
        policy.exempt = Exempt {
            networks: vec![Network::LOOPBACK_V4],
            recipients: vec!["postmaster".into(), "abuse@rcpt.example".into()],
            ..Exempt::default()
        };
        let reason = |facts: &Facts<'_>, recipient: &str| {
            let envelope = Envelope { recipient: Some(recipient), ..ENVELOPE };
            let decision = decide(&policy, facts, envelope, DAY);
            (decision.verdict == Verdict::Exempt).then(|| decision.reason.unwrap().into_owned())
        };
        let plain = client(None);
        assert_eq!(reason(&plain, "<Postmaster@rcpt.example>").as_deref(), Some("recipient postmaster"));
        assert_eq!(reason(&plain, "<postmaster>").as_deref(), Some("recipient postmaster"));
        assert_eq!(reason(&plain, "<ABUSE@Rcpt.Example>").as_deref(), Some("recipient abuse@rcpt.example"));
        assert_eq!(reason(&plain, "<abuse@other.example>"), None);
        let mut auth = client(None);
        auth.auth = Some("user".into());
        assert_eq!(reason(&auth, "<u@rcpt.example>").as_deref(), Some("authenticated"));
        let local = Facts::inbound(&Told { client_addr: Some(b"0"), ..Told::default() });
        assert_eq!(reason(&local, "<u@rcpt.example>").as_deref(), Some("network 127.0.0.0/8"));
    }

    #[test]
    fn an_mta_that_tells_nothing_makes_no_outage() {
        let policy = policy(vec![(Side::Client, "*", rule(None, None, bits(256)))]);
        let decision = decide(&policy, &Facts::inbound(&Told::default()), ENVELOPE, DAY);
        assert_eq!((decision.verdict, decision.disposition), (Verdict::Unknown, Disposition::Accept));
        assert_eq!(decision.reason.as_deref(), Some("not told by the MTA: {client_addr}"));
    }

    #[test]
    fn a_share_is_the_same_for_a_retry_and_about_as_large_as_asked() {
        let mut rule = rule(None, bits(256), None);
        rule.modes.soft_fail.as_mut().unwrap().percent = Some(25);
        let policy = policy(vec![(Side::Client, "*", rule)]);
        let deferred = |n: usize, host: u8, day: Day| {
            let sender = format!("<a@d{n}.example>");
            let address = format!("192.0.2.{host}");
            let facts = Facts::inbound(&Told { client_addr: Some(address.as_bytes()), ..Told::default() });
            let envelope = Envelope { sender: Some(&sender), recipient: None };
            let decision = decide(&policy, &facts, envelope, day);
            let expected = match decision.disposition {
                Disposition::Tempfail => Mode::SoftFail,
                _ => Mode::Observe,
            };
            assert_eq!((decision.mode, decision.failures[0].mode), (Some(expected), Mode::SoftFail));
            decision.disposition == Disposition::Tempfail
        };
        let count = (0..4000).filter(|&n| deferred(n, 7, DAY)).count();
        assert!((900..1100).contains(&count), "{count}");
        assert!((0..400).all(|n| deferred(n, 7, DAY) == deferred(n, 8, DAY)));
        assert!((0..400).any(|n| deferred(n, 7, DAY) != deferred(n, 7, Day(DAY.0 + 1))));
    }
}
