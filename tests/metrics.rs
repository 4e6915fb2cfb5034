//! The numbers of `/metrics`, held against the records: whatever happens, each record is counted once and in its place.
//!
//! Promises (the real binary): labels are words of the policy or of fixed sets; what is served is what the reference lists,
//! in both forms.

// Helpers of tests may stop at once, as tests may. The numbers are whole, and compared as such.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_cmp,
    clippy::cast_precision_loss
)]

mod support;

use encr_milter::telemetry::metrics::reference::{BITS, FACT_NAMES, Kind, METRICS, VERSIONS};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use support::asker::{Asker, Delivery, PARTNER};
use support::daemon::Home;
use support::http::{Client, get};
use support::metrics::Page;
use support::mta::{CLIENT, plain, tls};
use support::{free_port, until};

const DECISIONS: &str = "encr_milter_decisions_total";
/// In the order of the series.
const LABELS: [&str; 6] = ["direction", "disposition", "mode", "rule", "side", "verdict"];

fn home(policy: &str) -> (Home, SocketAddr) {
    let port = free_port();
    let file = format!(
        "version = 1\n[milter]\nlisten = [\"unix:{{dir}}/m.sock\"]\n[outbound]\nlisten = \"unix:{{dir}}/o.sock\"\n\
         [http]\nlisten = \"127.0.0.1:{port}\"\n[log]\ndecisions = \"decisions.jsonl\"\n[state]\ndir = \"state\"\n"
    );
    (Home::with(&file, policy), SocketAddr::from(([127, 0, 0, 1], port)))
}

fn page(address: SocketAddr) -> Page {
    Page::parse(&get(address, "/metrics").body)
}

/// The decisions that a page tells of, by their labels.
fn counted(page: &Page) -> BTreeMap<Vec<String>, u64> {
    let decisions = page.series.iter().filter(|((name, _), _)| name == DECISIONS);
    decisions
        .map(|((_, labels), count)| {
            assert_eq!(labels.keys().map(String::as_str).collect::<Vec<_>>(), LABELS);
            (labels.values().cloned().collect(), format!("{count}").parse().unwrap())
        })
        .collect()
}

/// The same, from the records.
fn recorded(records: &[Value]) -> BTreeMap<Vec<String>, u64> {
    let mut counts = BTreeMap::new();
    for record in records {
        let labels = LABELS.map(|label| record[label].as_str().unwrap_or_default().to_owned());
        *counts.entry(labels.to_vec()).or_default() += 1;
    }
    counts
}

/// Two policies that have one rule in common, and one each.
const STORM: [&str; 2] = [
    r#"
[[rule]]
name = "everyone"
client = ["*"]
observe = { min-bits = 256 }
soft-fail = { min-bits = 128, percent = 50 }
[[rule]]
name = "first"
sender = ["partner.example"]
enforce = { min-bits = 128 }
[[rule]]
name = "out"
server = ["*"]
soft-fail = { min-bits = 256 }
"#,
    r#"
[[rule]]
name = "everyone"
client = ["*"]
enforce = { min-bits = 112 }
[[rule]]
name = "second"
recipient = ["recipient.example"]
soft-fail = { min-bits = 256, verify = true }
[[rule]]
name = "out"
server = ["*"]
exempt = { reason = "x" }
"#,
];

