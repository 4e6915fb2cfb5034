//! The parts of which an answer, a reload and a replay are made, each as a piece of work that can be done again and again: what
//! `parts.rs` times and `counts.rs` counts.
//!
//! Promises: every result is held against what it must be before anything is measured. Uses what is public, as a caller would.

use bytes::Bytes;
use encr_milter::environment::Environment;
use encr_milter::evidence::observed::Observed;
use encr_milter::evidence::rollup::Rollup;
use encr_milter::milter::session::{Answer, Session};
use encr_milter::policy::attempt::Attempt;
use encr_milter::policy::decide::{Decision, Envelope, Verdict, decide};
use encr_milter::policy::facts::{Facts, Told};
use encr_milter::policy::lookup::Subject;
use encr_milter::policy::record::Record;
use encr_milter::policy::rule::{Delay, Side, Standing};
use encr_milter::policy::{Day, Policy};
use encr_milter::policy_file::diff::diff;
use encr_milter::policy_file::load::{DEFAULT_MAX_SIZE, Disk, Request, load};
use encr_milter::replay::{Audience, Options, Origin, Problem, Replay};
use encr_milter::telemetry::entry::{Entry, Format};
use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::generated_logs::{Mix, Stamps, decisions, mail_log};

/// Who asks changes from time to time, so that not everything lies in the processor's caches: so many of them.
const ASKING: usize = 1024;
const DAY: Day = Day(20_779);
/// The size of a log that is replayed.
const LOG_BYTES: u64 = 500_000;
const SEED: u64 = 7;

/// A piece of work.
pub(crate) struct Work {
    pub(crate) name: String,
    /// How often it is done to be counted: small ones more often, so that each of those who ask has had a turn.
    pub(crate) times: usize,
    /// The bytes that it reads, where these are what counts.
    pub(crate) bytes: Option<u64>,
    /// Whether it must do without an allocation.
    pub(crate) without_allocation: bool,
    /// Does it, for the one who asks as the n-th.
    pub(crate) run: Box<dyn FnMut(usize)>,
}

impl Work {
    fn small(name: String, run: impl FnMut(usize) + 'static) -> Work {
        Work { name, times: ASKING, bytes: None, without_allocation: false, run: Box::new(run) }
    }

    fn large(name: String, bytes: u64, mut run: impl FnMut() + 'static) -> Work {
        let bytes = Some(bytes);
        Work { name, times: 1, bytes, without_allocation: false, run: Box::new(move |_| run()) }
    }

    fn without_allocation(self) -> Work {
        Work { without_allocation: true, ..self }
    }
}

/// All of it, with policies of these sizes. What it works on lies in the folder.
pub(crate) fn all(folder: &Path, sizes: &[usize]) -> Vec<Work> {
    let mut all = Vec::new();
    for size in sizes {
        let site = Site::of(folder, *size);
        all.extend(deciding(&site));
        all.extend(looking_up(&site));
        all.extend(loading(&site));
    }
    let site = Site::of(folder, 1000);
    all.extend(recording(&site));
    all.extend(counting(&site));
    all.extend(answering(&site));
    all.extend(replaying(folder));
    all
}

/// A policy of many keys, and where it lies. Lives as long as the program.
struct Site {
    size: usize,
    request: Request,
    policy: Arc<Policy>,
}

impl Site {
    fn of(folder: &Path, size: usize) -> Site {
        let folder = folder.join(size.to_string());
        fs::create_dir_all(&folder).unwrap();
        let (mut names, mut networks) = (String::new(), String::new());
        for n in 0..size {
            writeln!(names, "{}", name(n)).unwrap();
            writeln!(networks, "{}/28", network(n)).unwrap();
        }
        fs::write(folder.join("names.txt"), names).unwrap();
        fs::write(folder.join("networks.txt"), networks).unwrap();
        fs::write(folder.join("policy.toml"), POLICY).unwrap();
        let request = Request { patterns: vec![folder.join("policy.toml")], max_size: DEFAULT_MAX_SIZE };
        let policy = Arc::new(load(&request, &mut Disk, DAY).policy.unwrap());
        Site { size, request, policy }
    }

