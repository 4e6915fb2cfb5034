//! The daemon's evidence, as an administrator meets it: what is in the file, and what becomes of it where the file
//! is locked, damaged, gone, or cannot be made.
//!
//! Promises: seen with the real daemon; whatever becomes of the evidence, mail is answered. The file is looked at
//! with plain SQL.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use encr_milter::evidence::{Observed, Rollup, Store};
use encr_milter::policy::record::Record;
use nix::sys::signal::Signal;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use support::daemon::{DAEMON_FILE, Daemon, Home, run, touch};
use support::mta::{plain, tls};
use support::until;

const POLICY: &str = "\
[[rule]]
name = \"partner\"
client = [\"partner.example\"]
observe = { min-bits = 256 }
enforce = { min-bits = 128 }
[[rule]]
name = \"from\"
sender = [\"strict.example\"]
soft-fail = { min-bits = 128 }
[[rule]]
name = \"everyone\"
client = [\"*\"]
observe = { min-bits = 128 }
";
const WRITTEN_AGAIN: &str = " INFO evidence is written again";
const CANNOT: &str = " ERROR cannot write evidence: it is kept in memory";

/// The file that this home's daemon keeps.
fn database(home: &Home) -> PathBuf {
    home.path("state/evidence.db")
}

/// Opens the file as sqlite3 does.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
}

/// Asks the file, as whoever has sqlite3 would.
fn ask<T: rusqlite::types::FromSql>(path: &Path, sql: &str) -> T {
    let connection = open(path).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|error| panic!("{error}: {sql}"))
}

/// How many decisions are counted in a file.
fn decisions_in(path: &Path) -> usize {
    ask(path, "SELECT coalesce(sum(count), 0) FROM evidence WHERE decided = 1")
}

/// Waits until a file has so many decisions. It may not be there yet, or not be whole.
fn wait_decisions_in(path: &Path, count: usize) {
    until(&format!("{count} decisions in {}", path.display()), || {
        let sql = "SELECT sum(count) FROM evidence WHERE decided = 1";
        let connection = open(path).ok()?;
        let found: usize = connection.query_row(sql, [], |row| row.get(0)).ok()?;
        (found >= count).then_some(())
    });
}

/// Sends some messages of every kind; gives how many decisions that made.
fn send(daemon: &Daemon<'_>, rounds: usize) -> usize {
    let mut mta = daemon.negotiated();
    for round in 0..rounds {
        let bits = ["112", "128", "256"][round % 3];
        for told in [plain("A"), tls("B", bits)] {
            mta.macros(&told);
            let answer = mta.mail("<a@strict.example>");
            if answer == "continue" {
                mta.rcpt("<r@recipient.example>");
                mta.end_of_message();
            } else {
                assert_eq!(answer, "accept");
            }
        }
    }
    mta.quit();
    2 * rounds
}

/// How often a decision has each set of these words; `-` for what is not there.
fn counted(decisions: &[Value]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for decision in decisions {
        let text = |name: &str| decision[name].as_str().unwrap_or_default().to_owned();
        let by_exempt = decision["rule"].is_null() && text("verdict") == "exempt";
        let exempt = by_exempt.then(|| text("reason"));
        let words = [
            text("ts").split('T').next().unwrap().to_owned(),
            text("direction"),
            text("side"),
            text("rule"),
            exempt.unwrap_or_else(|| text("key")),
            text("tls_version"),
            text("cipher"),
            decision["cipher_bits"].to_string(),
            text("verify"),
            text("verdict"),
            text("disposition"),
        ];
        *counts.entry(words.join("|")).or_default() += 1;
    }
    counts
}

/// The same from the file.
fn stored(path: &Path) -> BTreeMap<String, u64> {
    let connection = open(path).unwrap();
    let mut statement = connection
        .prepare(
            "SELECT concat_ws('|', day, direction, side, rule, key, version, cipher, ifnull(bits, 'null'), verify,
                              verdict, disposition), sum(count)
             FROM evidence WHERE decided = 1 GROUP BY 1",
        )
        .unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// All that is counted of the rules that decided, but for modes that were met.
fn what_decided(connection: &Connection) -> Vec<(String, u64)> {
    let mut statement = connection
        .prepare(
            "SELECT concat_ws('|', day, direction, side, rule, key, domain, network, known_by, version, cipher,
                              ifnull(bits, 'null'), verify, verdict, disposition, first, last, observe IS 'fail',
                              soft_fail IS 'fail', enforce IS 'fail'), sum(count)
             FROM evidence WHERE decided = 1 GROUP BY 1 ORDER BY 1",
        )
        .unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn what_is_stored_is_what_was_decided() {
    let home = Home::new(POLICY);
    let daemon = home.start();
    let mut sent = send(&daemon, 6);
    // A stranger, one that authenticated, mail for postmaster, one that was told nothing of.
    let stranger = [
        ("{client_addr}", "198.51.100.9"),
        ("{client_name}", "[198.51.100.9]"),
        ("{client_resolve}", "FAIL"),
    ];
    assert_eq!(daemon.one_message(&stranger), "accept");
    let user = [
        ("{client_addr}", "203.0.113.5"),
        ("{client_name}", "home.provider.example"),
        ("{client_resolve}", "OK"),
        ("{auth_authen}", "joe"),
    ];
    assert_eq!(daemon.one_message(&user), "accept");
    let mut mta = daemon.negotiated();
    mta.macros(&plain("P"));
    assert_eq!(mta.mail("<a@sender.example>"), "continue");
    assert_eq!(mta.rcpt("<postmaster@recipient.example>"), "continue");
    mta.quit();
    assert_eq!(daemon.one_message(&[("j", "mail.example.org")]), "accept");
    sent += 4;
    // The first batch is on its way while the daemon still runs, and can be read.
    let path = database(&home);
    wait_decisions_in(&path, 1);
    daemon.stop();

    let decisions = home.decisions();
    assert_eq!(decisions.len(), sent);
    assert_eq!(stored(&path), counted(&decisions));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(!home.path("state/evidence.db-wal").exists(), "all is in the one file");

    // Records alone tell the same of the rule that decided, but for modes that were met beside one that was not.
    let mut from_records = Rollup::new(5000);
    let log = fs::read_to_string(home.path("decisions.jsonl")).unwrap();
    for line in log.lines() {
        let record: Record<'_> = serde_json::from_str(line).unwrap();
        from_records.observe(&Observed::of_record(&record).unwrap());
    }
    let mut again = Store::memory().unwrap();
    again.add(&from_records).unwrap();
    assert_eq!(what_decided(again.connection()), what_decided(&open(&path).unwrap()));
    assert_eq!(again.stats().unwrap().hosts, 2);

    // Rules that did not decide have their rows beside: all was held against `partner` and `from`.
    let held =
        |what: &str| ask::<u64>(&path, &format!("SELECT coalesce(sum(count), 0) FROM evidence WHERE {what}"));
    assert_eq!(held("rule = 'from' AND decided = 0 AND soft_fail = 'fail'"), 8, "in the clear, and 112 bits");
    assert_eq!(held("rule = 'from' AND decided = 0 AND observe IS NOT NULL"), 0);
    assert_eq!(held("rule = 'partner' AND enforce = 'fail' AND disposition = 'reject'"), 8);
    assert_eq!(held("rule = 'partner' AND enforce = 'pass' AND observe = 'fail'"), 2, "128 bits");
    assert_eq!(held("rule = 'everyone' AND domain = '' AND network = '198.51.100.0/24'"), 1);
    // Who is a person, and who is nobody's business, has no place in it.
    assert_eq!(held("key = 'authenticated' AND domain = '' AND network = ''"), 1);
    assert_eq!(held("verdict = 'unknown' AND bits IS NULL AND rule = ''"), 1);
    let bytes = fs::read(&path).unwrap();
    for secret in ["strict.example>", "r@recipient", "203.0.113", "provider.example", "joe"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }
    let hosts: String = ask(
        &path,
        "SELECT group_concat(DISTINCT host || ' ' || address || ' ' || domain)
         FROM (SELECT * FROM hosts WHERE host <> '' ORDER BY host DESC)",
    );
    assert_eq!(hosts, "mx.partner.example 192.0.2.7 partner.example,[198.51.100.9] 198.51.100.9 ");
    // And the modes that were in force, met or not.
    let standing: String = ask(
        &path,
        "SELECT group_concat(rule || ' ' || mode || ' ' || requirement, '; ' ORDER BY rule, mode) FROM standing",
    );
    assert_eq!(
        standing,
        "everyone observe min-bits 128; from soft-fail min-bits 128; partner enforce min-bits 128; partner observe min-bits 256"
    );
    // The views that are there to be looked at can be.
    // With the message for postmaster.
    assert_eq!(ask::<u64>(&path, "SELECT decisions FROM by_domain WHERE domain = 'partner.example'"), 13);
    assert_eq!(ask::<u64>(&path, "SELECT in_the_clear FROM by_domain WHERE domain = 'partner.example'"), 7);
    assert_eq!(ask::<u64>(&path, "SELECT enforce_failed FROM by_rule WHERE rule = 'partner'"), 8);
    assert_eq!(ask::<u64>(&path, "SELECT sum(count) FROM refused"), 8);
}

#[test]
fn a_restart_goes_on_where_it_ended() {
    let home = Home::new(POLICY);
    let mut sent = 0;
    for _ in 0..2 {
        let daemon = home.start();
        sent += send(&daemon, 3);
        daemon.stop();
    }
    assert_eq!(decisions_in(&database(&home)), sent);
    assert_eq!(stored(&database(&home)), counted(&home.decisions()));
}

#[test]
fn a_file_that_is_locked_under_load_costs_nothing() {
    let home = Home::new(POLICY);
    let daemon = home.start();
    let mut sent = send(&daemon, 1);
    let path = database(&home);
    wait_decisions_in(&path, 1);
    let locking = Connection::open(&path).unwrap();
    locking.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Mail is answered all the while; more of it than the queue has room for.
    until("the lock to be felt", || {
        sent += send(&daemon, 500);
        daemon.log().contains(CANNOT).then_some(())
    });
    sent += send(&daemon, 8_500);
    let log = daemon.log();
    assert!(log.contains("evidence.db: another process holds it locked"), "{log}");
    assert_eq!(log.matches(CANNOT).count(), 1, "once is enough: {log}");
    assert!(decisions_in(&path) < sent);
    locking.execute_batch("COMMIT").unwrap();
    daemon.wait_log(WRITTEN_AGAIN);
    sent += send(&daemon, 1);
    daemon.stop();
    assert_eq!(decisions_in(&path), sent);
    assert!(!home.log().contains("were lost"), "{}", home.log());
}

#[test]
fn a_file_that_stays_locked_to_the_end_costs_evidence_and_is_said() {
    let home = Home::new(POLICY);
    let daemon = home.start();
    let path = database(&home);
    until("the file", || path.exists().then_some(()));
    let locking = Connection::open(&path).unwrap();
    until("the lock", || locking.execute_batch("BEGIN EXCLUSIVE").ok());
    let sent = send(&daemon, 5);
    daemon.stop();
    let log = home.log();
    let words = format!(
        " WARN decisions were lost to the evidence output=evidence queue_full=0 not_written={sent}\n"
    );
    assert!(log.contains(&words), "{log}");
    assert_eq!(home.decisions().len(), sent);
}

/// The files that damaged ones became.
fn moved_aside(home: &Home) -> Vec<PathBuf> {
    let entries = fs::read_dir(home.path("state")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_str().unwrap().contains("evidence.db.corrupt-")).collect()
}

#[test]
fn a_file_that_was_damaged_before_the_start_is_moved_aside() {
    let rubbish = vec![0x5a; 20_000];
    let whole = {
        let home = Home::new(POLICY);
        let daemon = home.start();
        send(&daemon, 3);
        daemon.stop();
        fs::read(database(&home)).unwrap()
    };
    let mut half = whole.clone();
    half.truncate(whole.len() / 2);
    let mut holes = whole.clone();
    for page in holes.chunks_mut(4096).skip(1) {
        page.fill(0xff);
    }
    for damaged in [rubbish, half, holes] {
        let home = Home::new(POLICY);
        fs::create_dir(home.path("state")).unwrap();
        fs::write(database(&home), &damaged).unwrap();
        let daemon = home.start();
        let sent = send(&daemon, 3);
        daemon.wait_log(" ERROR the evidence's file is damaged: it is moved aside, and a new one is begun");
        daemon.stop();
        assert_eq!(decisions_in(&database(&home)), sent);
        let aside = moved_aside(&home);
        assert_eq!(aside.len(), 1, "{aside:?}");
        assert_eq!(fs::metadata(&aside[0]).unwrap().len(), damaged.len() as u64);
    }
}

#[test]
fn a_file_that_is_damaged_while_the_daemon_runs_is_moved_aside() {
    let home = Home::new(POLICY);
    let daemon = home.start();
    let before = send(&daemon, 3);
    let path = database(&home);
    wait_decisions_in(&path, before);
    // What is only in the WAL yet would mend it.
    Connection::open(&path).unwrap().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&vec![0x5a; usize::try_from(file.metadata().unwrap().len()).unwrap()], 0).unwrap();
    let mut sent = send(&daemon, 3);
    daemon.wait_log(" ERROR the evidence's file is damaged: it is moved aside, and a new one is begun");
    sent += send(&daemon, 3);
    daemon.stop();
    assert_eq!(decisions_in(&path), sent, "what came after it is all there");
    assert_eq!(moved_aside(&home).len(), 1);
    assert_eq!(
        ask::<u64>(&path, "SELECT count(*) FROM standing"),
        4,
        "what is in force is noted in the new one"
    );
}

