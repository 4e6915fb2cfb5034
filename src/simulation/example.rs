//! A message that stands for others, kept as the line that it will be told by.
//!
//! Promises: a line of JSON in the schema of the decision record, with what a person looks a message up by and what it is
//! judged by; its length is bounded, whatever was sent. Half of a report are such lines, and most are never read again:
//! as a record each would take twice the memory, in ten pieces.

use super::beginning;
use crate::policy::record::Record;
use std::borrow::Cow;

/// Such a message.
#[derive(Clone, Debug)]
pub struct Example(Box<[u8]>);

impl Example {
    /// Of this message, and why it is told. `line` is used again from one to the next.
    pub(super) fn of(record: &Record<'_>, reason: Option<&str>, line: &mut Vec<u8>) -> Self {
        fn word<'w>(told: &'w Option<Cow<'_, str>>) -> Option<Cow<'w, str>> {
            told.as_deref().map(beginning).map(Cow::Borrowed)
        }
        let told = Record {
            ts: record.ts,
            host: word(&record.host),
            queue_id: word(&record.queue_id),
            direction: record.direction,
            client_name: word(&record.client_name),
            client_addr: word(&record.client_addr),
            client_resolve: word(&record.client_resolve),
            server_name: word(&record.server_name),
            server_addr: word(&record.server_addr),
            sender: word(&record.sender),
            recipient: word(&record.recipient),
            tls_version: word(&record.tls_version),
            cipher: word(&record.cipher),
            cipher_bits: record.cipher_bits,
            verify: word(&record.verify),
            reason: reason.map(beginning).map(Cow::Borrowed),
            ..Record::default()
        };
        line.clear();
        told.write_json(line);
        Self(line.trim_ascii_end().into())
    }

    /// As JSON, without a line feed.
    pub fn json(&self) -> &[u8] {
        &self.0
    }

    /// As a record.
    pub fn record(&self) -> Record<'_> {
        let mut record = Record::default();
        // What is read was written above.
        let read = std::str::from_utf8(&self.0).map(|line| record.read_json(line));
        debug_assert!(matches!(read, Ok(Ok(()))), "{read:?}");
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_was_there() {
        let told = |text: &'static str| Some(Cow::Borrowed(text));
        let record = Record {
            ts: Some(jiff::Timestamp::from_microsecond(1_795_313_249_577_841).unwrap()),
            queue_id: told("6AM27Tre020552"),
            client_name: told("mx\u{1b}\u{202e}\"\\.example"),
            client_addr: told("192.0.2.7"),
            sender: told("<>"),
            cipher_bits: Some(128),
            ..Record::default()
        };
        let mut line = b"what was there before".to_vec();
        let example = Example::of(&record, Some("too weak"), &mut line);
        assert!(example.json().is_ascii() && !example.json().contains(&b'\n'));
        assert_eq!(example.record(), Record { reason: told("too weak"), ..record });
    }
}