    /// The keys of those who ask, spread over all.
    fn asking(&self) -> impl Iterator<Item = usize> + '_ {
        (0..ASKING).map(|n| n * 7919 % self.size)
    }
}

const POLICY: &str = r#"
version = 1
[exempt]
networks = ["127.0.0.0/8"]
[reply]
contact = "https://mail.example.org/tls"
[[rule]]
name = "partners"
client-file = "names.txt"
enforce = { min-bits = 128, min-version = "TLSv1.2" }
[[rule]]
name = "networks"
client-file = "networks.txt"
enforce = { min-bits = 128 }
"#;

fn name(n: usize) -> String {
    format!("company{n}.example")
}

/// Sixteen addresses of 10.0.0.0/8.
fn network(n: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + u32::try_from(n).unwrap() * 16)
}

/// What is told of a client with such a name, with so many bits or in the clear.
fn facts(name: String, bits: Option<&'static str>) -> Facts<'static> {
    Facts::inbound(&told(String::leak(name), "192.0.2.7", bits))
}

fn told(name: &'static str, address: &'static str, bits: Option<&'static str>) -> Told<'static> {
    Told {
        host: Some(b"mail.example.org"),
        queue_id: Some(b"4AMHcs6o012345"),
        mta: Some(b"8.17.1.9"),
        peer_addr: Some(address.as_bytes()),
        peer_name: Some(name.as_bytes()),
        peer_resolve: Some(b"OK"),
        tls_version: bits.map(|_| b"TLSv1.3".as_slice()),
        cipher: bits.map(|_| b"TLS_AES_256_GCM_SHA384".as_slice()),
        cipher_bits: bits.map(str::as_bytes),
        verify: bits.map(|_| b"NOT".as_slice()),
        ..Told::default()
    }
}

const ENVELOPE: Envelope<'static> =
    Envelope { sender: Some("<anna@sender.example>"), recipient: None, waited: None };

/// `decide`, by what comes out of it.
fn deciding(site: &Site) -> Vec<Work> {
    let below = |n| format!("mx.{}", name(n));
    let pass: Vec<_> = site.asking().map(|n| facts(below(n), Some("256"))).collect();
    let fail: Vec<_> = site.asking().map(|n| facts(below(n), None)).collect();
    let no_rule: Vec<_> =
        site.asking().map(|n| facts(format!("mx.stranger{n}.example"), Some("256"))).collect();
    let exempt = vec![Facts::inbound(&told("localhost", "127.0.0.1", None)); ASKING];
    let of = |what: &str, verdict: Verdict, facts: Vec<Facts<'static>>| {
        let policy = Arc::clone(&site.policy);
        for facts in &facts {
            assert_eq!(decide(&policy, facts, ENVELOPE, DAY).verdict, verdict);
        }
        Work::small(format!("decide, {what}, {} keys", site.size), move |n| {
            black_box(decide(&policy, black_box(&facts[n % ASKING]), ENVELOPE, DAY));
        })
    };
    vec![
        of("pass", Verdict::Pass, pass).without_allocation(),
        of("fail", Verdict::Fail, fail).without_allocation(),
        of("exempt", Verdict::Exempt, exempt).without_allocation(),
        of("no rule", Verdict::NoRule, no_rule).without_allocation(),
    ]
}

/// Lookups alone.
fn looking_up(site: &Site) -> Vec<Work> {
    let of = |what: &str, subjects: Vec<(Option<String>, Option<IpAddr>)>| {
        let policy = Arc::clone(&site.policy);
        let find = move |n: usize| {
            let (name, address) = &subjects[n % ASKING];
            let subject = Subject::Host { name: name.as_deref(), address: *address };
            let found = policy.index().side(Side::Client).find(black_box(subject), |_| Standing::InForce);
            black_box(found.map(|found| found.rule)).is_some()
        };
        assert!((0..ASKING).all(&find));
        Work::small(format!("lookup, {what}, {} keys", site.size), move |n| assert!(find(n)))
            .without_allocation()
    };
    vec![
        of("exact", site.asking().map(|n| (Some(name(n)), None)).collect()),
        of(
            "three labels stripped",
            site.asking().map(|n| (Some(format!("a.b.c.{}", name(n))), None)).collect(),
        ),
        of(
            "network",
            site.asking().map(|n| (None, Some(IpAddr::V4(network(n) | Ipv4Addr::new(0, 0, 0, 5))))).collect(),
        ),
    ]
}

/// Reading a policy of which nearly all lies in lists, and saying what has changed.
fn loading(site: &Site) -> Vec<Work> {
    let request = site.request.clone();
    let length = |path: &PathBuf| {
        let folder = path.parent().unwrap();
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    let bytes = request.patterns.iter().map(length).sum();
    let old = Arc::clone(&site.policy);
    let new = load(&request, &mut Disk, DAY).policy.unwrap();
    assert!(diff(&old, &new).is_empty());
    vec![
        Work::large(format!("load, {} names and networks", site.size), bytes, move || {
            black_box(load(&request, &mut Disk, DAY).policy.unwrap());
        }),
        Work::large(
            format!("compare with what is in force, {} names and networks", site.size),
            bytes,
            move || {
                black_box(diff(&old, &new));
            },
        ),
    ]
}

/// Making and writing the record of a decision.
fn recording(site: &Site) -> Vec<Work> {
    let at: jiff::Timestamp = "2026-11-22T17:38:54.123456Z".parse().unwrap();
    let mut all = Vec::new();
    for (what, bits) in [("pass", Some("256")), ("fail", None)] {
        let facts: &'static Facts<'static> = Box::leak(Box::new(facts(format!("mx.{}", name(1)), bits)));
        let policy: &'static Policy = Box::leak(Box::new(Arc::clone(&site.policy)));
        let decision: &'static Decision<'static> = Box::leak(Box::new(decide(policy, facts, ENVELOPE, DAY)));
        let record = move || Record::new(at, facts, ENVELOPE, decision, policy.fingerprint());
        let mut line = Vec::with_capacity(4096);
        all.push(Work::small(format!("record, {what}, as JSON"), move |_| {
            line.clear();
            record().write_json(&mut line);
            black_box(&line);
        }));
        let mut line = String::with_capacity(4096);
        all.push(Work::small(format!("record, {what}, as text"), move |_| {
            line.clear();
            write!(line, "{}", record()).unwrap();
            black_box(&line);
        }));
    }
    all
}

/// What is done with a decision by the threads that do not answer: counted as evidence, and told in the log.
fn counting(site: &Site) -> Vec<Work> {
    let at: jiff::Timestamp = "2026-11-22T17:38:54.123456Z".parse().unwrap();
    let policy: &'static Policy = Box::leak(Box::new(Arc::clone(&site.policy)));
    let decided: &'static [_] = Vec::leak(
        site.asking()
            .map(|n| {
                let facts: &'static Facts<'static> =
                    Box::leak(Box::new(facts(format!("mx.{}", name(n)), Some("256"))));
                (facts, decide(policy, facts, ENVELOPE, DAY))
            })
            .collect(),
    );
    let observed = move |n: usize| {
        let (facts, decision) = &decided[n % ASKING];
        Observed::of(facts, decision, at)
    };
    let all: Vec<_> = (0..ASKING).map(observed).collect();
    let mut rollup = Rollup::new(ASKING / 2);
    let mut line = Vec::new();
    let (facts, decision) = &decided[0];
    Record::new(at, facts, ENVELOPE, decision, policy.fingerprint()).write_json(&mut line);
    let entry = Entry::Decision(line.into());
    let mut text = Vec::with_capacity(4096);
    vec![
        Work::small("evidence, what of a decision is counted".to_owned(), move |n| {
            black_box(observed(n));
        }),
        Work::small("evidence, a decision counted".to_owned(), move |n| rollup.observe(&all[n % ASKING])),
        Work::small("log, a decision as text".to_owned(), move |_| {
            text.clear();
            entry.line(Format::Text, &mut text);
            black_box(&text);
        }),
    ]
}

/// The world of a session: time stands still, records are written and forgotten.
struct World {
    policy: Arc<Policy>,
    line: RefCell<Vec<u8>>,
}

impl Environment for World {
    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy)
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(DAY.0 * 86_400).unwrap()
    }

    fn waited(&self, _: Option<Attempt>, _: Delay, _: jiff::Timestamp) -> u32 {
        0
    }

    fn record(&self, _: &Facts<'_>, _: &Decision<'_>, record: &Record<'_>) {
        let mut line = self.line.borrow_mut();
        line.clear();
        record.write_json(&mut line);
    }
}

