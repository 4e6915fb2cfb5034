//! What no MTA sends, to a daemon that others use meanwhile: frames and questions that are malformed, oversized, cut, out
//! of order, or absurdly many.
//!
//! What must hold: an honest answer or a closed connection that is told in the log; memory is bounded; the others are
//! judged as always.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::{Site, mail, negotiate};
use crate::load::Random;
use crate::load::drive::{Plan, drive};
use crate::load::script::{Host, refusal};
use crate::load::wire::{Target, Wire, frame, is_cut, string};
use crate::rig::{Result, Rig};

const QUIET: &str = "log.level = \"warn\"\nlog.decisions = \"/dev/null\"\n";
/// What may stay in memory of it, in KiB: less than one byte of each that was sent.
const GROWTH: u64 = 24 * 1024;
const COMMANDS: &[u8] = b"ABCDEHKLMNOQRTU";
const RANDOM: usize = 300;
const RECIPIENTS: usize = 60_000;
const BATCH: usize = 300;

pub(super) fn odd_frames(rig: &Rig) -> Result<()> {
    let mut site = Site::started(rig, "fault-frames", QUIET)?;
    let before = warm(&site)?;
    let closed = beside_load(&site, || {
        let mut closed = 0;
        for bytes in odd() {
            for state in 0..3 {
                closed += usize::from(one(&site.target(), state, &bytes)?);
            }
        }
        versions(&site)?;
        Ok(closed)
    })?;
    flat(&site, before)?;
    let log = site.daemon.log.lines();
    let told = log.iter().filter(|line| line.contains("connection closed: ")).count();
    if told == 0 || told > closed {
        return Err(site.told(&format!("{closed} connections were closed, and {told} told")));
    }
    site.stop()
}

/// Every command with every kind of payload; lengths that are none; what is no protocol; and chance.
fn odd() -> Vec<Vec<u8>> {
    let mut random = Random(0x6f64_6473);
    let noise: Vec<u8> = (0..700).map(|_| random.next().to_le_bytes()[0]).collect();
    let payloads: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        b"x".to_vec(),
        b"<a@x>\0".to_vec(),
        vec![0; 3000],
        vec![b'A'; 70_000],
        [b"M{cipher_bits}\0".as_slice(), &[b'9'; 5000], b"\0"].concat(),
        noise,
    ];
    let mut all = Vec::new();
    for command in 0..=u8::MAX {
        let known = COMMANDS.contains(&command);
        for payload in payloads.iter().take(if known { payloads.len() } else { 1 }) {
            let mut bytes = Vec::new();
            frame(&mut bytes, command, payload);
            all.push(bytes);
        }
    }
    for length in [0u32, 1, 2, 1 << 16, 1 << 20, (1 << 20) + 1, 1 << 31, u32::MAX] {
        // Announced, and not sent.
        all.push([length.to_be_bytes().as_slice(), b"M<a"].concat());
    }
    all.push(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec());
    all.push(b"EHLO mx.partner.example\r\nMAIL FROM:<a@x>\r\n".to_vec());
    for _ in 0..RANDOM {
        let mut bytes = Vec::new();
        for _ in 0..random.below(12) {
            let command = random.one(COMMANDS, b'M');
            let length = usize::try_from(random.below(40)).unwrap_or(0);
            let payload: Vec<u8> = (0..length).map(|_| random.one(b"\0\0<>@aM{}", 0)).collect();
            frame(&mut bytes, command, &payload);
        }
        all.push(bytes);
    }
    all
}

