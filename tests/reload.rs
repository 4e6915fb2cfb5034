//! Hot reload, by the real binary and real files: whatever way an edit comes about, it is in force for the
//! next message, and a broken one changes nothing.
//!
//! Promises: no edit is waited for by time: what is asserted is what the log says and how messages fare.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::daemon::{DAEMON_FILE, Daemon, Home};
use support::mta::{connect, plain, tls};
use support::until;

/// A policy whose refusals tell its name.
fn named(name: &str) -> String {
    format!(
        "version = 1\n[[rule]]\nname = \"{name}\"\nclient = [\"partner.example\"]\nenforce = {{ min-bits = 128 }}\n"
    )
}

fn refusal(name: &str) -> String {
    format!("550 5.7.10 encryption needed, STARTTLS with at least 128 bits, rule {name}")
}

/// Waits until messages are refused by this rule.
fn wait_in_force(daemon: &Daemon<'_>, name: &str) {
    let expected = refusal(name);
    until(&format!("rule {name} in force; the log:\n{}", daemon.log()), || {
        (daemon.one_message(&plain("PROBE")) == expected).then_some(())
    });
}

/// How often a policy was put in force so far.
fn loads(daemon: &Daemon<'_>) -> usize {
    daemon.log().matches(" INFO policy in force ").count()
}

/// Writes beside and moves, as most editors and deployments do.
fn rename_save(path: &Path, text: &str) {
    let beside = path.with_extension("tmp");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, path).unwrap();
}

/// Puts a link in the place of another in one step, as `ln -sfn` and Kubernetes do.
fn swap_link(target: &str, link: &Path) {
    let beside = link.with_extension("new");
    symlink(target, &beside).unwrap();
    fs::rename(&beside, link).unwrap();
}

/// A home whose daemon takes these files for its policy.
fn home_with(files: &str) -> Home {
    Home::with(&DAEMON_FILE.replace("\"policy.toml\"", files), "")
}

#[test]
fn an_edit_is_in_force_however_it_is_saved() {
    /// What it is called, and how the text gets to its place.
    type Save<'a> = (&'a str, &'a dyn Fn(&Home, &str));
    let ways: &[Save<'_>] = &[
        ("in place", &|home, text| home.write("policy.toml", text)),
        ("moved over", &|home, text| rename_save(&home.path("policy.toml"), text)),
        ("backup first: the old one is moved away, the new one written", &|home, text| {
            fs::rename(home.path("policy.toml"), home.path("policy.toml~")).unwrap();
            home.write("policy.toml", text);
        }),
        ("removed, and written anew", &|home, text| {
            fs::remove_file(home.path("policy.toml")).unwrap();
            home.write("policy.toml", text);
        }),
        ("in pieces, with the file open in between", &|home, text| {
            use std::io::Write;
            let mut file = fs::File::create(home.path("policy.toml")).unwrap();
            for piece in text.as_bytes().chunks(20) {
                file.write_all(piece).unwrap();
                file.sync_data().unwrap();
            }
        }),
        ("of the same length, with the old time stamp", &|home, text| {
            let path = home.path("policy.toml");
            let before = fs::metadata(&path).unwrap().modified().unwrap();
            home.write("policy.toml", text);
            fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
        }),
        ("a link in the place of the file", &|home, text| {
            home.write("elsewhere.toml", text);
            swap_link("elsewhere.toml", &home.path("policy.toml"));
        }),
    ];
    for (what, save) in ways {
        let home = Home::new("");
        home.write("policy.toml", &named("one"));
        let daemon = home.start();
        wait_in_force(&daemon, "one");
        for name in ["two", "six"] {
            let mark = daemon.mark();
            save(&home, &named(name));
            let said = daemon.wait_log_since(mark, "policy in force");
            assert!(said.contains(&format!("rule {name}: added")), "{what}: {said}");
            assert_eq!(daemon.one_message(&plain("A")), refusal(name), "{what}");
        }
        daemon.stop();
    }
}

