//! The control socket: `status` and `reload`, as an administrator and systemd call them, against the real binary.
//!
//! Promises: what is asserted is what the commands answer, the log says, and how messages fare.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Output;
use support::asker::{Asker, PARTNER};
use support::daemon::{DAEMON_FILE, Home, piped, run};
use support::mta::{Mta, plain, tls};
use support::until;

const RULE: &str = "[[rule]]\nname = \"all\"\nclient = [\"partner.example\"]\nenforce = { min-bits = 128 }\n";
const REFUSED: &str = "550 5.7.10 encryption needed, STARTTLS with at least 128 bits, rule all";
const BROKEN: &str =
    "version = 1\n[[rule]]\nname = \"all\"\nclient = [\"*\"]\nenforce = { min-bites = 128 }\n";

/// Runs a command on a home's daemon; gives its exit code, and what it printed.
fn ask(home: &Home, command: &str, more: &[&str]) -> (i32, String, String) {
    let config = home.path("encr-milter.toml");
    let arguments: Vec<&str> =
        [command, "-c", config.to_str().unwrap()].into_iter().chain(more.iter().copied()).collect();
    printed(&run(&arguments, b""))
}

fn printed(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn reload(home: &Home) -> (i32, String, String) {
    ask(home, "reload", &[])
}

fn json(home: &Home, command: &str) -> Value {
    let (_, out, err) = ask(home, command, &["--json"]);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"))
}

/// Waits until the daemon answers on its control socket.
fn wait_control(home: &Home) {
    until("the control socket", || UnixStream::connect(home.path("control.sock")).ok());
}

/// Sends bytes to the control socket; gives the first line of what is answered.
fn raw(home: &Home, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(home.path("control.sock")).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_reload_answers_with_what_came_of_it() {
    let home = Home::new(RULE);
    let daemon = home.start();
    wait_control(&home);
    let before = json(&home, "status")["policy"]["fingerprint"].as_str().unwrap().to_owned();

    // The same.
    let (code, out, err) = reload(&home);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.starts_with(&format!("policy {before} in force: 1 rule, the same in meaning since 20")),
        "{out}"
    );

    // A good one: it is in force when the command is over.
    home.write("policy.toml", &format!("version = 1\n{}", RULE.replace("128", "256")));
    let answer = json(&home, "reload");
    assert_eq!((&answer["outcome"], &answer["cause"]), (&"in-force".into(), &"asked".into()), "{answer}");
    assert_eq!(
        daemon.one_message(&tls("A", "128")),
        "554 5.7.0 encryption too weak 128 less than 256, rule all"
    );
    let now = answer["policy"]["fingerprint"].as_str().unwrap();
    assert_ne!(now, before);
    // The folder is watched, too, and may have been faster.
    let last = json(&home, "status")["last_load"].clone();
    assert_eq!(last["policy"]["fingerprint"], *now);
    assert_eq!(answer["since"], json(&home, "status")["policy"]["since"]);

    // A broken one: all that is wrong, as `check` draws it, and nothing changes.
    home.write("policy.toml", BROKEN);
    let (code, out, err) = reload(&home);
    assert_eq!((code, out.as_str()), (78, ""), "{err}");
    let check = run(&["check", "--policy", home.path("policy.toml").to_str().unwrap()], b"");
    let drawn = String::from_utf8(check.stderr).unwrap();
    assert_eq!(err, format!("{drawn}encr-milter: refused: policy {now} stays in force\n"));
    let answer = json(&home, "reload");
    assert_eq!(answer["outcome"], "refused");
    assert_eq!((&answer["errors"], &answer["diagnostics"][0]["code"]), (&1.into(), &"unknown-field".into()));
    assert_eq!(
        daemon.one_message(&tls("B", "128")),
        "554 5.7.0 encryption too weak 128 less than 256, rule all"
    );
    // It stays known.
    let (code, out, _) = ask(&home, "status", &[]);
    assert_eq!(code, 0);
    assert!(out.contains("REFUSED") && out.contains("min-bites"), "{out}");

    // None at all.
    fs::remove_file(home.path("policy.toml")).unwrap();
    let (code, _, err) = reload(&home);
    assert_eq!(code, 78);
    assert!(err.contains("unreadable-file"), "{err}");

    // And good again, with a warning.
    home.write("policy.toml", &format!("version = 1\n{}", RULE.replace("128", "168")));
    let (code, out, err) = reload(&home);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("warning") && out.contains("in force: 1 rule, changed"), "{out}{err}");
    daemon.stop();
}

