//! `report`, as one calls it: from where it takes what it tells, where it puts it, and what is said where there is nothing
//! to tell.
//!
//! Must not: look at the numbers themselves (see `report.rs`).

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use encr_milter::evidence::Store;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use support::daemon::PROGRAM;
use support::data::{code, stderr, stdout};
use support::evidence::{CLEAR, POLICY, fits, known, messages, rollup};
use support::html::taken_apart;

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .arg("report")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .env_remove("COLUMNS")
        .output()
        .unwrap()
}

fn json_of(folder: &Path, arguments: &[&str]) -> Value {
    let output = run(folder, &[arguments, &["--json"]].concat());
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A folder with the policy, the known messages as a log, and as evidence.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("policy.toml"), format!("version = 1\n{POLICY}")).unwrap();
    fs::write(at("unjudged.jsonl"), known().join("\n") + "\n").unwrap();
    let policy = support::policy(POLICY);
    Store::open(&at("evidence.db")).unwrap().add(&rollup(&policy, &known())).unwrap();
    folder
}

#[test]
fn logs_and_the_daemons_evidence_are_told_alike() {
    let folder = folder();
    let of_logs = json_of(folder.path(), &["unjudged.jsonl", "--policy", "policy.toml"]);
    let of_store = json_of(folder.path(), &["--evidence", "evidence.db", "--policy", "policy.toml"]);
    for answer in ["decisions", "who_would_break", "what_happened"] {
        assert_eq!(of_logs[answer], of_store[answer], "{answer}");
    }
    assert_eq!(of_store["decisions"], 65);
    assert_eq!((&of_logs["source"], &of_store["source"]), (&json!("unjudged.jsonl"), &json!("evidence.db")));
    // Whom nobody judged, no rule judged; and without a policy nobody's network is exempt.
    let nobody = json_of(folder.path(), &["unjudged.jsonl"]);
    assert_eq!(
        (&nobody["who_would_break"][0]["exempt"], &nobody["who_would_break"][0]["total"]["messages"]),
        (&json!(0), &json!(61))
    );
    assert_eq!((&nobody["rules"], &nobody["what_happened"]["total"]["refused"]), (&json!([]), &json!(0)));
}

