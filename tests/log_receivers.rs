//! The log's receivers, played by the tests: a local syslog socket, log hosts by UDP and TCP, the journal. They are
//! away, come back, do not read, and are sent what is odd and what is far too long.
//!
//! Promises: what is said is either received, whole and in order, or counted as lost. Who says something never waits.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use encr_milter::telemetry::entry::{Entry, Format};
use encr_milter::telemetry::sink::syslog::{Facility, Server, Settings};
use encr_milter::telemetry::sink::{Sink, Target, Writer};
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, IoSliceMut};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{DEADLINE, until};
use tracing::Level;

/// What a queue and the kernel's own buffers certainly do not hold.
const FAR_TOO_MANY: usize = 200_000;

fn started(target: Target, format: Format) -> Writer {
    Sink::start(target, format, "test", |_| None).unwrap().0
}

fn local(path: &Path) -> Target {
    Target::Syslog(Settings { server: Server::Local(path.to_owned()), ..Settings::default() })
}

fn journal(path: &Path) -> Target {
    Target::Journal { socket: path.to_owned(), facility: Facility::default() }
}

fn event(message: impl Into<String>) -> Entry {
    Entry::now(Level::INFO, message, Vec::new())
}

/// Numbered events, one after the other.
fn say(writer: &Writer, numbers: std::ops::Range<usize>) {
    for number in numbers {
        writer.sink().take(event(format!("number {number}")));
    }
}

/// The number that a message ends with.
fn number(message: &[u8]) -> usize {
    let text = String::from_utf8_lossy(message);
    let (_, number) = text.rsplit_once("number ").unwrap_or_else(|| panic!("{text}"));
    number.trim_end().split(' ').next().unwrap().parse().unwrap()
}

fn bound(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

fn received(socket: &UnixDatagram) -> Vec<u8> {
    let mut message = vec![0; 70_000];
    let length = socket.recv(&mut message).unwrap();
    message.truncate(length);
    message
}

fn is_numbered(messages: &[Vec<u8>], numbers: std::ops::Range<usize>) {
    let found: Vec<usize> = messages.iter().map(|message| number(message)).collect();
    assert_eq!(found, numbers.collect::<Vec<_>>());
}

#[test]
fn the_local_socket_has_it_in_the_traditional_form() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let socket = bound(&path);
    let writer = started(local(&path), Format::Text);
    writer.sink().take(Entry::now(Level::ERROR, "a\nb\0c", vec![("n", "7".to_owned())]));
    let refused = "{\"ts\":\"2026-11-18T11:06:40.123456Z\",\"queue_id\":\"Q1\",\"direction\":\"inbound\",\"verdict\":\"fail\",\"disposition\":\"reject\",\"rule\":\"p\"}\n";
    writer.sink().take(Entry::Decision(refused.into()));
    let pid = std::process::id();
    // Facility mail, error.
    let first = String::from_utf8(received(&socket)).unwrap();
    assert!(first.starts_with("<19>"), "{first}");
    assert!(first.ends_with(&format!(" encr-milter[{pid}]: ERROR a\\nb\\u{{0}}c n=7")), "{first}");
    // Facility mail, notice: somebody was refused.
    let second = String::from_utf8(received(&socket)).unwrap();
    assert!(second.starts_with("<21>Nov 18 "), "{second}");
    let words = format!(" encr-milter[{pid}]: Q1: verdict=fail, disposition=reject, rule=p");
    assert!(second.ends_with(&words), "{second}");
    writer.sink().change(local(&path), Format::Json);
    writer.sink().take(Entry::Decision(refused.into()));
    let third = String::from_utf8(received(&socket)).unwrap();
    assert!(third.ends_with(&format!(" encr-milter[{pid}]: {}", refused.trim_end())), "{third}");
    assert_eq!(writer.close(), 0);
}

#[test]
fn a_receiver_that_is_away_gets_everything_when_it_comes_and_when_it_is_restarted() {
    for target in [local, journal] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let writer = started(target(&path), Format::Text);
        say(&writer, 0..100);
        let socket = bound(&path);
        let mut messages: Vec<Vec<u8>> = (0..100).map(|_| received(&socket)).collect();
        drop(socket);
        // Its socket's file is still there, then it is gone, then there is another.
        say(&writer, 100..150);
        fs::remove_file(&path).unwrap();
        say(&writer, 150..200);
        let socket = bound(&path);
        messages.extend((100..200).map(|_| received(&socket)));
        let of = |message: &Vec<u8>| -> Vec<u8> {
            // The journal's messages have further fields.
            message.split(|b| *b == b'\n').next().unwrap().to_vec()
        };
        is_numbered(&messages.iter().map(of).collect::<Vec<_>>(), 0..200);
        assert_eq!((writer.sink().lost(), writer.close()), ((0, 0), 0));
    }
}

