//! `access import`, as a person and a script meet it: the policy, what is said of single lines, and the exit code.
//!
//! Promises: the texts in `data/` are what is shown to the letter (`UPDATE_REFERENCES=1` writes them anew). Whether
//! the policy decides as sendmail does is asked of sendmail itself, in `integration/`.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use support::data::{in_data, is_as_in, seen};

/// Exit code, standard output and standard error.
fn import(arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    seen(&in_data(&[&["access", "import"], arguments].concat(), input))
}

#[test]
fn a_map_becomes_a_policy_that_can_be_read() {
    let (code, policy, told) = import(&["import.access"], b"");
    assert_eq!(code, 0);
    is_as_in("import.toml", &policy);
    is_as_in("import.txt", &told);
    let (code, _, told) = seen(&in_data(&["check", "--policy", "import.toml"], b""));
    assert_eq!(code, 0, "{told}");
}

#[test]
fn a_script_is_told_the_same() {
    let (code, policy, told) = import(&["import.access"], b"");
    let (json_code, report, nothing) = import(&["--json", "import.access"], b"");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((json_code, nothing.as_str(), report["policy"].as_str()), (code, "", Some(policy.as_str())));
    assert_eq!((&report["rules"], &report["taken"]), (&10.into(), &9.into()));
    let diagnostics = report["diagnostics"].as_array().unwrap();
    assert_eq!(diagnostics.len(), told.matches("--> import.access:").count());
    assert_eq!((&diagnostics[0]["code"], &diagnostics[0]["line"]), (&"never-matches".into(), &11.into()));
}

#[test]
fn a_dry_run_refuses_nobody() {
    let (code, policy, _) = import(&["--mode", "observe", "import.access"], b"");
    assert_eq!(code, 0);
    assert!(!policy.contains("soft-fail =") && !policy.contains("enforce ="), "{policy}");
    assert_eq!(policy.matches("observe =").count(), policy.matches("[[rule]]").count() - 1, "{policy}");
}

#[test]
fn what_sendmail_mc_says_counts() {
    let (_, policy, _) =
        import(&["--tls-perm-err", "-"], b"TLS_Clt:a.example\tENCR:1\nTLS_Clt:b.example\tSKIP\n");
    assert!(policy.contains("enforce = { min-bits = 1 }") && policy.contains("skip = true"), "{policy}");
    let (_, policy, _) = import(&["--no-skip", "-"], b"TLS_Clt:b.example\tSKIP\n");
    assert!(!policy.contains("skip = true") && policy.contains("name = \"accepts-skip\""), "{policy}");
}

#[test]
fn what_cannot_be_said_to_the_letter_is_the_exit_code() {
    let (code, policy, told) = import(&["-"], b"TLS_Clt:a.example\tVERIFY+CN++CN:x\n");
    assert_eq!(code, 65);
    assert!(policy.contains("cn = \"x\"") && told.contains("warning[inexact]"), "{policy}{told}");
}

#[test]
fn what_cannot_be_read_is_told() {
    let (code, policy, told) = import(&["gone.access"], b"");
    assert_eq!((code, policy.as_str()), (66, ""));
    assert!(told.contains("cannot read gone.access"), "{told}");
    assert_eq!(import(&["-"], b"\0\x06\x15\x61").0, 65);
    let (code, policy, told) = import(&["-"], b"Connect:x OK\n");
    assert_eq!(code, 0);
    assert!(policy.contains("version = 1") && told.contains("has no TLS rules"), "{policy}{told}");
    // Latin-1, as old files have it.
    assert_eq!(import(&["-"], b"# caf\xe9\nTLS_Clt:a.example\tOK\n").0, 0);
}

#[test]
fn every_map_becomes_a_sound_policy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    let long = format!("TLS_Clt:a.example\tENCR:1+CN:{}\n", "x".repeat(300));
    for text in [
        "",
        "# nothing\n",
        "TLS_Clt:a\u{7}b\tENCR:\u{7}1 \"\\ \u{fffd}\n# \u{1} '''\nTLS_Rcpt:joe@\tENCR:1+CN:\"\n",
        "TLS_Clt:\tENCR:1\nTLS_Srv:\tPERM+VERIFY\nTLS_Rcpt:\tOK\nTLS_Clt:encr-1\tENCR:2\n",
        "TLS_Clt:a\tencr-1\nTLS_Clt:b\tENCR.1\nTLS_Clt:c\tencr 1\nTLS_Clt:d\tencr--1\n",
        long.as_str(),
    ] {
        let (code, policy, _) = import(&["-"], text.as_bytes());
        std::fs::write(&path, &policy).unwrap();
        let checked = seen(&in_data(&["check", "--policy", path.to_str().unwrap()], b""));
        assert_eq!((code, checked.0), (0, 0), "{text}\n{policy}{}", checked.2);
    }
}
