//! From a time stamp to a time, where the stamp does not say all: the year, and the time zone.
//!
//! A traditional stamp has no year. A queue id beside it has: no entry is older than the message that it is about. Once
//! a year is known, each entry lies near the one before it, so that a log may run over New Year. Until then the year is
//! the last in which the stamp does not lie ahead of the reference. An hour that a time zone has twice is its second
//! one where the first would lie before what was logged already.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::Options;
use super::queue_id::QueueId;
use super::stamps::Read;

/// How far clocks may be apart.
const SLACK: SignedDuration = SignedDuration::from_hours(24);
/// Nothing that is nearer than this to the entry before can lie in another year.
const HALF_A_YEAR: SignedDuration = SignedDuration::from_hours(24 * 182);
/// Every date is in one of so many years.
const LEAP: i16 = 8;

/// The clock of one host.
#[derive(Clone, Debug, Default)]
pub(super) struct Clock {
    last: Option<Timestamp>,
    /// Whether the year is known, and not the reference's.
    certain: bool,
    /// Entries of one second have the same stamp.
    cached: Option<(DateTime, Timestamp)>,
}

/// What a stamp comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) at: Timestamp,
    /// Whether the year has become known, and is another than was thought: earlier times have to be read again.
    pub(super) redates: bool,
}

impl Clock {
    /// Reads a stamp, with the queue id beside it.
    pub(super) fn at(&mut self, read: Read, queue_id: Option<QueueId>, options: &Options) -> Option<Reading> {
        let mut redates = false;
        let at = match read {
            Read::At(at) => {
                self.certain = true;
                at
            }
            Read::Local(at) => {
                self.certain = true;
                self.resolve(at, &options.zone)?
            }
            Read::Yearless(date) => match self.cached {
                Some((known, at)) if known == date && self.certain => at,
                _ => {
                    let hint = queue_id.and_then(|id| id.seconds(options.reference));
                    let guessed = self.in_likely_year(date, options);
                    let at = match hint.filter(|_| !self.certain) {
                        Some(hint) => {
                            let known = self.from(date, hint, options);
                            self.certain = known.is_some();
                            redates = self.last.is_some() && known.is_some() && known != guessed;
                            known.or(guessed)?
                        }
                        None => guessed?,
                    };
                    self.cached = Some((date, at));
                    at
                }
            },
        };
        self.last = Some(at);
        Some(Reading { at, redates })
    }

    /// Whether any stamp was read.
    pub(super) fn has_begun(&self) -> bool {
        self.last.is_some()
    }

    /// Whether the year is known for sure.
    pub(super) fn is_certain(&self) -> bool {
        self.certain
    }

    /// The first year in which it does not lie before this time.
    fn from(&self, date: DateTime, seconds: i64, options: &Options) -> Option<Timestamp> {
        let earliest = Timestamp::from_second(seconds).ok()?.checked_sub(SLACK).ok()?;
        let first = year_of(earliest);
        let years = first - 1..=first + LEAP;
        years.filter_map(|year| self.in_year(date, year, options)).find(|at| *at >= earliest)
    }

    /// A time that was read before the year was known.
    pub(super) fn redate(&self, at: Timestamp, options: &Options) -> Timestamp {
        self.in_likely_year(options.zone.to_datetime(at), options).unwrap_or(at)
    }

    /// Near to the entry before; else the last that does not lie ahead.
    fn in_likely_year(&self, date: DateTime, options: &Options) -> Option<Timestamp> {
        let in_year = |year| self.in_year(date, year, options);
        let latest = options.reference.checked_add(SLACK).ok()?;
        let possible = |at: &Timestamp| self.certain || *at <= latest;
        match self.last {
            Some(last) => {
                let year = year_of(last);
                let near = |at: &Timestamp| possible(at) && at.duration_since(last).abs() < HALF_A_YEAR;
                in_year(year).filter(near).or_else(|| {
                    let years = (year - LEAP..=year + 1).filter_map(in_year).filter(possible);
                    years.min_by_key(|at| at.duration_since(last).abs())
                })
            }
            None => {
                let last = year_of(latest) + 1;
                (last - LEAP..=last).rev().filter_map(in_year).find(possible)
            }
        }
    }

