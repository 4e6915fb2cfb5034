//! Access maps and sessions by chance, from so few names and addresses that they meet often.
//!
//! Promises: what administrators really write is mixed with what looks right and is not; every macro has a value in
//! every case, if an empty one.

use std::fmt::Write;

use super::bt::{Case, Ruleset};
use super::random::Random;

#[rustfmt::skip]
const NAMES: &[&str] = &[
    "example", "partner.example", "mx.partner.example", "old.mx.partner.example", "other.example",
    "xn--mx-yka.example", "relay", "MX.Shouting.Example", "host-7.dial_up.test", "7.2.0.192.dial.test",
    "xn--bcher-kva.example",
];

#[rustfmt::skip]
pub(crate) const ADDRESSES: &[&str] = &[
    "192.0.2.7", "192.0.2.70", "192.0.3.7", "198.51.100.9", "10.1.2.3", "IPv6:2001:db8:0:0:0:0:0:25",
    "IPv6:2001:db8:0:7:0:0:0:9", "IPv6:2001:db80:0:0:0:0:0:1", "IPv6:fd00:0:0:0:0:0:0:2", "IPv6:0:0:0:0:0:0:0:1",
];

/// Most of these match nothing, or not what they seem to.
#[rustfmt::skip]
const ODD_KEYS: &[&str] = &[
    ".partner.example", "*.partner.example", "partner.example.", "EXAMPLE", "bücher.example", " partner.example",
    "192.0.2.0/24", "192.0.2.", "192.0.2.*", "192.0.02", "192.0.2.007", "192.0.2.7.9", "192.0.0/16", "*", "7", "0",
    "[192.0.2.7]", "[192.0.2]", "[192", "[192]", "[10.1.2.3]", "[partner.example]", "2001:db8::25", "IPv6:2001:db8::25",
    "IPv6:2001:db8::", "IPv6:2001:0db8", "IPv6", "IPv6:", "ipv6:2001:DB8", "IPV6:2001", "IPv6:2001:db8::/32",
    "[IPv6:2001:db8]", "[IPv6:2001:db8:0:0:0:0:0:25]", "[IPv6", "[IPv6]", "2001:db8:0:0:0:0:0:25",
    "anna@partner.example", "\"partner.example\"", "-", "example,", "partner..example",
];

#[rustfmt::skip]
const ODD_ADDRESSEES: &[&str] = &[
    "anna@", "anna+*@", "anna+x@", "anna+*@partner.example", "anna+x@partner.example", "ANNA@partner.EXAMPLE", "anna",
    "@partner.example", "anna@.partner.example", "anna@partner.example.", "<anna@partner.example>", "anna@*",
    "bob+*@other.example", "+*@partner.example", "b.o.b@partner.example",
];

