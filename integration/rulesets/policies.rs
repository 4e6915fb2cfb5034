//! Policies by chance, of what an access map can hold: hosts, networks and recipients; bits, verification and names.
//!
//! Must not: ask for what sendmail has no word for (`min-version`, `percent`, `from`, senders).

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bt::{Case, Ruleset};
use super::generate;
use super::random::Random;

/// Prefix lengths of IPv6 networks that come to few keys: sendmail has one for each group of 16 bits.
const LENGTHS_V6: &[&str] = &["16", "29", "32", "46", "48", "61", "64", "125", "128"];

pub(crate) fn policy(random: &mut Random, ruleset: Ruleset) -> String {
    let side = match ruleset {
        Ruleset::Client => "client",
        Ruleset::Server => "server",
        Ruleset::Rcpt => "recipient-outbound",
    };
    let mut policy =
        "version = 1\n[exempt]\nauthenticated = false\nnetworks = []\nrecipients = []\n".to_owned();
    let mut taken = BTreeSet::new();
    for number in 0..3 + random.below(8) {
        let mut keys = Vec::new();
        for _ in 0..=random.below(4) {
            let key = key(random, ruleset);
            if taken.insert(key.to_ascii_lowercase()) {
                keys.push(format!("{key:?}"));
            }
        }
        let what = what(random);
        if what.starts_with("skip") {
            // To sendmail SKIP behind a mail address is no word; export says so, and leaves it out.
            keys.retain(|key| !key.contains('@'));
        }
        if !keys.is_empty() {
            let keys = keys.join(", ");
            let _ = write!(policy, "[[rule]]\nname = \"rule-{number}\"\n{side} = [{keys}]\n{what}");
        }
    }
    policy
}

fn key(random: &mut Random, ruleset: Ruleset) -> String {
    match (ruleset, random.below(100)) {
        (_, 0..8) => "*".to_owned(),
        (Ruleset::Rcpt, 8..30) => generate::recipient(random),
        (Ruleset::Rcpt, 30..45) => {
            random.pick(&["anna@", "anna+x@", "anna+*@", "bob@", "anna+*@partner.example"]).to_owned()
        }
        (Ruleset::Client | Ruleset::Server, 8..40) => network(random),
        (Ruleset::Client | Ruleset::Server, 40..50) => format!("[{}]", network(random)),
        _ => generate::parent(random),
    }
}

/// A network around one of the addresses, in CIDR notation without host bits.
fn network(random: &mut Random) -> String {
    let address = random.pick(generate::ADDRESSES).trim_start_matches("IPv6:");
    match address.parse() {
        Ok(IpAddr::V4(address)) => {
            let length = 5 + u32::try_from(random.below(28)).unwrap_or_default();
            let network = address.to_bits() & u32::MAX.checked_shl(32 - length).unwrap_or_default();
            format!("{}/{length}", Ipv4Addr::from_bits(network))
        }
        Ok(IpAddr::V6(address)) => {
            let length = random.pick(LENGTHS_V6).parse().unwrap_or(128);
            let network = address.to_bits() & u128::MAX.checked_shl(128 - length).unwrap_or_default();
            format!("{}/{length}", Ipv6Addr::from_bits(network))
        }
        Err(_) => address.to_owned(),
    }
}

/// What a rule says: an exemption, that the next kind of key be tried, or modes of which the harder never asks for more.
fn what(random: &mut Random) -> String {
    if random.percent(15) {
        return "exempt = { reason = \"an old relay\" }\n".to_owned();
    }
    if random.percent(8) {
        return "skip = true\n".to_owned();
    }
    let mut parts = Vec::new();
    if random.percent(30) {
        parts.push("verify = true".to_owned());
    }
    if random.percent(25) {
        parts.push(format!("cn = {}", random.pick(&["true", "\"mx.partner.example\"", "\"zz\""])));
    }
    if random.percent(15) {
        parts.push("cert-subject = \"/O=Rig+20CA/CN=mx\"".to_owned());
    }
    if random.percent(15) {
        parts.push("cert-issuer = \"/O=Rig+20CA\"".to_owned());
    }
    let with = |bits: &str| {
        let bits = format!("min-bits = {bits}");
        parts.iter().fold(bits, |all, part| format!("{all}, {part}"))
    };
    let soft = with(random.pick(&["168", "256"]));
    let hard = with(random.pick(&["1", "112", "128"]));
    match random.below(10) {
        0 => format!("observe = {{ {soft} }}\n"),
        1..4 => format!("soft-fail = {{ {soft} }}\n"),
        4..7 => format!("enforce = {{ {hard} }}\n"),
        _ => format!("soft-fail = {{ {soft} }}\nenforce = {{ {hard} }}\n"),
    }
}

/// A session, but none whose handshake failed: that sendmail refuses without any rule, and a policy only by one.
pub(crate) fn case(random: &mut Random, ruleset: Ruleset) -> Case {
    loop {
        let case = generate::case(random, ruleset);
        let is = |name, among: &[&str]| case.get(name).is_some_and(|value| among.contains(&value.as_str()));
        let told_nonsense = is("cipher_bits", generate::NO_NUMBERS) || is("auth_ssf", generate::NO_NUMBERS);
        if !told_nonsense && !is("verify", &["SOFTWARE", "PROTOCOL", "CONFIG", "DANE_FAIL"]) {
            return case;
        }
    }
}
