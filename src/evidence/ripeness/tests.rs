//! Good evidence and bad, through the store's own ways in.

use super::*;
use crate::evidence::{Observed, Rollup};
use crate::policy::lookup::Index;
use crate::policy::record::Record;
use crate::policy::requirement::{Attribute, CertificateName, TlsVersion, Wanted};
use crate::policy::rule::{Exempt, ModeEntry};
use serde_json::json;

/// 2026-11-30.
const TODAY: Day = Day(20_787);

fn demand(min_bits: u16) -> ModeEntry {
    ModeEntry {
        requirement: Requirement { min_bits: Some(min_bits), ..Requirement::default() },
        ..ModeEntry::default()
    }
}

fn rule(modes: &[(Mode, ModeEntry)]) -> Rule {
    let mut rule = Rule { name: "partner".to_owned(), ..Rule::default() };
    for (mode, entry) in modes {
        rule.modes.set(*mode, Some(entry.clone()));
    }
    rule
}

/// Evidence in the making.
struct World(Rollup);

impl World {
    fn new() -> Self {
        Self(Rollup::new(1000))
    }

    /// The rule stands on these days before today, from the first to the last.
    fn stands(mut self, rule: &Rule, from: i64, to: i64) -> Self {
        let policy = Policy::new(vec![rule.clone()], Index::default(), Exempt::default(), None);
        for ago in to..=from {
            self.0.stand(&policy, Day(TODAY.0 - ago));
        }
        self
    }

    /// So many messages of a peer on a day before today.
    fn met(mut self, peer: u8, ago: i64, tls: &serde_json::Value, count: usize) -> Self {
        let ts = jiff::Timestamp::from_second((TODAY.0 - ago) * 86_400 + 3600).unwrap();
        let mut record = json!({
            "ts": ts, "client_name": format!("mx.p{peer}.example"), "client_resolve": "OK",
            "client_addr": format!("192.0.{peer}.1"), "verdict": "pass", "mode": "observe",
            "rule": "partner", "side": "client", "key": "example",
        });
        record.as_object_mut().unwrap().extend(tls.as_object().unwrap().clone());
        let text = record.to_string();
        let record: Record<'_> = serde_json::from_str(&text).unwrap();
        let observed = Observed::of_record(&record).unwrap();
        for _ in 0..count {
            self.0.observe(&observed);
        }
        self
    }

    fn store(self) -> Store {
        let mut store = Store::memory().unwrap();
        store.add(&self.0).unwrap();
        store
    }

    fn ripeness(self, rule: &Rule) -> Ripeness {
        let (from, to) = step::next(rule).unwrap();
        of_step(&self.store(), &Gate::default(), rule, (from, to), TODAY).unwrap().unwrap()
    }
}

fn tls(bits: u16) -> serde_json::Value {
    json!({"tls_version": "TLSv1.3", "cipher": "X", "cipher_bits": bits, "verify": "NO"})
}

fn clear() -> serde_json::Value {
    json!({"cipher_bits": 0})
}

/// The gates that do not hold, with their words.
fn against(ripeness: &Ripeness) -> Vec<String> {
    assert_eq!(ripeness.ripe, ripeness.against().next().is_none());
    ripeness.against().map(|asked| format!("{}: {}", asked.gate, asked.words)).collect()
}

#[test]
fn good_evidence_is_ripe_and_says_what_it_rests_on() {
    let rule = rule(&[(Mode::Observe, demand(256))]);
    let ripeness =
        World::new().stands(&rule, 13, 0).met(1, 13, &tls(256), 60).met(2, 0, &tls(256), 40).ripeness(&rule);
    assert_eq!(against(&ripeness), [] as [&str; 0]);
    assert_eq!((ripeness.days, ripeness.messages, ripeness.peers), (14, 100, 2));
    assert_eq!(ripeness.since.as_deref(), Some("2026-11-17"));
    let words: Vec<&str> = ripeness.gates.iter().map(|asked| asked.words.as_str()).collect();
    assert_eq!(
        words,
        [
            "the evidence goes to 2026-11-30",
            "14 of 14 days in observe, since 2026-11-17",
            "100 of 100 messages",
            "0 failures, 0 allowed; none ever",
            "0 of 2 peers never passed"
        ]
    );
}