/// What a session says, from the macros as they came to the record that is written.
fn answering(site: &Site) -> Vec<Work> {
    let payloads = |bits: Option<&'static str>| -> Vec<Bytes> {
        site.asking()
            .map(|n| payload(&told(String::leak(format!("mx.{}", name(n))), "192.0.2.7", bits)))
            .collect()
    };
    let world = || World { policy: Arc::clone(&site.policy), line: RefCell::new(Vec::with_capacity(4096)) };
    let sender = Bytes::from_static(b"<anna@sender.example>");
    let (accepted, refused) = (payloads(Some("256")), payloads(None));
    let (good, bad, from) = (world(), world(), sender.clone());
    vec![
        Work::small("session, MAIL that is accepted".to_owned(), move |n| {
            let mut session = Session::default();
            session.macros_for_mail(accepted[n % ASKING].clone());
            assert_eq!(session.mail(&good, sender.clone()), Answer::Accept);
        }),
        Work::small("session, MAIL and RCPT that is refused".to_owned(), move |n| {
            let mut session = Session::default();
            session.macros_for_mail(refused[n % ASKING].clone());
            assert_eq!(session.mail(&bad, from.clone()), Answer::Continue);
            assert!(matches!(session.rcpt(&bad, b"<bob@rig.example>"), Answer::Refuse(_)));
        }),
    ]
}

