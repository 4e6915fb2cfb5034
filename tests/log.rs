//! The daemon's log where an administrator has told it to go: syslog, the journal by way of standard error, and
//! elsewhere while the daemon runs.
//!
//! Promises: mail is answered whatever becomes of the log. The receivers themselves are tried in `log_receivers.rs`.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use support::daemon::{DAEMON_FILE, Home};
use support::mta::plain;
use support::{DEADLINE, until};

const ENFORCE: &str = "[[rule]]\nname = \"all\"\nclient = [\"*\"]\nenforce = { min-bits = 128 }\n";
const REFUSED: &str = "550 5.7.10 encryption needed, STARTTLS with at least 128 bits, rule all";

/// The daemon file with more settings in [log].
fn with_log(settings: &str) -> String {
    DAEMON_FILE.replace("[log]", &format!("[log]\n{settings}"))
}

fn bound(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Receives until a message has these words; gives it.
fn wait_for(socket: &UnixDatagram, words: &str) -> String {
    loop {
        let mut message = [0; 9000];
        let length = socket.recv(&mut message).unwrap_or_else(|error| panic!("{words}: {error}"));
        let message = String::from_utf8(message[..length].to_vec()).unwrap();
        if message.contains(words) {
            return message;
        }
    }
}

/// Waits until the daemon can be talked to: its log does not tell us.
fn wait_listening(home: &Home) {
    until("the daemon to listen", || home.path("m.sock").exists().then_some(()));
}

#[test]
fn syslog_that_is_away_costs_no_mail_and_has_all_of_it_when_it_comes() {
    let home = Home::with(&with_log("output = \"syslog\"\nsyslog-server = \"unix:{dir}/devlog\""), ENFORCE);
    let daemon = home.spawn(&[]);
    wait_listening(&home);
    assert_eq!(daemon.one_message(&plain("EARLY")), REFUSED);
    // Standard error says that nobody has the log, and no more than that.
    daemon.wait_log(" ERROR the log is not taken; trying again output=\"syslog unix:");
    let socket = bound(&home.path("devlog"));
    let starting = wait_for(&socket, "starting");
    assert!(starting.starts_with("<22>") && starting.contains(&format!("encr-milter[{}]: ", daemon.pid())));
    // Said with what is written next, at the latest with the second decision.
    assert_eq!(daemon.one_message(&plain("LATER")), REFUSED);
    let mut messages = Vec::new();
    while messages.len() < 3 {
        let message = wait_for(&socket, "");
        if ["EARLY: ", "LATER: ", "the log is taken again"].iter().any(|words| message.contains(words)) {
            messages.push(message);
        }
    }
    let refused = messages.iter().find(|message| message.contains("EARLY")).unwrap();
    // A refusal is a notice.
    assert!(refused.starts_with("<21>") && refused.contains("]: EARLY: verdict=fail, "), "{refused}");
    assert_eq!(daemon.log().lines().count(), 1, "{}", daemon.log());
    daemon.stop();
    wait_for(&socket, "stopped");
    assert_eq!(home.decisions().len(), 2);
}

#[test]
fn a_log_file_that_cannot_be_opened_or_written_is_told_on_standard_error() {
    for (output, error) in
        [("{dir}/gone/log", "No such file"), ("{dir}", "Is a directory"), ("/dev/full", "No space")]
    {
        let home = Home::with(&with_log(&format!("output = \"{output}\"")), ENFORCE);
        let daemon = home.spawn(&[]);
        wait_listening(&home);
        until(error, || {
            assert_eq!(daemon.one_message(&plain("EARLY")), REFUSED);
            daemon.log().contains(error).then_some(())
        });
        // Once, however many lines are lost.
        assert_eq!(daemon.one_message(&plain("LATER")), REFUSED);
        assert_eq!(daemon.log().matches(" ERROR the log is not taken; trying again output=").count(), 1);
        if output.contains("gone") {
            fs::create_dir(home.path("gone")).unwrap();
            until("the log", || {
                daemon.one_message(&plain("TAKEN"));
                let log = fs::read_to_string(home.path("gone/log")).unwrap_or_default();
                (log.contains("TAKEN: ") && log.contains("the log is taken again")).then_some(())
            });
        }
        daemon.stop();
    }
}

#[test]
fn lines_that_nobody_has_taken_at_the_end_are_told_on_standard_error() {
    let home = Home::with(&with_log("output = \"syslog\"\nsyslog-server = \"unix:{dir}/devlog\""), ENFORCE);
    let mut daemon = home.spawn(&[]);
    wait_listening(&home);
    assert_eq!(daemon.one_message(&plain("LOST")), REFUSED);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_ended().code(), Some(0));
    daemon.wait_log("lines of the log were lost: nobody took them in time");
    assert_eq!(home.decisions().len(), 1);
}

