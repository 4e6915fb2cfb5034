//! A map does what the policy does, for random policies and hosts.

use super::*;
use crate::policy::decide::{Envelope, decide};
use crate::policy::facts::{Direction, Facts, Told};
use crate::policy::network::parse_address;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// sendmail's lookup, in the plainest way there is: a line's value, or that there is none.
struct Map(HashMap<String, String>);

impl Map {
    fn of(export: &Export) -> Self {
        let mut map = HashMap::new();
        for (_, line) in export.lines() {
            let taken = map.insert(line.key.to_ascii_lowercase(), line.value.clone());
            assert_eq!(taken, None, "{} stands twice", line.key);
        }
        Self(map)
    }

    fn stage(&self, tag: &str, keys: impl Iterator<Item = String>) -> Option<&str> {
        let mut hits = keys.filter_map(|key| self.0.get(&format!("{tag}:{key}").to_ascii_lowercase()));
        hits.next().map(String::as_str).filter(|value| *value != "SKIP")
    }

    fn domain(&self, tag: &str, name: &str) -> Option<&str> {
        match name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
            Some(address) => self.stage(tag, cut(address).map(|prefix| format!("[{prefix}]"))),
            None => {
                let labels: Vec<&str> = name.split('.').collect();
                self.stage(tag, (0..labels.len()).map(|from| labels[from..].join(".")))
            }
        }
    }

    fn default(&self, tag: &str) -> Option<&str> {
        self.stage(tag, std::iter::once(String::new()))
    }

    fn host(&self, tag: &str, name: &str, address: &str) -> Option<&str> {
        let found = self.domain(tag, name).or_else(|| self.stage(tag, cut(address)));
        found.or_else(|| self.default(tag))
    }

    fn recipient(&self, address: &str) -> Option<&str> {
        let tag = "TLS_Rcpt";
        let (local, domain) = address.rsplit_once('@').unwrap();
        let mut locals = vec![local.to_owned()];
        if let Some((user, _)) = local.split_once('+') {
            locals.extend([format!("{user}+*"), user.to_owned()]);
        }
        let at = |domain: &str| locals.iter().map(|local| format!("{local}@{domain}")).collect::<Vec<_>>();
        let found = self.stage(tag, at(domain).into_iter()).or_else(|| self.stage(tag, at("").into_iter()));
        found.or_else(|| self.domain(tag, domain)).or_else(|| self.default(tag))
    }
}

/// An address and its prefixes, each one group shorter.
fn cut(address: &str) -> impl Iterator<Item = String> + '_ {
    std::iter::successors(Some(address.to_owned()), |text| {
        text.rfind(['.', ':']).map(|end| text[..end].to_owned())
    })
}

/// As sendmail tells it.
fn spelt(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            format!("IPv6:{}", v6.segments().map(|group| format!("{group:x}")).join(":"))
        }
    }
}

fn fails(value: Option<&str>, bits: u16, verified: bool) -> bool {
    match value.map(rhs::parse) {
        Some(rhs::Value::Demand(demand)) => {
            demand.bits.is_some_and(|need| i64::from(bits) < need.number) || demand.verify && !verified
        }
        _ => false,
    }
}

const NAMES: [&str; 5] = ["c.b.a.example", "b.a.example", "a.example", "example", "other.test"];
const NETWORKS: [&str; 20] = [
    "0.0.0.0/0",
    "10.0.0.0/7",
    "10.0.0.0/8",
    "10.0.0.0/9",
    "10.0.0.0/14",
    "10.1.0.0/16",
    "10.1.2.0/23",
    "10.1.2.0/24",
    "10.1.2.128/25",
    "10.1.2.130/31",
    "10.1.2.130",
    "10.3.0.0/17",
    "::/0",
    "2001:db8::/31",
    "2001:db8::/32",
    "2001:db8::/44",
    "2001:db8::/47",
    "2001:db8:1::/48",
    "2001:db8:0:4::/62",
    "2001:db8::1",
];
const MAILS: [&str; 13] = [
    "a.example",
    "u@[10.1.2.130]",
    "example",
    "b.a.example",
    "u@a.example",
    "u+x@a.example",
    "u+*@a.example",
    "u@",
    "u+x@",
    "u+*@",
    "v@a.example",
    "v@",
    "w@example",
];

fn random_rule(kind: u8, least: u16) -> Rule {
    let demand = entry(Requirement { verify: kind % 2 == 1, ..bits(least) });
    let later = ModeEntry { from: Some(Day(DAY.0 + 1)), ..demand.clone() };
    let mut rule = named("r");
    match kind {
        0 => rule.skip = true,
        1 => rule.exemption = Some(Exemption::default()),
        2 => {
            rule.exemption = Some(Exemption { until: Some(Day(DAY.0 - 1)), ..Exemption::default() });
        }
        3 => rule.modes.observe = Some(demand),
        4 => rule.modes.enforce = Some(later),
        5 => (rule.modes.observe, rule.modes.enforce) = (Some(demand), Some(later)),
        6 => rule.modes.soft_fail = Some(demand),
        7 => rule.modes.soft_fail = Some(ModeEntry { percent: Some(30), ..demand }),
        _ => rule.modes.enforce = Some(demand),
    }
    rule
}

