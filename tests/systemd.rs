//! What systemd is told, and sockets that it passes: the real binary, and a manager of the tests' own.
//!
//! Promises: nothing here needs systemd; `integration/` has a booted one.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use nix::sys::signal::Signal;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use support::daemon::{DAEMON_FILE, Daemon, Home};
use support::manager::{Manager, spawn_announcing, spawn_passing};
use support::mta::{Mta, plain, tls};
use support::{free_port, until};

const RULE: &str = "[[rule]]\nname = \"all\"\nclient = [\"*\"]\nenforce = { min-bits = 128 }\n";
const REFUSED: &str = "550 5.7.10 encryption needed, STARTTLS with at least 128 bits, rule all";

fn listen(path: &Path) -> UnixListener {
    UnixListener::bind(path).unwrap()
}

/// Another descriptor of a socket, as a manager passes it and keeps its own.
fn passed(listener: &UnixListener) -> OwnedFd {
    listener.try_clone().unwrap().into()
}

fn started(home: &Home, sockets: Vec<OwnedFd>) -> Daemon<'_> {
    let mut daemon = spawn_passing(home, sockets);
    daemon.wait_started();
    daemon
}

fn not_started(home: &Home, sockets: Vec<OwnedFd>) -> (Option<i32>, String) {
    let mut daemon = spawn_passing(home, sockets);
    (daemon.wait_ended().code(), daemon.log())
}

#[test]
fn each_step_of_a_life_is_told() {
    let home = Home::new(RULE);
    let manager = Manager::new(&home);
    let daemon = manager.spawn(&home, &[]);
    // More time is asked for before the policy is loaded, and all is said before it is ready.
    assert!(manager.next()[0].starts_with("EXTEND_TIMEOUT_USEC="));
    let (status, _) = manager.until("STATUS=");
    assert!(status.ends_with(", 1 rule; connections: milter 0"), "{status}");
    assert_eq!(manager.next(), ["READY=1"]);
    // It is ready: whoever connects now is answered.
    assert_eq!(daemon.one_message(&plain("A")), REFUSED);

    // An edit, a broken one, a SIGHUP.
    home.write("policy.toml", "version = 1\n");
    let (_, before) = manager.until("RELOADING=1");
    assert!(!before.contains(&"READY=1".to_owned()));
    manager.until("READY=1");
    let (status, _) = manager.until("STATUS=");
    assert!(status.contains(", 0 rules; connections: milter 0") && !status.contains("REFUSED"), "{status}");
    home.write("policy.toml", "version = 1\n[[rule\n");
    manager.until("RELOADING=1");
    manager.until("READY=1");
    let (status, _) = manager.until("STATUS=");
    assert!(status.contains(", 0 rules") && status.contains("REFUSED"), "{status}");
    home.write("policy.toml", &format!("version = 1\n{RULE}"));
    manager.until("RELOADING=1");
    manager.until("READY=1");
    daemon.signal(Signal::SIGHUP);
    let lines = until("RELOADING", || Some(manager.next()).filter(|lines| lines[0] == "RELOADING=1"));
    let usec = lines[1].strip_prefix("MONOTONIC_USEC=").expect("systemd 253 wants the time");
    assert!(usec.parse::<u64>().unwrap() > 0 && lines[2].starts_with("EXTEND_TIMEOUT_USEC="), "{lines:?}");
    manager.until("READY=1");

    // A session that lasts is seen, now and then.
    let mut open = daemon.negotiated();
    open.macros(&plain("OPEN"));
    assert_eq!(open.mail("<a@x>"), "continue");
    manager.until("STATUS=policy");
    daemon.signal(Signal::SIGTERM);
    let lines = until("STOPPING", || Some(manager.next()).filter(|lines| lines[0] == "STOPPING=1"));
    let more: u64 = lines[1].strip_prefix("EXTEND_TIMEOUT_USEC=").unwrap().parse().unwrap();
    assert!(more > 30_000_000, "the drain is waited for: {more}");
    let (status, _) = manager.until("STATUS=stopping: ");
    assert!(status.contains("milter 1"), "{status}");
    open.quit();
    daemon.stop();
}

