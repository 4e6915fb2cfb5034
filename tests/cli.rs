//! The commands, as a person and a script meet them: what is printed, where, and the exit code.
//!
//! Promises: the texts in `data/` are what is shown to the letter. Where they have changed on purpose,
//! `UPDATE_REFERENCES=1 cargo test --test cli` writes them anew, to be read in the diff.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::daemon::{PROGRAM, piped, run};
use support::data::{code, in_data, is_as_in, stderr, stdout, tells_what_was_shown};
use support::until;

const SOUND: &str = "version = 1\n[[rule]]\nname = \"partner\"\nclient = [\"partner.example\", \"192.0.2.0/24\"]\nobserve = { min-bits = 256 }\nenforce = { min-bits = 128 }\n";

/// A folder with these files.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn path_of(folder: &tempfile::TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

/// A folder of the source tree.
fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

// ---- check ---------------------------------------------------------------------------------------------

#[test]
fn check_shows_all_mistakes_at_once_with_line_caret_and_hint() {
    let output = in_data(&["check", "--policy", "broken.toml"], b"");
    assert_eq!(code(&output), 78);
    assert_eq!(stdout(&output), "");
    is_as_in("broken.txt", stderr(&output));
    // What is not to a terminal has no colours in it.
    assert!(!stderr(&output).contains('\u{1b}'));
}

#[test]
fn check_tells_a_script_the_same() {
    let output = in_data(&["check", "--policy", "broken.toml", "--json"], b"");
    assert_eq!((code(&output), stderr(&output)), (78, ""));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let shown = fs::read_to_string(source("tests/data/broken.txt")).unwrap();
    assert_eq!(report["ok"], false);
    tells_what_was_shown(&report, &shown, "broken.toml");
}

#[test]
fn check_of_a_sound_policy_says_so() {
    let folder =
        folder(&[("p.toml", SOUND.as_bytes()), ("q.toml", b"version = 1\n[reply]\ncontact = \"x\"\n")]);
    let (one, two, all) =
        (path_of(&folder, "p.toml"), path_of(&folder, "q.toml"), path_of(&folder, "*.toml"));
    let output = run(&["check", "--policy", &one], b"");
    let shown = stdout(&output).to_owned();
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    assert!(shown.starts_with("policy ") && shown.ends_with(": 1 rule, sound\n"), "{shown}");
    // Several files, by name or by a pattern, are one policy.
    let together = run(&["check", "--policy", &one, &two], b"");
    let by_pattern = run(&["check", "--policy", &all], b"");
    assert_eq!(stdout(&together), stdout(&by_pattern));
    assert_ne!(stdout(&together), shown);
    let report: Value =
        serde_json::from_slice(&run(&["check", "--json", "--policy", &one], b"").stdout).unwrap();
    assert_eq!(
        (&report["ok"], &report["rules"], &report["diagnostics"]),
        (&json!(true), &json!(1), &json!([]))
    );
    assert!(shown.contains(report["policy"].as_str().unwrap()));
}

#[test]
fn check_lets_warnings_pass_and_shows_them() {
    let folder = folder(&[("p.toml", SOUND.replace("256", "168").as_bytes())]);
    let output = run(&["check", "--policy", &path_of(&folder, "p.toml")], b"");
    assert_eq!(code(&output), 0);
    assert!(
        stderr(&output).starts_with("warning[no-such-bits]: no cipher has 168 bits\n"),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).ends_with("\n1 warning\n"), "{}", stderr(&output));
    assert!(stdout(&output).ends_with(", sound\n"));
}

#[test]
fn check_has_an_answer_to_whatever_stands_in_a_policys_place() {
    let folder = folder(&[
        ("empty.toml", b""),
        ("blank.toml", b"\n\n# nothing\n"),
        ("binary.toml", b"\x7fELF\x02\x01\x01\0\0\xff\xfe\0\0"),
        ("nul.toml", b"version = 1\n\0\0\0\n"),
        ("latin1.toml", b"version = 1\n# caf\xe9\n"),
        ("long.toml", format!("version = 1\nx = \"{}\" y\n", "z".repeat(1_000_000)).as_bytes()),
        ("deep.toml", format!("version = 1\nrule = {}\n", "[".repeat(100_000)).as_bytes()),
        ("many.toml", format!("version = 1\n{}", "[[rule]]\n".repeat(500)).as_bytes()),
    ]);
    fs::create_dir(folder.path().join("folder.toml")).unwrap();
    std::os::unix::fs::symlink("loop.toml", folder.path().join("loop.toml")).unwrap();
    for (name, expected) in [
        ("empty.toml", "error[missing-version]: the file does not say `version = 1`"),
        ("blank.toml", "error[missing-version]"),
        ("binary.toml", "error[not-utf8]"),
        ("nul.toml", "error[toml-syntax]"),
        ("latin1.toml", "is not UTF-8 text (line 2, byte 17)"),
        ("long.toml", "error[toml-syntax]"),
        ("deep.toml", "error[toml-syntax]"),
        ("many.toml", "1500 errors (1300 of them not shown)"),
        ("folder.toml", "not a regular file"),
        ("loop.toml", "error[unreadable-file]"),
        ("gone.toml", "error[unreadable-file]"),
        ("none-*.toml", "no file matches"),
        ("[.toml", "error[unreadable-file]"),
    ] {
        let output = run(&["check", "--policy", &path_of(&folder, name)], b"");
        let shown = stderr(&output);
        assert_eq!(code(&output), 78, "{name}: {shown}");
        assert!(shown.contains(expected), "{name}: {}", &shown[..shown.len().min(2000)]);
        assert!(shown.len() < 100_000, "{name}: {} bytes are shown", shown.len());
        assert_eq!(stdout(&output), "", "{name}");
    }
}

