//! The index finds what a naive scan over all keys finds, for random keys and whoever is looked up.
//!
//! Promises: the cases are bounded, so that all of it runs in seconds. A failure prints the smallest case
//! that shows it; nothing is written into the source tree.
//!
//! Must not: know how the index does it. What is expected is reckoned here in the plainest way there is.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use encr_milter::policy::lookup::{Found, Index, Key, RuleId, Subject};
use encr_milter::policy::network::Network;
use encr_milter::policy::rule::{Side, Standing};
use ipnet::IpNet;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;
use std::net::IpAddr;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Names of few labels, so that they are each other's parents often.
fn name() -> impl Strategy<Value = String> {
    vec(select(vec!["a", "b", "aa", "x-1", "xn--bcher-kva"]), 1..5).prop_map(|labels| labels.join("."))
}

/// Networks that lie in each other often; of both families, and of every length.
fn network() -> impl Strategy<Value = IpNet> {
    let v4 = (0u32..16, 0u8..=32).prop_map(|(low, length)| {
        IpNet::new(IpAddr::from((0x0a00_0000 | low).to_be_bytes()), length).unwrap()
    });
    // ::ffff:0:0/96 and longer stand for IPv4, which is another matter: not in this range.
    let v6 = (0u128..16, 0u8..=128).prop_map(|(low, length)| {
        IpNet::new(IpAddr::from(((0x2001_0db8_u128 << 96) | low).to_be_bytes()), length).unwrap()
    });
    prop_oneof![v4, v6].prop_map(|net| net.trunc())
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0u32..32).prop_map(|low| IpAddr::from((0x0a00_0000 | low).to_be_bytes())),
        (0u128..32).prop_map(|low| IpAddr::from(((0x2001_0db8_u128 << 96) | low).to_be_bytes())),
        any::<u32>().prop_map(|bits| IpAddr::from(bits.to_be_bytes())),
    ]
}

/// Whether `name` is `domain` or below it.
fn below(name: &str, domain: &str) -> bool {
    name == domain || name.ends_with(&format!(".{domain}"))
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn a_host_is_found_as_a_naive_scan_finds_it(
        names in btree_set(name(), 0..12),
        networks in btree_set(network(), 0..12),
        any_host in any::<bool>(),
        asleep in vec(any::<bool>(), 25),
        host in proptest::option::of(name()),
        shout in any::<bool>(),
        address in proptest::option::of(address()),
    ) {
        let mut index = Index::default();
        let side = index.side_mut(Side::Client);
        let mut keys: Vec<String> = Vec::new();
        for name in &names {
            side.insert(Key::Name(name), RuleId::new(keys.len())).unwrap();
            keys.push(name.clone());
        }
        for network in &networks {
            let parsed = Network::parse(&network.to_string()).unwrap().unwrap().network;
            side.insert(Key::Network(parsed), RuleId::new(keys.len())).unwrap();
            keys.push(parsed.to_string());
        }
        if any_host {
            side.insert(Key::Any, RuleId::new(keys.len())).unwrap();
            keys.push("*".to_owned());
        }
        let awake = |position: usize| !asleep[position];

        // The naive scan: of the names that cover the host, the longest; then of the networks that hold the
        // address, the longest; then `*`.
        let by_name = host.as_ref().and_then(|host| {
            let covering = names.iter().enumerate().filter(|(n, name)| awake(*n) && below(host, name));
            covering.max_by_key(|(_, name)| name.len()).map(|(n, _)| n)
        });
        let by_network = address.and_then(|address| {
            let holding = networks.iter().enumerate().map(|(n, net)| (n + names.len(), net));
            let holding = holding.filter(|(n, net)| awake(*n) && net.contains(&address));
            holding.max_by_key(|(_, net)| net.prefix_len()).map(|(n, _)| n)
        });
        let by_any = Some(keys.len().wrapping_sub(1)).filter(|n| any_host && awake(*n));
        let expected = by_name.or(by_network).or(by_any);

        // Told in whatever case, and with the root's dot.
        let told = host.map(|host| if shout { format!("{}.", host.to_uppercase()) } else { host });
        let subject = Subject::Host { name: told.as_deref(), address };
        let found = index.side(Side::Client).find(subject, |rule| if awake(rule.index()) { Standing::InForce } else { Standing::Absent });
        prop_assert_eq!(found.map(|found| found.rule.index()), expected);
        prop_assert_eq!(found.map(|found| found.key.to_string()), expected.map(|n| keys[n].clone()));

        // And what is told to explain it is the same way, key by key.
        let tried = index.side(Side::Client).candidates(subject);
        let first = tried.iter().find_map(|tried| tried.rule.filter(|rule| awake(rule.index())));
        prop_assert_eq!(first.map(RuleId::index), expected);
    }

    #[test]
    fn an_address_is_found_as_a_naive_scan_finds_it(
        keys in btree_set((proptest::option::of(select(vec!["u", "v", "u+x"])), name()), 0..16),
        any_address in any::<bool>(),
        local in select(vec!["u", "v", "U", "w", "u+x", "\"u@a\"", ""]),
        domain in proptest::option::of(name()),
    ) {
        let mut index = Index::default();
        let side = index.side_mut(Side::Recipient);
        let keys: Vec<_> = keys.into_iter().collect();
        let written = |(local, domain): &(Option<&str>, String)| match local {
            Some(local) => format!("{local}@{domain}"),
            None => domain.clone(),
        };
        for (n, key) in keys.iter().enumerate() {
            side.insert(Key::Name(&written(key)), RuleId::new(n)).unwrap();
        }
        if any_address {
            side.insert(Key::Any, RuleId::new(keys.len())).unwrap();
        }
        let told = match &domain {
            Some(domain) => format!("{local}@{}", domain.to_uppercase()),
            None => local.to_owned(),
        };
        // `"u@a"` alone is what a client may write: its domain is `a"`, and no key's.
        let whole = keys.iter().position(|(key, host)| {
            key.is_some_and(|key| key == local.to_lowercase()) && domain.as_ref() == Some(host)
        });
        let by_domain = domain.as_ref().and_then(|domain| {
            let covering = keys.iter().enumerate().filter(|(_, (key, host))| key.is_none() && below(domain, host));
            covering.max_by_key(|(_, (_, host))| host.len()).map(|(n, _)| n)
        });
        let expected = whole.or(by_domain).or(any_address.then_some(keys.len()));
        let found = index.side(Side::Recipient).find(Subject::Address(&told), |_| Standing::InForce);
        prop_assert_eq!(found.map(|Found { rule, .. }| rule.index()), expected);
    }
}