#[test]
fn a_load_that_takes_long_holds_no_end_up() {
    let home = Home::new(RULE);
    let manager = Manager::new(&home);
    let mut daemon = manager.spawn(&home, &[]);
    manager.until("READY=1");
    let names: Vec<String> = (0..1_500_000).map(|n| format!("host{n}.example")).collect();
    home.write("big.txt", &names.join("\n"));
    home.write(
        "policy.toml",
        "version = 1\n[[rule]]\nname = \"a\"\nclient-file = \"big.txt\"\nobserve = { min-bits = 128 }\n",
    );
    manager.until("RELOADING=1");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_ended().code(), Some(0));
    assert!(!daemon.log().contains("rule a: added"), "it was not waited for: {}", daemon.log());
}

#[test]
fn a_start_that_fails_says_why() {
    let home = Home::new("[[rule");
    let manager = Manager::new(&home);
    let mut daemon = manager.spawn(&home, &[]);
    assert_eq!(daemon.wait_ended().code(), Some(78));
    let (why, before) = manager.until("STATUS=not started: ");
    let check = format!("`encr-milter check -c {}`", home.path("encr-milter.toml").display());
    assert!(why.starts_with("there is no policy to begin with") && why.contains(&check), "{why}");
    assert!(!before.contains(&"READY=1".to_owned()));
}

#[test]
fn signs_of_life_come_while_it_runs_and_not_while_it_hangs() {
    let home = Home::new(RULE);
    let manager = Manager::new(&home);
    let daemon = manager.spawn(&home, &["WATCHDOG_USEC=200000"]);
    manager.until("READY=1");
    for _ in 0..10 {
        manager.until("WATCHDOG=1");
    }
    daemon.signal(Signal::SIGSTOP);
    while manager.within(Duration::from_millis(100)).is_some() {}
    assert_eq!(manager.within(Duration::from_secs(1)), None);
    daemon.signal(Signal::SIGCONT);
    manager.until("WATCHDOG=1");
    daemon.stop();
    // For another process it is not ours to send them.
    let daemon = manager.spawn(&home, &["WATCHDOG_USEC=200000", "WATCHDOG_PID=1"]);
    manager.until("READY=1");
    daemon.stop();
    let mut rest = Vec::new();
    while let Some(lines) = manager.within(Duration::from_millis(100)) {
        rest.extend(lines);
    }
    assert!(!rest.contains(&"WATCHDOG=1".to_owned()), "{rest:?}");
}

#[test]
fn a_manager_that_does_not_listen_costs_nothing() {
    let home = Home::new(RULE);
    let variable = format!("NOTIFY_SOCKET={}", home.path("nobody").display());
    let mut daemon = home.spawn(&["env", &variable]);
    daemon.wait_started();
    daemon.wait_log("cannot tell systemd how it goes");
    assert_eq!(daemon.one_message(&plain("A")), REFUSED);
    daemon.stop();
    // None at all, by an empty name.
    let mut daemon = home.spawn(&["env", "NOTIFY_SOCKET="]);
    daemon.wait_started();
    assert_eq!(daemon.one_message(&plain("A")), REFUSED);
    daemon.signal(Signal::SIGTERM);
    daemon.wait_ended();
    assert!(!daemon.log().contains("systemd"), "{}", daemon.log());
    // One whose queue is full: it is bound, and never read.
    let manager = Manager::new(&home);
    let mut daemon = manager.spawn(&home, &["WATCHDOG_USEC=2000"]);
    daemon.wait_started();
    for _ in 0..50 {
        assert_eq!(daemon.one_message(&plain("A")), REFUSED);
    }
    assert!(daemon.runs());
    daemon.stop();
}

