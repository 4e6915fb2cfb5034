//! What sendmail says in one entry, as far as it tells of TLS, senders, recipients and refusals.
//!
//! Recognised by what it says, for the program's name can be anything. Promises: borrowed from the line, nothing is copied;
//! any bytes will do. What a client chose (addresses, message ids, replies) cannot pass for a field of sendmail's:
//! fields behind such text are read from the end, or only up to it.

use super::queue_id::QueueId;
use super::scan::{before, last, number, position};
use crate::policy::decide::Disposition;
use crate::policy::facts::MAX_BITS;
use std::borrow::Cow;

/// `from=` is cut to so many bytes.
const SENDER_CUT: usize = 200;

/// Which side of a session this host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Server,
    Client,
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry<'l> {
    /// A client is there (from log level 10 on).
    Connected { relay: &'l [u8] },
    /// A handshake is over.
    Tls(Side, TlsEntry<'l>),
    /// The names in the other side's certificate, right behind that (from log level 12 on).
    Names { side: Side, subject: &'l [u8], issuer: &'l [u8] },
    /// A handshake failed.
    HandshakeFailed(Side),
    /// A client authenticated.
    Authenticated { relay: &'l [u8], who: &'l [u8], mechanism: &'l [u8], bits: &'l [u8] },
    /// A connection to a server is ready for mail: STARTTLS is over, or was not offered (from log level 10 on).
    Ready { relay: &'l [u8] },
    /// A ruleset refused.
    Refused(Refused<'l>),
    /// A milter refused.
    MilterRefused { queue_id: QueueId, sender: Option<&'l [u8]>, recipient: Option<&'l [u8]> },
    /// A transaction is over.
    From(From<'l>),
    /// A delivery was tried, or given up.
    To(To<'l>),
}

impl Entry<'_> {
    /// Whether sendmail says this only from log level 9 on, as it does of handshakes. What was sent it tells below that.
    pub(super) fn is_of_level_9(&self) -> bool {
        match self {
            Self::Connected { .. }
            | Self::Tls(..)
            | Self::Names { .. }
            | Self::HandshakeFailed(_)
            | Self::Ready { .. } => true,
            Self::To(to) => !to.mailer.is_empty() && to.outcome.starts_with(b"stat=Deferred"),
            _ => false,
        }
    }
}

/// `STARTTLS=…, relay=, version=, verify=, cipher=, bits=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TlsEntry<'l> {
    pub(super) relay: &'l [u8],
    pub(super) version: &'l [u8],
    pub(super) verify: &'l [u8],
    pub(super) cipher: &'l [u8],
    /// The second number: `{cipher_bits}`.
    pub(super) bits: &'l [u8],
    /// All that stands behind `version=`.
    pub(super) told: &'l [u8],
}

/// Which ruleset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ruleset {
    TlsClient,
    CheckMail,
    CheckRcpt,
    TlsServer,
    TlsRcpt,
}

/// `ruleset=, arg1=, relay=, reject=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused<'l> {
    pub(super) queue_id: Option<QueueId>,
    pub(super) ruleset: Ruleset,
    /// An address, or `{verify}`.
    pub(super) about: &'l [u8],
    pub(super) relay: &'l [u8],
    pub(super) text: &'l [u8],
}

/// `from=, size=, class=, nrcpts=, …, relay=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct From<'l> {
    pub(super) queue_id: QueueId,
    /// Nothing where it may be cut.
    pub(super) sender: Option<&'l [u8]>,
    /// How many recipients were taken.
    pub(super) recipients: u32,
    /// `ESMTPS` and the like; nothing where a program of this host handed the message in.
    pub(super) protocol: Option<&'l [u8]>,
    pub(super) relay: &'l [u8],
}

/// `to=, delay=, …, stat=`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct To<'l> {
    pub(super) queue_id: Option<QueueId>,
    /// One address, or several between commas.
    pub(super) recipients: &'l [u8],
    /// How long this attempt took.
    pub(super) took: &'l [u8],
    pub(super) mailer: &'l [u8],
    pub(super) relay: &'l [u8],
    pub(super) dsn: &'l [u8],
    /// All that is behind the fields: replies, `stat=`.
    pub(super) outcome: &'l [u8],
}

