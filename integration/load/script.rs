//! What happens in a session, and what must be answered: the policy that is held against it, and its outcome in a table.
//!
//! Four kinds of clients, each known by its name. [`policy`] is what the daemon under load must have; it comes in two
//! forms, which may be swapped at any time: one judges recipients too.

use super::Random;
use super::session::{self, Client, Mail};

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    /// Enforced: 128 bits.
    Hard,
    /// Deferred below 256 bits.
    Soft,
    /// Only watched.
    Watched,
    /// No rule at all.
    Stranger,
}

pub(crate) const HOSTS: [Host; 4] = [Host::Hard, Host::Soft, Host::Watched, Host::Stranger];

impl Host {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hard => "mx.hard.example",
            Self::Soft => "mx.soft.example",
            Self::Watched => "mx.watched.example",
            Self::Stranger => "mx.stranger.example",
        }
    }

    pub(crate) fn address(self) -> &'static str {
        match self {
            Self::Hard => "192.0.2.1",
            Self::Soft => "192.0.2.2",
            Self::Watched => "198.51.100.3",
            Self::Stranger => "203.0.113.4",
        }
    }
}

/// A recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recipient {
    /// Nobody in particular.
    Anyone,
    /// Reachable for everybody.
    Postmaster,
    /// At a domain of which one form of the policy demands 256 bits.
    Strict,
}

impl Recipient {
    /// The address, without angle brackets.
    pub(crate) fn address(self, number: usize) -> String {
        match self {
            Self::Anyone => format!("r{number}@rig.example"),
            Self::Postmaster => "postmaster@rig.example".to_owned(),
            Self::Strict => format!("s{number}@strict.example"),
        }
    }
}

/// How a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// DATA, and the end of the message; RSET where all recipients were refused.
    Whole,
    /// RSET.
    Reset,
    /// QUIT within the message.
    Quit,
    /// The connection is cut.
    Cut,
}

/// One message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: String,
    /// Bits of its TLS session; 0 in the clear.
    pub(crate) bits: u32,
    pub(crate) recipients: Vec<Recipient>,
    pub(crate) end: End,
}

/// One session.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) host: Host,
    pub(crate) messages: Vec<Message>,
}

impl Script {
    /// The session of this number: always the same one of a seed.
    pub(crate) fn of(seed: u64, number: u64) -> Self {
        let mut random = Random(seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let host = random.one(&HOSTS, Host::Hard);
        // Most bring one message; a queue run brings some.
        let count = if random.percent(70) { 1 } else { 2 + random.below(4) };
        // In the clear at first and STARTTLS then is possible; the other way round is not.
        let mut bits = random.one(&[0, 0, 112, 128, 256], 0);
        let mut messages = Vec::new();
        for message in 0..count {
            if bits == 0 && message > 0 && random.percent(30) {
                bits = random.one(&[112, 128, 256], 128);
            }
            let is_last = message + 1 == count;
            let end = match random.below(100) {
                0..5 if is_last => End::Cut,
                5..10 if is_last => End::Quit,
                10..20 => End::Reset,
                _ => End::Whole,
            };
            let recipients = if random.percent(4) { 0 } else { 1 + random.below(3) };
            let recipients = (0..recipients).map(|_| recipient(&mut random, host)).collect();
            messages.push(Message { id: format!("L{number}M{message}"), bits, recipients, end });
        }
        Self { host, messages }
    }
}

impl Script {
    /// As it is spoken, with what must be answered.
    pub(crate) fn client(&self) -> Client {
        let host = self.host;
        Client {
            name: host.name().to_owned(),
            address: host.address().to_owned(),
            mails: self.messages.iter().map(|message| message.mail(host)).collect(),
        }
    }
}

impl Message {
    fn mail(&self, host: Host) -> Mail {
        let refusal = refusal(host, self.bits);
        let recipient = |(number, kind): (usize, &Recipient)| session::Recipient {
            address: kind.address(number),
            refusal: match kind {
                Recipient::Postmaster => None,
                Recipient::Anyone => refusal.clone(),
                // Asked about, though nothing is against the message as a whole: recipients are judged.
                Recipient::Strict => strict_refusal(self.bits),
            },
        };
        Mail {
            id: self.id.clone(),
            sender: format!("a@{}", host.name()),
            bits: self.bits,
            recipients: self.recipients.iter().enumerate().map(recipient).collect(),
            refusal,
            end: self.end,
        }
    }
}

fn recipient(random: &mut Random, host: Host) -> Recipient {
    match random.below(20) {
        0 => Recipient::Postmaster,
        // Not of a host that has demands of its own: which of two demands words the reply is not what is tried here.
        1..4 if matches!(host, Host::Watched | Host::Stranger) => Recipient::Strict,
        _ => Recipient::Anyone,
    }
}

/// The policy under load. `generation` makes one differ from the next without a change of any answer here; with
/// `recipients` it judges those of `strict.example` too.
pub(crate) fn policy(generation: usize, recipients: bool) -> String {
    let strict = if recipients {
        "[[rule]]\nname = \"strict\"\nrecipient = [\"strict.example\"]\nenforce = { min-bits = 256 }\n"
    } else {
        ""
    };
    format!(
        "version = 1
[[rule]]
name = \"hard\"
client = [\"hard.example\"]
enforce = {{ min-bits = 128 }}
[[rule]]
name = \"soft\"
client = [\"soft.example\"]
soft-fail = {{ min-bits = 256 }}
[[rule]]
name = \"watched\"
client = [\"watched.example\"]
observe = {{ min-bits = 256 }}
[[rule]]
name = \"generation-{generation}\"
client = [\"generation{generation}.example\"]
enforce = {{ min-bits = 256 }}
{strict}"
    )
}

/// What is answered to one who is refused; nothing where he is not.
pub(crate) fn refusal(host: Host, bits: u32) -> Option<String> {
    match host {
        Host::Hard if bits < 128 => Some(words(true, bits, 128, "hard")),
        Host::Soft if bits < 256 => Some(words(false, bits, 256, "soft")),
        _ => None,
    }
}

/// The same for a recipient of `strict.example`, where the policy judges recipients.
pub(crate) fn strict_refusal(bits: u32) -> Option<String> {
    (bits < 256).then(|| words(true, bits, 256, "strict"))
}

/// The words of a refusal.
pub(crate) fn words(enforced: bool, bits: u32, need: u32, rule: &str) -> String {
    let code = match (enforced, bits) {
        (false, _) => "454 4.7.0",
        (true, 0) => "550 5.7.10",
        (true, _) => "554 5.7.0",
    };
    if bits == 0 {
        format!("{code} encryption needed, STARTTLS with at least {need} bits, rule {rule}")
    } else {
        format!("{code} encryption too weak {bits} less than {need}, rule {rule}")
    }
}
