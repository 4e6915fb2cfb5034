//! Counts in memory and in files: the same however they were split, stored, and put together again.

use super::rollup::{Bucket, Counts, KnownBy, OTHERS, Peer};
use super::{Observed, Rollup, Store};
use crate::policy::record::Record;
use proptest::prelude::*;
use rusqlite::types::Value;

/// 2026-11-30 00:00 UTC.
const START: i64 = 1_795_996_800;

/// What tells one decision of these tests from another.
#[derive(Clone, Copy, Debug)]
struct Seen {
    peer: u8,
    hours: i64,
    kind: u8,
    bits: u16,
}

impl Seen {
    fn observed(self) -> Observed {
        let Self { peer, hours, kind, bits } = self;
        let ts = jiff::Timestamp::from_second(START + hours * 3600).unwrap();
        // Some have a name, and some of these share a domain.
        let name =
            if peer % 3 == 0 { format!("[192.0.{peer}.1]") } else { format!("mx.p{}.example", peer / 2) };
        let resolve = if peer % 3 == 0 { "FAIL" } else { "OK" };
        let rule = match kind % 5 {
            0 => r#""verdict":"no-rule""#,
            1 => {
                r#""verdict":"fail","mode":"observe","rule":"all","side":"client","key":"*","failures":[{"rule":"all","side":"client","key":"*","mode":"observe","reason":"x"}]"#
            }
            2 => r#""verdict":"pass","mode":"enforce","rule":"partner","side":"client","key":"p1.example""#,
            3 => {
                r#""verdict":"fail","mode":"enforce","disposition":"reject","rule":"from","side":"sender","key":"p2.example","failures":[{"rule":"from","side":"sender","key":"p2.example","mode":"enforce","reason":"x"},{"rule":"all","side":"client","key":"*","mode":"observe","reason":"x"}]"#
            }
            _ => r#""verdict":"exempt","reason":"recipient postmaster""#,
        };
        let line = format!(
            r#"{{"ts":"{ts}","client_name":"{name}","client_resolve":"{resolve}","client_addr":"192.0.{peer}.1","cipher":"X","cipher_bits":{bits},{rule}}}"#
        );
        let record: Record<'_> = serde_json::from_str(&line).unwrap();
        Observed::of_record(&record).unwrap()
    }
}

fn seen() -> impl Strategy<Value = Seen> {
    let bits = prop_oneof![Just(0u16), Just(128), Just(256)];
    (0..24u8, 0..60i64, 0..5u8, bits).prop_map(|(peer, hours, kind, bits)| Seen { peer, hours, kind, bits })
}

fn rollup<'s>(max_peers: usize, seen: impl IntoIterator<Item = &'s Seen>) -> Rollup {
    let mut rollup = Rollup::new(max_peers);
    for seen in seen {
        rollup.observe(&seen.observed());
    }
    rollup
}

/// Everything that is in a store, as text.
fn dump(store: &Store) -> Vec<String> {
    let mut all = Vec::new();
    for table in ["decision_counts", "host_counts", "standing", "bounds"] {
        let mut statement = store.connection().prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<Value> = (0..columns).map(|column| row.get(column).unwrap()).collect();
            all.push(format!("{table} {values:?}"));
        }
    }
    all.sort();
    all
}

fn stored(rollup: &Rollup) -> Store {
    let mut store = Store::memory().unwrap();
    store.add(rollup).unwrap();
    store
}