#[test]
fn each_part_of_the_gate_is_held_by_itself() {
    let rule = rule(&[(Mode::Observe, demand(256))]);
    let good = || World::new().stands(&rule, 30, 0).met(1, 20, &tls(256), 200);
    assert_eq!(against(&good().ripeness(&rule)), [] as [&str; 0]);
    let short = World::new().stands(&rule, 12, 0).met(1, 2, &tls(256), 200).ripeness(&rule);
    assert_eq!(against(&short), ["min-days: 13 of 14 days in observe, since 2026-11-18"]);
    let few = World::new().stands(&rule, 30, 0).met(1, 2, &tls(256), 99).ripeness(&rule);
    assert_eq!(against(&few), ["min-messages: 99 of 100 messages"]);
    let weak = good().met(1, 1, &tls(128), 1).ripeness(&rule);
    assert_eq!(
        against(&weak),
        [
            "max-failures: 1 failure, 0 allowed; the last on 2026-11-29: p1.example (192.0.1.0/24), encryption too weak 128 less than 256"
        ]
    );
    assert_eq!(weak.days_since_failure, Some(1));
    let stranger = good().met(7, 25, &clear(), 1).ripeness(&rule);
    assert_eq!(
        against(&stranger),
        [
            "max-failures: 1 failure, 0 allowed; the last on 2026-11-05: p7.example (192.0.7.0/24), encryption too weak 0 less than 256",
            "every-peer-passed: 1 of 2 peers never passed: p7.example (192.0.7.0/24)"
        ]
    );
    // What nobody was told of is no pass.
    let untold = good().met(7, 1, &json!({"cipher": "X", "tls_version": "TLSv1.3"}), 3).ripeness(&rule);
    assert_eq!(untold.unknown, 3);
    assert_eq!(against(&untold), ["every-peer-passed: 1 of 2 peers never passed: p7.example (192.0.7.0/24)"]);
    let loose = Gate { every_peer_passed: false, max_failures: 1, min_days: 0, min_messages: 0 };
    let seen = World::new().stands(&rule, 0, 0).met(7, 0, &clear(), 1).store();
    assert!(of_step(&seen, &loose, &rule, (Mode::Observe, Mode::Enforce), TODAY).unwrap().unwrap().ripe);
}

#[test]
fn a_failure_counts_until_it_is_old_and_mended() {
    let rule = rule(&[(Mode::Observe, demand(256))]);
    let good = || World::new().stands(&rule, 60, 0).met(1, 59, &tls(256), 200);
    let mended = good().met(2, 40, &clear(), 5).met(2, 39, &tls(256), 1).ripeness(&rule);
    assert_eq!((mended.failures, mended.failures_that_count, mended.ripe), (5, 0, true));
    let young = good().met(2, 13, &clear(), 5).met(2, 12, &tls(256), 1).ripeness(&rule);
    assert_eq!((young.failures_that_count, young.ripe), (5, false));
    let again = good().met(2, 41, &tls(256), 1).met(2, 40, &clear(), 5).ripeness(&rule);
    assert_eq!((again.failures_that_count, again.never_passed.len(), again.ripe), (5, 0, false));
    // Before the rule stood without a break, others may have been met by it.
    let before = World::new().stands(&rule, 60, 50).stands(&rule, 20, 0);
    let elsewhere = Rule { name: "other".to_owned(), ..rule.clone() };
    let before =
        before.stands(&elsewhere, 49, 21).met(2, 55, &clear(), 5).met(1, 19, &tls(256), 200).ripeness(&rule);
    assert_eq!((before.failures, before.days, before.ripe), (0, 21, true));
    // But a day on which no daemon ran breaks nothing.
    let off = World::new().stands(&rule, 60, 50).stands(&rule, 20, 0).met(2, 55, &clear(), 5).ripeness(&rule);
    assert_eq!((off.failures, off.days), (5, 32));
}

#[test]
fn a_demand_is_judged_on_what_was_seen_before_it() {
    let (old, new) = (rule(&[(Mode::Observe, demand(128))]), rule(&[(Mode::Observe, demand(256))]));
    let seen = World::new().stands(&old, 30, 0).stands(&new, 0, 0).met(1, 20, &tls(256), 150).met(
        2,
        5,
        &tls(128),
        3,
    );
    let ripeness = seen.ripeness(&new);
    assert_eq!((ripeness.messages, ripeness.failures, ripeness.days), (153, 3, 1));
    assert_eq!(ripeness.watched_since.as_deref(), Some("2026-10-31"));
    // In the harder mode, what failed there is counted apart.
    let both = rule(&[(Mode::Observe, demand(256)), (Mode::SoftFail, demand(128))]);
    let failed = json!({"verdict": "fail", "mode": "soft-fail", "cipher_bits": 0, "failures":
        [{"rule": "partner", "side": "client", "key": "example", "mode": "soft-fail", "reason": "x"}]});
    let world = World::new().stands(&both, 3, 0).met(1, 1, &failed, 4).store();
    let observed =
        of_step(&world, &Gate::default(), &both, (Mode::Observe, Mode::SoftFail), TODAY).unwrap().unwrap();
    assert_eq!((observed.failures_in_harder, observed.failures), (4, 4));
    // The next step of a rule is that of its hardest mode.
    let policy = Policy::new(vec![both.clone()], Index::default(), Exempt::default(), None);
    let next = of_rule(&world, &policy, &both, TODAY).unwrap().unwrap();
    assert_eq!((next.from, next.to, next.failures_in_harder), (Mode::SoftFail, Mode::Enforce, 0));
    assert_eq!(of_all(&world, &policy, TODAY).unwrap(), [next]);
}