#[test]
fn a_change_is_told_by_whoever_takes_it() {
    let home = Home::new(RULE);
    let daemon = home.start();
    wait_control(&home);
    home.write("policy.toml", "version = 1\n");
    // Asked at once: the load that answers is the one that takes it, or the same again.
    let answer = json(&home, "reload");
    let last = json(&home, "status");
    assert_eq!(answer["policy"]["rules"], 0);
    assert_eq!(last["policy"]["rules"], 0);
    assert!(daemon.log().contains("rule all: removed"));
    daemon.stop();
}

#[test]
fn the_daemons_own_file_is_read_too() {
    let home = Home::new(RULE);
    let daemon = home.start();
    wait_control(&home);
    home.daemon_file(&DAEMON_FILE.replace("[log]", "[log]\nlevel = \"debug\""));
    let answer = json(&home, "reload");
    let notes = answer["notes"].to_string();
    // The file is watched: it may have been taken already.
    assert!(
        notes.contains("have changed") || daemon.log().contains("the log's level has changed"),
        "{answer}"
    );

    home.daemon_file(&DAEMON_FILE.replace("[log]", "[log]\nlevel = \"shout\""));
    home.write("policy.toml", "version = 1\n");
    let (code, _, err) = reload(&home);
    assert_eq!(code, 78, "{err}");
    assert_eq!(err.matches("`shout` is no level").count(), 1, "{err}");
    // The policy is taken all the same.
    assert_eq!(json(&home, "status")["policy"]["rules"], 0);
    let (code, out, err) = ask(&home, "status", &[]);
    assert_eq!(code, 0);
    assert!(err.contains("the daemon's file is wrong as it is now") && out.contains("REFUSED"), "{out}{err}");
    // A file that is no TOML does not tell where to ask; who runs the daemon may know.
    home.write("encr-milter.toml", "version = ");
    let (code, _, err) = reload(&home);
    assert_eq!(code, 78);
    assert!(err.contains("say --socket PATH") && err.contains("encr-milter.toml:1:"), "{err}");
    let socket = home.path("control.sock");
    let (code, _, err) = ask(&home, "reload", &["--socket", socket.to_str().unwrap()]);
    assert_eq!(code, 78);
    assert!(err.contains("encr-milter.toml:1:"), "{err}");

    home.daemon_file(&DAEMON_FILE.replace("[policy]", "drain-timeout = 5\n[policy]"));
    let (code, out, err) = reload(&home);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("settings other than those of [log] have changed: they are taken at the next start"),
        "{out}"
    );
    daemon.stop();
}

#[test]
fn a_reload_opens_the_logs_anew() {
    let home = Home::new(RULE);
    let daemon = home.start();
    wait_control(&home);
    assert_eq!(daemon.one_message(&plain("OLD")), REFUSED);
    home.wait_decisions(1);
    fs::rename(home.path("decisions.jsonl"), home.path("decisions.jsonl.1")).unwrap();
    assert_eq!(reload(&home).0, 0);
    assert_eq!(daemon.one_message(&plain("NEW")), REFUSED);
    assert_eq!(home.wait_decisions(1)[0]["queue_id"], "NEW");
    daemon.stop();
}

#[test]
fn many_may_ask_at_once() {
    let home = Home::new(RULE);
    let daemon = home.start();
    wait_control(&home);
    home.write("policy.toml", BROKEN);
    let config = home.path("encr-milter.toml");
    let asking: Vec<_> =
        (0..10).map(|_| piped(&["reload", "-c", config.to_str().unwrap(), "--json"])).collect();
    for child in asking {
        let (code, out, err) = printed(&child.wait_with_output().unwrap());
        assert_eq!(code, 78, "{out}{err}");
        let answer: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(answer["diagnostics"][0]["code"], "unknown-field");
    }
    daemon.stop();
}