#[test]
fn a_receiver_that_does_not_read_holds_up_nobody_and_what_is_lost_is_counted() {
    for target in [local, journal] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let socket = bound(&path);
        let writer = started(target(&path), Format::Text);
        let begun = Instant::now();
        say(&writer, 0..FAR_TOO_MANY);
        // It is away for good otherwise: nothing but waiting for it could take so long.
        assert!(begun.elapsed() < DEADLINE);
        let sink = writer.sink().clone();
        let (queue_full, not_written) = sink.lost();
        assert!(queue_full > 0 && not_written == 0, "{queue_full} {not_written}");
        // It reads at last, slowly; the daemon ends meanwhile.
        let done = AtomicBool::new(false);
        let messages = std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                socket.set_nonblocking(true).unwrap();
                let mut count = 0;
                let mut message = [0; 2000];
                loop {
                    let ended = done.load(Ordering::SeqCst);
                    match socket.recv(&mut message) {
                        Ok(_) => count += 1,
                        Err(_) if ended => return count,
                        Err(_) => std::thread::yield_now(),
                    }
                }
            });
            let given_up = writer.close();
            done.store(true, Ordering::SeqCst);
            reading.join().unwrap() + given_up
        });
        let (queue_full, not_written) = sink.lost();
        assert_eq!(messages + queue_full + not_written, FAR_TOO_MANY as u64);
    }
}

#[test]
fn a_receiver_that_never_reads_does_not_keep_the_daemon_from_ending() {
    let folder = tempfile::tempdir().unwrap();
    let (full, away) = (folder.path().join("full"), folder.path().join("away"));
    let socket = bound(&full);
    let blackhole = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = blackhole.local_addr().unwrap().port();
    let tcp =
        Target::Syslog(Settings { server: Server::Tcp("127.0.0.1".to_owned(), port), ..Settings::default() });
    for target in [local(&full), journal(&away), tcp] {
        let writer = started(target, Format::Text);
        for _ in 0..10_000 {
            writer.sink().take(event("x".repeat(1500)));
        }
        let sink = writer.sink().clone();
        let begun = Instant::now();
        assert!(writer.close() > 0);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert_eq!(sink.lost(), (0, 0));
    }
    drop(socket);
}

#[test]
fn losses_are_said_to_the_receiver_before_what_follows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let socket = bound(&path);
    let (writer, _) = Sink::start(local(&path), Format::Text, "test", |sink| {
        let (sink, mut said) = (sink.clone(), 0);
        Some(Box::new(move |_| {
            let lost = sink.lost().0;
            let more = lost - std::mem::replace(&mut said, lost);
            (more > 0).then(|| event(format!("lost number {more}"))).into_iter().collect()
        }))
    })
    .unwrap();
    say(&writer, 0..FAR_TOO_MANY);
    say(&writer, 0..1);
    let sink = writer.sink().clone();
    let (mut said, mut came) = (0, 0);
    while came + said < FAR_TOO_MANY + 1 {
        let message = received(&socket);
        if message.windows(5).any(|window| window == b"lost ") {
            said += number(&message);
        } else {
            came += 1;
        }
        // What was lost is said with the next that is written.
        sink.look();
    }
    assert_eq!(said as u64, sink.lost().0);
    writer.close();
}

/// The next frame of RFC 6587's octet counting.
fn frame(stream: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut length = Vec::new();
    stream.read_until(b' ', &mut length).ok()?;
    let length = std::str::from_utf8(&length).unwrap().trim_end().parse::<usize>().ok()?;
    let mut message = vec![0; length];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

fn accepted(listener: &TcpListener) -> BufReader<TcpStream> {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    BufReader::new(stream)
}

#[test]
fn a_log_host_has_whole_frames_by_tcp_over_its_restarts() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::Tcp("127.0.0.1".to_owned(), address.port());
    let writer = started(Target::Syslog(Settings { server, ..Settings::default() }), Format::Text);
    say(&writer, 0..500);
    let mut stream = accepted(&listener);
    let mut messages: Vec<Vec<u8>> = (0..500).map(|_| frame(&mut stream).unwrap()).collect();
    // It stops: what is said then is not written into a connection that is closed.
    drop(stream);
    drop(listener);
    say(&writer, 500..600);
    let listener = TcpListener::bind(address).unwrap();
    let mut stream = accepted(&listener);
    messages.extend((500..600).map(|_| frame(&mut stream).unwrap()));
    is_numbered(&messages, 0..600);
    // It does not read for a while, with more than the kernel holds; then it does: no frame is torn.
    let long = "x".repeat(6000);
    for number in 0..3000 {
        writer.sink().take(event(format!("{long} number {number}")));
    }
    let messages: Vec<Vec<u8>> = (0..3000).map(|_| frame(&mut stream).unwrap()).collect();
    is_numbered(&messages, 0..3000);
    // Cut off within a frame that it never read: the next connection begins with a whole one.
    for number in 0..3000 {
        writer.sink().take(event(format!("{long} number {number}")));
    }
    frame(&mut stream).unwrap();
    drop(stream);
    let mut stream = accepted(&listener);
    let first = number(&frame(&mut stream).unwrap());
    let rest: Vec<Vec<u8>> = (first + 1..3000).map(|_| frame(&mut stream).unwrap()).collect();
    is_numbered(&rest, first + 1..3000);
    assert_eq!(writer.close(), 0);
}

