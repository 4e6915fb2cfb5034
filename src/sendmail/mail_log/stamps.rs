//! Time stamps of syslog: of ISO 8601, or the traditional ones, which do not say all.
//!
//! Promises: any bytes will do; a stamp is only reckoned where it is asked for, or where that is done with a look; one
//! that is read behind others ([`Stamps`]) is read as if it stood alone.

use super::header::word;
use super::scan::{eight_digits, number};
use crate::policy::stamp;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;

/// `Nov  2 02:07:29`
const TRADITIONAL: usize = 15;
/// `2026-11-22T02:07:27`
const ISO: usize = 19;
/// `2026-11-22T02:07:`
const MINUTE: usize = 17;
/// `27.577841`
const SECONDS: usize = 9;
/// `+01:00 `
const ZONE: usize = 7;

/// A time stamp as it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamp<'l> {
    Iso(&'l [u8]),
    Traditional(&'l [u8]),
    /// Of the minute of the one before: it was read with a look.
    Known(Timestamp),
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

/// Time stamps of a log, one behind another: most are of the minute of the one before.
#[derive(Clone, Debug, Default)]
pub(super) struct Stamps {
    minute: Option<Minute>,
    /// A traditional stamp, and what it says.
    second: Option<([u8; TRADITIONAL], Read)>,
}

/// A minute as rsyslog writes it, and when it began.
#[derive(Clone, Copy, Debug)]
struct Minute {
    text: [u8; MINUTE],
    /// With the blank behind it.
    zone: [u8; ZONE],
    begin: i64,
}

impl Stamps {
    /// The time stamp of a line, what follows it, and whether that is in RFC 5424's order.
    #[inline]
    pub(super) fn of<'l>(&self, line: &'l [u8]) -> Option<(Stamp<'l>, &'l [u8], bool)> {
        match self.known(line) {
            Some((at, rest)) => Some((Stamp::Known(at), rest, false)),
            None => stamp(line),
        }
    }

    #[inline]
    fn known<'l>(&self, line: &'l [u8]) -> Option<(Timestamp, &'l [u8])> {
        let Minute { text, zone, begin } = self.minute.as_ref()?;
        let (minute, rest) = line.split_first_chunk::<MINUTE>()?;
        let (&[s1, s0, b'.', f5, f4, f3, f2, f1, f0], rest) = rest.split_first_chunk::<SECONDS>()? else {
            return None;
        };
        let (told, rest) = rest.split_first_chunk::<ZONE>()?;
        let micros = eight_digits([s1, s0, f5, f4, f3, f2, f1, f0])?;
        let (second, micros) = (micros / 1_000_000, micros % 1_000_000);
        if minute != text || told != zone || second >= 60 {
            return None;
        }
        let at = Timestamp::new(begin + i64::from(second), i32::try_from(micros * 1000).ok()?).ok()?;
        Some((at, rest))
    }

    /// Reads a stamp; nothing where it is no time.
    #[inline]
    pub(super) fn read(&mut self, stamp: Stamp<'_>) -> Option<Read> {
        match stamp {
            Stamp::Known(at) => Some(Read::At(at)),
            Stamp::Iso(stamp) => {
                let read = iso(stamp)?;
                self.minute = minute(stamp, read).or(self.minute);
                Some(read)
            }
            Stamp::Traditional(stamp) => {
                let text = <[u8; TRADITIONAL]>::try_from(stamp).ok()?;
                if let Some((_, read)) = self.second.filter(|(known, _)| *known == text) {
                    return Some(read);
                }
                let read = traditional(stamp)?;
                self.second = Some((text, read));
                Some(read)
            }
        }
    }
}

impl Stamp<'_> {
    /// Reads one that stands alone.
    pub(super) fn read(self) -> Option<Read> {
        Stamps::default().read(self)
    }
}

/// The minute of a stamp as rsyslog writes it.
fn minute(stamp: &[u8], read: Read) -> Option<Minute> {
    let Read::At(at) = read else { return None };
    let (text, rest) = stamp.split_first_chunk()?;
    let (&[s1, s0, b'.', ..], zone) = rest.split_first_chunk::<SECONDS>()? else { return None };
    let &[sign, h1, h0, b':', m1, m0] = zone else { return None };
    let second = i64::from(digits(&[s1, s0])?);
    // Before 1970 fractions count backwards; a leap second has no place of its own.
    let usual = at >= Timestamp::UNIX_EPOCH && second < 60;
    let begin = at.as_second() - second;
    usual.then_some(Minute { text: *text, zone: [sign, h1, h0, b':', m1, m0, b' '], begin })
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

fn iso(stamp: &[u8]) -> Option<Read> {
    // As rsyslog writes it.
    if let Some((at, b"+00:00" | b"Z")) = stamp.split_at_checked(stamp::LENGTH)
        && let Some(at) = stamp::utc(at)
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

fn traditional(stamp: &[u8]) -> Option<Read> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zone() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["+00:00", "+00:00", "+01:00", "-09:30", "Z", "+0000", ""])
    }

    proptest! {
        #[test]
        fn one_behind_another_is_read_as_alone(
            begin in -3_000_000_000i64..250_000_000_000,
            behind in prop::collection::vec(
                (-90_000_000i64..90_000_000, 0..60usize, any::<u8>(), zone(), any::<bool>()),
                1..20,
            ),
        ) {
            let mut stamps = Stamps::default();
            for (micros, place, byte, zone, traditional) in behind {
                let at = Timestamp::from_microsecond(begin * 1_000_000 + micros).unwrap();
                let mut line = if traditional {
                    at.strftime("%b %e %H:%M:%S vm x").to_string().into_bytes()
                } else {
                    format!("{at:.6}").replace('Z', &format!("{zone} vm x")).into_bytes()
                };
                for _ in 0..2 {
                    let alone = stamp(&line).and_then(|(stamp, rest, _)| Some((stamp.read()?, rest)));
                    let found = stamps.of(&line);
                    let read = found.and_then(|(stamp, rest, _)| Some((stamps.read(stamp)?, rest)));
                    prop_assert_eq!(read, alone, "{}", String::from_utf8_lossy(&line));
                    prop_assert_eq!(found.is_some(), stamp(&line).is_some());
                    if let Some(damaged) = line.get_mut(place) {
                        *damaged = byte;
                    }
                }
            }
        }
    }

    #[test]
    fn most_are_read_with_a_look() {
        for zone in ["+00:00", "-09:30"] {
            let mut stamps = Stamps::default();
            let first = format!("2026-11-22T02:07:27.577841{zone} vm x");
            let (read, ..) = stamps.of(first.as_bytes()).unwrap();
            assert!(matches!(read, Stamp::Iso(_)) && stamps.read(read).is_some());
            let second = format!("2026-11-22T02:07:59.000001{zone} vm x");
            assert!(matches!(stamps.of(second.as_bytes()).unwrap(), (Stamp::Known(_), b"vm x", false)));
        }
    }
}
