//! The report: its numbers against a truth that stands apart, and its three forms.
//!
//! Promises: the texts in `data/` are what is shown to the letter (`UPDATE_REFERENCES=1` writes them anew).

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use encr_milter::evidence::questions::Period;
use encr_milter::evidence::questions::exposure::{DEMANDS, demands, who_would_break};
use encr_milter::evidence::{Observed, Store};
use encr_milter::policy::decide::decide;
use encr_milter::policy::record::Record;
use encr_milter::policy::requirement::Outcome;
use encr_milter::policy::{Day, Policy};
use encr_milter::report::dossier::{Dossier, Fate};
use encr_milter::report::terminal::Look;
use encr_milter::report::{Origin, Report, html, terminal};
use proptest::prelude::*;
use serde_json::json;
use support::NOW;
use support::data::is_as_in;
use support::evidence::{CLEAR, POLICY, TLS13, fits, known, messages, rollup, store};
use support::html::taken_apart;

fn origin(policy: Option<&Policy>) -> Origin {
    Origin {
        made: NOW,
        version: "0.0.0",
        source: "evidence.db".to_owned(),
        from_store: true,
        arguments: String::new(),
        logs: " decisions.jsonl".to_owned(),
        notes: vec!["12 lines: nobody can read them".to_owned()],
        since: None,
        until: None,
        policy: policy.map(|policy| policy.fingerprint().as_str().to_owned()),
    }
}

fn of_known() -> Report {
    let policy = support::policy(POLICY);
    Report::of(&store(&policy, &known()), Some(&policy), origin(Some(&policy))).unwrap()
}

fn dossier_of_known() -> Dossier {
    let policy = support::policy(POLICY);
    let ours = Some("Example Ltd".to_owned());
    let origin = origin(Some(&policy));
    Dossier::of(&store(&policy, &known()), Some(&policy), &origin, "partner.example", ours).unwrap()
}

fn look(width: u16) -> Look {
    Look { width, colour: false, top: 20 }
}

fn pretty(told: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(told).unwrap() + "\n"
}

// ---- numbers ---------------------------------------------------------------------------------------------

#[test]
fn the_report_tells_a_script_what_is_known() {
    is_as_in("report.json", &pretty(&of_known()));
}

#[test]
fn who_would_break_first_stands_first() {
    let report = of_known();
    let inbound = &report.who_would_break[0];
    let domains: Vec<&str> = inbound.domains.iter().map(|domain| domain.domain.as_str()).collect();
    assert_eq!(domains, ["", "partner.example", "provider.example", "strict.example", "ready.example"]);
    assert_eq!((inbound.exempt, inbound.total.messages), (7, 54));
    // Of nobody it is said that he fails or passes where it was not told.
    let bits: Vec<_> =
        inbound.total.would_fail.iter().map(|fails| (fails.messages, fails.not_told)).collect();
    assert_eq!(bits, [(15, 1), (18, 1), (28, 1), (18, 0), (28, 0), (54, 0)]);
}

#[test]
fn what_becomes_of_a_partner_is_told_for_each_day_on_which_it_changes() {
    let dossier = dossier_of_known();
    let sessions = |host: &str| {
        let host = dossier.hosts.iter().find(|known| known.host == host).unwrap();
        host.sessions.iter().collect::<Vec<_>>()
    };
    let fates = |host: &str| -> Vec<(Option<String>, Fate)> {
        let outlook = sessions(host)[0].outlook.iter();
        outlook.map(|outlook| (outlook.from.map(|day| day.to_string()), outlook.fate)).collect()
    };
    assert_eq!(fates("mx1.partner.example"), [(None, Fate::Passed)]);
    assert_eq!(
        fates("mx2.partner.example"),
        [(None, Fate::Deferred), (Some("2027-01-15".to_owned()), Fate::Refused)]
    );
    assert_eq!(fates("mx3.partner.example"), [(None, Fate::Observed)]);
    // Exempt as a host; its sender is not, so that the worst of both decides.
    assert_eq!(fates("old.partner.example")[0], (None, Fate::Deferred));
    let mx4 = sessions("mx4.partner.example");
    assert_eq!((mx4[0].superseded, mx4[1].superseded), (false, true));
    // What is no more makes no milestone.
    let milestones: Vec<_> = dossier.milestones.iter().map(|m| (m.refused, m.deferred, m.observed)).collect();
    assert_eq!(milestones, [(0, 2, 2), (2, 0, 2)]);
}