#[test]
fn files_that_do_not_hold_still_are_told() {
    let home = Home::new(RULE);
    let daemon = home.start();
    wait_control(&home);
    // Somebody writes, and is not done.
    let mut file = fs::File::create(home.path("policy.toml")).unwrap();
    file.write_all(b"version = 1\n").unwrap();
    let answer = json(&home, "reload");
    assert_eq!(
        (&answer["outcome"], &answer["policy"]["rules"]),
        (&"unsettled".into(), &1.into()),
        "{answer}"
    );
    assert_eq!(daemon.one_message(&plain("A")), REFUSED, "half a file is none");
    file.write_all(RULE.replace("128", "256").as_bytes()).unwrap();
    drop(file);
    daemon.wait_log("enforce raised from min-bits 128 to min-bits 256");
    let (code, _, _) = reload(&home);
    assert_eq!(code, 0);
    daemon.stop();
}

#[test]
fn who_is_not_there_is_told() {
    let home = Home::new(RULE);
    let (code, _, err) = reload(&home);
    assert_eq!(code, 69);
    assert!(err.contains("control.sock: no daemon answers on it: No such file"), "{err}");
    let mut daemon = home.start();
    wait_control(&home);
    let mode = fs::metadata(home.path("control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600, "the daemon's own user and root, nobody else");
    daemon.signal(Signal::SIGSTOP);
    let (code, _, err) = ask(&home, "reload", &["--timeout", "1"]);
    assert_eq!(code, 69);
    assert!(err.contains("the daemon does not answer within 1 seconds"), "{err}");
    daemon.signal(Signal::SIGKILL);
    until("its end", || (!daemon.runs()).then_some(()));
    // It leaves its file.
    for command in ["reload", "status"] {
        let (code, _, err) = ask(&home, command, &[]);
        assert_eq!(code, 69);
        assert!(err.contains("Connection refused") && err.contains("is it running?"), "{err}");
    }
    let daemon = home.start();
    wait_control(&home);
    assert_eq!(reload(&home).0, 0);
    daemon.stop();
    assert!(!home.path("control.sock").exists());

    home.daemon_file(&DAEMON_FILE.replace("[state]", "[control]\nenabled = false\n[state]"));
    let daemon = home.start();
    let (code, _, err) = ask(&home, "status", &[]);
    assert_eq!(code, 78);
    assert!(err.contains("`enabled = false` in [control]"), "{err}");
    assert!(!home.path("control.sock").exists());
    daemon.stop();
}

#[test]
fn a_daemon_that_drains_says_so() {
    let home = Home::with(&DAEMON_FILE.replace("[policy]", "drain-timeout = 600\n[policy]"), RULE);
    let daemon = home.start();
    wait_control(&home);
    let mut open = daemon.negotiated();
    open.macros(&plain("OPEN"));
    assert_eq!(open.mail("<a@x>"), "continue");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_log("stopping: open transactions get to their end");
    let (code, _, err) = reload(&home);
    assert_eq!(code, 69);
    assert!(err.contains("the daemon is stopping"), "{err}");
    let status = json(&home, "status");
    assert_eq!((&status["state"], &status["connections"]["milter"]["live"]), (&"stopping".into(), &1.into()));
    assert_eq!(open.rcpt("<r@y>"), REFUSED);
    open.quit();
    daemon.stop();
}

#[test]
fn the_status_counts_what_there_is() {
    let file = DAEMON_FILE
        .replace("[policy]", "max-connections = 7\n[outbound]\nlisten = \"unix:{dir}/o.sock\"\n[policy]");
    let home = Home::with(
        &file,
        &format!(
            "{RULE}[[rule]]\nname = \"out\"\nserver = [\"a.example\", \"b.example\"]\nobserve = {{ min-bits = 128 }}\n"
        ),
    );
    let daemon = home.start();
    wait_control(&home);
    assert_eq!(daemon.one_message(&plain("A")), REFUSED);
    assert_eq!(daemon.one_message(&tls("B", "256")), "accept");
    let mut unknown = daemon.negotiated();
    unknown.macros(&[("i", "C")]);
    assert_eq!(unknown.mail("<a@x>"), "accept");
    let mut asker = Asker::connect(&home.path("o.sock"));
    asker.ask(&PARTNER, None);
    let open: Vec<Mta> = (0..3).map(|_| daemon.negotiated()).collect();
    let status = json(&home, "status");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["pid"], daemon.pid());
    assert_eq!(status["state"], "running");
    assert_eq!((&status["policy"]["rules"], &status["policy"]["keys"]), (&2.into(), &3.into()));
    assert_eq!(
        (&status["last_load"]["outcome"], &status["last_load"]["cause"]),
        (&"in-force".into(), &"start".into())
    );
    assert_eq!(status["loads"], serde_json::json!({ "in_force": 1, "refused": 0 }));
    let milter = &status["connections"]["milter"];
    assert_eq!(
        (&milter["live"], &milter["limit"], &milter["total"]),
        (&4.into(), &7.into(), &6.into()),
        "{milter}"
    );
    assert!(milter["most"].as_u64().unwrap() >= 4);
    assert_eq!(status["connections"]["outbound"]["live"], 1);
    let decisions = &status["decisions"];
    assert_eq!(
        (&decisions["accept"], &decisions["reject"], &decisions["unknown"]),
        (&3.into(), &1.into(), &1.into())
    );
    assert_eq!(status["lost"]["log"], serde_json::json!({ "queue_full": 0, "not_written": 0 }));
    let serves: Vec<&str> =
        status["listeners"].as_array().unwrap().iter().map(|l| l["serves"].as_str().unwrap()).collect();
    assert_eq!(serves, ["milter", "outbound"]);
    drop((open, unknown));
    until("connections to end", || {
        (json(&home, "status")["connections"]["milter"]["live"] == 0).then_some(())
    });
    let (code, out, _) = ask(&home, "status", &[]);
    assert_eq!(code, 0);
    for part in [
        " 2 rules, 3 keys",
        "in force, at the start, ",
        "m.sock (milter)",
        "o.sock (outbound)",
        "milter: 0 now, ",
        "(7 may be), 6 so far",
        "3 accepted, 0 deferred, 1 refused",
        "accepted unjudged: 1 for want of macros",
    ] {
        assert!(out.contains(part), "{part} in\n{out}");
    }
    daemon.stop();
}

#[test]
fn a_socket_that_cannot_be_made_costs_no_mail_and_is_made_as_soon_as_it_can() {
    let file = DAEMON_FILE.replace("[state]", "[control]\nlisten = \"local:{dir}/later/c.sock\"\n[state]");
    let home = Home::with(&file, RULE);
    let daemon = home.start();
    daemon.wait_log("no control socket: `encr-milter status` and `reload` cannot ask; trying again");
    assert_eq!(daemon.one_message(&plain("A")), REFUSED);
    assert_eq!(reload(&home).0, 69);
    fs::create_dir(home.path("later")).unwrap();
    daemon.wait_log("answering `status` and `reload`");
    assert_eq!(reload(&home).0, 0);
    // Somebody tidies up.
    let mark = daemon.mark();
    fs::remove_dir_all(home.path("later")).unwrap();
    fs::create_dir(home.path("later")).unwrap();
    daemon.wait_log_since(mark, "answering `status` and `reload`");
    assert_eq!(reload(&home).0, 0);
    assert_eq!(daemon.log().matches("no control socket").count(), 2, "each trouble is said once");
    daemon.stop();
}

#[test]
fn nonsense_on_the_socket_ends_its_own_connection() {
    let home = Home::new(RULE);
    let daemon = home.start();
    wait_control(&home);
    for (request, answer) in [
        ("GET /status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "HTTP/1.1 200 OK"),
        ("GET /reload HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "HTTP/1.1 405 Method Not Allowed"),
        ("POST /status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "HTTP/1.1 405 Method Not Allowed"),
        ("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "HTTP/1.1 404 Not Found"),
        ("\0\0\0\rO\0\0\0\x06\0\0\x01\u{ff}", "HTTP/1.1 400 Bad Request"),
    ] {
        assert_eq!(raw(&home, request.as_bytes()), answer, "{request:?}");
    }
    assert!(!daemon.log().contains("asked to"), "{}", daemon.log());
    assert_eq!(reload(&home).0, 0);
    daemon.stop();
}
