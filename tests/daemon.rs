//! The daemon as an administrator meets it: the real binary, its files, its log, its limits, its exit codes.
//!
//! Promises: what it cannot start with is told and has the exit code of sysexits(3); what it can live
//! without costs a warning and no mail.
//!
//! How it reloads stands in `reload.rs`, how it ends in `drain.rs`.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use support::daemon::{DAEMON_FILE, Home, decisions_of, descriptors, run, touch};
use support::mta::{Mta, OFFER, offer, plain, tls};
use support::{free_port, until};

const ENFORCE: &str = "[[rule]]\nname = \"all\"\nclient = [\"*\"]\nenforce = { min-bits = 128 }\n";
const REFUSED: &str = "550 5.7.10 encryption needed, STARTTLS with at least 128 bits, rule all";
const BROKEN: &str = "[[rule]]\nname = \"all\"\nclient = [\"*\"]\nenforc = { min-bits = 128 }\n";

/// Runs a daemon that does not start: its exit code, and what it said.
fn not_started(home: &Home) -> (Option<i32>, String) {
    let output = home.run_to_end();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn it_does_not_start_with_a_broken_policy_and_says_why() {
    let home = Home::new(BROKEN);
    let (code, log) = not_started(&home);
    assert_eq!(code, Some(78), "{log}");
    let place = format!(
        "ERROR {}:5:1: unknown field `enforc` in `rule` [unknown-field]; did you mean `enforce`?",
        home.path("policy.toml").display()
    );
    assert!(log.contains(&place), "{log}");
    assert!(
        log.contains("the policy's files are broken, and the state folder has no last good policy"),
        "{log}"
    );
    let step = format!(
        "not started: there is no policy to begin with: `encr-milter check -c {}` shows what is wrong with its files\n",
        home.path("encr-milter.toml").display()
    );
    assert!(log.ends_with(&format!(" ERROR {step}")), "{log}");
    assert!(!home.path("m.sock").exists());
    // Whose log goes elsewhere is told on standard error; and what is told to be done tells the rest.
    home.daemon_file(&DAEMON_FILE.replace("[log]\n", "[log]\noutput = \"{dir}/elsewhere.log\"\n"));
    let (code, said) = not_started(&home);
    assert_eq!((code, said), (Some(78), format!("encr-milter: {step}")));
    let check = run(&["check", "-c", home.path("encr-milter.toml").to_str().unwrap()], b"");
    assert_eq!(check.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&check.stderr).contains("unknown field `enforc`"), "{check:?}");
}

#[test]
fn it_starts_with_the_last_good_policy_where_the_files_are_broken() {
    let home = Home::new(ENFORCE);
    home.start().stop();
    home.write("policy.toml", &format!("version = 1\n{BROKEN}"));
    let daemon = home.start();
    let log = daemon.log();
    assert!(log.contains(":5:1: unknown field `enforc`"), "{log}");
    assert!(
        log.contains(
            " ERROR the policy's files are broken: beginning with the last good policy of the state folder"
        ),
        "{log}"
    );
    assert_eq!(daemon.one_message(&plain("KEPT")), REFUSED);
    // Mended: the next message has it.
    home.write("policy.toml", "version = 1\n");
    daemon.wait_log("rule all: removed");
    assert_eq!(daemon.one_message(&plain("MENDED")), "accept");
    daemon.stop();
}

#[test]
fn the_last_good_policy_is_kept_with_its_lists_and_all_files() {
    let file = DAEMON_FILE.replace("\"policy.toml\"", "\"policy.toml\", \"policy.d/*.toml\"");
    let home = Home::with(&file, "[requirement.modern]\nmin-bits = 128\n");
    fs::create_dir(home.path("policy.d")).unwrap();
    home.write(
        "policy.d/a.toml",
        "version = 1\n[[rule]]\nname = \"all\"\nclient-file = \"keys/list.txt\"\nenforce = { require = \"modern\" }\n",
    );
    fs::create_dir(home.path("policy.d/keys")).unwrap();
    home.write("policy.d/keys/list.txt", "partner.example\n");
    let first = home.start();
    assert_eq!(first.one_message(&plain("A")), REFUSED);
    first.stop();
    fs::remove_dir_all(home.path("policy.d")).unwrap();
    home.write("policy.toml", "version = ");
    let second = home.start();
    assert_eq!(second.one_message(&plain("B")), REFUSED);
    second.stop();
    let decisions = home.decisions();
    assert_eq!(decisions[0]["policy"], decisions[1]["policy"]);
}