#[test]
fn links_and_folders_may_be_swapped_anywhere_on_the_way() {
    /// What it is called, what the daemon file names, and what is swapped.
    type Swap<'a> = (&'a str, &'a str, &'a dyn Fn(&Home));
    let ways: &[Swap<'_>] = &[
        ("the link that the file is", "policy.toml", &|home| {
            swap_link("v2/policy.toml", &home.path("policy.toml"));
        }),
        ("a link to a folder above", "current/policy.toml", &|home| swap_link("v2", &home.path("current"))),
        ("a link to a link to a folder", "conf/policy.toml", &|home| swap_link("v2", &home.path("current"))),
        ("the folder itself", "folder/policy.toml", &|home| {
            fs::rename(home.path("folder"), home.path("folder.old")).unwrap();
            fs::rename(home.path("v2"), home.path("folder")).unwrap();
        }),
        ("a folder above, taken away and put back", "deep/er/policy.toml", &|home| {
            fs::remove_dir_all(home.path("deep")).unwrap();
            fs::create_dir_all(home.path("deep/er")).unwrap();
            fs::copy(home.path("v2/policy.toml"), home.path("deep/er/policy.toml")).unwrap();
        }),
        ("what the link leads to, in place", "current/policy.toml", &|home| {
            home.write("v1/policy.toml", &named("two"));
        }),
        ("what the link leads to, moved over", "policy.toml", &|home| {
            rename_save(&home.path("v1/policy.toml"), &named("two"));
        }),
    ];
    for (what, file, swap) in ways {
        let home = home_with(&format!("{file:?}"));
        for folder in ["v1", "v2", "folder", "deep/er"] {
            fs::create_dir_all(home.path(folder)).unwrap();
            let name = if folder == "v2" { "two" } else { "one" };
            home.write(&format!("{folder}/policy.toml"), &named(name));
        }
        symlink("v1", home.path("current")).unwrap();
        symlink("current", home.path("conf")).unwrap();
        fs::remove_file(home.path("policy.toml")).unwrap();
        symlink("v1/policy.toml", home.path("policy.toml")).unwrap();
        let daemon = home.start();
        assert_eq!(daemon.one_message(&plain("A")), refusal("one"), "{what}");
        swap(&home);
        daemon.wait_log("rule two: added");
        wait_in_force(&daemon, "two");
        // And what is there now is watched in its turn.
        let now = fs::canonicalize(home.path(file)).unwrap();
        rename_save(&now, &named("three"));
        daemon.wait_log("rule three: added");
        wait_in_force(&daemon, "three");
        daemon.stop();
    }
}

#[test]
fn a_glob_gains_changes_and_loses_files() {
    let home = home_with("\"policy.toml\", \"policy.d/*.toml\"");
    fs::create_dir(home.path("policy.d")).unwrap();
    let rule = |name: &str, key: &str| named(name).replace("partner.example", key);
    home.write("policy.d/a.toml", &rule("a", "a.example"));
    let daemon = home.start();
    let from = |host: &'static str| {
        let mut told = plain("G");
        told.iter_mut().filter(|(name, _)| *name == "{client_name}").for_each(|pair| pair.1 = host);
        daemon.one_message(&told)
    };
    assert_eq!((from("a.example"), from("b.example")), (refusal("a"), "accept".to_owned()));
    home.write("policy.d/b.toml", &rule("b", "b.example"));
    daemon.wait_log("rule b: added");
    daemon.wait_log("rule b: enforce added min-bits 128");
    daemon.wait_log("rule b: client added b.example");
    until("rule b", || (from("b.example") == refusal("b")).then_some(()));
    assert_eq!(from("a.example"), refusal("a"));
    // One policy: what is wrong between two files keeps both as they were.
    home.write("policy.d/c.toml", &rule("c", "b.example"));
    daemon.wait_log("`b.example` is already a client key of rule `b` [duplicate-key]");
    daemon.wait_log("policy refused: the one in force stays");
    assert_eq!(from("b.example"), refusal("b"));
    fs::remove_file(home.path("policy.d/b.toml")).unwrap();
    daemon.wait_log("rule b: removed");
    until("rule c", || (from("b.example") == refusal("c")).then_some(()));
    // A pattern that matches nothing is a mistake, not a policy without rules.
    let mark = daemon.mark();
    fs::remove_dir_all(home.path("policy.d")).unwrap();
    daemon.wait_log_since(mark, "no file matches");
    daemon.wait_log_since(mark, "policy refused: the one in force stays");
    assert_eq!(from("a.example"), refusal("a"));
    fs::create_dir(home.path("policy.d")).unwrap();
    home.write("policy.d/d.toml", &rule("d", "b.example"));
    daemon.wait_log_since(mark, "rule d: added");
    until("rule d", || (from("b.example") == refusal("d")).then_some(()));
    assert_eq!(from("a.example"), "accept");
    daemon.stop();
}

