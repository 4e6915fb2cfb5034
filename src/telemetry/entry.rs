//! One thing that is said: an event of the daemon's own, or a decision.
//!
//! Promises: made cheaply by whoever says it, and given its form (a line of text or of JSON, or fields) only by the
//! thread that brings it away. One entry is one line, whatever is in it.

use crate::policy::decide::Disposition;
use crate::policy::record::{OneLine, Record, Value, Written, is_unsafe};
use crate::policy::stamp::Stamp;
use bytes::Bytes;
use serde::ser::{SerializeMap, Serializer};
use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use tracing::Level;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `2026-11-22T04:00:00.123456Z INFO listening listener=…`
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// How much it matters, as syslog(3) and the journal count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Something does not work.
    Error = 3,
    /// Something should be looked at.
    Warning = 4,
    /// A message was refused or deferred.
    Notice = 5,
    /// Daily business.
    Info = 6,
    /// For who looks for a fault.
    Debug = 7,
}

impl Priority {
    fn of(level: Level) -> Self {
        match level {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warning,
            Level::INFO => Self::Info,
            Level::DEBUG | Level::TRACE => Self::Debug,
        }
    }
}

/// What is said.
#[derive(Clone, Debug)]
pub enum Entry {
    /// Something that the daemon says of itself.
    Event(Box<Event>),
    /// A decision's record: one line of JSON, with its line feed.
    Decision(Bytes),
}

/// Something that the daemon says of itself.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub ts: jiff::Timestamp,
    /// How much it matters.
    pub level: Level,
    /// In words.
    pub message: String,
    /// What more there is to know, by name.
    pub fields: Vec<(&'static str, String)>,
}

/// An entry taken apart, for a receiver that has fields of its own.
#[derive(Debug)]
pub struct Said<'e> {
    /// When.
    pub ts: jiff::Timestamp,
    /// How much it matters.
    pub priority: Priority,
    /// `event` or `decision`.
    pub kind: &'static str,
    /// The line of text, without time and level.
    pub text: String,
    /// What is in it, by name, as it is. A name may be there more than once.
    pub fields: Vec<(&'static str, Cow<'e, str>)>,
}

impl Entry {
    /// An event of now.
    pub fn now(level: Level, message: impl Into<String>, fields: Vec<(&'static str, String)>) -> Self {
        Self::Event(Box::new(Event { ts: jiff::Timestamp::now(), level, message: message.into(), fields }))
    }

    /// About how many bytes it holds.
    pub fn size(&self) -> usize {
        match self {
            Self::Event(event) => {
                let fields: usize = event.fields.iter().map(|(_, value)| 32 + value.len()).sum();
                64 + event.message.len() + fields
            }
            Self::Decision(json) => json.len(),
        }
    }

    /// Appends it as one line, with its line feed.
    pub fn line(&self, format: Format, out: &mut Vec<u8>) {
        match (self, format) {
            (Self::Event(event), Format::Json) => event.json(out),
            (Self::Decision(json), Format::Json) => out.extend_from_slice(json),
            (Self::Event(event), Format::Text) => {
                // Into memory: cannot fail.
                let _ = writeln!(out, "{:.6} {} {}", event.ts, event.level, Words(event));
            }
            (Self::Decision(json), Format::Text) => decision_text(json, out),
        }
    }

    /// How much it matters.
    pub fn priority(&self) -> Priority {
        match self {
            Self::Event(event) => Priority::of(event.level),
            Self::Decision(json) => {
                let mut record = Record::default();
                read(json, &mut record);
                priority(&record)
            }
        }
    }

    /// Takes it apart.
    pub fn said(&self) -> Said<'_> {
        match self {
            Self::Event(event) => Said {
                ts: event.ts,
                priority: Priority::of(event.level),
                kind: "event",
                text: Words(event).to_string(),
                fields: event.fields.iter().map(|(name, value)| (*name, value.as_str().into())).collect(),
            },
            Self::Decision(json) => {
                let mut record = Record::default();
                read(json, &mut record);
                let mut fields = Vec::with_capacity(32);
                // Into memory: cannot fail.
                let _ = record.fields(|label, value| {
                    fields.push((label.name(), Cow::Owned(value.to_owned())));
                    Ok::<_, Infallible>(())
                });
                Said {
                    ts: record.ts.unwrap_or_default(),
                    priority: priority(&record),
                    kind: "decision",
                    text: record.to_string(),
                    fields,
                }
            }
        }
    }
}

/// A record's line of JSON, without its line feed.
fn line_of(json: &[u8]) -> Option<&str> {
    str::from_utf8(json.strip_suffix(b"\n").unwrap_or(json)).ok()
}