#[test]
fn sessions_are_judged_as_they_were() {
    let of = |requirement: Requirement, tls: &serde_json::Value| {
        let rule = rule(&[(Mode::Observe, ModeEntry { requirement, ..ModeEntry::default() })]);
        let ripeness = World::new().stands(&rule, 0, 0).met(1, 0, tls, 1).ripeness(&rule);
        (ripeness.messages - ripeness.failures, ripeness.failures, ripeness.unknown)
    };
    let bits = |bits| Requirement { min_bits: Some(bits), ..Requirement::default() };
    let version = Requirement { min_version: TlsVersion::from_policy("TLSv1.2"), ..Requirement::default() };
    let verify = Requirement { verify: true, ..Requirement::default() };
    let (pass, fail, unknown) = ((1, 0, 0), (0, 1, 0), (0, 0, 1));
    assert_eq!(of(bits(128), &tls(128)), pass);
    assert_eq!(of(bits(129), &tls(128)), fail);
    assert_eq!(of(bits(1), &clear()), fail);
    assert_eq!(of(version.clone(), &clear()), fail);
    assert_eq!(of(version.clone(), &tls(0)), pass);
    assert_eq!(of(verify.clone(), &tls(256)), fail);
    assert_eq!(of(verify.clone(), &json!({"cipher": "X", "cipher_bits": 256, "verify": "OK"})), pass);
    assert_eq!(of(bits(1), &json!({"cipher": "X", "verify": "OK"})), unknown);
    assert_eq!(of(bits(1), &json!({"cipher_bits": "odd"})), unknown);
    // A layer of SASL gives bits, and no version.
    let layer = json!({"cipher_bits": 0, "auth_ssf": 128});
    assert_eq!((of(bits(128), &layer), of(version, &layer)), (pass, fail));
    // A server that offers no STARTTLS.
    let server = json!({"direction": "outbound", "server_name": "mx.p1.example", "server_addr": "192.0.1.1",
        "client_name": null, "client_addr": null, "verify": "NONE", "cipher_bits": 0, "side": "server"});
    assert_eq!((of(bits(1), &server), of(verify, &server)), (fail, fail));
}

#[test]
fn certificate_names_count_as_they_fared_when_they_were_demanded() {
    let certificate =
        vec![CertificateName { attribute: Attribute::CommonName, wanted: Wanted::Is("mx".into()) }];
    let entry = ModeEntry {
        requirement: Requirement { certificate, ..Requirement::default() },
        ..ModeEntry::default()
    };
    let (old, new) = (rule(&[(Mode::Observe, demand(128))]), rule(&[(Mode::Observe, entry)]));
    let world = World::new().stands(&old, 30, 10).stands(&new, 9, 0);
    let ripeness = world.met(1, 20, &tls(256), 50).met(1, 5, &tls(256), 7).ripeness(&new);
    assert_eq!((ripeness.messages, ripeness.days), (7, 10));
}

#[test]
fn who_cannot_be_told_apart_is_not_forgiven() {
    let rule = rule(&[(Mode::Observe, demand(256))]);
    let mut world = World(Rollup::new(1)).stands(&rule, 60, 0);
    for peer in 1..6 {
        world = world.met(peer, 40, &clear(), 1).met(peer, 39, &tls(256), 50);
    }
    let ripeness = world.ripeness(&rule);
    // One is kept apart, the same on each day.
    assert_eq!((ripeness.messages, ripeness.peers), (255, 1));
    assert_eq!((ripeness.failures, ripeness.failures_that_count, ripeness.ripe), (5, 4, false));
}

#[test]
fn evidence_that_has_ended_is_none() {
    let rule = rule(&[(Mode::Observe, demand(256))]);
    let yesterday = World::new().stands(&rule, 30, 1).met(1, 1, &tls(256), 200).ripeness(&rule);
    assert_eq!(against(&yesterday), [] as [&str; 0]);
    let stale = World::new().stands(&rule, 30, 2).met(1, 2, &tls(256), 200).ripeness(&rule);
    assert_eq!(
        against(&stale),
        ["evidence: the evidence ends on 2026-11-28: does the daemon run, with [evidence] enabled?"]
    );
    // A day that was written while the clock was wrong makes nothing fresh, and breaks nothing.
    let ahead = |world: World| world.stands(&rule, -400, -400).met(2, -400, &tls(256), 1).ripeness(&rule);
    let stale = ahead(World::new().stands(&rule, 30, 2).met(1, 2, &tls(256), 200));
    assert!(against(&stale)[0].starts_with("evidence: the evidence ends on 2026-11-28"), "{stale:#?}");
    assert!(ahead(World::new().stands(&rule, 30, 1).met(1, 1, &tls(256), 200)).ripe);
    let none = World::new().ripeness(&rule);
    assert!(against(&none)[0].starts_with("evidence: there is no evidence at all"), "{none:#?}");
}