#[test]
fn a_file_or_folder_that_is_deleted_is_made_anew() {
    let home = Home::new(POLICY);
    let daemon = home.start();
    let path = database(&home);
    for (delete, folder) in [(database(&home), false), (home.path("state"), true)] {
        let before = send(&daemon, 2);
        wait_decisions_in(&path, before);
        let mark = daemon.mark();
        if folder {
            fs::remove_dir_all(&delete).unwrap();
        } else {
            fs::remove_file(&delete).unwrap();
        }
        let sent = send(&daemon, 2);
        daemon.wait_log_since(mark, " WARN the evidence's file is gone");
        wait_decisions_in(&path, sent);
    }
    daemon.stop();
    assert_eq!(ask::<String>(&path, "PRAGMA integrity_check"), "ok");
    assert_eq!(ask::<u64>(&path, "SELECT count(*) FROM standing"), 4);
}

#[test]
fn a_folder_that_cannot_be_made_is_told_once_and_heals() {
    let home = Home::with(&DAEMON_FILE.replace("\"state\"", "\"taken/state\""), POLICY);
    touch(&home.path("taken"));
    let daemon = home.start();
    let mut sent = send(&daemon, 3);
    daemon.wait_log(CANNOT);
    // Tried again and again: nothing is said of it until it works.
    sent += send(&daemon, 3);
    fs::remove_file(home.path("taken")).unwrap();
    daemon.wait_log(WRITTEN_AGAIN);
    assert_eq!(daemon.log().matches(CANNOT).count(), 1, "{}", daemon.log());
    daemon.stop();
    assert_eq!(decisions_in(&home.path("taken/state/evidence.db")), sent, "nothing is lost");
}