/// Sends it in some state of a connection, and a command behind it that is always answered; then ends the connection.
/// Whether the daemon closed before that answer.
fn one(target: &Target, state: usize, bytes: &[u8]) -> Result<bool> {
    let play = || -> io::Result<bool> {
        let mut wire = Wire::connect(target)?;
        if state > 0 {
            negotiate(&mut wire)?;
        }
        if state > 1 {
            mail(&mut wire, "ODD", Host::Hard.name(), Host::Hard.address())?;
        }
        wire.bytes(bytes)?;
        if !is_whole(bytes) {
            // Its rest never comes.
            return Ok(false);
        }
        wire.put(b'N', b"");
        wire.put(b'Q', b"");
        wire.flush()?;
        let mut last = 0;
        loop {
            let reply = match wire.reply() {
                Err(error) if is_cut(&error) => return Ok(last != b'c'),
                reply => reply?,
            };
            let refusal = reply.payload.starts_with(b"55") && reply.payload.ends_with(&[0]);
            match reply.kind {
                b'c' | b'a' | b'O' => {}
                b'y' if refusal => {}
                _ => return Err(io::Error::other(format!("{reply:?}"))),
            }
            last = reply.kind;
        }
    };
    match play() {
        Ok(closed) => Ok(closed),
        Err(error) if is_cut(&error) => Ok(true),
        Err(error) => Err(format!("{error}, in state {state}, to {:?}", String::from_utf8_lossy(bytes))),
    }
}

/// Whether these are whole frames.
fn is_whole(mut bytes: &[u8]) -> bool {
    while let Some((head, rest)) = bytes.split_first_chunk() {
        let length = u32::from_be_bytes(*head) as usize;
        if length > 1 << 20 || length == 0 {
            // It is closed for that alone.
            return true;
        }
        match rest.split_at_checked(length) {
            Some((_, after)) => bytes = after,
            None => return false,
        }
    }
    bytes.is_empty()
}

/// Versions old and new, with fewer actions and steps offered than sendmail does.
fn versions(site: &Site) -> Result<()> {
    for version in [0, 1, 2, 3, 4, 5, 6, 7, 1000, u32::MAX] {
        for actions in [0, 0x1ff, u32::MAX] {
            for steps in [0, 0x7f, 0x3ff, 0x1f_ffff, u32::MAX] {
                let what = format!("version {version}, actions {actions:#x}, steps {steps:#x}");
                let mut wire = Wire::connect(&site.target()).map_err(|e| format!("{what}: {e}"))?;
                let offer: Vec<u8> =
                    [version, actions, steps].iter().flat_map(|word: &u32| word.to_be_bytes()).collect();
                let reply = match wire.ask(b'O', &offer) {
                    Err(error) if version < 2 && is_cut(&error) => continue,
                    reply => reply.map_err(|e| format!("{what}: {e}"))?,
                };
                let word = |at: usize| -> Option<u32> {
                    reply
                        .payload
                        .get(at..at + 4)
                        .and_then(|word| word.try_into().ok())
                        .map(u32::from_be_bytes)
                };
                let honest = word(0).is_some_and(|answered| answered <= version.min(6))
                    && word(4) == Some(0)
                    && word(8).is_some_and(|asked| asked & !steps == 0);
                let judged = mail(&mut wire, "OLD", Host::Hard.name(), Host::Hard.address())
                    .and_then(|_| wire.ask(b'R', &string("<r@rig.example>")))
                    .map_err(|e| format!("{what}: {e}"))?;
                if !honest || judged.payload != string(&refusal(Host::Hard, 0).unwrap_or_default()) {
                    return Err(format!("{what}: {reply:?}, and then {judged:?}"));
                }
            }
        }
    }
    Ok(())
}