/// Right-hand sides that are no plain rule, or are one though they do not look it.
#[rustfmt::skip]
const ODD_RULES: &[&str] = &[
    "encr:112", "Encr:112", "ENCR : 112", "ENCR: 112", "ENCR:112\r", "ENCR:0112", "ENCR:0x70", "ENCR:-5", "ENCR:+5",
    "ENCR:abc", "ENCR:1e3", "ENCR:112.5", "ENCR:99999999999", "ENCR:4294967296", "ENCR:2147483648", "ENCR:112 # note",
    "ENCR:112 note", "ENCR:112+", "ENCR:112+CN", "ENCR:112+CN+CN", "ENCR:112+FOO", "ENCR:112+FOO++CN:zz",
    "ENCR:112+CN:zz++FOO", "ENCR:112++CN:zz", "ENCR:112+CN:zz+", "ENCR:112+CN:zz++", "ENCR:112+CN:zz yy",
    "ENCR:112 + CN:zz", "ENCR:112+CN : zz", "ENCR:112+CN: zz yy", "ENCR:112+CN:", "ENCR:112+CS:",
    "ENCR:112+CN:zz++CS:/O=a", "temp+encr:112", "TEMP + ENCR : 112", "TEMP+PERM+ENCR:112", "FOO+ENCR:112",
    "TEMP ENCR:112", "ENCR", "ENCR128", "ENCR:", "ENCR:112bits", "VERIFY:", "VERIFY+CN", "VERIFY+", "VERIFY:112+CN:zz",
    "VERIFY:abc", "VERIFY 112", "ENCR+CN:zz", "ok", "Ok", "OK # note", "skip", "SKIP # note", "REJECT", "DISCARD",
    "ENCR:112:4", "ENCR:112(c)", "ENCR:112 (a comment)", "\"ENCR:112\"", "ENCR:112;", "ENCR:112,",
    "ENCR:112<x>", "<ENCR:112>", "ENCR:(x)112", "ENCR:112+CN:\"zz\"", "ENCR:112+CITag:ci", "ENCR:112+CN:zz++CITag:ci", "VERIFY+CITag:ci",
    "ENCR:112+CITag:none", "ENCR:112+CITag", "ENCR:112+CITag:ci:x", "RELAY", "TEMP+", "PERM+VERIFY",
    "TEMP+VERIFY:112+CI:/O=a", "ENCR:112@", "ENCR:1%", "ENCR:112\tx", "TEMP+OK", "ENCR:112+cn:zz", "ENCR:112+ci:/O=Rig+20CA",
    "ENCR:\u{661}", "ENCR:112é", "ENCR:1_2", "ENCR:112+CN:a.b", "ENCR:00", "ENCR:0", "ENCR:112+CN:zz+CS:/O=a",
    "ENCR:112 +CN:zz", "ENCR:112+ CN:zz", "ENCR:128ENCR:256", "ENCR=112", "ENCR:112 112", "ENCR:[112]", "ENCR:$112",
    "ENCR:\\112", "ENCR:'112'", "ENCR:112>", "ENCR:112+CN:zz>", "ENCR:112+CN>", "ENCR:112+CN:a>b", "ENCR:112+CN:a<b",
    "VERIFY>", "VERIFY<>", "ENCR:112<", "ENCR:!112", "ENCR:112/3", "ENCR:112+CN++CN", "ENCR:112+CN:zz++CN:yy",
    "ENCR:112+CS:/O=s++CI:/O=i", "a+ENCR:112", "+ENCR:112", "ENCR:112 OK", "PERM+ENCR:112 x", "TEMP+VERIFY x",
];

/// Where the handshake has failed, sendmail takes this value for `code:status` and makes an odd reply of it. It refuses
/// in any case, so this one is not asked of such sessions.
const NO_CODE: &str = "ERROR:5.7.1:550 no";

#[rustfmt::skip]
const EXTENSIONS: &[&str] = &[
    "CN", "CN:mx.partner.example", "CN:zz", "CN:Rig+20CA", "CS:/O=Rig+20CA/CN=mx", "CI:/O=Rig+20CA", "CITag:ci",
];

/// The issuers that `CITag:ci` names, and lines that are none of ours.
#[rustfmt::skip]
const NOISE: &[&str] = &[
    "ci:/O=Rig+20CA\tOK", "ci:/O=Odd\tREJECT", "ci:/O=Tail\tOK # x", "Connect:partner.example\tREJECT",
    "From:other.example\tERROR:5.7.1:550 no", "partner.example\tREJECT", "192.0.2\tRELAY", "# TLS_Clt:example\tENCR:256",
    "", "TLS_Clt:no.value", " TLS_Clt:example\tENCR:256", "Try_TLS:example\tNO", "tls:example\tENCR:256",
    "TLS_Clt\tENCR:256", "Srv_Features:192.0.2\tV",
];