#[test]
fn messages_over_a_network_have_structured_data_and_are_cut_to_their_bound() {
    let socket = UdpSocket::bind("[::1]:0").or_else(|_| UdpSocket::bind("127.0.0.1:0")).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let address = socket.local_addr().unwrap();
    let server = Server::Udp(address.ip().to_string(), address.port());
    let facility = Facility::named("local3").unwrap();
    let settings = Settings { server, facility, max_size: 2048 };
    let writer = started(Target::Syslog(settings), Format::Text);
    let mut message = vec![0; 70_000];
    let mut next = || {
        let length = socket.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    writer.sink().take(Entry::Decision(
        "{\"ts\":\"2026-11-18T11:06:40.123456Z\",\"direction\":\"inbound\",\"sender\":\"a\\\"]\\u0000b\",\"disposition\":\"accept\"}\n".into(),
    ));
    let told = next();
    assert!(told.starts_with("<158>1 2026-11-18T11:06:40.123456Z "), "{told}");
    let data = r#" decision [encr@32473 ts="2026-11-18T11:06:40.123456Z" disposition="accept" direction="inbound" sender="a\"\]\\u{0}b"] NOQUEUE: disposition=accept, sender="a\"]\u{0}b""#;
    assert!(told.ends_with(data), "{told}");
    for odd in ["\n", "\0", "é"] {
        let fields = vec![("what", odd.repeat(500_000))];
        writer.sink().take(Entry::now(Level::WARN, odd.repeat(500_000), fields));
        let told = next();
        assert!(told.len() <= 2048 && told.len() > 2000, "{}", told.len());
        assert!(told.starts_with("<156>1 ") && told.ends_with(" bytes more]"), "{told}");
        assert!(!told.contains(['\n', '\0']), "{told}");
    }
    // Nobody is there: what did not arrive is known from the next attempt.
    drop(socket);
    let sink = writer.sink().clone();
    until("a loss to be counted", || {
        sink.take(event("nobody hears this"));
        (sink.lost().1 > 0).then_some(())
    });
    writer.close();
}

/// The fields of an entry for the journal, by its own protocol.
fn fields(mut message: &[u8]) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut found: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    while !message.is_empty() {
        let end = message.iter().position(|b| *b == b'\n').expect("a field without its end");
        let (name, value) = match message[..end].iter().position(|b| *b == b'=') {
            Some(at) => (&message[..at], &message[at + 1..end]),
            None => {
                let (length, rest) = message[end + 1..].split_at(8);
                let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
                assert_eq!(rest[length], b'\n');
                (&message[..end], &rest[..length])
            }
        };
        let name = String::from_utf8(name.to_vec()).unwrap();
        assert!(name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'), "{name}");
        // From where the value lies in the message to behind its line feed.
        let behind = value.as_ptr() as usize - message.as_ptr() as usize + value.len() + 1;
        found.entry(name).or_default().push(value.to_vec());
        message = &message[behind..];
    }
    found
}

/// An entry that the journal gets: in a datagram, or in a file that comes with an empty one.
fn journal_entry(socket: &UnixDatagram) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut message = vec![0; 300_000];
    let mut space = cmsg_space!(RawFd);
    let (length, file) = {
        let mut parts = [IoSliceMut::new(&mut message)];
        let got = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty()).unwrap();
        let file = got.cmsgs().unwrap().find_map(|control| match control {
            ControlMessageOwned::ScmRights(files) => files.first().copied(),
            _ => None,
        });
        (got.bytes, file)
    };
    let Some(file) = file else { return fields(&message[..length]) };
    // Opened once more, for what came is only a number.
    let received = file;
    let file = OpenOptions::new().read(true).write(true).open(format!("/proc/self/fd/{received}")).unwrap();
    nix::unistd::close(received).unwrap();
    let mut whole = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut whole, 0).unwrap();
    // Sealed: the journal may map it without fear.
    assert!(file.write_at(b"x", 0).is_err());
    fields(&whole)
}

fn text(fields: &BTreeMap<String, Vec<Vec<u8>>>, name: &str) -> String {
    let values = fields.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", fields.keys()));
    String::from_utf8(values[0].clone()).unwrap()
}

