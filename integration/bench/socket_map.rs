//! What a question over the socket map costs, beside a server that does nothing but answer.
//!
//! `cargo bench --bench socket_map`. Both servers run in this process by turns, on the same runtime, asked over unix
//! sockets by the same clients, which wait for each answer as sendmail does. Ratios within a run count, not figures
//! across machines. Must not: be held to a time; what it shows is for people to read.

// A benchmark may stop at once, and says what it has measured.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]
#![allow(missing_docs, clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use encr_milter::environment::Environment;
use encr_milter::evidence::Observed;
use encr_milter::evidence::writer::{Evidence, Settings, Writer};
use encr_milter::outbound;
use encr_milter::policy::attempt::Attempt;
use encr_milter::policy::decide::Decision;
use encr_milter::policy::facts::Facts;
use encr_milter::policy::record::Record;
use encr_milter::policy::rule::Delay;
use encr_milter::policy::{Day, Policy};
use encr_milter::policy_file::load::{DEFAULT_MAX_SIZE, Disk, Request, load};
use encr_milter::sendmail::socket_map::netstring;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

const KEYS: usize = 100_000;
const TURN: Duration = Duration::from_secs(1);
const TURNS: usize = 3;

struct World {
    policy: Arc<Policy>,
    written: AtomicU64,
    evidence: Evidence,
}

impl Environment for World {
    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy)
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn waited(&self, _: Option<Attempt>, _: Delay, _: jiff::Timestamp) -> u32 {
        0
    }

    /// Serialised, and handed to the evidence's writer, as the daemon does it on the answering thread.
    fn record(&self, facts: &Facts<'_>, decision: &Decision<'_>, record: &Record<'_>) {
        let mut line = Vec::with_capacity(512);
        record.write_json(&mut line);
        self.written.fetch_add(line.len() as u64, Ordering::Relaxed);
        self.evidence.take(Observed::of(facts, decision, record.ts.unwrap()));
    }
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let policy = Arc::new(policy(folder.path()));
    let in_force = Arc::clone(&policy);
    let writer = Writer::start(folder.path(), Settings::default(), move || Arc::clone(&in_force)).unwrap();
    let evidence = writer.evidence().clone();
    let world = Arc::new(World { policy, written: AtomicU64::new(0), evidence });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (ours, bare) = (folder.path().join("ours.sock"), folder.path().join("bare.sock"));
    {
        let _entered = runtime.enter();
        let (listener, world) = (UnixListener::bind(&ours).unwrap(), Arc::clone(&world));
        runtime.spawn(async move {
            let (_keep, drain) = tokio::sync::watch::channel(false);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (world, drain) = (Arc::clone(&world), drain.clone());
                tokio::spawn(async move {
                    let _ = outbound::serve(stream, &*world, drain, Duration::from_mins(1)).await;
                });
            }
        });
        let listener = UnixListener::bind(&bare).unwrap();
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer_blindly(stream));
            }
        });
    }
    println!("{KEYS} keys, one question at a time on each connection, medians of {TURNS} turns of {TURN:?}");
    println!("{:>12} {:>14} {:>14} {:>7}", "connections", "ours, 1/s", "bare, 1/s", "ratio");
    for connections in [1, 16, 128] {
        let (mut of_ours, mut of_bare) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            of_ours.push(asked(&ours, connections));
            of_bare.push(asked(&bare, connections));
        }
        let (ours, bare) = (median(&mut of_ours), median(&mut of_bare));
        let ratio = ours as f64 / bare as f64;
        println!("{connections:>12} {ours:>14} {bare:>14} {ratio:>7.2}");
    }
    println!("bytes of records: {}", world.written.load(Ordering::Relaxed));
    let counters = world.evidence.counters();
    writer.close();
    let (before, after) = (counters, world.evidence.counters());
    println!("evidence: {before:?}, and at the end {after:?}");
}

/// A policy of many servers, half of which are asked about.
fn policy(folder: &Path) -> Policy {
    let mut list = String::new();
    for n in 0..KEYS {
        writeln!(list, "host{n}.partner{}.example", n % 1000).unwrap();
    }
    std::fs::write(folder.join("servers.txt"), list).unwrap();
    let text = "version = 1\n[[rule]]\nname = \"partners\"\nserver-file = \"servers.txt\"\nenforce = { min-bits = 128 }\n\
                [[rule]]\nname = \"everyone\"\nserver = [\"*\"]\nobserve = { min-bits = 256 }\n";
    std::fs::write(folder.join("policy.toml"), text).unwrap();
    let request = Request { patterns: vec![folder.join("policy.toml")], max_size: DEFAULT_MAX_SIZE };
    load(&request, &mut Disk, Day(20_000)).policy.unwrap()
}

/// The least that a server of this protocol can do.
async fn answer_blindly(mut stream: UnixStream) {
    let mut input = Vec::with_capacity(1024);
    loop {
        while let Ok(Some((_, length))) = netstring(&input) {
            input.drain(..length);
            if stream.write_all(b"9:NOTFOUND ,").await.is_err() {
                return;
            }
        }
        if !matches!(stream.read_buf(&mut input).await, Ok(1..)) {
            return;
        }
    }
}

fn question(n: usize) -> Vec<u8> {
    let host = n * 7919 % (2 * KEYS);
    let fields = [
        "server".to_owned(),
        "mail.example.org".to_owned(),
        format!("4AM{n:06}"),
        format!("host{host}.partner{}.example", host % 1000),
        "192.0.2.7".to_owned(),
        "OK".to_owned(),
        "TLSv1.3".to_owned(),
        "TLS_AES_128_GCM_SHA256".to_owned(),
        "128".to_owned(),
        String::new(),
        "mx.partner.example".to_owned(),
        String::new(),
        "end".to_owned(),
    ];
    let fields: Vec<&[u8]> = fields.iter().map(String::as_bytes).collect();
    let content = [b"encr_milter ".as_slice(), &fields.join(&0x9b)].concat();
    [format!("{}:", content.len()).as_bytes(), &content, b","].concat()
}

/// Questions a second.
fn asked(path: &Path, connections: usize) -> u64 {
    let count = AtomicU64::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..connections {
            let count = &count;
            scope.spawn(move || {
                let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
                let mut answer = [0; 1024];
                for n in client.. {
                    stream.write_all(&question(n)).unwrap();
                    assert!(stream.read(&mut answer).unwrap() > 0);
                    count.fetch_add(1, Ordering::Relaxed);
                    if begun.elapsed() > TURN {
                        return;
                    }
                }
            });
        }
    });
    let asked = count.load(Ordering::Relaxed) as f64;
    (asked / begun.elapsed().as_secs_f64()) as u64
}

fn median(of: &mut [u64]) -> u64 {
    of.sort_unstable();
    of[of.len() / 2]
}