#[test]
fn check_of_a_daemon_file_includes_its_policy() {
    let daemon = "version = 1\n[policy]\nfiles = [\"p.toml\"]\nmax-size = 100\n";
    let folder = folder(&[("d.toml", daemon.as_bytes()), ("p.toml", SOUND.as_bytes())]);
    let (config, policy) = (path_of(&folder, "d.toml"), path_of(&folder, "p.toml"));
    let output = run(&["check", "-c", &config], b"");
    assert_eq!(code(&output), 78);
    let expected = format!("error[too-large]: {policy} makes the policy larger than the 100 bytes allowed");
    assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
    fs::write(&config, daemon.replace("100", "1000")).unwrap();
    assert_eq!(code(&run(&["check", "-c", &config], b"")), 0);
    // What is wrong with the daemon's file itself.
    fs::write(&config, daemon.replace("max-size", "max-sise")).unwrap();
    let output = run(&["check", "--config", &config], b"");
    assert_eq!(code(&output), 78);
    assert!(stderr(&output).contains("did you mean `max-size`?"), "{}", stderr(&output));
}

// ---- explain -------------------------------------------------------------------------------------------

#[test]
fn explain_shows_the_decision_and_the_keys_that_were_tried() {
    let output = in_data(
        &[
            "explain",
            "--policy",
            "whole.toml",
            "--ts",
            "2026-11-18T12:00:00Z",
            "--client-name",
            "MX.Partner.Example",
            "--client-addr",
            "192.0.2.7",
            "--cipher-bits",
            "128",
            "--tls-version",
            "TLSv1.3",
            "--sender",
            "boss@partner.example",
            "--recipient",
            "u@hr.example",
        ],
        b"",
    );
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    is_as_in("explain.txt", stdout(&output));
    // The same on the day that a mode is in force from.
    let later = in_data(
        &[
            "explain",
            "--policy",
            "whole.toml",
            "--ts",
            "2027-01-15T00:00:00Z",
            "--client-name",
            "mx.partner.example",
        ],
        b"",
    );
    assert_eq!(code(&later), 0);
    is_as_in("explain-assumed.txt", stdout(&later));
}

#[test]
fn explain_tells_a_script_the_record_and_the_keys() {
    let output = in_data(
        &[
            "explain",
            "--policy",
            "whole.toml",
            "--json",
            "--ts",
            "2026-11-18T12:00:00Z",
            "--client-addr",
            "198.51.100.7",
            "--cipher-bits",
            "0",
        ],
        b"",
    );
    assert_eq!(code(&output), 0);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (field, expected) in [
        ("verdict", "exempt"),
        ("disposition", "accept"),
        ("rule", "partner-old-relay"),
        ("side", "client"),
        ("key", "198.51.100.7"),
        ("reason", "their upgrade is booked"),
        ("ts", "2026-11-18T12:00:00.000000Z"),
    ] {
        assert_eq!(told[field], expected, "{field}");
    }
    let tried = told["tried"].as_array().unwrap();
    assert_eq!(
        tried[0],
        json!({"side": "client", "key": "198.51.100.7", "rule": "partner-old-relay", "in_force": true})
    );
    assert_eq!(tried.last().unwrap()["key"], "*");
}