/// The dossier of a.example, by these rules: its JSON, and its letter.
fn dossier_of(rules: &str, records: &[String]) -> (serde_json::Value, String) {
    let policy = support::policy(rules);
    let told = Dossier::of(
        &store(&policy, records),
        Some(&policy),
        &origin(Some(&policy)),
        "a.example",
        Some("us".to_owned()),
    );
    let dossier = told.unwrap();
    (json!(dossier), terminal::dossier(&dossier, look(1000)))
}

fn by_client(rule: &str) -> String {
    format!("[[rule]]\nname = \"r\"\nclient = [\"a.example\"]\n{rule}\n")
}

#[test]
fn a_host_that_sends_and_takes_mail_is_one() {
    let mut records = messages(1, "mx.a.example", "192.0.2.1", CLEAR, 2);
    records.push(format!(
        r#"{{"ts":"{NOW}","direction":"outbound","server_name":"mx.a.example","server_addr":"192.0.2.1"{CLEAR}}}"#
    ));
    let rules = by_client("enforce = { min-bits = 128 }")
        + "[[rule]]\nname = \"o\"\nserver = [\"*\"]\nobserve = { min-bits = 128 }\n";
    let (json, letter) = dossier_of(&rules, &records);
    assert_eq!(json["hosts"].as_array().unwrap().len(), 2, "one entry for each direction");
    assert!(letter.contains("We have met 1 host."), "{letter}");
    assert!(letter.contains("Today: mail of 1 host is refused.\n"), "{letter}");
}

#[test]
fn nobody_is_told_that_all_is_well_where_nobody_knows() {
    let certified = TLS13.replace("NOT", "OK");
    let records = messages(1, "mx.a.example", "192.0.2.1", &certified, 2);
    let (json, letter) = dossier_of(&by_client("enforce = { cn = \"mail.a.example\" }"), &records);
    assert_eq!(json["hosts"][0]["sessions"][0]["outlook"][0]["fate"], "undecided");
    assert_eq!(json["milestones"][0]["undecided"], 1);
    let said = "mail of 1 host is accepted, if the certificate has the names that we ask for";
    assert!(letter.contains(said) && !letter.contains("nothing has to be done"), "{letter}");
    // What fails whatever the names are is refused.
    let (json, _) =
        dossier_of(&by_client("enforce = { cn = \"mail.a.example\", min-version = \"TLSv1.3\" }"), &{
            messages(1, "mx.a.example", "192.0.2.1", &certified.replace("TLSv1.3", "TLSv1.2"), 1)
        });
    assert_eq!(json["hosts"][0]["sessions"][0]["outlook"][0]["fate"], "refused");
}

#[test]
fn who_is_not_kept_apart_is_not_said_to_be_unknown() {
    let policy = support::policy(&by_client("observe = { min-bits = 128 }"));
    let mut evidence = encr_milter::evidence::Rollup::new(1);
    let hosts = ["mx.a.example", "mx.b.example", "mx.c.example"];
    for (host, address) in hosts.into_iter().zip(["192.0.2.1", "198.51.100.1", "203.0.113.1"]) {
        let text = messages(1, host, address, CLEAR, 1).remove(0);
        let record: Record<'_> = serde_json::from_str(&text).unwrap();
        let facts = record.facts();
        let decision = decide(&policy, &facts, record.envelope(), record.day(NOW));
        evidence.observe(&Observed::of(&facts, &decision, record.ts.unwrap()));
    }
    let mut store = Store::memory().unwrap();
    store.add(&evidence).unwrap();
    let of = |domain| Dossier::of(&store, Some(&policy), &origin(Some(&policy)), domain, None).unwrap();
    let letter = |domain| terminal::dossier(&of(domain), look(1000));
    // Whom a rule names is kept.
    assert!(letter("a.example").contains("We have met 1 host."));
    assert!(letter("b.example").contains("not all are known by name; none that is, is of b.example."));
}

