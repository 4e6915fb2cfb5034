//! Decisions on policies of a rule or three: modes, sides, exemptions, dates, shares, and what was not told.

use super::*;
use crate::policy::facts::Told;
use crate::policy::lookup::Index;
use crate::policy::network::Network;
use crate::policy::requirement::Requirement;
use crate::policy::rule::{Exempt, Exemption, ModeEntry, Modes};

const DAY: Day = Day(20_000);

fn bits(min: u16) -> ModeEntry {
    let requirement = Requirement { min_bits: Some(min), ..Requirement::default() };
    ModeEntry { requirement, ..ModeEntry::default() }
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

/// A decision borrows from its facts.
fn known(facts: Facts<'static>) -> &'static Facts<'static> {
    Box::leak(Box::new(facts))
}

fn client(cipher_bits: Option<&'static str>) -> Facts<'static> {
    Facts::inbound(&Told {
        peer_addr: Some(b"192.0.2.7"),
        peer_name: Some(b"mx.partner.example"),
        peer_resolve: Some(b"OK"),
        cipher_bits: cipher_bits.map(str::as_bytes),
        cipher: cipher_bits.map(|_| b"X".as_slice()),
        ..Told::default()
    })
}

const ENVELOPE: Envelope<'static> =
    Envelope { sender: Some("<a@sender.example>"), recipient: Some("<u@rcpt.example>"), waited: None };

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
        let decision = decide(&policy, known(client(told)), ENVELOPE, DAY);
        assert_eq!(
            (decision.verdict, decision.mode, decision.disposition, decision.failures().count()),
            (verdict, Some(mode), done, failures),
            "{told:?}"
        );
        assert_eq!(decision.reply().is_some(), done != Disposition::Accept);
    }
}

#[test]
fn what_could_not_be_judged_is_not_hidden_behind_a_softer_failure() {
    let mut strict = rule(bits(256), None, bits(128));
    strict.modes.enforce.as_mut().unwrap().requirement.verify = true;
    let policy = policy(vec![(Side::Client, "*", strict)]);
    let decision = decide(&policy, known(client(Some("128"))), ENVELOPE, DAY);
    assert_eq!((decision.verdict, decision.mode), (Verdict::Unknown, Some(Mode::Enforce)));
    assert_eq!((decision.disposition, decision.failures().count()), (Disposition::Accept, 1));
    // A mode that acts does act.
    let decision = decide(&policy, known(client(Some("112"))), ENVELOPE, DAY);
    assert_eq!((decision.verdict, decision.disposition), (Verdict::Fail, Disposition::Reject));
}

#[test]
fn the_most_serious_side_decides() {
    let policy = policy(vec![
        (Side::Client, "*", rule(bits(256), None, None)),
        (Side::Sender, "sender.example", rule(None, bits(256), None)),
        (Side::Recipient, "rcpt.example", rule(None, None, bits(256))),
    ]);
    let whole = decide(&policy, known(client(Some("128"))), ENVELOPE, DAY);
    assert_eq!((whole.side, whole.disposition), (Some(Side::Recipient), Disposition::Reject));
    assert_eq!(whole.failures().count(), 3);
    let at_mail = Envelope { recipient: None, ..ENVELOPE };
    let mail = decide(&policy, known(client(Some("128"))), at_mail, DAY);
    assert_eq!((mail.side, mail.disposition), (Some(Side::Sender), Disposition::Tempfail));
    let null = Envelope { sender: Some("<>"), recipient: None, ..Envelope::default() };
    let null = decide(&policy, known(client(Some("128"))), null, DAY);
    assert_eq!((null.side, null.disposition), (Some(Side::Client), Disposition::Accept));
}

#[test]
fn an_exemption_of_one_side_does_not_help_another() {
    let exempt = Rule { exemption: Some(Exemption::default()), ..Rule::default() };
    let policy = policy(vec![
        (Side::Client, "partner.example", exempt),
        (Side::Sender, "strict.example", rule(None, None, bits(256))),
    ]);
    let decision = decide(&policy, known(client(None)), ENVELOPE, DAY);
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
    let decision = decide(&policy, known(client(None)), ENVELOPE, DAY);
    assert_eq!((decision.key, decision.disposition), (Some(Key::Any), Disposition::Tempfail));
    let later = decide(&policy, known(client(None)), ENVELOPE, Day(DAY.0 + 1));
    assert_eq!((later.key, later.disposition), (Some(Key::Name("mx.partner.example")), Disposition::Reject));
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
        (decision.verdict == Verdict::Exempt).then(|| decision.reason.unwrap().to_string())
    };
    let plain = client(None);
    assert_eq!(reason(&plain, "<Postmaster@rcpt.example>").as_deref(), Some("recipient postmaster"));
    assert_eq!(reason(&plain, "<postmaster>").as_deref(), Some("recipient postmaster"));
    assert_eq!(reason(&plain, "<ABUSE@Rcpt.Example>").as_deref(), Some("recipient abuse@rcpt.example"));
    assert_eq!(reason(&plain, "<abuse@other.example>"), None);
    let mut auth = client(None);
    auth.auth = Some("user".into());
    assert_eq!(reason(&auth, "<u@rcpt.example>").as_deref(), Some("authenticated"));
    let local = Facts::inbound(&Told { peer_addr: Some(b"0"), ..Told::default() });
    assert_eq!(reason(&local, "<u@rcpt.example>").as_deref(), Some("network 127.0.0.0/8"));
}