#[test]
fn a_file_of_others_or_of_a_later_version_is_left_alone() {
    for (sql, words) in [
        ("CREATE TABLE theirs (x)", "a database, but not encr-milter's evidence"),
        (
            "PRAGMA application_id = 0x454e4352; PRAGMA user_version = 99",
            "its format is 99, and this version",
        ),
    ] {
        let home = Home::new(POLICY);
        fs::create_dir(home.path("state")).unwrap();
        Connection::open(database(&home)).unwrap().execute_batch(sql).unwrap();
        let theirs = fs::read(database(&home)).unwrap();
        let daemon = home.start();
        let sent = send(&daemon, 2);
        daemon.wait_log(CANNOT);
        assert!(daemon.log().contains(words), "{}", daemon.log());
        daemon.stop();
        assert_eq!(fs::read(database(&home)).unwrap(), theirs);
        let lost = format!("queue_full=0 not_written={sent}");
        assert!(home.log().contains(&lost), "{}", home.log());
    }
}

#[test]
fn it_can_be_switched_off() {
    let home = Home::with(&format!("{DAEMON_FILE}[evidence]\nenabled = false\n"), POLICY);
    let daemon = home.start();
    send(&daemon, 1);
    daemon.stop();
    assert!(!database(&home).exists());
}