#[test]
fn numbers_and_records_agree_over_a_storm_of_sessions_and_reloads() {
    let (home, address) = home(STORM[0]);
    let daemon = home.start();
    let (done, reloads) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let reloads = &reloads;
        let senders: Vec<_> = (0..4)
            .map(|thread| {
                let (daemon, home) = (&daemon, &home);
                scope.spawn(move || {
                    // Chance, and the same each time.
                    let mut chance = 12_345u32 + thread;
                    let mut pick = |of: usize| {
                        chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        (chance >> 16) as usize % of
                    };
                    // Some reloads come between, however fast the machine is.
                    for n in (0..).take_while(|n| *n < 60 || reloads.load(Ordering::Relaxed) < 4) {
                        let id = format!("T{thread}N{n}");
                        let bits = ["0", "112", "128", "256", "77"][pick(5)];
                        let mut mta = daemon.negotiated();
                        for _ in 0..=pick(3) {
                            match pick(4) {
                                0 => {}
                                1 => mta.macros(&plain(&id)),
                                _ => mta.macros(&tls(&id, bits)),
                            }
                            let sender = ["<a@partner.example>", "<b@other.example>", "<>"][pick(3)];
                            if mta.mail(sender) != "continue" {
                                continue;
                            }
                            for _ in 0..pick(3) {
                                mta.rcpt(
                                    ["<r@recipient.example>", "<postmaster>", "<r@else.example>"][pick(3)],
                                );
                            }
                            match pick(3) {
                                0 => drop(mta.end_of_message()),
                                1 => mta.frame('A', b""),
                                _ => {}
                            }
                        }
                        mta.quit();
                        let delivery = Delivery { queue_id: &id, bits, ..PARTNER };
                        Asker::connect(&home.path("o.sock")).ask(&delivery, None);
                    }
                })
            })
            .collect();
        let (home, daemon, done) = (&home, &daemon, &done);
        scope.spawn(move || {
            let mut turn = 0;
            while !done.load(Ordering::Relaxed) {
                turn += 1;
                let mark = daemon.mark();
                home.write("policy.toml", &format!("version = 1\n{}", STORM[turn % 2]));
                daemon.wait_log_since(mark, "policy in force");
                reloads.store(turn, Ordering::Relaxed);
            }
        });
        for sender in senders {
            sender.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    // Connections that were quit have written all that they had to.
    let total = |page: &Page| page.sum(DECISIONS, &[]);
    let page = page(address);
    let records = until("all records", || {
        Some(home.decisions()).filter(|records| records.len() as f64 >= total(&page))
    });
    assert!(records.len() > 300, "{}", records.len());
    assert_eq!(counted(&page), recorded(&records));
    let of = |verdict: &str, disposition: &str| {
        page.sum(DECISIONS, &[("verdict", verdict), ("disposition", disposition)])
    };
    for (verdict, disposition) in [
        ("fail", "reject"),
        ("fail", "tempfail"),
        ("fail", "accept"),
        ("pass", "accept"),
        ("exempt", "accept"),
        ("unknown", "accept"),
    ] {
        assert!(of(verdict, disposition) > 0.0, "none is {verdict}, {disposition}");
    }
    let unknown = records.iter().filter(|record| record["verdict"] == "unknown").count() as f64;
    assert_eq!(page.sum("encr_milter_unknown_facts_total", &[]), unknown);
    assert!(page.sum("encr_milter_policy_reloads_total", &[("outcome", "in-force")]) > 2.0);
    assert_eq!(page.sum("encr_milter_policy_reloads_total", &[("outcome", "refused")]), 0.0);
    let evidence = until("all of it in the evidence", || {
        let page = self::page(address);
        (page.one("encr_milter_evidence_decisions_written_total", &[]) >= records.len() as f64)
            .then_some(page)
    });
    for (name, number) in [
        ("encr_milter_evidence_decisions_written_total", records.len() as f64),
        ("encr_milter_evidence_queue_length", 0.0),
        ("encr_milter_evidence_unwritten_rows", 0.0),
    ] {
        assert_eq!(evidence.one(name, &[]), number, "{name}");
    }
    assert_eq!(evidence.sum("encr_milter_lines_lost_total", &[]), 0.0);
    daemon.stop();
}

#[test]
fn a_session_is_counted_once_and_again_when_tls_begins() {
    let (home, address) = home("[[rule]]\nname = \"all\"\nclient = [\"*\"]\nobserve = { min-bits = 128 }\n");
    let daemon = home.start();
    let mut mta = daemon.negotiated();
    for told in [plain("A"), plain("B"), tls("C", "256"), tls("D", "256"), tls("E", "77")] {
        mta.macros(&told);
        assert_eq!(mta.mail("<a@x>"), "accept");
    }
    // Nothing was told.
    assert_eq!(mta.mail("<a@x>"), "accept");
    mta.quit();
    Asker::connect(&home.path("o.sock")).ask(&PARTNER, None);
    let page = page(address);
    let sessions: BTreeSet<_> = page
        .series
        .iter()
        .filter(|((name, _), _)| name == "encr_milter_sessions_total")
        .map(|((_, labels), count)| {
            format!("{} {} {} {count}", labels["direction"], labels["version"], labels["bits"])
        })
        .collect();
    let expected = [
        "inbound none 0 1",
        "inbound TLSv1.3 256 1",
        "inbound TLSv1.3 other 1",
        "inbound unknown unknown 1",
        "outbound TLSv1.2 128 1",
    ];
    assert_eq!(sessions, expected.map(str::to_owned).into());
    let told = |direction, fact| {
        page.one("encr_milter_unknown_facts_total", &[("direction", direction), ("fact", fact)])
    };
    assert_eq!((told("inbound", "client_addr"), told("outbound", "client_addr")), (1.0, 0.0));
    // Six times MAIL, and one question.
    let name = "encr_milter_decision_duration_seconds_count";
    assert_eq!(page.one(name, &[("direction", "inbound")]), 6.0);
    assert_eq!(page.one(name, &[("direction", "outbound")]), 1.0);
    let inf = [("direction", "inbound"), ("le", "+Inf")];
    assert_eq!(page.one("encr_milter_decision_duration_seconds_bucket", &inf), 6.0);
    daemon.stop();
}

#[test]
fn reloads_are_told_good_and_bad() {
    let rule = "[[rule]]\nname = \"all\"\nclient = [\"*\", \"a.example\"]\nobserve = { min-bits = 128 }\n";
    let (home, address) = home(rule);
    let daemon = home.start();
    let told = |page: &Page| {
        let one = |name: &str| page.one(&format!("encr_milter_policy_{name}"), &[]);
        let reloads = |outcome| page.one("encr_milter_policy_reloads_total", &[("outcome", outcome)]);
        (one("last_reload_successful"), reloads("in-force"), reloads("refused"), one("rules"))
    };
    let times = |page: &Page| {
        let one = |name: &str| page.one(&format!("encr_milter_policy_last_reload_{name}"), &[]);
        (one("timestamp_seconds"), one("success_timestamp_seconds"))
    };
    let first = page(address);
    assert_eq!(told(&first), (1.0, 1.0, 0.0, 1.0));
    assert_eq!(times(&first).0, times(&first).1);
    assert!(times(&first).0 >= first.one("process_start_time_seconds", &[]));
    assert_eq!(first.one("encr_milter_policy_keys", &[("side", "client")]), 2.0);
    assert_eq!(first.one("encr_milter_policy_keys", &[("side", "server")]), 0.0);

    home.write("policy.toml", "version = 1\n[[rule]]\n");
    daemon.wait_log("policy refused: the one in force stays");
    let refused = until("the refusal to be told", || Some(page(address)).filter(|page| told(page).2 == 1.0));
    assert_eq!(told(&refused), (0.0, 1.0, 1.0, 1.0));
    assert!(times(&refused).0 > times(&first).0);
    assert_eq!(times(&refused).1, times(&first).1);
    let policy = |page: &Page| {
        let of = page.series.keys().find(|(name, _)| name == "encr_milter_policy_info").unwrap();
        of.1["fingerprint"].clone()
    };
    assert_eq!(policy(&refused), policy(&first));

    let mark = daemon.mark();
    home.write(
        "policy.toml",
        &format!("version = 1\n{rule}{}", rule.replace("\"all\"", "\"b\"").replace("\"*\", \"a", "\"b")),
    );
    daemon.wait_log_since(mark, "policy in force");
    let good = until("the last reload to be told", || Some(page(address)).filter(|page| told(page).1 == 2.0));
    assert_eq!(told(&good), (1.0, 2.0, 1.0, 2.0));
    assert_ne!(policy(&good), policy(&first));
    daemon.stop();

    // A start with a broken file, and the last good policy.
    home.write("policy.toml", "version = 1\n[[rule]]\n");
    let daemon = home.start();
    let broken = page(address);
    assert_eq!(told(&broken), (0.0, 0.0, 1.0, 2.0));
    assert_eq!(times(&broken).1, 0.0);
    assert_eq!(policy(&broken), policy(&good));
    daemon.stop();
}

#[test]
fn no_label_is_a_clients_word_and_odd_names_of_rules_are_escaped() {
    let name = "odd \\\"{}\\\\ , rule= Zürich";
    let (home, address) =
        home(&format!("[[rule]]\nname = \"{name}\"\nclient = [\"*\"]\nobserve = {{ min-bits = 128 }}\n"));
    let daemon = home.start();
    let evil = "evil\"} 1\nx{y=\"";
    let mut mta = daemon.negotiated();
    mta.macros(&[
        ("i", evil),
        ("{client_addr}", CLIENT),
        ("{client_name}", evil),
        ("{client_resolve}", evil),
        ("{tls_version}", evil),
        ("{cipher}", evil),
        ("{cipher_bits}", "999"),
        ("{verify}", evil),
    ]);
    assert_eq!(mta.mail(&format!("<{evil}@x>")), "accept");
    mta.quit();
    for accept in ["text/plain", "application/openmetrics-text; version=1.0.0"] {
        let mut client = Client::connect(address);
        let answer = client.ask("GET", "/metrics", &format!("Accept: {accept}\r\n"));
        let page = Page::parse(&answer.body);
        assert!(!answer.body.contains("evil"));
        let rule = "odd \"{}\\ , rule= Zürich";
        assert_eq!(page.sum(DECISIONS, &[("rule", rule)]), 1.0, "{}", answer.body);
        let session = [("direction", "inbound"), ("version", "other"), ("bits", "other")];
        assert_eq!(page.one("encr_milter_sessions_total", &session), 1.0);
    }
    daemon.stop();
}

#[test]
fn both_forms_serve_what_the_reference_lists_and_nothing_else() {
    let (home, address) = home("");
    let daemon = home.start();
    daemon.one_message(&plain("A"));
    let plain = page(address);
    let mut client = Client::connect(address);
    let open = Page::parse(&client.ask("GET", "/metrics", "Accept: application/openmetrics-text\r\n").body);
    let listed: BTreeMap<_, _> = METRICS.iter().map(|metric| (metric.name, metric)).collect();
    assert_eq!(listed.len(), METRICS.len(), "a name twice");
    assert_eq!(
        plain.types.keys().map(String::as_str).collect::<Vec<_>>(),
        listed.keys().copied().collect::<Vec<_>>()
    );
    for (name, metric) in listed {
        assert_eq!(
            (plain.types[name].as_str(), plain.help[name].as_str()),
            (metric.kind.as_str(), metric.help)
        );
        assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
        // In OpenMetrics the family is called without it.
        let family = name.strip_suffix("_total").unwrap_or(name);
        assert_eq!(
            (open.types[family].as_str(), open.help[family].as_str()),
            (metric.kind.as_str(), metric.help)
        );
    }
    assert_eq!(open.types.len(), METRICS.len());
    for page in [&plain, &open] {
        for (name, labels) in page.series.keys() {
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|suffix| name.strip_suffix(suffix))
                .find(|base| METRICS.iter().any(|metric| metric.name == *base));
            let metric = METRICS.iter().find(|metric| metric.name == base.unwrap_or(name));
            let metric = metric.unwrap_or_else(|| panic!("{name} is not listed"));
            let found: BTreeSet<_> =
                labels.keys().map(String::as_str).filter(|label| *label != "le").collect();
            assert_eq!(found, metric.labels.iter().copied().collect(), "{name}");
        }
    }
    daemon.stop();
}

