//! Time stamps as programs write them by the million: RFC 3339, to the microsecond.
//!
//! Promises: what is read here is what jiff reads of the same text, and what is written is what jiff writes. What is written in any other way, and what is no time
//! (a leap second among that), is left to whoever asks.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use std::ops::Deref;

/// So many bytes, without the zone.
pub const LENGTH: usize = b"2026-11-22T02:07:29.015527".len();

/// Reads `2026-11-22T02:07:29.015527`, a time of UTC.
pub fn utc(text: &[u8]) -> Option<Timestamp> {
    let &[
        y3,
        y2,
        y1,
        y0,
        b'-',
        m1,
        m0,
        b'-',
        d1,
        d0,
        b'T',
        h1,
        h0,
        b':',
        i1,
        i0,
        b':',
        s1,
        s0,
        b'.',
        f5,
        f4,
        f3,
        f2,
        f1,
        f0,
    ] = text
    else {
        return None;
    };
    let digits = [y3, y2, y1, y0, m1, m0, d1, d0, h1, h0, i1, i0, s1, s0, f5, f4, f3, f2, f1, f0];
    if digits.iter().fold(0, |odd, digit| odd | u8::from(!digit.is_ascii_digit())) != 0 {
        return None;
    }
    let two = |tens: u8, ones: u8| i8::try_from((tens & 0xf) * 10 + (ones & 0xf)).unwrap_or_default();
    let number = |digits: &[u8]| digits.iter().fold(0, |sum, digit| sum * 10 + i32::from(digit & 0xf));
    let year = i16::try_from(number(&[y3, y2, y1, y0])).ok()?;
    let nanos = number(&[f5, f4, f3, f2, f1, f0]) * 1000;
    let at = DateTime::new(year, two(m1, m0), two(d1, d0), two(h1, h0), two(i1, i0), two(s1, s0), nanos);
    Offset::UTC.to_timestamp(at.ok()?).ok()
}

/// A time, written: `2026-11-22T02:07:29.015527Z`. To be used as the text that it is.
#[derive(Clone, Debug)]
pub struct Stamp(Written);

#[derive(Clone, Debug)]
enum Written {
    Usual([u8; LENGTH + 1]),
    /// A year that has more than four digits, or a sign.
    Other(String),
}

impl Stamp {
    /// Of a time; what is less than a microsecond is cut off.
    pub fn of(at: Timestamp) -> Self {
        let civil = Offset::UTC.to_datetime(at);
        let Ok(year) = u16::try_from(civil.year()) else { return Self(Written::Other(format!("{at:.6}"))) };
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let mut put = |end: usize, digits: usize, mut number: u32| {
            for place in text.iter_mut().take(end).rev().take(digits) {
                *place = b'0' + u8::try_from(number % 10).unwrap_or_default();
                number /= 10;
            }
        };
        let part = |part: i8| u32::from(part.unsigned_abs());
        put(4, 4, year.into());
        put(7, 2, part(civil.month()));
        put(10, 2, part(civil.day()));
        put(13, 2, part(civil.hour()));
        put(16, 2, part(civil.minute()));
        put(19, 2, part(civil.second()));
        put(26, 6, civil.subsec_nanosecond().unsigned_abs() / 1000);
        Self(Written::Usual(text))
    }
}

impl Deref for Stamp {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            // All ASCII.
            Written::Usual(text) => str::from_utf8(text).unwrap_or_default(),
            Written::Other(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_time_or_written_otherwise_is_left() {
        for text in [
            "2026-02-30T02:07:29.015527",
            "2026-11-22T24:07:29.015527",
            "2026-11-22T02:07:60.015527",
            "2026-11-22T02:07:29.01552",
            "2026-11-22T02:07:29,015527",
            "2026-11-22t02:07:29.015527",
            "2026-11-22T02:07:2/.015527",
            "2026-11-22T02:07:29.0155277",
            "9999-12-31T23:00:00.000000",
        ] {
            assert_eq!(utc(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn jiff_writes_the_same(nanos in -377_705_000_000_000_000_000i128..253_402_207_000_000_000_000) {
            let at = Timestamp::from_nanosecond(nanos).unwrap();
            prop_assert_eq!(&*Stamp::of(at), format!("{at:.6}"));
        }

        #[test]
        fn jiff_reads_the_same(micros in -377_705_000_000_000_000i64..253_402_207_000_000_000) {
            let at = Timestamp::from_microsecond(micros).unwrap();
            let text = format!("{at:.6}");
            match utc(text.trim_end_matches('Z').as_bytes()) {
                Some(read) => prop_assert_eq!(read, at),
                // A year before 0 has a sign.
                None => prop_assert!(text.starts_with('-')),
            }
        }
    }
}
