//! Tallies over reloads: every decision is counted once, by the name of its rule.

use super::*;
use crate::policy::facts::Facts;
use crate::policy::rule::Rule;
use crate::policy::{Policy, lookup::Index, rule::Exempt};
use std::collections::BTreeMap;
use std::sync::LazyLock;

fn policy(names: &[&str]) -> Policy {
    let rules = names.iter().map(|name| Rule { name: (*name).to_owned(), ..Rule::default() }).collect();
    Policy::new(rules, Index::default(), Exempt::default(), None)
}

/// What decisions are made of that are counted by what came out alone.
static NOTHING: LazyLock<(Policy, Facts<'static>)> = LazyLock::new(Default::default);

fn decision(rule: &Rule, side: Side, verdict: Verdict, mode: Option<Mode>) -> Decision<'_> {
    let mut decision = Decision::new(&NOTHING.0, &NOTHING.1, verdict);
    decision.disposition = disposition(verdict, mode);
    (decision.mode, decision.rule, decision.side) = (mode, Some(rule), Some(side));
    decision
}

fn count(tallies: &Tallies, policy: &Policy, rule: usize) {
    let decision = decision(&policy.rules()[rule], Side::Client, Verdict::Fail, Some(Mode::Observe));
    tallies.count(Direction::Inbound, &decision);
}

fn by_rule(tallies: &Tallies) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    tallies.each(|tallied| {
        let rule = tallied.rule.as_deref().unwrap_or("-").to_owned();
        assert_eq!(found.insert(rule, tallied.count), None, "each once");
    });
    found
}

fn of(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[test]
fn tallies_go_on_over_reloads_and_nothing_is_lost() {
    let tallies = Tallies::default();
    let (first, second, third) = (policy(&["a", "b"]), policy(&["b", "c"]), policy(&["c"]));
    tallies.expect(&first);
    count(&tallies, &first, 0);
    count(&tallies, &first, 1);
    tallies.expect(&second);
    // A transaction that began before goes by the first still.
    count(&tallies, &first, 0);
    count(&tallies, &first, 1);
    count(&tallies, &second, 1);
    assert_eq!(by_rule(&tallies), of(&[("a", 2), ("b", 2), ("c", 1)]));
    tallies.expect(&third);
    // Two reloads later as well; what its rule was is not told any more.
    count(&tallies, &first, 0);
    count(&tallies, &first, 1);
    assert_eq!(by_rule(&tallies), of(&[("(removed)", 1), ("b", 3), ("c", 1)]));
    // And a rule that comes back begins anew.
    tallies.expect(&first);
    count(&tallies, &first, 0);
    assert_eq!(by_rule(&tallies), of(&[("(removed)", 1), ("a", 1), ("b", 3), ("c", 1)]));
}

#[test]
fn a_rule_that_is_called_as_the_removed_ones_makes_no_series_twice() {
    let tallies = Tallies::default();
    let (odd, other) = (policy(&["(removed)"]), policy(&["gone"]));
    tallies.expect(&odd);
    count(&tallies, &odd, 0);
    count(&tallies, &other, 0);
    assert_eq!(by_rule(&tallies), of(&[("(removed)", 1)]));
}

#[test]
fn every_outcome_has_a_place_of_its_own() {
    let rule = Rule { name: "r".to_owned(), ..Rule::default() };
    let modes = [None, Some(Mode::Observe), Some(Mode::SoftFail), Some(Mode::Enforce)];
    let tallies = Tallies::default();
    tallies.expect(&policy(&["r"]));
    let mut expected = Vec::new();
    let mut n = 0;
    for side in Side::ALL {
        for verdict in VERDICTS {
            for mode in modes {
                n += 1;
                for _ in 0..n {
                    tallies.count(side_direction(side), &decision(&rule, side, verdict, mode));
                }
                expected.push((side, verdict, mode, n));
            }
        }
    }
    let mut found = Vec::new();
    tallies.each(|t| found.push((t.side.unwrap(), t.verdict, t.mode, t.count)));
    assert_eq!(found, expected);
}

#[test]
fn a_table_that_somebody_looks_at_is_kept_until_he_is_done() {
    let tallies = Tallies::default();
    tallies.expect(&policy(&["a"]));
    let looks_at = tallies.table.load_full();
    tallies.expect(&policy(&["b"]));
    tallies.expect(&policy(&["c"]));
    assert_eq!(tallies.retired.lock().unwrap().len(), 1);
    drop(looks_at);
    tallies.expect(&policy(&["d"]));
    assert_eq!(tallies.retired.lock().unwrap().len(), 0);
}

#[test]
fn counting_beside_reloads_loses_nothing() {
    const EACH: u64 = 20_000;
    let tallies = Tallies::default();
    // By turns, so that no rule is ever gone for more than one reload.
    let policies = [policy(&["a", "b"]), policy(&["b", "c"])];
    tallies.expect(&policies[0]);
    tallies.expect(&policies[1]);
    std::thread::scope(|scope| {
        let workers: Vec<_> = [(0, 0), (0, 1), (1, 1)]
            .into_iter()
            .map(|(of, rule)| {
                let (tallies, policy) = (&tallies, &policies[of]);
                scope.spawn(move || (0..EACH).for_each(|_| count(tallies, policy, rule)))
            })
            .collect();
        let mut turn = 0;
        while turn < 20 || workers.iter().any(|worker| !worker.is_finished()) {
            tallies.expect(&policies[turn % 2]);
            turn += 1;
            std::thread::yield_now();
        }
    });
    assert_eq!(by_rule(&tallies), of(&[("a", EACH), ("b", EACH), ("c", EACH)]));
}
