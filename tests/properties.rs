//! What holds for every policy and every connection, tried on random ones: decisions, replies, records.
//!
//! Promises: the cases are bounded, so that all of it runs in seconds. A failure prints the smallest case
//! that shows it; nothing is written into the source tree.
//!
//! Must not: know how the program does it. What is expected is reckoned here in the plainest way there is.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use encr_milter::milter::macros;
use encr_milter::policy::decide::{Decision, Disposition, Envelope, Verdict, decide};
use encr_milter::policy::facts::Facts;
use encr_milter::policy::record::Record;
use encr_milter::policy::rule::Mode;
use encr_milter::policy::{Day, Policy};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index as Pick, select};
use std::fmt::Write;
use support::{NOW, load_text};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn today() -> Day {
    Day::of_unix_seconds(NOW.as_second())
}

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

const MODES: [&str; 3] = ["observe", "soft-fail", "enforce"];

/// A policy as its file says it. `allowed` are the modes that its rules may have.
fn policy_text(allowed: &'static [&'static str]) -> impl Strategy<Value = String> {
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

fn compiled(text: &str) -> Policy {
    let loaded = load_text(text.as_bytes());
    let shown = loaded.diagnostics.render(&loaded.sources, false);
    loaded.policy.unwrap_or_else(|| panic!("{shown}\n{text}"))
}

/// What an MTA told, owned.
type Pairs = Vec<(&'static str, Vec<u8>)>;

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

fn payload(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
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
struct Case {
    pairs: Pairs,
    sender: Option<String>,
    recipient: Option<String>,
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
    fn envelope(&self) -> Envelope<'_> {
        Envelope {
            sender: self.sender.as_deref(),
            recipient: self.recipient.as_deref(),
            ..Envelope::default()
        }
    }
}

fn case() -> impl Strategy<Value = Case> {
    (told_pairs(), proptest::option::weighted(0.95, mail_address()), proptest::option::of(mail_address()))
        .prop_map(|(pairs, sender, recipient)| Case { pairs, sender, recipient })
}

fn rank(disposition: Disposition) -> u8 {
    match disposition {
        Disposition::Accept => 0,
        Disposition::Tempfail => 1,
        Disposition::Reject => 2,
    }
}

/// What sendmail lets through unharmed, and what the design asks for.
fn fits(decision: &Decision<'_>) -> Result<(), TestCaseError> {
    let Some(reply) = &decision.reply else {
        prop_assert_eq!(decision.disposition, Disposition::Accept);
        return Ok(());
    };
    let (wire, shown) = (reply.wire(), reply.to_string());
    prop_assert!(wire.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'(' && b != b')'), "{wire}");
    prop_assert!(wire.len() <= 980, "{} bytes: {wire}", wire.len());
    prop_assert!(shown.len() <= 512, "{} bytes: {shown}", shown.len());
    // Every `%` is doubled, and nothing else is: what sendmail makes of it is what is shown.
    prop_assert_eq!(wire.replace("%%", ""), wire.replace('%', ""));
    prop_assert_eq!(wire.replace("%%", "%"), &*shown);
    let (class, status, done) = (&wire[..1], &wire[4..6], decision.disposition);
    let expected = if done == Disposition::Tempfail { ("4", "4.") } else { ("5", "5.") };
    prop_assert_eq!((class, status), expected, "{}", wire);
    prop_assert_ne!(done, Disposition::Accept);
    let code = wire.split(' ').take(2).collect::<Vec<_>>().join(" ");
    prop_assert!(["454 4.7.0", "550 5.7.10", "554 5.7.0"].contains(&code.as_str()), "{wire}");
    Ok(())
}

fn set(pairs: &mut Pairs, name: &'static str, value: &str) {
    pairs.retain(|(known, _)| *known != name);
    pairs.push((name, value.as_bytes().to_vec()));
}

fn line(record: &Record<'_>) -> String {
    let mut out = Vec::new();
    record.write_json(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

proptest! {
    #![proptest_config(config(700))]

    #[test]
    fn a_reply_survives_sendmail_and_follows_from_the_mode(text in policy_text(&MODES), case in case()) {
        let policy = compiled(&text);
        let payload = payload(&case.pairs);
        let facts = Facts::inbound(&macros::told(&payload));
        let decision = decide(&policy, &facts, case.envelope(), today());
        fits(&decision)?;
        let expected = match (decision.verdict, decision.mode) {
            (Verdict::Fail, Some(Mode::Enforce)) => Disposition::Reject,
            (Verdict::Fail, Some(Mode::SoftFail)) => Disposition::Tempfail,
            _ => Disposition::Accept,
        };
        prop_assert_eq!(decision.disposition, expected);
        // What failed is told, also where a harder mode that could not be judged decides.
        let may_fail = matches!(decision.verdict, Verdict::Fail | Verdict::Unknown);
        prop_assert!(may_fail || decision.failures.is_empty());
        prop_assert!(decision.verdict != Verdict::Fail || !decision.failures.is_empty());
        // What the MTA did not tell is never held against anybody.
        if payload.is_empty() {
            prop_assert_eq!(decision.disposition, Disposition::Accept);
        }
    }

    #[test]
    fn without_enforce_nothing_is_refused_for_good(text in policy_text(&["observe", "soft-fail"]), case in case()) {
        let policy = compiled(&text);
        let payload = payload(&case.pairs);
        let facts = Facts::inbound(&macros::told(&payload));
        let decision = decide(&policy, &facts, case.envelope(), today());
        prop_assert_ne!(decision.disposition, Disposition::Reject);
        fits(&decision)?;
    }

    #[test]
    fn observe_alone_changes_no_reply(text in policy_text(&["observe"]), case in case()) {
        let policy = compiled(&text);
        let payload = payload(&case.pairs);
        let facts = Facts::inbound(&macros::told(&payload));
        let decision = decide(&policy, &facts, case.envelope(), today());
        prop_assert_eq!(decision.disposition, Disposition::Accept);
        prop_assert_eq!(decision.reply, None);
    }

    #[test]
    fn stronger_facts_never_fare_worse(
        text in policy_text(&MODES),
        case in case(),
        weaker in (0usize..6, 0usize..6, 0usize..3, any::<bool>()),
        stronger in (0usize..6, 0usize..6, 0usize..3),
        // Which of these is the weaker nobody can say: a certificate that fails, or none.
        unverified in select(vec!["FAIL", "NO", "NOT"]),
    ) {
        const BITS: [&str; 6] = ["0", "56", "112", "128", "256", "1024"];
        const VERSIONS: [&str; 6] = ["SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3", "TLSv1.4"];
        let verified = ["SOFTWARE", unverified, "OK"];
        let policy = compiled(&text);
        let with = |(bits, version, verify): (usize, usize, usize), plain: bool, ssf: &str| {
            let mut pairs = case.pairs.clone();
            if plain {
                let of_tls = ["{tls_version}", "{cipher}", "{cipher_bits}", "{verify}", "{cn_subject}", "{cert_subject}", "{cert_issuer}"];
                pairs.retain(|(name, _)| !of_tls.contains(name));
                set(&mut pairs, "{client_addr}", "192.0.2.7");
            } else {
                set(&mut pairs, "{cipher}", "X");
                set(&mut pairs, "{cipher_bits}", BITS[bits]);
                set(&mut pairs, "{tls_version}", VERSIONS[version]);
                set(&mut pairs, "{verify}", verified[verify]);
                set(&mut pairs, "{client_addr}", "192.0.2.7");
            }
            set(&mut pairs, "{auth_ssf}", ssf);
            let payload = payload(&pairs);
            let facts = Facts::inbound(&macros::told(&payload));
            rank(decide(&policy, &facts, case.envelope(), today()).disposition)
        };
        let (bits, version, verify, plain) = weaker;
        let weak = (bits, version, verify);
        let strong = (bits.max(stronger.0), version.max(stronger.1), verify.max(stronger.2));
        let base = with(weak, plain, "0");
        // A handshake that failed is not stronger than none.
        if !plain || strong.2 > 0 {
            prop_assert!(with(strong, false, "0") <= base, "{weak:?} {plain} to {strong:?}");
        }
        for ssf in ["56", "128", "256"] {
            prop_assert!(with(weak, plain, ssf) <= base, "a security layer of {ssf} bits");
        }
    }

    #[test]
    fn a_share_grows_with_its_percentage_and_is_the_same_for_a_neighbour(
        smaller in 0u8..=100,
        more in 0u8..=100,
        domain in "[a-z]{1,8}\\.(example|test)",
        network in any::<u8>(),
        hosts in (1u8..255, 1u8..255),
    ) {
        let deferred = |percent: u8, host: u8| {
            let text = format!(
                "version = 1\n[[rule]]\nname = \"r\"\nclient = [\"*\"]\nsoft-fail = {{ min-bits = 1, percent = {percent} }}\n"
            );
            let policy = compiled(&text);
            let payload = payload(&[("{client_addr}", format!("198.51.{network}.{host}").into_bytes())]);
            let facts = Facts::inbound(&macros::told(&payload));
            let sender = format!("<u{host}@{domain}>");
            let envelope = Envelope { sender: Some(&sender), recipient: None, ..Envelope::default() };
            decide(&policy, &facts, envelope, today()).disposition == Disposition::Tempfail
        };
        prop_assert!(!deferred(0, hosts.0) && deferred(100, hosts.0));
        let larger = smaller.max(more);
        prop_assert!(!deferred(smaller, hosts.0) || deferred(larger, hosts.0), "{smaller} to {larger}");
        prop_assert_eq!(deferred(larger, hosts.0), deferred(larger, hosts.1));
    }

    #[test]
    fn unknown_macros_change_nothing(
        text in policy_text(&MODES),
        case in case(),
        strange in vec(("[A-Z_]|\\{[a-z_]{1,12}x\\}|client_addr|\\{cipher_bits|\\{Verify\\}", vec(1u8.., 0..8), any::<Pick>()), 1..6),
    ) {
        let policy = compiled(&text);
        let mut with = case.pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<Vec<_>>();
        for (name, value, place) in strange {
            let place = place.index(with.len() + 1);
            with.insert(place, (name, value));
        }
        let with: Vec<(&str, Vec<u8>)> = with.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let (before, after) = (payload(&case.pairs), payload(&with));
        prop_assert_eq!(format!("{:?}", macros::told(&before)), format!("{:?}", macros::told(&after)));
        let told = |payload| {
            let facts = Facts::inbound(&macros::told(payload));
            let decision = decide(&policy, &facts, case.envelope(), today());
            line(&Record::new(NOW, &facts, case.envelope(), &decision, policy.fingerprint()))
        };
        prop_assert_eq!(told(&before), told(&after));
    }

    #[test]
    fn a_record_fed_back_gives_the_same_record(text in policy_text(&MODES), case in case()) {
        let policy = compiled(&text);
        let payload = payload(&case.pairs);
        let facts = Facts::inbound(&macros::told(&payload));
        let decision = decide(&policy, &facts, case.envelope(), today());
        let first = line(&Record::new(NOW, &facts, case.envelope(), &decision, policy.fingerprint()));
        prop_assert_eq!(first.matches('\n').count(), 1);

        let record: Record<'_> = serde_json::from_str(&first).unwrap();
        let facts = record.facts();
        let day = record.day(jiff::Timestamp::UNIX_EPOCH);
        prop_assert_eq!(day, today());
        let decision = decide(&policy, &facts, record.envelope(), day);
        let again = line(&Record::new(NOW, &facts, record.envelope(), &decision, policy.fingerprint()));
        prop_assert_eq!(again, &*first);
        // Rules of one policy in another order are the same policy.
        let shown = record.to_string();
        prop_assert!(!shown.contains(char::is_control), "{shown:?}");
    }

    #[test]
    fn any_bytes_as_macros_are_survived(text in policy_text(&MODES), bytes in vec(select(b"\0\0\0{}MiIj0129\xff\xc3clientaddr_cipherbts \n".as_slice()), 0..200)) {
        let policy = compiled(&text);
        let facts = Facts::inbound(&macros::told(&bytes));
        let sender = String::from_utf8_lossy(&bytes);
        let envelope = Envelope { sender: Some(&sender), recipient: Some(&sender), ..Envelope::default() };
        let decision = decide(&policy, &facts, envelope, today());
        fits(&decision)?;
        let line = line(&Record::new(NOW, &facts, envelope, &decision, policy.fingerprint()));
        prop_assert!(serde_json::from_str::<Record<'_>>(&line).is_ok());
    }
}