/// Many recipients in one message, many macros in one frame, many frames of macros for one message.
pub(super) fn many_recipients(rig: &Rig) -> Result<()> {
    let mut site = Site::started(rig, "fault-many", QUIET)?;
    let before = warm(&site)?;
    beside_load(&site, || {
        let ask = || -> io::Result<Option<String>> {
            let mut wire = Wire::connect(&site.target())?;
            negotiate(&mut wire)?;
            let mut macros = vec![b'M'];
            for number in 0..5_000 {
                macros.extend([string(&format!("{{macro{number}}}")), string("a value")].concat());
            }
            let mut many = Vec::new();
            frame(&mut many, b'D', &macros);
            for _ in 0..80 {
                wire.bytes(&many)?;
            }
            // What came last counts.
            mail(&mut wire, "MANY", Host::Hard.name(), Host::Hard.address())?;
            let right = string(&refusal(Host::Hard, 0).unwrap_or_default());
            for batch in 0..RECIPIENTS / BATCH {
                for number in 0..BATCH {
                    wire.put(b'R', &string(&format!("<r{batch}.{number}@rig.example>")));
                }
                wire.flush()?;
                for _ in 0..BATCH {
                    let reply = wire.reply()?;
                    if reply.payload != right {
                        return Ok(Some(format!("{reply:?}")));
                    }
                }
            }
            Ok(None)
        };
        match ask() {
            Ok(None) => Ok(()),
            Ok(Some(wrong)) => Err(wrong),
            Err(error) => Err(format!("many recipients: {error}")),
        }
    })?;
    flat(&site, before)?;
    site.stop()
}

/// The same for the socket map.
pub(super) fn odd_questions(rig: &Rig) -> Result<()> {
    let settings = format!("{QUIET}outbound.listen = \"unix:{{dir}}/outbound.sock\"\n");
    let mut site = Site::new(rig, "fault-questions", &settings)?;
    let server = "[[rule]]\nname = \"out\"\nserver = [\"partner.example\"]\nenforce = { min-bits = 128 }\n";
    site.write("policy.toml", &(crate::load::script::policy(0, false) + server))?;
    site.daemon.start()?;
    let target = Target::Unix(site.path("outbound.sock"));
    let before = warm(&site)?;
    let closed = beside_load(&site, || {
        let mut closed = 0;
        for bytes in odd_netstrings() {
            closed += usize::from(asked(&target, &bytes)?);
        }
        well(&target)?;
        // One message at more servers than there are, each asked about once more.
        let mut wire = Wire::connect(&target).map_err(|e| format!("{e}"))?;
        for number in 0..40_000 {
            let name = format!("mx{number}.other.example");
            let answer =
                ask(&mut wire, &question("ONE", &name)).map_err(|e| format!("server {number}: {e}"))?;
            if answer != b"NOTFOUND " {
                return Err(format!("server {number}: {:?}", String::from_utf8_lossy(&answer)));
            }
        }
        Ok(closed)
    })?;
    well(&target)?;
    flat(&site, before)?;
    let told = site.daemon.log.lines().iter().filter(|line| line.contains("connection closed: ")).count();
    if told == 0 || told > closed {
        return Err(site.told(&format!("{closed} connections were closed, and {told} told")));
    }
    site.stop()
}

fn odd_netstrings() -> Vec<Vec<u8>> {
    let mut random = Random(0x6e65_7473);
    let mut all: Vec<Vec<u8>> = [
        ":",
        ",",
        "x",
        "-1:,",
        "0:,",
        "00005:hello,",
        "5:hello;",
        "5:hell",
        "5",
        "99999:",
        "65537:",
        "999999999999999999999:x,",
        "4 :abcd,",
        "GET / HTTP/1.1\r\n\r\n",
        "11:encr_milter,",
        "12:encr_milter ,",
        "14:encr_milter a\u{7f},",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    all.push(netstring(&vec![b'x'; 65_536]));
    all.push(netstring(&[b"encr_milter ".as_slice(), &vec![0x9b; 60_000]].concat()));
    all.push(netstring(&[b"encr_milter ".as_slice(), &vec![0x7f; 60_000]].concat()));
    // Many at once, of which nobody reads the answers until the end.
    all.push((0..1000).flat_map(|number| question(&format!("Q{number}"), "mx.partner.example")).collect());
    for _ in 0..RANDOM {
        let length = usize::try_from(random.below(60)).unwrap_or(0);
        let content: Vec<u8> = (0..length).map(|_| random.one(b"encr_milter \x9b\x7f\0server", 0)).collect();
        all.push(if random.percent(70) { netstring(&content) } else { content });
    }
    all
}

/// Sends it, and a question behind it that has an answer where all before it was whole. Whether it was closed instead.
fn asked(target: &Target, bytes: &[u8]) -> Result<bool> {
    let play = || -> io::Result<()> {
        let mut wire = Wire::connect_for(target, std::time::Duration::from_millis(300))?;
        wire.bytes(&[bytes, &question("LAST", "mx.partner.example")].concat())?;
        loop {
            let answer = answer(&mut wire)?;
            let kinds: [&[u8]; 4] = [b"OK ", b"NOTFOUND ", b"PERM ", b"TEMP "];
            if !kinds.iter().any(|kind| answer.starts_with(kind)) {
                return Err(io::Error::other(format!("{:?}", String::from_utf8_lossy(&answer))));
            }
        }
    };
    match play() {
        Err(error) if is_cut(&error) => Ok(true),
        // Nothing more is to come: it waits for the rest, or has answered all.
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Ok(false)
        }
        Err(error) => Err(format!("{error}, to {:?}", String::from_utf8_lossy(bytes))),
        Ok(()) => Ok(false),
    }
}

