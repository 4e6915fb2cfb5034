//! What breaks: the handshake, the daemon, its socket.

use std::thread;

use jiff::SignedDuration;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Choice, Pair};
use crate::rig::sender::When;
use crate::rig::{Result, Rig, wait};

const RECIPIENTS: usize = 10;
/// Half of what a delayed ACK takes.
const PROMPT: SignedDuration = SignedDuration::from_millis(20);

const SOFT: &str = r#"
[[rule]]
name = "peers"
server = ["peer.example"]
soft-fail = { min-bits = 128 }
"#;

/// STARTTLS that is offered and fails: our rule's answer, in sendmail's words; without a rule sendmail's own, and that is a
/// deferral. STARTTLS that is offered and then put off is mail in the clear.
pub(super) fn broken_handshake(rig: &Rig) -> Result<()> {
    let policy = r#"
[[rule]]
name = "hard"
server = ["broken.peer.example", "busy.peer.example"]
enforce = { min-bits = 128 }
"#;
    let tag = "outbound-broken-handshake";
    let mut pair = Pair::start(rig, tag, &Choice { policy, ..Choice::default() })?;
    let (broken, busy) = (pair.at("bob", "broken"), pair.at("bob", "busy"));
    pair.sender.send(When::Now, &[&broken, &busy])?;
    let needed = "encryption needed, STARTTLS with at least 128 bits, rule hard";
    pair.bounced(&["554 5.7.0 TLS handshake failed", &format!("550 5.7.10 {busy}... {needed}")])?;
    pair.edit("")?;
    pair.sender.send(When::Now, &[&broken])?;
    pair.sender.send(When::Now, &[&busy])?;
    pair.taken(&[(&broken, 0), (&busy, 1)])?;
    pair.queued(&[("Deferred: 454 4.7.0 TLS handshake failed.", &[&broken])])?;
    pair.recorded(
        r#"
{ server_name = "broken.peer.example", verify = "SOFTWARE", verdict = "fail", disposition = "reject", reason = "TLS handshake failed.", absent = ["tls_version"] },
{ server_name = "busy.peer.example", verify = "TEMP", cipher_bits = 0, verdict = "fail", disposition = "reject", reason = "encryption too weak 0 less than 128" },
{ server_name = "broken.peer.example", verify = "SOFTWARE", verdict = "no-rule", disposition = "accept" },
{ server_name = "busy.peer.example", verify = "TEMP", verdict = "no-rule", disposition = "accept" },
"#,
    )
}

/// As the snippet stands, mail goes out while nobody answers: the daemon was killed, or nobody listens at the port.
pub(super) fn down_delivers(rig: &Rig) -> Result<()> {
    let listen = format!("[\"unix:{{dir}}/outbound.sock\", \"inet:{}@127.0.0.1\"]", rig.port());
    for (tag, ask) in [("outbound-daemon-down-unix", 0), ("outbound-daemon-down-tcp", 1)] {
        let choice = Choice { policy: SOFT, listen: Some(listen.clone()), ask, ..Choice::default() };
        let mut pair = Pair::start(rig, tag, &choice)?;
        pair.daemon.signal(Signal::SIGKILL)?;
        pair.daemon.wait()?;
        let (clear, strong) = (pair.at("bob", "clear"), pair.at("bob", "aes256"));
        pair.sender.send(When::Now, &[&clear])?;
        pair.sender.send(When::Now, &[&strong])?;
        pair.queued(&[])?;
        pair.taken(&[(&clear, 1), (&strong, 1)])?;
    }
    Ok(())
}

/// The same for a daemon that was stopped in order, as `systemctl stop` does it.
pub(super) fn stopped_delivers(rig: &Rig) -> Result<()> {
    let mut pair =
        Pair::start(rig, "outbound-daemon-stopped", &Choice { policy: SOFT, ..Choice::default() })?;
    pair.daemon.signal(Signal::SIGTERM)?;
    pair.daemon.wait()?;
    let clear = pair.at("bob", "clear");
    pair.sender.send(When::Now, &[&clear])?;
    pair.queued(&[])?;
    pair.taken(&[(&clear, 1)])
}

/// Where there is no socket file at all, sendmail itself puts off the first server that a process delivers to, whatever the
/// rulesets say, `-o` or not. If this fails one day, sendmail has been mended.
pub(super) fn no_socket_file(rig: &Rig) -> Result<()> {
    let pair = Pair::lay_out(rig, "outbound-no-socket-file", &Choice { policy: SOFT, ..Choice::default() })?;
    let (first, second) = (pair.at("bob", "aes256"), pair.at("bob", "clear"));
    pair.sender.send(When::Now, &[&first, &second])?;
    pair.taken(&[(&first, 0), (&second, 1)])?;
    let queue = pair.sender.queue()?;
    match queue.first() {
        Some(message) if message.why.contains("unsafe: No such file or directory") => Ok(()),
        _ => Err(pair.told("the first was to wait")),
    }
}

