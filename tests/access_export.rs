//! `encr-milter access export`, as an administrator meets it: the block on standard output, in a file, and what is
//! refused to be written.
//!
//! Promises: every file lies in a folder of its own. Runs as root, as CI does, for one test gives a file to another
//! owner; without root that test fails, and is not skipped.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Output};
use support::daemon::PROGRAM;
use support::data::{code, stderr, stdout};

const POLICY: &str = "\
version = 1
[exempt]
authenticated = false
networks = []
recipients = []
[[rule]]
name = \"partner\"
comment = \"contract 2026-114\"
client = [\"partner.example\", \"192.0.2.0/24\"]
server = [\"partner.example\"]
enforce = { min-bits = 128 }
[[rule]]
name = \"relay\"
client = [\"relay.partner.example\"]
observe = { min-bits = 256 }
";

const LINES: &str = "\
# rule partner: enforce min-bits 128
#   contract 2026-114
TLS_Clt:partner.example\tPERM+ENCR:128
TLS_Clt:192.0.2\tPERM+ENCR:128
TLS_Srv:partner.example\tPERM+ENCR:128
# rule relay: nothing to enforce; OK, or a less specific line would hold for it
TLS_Clt:relay.partner.example\tOK
# END encr-milter
";

/// A folder with a policy, and perhaps an access file; the program runs in it.
struct Home(tempfile::TempDir);

impl Home {
    fn new(access: Option<&[u8]>) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::write(home.path("p.toml"), POLICY).unwrap();
        if let Some(access) = access {
            fs::write(home.path("access"), access).unwrap();
        }
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn access(&self) -> Vec<u8> {
        fs::read(self.path("access")).unwrap()
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["access", "export", "--policy", "p.toml"]).args(more).current_dir(self.0.path());
        command
    }

    fn run(&self, more: &[&str]) -> Output {
        self.command(more).output().unwrap()
    }

    /// Puts the block into `access`, which must go well.
    fn write(&self) -> Output {
        let output = self.run(&["--into", "access"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        output
    }

    fn json(&self, more: &[&str]) -> (i32, Value) {
        let output = self.command(more).arg("--json").output().unwrap();
        assert_eq!(stderr(&output), "");
        (code(&output), serde_json::from_slice(&output.stdout).unwrap())
    }

    /// The names of all files there.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// The block without its first line, which has the fingerprint.
fn after_begin(text: &[u8]) -> &str {
    let begin = text.windows(13).position(|part| part == b"# BEGIN encr-").expect("no block");
    let block = std::str::from_utf8(&text[begin..]).unwrap();
    block.split_once('\n').unwrap().1
}

#[test]
fn the_block_goes_to_standard_output_and_what_is_odd_to_standard_error() {
    let home = Home::new(None);
    let output = home.run(&[]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    let begin = "# BEGIN encr-milter: made by \"encr-milter access export\" from policy ";
    assert!(stdout(&output).starts_with(begin), "{}", stdout(&output));
    assert!(stdout(&output).contains(", mode enforce; do not edit below\n"), "{}", stdout(&output));
    assert_eq!(after_begin(&output.stdout), LINES);
    let soft = home.run(&["--mode", "soft-fail"]);
    assert_eq!(code(&soft), 0);
    assert_eq!(
        after_begin(&soft.stdout),
        "# nothing of the policy is in mode soft-fail\n# END encr-milter\n"
    );
    assert!(stderr(&soft).starts_with("warning[harder-mode]: rule `partner` enforces"), "{}", stderr(&soft));
    assert!(stderr(&soft).contains("\nwarning[nothing-exported]: "), "{}", stderr(&soft));
    assert!(stderr(&soft).ends_with("\n2 warnings\n"), "{}", stderr(&soft));
    // Where the map would not be what the policy is, there is nothing to take for it.
    fs::write(home.path("p.toml"), POLICY.replace("192.0.2.0/24", "8000::/1")).unwrap();
    let wide = home.run(&[]);
    assert_eq!((code(&wide), stdout(&wide)), (78, ""));
    assert!(stderr(&wide).starts_with("error[too-many-lines]: "), "{}", stderr(&wide));
    fs::write(home.path("p.toml"), "version = 1\n[[rule]]\n").unwrap();
    let wrong = home.run(&["--into", "access"]);
    assert_eq!((code(&wrong), stdout(&wrong)), (78, ""));
    assert!(stderr(&wrong).contains("--> p.toml:2:1"), "{}", stderr(&wrong));
}

#[test]
fn a_file_gets_the_block_at_its_end_and_keeps_every_other_byte() {
    // Latin-1, CRLF, a byte that is nobody's, and no line feed at the end.
    let before = b"# fr\xfcher\r\nConnect:192.0.2.7\tREJECT\n\xff\xfe x\nlast OK";
    let home = Home::new(Some(before));
    fs::set_permissions(home.path("access"), fs::Permissions::from_mode(0o640)).unwrap();
    let output = home.write();
    let after = home.access();
    assert_eq!(after[..before.len()], before[..]);
    assert!(after[before.len()..].starts_with(b"\n# BEGIN encr-milter: "));
    assert_eq!(after_begin(&after), LINES);
    assert_eq!(fs::metadata(home.path("access")).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(home.files(), ["access", "p.toml"]);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.starts_with("--- access\n+++ access\n@@ "), "{shown}");
    assert!(shown.contains("\n+TLS_Clt:partner.example\tPERM+ENCR:128\n"), "{shown}");
    assert!(output.stdout.windows(2).any(|two| two == b"\xff\xfe"), "the diff is not of bytes");
    assert!(stderr(&output).ends_with("  makemap hash access < access\n"), "{}", stderr(&output));
}

#[test]
fn a_second_run_does_not_touch_the_file() {
    let home = Home::new(Some(b"a OK\n"));
    home.write();
    let seen = || {
        let meta = fs::metadata(home.path("access")).unwrap();
        (meta.ino(), meta.mtime(), meta.mtime_nsec(), home.access())
    };
    let before = seen();
    let output = home.write();
    assert_eq!((stdout(&output), seen()), ("", before));
    assert_eq!(stderr(&output), "encr-milter: access: unchanged, nothing to write\n");
}

#[test]
fn another_policy_replaces_the_block_where_it_stands() {
    let home = Home::new(Some(b"above OK\n"));
    home.write();
    let mut text = home.access();
    text.extend_from_slice(b"below\xe9 OK\n");
    fs::write(home.path("access"), text).unwrap();
    fs::write(home.path("p.toml"), POLICY.replace("= 128", "= 256")).unwrap();
    let output = home.write();
    let shown = stdout_lossy(&output);
    assert!(shown.contains("\n-TLS_Clt:192.0.2\tPERM+ENCR:128\n"), "{shown}");
    let after = home.access();
    assert!(
        after.starts_with(b"above OK\n# BEGIN ") && after.ends_with(b"\n# END encr-milter\nbelow\xe9 OK\n")
    );
    let text = String::from_utf8_lossy(&after);
    assert_eq!((text.matches("# BEGIN").count(), text.matches("ENCR:256").count()), (1, 3), "{text}");
    assert!(!text.contains("ENCR:128"), "{text}");
}

fn stdout_lossy(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_dry_run_shows_the_same_and_changes_nothing() {
    let home = Home::new(Some(b"a OK\n"));
    fs::write(home.path("Makefile"), "all:\n").unwrap();
    let dry = home.run(&["--into", "access", "--dry-run"]);
    assert_eq!((code(&dry), home.access()), (0, b"a OK\n".to_vec()));
    assert!(stderr(&dry).contains("a dry run, nothing is written"), "{}", stderr(&dry));
    let output = home.write();
    assert_eq!(stdout(&dry), stdout(&output));
    assert!(
        stderr(&output).ends_with("written; now have the map made:\n  make -C .\n"),
        "{}",
        stderr(&output)
    );
    let alone = home.run(&["--dry-run"]);
    assert_eq!(code(&alone), 64, "{}", stderr(&alone));
}

#[test]
fn a_symlink_stays_and_its_target_is_replaced() {
    let home = Home::new(None);
    fs::create_dir(home.path("real dir")).unwrap();
    fs::write(home.path("real dir/map"), "a OK\n").unwrap();
    symlink("real dir/map", home.path("access")).unwrap();
    home.write();
    assert!(fs::symlink_metadata(home.path("access")).unwrap().is_symlink());
    assert_eq!(after_begin(&fs::read(home.path("real dir/map")).unwrap()), LINES);
    assert_eq!(fs::read_dir(home.path("real dir")).unwrap().count(), 1);
    // The map is made where the file lies, not where the link does.
    fs::write(home.path("real dir/map"), "a OK\n").unwrap();
    fs::write(home.path("Makefile"), "all:\n").unwrap();
    let alone = home.write();
    assert!(stderr(&alone).ends_with("  makemap hash access < access\n"), "{}", stderr(&alone));
    fs::write(home.path("real dir/map"), "a OK\n").unwrap();
    fs::write(home.path("real dir/Makefile"), "all:\n").unwrap();
    let beside = home.write();
    let real = fs::canonicalize(home.path("real dir")).unwrap();
    assert!(stderr(&beside).ends_with(&format!("  make -C '{}'\n", real.display())), "{}", stderr(&beside));
    fs::remove_file(home.path("real dir/Makefile")).unwrap();
    // A path that a shell would take apart is quoted.
    fs::write(home.path("real dir/map"), "a OK\n").unwrap();
    let output = home.run(&["--into", "real dir/map"]);
    assert!(
        stderr(&output).ends_with("  makemap hash 'real dir/map' < 'real dir/map'\n"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_owner_is_kept() {
    let root = nix::unistd::Uid::effective().is_root();
    assert!(root, "only root may give a file to another owner: run this test as root, as CI does");
    let home = Home::new(Some(b"a OK\n"));
    std::os::unix::fs::chown(home.path("access"), Some(12_345), Some(54_321)).unwrap();
    fs::set_permissions(home.path("access"), fs::Permissions::from_mode(0o2604)).unwrap();
    home.write();
    let meta = fs::metadata(home.path("access")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (12_345, 54_321, 0o2604));
}

#[test]
fn damaged_markers_are_told_with_their_line_and_nothing_is_written() {
    let (begin, end) = ("# BEGIN encr-milter: x\n", "# END encr-milter\n");
    for (text, line, words) in [
        (format!("a OK\n{begin}b OK\n"), 2, "never ends"),
        (format!("\u{e9}\n{end}{begin}"), 2, "has not begun"),
        (format!("{begin}{end}x OK\n{begin}{end}"), 4, "a second block"),
        (format!("{begin}\n{begin}{end}"), 3, "begins again"),
    ] {
        let home = Home::new(Some(text.as_bytes()));
        let output = home.run(&["--into", "access"]);
        assert_eq!((code(&output), stdout(&output)), (78, ""));
        assert!(stderr(&output).starts_with("error[damaged-block]: "), "{}", stderr(&output));
        let place = format!("--> access:{line}:1\n");
        for part in [words, place.as_str(), "^^^", "nothing is written"] {
            assert!(stderr(&output).contains(part), "{part} in\n{}", stderr(&output));
        }
        assert_eq!(home.access(), text.as_bytes());
    }
}

#[test]
fn lines_outside_with_the_same_key_are_all_told_and_nothing_is_written() {
    let before = b"# fr\xfch\ntls_clt:PARTNER.example\tENCR:112\nTLS_Clt:192.0.2 OK\nTLS_Clt:192.0.20 OK\n#TLS_Clt:192.0.2 OK\n";
    let home = Home::new(Some(before));
    let output = home.run(&["--into", "access"]);
    assert_eq!((code(&output), stdout(&output), home.access()), (78, "", before.to_vec()));
    for part in [
        "error[duplicate-key]: `tls_clt:PARTNER.example` stands outside",
        "--> access:2:1",
        "^^^^^^^^^^^^^^^^^^^^^^^ makemap",
        "error[duplicate-key]: `TLS_Clt:192.0.2` stands outside",
        "--> access:3:1",
        "take this line out, or let it say `PERM+ENCR:128`: rule `partner` of the policy says so",
        "2 errors\n",
    ] {
        assert!(stderr(&output).contains(part), "{part} in\n{}", stderr(&output));
    }
    let (code, told) = home.json(&["--into", "access"]);
    assert_eq!((code, &told["ok"], told["diagnostics"].as_array().unwrap().len()), (78, &json!(false), 2));
    assert_eq!((&told["diagnostics"][1]["line"], &told["diagnostics"][1]["column"]), (&json!(3), &json!(1)));
}

#[test]
fn a_line_outside_that_says_the_same_stands_for_the_blocks() {
    let home =
        Home::new(Some(b"# \xe9\nTLS_Clt:127\tok (myself)\ntls_clt:Partner.EXAMPLE perm + encr:128\n"));
    fs::write(home.path("p.toml"), POLICY.replace("networks = []", "networks = [\"127.0.0.0/8\"]")).unwrap();
    home.write();
    let text = String::from_utf8_lossy(&home.access()).into_owned();
    for part in [
        "\n# line 2, outside of this block: TLS_Clt:127 OK\n",
        "\n# line 3, outside of this block: TLS_Clt:partner.example PERM+ENCR:128\n",
        "\nTLS_Clt:0\tOK\n",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(!text.contains("\nTLS_Clt:127\tOK\n") && !text.contains("\nTLS_Clt:partner.example"), "{text}");
    assert!(stderr(&home.write()).ends_with("encr-milter: access: unchanged, nothing to write\n"));
    // Behind the block too, which has become longer.
    let moved = format!("{}TLS_Clt:192.0.2\tPERM+ENCR:128\n", text.replace('\u{fffd}', "x"));
    fs::write(home.path("access"), &moved).unwrap();
    let comment = POLICY.replace("contract", &"long ".repeat(60));
    fs::write(home.path("p.toml"), comment).unwrap();
    home.write();
    let text = String::from_utf8(home.access()).unwrap();
    let number = text.lines().position(|line| line == "TLS_Clt:192.0.2\tPERM+ENCR:128").unwrap() + 1;
    assert!(number > 10, "{text}");
    assert!(text.contains(&format!("\n# line {number}, outside of this block: TLS_Clt:192.0.2 ")), "{text}");
    assert!(stderr(&home.write()).ends_with("encr-milter: access: unchanged, nothing to write\n"));
    let (_, told) = home.json(&["--into", "access"]);
    let outside: Vec<_> = told["lines"].as_array().unwrap().iter().map(|line| &line["outside"]).collect();
    assert_eq!(outside, [&json!(3), &json!(number), &Value::Null, &Value::Null]);
}

#[test]
fn a_line_outside_that_says_otherwise_than_exempt_is_told_so() {
    let home = Home::new(Some(b"TLS_Clt:127\tENCR:112\nTLS_Clt:0\n"));
    fs::write(home.path("p.toml"), POLICY.replace("networks = []", "networks = [\"127.0.0.0/8\"]")).unwrap();
    let output = home.run(&["--into", "access"]);
    assert_eq!(code(&output), 78);
    for part in [
        "`TLS_Clt:127` stands outside",
        "`TLS_Clt:0` stands outside",
        "take this line out, or let it say `OK`: [exempt] of the policy says so",
        "2 errors, ",
    ] {
        assert!(stderr(&output).contains(part), "{part} in\n{}", stderr(&output));
    }
}

#[test]
fn a_dos_file_gets_a_dos_block() {
    let home = Home::new(Some(b"# x\r\nConnect:a OK\r\n"));
    home.write();
    let text = String::from_utf8(home.access()).unwrap();
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count(), "{text:?}");
    assert_eq!(text.replace("\r\n", "\n").split_once("do not edit below\n").unwrap().1, LINES);
    assert_eq!(stderr(&home.write()), "encr-milter: access: unchanged, nothing to write\n");
}

#[test]
fn a_user_at_an_address_goes_to_a_policy_and_back() {
    let home = Home::new(Some(b"TLS_Rcpt:Joe@[192.0.2.7]\tPERM+ENCR:128\nTLS_Rcpt:joe@[IPv6:2001:db8:0:0:0:0:0:1]\tPERM+ENCR:128\nTLS_Rcpt:[192.0.2]\tPERM+ENCR:256\n"));
    let imported =
        Command::new(PROGRAM).args(["access", "import", "access"]).current_dir(home.0.path()).output();
    let imported = imported.unwrap();
    assert_eq!((code(&imported), stderr(&imported)), (0, ""));
    fs::write(home.path("p.toml"), &imported.stdout).unwrap();
    let output = home.run(&[]);
    for line in [
        "TLS_Rcpt:joe@[192.0.2.7]\tPERM+ENCR:128\n",
        "TLS_Rcpt:joe@[ipv6:2001:db8:0:0:0:0:0:1]\tPERM+ENCR:128\n",
        "TLS_Rcpt:[192.0.2]\tPERM+ENCR:256\n",
    ] {
        assert!(stdout(&output).contains(line), "{line} in\n{}{}", stdout(&output), stderr(&output));
    }
}

#[test]
fn a_file_that_is_not_there_or_no_text_is_not_written() {
    let home = Home::new(None);
    let output = home.run(&["--into", "access"]);
    assert_eq!((code(&output), stdout(&output)), (66, ""));
    assert!(stderr(&output).contains("make an empty file first"), "{}", stderr(&output));
    assert_eq!(home.files(), ["p.toml"]);
    assert_eq!(code(&home.run(&["--into", "."])), 66);
    fs::write(home.path("access"), b"\0\x05hash").unwrap();
    let output = home.run(&["--into", "access"]);
    assert_eq!(code(&output), 65);
    assert!(stderr(&output).contains("not access.db"), "{}", stderr(&output));
}

#[test]
fn a_folder_that_takes_no_file_is_told() {
    // Even root makes no file in /proc.
    let home = Home::new(None);
    let output = home.run(&["--into", "/proc/sys/kernel/hostname"]);
    assert_eq!((code(&output), stdout(&output)), (73, ""), "{}", stderr(&output));
    assert!(stderr(&output).contains("error[not-written]: "), "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot make a file in /proc/sys/kernel"), "{}", stderr(&output));
}

#[test]
fn a_script_is_told_the_same() {
    let home = Home::new(Some(b"a OK\n"));
    let (code, told) = home.json(&[]);
    assert_eq!(code, 0);
    let lines = json!([
        { "key": "TLS_Clt:partner.example", "value": "PERM+ENCR:128", "rule": "partner" },
        { "key": "TLS_Clt:192.0.2", "value": "PERM+ENCR:128", "rule": "partner" },
        { "key": "TLS_Srv:partner.example", "value": "PERM+ENCR:128", "rule": "partner" },
        { "key": "TLS_Clt:relay.partner.example", "value": "OK", "rule": "relay" },
    ]);
    let policy = told["policy"].clone();
    assert_eq!(policy.as_str().unwrap().len(), 12);
    assert_eq!(
        told,
        json!({ "ok": true, "policy": policy, "mode": "enforce", "lines": lines, "diagnostics": [] })
    );
    let (_, dry) = home.json(&["--into", "access", "--dry-run"]);
    let (_, wet) = home.json(&["--into", "access"]);
    let (_, again) = home.json(&["--into", "access"]);
    for (told, changed, written) in [(&dry, true, false), (&wet, true, true), (&again, false, false)] {
        assert_eq!((&told["changed"], &told["written"]), (&json!(changed), &json!(written)), "{told}");
        assert_eq!(told["command"], "makemap hash access < access");
        assert_eq!(told["diff"].as_str().unwrap().is_empty(), !changed);
    }
    assert_eq!(dry["diff"], wet["diff"]);
    fs::write(home.path("p.toml"), "version = 2\n").unwrap();
    let (code, told) = home.json(&[]);
    assert_eq!((code, &told["ok"], &told["lines"]), (78, &json!(false), &json!([])));
    fs::remove_file(home.path("access")).unwrap();
    fs::write(home.path("p.toml"), POLICY).unwrap();
    let (code, told) = home.json(&["--into", "access"]);
    assert_eq!((code, &told["diagnostics"][0]["code"]), (66, &json!("unreadable-file")));
}

#[test]
fn help_says_what_a_stranger_needs() {
    let output = Command::new(PROGRAM).args(["access", "export", "--help"]).output().unwrap();
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    for part in ["--policy", "--mode", "soft-fail", "--into", "--dry-run", "--json", "75", "78"] {
        assert!(stdout(&output).contains(part), "{part} in\n{}", stdout(&output));
    }
    let widest = stdout(&output).lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 100, "{widest} columns");
}
