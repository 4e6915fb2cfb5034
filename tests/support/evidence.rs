//! Evidence that is known to the number, and the policy that it was gathered under.
//!
//! Promises: made through the evidence's own ways in.

use super::NOW;
use encr_milter::evidence::{Observed, Rollup, Store};
use encr_milter::policy::decide::decide;
use encr_milter::policy::record::Record;
use encr_milter::policy::{Day, Policy};

pub(crate) const POLICY: &str = "\
[reply]
contact = \"https://mail.example.org/tls\"
[gate]
min-days = 3
min-messages = 4
[[rule]]
name = \"partner\"
comment = \"nobody's business\"
client = [\"partner.example\"]
sender = [\"partner.example\"]
observe = { min-bits = 256 }
soft-fail = { min-bits = 128, percent = 100, max-delay = \"4h\" }
enforce = { min-bits = 112, min-version = \"TLSv1.2\", from = 2027-01-15 }
[[rule]]
name = \"partner-old\"
client = [\"old.partner.example\"]
exempt = { reason = \"internal trouble\", owner = \"ops\", until = 2026-12-01 }
[[rule]]
name = \"strict\"
client = [\"strict.example\"]
enforce = { min-bits = 128 }
[[rule]]
name = \"ready\"
client = [\"ready.example\"]
observe = { min-bits = 128 }
[[rule]]
name = \"nobody\"
client = [\"nobody.example\"]
observe = { min-bits = 128 }
[[rule]]
name = \"everyone\"
client = [\"*\"]
observe = { min-bits = 128 }
[[rule]]
name = \"out\"
server = [\"*\"]
observe = { verify = true }
";

pub(crate) const TLS13: &str =
    r#","tls_version":"TLSv1.3","cipher":"TLS_AES_256_GCM_SHA384","cipher_bits":256,"verify":"NOT""#;
pub(crate) const TLS12: &str =
    r#","tls_version":"TLSv1.2","cipher":"ECDHE-RSA-AES128-GCM-SHA256","cipher_bits":128,"verify":"NOT""#;
pub(crate) const TLS10: &str =
    r#","tls_version":"TLSv1","cipher":"DES-CBC3-SHA","cipher_bits":112,"verify":"NOT""#;
pub(crate) const VERIFIED: &str =
    r#","tls_version":"TLSv1.3","cipher":"TLS_AES_256_GCM_SHA384","cipher_bits":256,"verify":"OK""#;
pub(crate) const CLEAR: &str = r#","cipher_bits":0"#;
pub(crate) const NOT_TOLD: &str = r#","tls_version":"TLSv1.3","cipher":"X","verify":"NOT""#;

/// Messages as records, so many days ago: whose, how, how many.
pub(crate) fn messages(ago: i64, host: &str, address: &str, tls: &str, count: usize) -> Vec<String> {
    let ts = jiff::Timestamp::from_second(NOW.as_second() - ago * 86_400).unwrap();
    let resolve = if host.starts_with('[') { "FAIL" } else { "OK" };
    let domain = host.split_once('.').map_or("x.example", |(_, domain)| domain);
    let record = format!(
        r#"{{"ts":"{ts}","client_name":"{host}","client_addr":"{address}","client_resolve":"{resolve}","sender":"a@{domain}"{tls}}}"#
    );
    vec![record; count]
}

/// What is known to the number.
pub(crate) fn known() -> Vec<String> {
    let mut all = Vec::new();
    all.extend(messages(0, "mx1.partner.example", "192.0.2.1", TLS13, 5));
    all.extend(messages(2, "mx2.partner.example", "192.0.2.2", TLS10, 3));
    all.extend(messages(9, "mx3.partner.example", "198.51.100.3", TLS12, 2));
    // It was in the clear, and has been as it should be since.
    all.extend(messages(9, "mx4.partner.example", "192.0.2.4", CLEAR, 1));
    all.extend(messages(1, "mx4.partner.example", "192.0.2.4", TLS13, 20));
    all.extend(messages(1, "old.partner.example", "192.0.2.9", CLEAR, 4));
    all.extend(messages(1, "mx.strict.example", "203.0.113.1", CLEAR, 2));
    for ago in 0..4 {
        all.extend(messages(ago, "mx.ready.example", "203.0.113.2", TLS12, 2));
    }
    all.extend(messages(4, "[203.0.113.77]", "203.0.113.77", CLEAR, 6));
    all.extend(messages(4, "[203.0.113.78]", "203.0.113.78", NOT_TOLD, 1));
    all.extend(messages(3, "localhost", "127.0.0.1", CLEAR, 7));
    let ts = NOW - jiff::SignedDuration::from_hours(24);
    for (verify, count) in [(VERIFIED, 3), (TLS13, 1)] {
        let record = format!(
            r#"{{"ts":"{ts}","direction":"outbound","server_name":"in.partner.example","server_addr":"192.0.2.50","recipient":"b@partner.example"{verify}}}"#
        );
        all.extend(vec![record; count]);
    }
    // A provider brings mail of theirs.
    let record = format!(
        r#"{{"ts":"{ts}","client_name":"out.provider.example","client_addr":"198.51.100.200","client_resolve":"OK","sender":"c@partner.example"{CLEAR}}}"#
    );
    all.extend(vec![record; 2]);
    all
}

/// The evidence of these, judged by a policy that has stood for ten days.
pub(crate) fn rollup(policy: &Policy, records: &[String]) -> Rollup {
    let mut rollup = Rollup::new(1000);
    for ago in 0..10 {
        rollup.stand(policy, Day(Day::of_unix_seconds(NOW.as_second()).0 - ago));
    }
    for line in records {
        let record: Record<'_> = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let facts = record.facts();
        let decision = decide(policy, &facts, record.envelope(), record.day(NOW));
        rollup.observe(&Observed::of(&facts, &decision, record.ts.unwrap()));
    }
    rollup
}

pub(crate) fn store(policy: &Policy, records: &[String]) -> Store {
    let mut store = Store::memory().unwrap();
    store.add(&rollup(policy, records)).unwrap();
    store
}

/// No line is wider, but commands, which are to be copied.
pub(crate) fn fits(shown: &str, width: u16) {
    for line in shown.lines().filter(|line| !line.starts_with("  encr-milter ")) {
        assert!(line.chars().count() <= usize::from(width), "{width}: {line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
}