    fn in_year(&self, date: DateTime, year: i16, options: &Options) -> Option<Timestamp> {
        let day = Date::new(year, date.month(), date.day()).ok()?;
        self.resolve(DateTime::from_parts(day, date.time()), &options.zone)
    }

    fn resolve(&self, at: DateTime, zone: &TimeZone) -> Option<Timestamp> {
        let found = zone.to_ambiguous_timestamp(at);
        let fold = found.is_ambiguous().then(|| found.later().ok()).flatten();
        let first = found.compatible().ok()?;
        Some(match (fold, self.last) {
            (Some(second), Some(last))
                if first < last && second.duration_since(last).abs() < last.duration_since(first) =>
            {
                second
            }
            _ => first,
        })
    }
}

fn year_of(at: Timestamp) -> i16 {
    jiff::tz::Offset::UTC.to_datetime(at).year()
}

#[cfg(test)]
mod tests {
    use super::super::header::{is_syslog, line, stamp_of};
    use super::super::stamps::Stamps;
    use super::*;

    fn options(reference: &str) -> Options {
        Options {
            recipients: false,
            deliveries: false,
            zone: TimeZone::UTC,
            reference: reference.parse().unwrap(),
        }
    }

    /// The times of these stamps, one after the other.
    fn times(stamps: &[&str], options: &Options) -> Vec<String> {
        let mut clock = Clock::default();
        let mut time = |stamp: &&str| {
            let text = format!("{stamp} vm sm-mta[1]: x");
            let read = line(text.as_bytes(), &Stamps::default())?.stamp.read()?;
            Some(clock.at(read, None, options)?.at.to_string())
        };
        stamps.iter().map(|stamp| time(stamp).unwrap_or_default()).collect()
    }

