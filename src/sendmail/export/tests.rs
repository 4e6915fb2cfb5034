//! What is exported, to the letter; and that a map of it does what the policy does, for random policies and hosts.

use super::*;
use crate::policy::decide::{Envelope, decide};
use crate::policy::facts::{Direction, Facts, Told};
use crate::policy::lookup::{Index, RuleId};
use crate::policy::network::{Network, parse_address};
use crate::policy::requirement::{Attribute, CertificateName, Requirement, TlsVersion, Wanted};
use crate::policy::rule::{Exempt, Exemption, ModeEntry, Modes};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

const DAY: Day = Day(20_000);

fn bits(bits: u16) -> Requirement {
    Requirement { min_bits: Some(bits), ..Requirement::default() }
}

fn entry(requirement: Requirement) -> ModeEntry {
    ModeEntry { requirement, from: None, percent: None }
}

fn named(name: &str) -> Rule {
    Rule { name: name.into(), ..Rule::default() }
}

fn enforcing(name: &str, requirement: Requirement) -> Rule {
    Rule { modes: Modes { enforce: Some(entry(requirement)), ..Modes::default() }, ..named(name) }
}

fn observing(name: &str) -> Rule {
    Rule { modes: Modes { observe: Some(entry(bits(256))), ..Modes::default() }, ..named(name) }
}

fn exempting(name: &str, until: Option<Day>) -> Rule {
    Rule { exemption: Some(Exemption { until, ..Exemption::default() }), ..named(name) }
}

/// A key as the policy file has it; `[…]` is a literal.
fn insert(index: &mut Index, side: Side, key: &str, id: usize) {
    let network = Network::parse(key).map(|parsed| parsed.unwrap().network);
    let key = match network {
        _ if key == "*" => Key::Any,
        Some(network) if key.starts_with('[') => Key::Literal(network),
        Some(network) => Key::Network(network),
        None => Key::Name(key),
    };
    // A key that another rule has stays that rule's.
    let _ = index.side_mut(side).insert(key, RuleId::new(id));
}

fn nothing_exempt() -> Exempt {
    Exempt { authenticated: false, networks: Vec::new(), recipients: Vec::new() }
}

fn policy(exempt: Exempt, rules: Vec<(Side, &[&str], Rule)>) -> Policy {
    let mut index = Index::default();
    for (id, (side, keys, _)) in rules.iter().enumerate() {
        keys.iter().for_each(|key| insert(&mut index, *side, key, id));
    }
    Policy::new(rules.into_iter().map(|(_, _, rule)| rule).collect(), index, exempt, None)
}

fn exported(policy: &Policy) -> Export {
    export(policy, DAY, Mode::Enforce, &BTreeSet::new())
}

fn lines(export: &Export) -> Vec<String> {
    export.lines().map(|(_, line)| format!("{} {}", line.key, line.value)).collect()
}

fn codes(export: &Export) -> Vec<&'static str> {
    export.diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

#[test]
fn a_block_says_whose_its_lines_are() {
    let mut rule = enforcing("partner", bits(168));
    rule.comment = Some("contract\n2026-114\u{7}".into());
    let policy = policy(
        nothing_exempt(),
        vec![(Side::Client, &["partner.example", "192.0.4.0/23", "[192.0.2.7]"], rule)],
    );
    assert_eq!(
        exported(&policy).block(),
        format!(
            "# BEGIN encr-milter: made by \"encr-milter access export\" from policy {}, mode enforce; do not edit below\n\
             # rule partner: enforce min-bits 168\n\
             #   contract 2026-114\n\
             TLS_Clt:partner.example\tPERM+ENCR:168\n\
             TLS_Clt:[192.0.2.7]\tPERM+ENCR:168\n\
             TLS_Clt:192.0.4\tPERM+ENCR:168\n\
             TLS_Clt:192.0.5\tPERM+ENCR:168\n\
             # END encr-milter\n",
            policy.fingerprint()
        )
    );
    let empty = export(&policy, DAY, Mode::SoftFail, &BTreeSet::new());
    assert!(
        empty.block().contains("\n# nothing of the policy is in mode soft-fail\n# END"),
        "{}",
        empty.block()
    );
    assert_eq!(codes(&empty), ["nothing-exported"]);
}

