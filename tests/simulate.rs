//! `simulate`, as one calls it: logs of every kind and packing, whole and damaged, and what is told of them.
//!
//! Promises: what comes out is held against a truth that stands apart from the program: logs that were written with
//! their outcome known, and the records of decisions.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../integration/bench/generated_logs.rs"]
mod generated_logs;
mod support;

use encr_milter::milter::macros;
use encr_milter::policy::decide::decide;
use encr_milter::policy::facts::Facts;
use encr_milter::policy::record::Record;
use generated_logs::{Mix, POLICY, Stamps, Truth, decisions, mail_log};
use proptest::prelude::*;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use support::NOW;
use support::daemon::PROGRAM;
use support::data::{code, data, in_data, is_as_in, stderr, stdout};
use support::random::{MODES, case, compiled, line, payload, policy_text};

/// A folder with a policy and logs in it.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new(policy: &str) -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        bench.write("policy.toml", policy.as_bytes());
        bench
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.path().join(name), bytes).unwrap();
    }

    fn run_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(PROGRAM)
            .arg("simulate")
            .args(arguments)
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            // Who has heard enough closes it.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, b"")
    }

    /// What `--json` tells; the policy is the folder's.
    fn report(&self, logs: &[&str]) -> Value {
        let output = self.run(&[&["--json", "--time-zone", "UTC", "--policy", "policy.toml"], logs].concat());
        assert_eq!((code(&output), stderr(&output)), (0, ""));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn generated(stamps: Stamps, size: u64, seed: u64) -> (Vec<u8>, Truth) {
    let mut log = Vec::new();
    let truth = mail_log(&mut log, size, stamps, Mix::USUAL, seed).unwrap();
    (log, truth)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut out = liblzma::write::XzEncoder::new(Vec::new(), 1);
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

// ---- truth ---------------------------------------------------------------------------------------------

#[test]
fn what_becomes_of_each_message_in_sendmails_log_is_true() {
    for (stamps, seed) in
        [(Stamps::Iso, 1), (Stamps::Iso, 2), (Stamps::Traditional, 3), (Stamps::Traditional, 4)]
    {
        let bench = Bench::new(POLICY);
        let (log, truth) = generated(stamps, 400_000, seed);
        bench.write("mail.log", &log);
        let report = bench.report(&["mail.log"]);
        truth.is_told_by(&report);
        assert_eq!(report["judged"]["from_mail_log"], truth.messages());
    }
}

#[test]
fn what_becomes_of_each_decision_is_true() {
    // Few hosts come again and again, and are judged once.
    for hosts in [40, 40_000] {
        for judged in [false, true] {
            let bench = Bench::new(POLICY);
            let mut log = Vec::new();
            let mix = Mix { hosts, judged, ..Mix::USUAL };
            let truth = decisions(&mut log, 400_000, mix, 5).unwrap();
            bench.write("decisions.jsonl", &log);
            let report = bench.report(&["decisions.jsonl"]);
            truth.is_told_by(&report);
            assert_eq!(report["judged"]["from_decision_records"], truth.messages());
        }
    }
}

#[test]
fn the_records_of_a_log_judged_again_are_the_same() {
    let bench = Bench::new(POLICY);
    let (log, truth) = generated(Stamps::Traditional, 300_000, 12);
    bench.write("mail.log", &log);
    let first = bench.run(&["--records", "--time-zone", "UTC", "--policy", "policy.toml", "mail.log"]);
    bench.write("records", &first.stdout);
    let again = bench.run(&["--records", "--policy", "policy.toml", "records"]);
    assert_eq!((code(&first), code(&again)), (0, 0));
    assert_eq!(stdout(&first).lines().count() as u64, truth.messages());
    assert_eq!(stdout(&again), stdout(&first));
}

#[test]
fn rotated_logs_in_whatever_order_and_packing_are_one_log() {
    for stamps in [Stamps::Iso, Stamps::Traditional] {
        let bench = Bench::new(POLICY);
        let (log, truth) = generated(stamps, 600_000, 6);
        // Cut between lines, as rotation does, through the midst of sessions.
        let cuts: Vec<usize> = (1..5)
            .map(|n| n * log.len() / 5)
            .map(|at| at + log[at..].iter().position(|b| *b == b'\n').unwrap() + 1)
            .collect();
        let ends = cuts.iter().copied().chain([log.len()]);
        let starts = [0].into_iter().chain(cuts.iter().copied());
        let parts: Vec<&[u8]> = starts.zip(ends).map(|(start, end)| &log[start..end]).collect();
        // The oldest has the highest number, and two members.
        let (first, second) = parts[0].split_at(1000);
        bench.write("mail.log.4.gz", &[gzip(first), gzip(second)].concat());
        bench.write("mail.log.3.xz", &xz(parts[1]));
        bench.write("mail.log.2.zst", &zstd(parts[2]));
        bench.write("mail.log.1", &gzip(parts[3]));
        bench.write("mail.log", parts[4]);
        let report =
            bench.report(&["mail.log", "mail.log.1", "mail.log.2.zst", "mail.log.3.xz", "mail.log.4.gz"]);
        truth.is_told_by(&report);
        let order: Vec<_> = report["read"]["logs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|log| log["name"].as_str().unwrap())
            .collect();
        assert_eq!(order, ["mail.log.4.gz", "mail.log.3.xz", "mail.log.2.zst", "mail.log.1", "mail.log"]);
        let packings: Vec<_> =
            report["read"]["logs"].as_array().unwrap().iter().map(|log| &log["packing"]).collect();
        assert_eq!(packings, ["gzip", "xz", "zstd", "gzip", "plain"]);
    }
}

#[test]
fn standard_input_is_a_log_whatever_its_packing() {
    let bench = Bench::new(POLICY);
    let (log, truth) = generated(Stamps::Iso, 200_000, 7);
    for bytes in [log.clone(), gzip(&log), xz(&log), zstd(&log)] {
        let output = bench.run_with(&["-", "--policy", "policy.toml", "--json"], &bytes);
        assert_eq!((code(&output), stderr(&output)), (0, ""));
        truth.is_told_by(&serde_json::from_slice(&output.stdout).unwrap());
    }
    // Beside a file, it takes its place in time.
    let half = log.len() / 2 + log[log.len() / 2..].iter().position(|b| *b == b'\n').unwrap() + 1;
    bench.write("second", &log[half..]);
    let output = bench.run_with(&["--policy", "policy.toml", "--json", "--", "second", "-"], &log[..half]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    truth.is_told_by(&report);
    assert_eq!(report["read"]["bytes"], log.len());
}

#[test]
fn kinds_may_be_mixed_line_by_line() {
    let bench = Bench::new(POLICY);
    let (log, of_mail) = generated(Stamps::Iso, 100_000, 8);
    let mut records = Vec::new();
    let of_records = decisions(&mut records, 100_000, Mix::USUAL, 9).unwrap();
    let mut mixed = Vec::new();
    let mut records = records.split_inclusive(|b| *b == b'\n');
    let mut through_syslog = 0;
    for (number, line) in log.split_inclusive(|b| *b == b'\n').enumerate() {
        mixed.extend_from_slice(line);
        mixed.extend_from_slice(
            b"{\"ts\":\"2026-11-01T00:00:00.000000Z\",\"level\":\"info\",\"message\":\"listening\"}\n",
        );
        let record = records.next();
        if number % 3 == 0 && record.is_some() {
            mixed.extend_from_slice(b"2026-11-01T00:00:01+00:00 mail encr-milter[77]: ");
            through_syslog += 1;
        }
        mixed.extend_from_slice(record.unwrap_or(b"\n"));
    }
    mixed.extend(records.flatten());
    bench.write("mixed", &mixed);
    let report = bench.report(&["mixed"]);
    assert_eq!(report["judged"]["from_mail_log"], of_mail.messages());
    assert_eq!(report["judged"]["from_decision_records"], of_records.messages());
    assert!(through_syslog > 50, "{through_syslog}");
    let mut fates = of_mail.fates.clone();
    for (fate, count) in of_records.fates {
        *fates.entry(fate).or_default() += count;
    }
    for (fate, count) in fates {
        assert_eq!(report["totals"]["after"]["fate"][fate], count, "{fate}");
    }
    assert_eq!(report["read"]["broken_json"], 0);
    let notes = report["notes"].to_string();
    assert!(notes.contains("messages in both count twice"), "{notes}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// The decisions of a run, judged again by the policy of that run, are that run's to the last byte; and by another
    /// policy what comes out is that policy's, to the last byte again.
    #[test]
    fn a_run_judged_again_is_that_run(
        text in policy_text(&MODES),
        other in policy_text(&MODES),
        cases in proptest::collection::vec(case(), 1..40),
    ) {
        let written = |policy: &str| -> String {
            let policy = compiled(policy);
            cases.iter().zip(0..).map(|(case, second)| {
                let payload = payload(&case.pairs);
                let facts = Facts::inbound(&macros::told(&payload));
                let ts = NOW + jiff::SignedDuration::from_secs(second);
                let day = encr_milter::policy::Day::of_unix_seconds(ts.as_second());
                let decision = decide(&policy, &facts, case.envelope(), day);
                line(&Record::new(ts, &facts, case.envelope(), &decision, policy.fingerprint()))
            }).collect()
        };
        let bench = Bench::new(&text);
        bench.write("other.toml", other.as_bytes());
        let (run, by_other) = (written(&text), written(&other));
        bench.write("run.jsonl", run.as_bytes());
        let again = bench.run(&["--records", "--policy", "policy.toml", "run.jsonl"]);
        prop_assert_eq!((code(&again), stdout(&again)), (0, run.as_str()));
        let nothing = bench.report(&["run.jsonl"]);
        prop_assert_eq!(&nothing["changed"], 0);
        prop_assert_eq!(&nothing["totals"]["before"], &nothing["totals"]["after"]);

        let otherwise = bench.run(&["--records", "--policy", "other.toml", "--", "run.jsonl"]);
        prop_assert_eq!((code(&otherwise), stdout(&otherwise)), (0, by_other.as_str()));
        // What was recorded, and what the policy of the time says: the same side to compare with.
        let recorded = bench.run(&["--json", "run.jsonl", "--policy", "other.toml"]);
        let judged = bench.run(&["--json", "--policy", "other.toml", "--against", "policy.toml", "--", "run.jsonl"]);
        let [recorded, judged] = [recorded, judged].map(|output| serde_json::from_slice::<Value>(&output.stdout).unwrap());
        for part in ["totals", "transitions", "changed", "changes"] {
            prop_assert_eq!(&recorded[part], &judged[part]);
        }
    }
}

// ---- what a person sees --------------------------------------------------------------------------------

#[test]
fn what_would_change_is_shown() {
    let shown = in_data(&["simulate", "--policy", "simulate.toml", "simulate.jsonl"], b"");
    assert_eq!((code(&shown), stderr(&shown)), (0, ""));
    is_as_in("simulate.txt", stdout(&shown));
    let back = in_data(
        &[
            "simulate",
            "simulate.jsonl",
            "--policy",
            "sound.toml",
            "--against",
            "simulate.toml",
            "--limit",
            "2",
            "--examples",
            "0",
        ],
        b"",
    );
    assert_eq!((code(&back), stderr(&back)), (0, ""));
    is_as_in("simulate-back.txt", stdout(&back));
    let json = in_data(&["simulate", "--policy", "simulate.toml", "--json", "simulate.jsonl"], b"");
    is_as_in("simulate.json", stdout(&json));
}

#[test]
fn nothing_that_a_client_sent_reaches_the_terminal_as_it_is() {
    let bench = Bench::new(
        "version = 1\n[[rule]]\nname = \"r\"\nclient = [\"*\"]\nsender = [\"*\"]\nenforce = { cn = \"a\" }\n",
    );
    let record = Record {
        client_addr: Some("192.0.2.7".into()),
        client_name: Some("mx\u{1b}[2J.\u{202e}example".into()),
        client_resolve: Some("OK".into()),
        sender: Some("u@\u{7}\r\n.example".into()),
        cipher: Some("X".into()),
        cipher_bits: Some(256),
        verify: Some("OK".into()),
        cn_subject: Some("\u{1b}]0;x\u{7}\u{2028}".into()),
        ..Record::default()
    };
    bench.write("log", line(&record).as_bytes());
    let output = bench.run(&["--policy", "policy.toml", "log"]);
    let shown = stdout(&output);
    assert!(shown.contains("refused") && shown.contains("does not match"), "{shown}");
    assert!(!shown.contains(['\u{1b}', '\u{7}', '\r', '\u{202e}', '\u{2028}']), "{shown:?}");
}

#[test]
fn arguments_may_come_in_any_order() {
    let bench = Bench::new(
        "version = 1\n[[rule]]\nname = \"a\"\nclient = [\"192.0.2.7\"]\nenforce = { min-bits = 128 }\n",
    );
    bench.write(
        "more.toml",
        b"version = 1\n[[rule]]\nname = \"b\"\nclient = [\"*\"]\nobserve = { min-bits = 128 }\n",
    );
    bench.write("old", b"version = 1\n");
    bench.write("log", b"{\"client_addr\":\"192.0.2.7\",\"cipher_bits\":0}\n{\"client_addr\":\"192.0.2.8\",\"cipher_bits\":0}\n");
    for (arguments, refused, observed) in [
        ("--policy policy.toml log", 1, 0),
        ("log --policy policy.toml", 1, 0),
        ("--policy policy.toml more.toml log", 1, 1),
        ("--policy policy.toml --policy more.toml log", 1, 1),
        ("--policy *.toml --against old log", 1, 1),
        ("--against old --policy policy.toml more.toml -- log", 1, 1),
        ("--policy old --against policy.toml more.toml log", 0, 0),
        ("--policy=more.toml --against=old log", 0, 2),
    ] {
        let arguments: Vec<&str> = ["--json"].into_iter().chain(arguments.split(' ')).collect();
        let output = bench.run(&arguments);
        assert_eq!((code(&output), stderr(&output)), (0, ""), "{arguments:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let after = &report["totals"]["after"]["fate"];
        assert_eq!(
            (&after["refused"], &after["observed"]),
            (&refused.into(), &observed.into()),
            "{arguments:?}"
        );
    }
    for (arguments, told) in [
        ("--policy policy.toml", "no log is named"),
        ("log", "--policy <NEW>"),
        ("more.toml log --policy policy.toml", "more.toml is a policy by its name"),
        ("--policy policy.toml log --since yesterday", "2026-11-22T08:00"),
        ("--policy policy.toml log --time-zone Nowhere", "Europe/Berlin"),
        ("--policy policy.toml log --fail-on everything", "tempfail"),
        ("--policy policy.toml log --json --records", "cannot be used with"),
    ] {
        let output = bench.run(&arguments.split(' ').collect::<Vec<_>>());
        assert_eq!(code(&output), 64, "{arguments}");
        assert!(stderr(&output).contains(told), "{arguments}: {}", stderr(&output));
    }
}

#[test]
fn a_period_can_be_cut_out() {
    let bench = Bench::new(POLICY);
    let times =
        ["2026-11-01T22:59:59Z", "2026-11-01T23:00:00Z", "2026-11-02T12:00:00Z", "2026-11-02T23:00:00Z"];
    let lines = times.map(|ts| format!("{{\"ts\":\"{ts}\",\"client_addr\":\"192.0.2.7\"}}\n"));
    bench.write("log", lines.concat().as_bytes());
    for (arguments, judged) in [
        ("--since 2026-11-02 --until 2026-11-02 --time-zone Etc/GMT-1", 2),
        ("--since 2026-11-02 --time-zone UTC", 2),
        ("--since 2026-11-01T23:00 --time-zone UTC", 3),
        ("--until 2026-11-02T12:00:00+00:00", 2),
        ("--until 2026-11-01 --time-zone UTC", 2),
    ] {
        let arguments = format!("--policy policy.toml log --json {arguments}");
        let output = bench.run(&arguments.split(' ').collect::<Vec<_>>());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["judged"]["messages"], judged, "{arguments}");
        assert_eq!(report["judged"]["outside_period"], 4 - judged, "{arguments}");
    }
}

#[test]
fn a_day_to_come_is_told_and_can_be_tried() {
    let bench = Bench::new(
        "version = 1\n[[rule]]\nname = \"r\"\nclient = [\"*\"]\nenforce = { min-bits = 128, from = 2030-01-15 }\n",
    );
    bench
        .write("log", b"{\"ts\":\"2026-11-01T00:00:00Z\",\"client_addr\":\"192.0.2.7\",\"cipher_bits\":0}\n");
    let own = bench.report(&["log"]);
    assert_eq!(own["changed"], 0);
    let note = own["notes"][0].as_str().unwrap();
    assert!(note.contains("enforce of rule r") && note.contains("--day 2030-01-15"), "{note}");
    let then = bench.run(&["--json", "--policy", "policy.toml", "--day", "2030-01-15", "log"]);
    let then: Value = serde_json::from_slice(&then.stdout).unwrap();
    assert_eq!(
        (&then["totals"]["after"]["fate"]["refused"], &then["notes"]),
        (&1.into(), &Value::Array(vec![]))
    );
}

// ---- gates and faults ----------------------------------------------------------------------------------

#[test]
fn the_gate_is_shut_by_what_is_new_and_only_by_that() {
    let bench = Bench::new(
        "version = 1\n[[rule]]\nname = \"r\"\nclient = [\"*\"]\nsoft-fail = { min-bits = 128 }\nobserve = { min-bits = 256 }\n",
    );
    bench.write(
        "hard.toml",
        b"version = 1\n[[rule]]\nname = \"r\"\nclient = [\"*\"]\nenforce = { min-bits = 128 }\n",
    );
    bench.write("log", b"{\"client_addr\":\"192.0.2.7\",\"cipher_bits\":0}\n{\"client_addr\":\"192.0.2.8\",\"cipher\":\"X\"}\n");
    for (arguments, exit) in [
        ("--policy policy.toml log", 0),
        ("--policy policy.toml log --fail-on reject", 0),
        ("--policy policy.toml log --fail-on reject,tempfail", 1),
        ("--policy policy.toml log --fail-on observe", 0),
        ("--policy policy.toml log --fail-on unknown", 1),
        ("--policy policy.toml --against policy.toml log --fail-on reject,tempfail,observe,unknown", 0),
        // What fares better now does not count.
        ("--policy policy.toml --against hard.toml log --fail-on reject,tempfail", 0),
        ("--policy hard.toml --against policy.toml log --fail-on reject,tempfail --records", 1),
    ] {
        let output = bench.run(&arguments.split(' ').collect::<Vec<_>>());
        assert_eq!(code(&output), exit, "{arguments}: {}", stderr(&output));
        assert_eq!(exit == 1, stderr(&output).contains("would be newly met by 1 message"), "{arguments}");
    }
    // A gate that nothing went through is not open.
    bench.write("empty", b"");
    let output = bench.run(&["--policy", "policy.toml", "empty", "--fail-on", "reject"]);
    assert_eq!(code(&output), 65);
    assert!(stderr(&output).contains("nothing to go by"), "{}", stderr(&output));
    assert_eq!(code(&bench.run(&["--policy", "policy.toml", "empty"])), 0);
}

#[test]
fn a_policy_that_is_wrong_is_shown_and_so_is_the_other() {
    let bench = Bench::new("version = 1\nrulez = 1\n");
    bench.write("old.toml", b"version = 2\n");
    bench.write("log", b"");
    let output = bench.run(&["--policy", "policy.toml", "--against", "old.toml", "log"]);
    assert_eq!((code(&output), stdout(&output)), (78, ""));
    assert!(stderr(&output).contains("--> policy.toml:2") && stderr(&output).contains("--> old.toml:1"));
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_read() {
    let (log, truth) = generated(Stamps::Iso, 100_000, 10);
    let bench = Bench::new(POLICY);
    bench.write("good", &log);
    bench.write("other", b"{\"client_addr\":\"192.0.2.7\"}\n");
    let packed = gzip(&log);
    bench.write("cut.gz", &packed[..packed.len() / 2]);
    let mut flipped = xz(&log);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    bench.write("flipped.xz", &flipped);
    let packed = zstd(&log);
    bench.write("cut.zst", &packed[..packed.len() - 5]);
    bench.write("junk.gz", &[gzip(&log), b"junk behind it".to_vec()].concat());
    bench.write("a.bz2", b"BZh91AY&SY");
    fs::create_dir(bench.0.path().join("folder")).unwrap();
    for (name, exit, told, complete) in [
        ("cut.gz", 65, "breaks off or is damaged behind line ", Some(false)),
        ("flipped.xz", 65, "breaks off or is damaged behind line ", Some(false)),
        ("cut.zst", 65, "breaks off or is damaged behind line ", Some(false)),
        ("junk.gz", 65, "breaks off or is damaged behind line ", Some(false)),
        ("a.bz2", 65, "bzip2 -dc FILE | encr-milter", None),
        ("folder", 66, "it is a folder", None),
        ("gone", 66, "No such file", None),
        ("./good", 0, "named before", None),
    ] {
        // The whole one comes after, so that it is not hidden by what went before.
        let output = bench.run(&["--policy", "policy.toml", "--json", "--", "other", "good", name]);
        assert_eq!(code(&output), exit, "{name}: {}", stderr(&output));
        let complaint = format!("encr-milter: {name}: ");
        assert!(
            stderr(&output).starts_with(&complaint) && stderr(&output).contains(told),
            "{}",
            stderr(&output)
        );
        assert_eq!(stderr(&output).lines().count(), 1);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(report["judged"]["messages"].as_u64().unwrap() > truth.messages(), "{name}");
        let read = report["read"]["logs"].as_array().unwrap().iter().find(|log| log["name"] == name);
        assert_eq!(read.map(|log| log["complete"].as_bool().unwrap()), complete, "{name}");
    }
    // A message that would newly be refused says more than a fault.
    let output = bench.run(&["--policy", "policy.toml", "--fail-on", "reject", "--", "good", "gone"]);
    assert_eq!(code(&output), 1);
}

#[test]
fn rubbish_is_counted_and_takes_no_memory() {
    let bench = Bench::new(POLICY);
    let mut log = b"{\"client_addr\":\"192.0.2.7\"}\n\0\0\0\xff\xfe\n{\"client_addr\":\n\n{}\n".to_vec();
    log.resize(log.len() + 40_000_000, b'{');
    log.extend_from_slice(b"\n{\"client_addr\":\"192.0.2.8\"}");
    // With less than the line is long.
    bench.write("log.gz", &gzip(&log));
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 200000; exec \"$0\" simulate --json --policy policy.toml log.gz", PROGRAM])
        .current_dir(bench.0.path())
        .output()
        .unwrap();
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let read = &report["read"];
    assert_eq!(
        (&read["too_long"], &read["broken_json"], &read["other_objects"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!((&read["decision_records"], &read["lines"]), (&2.into(), &7.into()));
}

#[test]
fn whoever_has_seen_enough_may_go() {
    let bench = Bench::new(POLICY);
    let mut log = Vec::new();
    decisions(&mut log, 2_000_000, Mix::USUAL, 11).unwrap();
    bench.write("log", &log);
    let script = "{ \"$0\" simulate --records --policy policy.toml log; echo $? >&2; } | head -n 1";
    let output =
        Command::new("sh").args(["-c", script, PROGRAM]).current_dir(bench.0.path()).output().unwrap();
    assert_eq!(stderr(&output), "0\n");
    assert_eq!(stdout(&output).lines().count(), 1);
}

#[test]
fn the_real_logs_say_the_same_in_both_forms_of_time() {
    let all = "version = 1\n[exempt]\nnetworks = []\n[[rule]]\nname = \"r\"\nclient = [\"*\"]\nserver = [\"*\"]\nenforce = { min-bits = 256 }\n";
    let bench = Bench::new(all);
    let [iso, traditional] = ["iso.log", "traditional.log"].map(|name| {
        let log = data("mail_log").join(name);
        bench.report(&[log.to_str().unwrap()])
    });
    for part in ["totals", "transitions", "changed"] {
        assert_eq!(iso[part], traditional[part], "{part}");
    }
    // The records that were looked through by hand, judged one by one.
    let expected = fs::read_to_string(data("mail_log").join("records.jsonl")).unwrap();
    bench.write("records", expected.as_bytes());
    let truth = bench.report(&["records"]);
    assert_eq!(iso["totals"]["after"], truth["totals"]["after"]);
    assert!(truth["totals"]["after"]["fate"]["refused"].as_u64().unwrap() > 10);
}
