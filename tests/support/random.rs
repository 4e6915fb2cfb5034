//! Random policies, and random connections and envelopes to hold them against.
//!
//! Promises: what an MTA and a client may really say is frequent, and what nobody says is among it.

use super::load_text;
use encr_milter::policy::Policy;
use encr_milter::policy::decide::Envelope;
use encr_milter::policy::record::Record;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index as Pick, select};
use std::fmt::Write;

const CLIENTS: [&str; 10] = [
    "partner.example",
    "mx.partner.example",
    "example",
    "192.0.2.0/24",
    "192.0.2.7",
    "2001:db8::/32",
    "[192.0.2.0/24]",
    "[2001:db8::/32]",
    "b\u{fc}cher.example",
    "*",
];
const MAILS: [&str; 6] =
    ["partner.example", "u@partner.example", "sub.partner.example", "example", "other.test", "*"];

/// One mode's demand, as TOML.
fn demand() -> impl Strategy<Value = String> {
    let bits = proptest::option::of(select(vec![0u16, 1, 56, 112, 128, 168, 256, 1024]));
    let version = proptest::option::of(select(vec!["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]));
    let verify = proptest::option::weighted(0.2, Just(true));
    let cn = proptest::option::weighted(
        0.15,
        select(vec!["true", "\"mx.partner.example\"", "\"100% (x)\"", "[]"]),
    );
    let subject = proptest::option::weighted(0.1, select(vec!["/CN=mx", "/O=\u{c9}%s/CN=(x)"]));
    let issuer =
        proptest::option::weighted(0.1, select(vec!["\"/CN=Rig+20CA\"", "[\"/CN=X\", \"/CN=Rig CA\"]"]));
    let handshake = proptest::option::weighted(0.1, Just("true"));
    let from = proptest::option::weighted(0.15, select(vec!["2020-01-01", "2026-11-18", "2026-11-19"]));
    (bits, version, verify, cn, subject, issuer, handshake, from).prop_map(
        |(bits, version, verify, cn, subject, issuer, handshake, from)| {
            let mut parts = Vec::new();
            parts.extend(bits.map(|bits| format!("min-bits = {bits}")));
            parts.extend(version.map(|version| format!("min-version = \"{version}\"")));
            parts.extend(verify.map(|verify| format!("verify = {verify}")));
            parts.extend(cn.map(|cn| format!("cn = {cn}")));
            parts.extend(subject.map(|subject| format!("cert-subject = \"{subject}\"")));
            parts.extend(issuer.map(|issuer| format!("cert-issuer = {issuer}")));
            parts.extend(handshake.map(|handshake| format!("handshake = {handshake}")));
            if parts.is_empty() {
                parts.push("min-bits = 128".to_owned());
            }
            parts.extend(from.map(|from| format!("from = {from}")));
            parts.join(", ")
        },
    )
}

#[derive(Clone, Debug)]
struct RuleText {
    modes: [Option<String>; 3],
    percent: Option<u8>,
    exempt: bool,
    skip: bool,
}

fn rule_text() -> impl Strategy<Value = RuleText> {
    let mode = || proptest::option::of(demand());
    (mode(), mode(), mode(), proptest::option::weighted(0.3, 0u8..=100), any::<u8>()).prop_map(
        |(observe, soft_fail, enforce, percent, luck)| {
            let modes = [observe, soft_fail, enforce];
            let exempt = luck < 30 || modes.iter().all(Option::is_none);
            RuleText { modes, percent, exempt, skip: luck > 235 }
        },
    )
}

pub(crate) const MODES: [&str; 3] = ["observe", "soft-fail", "enforce"];

/// A policy as its file says it. `allowed` are the modes that its rules may have.
pub(crate) fn policy_text(allowed: &'static [&'static str]) -> impl Strategy<Value = String> {
    let keys = |pool: &'static [&'static str]| btree_map(select(pool), any::<Pick>(), 0..5);
    (
        vec(rule_text(), 0..5),
        keys(&CLIENTS),
        keys(&MAILS),
        keys(&MAILS),
        proptest::option::of("[ -~]{1,200}"),
        any::<bool>(),
        "\\PC{1,40}",
    )
        .prop_map(move |(rules, clients, senders, recipients, contact, authenticated, suffix)| {
            let mut text = format!("version = 1\n[exempt]\nauthenticated = {authenticated}\n");
            let quoted = |value: &str| toml::Value::String(value.to_owned()).to_string();
            if let Some(contact) = contact {
                writeln!(text, "[reply]\ncontact = {}", quoted(&contact)).unwrap();
            }
            for (n, rule) in rules.iter().enumerate() {
                writeln!(text, "[[rule]]\nname = {}", quoted(&format!("{n}{suffix}"))).unwrap();
                let mut keyed = false;
                for (side, keys) in [("client", &clients), ("sender", &senders), ("recipient", &recipients)] {
                    let own: Vec<_> = keys.iter().filter(|(_, pick)| pick.index(rules.len()) == n).collect();
                    let own: Vec<_> = own.iter().map(|(key, _)| quoted(key)).collect();
                    keyed |= !own.is_empty();
                    writeln!(text, "{side} = [{}]", own.join(", ")).unwrap();
                }
                if !keyed {
                    // A rule needs a key; this one is nobody's.
                    writeln!(text, "server = [\"host{n}.test\"]").unwrap();
                }
                if rule.skip {
                    writeln!(text, "skip = true").unwrap();
                    continue;
                }
                let mut modes = 0;
                for (mode, demand) in MODES.iter().zip(&rule.modes) {
                    if let Some(demand) = demand.as_ref().filter(|_| allowed.contains(mode)) {
                        let percent = rule.percent.filter(|_| *mode == "soft-fail");
                        let percent =
                            percent.map_or(String::new(), |percent| format!(", percent = {percent}"));
                        writeln!(text, "{mode} = {{ {demand}{percent} }}").unwrap();
                        modes += 1;
                    }
                }
                if rule.exempt || modes == 0 {
                    writeln!(text, "exempt = {{ reason = \"x\" }}").unwrap();
                }
            }
            text
        })
}

pub(crate) fn compiled(text: &str) -> Policy {
    let loaded = load_text(text.as_bytes());
    let shown = loaded.diagnostics.render(&loaded.sources, false);
    loaded.policy.unwrap_or_else(|| panic!("{shown}\n{text}"))
}

/// What an MTA told, owned.
pub(crate) type Pairs = Vec<(&'static str, Vec<u8>)>;

fn bytes(values: &'static [&'static str]) -> BoxedStrategy<Vec<u8>> {
    prop_oneof![
        8 => select(values).prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(1u8.., 0..12),
    ]
    .boxed()
}

/// Macros as sendmail has them, and here and there as nobody has them.
fn told_pairs() -> impl Strategy<Value = Pairs> {
    let all: [(&'static str, f64, BoxedStrategy<Vec<u8>>); 15] = [
        ("i", 0.9, bytes(&["4AMB1xyz", "A\nB", ""])),
        ("j", 0.9, bytes(&["mail.example.org"])),
        (
            "{client_addr}",
            0.9,
            bytes(&[
                "192.0.2.7",
                "198.51.100.1",
                "IPv6:2001:db8:0:0:0:0:0:25",
                "127.0.0.1",
                "0",
                "somewhere",
            ]),
        ),
        (
            "{client_name}",
            0.8,
            bytes(&[
                "mx.partner.example",
                "PARTNER.example.",
                "[192.0.2.7]",
                "xn--bcher-kva.example",
                "evil.test",
            ]),
        ),
        ("{client_resolve}", 0.8, bytes(&["OK", "OK", "OK", "FORGED", "FAIL", "TEMP"])),
        (
            "{tls_version}",
            0.6,
            bytes(&["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3", "TLSv1.4", "SSLv3", "QUIC"]),
        ),
        ("{cipher}", 0.6, bytes(&["TLS_AES_128_GCM_SHA256", "DES-CBC3-SHA"])),
        (
            "{cipher_bits}",
            0.6,
            bytes(&["0", "00", "112", "128", "256", "1024", "1025", "abc", "-1", "99999999999999999999", ""]),
        ),
        (
            "{verify}",
            0.7,
            bytes(&["OK", "NO", "NOT", "FAIL", "NONE", "CLEAR", "TEMP", "SOFTWARE", "TRUSTED"]),
        ),
        ("{cn_subject}", 0.5, bytes(&["", "mx.partner.example", "100% (x)", "MX.partner.example"])),
        ("{cert_subject}", 0.5, bytes(&["", "/CN=mx", "/O=\u{c9}%s/CN=(x)", "/CN=a+0Ab"])),
        ("{cert_issuer}", 0.5, bytes(&["", "/CN=Rig+20CA", "/CN=Rig CA"])),
        ("{auth_type}", 0.1, bytes(&["PLAIN", ""])),
        ("{auth_authen}", 0.1, bytes(&["user", ""])),
        ("{auth_ssf}", 0.2, bytes(&["0", "56", "128", "256", "many"])),
    ];
    let options: Vec<_> = all
        .into_iter()
        .map(|(name, weight, value)| {
            proptest::option::weighted(weight, value.prop_map(move |value| (name, value)))
        })
        .collect();
    options.prop_map(|pairs| pairs.into_iter().flatten().collect())
}

pub(crate) fn payload(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, value) in pairs {
        payload.extend_from_slice(name.as_bytes());
        payload.push(0);
        payload.extend_from_slice(value);
        payload.push(0);
    }
    payload
}

fn mail_address() -> impl Strategy<Value = String> {
    prop_oneof![
        10 => select(vec![
            "<u@partner.example>", "<v@Sub.Partner.Example.>", "<w@other.test>", "<>", "<postmaster>", "<postmaster@x>",
            "u@partner.example", "<@a,@b:u@partner.example>", "<u@b\u{fc}cher.example>", "<nobody>", "<a@b@partner.example>",
        ]).prop_map(str::to_owned),
        2 => select(vec![
            "<<u@partner.example>>", "< u@partner.example >", "<@a:@b:u@partner.example>", "<@a:<u@partner.example>>", "<>>",
            " <  <> > ", "<@a>", "", "@", "<u@>", "<\"u@x\"@partner.example>",
            "<u@partner.example(c)>", "(c)<u@partner.example>", "<u(c)@partner(d).example>", "<(c)>", "<u@partner.example>(",
        ]).prop_map(str::to_owned),
        1 => "\\PC{0,20}",
        1 => ".{0,20}",
    ]
}

/// A message or recipient.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) pairs: Pairs,
    pub(crate) sender: Option<String>,
    pub(crate) recipient: Option<String>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.sender, self.recipient)?;
        for (name, value) in &self.pairs {
            write!(f, " {name}=\"{}\"", value.escape_ascii())?;
        }
        Ok(())
    }
}

impl Case {
    pub(crate) fn envelope(&self) -> Envelope<'_> {
        Envelope {
            sender: self.sender.as_deref(),
            recipient: self.recipient.as_deref(),
            ..Envelope::default()
        }
    }
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    (told_pairs(), proptest::option::weighted(0.95, mail_address()), proptest::option::of(mail_address()))
        .prop_map(|(pairs, sender, recipient)| Case { pairs, sender, recipient })
}

/// A record as the file of decisions has it.
pub(crate) fn line(record: &Record<'_>) -> String {
    let mut out = Vec::new();
    record.write_json(&mut out);
    String::from_utf8(out).unwrap()
}