#[test]
fn the_journal_has_every_field_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let socket = bound(&path);
    let writer = started(journal(&path), Format::Json);
    let decision = concat!(
        r#"{"ts":"2026-11-18T11:06:40.123456Z","queue_id":"Q1","direction":"inbound","sender":"a\nPRIORITY=0\u0000b","#,
        r#""cipher_bits":0,"verdict":"fail","mode":"enforce","disposition":"reject","rule":"partner","#,
        r#""failures":[{"rule":"partner","side":"client","key":"*","mode":"enforce","reason":"x"},"#,
        r#"{"rule":"partner","side":"client","key":"*","mode":"observe","reason":"y"}]}"#,
        "\n"
    );
    writer.sink().take(Entry::Decision(decision.into()));
    let entry = journal_entry(&socket);
    for (name, value) in [
        ("PRIORITY", "5"),
        ("SYSLOG_IDENTIFIER", "encr-milter"),
        ("SYSLOG_FACILITY", "2"),
        ("ENCR_RULE", "partner"),
        ("ENCR_VERDICT", "fail"),
        ("ENCR_QUEUE_ID", "Q1"),
        ("ENCR_CIPHER_BITS", "0"),
        ("ENCR_SENDER", "a\nPRIORITY=0\0b"),
        ("ENCR_FAILED", "enforce partner client *: x"),
    ] {
        assert_eq!(text(&entry, name), value, "{name}");
    }
    assert_eq!((entry["PRIORITY"].len(), entry["ENCR_FAILED"].len()), (1, 2));
    assert!(text(&entry, "MESSAGE").starts_with("Q1: verdict=fail, mode=enforce, "));
    // Longer than any datagram.
    let long = "line\nNUL\0".repeat(120_000);
    writer.sink().take(Entry::now(Level::WARN, "long", vec![("what", long.clone())]));
    let entry = journal_entry(&socket);
    assert_eq!((text(&entry, "PRIORITY"), text(&entry, "ENCR_WHAT")), ("4".to_owned(), long));
    assert_eq!((writer.sink().lost(), writer.close()), ((0, 0), 0));
}

#[test]
fn what_is_held_for_a_receiver_goes_where_the_log_is_told_to_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("daemon.log");
    let writer = started(local(&folder.path().join("nobody")), Format::Text);
    // More than the queue holds: the change has to be seen by a writer that waits.
    say(&writer, 0..FAR_TOO_MANY);
    let (lost, _) = writer.sink().lost();
    assert!(lost > 0);
    writer.sink().change(Target::File(path.clone()), Format::Text);
    assert_eq!(writer.close(), 0);
    let lines = fs::read_to_string(&path).unwrap();
    assert_eq!(lines.lines().count() as u64, FAR_TOO_MANY as u64 - lost);
    assert_eq!(number(lines.lines().next().unwrap().as_bytes()), 0);
}

#[test]
fn lines_are_whole_while_the_format_and_the_file_change_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let path = |n: usize| -> PathBuf { folder.path().join(format!("{n}.log")) };
    let writer = started(Target::File(path(0)), Format::Text);
    let talking = AtomicBool::new(true);
    let said: usize = std::thread::scope(|scope| {
        let talkers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut said = 0;
                    while talking.load(Ordering::Relaxed) {
                        writer.sink().take(event("an event"));
                        writer.sink().take(Entry::Decision("{\"direction\":\"inbound\"}\n".into()));
                        said += 2;
                    }
                    said
                })
            })
            .collect();
        for change in 1..=60 {
            let format = if change % 2 == 0 { Format::Text } else { Format::Json };
            writer.sink().change(Target::File(path(change / 10)), format);
            until("the change to be seen", || {
                let last = fs::read_to_string(path(change / 10)).unwrap_or_default();
                let last = last.trim_end().lines().last().unwrap_or_default().to_owned();
                (last.starts_with('{') == (format == Format::Json) && !last.is_empty()).then_some(())
            });
        }
        talking.store(false, Ordering::Relaxed);
        talkers.into_iter().map(|talker| talker.join().unwrap()).sum()
    });
    let sink = writer.sink().clone();
    assert_eq!(writer.close(), 0);
    let mut lines = 0u64;
    for n in 0..=6 {
        for line in fs::read_to_string(path(n)).unwrap().lines() {
            lines += 1;
            let is_json = serde_json::from_str::<Value>(line).is_ok_and(|value| value.is_object());
            let is_text = line.ends_with("Z INFO an event") || line.ends_with(" INFO NOQUEUE:");
            assert!(is_json || is_text, "{line}");
        }
    }
    let (queue_full, not_written) = sink.lost();
    assert_eq!((lines + queue_full, not_written), (said as u64, 0));
}