#[test]
fn passed_sockets_are_those_of_the_daemons_file() {
    let port = free_port();
    let file = DAEMON_FILE.replace(
        "listen = [\"unix:{dir}/m.sock\"]",
        &format!("listen = [\"unix:{{dir}}/m.sock\", \"inet:{port}@127.0.0.1\", \"unix:{{dir}}/own.sock\"]"),
    );
    let home = Home::with(&file, RULE);
    let unix = listen(&home.path("m.sock"));
    let tcp = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let before = fs::metadata(home.path("m.sock")).unwrap();
    // In another order than in the file.
    let daemon = started(&home, vec![tcp.try_clone().unwrap().into(), passed(&unix)]);
    let log = daemon.log();
    assert_eq!(log.matches("passed=\"by systemd\"").count(), 2, "{log}");
    for path in ["m.sock", "own.sock"] {
        let mut mta = Mta::unix(&home.path(path)).unwrap();
        mta.negotiate();
        mta.quit();
    }
    let mut mta = Mta::tcp(tcp.local_addr().unwrap()).unwrap();
    mta.negotiate();
    mta.quit();
    daemon.stop();
    // What the manager made stays as it is, and what the daemon made is gone.
    let after = fs::metadata(home.path("m.sock")).unwrap();
    assert_eq!(
        (before.ino(), before.mode(), before.ctime_nsec()),
        (after.ino(), after.mode(), after.ctime_nsec())
    );
    assert!(!home.path("own.sock").exists());
    UnixStream::connect(home.path("m.sock")).expect("its queue takes who comes meanwhile");
}

