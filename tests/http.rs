//! `[http]` as those meet it who ask it, well or badly behaved: paths and methods, what is no HTTP, who is slow, who are
//! many; a port that is taken, and the daemon's end.
//!
//! Promises (the real binary): whatever is done to [http], mail is answered, and the next one who asks properly is too.

// Helpers of tests may stop at once, as tests may. The numbers are whole, and compared as such.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_cmp
)]

mod support;

use nix::sys::signal::Signal;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use support::daemon::{Daemon, Home};
use support::http::{Client, get};
use support::metrics::Page;
use support::mta::{Mta, plain, tls};
use support::{free_port, until};

const ENFORCE: &str = "[[rule]]\nname = \"all\"\nclient = [\"*\"]\nenforce = { min-bits = 128 }\n";
const REFUSED: &str = "550 5.7.10 encryption needed, STARTTLS with at least 128 bits, rule all";

fn home() -> (Home, SocketAddr) {
    let port = free_port();
    let file = format!(
        "version = 1\n[milter]\nlisten = [\"unix:{{dir}}/m.sock\"]\n[http]\nlisten = \"127.0.0.1:{port}\"\n\
         [log]\ndecisions = \"decisions.jsonl\"\n[state]\ndir = \"state\"\n"
    );
    (Home::with(&file, ENFORCE), SocketAddr::from(([127, 0, 0, 1], port)))
}

fn mail_is_answered(daemon: &Daemon<'_>) {
    assert_eq!(daemon.one_message(&plain("PLAIN")), REFUSED);
    assert_eq!(daemon.one_message(&tls("TLS", "256")), "accept");
}

fn page(address: SocketAddr) -> Page {
    let answer = get(address, "/metrics");
    assert_eq!(answer.status, 200);
    Page::parse(&answer.body)
}

#[test]
fn every_path_and_method_has_its_answer() {
    let (home, address) = home();
    let daemon = home.start();
    // One connection for all: it is kept.
    let mut client = Client::connect(address);
    for (path, kind) in [
        ("/", "text/plain; charset=utf-8"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/healthz", "text/plain; charset=utf-8"),
        ("/readyz", "text/plain; charset=utf-8"),
    ] {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(answer.body.ends_with('\n'), "{answer:?}");
        // HEAD is GET without the body.
        let head = client.ask("HEAD", path, "");
        assert_eq!((head.status, head.header("content-type")), (200, Some(kind)), "{path}");
        let length: usize = head.header("content-length").expect("HEAD tells the length").parse().unwrap();
        assert!(length > 0 && head.body.is_empty());
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
            let answer = client.ask(method, path, "Content-Length: 0\r\n");
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        }
    }
    assert_eq!(client.get("/healthz").body, "ok\n");
    assert_eq!(client.get("/readyz").body, "ready\n");
    assert_eq!(client.get("/healthz?verbose=1").status, 200);
    let index = client.get("/").body;
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert!(index.contains(path), "{index}");
    }
    for path in
        ["/metric", "/metrics/", "//metrics", "/metrics/../healthz", "/%6detrics", "/..", "/etc/passwd"]
    {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
    // As Prometheus asks.
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n";
    let open = client.ask("GET", "/metrics", accept);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(open.header("content-type"), Some(kind));
    assert!(open.body.ends_with("\n# EOF\n"));
    let page = Page::parse(&client.get("/metrics").body);
    let requests =
        |path, code| page.one("encr_milter_http_requests_total", &[("path", path), ("code", code)]);
    assert_eq!(requests("other", "404"), 7.0);
    assert_eq!(requests("/readyz", "405"), 7.0);
    daemon.stop();
}

