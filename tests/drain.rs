//! The end of the daemon: SIGTERM lets open transactions get to theirs, and everything else go.
//!
//! Promises (the real binary): exit code 0, no socket file left, every record written, whether transactions
//! end by themselves, are cut when their time is over, or by a second signal.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use nix::sys::signal::Signal;
use std::net::SocketAddr;
use support::daemon::{Daemon, Home};
use support::mta::{Mta, plain, tls};
use support::{free_port, until};

const ENFORCE: &str = "[[rule]]\nname = \"all\"\nclient = [\"*\"]\nenforce = { min-bits = 128 }\n";
const REFUSED: &str = "550 5.7.10 encryption needed, STARTTLS with at least 128 bits, rule all";

/// A home whose daemon listens on a unix and a TCP socket, and drains for so many seconds.
fn home(drain: u32) -> (Home, SocketAddr) {
    let port = free_port();
    let file = format!(
        "version = 1\n[milter]\nlisten = [\"unix:{{dir}}/m.sock\", \"inet:{port}@127.0.0.1\"]\n\
         drain-timeout = {drain}\n[log]\ndecisions = \"decisions.jsonl\"\n[state]\ndir = \"state\"\n"
    );
    (Home::with(&file, ENFORCE), SocketAddr::from(([127, 0, 0, 1], port)))
}

/// A transaction that is open: MAIL was answered, and its recipients are asked for.
fn begun(daemon: &Daemon<'_>, queue_id: &str) -> Mta {
    let mut mta = daemon.negotiated();
    mta.macros(&plain(queue_id));
    assert_eq!(mta.mail("<a@x>"), "continue");
    mta
}

fn ended(home: &Home, daemon: &mut Daemon<'_>) {
    let status = daemon.wait_ended();
    let log = daemon.log();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.ends_with(" INFO stopped\n"), "{log}");
    assert!(!home.path("m.sock").exists(), "the socket's file is left");
}

#[test]
fn open_transactions_get_to_their_end() {
    let (home, tcp) = home(600);
    let mut daemon = home.start();
    let mut open = begun(&daemon, "OPEN");
    let mut over_tcp = Mta::tcp(tcp).unwrap();
    over_tcp.negotiate();
    over_tcp.macros(&plain("TCP"));
    assert_eq!(over_tcp.mail("<a@x>"), "continue");
    let mut idle = daemon.negotiated();
    let mut between = daemon.negotiated();
    between.macros(&tls("BETWEEN", "256"));
    assert_eq!(between.mail("<a@x>"), "accept");
    let mut never_spoke = Mta::unix(&home.path("m.sock")).unwrap();

    daemon.signal(Signal::SIGTERM);
    // Whoever has nothing under way is let go, so that the MTA turns to the next daemon.
    for mta in [&mut idle, &mut between, &mut never_spoke] {
        assert_eq!(mta.drained(), []);
    }
    until("the listeners to close", || {
        (Mta::unix(&home.path("m.sock")).is_err() && Mta::tcp(tcp).is_err()).then_some(())
    });
    // Whoever has is served as before.
    assert!(daemon.runs());
    assert_eq!(open.rcpt("<r@y>"), REFUSED);
    assert_eq!(open.rcpt("<postmaster>"), "continue");
    assert_eq!(open.end_of_message(), "accept");
    assert_eq!(open.drained(), [], "and is let go at the end");
    assert!(daemon.runs());
    // A transaction that makes room for the next one in its connection.
    assert_eq!(over_tcp.rcpt("<r@y>"), REFUSED);
    over_tcp.macros(&plain("NEXT"));
    assert_eq!(over_tcp.mail("<b@x>"), "continue");
    assert_eq!(over_tcp.rcpt("<r@y>"), REFUSED);
    over_tcp.frame('A', b"");
    assert_eq!(over_tcp.drained(), []);
    ended(&home, &mut daemon);
    let ids: Vec<_> = home.decisions().iter().map(|record| record["queue_id"].clone()).collect();
    assert_eq!(ids, ["BETWEEN", "OPEN", "OPEN", "TCP", "NEXT"]);
}

#[test]
fn without_transactions_it_ends_at_once() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (home, _) = home(600);
        let mut daemon = home.start();
        let mut idle = daemon.negotiated();
        daemon.signal(signal);
        assert_eq!(idle.drained(), []);
        ended(&home, &mut daemon);
    }
}

#[test]
fn a_transaction_that_does_not_end_is_cut_and_recorded() {
    let (home, _) = home(1);
    let mut daemon = home.start();
    let mut open = begun(&daemon, "CUT");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(open.drained(), []);
    ended(&home, &mut daemon);
    assert!(
        daemon.log().contains("WARN some transactions did not end in time; they are cut"),
        "{}",
        daemon.log()
    );
    let decisions = home.decisions();
    assert_eq!(decisions.len(), 1, "it would have been refused, and that is to be counted");
    assert_eq!((&decisions[0]["queue_id"], &decisions[0]["verdict"]), (&"CUT".into(), &"fail".into()));
}

#[test]
fn a_second_signal_cuts_at_once() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (home, _) = home(600);
        let mut daemon = home.start();
        let mut open = begun(&daemon, "CUT");
        daemon.signal(Signal::SIGTERM);
        daemon.wait_log("stopping: open transactions get to their end");
        assert!(daemon.runs());
        daemon.signal(signal);
        assert_eq!(open.drained(), []);
        ended(&home, &mut daemon);
        assert!(
            daemon.log().contains("WARN told to stop again: open transactions are cut"),
            "{}",
            daemon.log()
        );
    }
}

#[test]
fn a_drain_of_no_time_cuts_at_once() {
    let (home, _) = home(0);
    let mut daemon = home.start();
    let mut open = begun(&daemon, "CUT");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(open.drained(), []);
    ended(&home, &mut daemon);
}

#[test]
fn after_a_kill_the_next_one_takes_the_stale_socket() {
    let (home, _) = home(1);
    let mut first = home.start();
    first.signal(Signal::SIGKILL);
    until("its end", || (!first.runs()).then_some(()));
    assert!(home.path("m.sock").exists(), "a kill leaves it");
    let second = home.start();
    assert_eq!(second.one_message(&tls("AGAIN", "128")), "accept");
    second.stop();
}