/// The queue id that an entry begins with, the number of the piece where it is one of several, and the rest.
pub(super) fn queue_id(content: &[u8]) -> Option<(QueueId, Option<u32>, &[u8])> {
    let (id, rest) = QueueId::at_beginning(content)?;
    if let Some(rest) = rest.strip_prefix(b": ") {
        return Some((id, None, rest));
    }
    let (piece, rest) = number(rest.strip_prefix(b"[")?)?;
    Some((id, Some(piece), rest.strip_prefix(b"]: ")?))
}

/// Reads an entry that has no queue id.
pub(super) fn without_queue_id(content: &[u8]) -> Option<Entry<'_>> {
    if let Some(rest) = content.strip_prefix(b"STARTTLS=") {
        let (side, rest) = if let Some(rest) = rest.strip_prefix(b"server, ") {
            (Side::Server, rest)
        } else {
            (Side::Client, rest.strip_prefix(b"client, ")?)
        };
        return tls(side, rest);
    }
    if let Some(rest) = content.strip_prefix(b"AUTH=server, relay=") {
        let (relay, rest) = before(rest, b", authid=")?;
        let (who, rest) = last(rest, b", mech=")?;
        let (mechanism, bits) = before(rest, b", bits=")?;
        return Some(Entry::Authenticated { relay, who, mechanism, bits });
    }
    if let Some(rest) = content.strip_prefix(b"AUTH=client, relay=") {
        let (relay, _) = before(rest, b", mech=")?;
        return Some(Entry::Ready { relay });
    }
    if let Some(rest) = content.strip_prefix(b"ruleset=") {
        return refused(None, rest);
    }
    content.strip_prefix(b"NOQUEUE: connect from ").map(|relay| Entry::Connected { relay })
}

/// Reads what stands behind a queue id.
pub(super) fn with_queue_id(queue_id: QueueId, content: &[u8]) -> Option<Entry<'_>> {
    if let Some(rest) = content.strip_prefix(b"from=") {
        return from(queue_id, rest).map(Entry::From);
    }
    if let Some(rest) = content.strip_prefix(b"to=") {
        return Some(Entry::To(to(queue_id, rest)));
    }
    if let Some(rest) = content.strip_prefix(b"ruleset=") {
        return refused(Some(queue_id), rest);
    }
    let rest = content.strip_prefix(b"Milter: ")?;
    if let Some(rest) = rest.strip_prefix(b"from=") {
        let (sender, _) = address_before(rest, b", reject=")?;
        return Some(Entry::MilterRefused { queue_id, sender: Some(sender), recipient: None });
    }
    let (recipient, _) = address_before(rest.strip_prefix(b"to=")?, b", reject=")?;
    Some(Entry::MilterRefused { queue_id, sender: None, recipient: Some(recipient) })
}

/// Whether it is one of the entries that are read above: where such a one cannot be read, it is counted. Other programs
/// say `from=` too, but hardly behind a queue id.
pub(super) fn is_expected(has_queue_id: bool, content: &[u8]) -> bool {
    let starts: &[&[u8]] = if has_queue_id {
        &[b"from=", b"Milter: from="]
    } else {
        &[b"STARTTLS=server, relay=", b"STARTTLS=client, relay=", b"AUTH=server, "]
    };
    starts.iter().any(|start| content.starts_with(start))
}

fn tls(side: Side, rest: &[u8]) -> Option<Entry<'_>> {
    if rest.starts_with(b"error: ") {
        return Some(Entry::HandshakeFailed(side));
    }
    if let Some(rest) = rest.strip_prefix(b"cert-subject=") {
        let (subject, rest) = before(rest, b", cert-issuer=")?;
        let (issuer, _) = before(rest, b", verifymsg=").unwrap_or((rest, b""));
        return Some(Entry::Names { side, subject, issuer });
    }
    let (relay, told) = before(rest.strip_prefix(b"relay=")?, b", version=")?;
    let (version, rest) = before(told, b", verify=")?;
    let (verify, rest) = before(rest, b", cipher=")?;
    let (cipher, rest) = before(rest, b", bits=")?;
    let (bits, _) = before(rest, b", ").unwrap_or((rest, b""));
    let (_algorithm, bits) = before(bits, b"/")?;
    Some(Entry::Tls(side, TlsEntry { relay, version, verify, cipher, bits, told }))
}