#[test]
fn strangers_are_counted_together_beyond_the_bound_and_partners_are_not() {
    let home = Home::with(&format!("{DAEMON_FILE}[evidence]\nmax-peers = 4\n"), POLICY);
    let daemon = home.start();
    send(&daemon, 1);
    for n in 0..40 {
        let address = format!("198.51.{n}.9");
        let told = [
            ("{client_addr}", address.as_str()),
            ("{client_name}", &format!("[{address}]")),
            ("{client_resolve}", "FAIL"),
        ];
        assert_eq!(daemon.one_message(&told), "accept");
    }
    daemon.stop();
    let path = database(&home);
    assert_eq!(stored(&path), counted(&home.decisions()), "nothing is lost");
    let domains: String = ask(
        &path,
        "SELECT group_concat(domain || network, ' ' ORDER BY known_by, domain = '(others)') FROM (SELECT DISTINCT known_by, domain, network FROM evidence)",
    );
    assert!(domains.starts_with("partner.example192.0.2.0/24 "), "{domains}");
    assert_eq!(domains.split(' ').count(), 1 + 3 + 1, "{domains}");
    assert!(domains.ends_with("(others)"), "{domains}");
    assert_eq!(ask::<u64>(&path, "SELECT sum(count) FROM evidence WHERE domain = '(others)'"), 37);
}