#[test]
fn explain_takes_what_it_is_given_to_the_letter() {
    let folder = folder(&[("p.toml", SOUND.as_bytes())]);
    let policy = path_of(&folder, "p.toml");
    let addressed = ["--client-addr", "192.0.2.7"];
    for (flags, verdict) in [
        (&[][..], "unknown"),
        (&["--client-name", "x.partner.example"], "fail (enforce)"),
        (&["--client-name", "x.partner.example", "--client-resolve", "FORGED"], "no-rule"),
        (&["--client-name", "x.partner.example", "--cipher-bits", "128"], "fail (observe)"),
        (&["--client-name", "x.partner.example", "--cipher-bits", "256"], "pass (enforce)"),
        (&["--client-name", "x.partner.example", "--cipher", "X"], "unknown (enforce)"),
        (&["--client-addr", "192.0.2.7", "--auth-ssf", "256"], "pass (enforce)"),
        (&["--client-addr", "192.0.2.7", "--auth", "user"], "exempt"),
        (&["--client-addr", "127.0.0.1"], "exempt"),
        (&["--client-addr", "192.0.2.7", "--recipient", "postmaster@x"], "exempt"),
        (&["--server-name", "x.partner.example", "--direction", "outbound"], "no-rule"),
        (&addressed, "fail (enforce)"),
    ] {
        let arguments = [&["explain", "--policy", &policy], flags].concat();
        let output = run(&arguments, b"");
        assert_eq!(code(&output), 0, "{flags:?}: {}", stderr(&output));
        let first = stdout(&output).lines().next().unwrap();
        assert_eq!(first, format!("verdict      {verdict}"), "{flags:?}");
    }
}

#[test]
fn explain_needs_a_policy_that_is_sound() {
    let output = in_data(&["explain", "--policy", "broken.toml", "--client-addr", "192.0.2.7"], b"");
    assert_eq!((code(&output), stdout(&output)), (78, ""));
    assert!(stderr(&output).contains("broken.toml:"), "{}", stderr(&output));
    assert!(stderr(&output).contains("encr-milter: the policy is wrong: "), "{}", stderr(&output));
}

#[test]
fn a_batch_of_thousands_is_answered_line_by_line() {
    let folder = folder(&[("p.toml", SOUND.as_bytes())]);
    let policy = path_of(&folder, "p.toml");
    let mut input = Vec::new();
    for n in 0..5000 {
        let bits = [0, 112, 128, 256][n % 4];
        let cipher = if bits > 0 { r#","cipher":"X""# } else { "" };
        writeln!(
            input,
            "{{\"ts\":\"2026-11-18T11:06:40.{n:06}Z\",\"queue_id\":\"Q{n}\",\"client_addr\":\"192.0.2.{}\",\"cipher_bits\":{bits}{cipher}}}",
            n % 256
        )
        .unwrap();
    }
    let output = run(&["explain", "--batch", "--json", "--policy", &policy], &input);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    let answers: Vec<Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 5000);
    for (n, answer) in answers.iter().enumerate() {
        let expected =
            [("fail", "reject"), ("fail", "reject"), ("fail", "accept"), ("pass", "accept")][n % 4];
        assert_eq!(
            (answer["verdict"].as_str(), answer["disposition"].as_str()),
            (Some(expected.0), Some(expected.1))
        );
        assert_eq!(answer["queue_id"], format!("Q{n}"));
        assert_eq!(answer["ts"], format!("2026-11-18T11:06:40.{n:06}Z"), "the time of a record is its own");
    }
    // And the answers, fed back, are their own answers.
    let again = run(&["explain", "--batch", "--policy", &policy], &output.stdout);
    assert_eq!(stdout(&again), stdout(&output));
}

#[test]
fn a_line_that_is_no_record_is_answered_as_such_and_the_rest_goes_on() {
    let folder = folder(&[("p.toml", SOUND.as_bytes())]);
    let policy = path_of(&folder, "p.toml");
    let good = "{\"client_addr\":\"192.0.2.7\",\"cipher_bits\":0}";
    let lines: &[(&[u8], bool)] = &[
        (good.as_bytes(), true),
        (b"{\"client_addr\":", false),
        (b"not JSON", false),
        (b"[1, 2]", false),
        (b"\"text\"", false),
        (b"{\"client_addr\":7}", false),
        (b"{\"ts\":\"yesterday\"}", false),
        (b"{\"client_name\":\"\xff\xfe\"}", false),
        (b"{\"verdict\":\"maybe\",\"failures\":7}", true),
        (b"{}", true),
        (b"{\"client_addr\":\"192.0.2.7\",\"cipher_bits\":\"128\",\"cipher\":\"X\",\"more\":[{}]}", true),
        // A last line without its line feed.
        (good.as_bytes(), true),
    ];
    let input = lines.iter().map(|(line, _)| *line).collect::<Vec<_>>().join(b"\n\n  \n".as_slice());
    let output = run(&["explain", "--batch", "--policy", &policy], &input);
    assert_eq!(code(&output), 65);
    let answers: Vec<Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), lines.len(), "one answer for each line that is not blank");
    for (n, (answer, (_, good))) in answers.iter().zip(lines).enumerate() {
        let line = 1 + 3 * n;
        assert_eq!(answer["verdict"].is_string(), *good, "line {line}: {answer}");
        if !good {
            assert_eq!(answer["line"], line);
            assert!(!answer["error"].as_str().unwrap().is_empty());
            let said = format!("encr-milter: line {line}: not a decision record: ");
            assert!(stderr(&output).contains(&said), "{}", stderr(&output));
        }
    }
    assert_eq!(stderr(&output).lines().count(), lines.iter().filter(|(_, good)| !good).count());
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let folder = folder(&[("p.toml", SOUND.as_bytes())]);
    let policy = path_of(&folder, "p.toml");
    let mut child = piped(&["explain", "--batch", "--policy", &policy]);
    let mut stdin = child.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || {
        // Until nobody reads any more: without an end of its own.
        while stdin.write_all(b"{\"client_addr\":\"192.0.2.7\"}\n").is_ok() {}
    });
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.contains("\"client_addr\":\"192.0.2.7\""), "{line}");
    drop(out);
    let status = until("the program to see that nobody reads", || child.try_wait().unwrap());
    feeding.join().unwrap();
    assert_eq!(status.code(), Some(0));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let folder = folder(&[("p.toml", SOUND.as_bytes())]);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(PROGRAM)
        .args(["check", "--policy", &path_of(&folder, "p.toml")])
        .stdout(Stdio::from(full))
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(code(&output), 74, "{}", stderr(&output));
    assert!(stderr(&output).contains("encr-milter: cannot write the output: "), "{}", stderr(&output));
}