#[test]
fn lists_are_part_of_the_policy() {
    let list = "version = 1\n[[rule]]\nname = \"listed\"\nclient-file = \"lists/partners.txt\"\nenforce = { min-bits = 128 }\n";
    let home = Home::new("");
    home.write("policy.toml", list);
    fs::create_dir(home.path("lists")).unwrap();
    home.write("lists/partners.txt", "# none yet\n");
    let daemon = home.start();
    assert_eq!(daemon.one_message(&plain("A")), "accept");
    home.write("lists/partners.txt", "partner.example # now\n");
    daemon.wait_log("rule listed: client added partner.example");
    wait_in_force(&daemon, "listed");
    home.write("lists/partners.txt", "partner.example\n.bad.example\n");
    let place = format!("{}:2:1: `.bad.example` cannot be a key", home.path("lists/partners.txt").display());
    daemon.wait_log(&place);
    wait_in_force(&daemon, "listed");
    // Gone, and back again with something else in it.
    let mark = daemon.mark();
    fs::remove_file(home.path("lists/partners.txt")).unwrap();
    daemon.wait_log_since(mark, "[unreadable-file]");
    wait_in_force(&daemon, "listed");
    rename_save(&home.path("lists/partners.txt"), "other.example\n");
    daemon.wait_log("rule listed: client removed partner.example");
    until("its end", || (daemon.one_message(&plain("B")) == "accept").then_some(()));
    daemon.stop();
}

#[test]
fn what_editors_leave_behind_triggers_nothing() {
    let home = home_with("\"policy.toml\", \"policy.d/*\"");
    fs::create_dir(home.path("policy.d")).unwrap();
    home.write("policy.toml", &named("one"));
    home.write("policy.d/a.toml", "version = 1\n");
    let daemon = home.start();
    let before = loads(&daemon);
    for name in [
        "policy.toml~",
        ".policy.toml.swp",
        ".policy.toml.swx",
        "#policy.toml#",
        ".#policy.toml",
        "4913",
        "policy.toml.bak",
        "policy.toml.orig",
        "policy.d/a.toml~",
        "policy.d/.a.toml.swp",
        "policy.d/#a.toml#",
        "policy.d/a.toml.bak",
        "policy.d/a.toml.dpkg-new",
        "policy.d/a.toml.rpmsave",
        "policy.d/.hidden.toml",
        "decisions.jsonl.1",
    ] {
        home.write(name, "this is no policy");
        fs::rename(home.path(name), home.path("moved")).unwrap();
        fs::rename(home.path("moved"), home.path(name)).unwrap();
    }
    // What was seen of them was seen before this, which must load: once, and without them.
    home.write("policy.toml", &named("two"));
    daemon.wait_log("rule two: added");
    wait_in_force(&daemon, "two");
    daemon.signal(Signal::SIGHUP);
    until("the policy to be loaded by the signal", || (loads(&daemon) == before + 2).then_some(()));
    assert!(!daemon.log().contains(" ERROR "), "{}", daemon.log());
    daemon.stop();
    assert_eq!(home.log().matches("policy in force").count(), before + 2);
}