#[test]
fn a_damaged_last_good_policy_is_as_good_as_none() {
    let home = Home::new(ENFORCE);
    home.start().stop();
    let mut kept: Vec<_> =
        fs::read_dir(home.path("state")).unwrap().map(|entry| entry.unwrap().path()).collect();
    kept.retain(|path| !path.ends_with("evidence.db"));
    assert_eq!(kept.len(), 1, "nothing unfinished is left: {kept:?}");
    let whole = fs::read(&kept[0]).unwrap();
    home.write("policy.toml", "version = ");
    for damaged in [&whole[..whole.len() / 2], b"", b"{}", b"\xff\xff"] {
        fs::write(&kept[0], damaged).unwrap();
        let (code, log) = not_started(&home);
        assert_eq!(code, Some(78), "{log}");
        assert!(log.contains("the last good policy is damaged"), "{log}");
    }
    fs::write(&kept[0], whole).unwrap();
    home.start().stop();
}

#[test]
fn a_state_folder_that_cannot_be_written_costs_a_warning() {
    // A file in its place, or on the way to it: root is told no, too.
    for dir in ["taken", "taken/state", "/dev/null/state", "/proc/no-such-folder"] {
        let home = Home::with(&DAEMON_FILE.replace("\"state\"", &format!("{dir:?}")), ENFORCE);
        touch(&home.path("taken"));
        let daemon = home.start();
        assert!(
            daemon.log().contains(" WARN cannot keep the last good policy in the state folder"),
            "{}",
            daemon.log()
        );
        assert_eq!(daemon.one_message(&plain("A")), REFUSED);
        daemon.stop();
    }
}

#[test]
fn a_broken_daemon_file_is_shown_as_a_compiler_would() {
    let home = Home::with("version = 1\n[milter]\nlisten = [\"inet:8891\"]\n[log]\nlevel = \"inf\"\n", "");
    let (code, shown) = not_started(&home);
    assert_eq!(code, Some(78), "{shown}");
    for part in [
        "error[bad-listen]: `inet:8891`: no host",
        "encr-milter.toml:3:11",
        "error[unknown-value]: `inf` is no level",
        "did you mean `info`?",
        "encr-milter: not started: the daemon's file is wrong",
    ] {
        assert!(shown.contains(part), "{part} in\n{shown}");
    }
    fs::remove_file(home.path("encr-milter.toml")).unwrap();
    let (code, shown) = not_started(&home);
    assert_eq!(code, Some(78), "{shown}");
    assert!(shown.contains("error[unreadable-file]: cannot read"), "{shown}");
}

#[test]
fn a_listener_that_is_taken_is_left_to_its_owner() {
    let home = Home::new(ENFORCE);
    let first = home.start();
    let (code, log) = not_started(&home);
    assert_eq!(code, Some(69), "{log}");
    assert!(log.contains("m.sock: another process answers on it: is encr-milter running already?"), "{log}");
    assert_eq!(first.one_message(&plain("A")), REFUSED, "the first goes on");
    first.stop();

    let theirs = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = theirs.local_addr().unwrap().port();
    let both = format!("listen = [\"unix:{{dir}}/m.sock\", \"inet:{port}@127.0.0.1\"]");
    home.daemon_file(&DAEMON_FILE.replace("listen = [\"unix:{dir}/m.sock\"]", &both));
    let (code, log) = not_started(&home);
    assert_eq!(code, Some(69), "{log}");
    assert!(
        log.contains(&format!("cannot listen on inet:{port}@127.0.0.1: another process answers on it")),
        "{log}"
    );
    assert!(!home.path("m.sock").exists(), "the one that was free is free again");
}

