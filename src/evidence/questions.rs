//! What is asked of the evidence, and the answers as plain values.
//!
//! Promises: each question is one pass over the counts, grouped by SQLite; whether a demand would be met is said by
//! [`Requirement::check`](crate::policy::requirement::Requirement::check) alone, over facts made of the counts. The
//! answers' fields are the keys of `report --json`. Must not: write, or know how an answer is shown.

pub mod events;
pub mod exposure;
pub mod hosts;
pub mod rules;

use super::rollup::Session;
use super::store::{Store, StoreError};
use crate::policy::Day;
use crate::policy::facts::Direction;
use crate::policy::record::Record;
use rusqlite::{Params, Row};
use std::borrow::Cow;

/// The days that are asked about, both inclusive; open where nothing is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Period {
    /// The first.
    pub since: Option<Day>,
    /// The last.
    pub until: Option<Day>,
}

impl Period {
    /// The days as the store writes them, to compare with.
    fn days(self) -> [String; 2] {
        let text = |day: Option<Day>, open: &str| day.map_or_else(|| open.to_owned(), |day| day.to_string());
        [text(self.since, "0000"), text(self.until, "9999")]
    }

    /// The first second and the first one after it.
    fn seconds(self) -> [i64; 2] {
        let start = |day: Day| day.0.saturating_mul(86_400);
        [
            self.since.map_or(i64::MIN, start),
            self.until.map_or(i64::MAX, |day| start(Day(day.0.saturating_add(1)))),
        ]
    }
}

/// `messages`, to be put before a question: what was held against each rule, by message where the tables count by side.
///
/// A rule with keys on two sides has two rows of a message that both match, and nothing joins them again. So there are
/// two numbers. `least` many there were for certain: as many as on the side with most of them, and as many as the
/// rule decided, for one side alone decides a message. `most` there may have been: no message twice on one side, and
/// no more than there were decisions on that peer in that session on that day, whichever rule decided them. Where
/// only one side was met both are the same.
pub(super) const MESSAGES: &str = "
    WITH messages AS (
      SELECT *, CASE WHEN held = least THEN least ELSE min(held, coalesce(
               (SELECT sum(every.count) FROM decision_counts AS every
                WHERE every.day = by_side.day AND every.known_by = by_side.known_by
                  AND every.domain = by_side.domain AND every.network = by_side.network
                  AND every.direction = by_side.direction AND every.version = by_side.version
                  AND every.cipher = by_side.cipher AND every.bits = by_side.bits
                  AND every.verify = by_side.verify AND every.decided = 1), held)) END AS most
      FROM (SELECT rule, day, known_by, domain, network, direction, version, cipher, bits, verify,
                   observe, soft_fail, enforce, verdict = 'exempt' AS exempt, max(last) AS last, sum(count) AS held,
                   max(coalesce(sum(count) FILTER (WHERE side = 'client'), 0),
                       coalesce(sum(count) FILTER (WHERE side = 'sender'), 0),
                       coalesce(sum(count) FILTER (WHERE side = 'recipient'), 0),
                       coalesce(sum(count) FILTER (WHERE side = 'server'), 0),
                       coalesce(sum(count) FILTER (WHERE side = 'recipient-outbound'), 0),
                       coalesce(sum(count) FILTER (WHERE decided = 1), 0)) AS least
            FROM decision_counts WHERE rule <> ''
            GROUP BY rule, day, known_by, domain, network, direction, version, cipher, bits, verify,
                     observe, soft_fail, enforce, verdict = 'exempt') AS by_side) ";

/// How much evidence there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Extent {
    /// Decisions in the days that were asked about.
    pub decisions: u64,
    /// The first of these days with a decision.
    pub first_day: Option<String>,
    /// The last one.
    pub last_day: Option<String>,
}

/// How much evidence there is.
pub fn extent(store: &Store, period: Period) -> Result<Extent, StoreError> {
    const QUESTION: &str = "SELECT coalesce(sum(count), 0), min(day), max(day) FROM decision_counts \
                            WHERE decided = 1 AND day BETWEEN ?1 AND ?2";
    let mut extent = Extent::default();
    each(store, QUESTION, period.days(), |row| {
        extent = Extent { decisions: row.get(0)?, first_day: row.get(1)?, last_day: row.get(2)? };
        Ok(())
    })?;
    Ok(extent)
}

/// Asks, and hands on every row of the answer.
fn each(
    store: &Store,
    question: &str,
    parameters: impl Params,
    mut take: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> Result<(), StoreError> {
    let ask = || {
        let mut statement = store.connection().prepare(question)?;
        let mut rows = statement.query(parameters)?;
        while let Some(row) = rows.next()? {
            take(row)?;
        }
        Ok(())
    };
    ask().map_err(|error| store.error(error))
}

/// `direction, version, cipher, bits, verify`, from a column on.
fn session(row: &Row<'_>, from: usize) -> rusqlite::Result<Session> {
    let word = |column: usize| row.get::<_, String>(from + column).map(Cow::Owned);
    // -1 where the MTA did not tell.
    let bits = u16::try_from(row.get::<_, i64>(from + 3)?).ok();
    Ok(Session { direction: word(0)?, version: word(1)?, cipher: word(2)?, bits, verify: word(4)? })
}

/// A session as a record tells it, for its [`Record::facts`].
pub fn record_of(session: &Session) -> Record<'_> {
    told_record(&session.direction, &session.version, &session.cipher, session.bits, &session.verify)
}

/// The same of the columns of a count.
pub(super) fn told_record<'a>(
    direction: &str,
    version: &'a str,
    cipher: &'a str,
    bits: Option<u16>,
    verify: &'a str,
) -> Record<'a> {
    let told = |word: &'a str| (!word.is_empty()).then_some(Cow::Borrowed(word));
    // Bits without TLS are those of a SASL layer.
    let is_tls = !version.is_empty() || !cipher.is_empty();
    let (cipher_bits, auth_ssf) = match bits {
        Some(bits) if !is_tls => (Some(0), Some(bits).filter(|bits| *bits > 0)),
        bits => (bits, None),
    };
    Record {
        direction: direction_of(direction),
        tls_version: told(version),
        cipher: told(cipher),
        cipher_bits,
        auth_ssf,
        verify: told(verify),
        ..Record::default()
    }
}

fn direction_of(word: &str) -> Direction {
    if word == Direction::Outbound.as_str() { Direction::Outbound } else { Direction::Inbound }
}

/// A time of the store.
fn time(seconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(seconds).unwrap_or_default()
}