#[test]
fn what_is_no_http_ends_its_own_connection() {
    let (home, address) = home();
    let daemon = home.start();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    let fat = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(200));
    for (what, bytes, statuses) in [
        ("nothing", b"".as_slice(), [0, 0]),
        ("a milter's frame", b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff", [400, 0]),
        ("TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", [400, 0]),
        ("SMTP", b"EHLO mx.example\r\n\r\n", [400, 0]),
        ("no version", b"GET /\r\n\r\n", [400, 0]),
        ("another version", b"GET / HTTP/9.9\r\n\r\n", [400, 505]),
        ("HTTP/2 without being asked", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400, 0]),
        ("NUL in a header", b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n", [400, 0]),
        ("a header without a name", b"GET / HTTP/1.1\r\n: b\r\n\r\n", [400, 0]),
        ("two lengths", b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", [400, 0]),
        ("a length that is none", b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", [400, 0]),
        ("a path that is too long", long.as_bytes(), [414, 431]),
        ("a header that is too long", fat.as_bytes(), [431, 400]),
        ("too many headers", many.as_bytes(), [431, 400]),
        ("cut within a head", b"GET / HTTP/1.1\r\nHost", [400, 0]),
        (
            "a chunked body that is none",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            [405, 400],
        ),
    ] {
        let mut client = Client::connect(address);
        client.send(bytes);
        client.end();
        let status = client.answer(true).map_or(0, |answer| answer.status);
        assert!(statuses.contains(&status), "{what}: {status}");
        client.closed();
        assert_eq!(get(address, "/healthz").status, 200, "after {what}");
    }
    // A body that nobody reads is not taken in, either.
    let mut client = Client::connect(address);
    client.send(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n");
    assert_eq!(client.answer(true).unwrap().status, 405);
    let megabyte = vec![b'x'; 1 << 20];
    for _ in 0..64 {
        client.send(&megabyte);
    }
    client.closed();
    let failed = |page: &Page| {
        page.one("encr_milter_connections_failed_total", &[("listener", "http"), ("reason", "protocol")])
    };
    assert!(failed(&page(address)) >= 10.0);
    mail_is_answered(&daemon);
    daemon.stop();
}

#[test]
fn who_is_slow_is_let_go_and_who_pipelines_is_answered() {
    let (home, address) = home();
    let daemon = home.start();
    let mut slow = Client::connect(address);
    slow.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n");
    let mut silent = Client::connect(address);
    let mut idle = Client::connect(address);
    assert_eq!(idle.get("/healthz").status, 200);
    let mut pipelined = Client::connect(address);
    pipelined.send(&b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50));
    for _ in 0..50 {
        assert_eq!(pipelined.answer(true).unwrap().body, "ok\n");
    }
    mail_is_answered(&daemon);
    // The daemon's own limit, some seconds, ends all of them.
    for client in [&mut slow, &mut silent, &mut idle] {
        client.closed();
    }
    assert_eq!(get(address, "/healthz").status, 200);
    daemon.stop();
}

#[test]
fn a_thousand_connections_cost_no_mail_and_no_more_than_their_places() {
    let (home, address) = home();
    let daemon = home.start();
    let crowd: Vec<_> = (0..1000)
        .map(|_| {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        })
        .collect();
    mail_is_answered(&daemon);
    // Those beyond are closed at once.
    let mut open = crowd.iter().collect::<Vec<_>>();
    until("all but a few to be closed", || {
        open.retain(|stream| {
            let read = (&**stream).read(&mut [0]);
            read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        });
        (open.len() <= 64).then_some(())
    });
    assert_eq!(open.len(), 64, "and these have their places");
    mail_is_answered(&daemon);
    drop(crowd);
    let page = until("a place", || {
        let mut client = Client::connect(address);
        client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        client.answer(true).map(|answer| Page::parse(&answer.body))
    });
    let http = [("listener", "http")];
    // Those with a place, and those who have a second for a question about health.
    assert_eq!(page.one("encr_milter_connections_most", &http), 80.0);
    assert_eq!(page.one("encr_milter_connections_limit", &http), 80.0);
    let away = [("listener", "http"), ("outcome", "turned-away")];
    assert!(page.one("encr_milter_connections_at_limit_total", &away) >= 920.0);
    assert_eq!(page.one("encr_milter_connections", &[("listener", "milter")]), 0.0);
    daemon.stop();
}

/// The most memory that a process has had, in bytes.
fn most_resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn who_reads_slowly_holds_neither_memory_nor_those_who_ask_whether_it_is_well() {
    const RULES: usize = 9_000;
    let (home, address) = home();
    // Names make the page long: some 3 MB.
    let rules: Vec<String> = (0..RULES)
        .map(|n| {
            let name = format!("{n:04}{}", "🔒".repeat(60));
            format!("[[rule]]\nname = \"{name}\"\nrecipient = [\"d{n}.example\"]\nobserve = {{ min-bits = 128 }}\n")
        })
        .collect();
    home.write("policy.toml", &format!("version = 1\n{}", rules.concat()));
    let daemon = home.start();
    let mut mta = daemon.negotiated();
    mta.macros(&plain("MANY"));
    assert_eq!(mta.mail("<a@x>"), "continue");
    for n in 0..RULES {
        assert_eq!(mta.rcpt(&format!("<r@d{n}.example>")), "continue");
    }
    mta.quit();
    let long = get(address, "/metrics").body.len();
    assert!(long > RULES * 300, "{long}");

    let before = most_resident(daemon.pid());
    let ask = |client: &mut Client| {
        client.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    };
    let mut slow: Vec<Client> = (0..64).map(|_| Client::connect(address)).collect();
    slow.iter_mut().for_each(ask);
    assert!(slow.iter().all(Client::begun));
    // With a page for each it would be 64 times as much. All places are taken, and those who ask whether it is well are answered; who wants more is told when.
    assert_eq!(get(address, "/healthz").body, "ok\n");
    assert_eq!(get(address, "/readyz").body, "ready\n");
    let mut later = Client::connect(address);
    let answer = later.get("/metrics");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    later.closed();
    let grown = most_resident(daemon.pid()) - before;
    assert!(grown < 6 * long, "{grown} bytes more for pages of {long}");

    // Another page is held by one of them at the least. Who needs a third gets it: those who read slowly are cut for that.
    drop(slow.pop());
    let other = until("a place", || {
        let mut client = Client::connect(address);
        ask(&mut client);
        client.begun().then_some(client)
    });
    drop(slow.pop());
    let page = until("a page", || Some(get(address, "/metrics")).filter(|answer| answer.status == 200));
    assert_eq!(page.body.len() / 100_000, long / 100_000);
    let grown = most_resident(daemon.pid()) - before;
    assert!(grown < 6 * long, "{grown} bytes more for pages of {long}");
    slow.push(other);
    let cut = slow.iter_mut().map(Client::rest).filter(|length| *length < long).count();
    assert!(cut > 0, "nobody was cut");
    assert_eq!(daemon.one_message(&plain("AFTER")), "continue");
    daemon.stop();
}

#[test]
fn a_flood_of_scrapes_is_answered_and_none_is_older_than_its_question() {
    let (home, address) = home();
    let daemon = home.start();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                for _ in 0..50 {
                    assert_eq!(client.get("/metrics").status, 200);
                }
            })
        })
        .collect();
    for n in 1..=20 {
        assert_eq!(daemon.one_message(&tls("Q", "256")), "accept");
        // The answer to MAIL came after it was counted; what is asked now must show it.
        assert_eq!(page(address).sum("encr_milter_decisions_total", &[]), f64::from(n));
    }
    for thread in threads {
        thread.join().unwrap();
    }
    daemon.stop();
}

