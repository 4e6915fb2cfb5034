//! `encr-milter access lint`, as a person and a script meet it: what is printed, where, and the exit code.
//!
//! Promises: the texts in `data/` are what is shown to the letter. Where they have changed on purpose,
//! `UPDATE_REFERENCES=1 cargo test --test access_lint` writes them anew, to be read in the diff.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use std::fmt::Write;
use std::fs;
use support::data::{data, in_data, is_as_in, seen, tells_what_was_shown};

/// Exit code, standard output and standard error.
fn lint(arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    seen(&in_data(&[&["access", "lint"], arguments].concat(), input))
}

#[test]
fn faults_are_shown_all_at_once_with_line_caret_and_hint() {
    let (code, stdout, stderr) = lint(&["broken.access"], b"");
    assert_eq!((code, stdout.as_str()), (78, ""));
    is_as_in("broken-access.txt", &stderr);
}

#[test]
fn warnings_pass_unless_they_are_to_fail() {
    let (code, stdout, stderr) = lint(&["odd.access"], b"");
    assert_eq!((code, stdout.as_str()), (0, "odd.access: 12 TLS rules, no errors\n"));
    is_as_in("odd-access.txt", &stderr);
    let (code, stdout, again) = lint(&["odd.access", "--fail-on", "warning"], b"");
    assert_eq!((code, stdout.as_str()), (78, ""));
    assert_eq!(again, stderr);
    assert_eq!(lint(&["odd.access", "--fail-on", "error"], b"").0, 0);
    assert_eq!(lint(&["odd.access", "--fail-on", "nothing"], b"").0, 64);
}

#[test]
fn a_sound_map_is_called_sound() {
    let expected = (0, "sound.access: 12 TLS rules, sound\n".to_owned(), String::new());
    assert_eq!(lint(&["sound.access"], b""), expected);
    assert_eq!(lint(&["sound.access", "--fail-on", "warning"], b""), expected);
    let (code, stdout, stderr) = lint(&["-"], b"TLS_Clt:a.example\tENCR:128\n# caf\xe9\n");
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "<stdin>: 1 TLS rule, sound\n", ""));
}

#[test]
fn a_script_is_told_the_same() {
    for (file, fail_on, expected) in
        [("broken", "error", 78), ("odd", "error", 0), ("odd", "warning", 78), ("sound", "warning", 0)]
    {
        let (code, stdout, stderr) = lint(&["--json", "--fail-on", fail_on, &format!("{file}.access")], b"");
        assert_eq!((code, stderr.as_str()), (expected, ""), "{file}");
        let report: Value = serde_json::from_str(&stdout).unwrap();
        let shown = fs::read_to_string(data(&format!("{file}-access.txt"))).unwrap_or_default();
        tells_what_was_shown(&report, &shown, &format!("{file}.access"));
        assert_eq!(report["ok"], expected == 0, "{file}");
        assert!(report["rules"].as_u64().unwrap() > 10);
        let diagnostics = report["diagnostics"].as_array().unwrap();
        let lines: Vec<_> = diagnostics.iter().map(|diagnostic| diagnostic["line"].as_u64()).collect();
        assert!(lines.is_sorted(), "{lines:?}");
    }
}

#[test]
fn what_cannot_be_read_is_told() {
    assert_eq!(lint(&["gone.access"], b"").0, 66);
    let (code, stdout, stderr) = lint(&["-"], b"\0\x06\x15\x61");
    assert_eq!((code, stdout.as_str()), (65, ""));
    assert!(stderr.contains("not the map"), "{stderr}");
}

#[test]
fn a_large_file_is_examined_in_one_go() {
    let mut text = String::new();
    for n in 0..30_000 {
        writeln!(text, "TLS_Clt:host{n}.example\tENCR:{}", [112, 128, 168][n % 3]).unwrap();
        writeln!(text, "Connect:host{n}.example\tRELAY").unwrap();
        writeln!(text, "TLS_Clt:10.{}.{}.{}\tENCR:128", n % 200, n / 200 % 250, n / 50_000).unwrap();
    }
    text.push_str("TLS_Clt:host7.example\tENCR:256\n");
    let (code, stdout, stderr) = lint(&["-"], text.as_bytes());
    assert_eq!((code, stdout.as_str()), (78, ""));
    assert!(stderr.contains("`TLS_Clt:host7.example` stands at line 22 already, with another value"));
    assert!(
        stderr.ends_with("1 error, 40000 warnings (30001 of them not shown)\n"),
        "{}",
        &stderr[stderr.len() - 200..]
    );
}