fn well(target: &Target) -> Result<()> {
    let ask = || -> io::Result<Vec<u8>> {
        ask(&mut Wire::connect(target)?, &question("WELL", "mx.partner.example"))
    };
    let answer = ask().map_err(|e| format!("a question: {e}"))?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    if text.starts_with("OK 550:5.7.10:") { Ok(()) } else { Err(format!("a question was answered {text:?}")) }
}

/// About a server in the clear.
fn question(id: &str, server: &str) -> Vec<u8> {
    let fields =
        ["server", "mail.rig.example", id, server, "192.0.2.7", "NONE", "", "", "", "", "", "", "end"];
    let fields: Vec<&[u8]> = fields.iter().map(|field| field.as_bytes()).collect();
    netstring(&[b"encr_milter ".as_slice(), &fields.join(&0x9b)].concat())
}

fn netstring(content: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{}:", content.len()).into_bytes();
    bytes.extend_from_slice(content);
    bytes.push(b',');
    bytes
}

fn ask(wire: &mut Wire, question: &[u8]) -> io::Result<Vec<u8>> {
    wire.bytes(question)?;
    answer(wire)
}

/// The next answer.
fn answer(wire: &mut Wire) -> io::Result<Vec<u8>> {
    let mut byte = [0];
    let mut read = |wire: &mut Wire| match wire.some(&mut byte)? {
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        _ => Ok(byte[0]),
    };
    let mut length = 0;
    loop {
        match read(wire)? {
            b':' => break,
            digit => length = length * 10 + usize::from(digit.wrapping_sub(b'0')),
        }
    }
    let content = (0..length).map(|_| read(wire)).collect::<io::Result<Vec<u8>>>()?;
    match read(wire)? {
        b',' => Ok(content),
        other => Err(io::Error::other(format!("a netstring that ends with {other}"))),
    }
}

/// Memory once all has been used that is used in sessions.
fn warm(site: &Site) -> Result<u64> {
    beside_load(site, || site.probe().map(drop))?;
    site.memory()
}

fn flat(site: &Site, before: u64) -> Result<()> {
    site.probe()?;
    let after = site.memory()?;
    let told = format!("{before} KiB before, {after} after");
    eprintln!("{}: {told}", site.path("").display());
    if after > before + GROWTH { Err(told) } else { Ok(()) }
}

/// Does something while others have sessions, all of which must be answered rightly.
fn beside_load<T>(site: &Site, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let (over, next, targets) = (AtomicBool::new(false), AtomicU64::new(0), [site.target()]);
    let plan = Plan {
        targets: &targets,
        seed: 0x6265_7369,
        connections: 2,
        next: &next,
        until: u64::MAX,
        over: &over,
        may_cut: false,
        keeps: false,
    };
    thread::scope(|scope| {
        let load = scope.spawn(|| drive(&plan));
        let done = work();
        over.store(true, Ordering::Relaxed);
        let loaded = load.join().map_err(|_| "the load panicked".to_owned())?;
        loaded.and(done).map_err(|fault| site.told(&fault))
    })
}