#[test]
fn all_of_it_exempt_is_said_with_a_next_step() {
    let policy = support::policy("");
    let store = store(&policy, &messages(1, "localhost", "127.0.0.1", CLEAR, 3));
    let report = Report::of(&store, None, origin(None)).unwrap();
    for form in [terminal::report(&report, look(1000)), html::report(&report, 20)] {
        assert!(form.contains("Nobody: 3 messages came, all exempt"), "{form}");
        assert!(!form.contains("versions: ."));
    }
}

#[test]
fn a_share_is_deferred_whatever_else_is_not_told() {
    let told = r#","tls_version":"TLSv1","cipher":"X","verify":"NOT""#;
    let rule =
        by_client("observe = { min-bits = 256 }\nsoft-fail = { min-version = \"TLSv1.2\", percent = 1 }");
    let (json, _) = dossier_of(&rule, &messages(1, "mx.a.example", "192.0.2.1", told, 2));
    let outlook = &json["hosts"][0]["sessions"][0]["outlook"];
    assert_eq!((&outlook[0]["fate"], &outlook[0]["percent"]), (&json!("deferred"), &json!(1)));
}

#[test]
fn mail_by_hosts_of_other_names_is_not_forgotten() {
    let rules =
        "[[rule]]\nname = \"r\"\nsender = [\"a.example\"]\nenforce = { min-bits = 128, from = 2027-01-15 }\n";
    let record = format!(
        r#"{{"ts":"{NOW}","client_name":"mx.b.example","client_addr":"192.0.2.1","client_resolve":"OK","sender":"x@a.example"{CLEAR}}}"#
    );
    let said = "From 2027-01-15: mail in your name by hosts of other names is refused, some of it at least";
    // Nobody is judged yet, and so is nothing kept under the key.
    let (_, letter) = dossier_of(rules, std::slice::from_ref(&record));
    assert!(!letter.contains(said));
    let watching = rules.replace("enforce", "observe = { min-bits = 112 }\nenforce");
    let (_, letter) = dossier_of(&watching, std::slice::from_ref(&record));
    assert!(
        letter.contains("We have met no host of a.example in that time.") && letter.contains(said),
        "{letter}"
    );
    let mut both = messages(1, "mx.a.example", "192.0.2.1", TLS13, 1);
    both.push(record);
    let (_, letter) = dossier_of(&watching, &both);
    assert!(letter.contains(said) && !letter.contains("nothing has to be done"), "{letter}");
}

#[test]
fn what_is_asked_once_an_exemption_ends_is_not_asked_today() {
    let records = messages(1, "mx.a.example", "192.0.2.1", CLEAR, 1);
    let exempt = |until: &str| {
        by_client(&format!("exempt = {{ reason = \"x\", until = {until} }}"))
            + "[[rule]]\nname = \"all\"\nclient = [\"*\"]\nsoft-fail = { min-bits = 128 }\n"
    };
    let (_, letter) = dossier_of(&exempt("2026-12-24"), &records);
    assert!(letter.contains("Mail from you, from 2026-12-25: encryption"), "{letter}");
    assert!(letter.contains("From 2026-12-25: mail of 1 host is deferred."), "{letter}");
    assert!(letter.contains("until the queue gives up and it goes back to who sent it"), "{letter}");
    // With the calendar ends nothing.
    let (json, letter) = dossier_of(&exempt("9999-12-31"), &records);
    assert_eq!((&json["asked"], json["milestones"].as_array().unwrap().len()), (&json!([]), 1));
    assert!(letter.contains("We ask nothing of them: nothing has to be done."), "{letter}");
}

