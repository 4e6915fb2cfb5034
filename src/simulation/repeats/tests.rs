//! Whatever is judged, whether or not it is looked for among what was judged before comes to the same.

use super::*;
use crate::policy::decide::{Disposition, Verdict, decide};
use crate::policy::lookup::{Index, RuleId};
use crate::policy::network::Network;
use crate::policy::requirement::{Attribute, CertificateName, Requirement, Wanted};
use crate::policy::rule::{Exempt, Exemption, ModeEntry, Modes, Rule};
use crate::simulation::{Judged, Simulation};
use proptest::prelude::*;

const DAY: Day = Day(20_000);

fn key(text: &str) -> Key<'_> {
    match Network::parse(text) {
        _ if text == "*" => Key::Any,
        Some(written) => Key::Network(written.unwrap().network),
        None => Key::Name(text),
    }
}

/// Rules with keys on all sides; some with a share, a delay, an exemption, a day.
fn policies() -> impl Strategy<Value = Policy> {
    let keys = prop::sample::select(vec![
        (Side::Client, "*"),
        (Side::Client, "partner.example"),
        (Side::Client, "192.0.2.0/24"),
        (Side::Sender, "*"),
        (Side::Sender, "partner.example"),
        (Side::Sender, "a@partner.example"),
        (Side::Recipient, "*"),
        (Side::Recipient, "here.example"),
        (Side::Recipient, "b@here.example"),
        (Side::Server, "*"),
        (Side::Server, "far.example"),
        (Side::RecipientOutbound, "*"),
        (Side::RecipientOutbound, "here.example"),
        (Side::RecipientOutbound, "b@"),
    ]);
    let bits = || prop::option::of(prop::sample::select(vec![1u16, 128, 256]));
    let rule = (keys, bits(), bits(), prop::option::of(1u8..100), 0u8..10);
    let exempt = prop::sample::select(vec![vec![], vec!["postmaster"], vec!["b@here.example", "\"x"]]);
    (prop::collection::vec(rule, 0..5), exempt).prop_map(|(rules, recipients)| {
        let mut index = Index::default();
        let mut list = Vec::new();
        for ((side, written), soft_fail, enforce, percent, odd) in rules {
            if index.side_mut(side).insert(key(written), RuleId::new(list.len())).is_err() {
                continue;
            }
            let entry = |bits: Option<u16>| {
                let name = CertificateName { attribute: Attribute::CommonName, wanted: Wanted::OfPeer };
                let certificate = if odd == 5 { vec![name] } else { Vec::new() };
                let requirement =
                    Requirement { min_bits: bits, verify: odd == 1, certificate, ..Requirement::default() };
                bits.map(|_| ModeEntry { requirement, ..ModeEntry::default() })
            };
            let share = |entry: ModeEntry| ModeEntry {
                percent,
                max_delay: (odd == 2).then_some(crate::policy::rule::Delay(600)),
                ..entry
            };
            let modes = Modes {
                observe: entry(Some(256))
                    .map(|entry| ModeEntry { from: (odd == 3).then_some(Day(DAY.0 + 1)), ..entry }),
                soft_fail: entry(soft_fail).map(share),
                enforce: entry(enforce),
            };
            let exemption =
                (odd == 4).then(|| Exemption { reason: Some("booked".to_owned()), owner: None, until: None });
            list.push(Rule { name: format!("rule {}", list.len()), modes, exemption, ..Rule::default() });
        }
        let recipients = recipients.into_iter().map(str::to_owned).collect();
        Policy::new(list, index, Exempt { recipients, ..Exempt::default() }, None)
    })
}

