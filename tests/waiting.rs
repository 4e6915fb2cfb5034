//! `max-delay`: a message is deferred for so long at the most, whatever happens to the daemon meanwhile.
//!
//! Promises: seen with the real daemon, and by its records fed back.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};
use support::asker::{Asker, PARTNER};
use support::daemon::{DAEMON_FILE, Daemon, Home, run};
use support::mta::plain;
use support::until;

const DEFERRED: &str = "454 4.7.0 encryption needed, STARTTLS with at least 128 bits, rule r";

fn policy(delay: &str) -> String {
    // Of a server more is demanded than PARTNER has.
    format!(
        "[[rule]]\nname = \"r\"\nclient = [\"*\"]\nsoft-fail = {{ min-bits = 128, max-delay = \"{delay}\" }}\n[[rule]]\nname = \"out\"\nserver = [\"*\"]\nsoft-fail = {{ min-bits = 256, max-delay = \"{delay}\" }}\n"
    )
}

fn waits(records: &[Value]) -> Vec<(String, Option<u64>)> {
    let brief = |record: &Value| {
        let part = |name: &str| record[name].as_str().unwrap().to_owned();
        let words = ["verdict", "mode", "disposition"].map(part).join(" ");
        assert_eq!(record["failures"][0]["mode"], "soft-fail");
        (words, record["waited"].as_u64())
    };
    records.iter().map(brief).collect()
}

fn send(daemon: &Daemon<'_>, recipient: &str) -> String {
    let mut mta = daemon.negotiated();
    mta.macros(&plain("A"));
    assert_eq!(mta.mail("<a@sender.example>"), "continue");
    let answer = mta.rcpt(recipient);
    mta.quit();
    answer
}

#[test]
fn a_message_is_deferred_until_its_delay_is_over_and_its_records_say_so() {
    let home = Home::new(&policy("2s"));
    let daemon = home.start();
    let begun = Instant::now();
    assert_eq!(send(&daemon, "<r@recipient.example>"), DEFERRED);
    until("the delay to be over", || {
        let answer = send(&daemon, "<r@recipient.example>");
        assert!([DEFERRED, "continue"].contains(&answer.as_str()), "{answer}");
        (answer == "continue").then_some(())
    });
    // Whole seconds are counted, from the beginning of one.
    assert!(begun.elapsed() >= Duration::from_secs(1));
    // Another recipient's wait is its own.
    assert_eq!(send(&daemon, "<s@recipient.example>"), DEFERRED);
    daemon.stop();
    let records = home.decisions();
    let seen = waits(&records);
    let (accepted, deferred): (Vec<_>, Vec<_>) =
        seen.iter().partition(|(words, _)| words == "fail observe accept");
    assert_eq!((seen.first().unwrap().1, seen.last().unwrap().1), (Some(0), Some(0)));
    assert!(accepted.len() == 1 && accepted[0].1 >= Some(2), "{seen:?}");
    assert!(deferred.iter().all(|(words, waited)| words == "fail soft-fail tempfail" && *waited < Some(2)));
    // A record fed back gives the same decision, though nobody keeps count then.
    let log = fs::read(home.path("decisions.jsonl")).unwrap();
    let policy = home.path("policy.toml");
    let again = run(&["explain", "--batch", "--policy", policy.to_str().unwrap()], &log);
    assert_eq!(String::from_utf8(again.stdout).unwrap(), String::from_utf8(log).unwrap());
}

#[test]
fn a_wait_goes_on_over_a_restart() {
    let home = Home::new(&policy("1d"));
    let daemon = home.start();
    assert_eq!(send(&daemon, "<r@recipient.example>"), DEFERRED);
    daemon.stop();
    let kept = rusqlite::Connection::open(home.path("state/waiting.db")).unwrap();
    assert_eq!(kept.execute("UPDATE waiting SET first = first - 86400", []).unwrap(), 1);
    drop(kept);
    let daemon = home.start();
    assert_eq!(send(&daemon, "<r@recipient.example>"), "continue");
    assert_eq!(send(&daemon, "<s@recipient.example>"), DEFERRED);
    daemon.stop();
    let seen = waits(&home.decisions());
    assert_eq!(seen[1].0, "fail observe accept");
    assert!(seen[1].1 >= Some(86_400));
}

