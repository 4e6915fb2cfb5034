//! The real daemon, asked over the socket map as sendmail's outbound rulesets ask.
//!
//! Promises: what is asked is what `config/sendmail-outbound.mc` asks; whether sendmail really asks so, and what it
//! makes of the answers, is seen in `integration/`.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::asker::{Asker, Delivery, IN_THE_CLEAR, PARTNER, netstring};
use support::daemon::{DAEMON_FILE, Daemon, Home, run};

/// A home whose daemon serves the map, with this policy.
fn home(policy: &str) -> Home {
    home_with("", policy)
}

fn home_with(settings: &str, policy: &str) -> Home {
    let file = format!("{DAEMON_FILE}[outbound]\nlisten = \"unix:{{dir}}/o.sock\"\n{settings}");
    Home::with(&file, policy)
}

fn connect(home: &Home) -> Asker {
    Asker::connect(&home.path("o.sock"))
}

fn rule(name: &str, keys: &str, modes: &str) -> String {
    format!("[[rule]]\nname = \"{name}\"\n{keys}\n{modes}\n")
}

/// The records, once the daemon has ended.
fn records(daemon: Daemon<'_>, home: &Home) -> Vec<Value> {
    daemon.stop();
    home.decisions()
}

fn brief(record: &Value) -> String {
    let part = |name: &str| record[name].as_str().unwrap_or("-").to_owned();
    ["queue_id", "recipient", "verdict", "mode", "disposition", "rule"].map(part).join(" ")
}

#[test]
fn each_mode_has_its_answer_and_its_record() {
    let partner = "server = [\"partner.example\"]";
    for (modes, delivery, answer, record) in [
        ("observe = { min-bits = 256 }", PARTNER, "NOTFOUND ", "fail observe accept"),
        (
            "soft-fail = { min-bits = 256 }",
            PARTNER,
            "OK 454:4.7.0:\"encryption too weak 128 less than 256, rule r\"",
            "fail soft-fail tempfail",
        ),
        (
            "enforce = { min-bits = 256 }",
            PARTNER,
            "OK 554:5.7.0:\"encryption too weak 128 less than 256, rule r\"",
            "fail enforce reject",
        ),
        (
            "enforce = { min-bits = 256 }",
            IN_THE_CLEAR,
            "OK 550:5.7.10:\"encryption needed, STARTTLS with at least 256 bits, rule r\"",
            "fail enforce reject",
        ),
        (
            "soft-fail = { verify = true }",
            PARTNER,
            "OK 454:4.7.0:\"authentication failed, rule r\"",
            "fail soft-fail tempfail",
        ),
        (
            "soft-fail = { verify = true }",
            Delivery { verify: "SOFTWARE", ..IN_THE_CLEAR },
            "OK 454:4.7.0:\"TLS handshake failed, rule r\"",
            "fail soft-fail tempfail",
        ),
        (
            // STARTTLS was put off, and the session goes on in the clear.
            "enforce = { min-bits = 128 }",
            Delivery { verify: "TEMP", ..IN_THE_CLEAR },
            "OK 550:5.7.10:\"encryption needed, STARTTLS with at least 128 bits, rule r\"",
            "fail enforce reject",
        ),
        ("enforce = { min-bits = 128 }", PARTNER, "NOTFOUND ", "pass enforce accept"),
        (
            "enforce = { min-bits = 128 }",
            Delivery { server_name: "mx.other.example", ..PARTNER },
            "NOTFOUND ",
            "no-rule - accept",
        ),
    ] {
        let home = home(&rule("r", partner, modes));
        let daemon = home.start();
        assert_eq!(connect(&home).ask(&delivery, None), answer, "{modes}");
        let records = records(daemon, &home);
        assert_eq!(records.len(), 1, "{modes}");
        let part = |name: &str| records[0][name].as_str().unwrap_or("-").to_owned();
        assert_eq!(["verdict", "mode", "disposition"].map(part).join(" "), record, "{modes}");
        assert_eq!((part("direction"), part("host")), ("outbound".into(), "mail.example.org".into()));
        assert_eq!((part("server_addr"), part("queue_id")), ("192.0.2.7".into(), "4AMB1".into()));
    }
}

#[test]
fn a_message_has_one_record_and_a_recipient_that_is_judged_has_one() {
    let server = rule("s", "server = [\"partner.example\"]", "observe = { min-bits = 256 }");
    let home_of_servers = home(&server);
    let daemon = home_of_servers.start();
    let mut asker = connect(&home_of_servers);
    asker.ask(&PARTNER, None);
    asker.ask(&PARTNER, Some("a@partner.example"));
    asker.ask(&PARTNER, Some("b@partner.example"));
    // The connection is kept for the next message: sendmail asks about its recipients only.
    let next = Delivery { queue_id: "4AMB2", ..PARTNER };
    asker.ask(&next, Some("a@partner.example"));
    asker.ask(&next, Some("b@partner.example"));
    let seen: Vec<_> = records(daemon, &home_of_servers).iter().map(brief).collect();
    assert_eq!(seen, ["4AMB1 - fail observe accept s", "4AMB2 - fail observe accept s"]);

    let recipient =
        rule("r", "recipient-outbound = [\"joe@partner.example\"]", "soft-fail = { min-bits = 256 }");
    let home = home(&format!("{server}{recipient}"));
    let daemon = home.start();
    let mut asker = connect(&home);
    assert_eq!(asker.ask(&PARTNER, None), "NOTFOUND ");
    assert!(asker.ask(&PARTNER, Some("Joe+x@partner.example")).starts_with("OK 454:4.7.0:"));
    assert_eq!(asker.ask(&PARTNER, Some("ann@partner.example")), "NOTFOUND ");
    let seen: Vec<_> = records(daemon, &home).iter().map(brief).collect();
    assert_eq!(
        seen,
        [
            "4AMB1 Joe+x@partner.example fail soft-fail tempfail r",
            "4AMB1 ann@partner.example fail observe accept s"
        ]
    );
}