fn refused(queue_id: Option<QueueId>, rest: &[u8]) -> Option<Entry<'_>> {
    let (name, rest) = before(rest, b", arg1=")?;
    let ruleset = match name {
        b"tls_client" => Ruleset::TlsClient,
        b"check_mail" => Ruleset::CheckMail,
        b"check_rcpt" => Ruleset::CheckRcpt,
        b"tls_server" => Ruleset::TlsServer,
        b"tls_rcpt" => Ruleset::TlsRcpt,
        _ => return None,
    };
    let (about, rest) = address_before(rest, b", relay=")?;
    // `arg2=STARTTLS`, or `MAIL`.
    let about = before(about, b", arg2=").map_or(about, |(about, _)| about);
    let (relay, text) = before(rest, b", reject=")?;
    Some(Entry::Refused(Refused { queue_id, ruleset, about, relay, text }))
}

fn from(queue_id: QueueId, rest: &[u8]) -> Option<From<'_>> {
    const SIZE: &[u8; 7] = b", size=";
    let (sender, fields) = match address_before(rest, SIZE) {
        Some((sender, fields)) => (Some(sender).filter(|sender| sender.len() < SENDER_CUT), fields),
        // A quote was cut off.
        None => (None, before(rest, SIZE)?.1),
    };
    let (_, counted) = before(fields, b", nrcpts=")?;
    let (recipients, _) = number(counted)?;
    // From the end: a message id can hold anything.
    let (fields, relay) = last(fields, b", relay=")?;
    let mut head = fields;
    let mut protocol = None;
    while let Some((rest, field)) = last(head, b", ") {
        let (name, value) = before(field, b"=")?;
        match name {
            b"daemon" | b"tls_verify" | b"auth" => head = rest,
            b"proto" => {
                protocol = Some(value);
                break;
            }
            _ => break,
        }
    }
    Some(From { queue_id, sender, recipients, protocol, relay })
}

fn to(queue_id: QueueId, rest: &[u8]) -> To<'_> {
    let (recipients, mut rest) = address_before(rest, b", ").unwrap_or((rest, b""));
    let mut to = To { queue_id: Some(queue_id), recipients, ..To::default() };
    // `ctladdr=` is an address.
    if rest.starts_with(b"ctladdr=") {
        rest = address_before(rest, b", ").map_or(&b""[..], |(_, rest)| rest);
    }
    loop {
        let (field, behind) = before(rest, b", ").unwrap_or((rest, b""));
        if let Some(took) = field.strip_prefix(b"xdelay=") {
            to.took = took;
        } else if let Some(mailer) = field.strip_prefix(b"mailer=") {
            to.mailer = mailer;
        } else if let Some(relay) = field.strip_prefix(b"relay=") {
            to.relay = relay;
        } else if let Some(dsn) = field.strip_prefix(b"dsn=") {
            to.dsn = dsn;
        } else if field.starts_with(b"stat=") || field.starts_with(b"reply=") {
            to.outcome = rest;
            return to;
        }
        // `delay`, `pri`, `[more]`; `tls_verify` where sendmail was built to say so.
        if behind.is_empty() {
            return to;
        }
        rest = behind;
    }
}

/// `1+02:03:04`: days, hours, minutes, seconds. In seconds.
pub(super) fn duration(text: &[u8]) -> Option<i64> {
    let (days, rest) = match before(text, b"+") {
        Some((days, rest)) => (number(days)?.0, rest),
        None => (0, text),
    };
    let mut seconds = i64::from(days);
    for (part, size) in rest.split(|byte| *byte == b':').zip([24, 60, 60]) {
        seconds = seconds * size + i64::from(number(part)?.0);
    }
    Some(seconds)
}

/// What stands before a mark and behind it, the first time that it stands outside of quotes. Nothing where a quote does
/// not end.
fn address_before<'l, const N: usize>(text: &'l [u8], mark: &[u8; N]) -> Option<(&'l [u8], &'l [u8])> {
    let (mut head, mut rest) = before(text, mark)?;
    while ends_in_quotes(head) {
        let (more, behind) = before(rest, mark)?;
        head = text.get(..head.len() + mark.len() + more.len())?;
        rest = behind;
    }
    Some((head, rest))
}

