//! SMTP clients, several at once, one session after the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Context;
use crate::rig::Result;
use crate::rig::sendmail::Sendmail;
use crate::rig::smtp::{Client, Reply};

/// What a key of every policy covers.
pub(crate) const DOMAIN: &str = "partner.example";
/// Hosts of the domain, six.partner.example and mail.partner.example. Not of 127.0.0.0/8, which references exempt.
const PARTNERS: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3)),
];
/// Hosts of which no key tells, mx.other.example and mx.notpartner.example: every part of name and address is looked up.
const STRANGERS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 4)), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 5))];
/// One session of so many comes in the clear from a partner, and must be refused by whoever judges.
const IN_THE_CLEAR: u64 = 25;
/// The lines of a message.
const LINES: usize = 60;

/// What a session is made of beside STARTTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mix {
    /// MAIL, RCPT, RSET, QUIT, by hosts of whom a key tells.
    Envelope,
    /// MAIL, RCPT, DATA, a message, QUIT, by the same.
    Message,
    /// As the first, by hosts of whom none tells.
    Strangers,
}

impl Mix {
    pub(crate) const ALL: [Mix; 3] = [Mix::Envelope, Mix::Message, Mix::Strangers];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Envelope => "envelope",
            Self::Message => "message",
            Self::Strangers => "strangers",
        }
    }
}

/// Has so many clients hold sessions until the time is over, and one of those that must be refused was among them. Says
/// how many there were.
pub(crate) fn hold(
    sendmail: &Sendmail,
    tls: &Context,
    clients: usize,
    mix: Mix,
    judged: bool,
    last: Duration,
) -> Result<u64> {
    let (next, failed, begun) = (AtomicU64::new(0), AtomicBool::new(false), Instant::now());
    let one_after_the_other = || {
        let mut held = 0;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let is_over = number >= IN_THE_CLEAR && begun.elapsed() >= last;
            if is_over || failed.load(Ordering::Relaxed) {
                return Ok(held);
            }
            session(sendmail, tls, number, mix, judged)
                .inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            held += 1;
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(one_after_the_other)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a client panicked".to_owned()).flatten())
            .sum()
    })
}

/// One session. `judged`: whether somebody refuses what comes in the clear.
fn session(sendmail: &Sendmail, tls: &Context, number: u64, mix: Mix, judged: bool) -> Result<()> {
    let clear = number % IN_THE_CLEAR == IN_THE_CLEAR / 2;
    let hosts = if mix == Mix::Strangers && !clear { STRANGERS } else { PARTNERS };
    let host = if number.is_multiple_of(2) { hosts[0] } else { hosts[1] };
    let mut client = greeted(sendmail, host, (!clear).then_some(tls))?;
    let mut last = client.say("MAIL FROM:<anna@sender.example>")?;
    if last.code == 250 {
        last = client.say("RCPT TO:<bob@rig.example>")?;
    }
    if clear && judged {
        if last.code / 100 != 5 {
            return Err(format!("a session in the clear was told {}", last.text()));
        }
    } else {
        expect(&last, 250)?;
        match mix {
            Mix::Envelope | Mix::Strangers => expect(&client.say("RSET")?, 250)?,
            Mix::Message => {
                expect(&client.say("DATA")?, 354)?;
                client.send(message(number).as_bytes())?;
                expect(&client.reply()?, 250)?;
            }
        }
    }
    expect(&client.say("QUIT")?, 221)?;
    client.closed()
}

/// A client that has said EHLO, and where it is to, STARTTLS and EHLO again.
pub(crate) fn greeted(sendmail: &Sendmail, host: IpAddr, tls: Option<&Context>) -> Result<Client> {
    let mut client = sendmail.connect_from(host)?;
    expect(&client.reply()?, 220)?;
    expect(&client.say("EHLO client.example")?, 250)?;
    if let Some(tls) = tls {
        expect(&client.say("STARTTLS")?, 220)?;
        client.handshake_by(tls)?;
        expect(&client.say("EHLO client.example")?, 250)?;
    }
    Ok(client)
}

/// A client of whom a key tells.
pub(crate) fn partner() -> IpAddr {
    PARTNERS[0]
}

pub(crate) fn expect(reply: &Reply, code: u16) -> Result<()> {
    if reply.code == code { Ok(()) } else { Err(format!("{code} was to come, and not {}", reply.text())) }
}

/// Some 4 KB.
fn message(number: u64) -> String {
    let line = "It is not the message that is judged, but how it comes; this is a line of it.\r\n";
    format!(
        "From: Anna <anna@sender.example>\r\nTo: Bob <bob@rig.example>\r\nSubject: {number}\r\n\r\n{}.\r\n",
        line.repeat(LINES)
    )
}
