//! sendmail's queue ids, which tell when the process that made them began to make any.
//!
//! Since 8.12 an id is year, month, day, hour, minute and second (in UTC, a digit of base 60 each), a running
//! number of two such digits, and the process id in five digits or more. All ids of a process have the time of its
//! first one, some thousands of messages long: that of a session is made as the session begins, before any STARTTLS.

use super::scan::digits;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// sendmail's digits.
const DIGITS: &[u8; 60] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwx";
/// Before the process id.
const FIXED: usize = 8;
/// The longest: a process id of eight digits.
const MAX: usize = 16;
/// The digits that tell the time.
const STAMP: usize = 6;
/// Years count from here, and so many of them have a digit.
const EPOCH: i16 = 1900;
const TURN: i16 = 60;

/// A queue id, padded with zero bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct QueueId([u8; MAX]);

impl QueueId {
    /// Reads the one that a text begins with, and what is behind it; nothing where there is no such id, or where it goes on
    /// in letters or digits.
    pub(super) fn at_beginning(text: &[u8]) -> Option<(Self, &[u8])> {
        let (head, rest) = text.split_first_chunk::<FIXED>()?;
        // Most entries that have none are told by this byte alone.
        let pid = digits(rest);
        if pid < 5 || head.iter().any(|byte| !matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'x')) {
            return None;
        }
        let rest = rest.get(pid..)?;
        if rest.first().is_some_and(u8::is_ascii_alphanumeric) {
            return None;
        }
        let length = FIXED + pid;
        let id = match text.first_chunk::<MAX>() {
            Some(id) => u128::from_le_bytes(*id) & (u128::MAX >> (8 * (MAX - length))),
            None => text.iter().take(length).rev().fold(0, |id, byte| (id << 8) | u128::from(*byte)),
        };
        Some((Self(id.to_le_bytes()), rest))
    }

    /// Reads one; nothing for what has not the form of one.
    #[cfg(test)]
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        Self::at_beginning(text).filter(|(_, rest)| rest.is_empty()).map(|(id, _)| id)
    }

    /// As it is written.
    pub(super) fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(MAX);
        // Letters and digits, as `parse` has seen to.
        self.0.get(..length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }

    /// The time in it, in seconds since 1970. It repeats every sixty years: the one nearest to `about` is meant.
    pub(super) fn seconds(&self, about: Timestamp) -> Option<i64> {
        let mut fields = [0i8; STAMP];
        for (field, byte) in fields.iter_mut().zip(self.0) {
            *field = i8::try_from(digit(byte)?).ok()?;
        }
        let [year, month, day, hour, minute, second] = fields;
        let first = EPOCH + i16::from(year);
        let now = Offset::UTC.to_datetime(about).year();
        let year = first + (now - first + TURN / 2).div_euclid(TURN) * TURN;
        let at = DateTime::new(year, month + 1, day, hour, minute, second.min(59), 0).ok()?;
        Some(Offset::UTC.to_timestamp(at).ok()?.as_second())
    }

    /// Whether it was made after this: ids of thirty years sort as text.
    pub(super) fn is_after(&self, stamp: IdStamp) -> bool {
        let [first, ..] = stamp.0;
        let year = |byte| digit(byte).unwrap_or_default();
        match (year(self.0[0]) + DIGITS.len() - year(first)) % DIGITS.len() {
            0 => self.0[..STAMP] > stamp.0[..],
            years => years < DIGITS.len() / 2,
        }
    }
}

/// What a digit stands for: its place in [`DIGITS`].
fn digit(byte: u8) -> Option<usize> {
    let number = match byte {
        b'0'..=b'9' => byte - b'0',
        b'A'..=b'Z' => byte - b'A' + 10,
        b'a'..=b'x' => byte - b'a' + 36,
        _ => return None,
    };
    Some(number.into())
}

/// A time as queue ids have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct IdStamp([u8; STAMP]);

impl IdStamp {
    pub(super) fn of(at: Timestamp) -> Self {
        let at = Offset::UTC.to_datetime(at);
        let year = i8::try_from((at.year() - EPOCH).rem_euclid(TURN)).unwrap_or_default();
        let fields = [year, at.month() - 1, at.day(), at.hour(), at.minute(), at.second()];
        let digit = |field: i8| usize::try_from(field).ok().and_then(|field| DIGITS.get(field)).copied();
        Self(fields.map(|field| digit(field).unwrap_or(b'0')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_its_time() {
        // 2026-11-22T02:07:29Z
        let id = QueueId::parse(b"6AM27Tre020552").unwrap();
        assert_eq!(id.as_str(), "6AM27Tre020552");
        let about = |seconds| Timestamp::from_second(seconds).unwrap();
        for near in [1_795_000_000, 1_000_000_000, 1_795_313_249] {
            assert_eq!(id.seconds(about(near)), Some(1_795_313_249));
        }
        // Sixty years before, in a log of 1970.
        assert_eq!(id.seconds(about(0)), Some(-98_142_751));
        // 30 February is none.
        assert_eq!(QueueId::parse(b"61U27Tre020552").unwrap().seconds(about(0)), None);
    }

    #[test]
    fn ids_sort_by_time() {
        let at = |time: &str| IdStamp::of(time.parse().unwrap());
        assert_eq!(at("2026-11-22T02:07:29.9Z"), IdStamp(*b"6AM27T"));
        for (id, time, after) in [
            ("6AM27Tre020552", "2026-11-22T02:07:28Z", true),
            ("6AM27Tre020552", "2026-11-22T02:07:29Z", false),
            ("6AM27Tre020552", "2026-11-22T02:07:30Z", false),
            // The year's digit begins anew with 2020.
            ("001000re020552", "2019-12-31T23:59:59Z", true),
            ("xBVNxxre020552", "2020-01-01T00:00:00Z", false),
        ] {
            assert_eq!(QueueId::parse(id.as_bytes()).unwrap().is_after(at(time)), after, "{id} {time}");
        }
    }

    #[test]
    fn digits_are_told_by_their_place() {
        for byte in 0..=u8::MAX {
            assert_eq!(digit(byte), DIGITS.iter().position(|one| *one == byte));
        }
    }

    #[test]
    fn what_is_none() {
        for text in [
            "",
            "6AM27Tre",
            "6AM27Tre0205",
            "6AM27Tre02055x",
            "6AM27yre020552",
            "6AM27Tre020552123",
            "3MLcjV0Vn3z1ppZ",
        ] {
            assert_eq!(QueueId::parse(text.as_bytes()), None, "{text}");
        }
        assert!(QueueId::parse(b"6AM27Tre4194304").is_some());
        assert!(QueueId::parse(b"g2DHKs9e12345").is_some());
    }
}