/// With its other line mail waits, and goes out when there is an answer.
pub(super) fn down_defers(rig: &Rig) -> Result<()> {
    let choice = Choice { policy: SOFT, defers: true, ..Choice::default() };
    let mut pair = Pair::start(rig, "outbound-daemon-down-defers", &choice)?;
    pair.daemon.signal(Signal::SIGKILL)?;
    pair.daemon.wait()?;
    let (clear, strong) = (pair.at("bob", "clear"), pair.at("bob", "aes256"));
    pair.sender.send(When::Now, &[&clear])?;
    pair.sender.send(When::Now, &[&strong])?;
    pair.taken(&[(&clear, 0), (&strong, 0)])?;
    let queue = pair.sender.queue()?;
    // mailq shows what sendmail says of the map; our words are in the log.
    let waits = queue.iter().all(|message| message.why.starts_with("encr_milter map: lookup ("));
    if queue.len() != 2 || !waits {
        return Err(pair.told("both were to wait"));
    }
    for to in [&clear, &strong] {
        let why = "dsn=4.3.0, stat=Deferred: 451 4.3.0 TLS policy not available, try again later";
        pair.logged(&[&format!("to={to}"), why])?;
    }
    pair.daemon.start()?;
    pair.sender.run_queue()?;
    let needed = "Deferred: 454 4.7.0 encryption needed, STARTTLS with at least 128 bits, rule peers";
    pair.queued(&[(needed, &[&clear])])?;
    pair.taken(&[(&clear, 0), (&strong, 1)])
}

/// Killed while a queue run asks it, and started again: each message is delivered once, and none that must not be.
pub(super) fn killed(rig: &Rig) -> Result<()> {
    let choice = Choice { policy: SOFT, defers: true, ..Choice::default() };
    let mut pair = Pair::start(rig, "outbound-daemon-killed", &choice)?;
    let strong: Vec<String> = (0..12).map(|number| pair.at(&format!("bob{number}"), "aes256")).collect();
    let clear: Vec<String> = (0..4).map(|number| pair.at(&format!("bob{number}"), "clear")).collect();
    for to in strong.iter().chain(&clear) {
        pair.sender.send(When::Queued, &[to])?;
    }
    let taken = |pair: &Pair<'_>| -> Result<usize> { strong.iter().map(|to| pair.peers.taken(to)).sum() };
    for round in 1..=2 {
        let sender = &pair.sender;
        let daemon = &pair.daemon;
        thread::scope(|scope| {
            let run = scope.spawn(|| sender.run_queue());
            let some = wait::until("some to be delivered", || {
                (taken(&pair).is_ok_and(|taken| taken >= round) || run.is_finished()).then_some(())
            });
            some.and_then(|()| daemon.signal(Signal::SIGKILL))?;
            run.join().map_err(|_| "the queue run".to_owned())?
        })?;
        pair.daemon.wait()?;
        pair.daemon.start()?;
    }
    pair.sender.run_queue()?;
    for to in &strong {
        pair.taken(&[(to, 1)])?;
    }
    for to in &clear {
        pair.taken(&[(to, 0)])?;
    }
    let queue = pair.sender.queue()?;
    let ours = queue.iter().all(|message| message.why.starts_with("Deferred"));
    if queue.len() == clear.len() && ours {
        Ok(())
    } else {
        Err(pair.told("the queue was to hold what is in the clear"))
    }
}

/// A list of sockets; sendmail asks at the one over TCP, and is answered as promptly as over a unix socket: the fastest of
/// several answers tells, and a busy machine does not spoil it.
pub(super) fn sockets(rig: &Rig) -> Result<()> {
    let listen = format!("[\"unix:{{dir}}/outbound.sock\", \"inet:{}@127.0.0.1\"]", rig.port());
    let policy = r#"
[[rule]]
name = "peers"
recipient-outbound = ["peer.example"]
soft-fail = { min-bits = 128 }
"#;
    let choice = Choice { policy, listen: Some(listen), ask: 1, ..Choice::default() };
    let mut pair = Pair::start(rig, "outbound-sockets", &choice)?;
    let strong: Vec<String> =
        (0..RECIPIENTS).map(|number| pair.at(&format!("bob{number}"), "aes256")).collect();
    let clear = pair.at("bob", "clear");
    pair.sender.send(When::Now, &strong.iter().map(String::as_str).collect::<Vec<_>>())?;
    pair.sender.send(When::Now, &[&clear])?;
    for to in &strong {
        pair.taken(&[(to, 1)])?;
    }
    pair.taken(&[(&clear, 0)])?;
    let needed = "encryption needed, STARTTLS with at least 128 bits, rule peers";
    pair.queued(&[(needed, &[&clear])])?;
    let records = pair.records()?;
    let at = |record: &Value| record["ts"].as_str().and_then(|ts| ts.parse::<jiff::Timestamp>().ok());
    let times: Vec<jiff::Timestamp> = records.iter().filter_map(at).collect();
    let between = times.iter().zip(times.iter().skip(1)).map(|(one, next)| next.duration_since(*one));
    match between.min() {
        Some(fastest) if records.len() == RECIPIENTS + 1 && fastest < PROMPT => Ok(()),
        fastest => Err(pair.told(&format!("{} records, the fastest after {fastest:?}", records.len()))),
    }
}