#[test]
fn records_that_were_judged_count_as_they_were() {
    let folder = folder();
    let judged = Command::new(PROGRAM)
        .args(["simulate", "--policy", "policy.toml", "unjudged.jsonl", "--records"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    fs::write(folder.path().join("decisions.jsonl"), &judged.stdout).unwrap();
    let recorded = json_of(folder.path(), &["decisions.jsonl"]);
    let anew = json_of(folder.path(), &["decisions.jsonl", "--policy", "policy.toml"]);
    assert_eq!(recorded["what_happened"], anew["what_happened"]);
    assert_eq!(recorded["what_happened"]["total"]["refused"], 2);
    assert_eq!(recorded["who_would_break"], anew["who_would_break"]);
}

#[test]
fn days_are_left_out_where_only_some_are_asked_for() {
    let folder = folder();
    let from = |arguments: &[&str]| {
        let told = json_of(folder.path(), &[&["--evidence", "evidence.db"], arguments].concat());
        (told["decisions"].as_u64().unwrap(), told["first_day"].as_str().unwrap_or("-").to_owned())
    };
    assert_eq!(from(&["--since", "2026-11-17", "--until", "2026-11-17"]), (34, "2026-11-17".to_owned()));
    assert_eq!(from(&["--until", "2026-11-09"]), (3, "2026-11-09".to_owned()));
    assert_eq!(from(&["--until", "2026-01-01"]), (0, "-".to_owned()));
    let empty = run(folder.path(), &["--evidence", "evidence.db", "--until", "2026-01-01"]);
    assert!(
        stdout(&empty).contains("There is no decision in it.")
            && stdout(&empty).contains("leave out --since")
    );
}

#[test]
fn the_daemons_file_names_policy_and_evidence() {
    let folder = folder();
    fs::write(folder.path().join("encr-milter.toml"), "version = 1\n[state]\ndir = \".\"\n").unwrap();
    let told = json_of(folder.path(), &["-c", "encr-milter.toml"]);
    assert_eq!(told["decisions"], 65);
    assert!(told["policy"].is_string() && told["source"].as_str().unwrap().ends_with("evidence.db"));
    let logs = json_of(folder.path(), &["-c", "encr-milter.toml", "unjudged.jsonl", "--days", "36500"]);
    assert_eq!((&logs["policy"], &logs["source"]), (&told["policy"], &json!("unjudged.jsonl")));
}

#[test]
fn what_cannot_be_told_is_said_with_a_next_step() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("garbage.db"), "no database, and long enough to be taken for one".repeat(100)).unwrap();
    fs::write(at("empty.db"), "").unwrap();
    fs::copy(at("evidence.db"), at("newer.db")).unwrap();
    rusqlite::Connection::open(at("newer.db")).unwrap().pragma_update(None, "user_version", 99).unwrap();
    rusqlite::Connection::open(at("other.db")).unwrap().execute("CREATE TABLE x (y)", []).unwrap();
    fs::write(at("broken.toml"), "version = 1\n[[rule]]\n").unwrap();
    for (arguments, expected, said) in [
        (&["--evidence", "none.db"][..], 66, "there is no evidence file"),
        (&["--evidence", "garbage.db"], 65, "damaged, or no database"),
        (&["--evidence", "empty.db"], 65, "sendmail's own log will do"),
        (&["--evidence", "newer.db"], 65, "use the newer version"),
        (&["--evidence", "other.db"], 65, "not encr-milter's evidence"),
        (&["-c", "none.toml"], 78, "cannot read none.toml"),
        (&["--policy", "policy.toml"], 64, "a policy alone says nothing"),
        (&["--evidence", "evidence.db", "--policy", "broken.toml"], 78, "the policy is wrong"),
        (&["unjudged.jsonl", "--policy", "none.toml"], 78, "cannot read none.toml"),
        (&["policy.toml"], 64, "write --policy policy.toml"),
        (&["none.jsonl"], 66, "none.jsonl: No such file"),
        (&["evidence.db"], 64, "write --evidence evidence.db"),
        (&["--evidence", "unjudged.jsonl"], 65, "if it is a log, name it without --evidence"),
        (&["--evidence", "."], 66, "name the file in it, as in --evidence ./evidence.db"),
        (&["--evidence", "evidence.db", "--days", "4294967295"], 64, "is not in 1..=36500"),
        (&["--evidence", "evidence.db", "--domain", "*.x"], 64, "a wildcard"),
        (
            &["--evidence", "evidence.db", "--since", "2026-11-02", "--until", "2026-11-01"],
            64,
            "no day is left",
        ),
        (&["--evidence", "evidence.db", "--since", "tomorrow"], 64, "a day is written 2026-11-22"),
        (&["--evidence", "evidence.db", "--json", "--html"], 64, "cannot be used with"),
        (&["--evidence", "evidence.db", "-o", "none/x.html"], 73, "none/x.html is not written"),
        (&["--evidence", "evidence.db", "-o", "."], 74, "not a regular file"),
    ] {
        let output = run(folder.path(), arguments);
        assert_eq!(code(&output), expected, "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
    }
    // A log that is not there hides nothing of the others.
    let partly = run(folder.path(), &["none.jsonl", "unjudged.jsonl", "--json"]);
    let told: Value = serde_json::from_slice(&partly.stdout).unwrap();
    assert_eq!((code(&partly), &told["decisions"]), (66, &json!(65)));
}

#[test]
fn a_dossier_is_whole_unless_a_part_was_asked_for() {
    let folder = folder();
    let mut records = String::new();
    for host in 1..30 {
        records += &messages(1, &format!("mx{host}.partner.example"), &format!("192.0.2.{host}"), CLEAR, 1)
            .join("\n");
        records.push('\n');
    }
    fs::write(folder.path().join("many.jsonl"), records).unwrap();
    for form in [&[][..], &["--html"]] {
        let dossier = run(folder.path(), &[&["many.jsonl", "--domain", "partner.example"], form].concat());
        let cut = run(
            folder.path(),
            &[&["many.jsonl", "--domain", "partner.example", "--top", "5"], form].concat(),
        );
        assert!(stdout(&dossier).contains("192.0.2.29") && !stdout(&dossier).contains("--all"));
        assert!(!stdout(&cut).contains("192.0.2.29") && stdout(&cut).contains("--all"));
    }
    // The report is of other domains, too, and is cut; what it says to do next is about the same logs.
    let report = run(folder.path(), &["many.jsonl"]);
    assert!(stdout(&report).contains("encr-milter simulate --policy NEW.toml many.jsonl\n"));
}

#[test]
fn a_file_is_written_as_a_whole_and_keeps_its_mode() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let arguments = ["--evidence", "evidence.db", "--html", "-o", "report.html"];
    let written = run(folder.path(), &arguments);
    assert_eq!((code(&written), stdout(&written), stderr(&written)), (0, "", ""));
    taken_apart(&fs::read_to_string(at("report.html")).unwrap());
    // What stands there is replaced, through a link, and stays as readable as it was.
    fs::write(at("kept.html"), "old").unwrap();
    fs::set_permissions(at("kept.html"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("kept.html", at("link.html")).unwrap();
    let arguments = ["--evidence", "evidence.db", "--domain", "partner.example", "--html", "-o", "link.html"];
    assert_eq!(code(&run(folder.path(), &arguments)), 0);
    assert!(fs::symlink_metadata(at("link.html")).unwrap().is_symlink());
    assert!(
        fs::read_to_string(at("kept.html")).unwrap().contains("Encryption of mail between partner.example")
    );
    assert_eq!(fs::metadata(at("kept.html")).unwrap().permissions().mode() & 0o777, 0o600);
    let left = fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".encr-milter-"));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_terminals_width_is_taken() {
    let folder = folder();
    let at = |columns: &str| {
        let output = Command::new(PROGRAM)
            .args(["report", "--evidence", "evidence.db"])
            .current_dir(folder.path())
            .env("COLUMNS", columns)
            .output()
            .unwrap();
        stdout(&output).to_owned()
    };
    fits(&at("60"), 60);
    fits(&at("nonsense"), 80);
    let widest = |shown: String| shown.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest(at("140")) > 80);
}