#[test]
fn a_listener_that_cannot_be_is_told() {
    for (listen, expected) in [
        ("inet:PORT@192.0.2.1", "listening"),
        ("inet6:PORT@127.0.0.1", "`127.0.0.1` has no IPv6 address"),
        ("unix:{dir}/no/such/folder/m.sock", "binding"),
        ("unix:/dev/null/m.sock", "looking at the socket's path"),
    ] {
        let listen = listen.replace("PORT", &free_port().to_string());
        let home = Home::with(&DAEMON_FILE.replace("unix:{dir}/m.sock", &listen), ENFORCE);
        let (code, log) = not_started(&home);
        assert_eq!(code, Some(69), "{listen}: {log}");
        assert!(log.lines().last().unwrap().contains(expected), "{listen}: {log}");
    }
    // A name that nobody has is a mistake of the file, and `check` finds it too.
    let named = DAEMON_FILE.replace("[policy]", "socket-group = \"no-such-group-here\"\n[policy]");
    let (code, log) = not_started(&Home::with(&named, ENFORCE));
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("there is no group named `no-such-group-here` on this machine"), "{log}");
}

#[test]
fn what_lies_at_the_sockets_path_is_respected() {
    let home = Home::new(ENFORCE);
    let path = home.path("m.sock");
    // Stale: its listener is gone.
    drop(UnixListener::bind(&path).unwrap());
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
    let daemon = home.start();
    assert_eq!(daemon.one_message(&plain("A")), REFUSED);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    daemon.stop();
    assert!(!path.exists());
    // No socket at all.
    fs::write(&path, "precious").unwrap();
    let (code, log) = not_started(&home);
    assert_eq!(code, Some(69), "{log}");
    assert!(log.contains("exists and is no socket; it is left alone"), "{log}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    // Nor is one that a symbolic link leads to ours to replace.
    fs::rename(&path, home.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    assert_eq!(not_started(&home).0, Some(69));
    assert_eq!(fs::read_to_string(home.path("elsewhere")).unwrap(), "precious");
}

#[test]
fn a_path_as_long_as_is_allowed_can_be_listened_on() {
    // What `check` lets pass must work: the socket is made beside its place, under a longer name.
    let home = Home::new(ENFORCE);
    let mut longest = None;
    for length in 80..=120 {
        let name = "s".repeat(length - home.dir().as_os_str().len() - 1);
        home.daemon_file(&DAEMON_FILE.replace("m.sock", &name));
        let config = home.path("encr-milter.toml");
        let output = run(&["check", "-c", config.to_str().unwrap()], b"");
        if output.status.success() {
            longest = Some(name);
        }
    }
    let name = longest.unwrap();
    home.daemon_file(&DAEMON_FILE.replace("m.sock", &name));
    let mut daemon = home.spawn(&[]);
    daemon.wait_started();
    Mta::unix(&home.path(&name)).unwrap().negotiate();
    daemon.stop();
}

#[test]
fn every_listener_listens() {
    let (port, port6) = (free_port(), free_port());
    // Not every machine that runs tests has IPv6.
    let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let listen6 = if v6 { format!(", \"inet6:{port6}@::1\"") } else { String::new() };
    let listen =
        format!("\"unix:{{dir}}/m.sock\", \"unix:{{dir}}/n.sock\", \"inet:{port}@127.0.0.1\"{listen6}");
    let home = Home::with(&DAEMON_FILE.replace("\"unix:{dir}/m.sock\"", &listen), ENFORCE);
    let daemon = home.start();
    let mut all = vec![
        Mta::unix(&home.path("m.sock")).unwrap(),
        Mta::unix(&home.path("n.sock")).unwrap(),
        Mta::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap(),
    ];
    if v6 {
        all.push(Mta::tcp(SocketAddr::from((Ipv6Addr::LOCALHOST, port6))).unwrap());
    }
    // All at once, step by step.
    for mta in &mut all {
        mta.negotiate();
        mta.macros(&plain("A"));
        assert_eq!(mta.mail("<a@x>"), "continue");
    }
    for mut mta in all {
        assert_eq!(mta.rcpt("<r@y>"), REFUSED);
        mta.quit();
    }
    daemon.stop();
}

#[test]
fn the_limit_of_connections_is_seen_and_who_waits_is_served() {
    let home = Home::with(&DAEMON_FILE.replace("[policy]", "max-connections = 2\n[policy]"), ENFORCE);
    let daemon = home.start();
    let first = daemon.negotiated();
    let second = daemon.negotiated();
    assert!(!daemon.log().contains("max-connections"), "two are allowed");
    let mut third = Mta::unix(&home.path("m.sock")).unwrap();
    third.frame('O', &offer(OFFER));
    daemon.wait_log(
        " WARN all connections are in use (milter.max-connections): further ones wait for their turn",
    );
    // Those who are in are served.
    let mut first = first;
    first.macros(&plain("A"));
    assert_eq!(first.mail("<a@x>"), "continue");
    second.quit();
    assert_eq!(third.reply().kind, 'O');
    third.macros(&plain("B"));
    assert_eq!(third.mail("<a@x>"), "continue");
    assert_eq!(first.rcpt("<r@y>"), REFUSED);
    first.quit();
    third.quit();
    // Said with the next one that has not to wait. Whether the two are quite gone by then is not to be seen
    // from outside, so it is tried until they are.
    until("the limit to be over", || {
        daemon.negotiated().quit();
        daemon.log().contains(" INFO connections are free again").then_some(())
    });
    daemon.stop();
}

#[test]
fn it_stops_while_somebody_waits_for_a_connection() {
    let home = Home::with(&DAEMON_FILE.replace("[policy]", "max-connections = 1\n[policy]"), ENFORCE);
    let daemon = home.start();
    let mut first = daemon.negotiated();
    let mut second = Mta::unix(&home.path("m.sock")).unwrap();
    second.frame('O', &offer(OFFER));
    daemon.wait_log("further ones wait for their turn");
    daemon.stop();
    assert_eq!(first.drained(), []);
    // It may have had its turn when the first had gone, to be let go in its turn.
    assert!(second.drained().len() <= 1);
}

#[test]
fn running_out_of_descriptors_is_survived() {
    let home = Home::new(ENFORCE);
    let mut daemon = home.spawn(&["sh", "-c", "ulimit -n 40; exec \"$@\"", "sh"]);
    daemon.wait_started();
    assert!(
        daemon.log().contains(" WARN fewer files may be open than max-connections needs"),
        "{}",
        daemon.log()
    );
    let mut all: Vec<Mta> = (0..80).map(|_| Mta::unix(&home.path("m.sock")).unwrap()).collect();
    for mta in &mut all {
        mta.frame('O', &offer(OFFER));
    }
    daemon.wait_log(" ERROR cannot accept connections; trying again");
    let open = descriptors(daemon.pid());
    assert!(open < all.len(), "{open} descriptors are open");
    // Those who are in are served, and the others when they have gone.
    for mut mta in all {
        assert_eq!(mta.reply().kind, 'O');
        mta.macros(&plain("A"));
        assert_eq!(mta.mail("<a@x>"), "continue");
        assert_eq!(mta.rcpt("<r@y>"), REFUSED);
        mta.quit();
    }
    assert_eq!(home.wait_decisions(80).len(), 80);
    assert!(daemon.runs());
    daemon.stop();
}

#[test]
fn a_file_of_decisions_in_a_missing_folder_heals() {
    let home = Home::with(&DAEMON_FILE.replace("\"decisions.jsonl\"", "\"gone/decisions.jsonl\""), ENFORCE);
    let daemon = home.start();
    assert!(daemon.log().contains(" ERROR cannot open; trying again with every line"), "{}", daemon.log());
    assert_eq!(daemon.one_message(&plain("LOST")), REFUSED, "mail goes on");
    fs::create_dir(home.path("gone")).unwrap();
    let path = home.path("gone/decisions.jsonl");
    let mut sent = 0;
    // The one before may still be on its way to the file that is not there.
    until("a decision in the file", || {
        sent += 1;
        assert_eq!(daemon.one_message(&plain("KEPT")), REFUSED);
        (!decisions_of(&path).is_empty()).then_some(())
    });
    daemon.stop();
    assert!(decisions_of(&path).len() <= sent + 1);
}

#[test]
fn hangup_opens_the_decisions_anew() {
    let home = Home::new(ENFORCE);
    let daemon = home.start();
    assert_eq!(daemon.one_message(&plain("ONE")), REFUSED);
    home.wait_decisions(1);
    // As logrotate does it: move, signal, and until then nothing is lost.
    fs::rename(home.path("decisions.jsonl"), home.path("decisions.jsonl.1")).unwrap();
    assert_eq!(daemon.one_message(&plain("TWO")), REFUSED);
    let mark = daemon.mark();
    daemon.signal(Signal::SIGHUP);
    daemon.wait_log_since(mark, "policy in force");
    assert_eq!(daemon.one_message(&plain("THREE")), REFUSED);
    daemon.stop();
    let ids = |name: &str| -> Vec<Value> {
        decisions_of(&home.path(name)).iter().map(|record| record["queue_id"].clone()).collect()
    };
    assert_eq!(ids("decisions.jsonl.1"), ["ONE", "TWO"]);
    assert_eq!(ids("decisions.jsonl"), ["THREE"]);
}

#[test]
fn decisions_are_complete_and_in_the_designs_words() {
    let home = Home::new(
        "[reply]\ncontact = \"https://mail.example.org/tls\"\n[[rule]]\nname = \"partner\"\nclient = [\"partner.example\"]\nobserve = { min-bits = 256 }\nenforce = { min-bits = 168 }\n",
    );
    let daemon = home.start();
    assert!(daemon.one_message(&tls("4AMB1abc", "128")).starts_with("554 5.7.0"));
    daemon.stop();
    let mut decisions = home.decisions();
    let mut record = decisions.pop().unwrap();
    assert_eq!(decisions, [] as [Value; 0]);
    let object = record.as_object_mut().unwrap();
    let ts = object.remove("ts").unwrap();
    // RFC 3339 in UTC, to the microsecond.
    let ts = ts.as_str().unwrap();
    assert!(ts.len() == 27 && ts.ends_with('Z') && ts.as_bytes()[19] == b'.', "{ts}");
    ts.parse::<jiff::Timestamp>().unwrap();
    let policy = object.remove("policy").unwrap();
    let policy = policy.as_str().unwrap();
    assert!(policy.len() == 12 && policy.bytes().all(|b| b.is_ascii_hexdigit()), "{policy}");
    let reason = "encryption too weak 128 less than 168";
    assert_eq!(
        record,
        serde_json::json!({
            "host": "mail.example.org", "queue_id": "4AMB1abc", "direction": "inbound",
            "client_name": "mx.partner.example", "client_addr": "192.0.2.7", "client_resolve": "OK",
            "sender": "a@sender.example", "recipient": "r@recipient.example",
            "tls_version": "TLSv1.3", "cipher": "TLS_TEST", "cipher_bits": 128, "verify": "NOT",
            "verdict": "fail", "mode": "enforce", "disposition": "reject", "rule": "partner", "side": "client",
            "key": "partner.example", "reason": reason,
            "reply": format!("554 5.7.0 {reason}, rule partner, see https://mail.example.org/tls"),
            "failures": [
                { "rule": "partner", "side": "client", "key": "partner.example", "mode": "enforce", "reason": reason },
                { "rule": "partner", "side": "client", "key": "partner.example", "mode": "observe",
                  "reason": "encryption too weak 128 less than 256" },
            ],
        })
    );
}

#[test]
fn the_log_is_text_or_json_and_a_client_cannot_forge_a_line() {
    let forged = "<a@x>\r\n2026-11-18T00:00:00.000000Z INFO 4AMB: verdict=pass, \"\u{2028}\u{202e}";
    let file = DAEMON_FILE.replace("[log]", "[log]\noutput = \"{dir}/daemon.log\"\nformat = \"FORMAT\"");
    for format in ["text", "json"] {
        let home = Home::with(&file.replace("FORMAT", format), ENFORCE);
        // It does not say on standard error when it listens: its log is a file.
        let mut daemon = home.spawn(&[]);
        let log = || fs::read_to_string(home.path("daemon.log")).unwrap_or_default();
        until("the daemon to listen", || {
            assert!(daemon.runs());
            log().contains("listening").then_some(())
        });
        let mut mta = daemon.negotiated();
        mta.macros(&plain("Q1\nQ2: verdict=pass"));
        assert_eq!(mta.mail(forged), "continue");
        assert_eq!(mta.rcpt("<r@y>"), REFUSED);
        mta.quit();
        let malformed = daemon.negotiated();
        let mut malformed = malformed;
        malformed.frame('Z', b"");
        malformed.drained();
        daemon.stop();
        let log = log();
        assert_eq!(home.log(), "", "nothing goes to standard error beside");
        assert!(!log.contains(['\u{2028}', '\u{202e}', '\r']), "{log}");
        let decisions: Vec<&str> = log.lines().filter(|line| line.contains("verdict")).collect();
        assert_eq!(decisions.len(), 1, "{log}");
        if format == "text" {
            for line in log.lines() {
                let (ts, rest) = line.split_once(' ').unwrap();
                ts.parse::<jiff::Timestamp>().unwrap_or_else(|e| panic!("{e}: {line}"));
                let level = rest.split(' ').next().unwrap();
                assert!(["INFO", "WARN", "ERROR"].contains(&level), "{line}");
            }
            let start = " INFO \"Q1\\nQ2: verdict=pass\": verdict=fail, mode=enforce, disposition=reject, rule=all, side=client, key=*, ";
            assert!(decisions[0].contains(start), "{log}");
            assert!(
                log.contains(" WARN connection closed: an unknown command, 0x5a listener=unix:"),
                "{log}"
            );
        } else {
            let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert!(lines.iter().all(|line| line["ts"].is_string()), "{log}");
            // A decision in the log is the record itself, as it is in the file of decisions.
            let decision: Value = serde_json::from_str(decisions[0]).unwrap();
            assert_eq!(home.decisions(), [decision]);
            let warned = lines.iter().rfind(|line| line["level"] == "warn").unwrap();
            assert_eq!(warned["message"], "connection closed: an unknown command, 0x5a");
        }
    }
}

#[test]
fn the_level_of_the_log_changes_while_it_runs() {
    let home = Home::new(ENFORCE);
    let daemon = home.start();
    assert_eq!(daemon.one_message(&plain("SEEN")), REFUSED);
    daemon.wait_log("SEEN: verdict=fail");
    home.daemon_file(&DAEMON_FILE.replace("[log]", "[log]\nlevel = \"error\""));
    // At this level it says no more of it. That it is in force is seen from what is not said any longer; that
    // it was read, from a mistake that is.
    home.daemon_file(&DAEMON_FILE.replace("[log]", "[log]\nlevel = \"error\"\nx = 1"));
    daemon.wait_log("unknown field `x` in `log` [unknown-field]");
    daemon.wait_log("the daemon's file is broken: its settings stay as they are");
    home.daemon_file(&DAEMON_FILE.replace("[log]", "[log]\nlevel = \"warn\""));
    let mark = daemon.mark();
    let mut sent = 0;
    until("decisions to be said no more", || {
        sent += 1;
        let id = format!("HIDDEN{sent}.");
        assert_eq!(daemon.one_message(&plain(&id)), REFUSED);
        home.wait_decisions(1 + sent);
        (!daemon.log().contains(&id)).then_some(())
    });
    home.daemon_file(&DAEMON_FILE.replace("[log]", "[log]\nlevel = \"debug\""));
    daemon.wait_log_since(mark, "the log's level has changed level=DEBUG");
    assert_eq!(daemon.one_message(&plain("AGAIN")), REFUSED);
    daemon.wait_log_since(mark, "AGAIN: verdict=fail");
    // What else changed waits for the next start, and that is said.
    home.daemon_file(&DAEMON_FILE.replace("[policy]", "max-connections = 7\n[policy]"));
    daemon.wait_log_since(
        mark,
        "settings other than those of [log] have changed: they are taken at the next start",
    );
    daemon.stop();
}

#[test]
fn messages_that_nothing_was_told_of_are_said_in_the_log() {
    let home = Home::new(ENFORCE);
    let daemon = home.start();
    assert_eq!(daemon.one_message(&[]), "accept");
    // Within ten seconds, however many there are: not a line for each.
    let said =
        daemon.wait_log_since(0, "the MTA did not tell what would be needed to judge: mail was accepted");
    assert!(said.contains(" WARN ") && said.contains("messages=1"), "{said}");
    daemon.stop();
}