#[test]
fn a_port_that_is_taken_is_told_and_tried_again() {
    let (home, address) = home();
    let holder = TcpListener::bind(address).unwrap();
    let daemon = home.start();
    daemon.wait_log("cannot serve metrics: trying again; mail is not concerned");
    mail_is_answered(&daemon);
    drop(holder);
    daemon.wait_log("serving /metrics, /healthz, /readyz");
    assert_eq!(daemon.log().matches("cannot serve metrics").count(), 1, "{}", daemon.log());
    assert_eq!(page(address).sum("encr_milter_decisions_total", &[]), 2.0);
    daemon.stop();
}

#[test]
fn out_of_descriptors_it_is_not_ready_and_ready_again_by_itself() {
    let (home, address) = home();
    let mut daemon = home.spawn(&["prlimit", "--nofile=60"]);
    daemon.wait_started();
    // Whoever comes later is not accepted either.
    let mut kept = Client::connect(address);
    assert_eq!(kept.get("/readyz").status, 200);
    let crowd: Vec<_> = (0..80).map(|_| Mta::unix(&home.path("m.sock")).unwrap()).collect();
    daemon.wait_log("cannot accept connections; trying again");
    until("it to be not ready", || {
        let answer = kept.get("/readyz");
        (answer.status == 503).then(|| assert_eq!(answer.body, "1 listeners of [milter] do not accept\n"))
    });
    // Not even for the looks at itself there is a descriptor; all else is told.
    let page = Page::parse(&kept.get("/metrics").body);
    assert!(page.one("encr_milter_accept_errors_total", &[("listener", "milter")]) >= 1.0);
    drop(crowd);
    until("it to be ready", || (kept.get("/readyz").status == 200).then_some(()));
    mail_is_answered(&daemon);
    daemon.stop();
}

#[test]
fn while_it_drains_it_says_so() {
    let (home, address) = home();
    let mut daemon = home.start();
    let mut open = daemon.negotiated();
    open.macros(&plain("OPEN"));
    assert_eq!(open.mail("<a@x>"), "continue");
    assert_eq!(get(address, "/readyz").body, "ready\n");
    assert_eq!(page(address).one("encr_milter_ready", &[]), 1.0);
    let mut kept = Client::connect(address);
    assert_eq!(kept.get("/readyz").status, 200);
    daemon.signal(Signal::SIGTERM);
    daemon.wait_log("stopping: open transactions get to their end");
    let ready =
        until("it to be not ready", || Some(get(address, "/readyz")).filter(|answer| answer.status != 200));
    assert_eq!((ready.status, ready.body.as_str()), (503, "stopping: open transactions get to their end\n"));
    assert_eq!(kept.get("/readyz").status, 503, "also for those who were there before");
    assert_eq!(get(address, "/healthz").status, 200);
    let page = page(address);
    assert_eq!(page.one("encr_milter_ready", &[]), 0.0);
    assert_eq!(page.one("encr_milter_connections", &[("listener", "milter")]), 1.0);
    assert_eq!(open.rcpt("<r@y>"), REFUSED);
    open.quit();
    assert_eq!(daemon.wait_ended().code(), Some(0));
}