#[test]
fn a_dossier_names_nobody_else_and_nothing_of_ours() {
    let dossier = dossier_of_known();
    let forms = [pretty(&dossier), terminal::dossier(&dossier, look(80)), html::dossier(&dossier, 100)];
    is_as_in("report-dossier.json", &forms[0]);
    is_as_in("report-dossier.txt", &forms[1]);
    for form in &forms {
        for hidden in ["strict", "nobody's business", "internal trouble", "ops\"", "evidence.db", "everyone"]
        {
            assert!(!form.contains(hidden), "{hidden} in {form}");
        }
        assert!(form.contains("https://mail.example.org/tls") && form.contains("provider.example"), "{form}");
    }
}

#[test]
fn without_a_policy_the_evidence_itself_is_told() {
    let policy = support::policy(POLICY);
    let report = Report::of(&store(&policy, &known()), None, origin(None)).unwrap();
    let strict = report.rules.iter().find(|rule| rule.rule == "strict").unwrap();
    let seen = &strict.modes[0].seen;
    assert_eq!((seen.failed, seen.days, seen.requirement.as_deref()), (2, 10, Some("min-bits 128")));
    assert!(strict.ripeness.is_none());
    let shown = terminal::report(&report, look(80));
    assert!(shown.contains("is told with their policy"), "{shown}");
    let dossier =
        Dossier::of(&store(&policy, &known()), None, &origin(None), "partner.example", None).unwrap();
    assert!(dossier.hosts.iter().all(|host| host.sessions[0].outlook.is_empty()));
}

#[test]
fn a_reason_of_exempt_is_that_of_a_decision() {
    let policy = support::policy("[exempt]\nnetworks = [\"192.0.2.0/24\"]\nrecipients = [\"abuse\"]\n");
    let cases = [
        r#"{"client_addr":"198.51.100.1","auth":"me"}"#,
        r#"{"client_addr":"192.0.2.1"}"#,
        r#"{"client_addr":"198.51.100.1","recipient":"abuse@x.example"}"#,
    ];
    let report = Report::of(&store(&policy, &[]), Some(&policy), origin(None)).unwrap();
    let told: Vec<String> = report.exemptions.settled.into_iter().map(|settled| settled.reason).collect();
    let decided = cases.map(|line| {
        let record: Record<'_> = serde_json::from_str(line).unwrap();
        let facts = record.facts();
        let decision = decide(&policy, &facts, record.envelope(), Day(0));
        decision.reason.unwrap().to_string()
    });
    assert_eq!(told, decided);
}

#[test]
fn a_message_that_a_rule_exempts_on_two_sides_counts_once() {
    let rules = by_client("sender = [\"a.example\"]\nexempt = { reason = \"x\", until = 9999-12-31 }");
    let policy = support::policy(&rules);
    let mut records = messages(1, "mx.a.example", "192.0.2.1", CLEAR, 3);
    records.extend(messages(1, "mx.b.example", "192.0.2.2", CLEAR, 1));
    let report = Report::of(&store(&policy, &records), Some(&policy), origin(None)).unwrap();
    let used = |report: Report| -> Vec<(String, u64)> {
        report.exemptions.rules.into_iter().map(|rule| (rule.rule, rule.messages)).collect()
    };
    assert_eq!(used(report), [("r".to_owned(), 3)]);
}

