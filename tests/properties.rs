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
use encr_milter::policy::Day;
use encr_milter::policy::decide::{Decision, Disposition, Envelope, Verdict, decide};
use encr_milter::policy::facts::Facts;
use encr_milter::policy::record::Record;
use encr_milter::policy::rule::Mode;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index as Pick, select};
use support::NOW;
use support::random::{MODES, Pairs, case, compiled, line, payload, policy_text};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn today() -> Day {
    Day::of_unix_seconds(NOW.as_second())
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
    let Some(reply) = decision.reply() else {
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
        prop_assert!(may_fail || decision.failures().next().is_none());
        prop_assert!(decision.verdict != Verdict::Fail || decision.failures().next().is_some());
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
        prop_assert_eq!(decision.reply(), None);
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