#[test]
fn each_side_has_its_tag_and_two_have_none() {
    let rule = |name| enforcing(name, bits(128));
    let policy = policy(
        nothing_exempt(),
        vec![
            (Side::Client, &["a.example"], rule("one")),
            (Side::Server, &["a.example"], rule("two")),
            (Side::RecipientOutbound, &["a.example", "u@a.example", "u@", "[IPv6:2001:db8]"], rule("three")),
            (Side::Sender, &["a.example"], rule("four")),
            (Side::Recipient, &["a.example"], rule("five")),
        ],
    );
    let export = exported(&policy);
    let expected = [
        "Clt:a.example",
        "Srv:a.example",
        "Rcpt:a.example",
        "Rcpt:u@",
        "Rcpt:u@a.example",
        "Rcpt:[IPv6:2001:db8]",
    ];
    assert_eq!(lines(&export), expected.map(|key| format!("TLS_{key} PERM+ENCR:128")));
    assert_eq!(codes(&export), ["not-in-a-map", "not-in-a-map"]);
    let messages: Vec<_> = export.diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect();
    assert!(
        messages[0].contains("sender keys of rule `four`")
            && messages[1].contains("recipient keys of rule `five`")
    );
}

#[test]
fn what_a_map_cannot_hold_is_told() {
    let version = |bits| Requirement {
        min_bits: bits,
        min_version: TlsVersion::from_policy("TLSv1.2"),
        ..Requirement::default()
    };
    let mut later = enforcing("later", bits(128));
    later.modes.enforce.as_mut().unwrap().from = Some(Day(DAY.0 + 1));
    let mut past = enforcing("past", bits(128));
    past.modes.enforce.as_mut().unwrap().from = Some(DAY);
    let one_of =
        CertificateName { attribute: Attribute::CommonName, wanted: Wanted::OneOf(vec!["a".into()]) };
    let names = Requirement { certificate: vec![one_of], ..bits(128) };
    for (rule, line, code) in [
        (enforcing("r", version(Some(128))), Some("PERM+ENCR:128"), "weaker-in-a-map"),
        (enforcing("r", version(None)), None, "not-in-a-map"),
        (enforcing("r", names), None, "not-in-a-map"),
        (later, None, "not-yet"),
        (past, Some("PERM+ENCR:128"), ""),
        (enforcing("r", Requirement { handshake: true, ..Requirement::default() }), None, ""),
    ] {
        let shown = format!("{rule:?}");
        let export = exported(&policy(nothing_exempt(), vec![(Side::Client, &["a.example"], rule)]));
        let expected: Vec<String> =
            line.map(|value| format!("TLS_Clt:a.example {value}")).into_iter().collect();
        assert_eq!(lines(&export), expected, "{shown}");
        let mut codes = codes(&export);
        codes.retain(|code| *code != "nothing-exported");
        assert_eq!(codes.first().copied().unwrap_or_default(), code, "{shown}");
        let weaker = "#   weaker than the rule: min-version TLSv1.2";
        assert_eq!(export.block().contains(weaker), code == "weaker-in-a-map", "{shown}");
    }
    let mut share = named("share");
    share.modes.soft_fail = Some(ModeEntry { percent: Some(25), ..entry(bits(128)) });
    let whole =
        Rule { modes: Modes { soft_fail: Some(entry(bits(128))), ..Modes::default() }, ..named("whole") };
    let soft = policy(
        nothing_exempt(),
        vec![(Side::Client, &["a.example"], share), (Side::Client, &["b.example"], whole)],
    );
    let export = export(&soft, DAY, Mode::SoftFail, &BTreeSet::new());
    assert_eq!(
        (lines(&export), codes(&export)),
        (vec!["TLS_Clt:b.example TEMP+ENCR:128".into()], vec!["not-in-a-map"])
    );
}

