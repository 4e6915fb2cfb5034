//! What the two tables of counts differ in, and the SQL that is the same of both.
//!
//! Promises: values are bound, never written into SQL.

use crate::evidence::rollup::{Counts, Host, KnownBy, Peer, Ranked, Row, Session, Word};
use rusqlite::types::{FromSqlError, Type, Value};
use rusqlite::{Error, Result};
use std::hash::Hash;

/// Bits that the MTA did not tell.
const NOT_TOLD: i64 = -1;

/// A table of counts: a period, a peer, what is counted together, the counts.
pub(super) trait Table {
    type Peer: Ranked;
    type Row: Eq + Hash;

    const NAME: &'static str;
    const PERIOD: &'static str;
    /// The columns of the peer.
    const PEER: &'static [&'static str];
    /// The columns of what is counted together.
    const ROW: &'static [&'static str];

    /// The peer, from the column on.
    fn peer(row: &rusqlite::Row<'_>, from: usize) -> Result<Self::Peer>;
    fn row(row: &rusqlite::Row<'_>, from: usize) -> Result<Self::Row>;
    fn push_peer(peer: &Self::Peer, values: &mut Vec<Value>);
    fn push_row(row: &Self::Row, values: &mut Vec<Value>);

    fn peer_values(period: &str, peer: &Self::Peer) -> Vec<Value> {
        let mut values = vec![text(period)];
        Self::push_peer(peer, &mut values);
        values
    }

    fn values(period: &str, peer: &Self::Peer, row: &Self::Row) -> Vec<Value> {
        let mut values = Self::peer_values(period, peer);
        Self::push_row(row, &mut values);
        values
    }

    fn count_values(counts: Counts) -> [Value; 3] {
        [i64::try_from(counts.count).unwrap_or(i64::MAX), counts.first, counts.last].map(Value::Integer)
    }

    fn read(row: &rusqlite::Row<'_>) -> Result<(Self::Peer, Self::Row, Counts)> {
        let peers = Self::PEER.len();
        let after = peers + Self::ROW.len();
        let counts = Counts { count: row.get(after)?, first: row.get(after + 1)?, last: row.get(after + 2)? };
        Ok((Self::peer(row, 0)?, Self::row(row, peers)?, counts))
    }

    fn columns() -> String {
        format!("{}, {}, {}, count, first, last", Self::PERIOD, Self::PEER.join(", "), Self::ROW.join(", "))
    }

    fn upsert() -> String {
        let places = vec!["?"; 1 + Self::PEER.len() + Self::ROW.len() + 3].join(", ");
        format!("INSERT INTO {} ({}) VALUES ({places}) {ADD}", Self::NAME, Self::columns())
    }

    /// `period = ?1 AND peer = ?2…`
    fn whose() -> String {
        let peer = Self::PEER.iter().enumerate().map(|(n, column)| format!(" AND {column} = ?{}", n + 2));
        format!("{} = ?1{}", Self::PERIOD, peer.collect::<String>())
    }

    /// Adds a peer's counts to those of another one; the other's columns stand behind the peer's own.
    fn fold() -> String {
        let first = Self::PEER.len() + 2;
        let other: Vec<String> = (first..first + Self::PEER.len()).map(|n| format!("?{n}")).collect();
        format!(
            "INSERT INTO {table} ({columns}) SELECT {period}, {other}, {row}, count, first, last FROM {table} WHERE {whose} {ADD}",
            table = Self::NAME,
            columns = Self::columns(),
            period = Self::PERIOD,
            other = other.join(", "),
            row = Self::ROW.join(", "),
            whose = Self::whose(),
        )
    }

    fn delete_peer() -> String {
        format!("DELETE FROM {} WHERE {}", Self::NAME, Self::whose())
    }

    /// Of a period (1), but for those that are counted together under a domain (2).
    fn distinct_peers() -> String {
        let peer = Self::PEER.join(", ");
        format!("SELECT DISTINCT {peer} FROM {} WHERE {} = ?1 AND domain <> ?2", Self::NAME, Self::PERIOD)
    }

    fn distinct_periods() -> String {
        format!("SELECT DISTINCT {period} FROM {} ORDER BY {period}", Self::NAME, period = Self::PERIOD)
    }

    fn select_period() -> String {
        let (peer, row) = (Self::PEER.join(", "), Self::ROW.join(", "));
        format!("SELECT {peer}, {row}, count, first, last FROM {} WHERE {} = ?1", Self::NAME, Self::PERIOD)
    }
}

const ADD: &str = "ON CONFLICT DO UPDATE SET count = count + excluded.count, \
                   first = min(first, excluded.first), last = max(last, excluded.last)";

/// `decision_counts`
pub(super) struct Decisions;

impl Table for Decisions {
    type Peer = Peer;
    type Row = Row;

    const NAME: &'static str = "decision_counts";
    const PERIOD: &'static str = "day";
    const PEER: &'static [&'static str] = &["known_by", "domain", "network"];
    const ROW: &'static [&'static str] = &[
        "direction",
        "side",
        "rule",
        "key",
        "version",
        "cipher",
        "bits",
        "verify",
        "verdict",
        "disposition",
        "observe",
        "soft_fail",
        "enforce",
        "decided",
    ];

    fn peer(row: &rusqlite::Row<'_>, from: usize) -> Result<Peer> {
        Ok(Peer { known_by: known_by(row, from)?, domain: row.get(from + 1)?, network: row.get(from + 2)? })
    }

    fn row(row: &rusqlite::Row<'_>, from: usize) -> Result<Row> {
        Ok(Row {
            direction: word(row, from)?,
            side: word(row, from + 1)?,
            rule: word(row, from + 2)?,
            key: word(row, from + 3)?,
            version: word(row, from + 4)?,
            cipher: word(row, from + 5)?,
            bits: bits(row, from + 6)?,
            verify: word(row, from + 7)?,
            verdict: word(row, from + 8)?,
            disposition: word(row, from + 9)?,
            modes: [word(row, from + 10)?, word(row, from + 11)?, word(row, from + 12)?],
            decided: row.get(from + 13)?,
        })
    }

    fn push_peer(peer: &Peer, values: &mut Vec<Value>) {
        values.extend([peer.known_by.as_str(), &peer.domain, &peer.network].map(text));
    }

    fn push_row(row: &Row, values: &mut Vec<Value>) {
        values.extend(
            [&row.direction, &row.side, &row.rule, &row.key, &row.version, &row.cipher].map(|w| text(w)),
        );
        values.push(bits_value(row.bits));
        values.extend([&row.verify, &row.verdict, &row.disposition].map(|word| text(word)));
        values.extend(row.modes.iter().map(|word| text(word)));
        values.push(Value::Integer(row.decided.into()));
    }
}