#[rustfmt::skip]
const VERIFY: &[&str] = &[
    "OK", "OK", "OK", "OK", "OK", "OK", "TRUSTED", "NO", "NO", "NO", "NOT", "NOT", "NOT", "NOT", "NOT", "NOT", "FAIL",
    "FAIL", "FAIL", "NONE", "NONE", "CLEAR", "TEMP", "SOFTWARE", "PROTOCOL", "CONFIG", "DANE_FAIL", "", "ok", "fail",
    "Trusted", "BOGUS",
];
const BITS: &[&str] = &["", "0", "56", "112", "127", "128", "128", "168", "256", "256", "256"];
const LAYERS: &[&str] = &["", "", "", "", "0", "56", "128", "256", "abc"];
pub(crate) const NO_NUMBERS: &[&str] = &["abc", "0x80", "-1"];
const COMMON_NAMES: &[&str] = &["", "mx.partner.example", "MX.Partner.Example", "zz", "Rig+20CA", "other"];
const SUBJECTS: &[&str] = &["", "/O=Rig+20CA/CN=mx", "/o=rig+20ca/cn=MX", "/O=s"];
const ISSUERS: &[&str] = &["", "/O=Rig+20CA", "/o=rig+20ca", "/O=Odd", "/O=Tail", "/O=none", "/O=a"];

/// An access map's text.
pub(crate) fn map(random: &mut Random, ruleset: Ruleset) -> String {
    let mut lines = Vec::new();
    for _ in 0..10 + random.below(30) {
        let tag = cased(random, ruleset.tag());
        let key = match random.below(100) {
            0..8 => String::new(),
            8..30 if ruleset == Ruleset::Rcpt => random.pick(ODD_ADDRESSEES).to_owned(),
            30..50 if ruleset == Ruleset::Rcpt => recipient(random),
            8..25 => random.pick(ODD_KEYS).to_owned(),
            25..60 => prefix(random),
            _ => parent(random),
        };
        let between = random.pick(&["\t", " ", "\t\t", "  \t"]);
        let after = if random.percent(10) { random.pick(&[" ", "\t", "  "]) } else { "" };
        lines.push(format!("{tag}:{key}{between}{}{after}", rule(random)));
    }
    for _ in 0..random.below(8) {
        let noise = random.pick(NOISE).to_owned();
        lines.insert(random.below(lines.len()), noise);
    }
    lines.join("\n") + "\n"
}

/// A right-hand side.
fn rule(random: &mut Random) -> String {
    let plain = match random.below(100) {
        0..10 => return "OK".to_owned(),
        10..17 => return "SKIP".to_owned(),
        17..45 => return random.pick(ODD_RULES).to_owned(),
        45..60 => "VERIFY".to_owned(),
        60..70 => format!("VERIFY:{}", random.pick(&["112", "128", "256"])),
        _ => format!("ENCR:{}", random.pick(&["1", "112", "128", "168", "256", "257"])),
    };
    let class = random.pick(&["", "", "TEMP+", "PERM+", "PERM+"]);
    let mut extensions: Vec<&str> = Vec::new();
    while random.percent(25) {
        extensions.push(random.pick(EXTENSIONS));
    }
    // What import cannot say, and tells (exit code 65), is not asked: CN beside CN:name, demands behind CITag.
    if extensions.contains(&"CN") {
        extensions.retain(|extension| !extension.starts_with("CN:"));
    }
    extensions.sort_by_key(|extension| extension.starts_with("CITag"));
    let plus = if extensions.is_empty() { "" } else { "+" };
    format!("{class}{plain}{plus}{}", extensions.join("++"))
}

/// A name, or one that it lies under.
pub(crate) fn parent(random: &mut Random) -> String {
    let mut name = random.pick(NAMES);
    while random.percent(25) {
        name = name.split_once('.').map_or(name, |(_, parent)| parent);
    }
    cased(random, name)
}

/// An address, or one with fewer parts, as sendmail cuts it.
fn prefix(random: &mut Random) -> String {
    let mut address = random.pick(ADDRESSES);
    while random.percent(45) {
        address = address.rsplit_once(['.', ':']).map_or(address, |(start, _)| start);
    }
    let bracket = random.percent(15);
    let address = cased(random, address);
    if bracket { format!("[{address}]") } else { address }
}