#[test]
fn all_of_the_log_changes_while_the_daemon_runs() {
    let home = Home::with(&with_log(""), ENFORCE);
    let daemon = home.start();
    let socket = bound(&home.path("devlog"));
    // From standard error to syslog: it is told of where it goes.
    home.daemon_file(&with_log("output = \"syslog\"\nsyslog-server = \"unix:{dir}/devlog\""));
    wait_for(&socket, "the log's output has changed from=stderr to=\"syslog unix:");
    assert_eq!(daemon.one_message(&plain("SYSLOG")), REFUSED);
    wait_for(&socket, "SYSLOG: verdict=fail");
    assert!(!daemon.log().contains("SYSLOG: "), "{}", daemon.log());
    // Its form.
    home.daemon_file(&with_log(
        "output = \"syslog\"\nsyslog-server = \"unix:{dir}/devlog\"\nformat = \"json\"",
    ));
    wait_for(&socket, "\"message\":\"the log's format has changed\"");
    assert_eq!(daemon.one_message(&plain("JSON")), REFUSED);
    let message = wait_for(&socket, "\"queue_id\":\"JSON\"");
    let record: Value = serde_json::from_str(message.split_once("]: ").unwrap().1).unwrap();
    assert_eq!(record["disposition"], "reject");
    // To a file that cannot be: it stays where it is, says so, and goes there when it can.
    home.daemon_file(&with_log("output = \"logs/daemon.log\""));
    wait_for(&socket, "cannot open the file anew; trying again with every line output=log");
    fs::create_dir(home.path("logs")).unwrap();
    let log = || fs::read_to_string(home.path("logs/daemon.log")).unwrap_or_default();
    let mut sent = 0;
    until("the log to be in its file", || {
        sent += 1;
        assert_eq!(daemon.one_message(&plain(&format!("FILE{sent}."))), REFUSED);
        log().contains(&format!(" INFO FILE{sent}.: verdict=fail")).then_some(())
    });
    // And the file of decisions, to another place and to none.
    let decisions = |name: &str| fs::read_to_string(home.path(name)).unwrap_or_default().lines().count();
    let before = 2 + sent;
    until("all decisions", || (decisions("decisions.jsonl") == before).then_some(()));
    home.daemon_file(
        &with_log("output = \"logs/daemon.log\"").replace("decisions.jsonl", "logs/decisions.jsonl"),
    );
    until("the change to be said", || log().contains("the file of decisions has changed").then_some(()));
    assert_eq!(daemon.one_message(&plain("ELSEWHERE")), REFUSED);
    home.daemon_file(
        &with_log("output = \"logs/daemon.log\"").replace("decisions = \"decisions.jsonl\"\n", ""),
    );
    until("the change to be said", || log().contains("decisions.jsonl to=none").then_some(()));
    assert_eq!(daemon.one_message(&plain("NOWHERE")), REFUSED);
    daemon.stop();
    assert_eq!((decisions("decisions.jsonl"), decisions("logs/decisions.jsonl")), (before, 1));
    assert!(log().contains("NOWHERE: verdict=fail"), "{}", log());
}

#[test]
fn lines_on_standard_error_have_their_priority_where_that_is_the_journal() {
    let home = Home::new(ENFORCE);
    let told = "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2); export JOURNAL_STREAM; exec \"$@\"";
    let mut daemon = home.spawn(&["sh", "-c", told, "sh"]);
    daemon.wait_started();
    assert_eq!(daemon.one_message(&plain("REFUSED")), REFUSED);
    daemon.signal(Signal::SIGTERM);
    daemon.wait_ended();
    let log = daemon.log();
    for line in log.lines() {
        let expected = match line {
            _ if line.contains("REFUSED") => "<5>2",
            _ if line.contains(" WARN ") => "<4>2",
            _ => "<6>2",
        };
        assert!(line.starts_with(expected), "{line}");
    }
    assert!(log.contains("REFUSED: verdict=fail"), "{log}");
    // It says so of another file: standard error has been redirected since.
    let other = home.spawn(&["env", "JOURNAL_STREAM=1:1"]);
    other.wait_log("listening listener=");
    assert!(other.log().lines().all(|line| line.starts_with('2')), "{}", other.log());
    other.stop();
}
