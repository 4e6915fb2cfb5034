//! What counts as a change, whom it is told of, and that memory is bounded.

use super::*;
use crate::policy::rule::Mode;

fn record(host: u16, ts: i64) -> Record<'static> {
    Record {
        ts: jiff::Timestamp::from_second(ts).ok(),
        client_name: Some(format!("mx{host}.mail.partner.example").into()),
        client_addr: Some(format!("192.0.{}.{}", host / 256, host % 256).into()),
        client_resolve: Some("OK".into()),
        sender: Some("u@Sub.Sender.example".into()),
        recipient: Some("me@here.example".into()),
        cipher_bits: Some(0),
        ..Record::default()
    }
}

fn judged(fate: Fate) -> Judged<'static> {
    let rule = fate.shows().then_some("partner");
    Judged {
        fate,
        rule,
        side: rule.map(|_| Side::Client),
        reason: rule.map(|_| Reason::Words("encryption too weak 0 less than 128")),
    }
}

fn add(simulation: &mut Simulation, record: &Record<'_>, before: Judged<'_>, after: Judged<'_>) {
    simulation.add(record, &record.facts(), before, after);
}

#[test]
fn a_record_and_a_decision_come_to_the_same_fate() {
    let recorded = |verdict, mode, disposition| {
        let record = Record { verdict, mode, disposition, ..Record::default() };
        Judged::recorded(&record).fate
    };
    for (verdict, mode, fate) in [
        (Verdict::Pass, Some(Mode::Enforce), Fate::Passed),
        (Verdict::Exempt, None, Fate::Exempt),
        (Verdict::NoRule, None, Fate::NoRule),
        (Verdict::Unknown, Some(Mode::Enforce), Fate::Unknown),
        (Verdict::Fail, Some(Mode::Observe), Fate::Observed),
        (Verdict::Fail, Some(Mode::SoftFail), Fate::Deferred),
        (Verdict::Fail, Some(Mode::Enforce), Fate::Refused),
    ] {
        assert_eq!(recorded(Some(verdict), mode, Some(disposition(verdict, mode))), fate);
        // Whoever left the disposition out meant what follows.
        assert_eq!(recorded(Some(verdict), mode, None), fate);
        assert_eq!(Fate::of(verdict, fate.disposition()), fate);
    }
    // Not judged, or by a later version: what was done is what counts.
    assert_eq!(recorded(None, None, None), Fate::NoRule);
    assert_eq!(recorded(None, None, Some(Disposition::Reject)), Fate::Refused);
}

#[test]
fn what_nobody_notices_is_no_change() {
    for from in Fate::ALL {
        for to in Fate::ALL {
            let mut simulation = Simulation::new(1);
            add(&mut simulation, &record(1, 0), judged(from), judged(to));
            let noticed = from != to && from.max(to) >= Fate::Unknown;
            assert_eq!(simulation.changes().len(), usize::from(noticed), "{from:?} {to:?}");
            assert_eq!((simulation.changed(), simulation.judged()), (u64::from(noticed), 1));
            assert_eq!((simulation.before(from), simulation.after(to)), (1, 1));
            assert_eq!(simulation.newly(to), u64::from(to > from), "{from:?} {to:?}");
        }
    }
}

#[test]
fn messages_of_one_domain_are_one_change_with_examples_of_different_hosts() {
    let mut simulation = Simulation::new(2);
    for (host, ts) in [(1, 50), (1, 10), (2, 99), (3, 20)] {
        add(&mut simulation, &record(host, ts), judged(Fate::NoRule), judged(Fate::Refused));
    }
    add(&mut simulation, &record(1, 30), judged(Fate::Deferred), judged(Fate::Passed));
    let changes = simulation.changes();
    let [worse, better] = changes[..] else { panic!("{changes:?}") };
    assert_eq!((worse.domain.as_str(), worse.messages, worse.peers.count()), ("partner.example", 4, 3));
    assert_eq!((worse.first.unwrap().as_second(), worse.last.unwrap().as_second()), (10, 99));
    let hosts: Vec<_> =
        worse.examples.iter().map(|example| example.record().client_addr.unwrap().into_owned()).collect();
    assert_eq!(hosts, ["192.0.0.1", "192.0.0.2"]);
    assert_eq!(worse.reasons, [("encryption too weak 0 less than 128".to_owned(), 4)]);
    // What ends is told by the rule that ends it.
    assert_eq!(
        (better.from, better.to, better.rule.as_deref()),
        (Fate::Deferred, Fate::Passed, Some("partner"))
    );
    assert_eq!(
        simulation.period().map(|(first, last)| (first.as_second(), last.as_second())),
        Some((10, 99))
    );
}

#[test]
fn whom_it_is_about_depends_on_the_side() {
    let domain = |side, change: fn(&mut Record<'_>)| {
        let mut record = record(7, 0);
        change(&mut record);
        domain_of(&record.facts(), record.envelope(), side).into_owned()
    };
    assert_eq!(domain(Some(Side::Client), |_| {}), "partner.example");
    assert_eq!(domain(Some(Side::Sender), |_| {}), "sub.sender.example");
    assert_eq!(domain(Some(Side::Recipient), |_| {}), "here.example");
    assert_eq!(domain(None, |_| {}), "partner.example");
    // Who only says so is his network.
    assert_eq!(
        domain(Some(Side::Client), |record| record.client_resolve = Some("FORGED".into())),
        "192.0.0.0/24"
    );
    assert_eq!(domain(Some(Side::Sender), |record| record.sender = Some("<>".into())), "partner.example");
    assert_eq!(domain(None, |record| *record = Record::default()), "");
}

#[test]
fn memory_is_bounded_whatever_comes() {
    let mut simulation = Simulation::new(10);
    let long = "x".repeat(10_000);
    let total = 3 * u64::try_from(MAX_GROUPS).unwrap();
    for n in 0..total {
        let (rule, reason) = (format!("rule {n}"), format!("{n} {long}"));
        let mut message = record(1, 0);
        message.client_name = Some(format!("mx.{n}.example").into());
        message.sender = Some(long.clone().into());
        let after = Judged {
            fate: Fate::Refused,
            rule: Some(&rule),
            side: Some(Side::Client),
            reason: Some(Reason::Words(&reason)),
        };
        add(&mut simulation, &message, judged(Fate::NoRule), after);
    }
    assert!(simulation.groups.len() <= 2 * MAX_GROUPS + 1, "{}", simulation.groups.len());
    let changes = simulation.changes();
    assert_eq!(changes.iter().map(|group| group.messages).sum::<u64>(), total);
    assert!(changes.iter().any(|group| group.domain == OTHERS && group.rule.is_none()));
    for group in changes {
        assert!(group.reasons.len() <= MAX_REASONS && group.reasons.iter().all(|(r, _)| r.len() <= MAX_WORD));
        for example in group.examples.iter().map(Example::record) {
            let words = [example.sender, example.reason].map(|word| word.unwrap().len());
            assert_eq!(words, [MAX_WORD; 2]);
        }
        let told = group.reasons.iter().map(|(_, count)| count).sum::<u64>() + group.other_reasons;
        assert_eq!(told, group.messages);
    }
}