/// A session and how often it came, from one of a few hosts.
fn seen() -> impl Strategy<Value = (usize, String, usize)> {
    let version = prop_oneof![Just("TLSv1"), Just("TLSv1.2"), Just("TLSv1.3"), Just("odd")];
    let bits = prop_oneof![Just("0"), Just("112"), Just("128"), Just("256"), Just("\"many\"")];
    let verify = prop_oneof![Just("OK"), Just("NOT"), Just("FAIL"), Just("NONE"), Just("SOFTWARE")];
    let tls = (version, bits, verify).prop_map(|(version, bits, verify)| {
        format!(r#","tls_version":"{version}","cipher":"X","cipher_bits":{bits},"verify":"{verify}""#)
    });
    let told = prop_oneof![3 => tls, 1 => Just(CLEAR.to_owned()), 1 => Just(String::new())];
    (0usize..6, told, 1usize..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_would_break_is_what_the_requirement_says(seen in proptest::collection::vec(seen(), 0..30)) {
        let policy = support::policy(POLICY);
        let lines: Vec<String> = seen
            .iter()
            .flat_map(|(host, tls, count)| {
                messages(0, &format!("mx.d{}.example", host % 3), &format!("192.0.{host}.1"), tls, *count)
            })
            .collect();
        let mut failed = [0u64; DEMANDS];
        let mut peers: Vec<std::collections::BTreeSet<String>> = vec![std::collections::BTreeSet::new(); DEMANDS];
        for line in &lines {
            let record: Record<'_> = serde_json::from_str(line).unwrap();
            for (place, demand) in demands().iter().enumerate() {
                if let Outcome::Failed(_) = demand.check(&record.facts()) {
                    failed[place] += 1;
                    peers[place].insert(record.client_addr.as_deref().unwrap().to_owned());
                }
            }
        }
        let told = who_would_break(&store(&policy, &lines), Period::default()).unwrap();
        let total = told.first().map(|exposure| &exposure.total);
        prop_assert_eq!(total.map_or(0, |total| total.messages), lines.len() as u64);
        for place in 0..DEMANDS {
            let fails = total.map(|total| &total.would_fail[place]);
            prop_assert_eq!(fails.map_or(0, |fails| fails.messages), failed[place]);
            prop_assert_eq!(fails.map_or(0, |fails| fails.peers), peers[place].len() as u64);
        }
    }
}

// ---- forms -----------------------------------------------------------------------------------------------

#[test]
fn it_fits_every_terminal() {
    let (report, dossier) = (of_known(), dossier_of_known());
    for width in [40, 60, 80, 140] {
        let shown = terminal::report(&report, look(width));
        fits(&shown, width);
        if width >= 60 {
            is_as_in(&format!("report-{width}.txt"), &shown);
        }
        fits(&terminal::dossier(&dossier, look(width)), width);
    }
    let coloured = terminal::report(&report, Look { colour: true, ..look(80) });
    assert!(coloured.contains("\u{1b}[1m") && coloured.contains("\u{1b}[0m"));
}

#[test]
fn a_list_that_was_cut_says_so() {
    let report = of_known();
    let shown = terminal::report(&report, Look { top: 2, ..look(100) });
    assert!(shown.contains("and 3 more (--all)\n"), "{shown}");
    let page = taken_apart(&html::report(&report, 2));
    assert!(page.text.contains("and \n") || page.text.contains("and 3 more"), "{}", page.text);
    // A script gets all.
    assert_eq!(
        serde_json::to_value(&report).unwrap()["who_would_break"][0]["domains"].as_array().unwrap().len(),
        5
    );
}

#[test]
fn the_page_is_whole_and_takes_nothing_from_elsewhere() {
    for html in [html::report(&of_known(), 100), html::dossier(&dossier_of_known(), 100)] {
        let page = taken_apart(&html);
        for element in ["script", "link", "img", "iframe", "object", "form", "a", "base"] {
            assert!(!page.elements.iter().any(|found| found == element), "{element}");
        }
        let attribute = |name: &'static str| page.attributes.iter().filter(move |(found, _)| found == name);
        assert_eq!(attribute("src").count() + attribute("href").count(), 0);
        let policy = attribute("content").find(|(_, value)| value.starts_with("default-src 'none'"));
        assert!(policy.is_some());
        assert!(page.attributes.contains(&("lang".to_owned(), "en".to_owned())));
        assert!(!html.contains("url(") && !html.contains("@import"));
        // Every table is named, every chart told.
        let count = |name: &str| page.elements.iter().filter(|found| *found == name).count();
        assert_eq!(count("table"), count("caption"));
        assert!(count("table") > 0 && count("th") > 0);
        let charts = attribute("role").filter(|(_, role)| role == "img").count();
        assert_eq!(
            (count("desc"), attribute("aria-labelledby").filter(|(_, ids)| ids.contains("-desc")).count()),
            (charts, charts)
        );
        // What names another element names one that is there.
        let ids: Vec<&str> = attribute("id").map(|(_, id)| id.as_str()).collect();
        for (_, named) in attribute("aria-labelledby") {
            assert!(
                named.split(' ').all(|id| ids.iter().filter(|known| **known == id).count() == 1),
                "{named}"
            );
        }
    }
}

/// What nobody should be able to smuggle in.
const HOSTILE: [&str; 6] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "</style></title><script>",
    "\u{1b}]0;owned\u{7}\u{1b}[2J",
    "\u{202e}\u{2066}txt.exe\u{9b}31m",
    "a\r\n\u{2028}b\u{0}'`&amp;{}",
];

#[test]
fn what_clients_sent_breaks_out_of_nothing() {
    let policy = support::policy(
        "[[rule]]\nname = \"<i>x</i> & \\\"y\\\"\"\ncomment = \"x\"\nclient = [\"*\"]\nenforce = { min-bits = 129 }\n",
    );
    let mut records = Vec::new();
    for hostile in HOSTILE {
        let text = json!({
            "ts": NOW, "client_name": format!("mx.{hostile}.example"), "client_addr": "192.0.2.7",
            "client_resolve": "OK", "tls_version": hostile, "cipher": hostile, "cipher_bits": 128, "verify": hostile,
        });
        records.push(text.to_string());
        let named = json!({
            "ts": NOW, "client_name": "mx.partner.example", "client_addr": "192.0.2.8", "client_resolve": "OK",
            "tls_version": hostile, "cipher": hostile, "cipher_bits": 128, "verify": hostile,
        });
        records.push(named.to_string());
    }
    let mut evidence = rollup(&policy, &records);
    // Records of others name rules as they like.
    for hostile in HOSTILE {
        let text = json!({
            "ts": NOW, "client_addr": "192.0.2.9", "cipher_bits": 0, "verdict": "fail", "mode": "enforce",
            "disposition": "reject", "rule": hostile, "side": "client", "key": hostile,
            "failures": [{"rule": hostile, "side": "client", "key": hostile, "mode": "enforce", "reason": hostile}],
        })
        .to_string();
        evidence.observe(&Observed::of_record(&serde_json::from_str(&text).unwrap()).unwrap());
    }
    let mut store = Store::memory().unwrap();
    store.add(&evidence).unwrap();
    let origin =
        Origin { source: HOSTILE.concat(), notes: HOSTILE.map(str::to_owned).to_vec(), ..origin(None) };
    let report = Report::of(&store, None, origin.clone()).unwrap();
    let ours = Some(HOSTILE.concat());
    let dossier = Dossier::of(&store, Some(&policy), &origin, "partner.example", ours).unwrap();
    for page in [html::report(&report, 100), html::dossier(&dossier, 100)] {
        let apart = taken_apart(&page);
        assert!(!apart.elements.iter().any(|name| name == "script" || name == "img"), "{page}");
        assert!(!apart.attributes.iter().any(|(name, _)| name.starts_with("on")));
        assert!(page.chars().all(|c| c == '\n' || !c.is_control()), "{page:?}");
        assert!(!page.contains(['\u{202e}', '\u{2066}', '\u{2028}']));
        assert!(apart.text.contains("<script>alert(1)</script>"), "{}", apart.text);
    }
    for shown in [terminal::report(&report, look(80)), terminal::dossier(&dossier, look(80))] {
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
        assert!(!shown.contains(['\u{202e}', '\u{2066}', '\u{2028}']));
    }
}
