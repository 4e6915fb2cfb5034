//! What is exported, to the letter.

mod map;

use super::*;
use crate::policy::lookup::{Index, RuleId};
use crate::policy::network::Network;
use crate::policy::requirement::{Attribute, CertificateName, Requirement, TlsVersion, Wanted};
use crate::policy::rule::{Exempt, Exemption, ModeEntry, Modes};

const DAY: Day = Day(20_000);

fn bits(bits: u16) -> Requirement {
    Requirement { min_bits: Some(bits), ..Requirement::default() }
}

fn entry(requirement: Requirement) -> ModeEntry {
    ModeEntry { requirement, ..ModeEntry::default() }
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
    assert_eq!(codes(&empty), ["harder-mode", "nothing-exported"]);
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
            "TLS_Clt:0 OK",
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

#[test]
fn this_host_is_exempt_without_an_address_too() {
    let exempt =
        |text| Exempt { networks: vec![Network::parse(text).unwrap().unwrap().network], ..nothing_exempt() };
    let rules = |side| vec![(side, &["a.example", "0.0.0.0/8"][..], enforcing("r", bits(128)))];
    for (network, side, line) in [
        ("127.0.0.1", Side::Client, Some("TLS_Clt:0 OK")),
        ("0.0.0.0/0", Side::Client, Some("TLS_Clt:0 OK")),
        ("127.0.0.2", Side::Client, Some("TLS_Clt:0 PERM+ENCR:128")),
        ("127.0.0.1", Side::Server, None),
    ] {
        let export = exported(&policy(exempt(network), rules(side)));
        let found = lines(&export).into_iter().find(|line| line.starts_with("TLS_Clt:0 "));
        assert_eq!(found.as_deref(), line, "{network} {side}");
        assert_eq!(
            export.block().contains("#   TLS_Clt:0 is this host too"),
            line == Some("TLS_Clt:0 OK"),
            "{network} {side}"
        );
    }
}

#[test]
fn what_has_ripened_beyond_the_mode_is_told() {
    let both = || {
        let mut rule = enforcing("both", bits(128));
        rule.modes.soft_fail = Some(entry(bits(256)));
        rule
    };
    let mut later = enforcing("later", bits(128));
    later.modes.enforce.as_mut().unwrap().from = Some(Day(DAY.0 + 1));
    let handshake = Requirement { handshake: true, ..Requirement::default() };
    let rules = vec![
        (Side::Client, &["a.example"][..], both()),
        (Side::Client, &["b.a.example"], enforcing("hard", bits(128))),
        (Side::Client, &["c.a.example"], later),
        (Side::Client, &["d.a.example"], enforcing("handshake", handshake)),
        (Side::Sender, &["e.example"], enforcing("sender", bits(128))),
    ];
    let policy = policy(nothing_exempt(), rules);
    let export = export(&policy, DAY, Mode::SoftFail, &BTreeSet::new());
    assert_eq!(codes(&export), ["harder-mode"]);
    let message = &export.diagnostics.iter().next().unwrap().message;
    assert!(message.starts_with("rule `hard` enforces and has no soft-fail"), "{message}");
}

#[test]
fn no_line_is_longer_than_makemap_takes() {
    let issuer = |length| CertificateName {
        attribute: Attribute::Issuer,
        wanted: Wanted::Is(format!("/O={}", "x".repeat(length))),
    };
    let names =
        |length| Requirement { verify: true, certificate: vec![issuer(length)], ..Requirement::default() };
    let below = Requirement {
        certificate: vec![CertificateName {
            wanted: Wanted::OneOf(vec!["/O=short".into(), format!("/O={}", "y".repeat(1100))]),
            ..issuer(1)
        }],
        ..names(1)
    };
    // `TLS_Clt:a.example`, a tab, `PERM+VERIFY+CI:/O=…`, and room for a carriage return.
    for (requirement, lines, errors) in [
        (names(1022 - 37), 1, &[][..]),
        (names(1022 - 36), 0, &["line-too-long"]),
        (below, 2, &["line-too-long"]),
    ] {
        let mut rule = enforcing("r", requirement);
        rule.comment = Some(format!("{} TLS_Clt:evil.example OK", "x".repeat(1020)));
        let export = exported(&policy(nothing_exempt(), vec![(Side::Client, &["a.example"], rule)]));
        assert_eq!((export.lines().count(), codes(&export)), (lines, errors.to_vec()));
        for line in export.block().lines() {
            assert!(line.len() < 1022, "{line}");
            let whose = ["#", "TLS_Clt:a.example\t", "EncrMilter1:/O="];
            assert!(whose.iter().any(|start| line.starts_with(start)), "{line}");
        }
    }
}