#[test]
fn a_broken_edit_changes_nothing_and_is_told() {
    let home = Home::new("");
    home.write("policy.toml", &named("one"));
    let daemon = home.start();
    let path = home.path("policy.toml").display().to_string();
    for (broken, expected) in [
        (
            "version = 1\n[[rule]]\nname = \"two\"\nclient = [\"x\"]\nenforce = { min-bit = 128 }\n",
            ":5:13: unknown field `min-bit` in `enforce` [unknown-field]; did you mean `min-bits`?",
        ),
        ("version = 1\n[[rule]]\nname = \"two", ":3:12: invalid basic string, expected `\"` [toml-syntax]"),
        ("", ":1:1: the file does not say `version = 1` [missing-version]"),
        ("\u{0}\u{1}\u{2}", ":1:1: "),
    ] {
        let mark = daemon.mark();
        home.write("policy.toml", broken);
        let said = daemon.wait_log_since(mark, "policy refused: the one in force stays");
        assert!(said.contains(&format!(" ERROR {path}{expected}")), "{expected} in\n{said}");
        assert!(!said.contains("INFO policy in force"), "{said}");
        assert_eq!(daemon.one_message(&plain("A")), refusal("one"));
    }
    let mark = daemon.mark();
    fs::write(home.path("policy.toml"), b"version = 1\n\xff\xfe").unwrap();
    let said = daemon.wait_log_since(mark, "policy refused");
    assert!(said.contains("policy.toml is not UTF-8 text (line 2, byte 12) [not-utf8]"), "{said}");
    // Taken away, a folder in its place, and back.
    let mark = daemon.mark();
    fs::remove_file(home.path("policy.toml")).unwrap();
    daemon.wait_log_since(mark, "[unreadable-file]");
    let mark = daemon.mark();
    fs::create_dir(home.path("policy.toml")).unwrap();
    daemon.wait_log_since(mark, "not a regular file [unreadable-file]");
    assert_eq!(daemon.one_message(&plain("B")), refusal("one"));
    fs::remove_dir(home.path("policy.toml")).unwrap();
    let mark = daemon.mark();
    home.write("policy.toml", &named("two"));
    let said = daemon.wait_log_since(mark, "INFO policy in force");
    assert!(said.contains("rule one: removed") && said.contains("rule two: added"), "{said}");
    assert_eq!(daemon.one_message(&plain("C")), refusal("two"));
    daemon.stop();
}

#[test]
fn the_log_says_what_changed_in_meaning() {
    let home = Home::new("");
    let rule = |modes: &str| {
        format!("version = 1\n[[rule]]\nname = \"partner\"\nclient = [\"partner.example\"]\n{modes}\n")
    };
    home.write("policy.toml", &rule("observe = { min-bits = 128 }"));
    let daemon = home.start();
    for (text, expected) in [
        (
            rule("observe = { min-bits = 256 }\nenforce = { min-bits = 128 }"),
            vec![
                "rule partner: enforce added min-bits 128",
                "rule partner: observe raised from min-bits 128 to min-bits 256",
            ],
        ),
        (
            rule("enforce = { min-bits = 112 }"),
            vec![
                "rule partner: enforce lowered from min-bits 128 to min-bits 112",
                "rule partner: observe removed min-bits 256",
            ],
        ),
        (rule("enforce = { min-bits = 112 } # a comment"), vec![]),
        (
            rule("enforce = { min-bits = 112 }") + "[reply]\ncontact = \"x\"\n[exempt]\nnetworks = []\n",
            vec!["exempt: networks removed 127.0.0.0/8, ::1", "reply: contact now x"],
        ),
    ] {
        let mark = daemon.mark();
        rename_save(&home.path("policy.toml"), &text);
        let said = daemon.wait_log_since(mark, "INFO policy in force");
        let meant: Vec<&str> = said
            .lines()
            .filter_map(|line| line.split_once(" INFO ").map(|(_, told)| told))
            .take_while(|told| !told.starts_with("policy in force"))
            .collect();
        assert_eq!(meant, expected, "{said}");
        let summary = if expected.is_empty() { "meaning=\"the same in meaning\"" } else { "meaning=changed" };
        assert!(said.contains(summary), "{said}");
    }
    daemon.stop();
}

