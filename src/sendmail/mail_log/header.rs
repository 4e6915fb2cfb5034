//! What syslog puts before an entry: the time, the host, the program and its process.
//!
//! Takes what rsyslog, syslog-ng, journalctl (`short`, `short-iso` and both `-precise`) and older systems write: a time stamp of ISO 8601 or
//! the traditional one, an optional `<PRI>` before it, RFC 5424's order, Solaris' `[ID …]`. Promises: any bytes will do;
//! nothing is copied, and a time stamp is only reckoned where it is asked for.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;
use std::borrow::Cow;

use super::clock::Clock;
use super::queue_id::QueueId;
use super::scan::position;
use super::{Options, entry, is_of_others};
use crate::policy::facts::text;
use crate::policy::stamp::{self, Following};

/// `Nov  2 02:07:29`
const TRADITIONAL: usize = 15;
/// `2026-11-22T02:07:27`
const ISO: usize = 19;

/// One line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'l> {
    pub(super) stamp: Stamp<'l>,
    pub(super) host: &'l [u8],
    /// The program's name, which can be anything.
    pub(super) tag: &'l [u8],
    pub(super) pid: u32,
    /// What the program said.
    pub(super) content: &'l [u8],
}

/// A time stamp as it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamp<'l> {
    Iso(&'l [u8]),
    Traditional(&'l [u8]),
}

/// A time stamp that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// It says all.
    At(Timestamp),
    /// It does not say in which time zone.
    Local(DateTime),
    /// Nor in which year: that of this time does not count.
    Yearless(DateTime),
}

/// Takes a line apart; nothing where it is none of a program that told its process.
pub(super) fn line(line: &[u8]) -> Option<Line<'_>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (stamp, rest, ordered) = stamp(line)?;
    let (host, rest) = word(rest)?;
    if ordered {
        return rfc5424(stamp, host, rest);
    }
    let open = rest.iter().position(|byte| matches!(byte, b'[' | b' ' | b':'))?;
    let (tag, rest) = rest.split_at_checked(open)?;
    let rest = rest.strip_prefix(b"[")?;
    let (pid, rest) = number(rest)?;
    let content = rest.strip_prefix(b"]: ")?;
    // Solaris: `[ID 801593 mail.info] `
    let content = match content.strip_prefix(b"[ID ") {
        Some(id) => id.get(position(b']', id)? + 2..)?,
        None => content,
    };
    Some(Line { stamp, host, tag, pid, content })
}

/// `app pid msgid - content`
fn rfc5424<'l>(stamp: Stamp<'l>, host: &'l [u8], rest: &'l [u8]) -> Option<Line<'l>> {
    let (tag, rest) = word(rest)?;
    let (pid, rest) = number(rest)?;
    let (_message_id, rest) = word(rest.strip_prefix(b" ")?)?;
    let content = rest.strip_prefix(b"- ")?;
    let content = content.strip_prefix("\u{feff}".as_bytes()).unwrap_or(content);
    Some(Line { stamp, host, tag, pid, content })
}

/// The time stamp, what follows it, and whether that is in RFC 5424's order.
fn stamp(line: &[u8]) -> Option<(Stamp<'_>, &[u8], bool)> {
    let (line, had_priority) = match line.strip_prefix(b"<") {
        Some(rest) => {
            let (_, rest) = number(rest)?;
            (rest.strip_prefix(b">")?, true)
        }
        None => (line, false),
    };
    let (line, ordered) = match line.strip_prefix(b"1 ") {
        Some(rest) if had_priority => (rest, true),
        _ => (line, false),
    };
    if let [_, _, _, b' ', _, _, b' ', _, _, b':', _, _, b':', ..] = line {
        let (stamp, rest) = line.split_at_checked(TRADITIONAL)?;
        // journalctl's `short-precise` has microseconds.
        let (_, rest) = fraction(rest)?;
        return Some((Stamp::Traditional(stamp), rest.strip_prefix(b" ")?, false));
    }
    if let [_, _, _, _, b'-', _, _, b'-', _, _, b'T' | b't', _, _, b':', _, _, b':', ..] = line {
        let (stamp, rest) = word(line)?;
        return Some((Stamp::Iso(stamp), rest, ordered));
    }
    None
}