/// Names and values as sendmail sends them.
fn payload(told: &Told<'_>) -> Bytes {
    let macros = [
        ("i", told.queue_id),
        ("j", told.host),
        ("{client_addr}", told.peer_addr),
        ("{client_name}", told.peer_name),
        ("{client_resolve}", told.peer_resolve),
        ("v", told.mta),
        ("{tls_version}", told.tls_version),
        ("{cipher}", told.cipher),
        ("{cipher_bits}", told.cipher_bits),
        ("{verify}", told.verify),
    ];
    let told = macros.iter().filter_map(|(name, value)| value.map(|value| (name.as_bytes(), value)));
    told.flat_map(|(name, value)| [name, b"\0", value, b"\0"].concat()).collect()
}

/// Reading logs: sendmail's, and our own records.
fn replaying(folder: &Path) -> Vec<Work> {
    let of = |what: &str, log: Vec<u8>, messages: u64| {
        let path = folder.join(what.replace(' ', "-"));
        fs::write(&path, &log).unwrap();
        assert_eq!(replayed(&path), messages, "{what}");
        Work::large(format!("replay, {what}"), log.len() as u64, move || {
            black_box(replayed(&path));
        })
    };
    let (mut sendmails, mut ours) = (Vec::new(), Vec::new());
    let messages = mail_log(&mut sendmails, LOG_BYTES, Stamps::Iso, Mix::USUAL, SEED).unwrap().messages();
    let records = decisions(&mut ours, LOG_BYTES, Mix::USUAL, SEED).unwrap().messages();
    vec![of("sendmail's log", sendmails, messages), of("decision records", ours, records)]
}

/// Counts what is replayed.
struct Counting(u64);

impl Audience for Counting {
    fn record(&mut self, _: Origin, record: &Record<'_>) -> ControlFlow<()> {
        black_box(record);
        self.0 += 1;
        ControlFlow::Continue(())
    }

    fn problem(&mut self, problem: Problem) {
        panic!("{problem:?}");
    }
}

fn replayed(path: &PathBuf) -> u64 {
    let options = Options {
        recipients: false,
        deliveries: false,
        zone: jiff::tz::TimeZone::UTC,
        reference: "2026-11-22T00:00:00Z".parse().unwrap(),
    };
    let mut counting = Counting(0);
    Replay::new(std::slice::from_ref(path), options, &mut counting).run(&mut counting);
    counting.0
}