#[test]
fn hangup_loads_even_where_nothing_changed() {
    let home = Home::new("");
    home.write("policy.toml", &named("one"));
    let daemon = home.start();
    for _ in 0..3 {
        let mark = daemon.mark();
        daemon.signal(Signal::SIGHUP);
        let said = daemon.wait_log_since(mark, "INFO policy in force");
        assert!(said.contains("meaning=\"the same in meaning\""), "{said}");
    }
    let mark = daemon.mark();
    home.write("policy.toml", &named("two"));
    daemon.signal(Signal::SIGHUP);
    daemon.wait_log_since(mark, "rule two: added");
    wait_in_force(&daemon, "two");
    daemon.stop();
}

#[test]
fn a_message_under_way_keeps_its_policy_and_the_next_has_the_new_one() {
    let home = Home::new("");
    home.write("policy.toml", &named("old"));
    let daemon = home.start();
    let mut before = daemon.negotiated();
    before.macros(&plain("BEFORE"));
    assert_eq!(before.mail("<a@x>"), "continue");
    let mut idle = daemon.negotiated();
    home.write("policy.toml", &named("new"));
    daemon.wait_log("rule new: added");
    wait_in_force(&daemon, "new");
    // The transaction that was open, recipient by recipient.
    assert_eq!(before.rcpt("<r1@y>"), refusal("old"));
    assert_eq!(before.rcpt("<r2@y>"), refusal("old"));
    before.frame('A', b"");
    // The next ones, in connections that were open all the while.
    for mta in [&mut before, &mut idle] {
        mta.macros(&plain("AFTER"));
        assert_eq!(mta.mail("<a@x>"), "continue");
        assert_eq!(mta.rcpt("<r@y>"), refusal("new"));
    }
    before.quit();
    idle.quit();
    daemon.stop();
    let mut policies: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for record in home.decisions() {
        let id = record["queue_id"].as_str().unwrap().to_owned();
        policies.entry(id).or_default().insert(record["policy"].as_str().unwrap().to_owned());
    }
    assert!(policies.values().all(|fingerprints| fingerprints.len() == 1), "{policies:?}");
    assert_ne!(policies["BEFORE"], policies["AFTER"]);
    assert_eq!(policies["PROBE"], policies["AFTER"]);
}