#[test]
fn every_server_of_a_message_and_every_refusal_has_its_record() {
    let modes =
        |mode: &str| rule("s", "server = [\"partner.example\"]", &format!("{mode} = {{ min-bits = 256 }}"));
    let home = home(&modes("observe"));
    let daemon = home.start();
    let mut asker = connect(&home);
    let other = Delivery { server_name: "mx.other.example", ..PARTNER };
    // Two connections that are kept, asked about by turns; a recipient that is exempt stands for itself alone.
    asker.ask(&other, None);
    assert_eq!(asker.ask(&PARTNER, Some("postmaster@partner.example")), "NOTFOUND ");
    asker.ask(&PARTNER, Some("a@partner.example"));
    asker.ask(&other, Some("a@other.example"));
    asker.ask(&PARTNER, Some("b@partner.example"));
    let mark = daemon.mark();
    home.write("policy.toml", &format!("version = 1\n{}", modes("enforce")));
    daemon.wait_log_since(mark, "policy in force");
    assert!(asker.ask(&PARTNER, Some("c@partner.example")).starts_with("OK 554:"));
    assert!(asker.ask(&PARTNER, Some("d@partner.example")).starts_with("OK 554:"));
    // What goes to a program of this host is no delivery to a server.
    assert_eq!(asker.ask(&Delivery { server_addr: "keep", ..PARTNER }, None), "NOTFOUND ");
    let seen: Vec<_> = records(daemon, &home).iter().map(brief).collect();
    assert_eq!(
        seen,
        [
            "4AMB1 - no-rule - accept -",
            "4AMB1 postmaster@partner.example exempt - accept -",
            "4AMB1 - fail observe accept s",
            "4AMB1 c@partner.example fail enforce reject s",
            "4AMB1 d@partner.example fail enforce reject s",
        ]
    );
}

#[test]
fn an_address_comes_bare_and_is_taken_as_it_stands() {
    let home = home(&rule("r", "recipient-outbound = [\"partner.example\"]", "enforce = { min-bits = 256 }"));
    let daemon = home.start();
    let mut asker = connect(&home);
    // sendmail has taken the quotes off.
    for recipient in [
        "a(b@partner.example",
        "postmaster(@partner.example",
        "a b@partner.example",
        "<x@partner.example",
        "a\"b@partner.example",
    ] {
        assert!(asker.ask(&PARTNER, Some(recipient)).starts_with("OK 554:"), "{recipient}");
    }
    assert_eq!(records(daemon, &home)[3]["recipient"], "<x@partner.example");
}

#[test]
fn long_names_are_asked_for_where_a_rule_needs_them() {
    let home = home(&rule(
        "r",
        "server = [\"partner.example\"]",
        "enforce = { verify = true, cert-issuer = \"/C=DE/O=Some CA\" }",
    ));
    let daemon = home.start();
    let mut asker = connect(&home);
    let verified = Delivery { verify: "OK", ..PARTNER };
    assert_eq!(asker.ask(&verified, None), "OK names");
    let named = Delivery { names: Some(("/C=DE/O=Some+20CA", "/CN=mx")), ..verified };
    assert_eq!(asker.ask(&named, None), "NOTFOUND ");
    let other = Delivery { queue_id: "4AMB2", names: Some(("/C=DE/O=Other", "/CN=mx")), ..verified };
    assert_eq!(
        asker.ask(&other, None),
        "OK 554:5.7.0:\"Cert Issuer /C=DE/O=Other does not match /C=DE/O=Some CA, rule r\""
    );
    assert_eq!(asker.ask(&Delivery { server_name: "mx.other.example", ..verified }, None), "NOTFOUND ");
    let records = records(daemon, &home);
    assert_eq!(records.len(), 3);
    assert_eq!(records[0]["cert_issuer"], "/C=DE/O=Some+20CA");
}