#[test]
fn a_file_that_is_locked_at_the_start_is_not_taken_for_damaged() {
    let home = Home::new(&policy("1d"));
    let daemon = home.start();
    assert_eq!(send(&daemon, "<r@recipient.example>"), DEFERRED);
    daemon.stop();
    let kept = rusqlite::Connection::open(home.path("state/waiting.db")).unwrap();
    kept.execute("UPDATE waiting SET first = first - 86400", []).unwrap();
    kept.execute_batch("BEGIN IMMEDIATE").unwrap();
    let daemon = home.start();
    assert_eq!(send(&daemon, "<r@recipient.example>"), "continue");
    assert_eq!(send(&daemon, "<s@recipient.example>"), DEFERRED);
    kept.execute_batch("ROLLBACK").unwrap();
    daemon.stop();
    assert_eq!(kept.query_row("SELECT count(*) FROM waiting", [], |row| row.get(0)), Ok(2));
}

#[test]
fn a_file_that_is_gone_or_damaged_is_made_anew_with_all_that_is_known() {
    let home = Home::new(&policy("1d"));
    let path = home.path("state/waiting.db");
    let daemon = home.start();
    let rows = |count: i64| {
        until("all that is known in the file", || {
            // Made by nobody but the daemon.
            let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
            let kept = rusqlite::Connection::open_with_flags(&path, flags).ok()?;
            let found: i64 = kept.query_row("SELECT count(*) FROM waiting", [], |row| row.get(0)).ok()?;
            (found == count).then_some(())
        });
    };
    assert_eq!(send(&daemon, "<r@recipient.example>"), DEFERRED);
    rows(1);
    let remove = |ending: &str| match fs::remove_file(home.path(&format!("state/waiting.db{ending}"))) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    };
    ["", "-wal", "-shm"].into_iter().for_each(remove);
    assert_eq!(send(&daemon, "<s@recipient.example>"), DEFERRED);
    rows(2);
    // Another file in its place, which is no database: SQLite sees it when it opens it, after it was gone.
    ["", "-wal", "-shm"].into_iter().for_each(remove);
    fs::write(&path, "no database at all, but long enough to be read as one".repeat(100)).unwrap();
    let mark = daemon.mark();
    let mut recipients = 0;
    until("a new file", || {
        recipients += 1;
        send(&daemon, &format!("<{recipients}@recipient.example>"));
        daemon.log()[mark..].contains("is damaged: it is moved aside").then_some(())
    });
    rows(2 + recipients);
    assert_eq!(send(&daemon, "<again@recipient.example>"), DEFERRED);
    daemon.stop();
}

#[test]
fn when_what_was_kept_is_damaged_everyone_is_let_through() {
    let home = Home::new(&policy("1d"));
    fs::create_dir(home.path("state")).unwrap();
    fs::write(
        home.path("state/waiting.db"),
        "no database at all, but long enough to be read as one".repeat(100),
    )
    .unwrap();
    let daemon = home.start();
    daemon.wait_log("cannot read how long messages have been deferred");
    assert_eq!(send(&daemon, "<r@recipient.example>"), "continue");
    daemon.stop();
    assert_eq!(waits(&home.decisions()), [("fail observe accept".to_owned(), Some(86_400))]);
    let names: Vec<_> =
        fs::read_dir(home.path("state")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().any(|name| name.to_str().unwrap().starts_with("waiting.db.corrupt-")), "{names:?}");
}

#[test]
fn a_wait_that_cannot_be_kept_is_not_begun() {
    let home = Home::new(&policy("1d"));
    // Where the state folder should be there is a file.
    fs::write(home.path("state"), "").unwrap();
    let daemon = home.start();
    send(&daemon, "<r@recipient.example>");
    daemon.wait_log("cannot keep how long messages have been deferred");
    assert_eq!(send(&daemon, "<r@recipient.example>"), "continue");
    assert_eq!(send(&daemon, "<s@recipient.example>"), "continue");
    let mark = daemon.mark();
    fs::remove_file(home.path("state")).unwrap();
    daemon.wait_log_since(mark, "is kept again");
    assert_eq!(send(&daemon, "<t@recipient.example>"), DEFERRED);
    daemon.stop();
}

#[test]
fn mail_that_leaves_waits_by_its_queue_id() {
    let home =
        Home::with(&format!("{DAEMON_FILE}[outbound]\nlisten = \"unix:{{dir}}/o.sock\"\n"), &policy("1s"));
    let daemon = home.start();
    let weak = PARTNER;
    let mut asker = Asker::connect(&home.path("o.sock"));
    let first = asker.ask(&weak, None);
    assert!(first.contains("454:4.7.0"), "{first}");
    until("the delay to be over", || (asker.ask(&weak, None) == "NOTFOUND ").then_some(()));
    let other = support::asker::Delivery { queue_id: "4AMB9", ..weak };
    assert!(asker.ask(&other, None).contains("454:4.7.0"));
    daemon.stop();
    let seen = waits(&home.decisions());
    assert!(
        seen.iter().any(|(words, waited)| words == "fail observe accept" && *waited >= Some(1)),
        "{seen:?}"
    );
}