#[test]
fn under_a_flood_of_edits_every_reply_fits_its_record_and_its_policy() {
    const SESSIONS: usize = 3;
    const EDITS: usize = 40;
    let soft = named("soft").replace("enforce", "soft-fail").replace("128", "256");
    let texts = [named("hard"), soft];
    let home = Home::new("");
    home.write("policy.toml", &texts[0]);
    let daemon = home.start();
    let socket = home.path("m.sock");
    let done = AtomicBool::new(false);

    // What each message was answered, by its queue id.
    let answered: BTreeMap<String, String> = std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..SESSIONS)
            .map(|session| {
                let (socket, done) = (&socket, &done);
                scope.spawn(move || {
                    let mut answers = BTreeMap::new();
                    let mut mta = connect(socket);
                    mta.negotiate();
                    for n in 0.. {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        let id = format!("S{session}N{n}");
                        let bits = ["112", "128", "256"][n % 3];
                        if n % 4 == 0 {
                            mta.macros(&plain(&id));
                        } else {
                            mta.macros(&tls(&id, bits));
                        }
                        let answer = match mta.mail("<a@x>").as_str() {
                            "continue" => mta.rcpt("<r@y>"),
                            other => other.to_owned(),
                        };
                        answers.insert(id, answer);
                        // The log is read from its beginning at each look: edits are what there is a flood of.
                        std::thread::sleep(Duration::from_millis(1));
                        if n % 50 == 49 {
                            mta.quit();
                            mta = connect(socket);
                            mta.negotiate();
                        }
                    }
                    mta.quit();
                    answers
                })
            })
            .collect();
        for edit in 1..=EDITS {
            let text = &texts[edit % 2];
            let mark = daemon.mark();
            if edit % 3 == 0 {
                home.write("policy.toml", text);
            } else {
                rename_save(&home.path("policy.toml"), text);
            }
            // Some in one burst, the others each on its own.
            if edit % 5 != 0 && edit % 5 != 1 {
                daemon.wait_log_since(mark, "INFO policy in force");
            }
        }
        done.store(true, Ordering::Relaxed);
        sessions.into_iter().flat_map(|session| session.join().unwrap()).collect()
    });
    daemon.stop();

    let records = home.decisions();
    assert_eq!(records.len(), answered.len(), "one record for each message");
    let mut rules: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for record in &records {
        let text = |name: &str| record[name].as_str();
        let answer = &answered[text("queue_id").unwrap()];
        let policy = text("policy").unwrap();
        match text("reply") {
            None => {
                assert_eq!((answer.as_str(), text("disposition")), ("accept", Some("accept")), "{record}");
            }
            Some(reply) => {
                assert_eq!(answer, reply, "{record}");
                rules.entry(policy).or_default().insert(text("rule").unwrap());
            }
        }
        // And the verdict is that of the record's own policy.
        let bits = record["cipher_bits"].as_u64().unwrap();
        let (need, code) = if rules_of(record) == "soft" { (256, "454") } else { (128, "55") };
        assert_eq!(bits < need, answer.starts_with(code), "{record}");
    }
    // Two policies, each with one rule, and both were seen.
    assert_eq!(rules.len(), 2, "{rules:?}");
    assert!(rules.values().all(|names| names.len() == 1), "{rules:?}");
    let fingerprints: BTreeSet<&str> =
        records.iter().map(|record| record["policy"].as_str().unwrap()).collect();
    assert_eq!(fingerprints, rules.keys().copied().collect());
}

/// The rule that a record names: every message here is one of the rule's.
fn rules_of(record: &Value) -> &str {
    record["rule"].as_str().unwrap()
}

#[test]
fn a_large_list_is_loaded_by_a_thread_that_steps_back_and_an_edit_of_it_is_in_force() {
    let home =
        Home::new("[[rule]]\nname = \"many\"\nclient-file = \"list.txt\"\nenforce = { min-bits = 128 }\n");
    let many: Vec<String> = (0..60_000).map(|n| format!("host{n}.of-many.example")).collect();
    let list = |last: &str| format!("{}\n{last}", many.join("\n"));
    assert!(list("").len() > 1024 * 1024);
    home.write("list.txt", &list("other.example\n"));
    let daemon = home.start();
    assert_eq!(daemon.one_message(&plain("A")), "accept");
    for (last, answer) in [("partner.example\n", refusal("many")), ("other.example\n", "accept".to_owned())] {
        let mark = daemon.mark();
        rename_save(&home.path("list.txt"), &list(last));
        let said = daemon.wait_log_since(mark, " INFO policy in force ");
        let key = last.trim();
        assert!(said.contains(&format!("rule many: client added {key}")), "{said}");
        assert_eq!(daemon.one_message(&plain("B")), answer);
    }
    // Once for each: its lists were read when it was first loaded.
    assert_eq!(loads(&daemon), 3);
    daemon.stop();
}