impl Stamp<'_> {
    /// Reads it; nothing where it is no time.
    pub(super) fn read(self) -> Option<Read> {
        self.read_behind(&mut Following::default())
    }

    /// Reads it, behind those of the same log.
    pub(super) fn read_behind(self, stamps: &mut Following) -> Option<Read> {
        match self {
            Self::Iso(stamp) => {
                // As rsyslog writes it.
                if let Some((at, zone)) = stamp.split_at_checked(stamp::LENGTH)
                    && matches!(zone, b"+00:00" | b"Z")
                    && let Some(at) = stamps.utc(at)
                {
                    return Some(Read::At(at));
                }
                let (at, zone) = stamp.split_at_checked(ISO)?;
                let digits = |from: usize, length: usize| digits(at.get(from..from + length)?);
                let date = Date::new(digits(0, 4)?, i8(digits(5, 2)?)?, i8(digits(8, 2)?)?).ok()?;
                let (second, zone) = (i8(digits(17, 2)?)?, zone);
                let (nanos, zone) = fraction(zone)?;
                // A leap second has no place of its own.
                let time = Time::new(i8(digits(11, 2)?)?, i8(digits(14, 2)?)?, second.min(59), nanos);
                let at = DateTime::from_parts(date, time.ok()?);
                if zone.is_empty() {
                    return Some(Read::Local(at));
                }
                let utc = Offset::UTC.to_timestamp(at).ok()?;
                match offset(zone)? {
                    0 => Some(Read::At(utc)),
                    offset => utc.checked_sub(jiff::SignedDuration::from_secs(offset)).ok().map(Read::At),
                }
            }
            Self::Traditional(stamp) => {
                let month = MONTHS.iter().position(|month| stamp.starts_with(month))?;
                let part = |from: usize| i8(digits(stamp.get(from..from + 2)?)?);
                let day = match stamp.get(4) {
                    Some(b' ') => i8(digits(stamp.get(5..6)?)?)?,
                    _ => part(4)?,
                };
                // A year that has a 29 February.
                let date = Date::new(2000, i8::try_from(month).ok()? + 1, day).ok()?;
                let time = Time::new(part(7)?, part(10)?, part(13)?.min(59), 0).ok()?;
                Some(Read::Yearless(DateTime::from_parts(date, time)))
            }
        }
    }
}

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

fn i8(number: i16) -> Option<i8> {
    i8::try_from(number).ok()
}

fn digits(text: &[u8]) -> Option<i16> {
    text.iter().try_fold(0i16, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| i16::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// `.123456` or `,123`, in nanoseconds.
fn fraction(text: &[u8]) -> Option<(i32, &[u8])> {
    let [b'.' | b',', rest @ ..] = text else { return Some((0, text)) };
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (fraction, rest) = rest.split_at_checked(length)?;
    let digits = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    Some((digits.fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0')), rest))
}

/// `Z`, `+00:00`, `-0330`, `+02`, in seconds.
fn offset(zone: &[u8]) -> Option<i64> {
    let (sign, zone) = match zone {
        b"Z" | b"z" => return Some(0),
        [b'+', zone @ ..] => (1, zone),
        [b'-', zone @ ..] => (-1, zone),
        _ => return None,
    };
    let (hours, rest) = zone.split_at_checked(2)?;
    let minutes = rest.strip_prefix(b":").unwrap_or(rest);
    let minutes = if minutes.is_empty() { 0 } else { digits(minutes).filter(|_| minutes.len() == 2)? };
    Some(sign * (i64::from(digits(hours)?) * 3600 + i64::from(minutes) * 60))
}

/// Up to the next blank, and what is behind it.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = position(b' ', text).filter(|end| *end > 0)?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

/// A number at the beginning, and what is behind it.
pub(super) fn number(text: &[u8]) -> Option<(u32, &[u8])> {
    let (mut number, mut length) = (0u32, 0);
    // One digit more than there may be.
    for byte in text.iter().take(10).take_while(|byte| byte.is_ascii_digit()) {
        number = number.wrapping_mul(10).wrapping_add(u32::from(byte - b'0'));
        length += 1;
    }
    Some((number, text.get(length..)?)).filter(|_| (1..=9).contains(&length))
}

/// The time stamp and the host of the first of these lines, to sort rotated files by; nothing where it is none of
/// syslog's. Its year may be told by a line behind it.
pub fn stamp_of<'l>(lines: &'l [u8], options: &Options) -> Option<(Timestamp, Cow<'l, str>)> {
    let mut lines = lines.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let (found, rest, _) = stamp(first)?;
    let (host, _) = word(rest)?;
    let mut clock = Clock::default();
    let mut at = clock.at(found.read()?, own_queue_id(first), options)?.at;
    for line in lines {
        if clock.is_certain() {
            break;
        }
        let told = own_queue_id(line).zip(stamp(line).and_then(|(found, ..)| found.read()));
        let reading = told.and_then(|(queue_id, read)| clock.at(read, Some(queue_id), options));
        if reading.is_some_and(|reading| reading.redates) {
            at = clock.redate(at, options);
        }
    }
    Some((at, text(host)))
}

/// The queue id of an entry of sendmail's. Other programs' may look like one, and tell no year.
fn own_queue_id(line: &[u8]) -> Option<QueueId> {
    let line = self::line(line).filter(|line| !is_of_others(line.tag))?;
    entry::queue_id(line.content).map(|(id, ..)| id)
}

/// Whether a line looks as syslog writes it: to tell a mail log from anything else.
pub fn is_syslog(line: &[u8]) -> bool {
    stamp(line).is_some_and(|(found, rest, _)| found.read().is_some() && word(rest).is_some())
}