    #[test]
    fn stamps() {
        let at = options("2026-12-31T00:00:00Z");
        for (stamp, time) in [
            ("2026-11-22T02:07:27.577841+00:00", "2026-11-22T02:07:27.577841Z"),
            ("2026-11-22T02:07:27+0130", "2026-11-22T00:37:27Z"),
            ("2026-11-22T02:07:27-05", "2026-11-22T07:07:27Z"),
            ("2026-11-22T02:07:27,5Z", "2026-11-22T02:07:27.5Z"),
            ("2026-11-22T02:07:27", "2026-11-22T02:07:27Z"),
            ("2026-12-31T23:59:60Z", "2026-12-31T23:59:59Z"),
            ("Nov 22 02:07:27", "2026-11-22T02:07:27Z"),
            ("Nov  2 02:07:27", "2026-11-02T02:07:27Z"),
            ("Nov 02 02:07:27", "2026-11-02T02:07:27Z"),
            ("<22>Nov  2 02:07:27", "2026-11-02T02:07:27Z"),
            ("Nov  2 02:07:27.577841", "2026-11-02T02:07:27Z"),
            ("Feb 29 02:07:27", "2024-02-29T02:07:27Z"),
            ("Feb 30 02:07:27", ""),
            ("Nov 22 24:07:27", ""),
            ("2026-13-22T02:07:27Z", ""),
            ("2026-11-22T02:07:27+x", ""),
            ("9999-12-30T22:00:00-01:00", ""),
        ] {
            assert_eq!(times(&[stamp], &at), [time], "{stamp}");
            assert_eq!(is_syslog(format!("{stamp} vm x").as_bytes()), !time.is_empty(), "{stamp}");
        }
        for text in ["{\"ts\":\"2026-11-22T02:07:27Z\"}", "", "<22>", "Nov 22", "2026-11-22T02:07:27Z"] {
            assert!(!is_syslog(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn the_order_of_rfc_5424() {
        let text = "<22>1 2026-11-22T02:07:27.5Z vm sm-mta 20552 - - NOQUEUE: connect from x";
        let read = line(text.as_bytes(), &Stamps::default()).unwrap();
        assert_eq!(
            (read.host, read.tag, read.pid, read.content),
            (&b"vm"[..], &b"sm-mta"[..], 20552, &b"NOQUEUE: connect from x"[..])
        );
        let text = "Nov 22 02:07:27 sun sendmail[1]: [ID 801593 mail.info] NOQUEUE: connect from x";
        assert_eq!(line(text.as_bytes(), &Stamps::default()).unwrap().content, b"NOQUEUE: connect from x");
    }

    #[test]
    fn over_new_year() {
        let stamps =
            ["Dec 31 23:59:59", "Jan  1 00:00:00", "Dec 31 23:59:58", "Jul  1 00:00:00", "Dec  1 00:00:00"];
        // What lies ahead of the reference was last year.
        assert_eq!(
            times(&stamps, &options("2027-01-01T06:00:00Z")),
            [
                "2026-12-31T23:59:59Z",
                "2027-01-01T00:00:00Z",
                "2026-12-31T23:59:58Z",
                "2026-07-01T00:00:00Z",
                "2026-12-01T00:00:00Z"
            ]
        );
        // Once the year is known, what comes is near to what came.
        let known = [
            "2020-12-31T23:59:58Z",
            "Dec 31 23:59:59",
            "Jan  9 00:00:00",
            "Jul  9 00:00:00",
            "Dec 31 23:59:59",
            "Jan  2 00:00:00",
        ];
        assert_eq!(
            times(&known, &options("2027-01-01T06:00:00Z"))[1..],
            [
                "2020-12-31T23:59:59Z",
                "2021-01-09T00:00:00Z",
                "2021-07-09T00:00:00Z",
                "2021-12-31T23:59:59Z",
                "2022-01-02T00:00:00Z"
            ]
        );
    }

    #[test]
    fn a_queue_id_tells_the_year() {
        let options = options("2026-12-31T00:00:00Z");
        let text = "Jan  3 00:00:00 vm sm-mta[1]: 3BU27Tre020552: to=<a@x>, delay=4+00:00:00";
        // Its message came on 30 December 2023.
        let (at, host) = stamp_of(text.as_bytes(), &options).unwrap();
        assert_eq!((at.to_string().as_str(), &*host), ("2024-01-03T00:00:00Z", "vm"));
        // A line behind it tells it too.
        let lines = format!("Jan  2 23:59:00 vm sm-mta[1]: NOQUEUE: connect from x\n{text}");
        let (at, _) = stamp_of(lines.as_bytes(), &options).unwrap();
        assert_eq!(at.to_string(), "2024-01-02T23:59:00Z");
        // What looks like one in another program's entry does not count.
        let others = text.replace("sm-mta", "postfix/qmgr");
        let (at, _) = stamp_of(others.as_bytes(), &options).unwrap();
        assert_eq!(at.to_string(), "2026-01-03T00:00:00Z");
        let mut clock = Clock::default();
        let read = |text: &str| line(text.as_bytes(), &Stamps::default()).unwrap().stamp.read().unwrap();
        clock.at(read("Jan  3 00:00:00 vm sm-mta[1]: x"), None, &options).unwrap();
        let reading = clock.at(read(text), QueueId::parse(b"3BU27Tre020552"), &options).unwrap();
        assert!(reading.redates && clock.is_certain());
        let before = "2026-01-02T00:00:00Z".parse().unwrap();
        assert_eq!(clock.redate(before, &options).to_string(), "2024-01-02T00:00:00Z");
    }

    #[test]
    fn an_hour_that_is_there_twice() {
        // 25 October 2026, 03:00 becomes 02:00: an hour ahead of UTC from then on.
        let transition = "STD-1DST,M3.5.0,M10.5.0/3";
        let options =
            Options { zone: TimeZone::posix(transition).unwrap(), ..options("2026-12-31T00:00:00Z") };
        assert_eq!(
            times(
                &[
                    "Oct 25 01:59:59",
                    "Oct 25 02:30:00",
                    "Oct 25 02:59:59",
                    "Oct 25 02:00:01",
                    "Oct 25 02:30:00",
                    "Oct 25 03:00:00"
                ],
                &options
            ),
            [
                "2026-10-24T23:59:59Z",
                "2026-10-25T00:30:00Z",
                "2026-10-25T00:59:59Z",
                "2026-10-25T01:00:01Z",
                "2026-10-25T01:30:00Z",
                "2026-10-25T02:00:00Z"
            ]
        );
    }
}