#[test]
fn an_mta_that_tells_nothing_makes_no_outage() {
    let policy = policy(vec![(Side::Client, "*", rule(None, None, bits(256)))]);
    let decision = decide(&policy, known(Facts::inbound(&Told::default())), ENVELOPE, DAY);
    assert_eq!((decision.verdict, decision.disposition), (Verdict::Unknown, Disposition::Accept));
    assert_eq!(decision.reason.map(Reason::words).as_deref(), Some("not told by the MTA: {client_addr}"));
}

#[test]
fn a_share_is_the_same_for_a_retry_and_about_as_large_as_asked() {
    let mut rule = rule(None, bits(256), None);
    rule.modes.soft_fail.as_mut().unwrap().percent = Some(25);
    let policy = policy(vec![(Side::Client, "*", rule)]);
    let deferred = |n: usize, host: u8, day: Day| {
        let sender = format!("<a@d{n}.example>");
        let address = format!("192.0.2.{host}");
        let facts = Facts::inbound(&Told { peer_addr: Some(address.as_bytes()), ..Told::default() });
        let envelope = Envelope { sender: Some(&sender), recipient: None, ..Envelope::default() };
        let decision = decide(&policy, &facts, envelope, day);
        let expected = match decision.disposition {
            Disposition::Tempfail => Mode::SoftFail,
            _ => Mode::Observe,
        };
        assert_eq!(
            (decision.mode, decision.failures().next().unwrap().mode),
            (Some(expected), Mode::SoftFail)
        );
        decision.disposition == Disposition::Tempfail
    };
    let count = (0..4000).filter(|&n| deferred(n, 7, DAY)).count();
    assert!((900..1100).contains(&count), "{count}");
    assert!((0..400).all(|n| deferred(n, 7, DAY) == deferred(n, 8, DAY)));
    assert!((0..400).any(|n| deferred(n, 7, DAY) != deferred(n, 7, Day(DAY.0 + 1))));
}

#[test]
fn skip_ends_the_search_among_keys_of_its_kind() {
    let skip = Rule { skip: true, ..Rule::default() };
    let policy = policy(vec![
        (Side::Client, "mx.partner.example", skip),
        (Side::Client, "partner.example", rule(None, None, bits(256))),
        (Side::Client, "192.0.2.0/24", rule(None, bits(168), None)),
    ]);
    let decision = decide(&policy, known(client(Some("128"))), ENVELOPE, DAY);
    assert_eq!(
        (decision.key.unwrap().to_string(), decision.disposition),
        ("192.0.2.0/24".into(), Disposition::Tempfail)
    );
}

#[test]
fn an_address_in_brackets_is_a_host_without_a_name() {
    let mut policy = policy(vec![(Side::Client, "*", rule(bits(256), None, None))]);
    let network = Network::parse("192.0.2").unwrap().unwrap().network;
    policy.rules.push(rule(None, None, bits(256)));
    policy.index.side_mut(Side::Client).insert(Key::Literal(network), RuleId::new(1)).unwrap();
    assert_eq!(decide(&policy, &client(None), ENVELOPE, DAY).key, Some(Key::Any));
    let mut unnamed = client(None);
    unnamed.peer_resolve = Some("FORGED".into());
    let decision = decide(&policy, &unnamed, ENVELOPE, DAY);
    assert_eq!((decision.key, decision.disposition), (Some(Key::Literal(network)), Disposition::Reject));
}

#[test]
fn an_exemption_may_still_demand_a_handshake() {
    let handshake = Requirement { handshake: true, ..Requirement::default() };
    let mut exempt = rule(None, ModeEntry { requirement: handshake, ..ModeEntry::default() }, None);
    exempt.exemption = Some(Exemption::default());
    let policy = policy(vec![(Side::Client, "*", exempt)]);
    assert_eq!(decide(&policy, &client(None), ENVELOPE, DAY).verdict, Verdict::Exempt);
    let mut broken = client(Some("256"));
    broken.tls.verify = Some("SOFTWARE".into());
    let decision = decide(&policy, &broken, ENVELOPE, DAY);
    assert_eq!((decision.verdict, decision.disposition), (Verdict::Fail, Disposition::Tempfail));
    assert_eq!(decision.reason.map(Reason::words).as_deref(), Some("TLS handshake failed."));
}