/// Few words, so that much repeats, and much differs in one word alone.
fn records() -> impl Strategy<Value = Record<'static>> {
    let word = |words: &[&'static str]| {
        let words: Vec<Option<&'static str>> = words.iter().copied().map(Some).chain([None]).collect();
        prop::sample::select(words).prop_map(|word| word.map(Cow::Borrowed))
    };
    let address = || {
        word(&[
            "a@partner.example",
            "c@partner.example",
            "b@here.example",
            "b+x@here.example",
            "c@here.example",
            "<c@Here.example>",
            "Postmaster@here.example",
            "\"b\"@here.example",
            "\"x@here.example",
            "(y)@here.example",
            "b",
            "c",
            "",
            "<>",
        ])
    };
    let peer = (
        prop::bool::weighted(0.7),
        word(&["mx.partner.example", "mx.far.example"]),
        word(&["192.0.2.7", "192.0.2.8", "127.0.0.1", "0", "x"]),
        word(&["OK", "FAIL"]),
        address(),
        address(),
    );
    let tls = (
        prop::sample::select(vec![None, Some(0u16), Some(128), Some(256)]),
        word(&["AES", "DES", ""]),
        word(&["OK", "NO", "SOFTWARE"]),
        word(&["user"]),
        word(&["mx.partner.example", "mx.far.example", ""]),
        prop::sample::select(vec![None, Some(0u32), Some(700)]),
        prop::sample::select(vec![0i64, 3600, 86_400]),
    );
    let verdicts = vec![None, Some(Verdict::Pass), Some(Verdict::Fail), Some(Verdict::Unknown)];
    let sides = vec![None, Some(Side::Client), Some(Side::Sender), Some(Side::Recipient), Some(Side::Server)];
    let recorded = (
        prop::sample::select(verdicts),
        prop::sample::select(vec![None, Some(Mode::Observe), Some(Mode::Enforce)]),
        prop::sample::select(vec![None, Some(Disposition::Tempfail)]),
        prop::sample::select(sides),
        word(&["old"]),
        word(&["why", "why not"]),
    );
    (peer, tls, recorded).prop_map(|(peer, tls, recorded)| {
        let (inbound, name, addr, resolve, sender, recipient) = peer;
        let (cipher_bits, cipher, verify, auth, cn_subject, waited, seconds) = tls;
        let (verdict, mode, disposition, side, rule, reason) = recorded;
        let ts = jiff::Timestamp::from_second(DAY.0 * 86_400 + seconds).ok();
        let record = Record {
            ts,
            sender,
            recipient,
            cipher,
            cipher_bits,
            verify,
            cn_subject,
            waited,
            verdict,
            mode,
            disposition,
            rule,
            side,
            reason,
            ..Record::default()
        };
        if inbound {
            Record { client_name: name, client_addr: addr, client_resolve: resolve, auth, ..record }
        } else {
            Record { direction: Direction::Outbound, server_name: name, server_addr: addr, ..record }
        }
    })
}

/// All that is told, in an order that does not hang on the hash.
fn told(simulation: &Simulation) -> String {
    format!("{:?} {:?} {:#?}", simulation.transitions, simulation.period(), simulation.changes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn what_repeats_comes_to_what_it_would_come_to(
        policy in policies(),
        other in prop::option::of(policies()),
        pool in prop::collection::vec(records(), 1..60),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..300),
    ) {
        let (mut plain, mut quick) = (Simulation::new(2), Simulation::new(2));
        let mut repeats = Repeats::new(&policy, other.as_ref());
        for at in order {
            let record = at.get(&pool);
            let day = record.day(jiff::Timestamp::UNIX_EPOCH);
            let facts = record.facts();
            let decision = decide(&policy, &facts, record.envelope(), day);
            let old = other.as_ref().map(|other| decide(other, &facts, record.envelope(), day));
            let before = || old.as_ref().map_or_else(|| Judged::recorded(record), Judged::by);
            plain.add(record, &facts, before(), Judged::by(&decision));
            match repeats.find(record, day) {
                Some(counted) => quick.add_again(record.ts, counted),
                None => repeats.remember(quick.add(record, &facts, before(), Judged::by(&decision))),
            }
        }
        prop_assert_eq!(told(&plain), told(&quick));
    }
}

#[test]
fn where_nothing_repeats_nobody_asks_for_long() {
    let policy = Policy::default();
    let mut repeats = Repeats::new(&policy, None);
    let mut simulation = Simulation::new(1);
    let mut record = Record { cipher_bits: Some(0), ..Record::default() };
    for number in 0..2 * TRIAL {
        record.client_name = Some(format!("mx{number}.example").into());
        assert_eq!(repeats.find(&record, DAY), None);
        let facts = record.facts();
        let counted = simulation.add(&record, &facts, Judged::recorded(&record), Judged::recorded(&record));
        repeats.remember(counted);
    }
    assert!(repeats.resting > 0);
    // The same for ever: it is asked again in time.
    let found = (0..REST + 2).filter(|_| {
        let found = repeats.find(&record, DAY);
        if found.is_none() {
            let facts = record.facts();
            repeats.remember(simulation.add(
                &record,
                &facts,
                Judged::recorded(&record),
                Judged::recorded(&record),
            ));
        }
        found.is_some()
    });
    assert!(found.count() > 0);
}