fn cased(random: &mut Random, text: &str) -> String {
    match random.below(20) {
        0 => text.to_ascii_uppercase(),
        1 => text.to_ascii_lowercase(),
        _ => text.to_owned(),
    }
}

pub(crate) fn recipient(random: &mut Random) -> String {
    let local = random.pick(&["anna", "anna", "anna+x", "anna+", "bob", "b.o.b", "postmaster", "Anna"]);
    format!("{local}@{}", host(random))
}

/// A host's name: one of the names, or below one.
fn host(random: &mut Random) -> String {
    let below = random.pick(&["", "", "mx1.", "a.b."]);
    let name = random.pick(NAMES);
    cased(random, &format!("{below}{name}"))
}

/// A session that this ruleset is asked of.
pub(crate) fn case(random: &mut Random, ruleset: Ruleset) -> Case {
    let address = random.pick(ADDRESSES).to_owned();
    let named = random.percent(60);
    let name = if named { host(random) } else { format!("[{address}]") };
    let resolve = if named { "OK" } else { random.pick(&["FAIL", "FORGED", "TEMP"]) };
    let bits = if random.percent(4) { NO_NUMBERS } else { BITS };
    let mut case = Case::from([
        ("verify", random.pick(VERIFY).to_owned()),
        ("cipher_bits", random.pick(bits).to_owned()),
        ("auth_ssf", random.pick(LAYERS).to_owned()),
        ("cn_subject", random.pick(COMMON_NAMES).to_owned()),
        ("cert_subject", random.pick(SUBJECTS).to_owned()),
        ("cert_issuer", random.pick(ISSUERS).to_owned()),
    ]);
    case.extend(match ruleset {
        Ruleset::Client => {
            vec![("client_name", name), ("client_addr", address), ("client_resolve", resolve.to_owned())]
        }
        Ruleset::Server => vec![("server_name", name), ("server_addr", address)],
        Ruleset::Rcpt => {
            let recipient = match random.below(20) {
                0 => "anna".to_owned(),
                1 => format!("anna@[{address}]"),
                _ => recipient(random),
            };
            vec![("server_name", name), ("server_addr", address), ("recipient", recipient)]
        }
    });
    case
}

/// Every odd right-hand side on a host of its own, and sessions that each of them is asked of.
pub(crate) fn every_odd_rule() -> (String, Vec<Case>) {
    let mut map = "ci:/O=Rig+20CA\tOK\nci:/O=Odd\tREJECT\n".to_owned();
    let mut cases = Vec::new();
    for (number, rule) in ODD_RULES.iter().chain([&NO_CODE]).enumerate() {
        let name = format!("h{number}.example");
        let _ = writeln!(map, "TLS_Clt:{name}\t{rule}");
        for (verify, bits, cn, subject, issuer) in [
            ("", "", "", "", ""),
            ("NOT", "4", "", "", ""),
            ("NOT", "74", "", "", ""),
            ("NO", "128", "cc", "/O=s", "/O=i"),
            ("OK", "256", "zz", "/O=s", "/O=i"),
            ("OK", "256", "zz", "/O=a", "/O=Rig+20CA"),
            ("OK", "256", &name, "/O=a", "/O=Odd"),
            ("OK", "abc", "zz", "/O=a", "/O=a"),
            ("BOGUS", "256", "zz", "/O=a", "/O=a"),
        ] {
            cases.push(Case::from([
                ("verify", verify.to_owned()),
                ("cipher_bits", bits.to_owned()),
                ("auth_ssf", String::new()),
                ("cn_subject", cn.to_owned()),
                ("cert_subject", subject.to_owned()),
                ("cert_issuer", issuer.to_owned()),
                ("client_name", name.clone()),
                ("client_addr", "192.0.2.7".to_owned()),
                ("client_resolve", "OK".to_owned()),
            ]));
        }
    }
    (map, cases)
}