#[test]
fn the_evidence_of_several_hosts_merges() {
    let homes = [Home::new(POLICY), Home::new(POLICY)];
    let mut sent = 0;
    for (home, rounds) in homes.iter().zip([3, 5]) {
        let daemon = home.start();
        sent += send(&daemon, rounds);
        daemon.stop();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let [a, b] = homes.each_ref().map(|home| path(&database(home)));
    let [ab, ba] = ["ab.db", "ba.db"].map(|name| path(&folder.path().join(name)));
    let merge = |arguments: &[&str]| run(&[&["evidence", "merge"], arguments].concat(), b"");
    let done = merge(&[&a, &b, "-o", &ab]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let shown = String::from_utf8(done.stdout).unwrap();
    assert!(shown.starts_with(&format!("{ab}: {sent} decisions on 1 day, ")), "{shown}");
    assert_eq!(merge(&[&b, &a, "-o", &ba]).status.code(), Some(0));
    assert_eq!(stored(Path::new(&ab)), stored(Path::new(&ba)));
    let both: Vec<Value> = homes.iter().flat_map(Home::decisions).collect();
    assert_eq!(stored(Path::new(&ab)), counted(&both));

    // One that is there stays, unless it is said that it may go; one that is in use stays in any case.
    let again = merge(&[&a, "-o", &ab]);
    assert_eq!(again.status.code(), Some(73), "{again:?}");
    assert_eq!(decisions_in(Path::new(&ab)), sent);
    let in_use = Connection::open(&ab).unwrap();
    in_use.execute_batch("BEGIN IMMEDIATE; DELETE FROM standing; ROLLBACK").unwrap();
    assert!(folder.path().join("ab.db-wal").exists());
    assert_eq!(merge(&[&a, "-o", &ab, "--force"]).status.code(), Some(73));
    drop(in_use);

    // Without a name it is merged.db where one is.
    let here = std::process::Command::new(support::daemon::PROGRAM)
        .args(["evidence", "merge", &a, &b])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(here.status.success(), "{here:?}");
    assert_eq!(decisions_in(&folder.path().join("merged.db")), sent);

    // Nothing is counted twice, by whatever name it comes.
    let link = path(&folder.path().join("link.db"));
    std::os::unix::fs::symlink(&a, &link).unwrap();
    let twice = merge(&[&a, &b, &link, "-o", &ab, "--force"]);
    assert_eq!(twice.status.code(), Some(64), "{twice:?}");
    assert!(String::from_utf8(twice.stderr).unwrap().contains(&format!("the same file as {a}")));
    fs::remove_file(&link).unwrap();
    let itself = merge(&[&a, &ab, "-o", &ab, "--force"]);
    assert_eq!(itself.status.code(), Some(64), "{itself:?}");
    assert!(String::from_utf8(itself.stderr).unwrap().contains("is one of the files that are merged"));
    assert_eq!(decisions_in(Path::new(&ab)), sent);

    // What cannot be merged says why, and leaves nothing behind.
    let out = path(&folder.path().join("none.db"));
    fs::write(folder.path().join("rubbish.db"), vec![0x5a; 9000]).unwrap();
    touch(&folder.path().join("empty.db"));
    for (name, code, words) in [
        ("missing.db", 66, "there is no evidence file"),
        ("rubbish.db", 65, "damaged, or no database"),
        ("empty.db", 65, "no evidence has been written to it yet"),
    ] {
        let bad = path(&folder.path().join(name));
        let refused = merge(&[&a, &bad, "-o", &out]);
        let shown = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(code), "{shown}");
        assert!(shown.contains(words) && shown.contains(&bad), "{shown}");
    }
    let nowhere = merge(&[&a, "-o", &path(&folder.path().join("no/folder.db"))]);
    assert_eq!(nowhere.status.code(), Some(73));
    let mut left: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["ab.db", "ba.db", "empty.db", "merged.db", "rubbish.db"]);
}

#[test]
fn a_file_in_use_can_be_looked_at() {
    let home = Home::new(POLICY);
    let daemon = home.start();
    let sent = send(&daemon, 3);
    let path = database(&home);
    wait_decisions_in(&path, sent);
    let stats = run(&["evidence", "stats", path.to_str().unwrap(), "--json"], b"");
    let stats: Value = serde_json::from_slice(&stats.stdout).unwrap();
    assert_eq!((&stats["decisions"], &stats["rules"]), (&sent.into(), &3.into()));
    assert_eq!((&stats["peers"], &stats["hosts"], &stats["others"]), (&1.into(), &1.into(), &0.into()));
    // Whoever looked did not take himself for the last one, and take away what the daemon writes to.
    assert!(home.path("state/evidence.db-wal").exists());
    // Killed: what is written is written, and the next start goes on.
    daemon.signal(Signal::SIGKILL);
    drop(daemon);
    assert_eq!(decisions_in(&path), sent);
    let daemon = home.start();
    daemon.stop();
    assert_eq!(decisions_in(&path), sent);
}