fn number(store: &Store, sql: &str) -> i64 {
    store.connection().query_row(sql, [], |row| row.get(0)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// The promise of the whole module: parts put together in any order and grouping are the whole.
    #[test]
    fn parts_in_any_order_and_grouping_are_the_whole(
        all in proptest::collection::vec((seen(), 0..5usize), 1..120),
        cap in 1..30usize,
        order in Just(vec![0usize, 1, 2, 3, 4]).prop_shuffle(),
        grouping in proptest::collection::vec(any::<bool>(), 5),
    ) {
        let of_part = |wanted: &usize| {
            let wanted = *wanted;
            all.iter().filter(move |(_, part)| *part == wanted).map(|(seen, _)| seen).collect::<Vec<_>>()
        };
        let whole = rollup(cap, all.iter().map(|(seen, _)| seen));
        // In memory: some parts together, and then these groups from the last on.
        let mut groups: Vec<Rollup> = Vec::new();
        for (part, together) in order.iter().zip(grouping) {
            let part = rollup(cap, of_part(part));
            match groups.last_mut() {
                Some(last) if together => last.merge(part),
                _ => groups.push(part),
            }
        }
        let merged = groups.into_iter().rev().reduce(|mut left, right| {
            left.merge(right);
            left
        });
        prop_assert_eq!(merged.as_ref(), Some(&whole));
        // In files: written batch by batch, and then merged as files are.
        let stores = order.iter().map(|part| {
            let mut store = Store::memory().unwrap();
            for batch in of_part(part).chunks(7) {
                store.add(&rollup(cap, batch.iter().copied())).unwrap();
            }
            store
        });
        let store = stores.reduce(|mut left, right| {
            left.merge_from(&right).unwrap();
            left
        }).unwrap();
        prop_assert_eq!(&store.rollup().unwrap(), &whole);
        prop_assert_eq!(dump(&store), dump(&stored(&whole)));

        // Nothing is lost, and the bound holds.
        let decisions = number(&store, "SELECT sum(count) FROM evidence WHERE decided = 1");
        prop_assert_eq!(decisions, i64::try_from(all.len()).unwrap());
        for (columns, period, view) in [("known_by, domain, network", "day", "evidence"), ("known_by, host, address", "month", "hosts")] {
            let most = number(&store, &format!(
                "SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM (
                 SELECT DISTINCT {period}, {columns} FROM {view} WHERE domain <> '{OTHERS}') GROUP BY {period})"
            ));
            prop_assert!(most <= i64::try_from(cap).unwrap(), "{} {}", view, most);
        }
    }

    /// Of bounds that differ the smaller one holds, as if it had held from the first.
    #[test]
    fn the_smaller_bound_holds(
        all in proptest::collection::vec((seen(), any::<bool>()), 1..80),
        caps in (1..30usize, 1..30usize),
    ) {
        // Both saw all days, so that both bounds are at work in each.
        let days = (0..3).map(|day| Seen { peer: 3, hours: day * 24, kind: 0, bits: 0 }).collect::<Vec<_>>();
        let part = |cap, wanted| {
            rollup(cap, days.iter().chain(all.iter().filter(|(_, part)| *part == wanted).map(|(seen, _)| seen)))
        };
        let (mut left, right) = (part(caps.0, false), part(caps.1, true));
        let whole = rollup(caps.0.min(caps.1), days.iter().chain(&days).chain(all.iter().map(|(seen, _)| seen)));
        let [mut first, mut second] = [Store::memory().unwrap(), Store::memory().unwrap()];
        first.add(&left).unwrap();
        second.add(&right).unwrap();
        first.merge_from(&second).unwrap();
        left.merge(right);
        prop_assert_eq!(&left, &whole);
        prop_assert_eq!(dump(&first), dump(&stored(&whole)));
    }

    /// A file and memory are bounded alike.
    #[test]
    fn a_file_holds_what_memory_does(all in proptest::collection::vec(seen(), 1..80), cap in 1..30usize) {
        let whole = rollup(cap, &all);
        let mut store = Store::memory().unwrap();
        for one in &all {
            store.add(&rollup(cap, [one])).unwrap();
        }
        prop_assert_eq!(dump(&store), dump(&stored(&whole)));
        prop_assert_eq!(store.rollup().unwrap(), whole);
    }
}