/// Rules, and whose each key of the pools is.
fn random_policy() -> impl Strategy<Value = Policy> {
    let rules = vec((0u8..13, select(vec![112u16, 128, 256])), 1..7);
    let pool = |pool: &'static [&'static str], most: usize| subsequence(pool.to_vec(), 0..=most);
    let owners = vec(any::<proptest::sample::Index>(), 80);
    (
        rules,
        pool(&NAMES, 4),
        pool(&NETWORKS, 12),
        pool(&NETWORKS, 6),
        pool(&MAILS, 8),
        any::<[bool; 3]>(),
        owners,
        pool(&NETWORKS, 2),
        pool(&["v", "w@example", "postmaster"], 2),
    )
        .prop_map(|(rules, names, networks, literals, mails, defaults, owners, exempt, recipients)| {
            let rules: Vec<Rule> = rules.into_iter().map(|(kind, bits)| random_rule(kind, bits)).collect();
            let mut index = Index::default();
            let mut owners = owners.iter().cycle().map(|owner| owner.index(rules.len()));
            let in_brackets: Vec<String> = literals.iter().map(|literal| format!("[{literal}]")).collect();
            let any = |wanted: bool| wanted.then_some("*");
            let hosts =
                || names.iter().chain(&networks).copied().chain(in_brackets.iter().map(String::as_str));
            for key in hosts().chain(any(defaults[0])) {
                insert(&mut index, Side::Client, key, owners.next().unwrap());
            }
            for key in hosts().chain(any(defaults[1])) {
                insert(&mut index, Side::Server, key, owners.next().unwrap());
            }
            let literals = in_brackets.iter().map(String::as_str);
            for key in mails.iter().copied().chain(literals).chain(any(defaults[2])) {
                let owner = owners.next().unwrap();
                // A skip of whole addresses is told to be missing.
                if !(key.contains('@') && rules[owner].skip) {
                    insert(&mut index, Side::RecipientOutbound, key, owner);
                }
            }
            let exempt = Exempt {
                authenticated: false,
                networks: exempt.iter().map(|text| Network::parse(text).unwrap().unwrap().network).collect(),
                recipients: recipients.into_iter().map(str::to_owned).collect(),
            };
            Policy::new(rules, index, exempt, None)
        })
}

fn random_address() -> impl Strategy<Value = IpAddr> {
    let v4 = (9u8..12, 0u8..5, 0u8..4, 126u8..132).prop_map(|(a, b, c, d)| IpAddr::from([a, b, c, d]));
    let v6 = (0xdb7u16..0xdba, select(vec![0u16, 1, 2, 16, 17]), 0u16..9, 0u16..2)
        .prop_map(|(a, b, c, d)| IpAddr::from(Ipv6Addr::new(0x2001, a, b, c, 0, 0, 0, d)));
    prop_oneof![3 => v4, 2 => v6]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_map_fares_with_everyone_as_the_policy_does(
        policy in random_policy(),
        mode in select(vec![Mode::Enforce, Mode::SoftFail]),
        hosts in vec((proptest::option::of(select(NAMES.to_vec())), random_address()), 24),
        mails in vec((select(vec!["u", "u+x", "u+y", "v", "v+x", "w", "x"]), select(vec!["a.example", "b.a.example", "example", "other.test", "[10.1.2.130]", "[10.9.9.9]", "[IPv6:2001:db8:0:0:0:0:0:1]"])), 12),
        bits in select(vec![0u16, 112, 128, 256]),
        verified in any::<bool>(),
    ) {
        let export = export(&policy, DAY, mode, &BTreeSet::new());
        prop_assert!(!export.diagnostics.has_errors());
        let map = Map::of(&export);
        let text = bits.to_string();
        let told = Told {
            peer_resolve: Some(b"OK"),
            cipher_bits: Some(text.as_bytes()),
            verify: Some(if verified { b"OK" } else { b"NOT" }),
            ..Told::default()
        };
        // What is told not to be exported is not expected of the map.
        let failed = |facts: &Facts<'_>, envelope: Envelope<'_>, side: Side| {
            let decision = decide(&policy, facts, envelope, DAY);
            decision.failures().any(|failure| {
                let entry = failure.rule.modes.get(mode).filter(|entry| entry.percent.is_none());
                failure.side == side && failure.mode == mode && entry.is_some()
            })
        };
        for (name, address) in &hosts {
            let exempt = policy.exempt().networks.iter().any(|network| network.contains(*address));
            if exempt && name.is_some() {
                continue;
            }
            let spelt = spelt(*address);
            let name = name.map_or_else(|| format!("[{spelt}]"), str::to_owned);
            let resolve: &[u8] = if name.starts_with('[') { b"FAIL" } else { b"OK" };
            let told = Told { peer_name: Some(name.as_bytes()), peer_addr: Some(spelt.as_bytes()), peer_resolve: Some(resolve), ..told };
            let mut facts = Facts::inbound(&told);
            for (side, direction) in [(Side::Client, Direction::Inbound), (Side::Server, Direction::Outbound)] {
                facts.direction = direction;
                let value = map.host(tag_of(side).unwrap(), &name, &spelt);
                prop_assert_eq!(
                    fails(value, bits, verified), failed(&facts, Envelope::default(), side),
                    "{} {} {}: {:?}\n{}", side, name, spelt, value, export.block()
                );
            }
        }
        for (local, domain) in &mails {
            let recipient = format!("{local}@{domain}");
            let base = format!("{}@{domain}", local.split('+').next().unwrap());
            let exempt = policy.exempt().recipients.iter().any(|listed| base.starts_with(&format!("{listed}@")) || *listed == base);
            if exempt && local.contains('+') {
                continue;
            }
            let facts = Facts { direction: Direction::Outbound, peer_ip: parse_address("198.18.0.1"), ..Facts::inbound(&told) };
            if facts.peer_ip.is_some_and(|ip| policy.exempt().networks.iter().any(|network| network.contains(ip))) {
                continue;
            }
            let value = map.recipient(&recipient);
            let envelope = Envelope { recipient: Some(&recipient), ..Envelope::default() };
            prop_assert_eq!(
                fails(value, bits, verified), failed(&facts, envelope, Side::RecipientOutbound),
                "{}: {:?}\n{}", recipient, value, export.block()
            );
        }
    }
}