#[test]
fn a_network_of_too_many_lines_is_an_error_where_it_matters() {
    let demand = || (Side::Client, &["8000::/1"][..], enforcing("wide", bits(128)));
    assert_eq!(codes(&exported(&policy(nothing_exempt(), vec![demand()]))), ["too-many-lines"]);
    let shadow = || (Side::Client, &["8000::/1"][..], observing("wide"));
    let name = || (Side::Client, &["a.example"][..], enforcing("name", bits(128)));
    assert_eq!(codes(&exported(&policy(nothing_exempt(), vec![shadow(), name()]))), [] as [&str; 0]);
    let any = (Side::Client, &["*"][..], enforcing("any", bits(128)));
    assert_eq!(
        codes(&exported(&policy(nothing_exempt(), vec![shadow(), any]))),
        ["too-many-lines", "enforce-all"]
    );
    let quoted = (Side::RecipientOutbound, &["a b@c.example"][..], enforcing("quoted", bits(128)));
    assert_eq!(codes(&exported(&policy(nothing_exempt(), vec![quoted]))), ["key-not-in-a-map"]);
}

#[test]
fn a_shadow_has_a_line_where_it_matters_and_nowhere_else() {
    let demand = |keys| (Side::Client, keys, enforcing("demand", bits(128)));
    let shadow = |keys| (Side::Client, keys, observing("shadow"));
    for (demands, shadows, expected) in [
        // A parent, any network, a wider network, the default.
        (&["example"][..], &["a.example"][..], &["a.example"][..]),
        (&["192.0.2.0/24"], &["a.example"], &["a.example"]),
        (&["192.0.0.0/16"], &["192.0.2.0/24"], &["192.0.2"]),
        (&["*"], &["a.example", "10.0.0.0/8"], &["a.example", "10"]),
        (&["[192.0.2.7]"], &["[192.0.2.0/24]", "192.0.2.7"], &[]),
        (&["192.0.2.7"], &["[192.0.2.0/24]"], &["[192.0.2]"]),
        (&["192.0.2.0/24"], &["[192.0.2.7]"], &["[192.0.2.7]"]),
        // A child, a sibling, another family, what a shadow covers already.
        (&["a.example"], &["example", "b.example"], &[]),
        (&["192.0.2.0/24"], &["10.0.0.0/8", "192.0.0.0/16"], &[]),
        (&["a.example"], &["10.0.0.0/8", "*"], &[]),
        (&["example"], &["b.a.example", "a.example"], &["a.example"]),
    ] {
        let export = exported(&policy(nothing_exempt(), vec![demand(demands), shadow(shadows)]));
        let mut found: Vec<String> =
            lines(&export).into_iter().filter(|line| line.ends_with(" OK")).collect();
        let mut expected: Vec<String> = expected.iter().map(|key| format!("TLS_Clt:{key} OK")).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{demands:?} {shadows:?}");
        assert_eq!(export.block().contains("# rule shadow: nothing to enforce; OK, "), !expected.is_empty());
    }
}

#[test]
fn exemptions_and_skips_are_lines() {
    let lapsed = exempting("lapsed", Some(Day(DAY.0 - 1)));
    let skip = |name| Rule { skip: true, ..named(name) };
    let rules = || {
        vec![
            (Side::Client, &["example", "*"][..], enforcing("all", bits(128))),
            (Side::Client, &["a.example"], exempting("for-now", Some(DAY))),
            (Side::Client, &["b.example"], lapsed.clone()),
            (Side::Client, &["c.example", "10.0.0.0/8"], skip("skip")),
            (Side::RecipientOutbound, &["example"], enforcing("rcpt", bits(128))),
            (Side::RecipientOutbound, &["u@example", "d.example"], skip("skip-rcpt")),
        ]
    };
    let export = exported(&policy(nothing_exempt(), rules()));
    assert_eq!(
        lines(&export),
        [
            "TLS_Clt:example PERM+ENCR:128",
            "TLS_Clt: PERM+ENCR:128",
            "TLS_Clt:a.example OK",
            "TLS_Clt:c.example SKIP",
            "TLS_Clt:10 SKIP",
            "TLS_Rcpt:example PERM+ENCR:128",
            "TLS_Rcpt:d.example SKIP",
        ]
    );
    assert_eq!(codes(&export), ["enforce-all", "not-in-a-map", "exempt-until"]);
    let shown = export.block();
    assert!(shown.contains("# rule for-now: exempt, no reason given, until 2024-10-04\n"), "{shown}");
}

