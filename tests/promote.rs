//! `encr-milter promote` and `demote`, as an administrator meets them: on good evidence and on bad, in files of every
//! kind, beside a running daemon.
//!
//! Promises: every file lies in a folder of its own; evidence is made through the evidence's own ways in.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use encr_milter::evidence::{Observed, Rollup, Store, ripeness};
use encr_milter::policy::Day;
use encr_milter::policy::decide::decide;
use encr_milter::policy::record::Record;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::daemon::{Home, PROGRAM};
use support::data::{code, stderr, stdout};
use support::until;

const POLICY: &str = "\
# Ours.
[gate]
min-messages = 50

[[rule]]
name = \"partner\"                # contract 2026-114
client = [\"partner.example\"]
observe   = { min-bits = 256 }  # the next step
enforce   = { min-bits = 128 }

[[rule]]
name = \"everyone\"
client = [\"*\"]
observe = { min-bits = 128 }
";

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// So many messages of a host of partner.example with so many bits, some days ago.
#[derive(Clone, Copy)]
struct Met {
    ago: i64,
    bits: u16,
    count: usize,
}

const GOOD: &[Met] = &[Met { ago: 10, bits: 256, count: 60 }];
const BAD: &[Met] = &[Met { ago: 10, bits: 256, count: 60 }, Met { ago: 3, bits: 128, count: 2 }];

/// Adds evidence of a policy that stood from so many days ago to so many days ago.
fn evidence(path: &Path, policy: &str, from: i64, to: i64, met: &[Met]) {
    let policy = support::policy(policy);
    let mut rollup = Rollup::new(1000);
    for ago in to..=from {
        rollup.stand(&policy, Day::of_unix_seconds(now() - ago * 86_400));
    }
    for Met { ago, bits, count } in met {
        let ts = jiff::Timestamp::from_second(now() - ago * 86_400).unwrap();
        let text = json!({
            "ts": ts, "client_name": "mx.partner.example", "client_resolve": "OK", "client_addr": "192.0.2.7",
            "tls_version": "TLSv1.2", "cipher": "X", "cipher_bits": bits, "verify": "NOT",
            "verdict": "pass", "mode": "enforce", "rule": "partner", "side": "client", "key": "partner.example",
        })
        .to_string();
        let record: Record<'_> = serde_json::from_str(&text).unwrap();
        for _ in 0..*count {
            rollup.observe(&Observed::of_record(&record).unwrap());
        }
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    Store::open(path).unwrap().add(&rollup).unwrap();
}

/// A home with the policy and three weeks of evidence.
fn home(met: &[Met]) -> Home {
    let home = Home::new(POLICY);
    evidence(&home.path("state/evidence.db"), POLICY, 21, 0, met);
    home
}

fn command(home: &Home, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).args(["-c", "encr-milter.toml"]).current_dir(home.dir());
    command
}

fn run(home: &Home, arguments: &[&str]) -> Output {
    command(home, arguments).output().unwrap()
}

fn json_of(home: &Home, arguments: &[&str]) -> (i32, Value) {
    let output = command(home, arguments).arg("--json").output().unwrap();
    assert_eq!(stderr(&output), "");
    (code(&output), serde_json::from_slice(&output.stdout).unwrap())
}

fn policy_of(home: &Home) -> String {
    fs::read_to_string(home.path("policy.toml")).unwrap()
}

fn as_written(policy: &str) -> String {
    format!("version = 1\n{policy}")
}

const DIFF: &str = "
@@ -6,8 +6,8 @@
 [[rule]]
 name = \"partner\"                # contract 2026-114
 client = [\"partner.example\"]
-observe   = { min-bits = 256 }  # the next step
-enforce   = { min-bits = 128 }
+# the next step
+enforce   = { min-bits = 256 }
 
 [[rule]]
 name = \"everyone\"
";

#[test]
fn good_evidence_promotes_and_nothing_else_changes() {
    let home = home(GOOD);
    let before = policy_of(&home);
    let dry = run(&home, &["promote", "partner", "--to", "enforce", "--dry-run"]);
    assert_eq!((code(&dry), policy_of(&home)), (0, before.clone()), "{}", stderr(&dry));
    let output = run(&home, &["promote", "partner", "--to", "enforce"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let changed = "# the next step\nenforce   = { min-bits = 256 }\n";
    let lines = "observe   = { min-bits = 256 }  # the next step\nenforce   = { min-bits = 128 }\n";
    assert_eq!(policy_of(&home), before.replace(lines, changed));
    assert!(stdout(&output).ends_with(DIFF), "{}", stdout(&output));
    assert_eq!(stdout(&output), stdout(&dry));
    for said in [
        "policy.toml: written\n",
        "  rule partner: enforce raised from min-bits 128 to min-bits 256\n",
        "  rule partner: observe removed min-bits 256\n",
        "its log says then: policy in force policy=",
        "encr-milter access export --policy ",
    ] {
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
    let again = run(&home, &["promote", "partner", "--to", "enforce"]);
    assert_eq!(code(&again), 64);
    assert!(stderr(&again).contains("no mode softer than `enforce`"), "{}", stderr(&again));
    let back = run(&home, &["demote", "partner", "--to", "observe"]);
    assert_eq!(code(&back), 0, "{}", stderr(&back));
    assert_eq!(policy_of(&home), before.replace(lines, &changed.replace("enforce", "observe")));
}

#[test]
fn bad_evidence_is_told_and_only_force_passes_it_by() {
    let home = home(BAD);
    let before = policy_of(&home);
    let output = run(&home, &["promote", "partner", "--to", "enforce"]);
    assert_eq!((code(&output), stdout(&output), policy_of(&home)), (1, "", before.clone()));
    for said in [
        "rule `partner` is not made enforce: nothing is written",
        "  no  max-failures: 2 failures, 0 allowed; the last on ",
        ": partner.example (192.0.2.0/24), encryption too weak 128 less than 256\n",
        "  yes min-messages: 62 of 50 messages\n",
        "--force",
    ] {
        assert!(stderr(&output).contains(said), "{said}: {}", stderr(&output));
    }
    let (refused, told) = json_of(&home, &["promote", "partner", "--to", "enforce"]);
    assert_eq!((refused, &told["ok"], &told["written"]), (1, &json!(false), &json!(false)));
    assert_eq!(told["ripeness"]["failures_that_count"], 2);
    assert_eq!(told["against"].as_array().unwrap().len(), 1);
    let (forced, told) = json_of(&home, &["promote", "partner", "--to", "enforce", "--force"]);
    assert_eq!((forced, &told["forced"], &told["written"]), (0, &json!(true), &json!(true)));
    assert_eq!(told["changes"][0], "rule partner: enforce raised from min-bits 128 to min-bits 256");
    assert!(policy_of(&home).contains("enforce   = { min-bits = 256 }"));
}

#[test]
fn evidence_that_is_not_there_is_no_leave() {
    let refused = |home: &Home, said: &str| {
        let before = policy_of(home);
        let output = run(home, &["promote", "partner", "--to", "enforce"]);
        assert_eq!((code(&output), policy_of(home)), (1, before), "{}", stderr(&output));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    };
    let missing = Home::new(POLICY);
    refused(&missing, "the evidence cannot be read: ");
    let check = run(&missing, &["promote", "--check"]);
    assert_eq!((code(&check), stdout(&check)), (66, ""));
    assert!(stderr(&check).contains("there is no evidence file"), "{}", stderr(&check));

    let corrupt = home(GOOD);
    fs::write(corrupt.path("state/evidence.db"), "no database at all, but some text that is long enough")
        .unwrap();
    refused(&corrupt, "damaged, or no database");
    let forced = run(&corrupt, &["promote", "partner", "--to", "enforce", "--force"]);
    assert_eq!(code(&forced), 0);
    assert!(stderr(&forced).contains("in spite of the evidence cannot be read"), "{}", stderr(&forced));

    let stale = Home::new(POLICY);
    evidence(&stale.path("state/evidence.db"), POLICY, 30, 5, GOOD);
    refused(&stale, "does the daemon run, with [evidence] enabled?");
    let check = run(&stale, &["promote", "--check"]);
    assert_eq!((code(&check), stdout(&check)), (0, ""));
    assert!(stderr(&check).contains("the evidence ends on "), "{}", stderr(&check));

    let young = Home::new(POLICY);
    evidence(&young.path("state/evidence.db"), POLICY, 5, 0, &[Met { ago: 1, ..GOOD[0] }]);
    refused(&young, "  no  min-days: 6 of 14 days in observe, since ");
}

#[test]
fn check_is_fit_for_cron() {
    let quiet = home(BAD);
    let output = run(&quiet, &["promote", "--check"]);
    assert_eq!((code(&output), stdout(&output), stderr(&output)), (0, "", ""));
    let all = run(&quiet, &["promote", "--check", "--all"]);
    assert!(
        stdout(&all).contains("partner: min-bits 256 is not ripe for soft-fail, from observe:\n"),
        "{}",
        stdout(&all)
    );
    assert!(stdout(&all).contains("  no  min-messages: 0 of 50 messages\n"), "{}", stdout(&all));

    let ripe = home(GOOD);
    let output = run(&ripe, &["promote", "--check"]);
    let line = "partner: min-bits 256 is ripe for soft-fail, from observe: ";
    let command = stdout(&output).strip_prefix(line).unwrap_or_else(|| panic!("{}", stdout(&output)));
    assert_eq!(command, "encr-milter promote partner --to soft-fail -c encr-milter.toml\n");
    let (_, told) = json_of(&ripe, &["promote", "--check"]);
    assert_eq!((told.as_array().unwrap().len(), &told[0]["command"]), (1, &json!(command.trim_end())));
    // The line can be run as it is.
    let words: Vec<&str> = command.split_whitespace().skip(1).collect();
    let done = Command::new(PROGRAM).args(words).current_dir(ripe.dir()).output().unwrap();
    assert_eq!(code(&done), 0, "{}", stderr(&done));
    assert!(policy_of(&ripe).contains("soft-fail = { min-bits = 256 }  # the next step\n"));
    // In its new mode it ripens anew.
    let output = run(&ripe, &["promote", "--check", "--all"]);
    assert!(stdout(&output).contains("  no  min-days: 0 of 14 days in soft-fail\n"), "{}", stdout(&output));
}

#[test]
fn the_file_that_has_the_rule_is_changed_wherever_it_lies() {
    let home = home(GOOD);
    let daemon_file = support::daemon::DAEMON_FILE.replace("policy.toml", "conf.d/*.toml");
    home.daemon_file(&daemon_file);
    fs::create_dir_all(home.path("conf.d")).unwrap();
    fs::create_dir_all(home.path("real")).unwrap();
    let (gate, rules) = POLICY.split_at(POLICY.find("[[rule]]").unwrap());
    home.write("conf.d/1.toml", &as_written(gate));
    home.write("real/2.toml", &as_written(rules).replace('\n', "\r\n"));
    symlink("../real/2.toml", home.path("conf.d/2.toml")).unwrap();
    fs::set_permissions(home.path("real/2.toml"), fs::Permissions::from_mode(0o604)).unwrap();
    let output = run(&home, &["promote", "partner", "--to", "enforce"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(fs::symlink_metadata(home.path("conf.d/2.toml")).unwrap().is_symlink());
    assert_eq!(fs::metadata(home.path("real/2.toml")).unwrap().mode() & 0o7777, 0o604);
    let changed = fs::read_to_string(home.path("real/2.toml")).unwrap();
    assert!(changed.contains("# the next step\r\nenforce   = { min-bits = 256 }\r\n"), "{changed}");
    assert_eq!(fs::read_to_string(home.path("conf.d/1.toml")).unwrap(), as_written(gate));
    assert_eq!(fs::read_dir(home.path("real")).unwrap().count(), 1);
}

#[test]
fn a_file_that_was_changed_meanwhile_is_left_alone() {
    let home = home(GOOD);
    // Whoever holds the evidence makes the command wait, between reading the policy and writing it.
    let path = home.path("state/evidence.db");
    let holder = rusqlite::Connection::open(&path).unwrap();
    let mode: String = holder.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "delete");
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut child = command(&home, &["promote", "partner", "--to", "enforce"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let files = PathBuf::from(format!("/proc/{}/fd", child.id()));
    until("the evidence to be opened", || {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("it has not waited: {status}");
        }
        let mut open = fs::read_dir(&files).ok()?.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        open.find(|open| open.ends_with("evidence.db"))
    });
    let other = policy_of(&home).replace("# Ours.", "# Theirs.");
    home.write("policy.toml", &other);
    holder.execute_batch("ROLLBACK").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), policy_of(&home)), (75, other), "{}", stderr(&output));
    assert!(stderr(&output).contains("was changed meanwhile: run this again"), "{}", stderr(&output));
}

#[test]
fn what_cannot_be_done_says_so() {
    let home = home(GOOD);
    let before = policy_of(&home);
    for (arguments, expected, said) in [
        (&["promote", "partnr", "--to", "enforce"][..], 64, "did you mean `partner`?"),
        (&["promote", "partner", "--to", "observe"], 64, "[possible values: soft-fail, enforce]"),
        (&["promote", "partner", "--to", "enforce", "--percent", "5"], 64, "only `soft-fail` defers"),
        (&["promote", "partner", "--to", "soft-fail", "--max-delay", "4"], 64, "write a number and a unit"),
        (&["promote", "partner", "--to", "enforce", "--from", "tomorrow"], 64, "2027-01-15"),
        (&["promote", "partner"], 64, "--to <MODE>"),
        (&["promote", "--check", "--force"], 64, "cannot be used with"),
        (&["demote", "everyone", "--to", "soft-fail"], 64, "no mode harder than `soft-fail`"),
        // It enforces today, and would not before that day.
        (&["promote", "partner", "--to", "enforce", "--from", "2999-01-01"], 1, "`enforce` is in force"),
    ] {
        let output = run(&home, arguments);
        assert_eq!((code(&output), policy_of(&home)), (expected, before.clone()), "{}", stderr(&output));
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
    }
    home.write("policy.toml", &before.replace("observe", "obsrve"));
    let broken = run(&home, &["promote", "partner", "--to", "enforce"]);
    assert_eq!(code(&broken), 78);
    assert!(stderr(&broken).contains("unknown field `obsrve`"), "{}", stderr(&broken));
}

#[test]
fn a_folder_that_takes_no_file_is_told() {
    let home = home(GOOD);
    // So deep that the policy's name fits into a path, and that of a new file beside it does not.
    let mut folder = fs::canonicalize(home.dir()).unwrap();
    while folder.as_os_str().len() < 4082 {
        let left = 4082 - folder.as_os_str().len() - 1;
        folder.push("d".repeat(if left > 400 { 200 } else { left.div_ceil(left.div_ceil(250)) }));
        fs::create_dir(&folder).unwrap();
    }
    let policy = folder.join("p.toml");
    fs::rename(home.path("policy.toml"), &policy).unwrap();
    symlink(&policy, home.path("policy.toml")).unwrap();
    let output = run(&home, &["demote", "partner", "--to", "observe"]);
    assert_eq!((code(&output), stdout(&output)), (73, ""), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("error[not-written]: policy.toml")
            || stderr(&output).contains("cannot make a file in "),
        "{}",
        stderr(&output)
    );
    assert_eq!(policy_of(&home), as_written(POLICY));
}

#[test]
fn the_running_daemon_takes_it_for_the_next_message() {
    let home = home(GOOD);
    let daemon = home.start();
    let told = |bits| {
        [
            ("{client_addr}", "192.0.2.7"),
            ("{client_name}", "mx.partner.example"),
            ("{client_resolve}", "OK"),
            ("{tls_version}", "TLSv1.2"),
            ("{cipher}", "TEST"),
            ("{cipher_bits}", bits),
        ]
    };
    // What is met before the step is evidence too, and may be there in time to count.
    assert_eq!(daemon.one_message(&told("256")), "accept");
    let mark = daemon.mark();
    let output = run(&home, &["promote", "partner", "--to", "enforce"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    // The log says what the command said that it would say.
    let said = stderr(&output).split("its log says then: ").nth(1).unwrap();
    let said = said.lines().next().unwrap();
    daemon.wait_log_since(mark, said);
    let refused = daemon.one_message(&told("128"));
    assert!(refused.contains("554 5.7.0") && refused.contains("128 less than 256"), "{refused}");
    daemon.stop();
}

/// The guide's own rule for a partner: whoever connects from there in their own name meets it on both sides.
const TWO_SIDES: &str = "\
[gate]
min-messages = 50
[[rule]]
name = \"partner\"
client = [\"partner.example\", \"192.0.2.7\"]
sender = [\"partner.example\"]
recipient = [\"partners@ours.example\"]
observe = { min-bits = 128 }
";
/// A rule that decides before it, where both are met.
const HARDER: &str = "\
[[rule]]
name = \"harder\"
sender = [\"harder.example\"]
enforce = { min-bits = 256 }
";

/// A message from a host with such an address, in such a name, to such a recipient, with so many bits.
fn message(host: usize, sender: usize, recipient: usize, bits: usize) -> String {
    let host = ["192.0.2.7", "192.0.2.8", "198.51.100.1"][host];
    let sender = ["a@partner.example", "a@harder.example", "a@other.example"][sender];
    let recipient = ["partners@ours.example", "us@ours.example"][recipient];
    let bits = [0, 128, 256][bits];
    json!({
        "ts": jiff::Timestamp::now(), "client_name": format!("[{host}]"), "client_addr": host,
        "client_resolve": "FAIL", "sender": sender, "recipient": recipient, "cipher_bits": bits,
        "tls_version": if bits > 0 { "TLSv1.3" } else { "" }, "cipher": if bits > 0 { "X" } else { "" },
    })
    .to_string()
}

/// The evidence of these, and in how many of them the rule was met, and was not passed.
fn judged(policy: &encr_milter::policy::Policy, messages: &[String]) -> (Rollup, u64, u64) {
    let today = Day::of_unix_seconds(now());
    let mut rollup = Rollup::new(1000);
    for ago in 0..20 {
        rollup.stand(policy, Day(today.0 - ago));
    }
    let (mut met, mut failed) = (0, 0);
    for text in messages {
        let record: Record<'_> = serde_json::from_str(text).unwrap();
        let facts = record.facts();
        let decision = decide(policy, &facts, record.envelope(), today);
        rollup.observe(&Observed::of(&facts, &decision, record.ts.unwrap()));
        if decision.held.iter().flatten().any(|held| held.rule.name == "partner") {
            met += 1;
            failed += u64::from(record.cipher_bits == Some(0));
        }
    }
    (rollup, met, failed)
}

#[test]
fn a_message_that_meets_a_rule_on_two_sides_counts_once() {
    let home = Home::new(TWO_SIDES);
    let policy = support::policy(TWO_SIDES);
    let mut messages = vec![message(0, 0, 0, 1); 30];
    let keep = |messages: &[String]| {
        let path = home.path("state/evidence.db");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        Store::open(&path).unwrap().add(&judged(&policy, messages).0).unwrap();
    };
    let told = || {
        let (_, checked) = json_of(&home, &["promote", "--check", "--all"]);
        let (_, report) = json_of(&home, &["report"]);
        let rule = &report["rules"][0];
        assert_eq!(rule["ripeness"]["messages"], checked[0]["messages"]);
        assert_eq!(rule["held"], checked[0]["messages"], "{rule:#}");
        let mode = &rule["modes"][0];
        assert_eq!(
            mode["passed"].as_u64().unwrap() + mode["failed"].as_u64().unwrap(),
            checked[0]["messages"].as_u64().unwrap()
        );
        assert_eq!(mode["failed"], checked[0]["failures"]);
        (
            checked[0]["messages"].as_u64().unwrap(),
            checked[0]["failures"].as_u64().unwrap(),
            checked[0]["ripe"] == true,
        )
    };
    keep(&messages);
    // On three sides, and so 90 rows' worth.
    assert_eq!(told(), (30, 0, false));
    let refused = run(&home, &["promote", "partner", "--to", "soft-fail"]);
    assert_eq!(code(&refused), 1, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("30 of 50 messages"), "{}", stderr(&refused));
    // Those of one side alone are not lost beside them.
    messages.extend(vec![message(0, 2, 1, 1); 10]);
    messages.extend(vec![message(1, 0, 1, 1); 10]);
    keep(&messages);
    assert_eq!(told(), (50, 0, true));
    messages.extend(vec![message(0, 0, 1, 0); 3]);
    keep(&messages);
    assert_eq!(told(), (53, 3, false));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes in whatever order: never more messages than there were, never fewer failures.
    #[test]
    fn the_gate_is_never_easier_than_the_truth(
        kinds in vec((0..3usize, 0..3usize, 0..2usize, 0..3usize), 1..60),
        alone: bool,
    ) {
        let policy = support::policy(&if alone { TWO_SIDES.to_owned() } else { format!("{TWO_SIDES}{HARDER}") });
        let messages: Vec<String> = kinds.iter().map(|(h, s, r, b)| message(*h, *s, *r, *b)).collect();
        let (rollup, met, failed) = judged(&policy, &messages);
        let mut store = Store::memory().unwrap();
        store.add(&rollup).unwrap();
        let found = ripeness::of_all(&store, &policy, Day::of_unix_seconds(now())).unwrap();
        let found = found.iter().find(|ripeness| ripeness.rule == "partner").unwrap();
        prop_assert!(found.messages <= met && failed <= found.failures, "{found:?}: {met}, {failed}");
        // Where no other rule decides all are known; what failed is never more than all that came.
        if alone {
            prop_assert_eq!(found.messages, met);
        }
        let in_the_clear = kinds.iter().filter(|(.., bits)| *bits == 0).count();
        prop_assert!(found.failures <= u64::try_from(in_the_clear).unwrap());
    }
}