/// `host_counts`
pub(super) struct Hosts;

impl Table for Hosts {
    type Peer = Host;
    type Row = Session;

    const NAME: &'static str = "host_counts";
    const PERIOD: &'static str = "month";
    const PEER: &'static [&'static str] = &["known_by", "domain", "host", "address"];
    const ROW: &'static [&'static str] = &["direction", "version", "cipher", "bits", "verify"];

    fn peer(row: &rusqlite::Row<'_>, from: usize) -> Result<Host> {
        Ok(Host {
            known_by: known_by(row, from)?,
            domain: row.get(from + 1)?,
            host: row.get(from + 2)?,
            address: row.get(from + 3)?,
        })
    }

    fn row(row: &rusqlite::Row<'_>, from: usize) -> Result<Session> {
        Ok(Session {
            direction: word(row, from)?,
            version: word(row, from + 1)?,
            cipher: word(row, from + 2)?,
            bits: bits(row, from + 3)?,
            verify: word(row, from + 4)?,
        })
    }

    fn push_peer(peer: &Host, values: &mut Vec<Value>) {
        values.extend([peer.known_by.as_str(), &peer.domain, &peer.host, &peer.address].map(text));
    }

    fn push_row(row: &Session, values: &mut Vec<Value>) {
        values.extend([&row.direction, &row.version, &row.cipher].map(|word| text(word)));
        values.push(bits_value(row.bits));
        values.push(text(&row.verify));
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn bits_value(bits: Option<u16>) -> Value {
    Value::Integer(bits.map_or(NOT_TOLD, i64::from))
}

fn word(row: &rusqlite::Row<'_>, column: usize) -> Result<Word> {
    row.get::<_, String>(column).map(Word::Owned)
}

fn bits(row: &rusqlite::Row<'_>, column: usize) -> Result<Option<u16>> {
    match row.get::<_, i64>(column)? {
        NOT_TOLD => Ok(None),
        bits => u16::try_from(bits).map(Some).map_err(|_| Error::IntegralValueOutOfRange(column, bits)),
    }
}

fn known_by(row: &rusqlite::Row<'_>, column: usize) -> Result<KnownBy> {
    let text: String = row.get(column)?;
    let unknown = || Error::FromSqlConversionFailure(column, Type::Text, Box::new(FromSqlError::InvalidType));
    KnownBy::ALL.into_iter().find(|known| known.as_str() == text).ok_or_else(unknown)
}