#[test]
fn the_exempt_of_the_policy_are_lines_where_a_map_can_hold_them() {
    let exempt = Exempt {
        authenticated: true,
        networks: ["127.0.0.0/8", "::1", "192.0.2.0/24"]
            .map(|text| Network::parse(text).unwrap().unwrap().network)
            .to_vec(),
        recipients: vec!["postmaster".into(), "u@a.example".into()],
    };
    let rules = vec![
        (
            Side::Client,
            &["192.0.2.7", "192.0.0.0/16", "[192.0.2.8]", "[192.0.0.0/16]"][..],
            enforcing("nets", bits(128)),
        ),
        (Side::Client, &["a.example"], enforcing("name", bits(128))),
        (
            Side::RecipientOutbound,
            &["a.example", "u@a.example", "postmaster@b.example"],
            enforcing("rcpt", bits(128)),
        ),
    ];
    let export = exported(&policy(exempt, rules));
    assert_eq!(
        lines(&export),
        [
            "TLS_Clt:[192.0.2] OK",
            "TLS_Clt:127 OK",
            "TLS_Clt:192.0.2 OK",
            "TLS_Clt:IPv6:0:0:0:0:0:0:0:1 OK",
            "TLS_Rcpt:postmaster@ OK",
            "TLS_Rcpt:u@a.example OK",
            "TLS_Clt:[192.0] PERM+ENCR:128",
            "TLS_Clt:192.0 PERM+ENCR:128",
            "TLS_Clt:a.example PERM+ENCR:128",
            "TLS_Rcpt:a.example PERM+ENCR:128",
        ]
    );
    assert_eq!(
        codes(&export),
        ["exempt-by-address", "exempt-authenticated", "exempt-recipients", "exempt-by-address"]
    );
}

#[test]
fn issuers_hang_below_a_tag_that_nobody_else_has() {
    let one_of = CertificateName {
        attribute: Attribute::Issuer,
        wanted: Wanted::OneOf(vec!["/O=One CA".into(), "/O=Two".into()]),
    };
    let names = Requirement { verify: true, certificate: vec![one_of], ..Requirement::default() };
    let policy = policy(
        nothing_exempt(),
        vec![
            (Side::Client, &["a.example"], enforcing("one", names.clone())),
            (Side::Client, &["b.example"], enforcing("two", names)),
        ],
    );
    let export = export(&policy, DAY, Mode::Enforce, &BTreeSet::from(["encrmilter2".to_owned()]));
    assert_eq!(
        lines(&export),
        [
            "TLS_Clt:a.example PERM+VERIFY+CITag:EncrMilter1",
            "EncrMilter1:/O=One+20CA OK",
            "EncrMilter1:/O=Two OK",
            "TLS_Clt:b.example PERM+VERIFY+CITag:EncrMilter3",
            "EncrMilter3:/O=One+20CA OK",
            "EncrMilter3:/O=Two OK",
        ]
    );
}

// ---- A map does what the policy does -------------------------------------------------------------------

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
const MAILS: [&str; 12] = [
    "a.example",
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
            client_resolve: Some(b"OK"),
            cipher_bits: Some(text.as_bytes()),
            verify: Some(if verified { b"OK" } else { b"NOT" }),
            ..Told::default()
        };
        // What is told not to be exported is not expected of the map.
        let failed = |facts: &Facts<'_>, envelope: Envelope<'_>, side: Side| {
            let decision = decide(&policy, facts, envelope, DAY);
            decision.failures.iter().any(|failure| {
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
            let told = Told { client_name: Some(name.as_bytes()), client_addr: Some(spelt.as_bytes()), client_resolve: Some(resolve), ..told };
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
            let envelope = Envelope { recipient: Some(&recipient), sender: None };
            prop_assert_eq!(
                fails(value, bits, verified), failed(&facts, envelope, Side::RecipientOutbound),
                "{}: {:?}\n{}", recipient, value, export.block()
            );
        }
    }
}
