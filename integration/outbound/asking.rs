//! What the snippet asks, byte by byte, and what becomes of each answer; with a socket map that takes all down.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

use super::address;
use crate::rig::sender::{Sender, When, deferring_snippet, snippet};
use crate::rig::socket_map::{Asked, SocketMap, connections};
use crate::rig::{Result, Rig};

const KIND: usize = 0;
const QUEUE_ID: usize = 2;
const SERVER: usize = 3;
const VERIFY: usize = 5;
const BITS: usize = 8;
const RECIPIENT: usize = 11;
/// As many as there are where the names were not asked for, before the word that ends a key.
const FIELDS: usize = 12;

/// A sender whose map is the rig's, and says what was put here last.
struct Asking {
    sender: Sender,
    map: SocketMap,
    answer: Arc<Mutex<Vec<u8>>>,
    /// The next question ends its connection.
    hang_up: Arc<AtomicBool>,
    _folder: TempDir,
}

impl Asking {
    fn start(rig: &Rig, tag: &str, snippet: fn(&str) -> Result<String>) -> Result<Asking> {
        let folder = tempfile::Builder::new().prefix(tag).tempdir().map_err(|e| format!("a folder: {e}"))?;
        let socket = folder.path().join("map.sock");
        let answer = Arc::new(Mutex::new(b"NOTFOUND ".to_vec()));
        let said = Arc::clone(&answer);
        let hang_up = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&hang_up);
        let map = SocketMap::listen(&socket, move |asked| {
            if ends.swap(false, Ordering::SeqCst) {
                return None;
            }
            let said = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // The names are asked for once.
            let again = said == b"OK names" && asked.raw().len() > FIELDS + 1;
            Some(if again { b"NOTFOUND ".to_vec() } else { said })
        })?;
        let snippet = snippet(&format!("local:{}", socket.display()))?;
        let sender = Sender::lay_out(rig, folder.path(), tag, &snippet, &[])?;
        Ok(Asking { sender, map, answer, hang_up, _folder: folder })
    }

    fn answer(&self, answer: &[u8]) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer.to_vec();
    }

    /// One ruleset, asked with these macros; the questions, and the last value of the ruleset.
    fn ruleset(
        &self,
        macros: &[(&str, &[u8])],
        ruleset: &str,
        argument: &str,
    ) -> Result<(Vec<Asked>, String)> {
        let mut input = Vec::new();
        for (name, value) in macros {
            input.extend([b".D{", name.as_bytes(), b"}", value, b"\n"].concat());
        }
        input.extend(format!("Translate,{ruleset} {argument}\n").as_bytes());
        let output = self.sender.ask(&input)?;
        let output = String::from_utf8_lossy(&output);
        let value = |line: &str| {
            let rest = line.trim_start_matches(['>', ' ']).strip_prefix(ruleset)?;
            rest.trim_start().strip_prefix("returns:").map(|value| value.trim().to_owned())
        };
        let returned = output.lines().filter_map(value).next_back();
        let mut returned = returned.ok_or_else(|| format!("no answer of {ruleset}: {output}"))?;
        // A ruleset that broke off has returned what it had so far.
        if let Some(line) = output.lines().find(|line| line.contains("status ")) {
            let _ = write!(returned, " [{}]", line.trim_start_matches(['>', ' ', '=']));
        }
        Ok((self.map.take(), returned))
    }
}