/// Reads the record that a line of JSON holds. Lines are this program's own, so there always is one.
fn read<'j>(json: &'j [u8], record: &mut Record<'j>) -> bool {
    line_of(json).is_some_and(|line| record.read_json(line).is_ok())
}

/// Appends a record's line of JSON as one of text.
fn decision_text(json: &[u8], out: &mut Vec<u8>) {
    fn begin<'o>(ts: &[u8], out: &'o mut Vec<u8>) -> Utf8<'o> {
        out.extend_from_slice(ts);
        out.extend_from_slice(b" INFO ");
        Utf8(out)
    }
    // Into memory, here and below: cannot fail.
    let _ = if let Some(written) = line_of(json).and_then(Written::of) {
        written.write_text(&mut begin(written.ts.as_bytes(), out))
    } else {
        let mut record = Record::default();
        if !read(json, &mut record) {
            // What is not understood is not lost.
            out.extend_from_slice(json);
            return;
        }
        record.write_text(&mut begin(Stamp::of(record.ts.unwrap_or_default()).as_bytes(), out))
    };
    out.push(b'\n');
}

/// Bytes that text is appended to.
struct Utf8<'o>(&'o mut Vec<u8>);

impl fmt::Write for Utf8<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn priority(record: &Record<'_>) -> Priority {
    match record.disposition {
        Some(Disposition::Tempfail | Disposition::Reject) => Priority::Notice,
        Some(Disposition::Accept) | None => Priority::Info,
    }
}

impl Event {
    fn json(&self, out: &mut Vec<u8>) {
        let mut serializer = serde_json::Serializer::with_formatter(&mut *out, OneLine);
        let mut write = || -> Result<(), serde_json::Error> {
            let mut map = serializer.serialize_map(None)?;
            map.serialize_entry("ts", &format_args!("{:.6}", self.ts))?;
            map.serialize_entry("level", &self.level.as_str().to_ascii_lowercase())?;
            map.serialize_entry("message", &self.message)?;
            for (name, value) in &self.fields {
                map.serialize_entry(name, value)?;
            }
            map.end()
        };
        // Strings into memory: cannot fail.
        let _ = write();
        out.push(b'\n');
    }
}

/// An event's message and fields, in one line.
struct Words<'e>(&'e Event);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The message is ours; what it may quote is not.
        for c in self.0.message.chars() {
            if is_unsafe(c) {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        for (name, value) in &self.0.fields {
            write!(f, " {name}={}", Value(value))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(entry: &Entry) -> String {
        let mut out = Vec::new();
        entry.line(Format::Text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_decision_is_the_same_as_json_as_text_and_in_fields() {
        let json = concat!(
            r#"{"ts":"2026-11-18T11:06:40.123456Z","queue_id":"Q\n1","direction":"outbound","sender":"a\"b\\c\u2028d","cipher_bits":128,"#,
            r#""verdict":"fail","mode":"soft-fail","disposition":"tempfail","rule":"p","waited":7,"#,
            r#""failures":[{"rule":"p","side":"client","key":"*","mode":"soft-fail","reason":"too weak"}],"policy":"0123456789ab"}"#,
            "\n"
        );
        let record: Record<'_> = serde_json::from_str(json).unwrap();
        let entry = Entry::Decision(Bytes::from_static(json.as_bytes()));
        assert_eq!(text(&entry), format!("2026-11-18T11:06:40.123456Z INFO {record}\n"));
        let said = entry.said();
        assert_eq!((said.priority, said.text.as_str()), (Priority::Notice, record.to_string().as_str()));
        let value =
            |name: &str| said.fields.iter().find(|(known, _)| *known == name).map(|(_, v)| v.as_ref());
        // As it is, not as a line would have it.
        assert_eq!(value("sender"), Some("a\"b\\c\u{2028}d"));
        assert_eq!((value("queue_id"), value("cipher_bits")), (Some("Q\n1"), Some("128")));
        assert_eq!(value("failed"), Some("soft-fail p client *: too weak"));
        // Every field of the record is there: what the JSON has at its top, and `failed` for `failures`.
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).unwrap();
        for name in object.keys() {
            let name = if name == "failures" { "failed" } else { name };
            assert!(value(name).is_some(), "{name}");
        }
        assert_eq!(said.fields.len(), object.len());
    }

    #[test]
    fn what_was_decided_says_how_much_it_matters() {
        for (disposition, expected) in
            [("accept", Priority::Info), ("tempfail", Priority::Notice), ("reject", Priority::Notice)]
        {
            let json = format!("{{\"disposition\":\"{disposition}\"}}\n");
            assert_eq!(Entry::Decision(json.into()).priority(), expected);
        }
        assert_eq!(Entry::now(Level::ERROR, "x", Vec::new()).priority(), Priority::Error);
    }
}