/// The rows of one record, as text: without what all of them have.
fn rows(record: &str) -> Vec<String> {
    let record: Record<'_> = serde_json::from_str(record).unwrap();
    let mut rollup = Rollup::new(100);
    rollup.observe(&Observed::of_record(&record).unwrap());
    let store = stored(&rollup);
    let sql = "SELECT concat_ws(' ', decided, known_by, side, rule, key, verdict, disposition, 'o=' || observe, \
               's=' || soft_fail, 'e=' || enforce) FROM evidence ORDER BY decided DESC, rule";
    let mut statement = store.connection().prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn a_record_tells_how_the_rules_fared_that_it_names() {
    let begin = r#"{"ts":"2026-11-22T10:00:00Z","client_name":"mx.a.example","client_resolve":"OK","client_addr":"192.0.2.7","cipher_bits":0,"#;
    let failed = r#""verdict":"fail","mode":"observe","disposition":"accept","rule":"p","side":"client","key":"a.example","failures":[
        {"rule":"p","side":"client","key":"a.example","mode":"soft-fail","reason":"x"},
        {"rule":"p","side":"client","key":"a.example","mode":"observe","reason":"x"},
        {"rule":"p","side":"sender","key":"*","mode":"observe","reason":"x"}]}"#;
    assert_eq!(
        rows(&format!("{begin}{failed}")),
        // A soft-fail outside its share is counted as the policy has it; one rule may be held on two sides.
        ["1 host client p a.example fail accept o=fail s=fail", "0 host sender p * fail accept o=fail",]
    );
    // The sides of mail that leaves are the last ones.
    let left = r#"{"ts":"2026-11-22T10:00:00Z","direction":"outbound","server_name":"mx.a.example","server_addr":"192.0.2.7","cipher_bits":0,"verdict":"fail","mode":"enforce","disposition":"reject","rule":"p","side":"server","key":"*","failures":[
        {"rule":"p","side":"server","key":"*","mode":"enforce","reason":"x"},
        {"rule":"q","side":"recipient-outbound","key":"a.example","mode":"observe","reason":"x"}]}"#;
    assert_eq!(
        rows(left),
        ["1 mail server p * fail reject e=fail", "0 mail recipient-outbound q a.example fail reject o=fail"]
    );
    let passed = r#""verdict":"pass","mode":"enforce","disposition":"accept","rule":"p","side":"sender","key":"a.example"}"#;
    assert_eq!(rows(&format!("{begin}{passed}")), ["1 mail sender p a.example pass accept e=pass"]);
    let unknown = r#""verdict":"unknown","mode":"enforce","disposition":"accept","rule":"all","side":"client","key":"*"}"#;
    assert_eq!(rows(&format!("{begin}{unknown}")), ["1 nothing client all * unknown accept e=unknown"]);
    let exempt = r#""verdict":"exempt","disposition":"accept","reason":"recipient postmaster"}"#;
    assert_eq!(rows(&format!("{begin}{exempt}")), ["1 nothing   recipient postmaster exempt accept"]);
    let unjudged = format!(r#"{begin}"sender":"a@b"}}"#);
    let unjudged: Record<'_> = serde_json::from_str(&unjudged).unwrap();
    assert!(Observed::of_record(&unjudged).is_none());
}

#[test]
fn what_a_peer_fills_is_bounded() {
    let long = "é".repeat(500);
    for (name, domain) in [
        ("MX.Partner.Co.UK.", "partner.co.uk"),
        ("(others)", ""),
        ("a b.example", ""),
        (long.as_str(), ""),
        ("localhost", "localhost"),
    ] {
        let record = format!(
            r#"{{"ts":"2026-11-22T10:00:00Z","client_name":"{name}","client_resolve":"OK","client_addr":"192.0.2.7","cipher":"{long}","verify":"{long}","tls_version":"{long}","verdict":"no-rule"}}"#
        );
        let record: Record<'_> = serde_json::from_str(&record).unwrap();
        let mut rollup = Rollup::new(100);
        rollup.observe(&Observed::of_record(&record).unwrap());
        let (peer, row, _) = rollup.days().values().next().unwrap().iter().next().unwrap();
        assert_eq!(peer.domain, domain, "{name}");
        for told in [&row.version, &row.cipher, &row.verify] {
            assert_eq!(told.chars().count(), 32, "64 bytes, whole characters");
        }
    }
}

/// Counts of different versions of the program must meet, so who is kept may never change.
#[test]
fn who_is_kept_is_the_same_for_ever() {
    let mut kept = Bucket::new(4);
    for n in 0..100 {
        let network = format!("192.0.{n}.0/24");
        let known_by = if n == 50 { KnownBy::Mail } else { KnownBy::Nothing };
        kept.add(
            Peer { known_by, domain: String::new(), network },
            (),
            Counts { count: 1, first: 0, last: 0 },
        );
    }
    let kept: Vec<&str> = kept.ranks().map(|rank| rank.peer().network.as_str()).collect();
    assert_eq!(kept, ["192.0.50.0/24", "192.0.49.0/24", "192.0.87.0/24", "192.0.74.0/24"]);
}