#[test]
fn a_path_by_another_name_is_the_same_socket() {
    let home = Home::new(RULE);
    fs::create_dir(home.path("real")).unwrap();
    std::os::unix::fs::symlink("real", home.path("link")).unwrap();
    home.daemon_file(&DAEMON_FILE.replace("{dir}/m.sock", "{dir}/link/m.sock"));
    let unix = listen(&home.path("real/m.sock"));
    let daemon = started(&home, vec![passed(&unix)]);
    assert!(daemon.log().contains("passed=\"by systemd\""), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_socket_that_nobody_would_accept_on_is_a_start_that_fails() {
    let home = Home::new(RULE);
    let other = listen(&home.path("other.sock"));
    let milter = listen(&home.path("m.sock"));
    let (code, log) = not_started(&home, vec![passed(&milter), passed(&other)]);
    assert_eq!(code, Some(78), "{log}");
    let path = home.path("other.sock");
    for part in [
        format!("no `listen` of the daemon's file names it: write \"unix:{}\"", path.display()),
        format!("or take ListenStream={} out of the .socket unit", path.display()),
    ] {
        assert!(log.contains(&part.replace('"', "\\\"")) || log.contains(&part), "{part} in {log}");
    }
    assert!(home.path("m.sock").exists(), "what systemd made is not ours to remove");

    let port = free_port();
    let tcp = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let (code, log) = not_started(&home, vec![passed(&milter), tcp.into()]);
    assert_eq!(code, Some(78), "{log}");
    assert!(
        log.contains(&format!("inet:{port}@127.0.0.1"))
            && log.contains(&format!("ListenStream=127.0.0.1:{port}"))
    );

    // What is no listening stream socket at all.
    let udp = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let connection: OwnedFd = UnixStream::pair().unwrap().0.into();
    let file: OwnedFd = fs::File::open("/dev/null").unwrap().into();
    for odd in [udp.into(), connection, file] {
        let (code, log) = not_started(&home, vec![passed(&milter), odd]);
        assert_eq!(code, Some(78), "{log}");
        assert!(log.contains("passes as descriptor 4 is no stream socket that listens"), "{log}");
    }
}

#[test]
fn what_is_announced_for_nobody_or_by_nonsense_is_left_alone_and_told() {
    let home = Home::new(RULE);
    for (pid, count, why) in [
        ("", "1", "LISTEN_FDS is set, and LISTEN_PID does not say for which process"),
        ("1", "1", "they are for process 1 (LISTEN_PID)"),
        ("nobody", "1", "LISTEN_PID is"),
        ("$$", "many", "LISTEN_FDS is"),
        ("$$", "2000000000", "LISTEN_FDS is"),
    ] {
        // Were it taken, the start would fail: no `listen` names it.
        let other = listen(&home.path("other.sock"));
        let mut daemon = spawn_announcing(&home, vec![passed(&other)], pid, count);
        daemon.wait_started();
        let log = daemon.log();
        let warning = log.lines().find(|line| line.contains("no sockets are taken from the surroundings: "));
        assert!(warning.is_some_and(|line| line.contains(" WARN ") && line.contains(why)), "{log}");
        assert!(!log.contains("by systemd"), "{log}");
        assert_eq!(daemon.one_message(&plain("A")), REFUSED);
        daemon.stop();
        fs::remove_file(home.path("other.sock")).unwrap();
    }
    // What was emptied is not there; nor is what another process was told of itself.
    for (pid, count) in [("", ""), ("1", "")] {
        let mut daemon = spawn_announcing(&home, Vec::new(), pid, count);
        daemon.wait_started();
        assert!(!daemon.log().contains("surroundings"), "{}", daemon.log());
        daemon.stop();
    }
}

#[test]
fn a_wrong_count_of_sockets_is_a_start_that_fails() {
    let home = Home::new(RULE);
    let milter = listen(&home.path("m.sock"));
    for (count, descriptor) in [("3", 5), ("1000", 5)] {
        let also = listen(&home.path(&format!("{count}.sock")));
        let mut daemon = spawn_announcing(&home, vec![passed(&milter), passed(&also)], "$$", count);
        let (code, log) = (daemon.wait_ended().code(), daemon.log());
        assert_eq!(code, Some(78), "{log}");
        let why = format!("LISTEN_FDS announces {count} sockets, and descriptor {descriptor} is not open");
        assert!(log.contains(&why), "{log}");
    }
    // Fewer than there are: of the rest nobody can know.
    let also = listen(&home.path("also.sock"));
    let mut daemon = spawn_announcing(&home, vec![passed(&milter), passed(&also)], "$$", "1");
    daemon.wait_started();
    assert_eq!(daemon.one_message(&plain("A")), REFUSED);
    daemon.stop();
}

#[test]
fn a_passed_socket_whose_file_is_gone_is_made_anew() {
    let home = Home::new(RULE);
    let orphan = listen(&home.path("m.sock"));
    let mut waits = Mta::unix(&home.path("m.sock")).unwrap();
    fs::remove_file(home.path("m.sock")).unwrap();
    let daemon = started(&home, vec![passed(&orphan)]);
    assert!(daemon.log().contains("the file of the socket that systemd passes is gone"), "{}", daemon.log());
    assert_eq!(daemon.one_message(&tls("A", "128")), "accept");
    // Whoever found it in time is served as well.
    waits.negotiate();
    waits.quit();
    daemon.stop();
}

/// What a client of the load does; whether it was answered to its end.
fn session(path: &Path) -> bool {
    let Ok(mut mta) = Mta::unix(path) else { return false };
    mta.negotiate();
    mta.macros(&plain("LOAD"));
    assert_eq!(mta.mail("<a@x>"), "continue");
    assert_eq!(mta.rcpt("<r@y>"), REFUSED);
    assert_eq!(mta.end_of_message(), "accept");
    mta.quit();
    true
}

#[test]
fn a_restart_under_load_refuses_nobody_and_loses_nobody() {
    let home = Home::new(RULE);
    let socket = listen(&home.path("m.sock"));
    let path = home.path("m.sock");
    let (over, answered, refused) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        let counter = if session(&path) { &answered } else { &refused };
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for _ in 0..5 {
            let daemon = started(&home, vec![passed(&socket)]);
            let before = answered.load(Ordering::Relaxed);
            until("sessions to be served", || {
                (answered.load(Ordering::Relaxed) >= before + 50).then_some(())
            });
            daemon.stop();
        }
        // Those who wait now are served by the last one.
        let daemon = started(&home, vec![passed(&socket)]);
        over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("each session is answered to its end");
        }
        daemon.stop();
    });
    assert_eq!(refused.load(Ordering::Relaxed), 0, "nobody is refused");
    assert!(answered.load(Ordering::Relaxed) >= 250);
    let log = home.log();
    assert!(!log.contains("cut"), "nobody is cut:\n{log}");
}