#[test]
fn questions_may_come_in_any_pieces_and_many_at_once() {
    let home = home(&rule("r", "server = [\"partner.example\"]", "soft-fail = { min-bits = 256 }"));
    let daemon = home.start();
    let mut asker = connect(&home);
    let question = PARTNER.question(None);
    for byte in &question {
        asker.send(std::slice::from_ref(byte));
    }
    assert!(asker.answer().unwrap().starts_with("OK 454:"));
    asker.send(&question.repeat(500));
    for _ in 0..500 {
        assert!(asker.answer().unwrap().starts_with("OK 454:"));
    }
    // As large as is taken, and not of our snippet: answered, told once, and the connection goes on.
    for content in [vec![b'x'; 65_536], b"encr_milter hello".to_vec(), Vec::new()] {
        asker.send(&netstring(&content));
        assert_eq!(asker.answer().unwrap(), "PERM not a question of sendmail-outbound.mc");
    }
    assert!(asker.ask(&PARTNER, None).starts_with("OK 454:"));
    daemon.wait_log("a question that is not understood");
    // What is no netstring ends its connection, and no other.
    for bad in [b"hello".as_slice(), b"5:ab,cd", b"65537:", b"99999999999:"] {
        let mut other = connect(&home);
        other.send(&[bad, b"xxxxxxxxxxx"].concat());
        assert_eq!(other.answer(), None, "{bad:?}");
    }
    // What came before it, in the same breath, has been decided and is answered.
    let mut other = connect(&home);
    other.send(&[PARTNER.question(None).as_slice(), b"hello"].concat());
    assert!(other.answer().unwrap().starts_with("OK 454:"));
    assert_eq!(other.answer(), None);
    daemon.wait_log("connection closed: no netstring");
    // The log is written in order: a second one would stand before this.
    assert_eq!(daemon.log().matches("a question that is not understood").count(), 1);
    daemon.wait_log("connection closed: a request of more than 65536 bytes");
    assert!(asker.ask(&PARTNER, None).starts_with("OK 454:"));
    daemon.stop();
}

#[test]
fn an_edit_holds_for_the_next_question_of_an_open_connection() {
    let keys = "server = [\"partner.example\"]";
    let home = home(&rule("r", keys, "observe = { min-bits = 256 }"));
    let daemon = home.start();
    let mut asker = connect(&home);
    assert_eq!(asker.ask(&PARTNER, None), "NOTFOUND ");
    let mark = daemon.mark();
    home.write("policy.toml", &format!("version = 1\n{}", rule("r", keys, "enforce = { min-bits = 256 }")));
    daemon.wait_log_since(mark, "policy in force");
    assert!(asker.ask(&PARTNER, None).starts_with("OK 554:5.7.0:"));
    daemon.stop();
}

#[test]
fn the_drain_closes_connections_between_questions() {
    let home = home("");
    let mut daemon = home.start();
    let mut idle = connect(&home);
    assert_eq!(idle.ask(&PARTNER, None), "NOTFOUND ");
    let mut asking = connect(&home);
    let question = PARTNER.question(None);
    let (half, rest) = question.split_at(20);
    assert_eq!(asking.ask(&PARTNER, None), "NOTFOUND ");
    asking.send(half);
    // What lies in the socket when the drain begins is read: whoever has begun a question gets its answer.
    daemon.signal(Signal::SIGTERM);
    assert_eq!(idle.answer(), None);
    asking.send(rest);
    assert_eq!(asking.answer().as_deref(), Some("NOTFOUND "));
    assert_eq!(asking.answer(), None);
    assert!(daemon.wait_ended().success());
    // Without its file sendmail would defer mail by itself. It is stale, and no hindrance to the next.
    assert!(home.path("o.sock").exists() && !home.path("m.sock").exists());
    let daemon = home.start();
    assert_eq!(connect(&home).ask(&PARTNER, None), "NOTFOUND ");
    daemon.stop();
}

#[test]
fn the_limit_is_its_own() {
    let home = home_with("max-connections = 1\nidle-timeout = 1\n", "");
    let daemon = home.start();
    let mut first = connect(&home);
    assert_eq!(first.ask(&PARTNER, None), "NOTFOUND ");
    // sendmail would wait for its turn without an end; turned away, it does what its snippet says.
    let mut second = connect(&home);
    assert_eq!(second.answer(), None);
    daemon.wait_log("all connections are in use (outbound.max-connections): further ones are turned away");
    assert_eq!(daemon.one_message(&[("{client_addr}", "192.0.2.7")]), "accept");
    // The first is silent for too long.
    assert_eq!(first.answer(), None);
    support::until("a connection to be free", || {
        let mut third = connect(&home);
        third.try_ask(&PARTNER).filter(|answer| answer == "NOTFOUND ")
    });
    daemon.stop();
}

#[test]
fn rules_that_nobody_could_ask_for_are_said() {
    let policy = rule("r", "recipient-outbound = [\"partner.example\"]", "observe = { min-bits = 256 }");
    let home = Home::new(&policy);
    let daemon = home.start();
    assert!(daemon.log().contains("[not-asked]"), "{}", daemon.log());
    daemon.stop();
    let checked = run(&["check", "-c", home.path("encr-milter.toml").to_str().unwrap()], b"");
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success() && said.contains("warning[not-asked]"), "{said}");
    let asked = home_with("", &policy);
    let daemon = asked.start();
    assert!(!daemon.log().contains("not-asked"), "{}", daemon.log());
    daemon.stop();
}