fn ends_in_quotes(text: &[u8]) -> bool {
    if position(b'"', text).is_none() {
        return false;
    }
    let (mut quoted, mut escaped) = (false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    quoted
}

/// The addresses of a list, those that are whole, without angle brackets.
pub(super) fn addresses(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let list = rest?;
        let (address, behind) = match address_before(list, b",") {
            Some((address, behind)) => (address, Some(behind)),
            None => (list, None),
        };
        rest = behind;
        Some(address)
    })
    .filter_map(|address| match address.strip_prefix(b"<") {
        Some(rest) => rest.strip_suffix(b">"),
        None => Some(address),
    })
    .filter(|address| !address.is_empty())
}

/// Takes back what sendmail does to what is not printable: `\\`, `\t`, `\303`.
pub(super) fn unescape(content: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'\\', content) else { return Cow::Borrowed(content) };
    let (plain, mut rest) = content.split_at_checked(first).unwrap_or((content, b""));
    let mut out = plain.to_vec();
    while let [byte, tail @ ..] = rest {
        let (meant, behind) = match (byte, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                (((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'), tail)
            }
            (b'\\', [b'\\', tail @ ..]) => (b'\\', tail),
            (b'\\', [b'n', tail @ ..]) => (b'\n', tail),
            (b'\\', [b'r', tail @ ..]) => (b'\r', tail),
            (b'\\', [b't', tail @ ..]) => (b'\t', tail),
            _ => (*byte, tail),
        };
        out.push(meant);
        rest = behind;
    }
    Cow::Owned(out)
}

/// The words of a refusal behind its codes.
fn words(text: &[u8]) -> &[u8] {
    let code = |text: &[u8]| text.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    let mut rest = text;
    for _ in 0..2 {
        match before(rest, b" ") {
            Some((first, behind)) if code(first) => rest = behind,
            _ => break,
        }
    }
    rest
}

/// Whether a refusal of sendmail's own is about TLS: the texts of its ruleset `TLS_connection`.
pub(super) fn is_about_tls(text: &[u8]) -> bool {
    let texts: [&[u8]; 14] = [
        b"encryption too weak ",
        b"authentication required",
        b"not authenticated",
        b"no authentication requested",
        b"authentication failed",
        b"authentication failure",
        b"other side does not support STARTTLS",
        b"STARTTLS disabled locally",
        b"CN ",
        b"Cert Subject ",
        b"Cert Issuer ",
        b"TLS handshake failed",
        b"STARTTLS failed",
        b"STARTTLS temporarily not possible",
    ];
    let words = words(text);
    texts.iter().any(|text| words.starts_with(text))
}

/// What a refusal about TLS tells of the session: `{verify}`, and its bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) verify: Option<&'static str>,
    pub(super) bits: Option<u16>,
}

/// What a refusal was, by its code.
pub(super) fn done(text: &[u8]) -> Option<Disposition> {
    match text.first() {
        Some(b'4') => Some(Disposition::Tempfail),
        Some(b'5') => Some(Disposition::Reject),
        _ => None,
    }
}

/// Reads that from the words of `TLS_connection`.
pub(super) fn told(text: &[u8]) -> Told {
    let words = words(text);
    if let Some(bits) = words.strip_prefix(b"encryption too weak ") {
        // What makes no sense is not told: a record says the same when it is read again.
        let bits = number(bits).and_then(|(bits, _)| u16::try_from(bits).ok());
        return Told { verify: None, bits: bits.filter(|bits| *bits <= MAX_BITS) };
    }
    let texts: [(&[u8], Option<&'static str>, Option<u16>); 5] = [
        // `{verify}` is empty: in the clear.
        (b"authentication required", None, Some(0)),
        (b"not authenticated", Some("NO"), None),
        (b"no authentication requested", Some("NOT"), None),
        (b"authentication failed", Some("FAIL"), None),
        (b"other side does not support STARTTLS", Some("NONE"), Some(0)),
    ];
    let found = texts.iter().find(|(text, ..)| words.starts_with(text));
    found.map_or(Told::default(), |(_, verify, bits)| Told { verify: *verify, bits: *bits })
}