/// The names of the fields are the snippet's own macros, in its order.
pub(super) fn asks(rig: &Rig) -> Result<()> {
    let asking = Asking::start(rig, "outbound-snippet-asks", snippet)?;
    let long = [b"/O=".as_slice(), &[b'x'; 247]].concat();
    let all: &[(&str, &[u8])] = &[
        ("server_name", b"MX.Odd-Name.Example"),
        ("server_addr", b"IPv6:2001:DB8:0:0:0:0:0:25"),
        ("verify", b"FAIL"),
        ("tls_version", b"TLSv1.3"),
        ("cipher", b"TLS_AES_256_GCM_SHA384"),
        ("cipher_bits", b"256"),
        ("auth_ssf", b"56"),
        ("cn_subject", b"Odd+20+28Name+29+22\x9b'"),
        ("cert_subject", &long),
        ("cert_issuer", b"/C=DE/O=Rig, Trust;/CN=\x9bA@B.example<x>"),
    ];
    let expected: [&[u8]; 10] = [
        b"MX.Odd-Name.Example",
        b"IPv6:2001:DB8:0:0:0:0:0:25",
        b"FAIL",
        b"TLSv1.3",
        b"TLS_AES_256_GCM_SHA384",
        b"256",
        b"56",
        b"Odd+20+28Name+29+22\x7f\x9b'",
        &long,
        b"/C=DE/O=Rig,Trust;/CN=\x7f\x9bA@B.example<x>",
    ];
    let mut faults = Vec::new();
    let mut check = |what: &str, holds: bool, is: &dyn std::fmt::Debug| {
        if !holds {
            faults.push(format!("{what}: {is:?}"));
        }
    };
    for (ruleset, argument, kind, recipient) in [
        ("tls_server", "FAIL", "server", ""),
        ("tls_rcpt", "Bob+Tag@Example.COM", "rcpt", "Bob+Tag@Example.COM"),
        (
            "tls_rcpt",
            "\"Big Bob (he, too)\"@[IPv6:2001:db8::25]",
            "rcpt",
            "Big Bob (he, too)@[IPv6:2001:db8::25]",
        ),
    ] {
        asking.answer(b"NOTFOUND ");
        let (asked, returned) = asking.ruleset(all, ruleset, argument)?;
        check("one question", asked.len() == 1, &asked);
        check("no objection", returned == "OK" || kind == "rcpt" && !returned.contains('$'), &returned);
        let fields = asked.first().map(Asked::raw).unwrap_or_default();
        check(
            "twelve fields and an end",
            fields.len() == FIELDS + 1 && fields.ends_with(&[b"end".to_vec()]),
            &asked,
        );
        check("the map's name", asked.iter().all(|one| one.bytes.starts_with(b"encr_milter ")), &asked);
        check("kind", asked.first().is_some_and(|one| one.field(KIND) == kind), &asked);
        check("{j}", asked.first().is_some_and(|one| one.field(1) == "mail.rig.example"), &asked);
        check("recipient", asked.first().is_some_and(|one| one.field(RECIPIENT) == recipient), &asked);
        let values = expected.iter().take(8).copied();
        check("values", fields.iter().skip(SERVER).take(8).map(Vec::as_slice).eq(values), &asked);

        asking.answer(b"OK names");
        let (asked, _) = asking.ruleset(all, ruleset, argument)?;
        check("asked again", asked.len() == 2, &asked);
        let again = asked.get(1).map(Asked::raw).unwrap_or_default();
        // Each process of `sendmail -bt` has a queue id of its own.
        let mut fields: Vec<_> = fields.into_iter().take(FIELDS).collect();
        if let (Some(id), Some(again)) = (fields.get_mut(QUEUE_ID), again.get(QUEUE_ID)) {
            id.clone_from(again);
        }
        check("two fields more", again.len() == FIELDS + 3 && again.starts_with(&fields), &asked);
        check(
            "names",
            again.iter().skip(FIELDS).map(Vec::as_slice).eq([expected[9], expected[8], b"end"]),
            &asked,
        );
    }
    // In the clear and without a name.
    asking.answer(b"NOTFOUND ");
    let (asked, _) = asking.ruleset(&[], "tls_server", "NONE")?;
    let empty = asked.first().map(Asked::fields).unwrap_or_default();
    check("nothing is nothing", empty.iter().take(FIELDS).skip(SERVER).all(String::is_empty), &asked);
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// The longest token of sendmail's, with its quotes.
const MAX_TOKEN: usize = 256;

/// What is answered, what the ruleset makes of it, and how many questions there were.
const ANSWERS: &[(&[u8], &str, usize)] = &[
    (b"NOTFOUND ", "OK", 1),
    (
        b"OK 454:4.7.0:\"a, b (c) <d> 1.2 @e; f:g\"",
        "$# error $@ 4 . 7 . 0 $: 454 \" \" \"a, b (c) <d> 1.2 @e; f:g\"",
        1,
    ),
    (b"OK 550:5.7.10:\"a, b\"", "$# error $@ 5 . 7 . 10 $: 550 \" \" \"a, b\"", 1),
    (b"OK names", "OK", 2),
    // Asked once more, for a daemon that was started anew has lost the connection; then there is no answer.
    (b"TEMP later", "OK", 2),
    (b"TIMEOUT later", "OK", 2),
    // What is no answer of ours is none.
    (b"OK hello world", "OK", 1),
    (b"OK 454", "OK", 1),
    (b"OK ", "OK", 1),
    (b"PERM never", "OK", 1),
    (b"HULLO", "OK", 1),
    (b"", "OK", 1),
];

pub(super) fn answers(rig: &Rig) -> Result<()> {
    let asking = Asking::start(rig, "outbound-snippet-answers", snippet)?;
    let mut faults = Vec::new();
    // The longest string that a token can hold; with one byte more the ruleset breaks off, and mail goes out.
    let most = "x".repeat(MAX_TOKEN - 2);
    let refused = format!("$# error $@ 4 . 7 . 0 $: 454 \" \" \"{most}\"");
    let longest = format!("OK 454:4.7.0:\"{most}\"");
    let too_long = longest.replacen('x', "xx", 1);
    let lengths = [(longest.as_bytes(), &*refused, 1), (too_long.as_bytes(), "OK", 1)];
    for (answer, expected, questions) in ANSWERS.iter().chain(&lengths) {
        asking.answer(answer);
        for (ruleset, argument) in [("tls_server", "NONE"), ("tls_rcpt", "bob@peer.example")] {
            let (asked, returned) = asking.ruleset(&[], ruleset, argument)?;
            // tls_rcpt hands back the address where there is nothing to say against it; and a map that put us off is told
            // of, whatever the rulesets made of that.
            let returned = returned.split(" [Ruleset tls_").next().unwrap_or_default();
            let returned = if returned.starts_with("bob") { "OK" } else { returned };
            if returned != *expected || asked.len() != *questions {
                let answer = String::from_utf8_lossy(answer);
                faults.push(format!("{ruleset}, {answer:?}: {returned} after {} questions", asked.len()));
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// What sendmail tells of each peer: verify, version, cipher, bits, common name.
const STRENGTHS: &[(&str, [&str; 5])] = &[
    ("clear", ["NONE", "", "", "", ""]),
    ("null", ["OK", "TLSv1.2", "NULL-SHA256", "0", "mail.rig.example"]),
    ("aes128", ["OK", "TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256", "128", "mail.rig.example"]),
    ("aes256", ["OK", "TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384", "256", "mail.rig.example"]),
    ("aes128-13", ["OK", "TLSv1.3", "TLS_AES_128_GCM_SHA256", "128", "mail.rig.example"]),
    ("aes256-13", ["OK", "TLSv1.3", "TLS_AES_256_GCM_SHA384", "256", "mail.rig.example"]),
    ("self-signed", ["FAIL", "TLSv1.3", "TLS_AES_256_GCM_SHA384", "256", "self-signed.peer.example"]),
    ("long", ["OK", "TLSv1.3", "TLS_AES_256_GCM_SHA384", "256", "long.peer.example"]),
    ("six", ["OK", "TLSv1.3", "TLS_AES_256_GCM_SHA384", "256", "mail.rig.example"]),
    // The handshake fails, and the peer is gone: no recipient is asked about.
    ("broken", ["SOFTWARE", "", "", "", ""]),
    // STARTTLS is answered with 454, and mail goes on in the clear.
    ("busy", ["TEMP", "", "", "", ""]),
];

pub(super) fn every_strength(rig: &Rig) -> Result<()> {
    let tag = "outbound-every-strength";
    let asking = Asking::start(rig, tag, snippet)?;
    let mut faults = Vec::new();
    for (peer, told) in STRENGTHS {
        let to = address(tag, "bob", peer);
        asking.sender.send(When::Now, &[&to])?;
        let asked = asking.map.take();
        let kinds: Vec<String> = asked.iter().map(|one| one.field(KIND)).collect();
        let due: &[&str] = if *peer == "broken" { &["server"] } else { &["server", "rcpt"] };
        let recipients =
            asked.iter().filter(|one| one.field(KIND) == "rcpt").all(|one| one.field(RECIPIENT) == to);
        let same = asked.iter().all(|one| {
            let fields = one.fields();
            let told_now = [5, 6, 7, 8, 10].map(|at| fields.get(at).cloned().unwrap_or_default());
            one.field(SERVER) == format!("{peer}.peer.example") && told_now == *told
        });
        let taken = rig.peers()?.taken(&to)?;
        if kinds != due || !recipients || !same || connections(&asked) != 1 || taken != due.len() - 1 {
            let asked: Vec<Vec<String>> = asked.iter().map(Asked::fields).collect();
            faults.push(format!("{peer}, taken {taken} times: {asked:#?}"));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// One delivering process asks on one connection: about a server once for each SMTP connection with TLS, and in the clear
/// once for each message too; about each recipient of each message. What it tells is the connection's own, whichever of
/// those that it keeps is used next. A server that was refused is not asked about again in the same queue run.
pub(super) fn how_often(rig: &Rig) -> Result<()> {
    let tag = "outbound-asked-how-often";
    let asking = Asking::start(rig, tag, snippet)?;
    let at = |who: &str, peer: &str| address(tag, who, peer);
    let to = [at("anna", "aes128"), at("bob", "aes128"), at("carl", "clear"), at("dora", "clear")];
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    asking.sender.send(When::Queued, &to)?;
    asking.sender.send(When::Queued, &to)?;
    if !asking.map.take().is_empty() {
        return Err("what only goes into the queue is nothing to ask about".to_owned());
    }
    asking.sender.run_queue()?;
    let asked = asking.map.take();
    let count = |kind: &str, peer: &str, verify: &str, bits: &str| {
        let wanted = [kind, &format!("{peer}.peer.example"), verify, bits];
        let told = |one: &Asked| [KIND, SERVER, VERIFY, BITS].map(|at| one.field(at));
        asked.iter().filter(|one| told(one).iter().eq(wanted)).count()
    };
    let counts = [
        count("server", "aes128", "OK", "128"),
        count("rcpt", "aes128", "OK", "128"),
        count("server", "clear", "NONE", ""),
        count("rcpt", "clear", "NONE", ""),
        connections(&asked),
        asked.iter().map(|one| one.field(QUEUE_ID)).collect::<BTreeSet<_>>().len(),
        asked.len(),
    ];
    if counts != [1, 4, 2, 4, 1, 2, 11] {
        let asked: Vec<Vec<String>> = asked.iter().map(Asked::fields).collect();
        return Err(format!("{counts:?}: {asked:#?}"));
    }

    // Strings are put together as they are: a blank between them has to be in one of them.
    asking.answer(b"OK 454:4.7.0:\"not \" \"n\" \"ow\"");
    asking.sender.send(When::Queued, &[&at("emil", "clear")])?;
    asking.sender.send(When::Queued, &[&at("fred", "clear")])?;
    asking.sender.run_queue()?;
    let (asked, queue) = (asking.map.take(), asking.sender.queue()?);
    let told = queue.iter().filter(|message| message.why == "Deferred: 454 4.7.0 not now").count();
    let silent = queue.iter().filter(|message| message.why == "Deferred").count();
    if asked.len() == 1 && told == 1 && silent == 1 {
        return Ok(());
    }
    Err(format!("{} questions, {queue:#?}", asked.len()))
}

/// A connection that ended, as at each new start of the daemon, is not taken for no answer: the same is asked on a new one.
pub(super) fn asks_again(rig: &Rig) -> Result<()> {
    let tag = "outbound-connection-lost";
    let asking = Asking::start(rig, tag, deferring_snippet)?;
    let (bob, carl) = (address(tag, "bob", "aes128"), address(tag, "carl", "clear"));
    let mut all = Vec::new();
    for to in [&bob, &carl] {
        asking.hang_up.store(true, Ordering::SeqCst);
        asking.sender.send(When::Now, &[to])?;
        let asked = asking.map.take();
        let kinds: Vec<String> = asked.iter().map(|one| one.field(KIND)).collect();
        let taken = rig.peers()?.taken(to)?;
        if kinds != ["server", "server", "rcpt"] || connections(&asked) != 2 || taken != 1 {
            all.push(format!("{to}, taken {taken} times: {kinds:?} on {} connections", connections(&asked)));
        }
    }
    if all.is_empty() { Ok(()) } else { Err(all.join("\n")) }
}