#[test]
fn a_delivery_is_looked_up_as_tls_rcpt_looks_it_up() {
    let keys = ["joe+x@a.example", "joe+*@a.example", "joe@a.example", "joe@", "a.example", "*"];
    let facts = Facts { direction: Direction::Outbound, ..client(None) };
    let found = |policy: &Policy, recipient: &str| {
        let envelope = Envelope { sender: None, recipient: Some(recipient), ..Envelope::default() };
        decide(policy, &facts, envelope, DAY).key.unwrap().to_string()
    };
    for from in 0..keys.len() {
        let rules = keys[from..].iter().map(|key| (Side::RecipientOutbound, *key, rule(bits(1), None, None)));
        let policy = policy(rules.collect());
        assert_eq!(found(&policy, "Joe+X@A.example"), keys[from]);
        assert_eq!(found(&policy, "joe+y@a.example"), keys[from.max(1)]);
        assert_eq!(found(&policy, "joe@b.example"), if from <= 3 { "joe@" } else { "*" });
    }
}

#[test]
fn a_message_that_has_waited_long_enough_is_observed() {
    let patient = ModeEntry { max_delay: Some(Delay(14_400)), ..bits(256) };
    let held = |enforce| {
        let mut rule = rule(None, None, None);
        rule.modes = Modes { soft_fail: Some(patient.clone()), enforce, ..Modes::default() };
        policy(vec![(Side::Client, "*", rule)])
    };
    let patient_only = held(None);
    let after = |waited| {
        let decision =
            decide(&patient_only, known(client(Some("128"))), Envelope { waited, ..ENVELOPE }, DAY);
        assert_eq!(
            (decision.verdict, decision.failures().next().unwrap().mode),
            (Verdict::Fail, Mode::SoftFail)
        );
        (decision.disposition, decision.mode, decision.max_delay)
    };
    let deferred = (Disposition::Tempfail, Some(Mode::SoftFail), Some(Delay(14_400)));
    assert_eq!(after(None), deferred);
    assert_eq!(after(Some(14_399)), deferred);
    assert_eq!(after(Some(14_400)), (Disposition::Accept, Some(Mode::Observe), None));
    // What refuses for good is not waited for.
    let waited = Envelope { waited: Some(14_400), ..ENVELOPE };
    let refusing = held(Some(bits(256)));
    let decision = decide(&refusing, known(client(Some("128"))), waited, DAY);
    assert_eq!(decision.disposition, Disposition::Reject);
}

#[test]
fn of_two_delays_the_longer_is_waited_for() {
    let patient = |delay| {
        let mut rule = rule(None, None, None);
        rule.modes.soft_fail = Some(ModeEntry { max_delay: Some(Delay(delay)), ..bits(256) });
        rule
    };
    for (client, sender) in [(60, 3600), (3600, 60)] {
        let both = policy(vec![
            (Side::Client, "*", patient(client)),
            (Side::Sender, "sender.example", patient(sender)),
        ]);
        let after = |waited| {
            let decision =
                decide(&both, known(self::client(Some("128"))), Envelope { waited, ..ENVELOPE }, DAY);
            (decision.disposition, decision.max_delay)
        };
        // Whoever is in doubt answers with what was asked for: it must be enough for both.
        assert_eq!(after(None), (Disposition::Tempfail, Some(Delay(3600))));
        assert_eq!(after(Some(60)), (Disposition::Tempfail, Some(Delay(3600))));
        assert_eq!(after(Some(3600)), (Disposition::Accept, None));
    }
}

#[test]
fn every_rule_that_was_held_is_told_with_how_it_fared() {
    let policy = policy(vec![
        (Side::Client, "*", rule(Some(bits(256)), None, Some(bits(128)))),
        (Side::Sender, "sender.example", rule(None, Some(bits(1)), None)),
    ]);
    let held = decide(&policy, known(client(Some("128"))), ENVELOPE, DAY).held;
    let told: Vec<_> = held.iter().flatten().map(|held| (held.side, held.modes)).collect();
    let [observe, soft, enforce] = [Mode::Observe, Mode::SoftFail, Mode::Enforce].map(Mode::index);
    assert_eq!(told.len(), 2);
    assert_eq!(
        (told[0].0, told[0].1[observe], told[0].1[enforce]),
        (Side::Client, Some(Fared::Failed), Some(Fared::Passed))
    );
    assert_eq!((told[1].0, told[1].1[soft], told[1].1[observe]), (Side::Sender, Some(Fared::Passed), None));
}