// ---- Arguments -----------------------------------------------------------------------------------------

#[test]
fn help_and_version_are_what_a_stranger_needs() {
    let version = run(&["--version"], b"");
    assert_eq!(
        (code(&version), stdout(&version)),
        (0, concat!("encr-milter ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    for (arguments, parts) in [
        (
            &["--help"][..],
            &["run", "check", "explain", "sendmail", "Begin:", "Exit codes", "78", "--policy policy.toml"][..],
        ),
        (&["help"], &["run", "check", "explain"]),
        (&["run", "--help"], &["--config", "/etc/encr-milter/encr-milter.toml", "SIGHUP", "SIGTERM"]),
        (&["check", "--help"], &["--config", "--policy", "--json", "78"]),
        (
            &["explain", "--help"],
            &[
                "--policy",
                "--batch",
                "--json",
                "--client-name",
                "--client-addr",
                "--cipher-bits",
                "--sender",
                "--recipient",
                "--ts",
                "not told",
            ],
        ),
    ] {
        let output = run(arguments, b"");
        assert_eq!((code(&output), stderr(&output)), (0, ""), "{arguments:?}");
        for part in parts {
            assert!(stdout(&output).contains(part), "{arguments:?}: {part} in\n{}", stdout(&output));
        }
        let widest = stdout(&output).lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 100, "{arguments:?}: {widest} columns");
    }
}

#[test]
fn explain_has_a_flag_for_every_fact_of_a_record() {
    let help = run(&["explain", "--help"], b"");
    let record = json!({
        "ts": 0, "host": 0, "queue_id": 0, "direction": 0, "client_name": 0, "client_addr": 0, "client_resolve": 0,
        "server_name": 0, "server_addr": 0, "sender": 0, "recipient": 0, "auth": 0, "tls_version": 0, "cipher": 0,
        "cipher_bits": 0, "auth_ssf": 0, "verify": 0, "cn_subject": 0, "cert_subject": 0, "cert_issuer": 0,
    });
    for field in record.as_object().unwrap().keys() {
        let flag = format!("--{} <", field.replace('_', "-"));
        assert!(stdout(&help).contains(&flag), "{flag}");
    }
}

#[test]
fn wrong_arguments_exit_64_and_say_what_is_right() {
    let folder = folder(&[("p.toml", SOUND.as_bytes())]);
    let policy = path_of(&folder, "p.toml");
    for arguments in [
        &[][..],
        &["bogus"],
        &["--bogus"],
        &["check"],
        &["check", "--policy"],
        &["check", "--policy", &policy, "--config", &policy],
        &["check", &policy],
        &["run", "--policy", &policy],
        &["explain"],
        &["explain", "--client-addr", "192.0.2.7"],
        &["explain", "--policy", &policy, "--cipher-bits", "many"],
        &["explain", "--policy", &policy, "--cipher-bits", "-1"],
        &["explain", "--policy", &policy, "--ts", "yesterday"],
        &["explain", "--policy", &policy, "--direction", "sideways"],
        &["explain", "--policy", &policy, "--batch", "--client-addr", "192.0.2.7"],
    ] {
        let output = run(arguments, b"");
        assert_eq!((code(&output), stdout(&output)), (64, ""), "{arguments:?}");
        assert!(!stderr(&output).is_empty(), "{arguments:?}");
    }
}
