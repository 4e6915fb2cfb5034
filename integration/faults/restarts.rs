//! The daemon killed and restarted, and sendmail too, in the middle of SMTP sessions; `F=T`.
//!
//! What must hold: whoever must not send is never told 250 for a recipient, whoever may is never told 5xx; beside the
//! right answer there is only sendmail's own 451 while nobody answers it. Afterwards all is as before.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::Site;
use crate::load::Random;
use crate::rig::sendmail::{Options, Sendmail};
use crate::rig::smtp::{Client, Tls};
use crate::rig::{Result, Rig, wait};

const TAG: &str = "fault-restarts";
const CLIENTS: usize = 4;
const ROUNDS: usize = 8;
const POLICY: &str = "
version = 1
[exempt]
networks = []
[[rule]]
name = \"partner\"
client = [\"partner.example\"]
enforce = { min-bits = 128 }
";
const REFUSED: &str = "encryption needed, STARTTLS with at least 128 bits, rule partner";

/// How messages fared.
#[derive(Default)]
struct Fared {
    right: AtomicUsize,
    /// sendmail said that it has no filter.
    deferred: AtomicUsize,
    /// A connection ended.
    cut: AtomicUsize,
}

pub(super) fn behind_sendmail(rig: &Rig) -> Result<()> {
    let mut site = Site::new(rig, TAG, "milter.drain-timeout = 20\n")?;
    site.write("policy.toml", POLICY)?;
    site.daemon.start()?;
    let options = Options {
        attach: site.daemon.listen().to_vec(),
        flags: Some("T".to_owned()),
        timeouts: Some("S:5s;R:5s".to_owned()),
        ..Options::default()
    };
    let mut sendmail = Some(Sendmail::start(rig, site.folder.path(), TAG, &options)?);
    let fared = Fared::default();
    let mut random = Random(0x7265_7374);
    for round in 0..ROUNDS {
        let over = AtomicBool::new(false);
        let to = sendmail.as_ref().ok_or("no sm-mta")?;
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    let (fared, over) = (&fared, &over);
                    scope.spawn(move || send(rig, to, client, fared, over))
                })
                .collect();
            let right = fared.right.load(Ordering::Relaxed);
            let restarted = wait::until("some messages", || {
                (fared.right.load(Ordering::Relaxed) > right + CLIENTS).then_some(())
            })
            .and_then(|()| {
                thread::sleep(Duration::from_millis(random.below(200)));
                // By turns in order, which lets open transactions come to their end, and not.
                site.daemon.signal(if round % 2 == 0 { Signal::SIGKILL } else { Signal::SIGTERM })?;
                site.daemon.wait()?;
                thread::sleep(Duration::from_millis(random.below(300)));
                site.daemon.start()
            });
            let right = fared.right.load(Ordering::Relaxed);
            let again = restarted.and_then(|()| {
                wait::until("messages to be judged again", || {
                    (fared.right.load(Ordering::Relaxed) > right + CLIENTS).then_some(())
                })
            });
            over.store(true, Ordering::Relaxed);
            for client in clients {
                client.join().map_err(|_| "a client panicked".to_owned())??;
            }
            again
        })
        .map_err(|fault| site.told(&format!("round {round}: {fault}")))?;
        if round == ROUNDS / 2 {
            // sm-mta itself, with a session open in it: its connection to us ends with it.
            let mut client = arrive(rig, to, false)?;
            client.say("MAIL FROM:<anna@partner.example>")?;
            drop(sendmail.take());
            drop(client);
            sendmail = Some(Sendmail::start(rig, &site.path("again"), TAG, &options)?);
        }
    }
    let sendmail = sendmail.ok_or("no sm-mta")?;
    wait::until("all connections to end", || site.descriptors().is_ok_and(|open| open < 40).then_some(()))?;
    // And from then on everybody gets his own answer.
    for client in 0..2 {
        let after = Fared::default();
        one(rig, &sendmail, client, &after)?;
        if after.right.load(Ordering::Relaxed) == 0 {
            return Err(site.told("after all of it a message was not judged"));
        }
    }
    site.stop()?;
    let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
    let (right, deferred, cut) = (count(&fared.right), count(&fared.deferred), count(&fared.cut));
    eprintln!("{TAG}: {right} judged, {deferred} deferred by sendmail, {cut} connections ended");
    if deferred == 0 {
        Err("nobody was ever without a filter: the restarts met no session".to_owned())
    } else {
        Ok(())
    }
}

fn send(rig: &Rig, sendmail: &Sendmail, client: usize, fared: &Fared, over: &AtomicBool) -> Result<()> {
    while !over.load(Ordering::Relaxed) {
        one(rig, sendmail, client, fared)?;
    }
    Ok(())
}

/// A session of some messages. Odd clients speak TLS, and may send.
fn one(rig: &Rig, sendmail: &Sendmail, client: usize, fared: &Fared) -> Result<()> {
    let strong = client % 2 == 1;
    let Ok(mut connection) = arrive(rig, sendmail, strong) else {
        // 454 to STARTTLS, or 451 to EHLO: sendmail has no filter.
        fared.deferred.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    };
    for _ in 0..4 {
        let Ok(mail) = connection.say("MAIL FROM:<anna@partner.example>") else { break };
        let rcpt = if mail.code == 250 { connection.say("RCPT TO:<bob@rig.example>") } else { Ok(mail) };
        let Ok(reply) = rcpt else { break };
        match (reply.code, strong) {
            (250, true) => {}
            (550, false) if reply.text().contains(REFUSED) => {}
            (451 | 421, _) => {
                fared.deferred.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            _ => return Err(format!("with TLS: {strong}, and the answer was {}", reply.text())),
        }
        fared.right.fetch_add(1, Ordering::Relaxed);
        if connection.say("RSET").is_err() {
            break;
        }
    }
    if connection.say("QUIT").is_err() {
        fared.cut.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn arrive(rig: &Rig, sendmail: &Sendmail, tls: bool) -> Result<Client> {
    let mut connection = sendmail.connect_from([127, 0, 0, 2].into())?;
    let expect = |reply: crate::rig::smtp::Reply, code: u16| {
        if reply.code == code { Ok(()) } else { Err(reply.text()) }
    };
    expect(connection.reply()?, 220)?;
    expect(connection.say("EHLO mx.partner.example")?, 250)?;
    if tls {
        expect(connection.say("STARTTLS")?, 220)?;
        connection.handshake(&Tls::default(), &rig.certs)?;
        expect(connection.say("EHLO mx.partner.example")?, 250)?;
    }
    Ok(connection)
}
