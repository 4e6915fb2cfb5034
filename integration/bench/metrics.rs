//! What metrics cost: a decision that is counted, a reload, a scrape.
//!
//! `cargo bench --bench metrics`. In this process, without sockets: by one thread and by several at once, on a policy of many
//! rules. Processor time is measured, for others may be using the machine. Must not: be held to a time; what it shows is for
//! people to read.

// A benchmark may stop at once, and says what it has measured.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation
)]
#![allow(missing_docs)]

use encr_milter::policy::decide::{Decision, Envelope, decide};
use encr_milter::policy::facts::{Direction, Facts, Told};
use encr_milter::policy::negotiated::Negotiated;
use encr_milter::policy::{Day, Policy};
use encr_milter::policy_file::load::{DEFAULT_MAX_SIZE, Disk, Request, load};
use encr_milter::telemetry::metrics::{Form, Metrics, Sample};
use nix::sys::resource::{UsageWho, getrusage};
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const RULES: usize = 100_000;
const ROUNDS: usize = 2_000_000;
/// The rules that decide: as many as a busy site's.
const HOT: usize = 1000;

fn policy() -> Policy {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    let mut text = "version = 1\n".to_owned();
    for n in 0..RULES {
        write!(
            text,
            "[[rule]]\nname = \"rule-{n}\"\nclient = [\"d{n}.example\"]\nobserve = {{ min-bits = 256 }}\n"
        )
        .unwrap();
    }
    std::fs::write(&path, text).unwrap();
    let request = Request { patterns: vec![path], max_size: DEFAULT_MAX_SIZE };
    load(&request, &mut Disk, Day(20_000)).policy.unwrap()
}

/// What this process has used so far, on all threads.
fn used() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let micros =
        |time: nix::sys::time::TimeVal| u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap();
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}

fn of_each<T>(rounds: usize, mut work: impl FnMut(usize) -> T) -> Duration {
    let begun = used();
    for round in 0..rounds {
        black_box(work(round));
    }
    used().saturating_sub(begun)
}

fn tell(what: &str, took: Duration, rounds: usize) {
    println!("{what:<58} {:>8.0} ns", took.as_nanos() as f64 / rounds as f64);
}

fn main() {
    let policy = policy();
    let names: Vec<String> = (0..HOT).map(|n| format!("mx.d{}.example", n * (RULES / HOT))).collect();
    let facts: Vec<Facts<'_>> = names
        .iter()
        .map(|name| {
            Facts::inbound(&Told {
                peer_addr: Some(b"192.0.2.7"),
                peer_name: Some(name.as_bytes()),
                peer_resolve: Some(b"OK"),
                tls_version: Some(b"TLSv1.3"),
                cipher: Some(b"TLS_AES_128_GCM_SHA256"),
                cipher_bits: Some(b"128"),
                verify: Some(b"NOT"),
                ..Told::default()
            })
        })
        .collect();
    let envelope = Envelope { sender: Some("<a@x.example>"), ..Envelope::default() };
    let decisions: Vec<Decision<'_>> =
        facts.iter().map(|facts| decide(&policy, facts, envelope, Day(20_000))).collect();
    let metrics = Arc::new(Metrics::new(jiff::Timestamp::now()));
    tell("a reload: room for the decisions of 100,000 rules", of_each(5, |_| metrics.expect(&policy)), 5);

    let took = of_each(ROUNDS / 10, |n| decide(&policy, &facts[n % HOT], envelope, Day(20_000)));
    tell("beside it: deciding itself", took, ROUNDS / 10);
    let count = |n: usize| metrics.decided(Direction::Inbound, &decisions[n * 7 % HOT]);
    tell("a decision that is counted", of_each(ROUNDS, count), ROUNDS);
    let negotiated = Negotiated::of(&facts[0]);
    tell(
        "a session that is counted",
        of_each(ROUNDS, |_| metrics.session(Direction::Inbound, negotiated)),
        ROUNDS,
    );
    let timed = |_| {
        let begun = Instant::now();
        metrics.answered(Direction::Inbound, begun.elapsed());
    };
    tell("an answer that is timed, both looks at the clock included", of_each(ROUNDS, timed), ROUNDS);
    for threads in [2, 4] {
        let begun = used();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| of_each(ROUNDS, count));
            }
        });
        tell(
            &format!("a decision that is counted, {threads} threads at once"),
            used().saturating_sub(begun),
            ROUNDS * threads,
        );
    }
    // All at one rule, as where `*` decides everything.
    let begun = used();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| of_each(ROUNDS, |_| metrics.decided(Direction::Inbound, &decisions[0])));
        }
    });
    tell("the same by 2 threads, all of them by one rule", used().saturating_sub(begun), ROUNDS * 2);

    for form in [Form::Plain, Form::OpenMetrics] {
        let took = of_each(20, |_| metrics.text(Sample::default(), form).unwrap());
        let size = metrics.text(Sample::default(), form).unwrap().len();
        println!("a page, {HOT} rules having decided, {form:?}: {} KiB, {:?}", size / 1024, took / 20);
    }
}