/// The names of our metrics that a text speaks of.
fn spoken_of(text: &str) -> BTreeSet<&str> {
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !part_of_name(c))
        .filter(|word| word.starts_with("encr_milter_") || word.starts_with("process_"))
        .map(|word| {
            let base = word.strip_suffix("_bucket").or_else(|| word.strip_suffix("_count"));
            base.or_else(|| word.strip_suffix("_sum"))
                .filter(|base| base.ends_with("_seconds"))
                .unwrap_or(word)
        })
        .collect()
}

#[test]
fn the_guide_the_dashboard_and_the_alerts_speak_of_metrics_that_there_are() {
    let read = |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let known: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    for name in
        ["docs/guide.md", "config/grafana-dashboard.json", "config/alerts.yml", "config/alerts_test.yml"]
    {
        let text = read(name);
        let unknown: Vec<_> = spoken_of(&text).difference(&known).copied().collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
    }
    // And the guide's table has each of them, with its labels.
    let guide = read("docs/guide.md");
    let rows: BTreeMap<_, _> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .filter(|(name, _)| known.contains(name))
        .collect();
    for metric in METRICS {
        let row = rows.get(metric.name).unwrap_or_else(|| panic!("the guide's table has no {}", metric.name));
        let labels: Vec<_> = row.split('|').next().unwrap().split('`').skip(1).step_by(2).collect();
        assert_eq!(labels, metric.labels, "{}", metric.name);
    }
    // And so has that of labels each value.
    for (label, values) in [("version", VERSIONS.as_slice()), ("bits", &BITS), ("fact", &FACT_NAMES)] {
        let row = guide.lines().find_map(|line| line.strip_prefix(&format!("| `{label}` | "))).unwrap();
        let words: Vec<_> = row.split('`').skip(1).step_by(2).collect();
        assert_eq!(words, values, "{label}");
    }
    // Where an alert sends its reader, there is something.
    let headings: BTreeSet<_> = guide.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
    let alerts = read("config/alerts.yml");
    let links: Vec<_> =
        alerts.lines().filter_map(|line| line.split_once("guide.md#")).map(|(_, to)| to.trim()).collect();
    assert_eq!(links.len(), alerts.matches("- alert:").count());
    for link in links {
        assert!(headings.contains(link), "no heading {link} in the guide");
    }
}

/// A heading's anchor, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}
